"""Which attempts leave a session that the next one continues, and in whose directory it is."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from optio.model.run import AgentIdentity, Attempt, Run, RunState
from optio.model.session import INTERRUPTED, prompt_to_go_on, session_to_continue, used_directory
from optio.model.usage import Meter, Usage

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SESSION = "0200b349-6eea-425d-a52c-f4801d1ff326"
USED = Meter(usage=Usage(fresh=1200, output=40), tool_calls=1)


def attempt(number: int, reason: str | None = "server_error", meter: Meter = USED, **changes: Any) -> Attempt:
    """An attempt whose agent ended for a reason, or still runs."""
    base = Attempt(
        run_id="r", number=number, worker="w", started_at=NOW, agent_started_at=NOW, began="process", ended_at=NOW, ok=False,
        reason=reason, message="", exit_code=1, signal=None, text=None, meter=meter, agent=AgentIdentity(session=SESSION),
    )  # fmt: skip
    return replace(base, **({"ended_at": None, "agent": AgentIdentity()} if reason is None else {}) | changes)


def never_began(number: int) -> Attempt:
    return attempt(number, "lost", Meter(), agent_started_at=None, agent=AgentIdentity())


def run(state: RunState, number: int) -> Run:
    made = object.__new__(Run)
    object.__setattr__(made, "state", state)
    object.__setattr__(made, "attempt", number)
    return made


@pytest.mark.parametrize("reason", [*sorted(INTERRUPTED), "ok", "config", "timeout", "no_result", "session_refused"])
def test_a_session_goes_on_after_an_interruption_and_after_nothing_else(reason: str) -> None:
    found = session_to_continue([attempt(1, reason)])

    assert (found is not None) == (reason in INTERRUPTED)


@pytest.mark.parametrize(
    "changes",
    [
        {"agent": AgentIdentity()},
        {"agent": AgentIdentity(session="--dangerous")},
        {"agent": AgentIdentity(session="a b c d e f g")},
        {"agent": AgentIdentity(session=SESSION + "\n")},
        {"meter": Meter()},
        {"ended_at": None},
    ],
)
def test_without_a_plain_id_an_answer_of_the_model_and_an_end_there_is_no_session_to_continue(changes: dict[str, Any]) -> None:
    assert session_to_continue([attempt(1, **changes)]) is None


def test_a_session_is_in_the_directory_of_its_first_attempt_however_many_go_on() -> None:
    attempts = [attempt(1), attempt(2), attempt(3, continues=2), attempt(4, meter=Meter(tool_calls=2), continues=3)]

    found = session_to_continue(attempts)

    assert found is not None
    assert (found.first, found.last, found.tool_calls) == (2, 4, 4)
    assert prompt_to_go_on(found) == "Your last answer was interrupted (server error). Go on with the task."


def test_attempts_whose_agent_never_began_are_passed_over() -> None:
    found = session_to_continue([attempt(1), replace(never_began(2), continues=1), never_began(3)])

    assert found is not None
    assert (found.first, found.last) == (1, 1)
    assert session_to_continue([attempt(1), attempt(2, "no_result"), never_began(3)]) is None
    assert session_to_continue([]) is None


def test_an_agent_that_goes_on_and_dies_at_once_leaves_the_session_as_it_was() -> None:
    found = session_to_continue([attempt(1), attempt(2, "lost", Meter(), continues=1, agent=AgentIdentity())])

    assert found is not None
    assert (found.id, found.first, found.last) == (SESSION, 1, 2)


def test_a_result_that_does_not_fit_is_mended_once_in_a_run_and_in_words_that_say_what_is_wrong() -> None:
    unfit = attempt(1, "result_invalid", message="/items/3 must be a string")
    again = attempt(2, "result_invalid", continues=1)
    interrupted = attempt(2, "network", continues=1)

    found = session_to_continue([unfit])

    assert found is not None
    words = "Your result does not fit: /items/3 must be a string. Give the whole result again, as you were asked to."
    assert prompt_to_go_on(found) == words
    assert session_to_continue([attempt(1), replace(unfit, number=2, continues=1)]) is not None
    assert session_to_continue([unfit, again]) is None
    assert session_to_continue([unfit, interrupted]) is not None
    assert session_to_continue([unfit, interrupted, replace(again, number=3, continues=2)]) is None


RUNNING, QUEUED, FAILED = RunState.RUNNING, RunState.QUEUED, RunState.FAILED


@pytest.mark.parametrize(
    ("state", "number", "attempts", "used"),
    [
        (QUEUED, 1, [attempt(1)], 1),
        (QUEUED, 1, [attempt(1, "no_result")], None),
        (FAILED, 1, [attempt(1)], None),
        (RUNNING, 2, [attempt(1), attempt(2, None, continues=1)], 1),
        (RUNNING, 2, [attempt(1), attempt(2, None)], None),
        (RUNNING, 2, [attempt(1), attempt(2, None, agent_started_at=None)], 1),
        (RUNNING, 3, [attempt(1), attempt(2, continues=1), attempt(3, None, continues=2)], 1),
        # The run was read a moment before its next attempt was claimed and begun.
        (QUEUED, 1, [attempt(1), attempt(2, None, continues=1)], 1),
    ],
)
def test_the_directory_that_a_run_needs_beside_that_of_its_running_attempt(
    state: RunState, number: int, attempts: list[Attempt], used: int | None
) -> None:
    assert used_directory(run(state, number), attempts) == used
