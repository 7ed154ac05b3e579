"""The real agent CLIs under workers that die in the middle of their runs: in the end a run tells what it tells when no worker
dies. All agents run side by side."""

import contextlib
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from optio.model.agent_event import AgentEvent, ToolCall, ToolResult
from optio.model.run import LogKind, LogLine
from optio.model.usage import Meter, Usage
from optio.wiring import Services
from tests.executors.support import living
from tests.model_server import PLAIN_TEXT
from tests.processes.test_worker import Process
from tests.runs.support import accept, log_of, opened
from tests.runtimes.real_agents import AGENTS, Model, environ_of, model_server, task
from tests.support import eventually

MODEL = "claude-sonnet-4-5-stub-steps"
Lines = tuple[tuple[str, str, AgentEvent | None], ...]


class Told(NamedTuple):
    """A run as it is told in the end, without times and ids of the agent's session. Turns are apart: some agents tell them in
    another file than the rest, and nothing orders the two."""

    state: str
    reason: str
    text: str | None
    attempt: int
    meter: Meter
    turns: Lines
    lines: Lines


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Told], dict[str, Told]]:
    """The runs of a worker that nobody disturbed, and those whose workers were killed."""
    with model_server() as model:
        calm, killed = (run_all(model, tmp_path_factory.mktemp("runs"), kills=kills) for kills in (False, True))
    return calm, killed


def run_all(model: Model, directory: Path, *, kills: bool) -> dict[str, Told]:
    environ = environ_of(model.url) | {"OPTIO_MAX_WORKFLOW_CONCURRENT": str(len(AGENTS))}
    model.reset()
    with opened(directory, environ) as services, contextlib.ExitStack() as stack:

        def start() -> Process:
            worker = Process(directory, **environ)
            stack.callback(worker.kill)
            return worker

        runs = {agent: accept(services, task(agent, MODEL)) for agent in AGENTS}
        if kills:
            model.hold()
            first = start()
            eventually(lambda: held(model) == len(AGENTS), within=120, what="the middle of their commands")
            first.kill()
            second = start()
            eventually(lambda: all(is_adopted(services, each) for each in runs.values()), within=60, what="each adoption")
            model.step()
            eventually(lambda: held(model) == 2 * len(AGENTS), within=60, what="the middle of their last answers")
            # What is left of the runs goes by while the second one dies, and when nobody lives.
            model.release()
            second.kill()
            eventually(lambda: not living(MODEL), within=60, what="the end of all agents")
        start()
        eventually(
            lambda: all(services.store.run(each).state.terminal for each in runs.values()),
            within=180,
            what="the end of all runs",
        )
        return {agent: told_of(services, run_id) for agent, run_id in runs.items()}


def is_adopted(services: Services, run_id: str) -> bool:
    return any(line.startswith(b"found again") for line in log_of(services, run_id, LogKind.SYSTEM))


def held(model: Model) -> int:
    """How many times a conversation has waited."""
    return sum("held" in each for each in model.requests())


def told_of(services: Services, run_id: str) -> Told:
    run = services.store.run(run_id)
    log: list[LogLine] = []
    while page := services.store.log(run_id, after=log[-1].seq if log else 0, limit=1000):
        log += page
    calls = [line.event.id for line in log if isinstance(line.event, ToolCall)]

    def lines(*, turns: bool) -> Lines:
        found = []
        for line in log:
            # Gemini says on standard error how its own start was measured, or not.
            if line.kind is LogKind.SYSTEM or line.text.startswith("[STARTUP]") or (line.kind is LogKind.TURN) != turns:
                continue
            event = line.event
            if isinstance(event, ToolCall | ToolResult):
                event = msgspec.structs.replace(event, id=f"call {calls.index(event.id)}")
            found.append((line.kind, line.text, event))
        return tuple(found)

    return Told(run.state, run.reason, run.text, run.attempt, run.meter, lines(turns=True), lines(turns=False))


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.timeout(480)
def test_a_run_whose_workers_are_killed_tells_what_an_undisturbed_one_tells(
    told: tuple[dict[str, Told], dict[str, Told]], agent: str
) -> None:
    calm, killed = (each[agent] for each in told)

    print(agent, killed.meter, f"{len(killed.turns)} turns, {len(killed.lines)} other lines")
    assert (calm.state, calm.reason, calm.attempt) == ("completed", "ok", 1)
    assert len(calm.turns) == calm.meter.turns == 4
    assert [event.ok for *_, event in calm.lines if isinstance(event, ToolResult)] == [True] * 3
    assert calm.meter.tool_calls == 3
    assert calm.meter.usage == Usage(fresh=4800, cached=1200, output=160)
    assert calm.text == PLAIN_TEXT
    assert killed._asdict() == calm._asdict()
