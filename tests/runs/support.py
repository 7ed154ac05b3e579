"""Runs without a server: accept one, work on it, look at what was kept."""

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from optio.broker.base import Topic
from optio.model.registry import CompiledTask
from optio.model.run import LogKind, Run
from optio.processes.worker import Worker
from optio.runs.execute import Execution
from optio.runs.submit import prepare_run
from optio.settings import Settings
from optio.store.values import Claim
from optio.wiring import Services, build
from tests.store.empty import put_empty_database
from tests.support import eventually, open_sandbox


@contextlib.contextmanager
def opened(directory: Path, environ: Mapping[str, str] | None = None) -> Iterator[Services]:
    """Services on a directory, as one more process would have them; `OPTIO_SECRET_*` in `environ` are secrets. Agents have no
    sandbox unless it names one: they write down what they did where the test reads it."""
    environ = {
        **open_sandbox(environ or {}),
        "OPTIO_DATA_DIR": str(directory / "data"),
        "OPTIO_TASKS": str(directory / "tasks.d"),
        **(environ or {}),
    }
    put_empty_database(directory / "data" / "optio.db")
    os.environ.update({name: value for name, value in environ.items() if name.startswith("OPTIO_SECRET_")})
    try:
        made = build(Settings.load(environ))
    finally:
        for name in environ:
            os.environ.pop(name, None)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def working(services: Services) -> Iterator[Worker]:
    """A worker on these services."""
    worker = Worker(services)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


def accept(services: Services, task: CompiledTask, params: Mapping[str, Any] | None = None) -> str:
    """Queue a run and tell the workers; its id."""
    run = prepare_run(task, params, new_id=uuid.uuid4().hex, trigger="manual", actor="test")
    accepted = services.store.accept(run).result()
    services.broker.tell(Topic.QUEUE)
    assert accepted.run_id is not None
    return accepted.run_id


def claim(services: Services, run_id: str, *, owner: str = "tester", lease: float = 30.0) -> Claim:
    """Claim this run as a worker would."""
    (claimed,) = services.store.claim(owner, timedelta(seconds=lease), lambda view: [run_id])
    return claimed


def execution(services: Services, run_id: str, **changes: Any) -> Execution:
    """An execution of a run that this claims."""
    return Execution(claim(services, run_id), replace(services.parts(), **changes), "tester")


def done(services: Services, run_id: str, *, within: float = 30.0) -> Run:
    """The run, once it has ended."""

    def look() -> Run | None:
        run = services.store.run(run_id)
        return run if run.state.terminal else None

    ended = eventually(look, within=within, what=f"the end of run {run_id}")
    assert ended is not None
    return ended


def execute(services: Services, task: CompiledTask, params: Mapping[str, Any] | None = None, **changes: Any) -> Run:
    """One attempt at a run of the task, on this thread."""
    run_id = accept(services, task, params)
    execution(services, run_id, **changes)()
    return services.store.run(run_id)


def log_of(services: Services, run_id: str, *kinds: LogKind) -> list[bytes]:
    """The lines that were kept, of some kinds or of all."""
    lines, after = [], 0
    while page := services.store.log(run_id, after=after, limit=1000):
        after = page[-1].seq
        lines += [line.data for line in page if not kinds or line.kind in kinds]
    return lines
