"""What operations cost, in statements and in steps of SQLite's machine: numbers that no busy machine can blur."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from sqlite3 import Connection

import pytest

from optio.model.namespace import ALL_TASKS
from optio.model.run import RunState
from optio.store.sql import claims as claiming
from optio.store.sql.store import SqlStore
from optio.store.sql.transaction import Transaction
from optio.store.sqlite.sqlite_store import open_store
from optio.store.values import NO_LIMIT, Claim, DeliveryFilter, Firing, RunFilter, SlotVerdict, unlimited_room
from tests.store.build import (
    BAD,
    LEASE,
    Clock,
    at_most,
    at_once,
    claimed,
    delivery,
    end,
    everything,
    new_run,
    queued,
    say,
    serve,
    task,
)

FEW, MANY = 1_000, 30_000
# Finished runs of one task, almost all of them completed and started by a webhook, with an event, an attempt and a line each.
FINISHED = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
INSERT INTO runs (
    id, task_id, task_name, digest, state, reason, run_trigger, params, prompt, max_concurrent, max_retries, attempt,
    created_at, queued_at, not_before, started_at, ended_at, last_event, last_line
)
SELECT 'old-' || i, 'job', 'Job', (SELECT digest FROM definitions), CASE WHEN i = 5 THEN 'failed' ELSE 'completed' END, 'ok',
    CASE WHEN i = 6 THEN 'manual' ELSE 'webhook' END, '{{}}', 'p', 2, 1, 1, i, i, i, i, i, 1, 1
FROM n;
INSERT INTO begun (run_id, number, task_id, how, at, waited) SELECT id, 1, 'job', 'warm', 1, 1 FROM runs;
INSERT INTO events (run_id, seq, to_state, reason, message, actor, at)
SELECT id, 1, 'queued', 'webhook', '', 'hook', 1 FROM runs;
INSERT INTO attempts (run_id, number, worker, started_at, ok) SELECT id, 1, 'w', 1, 1 FROM runs;
INSERT INTO log_lines (run_id, seq, attempt, kind, at, data) SELECT id, 1, 1, 'text', 1, 'x' FROM runs;
INSERT INTO deliveries (id, path, task_id, delivery_key, received_at, headers, body_sha256, verdict, status, run_id)
SELECT 'd-' || id, 'hook', 'job', 'k-' || id, 1, '{{}}', 's', 'accepted', 202, id FROM runs;
"""


class Meter:
    """A store with so many finished runs, and what the next operation costs it."""

    def __init__(self, path: Path, finished: int) -> None:
        self.clock = Clock()
        self.store: SqlStore = open_store(path, clock=self.clock)
        serve(self.store, task(extra="maxConcurrent: 100\n"))
        if finished:
            self.writer.executescript(FINISHED.format(count=finished))

    @property
    def writer(self) -> Connection:
        return self.store._engine._writer  # type: ignore[attr-defined, no-any-return]

    def _connections(self) -> list[Connection]:
        self.store.generation()
        return [self.writer, *self.store._engine._idle]  # type: ignore[attr-defined]

    def steps(self, operation: Callable[[SqlStore], object]) -> int:
        """In tens."""
        taken = 0

        def tick() -> None:
            nonlocal taken
            taken += 1

        connections = self._connections()
        for connection in connections:
            connection.set_progress_handler(tick, 10)
        operation(self.store)
        for connection in connections:
            connection.set_progress_handler(None, 0)
        return taken

    def statements(self, operation: Callable[[SqlStore], object]) -> list[str]:
        """The first words of each."""
        seen: list[str] = []
        connections = self._connections()
        for connection in connections:
            connection.set_trace_callback(lambda sql: seen.append(" ".join(sql.split()[:3])))
        operation(self.store)
        for connection in connections:
            connection.set_trace_callback(None)
        return seen


@pytest.fixture
def meters(tmp_path: Path) -> Iterator[Callable[[int], Meter]]:
    made: list[Meter] = []

    def make(finished: int) -> Meter:
        made.append(Meter(tmp_path / f"{finished}.db", finished))
        return made[-1]

    yield make
    for meter in made:
        meter.store.close()


def _claim(store: SqlStore) -> object:
    for _ in range(5):
        queued(store)
    return store.claim("w", LEASE, at_most(3))


def _adopt(store: SqlStore) -> object:
    claimed(store)
    store.release("w")
    claims = store.adopt("v", LEASE, 5)
    assert claims
    return [end(store, claim) for claim in claims]


def _retry(store: SqlStore) -> object:
    claim = claimed(store)
    end(store, claim, BAD)
    return store.retry(claim.run.id, "me")


def _log(store: SqlStore) -> object:
    claim = claimed(store)
    say(store, claim, "a")
    return store.log(claim.run.id)


FLAT: dict[str, Callable[[SqlStore], object]] = {
    "accept": lambda store: store.accept(new_run(), delivery=delivery()).result(10),
    "a known delivery": lambda store: store.known_delivery("job", "k-old-7"),
    "claim": _claim,
    "a claim of nothing": lambda store: store.claim("w", LEASE, everything),
    "adopt": _adopt,
    "adopt nothing": lambda store: store.adopt("w", LEASE, 5),
    "renew": lambda store: store.renew("w", LEASE),
    "owners": lambda store: store.owners(),
    "running attempts": lambda store: store.running_attempts(),
    "next_due": lambda store: store.next_due(),
    "admission": lambda store: store.admission(),
    "finish": lambda store: end(store, claimed(store)),
    "finish for another try": lambda store: end(store, claimed(store), BAD, decide=at_once),
    "retry": _retry,
    "log": _log,
    "run": lambda store: (store.run("old-7"), store.events("old-7"), store.attempts("old-7")),
    "all runs": lambda store: store.runs(RunFilter()),
    "runs of a task": lambda store: store.runs(RunFilter(task_id="job")),
    "runs of a task without any": lambda store: store.runs(RunFilter(task_id="other")),
    **{
        f"{state} runs{of}": lambda store, state=state, of=of: store.runs(RunFilter(state=state, task_id="job" if of else None))
        for state in RunState
        for of in ("", " of a task")
    },
    "rarely triggered runs": lambda store: store.runs(RunFilter(trigger="manual")),
    "runs with a trigger that nothing has": lambda store: store.runs(RunFilter(trigger="schedule")),
    "deliveries": lambda store: store.deliveries(DeliveryFilter(task_id="job")),
    "who wants places": lambda store: store.pooled_tasks(),
    "who wants places, again": lambda store: store.pooled_tasks(1),
    "starts of an hour": lambda store: store.placed_starts(store.now() - timedelta(hours=1)),
    "arrivals of an hour": lambda store: store.arrivals(store.now() - timedelta(hours=1)),
    "arrivals of a task": lambda store: store.arrivals(store.now() - timedelta(hours=1), task_id="job"),
}


def test_no_operation_costs_more_with_many_finished_runs_than_with_few(meters: Callable[[int], Meter]) -> None:
    few, many = meters(FEW), meters(MANY)

    costs = {name: (few.steps(operation), many.steps(operation)) for name, operation in FLAT.items()}

    assert {name: cost for name, cost in costs.items() if cost[1] > cost[0] * 1.2 + 30} == {}


def test_a_claim_costs_no_more_with_a_long_queue(meters: Callable[[int], Meter]) -> None:
    meter = meters(0)

    def claim(store: SqlStore) -> object:
        return store.claim("w", LEASE, lambda view: at_most(100)(view)[:1])

    for future in [meter.store.accept(new_run()) for _ in range(50)]:
        future.result(10)
    short = meter.steps(claim)
    for future in [meter.store.accept(new_run()) for _ in range(3000)]:
        future.result(20)

    assert meter.steps(claim) < short * 1.2 + 30


@pytest.mark.parametrize("together", [False, True])
def test_a_schedule_that_skips_overlaps_looks_at_no_finished_run(meters: Callable[[int], Meter], together: bool) -> None:
    costs = []
    for count in (FEW, MANY):
        meter = meters(count)
        mine = task(extra="maxConcurrent: 100\n")
        slot = meter.clock.at + timedelta(minutes=1)
        firing = Firing(
            task_id=mine.id,
            digest=mine.digest,
            verdicts=[SlotVerdict(slot=slot, verdict="fired")],
            runs=[new_run(mine, slot=slot)],
            next_fire=None,
            unless_active=True,
        )
        if together:
            costs.append(meter.steps(lambda store, firing=firing: store.ready([firing])().result(10)))
        else:
            costs.append(meter.steps(lambda store, firing=firing: store.fire(firing).result(10)))

    assert costs[1] < costs[0] * 1.2 + 30


def test_an_accepted_webhook_is_three_statements_and_one_commit(meters: Callable[[int], Meter]) -> None:
    meter = meters(0)
    queued(meter.store, task(extra="maxConcurrent: 100\n"))
    run, received = new_run(task(extra="maxConcurrent: 100\n")), delivery()

    seen = meter.statements(lambda store: store.accept(run, delivery=received).result(10))

    assert seen == ["BEGIN IMMEDIATE", "INSERT INTO deliveries", "INSERT INTO runs", "INSERT INTO events", "COMMIT"]


def test_what_waits_together_is_one_commit(meters: Callable[[int], Meter]) -> None:
    meter = meters(0)
    began, gate = threading.Event(), threading.Event()

    def many(store: SqlStore) -> None:
        blocker = store._engine.write(lambda tx: (began.set(), gate.wait(20)))
        began.wait(20)
        futures = [store.accept(new_run()) for _ in range(60)]
        gate.set()
        for future in [blocker, *futures]:
            future.result(20)

    assert meter.statements(many).count("COMMIT") == 2


def test_a_claimed_run_costs_five_statements_and_a_finished_one_six(meters: Callable[[int], Meter]) -> None:
    meter = meters(0)
    queued(meter.store)

    claims: list[Claim] = []

    claim = meter.statements(lambda store: claims.extend(store.claim("w", LEASE, everything)))
    finish = meter.statements(lambda store: end(store, claims[0]))

    look, both = ["WITH RECURSIVE waiting"], ["SELECT busy.task_id, busy.n", "WITH RECURSIVE waiting"]
    assert claim[:4] == [*look, "BEGIN IMMEDIATE", *both]
    # One of them looks at what is short of room.
    assert (len(claim[4:-1]), claim[-1]) == (5, "COMMIT")
    # The last statement counts it, with a row for its duration.
    assert (finish[0], len(finish[1:-1]), finish[-1]) == ("BEGIN IMMEDIATE", 6, "COMMIT")
    assert finish[-3:-1] == ["INSERT INTO daily_stripes"] * 2


def test_a_worker_that_waited_for_others_and_comes_too_late_counts_nothing_under_the_lock(
    meters: Callable[[int], Meter],
) -> None:
    def late(tx: Transaction) -> list[Claim]:
        return claiming.claim(tx, "w", LEASE, everything, "", ALL_TASKS, unlimited_room, NO_LIMIT, "started", crowded=True)

    seen = meters(0).statements(lambda store: store._engine.change(late))

    assert seen == ["BEGIN IMMEDIATE", "WITH RECURSIVE waiting", "COMMIT"]


def test_a_worker_that_finds_nothing_takes_no_write_lock(meters: Callable[[int], Meter]) -> None:
    meter = meters(0)

    seen = meter.statements(lambda store: (store.claim("w", LEASE, everything), store.adopt("w", LEASE, 5)))

    assert "BEGIN IMMEDIATE" not in seen
