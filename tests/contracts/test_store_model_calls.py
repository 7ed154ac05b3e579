"""What every store promises of keys of attempts and their model calls: a key dies with its attempt, and all calls of a run
together stay within its budget, however many come at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pytest

from optio.errors import LeaseLost, NotFound
from optio.model.model_call import Account, AttemptKey, PlannedCall, RefusedCall, SettledCall, key_digest
from optio.model.run import Lease
from optio.model.usage import Usage
from optio.store.base import Store
from optio.store.values import Claim
from tests.store.build import LEASE, OK, Clock, at_most, at_once, claimed, end

CALL = Decimal("0.4")


def key_of(claim: Claim, text: str = "a key", limit: str | None = "1.00", spent: str = "0") -> AttemptKey:
    return AttemptKey(
        digest=key_digest(text),
        run_id=claim.run.id,
        attempt=claim.run.attempt,
        definition=claim.run.digest,
        upstream="https://models.example",
        credential="ANTHROPIC_API_KEY",
        limit=None if limit is None else Decimal(limit),
        spent=Decimal(spent),
        is_priced=True,
    )


def opened(store: Store, **changes: str) -> AttemptKey:
    claim = claimed(store)
    key = key_of(claim, **changes)
    store.open_key(claim.run.lease, key)
    return key


def plan(account: Account) -> PlannedCall | RefusedCall:
    if account.left is not None and account.left < CALL:
        return RefusedCall(reason="budget", message="spent", has_open=account.has_open)
    return PlannedCall(reserved=CALL)


def ended(cost: str | None, tokens: int = 500) -> SettledCall:
    return SettledCall(
        model="answered",
        usage=Usage(fresh=tokens, output=7),
        cost=None if cost is None else Decimal(cost),
        is_estimate=False,
    )


def test_a_key_is_known_while_its_attempt_runs_and_not_after(store: Store) -> None:
    claim = claimed(store)
    key = key_of(claim)
    assert store.attempt_key(key.digest) is None

    store.open_key(claim.run.lease, key)

    assert store.attempt_key(key.digest) == key
    assert store.attempt_key(key_digest("another")) is None
    end(store, claim, OK)
    assert store.attempt_key(key.digest) is None
    with pytest.raises(NotFound):
        store.admit_call(key, "c", "m", 9, plan)


def test_the_next_attempt_has_another_key(store: Store) -> None:
    first = claimed(store)
    store.open_key(first.run.lease, key_of(first))
    failed = replace(OK, ok=False, reason="network", again=True)
    end(store, first, failed, decide=at_once)
    (second,) = store.claim("w", LEASE, at_most(1))

    assert store.attempt_key(key_digest("a key")) is None
    store.open_key(second.run.lease, key_of(second, "its key"))

    known = store.attempt_key(key_digest("its key"))
    assert known is not None
    assert known.attempt == 2


def test_an_adopted_attempt_keeps_its_key_and_only_its_owner_may_change_it(store: Store, clock: Clock) -> None:
    key = opened(store)
    clock.move(seconds=11)
    (adopted,) = store.adopt("other", LEASE, 1)

    assert store.attempt_key(key.digest) == key
    with pytest.raises(LeaseLost):
        store.open_key(Lease(adopted.run.id, adopted.run.fence - 1), key)


def test_money_is_reserved_before_a_call_and_settled_after_it(store: Store) -> None:
    key = opened(store)
    seen: list[Account] = []

    def look(account: Account) -> PlannedCall | RefusedCall:
        seen.append(account)
        return plan(account)

    assert store.admit_call(key, "1", "m", 1000, look) == PlannedCall(reserved=CALL)
    assert store.admit_call(key, "2", "m", 2000, look) == PlannedCall(reserved=CALL)
    store.settle_call(key, "1", ended("0.1"))
    store.settle_call(key, "1", ended("0.9"))  # the first counts
    store.admit_call(key, "3", "m", 10, look)

    assert [account.left for account in seen] == [Decimal(1), Decimal("0.6"), Decimal("0.5")]
    assert [account.has_open for account in seen] == [False, True, True]
    assert [account.tokens_per_byte for account in seen] == [None, None, Decimal("0.5")]
    totals = store.call_totals(key.run_id, key.attempt)
    assert totals is not None
    assert (totals.calls, totals.open, totals.cost, totals.is_estimate) == (3, 2, Decimal("0.9"), True)
    assert totals.usage == Usage(fresh=500, output=7)


def test_a_refusal_is_kept_unless_the_call_may_fit_later(store: Store) -> None:
    key = opened(store, limit="0.5")
    store.admit_call(key, "1", "m", 1, plan)

    waits = store.admit_call(key, "2", "m", 1, plan)
    before = store.call_totals(key.run_id, key.attempt)
    store.settle_call(key, "1", ended("0.3"))
    refused = store.admit_call(key, "2", "m", 1, plan)

    assert isinstance(waits, RefusedCall)
    assert waits.has_open
    assert before is not None
    assert before.refusal is None
    assert refused == RefusedCall(reason="budget", message="spent")
    after = store.call_totals(key.run_id, key.attempt)
    assert after is not None
    assert (after.calls, after.open, after.refusal) == (1, 0, refused)


def test_what_earlier_attempts_have_spent_counts(store: Store) -> None:
    key = opened(store, spent="0.7")

    assert isinstance(store.admit_call(key, "1", "m", 1, plan), RefusedCall)


def test_a_call_of_unknown_cost_makes_the_cost_of_the_attempt_unknown(store: Store) -> None:
    key = opened(store)
    store.admit_call(key, "1", "m", 1, plan)
    store.settle_call(key, "1", ended(None))

    totals = store.call_totals(key.run_id, key.attempt)

    assert totals is not None
    assert totals.cost is None


def test_an_attempt_without_a_key_has_no_totals(store: Store) -> None:
    claim = claimed(store)

    assert store.call_totals(claim.run.id, claim.run.attempt) is None


def test_calls_that_come_at_once_do_not_spend_more_than_the_budget(stores: Callable[[], Store]) -> None:
    gateways = [stores(), stores()]
    key = opened(gateways[0], limit="2.00")

    def admit(number: int) -> PlannedCall | RefusedCall:
        return gateways[number % 2].admit_call(key, str(number), "m", 1, plan)

    with ThreadPoolExecutor(12) as pool:
        planned = list(pool.map(admit, range(24)))

    assert sum(isinstance(call, PlannedCall) for call in planned) == 5
    totals = gateways[1].call_totals(key.run_id, key.attempt)
    assert totals is not None
    assert totals.cost == Decimal(2)


def test_keys_and_calls_go_with_their_run(store: Store) -> None:
    claim = claimed(store)
    key = key_of(claim)
    store.open_key(claim.run.lease, key)
    store.admit_call(key, "1", "m", 1, plan)
    end(store, claim, OK)

    store.delete_run(claim.run.id)

    assert store.call_totals(claim.run.id, claim.run.attempt) is None


def test_a_call_that_its_gateway_no_longer_renews_is_lost_and_still_counts(store: Store, clock: Clock) -> None:
    key = opened(store, limit="0.5")
    store.admit_call(key, "1", "m", 1, plan)
    clock.move(seconds=8)
    store.renew_calls([(key, "1")])
    clock.move(seconds=8)
    kept = store.admit_call(key, "2", "m", 1, plan)
    clock.move(seconds=3)

    lost = store.admit_call(key, "2", "m", 1, plan)

    assert isinstance(kept, RefusedCall)
    assert isinstance(lost, RefusedCall)
    assert (kept.has_open, lost.has_open) == (True, False)
    totals = store.call_totals(key.run_id, key.attempt)
    assert totals is not None
    assert (totals.open, totals.cost, totals.is_estimate) == (0, CALL, True)


def test_a_refusal_after_which_the_agent_went_on_is_not_why_it_ended(store: Store, clock: Clock) -> None:
    key = opened(store)
    store.admit_call(key, "1", "m", 1, lambda account: RefusedCall(reason="budget", message="too dear"))
    clock.move(seconds=1)
    before = store.call_totals(key.run_id, key.attempt)
    store.admit_call(key, "2", "m", 1, plan)

    after = store.call_totals(key.run_id, key.attempt)

    assert before is not None
    assert before.refusal is not None
    assert after is not None
    assert after.refusal is None


def test_calls_of_a_connection_are_counted_for_each_attempt_and_connection(store: Store) -> None:
    key = opened(store)

    assert [store.count_call(key, name) for name in ("github", "github", "status", "github")] == [1, 2, 1, 3]


def test_a_key_that_opens_no_model_has_no_totals(store: Store) -> None:
    key = opened(store)
    assert store.call_totals(key.run_id, key.attempt) is not None

    kept = store.attempt_key(key.digest)
    assert kept == key


def test_each_call_is_listed_as_it_went(store: Store, clock: Clock) -> None:
    key = opened(store)
    answered = replace(ended("0.1"), status=200, first_byte_s=0.25, duration_s=1.5)
    broken = replace(ended("0.1"), status=200, is_estimate=True)
    failed = replace(ended("0"), status=529, usage=Usage())
    for number, call in enumerate((answered, broken, failed), 1):
        store.admit_call(key, str(number), "asked", 1, plan, protocol="Anthropic Messages")
        store.settle_call(key, str(number), call)
        clock.move(seconds=1)
    store.admit_call(key, "4", "asked", 1, lambda account: RefusedCall(reason="budget", message="spent"))
    clock.move(seconds=1)
    store.admit_call(key, "5", "asked", 1, plan)
    clock.move(seconds=11)
    store.admit_call(key, "6", "asked", 1, plan)

    calls = store.model_calls(key.run_id)

    assert [call.outcome for call in calls] == ["answered", "broken", "failed", "refused", "lost", "open"]
    assert [call.number for call in calls] == [1, 2, 3, 4, 5, 6]
    assert [call.model for call in calls] == ["answered"] * 3 + [None] * 3
    assert [call.cost for call in calls] == [Decimal("0.1"), Decimal("0.1"), Decimal(0), None, CALL, CALL]
    assert [call.is_estimate for call in calls] == [False, True, False, False, True, True]
    first = calls[0]
    assert (first.requested_model, first.protocol, first.status) == ("asked", "Anthropic Messages", 200)
    assert (first.first_byte_s, first.duration_s, first.usage) == (0.25, 1.5, Usage(fresh=500, output=7))
    assert (calls[3].reason, calls[3].message) == ("budget", "spent")


def test_calls_are_listed_in_pages_and_by_attempt(store: Store) -> None:
    first = claimed(store)
    key = key_of(first)
    store.open_key(first.run.lease, key)
    store.admit_call(key, "1", "m", 1, plan)
    end(store, first, replace(OK, ok=False, reason="network", again=True), decide=at_once)
    (second,) = store.claim("w", LEASE, at_most(1))
    later = key_of(second, "another")
    store.open_key(second.run.lease, later)
    store.admit_call(later, "2", "m", 1, plan)

    run_id = first.run.id

    assert [call.attempt for call in store.model_calls(run_id)] == [1, 2]
    assert [call.number for call in store.model_calls(run_id, after=1)] == [2]
    assert [call.number for call in store.model_calls(run_id, limit=1)] == [1]
    assert [call.number for call in store.model_calls(run_id, attempt=2)] == [2]
    assert [attempt.model_calls for attempt in store.attempts(run_id)] == [1, 1]
    assert store.model_calls("another") == []
