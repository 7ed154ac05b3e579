"""Each real agent CLI in each scenario of the scripted model, run as a worker runs an attempt: its outcome, reason, text,
usage, cost and tool calls are those of what the model served.

`CELLS` says what is right of each scenario, and `OTHERWISE` where an agent differs, with the cause. `RECORDED` names the cells
that are not run: recordings and other tests of real agents show the same. Plain answers and JSON are in `test_real_results.py`,
three commands that succeed in `test_real_adoption.py`, and failures after one in `test_real_sessions.py`. All cells run side by
side, those that wait longest for retries first.
"""

import hashlib
import os
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from optio.model import prices
from optio.model.agent_event import ToolCall, ToolResult
from optio.model.run import Attempt, LogKind, LogLine, Run, RunState
from optio.model.runtimes import DECLARED
from optio.model.usage import Usage
from optio.runs.execute import Execution
from optio.wiring import Services
from tests.model_server import FLAKY_FAILURES, PLAIN_TEXT
from tests.runs.support import accept, claim, opened
from tests.runtimes.real_agents import AGENTS, KEY, Model, environ_of, model_server, task
from tests.support import free_port


class Told(Enum):
    """What a run says about its usage."""

    ALL = "what the model served, and its cost"
    UNKNOWN = "nothing: no tokens, and no cost either, which would be wrong as 0"
    PART = "a part of what the model served, or nothing"


@dataclass(frozen=True)
class Cell:
    """The right end of a scenario. `again` says that another attempt may help. `text` is the whole text, of a failed run its
    beginning; `tools` has for each tool call whether it succeeded."""

    reason: str = "ok"
    again: bool = False
    text: str = ""
    tools: tuple[bool, ...] = ()
    usage: Told = Told.ALL


LONG = "".join(f"Line {i:05d} of the long scripted answer of the stub.\n" for i in range(400))
CELLS: Mapping[str, Cell] = {
    "whole": Cell(text=LONG, tools=(False,)),
    "error-400": Cell("bad_request"),
    "error-401": Cell("auth"),
    "error-404": Cell("model_not_found"),
    "error-429": Cell("rate_limit", again=True),
    "error-500": Cell("server_error", again=True),
    "error-529": Cell("overloaded", again=True),
    # A provider may bill an answer that broke off, and nobody tells the agent how much.
    "cut": Cell("network", again=True, text=PLAIN_TEXT, usage=Told.UNKNOWN),
    "garbage": Cell("network", again=True),
    "empty": Cell("unproductive", again=True),
    "truncated": Cell("truncated", text=PLAIN_TEXT[:10]),
    "refusal": Cell("refusal", text="I cannot help with that."),
}
NO_ANSWER = {"garbage": replace(CELLS["garbage"], usage=Told.UNKNOWN)}
OTHERWISE: Mapping[str, Mapping[str, Cell]] = {
    "claude-code": {
        # It is stopped at its first try, before its last event, as Codex is.
        "error-401": replace(CELLS["error-401"], usage=Told.UNKNOWN),
        # Its figures may have a part of the last of the answers that broke off. A page is one to it.
        "cut": replace(CELLS["cut"], usage=Told.PART),
        "garbage": NO_ANSWER["garbage"],
    },
    "codex": {
        "error-401": replace(CELLS["error-401"], usage=Told.UNKNOWN),
        # A page is an answer that broke off.
        "garbage": NO_ANSWER["garbage"],
        # It asks three times, and its session file has none of the answers.
        "refusal": replace(CELLS["refusal"], usage=Told.UNKNOWN),
    },
    "copilot": {
        # A page is an answer that broke off.
        "garbage": NO_ANSWER["garbage"],
    },
    "gemini": {
        # A page is an answer that broke off.
        "garbage": NO_ANSWER["garbage"],
    },
    "opencode": {
        # A page is an answer that broke off.
        "garbage": NO_ANSWER["garbage"],
    },
}
# Each is read as another cell is, or differs by a status that a recording has. `test_real_sessions.py` has an error 500 after
# a tool call of each agent.
RECORDED: Mapping[str, tuple[str, ...]] = {
    "claude-code": ("error-400", "error-500", "error-529"),
    "codex": (),
    "copilot": ("error-400", "error-404", "error-429", "error-500", "error-529"),
    "gemini": ("error-400", "error-429", "error-500", "error-529"),
    "opencode": ("error-400", "error-404", "error-429", "error-500", "error-529"),
}
RUN = [(agent, scenario) for scenario in CELLS for agent in AGENTS if scenario not in RECORDED[agent]]
# Endpoints without a model behind them, and the scenario that is played there. The cell "garbage" is one that serves a page.
LIFELESS = {"refused": "plain", "silent": "slow-900"}
STALL = timedelta(seconds=15)
MAX_END = STALL + timedelta(seconds=15)
# Those that the agents repeat longest begin first.
SLOWEST = ("error-500", "cut", "silent", "refused", "error-529", "error-429", "garbage", "whole")
SIDE_BY_SIDE = 6


class Ended(NamedTuple):
    """The end of a cell's run, with its one attempt, its log, and the processes that it left."""

    run: Run
    attempt: Attempt
    log: list[LogLine]
    left: list[int]


class Matrix:
    """All cells, as they run."""

    def __init__(self, model: Model, cells: Mapping[tuple[str, str], Future[Ended]]) -> None:
        self.model = model
        self._cells = cells

    def ended(self, agent: str, scenario: str) -> Ended:
        return self._cells[agent, scenario].result()

    def answers(self, agent: str, scenario: str) -> list[dict[str, Any]]:
        """What the model answered to an agent in a scenario."""
        asked = [each for each in self.model.requests() if each.get("model") == model_of(agent, scenario)]
        return [each["answer"] for each in asked if each.get("answer")]


def model_of(agent: str, scenario: str) -> str:
    """A model with a list price, whose name says whose cell it is and what it plays."""
    return f"claude-sonnet-4-5-{agent}-{scenario}-stub-{LIFELESS.get(scenario, scenario)}"


@pytest.fixture(scope="module")
def matrix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """The cells of the tests that are selected, all begun."""
    wanted = {
        (item.callspec.params["agent"], item.callspec.params["scenario"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module and "scenario" in item.callspec.params
    }
    order = sorted(wanted, key=lambda cell: (cell[1] not in SLOWEST, cell[0] != "opencode", cell))
    with (
        model_server() as model,
        opened(tmp_path_factory.mktemp("matrix"), environ_of(model.url) | {"OPTIO_SANDBOX": "namespaces"}) as services,
        opened(tmp_path_factory.mktemp("refused"), environ_of(f"http://127.0.0.1:{free_port()}")) as refused,
        ThreadPoolExecutor(SIDE_BY_SIDE) as pool,
    ):
        places = {"refused": refused}
        yield Matrix(model, {cell: pool.submit(execute, places.get(cell[1], services), *cell) for cell in order})
        pool.shutdown(cancel_futures=True)


def execute(services: Services, agent: str, scenario: str) -> Ended:
    """One attempt, as a worker makes it."""
    stall = f"stallTimeout: {STALL.total_seconds():.0f}s\n" if scenario in LIFELESS else ""
    run_id = accept(services, task(agent, model_of(agent, scenario), "maxRetries: 1\n" + stall))
    Execution(claim(services, run_id), services.parts(), "tester")()
    (attempt,) = services.store.attempts(run_id)
    log: list[LogLine] = []
    while page := services.store.log(run_id, after=log[-1].seq if log else 0, limit=1000):
        log += page
    return Ended(services.store.run(run_id), attempt, log, processes_of(run_id))


def processes_of(run_id: str) -> list[int]:
    """Processes that have the run in their environment, as all that an agent starts."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            environ = Path(f"/proc/{entry}/environ").read_bytes()
        except OSError:
            continue
        if f"OPTIO_RUN_ID={run_id}".encode() in environ.split(b"\0"):
            found.append(int(entry))
    return found


@pytest.mark.parametrize(("agent", "scenario"), RUN)
@pytest.mark.timeout(900)
def test_what_a_run_says_is_what_the_model_served(matrix: Matrix, agent: str, scenario: str) -> None:
    right = OTHERWISE[agent].get(scenario, CELLS[scenario])

    run, attempt, log, left = matrix.ended(agent, scenario)
    answers = matrix.answers(agent, scenario)
    print(said(agent, scenario, attempt))

    state = RunState.COMPLETED if right.reason == "ok" else RunState.QUEUED if right.again else RunState.FAILED
    assert (run.state, attempt.reason) == (state, right.reason), attempt.message
    assert attempt.ok or attempt.message
    text = attempt.text or ""
    assert right.text.startswith(text) if scenario == "cut" else text.startswith(right.text), text
    assert text == right.text or (not attempt.ok and right.text), text
    assert_usage(attempt, right.usage, answers, agent)
    calls = [line.event for line in log if isinstance(line.event, ToolCall)]
    results = [line.event for line in log if isinstance(line.event, ToolResult)]
    assert [result.ok for result in results] == list(right.tools)
    assert [result.id for result in results] == [call.id for call in calls]
    assert len({call.id for call in calls}) == attempt.meter.tool_calls == len(calls)
    if agent not in ("codex", "gemini"):  # they give calls ids of their own
        assert [call.id for call in calls] == [answer["call"] for answer in answers if answer.get("call")]
    if scenario == "whole":
        assert sum(answer["status"] == 429 for answer in answers) == FLAKY_FAILURES
        assert any(result.exit_code == 3 for result in results) or "exit code 3" in words_of(log).lower()
    assert ("Thinking first." in words_of(log)) == (scenario == "whole")
    assert KEY not in str(run) + str(attempt) + words_of(log)
    assert left == []


def assert_usage(attempt: Attempt, told: Told, answers: list[dict[str, Any]], agent: str) -> None:
    used, cost = attempt.meter.usage, attempt.meter.cost
    served = [answer["usage"] for answer in answers if answer.get("usage")]
    if told is Told.UNKNOWN or (told is Told.PART and used == Usage()):
        assert (used, cost) == (Usage(), None)
        return
    totals = {name: sum(usage[name] for usage in served) for name in ("fresh", "cached", "output", "reasoning")}
    if agent == "claude-code":  # its protocol has no count of reasoning
        totals["reasoning"] = 0
    total = Usage(**totals)
    if told is Told.PART:
        assert used.total <= total.total
    else:
        assert (used, cost) == (total, prices.cost_of_calls("claude-sonnet-4-5", total) if served else Decimal(0))


def words_of(log: list[LogLine]) -> str:
    return "\n".join(line.text for line in log)


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("scenario", ["whole"])
@pytest.mark.timeout(900)
def test_a_run_says_which_session_of_which_version_on_which_machine_it_was(matrix: Matrix, agent: str, scenario: str) -> None:
    told = matrix.ended(agent, scenario).attempt.agent

    # OpenCode's events tell no version and no model, and Gemini's no version.
    declared = DECLARED[agent].program
    assert declared is not None
    assert told.version == declared.tested or (agent == "claude-code" and told.version)
    assert told.model == ("stub/" if agent == "opencode" else "") + model_of(agent, scenario)
    assert told.program is not None
    path, _, digest = told.program.partition("@sha256:")
    assert digest == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert told.session
    assert told.machine == socket.gethostname()


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("scenario", ["whole"])
@pytest.mark.timeout(900)
def test_it_works_in_the_sandbox(matrix: Matrix, agent: str, scenario: str) -> None:
    log = matrix.ended(agent, scenario).log

    assert "oops" in words_of([line for line in log if line.kind is LogKind.RESULT])
    assert next(line.text for line in log if line.kind is LogKind.SYSTEM).startswith("sandbox namespaces")


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("scenario", LIFELESS)
@pytest.mark.timeout(900)
def test_an_endpoint_without_a_model_ends_the_run_soon_after_its_stall_timeout(
    matrix: Matrix, agent: str, scenario: str
) -> None:
    ended = matrix.ended(agent, scenario)

    print(said(agent, scenario, ended.attempt))
    assert ended.attempt.reason in ("network", "stalled"), ended.attempt.message
    assert seconds(ended.attempt) < MAX_END.total_seconds()
    assert ended.left == []


def said(agent: str, scenario: str, attempt: Attempt) -> str:
    """A line for people, which `pytest -rP` shows."""
    used, meter = attempt.meter.usage, attempt.meter
    tokens = f"{used.fresh}/{used.cached}/{used.output}/{used.reasoning} tokens, ${meter.cost}, {meter.tool_calls} tools"
    return f"{agent} {scenario}: {attempt.reason}, {tokens}, {seconds(attempt):.1f} s"


def seconds(attempt: Attempt) -> float:
    """How long the agent ran."""
    assert attempt.agent_started_at is not None
    assert attempt.ended_at is not None
    return (attempt.ended_at - attempt.agent_started_at).total_seconds()
