"""The retry policy: which failed attempts are tried again, and when. Pure; `optio.runs` passes the decision to the store."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from optio.model.money import RunBudget, dollars
from optio.model.run import Outcome, Run

FIRST_DELAY = timedelta(seconds=5)
MAX_DELAY = timedelta(minutes=10)
# An agent that asks for a longer delay is not followed: the run would seem never to end.
MAX_FLOOR = timedelta(days=1)
# A machine that loses every attempt must not repeat it for ever.
MAX_INFRASTRUCTURE_RETRIES = 5
# Reasons that a second attempt cannot change, whoever reports them.
HOPELESS = frozenset(
    {"auth", "quota", "context_overflow", "model_not_found", "bad_request", "refusal", "truncated", "loop", "denied", "config"}
    | {"budget", "max_turns", "cancelled", "timeout", "stalled"}
)


_NO_BUDGET = RunBudget()
# Whether the agent can be told once, in its session, what is wrong with its result; or has been told.
Repair = Literal["possible", "made"]


@dataclass(frozen=True, slots=True)
class RetryAt:
    """The decision to queue the run again, not before `at`; one that does not count leaves the run all its retries."""

    at: datetime
    counts: bool = True


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The decision that the run has failed for good. `why` completes the message for people; `reason` replaces the attempt's
    own reason where it is given."""

    why: str
    reason: str | None = None


def decide_retry(
    run: Run,
    outcome: Outcome,
    *,
    now: datetime,
    jitter: float,
    budget: RunBudget = _NO_BUDGET,
    repair: Repair | None = None,
) -> RetryAt | GiveUp:
    """Return when a failed attempt is tried again: 5 s * 2^n, at most 10 min, plus up to a quarter of it (`jitter` in 0..1).
    The agent's own Retry-After is a floor.

    Infrastructure failures, which are no fault of the task, are repeated at once the first time and then with the same delays.
    Nothing is repeated once the run's attempts, this one included, have spent its `budget`, nor after an amount that nobody
    knows, unless the infrastructure failed. A repair of the result follows at once and costs no retry. It is the only one.
    """
    if not outcome.again:
        return GiveUp("another try would not help")
    if repair == "made":
        return GiveUp("the agent was told so, and did not mend it")
    if outcome.infrastructure and run.infrastructure_retries >= MAX_INFRASTRUCTURE_RETRIES:
        return GiveUp(f"lost {run.infrastructure_retries} times")
    if repair is None and not outcome.infrastructure and run.retries >= run.max_retries:
        return GiveUp("no retries left" if run.max_retries else "the task allows no retries")
    if budget.limit is not None and budget.is_spent:
        spent_text = f"{dollars(budget.spent, exact=True)} of the run's budget of {dollars(budget.limit)}"
        return GiveUp(f"no retry: {spent_text} is spent", reason="budget")
    if budget.is_unknown and not outcome.infrastructure:
        return GiveUp("no retry: nobody knows what the attempt has cost, so what is left of `budgetUsd` is unknown")
    if repair == "possible":
        return RetryAt(now, counts=False)
    if outcome.infrastructure:
        before = run.infrastructure_retries - 1
        return RetryAt(now if before < 0 else now + _delay(before, jitter))
    # In this order NaN counts as the longest delay.
    floor = max(0.0, min(MAX_FLOOR.total_seconds(), outcome.not_before_s))
    return RetryAt(now + max(_delay(run.retries, jitter), timedelta(seconds=floor)))


def _delay(before: int, jitter: float) -> timedelta:
    delay: timedelta = min(FIRST_DELAY * 2 ** min(before, 20), MAX_DELAY)
    return delay * (1 + jitter / 4)
