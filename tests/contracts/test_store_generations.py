"""Generations in the store: what is activated, by which server, and what a run says of it."""

import random
from collections.abc import Callable
from datetime import timedelta

import pytest

from optio.errors import Conflict, NotFound
from optio.model.fleet import ProcessKind
from optio.model.registry import CompiledTask, Registry
from optio.store.base import Store
from optio.store.values import Activated
from tests.store.build import Clock, new_run, queued, task


def registry(*tasks: CompiledTask) -> Registry:
    return Registry.of({each.id: each for each in tasks})


def versions(name: str) -> list[CompiledTask]:
    return [task(name, f"maxConcurrent: {most}\n") for most in (1, 2)]


def test_what_follows_a_generation_is_refused_when_that_is_not_the_newest(stores: Callable[[], Store]) -> None:
    one, two = stores(), stores()
    before, after = (registry(each) for each in versions("Job"))
    first = one.activate(before, None, Activated(0, None))

    with pytest.raises(Conflict):
        two.activate(after, None, Activated(0, None))
    second = two.activate(after, None, Activated(first.id, before))
    with pytest.raises(Conflict):
        one.activate(before, None, Activated(first.id, after))

    assert one.newest_generation() == two.newest_generation() == second.id
    assert list(one.served_definitions()) == [task.digest for task in after.tasks.values()]


def test_the_same_again_is_the_same_generation_whatever_it_was_to_follow(store: Store) -> None:
    first = store.activate(registry(task()), "abc")

    assert store.activate(registry(task()), "abc", Activated(first.id - 1, None)) == first


@pytest.mark.parametrize("seed", range(3))
def test_what_has_changed_alone_comes_to_the_same_as_the_whole_tree(stores: Callable[[], Store], seed: int) -> None:
    some, pool = random.Random(seed), [versions(f"Job {number}") for number in range(8)]
    store, before, last = stores(), None, 0
    for _ in range(12):
        now = registry(*(some.choice(each) for each in some.sample(pool, some.randint(0, len(pool)))))
        last = store.activate(now, None, Activated(last, before)).id
        before = now

        served = store.served_definitions()
        assert served.keys() == {each.digest for each in now.tasks.values()}
        assert store.generation() == stores().activate(now, None)


def test_the_server_that_activates_is_in_sync_with_it_from_the_same_moment(store: Store, clock: Clock) -> None:
    made = store.activate(registry(task()), None, Activated(0, None), "here")

    (row,) = store.servers()
    assert (row.name, row.generation, row.in_sync, row.seen_at) == ("here", made.id, True, clock.at)


def test_a_server_that_says_nothing_for_half_a_minute_is_gone(stores: Callable[[], Store], clock: Clock) -> None:
    store, other = stores(), stores()
    store.note_server("b", 1, in_sync=True)
    clock.move(seconds=20)
    other.note_server("a", 2, in_sync=False)

    assert [(row.name, row.generation, row.in_sync) for row in store.servers()] == [("a", 2, False), ("b", 1, True)]
    clock.move(seconds=11)
    assert [row.name for row in store.servers()] == ["a"]
    store.note_server("c", 2, in_sync=True)
    assert store._engine.peek(lambda tx: tx.all("SELECT server FROM servers WHERE server = 'b'")) == []  # type: ignore[attr-defined]
    store.forget_process(ProcessKind.SERVER, "a")
    store.forget_process(ProcessKind.SERVER, "c")
    assert other.servers() == []


def test_what_a_server_said_before_the_clock_was_set_back_does_not_count_for_longer(store: Store, clock: Clock) -> None:
    store.note_server("a", 1, in_sync=True)

    clock.move(hours=-1)

    assert store.servers() == []


def test_a_run_says_the_generation_that_it_was_accepted_by(store: Store) -> None:
    first = store.activate(registry(task()), None)
    store.activate(registry(*versions("Job")[1:]), None)

    accepted = store.accept(new_run(generation=first.id)).result(10)

    assert store.run(str(accepted.run_id)).generation == first.id


def test_generations_are_read_newest_first_with_their_tasks_and_the_runs_of_a_time(store: Store, clock: Clock) -> None:
    one, two = versions("Job")
    first = store.activate(registry(one), "abc")
    clock.move(seconds=10)
    second = store.activate(registry(two), None)
    for _ in range(3):
        queued(store, two)
    end = second.activated_at + timedelta(seconds=1)

    assert [(head.id, head.commit) for head in store.generation_heads(2**62, 9)] == [(second.id, None), (first.id, "abc")]
    assert [head.id for head in store.generation_heads(second.id, 9)] == [first.id]
    assert [head.id for head in store.generation_heads(2**62, 1)] == [second.id]
    assert store.generation_tasks(first.id) == {"job": one.digest}
    assert [store.count_accepted(second.activated_at, end, most) for most in (2, 9)] == [2, 3]
    assert store.count_accepted(first.activated_at, second.activated_at, 9) == 0
    with pytest.raises(NotFound):
        store.generation_tasks(second.id + 1)
