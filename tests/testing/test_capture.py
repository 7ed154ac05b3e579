"""A delivery that came, as a test."""

import json
from typing import Any

import pytest

from optio.compiler.emit import emit
from optio.compiler.source_tree import MemoryTree
from optio.errors import Invalid, Malformed
from optio.testing.capture import CapturedTest, add_test, capture_delivery
from optio.testing.redact import Redactor
from optio.testing.run import run_tests
from tests.testing.support import OPENED, TRIAGE, tree

KEPT = {
    "id": "01a21684-6f3f-7122-91f6-a38703c3b77b",
    "receivedAt": "2026-01-05T08:01:02.003Z",
    "headers": {
        "x-github-event": "issues",
        "x-github-delivery": "d-1",
        "x-hub-signature-256": "***",
        "content-type": "application/json",
        "user-agent": "GitHub-Hookshot",
        "traceparent": "00-1-2-01",
    },
}
WITH_COMMENTS = TRIAGE.replace("triggers:\n", "triggers:   # three of them\n") + "# the end\n"


def capture(payload: Any, kept: dict[str, Any] = KEPT, name: str | None = None, task: str = TRIAGE) -> CapturedTest:
    (tested,) = run_tests(tree(task=task)).tested
    served = emit(tested.task)
    assert served.spec.webhook is not None
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return capture_delivery(served, served.spec.webhook.config, kept, data, Redactor(), name)


@pytest.mark.parametrize(
    ("payload", "expect"),
    [
        (OPENED, {"params": {"NUMBER": 7, "TITLE": "Slow", "LABEL": "bug"}}),
        ({**OPENED, "action": "closed"}, {"verdict": "filtered"}),
        ({"action": "opened", "issue": {"number": 7}}, {"error": "/params/TITLE is required and has no default"}),
        (
            {"action": "opened", "issue": {"title": "x" * 31}},
            {"error": ["/params/NUMBER is required and has no default", "/params/TITLE is longer than 30 characters"]},
        ),
    ],
)
def test_what_the_task_makes_of_it_is_what_is_expected(payload: Any, expect: dict[str, Any]) -> None:
    made = capture(payload)

    found = made.entry["expect"]
    assert {**found, **({"error": sorted(found["error"])} if isinstance(found.get("error"), list) else {})} == expect


def test_an_event_in_the_body_gives_the_test_its_name_and_no_header() -> None:
    made = capture({**OPENED, "type": "issues", "id": "evt_1"}, task=TRIAGE.replace("scheme: github", "scheme: stripe"))

    assert "headers" not in made.entry
    assert made.entry["name"] == "issues of 2026-01-05 08:01"
    assert made.entry["expect"] == {"params": {"NUMBER": 7, "TITLE": "Slow", "LABEL": "bug"}}


def test_a_test_has_the_headers_that_count_and_no_credential() -> None:
    made = capture(OPENED)
    typed = capture(OPENED, {**KEPT, "headers": {**KEPT["headers"], "content-type": "text/plain"}})  # type: ignore[dict-item]

    assert made.entry["headers"] == {"X-GitHub-Event": "issues"}
    assert made.entry["name"] == "issues of 2026-01-05 08:01"
    assert made.payload_name == made.entry["webhook"] == "triage.issues.03c3b77b.json"
    assert json.loads(made.payload) == OPENED
    assert typed.entry["headers"] == {"X-GitHub-Event": "issues", "Content-Type": "text/plain"}
    assert typed.entry["expect"] == {"verdict": "unsupported"}


@pytest.mark.parametrize("text", [TRIAGE, WITH_COMMENTS, TRIAGE.rstrip("\n"), TRIAGE.replace("\n", "\r\n")])
def test_the_task_file_gets_the_test_and_stays_as_it_was_and_the_test_passes(text: str) -> None:
    made = capture(OPENED, name="an issue: opened")

    edited = add_test("triage.yaml", text.encode(), made.entry)

    lines = text.splitlines()
    assert [line for line in edited.decode().splitlines() if line in lines] == lines
    files = {"triage.yaml": edited, made.payload_name: made.payload}
    found = run_tests(MemoryTree(files))
    assert found.compilation.ok
    assert [(each.name, each.passed) for each in found.results] == [("an issue: opened", True)]


def test_a_delivery_is_captured_once() -> None:
    made = capture(OPENED)
    edited = add_test("triage.yaml", TRIAGE.encode(), made.entry)

    with pytest.raises(Invalid, match="was captured before"):
        add_test("triage.yaml", edited, made.entry)


def test_what_is_no_json_is_not_captured() -> None:
    with pytest.raises(Malformed):
        capture(b'{"action": ')
