"""Webhooks, and ends of attempts, that are committed together: each gets what it would have got alone."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from optio.errors import Conflict
from optio.model.retry import RetryAt
from optio.model.run import Outcome, Run, RunState
from optio.model.usage import Meter, Usage
from optio.store.base import Store
from optio.store.sql import deliveries
from optio.store.sql.bulk import run_batch
from optio.store.sql.claims import Finish
from optio.store.sql.runs import Accept
from optio.store.sql.store import SqlStore
from optio.store.values import Accepted, Claim, IdempotencyKey, NewDelivery, NewRun, RunFilter
from tests.store.build import BAD, OK, Clock, claimed, delivery, give_up, new_run, queued, task

Asked = tuple[NewRun, NewDelivery | None]


def together(store: Store, *asked: Asked, once: IdempotencyKey | None = None) -> list[Accepted]:
    """Accept all of them in one transaction."""
    assert isinstance(store, SqlStore)
    accepts = [Accept(run, received, once, definition_kept=True) for run, received in asked]
    return list(store._engine.write(lambda tx: run_batch(tx, accepts)).result(20))


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
    key = IdempotencyKey("runs:job", "k", "sha")
    (first,) = together(store, (new_run(), None), once=key)

    again = together(store, (new_run(), None), (new_run(), None), once=key)

    assert again == [Accepted(first.run_id, first=False)] * 2


# Ends of attempts


def finish(claim: Claim, outcome: Outcome = OK, **changes: Any) -> Finish:
    given = {"exit_code": 0, "signal": None, "decide": give_up, "meter": Meter(), **changes}
    return Finish(lease=claim.run.lease, outcome=outcome, **given)


def finished(store: Store, *finishes: Finish) -> list[Run | None]:
    """Finish all of them in one transaction."""
    assert isinstance(store, SqlStore)
    return list(store._engine.write(lambda tx: run_batch(tx, finishes)).result(20))


def test_attempts_that_end_together_end_as_they_would_alone(store: Store, clock: Clock) -> None:
    claims = [claimed(store) for _ in range(5)]
    store.cancel(claims[3].run.id, "eve")
    later = clock.move(seconds=3) + timedelta(seconds=5)
    meter = Meter(usage=Usage(fresh=7), turns=2, cost=Decimal("0.25"))

    runs = finished(
        store,
        finish(claims[0], Outcome(ok=True, reason="ok", text="done ✓", output={"a": [1]}), meter=meter),
        finish(claims[1], BAD, exit_code=3),
        finish(claims[2], BAD, decide=lambda run, outcome, now: RetryAt(later)),
        finish(claims[3]),
        finish(claims[4], BAD, exit_code=None, signal=9),
    )

    assert runs == [store.run(claim.run.id) for claim in claims]
    seen = [(run.state, run.reason, run.text, run.output, run.ended_at, run.retries) for run in runs if run]
    assert seen == [
        (RunState.COMPLETED, "ok", "done ✓", {"a": [1]}, clock.at, 0),
        (RunState.FAILED, "exit_code", "half", None, clock.at, 0),
        (RunState.QUEUED, "exit_code", None, None, None, 1),
        (RunState.CANCELLED, "cancelled", None, None, clock.at, 0),
        (RunState.FAILED, "exit_code", "half", None, clock.at, 0),
    ]
    assert store.run(claims[2].run.id).not_before == later
    assert [store.run(claim.run.id).meter for claim in claims] == [meter, *[Meter()] * 4]
    ends = [store.attempts(claim.run.id)[0] for claim in claims]
    assert [(end.exit_code, end.signal, end.reason) for end in ends] == [
        (0, None, "ok"), (3, None, "exit_code"), (0, None, "exit_code"), (0, None, "cancelled"), (None, 9, "exit_code"),
    ]  # fmt: skip
    for claim, run in zip(claims, runs, strict=True):
        assert run is not None
        last = store.events(claim.run.id)[-1]
        assert (last.seq, last.from_state, last.to_state, last.actor) == (3, RunState.RUNNING, run.state, "w")


def test_an_end_that_comes_too_late_harms_no_other(store: Store, clock: Clock) -> None:
    claims = [claimed(store) for _ in range(3)]
    old = replace(claims[1], run=replace(claims[1].run, fence=7))

    runs = finished(store, finish(old, BAD), finish(claims[0]), finish(claims[0], BAD), finish(claims[1]), finish(claims[2]))

    assert [run and run.state for run in runs] == [None, RunState.COMPLETED, None, RunState.COMPLETED, RunState.COMPLETED]
    assert [len(store.events(claim.run.id)) for claim in claims] == [3, 3, 3]


def test_bodies_that_are_kept_together_stay_apart_byte_for_byte(store: Store) -> None:
    bodies = [b"", b"\0\xff\\x41'", "\N{SNOWMAN}".encode() * 1000, b'["lot"]', bytes(range(256)) * 99, b"\r\n"]
    wanted = [(new_run(), delivery(None, body)) for body in bodies]

    together(store, *wanted)

    assert [store.delivery(received.id).body for _, received in wanted] == bodies


def test_more_bytes_than_one_statement_takes_are_kept_by_several(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "_MAX_STATEMENT_BYTES", 5)
    bodies = [b"abc", b"defg", b"", b"hijklmn", b"o"]
    wanted = [(new_run(), delivery(None, body)) for body in bodies]

    accepted = together(store, *wanted)

    assert all(each.first for each in accepted)
    assert [store.delivery(received.id).body for _, received in wanted] == bodies
