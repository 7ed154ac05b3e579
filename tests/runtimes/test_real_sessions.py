"""The real agent CLIs go on in a session that broke off: what they ask the model first, and what all of it has used."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from optio.model.run import LogKind, Run, RunState
from optio.wiring import Services
from tests.runs.support import accept, done, log_of, opened, working
from tests.runtimes.real_agents import AGENTS, DONE, Model, environ_of, model_server, task
from tests.support import eventually

# A status after which this CLI does not try for a minute by itself.
STATUS = {"claude-code": 500, "codex": 500, "copilot": 503, "gemini": 500, "opencode": 503}


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
    run_id = accept(services, task(agent, f"stub-late-{STATUS[agent]}", "maxRetries: 1\n", CLAUDE_CODE_MAX_RETRIES="1"))
    eventually(lambda: services.store.attempts(run_id)[:1] and services.store.attempts(run_id)[0].ended_at, within=150)
    asked = len(model.requests())
    model.heal()
    return done(services, run_id, within=150), asked


@pytest.mark.timeout(300)
def test_a_retry_goes_on_where_the_agent_broke_off_and_all_usage_is_counted_once(
    services: Services, models: dict[str, Model], tmp_path: Path
) -> None:
    with working(services), ThreadPoolExecutor(len(AGENTS)) as pool:
        ran = pool.map(lambda agent: interrupted_and_healed(services, models[agent], agent), AGENTS)
        ended = dict(zip(AGENTS, ran, strict=True))

    for agent, (run, asked) in ended.items():
        first, second = services.store.attempts(run.id)
        assert (run.state, run.text) == (RunState.COMPLETED, DONE), (agent, run.message)
        assert (first.reason, second.continues) == ("server_error" if STATUS[agent] == 500 else "overloaded", 1), agent
        requests = models[agent].requests()
        assert requests[asked]["history"] == 1, agent
        told = [line.decode() for line in log_of(services, run.id, LogKind.SYSTEM)]
        assert "continues the session of attempt 1, which had made 1 tool call" in told, agent
        assert (first.agent.session, first.agent.machine) == (second.agent.session, second.agent.machine), agent
        usage = run.meter.usage
        answers = [each["answer"].get("usage") or {} for each in requests]
        served = tuple(sum(each.get(name, 0) for each in answers) for name in ("fresh", "cached", "output"))
        assert (usage.fresh, usage.cached, usage.output) == served, agent
    assert not list((tmp_path / "data" / "attempts").iterdir()), "something was left"
