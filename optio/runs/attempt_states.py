"""The states of one attempt at a run, and what every event makes of them. Pure: no clock, no store, no agent.

    waiting -> launching | adopting -> reading -> stopping -> ending -> ended
                                                           `-> returning -> given back

`runs.execute` performs the effects that a transition asks for, in their order, and reports the last one's event. A worker that
stops, or loses its lease, leaves the attempt in any of these states, and whoever takes it over begins with `waiting` again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from optio.executors.base import Exit
from optio.model.room import Delay
from optio.model.run import Outcome


class Phase(StrEnum):
    """The stages of an attempt, as its worker sees it."""

    WAITING = "waiting"  # claimed, and nothing of it is checked yet
    LAUNCHING = "launching"
    ADOPTING = "adopting"  # another worker had it: its agent is looked for
    READING = "reading"  # its output is read until it ends
    STOPPING = "stopping"  # the same, and its agent was asked to stop
    ENDING = "ending"  # its outcome is being stored
    RETURNING = "returning"  # its place in the queue is being stored
    RECOVERING = "recovering"  # this worker has failed: whether an agent began decides what follows
    ENDED = "ended"
    GIVEN_BACK = "given_back"
    LEFT = "left"  # another worker has the run, or will have it

    @property
    def is_final(self) -> bool:
        """Return whether nothing follows."""
        return self in (Phase.ENDED, Phase.GIVEN_BACK, Phase.LEFT)


class AttemptEffect(StrEnum):
    """An action of the worker that a transition asks for."""

    CHECK = "check"  # read the definition, and look for a reason not to begin
    LAUNCH = "launch"
    FIND = "find"  # look for the agent that another worker, or this one before it failed, may have started
    READ = "read"  # read and store the output, until something is to be decided
    STOP = "stop"
    AWAIT = "await"  # wait for the end without reading the output
    EXPLAIN = "explain"  # log why the attempt has failed
    END = "end"
    GIVE_BACK = "give_back"
    RELEASE = "release"  # let go of the agent, which goes on
    REMOVE = "remove"  # let go of an agent that has ended, with what nobody needs any more
    DROP = "drop"  # give up the lease


@dataclass(frozen=True, slots=True)
class Checked:
    """The definition was read. With a `refusal` no agent is begun or followed."""

    refusal: Outcome | None = None
    is_cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Launched:
    """The executor has the launch."""


@dataclass(frozen=True, slots=True)
class LaunchRefused:
    """The launch failed, and would fail again."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Delayed:
    """The agent cannot start for now."""

    delay: Delay


@dataclass(frozen=True, slots=True)
class Found:
    """An agent was found. One that is to `blame` for the deaths of its readers is stopped unread."""

    blame: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """No agent ever began, and none will."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody asked for the end of the run while its output was read."""


@dataclass(frozen=True, slots=True)
class StopDue:
    """A limit is reached, or it is pointless to go on."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class AgentEnded:
    """The agent has ended, and all of its output was read, unless it was stopped unread."""

    exit: Exit
    is_cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """The store has the outcome, or the run is back in the queue."""


@dataclass(frozen=True, slots=True)
class Performed:
    """An effect that has no answer was performed."""


@dataclass(frozen=True, slots=True)
class LeaseGone:
    """Another worker has the run now."""


@dataclass(frozen=True, slots=True)
class WorkerLeft:
    """This worker lets go of the run."""


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """A mistake of this program, or of the machine, has broken off an effect."""

    message: str


Event: TypeAlias = (
    Checked
    | Launched
    | LaunchRefused
    | Delayed
    | Found
    | Missing
    | CancelRequested
    | StopDue
    | AgentEnded
    | Stored
    | Performed
    | LeaseGone
    | WorkerLeft
    | WorkerFailed
)
Step: TypeAlias = tuple["AttemptState", tuple[AttemptEffect, ...]]

CANCELLED = Outcome(ok=False, reason="cancelled")
_LOST = Outcome(ok=False, reason="lost", message="its worker died before the agent began", again=True, infrastructure=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptState:
    """An attempt at one moment. `verdict` is the outcome that is certain already, whatever the agent's own end says; `delay` is
    why the agent could not start for now."""

    phase: Phase = Phase.WAITING
    is_adopted: bool = False
    is_cancelled: bool = False
    verdict: Outcome | None = None
    delay: Delay | None = None


def first_step(*, is_adopted: bool, is_cancelled: bool) -> Step:
    """Return the state of an attempt that was just claimed, and what to do first."""
    return AttemptState(is_adopted=is_adopted, is_cancelled=is_cancelled), (AttemptEffect.CHECK,)


def transition(state: AttemptState, event: Event) -> Step:
    """Return the next state and what to do there. An event that cannot come in this state is a failure of the worker, so that
    no attempt stands still. Nothing follows a final state."""
    if state.phase.is_final:
        return state, ()
    if isinstance(event, (LeaseGone, WorkerLeft)):
        return replace(state, phase=Phase.LEFT), (AttemptEffect.RELEASE,)
    if isinstance(event, WorkerFailed):
        return _failed(state, event)
    step = _STEPS[state.phase](state, event)
    return step or _failed(state, WorkerFailed(f"{type(event).__name__} in the phase {state.phase}"))


def _failed(state: AttemptState, event: WorkerFailed) -> Step:
    if state.phase is Phase.RECOVERING:
        return replace(state, phase=Phase.LEFT), (AttemptEffect.RELEASE,)
    verdict = Outcome(ok=False, reason="worker_error", message=event.message, again=True, infrastructure=True)
    return replace(state, phase=Phase.RECOVERING, verdict=verdict), (AttemptEffect.RELEASE, AttemptEffect.FIND)


def _ending(state: AttemptState, verdict: Outcome | None) -> Step:
    return replace(state, phase=Phase.ENDING, verdict=verdict), (AttemptEffect.END,)


def _returning(state: AttemptState, delay: Delay) -> Step:
    return replace(state, phase=Phase.RETURNING, delay=delay), (AttemptEffect.GIVE_BACK,)


def _after_check(state: AttemptState, event: Event) -> Step | None:
    if not isinstance(event, Checked):
        return None
    state = replace(state, is_cancelled=state.is_cancelled or event.is_cancelled)
    if event.refusal is not None:
        return _ending(state, event.refusal)
    if state.is_adopted:
        return replace(state, phase=Phase.ADOPTING), (AttemptEffect.FIND,)
    if state.is_cancelled:
        return _ending(state, CANCELLED)
    return replace(state, phase=Phase.LAUNCHING), (AttemptEffect.LAUNCH,)


def _after_launch(state: AttemptState, event: Event) -> Step | None:
    match event:
        case Launched():
            return replace(state, phase=Phase.READING), (AttemptEffect.READ,)
        case LaunchRefused(outcome):
            return _ending(state, outcome)
        case Delayed(delay):
            return _returning(state, delay)
    return None


def _after_search(state: AttemptState, event: Event) -> Step | None:
    match event:
        case Found(None):
            return replace(state, phase=Phase.READING), (AttemptEffect.READ,)
        case Found(blame):
            return replace(state, phase=Phase.STOPPING, verdict=blame), (AttemptEffect.STOP, AttemptEffect.AWAIT)
        case Missing():
            return replace(state, phase=Phase.ENDING, verdict=_LOST), (AttemptEffect.EXPLAIN, AttemptEffect.END)
    return None


def _while_reading(state: AttemptState, event: Event) -> Step | None:
    match event:
        case CancelRequested() if state.phase is Phase.READING:
            stopping = replace(state, phase=Phase.STOPPING, is_cancelled=True, verdict=CANCELLED)
            return stopping, (AttemptEffect.STOP, AttemptEffect.READ)
        case StopDue(outcome) if state.phase is Phase.READING:
            return replace(state, phase=Phase.STOPPING, verdict=outcome), (AttemptEffect.STOP, AttemptEffect.READ)
        case CancelRequested() | StopDue():
            return state, (AttemptEffect.READ,)  # it was asked to stop before
        case AgentEnded(end, is_cancelled):
            if is_cancelled:
                return _ending(replace(state, is_cancelled=True), CANCELLED)
            if end.no_room is not None and state.verdict is None:
                return _returning(state, end.no_room)
            return _ending(state, state.verdict)
    return None


def _after_failure(state: AttemptState, event: Event) -> Step | None:
    match event:
        case Found():
            return replace(state, phase=Phase.LEFT), (AttemptEffect.RELEASE, AttemptEffect.DROP)
        case Missing():
            return _ending(state, state.verdict)
    return None


def _after_store(state: AttemptState, event: Event) -> Step | None:
    if not isinstance(event, Stored):
        return None
    end = Phase.ENDED if state.phase is Phase.ENDING else Phase.GIVEN_BACK
    return replace(state, phase=end), (AttemptEffect.REMOVE,)


_STEPS: Mapping[Phase, Callable[[AttemptState, Event], Step | None]] = {
    Phase.WAITING: _after_check,
    Phase.LAUNCHING: _after_launch,
    Phase.ADOPTING: _after_search,
    Phase.READING: _while_reading,
    Phase.STOPPING: _while_reading,
    Phase.RECOVERING: _after_failure,
    Phase.ENDING: _after_store,
    Phase.RETURNING: _after_store,
}
