"""Misfits: all that a model does not take. It and `Spec.of`, which stops at the first, judge alike."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.compiler.validation import ValidationIssue, find_issues
from optio.model import runtimes
from optio.model.policy import PolicySpec
from optio.model.spec import Spec
from optio.model.task import TaskSpec
from optio.model.text import parse_duration, parse_money

TASK: dict[str, Any] = {
    "apiVersion": "optio/v1",
    "type": "standalone",
    "extends": "base.yaml",
    "id": "a-b",
    "name": "Report",
    "description": "",
    "owner": "platform",
    "enabled": True,
    "agentRuntime": "command",
    "model": None,
    "command": ["python3", "x.py"],
    "promptTemplate": "Say {{A}}",
    "paramsSchema": {"type": "object", "properties": {"A": {"type": "string"}}},
    "maxTurns": 2**31 - 1,
    "budgetUsd": "2.50",
    "maxConcurrent": 1,
    "priority": -100,
    "startLimit": {"count": 10_000, "per": "24h"},
    "dedupe": {"key": "{{A}}", "window": "1h30m", "onDuplicate": "replace"},
    "maxRetries": 0,
    "timeout": "90s",
    "warmPoolSize": 0,
    "environment": {
        "image": "a:1",
        "setupCommands": ["true"],
        "env": {"A_1": ""},
        "secrets": ["KEY"],
        "network": {"egress": ["a.example"]},
        "resources": {"cpu": "1"},
    },
    "connections": [],
    "triggers": [
        {"type": "manual", "config": {}},
        {"type": "schedule", "config": {"cronExpression": "0 9 * * 1", "maxCatchUp": 1000, "paramMapping": {"A": 1}}},
        {
            "type": "webhook",
            "enabled": False,
            "config": {
                "path": "p",
                "secret": {"name": "S"},
                "signatureHeader": "X-A",
                "events": ["push"],
                "when": "@.a",
                "eventHeader": "X-B",
                "eventPath": "$.a",
            },
        },
    ],
    "tests": [
        {"webhook": "a.json", "headers": {"X-A": "b"}, "signature": "stale", "expect": {"verdict": "stale"}},
        {"params": {"A": None}, "expect": {"error": ["/params/A", "x"], "promptContains": ["Say"]}},
        {"params": {}, "expect": {"error": "x"}},
    ],
}
POLICY: dict[str, Any] = {
    "type": "policy",
    "ceilings": {"budgetUsd": "5.00", "maxTurns": 20, "timeout": "1h"},
    "fleet": {"dayUsd": "100"},
    "require": ["model"],
    "allow": {"runtimes": ["codex"], "egress": []},
    "rules": {"OPT414": "off"},
    "failOn": ["danger"],
}
MODELS: list[tuple[type[Spec], dict[str, Any]]] = [(TaskSpec, TASK), (PolicySpec, POLICY)]
WORDS = ["", " ", "\n", "A\n", "a", "manual", "webhook", "90s", "90s\n", "0h0m", "1.5", "2.50\n", "x" * 300, "１", "\ud800"]
NUMBERS = [-101, 0, 1, 2**31, 2**70, 1.0, 1.5]
ODD = st.sampled_from([None, True, False, *NUMBERS, *WORDS, [], {}, [None], [1, "a"], {"a": 1}, {"": ""}])
DURATIONS = ["1h", "90s", "1h30m", "0h1s", "99999h99999m999999s", "0h0m", "00s", "", "1", "1m1h", "1h\n", "１h"]


def reads(read: Callable[[Any], object], value: Any) -> bool:
    try:
        read(value)
    except ValueError:
        return False
    return True


def read_spec(model: type[Spec], value: Any) -> None:
    """As the compiler does: which runtimes there are depends on what is installed, so the model takes any name."""
    spec = model.of(value)
    named = (
        [spec.agent_runtime]
        if isinstance(spec, TaskSpec)
        else spec.allow.runtimes or []
        if isinstance(spec, PolicySpec)
        else []
    )
    if not all(map(runtimes.is_known, named)):
        raise ValueError(named)


def places(value: Any, route: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [route, *(place for step, inner in steps for place in places(inner, (*route, step)))]


@st.composite
def spoilt(draw: st.DrawFn, whole: dict[str, Any]) -> Any:
    """The value with up to three of its parts replaced, removed, or joined by another."""
    value: Any = copy.deepcopy(whole)
    for _ in range(draw(st.integers(0, 3))):
        route = draw(st.sampled_from(places(value)))
        if not route:
            continue
        parent = value
        for step in route[:-1]:
            parent = parent[step]
        match draw(st.sampled_from(["put", "put", "remove", "add"])):
            case "put":
                parent[route[-1]] = copy.deepcopy(draw(ODD))
            case "remove":
                del parent[route[-1]]
            case _ if isinstance(parent, dict):
                parent[draw(st.sampled_from([*WORDS, "model", "type"]))] = copy.deepcopy(draw(ODD))
            case _:
                parent.append(copy.deepcopy(draw(ODD)))
    return value


@pytest.mark.parametrize(("model", "whole"), MODELS, ids=["task", "policy"])
@given(data=st.data())
def test_no_misfit_is_what_the_model_takes(model: type[Spec], whole: dict[str, Any], data: st.DataObject) -> None:
    value = data.draw(spoilt(whole))

    assert reads(partial(read_spec, model), value) is not any(find_issues(value, model))


@pytest.mark.parametrize(("model", "whole"), MODELS, ids=["task", "policy"])
def test_what_is_whole_has_none(model: type[Spec], whole: dict[str, Any]) -> None:
    assert list(find_issues(whole, model)) == []


def test_all_are_found_in_one_pass_and_each_at_its_route() -> None:
    environment = {"env": {"A\n": 1}, "netwrk": {}, "secrets": "KEY"}
    triggers = [{"type": "schedule", "config": {"misfire": "never"}}, {"type": "ticket"}, "manual"]
    value = {"agentRuntime": 5, "maxTurns": 0, "command": 7, "environment": environment, "triggers": triggers}

    assert list(find_issues(value, TaskSpec)) == [
        ValidationIssue("missing", ("name",)),
        ValidationIssue("word", ("agentRuntime",), 5, ("claude-code", "codex", "copilot", "gemini", "opencode", "command")),
        ValidationIssue("type", ("command",), 7, "text or a list"),
        ValidationIssue("least", ("maxTurns",), 0, 1),
        ValidationIssue("pattern", ("environment", "env", "A\n"), "A\n", r"^[A-Za-z_][A-Za-z0-9_]*\Z"),
        ValidationIssue("type", ("environment", "env", "A\n"), 1, "text"),
        ValidationIssue("type", ("environment", "secrets"), "KEY", "a list"),
        ValidationIssue("unknown", ("environment", "netwrk"), {}),
        ValidationIssue("missing", ("triggers", 0, "config", "cronExpression")),
        ValidationIssue("word", ("triggers", 0, "config", "misfire"), "never", ("last", "skip", "all")),
        ValidationIssue("variant", ("triggers", 1), {"type": "ticket"}),
        ValidationIssue("variant", ("triggers", 2), "manual"),
    ]


@pytest.mark.parametrize("text", DURATIONS)
def test_what_the_model_takes_for_a_duration_can_be_read(text: str) -> None:

    assert reads(parse_duration, text) is not any(find_issues({**TASK, "timeout": text}, TaskSpec))


@given(st.from_regex(r"\A[0-9]{0,11}(\.[0-9]{0,6})?\n?\Z"))
def test_what_the_model_takes_for_money_can_be_read(text: str) -> None:

    assert reads(parse_money, text) is not any(find_issues({**TASK, "budgetUsd": text}, TaskSpec))


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("maxTurns", 2**31, "most"),
        ("maxTurns", 0, "least"),
        ("maxTurns", None, None),
        ("maxRetries", None, "type"),
        ("enabled", None, "type"),
        ("name", "x" * 201, "longest"),
        ("name", " ", "blank"),
        ("id", "a\n", "pattern"),
    ],
)
def test_each_kind_is_told_at_its_bound(key: str, value: Any, kind: str | None) -> None:
    found = list(find_issues({**TASK, key: value}, TaskSpec))

    assert [misfit.kind for misfit in found] == ([] if kind is None else [kind])
    assert reads(TaskSpec.of, {**TASK, key: value}) is (kind is None)
