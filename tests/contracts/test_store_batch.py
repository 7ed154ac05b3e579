"""Webhooks that are committed together: each gets what it would have got alone."""

from collections.abc import Sequence

import pytest

from optio.errors import Conflict
from optio.model.run import RunState
from optio.store.base import Accepted, NewDelivery, NewRun, Once, RunFilter, Store
from optio.store.sql.batch import perform
from optio.store.sql.runs import Accept
from optio.store.sql.store import SqlStore
from tests.store.build import delivery, new_run, queued, task

Asked = tuple[NewRun, NewDelivery | None]


def together(store: Store, *asked: Asked, once: Once | None = None) -> list[Accepted]:
    """Accept all of them in one transaction."""
    assert isinstance(store, SqlStore)
    accepts = [Accept(run, received, once, definition_kept=True) for run, received in asked]
    return list(store._engine.write(lambda tx: perform(tx, accepts)).result(20))


def asked(*keys: str | None, body: bytes = b"{}") -> list[Asked]:
    """A webhook for each key."""
    return [(new_run(), delivery(key, body)) for key in keys]


def ids(accepted: Sequence[Accepted]) -> list[str | None]:
    return [each.run_id for each in accepted]


@pytest.fixture(autouse=True)
def known(store: Store) -> None:
    """The definition is kept already, as it is for nearly all webhooks."""
    queued(store, task())


def test_each_gets_its_own_run_with_its_event_and_delivery(store: Store) -> None:
    wanted = asked("a", "b", None, None)

    accepted = together(store, *wanted)

    assert accepted == [Accepted(run.id, first=True) for run, _ in wanted]
    for run, received in wanted:
        assert received is not None
        kept = store.run(run.id)
        assert (kept.state, kept.delivery_id, kept.params) == (RunState.QUEUED, received.id, {"A": 1})
        assert [(event.seq, event.to_state, event.actor) for event in store.events(run.id)] == [(1, RunState.QUEUED, "me")]
        assert store.delivery(received.id).run_id == run.id


def test_a_delivery_that_is_known_gets_the_first_run_and_harms_no_other(store: Store) -> None:
    (first,) = together(store, *asked("a"))
    wanted = asked("b", "a", "c")

    accepted = together(store, *wanted)

    assert ids(accepted) == [wanted[0][0].id, first.run_id, wanted[2][0].id]
    assert [each.first for each in accepted] == [True, False, True]
    assert len(store.runs(RunFilter()).items) == 1 + 3


def test_two_deliveries_of_one_key_in_one_commit_are_one_run(store: Store) -> None:
    accepted = together(store, *asked("same", "other", "same"))

    assert accepted[0].run_id == accepted[2].run_id != accepted[1].run_id
    assert [each.first for each in accepted].count(True) == 2
    assert len(store.runs(RunFilter()).items) == 1 + 2


def test_a_conflict_among_them_is_an_error_of_that_one_alone(store: Store) -> None:
    together(store, *asked("a", "z", body=b"first"))
    assert isinstance(store, SqlStore)

    good, bad = asked("b", "a", body=b"second")
    futures = [store.accept(run, delivery=received) for run, received in (good, bad)]

    assert futures[0].result(20) == Accepted(good[0].id, first=True)
    with pytest.raises(Conflict, match="another body"):
        futures[1].result(20)


def test_what_has_an_idempotency_key_is_done_alone_and_right(store: Store) -> None:
    key = Once("runs:job", "k", "sha")
    (first,) = together(store, (new_run(), None), once=key)

    again = together(store, (new_run(), None), (new_run(), None), once=key)

    assert again == [Accepted(first.run_id, first=False)] * 2
