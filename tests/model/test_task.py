"""TaskSpec: the seed's keys, no coercion, nothing unknown."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from optio.model.task import TaskSpec

SEED: dict[str, Any] = {
    "type": "standalone",
    "name": "Weekly Security Report",
    "description": "Scans dependencies and generates a vulnerability summary",
    "agentRuntime": "claude-code",
    "model": "sonnet",
    "promptTemplate": "Analyze the dependency list for {{REPO_NAME}}. Focus on: {{FOCUS_AREAS}}",
    "paramsSchema": {
        "type": "object",
        "properties": {"REPO_NAME": {"type": "string"}, "FOCUS_AREAS": {"type": "string", "default": "CVEs"}},
        "required": ["REPO_NAME"],
    },
    "maxTurns": 20,
    "maxRetries": 2,
    "maxConcurrent": 1,
}


def test_the_seeds_body_is_a_task() -> None:
    spec = TaskSpec.of(SEED)

    assert (spec.max_turns, spec.max_retries, spec.max_concurrent) == (20, 2, 1)


def test_the_seeds_defaults_hold() -> None:
    spec = TaskSpec.of({"name": "A", "agentRuntime": "codex", "promptTemplate": "x"})

    assert (spec.max_retries, spec.max_concurrent, spec.warm_pool_size, spec.enabled) == (1, 2, 0, True)
    assert spec.environment.env == {}
    assert spec.triggers == []


@pytest.mark.parametrize(
    "change",
    [
        {"maxTurns": "20"},
        {"maxTurns": 20.0},
        {"maxTurns": True},
        {"enabled": "true"},
        {"enabled": 1},
        {"name": 5},
        {"name": " "},
        {"max_turns": 20},
        {"unknown": 1},
        {"budgetUsd": 2.5},
        {"budgetUsd": "2,50"},
        {"timeout": 20},
        {"timeout": "soon"},
        {"type": "repo"},
        {"maxRetries": -1},
        {"maxConcurrent": 0},
        {"maxTurns": 2**31},
    ],
    ids=str,
)
def test_nothing_is_converted_and_nothing_unknown_is_taken(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected|Invalid|unknown"):
        TaskSpec.of(SEED | change)


def test_money_and_durations_are_exact_values() -> None:
    spec = TaskSpec.of(SEED | {"budgetUsd": "2.50", "timeout": "1h30m", "stallTimeout": "90s"})

    assert spec.budget_limit == Decimal("2.50")
    assert spec.timeout_span == timedelta(minutes=90)
    assert spec.stall_span == timedelta(seconds=90)


def test_triggers_are_found_by_their_type() -> None:
    spec = TaskSpec.of(
        SEED
        | {
            "triggers": [
                {"type": "manual"},
                {"type": "schedule", "config": {"cronExpression": "0 9 * * 1"}},
                {"type": "webhook", "config": {"path": "scan", "secret": {"name": "S"}}},
            ]
        }
    )

    assert spec.schedule is not None
    assert spec.schedule.config.timezone == "UTC"
    assert spec.webhook is not None
    assert spec.webhook.config.param_mapping is None


def test_defaults_are_not_shared_between_tasks() -> None:
    one, other = (TaskSpec.of(SEED) for _ in range(2))

    one.triggers.append(None)  # type: ignore[arg-type]
    one.environment.env["A"] = "x"

    assert other.triggers == []
    assert TaskSpec.of(SEED).environment.env == {}
