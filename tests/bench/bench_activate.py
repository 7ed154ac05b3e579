"""One changed task of 10,000 -> the next generation in the database, on SQLite and PostgreSQL.

    python -m tests.bench.bench_activate [TASKS] [ROUNDS]

`activate` is what `Store.activate` takes; `commit` is a durable transaction of the same database that writes the generation's
list of digests and nothing else, which it cannot beat; `restore` is what a server needs at its start to read all definitions.
"""

import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from optio.model.registry import Registry
from optio.store.postgres import postgres_store
from optio.store.sql.store import SqlStore
from optio.store.sql.transaction import Transaction, dump_json
from optio.store.sqlite import sqlite_store
from optio.store.values import Activated
from optio.tree.served import ServedRegistry
from tests.servers import PostgresServer
from tests.support import command_task


def main(count: int, rounds: int) -> None:
    """A table."""
    directory = Path(tempfile.mkdtemp(prefix="optio-activate-", dir=Path.cwd()))
    print(f"{count:,} tasks, one of them changed, {rounds} rounds; milliseconds (p50, worst)")
    try:
        _measure("sqlite", lambda: sqlite_store.open_store(directory / "optio.db"), count, rounds)
        with PostgresServer() as server:
            url = server.schema()
            _measure("postgres", lambda: postgres_store.open_store(url), count, rounds)
    finally:
        shutil.rmtree(directory)


def _measure(name: str, opened: Callable[[], SqlStore], count: int, rounds: int) -> None:
    store = opened()
    made = command_task("true", "Job")
    tasks = {f"task-{number:05}": replace(made, id=f"task-{number:05}") for number in range(count)}
    before = Registry.of(tasks)
    last = store.activate(before, None)
    took: list[float] = []
    bare: list[float] = []
    for number in range(rounds):
        changed = f"task-{number * 37 % count:05}"
        spec = made.spec.replace(description=uuid.uuid4().hex)
        after = Registry.of({**before.tasks, changed: replace(made, id=changed, spec=spec)})
        _ = after.digest  # who compares two registries has asked for it already
        began = time.perf_counter()
        last = store.activate(after, None, Activated(last.id, before))
        took.append(time.perf_counter() - began)
        before = after
        text = dump_json({task.id: task.digest for task in after.tasks.values()})
        began = time.perf_counter()
        store._engine.change(partial(_rewrite, text=text))
        bare.append(time.perf_counter() - began)
    store.close()
    again = opened()
    began = time.perf_counter()
    ServedRegistry(again).restore()
    restored = time.perf_counter() - began
    again.close()
    print(f"  {name:<9} activate {_figures(took)}   commit {_figures(bare)}   restore {restored * 1000:.0f}")


def _rewrite(tx: Transaction, text: str) -> None:
    tx.run("UPDATE generations SET tasks = :text WHERE id = (SELECT MAX(id) FROM generations)", {"text": text})


def _figures(took: list[float]) -> str:
    return f"{statistics.median(took) * 1000:6.1f} {max(took) * 1000:6.1f}"


if __name__ == "__main__":
    main(*(int(each) for each in (sys.argv[1:] + ["10000", "20"][len(sys.argv) - 1 :])))
