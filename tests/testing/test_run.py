"""What a tree's tests say: what failed, where, and what would be written."""

import json
from typing import Any

import pytest

from optio.compiler.source_tree import MemoryTree, OverlayTree
from optio.testing.run import SnapshotUpdate, run_tests
from tests.testing.support import TRIAGE, delivery, report, result, tree

HEAD = TRIAGE.count("\n") + 1  # the line of `tests:`
PARAMS = {"NUMBER": 7, "TITLE": "Slow", "LABEL": "bug"}


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ({"verdict": "filtered"}, "expected `filtered`, got `accepted`"),
        ({"error": "/params"}, "expected `invalid`, got `accepted`"),
        ({"params": {"NUMBER": 7, "TITLE": "Slow"}}, "the parameters differ"),
        ({"params": {**PARAMS, "NUMBER": "7"}}, "the parameters differ"),
        ({"params": {**PARAMS, "NUMBER": 7.0}}, "the parameters differ"),
        ({"params": {**PARAMS, "MORE": 1}}, "the parameters differ"),
        ({"promptContains": ["#7", "#8"]}, "`#8` is not in the prompt:"),
        ({"promptContains": "#8"}, "`#8` is not in the prompt:"),
        ({"prompt": "gone.md"}, "`gone.md` does not exist: `optio test --update` writes it"),
        ({"prompt": "other.md"}, "the prompt differs from `other.md`"),
        ({"prompt": "../out.md"}, "`../out.md` leads out of the task tree"),
        ({"prompt": "/etc/passwd"}, "`/etc/passwd` leads out of the task tree"),
        ({"prompt": "task.yaml"}, "`task.yaml` would be read as a task"),
    ],
)
def test_what_does_not_hold_is_said(expect: dict[str, Any], said: str) -> None:
    failed = result(delivery(expect=expect), **{"other.md": b"#8 Slow (bug)"})

    (failure,) = failed.failures
    assert failure.message.startswith(said)
    assert (failure.path, failure.broken) == ("triage.yaml", False)


@pytest.mark.parametrize(
    "expect",
    [
        {},
        {"params": PARAMS},
        {"promptContains": ["#7 Slow"]},
        {"promptContains": "#7"},
        {"prompt": "same.md"},
        {"verdict": "accepted"},
    ],
)
def test_what_holds_passes(expect: dict[str, Any]) -> None:
    assert result(delivery(expect=expect), **{"same.md": b"#7 Slow (bug)"}).passed


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        ("/params/TITLE", True),
        (["/params/TITLE is required", "/params/NUMBER is required"], True),
        (["/params/TITLE", "/params/LABEL"], False),
        ("/params/LABEL", False),
    ],
)
def test_every_reason_must_be_part_of_the_refusal(error: Any, passes: bool) -> None:
    assert result({"params": {}, "expect": {"error": error}}).passed == passes


def test_a_long_prompt_is_cut_where_it_is_shown_and_that_is_said() -> None:
    long = {"type": "string"}, "x" * 5_000 + "\n" * 300
    task = TRIAGE.replace("TITLE: {type: string, maxLength: 30}", f"TITLE: {json.dumps(long[0])}")
    test = {"params": {"NUMBER": 7, "TITLE": long[1]}, "expect": {"promptContains": ["y" * 500]}}
    (failure,) = run_tests(tree(test, task=task)).results[0].failures

    assert failure.message == f"`{'y' * 77}...` is not in the prompt:"
    assert failure.diff[0].endswith("x... 4,005 more characters")
    assert failure.diff[-1] == "... 101 more lines"


def test_a_payload_that_many_tests_name_is_read_once_to_be_checked_and_once_to_be_tried_and_is_not_kept() -> None:
    class Counting(MemoryTree):
        reads = 0

        def read(self, path: str) -> bytes:
            self.reads += path == "opened"
            return super().read(path)

    counting = Counting(
        {path: tree(*[delivery(name=f"T{n}") for n in range(30)]).read(path) for path in ("triage.yaml", "opened")}
    )
    found = run_tests(counting)

    assert [each.passed for each in found.results] == [True] * 30
    assert counting.reads == 2
    assert found.results[0].trial is found.results[29].trial
    assert found.tested[0].task.samples == ()


def test_a_failure_names_the_line_of_its_expectation() -> None:
    text = TRIAGE + (
        "tests:\n"
        "  - name: first\n"
        "    params: {NUMBER: 1, TITLE: a}\n"
        "    expect:\n"
        "      params:\n"
        "        NUMBER: 1\n"
        "        TITLE: b\n"
        "        LABEL: none\n"
        "      promptContains:\n"
        "        - '#1'\n"
        "        - nothing\n"
        "      prompt: gone.md\n"
    )
    (only,) = run_tests(OverlayTree(tree(), {"triage.yaml": text.encode()})).results

    assert [(failure.line - HEAD, failure.message.split(" ")[0]) for failure in only.failures] == [
        (6, "the"),
        (11, "`gone.md`"),
        (10, "`nothing`"),
    ]


def test_a_difference_is_shown_line_by_line_and_down_to_the_end_of_the_last_one() -> None:
    (params,) = result(delivery(expect={"params": {**PARAMS, "TITLE": "Fast"}})).failures
    (prompt,) = result(delivery(expect={"prompt": "other.md"}), **{"other.md": b"#7 Slow (bug)\n"}).failures

    assert params.diff[-4:-1] == ('   "NUMBER": 7,', '-  "TITLE": "Fast"', '+  "TITLE": "Slow"')
    assert prompt.diff[-3:] == ("-#7 Slow (bug)", "+#7 Slow (bug)", "\\ no line end")


def test_a_snapshot_that_is_missing_or_other_is_offered_and_no_other() -> None:
    missing = result(delivery(expect={"prompt": "a/new.md"}))
    other = result(delivery(expect={"prompt": "other.md"}), **{"other.md": b"old"})
    same = result(delivery(expect={"prompt": "same.md"}), **{"same.md": b"#7 Slow (bug)"})
    filtered = result(delivery(headers={}, expect={"prompt": "a/new.md"}))
    outside = result(delivery(expect={"prompt": "../new.md"}))

    assert missing.update == SnapshotUpdate("a/new.md", "#7 Slow (bug)", new=True)
    assert other.update == SnapshotUpdate("other.md", "#7 Slow (bug)", new=False)
    assert (same.update, filtered.update, outside.update) == (None, None, None)


def test_the_tests_of_a_file_with_errors_cannot_be_run() -> None:
    found = report(delivery(), task=TRIAGE.replace("type: integer", "type: number of it"))
    broken = report(delivery(), task=TRIAGE.replace("type: manual", "type: manuel"))

    assert found.compilation.broken == broken.compilation.broken == {"triage.yaml"}
    for each in (found, broken):
        (only,) = each.results
        assert [(f.message, f.broken) for f in only.failures] == [("cannot be run: the file has errors", True)]


def test_a_time_that_is_no_fire_cannot_be_run_and_is_said_where_it_stands() -> None:
    (only,) = report({"schedule": "2026-01-05T02:31", "expect": {}}).results

    (failure,) = only.failures
    assert failure.broken
    assert failure.message.startswith("cannot be run: `30 2 * * *` (Europe/Berlin) does not fire at `2026-01-05T02:31`")
    assert failure.line == HEAD + 1


def test_only_the_chosen_tests_are_run() -> None:
    whole = tree(delivery(name="one"), delivery(name="two"))

    found = run_tests(whole, lambda task_id, path, example: (task_id, path, example.name) == ("triage", "triage.yaml", "two"))

    assert [each.name for each in found.results] == ["two"]


def test_a_test_without_a_name_is_called_by_what_happens() -> None:
    names = [
        each.name
        for each in report(
            delivery(), {"schedule": "2026-01-05T02:30", "expect": {}}, {"params": {"A": 1}, "expect": {}}
        ).results
    ]

    assert names == ["webhook opened", "schedule 2026-01-05T02:30", "params A"]


def test_tests_are_no_part_of_what_is_served() -> None:
    with_tests, without = report(delivery()).compilation.registry, run_tests(tree()).compilation.registry

    assert with_tests.digest == without.digest
