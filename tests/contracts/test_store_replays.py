"""Replay guards: one signed body under many delivery ids starts one run while the window lasts, also of many at once."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from optio.errors import Conflict, NotFound
from optio.store.base import Store
from optio.store.sql.bulk import run_batch
from optio.store.sql.runs import Accept
from optio.store.sql.store import SqlStore
from optio.store.values import Accepted, NewDelivery, ReplayGuard, RetentionPolicy, RunFilter
from tests.store.build import Clock, delivery, new_run, queued, task

WINDOW = timedelta(hours=72)


def guarded(key: str | None, body: bytes = b"{}", *, window: timedelta = WINDOW, **more: Any) -> NewDelivery:
    """A delivery whose signature covers its body alone."""
    return delivery(key, body, guard=ReplayGuard(body.decode(), window), **more)


def accept(store: Store, received: NewDelivery, **more: Any) -> Accepted:
    return store.accept(new_run(**more), delivery=received).result(20)


def run_count(store: Store) -> int:
    return len(store.runs(RunFilter(), limit=1000).items)


@pytest.mark.parametrize("key", ["forged", None])
def test_the_same_body_under_another_id_gives_the_first_run_and_leaves_no_row(store: Store, key: str | None) -> None:
    original = guarded("d-1")
    first = accept(store, original)

    replay = guarded(key)
    answer = accept(store, replay)

    assert answer == Accepted(first.run_id, first=False, replay_of=original.id)
    assert run_count(store) == 1
    with pytest.raises(NotFound):
        store.delivery(replay.id)


def test_another_body_and_another_task_are_no_replay(store: Store) -> None:
    accept(store, guarded("d-1"))

    assert accept(store, guarded("d-2", b"[]")).first
    assert accept(store, guarded("d-1", task_id="other")).first


def test_a_delivery_sent_again_under_its_own_id_is_a_repeat_and_no_replay(store: Store) -> None:
    first = accept(store, guarded("d-1"))

    assert accept(store, guarded("d-1")) == Accepted(first.run_id, first=False)


def test_a_known_id_with_the_body_of_another_delivery_is_a_conflict(store: Store) -> None:
    accept(store, guarded("d-1"))
    accept(store, guarded("d-2", b"[]"))

    with pytest.raises(Conflict):
        accept(store, guarded("d-1", b"[]"))


def test_after_the_window_the_body_starts_a_run_again_and_then_has_a_window_again(store: Store, clock: Clock) -> None:
    accept(store, guarded("d-1"))
    clock.move(hours=71, minutes=59)
    assert not accept(store, guarded("d-2")).first
    clock.move(minutes=1)

    second = accept(store, guarded("d-3"))

    assert second.first
    assert accept(store, guarded("d-4")).run_id == second.run_id


def test_the_window_is_that_of_the_task_as_it_is_now(store: Store, clock: Clock) -> None:
    accept(store, guarded("d-1"))
    clock.move(minutes=30)

    assert not accept(store, guarded("d-2", window=timedelta(hours=1))).first
    assert accept(store, guarded("d-3", window=timedelta(minutes=10))).first


def test_a_repeat_after_the_window_holds_no_window_open(store: Store, clock: Clock) -> None:
    first = accept(store, guarded("d-1"))
    clock.move(hours=73)

    assert accept(store, guarded("d-1")) == Accepted(first.run_id, first=False)
    assert accept(store, guarded("d-2")).first


def test_what_was_filtered_starts_nothing_under_another_id(store: Store) -> None:
    filtered = guarded("d-1", verdict="filtered")
    store.record_delivery(filtered).result(20)

    as_another_event = accept(store, guarded("d-2"))
    filtered_again = store.record_delivery(guarded("d-3", verdict="filtered")).result(20)

    assert as_another_event == filtered_again == Accepted(None, first=False, replay_of=filtered.id)
    assert run_count(store) == 0


def test_what_was_joined_to_a_run_by_its_business_key_gives_that_run(store: Store) -> None:
    joining = task(extra="dedupe: {key: K}\n")
    standing = queued(store, joining, dedupe_key="K")
    accept(store, guarded("d-1"), of=joining, dedupe_key="K")

    assert accept(store, guarded("d-2"), of=joining, dedupe_key="K").run_id == standing


def test_what_was_refused_for_its_business_key_may_come_under_another_id(store: Store) -> None:
    rejecting = task(extra="dedupe: {key: K, onDuplicate: reject}\n")
    standing = queued(store, rejecting, dedupe_key="K")
    assert accept(store, guarded("d-1"), of=rejecting, dedupe_key="K").rejected
    store.cancel(standing, "me")

    assert accept(store, guarded("d-2"), of=rejecting, dedupe_key="K").first


@pytest.mark.parametrize("known", [True, False])
def test_of_those_in_one_commit_the_first_starts_a_run(store: Store, known: bool) -> None:
    assert isinstance(store, SqlStore)
    queued(store, task())
    accept(store, guarded("before", b"old"))
    received = [
        guarded("d-1"),
        guarded("d-2", b"[]"),
        guarded("d-3"),
        guarded("d-4", b"old"),
        delivery("d-5", b"{}"),
        guarded("before", b"old"),
        guarded("d-2", b"[]"),
    ]
    accepts = [Accept(new_run(), each, None, definition_kept=known) for each in received]

    answers = store._engine.write(lambda tx: run_batch(tx, accepts)).result(20)

    assert [(each.first, each.replay_of is not None) for each in answers] == [
        (True, False), (True, False), (False, True), (False, True), (True, False), (False, False), (False, False)
    ]  # fmt: skip
    assert answers[2].run_id == answers[0].run_id
    assert run_count(store) == 5


def test_a_guard_that_lost_its_delivery_in_the_same_commit_is_free(store: Store) -> None:
    assert isinstance(store, SqlStore)
    queued(store, task())
    accept(store, delivery("d-1", b"[]"))
    accepts = [Accept(new_run(), each, None, definition_kept=True) for each in (guarded("d-1", b"[]"), guarded("d-2"))]

    answers = store._engine.write(lambda tx: run_batch(tx, accepts)).result(20)

    assert [each.first for each in answers] == [False, True]
    assert accept(store, guarded("d-3", b"[]")).first


def test_replays_at_once_by_many_servers_are_one_run_for_each_body(stores: Callable[[], Store]) -> None:
    both = [stores(), stores()]
    queued(both[0], task())
    bodies = [b"%d" % (place % 10) for place in range(100)]
    random.Random(7).shuffle(bodies)
    gate = threading.Barrier(20)

    def send(worker: int) -> list[Accepted]:
        gate.wait(20)
        futures = [
            both[worker % 2].accept(new_run(), delivery=guarded(f"{worker}-{place}", bodies[place]))
            for place in range(worker, 100, 20)
        ]
        return [future.result(30) for future in futures]

    with ThreadPoolExecutor(20) as pool:
        answers = [each for part in pool.map(send, range(20)) for each in part]

    assert sum(each.first for each in answers) == 10
    assert len({each.run_id for each in answers}) == 10
    assert run_count(both[0]) == 11


def test_guards_are_deleted_when_their_window_is_over(store: Store, clock: Clock) -> None:
    accept(store, guarded("d-1"))
    accept(store, guarded("d-2", b"[]", window=timedelta(hours=100)))
    clock.move(hours=72)

    assert store.prunable(RetentionPolicy())["keys"] == 1
    assert sum(count for kind, count in store.prune(RetentionPolicy()) if kind == "keys") == 1
    assert accept(store, guarded("d-3")).first
    assert not accept(store, guarded("d-4", b"[]", window=timedelta(hours=100))).first
