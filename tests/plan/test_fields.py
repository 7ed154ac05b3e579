"""Every key of a task file: a change of it is told, or it stands in a list of those that mean nothing when a task runs."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optio.model.connection import KINDS, Connection, McpConnection
from optio.model.policy import PolicySpec
from optio.model.registry import CompiledTask, Origin
from optio.model.spec import Spec, names_of
from optio.model.task import Amounts, Dedupe, Environment, Network, Resources, ResultSpec, StartLimit, TaskSpec
from optio.model.trigger import ScheduleConfig, ScheduleTrigger, SecretRef, WebhookConfig, WebhookTrigger
from optio.plan import policy
from optio.plan.effect import Forecast
from optio.plan.effects import between
from optio.plan.words import shorten_pair

OUTLOOK = Forecast(now=datetime(2026, 1, 2, 12, tzinfo=UTC))
# They are for people, for `optio test`, or for the compiler, which has done with them.
WITHOUT_MEANING = {"apiVersion", "type", "extends", "description", "tests"}
# What a run never sees, for it is in `prompt` or in the trigger's place in the list.
ELSEWHERE = {"promptTemplate", "promptFile", "triggers", "environment"}
HMAC = {"scheme": "hmac", "signatureHeader": "X-Sign"}

TASK: dict[str, Any] = {
    "name": "Report",
    "agentRuntime": "claude-code",
    "promptTemplate": "Look at {{A}}",
    "budgetUsd": "1.00",
    "triggers": [
        {"type": "schedule", "config": {"cronExpression": "0 9 * * 1", "misfire": "all"}},
        {"type": "webhook", "config": {"path": "report", "secret": {"name": "S"}, **HMAC}},
    ],
    "environment": {"network": {"egress": ["api.example.com"]}, "setupCommands": ["true"]},
}
OTHER: dict[str, Any] = {
    "id": "other",
    "name": "Other",
    "owner": "security",
    "enabled": False,
    "agentRuntime": "codex",
    "model": "opus",
    "command": ["cat"],
    "paramsSchema": {"type": "object", "required": ["A"]},
    "result": {"schema": {"type": "object"}},
    "result.schema": {"type": "array"},
    "result.required": False,
    "maxTurns": 3,
    "budgetUsd": "2.00",
    "maxConcurrent": 1,
    "priority": 1,
    "startLimit": {"count": 1, "per": "1h"},
    "dedupe": {"key": "{{A}}"},
    "budget": "report",
    "maxRetries": 4,
    "timeout": "1h",
    "stallTimeout": "1m",
    "warmPoolSize": 1,
    "connections": ["slack"],
    "environment.image": "agent:1",
    "environment.setupCommands": ["false"],
    "environment.setupAhead": True,
    "environment.env": {"A": "1"},
    "environment.secrets": ["S"],
    "environment.network": {"egress": ["*.example.com"]},
    "environment.network.egress": [],
    "environment.keepFailed": "30m",
    "environment.resources": {"cpu": "1"},
    "environment.resources.cpu": "2",
    "environment.resources.memory": "1Gi",
    "environment.resources.requests": {"cpu": "500m"},
    "environment.resources.limits": {"memory": "3Gi"},
    "environment.resources.requests.cpu": "200m",
    "environment.resources.requests.memory": "1Gi",
    "environment.resources.limits.cpu": "3",
    "environment.resources.limits.memory": "3Gi",
    "startLimit.count": 2,
    "startLimit.per": "2h",
    "dedupe.key": "{{B}}",
    "dedupe.window": "1h",
    "dedupe.onDuplicate": "reject",
    "triggers.0.enabled": False,
    "triggers.0.config.cronExpression": "0 9 * * 2",
    "triggers.0.config.timezone": "Asia/Tokyo",
    "triggers.0.config.paramMapping": {"A": "x"},
    "triggers.0.config.misfire": "skip",
    "triggers.0.config.maxCatchUp": 3,
    "triggers.0.config.overlap": "skip",
    "triggers.1.enabled": False,
    "triggers.1.config.path": "other",
    "triggers.1.config.secret": {"name": "T"},
    "triggers.1.config.secret.name": "T",
    "triggers.1.config.previousSecret": {"name": "T"},
    "triggers.1.config.scheme": "github",
    "triggers.1.config.signatureHeader": "X-Other",
    "triggers.1.config.signatureEncoding": "base64",
    "triggers.1.config.deliveryHeader": "X-Id",
    "triggers.1.config.replayWindow": "none",
    "triggers.1.config.events": ["push"],
    "triggers.1.config.eventHeader": "X-Event",
    "triggers.1.config.eventPath": "$.type",
    "triggers.1.config.when": "@.a == 1",
    "triggers.1.config.paramMapping": {"A": "$.a"},
}
# Said by the absence of `secret`; a deliberate word for the compiler.
IMPLIED = {"triggers.1.config.unsigned", "triggers.0.type", "triggers.1.type", "triggers.0.config", "triggers.1.config"}
# Where something must be there to be changed.
BEFORE: dict[str, Any] = {
    "startLimit": {"count": 1, "per": "1h"},
    "dedupe": {"key": "{{A}}"},
    "result": {"schema": {"type": "object"}},
    "environment.resources": {},
    "environment.resources.requests": {"cpu": "100m"},
    "environment.resources.limits": {"cpu": "2"},
}


def keys() -> Iterator[str]:
    """Every key of a task file as a dotted path into TASK."""
    models: list[tuple[str, type[Spec]]] = [
        ("", TaskSpec),
        ("environment.", Environment),
        ("environment.network.", Network),
        ("environment.resources.", Resources),
        ("result.", ResultSpec),
        ("environment.resources.requests.", Amounts),
        ("environment.resources.limits.", Amounts),
        ("startLimit.", StartLimit),
        ("dedupe.", Dedupe),
        ("triggers.0.", ScheduleTrigger),
        ("triggers.0.config.", ScheduleConfig),
        ("triggers.1.", WebhookTrigger),
        ("triggers.1.config.", WebhookConfig),
        ("triggers.1.config.secret.", SecretRef),
    ]
    for prefix, model in models:
        yield from (prefix + name for name in names_of(model))


def with_value(value: Any, path: list[str], new: Any) -> Any:
    first, *rest = path
    if isinstance(value, list):
        place = int(first)
        return [with_value(each, rest, new) if rest and index == place else each for index, each in enumerate(value)]
    return {**value, first: with_value(value.get(first, {}), rest, new) if rest else new}


def task(document: dict[str, Any]) -> CompiledTask:
    spec = TaskSpec.of(document)
    connections = tuple(connection(HTTP, str(use)) for use in spec.connections)
    return CompiledTask(
        id=spec.id or "report",
        spec=spec,
        prompt=spec.prompt_template or "",
        origin=Origin(path="a", line=1),
        connections=connections,
    )


HTTP: dict[str, Any] = {"type": "connection", "kind": "http", "url": "https://api.example.com", "allow": ["GET /a"]}
MCP: dict[str, Any] = {
    "type": "connection",
    "kind": "mcp",
    "transport": {"type": "sse", "url": "https://mcp.example.com"},
    "tools": {"a": "read", "b": "write"},
}
PROGRAM = {**MCP, "transport": {"type": "stdio", "command": ["server"]}}
SERVICE: dict[str, Any] = {"type": "connection", "kind": "model", "url": "https://models.example.com", "key": "A"}
# A connection, and the keys of it with other values.
OTHER_CONNECTIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (HTTP, {"url": "https://b.example.com", "headers": {"A": "b"}, "allow": ["GET /b"], "timeout": "1s", "maxCalls": 1}),
    (MCP, {"transport": {"type": "streamable-http", "url": "https://mcp.example.com"}, "tools": {"a": "read", "b": "read"}}),
    (MCP, {"transport": {"type": "sse", "url": "https://mcp.example.com", "headers": {"A": "{{secret:B}}"}}}),
    (MCP, {"timeout": "1s", "maxCalls": 1, "pin": {"a": f"schema={'0' * 32} text={'0' * 32}"}}),
    (PROGRAM, {"transport": {"type": "stdio", "command": ["other"]}}),
    (PROGRAM, {"transport": {"type": "stdio", "command": ["server"], "env": {"A": "b"}}}),
    (SERVICE, {"url": "https://b.example.com", "key": "B", "models": ["b"]}),
    (HTTP, {"kind": "mcp"}),
]


def connection(document: dict[str, Any], name: str = "service") -> Connection:
    if document["kind"] == "mcp" and "allow" in document:
        document = MCP
    spec = KINDS[document["kind"]].of(document)
    return Connection(id=name, spec=spec, tools=("a", "b") if isinstance(spec, McpConnection) else ())


@pytest.mark.parametrize(
    ("document", "key", "value"),
    [(document, key, value) for document, values in OTHER_CONNECTIONS for key, value in values.items()],
    ids=str,
)
def test_a_change_of_a_connection_is_told(document: dict[str, Any], key: str, value: Any) -> None:
    before, after = (replace(task(TASK), connections=(connection(each),)) for each in (document, {**document, key: value}))

    assert between(before, after, OUTLOOK)
    assert between(after, before, OUTLOOK)
    assert between(after, after, OUTLOOK) == ()


def test_every_request_that_is_opened_is_named() -> None:
    requests = [f"POST /{'r' * 30}/{number}" for number in range(31)]
    before, after = (
        replace(task(TASK), connections=(connection({**HTTP, "allow": allow}),)) for allow in (["GET /a"], requests)
    )

    (effect,) = between(before, after, OUTLOOK)

    assert len(effect.text) < 400
    assert all(request in f"{effect.text} {effect.lines}" for request in requests)


def test_no_key_of_a_connection_is_left_out() -> None:
    keys = {(document["kind"], key) for document, values in OTHER_CONNECTIONS for key in values}

    assert {(kind, key) for kind, model in KINDS.items() for key in names_of(model)} - keys == {
        (kind, key) for kind in KINDS for key in ("type", "kind", "description")
    } - {("http", "kind")}


def changed(key: str) -> tuple[CompiledTask, CompiledTask]:
    document = TASK
    for name, value in BEFORE.items():
        if key.startswith(name + "."):
            document = with_value(document, name.split("."), value)
    return task(document), task(with_value(document, key.split("."), OTHER[key]))


@pytest.mark.parametrize("key", sorted(set(keys()) - WITHOUT_MEANING - ELSEWHERE - IMPLIED))
def test_a_change_of_a_key_is_told(key: str) -> None:
    before, after = changed(key)

    found = between(before, after, OUTLOOK)

    assert found, f"`{key}` changes what the task does, and no effect says so"
    assert between(before, before, OUTLOOK) == between(after, after, OUTLOOK) == ()


LONG = "cd work && make all install\n" * 20
BEYOND: dict[str, tuple[Any, Any]] = {
    "command": (LONG + "echo done", LONG + "curl example.com | sh"),
    "command.0": (["sh", "-c", LONG + "echo done"], ["sh", "-c", LONG + "rm -rf build"]),
    "owner": ("o" * 150, "o" * 149 + "x"),
    "name": ("n" * 150, "n" * 149 + "x"),
    "model": ("m" * 150, "m" * 149 + "x"),
    "dedupe": ({"key": "{{A}}-" + "k" * 150}, {"key": "{{A}}-" + "k" * 150 + "{{B}}"}),
    "environment.image": ("i" * 150 + ":1", "i" * 150 + ":2"),
    "environment.env": ({"A": LONG + "1"}, {"A": LONG + "2"}),
    "environment.setupCommands": ([LONG + "true"], [LONG + "false"]),
    "triggers.0.config.paramMapping": ({"A": LONG + "1"}, {"A": LONG + "2"}),
    "triggers.0.config": (
        {"cronExpression": "0 9 * * 1", "paramMapping": {"A": "5"}},
        {"cronExpression": "0 9 * * 1", "paramMapping": {"A": 5}},
    ),
    "triggers.1.config.paramMapping": ({"A": {"literal": LONG + "1"}}, {"A": {"literal": LONG + "2"}}),
    "triggers.1.config.when": ("@.a == 1 && " * 20 + "@.b == 1", "@.a == 1 && " * 20 + "@.b != 1"),
    "triggers.1.config.events": ([f"e{n:02}" for n in range(30)], [f"e{n:02}" for n in range(31)]),
    "environment.network.egress": ([], [f"h{n:02}.example.com" for n in range(31)]),
    "result": ({"schema": {"pattern": LONG + "1"}}, {"schema": {"pattern": LONG + "2"}}),
    "paramsSchema": ({"properties": {"A": {"pattern": LONG + "1"}}}, {"properties": {"A": {"pattern": LONG + "2"}}}),
}


@pytest.mark.parametrize("key", BEYOND)
def test_a_change_behind_a_long_beginning_is_told_and_seen(key: str) -> None:
    base = {**TASK, "agentRuntime": "command"} if key.startswith("command") else TASK
    path = key.removesuffix(".0").split(".")
    before, after = (task(with_value(base, path, value)) for value in BEYOND[key])

    (effect,) = between(before, after, OUTLOOK)
    (other,) = between(after, before, OUTLOOK)

    assert (effect.text, effect.diff, effect.lines) != (other.text, other.diff, other.lines)
    assert len(effect.text) < 400
    if effect.before is not None:
        assert effect.before != effect.after or effect.diff


def test_every_host_that_is_opened_is_named() -> None:
    hosts = [f"h{n:02}.example.com" for n in range(31)]
    after = task(with_value(TASK, ["environment", "network", "egress"], ["api.example.com", *hosts]))

    (effect,) = between(task(TASK), after, OUTLOOK)
    (_, of_new) = (each for each in between(None, after, OUTLOOK) if each.kind == "egress-opened" or each.kind == "task-added")

    for each in (effect, of_new):
        assert all(host in f"{each.text} {each.lines}" for host in hosts)


# What cannot be seen is shown by a backslash, as a backslash is.
WORDS = st.text(st.characters(exclude_characters="\\"))


@settings(max_examples=200)
@given(WORDS, WORDS, WORDS, WORDS)
def test_two_long_texts_that_differ_are_shown_as_two(start: str, was: str, now: str, end: str) -> None:
    one, other = (f"{start * 30}{text}{end * 30}" for text in (was, now))
    shown = shorten_pair(one, other)

    assert (shown[0] != shown[1]) == (one != other)
    assert all(text.isprintable() for text in shown)


def test_the_prompt_is_told_wherever_it_stands() -> None:
    before = task(TASK)
    after = CompiledTask(id=before.id, spec=before.spec, prompt="Look elsewhere", origin=before.origin)

    assert [effect.kind for effect in between(before, after, OUTLOOK)] == ["prompt-changed"]


@pytest.mark.parametrize("key", ["description", "apiVersion"])
def test_a_key_without_meaning_is_not_told(key: str) -> None:
    after = task({**TASK, key: {"description": "Words", "apiVersion": "optio/v1"}[key]})

    assert between(task(TASK), after, OUTLOOK) == ()


def test_each_trigger_that_goes_is_told() -> None:
    for index in (0, 1):
        left = [trigger for place, trigger in enumerate(TASK["triggers"]) if place != index]
        assert between(task(TASK), task({**TASK, "triggers": left}), OUTLOOK)


def test_of_a_long_paragraph_the_sentence_that_differs_is_shown() -> None:
    paragraph = "Look at the dependencies of the repository. " * 30
    tasks = [task({**TASK, "promptTemplate": f"{paragraph}{end}"}) for end in ("Write a report.", "Write no report.")]

    (effect,) = between(*tasks, OUTLOOK)

    assert [line for line in effect.diff if line[0] in "+-"] == ["-Write a report.", "+Write no report."]


@pytest.mark.parametrize(
    ("before", "after", "weight"),
    [(None, "enforce", "notice"), ("enforce", None, "danger"), (None, "report", "danger"), ("report", "enforce", "notice")],
)
def test_a_policy_that_lets_budgets_hold_less_is_a_danger(before: str | None, after: str | None, weight: str) -> None:
    policies = [
        PolicySpec.of({"type": "policy"} | ({} if budget is None else {"budget": budget})) for budget in (before, after)
    ]

    assert [(effect.route, effect.weight) for effect in policy.effects(*policies)] == [(("budget",), weight)]
