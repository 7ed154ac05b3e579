"""Whatever stands under `tests:`, the tests of a tree are run to their end, and each failure has a place."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from optio.testing.coverage import coverage
from optio.testing.junit import SuiteInput, junit
from optio.testing.run import run_tests
from tests.testing.support import OPENED, TRIAGE, tree

NAMES = st.sampled_from(
    ["opened", "torn", "gone", "../out", "/etc/passwd", "triage.yaml", "~", "", " ", "a\0b", "\ud800", "x" * 300]
)
TIMES = st.sampled_from(
    [
        "2026-01-05T02:30",
        "0001-01-01T00:00",
        "9999-12-31T23:59",
        "9999-12-31T02:30-12:00",
        "2026-02-30",
        "tomorrow",
        "2026-W01-1",
    ]
) | st.datetimes().map(str)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PARAMS = st.dictionaries(st.sampled_from(["NUMBER", "TITLE", "LABEL", "MORE"]), JSON, max_size=4)
HEADERS = st.dictionaries(
    st.sampled_from(["X-GitHub-Event", "x-github-event", "X-Hub-Signature-256", "Content-Type", "X Y", ""]),
    st.sampled_from(["issues", "push", "", "\r\n", "é", "text/plain"]),
    max_size=3,
)
EXPECTATIONS = st.fixed_dictionaries(
    {},
    optional={
        "verdict": st.sampled_from(
            ["accepted", "filtered", "invalid", "unsigned", "stale", "unreadable", "unsupported", "odd"]
        ),
        "params": PARAMS,
        "prompt": NAMES,
        "promptContains": st.text(max_size=5) | st.lists(st.text(max_size=5), max_size=2),
        "error": st.text(max_size=5) | st.lists(st.text(max_size=5), max_size=2),
    },
)
TESTS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(max_size=5),
        "webhook": NAMES,
        "headers": HEADERS,
        "signature": st.sampled_from(["valid", "missing", "wrong", "stale", "odd"]),
        "schedule": TIMES,
        "params": PARAMS,
        "expect": EXPECTATIONS,
        "more": JSON,
    },
)
# Of one kind, so that most of them come as far as being run.
RUNNABLE = st.one_of(
    st.fixed_dictionaries({"params": PARAMS, "expect": EXPECTATIONS}),
    st.fixed_dictionaries({"schedule": TIMES, "expect": EXPECTATIONS}),
    st.fixed_dictionaries({"webhook": st.just("opened"), "headers": HEADERS, "expect": EXPECTATIONS}),
)


@settings(max_examples=200)
@given(st.lists(TESTS | RUNNABLE, max_size=3), st.sampled_from([json.dumps(OPENED).encode(), b"[]", b'"x"', b"{}"]))
def test_nothing_raises_and_each_failure_has_a_place(tests: list[dict[str, Any]], payload: bytes) -> None:
    found = run_tests(tree(*tests, torn=b'{"a', opened=payload))

    lines = TRIAGE.count("\n") + len(tests) + 1
    for failure in (failure for result in found.results for failure in result.failures):
        assert failure.path == "triage.yaml"
        assert TRIAGE.count("\n") + 1 < failure.line <= lines
    for each in found.tested:
        coverage(each)
    assert junit([SuiteInput(found, str, found.compilation.diagnostics)]).endswith("</testsuites>")
    assert len(found.results) == 0 or found.compilation.ok == all(
        not failure.broken or "file has errors" not in failure.message
        for result in found.results
        for failure in result.failures
    )
