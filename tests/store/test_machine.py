"""Store, admission and schedule against a small model of themselves: any order of what can happen to runs and slots, on both
databases, with crashes, lost answers, schedulers that fall behind, and a clock that jumps both ways.

`python -m tests.store.test_machine STEPS [SEED]` takes that many steps on each database.
"""

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import hypothesis.core
import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from optio.errors import Conflict, LeaseLost
from optio.model.pool import COLD, PROCESS, WARM
from optio.model.retry import GiveUp, RetryAt
from optio.model.room import MIN_TRY_INTERVAL, Delay, Shortage
from optio.model.run import TRANSITIONS, Outcome, Run, RunState
from optio.model.usage import CostSource, Meter, Usage
from optio.runs import schedule
from optio.store.base import Store
from optio.store.postgres import postgres_store
from optio.store.sqlite import sqlite_store
from optio.store.values import AgentStart, Claim, IdempotencyKey, RunFilter
from tests.servers import PostgresServer
from tests.store import totals
from tests.store.build import LEASE, Clock, at_most, delivery, fresh, line, new_run, say, serve, task

GLOBAL = 4
LIMITS = {"t1": 1, "t2": 2, "t3": 3}
EVERY = timedelta(minutes=5)
TIMED = """\
maxConcurrent: 3
triggers:
  - {type: schedule, config: {cronExpression: "*/5 * * * *", misfire: all, maxCatchUp: 3}}
"""
KEYED = """\
maxConcurrent: 1
priority: 5
paramsSchema: {type: object, properties: {A: {type: integer}}}
dedupe: {key: "{{A}}"}
"""
KEYS = ["a", "b", "c"]
LEGAL = {(state, new) for (state, _), new in TRANSITIONS.items()}


@dataclass
class Model:
    """What the store must hold of one run."""

    seq: int
    task_id: str
    queued_at: datetime
    not_before: datetime
    state: RunState = RunState.QUEUED
    attempt: int = 0
    fence: int = 0
    owner: str | None = None
    lease_until: datetime | None = None
    cancel: bool = False
    key: str | None = None
    events: int = 1
    lines: int = 0
    begun: dict[int, str] = field(default_factory=dict)
    # The numbers of attempts that left something; why the run was given back last, and what it tries again.
    kept: list[int] = field(default_factory=list)
    deferred: str | None = None
    tries: str | None = None

    def due(self, now: datetime) -> bool:
        return self.state is RunState.QUEUED and (self.not_before <= now or self.queued_at > now)

    def move(self, state: RunState) -> None:
        self.state = state
        self.events += 1
        self.tries, self.deferred = self.deferred, None
        if state is not RunState.RUNNING:
            self.owner = self.lease_until = None
            self.cancel = False


pick = st.integers(0, 10_000)
hows = st.sampled_from([PROCESS, COLD, WARM])
workers = st.sampled_from(["one", "two"])


class StoreMachine(RuleBasedStateMachine):
    """Every rule does one thing to the store and to the model; the invariant compares them."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.begin()
        self.store = self.open()
        self.keys: dict[tuple[str, str], str] = {}
        # Each scheduler's own idea of the next slot, right or not; and the slots that have a verdict.
        self.next: dict[str, datetime] = {}
        self.slots: dict[datetime, str | None] = {}
        self.paused: set[str] = set()
        self.runs: dict[str, Model] = {}
        self.claims: list[Claim] = []
        self.touched: set[str] = set()

    def begin(self) -> None:
        """Make an empty database."""
        raise NotImplementedError

    def open(self) -> Store:
        """Open a store on it."""
        raise NotImplementedError

    def crash(self) -> None:
        """End every process of Optio without a word; what was committed is there."""
        raise NotImplementedError

    def end(self) -> None:
        """Leave nothing behind."""

    @initialize()
    def serve(self) -> None:
        extras = {name: f"maxConcurrent: {limit}\n" for name, limit in LIMITS.items()} | {"t1": KEYED, "t3": TIMED}
        self.tasks = [task(name, extra) for name, extra in extras.items()]
        serve(self.store, *self.tasks)
        changes = schedule.reconcile({each.id: each for each in self.tasks}, self.store.schedules(), self.clock.at)
        self.store.change_schedules(changes.put, changes.drop)
        for scheduler in ("one", "two"):
            self.look_at_the_schedules(scheduler)

    def _running(self) -> Counter[str]:
        return Counter(run.task_id for run in self.runs.values() if run.state is RunState.RUNNING)

    def _any(self, number: int) -> str:
        return sorted(self.runs)[number % len(self.runs)]

    def _take(self, claim: Claim) -> Model:
        self.claims.append(claim)
        self.touched.add(claim.run.id)
        model = self.runs[claim.run.id]
        model.fence += 1
        model.owner, model.lease_until = claim.run.owner, self.clock.at + LEASE
        assert (claim.run.fence, claim.run.lease_until) == (model.fence, model.lease_until)
        return model

    @rule(of=pick, count=st.integers(1, 4))
    def submit(self, of: int, count: int) -> None:
        for place in range(count):
            chosen = self.tasks[(of + place) % len(self.tasks)]
            run = new_run(chosen, fresh("m"))
            assert self.store.accept(run).result(10).first
            self.runs[run.id] = Model(len(self.runs) + 1, chosen.id, self.clock.at, self.clock.at)
            self.touched.add(run.id)

    @rule(kind=st.sampled_from(["key", "delivery"]), key=st.sampled_from(KEYS), lost=st.booleans())
    def submit_once(self, kind: str, key: str, lost: bool) -> None:
        """The same request again and again; an answer that is lost is asked for once more."""
        run = new_run(self.tasks[0], fresh("m"))
        for _ in range(2 if lost else 1):
            if kind == "key":
                accepted = self.store.accept(run, once=IdempotencyKey("runs", key, "sha")).result(10)
            else:
                accepted = self.store.accept(run, delivery=delivery(key, task_id="t1")).result(10)
            first = self.keys.setdefault((kind, key), run.id)
            assert accepted.run_id == first
            if first == run.id and run.id not in self.runs:
                assert accepted.first
                self.runs[run.id] = Model(len(self.runs) + 1, "t1", self.clock.at, self.clock.at)
                self.touched.add(run.id)
            else:
                assert not accepted.first

    def _stands(self, key: str) -> str | None:
        """The run that is active for a business key."""
        return next((i for i, run in self.runs.items() if run.key == key and not run.state.terminal), None)

    @rule(key=st.sampled_from(KEYS))
    def submit_with_a_business_key(self, key: str) -> None:
        run, stands = new_run(self.tasks[0], fresh("m"), dedupe_key=key), self._stands(key)

        accepted = self.store.accept(run).result(10)

        assert (accepted.run_id, accepted.first) == (stands or run.id, stands is None)
        if stands is None:
            self.runs[run.id] = Model(len(self.runs) + 1, "t1", self.clock.at, self.clock.at, key=key)
            self.touched.add(run.id)

    @rule(task_id=st.sampled_from(sorted(LIMITS)), pause=st.booleans())
    def pause(self, task_id: str, pause: bool) -> None:
        if pause:
            self.store.pause(task_id, "for now", "ann")
            self.paused.add(task_id)
        else:
            assert (self.store.resume(task_id) is not None) == (task_id in self.paused)
            self.paused.discard(task_id)
        assert set(self.store.pauses()) == self.paused

    @rule(scheduler=workers)
    def look_at_the_schedules(self, scheduler: str) -> None:
        kept = self.store.schedules()["t3"].next_fire
        assert kept is not None
        self.next[scheduler] = kept

    @rule(scheduler=workers, later=st.sampled_from([0, 0, 61, 400, 4000]))
    def fire(self, scheduler: str, later: int) -> None:
        """One of two schedulers fires what it believes to be due."""
        timed, now = self.tasks[2], self.clock.move(seconds=later)
        due = self.next[scheduler]
        if due > now:
            return
        plan = schedule.plan_step(timed, due, now, lambda: fresh("s"))
        started = self.store.fire(plan.firing).result(10)

        known = dict(self.slots)
        for verdict in plan.firing.verdicts:
            self.slots.setdefault(verdict.slot, verdict.verdict)
        by_id = {run.id: run for run in plan.firing.runs}
        assert {by_id[run_id].slot for run_id in started} == {run.slot for run in by_id.values() if run.slot not in known}
        for run_id in started:
            self.runs[run_id] = Model(len(self.runs) + 1, "t3", now, now)
            self.touched.add(run_id)
        assert plan.firing.next_fire is not None
        self.next[scheduler] = plan.firing.next_fire

    @rule(worker=workers)
    def claim(self, worker: str) -> None:
        due = [run for run in self.runs.values() if run.due(self.clock.at) and run.task_id not in self.paused]
        short = {each.task_id: each for each in self.store.shortages()}
        before = self._running()

        claims = self.store.claim(worker, LEASE, at_most(GLOBAL))

        for claim in claims:
            model = self._take(claim)
            assert model in due
            model.move(RunState.RUNNING)
            model.attempt += 1
            model.kept.append(model.attempt)
            assert (claim.run.attempt, claim.run.owner, claim.adopted) == (model.attempt, worker, False)
            assert (claim.tries, claim.deferred) == (claim.run.task_id in short, (claim.tries and model.tries) or "")
        self._tried_for_room(short, before, due, Counter(claim.run.task_id for claim in claims))
        running = self._running()
        started = {claim.run.task_id for claim in claims}
        for left in due:
            if left.state is RunState.QUEUED and left.task_id not in short:
                # Nothing of a lower priority goes before one that may start.
                assert left.task_id != "t1" or running["t1"] >= LIMITS["t1"] or started <= {"t1"}
                assert running.total() >= GLOBAL or running[left.task_id] >= LIMITS[left.task_id]
                same = [each for each in due if each.task_id == left.task_id]
                assert all(each.seq < left.seq for each in same if each.state is RunState.RUNNING)

    def _tried_for_room(
        self, short: dict[str, Shortage], before: Counter[str], due: list[Model], claimed: Counter[str]
    ) -> None:
        """Of the tasks that are short of room one run tries; of those for which there was some, as many as is said."""
        now = self.clock.at
        trials = {task_id for task_id, each in short.items() if not each.begun}
        tried = sum(claimed[task_id] for task_id in trials)
        for task_id, each in short.items():
            assert not each.begun or claimed[task_id] <= max(0, each.at_once - each.starting)
        free = not any(short[each].starting or now - MIN_TRY_INTERVAL < short[each].at <= now for each in trials)
        assert tried <= free
        assert all(short[task_id].is_due(now) for task_id in trials if claimed[task_id])
        could = {
            run.task_id
            for run in due
            if run.task_id in trials and short[run.task_id].is_due(now) and before[run.task_id] < LIMITS[run.task_id]
        }
        assert tried or not could or not free or self._running().total() >= GLOBAL

    @precondition(lambda self: self.claims)
    @rule(number=pick, reason=st.sampled_from(["quota", "unschedulable"]), patience=st.none() | st.integers(5, 60))
    def give_back(self, number: int, reason: str, patience: int | None) -> None:
        claim = self.claims[number % len(self.claims)]
        model = self.runs[claim.run.id]
        span = None if patience is None else timedelta(seconds=patience)
        why, lines = Delay(reason=reason, message="full", patience=span), [line("no room")]
        if not self._mine(claim):
            with pytest.raises(LeaseLost):
                self.store.give_back(claim.run.lease, why, lines)
            return
        if model.attempt in model.begun:
            with pytest.raises(Conflict):
                self.store.give_back(claim.run.lease, why, lines)
            return

        run = self.store.give_back(claim.run.lease, why, lines)

        self.touched.add(claim.run.id)
        again = model.tries == reason
        if model.cancel:
            model.move(RunState.CANCELLED)
        elif run.state is RunState.FAILED:
            assert span is not None
            assert self.clock.at - model.queued_at >= span
            model.move(RunState.FAILED)
        else:
            model.kept.remove(model.attempt)
            model.move(RunState.QUEUED)
            model.deferred = reason
            model.events -= 2 if again else 0
            model.lines -= again
        model.lines += 1
        assert model.task_id in {each.task_id for each in self.store.shortages()}

    @rule(worker=workers, most=st.integers(1, 3))
    def adopt(self, worker: str, most: int) -> None:
        lost = [
            run_id
            for run_id, run in sorted(self.runs.items(), key=lambda item: item[1].seq)
            if run.state is RunState.RUNNING and run.lease_until is not None and run.lease_until < self.clock.at
        ]

        claims = self.store.adopt(worker, LEASE, most)

        assert [claim.run.id for claim in claims] == lost[:most]
        for claim in claims:
            model = self._take(claim)
            assert (claim.adopted, claim.run.attempt) == (True, model.attempt)

    @precondition(lambda self: self.claims)
    @rule(number=pick, ok=st.booleans(), again=st.none() | st.integers(0, 20), how=st.none() | hows)
    def finish(self, number: int, ok: bool, again: int | None, how: str | None) -> None:
        claim = self.claims[number % len(self.claims)]
        model = self.runs[claim.run.id]

        def decide(run: Run, outcome: Outcome, now: datetime) -> RetryAt | GiveUp:
            return GiveUp("no") if again is None else RetryAt(now + timedelta(seconds=again))

        outcome = Outcome(ok=ok, reason="ok" if ok else "exit_code", again=True)
        # However often it is told, an attempt began in one way.
        how = None if how is None else model.begun.get(model.attempt, how)
        began = None if how is None else AgentStart(timedelta(seconds=1), how)
        if not self._mine(claim):
            with pytest.raises(LeaseLost):
                self.store.finish(claim.run.lease, outcome, Meter(), 0, None, decide, began=began)
            return
        usage = Usage(fresh=number, output=1)
        meter = Meter(usage=usage, cost=Decimal(number) / 1000, cost_source=CostSource.CLI) if number % 3 else Meter()
        self.store.finish(claim.run.lease, outcome, meter, 0, None, decide, began=began)
        if how is not None:
            model.begun.setdefault(model.attempt, how)

        if model.cancel:
            model.move(RunState.CANCELLED)
        elif ok:
            model.move(RunState.COMPLETED)
        elif again is None:
            model.move(RunState.FAILED)
        else:
            model.move(RunState.QUEUED)
            model.queued_at = self.clock.at
            model.not_before = self.clock.at + timedelta(seconds=again)
        self.touched.add(claim.run.id)

    def _mine(self, claim: Claim) -> bool:
        model = self.runs[claim.run.id]
        return model.state is RunState.RUNNING and model.fence == claim.run.fence

    @precondition(lambda self: self.claims)
    @rule(number=pick, how=hows)
    def begin_agent(self, number: int, how: str) -> None:
        claim = self.claims[number % len(self.claims)]
        model, began = self.runs[claim.run.id], AgentStart(timedelta(seconds=1), how)
        if not self._mine(claim):
            with pytest.raises(LeaseLost):
                self.store.agent_started(claim.run.lease, began).result(10)
            return
        self.store.agent_started(claim.run.lease, began).result(10)

        model.begun.setdefault(model.attempt, how)
        self.touched.add(claim.run.id)

    @precondition(lambda self: self.claims)
    @rule(number=pick, lines=st.integers(0, 3))
    def append(self, number: int, lines: int) -> None:
        claim = self.claims[number % len(self.claims)]
        model = self.runs[claim.run.id]
        if not self._mine(claim):
            with pytest.raises(LeaseLost):
                say(self.store, claim, "late")
            return

        last = say(self.store, claim, *["line"] * lines)

        model.lines += lines
        assert last == model.lines

    @rule(worker=workers)
    def renew(self, worker: str) -> None:
        mine = {run_id: run for run_id, run in self.runs.items() if run.state is RunState.RUNNING and run.owner == worker}

        assert self.store.renew(worker, LEASE) == {run_id: run.cancel for run_id, run in mine.items()}

        for run in mine.values():
            run.lease_until = self.clock.at + LEASE

    @rule(worker=workers)
    def release(self, worker: str) -> None:
        mine = [run for run in self.runs.values() if run.state is RunState.RUNNING and run.owner == worker]

        assert self.store.release(worker) == len(mine)

        for run in mine:
            run.owner, run.lease_until = "", datetime.min.replace(tzinfo=self.clock.at.tzinfo)

    @precondition(lambda self: self.runs)
    @rule(number=pick)
    def cancel(self, number: int) -> None:
        run_id = self._any(number)
        model = self.runs[run_id]
        self.touched.add(run_id)
        if model.state.terminal:
            with pytest.raises(Conflict):
                self.store.cancel(run_id, "eve")
            return
        self.store.cancel(run_id, "eve")

        if model.state is RunState.QUEUED:
            model.move(RunState.CANCELLED)
        else:
            model.cancel = True

    @precondition(lambda self: self.runs)
    @rule(number=pick)
    def retry(self, number: int) -> None:
        run_id = self._any(number)
        model = self.runs[run_id]
        self.touched.add(run_id)
        stands = None if model.key is None else self._stands(model.key)
        if model.state is not RunState.FAILED or stands is not None:
            with pytest.raises(Conflict):
                self.store.retry(run_id, "ann")
            return
        self.store.retry(run_id, "ann")

        model.move(RunState.QUEUED)
        model.queued_at = model.not_before = self.clock.at

    @rule(seconds=st.sampled_from([0.5, 3, 11, 60, 7200, -1, -7200]))
    def move_the_clock(self, seconds: float) -> None:
        self.clock.move(seconds=seconds)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.open()

    @rule()
    def die(self) -> None:
        self.crash()
        # Whatever had happened must be there, not only what the next rules touch.
        self.touched.update(self.runs)

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        StoreMachine.steps += 1
        running = self._running()
        assert running.total() <= GLOBAL
        assert all(count <= LIMITS[task_id] for task_id, count in running.items())
        for run_id in self.touched:
            self._same(run_id)
        self.touched.clear()

    def _same(self, run_id: str) -> None:
        run, model = self.store.run(run_id), self.runs[run_id]
        assert (run.state, run.attempt, run.fence, run.owner) == (model.state, model.attempt, model.fence, model.owner)
        assert (run.cancel_requested, run.ended_at is not None) == (model.cancel, model.state.terminal)
        events = self.store.events(run_id)
        assert [event.seq for event in events] == list(range(1, model.events + 1))
        assert events[0].from_state is None
        assert events[-1].to_state is model.state
        assert all(one.to_state is two.from_state for one, two in pairwise(events))
        assert all((event.from_state, event.to_state) in LEGAL for event in events[1:])
        assert [line.seq for line in self.store.log(run_id)] == list(range(1, model.lines + 1))
        attempts = self.store.attempts(run_id)
        assert [attempt.number for attempt in attempts] == model.kept
        assert {attempt.number: attempt.began for attempt in attempts if attempt.began is not None} == model.begun
        assert all((attempt.began is None) == (attempt.agent_started_at is None) for attempt in attempts)

    def teardown(self) -> None:
        try:
            kept = self.store.runs(RunFilter(), limit=1000).items
            assert {run.id for run in kept} == set(self.runs)
            for run_id in self.runs:
                self._same(run_id)
            placed = Counter(start.how for start in self.store.placed_starts(datetime.min.replace(tzinfo=self.clock.at.tzinfo)))
            begun = Counter(how for run in self.runs.values() for how in run.begun.values() if how != PROCESS)
            assert placed == begun
            fired = Counter(run.slot for run in kept if run.slot is not None)
            assert set(fired.values()) <= {1}
            assert {slot for slot, verdict in self.slots.items() if verdict == "fired"} == set(fired)
            assert totals.stored(self.store) == totals.computed(self.store)
        finally:
            self.store.close()
            self.end()


class SqliteMachine(StoreMachine):
    """On a file; a crash leaves the file and its log as they are."""

    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.file = self.directory / "0.db"

    def open(self) -> Store:
        return sqlite_store.open_store(self.file, clock=self.clock)

    def crash(self) -> None:
        image = self.directory / f"{int(self.file.stem) + 1}.db"
        for ending in ("", "-wal"):
            shutil.copy(f"{self.file}{ending}", f"{image}{ending}")
        self.store.close()
        self.file = image
        self.store = self.open()

    def end(self) -> None:
        shutil.rmtree(self.directory)


class PostgresMachine(StoreMachine):
    """On a server; a crash cuts every connection."""

    server: PostgresServer

    def begin(self) -> None:
        self.lent = ExitStack()
        self.url = self.lent.enter_context(self.server.lent_schema())

    def open(self) -> Store:
        return postgres_store.open_store(self.url, clock=self.clock)

    def end(self) -> None:
        self.lent.close()

    def crash(self) -> None:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'optio'")


@pytest.fixture(autouse=True, scope="module")
def _server(postgres_server: PostgresServer) -> None:
    PostgresMachine.server = postgres_server


def _settings(steps: int) -> settings:
    return settings(max_examples=max(1, steps // 50), stateful_step_count=50, deadline=None, print_blob=True)


TestSqlite = SqliteMachine.TestCase
TestSqlite.settings = _settings(1_500)
TestPostgres = PostgresMachine.TestCase
TestPostgres.settings = _settings(600)


def main() -> None:
    """Any number of steps."""
    steps = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    hypothesis.core.global_force_seed = seed
    with PostgresServer() as server:
        PostgresMachine.server = server
        for machine in (SqliteMachine, PostgresMachine):
            StoreMachine.steps, began = 0, time.monotonic()
            # Hypothesis ends an example early now and then: as many rounds as it takes.
            while StoreMachine.steps < steps:
                run_state_machine_as_test(machine, settings=_settings(min(20_000, steps)))  # type: ignore[no-untyped-call]
                hypothesis.core.global_force_seed += 1
            took = time.monotonic() - began
            print(f"{machine.__name__}: {StoreMachine.steps:,} steps, seed {seed}, {took:.0f} s, no difference", flush=True)


if __name__ == "__main__":
    main()
