"""The table of other systems' keys: each row leads to a key that is there, and a value is proposed only where it is certain."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from optio.compiler.conversions import foreign_keys
from optio.compiler.conversions.foreign_keys import KeyRow, find_row, level_of
from optio.compiler.conversions.known_keys import known_keys
from optio.compiler.conversions.values import _CONVERTERS, convert
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.fixes import fix_tree
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.compiler.yaml.emit import flow
from optio.model.route import Route

TASK = "name: Example\nagentRuntime: claude-code\npromptTemplate: Say hello\n"
TABLE = Path(foreign_keys.__file__).with_name("foreign_keys.json")
ROWS = [KeyRow(**row) for row in json.loads(TABLE.read_text())]
PLACES: dict[str, Route] = {
    "task": (), "environment": ("environment",), "network": ("environment", "network"), "startLimit": ("startLimit",),
    "resources": ("environment", "resources"), "dedupe": ("dedupe",), "trigger": ("triggers", 0), "tests": ("tests", 0),
    "schedule": ("triggers", 0, "config"), "webhook": ("triggers", 0, "config"), "manual": ("triggers", 0, "config"),
    "expect": ("tests", 0, "expect"), "result": ("result",),
}  # fmt: skip
NAMED = [(level, row) for row in ROWS for level in row.at.split()]
# Their values are in words or numbers of which no text of the manual says what they mean here.
UNCLEAR: list[tuple[str, Any]] = [
    ("rateLimit", {"maxRuns": 20}), ("concurrency", {"group": "ci", "cancel-in-progress": True}), ("delay", "5m"),
    ("ttl", "10m"), ("concurrency_time_window_s", 60), ("schedule", "-"), ("schedule", "@once"), ("interval", "5m"),
    ("executionTimeout", 300), ("maxCost", 5), ("restartPolicy", "Never"), ("retry", {"maxAttempt": 3, "interval": "PT5M"}),
    ("systemPrompt", "You are a reviewer."), ("parallelism", 3), ("memory", 1024), ("maxIterations", 9), ("replicas", 2),
    ("steps", [{"run": "make"}]), ("runs-on", "ubuntu-latest"), ("env_file", ".env"), ("catchup", False),
    ("cron", ["0 9 * * 1", "0 9 * * 5"]), ("inputs", {"kind": {"type": "choice", "options": ["a"]}}), ("maxRuns", 3),
    ("on", {"push": {"branches": ["main"]}}), ("webhook", {"path": "a"}), ("args", ["--all"]), ("limits", {"cpu": 1}),
]  # fmt: skip


def root_of(level: str) -> dict[str, Any]:
    kind = level if level in ("schedule", "webhook") else "manual"
    return {"triggers": [{"type": kind}]}


def diagnostics(text: str) -> tuple[Diagnostic, ...]:
    return compile_tree(MemoryTree({"a.yaml": text.encode()})).diagnostics


@pytest.mark.parametrize(("level", "row"), NAMED, ids=[f"{level} {row.names.partition(' ')[0]}" for level, row in NAMED])
def test_a_row_leads_to_a_key_that_is_there_or_says_what_to_do(level: str, row: KeyRow) -> None:
    assert row.kind in {"", "note", "word", *_CONVERTERS}
    if not row.ours:
        assert row.text
        assert not row.text.startswith("delete")
        return
    kind, _, last = row.ours.rpartition(":")
    if kind:
        assert last in known_keys({"triggers": [{"type": kind}]}, ("triggers", 0, "config"))
        return
    base = () if row.ours[0] == "/" else PLACES[level][:-1] if row.ours[0] == "^" else PLACES[level]
    *above, name = row.ours.lstrip("/^").split(".")
    assert name in known_keys(root_of(level), (*base, *above)) or level in ("tests", "expect")


def test_a_name_stands_once_at_its_level() -> None:
    names = [(level, name) for level, row in NAMED for name in row.names.split()]

    assert len(names) == len(set(names))
    assert [name for name in names if not re.fullmatch(r"[a-z0-9./]+", name[1])] == []


def test_a_name_of_the_table_is_no_key_of_its_level() -> None:
    ours = {(level, key.lower()) for level in PLACES for key in known_keys(root_of(level), PLACES[level])}

    assert {(level, name) for level, row in NAMED for name in row.names.split()} & ours == set()


@pytest.mark.parametrize("level", PLACES)
def test_the_level_of_a_place_is_known(level: str) -> None:
    assert level_of(root_of(level), PLACES[level]) == level


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("not", True, "false"), ("not", "false", "true"), ("not", {}, None), ("not", "sometimes", None),
        ("bool", "no", "false"), ("bool", 1, None),
        ("seconds", 90, "1m30s"), ("seconds", "PT20M", "20m"), ("seconds", {"hours": 1, "minutes": 30}, "1h30m"),
        ("seconds", {"hours": 1, "soon": 3}, None), ("seconds", 0, None), ("seconds", "soon", None),
        ("duration", 90, None), ("duration", "1d", "24h"), ("minutes", 20, "20m"), ("milliseconds", 90_000, "1m30s"),
        ("milliseconds", 1, None), ("hours", 2, "2h"),
        ("count", {"limit": 4}, "4"), ("count", {"limit": 4, "scope": "env"}, None), ("count", -1, None),
        ("count", True, None), ("attempts", 3, "2"), ("attempts", 0, None), 
        ("money", "$2", '"2"'), ("price", 2, None), ("price", "2 USD", '"2"'),
        ("cron", [{"cron": "0 9 * * 1"}], '"0 9 * * 1"'), ("cron", [{"cron": "0 9 * * 1"}, {"cron": "0 9 * * 5"}], None),
        ("cron", "5m", None), ("cron", "-", None), ("cron", 7, None),
        ("texts", [{"name": "A", "value": 1}, "B=2"], "{A: '1', B: '2'}"), ("texts", {"API_KEY": "hunter2"}, None),
        ("texts", [{"name": "A", "valueFrom": {"secretKeyRef": {}}}], None),
        ("secrets", "hunter2", None), ("secrets", ["API_TOKEN"], "[API_TOKEN]"),
        ("secret", "${{ secrets.HELLO }}", "{name: HELLO}"), ("secret", {"secretKeyRef": {"name": "a", "key": "b"}}, None),
        ("memory", "512m", "512Mi"), ("memory", "2Gi", "2Gi"), ("memory", 1024, None),
        ("schema", {"A": {"type": "string", "required": True}},
         "{type: object, properties: {A: {type: string}}, required: [A]}"),
        ("schema", {"A": {"type": "string", "options": ["b"]}}, None), ("schema", ["A", "B"], None),
        ("text", ["team-a"], "team-a"),
        ("text", ["a", "b"], None),
    ],
)  # fmt: skip
def test_a_value_is_converted_if_all_of_it_is_certain(kind: str, value: Any, text: str | None) -> None:
    assert convert(kind, "", value) == text


ODD: tuple[Any, ...] = (None, True, 0, -1, 1e300, "", "x" * 5_000, [], {}, [[]], [None], {"": None}, {"limit": {}})


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_no_value_is_too_odd_to_convert(value: Any) -> None:
    for kind in (*_CONVERTERS, "word"):
        convert(kind, "overlap", value)


@pytest.mark.parametrize(("key", "value"), UNCLEAR, ids=[f"{key} {value}"[:40] for key, value in UNCLEAR])
def test_no_value_is_proposed_where_the_meaning_is_not_certain(key: str, value: Any) -> None:
    (finding, *_) = [found for found in diagnostics(f"{TASK}{key}: {flow(value)}\n") if found.code == "OPT101"]

    assert finding.fix is None
    assert "write `" not in str(finding.hint)


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("disabled: true", "enabled: false"),
        ("timeout-minutes: 5  # enough", "timeout: 5m  # enough"),
        ("max_turns: 20", "maxTurns: 20"),
        ("retries: 2", "maxRetries: 2"),
        ("backoffLimit: 3", "maxRetries: 3"),
        ("maxActiveRuns: 2", "maxConcurrent: 2"),
        ("maxCost: '$2'", 'budgetUsd: "2"'),
        ("env: {LOG_LEVEL: info}", "environment: {env: {LOG_LEVEL: info}}"),
        ("container: python:3.12", "environment: {image: 'python:3.12'}"),
        ("allowedHosts: [api.anthropic.com]", "environment: {network: {egress: [api.anthropic.com]}}"),
        ('schedule: "0 9 * * 1"', 'triggers: [{type: schedule, config: {cronExpression: "0 9 * * 1"}}]'),
    ],
)
def test_a_certain_value_is_written(line: str, becomes: str) -> None:
    fixed = fix_tree(MemoryTree({"a.yaml": f"{TASK}{line}\n".encode()}), unsafe=True)

    text = fixed.files["a.yaml"].decode()
    assert fixed.compilation.ok
    if line.startswith("env:"):
        assert "LOG_LEVEL: info" in text
    else:
        assert text == f"{TASK}{becomes}\n"


def test_two_keys_that_lead_to_one_have_no_value_alone() -> None:
    found = [each.hint for each in diagnostics(f"{TASK}timeout-minutes: 5\nmaxRuntime: 1h\n") if each.code == "OPT101"]

    assert [str(hint).partition(":")[0] for hint in found] == ["the nearest key is `timeout`"] * 2


def test_a_schedule_with_a_zone_beside_it_has_no_value_alone() -> None:
    text = f'{TASK}cron: "0 9 * * 1"\ntimezone: Europe/Berlin\n'

    hints = [str(found.hint) for found in diagnostics(text) if found.code == "OPT101"]

    assert [hint.partition(" in ")[0] for hint in hints] == [
        "the nearest key is `cronExpression`", "the nearest key is `timezone`"
    ]  # fmt: skip


def test_a_secret_is_not_repeated() -> None:
    text = (
        TASK
        + "secret: hunter2secret\nenv: {API_KEY: hunter2secret}\nvariables: {PASSWORD: hunter2secret}\nkey: hunter2secret\n"
    )

    assert not any("hunter2" in str(found.hint) for found in diagnostics(text))


def test_a_row_is_found_by_its_folded_name() -> None:
    row = find_row("task", "timeoutminutes")

    assert row is not None
    assert row.ours == "timeout"
