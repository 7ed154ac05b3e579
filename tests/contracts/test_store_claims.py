"""What every store promises about claims: limits, leases, fences, and the ends of attempts."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from optio.errors import LeaseLost
from optio.model.pool import COLD, PROCESS, WARM
from optio.model.retry import GiveUp, RetryAt
from optio.model.run import TRANSITIONS, AgentIdentity, AgentPod, Lease, Outcome, Run, RunState
from optio.model.usage import Meter, Usage
from optio.store.base import Store
from optio.store.values import AdmissionView, AgentStart, Claim, RunFilter
from tests.store.build import (
    BAD,
    LEASE,
    OK,
    Clock,
    at_most,
    at_once,
    claimed,
    end,
    everything,
    give_up,
    new_run,
    queued,
    say,
    serve,
    task,
)


def test_a_claim_is_an_attempt_with_an_owner_a_lease_and_a_fence(store: Store, clock: Clock) -> None:
    run_id = queued(store)
    clock.move(seconds=2)

    (claim,) = store.claim("w", LEASE, everything)

    assert claim.run == store.run(run_id)
    assert (claim.prompt, claim.adopted, claim.offsets) == ("do it", False, {})
    run = claim.run
    assert (run.state, run.reason, run.attempt, run.fence, run.owner) == (RunState.RUNNING, "started", 1, 1, "w")
    assert (run.lease_until, run.started_at) == (clock.at + LEASE, clock.at)
    (attempt,) = store.attempts(run_id)
    assert (attempt.number, attempt.worker, attempt.started_at, attempt.ok) == (1, "w", clock.at, None)
    assert store.owners() == {"w"}
    assert store.running_attempts() == {run.id: 1}


def test_the_attempts_that_run_are_those_of_running_runs_alone(store: Store) -> None:
    queued(store)
    over, again, running = (claimed(store) for _ in range(3))
    end(store, over)
    end(store, again, BAD, decide=at_once)

    assert store.running_attempts() == {running.run.id: 1}

    second = {claim.run.id: claim.run.attempt for claim in store.claim("w", LEASE, everything)}
    assert store.running_attempts() == {running.run.id: 1, **second}
    assert second[again.run.id] == 2


def test_nothing_is_claimed_when_nothing_waits_or_nothing_is_admitted(store: Store) -> None:
    assert store.claim("w", LEASE, everything) == []
    run_id = queued(store)

    assert store.claim("w", LEASE, lambda view: []) == []
    assert store.run(run_id).state is RunState.QUEUED


def test_admission_sees_what_waits_in_order_with_the_limits_that_are_served_now(store: Store, clock: Clock) -> None:
    old, new, gone = task("One"), task("One", "maxConcurrent: 9\n"), task("Gone", "maxConcurrent: 4\n")
    serve(store, old, gone)
    first, orphan, second = queued(store, old), queued(store, gone), queued(store, old)
    serve(store, new)
    (claim,) = store.claim("w", LEASE, lambda view: [first])

    view = store.admission()

    assert [(each.run_id, each.task_id, each.max_concurrent) for each in view.waiting] == [
        (orphan, "gone", 4),
        (second, "one", 9),
    ]
    assert (view.running, view.now) == ({"one": 1}, clock.at)
    assert claim.run.max_concurrent == 2


def test_admission_shows_delayed_runs_but_a_claim_does_not(store: Store, clock: Clock) -> None:
    claim = claimed(store)
    end(store, claim, BAD, decide=lambda run, outcome, now: RetryAt(now + timedelta(seconds=5)))
    seen: list[AdmissionView] = []

    def look(view: AdmissionView) -> Sequence[str]:
        seen.append(view)
        return []

    store.claim("w", LEASE, look)

    assert [each.not_before for each in store.admission().waiting] == [clock.at + timedelta(seconds=5)]
    assert seen == []
    assert store.next_due() == timedelta(seconds=5)
    clock.move(seconds=5)
    assert [each.run.attempt for each in store.claim("w", LEASE, everything)] == [2]


def test_one_claim_takes_all_that_may_start_however_long_the_queue(store: Store) -> None:
    wide, narrow = task("Wide", "maxConcurrent: 60\n"), task("Narrow", "maxConcurrent: 3\n")
    serve(store, wide, narrow)
    for future in [store.accept(new_run(each)) for each in [wide] * 100 + [narrow] * 50]:
        future.result(10)

    claims = store.claim("w", LEASE, at_most(1000))

    assert Counter(claim.run.task_id for claim in claims) == {"wide": 60, "narrow": 3}
    oldest = sorted(run.seq for run in store.runs(RunFilter(task_id="wide"), limit=100).items)[:60]
    assert [claim.run.seq for claim in claims if claim.run.task_id == "wide"] == oldest


@pytest.mark.parametrize(
    ("concurrent", "limit"),
    [(60, {"room": lambda running: 4 - running}), (60, {"most": 3}), (4, {})],
    ids=["of the worker", "of the claim", "of the task"],
)
def test_a_claim_goes_on_to_the_last_run_within_a_limit_and_no_further(
    store: Store, concurrent: int, limit: dict[str, Any]
) -> None:
    wide = task("Wide", f"maxConcurrent: {concurrent}\n")
    serve(store, wide)
    queued(store, wide)
    store.claim("w", LEASE, everything)
    first, _, second, third, _ = (queued(store, wide, dedupe_key=key) for key in ("K", "K", None, None, None))

    claims = store.claim("w", LEASE, at_most(60), **limit)

    assert [claim.run.id for claim in claims] == [first, second, third]


@pytest.mark.parametrize("limit", [1, 9])
def test_a_claim_looks_once_where_no_task_that_started_a_run_may_start_more(store: Store, limit: int) -> None:
    ready, held = task("Ready", f"maxConcurrent: {limit}\n"), task("Held")
    serve(store, ready, held)
    first, _ = queued(store, ready), queued(store, held)
    looks: list[AdmissionView] = []

    def admit(view: AdmissionView) -> Sequence[str]:
        looks.append(view)
        return [first]

    claims = store.claim("w", LEASE, admit)

    assert ([claim.run.id for claim in claims], len(looks)) == ([first], 1)


def test_limits_hold_while_many_claim_finish_and_accept(stores: Callable[[], Store]) -> None:
    tasks = [task(f"T{i}", f"maxConcurrent: {limit}\n") for i, limit in enumerate((1, 2, 5))]
    workers = [stores() for _ in range(3)]
    serve(workers[0], *tasks)
    for place in range(60):
        queued(workers[0], tasks[place % 3])
    too_many: list[AdmissionView] = []
    done: list[str] = []

    def admit(view: AdmissionView) -> Sequence[str]:
        limits = {"t0": 1, "t1": 2, "t2": 5}
        if sum(view.running.values()) > 4 or any(n > limits[task_id] for task_id, n in view.running.items()):
            too_many.append(view)
        return at_most(4)(view)

    def work(place: int) -> None:
        store = workers[place % 3]
        idle = 0
        while idle < 200 and len(done) < 60:
            claims = store.claim(f"w{place}", LEASE, admit)
            idle = 0 if claims else idle + 1
            for claim in claims:
                end(store, claim)
                done.append(claim.run.id)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))

    assert too_many == []
    assert len(done) == len(set(done)) == 60
    assert all(run.attempt == 1 for run in workers[0].runs(RunFilter(), limit=100).items)


def test_a_clock_that_is_set_back_delays_no_accepted_run(store: Store, clock: Clock) -> None:
    run_id = queued(store)
    retried = claimed(store)
    end(store, retried, BAD, decide=lambda run, outcome, now: RetryAt(now + timedelta(seconds=5)))

    clock.move(hours=-2)

    assert store.next_due() is None
    assert [claim.run.id for claim in store.claim("w", LEASE, at_most(9))] == [run_id, retried.run.id]


# Leases


def test_a_lease_that_is_over_is_taken_up_by_another_worker(store: Store, clock: Clock) -> None:
    first = claimed(store, "one")
    meter = Meter(usage=Usage(fresh=5), turns=1, cost=Decimal("0.01"))
    say(store, first, "a", meter=meter)
    clock.move(seconds=10)
    assert store.adopt("two", LEASE, 5) == []
    clock.move(seconds=1)

    (adopted,) = store.adopt("two", LEASE, 5)

    assert (adopted.adopted, adopted.offsets, adopted.prompt) == (True, {"stdout": 7}, "do it")
    assert (adopted.run.attempt, adopted.run.fence, adopted.run.owner) == (1, 2, "two")
    assert (adopted.run.lease_until, adopted.run.meter) == (clock.at + LEASE, meter)
    assert [attempt.worker for attempt in store.attempts(first.run.id)] == ["two"]
    assert store.adopt("three", LEASE, 5) == []


def test_an_adopted_attempt_begins_with_its_own_meter_not_with_that_of_the_run(store: Store, clock: Clock) -> None:
    first = claimed(store)
    end(store, first, BAD, Meter(cost=Decimal("1.00")), at_once)
    (second,) = store.claim("one", LEASE, everything)
    say(store, second, "x", meter=Meter(cost=Decimal("0.25")))
    clock.move(minutes=1)

    (adopted,) = store.adopt("two", LEASE, 5)
    run = end(store, adopted, OK, adopted.run.meter)

    assert adopted.run.meter.cost == Decimal("0.25")
    assert run.meter.cost == Decimal("1.25")


def test_at_most_so_many_runs_are_adopted_oldest_first(store: Store, clock: Clock) -> None:
    ids = [claimed(store).run.id for _ in range(3)]
    clock.move(minutes=1)

    taken = [[claim.run.id for claim in store.adopt("two", LEASE, 2)] for _ in range(2)]

    assert taken == [ids[:2], ids[2:]]


def test_a_renewed_lease_is_not_taken_up_and_tells_of_the_end_that_was_asked_for(store: Store, clock: Clock) -> None:
    mine, other = claimed(store, "one"), claimed(store, "one")
    foreign = claimed(store, "two")
    store.cancel(other.run.id, "eve")
    clock.move(seconds=9)

    assert store.renew("one", LEASE) == {mine.run.id: False, other.run.id: True}

    clock.move(seconds=9)
    assert [claim.run.id for claim in store.adopt("three", LEASE, 9)] == [foreign.run.id]
    assert store.next_due() == timedelta(seconds=1)


def test_a_cancellation_is_told_to_the_owner_of_the_run_alone(store: Store) -> None:
    lease = claimed(store).run.lease
    before = store.cancel_requested(lease)

    store.cancel(lease.run_id, "eve")

    asked = [store.cancel_requested(each) for each in (lease, Lease(lease.run_id, 7), Lease("x", lease.fence))]
    assert (before, asked) == (False, [True, False, False])


@pytest.mark.parametrize("step", [timedelta(), timedelta(hours=-2)])
def test_released_leases_are_taken_up_at_once(store: Store, clock: Clock, step: timedelta) -> None:
    mine, other = claimed(store, "one"), claimed(store, "two")

    released = store.release("one")
    clock.at += step

    assert released == 1
    assert [claim.run.id for claim in store.adopt("three", LEASE, 9)] == [mine.run.id]
    assert store.owners() == {"two", "three"}
    assert store.run(other.run.id).owner == "two"


NOW = AgentStart(timedelta(0))
WRITES: dict[str, Callable[[Store, Claim], object]] = {
    "agent_started": lambda store, claim: store.agent_started(claim.run.lease, NOW).result(),
    "append_log": lambda store, claim: say(store, claim, "late"),
    "finish ok": lambda store, claim: end(store, claim),
    "finish failed": lambda store, claim: end(store, claim, BAD),
    "finish again": lambda store, claim: end(store, claim, BAD, decide=at_once),
}


def picture(store: Store, run_id: str) -> object:
    """All that is kept of a run."""
    return store.run(run_id), store.attempts(run_id), store.events(run_id), store.log(run_id)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("lost", ["adopted", "ended", "queued again", "never"])
def test_an_old_fence_changes_nothing(store: Store, clock: Clock, write: str, lost: str) -> None:
    claim = claimed(store)
    if lost == "adopted":
        clock.move(minutes=1)
        store.adopt("two", LEASE, 5)
    elif lost == "never":
        claim = replace(claim, run=replace(claim.run, fence=7))
    else:
        end(store, claim, BAD, decide=at_once if lost == "queued again" else give_up)
    before = picture(store, claim.run.id)

    with pytest.raises(LeaseLost):
        WRITES[write](store, claim)

    assert picture(store, claim.run.id) == before


def test_the_agents_start_is_noted_once(store: Store, clock: Clock) -> None:
    claim = claimed(store)
    began = clock.move(seconds=1)
    store.agent_started(claim.run.lease, NOW).result()
    clock.move(seconds=1)

    store.agent_started(claim.run.lease, NOW).result()

    assert store.attempts(claim.run.id)[0].agent_started_at == began


def test_the_agents_start_comes_with_whatever_is_kept_first(store: Store, clock: Clock) -> None:
    early, late = claimed(store), claimed(store)
    ago, began = AgentStart(timedelta(seconds=2)), clock.at + timedelta(seconds=3)
    clock.move(seconds=5)

    store.append_log(early.run.lease, [], {}, Meter(), began=ago)
    for claim, span in ((late, ago), (early, NOW)):
        store.finish(claim.run.lease, OK, Meter(), 0, None, give_up, began=span)

    assert [store.attempts(claim.run.id)[0].agent_started_at for claim in (early, late)] == [began, began]


@pytest.mark.parametrize("write", WRITES)
def test_an_attempt_keeps_its_pod_from_before_its_agent_begins(store: Store, write: str) -> None:
    claim, process = claimed(store), claimed(store)
    without, known = AgentPod("runs", "optio-1"), AgentPod("runs", "optio-1", "node-3", "agents@sha256:d1")

    for pod in (without, AgentPod("runs", "optio-1", "node-3"), known):
        store.note_pod(claim.run.lease, pod).result()
        assert [attempt.pod for attempt in store.attempts(claim.run.id)] == [pod]
    WRITES[write](store, claim)
    store.note_pod(Lease(process.run.id, process.run.fence + 1), known).result()

    assert [attempt.pod for attempt in store.attempts(claim.run.id)] == [known]
    assert [attempt.pod for attempt in store.attempts(process.run.id)] == [None]


def test_each_attempt_of_a_run_has_a_pod_of_its_own(store: Store) -> None:
    first = claimed(store)
    store.note_pod(first.run.lease, AgentPod("runs", "optio-1", "a")).result()
    end(store, first, BAD, decide=at_once)
    (second,) = store.claim("w", LEASE, everything)
    store.note_pod(second.run.lease, AgentPod("runs", "optio-2")).result()

    pods = [attempt.pod for attempt in store.attempts(first.run.id)]

    assert pods == [AgentPod("runs", "optio-1", "a"), AgentPod("runs", "optio-2")]


def test_each_attempt_keeps_what_its_agent_told_and_its_machine(store: Store) -> None:
    told = AgentIdentity(version="2.1.331", session="s-1", model="sonnet", machine="host-1", program="/bin/claude@sha256:00")
    first = claimed(store)
    store.finish(first.run.lease, BAD, Meter(), 1, None, at_once, agent=told)
    (second,) = store.claim("w", LEASE, everything)
    store.finish(second.run.lease, OK, Meter(), 0, None, give_up, agent=AgentIdentity(session="s-2"))
    silent = claimed(store)
    store.finish(silent.run.lease, OK, Meter(), 0, None, give_up)

    assert [each.agent for each in store.attempts(first.run.id)] == [told, AgentIdentity(session="s-2")]
    assert [each.agent for each in store.attempts(silent.run.id)] == [AgentIdentity()]


def test_a_retry_that_does_not_count_leaves_the_run_its_retries(store: Store) -> None:
    for counts in (False, True):
        run_id = claimed(store).run
        ended = store.finish(run_id.lease, BAD, Meter(), 1, None, lambda *_: RetryAt(store.now(), counts=counts))  # noqa: B023
        assert (ended.state, ended.retries) == (RunState.QUEUED, counts)


def test_an_attempt_says_whose_session_it_continues_and_only_its_owner_says_it(store: Store) -> None:
    first = claimed(store)
    end(store, first, BAD, decide=at_once)
    (second,) = store.claim("w", LEASE, everything)
    for _ in range(2):  # a worker that does not know whether the store has taken it in
        store.note_continued(second.run.lease, 1)

    with pytest.raises(LeaseLost):
        store.note_continued(first.run.lease, 1)
    assert [each.continues for each in store.attempts(first.run.id)] == [None, 1]


def starting(store: Store) -> Claim:
    """A claimed run whose agent gets a place of its own."""
    run_id = queued(store)
    (claim,) = store.claim("w", LEASE, lambda view: [run_id], reason="starting")
    return claim


BEGINS: dict[str, Callable[[Store, Claim, AgentStart], object]] = {
    "agent_started": lambda store, claim, began: store.agent_started(claim.run.lease, began).result(),
    "append_log": lambda store, claim, began: store.append_log(claim.run.lease, [], {}, Meter(), began=began),
    "finish": lambda store, claim, began: store.finish(claim.run.lease, OK, Meter(), 0, None, give_up, began=began),
}


@pytest.mark.parametrize("begin", BEGINS)
def test_a_run_has_started_when_its_agent_has(store: Store, clock: Clock, begin: str) -> None:
    claim = starting(store)
    before = store.run(claim.run.id)
    clock.move(seconds=90)
    began = clock.at - timedelta(seconds=2)

    told = BEGINS[begin](store, claim, AgentStart(timedelta(seconds=2), COLD))

    run, events = store.run(claim.run.id), store.events(claim.run.id)
    assert (before.reason, before.started_at, claim.run.started_at) == ("starting", None, None)
    assert run.started_at == began
    assert [(event.seq, event.reason) for event in events][:3] == [(1, "manual"), (2, "starting"), (3, "started")]
    assert (events[2].from_state, events[2].to_state, events[2].at) == (RunState.RUNNING, RunState.RUNNING, began)
    if begin == "finish":
        assert (run.duration_s, [event.reason for event in events[3:]], told) == (2.0, ["ok"], run)
    else:
        assert (run.reason, run.duration_s, events[3:]) == ("started", None, [])


@pytest.mark.parametrize("first", ["agent_started", "append_log"])
@pytest.mark.parametrize("then", BEGINS)
def test_a_start_that_is_told_twice_is_one(store: Store, clock: Clock, first: str, then: str) -> None:
    claim = starting(store)
    if first == "append_log":
        store.cancel(claim.run.id, "me")
    BEGINS[first](store, claim, AgentStart(timedelta(0), COLD))
    began = clock.at
    clock.move(seconds=5)

    BEGINS[then](store, claim, AgentStart(timedelta(0), COLD))

    assert [event.reason for event in store.events(claim.run.id)].count("started") == 1
    assert store.run(claim.run.id).started_at == began


def test_a_process_that_is_asked_to_end_has_not_started_once_more(store: Store) -> None:
    claim = claimed(store)
    store.cancel(claim.run.id, "me")

    store.finish(claim.run.lease, OK, Meter(), 0, None, give_up, began=AgentStart(timedelta(0), COLD))

    assert [event.reason for event in store.events(claim.run.id)] == ["manual", "started", "cancelled"]


def test_how_an_attempt_began_is_what_was_said_first_also_of_a_process(store: Store) -> None:
    claim = claimed(store)
    BEGINS["agent_started"](store, claim, NOW)

    BEGINS["finish"](store, claim, AgentStart(timedelta(0), WARM))

    assert [attempt.began for attempt in store.attempts(claim.run.id)] == [PROCESS]


def test_a_run_that_is_tried_again_has_started_when_its_first_agent_did(store: Store, clock: Clock) -> None:
    claim = starting(store)
    BEGINS["agent_started"](store, claim, AgentStart(timedelta(0), COLD))
    began = clock.at
    end(store, claim, BAD, decide=at_once)
    clock.move(seconds=5)
    (again,) = store.claim("w", LEASE, everything, reason="starting")
    clock.move(seconds=5)

    ended = store.finish(again.run.lease, OK, Meter(), 0, None, give_up, began=AgentStart(timedelta(0), WARM))

    assert ended == store.run(claim.run.id)
    assert ended.started_at == began
    assert [event.reason for event in store.events(claim.run.id)][-3:] == ["starting", "started", "ok"]


def test_a_run_whose_agent_never_began_never_started(store: Store, clock: Clock) -> None:
    claim = starting(store)
    clock.move(seconds=5)

    ended = end(store, claim, BAD)

    assert (ended.started_at, ended.duration_s, ended.ended_at) == (None, None, clock.at)
    assert "started" not in [event.reason for event in store.events(claim.run.id)]


# Ends


def test_a_completed_run_has_its_text_output_and_times(store: Store, clock: Clock) -> None:
    claim = claimed(store)
    clock.move(seconds=3)

    run = end(store, claim, Outcome(ok=True, reason="ok", text="done ✓", output={"a": [1]}))

    assert run == store.run(run.id)
    assert (run.state, run.reason, run.text, run.output) == (RunState.COMPLETED, "ok", "done ✓", {"a": [1]})
    assert (run.ended_at, run.duration_s, run.owner, run.lease_until) == (clock.at, 3.0, None, None)
    (attempt,) = store.attempts(run.id)
    assert (attempt.ok, attempt.exit_code, attempt.signal, attempt.text, attempt.ended_at) == (
        True,
        0,
        None,
        "done ✓",
        clock.at,
    )
    assert store.next_due() is None
    assert store.renew("w", LEASE) == {}


def test_a_failed_attempt_that_may_be_repeated_waits_for_its_time(store: Store, clock: Clock) -> None:
    claim = claimed(store)
    later = clock.at + timedelta(seconds=5)
    asked: list[tuple[RunState, str, object]] = []

    def decide(run: Run, outcome: Outcome, now: object) -> RetryAt:
        asked.append((run.state, outcome.reason, now))
        return RetryAt(later)

    run = end(store, claim, BAD, decide=decide)

    assert asked == [(RunState.RUNNING, "exit_code", clock.at)]
    assert (run.state, run.reason, run.retries, run.infrastructure_retries) == (RunState.QUEUED, "exit_code", 1, 0)
    assert (run.not_before, run.queued_at, run.ended_at, run.owner) == (later, clock.at, None, None)
    assert [attempt.reason for attempt in store.attempts(run.id)] == ["exit_code"]


def test_an_end_after_its_worker_released_its_leases_is_the_work_of_a_worker_without_a_name(store: Store) -> None:
    claim = claimed(store, "one")
    store.release("one")

    end(store, claim)

    assert [event.actor for event in store.events(claim.run.id)][1:] == ["one", "worker"]


def test_our_own_faults_are_counted_apart(store: Store) -> None:
    claim = claimed(store)

    run = end(store, claim, replace(BAD, infrastructure=True), decide=at_once)

    assert (run.retries, run.infrastructure_retries) == (0, 1)


def test_a_run_that_is_given_up_says_why(store: Store, clock: Clock) -> None:
    claim = claimed(store)

    run = end(store, claim, BAD)

    assert (run.state, run.reason, run.text) == (RunState.FAILED, "exit_code", "half")
    assert (run.message, run.ended_at) == ("exit code 1 (no retries left)", clock.at)


@pytest.mark.parametrize("outcome", [OK, BAD])
@pytest.mark.parametrize("decide", [at_once, give_up])
def test_a_cancel_that_came_first_wins(store: Store, outcome: Outcome, decide: object) -> None:
    claim = claimed(store)
    marked = store.cancel(claim.run.id, "eve")

    run = end(store, claim, outcome, Meter(cost=Decimal("0.5")), decide)

    assert (marked.state, marked.cancel_requested, marked.reason) == (RunState.RUNNING, True, "cancelling")
    assert (run.state, run.reason, run.message, run.cancel_requested) == (
        RunState.CANCELLED, "cancelled", "cancelled by eve", False,
    )  # fmt: skip
    assert run.meter.cost == Decimal("0.5")
    (attempt,) = store.attempts(run.id)
    assert (attempt.ok, attempt.reason) == (False, "cancelled")


def test_the_history_of_a_run_is_numbered_without_gaps_and_follows_the_table(store: Store, clock: Clock) -> None:
    claim = claimed(store)
    end(store, claim, BAD, decide=at_once)
    (second,) = store.claim("w", LEASE, everything)
    end(store, second, BAD)
    store.retry(claim.run.id, "ann")
    (third,) = store.claim("w", LEASE, everything)
    end(store, third)

    events = store.events(claim.run.id)

    assert [event.seq for event in events] == list(range(1, 9))
    assert all(before.to_state is after.from_state for before, after in pairwise(events))
    steps = {(event.from_state, event.to_state) for event in events[1:]}
    assert steps <= {(state, new) for (state, _), new in TRANSITIONS.items()}


def test_a_dropped_run_is_taken_up_at_once_by_anyone_its_owner_too(store: Store, clock: Clock) -> None:
    mine, other = claimed(store, "one"), claimed(store, "one")

    store.drop(mine.run.lease)
    kept = store.renew("one", LEASE)

    assert kept == {other.run.id: False}
    assert store.owners() == {"one"}
    (again,) = store.adopt("one", LEASE, 9)
    assert (again.run.id, again.run.attempt, again.run.fence) == (mine.run.id, 1, 2)
    with pytest.raises(LeaseLost):
        store.drop(mine.run.lease)


def test_a_claim_knows_what_earlier_attempts_have_cost_until_somebody_retries_by_hand(store: Store, clock: Clock) -> None:
    first = claimed(store)
    end(store, first, BAD, Meter(cost=Decimal("1.50")), decide=at_once)
    (second,) = store.claim("w", LEASE, everything)
    say(store, second, "half", meter=Meter(cost=Decimal("0.25")))
    clock.move(seconds=11)
    (adopted,) = store.adopt("two", LEASE, 5)
    end(store, adopted, BAD, Meter(cost=Decimal("0.25")), decide=at_once)
    (third,) = store.claim("w", LEASE, everything)
    end(store, third, BAD)  # what it cost is not known
    store.retry(third.run.id, "me")
    (by_hand,) = store.claim("w", LEASE, everything)
    end(store, by_hand, BAD, Meter(cost=Decimal("0.40")), decide=at_once)
    (last,) = store.claim("w", LEASE, everything)

    assert [each.spent for each in (first, second, adopted, third, by_hand, last)] == [
        Decimal(text) for text in ("0", "1.50", "1.50", "1.75", "0", "0.40")
    ]
    assert store.run(last.run.id).meter.cost == Decimal("2.15")


def test_a_run_that_is_given_up_for_another_reason_than_its_attempts_says_both(store: Store) -> None:
    claim = claimed(store)

    run = end(store, claim, BAD, decide=lambda run, outcome, now: GiveUp("nothing is left", reason="budget"))

    assert (run.state, run.reason, run.message, run.text) == (
        RunState.FAILED, "budget", "exit code 1 (nothing is left)", "half",
    )  # fmt: skip
    assert [each.reason for each in store.attempts(run.id)] == ["exit_code"]
    assert store.events(run.id)[-1].reason == "budget"
