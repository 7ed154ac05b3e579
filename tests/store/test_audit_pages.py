"""What the database counts for an audit, against the same rules over each row: worlds of random rows, whole and damaged."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from optio.runs import audit
from optio.store.postgres import postgres_store
from optio.store.sql.store import SqlStore
from optio.store.sql.transaction import Transaction, from_micros, to_micros
from optio.store.sqlite import sqlite_store
from optio.store.values import AuditedDelivery, AuditedRun, AuditedSlot, AuditPage, AuditSpan
from tests.servers import PostgresServer
from tests.store.build import serve, task

START = datetime(2026, 1, 1, tzinfo=UTC)
TASKS = ("a", "b")
ROWS = 120


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[SqlStore]:
    if request.param == "postgres":
        opened = postgres_store.open_store(postgres_server.schema())
    else:
        opened = sqlite_store.open_store(tmp_path_factory.mktemp("audit") / "optio.db")
    serve(opened, task())
    yield opened
    opened.close()


def moment(dice: random.Random) -> int:
    """Whole minutes, so that times meet bounds and each other."""
    return to_micros(START + timedelta(minutes=dice.randrange(60)))


class World:
    """Rows at random, most of which fit each other, written into the tables as they are."""

    def __init__(self, store: SqlStore, seed: int) -> None:
        dice = random.Random(seed)
        digest = store._engine.read(lambda tx: tx.one("SELECT digest FROM definitions"))["digest"]
        self.runs: list[dict[str, Any]] = []
        self.slots: dict[tuple[str, int], dict[str, Any]] = {}
        self.deliveries: list[dict[str, Any]] = []
        self.actors: dict[str, str] = {}
        self.deleted: set[str] = set()
        run_ids = [f"r{n}" for n in range(ROWS)]

        def some_run() -> str | None:
            return dice.choice([None, "gone", "deleted", *dice.sample(run_ids, 3)])

        for n in range(ROWS):
            verdict = dice.choice(["accepted", "accepted", "filtered", "duplicate"])
            self.deliveries.append(
                {"seq": n + 1, "id": f"d{n}", "task_id": dice.choice(TASKS), "at": moment(dice), "verdict": verdict,
                 "run_id": dice.choice([f"r{n}", some_run()])}
            )  # fmt: skip
        for task_id in TASKS:
            for minute in dice.sample(range(60), 40):
                at = to_micros(START + timedelta(minutes=minute))
                self.slots[task_id, at] = {
                    "task_id": task_id, "slot": at, "verdict": dice.choice(["fired", "fired", "missed"]), "run_id": some_run(),
                    "at": at + 5,
                }  # fmt: skip
        for n, run_id in enumerate(run_ids):
            task_id, slot = dice.choice([*self.slots, ("a", moment(dice))])
            trigger = dice.choice(["manual", "schedule", "webhook", "webhook"])
            row = {
                "seq": n + 1, "id": run_id, "task_id": task_id, "at": moment(dice), "trigger": trigger,
                "slot": slot if trigger == "schedule" and dice.random() < 0.9 else None,
                "delivery_id": dice.choice([f"d{n}", f"d{n}", f"d{n}", "d-gone", f"d{dice.randrange(ROWS)}", None]),
            }  # fmt: skip
            self.runs.append(row)
            if trigger == "schedule" and row["slot"] is not None and dice.random() < 0.7 and (task_id, slot) in self.slots:
                self.slots[task_id, slot]["run_id"] = run_id
            if dice.random() < 0.9:
                self.actors[run_id] = dice.choice(["hook", "replay:eve", "REPLAY:eve", "me"])
        self.deleted.add("deleted")
        store._engine.change(lambda tx: self._write(tx, digest))

    def _write(self, tx: Transaction, digest: str) -> None:
        for table in ("events", "runs", "slots", "deliveries", "once"):
            tx.run(f"DELETE FROM {table}")
        tx.many(
            "INSERT INTO runs (seq, id, task_id, task_name, digest, state, reason, run_trigger, slot, delivery_id, params, "
            "prompt, max_concurrent, max_retries, created_at, queued_at, not_before, ended_at) VALUES (:seq, :id, :task_id, "
            f"'x', '{digest}', 'completed', 'ok', :trigger, :slot, :delivery_id, '{{}}', 'p', 1, 1, :at, :at, :at, :at)",
            self.runs,
        )
        tx.many("INSERT INTO slots VALUES (:task_id, :slot, :verdict, :run_id, :at)", list(self.slots.values()))
        tx.many(
            "INSERT INTO deliveries (seq, id, path, task_id, received_at, headers, body_sha256, verdict, status, run_id) "
            "VALUES (:seq, :id, 'p', :task_id, :at, '{}', 'x', :verdict, 202, :run_id)",
            self.deliveries,
        )
        tx.many(
            "INSERT INTO events (run_id, seq, to_state, reason, message, actor, at) "
            "VALUES (:id, 1, 'queued', '', '', :actor, 1)",
            [{"id": run_id, "actor": actor} for run_id, actor in self.actors.items()],
        )
        tx.many(
            "INSERT INTO once (scope, once_key, body_sha256, result, at) VALUES ('run-deleted', :id, '', '', 1)",
            [{"id": run_id} for run_id in self.deleted],
        )

    # The rows beside their counterparts, each by itself

    def audited_slots(self, task_id: str) -> list[AuditedSlot]:
        runs = {row["id"]: row for row in self.runs}
        return [
            AuditedSlot(
                first=from_micros(row["slot"]),
                last=from_micros(row["slot"]),
                verdict=row["verdict"],
                run_id=row["run_id"],
                at=from_micros(row["at"]),
                run_is_there=row["run_id"] in runs or row["run_id"] in self.deleted,
                run_is_its=row["run_id"] not in runs
                or (runs[row["run_id"]]["task_id"], runs[row["run_id"]]["slot"]) == (task_id, row["slot"]),
            )
            for (of_task, _), row in sorted(self.slots.items())
            if of_task == task_id
        ]

    def audited_deliveries(self) -> list[AuditedDelivery]:
        runs = {row["id"]: row for row in self.runs}
        return [
            AuditedDelivery(
                seq=row["seq"],
                id=row["id"],
                task_id=row["task_id"],
                received_at=from_micros(row["at"]),
                verdict=row["verdict"],
                run_id=row["run_id"],
                run_is_there=row["run_id"] in runs or row["run_id"] in self.deleted,
                run_is_its=row["run_id"] not in runs or runs[row["run_id"]]["delivery_id"] == row["id"],
            )
            for row in reversed(self.deliveries)
        ]

    def audited_runs(self) -> list[AuditedRun]:
        deliveries = {row["id"]: row for row in self.deliveries}
        return [
            AuditedRun(
                seq=row["seq"],
                id=row["id"],
                task_id=row["task_id"],
                created_at=from_micros(row["at"]),
                trigger=row["trigger"],
                slot=None if row["slot"] is None else from_micros(row["slot"]),
                delivery_id=row["delivery_id"],
                actor=self.actors.get(row["id"]),
                slot_is_its=self.slots.get((row["task_id"], row["slot"]), {}).get("run_id") == row["id"],
                delivery_is_there=row["delivery_id"] in deliveries,
                delivery_is_its=deliveries.get(row["delivery_id"], {}).get("run_id") == row["id"],
            )
            for row in reversed(self.runs)
        ]


def found(
    pages: Callable[[int], AuditPage[Any] | None], word: Callable[[Any], str], fault: Callable[[Any], str | None]
) -> tuple[Counter[tuple[str, str]], list[tuple[str, str | None]], int]:
    """Counts of what is in order, faults newest first, and the number of rows, over all pages."""
    counts: Counter[tuple[str, str]] = Counter()
    faults: list[tuple[str, str | None]] = []
    before, rows = 2**62, 0
    while (page := pages(before)) is not None:
        counts.update(page.counts)
        rows += page.rows
        for row in page.doubtful:
            if fault(row) is None:
                counts[row.task_id, word(row)] += 1
            else:
                faults.append((row.id, fault(row)))
        assert page.last < before
        before = page.last
    return counts, faults, rows


def expected(
    rows: Sequence[Any],
    at: Callable[[Any], datetime],
    span: AuditSpan,
    word: Callable[[Any], str],
    fault: Callable[[Any], str | None],
) -> tuple[Counter[tuple[str, str]], list[tuple[str, str | None]]]:
    inside = [row for row in rows if span.since < at(row) <= span.until]
    faults = [(row.id, fault(row)) for row in inside if fault(row) is not None]
    return Counter((row.task_id, word(row)) for row in inside if fault(row) is None), faults


@pytest.mark.parametrize("seed", range(12))
def test_what_is_counted_and_what_is_found_is_what_each_row_by_itself_gives(store: SqlStore, seed: int) -> None:
    world, dice = World(store, seed), random.Random(seed)
    minutes = sorted(dice.sample(range(60), 5))
    runs, since, slots, until, deliveries = (START + timedelta(minutes=minute) for minute in minutes)
    span = AuditSpan(since=since, until=until, runs=runs, slots=slots, deliveries=deliveries)
    limit = dice.choice([7, 1000])

    for task_id in (None, "a"):
        mine = [row for row in world.audited_deliveries() if task_id in (None, row.task_id)]
        counts, faults, _ = found(
            lambda before, task_id=task_id: store.audit_deliveries(span, first=1, task_id=task_id, before=before, limit=limit),
            lambda row: row.verdict,
            lambda row: audit._delivery_fault(row, span),
        )
        assert (counts, faults) == expected(
            mine, lambda row: row.received_at, span, lambda row: row.verdict, lambda row: audit._delivery_fault(row, span)
        )

        of_task = [row for row in world.audited_runs() if task_id in (None, row.task_id)]
        counts, faults, rows = found(
            lambda before, task_id=task_id: store.audit_runs(span, task_id=task_id, before=before, limit=limit),
            audit.origin,
            lambda row: audit._run_origin_fault(row, span),
        )
        assert rows == len(of_task)
        assert (counts, faults) == expected(
            of_task, lambda row: row.created_at, span, audit.origin, lambda row: audit._run_origin_fault(row, span)
        )

    for task_id in TASKS:
        given = list(audit._slots(store, task_id, since, until, span))
        there = [row for row in world.audited_slots(task_id) if since < row.last <= until]
        assert [each.last if isinstance(each, AuditedSlot) else each[0] for each in given] == [row.last for row in there]
        for each, row in zip(given, there, strict=True):
            if isinstance(each, AuditedSlot):
                assert each == row
            else:
                assert (each[1], audit._run_fault(row, span)) == (row.verdict, None)


def test_the_first_delivery_of_a_span_is_the_first_by_number_though_the_clock_was_set_back(store: SqlStore) -> None:
    world = World(store, 99)
    since = START + timedelta(minutes=30)

    inside = [row["seq"] for row in world.deliveries if row["at"] > to_micros(since)]

    assert store.first_delivery(since) == min(inside)
    assert store.first_delivery(START + timedelta(hours=2)) is None
