"""Concurrency limits, as they come: 5 runs in all, 2 of one task."""

from collections.abc import Iterator
from pathlib import Path

from tests.stories.conftest import in_state, started, waiting_task
from tests.support import Dev, eventually


def most_at_once(marks: Path) -> int:
    """The highest number of runs between their `+` and their `-`."""

    def levels() -> Iterator[int]:
        level = 0
        for mark in marks.read_text():
            level += 1 if mark == "+" else -1
            yield level

    return max(levels())


def test_five_runs_go_on_at_once_over_all_tasks(optio: Dev, gate: Path) -> None:
    marks = gate.with_name("marks")
    note = {"before": f"printf + >> {marks}", "after": f"printf - >> {marks}"}
    tasks = [waiting_task(optio, f"Wide {n}", gate, "maxConcurrent: 10\n", **note) for n in range(2)]

    runs = [started(optio, task) for task in tasks for _ in range(4)]
    eventually(lambda: marks.exists() and marks.read_text() == "+++++", what="five runs going on")
    waiting = [run for task in tasks for run in in_state(optio, task, "queued")]
    holds = [optio.get(f"/api/workflow-runs/{run}").json["waiting"] for run in waiting]
    gate.touch()

    assert [optio.until_ended(run)["state"] for run in runs] == ["completed"] * 8
    assert most_at_once(marks) == 5
    assert [hold["reason"] for hold in holds] == ["global_limit"] * 3


def test_two_runs_of_one_task_go_on_at_once(optio: Dev, gate: Path) -> None:
    marks = gate.with_name("marks")
    task = waiting_task(optio, "Narrow", gate, before=f"printf + >> {marks}", after=f"printf - >> {marks}")

    runs = [started(optio, task) for _ in range(4)]
    eventually(lambda: marks.exists() and marks.read_text() == "++", what="two runs going on")
    holds = [optio.get(f"/api/workflow-runs/{run}").json["waiting"] for run in in_state(optio, task, "queued")]
    gate.touch()

    assert [optio.until_ended(run)["state"] for run in runs] == ["completed"] * 4
    assert most_at_once(marks) == 2
    assert [hold["reason"] for hold in holds] == ["task_limit"] * 2


def test_a_limit_that_is_lowered_ends_no_run_and_starts_none_until_there_is_room(optio: Dev, gate: Path) -> None:
    marks = gate.with_name("marks")
    note = {"before": f"printf + >> {marks}", "after": f"printf - >> {marks}"}
    task = waiting_task(optio, "Lowered", gate, "maxConcurrent: 3\n", **note)
    runs = [started(optio, task) for _ in range(5)]
    eventually(lambda: marks.exists() and marks.read_text() == "+++", what="three runs going on")
    before = optio.get(f"/api/tasks/{task}").json["digest"]

    path = optio.tasks / f"{task}.yaml"
    optio.write(path.name, path.read_text().replace("maxConcurrent: 3", "maxConcurrent: 1"))
    optio.until_served(task, digest_other_than=before)
    holds = [optio.get(f"/api/workflow-runs/{run}").json["waiting"] for run in in_state(optio, task, "queued")]
    gate.touch()

    assert [optio.until_ended(run)["state"] for run in runs] == ["completed"] * 5
    assert marks.read_text() == "+++---+-+-"
    assert [hold["reason"] for hold in holds] == ["task_limit"] * 2
