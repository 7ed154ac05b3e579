"""Run with an older version of Optio: leaves data of every kind in a database, and says what.

Arguments: a URL or a file. What is here must work with the oldest version that is kept.
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from optio.compiler.tree import MemoryTree

from optio.compiler.pipeline import compile_tree
from optio.model.registry import Registry
from optio.model.retry import Again, GiveUp
from optio.model.run import LogKind, LogLine, Meter, Outcome
from optio.store.base import Firing, NewDelivery, NewRun, Once, ScheduleRow, SlotVerdict

TASK = """\
type: standalone
name: {name}
agentRuntime: command
command: "true"
promptTemplate: "Größe {{{{A}}}}"
maxConcurrent: 3
maxRetries: 2
triggers:
  - type: schedule
    config: {{cronExpression: "0 9 * * *", timezone: Europe/Berlin}}
  - type: webhook
    config: {{path: {name}, unsigned: true}}
"""
SLOT = datetime(2026, 1, 5, 8, tzinfo=UTC)
LEASE = timedelta(seconds=1)


def opened(where: str) -> Any:
    """The store at a URL or in a file."""
    if where.startswith("postgresql:"):
        from optio.store import postgres

        return postgres.open_store(where)
    from optio.store import sqlite

    return sqlite.open_store(Path(where))


def main(where: str) -> None:
    """See the module."""
    store = opened(where)
    tree = {f"{name}.yaml": TASK.format(name=name) for name in ("one", "two")}
    tasks = compile_tree(MemoryTree(tree)).registry.tasks
    store.activate(Registry.of({"one": tasks["one"]}), "before")
    store.activate(Registry.of(tasks), "now")
    one = tasks["one"]

    def run(name: str, **more: Any) -> NewRun:
        fields: dict[str, Any] = {"params": {"A": "ü", "N": [1, None]}, "prompt": "Größe ü", "trigger": "manual", "actor": "me"}
        return NewRun(id=f"run-{name}", task=one, **{**fields, **more})

    def delivery(key: str, verdict: str = "accepted", status: int = 202) -> NewDelivery:
        return NewDelivery(
            id=f"delivery-{key}-{verdict}", path="one", task_id="one", key=key, headers={"x": "ü"}, body=b'{"a": 1}',
            body_sha256="sha", verdict=verdict, status=status,
        )  # fmt: skip

    def claim(name: str, **more: Any) -> Any:
        store.accept(run(name, **more)).result(20)
        (claimed,) = store.claim("old-worker", LEASE, lambda view: [f"run-{name}"], place="place/boot/space")
        return claimed

    def finish(claimed: Any, outcome: Outcome, decide: Any = None) -> None:
        meter = Meter(turns=3, tool_calls=2)
        lines = [LogLine(kind=LogKind.OUTPUT, data=data, at=SLOT) for data in (b"one", b"\x00\xff two")]
        store.append_log(claimed.run.id, claimed.run.fence, claimed.run.attempt, lines, {"stdout": 9}, meter)
        decide = decide or (lambda run, outcome, now: GiveUp("no retries left"))
        store.finish(claimed.run.id, claimed.run.fence, outcome, meter, 0 if outcome.ok else 3, None, decide)

    good = Outcome(ok=True, reason="ok", text="done", output={"n": 1})
    bad = Outcome(ok=False, reason="exit_3", message="exit code 3", again=True)
    finish(claim("completed"), good)
    finish(claim("failed"), bad)
    finish(claim("delayed"), bad, lambda run, outcome, now: Again(now + timedelta(milliseconds=10)))
    store.accept(run("cancelled")).result(20)
    store.cancel("run-cancelled", "eve")
    claim("running")
    claim("cancelling")
    store.cancel("run-cancelling", "eve")
    store.accept(run("queued")).result(20)
    store.accept(run("hooked", trigger="webhook"), delivery=delivery("d-1")).result(20)
    store.record_delivery(delivery("d-2", "filtered")).result(20)
    store.record_delivery(delivery("d-3", "invalid", 422)).result(20)
    store.accept(run("keyed"), once=Once("runs:one", "k-1", "sha")).result(20)
    store.change_schedules([ScheduleRow(task_id="one", fingerprint="0 9 * * * Europe/Berlin", next_fire=SLOT)], [])
    fired = run("fired", trigger="schedule", slot=SLOT)
    verdicts = [SlotVerdict(slot=SLOT - timedelta(days=1), verdict="missed"), SlotVerdict(slot=SLOT, verdict="fired")]
    following = SLOT + timedelta(days=1)
    store.fire(Firing(task_id="one", digest=one.digest, verdicts=verdicts, runs=[fired], next_fire=following)).result(20)
    store.add_token("tok_1", "token-sha", "admin", "old", None)
    store.close()
    print(json.dumps({task.id: task.digest for task in tasks.values()}))


if __name__ == "__main__":
    main(sys.argv[1])
