"""Keeping no longer than wanted: by the scheduler, by hand, by a request."""

import contextlib
import io
import json
import logging
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from optio.cli import main
from optio.errors import NotFound, StoreUnavailable
from optio.processes.retention import Retention
from optio.settings import Settings
from optio.store.values import RetentionPolicy
from optio.wiring import Services
from tests.runs.support import accept, execute, opened, working
from tests.server.api import JOB, Api
from tests.support import Dev, command_task, eventually

ECHO = command_task(["/bin/echo", "hello"])


def prune(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`optio prune` on the data of a test."""
    words = ["prune", "--data-dir", str(directory / "data"), *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(words)
    assert isinstance(ended.value.code, int)
    return subprocess.CompletedProcess(words, ended.value.code, out.getvalue(), err.getvalue())


def gone(services: Services, run_id: str) -> bool:
    try:
        services.store.run(run_id)
    except NotFound:
        return True
    return False


def test_of_all_schedulers_one_does_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path, {"OPTIO_KEEP_RUNS": "1s"}) as here, opened(tmp_path, {"OPTIO_KEEP_RUNS": "1s"}) as there:
        old = [execute(here, ECHO).id for _ in range(3)]
        waiting = accept(here, ECHO)
        time.sleep(1.1)

        with caplog.at_level(logging.INFO):
            did = [Retention(each).turn() for each in (here, there, here)]

        assert did[0] is not None
        assert did[0]["runs"] == 3
        assert did[1:] == [None, None]
        assert all(gone(there, run_id) for run_id in old)
        assert not gone(there, waiting)
        assert "deleted by retention: " in caplog.text
        assert "3 runs" in caplog.text


def test_a_pass_that_fails_is_done_again(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[RetentionPolicy] = []

    def fail(keep: RetentionPolicy) -> Iterator[tuple[str, int]]:
        passes.append(keep)
        raise StoreUnavailable("away") if len(passes) == 1 else RuntimeError("a bug")

    monkeypatch.setattr(services.store, "prune", fail)
    monkeypatch.setattr(services.store, "acquire_job_lease", lambda *_: True)
    job = Retention(services, first=0.01, look=0.01)
    job.start()
    try:
        eventually(lambda: len(passes) >= 4, what="further passes")
    finally:
        job.stop()


def test_it_ends_after_the_step_that_is_being_done(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def endless(keep: RetentionPolicy) -> Iterator[tuple[str, int]]:
        while True:
            begun.set()
            yield "runs", 1

    monkeypatch.setattr(services.store, "prune", endless)
    job = Retention(services, first=0.0)
    job.start()
    assert begun.wait(10)

    job.stop()

    assert not job._thread.is_alive()
    # What is left is another's, at once.
    assert services.store.acquire_job_lease("retention", "other", timedelta(hours=1), timedelta(seconds=1))


def test_a_scheduler_deletes_what_is_kept_no_longer(tmp_path: Path) -> None:
    with opened(tmp_path) as services:
        run_id = execute(services, ECHO).id
        scheduler = Dev(tmp_path, command="scheduler", environ={"OPTIO_KEEP_RUNS": "1s"})
        scheduler.start(ready=False)
        try:
            eventually(lambda: gone(services, run_id), within=30, what="the end of the old run")
        finally:
            assert scheduler.stop() == 0


@pytest.mark.parametrize(
    ("variable", "text", "span"),
    [
        ("KEEP_RUNS", "90d", timedelta(days=90)),
        ("KEEP_LOGS", "36h", timedelta(hours=36)),
        ("KEEP_DELIVERIES", "1h30m", timedelta(hours=1, minutes=30)),
        ("KEEP_RUNS", "", None),
    ],
)
def test_spans_are_written_as_days_or_as_durations(variable: str, text: str, span: timedelta | None) -> None:
    assert getattr(Settings.load({f"OPTIO_{variable}": text}), variable.lower()) == span


# By hand


def test_by_hand_it_says_first_how_much_would_go(tmp_path: Path) -> None:
    with opened(tmp_path) as services:
        old = [execute(services, ECHO).id for _ in range(2)]
        time.sleep(1.1)

        said = prune(tmp_path, "--dry-run", "--keep-runs", "1s")

        assert said.returncode == 0
        # Of each run what it said, and before it what confined it.
        assert said.stdout == "would be deleted:\n        2 ended runs\n        4 log lines\n"
        assert not any(gone(services, run_id) for run_id in old)
        programs = json.loads(prune(tmp_path, "--dry-run", "--json", "--keep-logs", "1s").stdout)
        assert programs["dryRun"] is True
        assert (programs["counts"]["logLines"], programs["counts"]["runs"]) == (4, 0)

        done = prune(tmp_path, "--yes", "--keep-runs", "1s")

        assert done.stdout == "deleted:\n        2 ended runs\n        4 log lines\n"
        assert all(gone(services, run_id) for run_id in old)


def test_by_hand_nothing_goes_unless_it_is_asked_for(tmp_path: Path) -> None:
    with opened(tmp_path):
        neither, both, forever = prune(tmp_path), prune(tmp_path, "--yes", "--dry-run"), prune(tmp_path, "--yes")
        wrong = prune(tmp_path, "--yes", "--keep-runs", "a while")

    assert (neither.returncode, both.returncode, wrong.returncode) == (2, 2, 2)
    assert "--dry-run --yes" in neither.stderr
    assert "a span such as 90d, 36h or 30m" in wrong.stderr
    assert forever.stdout.startswith(
        "nothing to delete: everything is within its retention\nruns, logs and deliveries are kept for ever"
    )


# By request


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path, dev_token=None)
    made.serve_task(JOB)
    yield made
    made.close()


def send(api: Api, method: str, path: str, role: str) -> Any:
    return api.request(method, path, headers={"Authorization": f"Bearer {api.token(role)}"})


def test_an_admin_deletes_a_run_that_has_ended(api: Api) -> None:
    run_id = send(api, "POST", "/api/tasks/job/runs", "admin").json["runId"]
    path = f"/api/workflow-runs/{run_id}"
    with working(api.services):
        eventually(lambda: send(api, "GET", path, "viewer").json["state"] == "completed", what="its end")

    refused = send(api, "DELETE", path, "operator")
    deleted = send(api, "DELETE", path, "admin")

    assert refused.status == 403
    assert (deleted.status, deleted.body) == (204, b"")
    for again in ("GET", "DELETE"):
        assert send(api, again, path, "admin").status == 404
    assert send(api, "GET", f"{path}/logs", "viewer").status == 404


def test_a_run_that_has_not_ended_is_a_conflict(api: Api) -> None:
    run_id = send(api, "POST", "/api/tasks/job/runs", "admin").json["runId"]

    answer = send(api, "DELETE", f"/api/workflow-runs/{run_id}", "admin")

    assert answer.status == 409
    assert "cancel it first" in answer.json["detail"]
    assert not gone(api.services, run_id)
