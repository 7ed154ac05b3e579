"""Retry policy: which failed attempt is tried again, and when."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from optio.model.run import Outcome, Run

FIRST_DELAY = timedelta(seconds=5)
LONGEST_DELAY = timedelta(minutes=10)
# A machine that loses every attempt must not spin for ever.
MOST_INFRASTRUCTURE_RETRIES = 5


@dataclass(frozen=True, slots=True)
class Again:
    """Queue the run again, not before `at`."""

    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The run has failed for good; `why` completes the reason for people."""

    why: str


def decide(run: Run, outcome: Outcome, *, now: datetime, jitter: float) -> Again | GiveUp:
    """5 s * 2^n, plus up to a quarter of it (`jitter` in 0..1), at most 10 min; the agent's own Retry-After is a floor."""
    if not outcome.again:
        return GiveUp("a second try cannot help")
    if outcome.infrastructure:
        if run.infrastructure_retries >= MOST_INFRASTRUCTURE_RETRIES:
            return GiveUp(f"lost {run.infrastructure_retries} times")
        return Again(now)
    if run.retries >= run.max_retries:
        return GiveUp("no retries left" if run.max_retries else "the task allows no retries")
    delay = min(FIRST_DELAY * 2 ** min(run.retries, 20), LONGEST_DELAY)
    delay = max(delay * (1 + jitter / 4), timedelta(seconds=outcome.not_before_s))
    return Again(now + delay)
