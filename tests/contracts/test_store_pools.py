"""Pools in the store: who wants places, what is said of them, how attempts began, and what arrived."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from optio.errors import LeaseLost
from optio.model.pool import COLD, PROCESS, WARM, Pool
from optio.model.usage import Meter
from optio.store.base import Store
from optio.store.values import AgentStart, Claim, ClaimedAttempt, PlacedStart, PoolReport, RetentionPolicy
from tests.store.build import BAD, LEASE, OK, Clock, at_once, claimed, end, give_up, line, new_run, serve, task

AGO = timedelta(seconds=2)
POOL = Pool(key="a1", tasks=("t", "u"), size=3, ready=2, starting=1, problem="ümlaut: no room")

# However the first word of it comes.
NOTES: dict[str, Callable[[Store, Claim, AgentStart], object]] = {
    "agent_started": lambda store, claim, began: store.agent_started(claim.run.lease, began).result(10),
    "append_log": lambda store, claim, began: store.append_log(claim.run.lease, [line("x")], {}, Meter(), began=began),
    "finish": lambda store, claim, began: store.finish(claim.run.lease, OK, Meter(), 0, None, give_up, began=began),
}


@pytest.mark.parametrize("how", [PROCESS, COLD, WARM])
@pytest.mark.parametrize("note", NOTES)
def test_an_attempt_keeps_how_it_began(store: Store, clock: Clock, note: str, how: str) -> None:
    claim, other = claimed(store), claimed(store)
    clock.move(seconds=5)

    NOTES[note](store, claim, AgentStart(AGO, how))

    (attempt,) = store.attempts(claim.run.id)
    assert (attempt.began, attempt.agent_started_at) == (how, clock.at - AGO)
    assert [(each.began, each.agent_started_at) for each in store.attempts(other.run.id)] == [(None, None)]
    wanted = [] if how == PROCESS else [PlacedStart("job", how, clock.at - AGO, timedelta(seconds=3))]
    assert store.placed_starts(clock.at - timedelta(hours=1)) == wanted


@pytest.mark.parametrize("first", NOTES)
@pytest.mark.parametrize("then", NOTES)
def test_what_is_said_first_of_a_beginning_stands(store: Store, clock: Clock, first: str, then: str) -> None:
    if first == "finish":
        return
    claim = claimed(store)
    NOTES[first](store, claim, AgentStart(AGO, WARM))
    began = clock.at - AGO
    clock.move(seconds=5)

    NOTES[then](store, claim, AgentStart(AGO, COLD))

    (attempt,) = store.attempts(claim.run.id)
    assert (attempt.began, attempt.agent_started_at) == (WARM, began)


def test_each_attempt_of_a_run_keeps_its_own_beginning(store: Store, clock: Clock) -> None:
    claim = claimed(store)
    store.agent_started(claim.run.lease, AgentStart(AGO, WARM)).result(10)
    end(store, claim, BAD, decide=at_once)
    clock.move(seconds=1)
    (again,) = store.claim("w", LEASE, lambda view: [claim.run.id])

    store.finish(again.run.lease, OK, Meter(), 0, None, give_up, began=AgentStart(timedelta(0), COLD))

    assert [attempt.began for attempt in store.attempts(claim.run.id)] == [WARM, COLD]


def test_ends_that_are_written_together_keep_each_its_beginning(store: Store, clock: Clock) -> None:
    claims = [claimed(store) for _ in range(9)]
    clock.move(seconds=5)
    hows = [(COLD, WARM, PROCESS)[place % 3] for place in range(9)]
    engine = store._engine  # type: ignore[attr-defined]
    from optio.store.sql.bulk import run_batch
    from optio.store.sql.claims import Finish

    finishes = [
        Finish(
            lease=claim.run.lease, outcome=OK, meter=Meter(), exit_code=0, signal=None, decide=give_up,
            began=AgentStart(AGO, how),
        )
        for claim, how in zip(claims, hows, strict=True)
    ]  # fmt: skip
    engine.change(lambda tx: run_batch(tx, finishes))

    assert [store.attempts(claim.run.id)[0].began for claim in claims] == hows


def test_a_late_word_of_a_beginning_changes_nothing(store: Store, clock: Clock) -> None:
    claim = claimed(store)
    clock.move(minutes=1)
    store.adopt("two", LEASE, 5)

    for note in NOTES.values():
        with pytest.raises(LeaseLost):
            note(store, claim, AgentStart(AGO, WARM))

    assert [each.began for each in store.attempts(claim.run.id)] == [None]
    assert store.placed_starts(clock.at - timedelta(hours=1)) == []


def test_starts_are_given_newest_first_within_their_span_and_number(store: Store, clock: Clock) -> None:
    began = []
    for number in range(4):
        claim = claimed(store, of=task(f"T{number % 2}"))
        began.append(clock.move(seconds=10))
        store.agent_started(claim.run.lease, AgentStart(timedelta(0), WARM if number else COLD)).result(10)

    found = store.placed_starts(began[0])

    assert [(start.task_id, start.how, start.at) for start in found] == [
        ("t1", WARM, began[3]),
        ("t0", WARM, began[2]),
        ("t1", WARM, began[1]),
    ]
    assert [start.at for start in store.placed_starts(began[0], most=2)] == [began[3], began[2]]


def test_a_clock_that_was_set_back_makes_no_wait_negative(store: Store, clock: Clock) -> None:
    claim = claimed(store)
    clock.move(hours=-1)

    store.agent_started(claim.run.lease, AgentStart(timedelta(0), COLD)).result(10)

    assert [start.waited for start in store.placed_starts(clock.at - timedelta(hours=9))] == [timedelta(0)]


def test_a_deleted_run_leaves_no_beginning(store: Store, clock: Clock) -> None:
    claims = [claimed(store), claimed(store)]
    for claim in claims:
        store.agent_started(claim.run.lease, AgentStart(timedelta(0), COLD)).result(10)
        end(store, claim)
    start = clock.at - timedelta(hours=1)

    store.delete_run(claims[0].run.id)
    assert len(store.placed_starts(start)) == 1

    clock.move(days=2)
    list(store.prune(RetentionPolicy(runs=timedelta(days=1))))
    assert store.placed_starts(start) == []


# Who wants places


def test_tasks_that_want_places_are_given_once_for_each_generation(store: Store) -> None:
    one, two = task("One", "warmPoolSize: 2\nenvironment: {image: a}\n"), task("Two")
    named = task("Named", "warmPoolSize: 1\nparamsSchema: {type: object, properties: {warmPoolSize: {const: 0}}}\n")
    said = task("Said", 'paramsSchema: {type: object, properties: {warmPoolSize: {default: {"warmPoolSize": 5}}}}\n')
    off = task("Idle", "warmPoolSize: 4\nenabled: false\n")
    serve(store, one, two, named, said, off)

    found = store.pooled_tasks()

    assert found is not None
    assert found.tasks == [off, named, one]
    assert store.pooled_tasks(found.generation) is None
    serve(store, two)
    later = store.pooled_tasks(found.generation)
    assert later is not None
    assert (later.tasks, later.generation > found.generation) == ([], True)


def test_a_definition_that_cannot_be_read_takes_no_other_its_places(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    one, newer = task("One", "warmPoolSize: 2\n"), task("Newer", "warmPoolSize: 3\n")
    serve(store, one, newer)
    sql = 'UPDATE definitions SET document = REPLACE(document, \'"warmPoolSize":3\', \'"warmPoolSize":3,"hue":1\')'
    store._engine.change(lambda tx: tx.run(sql))  # type: ignore[attr-defined]

    found = store.pooled_tasks()

    assert found is not None
    assert found.tasks == [one]
    assert "cannot be read" in caplog.text


def test_an_empty_store_wants_no_places(store: Store) -> None:
    found = store.pooled_tasks()

    assert found is not None
    assert found.tasks == []


# What is said of them


def test_a_report_takes_the_place_of_the_one_before(store: Store, clock: Clock) -> None:
    store.keep_pools("here", [POOL, POOL])
    store.keep_pools("there", [])
    later = clock.move(seconds=3)

    store.keep_pools("here", [POOL])

    assert store.pool_reports() == [
        PoolReport(place="here", at=later, pools=(POOL,)),
        PoolReport(place="there", at=later - timedelta(seconds=3), pools=()),
    ]


def test_a_place_that_is_silent_for_days_is_forgotten(store: Store, clock: Clock) -> None:
    store.keep_pools("gone", [POOL])
    clock.move(days=2)
    store.keep_pools("here", [])

    assert [report.place for report in store.pool_reports()] == ["here"]


# What arrived


def test_every_attempt_that_was_claimed_is_an_arrival(store: Store, clock: Clock) -> None:
    early = claimed(store)
    end(store, early)
    since = clock.at
    clock.move(minutes=1)
    ended = claimed(store, of=task("Ended"))
    clock.move(seconds=2)
    store.agent_started(ended.run.lease, AgentStart(timedelta(0))).result(10)
    clock.move(seconds=3)
    end(store, ended)
    again = claimed(store, of=task("Again"))
    end(store, again, BAD, decide=at_once)  # waits for another try
    clock.move(seconds=1)
    store.accept(new_run(task("Timed"), "timed", trigger="schedule")).result(10)
    store.claim("w", LEASE, lambda view: ["timed"])
    store.accept(new_run()).result(10)  # nobody has claimed it

    found = store.arrivals(since)

    start = since + timedelta(minutes=1)
    assert found == [
        ClaimedAttempt("timed", "schedule", start + timedelta(seconds=6), None),
        ClaimedAttempt("again", "manual", start + timedelta(seconds=5), timedelta(0)),
        ClaimedAttempt("ended", "manual", start, timedelta(seconds=3)),
    ]
    assert store.arrivals(since, task_id="again") == found[1:2]
    assert store.arrivals(since, task_id="none") == []
    assert store.arrivals(since, most=2) == found[:2]
