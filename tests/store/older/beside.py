"""Run with an older version of Optio: works on a database, waits for a line on standard input, and works on as before.

Arguments: a URL or a file. What is here must work with the oldest version that is kept.
"""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from optio.compiler.tree import MemoryTree

from optio.compiler.pipeline import compile_tree
from optio.model.registry import Registry
from optio.model.retry import GiveUp
from optio.model.run import Meter, Outcome
from optio.store.base import NewDelivery, NewRun, RunFilter

TASK = 'type: standalone\nname: Beside\nagentRuntime: command\ncommand: "true"\npromptTemplate: "x"\n'
# A statement that a session has used so often is prepared by it.
OFTEN = 8


def main(where: str) -> None:
    """See the module."""
    if where.startswith("postgresql:"):
        from optio.store import postgres

        store: Any = postgres.open_store(where)
    else:
        from optio.store import sqlite

        store = sqlite.open_store(Path(where))
    task = compile_tree(MemoryTree({"beside.yaml": TASK})).registry.tasks["beside"]
    numbers = iter(range(1000))

    def once() -> None:
        number = next(numbers)
        run = NewRun(id=f"beside-{number}", task=task, params={}, prompt="x", trigger="webhook", actor="me")
        delivery = NewDelivery(
            id=f"d-{number}", path="p", task_id=task.id, key=f"k-{number}", headers={}, body=b"{}", body_sha256="s",
            verdict="accepted", status=202,
        )  # fmt: skip
        store.activate(Registry.of({task.id: task}), f"commit-{number}")
        assert store.generation().commit == f"commit-{number}"
        assert store.accept(run, delivery=delivery).result(20).first
        (claim,) = store.claim("beside", timedelta(seconds=30), lambda view: [run.id])
        store.renew("beside", timedelta(seconds=30))
        store.append_log(run.id, claim.run.fence, 1, [], {"stdout": 1}, Meter())
        ok = Outcome(ok=True, reason="ok", text="t")
        store.finish(run.id, claim.run.fence, ok, Meter(), 0, None, lambda run, outcome, now: GiveUp(""))
        assert store.run(run.id).state == "completed"
        assert len(store.attempts(run.id)) == 1
        assert len(store.events(run.id)) == 3
        for look in (
            store.admission,
            store.next_due,
            store.owners,
            store.schedules,
            store.tokens,
            store.deliveries,
            store.check,
        ):
            look()
        store.log(run.id)
        store.token("none")
        store.known_delivery(task.id, f"k-{number}")
        store.runs(RunFilter(task_id=task.id))
        store.definition(task.digest)
        store.adopt("beside", timedelta(seconds=30), 1)

    for _ in range(OFTEN):
        once()
    print("works", flush=True)
    sys.stdin.readline()
    for _ in range(OFTEN):
        once()
    print("works on", flush=True)
    store.close()


if __name__ == "__main__":
    main(sys.argv[1])
