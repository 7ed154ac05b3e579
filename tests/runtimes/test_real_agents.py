"""The real agent CLIs, against a scripted model: their limits, and what they leave. Their outcome, their usage and what they
tell of themselves are in `test_real_matrix.py`."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from optio.model.prompt import MAX_PROMPT_LENGTH
from optio.model.registry import CompiledTask
from optio.model.result import with_instructions
from optio.model.run import LogKind, Run, RunState
from optio.runs.execute import Execution
from optio.wiring import Services
from tests.executors.support import living
from tests.model_server import IDLE_COMMAND
from tests.runs.support import accept, claim, execute, log_of, opened
from tests.runtimes.real_agents import AGENTS, KEYS, SPARED, Model, environ_of, model_server, task, task_text
from tests.support import compiled, eventually


@pytest.fixture(scope="module")
def server() -> Iterator[Model]:
    with model_server() as running:
        yield running


@pytest.fixture
def model(server: Model) -> Model:
    server.reset()
    return server


@pytest.fixture
def services(tmp_path: Path, model: Model) -> Iterator[Services]:
    with opened(tmp_path, environ_of(model.url)) as made:
        yield made


COMMAND = "/compact $HOME @/etc/passwd é"
RESULT = "maxRetries: 0\nresult: {schema: {type: array}}\n"
RESULTING = task("codex", "stub-tool-env", RESULT)
# It begins as a command does, and has the name of a file.
LONGEST = ("/compact The quick brown fox reads @/etc/passwd." + " The lazy dog sleeps @ home." * 60_000)[
    : MAX_PROMPT_LENGTH - len(with_instructions("", RESULTING.spec))
]


class Ran(NamedTuple):
    """A run with what it asked the model, what its commands printed, and the first of Optio's notes in its log."""

    run: Run
    requests: list[dict[str, Any]]
    printed: list[bytes]
    note: bytes


RunOf = Callable[[str], Ran]


def run_and_log(server: Model, directory: Path, one: CompiledTask, prompt: str, **environ: str) -> Ran:
    server.reset()
    with opened(directory, environ_of(server.url) | environ) as services:
        ended = execute(services, one, {"TEXT": prompt})
        printed, notes = (log_of(services, ended.id, kind) for kind in (LogKind.RESULT, LogKind.SYSTEM))
    return Ran(ended, server.requests(), printed, notes[0])


@pytest.fixture(scope="module")
def stopped(server: Model, tmp_path_factory: pytest.TempPathFactory) -> RunOf:
    """A run of each agent that makes tool calls until its turns end. It reads what it reads by itself, and its prompt begins
    as a command does, after a byte order mark."""

    @cache
    def of(agent: str) -> Ran:
        env = {name: value for name, value in SPARED.get(agent, {}).items() if name.startswith("BUN_")}
        one = compiled(task_text(agent, "stub-loop", "maxRetries: 0\nmaxTurns: 3\n", " \\uFEFF\\n{{TEXT}}", env=env))
        return run_and_log(server, tmp_path_factory.mktemp(agent), one, COMMAND)

    return of


@pytest.fixture(scope="module")
def confined(server: Model, tmp_path_factory: pytest.TempPathFactory) -> RunOf:
    """A run of each agent in bubblewrap that has the longest prompt and declares a result. Its command prints its variables
    and reports that there is no work. Copilot does not take the longest prompt."""

    @cache
    def of(agent: str) -> Ran:
        prompt = COMMAND if agent == "copilot" else LONGEST
        one = task(agent, "stub-tool-env", RESULT, "{{TEXT}}")
        return run_and_log(server, tmp_path_factory.mktemp(agent), one, prompt, OPTIO_SANDBOX="bwrap")

    return of


@pytest.mark.parametrize("agent", AGENTS)
def test_a_prompt_is_no_command_and_no_file_of_this_machine(stopped: RunOf, agent: str) -> None:
    asked = json.dumps(stopped(agent).requests, ensure_ascii=False)

    assert COMMAND in asked
    assert "root:x:0" not in asked


def test_a_prompt_of_copilot_is_no_command_either_if_nothing_is_before_it(confined: RunOf) -> None:
    asked = json.dumps(confined("copilot").requests, ensure_ascii=False)

    assert COMMAND in asked
    assert "root:x:0" not in asked


@pytest.mark.parametrize("agent", [agent for agent in AGENTS if agent != "copilot"])
def test_the_longest_prompt_that_optio_takes_reaches_the_model_whole(confined: RunOf, agent: str) -> None:
    ended, requests, *_ = confined(agent)

    assert ended.state is RunState.COMPLETED, ended.message
    asked, _ = requests
    assert asked["prompt"].strip().endswith(with_instructions(LONGEST, RESULTING.spec).strip()[-1500:])
    assert asked["prompt_chars"] in range(MAX_PROMPT_LENGTH - 1, MAX_PROMPT_LENGTH + 100)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_stubborn_agent_makes_no_more_model_calls_than_its_turns(stopped: RunOf, agent: str) -> None:
    ended, requests, *_ = stopped(agent)

    assert (ended.state, ended.reason, ended.meter.turns) == (RunState.FAILED, "max_turns", 3), ended.message
    assert len(requests) <= 4


@pytest.mark.parametrize("agent", AGENTS)
def test_a_budget_stops_the_run_within_one_model_call(services: Services, model: Model, agent: str) -> None:
    # A model with a price in the table.
    ended = execute(services, task(agent, "claude-sonnet-4-5-stub-costly", 'maxRetries: 0\nbudgetUsd: "2.00"\n'))

    call = (Decimal(10_000) * 3 + Decimal(100_000) * 15) / 1_000_000
    assert (ended.state, ended.reason) == (RunState.FAILED, "budget"), ended.message
    assert ended.meter.cost is not None
    assert Decimal("2.00") < ended.meter.cost <= Decimal("2.00") + call
    # Copilot asks for a summary of so long a conversation too, beside its next call.
    assert len([each for each in model.requests() if "summary" not in each["prompt"]]) <= 3


# An agent that stalls is stopped in the same way, which `test_real_matrix.py` has of each.
@pytest.mark.parametrize("agent", ["claude-code", "codex"])
def test_a_cancelled_run_leaves_no_process(services: Services, model: Model, agent: str) -> None:
    run_id = accept(services, task(agent, "stub-slow-60"))
    execution = Execution(claim(services, run_id), services.parts(), "tester")
    thread = threading.Thread(target=execution)
    thread.start()
    eventually(model.requests, within=60, what="a request to the model")
    before = living("stub-slow-60")

    services.store.cancel(run_id, "me")
    execution.cancel()
    thread.join(30)

    assert before
    assert services.store.run(run_id).state is RunState.CANCELLED
    assert living("stub-slow-60") == []


@pytest.mark.parametrize("agent", AGENTS)
def test_its_commands_in_bubblewrap_have_no_key_of_the_model_among_their_variables(confined: RunOf, agent: str) -> None:
    ended, _, (printed,), note = confined(agent)

    assert ended.state is RunState.COMPLETED, ended.message
    assert note.startswith(b"sandbox bwrap")
    assert b"HOME=" in printed
    assert f"{KEYS[agent]}=".encode() not in printed
    assert b"canary" not in printed
    assert b"OTEL_" not in printed


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_reports_that_there_is_no_work_by_the_command_that_its_prompt_gives(confined: RunOf, agent: str) -> None:
    ended, (asked, _), *_ = confined(agent)

    assert IDLE_COMMAND in asked["prompt"].splitlines()
    assert (ended.state, ended.reason, ended.text) == (RunState.COMPLETED, "no_work", "WHY"), ended.message
    assert ended.meter.tool_calls == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
def test_claude_code_as_root_without_a_sandbox_says_what_it_wants(tmp_path: Path, model: Model) -> None:
    with opened(tmp_path, {**environ_of(model.url), "OPTIO_SANDBOX": "none"}) as services:
        ended = execute(services, task("claude-code", "stub-tool"))

    assert (ended.state, ended.reason) == (RunState.FAILED, "config")
    assert "OPTIO_SANDBOX" in ended.message


def test_the_second_attempt_gets_what_the_first_one_left(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.model.retry.FIRST_DELAY", timedelta(0))
    # Two calls an attempt; what is left is less than one.
    limits = 'maxRetries: 1\nbudgetUsd: "0.0090"\n'
    one = task("claude-code", "claude-sonnet-4-5-stub-empty", limits)
    first = execute(services, one)
    spent = first.meter.cost
    Execution(claim(services, first.id), services.parts(), "tester")()
    ended = services.store.run(first.id)

    assert (first.state, first.reason) == (RunState.QUEUED, "unproductive")
    assert (ended.state, ended.reason, ended.attempt) == (RunState.FAILED, "budget", 2)
    assert spent is not None
    assert ended.meter.cost is not None
    assert Decimal("0.0090") < ended.meter.cost <= Decimal("0.0090") + spent / 2
