"""What every store promises when several processes do the same at the same moment. Each store here is one process."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import pytest

from optio.errors import Conflict, LeaseLost, NotFound
from optio.model.registry import Registry
from optio.model.run import Lease, Outcome, Run, RunState
from optio.model.usage import Meter
from optio.store.base import Store
from optio.store.values import Claim, Firing, IdempotencyKey, RunFilter, ScheduleRow, SlotVerdict
from tests.store.build import (
    BAD,
    LEASE,
    OK,
    START,
    Clock,
    at_most,
    claimed,
    delivery,
    end,
    everything,
    line,
    new_run,
    queued,
    say,
    serve,
    task,
)

T = TypeVar("T")
Stores = Callable[[], Store]


class Race:
    """Lets calls go at the same moment, each on a thread of its own, again and again."""

    def __init__(self, width: int) -> None:
        self._pool = ThreadPoolExecutor(width)
        self._gate = threading.Barrier(width)

    def __call__(self, *calls: Callable[[], Any]) -> list[Any]:
        """What each gave or raised, in order."""
        return [future.result(30) for future in [self._pool.submit(self._one, call) for call in calls]]

    def swept(self, number: int, one: Callable[[], Any], other: Callable[[], Any]) -> list[Any]:
        """Two calls of which, from number to number, now the one and now the other is late, by up to 5 ms: calls take unlike
        times to get to where they meet, and who is first there must not be the same for ever."""
        lag = (number % 11 - 5) / 1000
        return self(partial(self._late, -lag, one), partial(self._late, lag, other))

    @staticmethod
    def _late(seconds: float, call: Callable[[], Any]) -> Any:
        time.sleep(max(seconds, 0))
        return call()

    def _one(self, call: Callable[[], Any]) -> Any:
        self._gate.wait(30)
        try:
            return call()
        except (Conflict, LeaseLost, NotFound) as err:
            return err

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture
def race() -> Any:
    made: list[Race] = []

    def make(width: int) -> Race:
        made.append(Race(width))
        return made[-1]

    yield make
    for each in made:
        each.close()


# Accepting

KEYS: dict[str, Callable[[str], dict[str, Any]]] = {
    "delivery": lambda key: {"delivery": delivery(key)},
    "once": lambda key: {"once": IdempotencyKey("runs:job", key, "sha")},
    "both": lambda key: {"delivery": delivery(key), "once": IdempotencyKey("runs:job", key, "sha")},
}


@pytest.mark.parametrize("kind", KEYS)
def test_hundreds_of_simultaneous_requests_with_one_key_start_one_run(stores: Stores, kind: str) -> None:
    opened = [stores() for _ in range(4)]
    gate = threading.Barrier(8)

    def ask(place: int) -> list[Future[Any]]:
        gate.wait(20)
        return [opened[place % 4].accept(new_run(), **KEYS[kind]("same")) for _ in range(40)]

    with ThreadPoolExecutor(8) as pool:
        answers = [future.result(30) for futures in pool.map(ask, range(8)) for future in futures]

    assert len(answers) == 320
    assert len({answer.run_id for answer in answers}) == 1
    assert sum(answer.first for answer in answers) == 1
    assert [run.id for run in opened[0].runs(RunFilter()).items] == [answers[0].run_id]
    assert len(opened[0].deliveries().items) == (0 if kind == "once" else 1)


@pytest.mark.parametrize("kind", KEYS)
def test_many_keys_in_another_order_each_start_one_run_for_each_key(stores: Stores, kind: str) -> None:
    """Crosswise waits: what two processes take in opposite order."""
    opened = [stores() for _ in range(3)]
    serve(opened[0], task())
    keys = [f"k-{number}" for number in range(60)]

    def ask(place: int) -> dict[str, str]:
        mine = random.Random(place).sample(keys, len(keys))
        futures = {key: opened[place % 3].accept(new_run(), **KEYS[kind](key)) for key in mine}
        return {key: str(future.result(30).run_id) for key, future in futures.items()}

    with ThreadPoolExecutor(6) as pool:
        first, *others = pool.map(ask, range(6))

    assert all(other == first for other in others)
    assert {run.id for run in opened[0].runs(RunFilter(), limit=100).items} == set(first.values())


def test_of_two_bodies_under_one_key_one_is_accepted_and_all_of_the_other_refused(stores: Stores) -> None:
    opened = [stores() for _ in range(3)]

    futures = [
        opened[number % 3].accept(new_run(), delivery=delivery("same", b"a" if number % 2 else b"b")) for number in range(100)
    ]
    answers = [future.exception(30) for future in futures]

    refused = {number % 2 for number, answer in enumerate(answers) if isinstance(answer, Conflict)}
    assert [type(answer) for answer in answers if answer is not None] == [Conflict] * 50
    assert len(refused) == 1
    assert len(opened[0].runs(RunFilter()).items) == 1


# Claims


def test_four_workers_never_exceed_a_limit_at_any_instant_and_start_nothing_twice(stores: Stores) -> None:
    limits, most = {"t0": 1, "t1": 2, "t2": 5}, 6
    workers = [stores() for _ in range(4)]
    sampler = stores()
    tasks = [task(f"T{place}", f"maxConcurrent: {limit}\n") for place, limit in enumerate(limits.values())]
    serve(workers[0], *tasks)
    ids = [future.result(20).run_id for future in [workers[n % 4].accept(new_run(tasks[n % 3])) for n in range(150)]]
    over = threading.Event()
    samples: list[Counter[str]] = []
    started: list[str] = []

    def sample() -> None:
        while not over.is_set():
            samples.append(Counter(sampler.admission().running))

    def work(place: int) -> None:
        store = workers[place]
        mine: list[Claim] = []
        while not over.is_set():
            new = store.claim(f"w{place}", LEASE, at_most(most))
            started.extend(claim.run.id for claim in new)
            mine += new
            if mine:
                end(store, mine.pop(0))
            elif not store.admission().waiting:
                return

    with ThreadPoolExecutor(5) as pool:
        sampling = pool.submit(sample)
        working = [pool.submit(work, place) for place in range(4)]
        try:
            for future in working:
                future.result(60)
        finally:
            over.set()
        sampling.result(20)

    assert sorted(started) == sorted(map(str, ids))
    assert len(samples) > 20
    assert max(sum(sample.values()) for sample in samples) <= most
    assert all(sample[name] <= limit for sample in samples for name, limit in limits.items())
    assert {run.state for run in sampler.runs(RunFilter(), limit=200).items} == {RunState.COMPLETED}
    assert {run.attempt for run in sampler.runs(RunFilter(), limit=200).items} == {1}


def test_one_run_is_claimed_by_one_of_many(stores: Stores, race: Callable[[int], Race]) -> None:
    opened = [stores() for _ in range(4)]
    run_at_once = race(4)
    for _ in range(30):
        run_id = queued(opened[0])
        claims = [
            claim
            for given in run_at_once(*[partial(store.claim, "w", LEASE, everything) for store in opened])
            for claim in given
        ]

        assert [claim.run.id for claim in claims] == [run_id]
        end(opened[0], claims[0])


def story(store: Store, run_id: str) -> list[str]:
    """The states a run went through; each follows from the one before."""
    events = store.events(run_id)
    assert [event.from_state for event in events[1:]] == [event.to_state for event in events[:-1]]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [event.to_state.value for event in events]


def test_a_cancel_that_meets_a_claim_stops_the_run_before_or_marks_it_after(
    stores: Stores, race: Callable[[int], Race]
) -> None:
    worker, server = stores(), stores()
    together = race(2)
    kinds: Counter[str] = Counter()
    for number in range(66):
        run_id = queued(server)
        claims, cancelled = together.swept(
            number, lambda: worker.claim("w", LEASE, everything), partial(server.cancel, run_id, "eve")
        )

        assert isinstance(cancelled, Run)
        if claims:
            assert (cancelled.state, cancelled.cancel_requested) == (RunState.RUNNING, True)
            assert worker.renew("w", LEASE) == {run_id: True}
            assert end(worker, claims[0]).state is RunState.CANCELLED
            assert story(server, run_id) == ["queued", "running", "cancelled"]
        else:
            assert cancelled.state is RunState.CANCELLED
            assert story(server, run_id) == ["queued", "cancelled"]
        kinds["claimed" if claims else "not claimed"] += 1
    # Both happen, or this was no race.
    assert len(kinds) == 2, kinds


def test_a_cancel_that_meets_the_end_has_one_outcome_and_its_answer_tells_which(
    stores: Stores, race: Callable[[int], Race]
) -> None:
    worker, server = stores(), stores()
    together = race(2)
    kinds: Counter[str] = Counter()
    for number in range(110):
        claim = claimed(worker)
        run_id = claim.run.id
        outcome: Outcome = OK if number % 2 else BAD
        ended, cancelled = together.swept(number, partial(end, worker, claim, outcome), partial(server.cancel, run_id, "eve"))

        assert isinstance(ended, Run)
        final = server.run(run_id)
        assert final == ended
        if isinstance(cancelled, Conflict):
            assert final.state is (RunState.COMPLETED if outcome.ok else RunState.FAILED)
            assert f"the run is {final.state} already" in str(cancelled)
        else:
            assert cancelled.cancel_requested
            assert (final.state, final.reason) == (RunState.CANCELLED, "cancelled")
        assert story(server, run_id) == ["queued", "running", final.state.value]
        kinds["too late" if isinstance(cancelled, Conflict) else "in time"] += 1
    assert len(kinds) == 2, kinds


def test_an_adoption_that_meets_the_end_leaves_the_run_to_one_of_both(
    stores: Stores, race: Callable[[int], Race], clock: Clock
) -> None:
    old, new = stores(), stores()
    together = race(2)
    kinds: Counter[str] = Counter()
    for number in range(60):
        claim = claimed(old, "old")
        clock.move(seconds=60)
        ended, adopted = together.swept(number, partial(end, old, claim), lambda: new.adopt("new", LEASE, 10))

        if isinstance(ended, LeaseLost):
            (taken,) = adopted
            assert (taken.run.lease, taken.adopted) == (Lease(claim.run.id, claim.run.fence + 1), True)
            assert new.run(claim.run.id).state is RunState.RUNNING
            end(new, taken)
        else:
            assert adopted == []
        assert story(new, claim.run.id) == ["queued", "running", "completed"]
        assert len(new.attempts(claim.run.id)) == 1
        kinds["adopted" if adopted else "ended"] += 1
    assert len(kinds) == 2, kinds


def test_an_adoption_that_meets_a_renewal_leaves_the_run_to_one_of_both(
    stores: Stores, race: Callable[[int], Race], clock: Clock
) -> None:
    old, new = stores(), stores()
    together = race(2)
    kinds: Counter[str] = Counter()
    for number in range(60):
        claim = claimed(old, "old")
        run_id = claim.run.id
        clock.move(seconds=60)
        renewed, adopted = together.swept(number, lambda: old.renew("old", LEASE), lambda: new.adopt("new", LEASE, 10))

        owner = "new" if adopted else "old"
        assert new.run(run_id).owner == owner
        assert (run_id in renewed) is (owner == "old")
        if adopted:
            with pytest.raises(LeaseLost):
                say(old, claim, "late")
            end(new, adopted[0])
        else:
            end(old, claim)
        kinds[owner] += 1
    assert len(kinds) == 2, kinds


def test_a_run_whose_lease_is_over_is_adopted_by_one_of_many(stores: Stores, race: Callable[[int], Race], clock: Clock) -> None:
    opened = [stores() for _ in range(3)]
    together = race(3)
    for _ in range(20):
        claims = [claimed(opened[0], "old") for _ in range(3)]
        clock.move(seconds=60)
        taken = [
            claim
            for given in together(*[partial(store.adopt, f"w{number}", LEASE, 10) for number, store in enumerate(opened)])
            for claim in given
        ]

        assert sorted(claim.run.id for claim in taken) == sorted(claim.run.id for claim in claims)
        for claim in taken:
            end(opened[0], claim)


def test_a_retry_by_hand_that_comes_twice_queues_the_run_once(stores: Stores, race: Callable[[int], Race]) -> None:
    one, two = stores(), stores()
    together = race(2)
    for _ in range(30):
        claim = claimed(one)
        end(one, claim, BAD)
        answers = together(*[partial(store.retry, claim.run.id, "eve") for store in (one, two)])

        assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "Run"]
        assert story(one, claim.run.id) == ["queued", "running", "failed", "queued"]
        one.cancel(claim.run.id, "eve")


def test_lines_that_are_sent_again_after_an_unknown_commit_are_kept_once(store: Store) -> None:
    claim = claimed(store)
    run = claim.run
    assert claim.last_line == 0

    def append(*texts: str, after: int) -> int:
        lines = [line(text) for text in texts]
        return store.append_log(run.lease, lines, {"stdout": after}, Meter(), after=after)

    first = [append("a", "b", after=0) for _ in range(2)]
    second = [append("c", after=2) for _ in range(3)]
    without = append(after=3)

    assert (first, second, without) == ([2, 2], [3, 3, 3], 3)
    assert [each.data for each in store.log(run.id)] == [b"a", b"b", b"c"]
    clock_end = store.release("w")
    (adopted,) = store.adopt("x", LEASE, 1)
    assert (clock_end, adopted.last_line) == (1, 3)


# Schedules and trees


def test_a_slot_that_three_schedulers_fire_starts_one_run(stores: Stores, race: Callable[[int], Race]) -> None:
    opened = [stores() for _ in range(3)]
    together = race(3)
    job = task()
    serve(opened[0], job)
    opened[0].change_schedules([ScheduleRow(task_id="job", fingerprint="* * * * * UTC", next_fire=START)], [])
    for minute in range(30):
        slot = START + timedelta(minutes=minute)

        def fire(store: Store, slot: Any = slot) -> list[str]:
            run = new_run(job, trigger="schedule", slot=slot)
            verdicts: Sequence[SlotVerdict] = [SlotVerdict(slot=slot, verdict="fired")]
            return store.fire(
                Firing(task_id="job", digest=job.digest, verdicts=verdicts, runs=[run], next_fire=slot + timedelta(minutes=1))
            ).result(20)

        started = together(*[partial(fire, store) for store in opened])

        assert sorted(map(len, started)) == [0, 0, 1]
    assert len(opened[0].runs(RunFilter(), limit=100).items) == 30


def test_trees_that_are_served_at_the_same_moment_leave_one_whole_tree(stores: Stores, race: Callable[[int], Race]) -> None:
    opened = [stores() for _ in range(3)]
    together = race(3)
    trees = [Registry.of({each.id: each for each in [task(f"T{n}") for n in range(place, place + 4)]}) for place in range(3)]
    for _ in range(15):
        together(*[partial(store.activate, tree, None) for store, tree in zip(opened, trees, strict=True)])

        newest = opened[0].generation()
        assert newest is not None
        assert newest.digest in {tree.digest for tree in trees}
        served = opened[0]._engine.peek(lambda tx: tx.all("SELECT task_id, digest FROM tasks"))  # type: ignore[attr-defined]
        assert {row["task_id"]: row["digest"] for row in served} == dict(newest.tasks)
