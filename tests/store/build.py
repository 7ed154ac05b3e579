"""What store tests are made of: a clock that obeys, and short words for runs, claims and ends."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from optio.model.registry import CompiledTask, Registry
from optio.model.retry import GiveUp, RetryAt
from optio.model.run import LogKind, LogLine, Outcome, Run
from optio.model.usage import Meter
from optio.runs import admission
from optio.store.base import Store
from optio.store.sql.transaction import Transaction
from optio.store.values import AdmissionView, Admit, Claim, NewDelivery, NewRun
from tests.support import command_task

LEASE = timedelta(seconds=10)
START = datetime(2026, 1, 5, 8, tzinfo=UTC)
_ids = count(1)


class Clock:
    """Seconds since 1970, as a store asks for them; moved by hand."""

    def __init__(self, at: datetime = START) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at.timestamp()

    def move(self, **span: float) -> datetime:
        self.at += timedelta(**span)
        return self.at


def task(name: str = "Job", extra: str = "") -> CompiledTask:
    """A task that runs `true`."""
    return command_task("true", name, extra)


def serve(store: Store, *tasks: CompiledTask) -> None:
    """Make these the tasks that are served."""
    store.activate(Registry.of({each.id: each for each in tasks}), None)


def fresh(prefix: str = "run") -> str:
    """An id that nothing else has."""
    return f"{prefix}-{next(_ids)}"


def new_run(of: CompiledTask | None = None, run_id: str | None = None, **more: Any) -> NewRun:
    """A run to be queued."""
    fields: dict[str, Any] = {"params": {"A": 1}, "prompt": "do it", "trigger": "manual", "actor": "me", **more}
    return NewRun(id=run_id or fresh(), task=of or task(), **fields)


def queued(store: Store, of: CompiledTask | None = None, **more: Any) -> str:
    """A queued run's id."""
    return str(store.accept(new_run(of, **more)).result(10).run_id)


def delivery(key: str | None = "d-1", body: bytes = b"{}", *, task_id: str = "job", **more: Any) -> NewDelivery:
    """A webhook request as received."""
    sha = f"sha-of-{body.decode('latin-1')!r}"
    fields: dict[str, Any] = {
        "id": fresh("delivery"), "path": "hook", "headers": {"x": "y"}, "verdict": "accepted", "status": 202, **more
    }  # fmt: skip
    return NewDelivery(task_id=task_id, key=key, body=body, body_sha256=sha, **fields)


def everything(view: AdmissionView) -> Sequence[str]:
    """Admits all that waits."""
    return [waiting.run_id for waiting in view.waiting]


def at_most(limit: int) -> Admit:
    """Admits by the rules, with this global limit."""
    return lambda view: admission.decide(view, max_running=limit).starts


def claimed(store: Store, worker: str = "w", *, of: CompiledTask | None = None, **more: Any) -> Claim:
    """A new run that `worker` has claimed."""
    run_id = queued(store, of, **more)
    (claim,) = store.claim(worker, LEASE, lambda view: [run_id])
    return claim


def give_up(run: Run, outcome: Outcome, now: datetime) -> GiveUp:
    """Never again."""
    return GiveUp("no retries left")


def at_once(run: Run, outcome: Outcome, now: datetime) -> RetryAt:
    """Again, now."""
    return RetryAt(now)


OK = Outcome(ok=True, reason="ok", message="", text="done")
BAD = Outcome(ok=False, reason="exit_code", message="exit code 1", again=True, text="half")


def end(store: Store, claim: Claim, outcome: Outcome = OK, meter: Meter | None = None, decide: Any = give_up) -> Run:
    """End the attempt of a claim."""
    return store.finish(claim.run.lease, outcome, meter or Meter(), 0 if outcome.ok else 1, None, decide)


def line(text: str, at: datetime = START) -> LogLine:
    """A line of output."""
    return LogLine(kind=LogKind.OUTPUT, data=text.encode(), at=at)


def say(store: Store, claim: Claim, *texts: str, meter: Meter | None = None) -> int:
    """Append lines to the log of a claimed run."""
    lines = [line(text) for text in texts]
    return store.append_log(claim.run.lease, lines, {"stdout": 7}, meter or Meter())


def sql(store: Store, statement: str, **params: Any) -> list[Any]:
    """Rows of a statement, whatever the driver."""
    engine = store._engine  # type: ignore[attr-defined]

    def operation(tx: Transaction) -> list[Any]:
        if statement.split(None, 1)[0] in ("SELECT", "EXPLAIN"):
            return tx.all(statement, params)
        tx.run(statement, params)
        return []

    return list(engine.change(operation))
