"""The store against a small model of itself: any order of what can happen to runs, with a clock that jumps both ways."""

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from optio.errors import Conflict, LeaseLost
from optio.model.retry import Again, GiveUp
from optio.model.run import TRANSITIONS, Meter, Outcome, Run, RunState
from optio.store.base import Claim, RunFilter, Store
from optio.store.sqlite import open_store
from tests.store.build import LEASE, Clock, at_most, fresh, new_run, say, serve, task

GLOBAL = 4
LIMITS = {"t1": 1, "t2": 2, "t3": 3}
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
    events: int = 1
    lines: int = 0

    def due(self, now: datetime) -> bool:
        return self.state is RunState.QUEUED and (self.not_before <= now or self.queued_at > now)

    def move(self, state: RunState) -> None:
        self.state = state
        self.events += 1
        if state is not RunState.RUNNING:
            self.owner = self.lease_until = None
            self.cancel = False


pick = st.integers(0, 10_000)
workers = st.sampled_from(["one", "two"])


class StoreMachine(RuleBasedStateMachine):
    """Every rule does one thing to the store and to the model; the invariant compares them."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.store: Store = open_store(self.directory / "optio.db", clock=self.clock)
        self.runs: dict[str, Model] = {}
        self.claims: list[Claim] = []
        self.touched: set[str] = set()

    @initialize()
    def serve(self) -> None:
        self.tasks = [task(name, f"maxConcurrent: {limit}\n") for name, limit in LIMITS.items()]
        serve(self.store, *self.tasks)

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

    @rule(worker=workers)
    def claim(self, worker: str) -> None:
        due = [run for run in self.runs.values() if run.due(self.clock.at)]

        claims = self.store.claim(worker, LEASE, at_most(GLOBAL))

        for claim in claims:
            model = self._take(claim)
            assert model in due
            model.move(RunState.RUNNING)
            model.attempt += 1
            assert (claim.run.attempt, claim.run.owner, claim.adopted) == (model.attempt, worker, False)
        running = self._running()
        for left in due:
            if left.state is RunState.QUEUED:
                assert running.total() >= GLOBAL or running[left.task_id] >= LIMITS[left.task_id]
                same = [each for each in due if each.task_id == left.task_id]
                assert all(each.seq < left.seq for each in same if each.state is RunState.RUNNING)

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
    @rule(number=pick, ok=st.booleans(), again=st.none() | st.integers(0, 20))
    def finish(self, number: int, ok: bool, again: int | None) -> None:
        claim = self.claims[number % len(self.claims)]
        model = self.runs[claim.run.id]

        def decide(run: Run, outcome: Outcome, now: datetime) -> Again | GiveUp:
            return GiveUp("no") if again is None else Again(now + timedelta(seconds=again))

        outcome = Outcome(ok=ok, reason="ok" if ok else "exit_code", again=True)
        if not self._mine(claim):
            with pytest.raises(LeaseLost):
                self.store.finish(claim.run.id, claim.run.fence, outcome, Meter(), 0, None, decide)
            return
        self.store.finish(claim.run.id, claim.run.fence, outcome, Meter(), 0, None, decide)

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
        if model.state is not RunState.FAILED:
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
        self.store = open_store(self.directory / "optio.db", clock=self.clock)

    @invariant()
    def the_store_is_as_the_model(self) -> None:
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
        assert [attempt.number for attempt in self.store.attempts(run_id)] == list(range(1, model.attempt + 1))

    def teardown(self) -> None:
        try:
            kept = self.store.runs(RunFilter(), limit=1000).items
            assert {run.id for run in kept} == set(self.runs)
            for run_id in self.runs:
                self._same(run_id)
        finally:
            self.store.close()
            shutil.rmtree(self.directory)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=50, stateful_step_count=40, deadline=None, print_blob=True)
