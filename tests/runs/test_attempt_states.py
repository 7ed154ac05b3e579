"""An attempt as a state machine: whatever its effects answer, and wherever its worker fails, it ends once and in one way."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optio.executors.base import Exit
from optio.model.room import Delay
from optio.model.run import Outcome
from optio.runs.attempt_states import (
    CANCELLED,
    AgentEnded,
    AttemptEffect,
    AttemptState,
    CancelRequested,
    Checked,
    Delayed,
    Event,
    Found,
    Launched,
    LaunchRefused,
    LeaseGone,
    Missing,
    Performed,
    Phase,
    StopDue,
    Stored,
    WorkerFailed,
    WorkerLeft,
    first_step,
    transition,
)

NO = Outcome(ok=False, reason="budget")
FULL = Delay(reason="quota", message="the quota is full")
DONE = Exit(code=0, signal=None)
NO_ROOM = Exit(code=None, signal=None, no_room=FULL)
BROKEN: tuple[Event, ...] = (LeaseGone(), WorkerLeft(), WorkerFailed("a mistake of ours"))
# What an effect may answer.
ANSWERS: dict[AttemptEffect, tuple[Event, ...]] = {
    AttemptEffect.CHECK: (Checked(), Checked(NO), Checked(None, True), Checked(NO, True)),
    AttemptEffect.LAUNCH: (Launched(), LaunchRefused(NO), Delayed(FULL)),
    AttemptEffect.FIND: (Found(), Found(NO), Missing()),
    AttemptEffect.READ: (CancelRequested(), StopDue(NO), AgentEnded(DONE), AgentEnded(DONE, True), AgentEnded(NO_ROOM)),
    AttemptEffect.AWAIT: (AgentEnded(DONE),),
    AttemptEffect.END: (Stored(),),
    AttemptEffect.GIVE_BACK: (Stored(),),
}
EVENTS = (*(event for answers in ANSWERS.values() for event in answers), Performed(), *BROKEN)


class Attempt:
    """An attempt whose effects answer by lot, and may break off; with all that was performed, and what came of it."""

    def __init__(self, draw: Any, *, is_adopted: bool, is_cancelled: bool) -> None:
        self.phases = [Phase.WAITING]
        self.performed: list[AttemptEffect] = []
        self.broken: list[Event] = []
        self.stored: list[AttemptEffect] = []
        self.after_leaving: list[AttemptEffect] = []
        self.has_handle = False
        state, effects = first_step(is_adopted=is_adopted, is_cancelled=is_cancelled)
        while effects:
            event: Event = Performed()
            for effect in effects:
                event = self._perform(effect, draw)
                if event in BROKEN:
                    break
            state, effects = transition(state, event)
            self.phases.append(state.phase)
            # An attempt without an end would read for ever here.
            assert len(self.phases) < 20
        self.state = state

    def _perform(self, effect: AttemptEffect, draw: Any) -> Event:
        self.performed.append(effect)
        if any(isinstance(event, (LeaseGone, WorkerLeft)) for event in self.broken):
            self.after_leaving.append(effect)
        if effect in (AttemptEffect.RELEASE, AttemptEffect.REMOVE):
            self.has_handle = False
        elif draw(st.integers(0, 7)) == 0:
            self.broken.append(draw(st.sampled_from(BROKEN)))
            return self.broken[-1]
        answers = ANSWERS.get(effect, (Performed(),))
        if self.performed.count(AttemptEffect.READ) > 4:  # sooner or later every agent ends
            answers = tuple(answer for answer in answers if not isinstance(answer, (CancelRequested, StopDue)))
        event: Event = draw(st.sampled_from(answers))
        self.has_handle |= isinstance(event, (Launched, Found)) and self.phases[-1] is not Phase.RECOVERING
        if isinstance(event, Stored):
            self.stored.append(effect)
        return event


@settings(max_examples=1500, deadline=None)
@given(st.data(), st.booleans(), st.booleans())
def test_an_attempt_ends_once_and_in_one_way(data: Any, is_adopted: bool, is_cancelled: bool) -> None:
    attempt = Attempt(data.draw, is_adopted=is_adopted, is_cancelled=is_cancelled)
    performed, phase = attempt.performed, attempt.state.phase

    assert phase.is_final
    assert (
        attempt.stored == {Phase.ENDED: [AttemptEffect.END], Phase.GIVEN_BACK: [AttemptEffect.GIVE_BACK], Phase.LEFT: []}[phase]
    )
    assert performed.count(AttemptEffect.STOP) <= 1
    assert performed.count(AttemptEffect.LAUNCH) <= (0 if is_adopted or is_cancelled else 1)
    assert not attempt.has_handle
    assert attempt.broken or phase is not Phase.LEFT
    assert phase is not Phase.ENDED or attempt.state.verdict is not None or AttemptEffect.STOP not in performed
    assert set(attempt.after_leaving) <= {AttemptEffect.RELEASE}


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase.is_final])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_nothing_follows_an_end(phase: Phase, event: Event) -> None:
    state = AttemptState(phase=phase)

    assert transition(state, event) == (state, ())


@pytest.mark.parametrize("phase", [phase for phase in Phase if not phase.is_final])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_no_event_leaves_an_attempt_where_nothing_follows(phase: Phase, event: Event) -> None:
    _, effects = transition(AttemptState(phase=phase), event)

    assert effects


@pytest.mark.parametrize("event", [LeaseGone(), WorkerLeft()], ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("phase", [phase for phase in Phase if not phase.is_final])
def test_a_worker_that_has_no_right_to_the_run_only_lets_go_of_its_agent(phase: Phase, event: Event) -> None:
    state, effects = transition(AttemptState(phase=phase), event)

    assert (state.phase, effects) == (Phase.LEFT, (AttemptEffect.RELEASE,))


@pytest.mark.parametrize("event", [StopDue(NO), CancelRequested()], ids=lambda event: type(event).__name__)
def test_an_agent_that_was_asked_to_stop_is_not_asked_again(event: Event) -> None:
    stopping = AttemptState(phase=Phase.STOPPING, verdict=NO)

    assert transition(stopping, event) == (stopping, (AttemptEffect.READ,))


def test_a_cancelled_run_is_cancelled_whatever_else_its_agent_was_stopped_for() -> None:
    stopping = AttemptState(phase=Phase.STOPPING, verdict=NO)

    state, effects = transition(stopping, AgentEnded(DONE, is_cancelled=True))

    assert (state.phase, state.verdict, effects) == (Phase.ENDING, CANCELLED, (AttemptEffect.END,))


def test_an_agent_that_was_stopped_where_it_found_no_room_has_ended() -> None:
    given_up, _ = transition(AttemptState(phase=Phase.STOPPING, verdict=NO), AgentEnded(NO_ROOM))
    waiting, _ = transition(AttemptState(phase=Phase.READING), AgentEnded(NO_ROOM))

    assert (given_up.phase, waiting.phase, waiting.delay) == (Phase.ENDING, Phase.RETURNING, FULL)


def test_a_worker_that_fails_leaves_a_living_agent_to_others_and_ends_an_attempt_without_one() -> None:
    recovering, effects = transition(AttemptState(phase=Phase.READING), WorkerFailed("a mistake"))
    left, letting_go = transition(recovering, Found())
    ending, ends = transition(recovering, Missing())

    assert effects == (AttemptEffect.RELEASE, AttemptEffect.FIND)
    assert (left.phase, letting_go) == (Phase.LEFT, (AttemptEffect.RELEASE, AttemptEffect.DROP))
    assert (ending.phase, ends) == (Phase.ENDING, (AttemptEffect.END,))
    assert ending.verdict is not None
    assert (ending.verdict.reason, ending.verdict.message, ending.verdict.infrastructure) == ("worker_error", "a mistake", True)
