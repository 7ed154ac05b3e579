"""Sessions of agents: whether a further attempt goes on in the conversation that the last one broke off, or that ended with a
result which does not fit. Pure; `runs.execute` asks before it starts an agent and after one has ended, and `processes.worker`
before it removes files.

An attempt continues the session of the attempt before it, in whose HOME and working directory it runs. These stay in the
directory of the first attempt of the session, however many go on there.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from optio.model.run import Attempt, Run, RunState

# How an attempt ends that was interrupted. After any other failure the conversation itself may be at fault.
INTERRUPTED = frozenset({"network", "overloaded", "rate_limit", "server_error", "lost", "stalled", "signal"})
# How an attempt ends whose agent may be told what is wrong with its result, once in a run.
UNFIT = frozenset({"result_invalid", "result_missing"})
# The reason of an attempt whose agent could not go on.
REFUSED = "session_refused"
# It becomes an argument of the agent's CLI, and the agent may have chosen it.
_SESSION_ID = re.compile(r"[A-Za-z0-9][\w-]{5,99}\Z", re.ASCII)


class Session(NamedTuple):
    """A session in which the next attempt may go on: its id, the attempt whose directory it is in, the attempt that it
    continues, why that one ended, by a word and for people, and how many tool calls it has had."""

    id: str
    first: int
    last: int
    reason: str
    message: str
    tool_calls: int


def session_to_continue(attempts: Sequence[Attempt]) -> Session | None:
    """Return the session that these attempts of a run, oldest first, leave to the next one; None if that begins anew.

    Attempts whose agent never began are passed over. An agent that had no answer from its model yet has nothing to go on with,
    and some CLIs keep not even the prompt then.
    """
    started_attempts = [
        attempt for attempt in attempts if attempt.agent_started_at is not None or attempt.agent.session is not None
    ]
    last = started_attempts[-1] if started_attempts else None
    if last is None or last.ended_at is None:
        return None
    if last.reason not in INTERRUPTED and (last.reason not in UNFIT or was_repaired(attempts)):
        return None
    session = _attempts_of_session(last, {attempt.number: attempt for attempt in attempts})
    # An agent that goes on and dies at once has not told its session again.
    session_id = next((attempt.agent.session for attempt in session if attempt.agent.session is not None), "")
    if _SESSION_ID.match(session_id) is None or not any(attempt.meter.usage.total for attempt in session):
        return None
    return Session(
        id=session_id,
        first=session[-1].number,
        last=last.number,
        reason=last.reason or "",
        message=last.message or "",
        tool_calls=sum(attempt.meter.tool_calls for attempt in session),
    )


def used_directory(run: Run, attempts: Sequence[Attempt]) -> int | None:
    """Return the ended attempt of a run in whose directory its session is, if that goes on or may go on; None if the run needs
    nothing of its ended attempts."""
    if run.state.terminal:
        return None
    if run.state is RunState.RUNNING:
        current = next((attempt for attempt in attempts if attempt.number == run.attempt), None)
        if current is not None and current.continues is not None:
            return _attempts_of_session(current, {attempt.number: attempt for attempt in attempts})[-1].number
        if current is None or current.agent_started_at is not None:
            return None
    # A running attempt whose agent has not begun may be about to continue the session. The attempts may be newer than the run.
    newest = run.attempt if run.state is RunState.QUEUED else run.attempt - 1
    session = session_to_continue([attempt for attempt in attempts if attempt.number <= newest])
    return None if session is None else session.first


def _attempts_of_session(last: Attempt, by_number: dict[int, Attempt]) -> list[Attempt]:
    """Return the attempts of a session, newest first."""
    numbers = [last]
    while (before := by_number.get(numbers[-1].continues or 0)) is not None:
        numbers.append(before)
    return numbers


def was_repaired(attempts: Sequence[Attempt]) -> bool:
    """Return whether one of these attempts of a run was there to mend the result of another."""
    unfit = {attempt.number for attempt in attempts if attempt.reason in UNFIT}
    return any(attempt.continues in unfit for attempt in attempts)


def prompt_to_go_on(session: Session) -> str:
    """Return what the agent is told in a session that goes on."""
    if session.reason in UNFIT:
        return f"Your result does not fit: {session.message.rstrip('.')}. Give the whole result again, as you were asked to."
    return f"Your last answer was interrupted ({session.reason.replace('_', ' ')}). Go on with the task."
