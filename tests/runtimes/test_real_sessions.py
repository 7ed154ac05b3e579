"""The real agent CLIs go on in a session that broke off, and mend their result in it: what they ask the model first, and what
all of it has used."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from optio.model.result import schema_for_cli
from optio.model.run import LogKind, Run, RunState
from optio.wiring import Services
from tests.model_server import JSON_ANSWER
from tests.runs.support import accept, done, log_of, opened, working
from tests.runtimes.real_agents import AGENTS, Model, environ_of, model_server, task
from tests.runtimes.test_real_matrix import processes_of
from tests.runtimes.test_real_results import OWN
from tests.support import eventually

EXTRA = f"maxRetries: 1\nresult: {{schema: {json.dumps(OWN)}}}\n"


@pytest.fixture
def models() -> Iterator[dict[str, Model]]:
    """A model server for each agent: it heals when the first attempt of this agent has ended."""
    with contextlib.ExitStack() as stack:
        yield {agent: stack.enter_context(model_server()) for agent in AGENTS}


@pytest.fixture
def services(tmp_path: Path, models: dict[str, Model]) -> Iterator[Services]:
    environ: dict[str, str] = {}
    for agent, model in models.items():
        own = environ_of(model.url)
        name = "OPTIO_ANTHROPIC_BASE_URL" if agent == "claude-code" else f"OPTIO_ENDPOINT_{agent.upper()}"
        environ = {**own, **environ, name: own[name]}
    with opened(tmp_path, environ) as made:
        yield made


def interrupted_and_healed(services: Services, model: Model, agent: str) -> tuple[Run, int]:
    """A run whose first attempt breaks off after a tool call, and how many requests that attempt made."""
    interrupted = task(agent, "stub-late-500", EXTRA, CLAUDE_CODE_MAX_RETRIES="1")
    assert schema_for_cli(interrupted.spec) is None, "its prompt alone asks for the result"
    run_id = accept(services, interrupted)
    eventually(lambda: any(each.ended_at for each in services.store.attempts(run_id)), within=150)
    asked = len(model.requests())
    model.heal()
    return done(services, run_id, within=150), asked


@pytest.mark.timeout(300)
def test_an_agent_goes_on_where_it_broke_off_mends_its_result_and_all_usage_is_counted_once(
    services: Services, models: dict[str, Model], tmp_path: Path
) -> None:
    with working(services), ThreadPoolExecutor(len(AGENTS)) as pool:
        ran = pool.map(lambda agent: interrupted_and_healed(services, models[agent], agent), AGENTS)
        ended = dict(zip(AGENTS, ran, strict=True))

    for agent, (run, asked) in ended.items():
        first, second, third = services.store.attempts(run.id)
        assert (run.state, run.reason, run.output) == (RunState.COMPLETED, "ok", JSON_ANSWER), (agent, run.message)
        assert (first.reason, second.continues, third.continues, run.retries) == ("server_error", 1, 2, 1), agent
        requests = models[agent].requests()
        assert requests[asked]["history"] == 1, agent
        assert "does not fit" in requests[-1]["prompt"], agent
        told = [line.decode() for line in log_of(services, run.id, LogKind.SYSTEM)]
        assert "continues the session of attempt 1, which had made 1 tool call" in told, agent
        assert len({(each.agent.session, each.agent.machine) for each in (first, second, third)}) == 1, agent
        usage = run.meter.usage
        answers = [each["answer"].get("usage") or {} for each in requests]
        served = tuple(sum(each.get(name, 0) for each in answers) for name in ("fresh", "cached", "output"))
        assert (usage.fresh, usage.cached, usage.output) == served, agent
    assert not list((tmp_path / "data" / "attempts").iterdir()), "something was left"


def killed_and_continued(services: Services, model: Model, agent: str) -> Run:
    """A run whose agent is killed while it waits for its third answer, with a budget that its known cost leaves."""
    model.hold()
    limits = 'maxRetries: 1\nbudgetUsd: "9.00"\n'
    run_id = accept(services, task(agent, "claude-sonnet-4-5-stub-steps", limits))
    eventually(lambda: len(model.requests()) > 2, within=150, what=f"the third request of {agent}")
    if agent == "copilot":  # it writes its session once a second, and cannot continue one that it has not written
        home = services.settings.data_dir / "attempts" / f"{run_id}-1" / "home"
        eventually(
            lambda: any(
                "tool.execution_complete" in each.read_text() for each in home.glob(".copilot/session-state/*/events.jsonl")
            ),
            what="its session",
        )
    for pid in processes_of(run_id):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: any(each.ended_at for each in services.store.attempts(run_id)), within=60)
    model.release()
    return done(services, run_id, within=150)


@pytest.mark.timeout(300)
def test_an_agent_that_was_killed_goes_on_in_its_session(services: Services, models: dict[str, Model]) -> None:
    with working(services), ThreadPoolExecutor(len(AGENTS)) as pool:
        ended = dict(
            zip(AGENTS, pool.map(lambda agent: killed_and_continued(services, models[agent], agent), AGENTS), strict=True)
        )

    for agent, run in ended.items():
        made = services.store.attempts(run.id)
        assert len(made) == 2, (agent, [(each.reason, each.signal, each.continues) for each in made])
        first, second = made
        assert (first.reason, first.signal, second.continues) == ("signal", 9, 1), (agent, first.message)
        assert run.state is RunState.COMPLETED, (agent, run.message)
        assert first.agent.version == second.agent.version is not None, agent
