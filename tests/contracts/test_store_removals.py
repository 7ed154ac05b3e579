"""What every store promises about held removals: all servers of a database share holds and releases."""

from collections.abc import Callable

from optio.store.base import Store
from tests.contracts.conftest import Clock


def test_a_hold_is_kept_with_the_time_of_its_beginning(store: Store, clock: Clock) -> None:
    began = clock.at
    first = store.hold_removals(["one", "two"])
    clock.move(seconds=50)
    second = store.hold_removals(["two", "three"])

    assert {task_id: row.held_at for task_id, row in first.items()} == {"one": began, "two": began}
    assert {task_id: row.held_at for task_id, row in second.items()} == {"two": began, "three": clock.at}
    assert store.removals().keys() == {"one", "two", "three"}
    assert {row.released_at for row in store.removals().values()} == {None}


def test_a_release_is_seen_by_every_server_and_after_a_restart(stores: Callable[[], Store]) -> None:
    first, second = stores(), stores()
    first.hold_removals(["one", "two"])

    second.release_removals(["one"], "ann")

    rows = first.hold_removals(["one", "two"])
    assert rows["one"].released_by == "ann"
    assert rows["one"].released_at is not None
    assert (rows["two"].released_by, rows["two"].released_at) == (None, None)
    assert stores().removals() == rows


def test_a_release_counts_for_an_hour_and_then_the_task_is_held_anew(store: Store, clock: Clock) -> None:
    store.hold_removals(["one"])
    store.release_removals(["one"], "ann")
    clock.move(seconds=3599)
    assert store.hold_removals(["one"])["one"].released_by == "ann"
    clock.move(seconds=2)

    assert store.removals() == {}
    row = store.hold_removals(["one"])["one"]
    assert (row.held_at, row.released_at, row.released_by) == (clock.at, None, None)


def test_a_task_may_be_released_that_no_server_has_noted_yet(store: Store) -> None:
    store.release_removals(["one"], "ann")

    assert store.hold_removals(["one"])["one"].released_by == "ann"


def test_holds_and_releases_of_tasks_that_are_back_are_dropped(store: Store) -> None:
    store.hold_removals(["one", "two", "three"])
    store.release_removals(["two"], "ann")

    store.drop_removals(["one", "two", "absent"])

    assert store.removals().keys() == {"three"}


def test_thousands_of_tasks_are_held_and_released_together(store: Store) -> None:
    many = [f"task-{number}" for number in range(3000)]

    assert len(store.hold_removals(many)) == 3000
    store.release_removals(many, "ann")
    assert sum(row.released_by == "ann" for row in store.hold_removals(many).values()) == 3000
