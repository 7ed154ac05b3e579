"""Runtimes with mistakes: whatever their code raises or returns ends their run at once, with words about the mistake."""

import logging
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from optio.model.run import LogKind, Outcome, RunState
from optio.runtimes.base import Invocation
from optio.runtimes.command import Command
from optio.wiring import Services
from tests.executors.support import living
from tests.runs.support import execute, log_of
from tests.support import command_task


def refuse(*_: Any) -> Any:
    raise OSError("no\n licence")


def leave(*_: Any) -> Any:
    sys.exit("no licence")


def nothing(*_: Any) -> Any:
    return None


class Mistaken(Command):
    """A runtime with a mistake in one method of its reader."""

    def __init__(self, name: str, mistake: Callable[..., Any]) -> None:
        self._name, self._mistake = name, mistake

    def reader(self, task: Any) -> Any:
        mistaken = type("Mistaken", (type(super().reader(task)),), {self._name: self._made()})
        return mistaken()

    def _made(self) -> Any:
        return property(self._mistake) if self._name in ("plain", "longest", "meter", "text", "identity") else self._mistake


class MistakenCall(Command):
    """A runtime with a mistake in one of its own methods."""

    def __init__(self, name: str, mistake: Callable[..., Any]) -> None:
        setattr(self, name, mistake)


def failed_of(services: Services, runtime: Command, command: str = "echo hello") -> str:
    """The message of a run of this runtime, which fails at once and is not tried again."""
    before = time.monotonic()
    run = execute(services, command_task(command, extra="maxRetries: 3\n"), runtimes={"command": runtime})

    assert (run.state, run.reason, run.attempt) == (RunState.FAILED, "runtime_failed", 1)
    assert time.monotonic() - before < 10
    return run.message


@pytest.mark.parametrize("mistake", [refuse, leave])
@pytest.mark.parametrize("name", ["line", "longest", "meter", "text", "identity", "stop", "closing", "outcome"])
def test_a_reader_that_raises_ends_its_run_with_the_words_of_the_exception(
    services: Services, name: str, mistake: Callable[..., Any]
) -> None:
    error = "OSError" if mistake is refuse else "SystemExit"
    said = f"the runtime `command` of Optio failed while it read the agent's output, in `{name}`: {error}: no licence"

    # Of an agent that has ended nobody asks whether it is to be stopped.
    command = "echo hello; exec sleep 60" if name in ("meter", "stop") else "echo hello"

    assert failed_of(services, Mistaken(name, mistake), command).startswith(said)


@pytest.mark.parametrize("name", ["line", "longest", "meter", "closing", "outcome"])
def test_a_reader_that_returns_what_is_no_answer_ends_its_run(services: Services, name: str) -> None:
    assert f"in `{name}`: TypeError: the value is " in failed_of(services, Mistaken(name, nothing))


def test_an_outcome_that_cannot_be_kept_ends_its_run(services: Services) -> None:
    def outcome(*_: Any) -> Outcome:
        return Outcome(ok=True, reason="ok", output={1, 2})

    assert "not JSON serializable" in failed_of(services, Mistaken("outcome", outcome))


def test_a_runtime_without_a_reader_ends_its_run(services: Services) -> None:
    assert "in `reader`: OSError: no licence" in failed_of(services, MistakenCall("reader", refuse))


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (refuse, "OSError: no licence"),
        (leave, "SystemExit: no licence"),
        (nothing, "TypeError: the value is of the type NoneType"),
        (lambda *_: Invocation(argv=("sh", 1), stdin=b""), "TypeError: `argv` has a value of the type int, not str"),  # type: ignore[arg-type]
        (lambda *_: Invocation(argv=(), stdin=b""), "TypeError: `argv` is empty"),
    ],
)
def test_a_call_that_cannot_be_made_ends_its_run(services: Services, mistake: Callable[..., Any], said: str) -> None:
    message = failed_of(services, MistakenCall("invoke", mistake))

    assert message.startswith(f"the runtime `command` of Optio failed while it prepared the call of its agent: {said}")


def test_the_agent_is_stopped_at_the_line_that_its_reader_fails_at_and_the_log_has_that_line(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    token = f"60.{random.randrange(10**12):012}"

    def line(self: Any, stream: str, data: bytes, at: Any) -> Any:
        if data == b"poison":
            raise KeyError("tokens")
        return super(type(self), self).line(stream, data, at)

    task = command_task(f"echo fine; sleep 0.2; echo poison; sleep {token}", extra="maxRetries: 3\n")
    with caplog.at_level(logging.ERROR):
        run = execute(services, task, runtimes={"command": Mistaken("line", line)})

    assert (run.state, run.reason, run.attempt) == (RunState.FAILED, "runtime_failed", 1)
    assert "KeyError: 'tokens'" in run.message
    assert log_of(services, run.id, LogKind.OUTPUT) == [b"fine", b"poison"]
    assert living(token) == []
    assert "Traceback" in caplog.text
