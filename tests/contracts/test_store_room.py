"""What every store promises of runs that find no room where their agents are to run: they wait, and nothing is used up."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from optio.errors import LeaseLost
from optio.model.pool import COLD, PROCESS, StartKind
from optio.model.retry import RetryAt
from optio.model.room import DELAY_AFTER_RUN_END, FIRST_PAUSE, SECRET_SOURCE, WHOLE_PLACE, Delay
from optio.model.run import Outcome, Run, RunState
from optio.model.usage import Meter
from optio.store.base import Store
from optio.store.values import AgentStart, Claim, RunFilter
from tests.store.build import LEASE, OK, Clock, at_most, at_once, claimed, end, line, new_run, queued, say, serve, task

FULL = Delay(reason="quota", message="the namespace's quota is full")
CLOSED = Delay(reason="access", message="the cluster refuses the worker's account")
SEALED = Delay(reason=SECRET_SOURCE, message="the vault is sealed")
NEVER = Delay(reason="unschedulable", message="no node can take the pod", patience=timedelta(minutes=5))
PLACE = "kubernetes/uid/optio"


def claims(store: Store, most: int = 9, place: str = PLACE) -> list[Claim]:
    return store.claim("w", LEASE, at_most(most), place=place, reason="starting")


def one(store: Store) -> Claim:
    (claim,) = claims(store)
    return claim


def give_back(store: Store, claim: Claim, why: Delay = FULL) -> Run:
    return store.give_back(claim.run.lease, why, [line(why.message)])


def begin(store: Store, claim: Claim) -> None:
    store.agent_started(claim.run.lease, AgentStart(timedelta(0), COLD)).result(10)


def test_a_run_that_is_given_back_is_queued_as_before_and_nothing_is_used_up(store: Store, clock: Clock) -> None:
    serve(store, task("Job", "maxRetries: 0\nstartLimit: {count: 1, per: 1h}\n"))
    run_id = queued(store, task("Job", "maxRetries: 0\nstartLimit: {count: 1, per: 1h}\n"))
    before = store.run(run_id)
    clock.move(seconds=1)
    claim = one(store)
    clock.move(seconds=1)

    given = give_back(store, claim)

    run = store.run(run_id)
    assert given == run
    assert (run.state, run.reason, run.message) == (RunState.QUEUED, "quota", FULL.message)
    assert (run.retries, run.infrastructure_retries, run.owner, run.lease_until) == (0, 0, None, None)
    assert (run.queued_at, run.not_before, run.started_at) == (before.queued_at, before.not_before, None)
    assert store.attempts(run_id) == []
    assert [event.reason for event in store.events(run_id)] == ["manual", "starting", "quota"]
    assert [each.data for each in store.log(run_id)] == [FULL.message.encode()]
    clock.move(seconds=60)
    assert one(store).run.attempt == 2  # and the start limit has room for it


def test_an_older_fence_gives_nothing_back(store: Store, clock: Clock) -> None:
    queued(store)
    claim = one(store)
    clock.move(seconds=11)
    store.adopt("other", LEASE, 1, place=PLACE)

    with pytest.raises(LeaseLost):
        give_back(store, claim)
    with pytest.raises(LeaseLost):
        store.explain(claim.run.lease, FULL, [])

    assert store.run(claim.run.id).owner == "other"
    assert store.shortages() == []


def test_why_an_agent_has_not_begun_stands_on_the_run_until_it_does(store: Store, clock: Clock) -> None:
    queued(store)
    claim = one(store)
    assert claim.run.reason == "starting"

    cursor = store.explain(claim.run.lease, FULL, [line("no room")])

    run = store.run(claim.run.id)
    assert (cursor, run.state, run.reason, run.message) == (1, RunState.RUNNING, "quota", FULL.message)
    begin(store, claim)
    run = store.run(claim.run.id)
    assert (run.reason, run.message) == ("started", "")
    assert [event.reason for event in store.events(run.id)] == ["manual", "starting", "started"]


def test_a_reason_never_hides_that_the_runs_end_was_asked_for(store: Store) -> None:
    queued(store)
    claim = one(store)
    store.cancel(claim.run.id, "ann")

    store.explain(claim.run.lease, FULL, [])
    begin(store, claim)

    assert store.run(claim.run.id).reason == "cancelling"


def test_one_run_tries_while_the_others_wait_and_other_tasks_go_on(store: Store, clock: Clock) -> None:
    short, free = task("Short", "maxConcurrent: 9\n"), task("Free")
    serve(store, short, free)
    first, second = queued(store, short), queued(store, short)
    for claim in claims(store):
        clock.move(seconds=1)
        give_back(store, claim)

    other = queued(store, free)
    assert [claim.run.id for claim in claims(store)] == [other]
    assert store.next_due() == FIRST_PAUSE - timedelta(seconds=1)

    clock.move(seconds=4)
    (trial,) = claims(store)
    assert (trial.run.id, trial.tries, trial.deferred) == (first, True, "quota")
    assert claims(store) == []
    begin(store, trial)
    assert [claim.run.id for claim in claims(store)] == [second]


def test_tries_come_less_often_and_leave_one_event_however_many_they_are(store: Store, clock: Clock) -> None:
    run_id = queued(store)
    pauses = []
    for _ in range(7):
        clock.move(seconds=1)
        give_back(store, one(store))
        (shortage,) = store.shortages()
        pauses.append((shortage.due - clock.at).total_seconds())
        clock.at = shortage.due

    assert pauses == [5, 10, 20, 30, 30, 30, 30]
    assert [event.reason for event in store.events(run_id)] == ["manual", "starting", "quota"]
    assert [event.seq for event in store.events(run_id)] == [1, 2, 3]
    assert (len(store.log(run_id)), store.attempts(run_id), store.run(run_id).attempt) == (1, [], 7)
    last = one(store)
    end(store, last)
    assert [event.reason for event in store.events(run_id)] == ["manual", "starting", "quota", "starting", "ok"]
    assert [attempt.number for attempt in store.attempts(run_id)] == [8]


def test_a_try_after_an_attempt_that_failed_for_the_same_reason_has_an_event_of_its_own(store: Store, clock: Clock) -> None:
    run_id = queued(store)
    failed = Outcome(ok=False, reason=FULL.reason, again=True)
    end(store, one(store), failed, decide=at_once)
    clock.move(seconds=1)

    give_back(store, one(store))

    assert [event.reason for event in store.events(run_id)] == ["manual", "starting", "quota", "starting", "quota"]


def test_the_end_of_a_run_lets_the_next_try_sooner(store: Store, clock: Clock) -> None:
    serve(store, task("Job", "maxConcurrent: 9\n"))
    queued(store), queued(store)
    running, refused = claims(store)
    begin(store, running)
    clock.move(seconds=1)
    give_back(store, refused)
    for _ in range(3):
        clock.at = store.shortages()[0].due
        give_back(store, one(store))

    clock.move(seconds=3)
    end(store, running)
    assert claims(store) == []
    assert store.next_due() == DELAY_AFTER_RUN_END
    clock.move(seconds=2)
    assert [claim.run.id for claim in claims(store)] == [refused.run.id]


def test_a_run_without_hope_ends_when_it_has_no_more_patience_and_holds_up_nobody_else(store: Store, clock: Clock) -> None:
    huge, small = task("Huge", "maxRetries: 0\n"), task("Small")
    serve(store, huge, small)
    run_id = queued(store, huge)
    began = clock.at
    while store.run(run_id).state is not RunState.FAILED:
        clock.move(seconds=1)
        for claim in claims(store):
            clock.move(seconds=15)
            give_back(store, claim, NEVER)
        queued(store, small)
        (other,) = claims(store)
        assert other.run.task_id == "small"
        end(store, other)
        assert clock.at - began < timedelta(minutes=6)

    run = store.run(run_id)
    assert (run.reason, run.message) == ("unschedulable", f"{NEVER.message} (waited for 5m)")
    assert clock.at - began >= timedelta(minutes=5)
    assert run.retries == run.infrastructure_retries == 0


def test_a_run_that_waits_for_room_can_be_cancelled_and_one_that_is_given_back_is(store: Store, clock: Clock) -> None:
    waiting = queued(store)
    give_back(store, one(store))
    assert store.cancel(waiting, "ann").state is RunState.CANCELLED

    clock.move(seconds=60)
    queued(store)
    claim = one(store)
    store.cancel(claim.run.id, "ann")
    assert give_back(store, claim).state is RunState.CANCELLED


def test_a_try_whose_worker_died_is_tried_again_by_another(store: Store, clock: Clock) -> None:
    run_id = queued(store)
    clock.move(seconds=1)
    give_back(store, one(store))
    clock.move(seconds=6)
    one(store)
    clock.move(seconds=11)

    (adopted,) = store.adopt("other", LEASE, 1, place=PLACE)
    lost = Outcome(ok=False, reason="lost", again=True, infrastructure=True)
    end(store, adopted, lost, decide=lambda run, outcome, now: RetryAt(now))

    again = one(store)
    assert (again.run.id, again.run.attempt, again.tries, again.deferred) == (run_id, 3, True, "")
    begin(store, again)
    assert end(store, again).state is RunState.COMPLETED
    assert [attempt.number for attempt in store.attempts(run_id)] == [2, 3]


def test_a_run_whose_secrets_cannot_be_read_waits_without_end_and_for_no_other_run(store: Store, clock: Clock) -> None:
    short, free = task("Short"), task("Free")
    serve(store, short, free)
    run_id, other = queued(store, short), queued(store, free)
    ended, refused = sorted(claims(store), key=lambda claim: claim.run.id == run_id)
    for _ in range(20):
        assert give_back(store, refused, Delay(reason=SECRET_SOURCE, message="away")).state is RunState.QUEUED
        clock.move(seconds=60)
        (refused,) = claims(store)
    give_back(store, refused, Delay(reason=SECRET_SOURCE, message="away"))
    begin(store, ended)
    end(store, ended)

    clock.move(seconds=29)
    assert (ended.run.id, claims(store)) == (other, [])
    clock.move(seconds=1)
    assert one(store).run.id == run_id


@pytest.mark.parametrize("how", [PROCESS, COLD])
def test_one_run_tries_a_place_that_refuses_all_and_every_task_follows_when_it_begins(
    store: Store, clock: Clock, how: StartKind
) -> None:
    tasks = [task(f"T{n}", "maxConcurrent: 9\n") for n in range(3)]
    serve(store, *tasks)
    for each in tasks * 3:
        queued(store, each)
    for claim in claims(store, 99):
        clock.move(seconds=0.01)
        assert give_back(store, claim, CLOSED).state is RunState.QUEUED
    pauses = []
    for _ in range(7):
        (shortage,) = store.shortages()
        assert (shortage.task_id, claims(store)) == (WHOLE_PLACE, [])
        pauses.append((shortage.due - shortage.at).total_seconds())
        clock.at = shortage.due
        trial = one(store)
        assert (trial.tries, claims(store)) == (True, [])
        clock.move(seconds=0.01)
        give_back(store, trial, CLOSED)
    clock.at = store.shortages()[0].due
    trial = one(store)
    queued(store, task("New"))
    assert claims(store) == []

    store.agent_started(trial.run.lease, AgentStart(timedelta(0), how, tried=True)).result(10)

    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert (store.shortages(), len(claims(store, 99))) == ([], 9)
    assert {run.reason for run in store.runs(RunFilter()).items} <= {"starting", "started"}


def test_a_place_that_has_no_room_for_the_run_that_tries_refuses_the_others_no_longer(store: Store, clock: Clock) -> None:
    serve(store, task("One"), task("Two"))
    queued(store, task("One")), queued(store, task("Two"))
    for claim in claims(store):
        clock.move(seconds=0.1)
        give_back(store, claim, CLOSED)
    clock.move(seconds=2)
    trial = one(store)
    clock.move(seconds=0.1)
    give_back(store, trial, FULL)

    assert [(each.task_id, each.reason) for each in store.shortages()] == [(trial.run.task_id, "quota")]
    assert one(store).run.task_id != trial.run.task_id


def test_what_was_refused_to_several_tasks_for_one_reason_is_over_for_all_when_an_agent_of_one_begins(
    store: Store, clock: Clock
) -> None:
    tasks = [task(name, "maxConcurrent: 9\n") for name in ("One", "Two", "Else")]
    serve(store, *tasks)
    for each in tasks:
        queued(store, each), queued(store, each)
    for claim in claims(store):
        clock.move(seconds=0.1)
        give_back(store, claim, NEVER if claim.run.task_id == "else" else SEALED)
    clock.move(seconds=5)
    trial = one(store)

    begin(store, trial)

    assert trial.run.task_id != "else"
    assert [each.task_id for each in store.shortages()] == ["else"]
    assert len(claims(store)) >= 3


@pytest.mark.parametrize("how", [PROCESS, COLD])
def test_agents_that_began_end_a_shortage_however_they_run(store: Store, clock: Clock, how: StartKind) -> None:
    serve(store, task("Job", "maxConcurrent: 99\n"))
    for _ in range(8):
        queued(store)
    refused, *others = claims(store, 2)
    give_back(store, refused)
    for claim in others:
        store.drop(claim.run.lease)
    clock.move(seconds=60)

    while store.shortages():
        clock.move(seconds=1)
        for claim in claims(store, 99):
            assert claim.tries
            store.agent_started(claim.run.lease, AgentStart(timedelta(0), how, tried=True)).result(10)

    assert store.shortages() == []


def test_a_shortage_is_one_of_its_place_alone(store: Store, clock: Clock) -> None:
    run_id = queued(store)
    give_back(store, one(store))

    assert [claim.run.id for claim in claims(store, place="machine/boot/1")] == [run_id]


def test_a_task_that_has_begun_enough_runs_is_short_of_room_no_more(store: Store, clock: Clock) -> None:
    serve(store, task("Job", "maxConcurrent: 99\n"))
    for _ in range(40):
        queued(store)
    for claim in claims(store, 3):
        clock.move(seconds=1)
        give_back(store, claim)
    clock.move(seconds=60)
    counts = []
    while store.shortages():
        clock.move(seconds=1)
        found = claims(store, 99)
        counts.append(len(found))
        for claim in found:
            begin(store, claim)

    assert counts == [1, 1, 2, 8]  # after four that began there may be eight at once


def test_runs_that_were_claimed_together_find_no_room_together(store: Store, clock: Clock) -> None:
    serve(store, task("Job", "maxConcurrent: 9\n"))
    for _ in range(5):
        queued(store)
    for claim in claims(store):
        clock.move(seconds=0.01)
        give_back(store, claim)

    (shortage,) = store.shortages()
    assert shortage.due - shortage.at == FIRST_PAUSE
    assert {run.state for run in store.runs(RunFilter()).items} == {RunState.QUEUED}


def test_a_run_that_is_given_back_after_others_of_it_ended_keeps_what_they_used(store: Store, clock: Clock) -> None:
    claim = claimed(store)
    failed = Outcome(ok=False, reason="exit_code", again=True)
    end(store, claim, failed, Meter(tool_calls=3), decide=lambda run, outcome, now: RetryAt(now))
    clock.move(seconds=1)
    first = store.run(claim.run.id).started_at
    give_back(store, one(store))
    clock.move(seconds=6)

    again = one(store)
    say(store, again, "at last")
    run = end(store, again, OK, Meter(tool_calls=2))

    assert (run.meter.tool_calls, run.retries, run.started_at) == (5, 1, first)
    assert [attempt.number for attempt in store.attempts(run.id)] == [1, 3]


def test_a_queued_run_that_waits_for_room_keeps_its_business_key(store: Store, clock: Clock) -> None:
    keyed = task("Job", 'paramsSchema: {type: object, properties: {A: {type: integer}}}\ndedupe: {key: "{{A}}"}\n')
    serve(store, keyed)
    first = new_run(keyed, dedupe_key="a")
    store.accept(first).result(10)
    give_back(store, one(store))

    accepted = store.accept(new_run(keyed, dedupe_key="a")).result(10)

    assert (accepted.run_id, accepted.duplicate) == (first.id, True)


def test_a_process_that_begins_costs_no_look_at_shortages(store: Store, clock: Clock) -> None:
    serve(store, task("Job", "maxConcurrent: 9\n"))
    queued(store), queued(store)
    give_back(store, claims(store)[0])
    clock.move(seconds=60)
    trial = one(store)

    store.agent_started(trial.run.lease, AgentStart(timedelta(0), PROCESS)).result(10)

    assert [shortage.begun for shortage in store.shortages()] == [0]


def test_claims_of_many_workers_never_let_two_tries_run(stores: Callable[[], Store], clock: Clock) -> None:
    store = stores()
    tasks = [task(f"T{n}", "maxConcurrent: 9\n") for n in range(4)]
    serve(store, *tasks)
    for each in tasks * 3:
        queued(store, each)
    for claim in claims(store, 99):
        clock.move(seconds=0.01)
        give_back(store, claim)
    clock.move(seconds=30)

    found = [claim for worker in (stores(), stores(), store) for claim in claims(worker, 99)]

    assert len(found) == 1


def test_one_that_tries_after_an_end_tries_for_all_that_wait_for_the_same(store: Store, clock: Clock) -> None:
    tasks = [task(name, "maxConcurrent: 9\n") for name in ("Busy", "One", "Two")]
    serve(store, *tasks)
    queued(store, tasks[0])
    busy = one(store)
    begin(store, busy)
    for each in tasks[1:]:
        queued(store, each)
    for _ in range(4):
        clock.move(seconds=60)
        while found := claims(store):
            for claim in found:
                clock.move(seconds=0.1)
                give_back(store, claim)
            clock.move(seconds=2)

    end(store, busy)
    clock.move(seconds=3)
    give_back(store, one(store))
    clock.move(seconds=3)

    assert claims(store) == []
    assert len([each for each in store.shortages() if each.is_due(clock.at)]) == 0


def test_two_tries_of_different_tasks_are_some_time_apart(store: Store, clock: Clock) -> None:
    tasks = [task(name) for name in ("One", "Two")]
    serve(store, *tasks)
    for each in tasks:
        queued(store, each)
    for claim in claims(store):
        clock.move(seconds=0.1)
        give_back(store, claim)
    clock.move(seconds=30)

    tried = [one(store)]
    clock.move(seconds=0.1)
    give_back(store, tried[0])
    clock.move(seconds=1)
    assert claims(store) == []
    clock.move(seconds=1)
    tried.append(one(store))

    assert {claim.run.task_id for claim in tried} == {"one", "two"}
