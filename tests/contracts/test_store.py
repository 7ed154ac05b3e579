"""What every store promises about its registry and about accepting. Other promises have files of their own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from optio.errors import Conflict, Invalid, NotFound
from optio.model.registry import Registry
from optio.model.run import RunState
from optio.store.base import Store
from optio.store.values import IdempotencyKey, RunFilter
from tests.store.build import (
    Clock,
    delivery,
    new_run,
    queued,
    serve,
    task,
)

# Registry


def test_the_same_tree_and_commit_again_is_the_same_generation(store: Store) -> None:
    registry = Registry.of({"job": task()})

    first = store.activate(registry, "c1")
    again = store.activate(registry, "c1")
    other = store.activate(registry, "c2")

    assert first == again == replace(other, id=first.id, commit="c1")
    assert other.id > first.id
    assert store.generation() == other


def test_a_store_without_a_tree_has_no_generation(store: Store) -> None:
    assert store.generation() is None


def test_a_generation_names_exactly_the_tasks_that_are_served(store: Store, clock: Clock) -> None:
    one, two, changed = task("One"), task("Two"), task("One", "maxConcurrent: 7\n")

    serve(store, one, two)
    clock.move(seconds=5)
    serve(store, changed)

    now = store.generation()
    assert now is not None
    assert dict(now.tasks) == {"one": changed.digest}
    assert now.activated_at == clock.at
    assert store.definition(two.digest) == two


def test_a_definition_is_the_same_after_its_way_through_the_store(stores: Callable[[], Store]) -> None:
    rich = task("Größe", 'paramsSchema: {type: object, properties: {A: {type: string, default: "✓"}}}\nbudgetUsd: "2.50"\n')

    serve(stores(), rich)

    kept = stores().definition(rich.digest)
    assert (kept, kept.digest) == (rich, rich.digest)


def test_a_run_keeps_the_definition_it_started_from(store: Store) -> None:
    before, after = task(), task(extra="maxConcurrent: 9\n")
    serve(store, before)
    run_id = queued(store, before)

    serve(store, after)

    run = store.run(run_id)
    assert (run.digest, run.max_concurrent) == (before.digest, 2)
    assert store.definition(run.digest) == before


def test_an_unknown_definition_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        store.definition("sha256:0")


# Accepting


def test_an_accepted_run_is_there_with_all_that_was_asked_for(stores: Callable[[], Store], clock: Clock) -> None:
    asked = new_run(
        params={"A": "ü", "B": [1, None]},
        prompt="line\n\ttwo",
        trigger="webhook",
        actor="hook",
        traceparent="00-1",
        generation=1,
    )
    store = stores()
    serve(store, asked.task)

    accepted = store.accept(asked).result(10)

    run = stores().run(asked.id)
    assert (accepted.run_id, accepted.first) == (asked.id, True)
    assert (run.state, run.reason, run.trigger, run.traceparent) == (RunState.QUEUED, "webhook", "webhook", "00-1")
    assert (run.params, run.attempt, run.generation) == ({"A": "ü", "B": [1, None]}, 0, 1)
    assert run.created_at == run.queued_at == run.not_before == clock.at
    assert (run.started_at, run.ended_at, run.duration_s, run.owner) == (None, None, None, None)
    assert store.prompt(asked.id) == "line\n\ttwo"
    (born,) = store.events(asked.id)
    assert (born.seq, born.from_state, born.to_state, born.reason, born.actor) == (1, None, RunState.QUEUED, "webhook", "hook")


@pytest.mark.parametrize("message", ["", "rerun of run-1"])
def test_the_first_event_of_a_run_has_the_message_that_it_was_given(store: Store, message: str) -> None:
    (born,) = store.events(queued(store, message=message))

    assert born.message == message


def test_a_run_may_be_accepted_before_any_tree_was_served(store: Store) -> None:
    assert store.run(queued(store)).generation is None


def test_a_delivery_and_its_run_know_each_other(store: Store, clock: Clock) -> None:
    run, received = new_run(), delivery(body=b'{"a": "\xc3\xbc"}')

    store.accept(run, delivery=received).result(10)

    kept = store.delivery(received.id)
    assert (kept.run_id, store.run(run.id).delivery_id) == (run.id, received.id)
    assert (kept.body, kept.headers, kept.received_at) == (received.body, {"x": "y"}, clock.at)
    assert store.known_delivery("job", "d-1") == kept


def test_a_delivery_that_comes_again_gives_the_first_run(store: Store) -> None:
    first, second = new_run(), new_run()
    store.accept(first, delivery=delivery()).result(10)

    again = store.accept(second, delivery=delivery()).result(10)

    assert (again.run_id, again.first) == (first.id, False)
    with pytest.raises(NotFound):
        store.run(second.id)
    assert len(store.deliveries().items) == 1


def test_a_delivery_id_with_another_body_is_a_conflict_and_starts_nothing(store: Store) -> None:
    store.accept(new_run(), delivery=delivery()).result(10)
    other = new_run()

    with pytest.raises(Conflict):
        store.accept(other, delivery=delivery(body=b"[]")).result(10)

    with pytest.raises(NotFound):
        store.run(other.id)


@pytest.mark.parametrize("key", ["' OR 1=1 --", "🔑", "a" * 256])
def test_delivery_ids_are_taken_literally_and_belong_to_their_task(store: Store, key: str) -> None:
    store.accept(new_run(), delivery=delivery(key)).result(10)

    other_task = store.accept(new_run(), delivery=delivery(key, task_id="other")).result(10)

    assert other_task.first
    assert store.known_delivery("job", key) is not None
    assert store.known_delivery("job", key + "x") is None


def test_deliveries_without_an_id_are_never_the_same(store: Store) -> None:
    accepted = [store.accept(new_run(), delivery=delivery(None)).result(10) for _ in range(2)]

    assert all(each.first for each in accepted)


def test_a_filtered_delivery_stays_filtered_when_it_comes_again(store: Store) -> None:
    filtered = store.record_delivery(delivery(verdict="filtered")).result(10)

    again = store.record_delivery(delivery(verdict="filtered")).result(10)
    accepted = store.accept(new_run(), delivery=delivery()).result(10)

    assert (filtered.run_id, filtered.first) == (None, True)
    assert (again.first, accepted.first, accepted.run_id) == (False, False, None)
    assert store.runs(RunFilter()).items == []


def test_a_refused_delivery_stands_in_the_way_of_no_later_one(store: Store) -> None:
    refused = delivery(verdict="unsigned", status=401, detail="bad signature")
    store.record_delivery(refused).result(10)

    accepted = store.accept(new_run(), delivery=delivery()).result(10)

    assert accepted.first
    kept = store.delivery(refused.id)
    assert (kept.verdict, kept.status, kept.detail, kept.run_id) == ("unsigned", 401, "bad signature", None)


def test_fifty_deliveries_of_one_message_at_once_are_one_run(stores: Callable[[], Store]) -> None:
    both = [stores(), stores()]
    gate = threading.Barrier(50)

    def send(place: int) -> tuple[str | None, bool]:
        gate.wait(20)
        accepted = both[place % 2].accept(new_run(), delivery=delivery()).result(20)
        return accepted.run_id, accepted.first

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(send, range(50)))

    assert len({run_id for run_id, _ in answers}) == 1
    assert sum(first for _, first in answers) == 1
    assert len(both[0].runs(RunFilter()).items) == 1


def test_a_repeated_key_gives_the_first_run_and_another_body_is_a_conflict(store: Store) -> None:
    first = new_run()
    store.accept(first, once=IdempotencyKey("runs", "k", "sha-1")).result(10)

    again = store.accept(new_run(), once=IdempotencyKey("runs", "k", "sha-1")).result(10)
    elsewhere = store.accept(new_run(), once=IdempotencyKey("other", "k", "sha-2")).result(10)

    assert (again.run_id, again.first, elsewhere.first) == (first.id, False, True)
    with pytest.raises(Conflict):
        store.accept(new_run(), once=IdempotencyKey("runs", "k", "sha-2")).result(10)
    assert len(store.runs(RunFilter()).items) == 2


def test_fifty_requests_with_one_key_at_once_are_one_run(store: Store) -> None:
    with ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(lambda _: store.accept(new_run(), once=IdempotencyKey("runs", "k", "s")).result(20), range(50)),
        )

    assert len({answer.run_id for answer in answers}) == 1
    assert [answer.first for answer in answers].count(True) == 1


def test_an_answer_is_remembered_once(store: Store) -> None:
    key = IdempotencyKey("tokens", "k", "sha")

    assert store.recall(key) is None
    store.remember(key, "first")
    store.remember(key, "second")

    assert store.recall(key) == "first"
    with pytest.raises(Conflict):
        store.recall(replace(key, body_sha256="other"))


def test_a_run_id_that_is_taken_is_a_conflict_and_changes_nothing(store: Store) -> None:
    run = new_run()
    store.accept(run).result(10)

    with pytest.raises(Conflict):
        store.accept(replace(run, prompt="other")).result(10)

    assert store.prompt(run.id) == "do it"


def test_half_a_surrogate_pair_is_refused_and_harms_nobody_else(store: Store) -> None:
    bad, good = store.accept(new_run(prompt="\ud800")), store.accept(new_run())

    with pytest.raises(Invalid):
        bad.result(10)

    assert good.result(10).first


def test_whoever_stops_waiting_for_an_acceptance_stops_nobody_else(store: Store) -> None:
    left = [store.accept(new_run()) for _ in range(20)]
    for future in left:
        future.cancel()

    after = store.accept(new_run()).result(10)

    assert after.first
    assert all(future.result(10).first for future in left)
