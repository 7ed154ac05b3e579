"""The real Claude Code CLI, on a model that answers by script: output, cost, tokens and limits."""

import json
from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.stories.conftest import SECRET, started
from tests.support import SEED, Dev

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
{extra}
"""


@pytest.fixture
def agent(optio: Dev) -> Callable[..., str]:
    """Makes a task for Claude Code; its id."""

    def make(name: str, scenario: str, extra: str = "") -> str:
        optio.write(f"{name.lower()}.yaml", AGENT.format(name=name, scenario=scenario, extra=extra))
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
