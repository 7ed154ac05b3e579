"""Pages of deliveries on both drivers: right for every combination of filters, and each costs a page, whatever there is."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from optio.store.postgres import postgres_store
from optio.store.sql import deliveries
from optio.store.sql.records import cursor_after
from optio.store.sql.store import SqlStore
from optio.store.sql.transaction import Transaction
from optio.store.sqlite import sqlite_store
from optio.store.values import DeliveryFilter
from tests.servers import PostgresServer

DRIVERS = ("sqlite", "postgres")
MANY = 20_000
START = datetime(2026, 1, 1, tzinfo=UTC)
# Skewed, as life is: a filter lets nothing pass since a while, what was refused is rare or old, one path has two tasks.
FILL = """
INSERT INTO deliveries (id, path, task_id, received_at, headers, body_sha256, verdict, status)
SELECT 'd' || n, 'path-' || CAST(n - n / 5 * 5 AS TEXT), 'task-' || CAST(n - n / 10 * 10 AS TEXT),
    1767225600000000 + CAST(n AS BIGINT) * 1000000, '{{}}', 'x',
    CASE WHEN n - n / 1000 * 1000 = 7 THEN 'invalid' WHEN n < {many} / 10 THEN 'unsigned'
        WHEN n < {many} / 5 THEN 'accepted' ELSE 'filtered' END,
    202
FROM {numbers}
"""
NUMBERS = {
    "sqlite": "(WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < {many}) SELECT n FROM g) AS g",
    "postgres": "generate_series(1, {many}) AS g (n)",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    seq: int
    task_id: str
    path: str
    verdict: str
    received_at: datetime


def rows(many: int) -> list[Row]:
    """What FILL makes, newest first."""

    def verdict(n: int) -> str:
        if n % 1000 == 7:
            return "invalid"
        return "unsigned" if n < many // 10 else "accepted" if n < many // 5 else "filtered"

    return [Row(n, f"task-{n % 10}", f"path-{n % 5}", verdict(n), START + timedelta(seconds=n)) for n in range(many, 0, -1)]


@pytest.fixture(scope="module", params=DRIVERS)
def full(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[SqlStore]:
    """A store with many deliveries, of which the planner knows nothing yet."""
    if request.param == "postgres":
        store = postgres_store.open_store(postgres_server.schema())
    else:
        store = sqlite_store.open_store(tmp_path_factory.mktemp("pages") / "optio.db")
    fill(store, MANY)
    yield store
    store.close()


def driver(store: SqlStore) -> str:
    return "postgres" if store._engine.read(lambda tx: tx.lateral) else "sqlite"


def fill(store: SqlStore, many: int) -> None:
    sql = FILL.format(many=many, numbers=NUMBERS[driver(store)].format(many=many))

    def insert(tx: Transaction) -> None:
        if tx.lateral:
            tx.run("SET LOCAL statement_timeout = 0")
        tx.run(sql)

    store._engine.change(insert)


def filters() -> Iterator[DeliveryFilter]:
    """Every combination of the conditions that a page can have."""
    for task_id, path, verdict, since, until in itertools.product(
        (None, "task-7"),
        (None, "path-2"),
        (None, "accepted", "filtered", "invalid", "unsigned", "never"),
        (None, START + timedelta(seconds=MANY // 20)),
        (None, START + timedelta(seconds=MANY - MANY // 20)),
    ):
        yield DeliveryFilter(task_id=task_id, path=path, verdict=verdict, since=since, until=until)


def matches(row: Row, where: DeliveryFilter) -> bool:
    return (
        where.task_id in (None, row.task_id)
        and where.path in (None, row.path)
        and where.verdict in (None, row.verdict)
        and (where.since is None or row.received_at >= where.since)
        and (where.until is None or row.received_at <= where.until)
    )


def test_every_combination_of_filters_finds_what_it_should_page_by_page(full: SqlStore) -> None:
    every = rows(MANY)
    for where in filters():
        expected = [row.seq for row in every if matches(row, where)]
        found: list[int] = []
        cursor: str | None = None
        for _ in range(3):
            page = full.deliveries(where, cursor=cursor, limit=37)
            found += [item.seq for item in page.items]
            cursor = page.next
            if cursor is None:
                break
        assert found == expected[: 3 * 37], where
        assert (cursor is None) == (len(expected) <= 3 * 37), where
        middle = cursor_after(MANY // 2)
        after = [item.seq for item in full.deliveries(where, cursor=middle, limit=37).items]
        assert after == [seq for seq in expected if seq < MANY // 2][:37], where


def test_a_filter_by_text_that_cannot_be_kept_finds_nothing(full: SqlStore) -> None:
    for where in (DeliveryFilter(task_id="\0"), DeliveryFilter(path="\0"), DeliveryFilter(verdict="\0")):
        assert not full.deliveries(where).items


class Explaining:
    """Passes a page's statements on, each after its plan was noted."""

    def __init__(self, tx: Transaction, explain: str) -> None:
        self._tx, self._explain = tx, explain
        self.lateral = tx.lateral
        self.plans: list[list[dict[str, Any]]] = []

    def one(self, sql: str, params: Any = None) -> Any:
        return self._tx.one(sql, params)

    def all(self, sql: str, params: Any = None) -> list[Any]:
        self.plans.append([dict(row) for row in self._tx.all(self._explain + sql, params)])
        return self._tx.all(sql, params)


def plans(store: SqlStore, where: DeliveryFilter, cursor: str | None, explain: str) -> list[list[dict[str, Any]]]:
    def page(tx: Transaction) -> list[list[dict[str, Any]]]:
        explaining = Explaining(tx, explain)
        deliveries.page(explaining, where, cursor=cursor, limit=50)  # type: ignore[arg-type]
        return explaining.plans

    return store._engine.read(page)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


@pytest.mark.parametrize("analyzed", [False, True], ids=["no statistics", "statistics"])
def test_no_page_reads_more_of_the_table_than_a_page(full: SqlStore, analyzed: bool) -> None:
    if analyzed:
        full._engine.change(lambda tx: tx.run("ANALYZE deliveries"))
    for where, cursor in itertools.product(filters(), (None, cursor_after(MANY - 100))):
        if driver(full) == "sqlite":
            (plan, *_) = reversed(plans(full, where, cursor, "EXPLAIN QUERY PLAN "))
            steps = [row["detail"] for row in plan]
            unfiltered = where == DeliveryFilter()
            assert not [step for step in steps if step.startswith("SCAN deliveries") and not unfiltered], (where, steps)
            assert not [step for step in steps if "TEMP B-TREE" in step and not _of_a_union(steps)], (where, steps)
            continue
        read = 0
        for (row,) in plans(full, where, cursor, "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) "):
            (shown,) = row.values()
            (plan,) = json.loads(shown) if isinstance(shown, str) else shown
            for node in nodes(plan["Plan"]):
                if node.get("Relation Name") == "deliveries":
                    filtered = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
                    read += (node["Actual Rows"] + filtered) * node["Actual Loops"]
        # At most a page of each verdict, of two tasks where the path has two, the page itself, and a few rows for the bounds.
        assert read <= 51 * (4 * 2 + 1) + 50, (where, cursor, read)


def _of_a_union(steps: list[str]) -> bool:
    return any("UNION ALL" in step or "LIST SUBQUERY" in step for step in steps)


def test_in_sqlite_a_page_takes_as_many_steps_of_many_deliveries_as_of_few(tmp_path: Path) -> None:
    def steps(many: int) -> list[int]:
        store = sqlite_store.open_store(tmp_path / f"{many}.db")
        fill(store, many)
        found = [_steps(store, lambda where=where: store.deliveries(where)) for where in filters()]
        store.close()
        return found

    few, many = steps(2_000), steps(MANY)

    # Of rare verdicts a page of few deliveries is not full: this much a full page may cost.
    assert max(many) < 2 * max(few), (few, many)


def _steps(store: SqlStore, operation: Callable[[], object]) -> int:
    taken = 0

    def tick() -> None:
        nonlocal taken
        taken += 1

    operation()
    connections = list(store._engine._idle)  # type: ignore[attr-defined]
    for connection in connections:
        connection.set_progress_handler(tick, 10)
    operation()
    for connection in connections:
        connection.set_progress_handler(None, 0)
    return taken
