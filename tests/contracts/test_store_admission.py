"""What every store promises about the queue: priorities, pauses, start limits, business keys, and claims that stay cheap."""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from optio.errors import Conflict
from optio.model.namespace import WorkerScope
from optio.model.registry import CompiledTask
from optio.model.retry import RetryAt
from optio.model.run import RunState
from optio.runs import admission
from optio.store.base import Store
from optio.store.sql import claims, dedupe, namespaces, queue
from optio.store.values import (
    Accepted,
    Claim,
    Firing,
    IdempotencyKey,
    Pause,
    RetentionPolicy,
    RunFilter,
    ScheduleRow,
    SlotVerdict,
)
from tests.store.build import (
    BAD,
    LEASE,
    OK,
    START,
    Clock,
    at_most,
    at_once,
    claimed,
    delivery,
    end,
    everything,
    new_run,
    queued,
    serve,
    sql,
    task,
)

MINUTE = timedelta(minutes=1)
FEW = "startLimit: {count: 2, per: 1h}\n"


def keyed(rule: str = "", **more: Any) -> CompiledTask:
    """A task with the business key `K`; `rule` is the rest of its `dedupe`."""
    return task("Keyed", f"maxConcurrent: 9\ndedupe: {{key: K{rule}}}\n", **more)


def asked(store: Store, of: CompiledTask, key: str = "K", **more: Any) -> Accepted:
    """What becomes of a run that is asked for with this key."""
    accepting = {name: more.pop(name) for name in ("delivery", "once") if name in more}
    return store.accept(new_run(of, dedupe_key=key, **more), **accepting).result(20)


def started(store: Store, most: int = 99) -> list[str]:
    """The tasks of the runs that a claim starts."""
    return [claim.run.task_id for claim in store.claim("w", LEASE, at_most(most))]


def many(store: Store, of: CompiledTask, count: int) -> None:
    for future in [store.accept(new_run(of)) for _ in range(count)]:
        future.result(20)


# Priorities


def test_the_priority_that_is_served_now_counts_and_the_runs_own_when_the_task_is_gone(store: Store) -> None:
    low, high, gone = task("One"), task("One", "priority: 7\n"), task("Gone", "priority: -3\n")
    serve(store, low, gone)
    queued(store, low), queued(store, gone)
    serve(store, high)

    assert [(each.task_id, each.priority) for each in store.admission().waiting] == [("one", 7), ("gone", -3)]


def test_a_claim_is_strict_about_priorities_however_long_the_queues_are(store: Store) -> None:
    high, low = task("High", "priority: 1\nmaxConcurrent: 40\n"), task("Low", "maxConcurrent: 40\n")
    serve(store, high, low)
    many(store, low, 60)
    many(store, high, 50)

    assert Counter(started(store, 50)) == {"high": 40, "low": 10}


def test_a_claim_is_fair_however_long_the_queues_are(store: Store) -> None:
    ahead, behind = task("Ahead", "maxConcurrent: 90\n"), task("Behind", "maxConcurrent: 90\n")
    serve(store, ahead, behind)
    many(store, ahead, 30)
    assert len(started(store, 20)) == 20
    many(store, behind, 60)

    assert Counter(started(store, 60)) == {"ahead": 10, "behind": 30}


# Pauses


def test_nothing_of_a_paused_task_starts_until_it_is_resumed(store: Store, clock: Clock) -> None:
    one, two = task("One"), task("Two")
    serve(store, one, two)
    held = queued(store, one)

    paused = store.pause("one", "the API is down", "ann")

    assert paused == Pause(task_id="one", reason="the API is down", actor="ann", at=clock.at)
    later, other = queued(store, one), queued(store, two)
    assert started(store) == ["two"]
    holds = admission.decide(store.admission(), max_running=9).holds
    assert {run: hold.reason for run, hold in holds.items()} == {held: "paused", later: "paused"}
    assert store.resume("one") == paused
    assert store.resume("one") is None
    assert started(store) == ["one", "one"]
    assert store.run(other).state is RunState.RUNNING


def test_what_runs_of_a_paused_task_goes_on_but_is_not_tried_again(store: Store) -> None:
    claim = claimed(store)
    store.pause("job", "", "ann")

    assert end(store, claim, BAD, decide=at_once).state is RunState.QUEUED
    assert started(store) == []


def test_a_pause_survives_restarts_edits_and_the_tasks_absence(stores: Callable[[], Store]) -> None:
    first = stores()
    serve(first, task())
    queued(first)
    first.pause("job", "why", "ann")
    first.close()

    second = stores()

    assert list(second.pauses()) == ["job"]
    for tasks in ([task(extra="priority: 5\n")], [], [task()]):
        serve(second, *tasks)
        assert started(second) == []


def test_the_last_reason_for_a_pause_counts(store: Store, clock: Clock) -> None:
    store.pause("job", "lunch", "ann")
    clock.move(minutes=5)
    store.pause("job", "dinner", "bob")

    assert store.pauses() == {"job": Pause(task_id="job", reason="dinner", actor="bob", at=clock.at)}


# Start limits


def test_a_start_limit_holds_in_any_window_to_the_microsecond(store: Store, clock: Clock) -> None:
    serve(store, task(extra=f"maxConcurrent: 9\n{FEW}"))
    many(store, task(extra=FEW), 5)

    counts = []
    for pause in (0, 50 * 60, 10 * 60 - 0.000001, 0.000001, 49 * 60, 60 * 60):
        clock.move(seconds=pause)
        counts.append(len(started(store, 1 + len(store.runs(RunFilter(state=RunState.RUNNING)).items))))

    # One at 0:00, one at 0:50; none just before 1:00, one then; none at 1:49; one at 2:49.
    assert counts == [1, 1, 0, 1, 0, 1]


def test_a_start_limit_lets_no_more_through_when_many_may_start_at_once(store: Store, clock: Clock) -> None:
    limited, other = task("Limited", f"maxConcurrent: 9\n{FEW}"), task("Other", "maxConcurrent: 9\n")
    serve(store, limited, other)
    many(store, limited, 5)
    many(store, other, 3)

    assert Counter(started(store)) == {"limited": 2, "other": 3}
    assert store.next_due() == LEASE
    sql(store, "UPDATE runs SET lease_until = :far WHERE state = 'running'", far=2**60)
    assert store.next_due() == timedelta(hours=1)
    store.pause("limited", "", "ann")
    far = store.next_due()
    assert far is not None
    assert far > timedelta(days=1)


def test_a_retry_counts_as_a_start_and_an_adoption_does_not(store: Store, clock: Clock) -> None:
    serve(store, task(extra=FEW))
    claim = claimed(store)
    clock.move(minutes=1)
    (adopted,) = store.adopt("v", LEASE, 5)
    end(store, adopted, BAD, decide=at_once)
    (retried,) = store.claim("w", LEASE, everything)
    end(store, retried, BAD, decide=at_once)

    assert started(store) == []
    quota = store.admission().quotas["job"]
    assert (quota.count, quota.window, quota.used) == (2, timedelta(hours=1), 2)
    assert [run for _, run in quota.starts] == [claim.run.id] * 2
    assert [at for at, _ in quota.starts] == [START, START + MINUTE]


def test_two_starts_of_one_run_at_one_instant_count_twice(store: Store) -> None:
    serve(store, task(extra=FEW))
    end(store, claimed(store), BAD, decide=at_once)
    (again,) = store.claim("w", LEASE, everything)
    end(store, again, BAD, decide=at_once)

    assert store.admission().quotas["job"].used == 2
    assert started(store) == []


def test_another_start_limit_counts_from_when_it_is_served(store: Store, clock: Clock) -> None:
    serve(store, task(extra=FEW))
    many(store, task(extra=FEW), 9)
    started(store)
    clock.move(minutes=30)
    serve(store, task(extra="maxConcurrent: 9\nstartLimit: {count: 3, per: 1h}\n"))
    assert len(started(store)) == 1
    serve(store, task(extra="maxConcurrent: 9\nstartLimit: {count: 2, per: 10m}\n"))
    assert len(started(store)) == 1
    serve(store, task(extra="maxConcurrent: 9\n"))

    assert len(started(store)) == 5


def test_starts_that_count_no_longer_are_forgotten(store: Store, clock: Clock) -> None:
    serve(store, task(extra=f"maxConcurrent: 99\n{FEW}"))
    many(store, task(extra=FEW), 20)
    for _ in range(10):
        assert len(started(store)) == 2
        clock.move(hours=1)

    assert sql(store, "SELECT COUNT(*) AS n FROM starts")[0]["n"] == 2


def test_a_clock_that_is_set_back_makes_nobody_wait_longer_than_one_window(store: Store, clock: Clock) -> None:
    serve(store, task(extra=f"maxConcurrent: 9\n{FEW}"))
    many(store, task(extra=FEW), 6)
    assert started(store, 1) == ["job"]
    clock.move(minutes=10)
    assert started(store, 2) == ["job"]

    clock.move(hours=-48)

    (first, _), (second, _) = store.admission().quotas["job"].starts
    assert (first, second) == (clock.at, clock.at)
    assert started(store, 9) == []
    clock.move(minutes=49, seconds=59)
    assert started(store, 9) == []
    clock.move(seconds=2)
    assert started(store, 9) == ["job"]
    clock.move(minutes=10)
    assert started(store, 9) == ["job"]


def test_a_task_that_is_gone_keeps_to_the_start_limit_of_its_definition(store: Store, clock: Clock) -> None:
    limited = task(extra=f"maxConcurrent: 9\n{FEW}")
    serve(store, limited)
    many(store, limited, 5)
    serve(store)

    assert len(started(store)) == 2
    assert started(store) == []
    holds = admission.decide(store.admission(), max_running=9).holds
    assert [(hold.reason, hold.earliest) for hold in holds.values()] == [
        ("start_limit", clock.at + timedelta(hours=hours)) for hours in (1, 1, 2)
    ]
    clock.move(hours=1)
    assert len(started(store)) == 2


def test_a_start_limit_holds_while_many_claim_and_accept(stores: Callable[[], Store], clock: Clock) -> None:
    limited = task(extra="maxConcurrent: 99\nstartLimit: {count: 7, per: 1h}\n")
    workers = [stores() for _ in range(3)]
    serve(workers[0], limited)
    many(workers[0], limited, 40)

    def work(place: int) -> list[Claim]:
        store = workers[place % 3]
        return [claim for _ in range(5) for claim in store.claim(f"w{place}", LEASE, lambda view: at_most(99)(view)[:1])]

    with ThreadPoolExecutor(6) as pool:
        first = [claim for found in pool.map(work, range(6)) for claim in found]
        clock.move(hours=1)
        second = [claim for found in pool.map(work, range(6)) for claim in found]

    assert (len(first), len(second)) == (7, 7)
    assert len({claim.run.id for claim in first + second}) == 14


# Business keys


@pytest.mark.parametrize("state", ["queued", "running", "delayed"])
def test_a_run_that_is_active_is_joined(store: Store, state: str) -> None:
    first = asked(store, keyed())
    if state != "queued":
        (claim,) = store.claim("w", LEASE, everything)
        if state == "delayed":
            end(store, claim, BAD, decide=lambda run, outcome, now: RetryAt(now + MINUTE))

    second = asked(store, keyed())

    assert first.first
    assert second == Accepted(first.run_id, first=False, duplicate=True)
    assert len(store.runs(RunFilter()).items) == 1


def test_another_key_another_task_and_no_key_are_other_runs(store: Store) -> None:
    accepted = [
        asked(store, keyed()),
        asked(store, keyed(), "k"),
        asked(store, task("Other", "dedupe: {key: K}\n")),
        store.accept(new_run(keyed())).result(10),
        asked(store, task("Careless")),
        asked(store, task("Careless")),
    ]

    assert all(each.first for each in accepted)
    assert len({each.run_id for each in accepted}) == 6


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled", "cancelled while it ran"])
def test_the_key_of_a_run_that_has_ended_is_free(store: Store, how: str) -> None:
    first = asked(store, keyed()).run_id
    assert first is not None
    if how == "cancelled":
        store.cancel(first, "eve")
    else:
        (claim,) = store.claim("w", LEASE, everything)
        if how == "cancelled while it ran":
            store.cancel(first, "eve")
        end(store, claim, BAD if how == "failed" else OK)

    assert sql(store, "SELECT COUNT(*) AS n FROM dedupe")[0]["n"] == 0
    assert asked(store, keyed()).first


def test_with_a_window_a_run_stands_for_its_key_so_long_and_while_it_is_active(store: Store, clock: Clock) -> None:
    windowed = keyed(", window: 10m")
    first = asked(store, windowed).run_id
    (claim,) = store.claim("w", LEASE, everything)
    clock.move(minutes=11)
    assert asked(store, windowed).run_id == first
    end(store, claim)
    second = asked(store, windowed)
    assert second.first
    (claim,) = store.claim("w", LEASE, everything)
    end(store, claim)
    clock.move(minutes=9, seconds=59)
    assert asked(store, windowed).run_id == second.run_id
    clock.move(seconds=1)

    assert asked(store, windowed).first


def test_keys_whose_time_is_over_are_forgotten_and_no_others(store: Store, clock: Clock) -> None:
    windowed = keyed(", window: 10m")
    over, active, young = (asked(store, windowed, key).run_id for key in ("over", "active", "young"))
    done = store.claim("w", LEASE, lambda view: [each.run_id for each in view.waiting if each.run_id in (over, young)])
    for claim in done:
        end(store, claim)
    clock.move(minutes=10)
    sql(store, "UPDATE dedupe SET until = :later WHERE dedupe_key = 'young'", later=2**60)

    pruned = [sum(count for kind, count in store.prune(RetentionPolicy()) if kind == "keys") for _ in range(2)]
    assert pruned == [1, 0]
    assert [asked(store, windowed, key).run_id for key in ("active", "young")] == [active, young]
    assert asked(store, windowed, "over").first


def test_a_duplicate_is_rejected_where_the_task_says_so_and_may_be_tried_again(store: Store) -> None:
    strict = keyed(", onDuplicate: reject")
    first = asked(store, strict).run_id
    key = IdempotencyKey("runs:keyed", "again", "sha")

    refused = asked(store, strict, once=key)

    assert refused == Accepted(first, first=False, duplicate=True, rejected=True)
    assert store.recall(key) is None
    (claim,) = store.claim("w", LEASE, everything)
    end(store, claim)
    assert asked(store, strict, once=key).first
    assert asked(store, strict, once=key) == Accepted(store.recall(key), first=False)


def test_a_queued_run_is_replaced_by_the_newest_one(store: Store) -> None:
    latest = keyed(", onDuplicate: replace")
    first = asked(store, latest)
    second = asked(store, latest, actor="bob")
    third = asked(store, latest)

    assert (first.superseded, second.superseded, third.superseded) == (None, first.run_id, second.run_id)
    assert all(each.first and not each.duplicate for each in (first, second, third))
    assert first.run_id is not None
    run = store.run(first.run_id)
    assert (run.state, run.reason, run.ended_at is None) == (RunState.CANCELLED, "superseded", False)
    event = store.events(run.id)[-1]
    assert (event.actor, event.message) == ("bob", f"run {second.run_id} has the same key and takes its place")
    assert [each.run_id for each in store.admission().waiting] == [third.run_id]


def test_a_running_run_is_left_and_the_newest_one_waits_for_it(store: Store) -> None:
    latest = keyed(", onDuplicate: replace")
    serve(store, latest)
    asked(store, latest)
    (running,) = store.claim("w", LEASE, everything)
    second, third = asked(store, latest), asked(store, latest)
    other = queued(store, latest)

    assert (second.superseded, third.superseded) == (None, second.run_id)
    hold = admission.decide(store.admission(), max_running=9).holds[str(third.run_id)]
    assert (hold.reason, hold.occupied_by) == ("same_key", (running.run.id,))
    assert [claim.run.id for claim in store.claim("w", LEASE, at_most(9))] == [other]
    end(store, running)
    assert [claim.run.id for claim in store.claim("w", LEASE, at_most(9))] == [third.run_id]


def test_a_run_whose_place_is_taken_while_it_runs_is_not_tried_again(store: Store) -> None:
    latest = keyed(", onDuplicate: replace")
    asked(store, latest)
    (running,) = store.claim("w", LEASE, everything)
    second = asked(store, latest).run_id

    failed = end(store, running, BAD, decide=at_once)

    assert (failed.state, failed.reason) == (RunState.FAILED, "exit_code")
    assert failed.message.endswith(f"(run {second} has the same key and has taken its place)")
    assert [claim.run.id for claim in store.claim("w", LEASE, everything)] == [second]


def test_two_queued_runs_of_one_key_hold_up_nothing_behind_them(store: Store) -> None:
    serve(store, task(extra="maxConcurrent: 2\n"))
    first, second = (queued(store, dedupe_key="K") for _ in range(2))
    third = queued(store)

    assert [claim.run.id for claim in store.claim("w", LEASE, at_most(9))] == [first, third]
    assert [each.run_id for each in store.admission().waiting] == [second]


def test_a_failed_run_is_retried_by_hand_only_while_nothing_else_is_active_for_its_key(store: Store) -> None:
    first = asked(store, keyed()).run_id
    assert first is not None
    (claim,) = store.claim("w", LEASE, everything)
    end(store, claim, BAD)
    second = asked(store, keyed()).run_id
    assert second is not None

    with pytest.raises(Conflict, match=f"run {second} with the same key is queued"):
        store.retry(first, "ann")
    store.cancel(second, "ann")
    store.retry(first, "ann")

    assert asked(store, keyed()).run_id == first


def test_a_run_that_is_retried_by_hand_stands_for_its_key_while_it_is_active(store: Store, clock: Clock) -> None:
    windowed = keyed(", window: 10m")
    first = asked(store, windowed).run_id
    assert first is not None
    (claim,) = store.claim("w", LEASE, everything)
    end(store, claim, BAD)
    clock.move(minutes=20)
    store.retry(first, "ann")

    assert sum(count for kind, count in store.prune(RetentionPolicy()) if kind == "keys") == 0
    assert asked(store, windowed).run_id == first
    (claim,) = store.claim("w", LEASE, everything)
    end(store, claim)
    assert asked(store, windowed).first


def test_an_idempotency_key_gets_the_run_that_was_joined_again(store: Store) -> None:
    first, key = asked(store, keyed()).run_id, IdempotencyKey("runs:keyed", "mine", "sha")

    assert asked(store, keyed(), once=key).run_id == first
    (claim,) = store.claim("w", LEASE, everything)
    end(store, claim)

    assert store.recall(key) == first
    assert asked(store, keyed(), once=key) == Accepted(first, first=False)


@pytest.mark.parametrize(("rule", "status"), [("", 202), (", onDuplicate: reject", 409)])
def test_a_webhook_that_is_a_duplicate_is_kept_as_one_with_the_run(store: Store, rule: str, status: int) -> None:
    first = asked(store, keyed(rule), delivery=delivery("a", task_id="keyed")).run_id
    received = delivery("b", task_id="keyed")

    accepted = asked(store, keyed(rule), delivery=received)

    kept = store.delivery(received.id)
    assert (accepted.run_id, accepted.duplicate) == (first, True)
    assert (kept.verdict, kept.status, kept.run_id) == ("duplicate", status, first)


def test_a_webhook_that_was_joined_gets_the_same_answer_when_it_is_sent_again(store: Store) -> None:
    first = asked(store, keyed(), delivery=delivery("a", task_id="keyed")).run_id
    asked(store, keyed(), delivery=delivery("b", task_id="keyed"))
    (claim,) = store.claim("w", LEASE, everything)
    end(store, claim)

    again = asked(store, keyed(), delivery=delivery("b", task_id="keyed"))

    assert again == Accepted(first, first=False, duplicate=True)
    known = store.known_delivery("keyed", "b")
    assert known is not None
    assert (known.verdict, known.run_id) == ("duplicate", first)
    with pytest.raises(Conflict):
        asked(store, keyed(), delivery=delivery("b", b"other", task_id="keyed"))
    assert len(store.deliveries().items) == 2
    assert len(store.runs(RunFilter()).items) == 1


def test_a_webhook_that_was_refused_as_a_duplicate_may_be_sent_again(store: Store) -> None:
    strict = keyed(", onDuplicate: reject")
    asked(store, strict, delivery=delivery("a", task_id="keyed"))
    assert asked(store, strict, delivery=delivery("b", task_id="keyed")).rejected
    (claim,) = store.claim("w", LEASE, everything)
    end(store, claim)

    assert asked(store, strict, delivery=delivery("b", task_id="keyed")).first


def test_a_slot_whose_run_is_a_duplicate_says_so(store: Store) -> None:
    scheduled = keyed()
    serve(store, scheduled)
    store.change_schedules([ScheduleRow(task_id="keyed", fingerprint="x", next_fire=START)], [])
    slots = [START, START + MINUTE]
    firing = Firing(
        task_id="keyed",
        digest=scheduled.digest,
        verdicts=[SlotVerdict(slot=slot, verdict="fired") for slot in slots],
        runs=[new_run(scheduled, trigger="schedule", slot=slot, dedupe_key="K") for slot in slots],
        next_fire=START + 2 * MINUTE,
    )

    started = store.fire(firing).result(10)

    assert len(started) == 1
    rows = sql(store, "SELECT verdict, run_id FROM slots ORDER BY slot")
    assert [(row["verdict"], row["run_id"]) for row in rows] == [("fired", started[0]), ("duplicate", started[0])]


def test_hundreds_of_duplicates_at_once_are_one_run(stores: Callable[[], Store]) -> None:
    servers = [stores(), stores()]
    serve(servers[0], keyed())

    def ask(place: int) -> Accepted:
        return servers[place % 2].accept(new_run(keyed(), dedupe_key="K"), delivery=delivery(f"d-{place}")).result(30)

    with ThreadPoolExecutor(32) as pool:
        accepted = list(pool.map(ask, range(200)))

    assert sum(each.first for each in accepted) == 1
    assert len({each.run_id for each in accepted}) == 1
    assert len(servers[0].runs(RunFilter()).items) == 1
    kept = Counter(row["verdict"] for row in sql(servers[0], "SELECT verdict FROM deliveries"))
    assert kept == {"accepted": 1, "duplicate": 199}


def test_of_many_that_replace_each_other_at_once_one_is_left(stores: Callable[[], Store]) -> None:
    servers = [stores(), stores()]
    latest = keyed(", onDuplicate: replace")
    serve(servers[0], latest)

    with ThreadPoolExecutor(16) as pool:
        accepted = list(pool.map(lambda place: asked(servers[place % 2], latest, str(place % 3)), range(150)))

    assert all(each.first for each in accepted)
    runs = [run for state in ("queued", "cancelled") for run in _in_state(servers[0], state)]
    assert Counter(run["state"] for run in runs) == {"queued": 3, "cancelled": 147}
    superseded = Counter(each.superseded for each in accepted)
    assert superseded.pop(None) == 3
    assert set(superseded) == {run["id"] for run in runs if run["state"] == "cancelled"}
    assert set(superseded.values()) == {1}


def _in_state(store: Store, state: str) -> list[Any]:
    return sql(store, f"SELECT id, state FROM runs WHERE state = '{state}'")


def test_many_keys_of_many_servers_at_once_are_one_run_each(stores: Callable[[], Store]) -> None:
    """Crosswise, as often as it takes to find a deadlock that would not be noticed."""
    servers = [stores(), stores()]
    serve(servers[0], keyed())
    chance = random.Random(1)
    keys = [f"k{place % 40}" for place in range(240)]
    chance.shuffle(keys)

    with ThreadPoolExecutor(16) as pool:
        accepted = list(pool.map(lambda place: asked(servers[place % 2], keyed(), keys[place]), range(240)))

    by_key: dict[str, set[str | None]] = {}
    for key, each in zip(keys, accepted, strict=True):
        by_key.setdefault(key, set()).add(each.run_id)
    assert all(len(runs) == 1 for runs in by_key.values())
    assert sum(each.first for each in accepted) == 40


def test_a_key_whose_run_was_deleted_is_free(store: Store) -> None:
    sql(store, "INSERT INTO dedupe (task_id, dedupe_key, run_id, until) VALUES ('keyed', 'K', 'gone', :far)", far=2**60)

    assert asked(store, keyed()).first


# Beside an older version


def test_rows_of_an_older_version_wait_and_start_like_others(store: Store) -> None:
    serve(store, task())
    queued(store)
    _older_runs(store, [("old", "job")])
    sql(store, "UPDATE tasks SET start_limit = NULL")

    run = store.run("old")

    assert (run.priority, run.dedupe_key) == (0, None)
    assert started(store) == ["job", "job"]


def test_a_row_that_an_older_version_served_is_put_right_by_the_next_generation(store: Store) -> None:
    serve(store, task("One", "priority: 4\n"), task("Two"))
    old, new = task("One"), task("One")
    assert old.digest == new.digest
    sql(store, "UPDATE tasks SET digest = :digest WHERE task_id = 'one'", digest=_kept(store, old))

    serve(store, new, task("Two", "maxRetries: 3\n"))

    assert sql(store, "SELECT priority FROM tasks WHERE task_id = 'one'")[0]["priority"] == 0


def _kept(store: Store, of: CompiledTask) -> str:
    store.accept(new_run(of)).result(10)
    return of.digest


def test_a_key_whose_run_an_older_version_ended_is_free(store: Store) -> None:
    first = asked(store, keyed()).run_id
    sql(store, "UPDATE runs SET state = 'completed', ended_at = 1 WHERE id = :id", id=first)

    assert asked(store, keyed()).first


# At scale


def _older_runs(store: Store, runs: Iterable[tuple[str, str]]) -> None:
    """Queued runs as version 0.1 writes them: quick, for thousands."""
    digest = sql(store, "SELECT digest FROM definitions")[0]["digest"]
    rows = [
        {"id": run_id, "task_id": task_id, "digest": digest, "now": int(START.timestamp() * 1e6)} for run_id, task_id in runs
    ]
    statement = (
        "INSERT INTO runs (id, task_id, task_name, digest, state, reason, run_trigger, params, prompt, max_concurrent, "
        "max_retries, created_at, queued_at, not_before, last_event) VALUES (:id, :task_id, :task_id, :digest, 'queued', "
        "'manual', 'manual', '{}', 'p', 2, 1, :now, :now, :now, 1)"
    )
    store._engine.change(lambda tx: tx.many(statement, rows))  # type: ignore[attr-defined]


def _finished(store: Store, count: int) -> None:
    """Some thousands at a time: a statement has a time limit."""
    digest = sql(store, "SELECT digest FROM definitions")[0]["digest"]
    for first in range(1, count, 3000):
        sql(
            store,
            f"""WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {first + 2999})
            INSERT INTO runs (
                id, task_id, task_name, digest, state, reason, run_trigger, params, prompt, max_concurrent, max_retries,
                created_at, queued_at, not_before, started_at, ended_at
            )
            SELECT 'old-' || i, 't' || (i % 100), 'T', :digest, 'completed', 'ok', 'webhook', '{{}}', 'p', 2, 1, i, i, i, i, i
            FROM n""",
            digest=digest,
        )


def test_three_thousand_runs_of_a_hundred_tasks_start_in_fair_order_and_nothing_stands_in_the_way(
    store: Store, clock: Clock
) -> None:
    slow, paused, urgent, limited = "t10", "t20", "t30", "t40"
    extras = {urgent: "priority: 10\n", limited: "startLimit: {count: 5, per: 1h}\n"}
    serve(store, *(task(f"T{n}", extras.get(f"t{n}", "")) for n in range(100)))
    _older_runs(store, ((f"r{turn}-{n}", f"t{n}") for turn in range(30) for n in range(100)))
    store.pause(paused, "", "ann")
    chance = random.Random(7)
    order: list[tuple[str, str]] = []
    running: dict[str, str] = {}
    starts: Counter[str] = Counter()
    limited_at = []
    plain = {f"t{n}" for n in range(100)} - {slow, paused, urgent, limited}

    while len(order) < 3_000:
        claims = store.claim("w", LEASE, at_most(100), room=lambda running: 100 - running)
        for claim in claims:
            order.append((claim.run.task_id, claim.run.id))
            running[claim.run.id] = claim.run.task_id
            starts[claim.run.task_id] += 1
            limited_at += [clock.at] if claim.run.task_id == limited else []
        now = Counter(running.values())
        assert now.total() <= 100
        assert max(now.values()) <= 2
        if starts[urgent] < 30:
            assert now[urgent] == 2
        left = [starts[each] for each in plain if starts[each] < 30]
        if left:
            assert now.total() == 100 or len(left) < len(plain)
            assert max(now[claim.run.task_id] for claim in claims if claim.run.task_id in plain) <= 1 + min(
                now[each] for each in plain if starts[each] < 30
            )
            assert starts[slow] == now[slow] <= 2
            assert starts[paused] == 0
        else:
            store.resume(paused)
        clock.move(seconds=30 if left else 1800)
        ended = [run for run, task_id in running.items() if (task_id != slow or not left) and chance.random() < 0.7]
        for run in ended:
            del running[run]
        _end(store, ended)

    assert len({run for _, run in order}) == 3_000
    for each in range(100):
        assert [run for task_id, run in order if task_id == f"t{each}"] == [f"r{turn}-{each}" for turn in range(30)]
    assert all(later - first >= timedelta(hours=1) for first, later in zip(limited_at, limited_at[5:], strict=False))
    assert store.claim("w", LEASE, everything) == []


def _end(store: Store, runs: list[str]) -> None:
    rows = [{"id": run} for run in runs]
    statement = "UPDATE runs SET state = 'completed', owner = NULL, lease_until = NULL, ended_at = 1 WHERE id = :id"
    store._engine.change(lambda tx: tx.many(statement, rows))  # type: ignore[attr-defined]


STATEMENTS = {
    "whether anything waits": queue._WAITS,
    "what runs": queue._COUNTS,
    "the heads of the queues": "",
    "when something is due next": claims._NEXT_DUE,
    "who stands for a key": dedupe._STANDS,
}


@pytest.fixture
def crowded(store: Store) -> Store:
    """12,000 finished runs, 4,000 that wait, and statistics that know about them."""
    serve(store, *(task(f"T{n}", FEW if n % 10 == 0 else "dedupe: {key: K}\n" if n % 10 == 1 else "") for n in range(100)))
    _finished(store, 12_000)
    _older_runs(store, ((f"r{turn}-{n}", f"t{n}") for turn in range(40) for n in range(100)))
    store.pause("t5", "", "ann")
    assert len(started(store, 20)) == 20
    sql(store, "ANALYZE")
    return store


def test_no_statement_of_a_claim_reads_through_the_table_of_runs(crowded: Store) -> None:
    now = int(START.timestamp() * 1e6)
    scope = namespaces.parameters(WorkerScope("runs-a"))
    params: dict[str, Any] = {"now": now, "heads": 16, "ahead": now, "task_id": "t1", "key": "K", **scope}

    plans = {name: _plan(crowded, statement or _heads(crowded), params) for name, statement in STATEMENTS.items()}

    assert {name: plan for name, plan in plans.items() if _scans(plan)} == {}


def _heads(store: Store) -> str:
    seen: list[bool] = []
    store._engine.change(lambda tx: seen.append(tx.lateral))  # type: ignore[attr-defined]
    return queue._LATERAL if seen[0] else queue._LISTED


def _plan(store: Store, statement: str, params: dict[str, Any]) -> list[str]:
    wanted = {name: value for name, value in params.items() if f":{name}" in statement}
    if "LATERAL" in _heads(store):
        return [next(iter(row.values())) for row in sql(store, f"EXPLAIN {statement}", **wanted)]
    return [row["detail"] for row in sql(store, f"EXPLAIN QUERY PLAN {statement}", **wanted)]


def _scans(plan: list[str]) -> list[str]:
    """Steps that read all of the table of runs, or all of an index of it that holds more than what runs."""
    return [
        step
        for step in plan
        if "Seq Scan on runs" in step
        or (step.startswith("SCAN") and step.split()[1] in ("runs", "r", "h", "q", "b") and "runs_running" not in step)
    ]
