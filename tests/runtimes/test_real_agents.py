"""The real agent CLIs beside Claude Code, against a scripted model: their outcome, usage and limits, and what they leave."""

import json
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from optio.model.run import LogKind, Run, RunState
from optio.runs.execute import Execution
from optio.wiring import Services
from tests.executors.support import living
from tests.runs.support import accept, claim, execute, log_of, opened
from tests.support import ROOT, compiled, eventually

PROGRAMS = {agent: ROOT / ".tools" / "bin" / agent for agent in ("codex", "copilot", "gemini", "opencode")}
AGENTS = list(PROGRAMS)
KEYS = {
    "codex": "CODEX_API_KEY",
    "copilot": "COPILOT_PROVIDER_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "opencode": "STUB_API_KEY",
}
# Gemini puts the version of the protocol behind an endpoint by itself.
VERSIONS = {"gemini": ""}
KEY = "sk-test-canary-0123456789"
DONE = "The command has run. Done."
TASK = """\
type: standalone
name: Job
agentRuntime: {agent}
model: {model}
promptTemplate: "{prompt}"
maxRetries: 0
timeout: 150s
environment: {{secrets: [{key}]}}
{extra}"""


@dataclass
class Model:
    """A running model server. It plays the scenario that a model is named after."""

    url: str

    def requests(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/_stub/requests") as answer:
            found: list[dict[str, Any]] = json.load(answer)["requests"]
        return found

    def reset(self) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/_stub/requests", method="DELETE")).close()

    def served(self, name: str) -> int:
        """How many tokens of one sort were served."""
        return sum(each["answer"]["usage"][name] for each in self.requests() if (each.get("answer") or {}).get("usage"))


def endpoint(model: Model, agent: str) -> str:
    return model.url + VERSIONS.get(agent, "/v1")


@pytest.fixture(scope="module")
def server() -> Iterator[Model]:
    command = [sys.executable, str(ROOT / "tests" / "model_server.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield Model(process.stdout.readline().split()[-1])
        process.kill()


@pytest.fixture
def model(server: Model) -> Model:
    server.reset()
    return server


@pytest.fixture
def services(tmp_path: Path, model: Model) -> Iterator[Services]:
    environ = {f"OPTIO_SECRET_{key}": KEY for key in KEYS.values()}
    for agent, program in PROGRAMS.items():
        assert program.exists(), f"{program} is missing: run tests/setup.sh, which installs it"
        environ |= {f"OPTIO_PROGRAM_{agent.upper()}": str(program), f"OPTIO_ENDPOINT_{agent.upper()}": endpoint(model, agent)}
    with opened(tmp_path, environ) as made:
        yield made


def task(agent: str, scenario: str, extra: str = "", prompt: str = "hello") -> Any:
    return compiled(text_of(agent, f"stub-{scenario}", extra, prompt))


def text_of(agent: str, model: str, extra: str = "", prompt: str = "hello") -> str:
    """The file of a task. OpenCode wants the provider in front of a model."""
    name = f"stub/{model}" if agent == "opencode" else model
    return TASK.format(agent=agent, key=KEYS[agent], model=name, extra=extra, prompt=prompt)


def run(services: Services, agent: str, scenario: str, extra: str = "", prompt: str = "hello") -> Run:
    return execute(services, task(agent, scenario, extra, prompt))


# scenario -> reason, text or message begins with, tool calls
SCENARIOS: dict[str, tuple[str, str, int]] = {
    "tool-3": ("ok", DONE, 3),
    "error-401": ("auth", "", 0),
}


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_scenario_has_its_reason_and_the_usage_that_was_served(
    services: Services, model: Model, agent: str, scenario: str
) -> None:
    reason, words, tools = SCENARIOS[scenario]

    ended = run(services, agent, scenario)

    ok = reason == "ok"
    assert (ended.state, ended.reason) == (RunState.COMPLETED if ok else RunState.FAILED, "ok" if ok else reason), ended.message
    assert ((ended.text if ok else ended.message) or "").startswith(words)
    usage = ended.meter.usage
    assert (usage.fresh, usage.cached, usage.output) == tuple(model.served(name) for name in ("fresh", "cached", "output"))
    assert ended.meter.tool_calls == tools
    assert KEY not in str(ended) + str(log_of(services, ended.id))


@pytest.mark.parametrize("agent", AGENTS)
def test_a_run_says_which_session_of_which_version_on_which_machine_it_was(services: Services, agent: str) -> None:
    run_id = run(services, agent, "plain").id
    (attempt,) = services.store.attempts(run_id)
    told = attempt.agent

    # OpenCode's events tell no version and no model, and Gemini's no version.
    assert (told.version is not None) == (agent in ("codex", "copilot"))
    assert told.model == (None if agent == "opencode" else "stub-plain")
    assert told.session
    assert told.machine == socket.gethostname()


@pytest.mark.parametrize("agent", AGENTS)
def test_a_prompt_is_no_command_and_no_file_of_this_machine(services: Services, model: Model, agent: str) -> None:
    run(services, agent, "plain", prompt="/compact $HOME @/etc/passwd é")

    asked = json.dumps(model.requests(), ensure_ascii=False)
    assert "/compact $HOME @/etc/passwd é" in asked
    assert "root:x:0" not in asked


@pytest.mark.parametrize("agent", AGENTS)
def test_a_stubborn_agent_makes_no_more_model_calls_than_its_turns(services: Services, model: Model, agent: str) -> None:
    ended = run(services, agent, "loop", "maxTurns: 3\n")

    assert (ended.state, ended.reason, ended.meter.turns) == (RunState.FAILED, "max_turns", 3)
    assert len(model.requests()) <= 4


@pytest.mark.parametrize("agent", AGENTS)
def test_a_budget_stops_the_run_within_one_model_call(services: Services, model: Model, agent: str) -> None:
    # A model with a price in the table.
    costly = text_of(agent, "claude-sonnet-4-5-stub-costly", 'budgetUsd: "2.00"\n')
    ended = execute(services, compiled(costly))

    call = (Decimal(10_000) * 3 + Decimal(100_000) * 15) / 1_000_000
    assert (ended.state, ended.reason) == (RunState.FAILED, "budget"), ended.message
    assert ended.meter.cost is not None
    assert Decimal("2.00") < ended.meter.cost <= Decimal("2.00") + call
    # Copilot asks for a summary of so long a conversation too, beside its next call.
    assert len([each for each in model.requests() if "summary" not in each["prompt"]]) <= 3


@pytest.mark.parametrize("agent", AGENTS)
def test_an_endpoint_that_answers_with_a_page_is_given_up(services: Services, agent: str) -> None:
    ended = run(services, agent, "garbage")

    assert (ended.state, ended.reason) == (RunState.FAILED, "network"), ended.message


@pytest.mark.parametrize("agent", AGENTS)
def test_a_cancelled_run_leaves_no_process(services: Services, model: Model, agent: str) -> None:
    run_id = accept(services, task(agent, "slow-60"))
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
@pytest.mark.parametrize("sandbox", ["landlock", "bwrap"])
def test_it_works_in_each_sandbox(tmp_path: Path, model: Model, agent: str, sandbox: str) -> None:
    environ = {
        f"OPTIO_PROGRAM_{agent.upper()}": str(PROGRAMS[agent]),
        f"OPTIO_ENDPOINT_{agent.upper()}": endpoint(model, agent),
        f"OPTIO_SECRET_{KEYS[agent]}": KEY,
        "OPTIO_SANDBOX": sandbox,
    }
    with opened(tmp_path, environ) as services:
        ended = run(services, agent, "tool")
        tools = log_of(services, ended.id, LogKind.RESULT)

    assert (ended.state, ended.text, tools) == (RunState.COMPLETED, DONE, [b"hi"]), ended.message
