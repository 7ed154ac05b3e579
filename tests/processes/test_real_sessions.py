"""Workers die and files vanish while the real Claude Code goes on in a session that broke off: nothing is lost, doubled or
left."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtimes.real_agents import DONE, SPARED, Model, environ_of, model_server, task_text
from tests.support import Dev, eventually


@pytest.fixture
def model() -> Iterator[Model]:
    with model_server() as running:
        yield running


@pytest.fixture
def optio(tmp_path: Path, model: Model) -> Iterator[Dev]:
    dev = Dev(tmp_path, environ=environ_of(model.url) | {"OPTIO_SANDBOX": "namespaces"})
    env = {**SPARED["claude-code"], "CLAUDE_CODE_MAX_RETRIES": "2"}
    dev.write("job.yaml", task_text("claude-code", "stub-late-503", "id: job\nmaxRetries: 1\n", env=env))
    dev.start()
    yield dev
    dev.stop()


@pytest.fixture
def run_id(optio: Dev) -> str:
    answer = optio.post("/api/tasks/job/runs", {"params": {}})
    assert answer.status == 202, answer.body
    return str(answer.json["runId"])


def attempts(optio: Dev, run_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = optio.get(f"/api/workflow-runs/{run_id}").json["attempts"]
    return found


def ended(optio: Dev, run_id: str, number: int) -> Callable[[], bool]:
    def look() -> bool:
        found = attempts(optio, run_id)
        return len(found) >= number and found[number - 1]["endedAt"] is not None

    return look


def failures(model: Model) -> int:
    return sum((each.get("answer") or {}).get("status") == 503 for each in model.requests())


def assert_nothing_was_lost_doubled_or_left(optio: Dev, model: Model, run: dict[str, Any]) -> None:
    answers = [each["answer"].get("usage") or {} for each in model.requests()]
    served = {name: sum(each.get(name, 0) for each in answers) for name in ("fresh", "cached", "output")}
    assert (run["state"], run["output"]) == ("completed", DONE), run["message"]
    assert {name: run["usage"][name] for name in served} == served
    eventually(lambda: not list((optio.data / "attempts").iterdir()), within=30, what="the removal of all files")


def test_workers_that_die_between_two_attempts_and_within_one_take_no_session_along(
    optio: Dev, model: Model, run_id: str
) -> None:
    eventually(ended(optio, run_id, 1), within=60, what="the end of the first attempt")
    optio.kill()
    asked = len(model.requests())
    optio.start()
    eventually(lambda: len(model.requests()) > asked, within=60, what="a request of the second attempt")
    optio.kill()
    model.heal()
    optio.start()

    run = optio.until_ended(run_id, within=60)
    assert [each["continues"] for each in run["attempts"]] == [None, 1]
    assert model.requests()[asked]["history"] == 1
    assert "found again by" in str(optio.get(f"/api/workflow-runs/{run_id}/logs").body)
    assert_nothing_was_lost_doubled_or_left(optio, model, run)


def test_a_killed_supervisor_costs_neither_a_retry_nor_the_session(optio: Dev, model: Model, run_id: str) -> None:
    """The second attempt is killed while it goes on, and the third one goes on in the directory of the first."""
    for number in (1, 2):
        before = failures(model)
        eventually(lambda before=before: failures(model) > before, within=60, what=f"a request of attempt {number}")
        pid = os.readlink(optio.data / "attempts" / f"{run_id}-{number}" / "control" / "started").partition(":")[0]
        os.kill(int(pid), signal.SIGKILL)
        eventually(ended(optio, run_id, number), within=60, what=f"the end of attempt {number}")
    model.heal()

    run = optio.until_ended(run_id, within=60)
    assert [(each["reason"], each["continues"]) for each in run["attempts"]] == [("lost", None), ("lost", 1), ("ok", 2)]
    assert_nothing_was_lost_doubled_or_left(optio, model, run)


def test_a_session_that_the_agent_does_not_know_any_more_is_begun_anew_without_a_retry(
    optio: Dev, model: Model, run_id: str
) -> None:
    eventually(ended(optio, run_id, 1), within=60, what="the end of the first attempt")
    shutil.rmtree(optio.data / "attempts" / f"{run_id}-1" / "home" / ".claude" / "projects")
    model.heal()

    run = optio.until_ended(run_id, within=60)
    found = [(each["reason"], each["continues"]) for each in run["attempts"]]
    assert found == [("overloaded", None), ("session_refused", 1), ("ok", None)]
    assert_nothing_was_lost_doubled_or_left(optio, model, run)


def test_the_files_of_a_session_go_with_a_run_that_is_cancelled_while_it_waits(optio: Dev, model: Model, run_id: str) -> None:
    eventually(ended(optio, run_id, 1), within=60, what="the end of the first attempt")
    files = optio.data / "attempts" / f"{run_id}-1"
    assert files.exists()

    assert optio.post(f"/api/workflow-runs/{run_id}/cancel", {}).status == 202
    optio.kill()
    optio.start()  # a worker looks for remains when it starts, and each minute

    eventually(lambda: not files.exists(), within=30, what="the removal of its files")
