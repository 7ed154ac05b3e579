"""The real Claude Code CLI, on a model that answers by script: output, cost, tokens and limits."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from tests.runtimes.real_agents import SPARED
from tests.stories.conftest import SECRET, started
from tests.stub_model import TEXT, StubModel
from tests.support import CLAUDE, SEED, Dev, eventually

AGENT = """\
type: standalone
name: {name}
agentRuntime: claude-code
model: claude-sonnet-4-5-stub-{scenario}
promptTemplate: "Look at {{{{REPO_NAME}}}}"
maxRetries: 0
timeout: 2m
environment:
  secrets: [ANTHROPIC_API_KEY]
  env: {env}
{extra}
"""


@pytest.fixture
def agent(optio: Dev) -> Callable[..., str]:
    """Makes a task for Claude Code; its id."""

    def make(name: str, scenario: str, extra: str = "") -> str:
        optio.write(
            f"{name.lower()}.yaml",
            AGENT.format(name=name, scenario=scenario, env=json.dumps(SPARED["claude-code"]), extra=extra),
        )
        optio.until_served(name.lower())
        return name.lower()

    return make


def test_output_cost_and_tokens_are_captured(optio: Dev, agent: Callable[..., str]) -> None:
    run = optio.until_ended(started(optio, agent("Captured", "tool"), {"REPO_NAME": "optio"}), within=60)

    log = [line["text"] for line in optio.get(f"/api/workflow-runs/{run['id']}/logs").json["items"]]
    assert (run["state"], run["prompt"]) == ("completed", "Look at optio")
    assert run["output"]
    assert run["output"] in log
    assert (run["turns"], run["toolCalls"]) == (2, 1)
    assert Decimal(run["costUsd"]) > 0
    assert run["tokens"] == sum(run["usage"][kind] for kind in ("fresh", "cached", "cacheWrite", "output")) > 0


def test_a_run_ends_at_its_turns(optio: Dev, agent: Callable[..., str]) -> None:
    run = optio.until_ended(started(optio, agent("Turning", "costly", "maxTurns: 2")), within=60)

    assert (run["state"], run["reason"], run["turns"]) == ("failed", "max_turns", 2)


def test_a_run_ends_at_its_budget(optio: Dev, agent: Callable[..., str]) -> None:
    run = optio.until_ended(started(optio, agent("Spending", "costly", 'budgetUsd: "0.50"')), within=60)

    assert (run["state"], run["reason"]) == ("failed", "budget")
    assert Decimal(run["costUsd"]) > Decimal("0.50"), "what was spent is told, also beyond the budget"


def test_a_secret_reaches_the_run_that_names_it_and_nobody_else(optio: Dev, agent: Callable[..., str]) -> None:
    run = optio.until_ended(started(optio, agent("Secretive", "plain")), within=60)

    assert run["state"] == "completed"
    for path in (f"/api/workflow-runs/{run['id']}", f"/api/workflow-runs/{run['id']}/logs", "/api/tasks", "/api/deliveries"):
        answer = json.dumps(optio.get(path).json)
        assert "sk-story" not in answer
        assert SECRET not in answer


def test_an_agent_without_a_credential_is_told_how_a_task_gets_one(optio: Dev) -> None:
    """The document's own task names no secret."""
    optio.post("/api/tasks", {**SEED, "name": "Keyless", "maxRetries": 0})

    run = optio.until_ended(started(optio, "keyless", {"REPO_NAME": "optio"}), within=60)

    assert (run["state"], run["reason"]) == ("failed", "auth")
    assert "ANTHROPIC_API_KEY" in run["message"]


def test_a_task_that_names_no_credential_runs_by_the_one_that_the_operator_offers(
    tmp_path: Path, scripted_model: StubModel
) -> None:
    """The document's own task, as it stands; a policy of the tree has the last word."""
    dev = Dev(
        tmp_path,
        environ={
            "OPTIO_PROGRAM_CLAUDE_CODE": str(CLAUDE),
            "OPTIO_ANTHROPIC_BASE_URL": scripted_model.url,
            "OPTIO_SANDBOX": "namespaces",
            "OPTIO_CREDENTIALS": "OPENAI_API_KEY, ANTHROPIC_API_KEY",
            "OPTIO_SECRET_ANTHROPIC_API_KEY": "sk-ant-story-0123",
        },
    )
    dev.start()
    try:
        dev.post("/api/tasks", {**SEED, "model": "stub-plain", "maxRetries": 0})
        task_id = dev.get("/api/tasks").json["items"][0]["id"]
        run = dev.until_ended(started(dev, task_id, {"REPO_NAME": "optio"}), within=60)
        log = [line["text"] for line in dev.get(f"/api/workflow-runs/{run['id']}/logs").json["items"]]
        dev.write("_policy.yaml", "type: policy\nallow: {secrets: [TEAM_*]}\n")
        eventually(lambda: dev.get("/api/registry").json["generation"] > 2, what="the policy to count")
        refused = dev.until_ended(started(dev, task_id, {"REPO_NAME": "optio"}), within=60)
    finally:
        dev.stop()

    assert (run["state"], run["output"]) == ("completed", TEXT)
    assert "the agent signs in by ANTHROPIC_API_KEY, which the operator offers (OPTIO_CREDENTIALS)" in log
    assert (refused["state"], refused["reason"]) == ("failed", "auth")
