"""What every store promises about keeping no longer than wanted: what goes, what never goes, and that nobody has to wait."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from optio.errors import Conflict, NotFound, OptioError
from optio.model.agent_event import ToolResult
from optio.model.registry import Registry
from optio.model.run import RunState
from optio.model.usage import Meter
from optio.store.base import Store
from optio.store.sql import retention
from optio.store.values import DEDUPE_MEMORY, Firing, IdempotencyKey, RetentionPolicy, RunFilter, ScheduleRow, SlotVerdict
from tests.store.build import (
    BAD,
    LEASE,
    OK,
    START,
    Clock,
    claimed,
    delivery,
    end,
    everything,
    line,
    new_run,
    queued,
    say,
    serve,
    sql,
    task,
)

DAY = timedelta(days=1)
MONTH = RetentionPolicy(runs=30 * DAY)


def pruned(store: Store, keep: RetentionPolicy) -> Counter[str]:
    """One whole pass."""
    counts: Counter[str] = Counter()
    for kind, count in store.prune(keep):
        counts[kind] += count
    return +counts


def ended(store: Store, lines: int = 2) -> str:
    """A run that has ended, with its log."""
    claim = claimed(store)
    say(store, claim, *(f"line {n}" for n in range(lines)))
    return end(store, claim).id


def gone(store: Store, run_id: str) -> bool:
    try:
        store.run(run_id)
    except NotFound:
        assert (store.attempts(run_id), store.events(run_id), store.log(run_id)) == ([], [], [])
        return True
    return False


def test_without_settings_runs_logs_and_deliveries_are_kept_for_ever(store: Store, clock: Clock) -> None:
    run_id = ended(store)
    store.record_delivery(delivery("k", verdict="filtered")).result(10)
    clock.move(days=10_000)

    assert +Counter(store.prunable(RetentionPolicy())) == {"totals": 2}
    assert pruned(store, RetentionPolicy()) == {"totals": 2}
    assert len(store.log(run_id)) == 2
    assert len(store.deliveries().items) == 1


def test_an_ended_run_goes_with_its_attempts_events_and_log_when_its_time_is_over(store: Store, clock: Clock) -> None:
    old = ended(store)
    clock.move(days=1)
    young = ended(store)
    clock.move(days=29, seconds=1)

    counts = pruned(store, MONTH)

    assert counts == {"runs": 1, "log_lines": 2}
    assert gone(store, old)
    assert not gone(store, young)
    assert len(store.log(young)) == 2


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.RUNNING])
def test_a_run_that_has_not_ended_never_goes_nor_does_anything_of_it(store: Store, clock: Clock, state: RunState) -> None:
    sent = delivery("k")
    run_id = str(store.accept(new_run(), delivery=sent).result(10).run_id)
    if state is RunState.RUNNING:
        (claim,) = store.claim("w", LEASE, everything)
        say(store, claim, "still here")
    clock.move(days=4000)

    pruned(store, RetentionPolicy(runs=DAY, logs=DAY, deliveries=DAY))

    assert store.run(run_id).state is state
    assert len(store.log(run_id)) == (1 if state is RunState.RUNNING else 0)
    assert store.delivery(sent.id).run_id == run_id
    assert store.definition(store.run(run_id).digest)


def test_a_failed_run_that_is_retried_after_long_is_kept(store: Store, clock: Clock) -> None:
    claim = claimed(store)
    run_id = end(store, claim, BAD).id
    clock.move(days=40)
    store.retry(run_id, "ann")

    pruned(store, MONTH)

    assert store.run(run_id).state is RunState.QUEUED


def test_logs_may_go_before_their_runs(store: Store, clock: Clock) -> None:
    old = ended(store)
    clock.move(days=8)
    young = ended(store)
    keep = RetentionPolicy(runs=30 * DAY, logs=7 * DAY)

    counts = pruned(store, keep)

    assert counts == {"log_lines": 2}
    assert store.log(old) == []
    assert len(store.log(young)) == 2
    assert store.run(old).state is RunState.COMPLETED
    clock.move(days=8)
    assert pruned(store, keep) == {"log_lines": 2}
    assert store.log(young) == []


@pytest.mark.parametrize("keep", [RetentionPolicy(logs=7 * DAY), RetentionPolicy(runs=7 * DAY)])
def test_what_an_agent_did_goes_with_the_lines_that_say_it(store: Store, clock: Clock, keep: RetentionPolicy) -> None:
    claim = claimed(store)
    event = ToolResult(id="1", ok=True, size=1)
    store.append_log(claim.run.lease, [replace(line("x"), turn=1, event=event) for _ in range(3)], {}, Meter())
    end(store, claim)
    assert sql(store, "SELECT COUNT(*) AS n FROM agent_events")[0]["n"] == 3
    clock.move(days=8)

    pruned(store, keep)

    assert sql(store, "SELECT COUNT(*) AS n FROM agent_events")[0]["n"] == 0


def test_logs_go_though_runs_are_kept_for_ever(store: Store, clock: Clock) -> None:
    run_id = ended(store)
    clock.move(days=8)

    assert pruned(store, RetentionPolicy(logs=7 * DAY)) == {"log_lines": 2}
    assert store.run(run_id).state is RunState.COMPLETED


def test_the_log_of_a_run_that_was_retried_goes_too(store: Store, clock: Clock) -> None:
    keep = RetentionPolicy(logs=DAY)
    run_id = end(store, claimed(store), BAD).id
    clock.move(days=2)
    pruned(store, keep)
    store.retry(run_id, "ann")
    (again,) = store.claim("w", LEASE, everything)
    say(store, again, "second try")
    end(store, again)
    clock.move(days=2)

    assert pruned(store, keep) == {"log_lines": 1}


def test_many_runs_that_end_at_one_instant_all_lose_their_logs(store: Store, clock: Clock) -> None:
    runs = [ended(store, lines=1) for _ in range(120)]
    clock.move(days=2)

    assert pruned(store, RetentionPolicy(logs=DAY)) == {"log_lines": 120}
    assert [store.log(run_id) for run_id in runs] == [[]] * 120


def test_a_delivery_is_known_again_for_a_week_whatever_is_kept(store: Store, clock: Clock) -> None:
    keep = RetentionPolicy(runs=timedelta(hours=1), deliveries=timedelta(hours=1))
    first = store.accept(new_run(), delivery=delivery("k")).result(10)
    (claim,) = store.claim("w", LEASE, everything)
    end(store, claim)
    clock.move(days=6, hours=23)
    pruned(store, keep)

    again = store.accept(new_run(), delivery=delivery("k")).result(10)

    assert gone(store, str(first.run_id))
    assert (again.run_id, again.first) == (first.run_id, False)
    clock.move(days=1)
    assert pruned(store, keep)["deliveries"] == 1
    assert store.known_delivery("job", "k") is None


def test_deliveries_are_kept_as_long_as_runs_unless_told_otherwise(store: Store, clock: Clock) -> None:
    for key in ("a", "b"):
        store.record_delivery(delivery(key, verdict="filtered")).result(10)
    store.record_delivery(delivery("c", verdict="unsigned", status=401)).result(10)
    clock.move(days=20)

    assert pruned(store, MONTH) == {}
    assert pruned(store, RetentionPolicy(runs=30 * DAY, deliveries=10 * DAY)) == {"deliveries": 3}
    assert store.deliveries().items == []


def test_an_idempotency_key_is_remembered_for_a_week(store: Store, clock: Clock) -> None:
    once = IdempotencyKey("runs:job", "key", "sha")
    first = store.accept(new_run(), once=once).result(10).run_id
    clock.at += DEDUPE_MEMORY - timedelta(seconds=1)
    pruned(store, RetentionPolicy())

    assert store.recall(once) == first
    clock.move(seconds=2)
    assert pruned(store, RetentionPolicy()) == {"keys": 1}
    assert store.recall(once) is None


def test_old_slots_go_and_young_ones_still_do_not_fire_twice(store: Store, clock: Clock) -> None:
    job = task()
    serve(store, job)
    store.change_schedules([ScheduleRow(task_id="job", fingerprint="f", next_fire=clock.at)], [])

    def fire(age: timedelta) -> list[str]:
        slot = START + age
        run = new_run(job, trigger="schedule", slot=slot)
        firing = Firing(
            task_id="job", digest=job.digest, verdicts=[SlotVerdict(slot=slot, verdict="fired")], runs=[run], next_fire=slot
        )
        return store.fire(firing).result(10)

    started = [*fire(timedelta(0)), *fire(20 * DAY)]
    for claim in store.claim("w", LEASE, everything):
        end(store, claim)
    clock.move(days=31)

    counts = pruned(store, MONTH)

    assert len(started) == 2
    assert counts["slots"] == 1
    assert fire(20 * DAY) == []


def test_sessions_go_a_week_after_their_end_and_tokens_stay(store: Store, clock: Clock) -> None:
    for token_id in ("ses_a", "tok_a"):
        store.add_token(token_id, token_id, "viewer", "ada", store.now() + DAY)

    assert [store.token(each) is None for each in ("ses_a", "tok_a")] == [False, False]
    clock.move(days=7)
    assert (store.prunable(RetentionPolicy())["sessions"], pruned(store, RetentionPolicy())) == (0, {})
    clock.move(days=2)

    assert store.prunable(RetentionPolicy())["sessions"] == 1
    assert pruned(store, RetentionPolicy()) == {"sessions": 1}
    assert [each.id for each in store.tokens()] == ["tok_a"]


def test_generations_and_definitions_that_nobody_needs_go_the_others_stay(store: Store, clock: Clock) -> None:
    def generation(name: str) -> str:
        """Serve one version of the task, taken up by the schedulers; its definition."""
        made = task("Job", f"description: {name}\n")
        row = store.activate(Registry.of({made.id: made}), None)
        store.schedule_generation(row.id, [], [])
        clock.move(days=10)
        return made.digest

    unused = generation("unused")
    used = task("Job", "description: used\n")
    serve(store, used)
    number = store.newest_generation()
    store.schedule_generation(number, [], [])
    claim = claimed(store, of=used, generation=number)
    clock.move(days=10)
    replaced, served = generation("replaced"), generation("served")
    clock.move(days=5)
    keep = RetentionPolicy(runs=12 * DAY)

    first = pruned(store, keep)

    assert first == {"generations": 1, "definitions": 1}
    with pytest.raises(NotFound):
        store.definition(unused)
    for digest in (used.digest, replaced, served):
        assert store.definition(digest)
    end(store, claim)
    clock.move(days=13)

    second = pruned(store, keep)

    assert second == {"runs": 1, "generations": 2, "definitions": 2}
    assert store.generation().tasks == {"job": served}  # type: ignore[union-attr]
    assert store.definition(served)


def test_a_generation_that_a_run_names_stays_though_an_older_run_names_a_newer_one(store: Store, clock: Clock) -> None:
    numbers = []
    for name in ("before", "behind", "ahead", "now"):
        store.schedule_generation(store.activate(Registry.of({"job": task("Job", f"description: {name}\n")}), None).id, [], [])
        numbers.append(store.newest_generation())
        clock.move(days=10)
    queued(store, generation=numbers[2])
    queued(store, generation=numbers[1])  # by a server that had not heard of the newer one yet

    assert pruned(store, RetentionPolicy(runs=5 * DAY))["generations"] == 1
    assert [row.id for row in store.generations(since=START)] == numbers[1:]


def test_a_definition_that_was_forgotten_is_kept_again_when_a_run_needs_it(
    store: Store, stores: Callable[[], Store], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = task("Job", "description: old\n")
    serve(store, old)
    store.schedule_generation(store.generation().id, [], [])  # type: ignore[union-attr]
    other = stores()
    new = task("Job", "description: new\n")
    other.activate(Registry.of({"job": new}), None)
    other.schedule_generation(other.generation().id, [], [])  # type: ignore[union-attr]
    clock.move(days=40)
    assert pruned(other, MONTH)["definitions"] == 1
    later = time.monotonic() + 3601
    monkeypatch.setattr("optio.store.sql.store.time.monotonic", lambda: later)

    run_id = queued(store, old)

    assert other.run(run_id).digest == old.digest


def test_a_run_with_a_long_log_goes_in_steps(store: Store, clock: Clock) -> None:
    claim = claimed(store)
    for part in range(4):
        say(store, claim, *(f"line {part} {n}" for n in range(retention.ROWS_PER_TRANSACTION)))
    run_id = end(store, claim).id
    clock.move(days=31)

    steps = [count for kind, count in store.prune(MONTH) if kind == "log_lines" and count]

    assert steps == [retention.ROWS_PER_TRANSACTION] * 4
    assert gone(store, run_id)


def test_whoever_stops_asking_stops_the_deleting(store: Store, clock: Clock) -> None:
    for _ in range(3):
        ended(store, lines=retention.ROWS_PER_TRANSACTION)
    clock.move(days=31)

    steps = store.prune(MONTH)
    next(step for step in steps if step[1])
    del steps

    assert len(store.runs(RunFilter()).items) == 3
    assert sum(len(store.log(run.id)) for run in store.runs(RunFilter()).items) == 2 * retention.ROWS_PER_TRANSACTION


def test_it_can_be_counted_before(store: Store, clock: Clock) -> None:
    ended(store, lines=3)
    ended(store, lines=4)
    store.record_delivery(delivery("k", verdict="filtered")).result(10)
    store.remember(IdempotencyKey("tasks", "key", "sha"), "job")
    clock.move(days=15)
    ended(store)

    expected = {"runs": 2, "log_lines": 7, "deliveries": 1, "keys": 1}
    keep = RetentionPolicy(runs=14 * DAY)

    assert +Counter(store.prunable(keep)) == expected
    assert +Counter(store.prunable(RetentionPolicy(logs=14 * DAY))) == {"log_lines": 7, "keys": 1}
    assert pruned(store, keep) == expected
    assert +Counter(store.prunable(keep)) == {}


def test_counts_of_webhook_requests_go_with_the_deliveries(store: Store, clock: Clock) -> None:
    for _ in range(3):
        store.record_delivery(delivery("k", verdict="filtered")).result(10)
    store.count_refusals({("hook", "rate", "job"): 5}).result(10)
    clock.move(days=15)
    store.count_refusals({("hook", "rate", "job"): 7}).result(10)
    keep = RetentionPolicy(deliveries=14 * DAY)

    assert store.prunable(keep)["counts"] == 1
    assert pruned(store, keep) == {"deliveries": 1, "counts": 2}

    assert [each.requests for each in store.refusals(since=clock.at - 30 * DAY)] == [7]


def test_readers_and_writers_beside_it_are_not_disturbed(store: Store, stores: Callable[[], Store], clock: Clock) -> None:
    for _ in range(60):
        ended(store, lines=200)
    kept = ended(store)
    clock.move(days=31)
    young = ended(store)
    other, failures, done = stores(), [], threading.Event()
    slowest = 0.0

    def use() -> None:
        nonlocal slowest
        while not done.is_set():
            began = time.monotonic()
            try:
                mine = ended(other)
                assert other.run(mine).state is RunState.COMPLETED
                assert len(other.log(young)) == 2
                other.runs(RunFilter(), limit=20)
            except (OptioError, AssertionError) as err:
                failures.append(err)
            slowest = max(slowest, time.monotonic() - began)

    user = threading.Thread(target=use)
    user.start()
    counts = pruned(store, MONTH)
    done.set()
    user.join(10)

    assert failures == []
    assert counts["runs"] == 61
    assert counts["log_lines"] == 60 * 200 + 2
    assert gone(store, kept)
    assert slowest < 5.0


def test_one_run_is_deleted_by_hand(store: Store) -> None:
    run_id, other = ended(store), ended(store)

    store.delete_run(run_id)

    assert gone(store, run_id)
    assert not gone(store, other)
    with pytest.raises(NotFound):
        store.delete_run(run_id)


def test_a_run_that_has_not_ended_cannot_be_deleted(store: Store) -> None:
    waiting, running = queued(store), claimed(store)

    for run_id in (waiting, running.run.id):
        with pytest.raises(Conflict, match="cancel it first"):
            store.delete_run(run_id)
        assert store.run(run_id)


def test_a_run_that_stands_for_a_business_key_is_kept_as_long_as_it_does(store: Store, clock: Clock) -> None:
    job = task("Job", 'dedupe: {key: "x", window: 2h}\n')
    first = str(store.accept(new_run(job, dedupe_key="x")).result(10).run_id)
    (claim,) = store.claim("w", LEASE, everything)
    end(store, claim)
    clock.move(minutes=90)
    keep = RetentionPolicy(runs=timedelta(hours=1))

    assert pruned(store, keep) == {}
    assert store.accept(new_run(job, dedupe_key="x")).result(10).run_id == first
    clock.move(hours=1)
    assert pruned(store, keep)["runs"] == 1


# Turns


def test_a_chore_is_one_owners_at_a_time_and_anothers_when_it_was_left(store: Store, clock: Clock) -> None:
    hour = timedelta(hours=1)

    assert store.acquire_job_lease("chore", "a", hour, LEASE)
    assert not store.acquire_job_lease("chore", "b", hour, LEASE)
    assert store.acquire_job_lease("another", "b", hour, LEASE)
    clock.move(seconds=8)
    assert store.renew_job_lease("chore", "a", LEASE)
    clock.move(seconds=8)
    assert not store.acquire_job_lease("chore", "b", hour, LEASE)
    clock.move(seconds=3)  # `a` has died
    assert store.acquire_job_lease("chore", "b", hour, LEASE)
    assert not store.renew_job_lease("chore", "a", LEASE)


def test_a_chore_that_was_done_rests(store: Store, clock: Clock) -> None:
    hour = timedelta(hours=1)
    store.acquire_job_lease("chore", "a", hour, LEASE)
    store.release_job_lease("chore", "a")

    clock.move(minutes=59)
    assert not store.acquire_job_lease("chore", "b", hour, LEASE)
    clock.move(minutes=1)
    assert store.acquire_job_lease("chore", "b", hour, LEASE)


def test_a_clock_that_was_set_back_does_not_keep_a_chore_from_being_done(store: Store, clock: Clock) -> None:
    hour = timedelta(hours=1)
    store.acquire_job_lease("chore", "a", hour, LEASE)
    store.release_job_lease("chore", "a")
    clock.move(days=-300)

    assert store.acquire_job_lease("chore", "b", hour, LEASE)
    clock.move(days=-300)
    assert store.acquire_job_lease("chore", "c", hour, LEASE)


def test_of_many_at_once_one_gets_the_turn(stores: Callable[[], Store]) -> None:
    each = [stores() for _ in range(4)]
    got: list[bool] = []
    ready = threading.Barrier(4)

    def ask(number: int) -> None:
        ready.wait()
        got.append(each[number].acquire_job_lease("chore", f"owner-{number}", timedelta(hours=1), LEASE))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert sorted(got) == [False, False, False, True]


# Depths


def test_depths_tell_what_waits_and_runs_of_each_task(store: Store, clock: Clock) -> None:
    first, second = task("First"), task("Second")
    (began,) = [clock.at]
    queued(store, first)
    clock.move(seconds=5)
    queued(store, first)
    claimed(store, of=second)
    ended(store)

    found = {depth.task_id: (depth.queued, depth.running, depth.oldest) for depth in store.depths()}

    assert found == {"first": (2, 0, began), "second": (0, 1, None)}


def test_last_ends_tell_when_the_newest_run_of_each_state_ended(store: Store, clock: Clock) -> None:
    nightly, never = task("Nightly"), task("Never")
    serve(store, nightly, never)
    ends = []
    for outcome in (BAD, OK, OK):
        clock.move(seconds=60)
        end(store, claimed(store, of=nightly), outcome)
        ends.append(clock.at)

    found = [(end.task_id, end.state, end.at) for end in store.last_ends()]

    assert found == [("nightly", RunState.COMPLETED, ends[2]), ("nightly", RunState.FAILED, ends[0])]
