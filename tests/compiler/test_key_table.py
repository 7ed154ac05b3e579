"""The table of other systems' keys: each row leads to a key that is there, and each conversion to a value that it takes."""

from collections import Counter
from typing import Any

import pytest

from optio.compiler.conversions import values as to
from optio.compiler.conversions.foreign_keys import level_of
from optio.compiler.conversions.key_table import EXAMPLES, ROWS, STEMS, KeyRow
from optio.compiler.conversions.known_keys import known_keys
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.fixes import fix_tree
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.model.route import Route

TASK = "name: Example\nagentRuntime: claude-code\npromptTemplate: Say hello\n"
PLACES: dict[str, Route] = {
    "task": (), "environment": ("environment",), "network": ("environment", "network"), "startLimit": ("startLimit",),
    "resources": ("environment", "resources"), "dedupe": ("dedupe",), "trigger": ("triggers", 0), "tests": ("tests", 0),
    "schedule": ("triggers", 0, "config"), "webhook": ("triggers", 0, "config"), "manual": ("triggers", 0, "config"),
    "expect": ("tests", 0, "expect"), "result": ("result",),
}  # fmt: skip
ROW_IDS = [f"{row.level} {row.names.partition(' ')[0]}" for row in ROWS]


def root_of(level: str) -> dict[str, Any]:
    kind = level if level in ("schedule", "webhook") else "manual"
    return {"triggers": [{"type": kind}]}


def found(text: str) -> tuple[Diagnostic, ...]:
    return compile_tree(MemoryTree({"a.yaml": text.encode()})).diagnostics


@pytest.mark.parametrize("row", ROWS, ids=ROW_IDS)
def test_a_row_leads_to_a_key_that_is_there_or_says_what_to_do(row: KeyRow) -> None:
    if not row.ours:
        assert row.advice
        assert not row.advice.startswith("delete")
        return
    kind, _, last = row.ours.rpartition(":")
    if kind:
        assert last in known_keys({"triggers": [{"type": kind}]}, ("triggers", 0, "config"))
        return
    base = PLACES[row.level]
    base = base[:-1] if row.ours.startswith("^") else base
    *above, name = row.ours.lstrip("^").split(".")
    assert name in known_keys(root_of(row.level), (*base, *above)) or name == "expect" or row.level in ("tests", "expect")


def test_a_name_stands_once_at_its_level() -> None:
    names = Counter((row.level, name) for row in ROWS for name in row.names.split())

    assert [name for name, count in names.items() if count > 1] == []


def test_a_name_of_the_table_is_no_key_of_its_level() -> None:
    ours = {(row.level, key.lower()) for row in ROWS for key in known_keys(root_of(row.level), PLACES[row.level])}

    assert {(row.level, name) for row in ROWS for name in row.names.split()} & ours <= {("environment", "secrets")}


@pytest.mark.parametrize("level", PLACES)
def test_the_level_of_a_place_is_known(level: str) -> None:
    assert level_of(root_of(level), PLACES[level]) == level


def test_the_last_resort_says_what_to_do_too() -> None:
    assert all(stem.row.ours or stem.row.advice for stem in STEMS)


@pytest.mark.parametrize(
    ("convert", "value", "text"),
    [
        (to.inverted, True, "false"),
        (to.inverted, "false", "true"),
        (to.switch, "no", "false"),
        (to.seconds, 90, "1m30s"),
        (to.seconds, "PT20M", "20m"),
        (to.seconds, "1d", "24h"),
        (to.seconds, "timedelta(hours=2, minutes=30)", "2h30m"),
        (to.seconds, "0:30:00", "30m"),
        (to.seconds, "1 day, 0:00:00", "24h"),
        (to.seconds, 0, None),
        (to.seconds, "soon", None),
        (to.minutes, 20, "20m"),
        (to.milliseconds, 90_000, "1m30s"),
        (to.hours, 2, "2h"),
        (to.whole, {"type": "constant", "interval": 5, "maxAttempt": "3"}, None),
        (to.whole, -1, None),
        (to.retries, True, "1"),
        (to.retries_of_attempts, 3, "2"),
        (to.concurrency, {"group": "x", "cancel-in-progress": True}, "1"),
        (to.concurrency, {"limit": 4}, "4"),
        (to.money, "$2", '"2"'),
        (to.cron, [{"cron": "0 9 * * 1"}, {"cron": "0 9 * * 5"}], '"0 9 * * 1"'),
        (to.cron, "5m", '"*/5 * * * *"'),
        (to.cron, "1d", '"0 0 * * *"'),
        (to.cron, 7, None),
        (to.hosts, {"allowed": ["https://a.example.com/x", "defaults"]}, "[api.anthropic.com, a.example.com]"),
        (to.hosts, ["10.0.0.0/8:5432", "[2001:db8::/32]:8443", "2001:db8::1"],
         "['10.0.0.0/8:5432', '[2001:db8::/32]:8443', '2001:db8::1']"),
        (to.hosts, "https://a.example.com:8443/x", "['a.example.com:8443']"),
        (to.hosts, ["python", "sh"], "[pypi.org, files.pythonhosted.org]"),
        (to.mapping_of_texts, [{"name": "A", "value": 1}, "B=2"], "{A: '1', B: '2'}"),
        (to.mapping_of_texts, {"API_KEY": "hunter2"}, None),
        (to.secret_names, "hunter2", None),
        (to.commands, [{"uses": "actions/checkout@v4"}, {"run": "npm ci\nnpm test"}],
         "['git clone --depth 1 https://github.com/OWNER/REPO.git .', npm ci, npm test]"),
        (to.image, {"repository": "python", "tag": 3.12}, "'python:3.12'"),
        (to.catch_up, False, "skip"),
        (to.overlapping, "Forbid", "skip"),
        (to.clone, "acme/hello", "['git clone https://github.com/acme/hello']"),
        (to.secret, "${{ secrets.HELLO }}", "{name: HELLO}"),
        (to.runtime, {"id": "claude"}, "claude-code"),
        (to.scheme, "GitHub", "github"),
        (to.triggers, {"workflow_dispatch": None, "schedule": [{"cron": "0 9 * * 1"}]},
         '[{type: manual}, {type: schedule, config: {cronExpression: "0 9 * * 1"}}]'),
        (to.seconds, {"time": 1, "unit": "HOURS"}, "1h"),
        (to.seconds, {"minutes": 5, "seconds": 30}, "5m30s"),
        (to.seconds, "500 milliseconds", None),
        (to.seconds, "1 month", None),
        (to.memory, "512m", "512Mi"),
        (to.memory, "2 GB", "2Gi"),
        (to.memory, 1024, "1024Mi"),
        (to.retries, {"maximumAttempts": 4}, "3"),
        (to.retries_of_policy, "on-failure:3", "3"),
        (to.state, "DISABLED", "false"),
        (to.mapping_of_values, '{"A": "b"}', "{A: b}"),
        (to.key, ["TENANT", "$.order.ID"], "'{{TENANT}}#{{ID}}'"),
        (to.secrets_in, {"secretRef": {"name": "API_TOKEN"}, "value": "HUNTER_TWO"}, "[API_TOKEN]"),
        (to.script, ["npm ci", {"run": "npm test"}], "npm ci && npm test"),
        (to.condition, [{"field": "body.action", "operator": "not_equals", "value": "closed"}], '"@.action != \'closed\'"'),
        (to.condition, {"branch": ["main", "release/*"]},
         '"@.ref == \'refs/heads/main\' || match(@.ref, \'refs/heads/release/.*\')"'),
        (to.condition, ["what nobody understands"], None),
        (to.schema, "REPO=hello COUNT", "{type: object, properties: {REPO: {type: string, default: hello}, "
         "COUNT: {type: string, maxLength: 200}}, required: [COUNT], additionalProperties: false}"),
    ],
)  # fmt: skip
def test_a_value_is_converted(convert: to.Conversion, value: Any, text: str | None) -> None:
    assert convert(value) == text


ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e300,
    float("nan"),
    "",
    "x" * 5_000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"limit": {}},
)


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_no_value_is_too_odd_to_convert(value: Any) -> None:
    for row in (*ROWS, *(stem.row for stem in STEMS)):
        key = row.names.partition(" ")[0] or "x"
        text = TASK + f"{key}: {to.flow(value)}\n" if value == value else TASK + f"{key}: .nan\n"
        found(text)


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("disabled: true", "enabled: false"),
        ("timeoutMinutes: 5  # enough", "timeout: 5m  # enough"),
        ("retry: {maxAttempt: 3}", "maxRetries: 3"),
        ("maxCost: '$2'", 'budgetUsd: "2"'),
        ('cron: "0 9 * * 1"', 'triggers: [{type: schedule, config: {cronExpression: "0 9 * * 1"}}]'),
    ],
)
def test_what_the_cure_spells_out_is_written(line: str, becomes: str) -> None:
    done = fix_tree(MemoryTree({"a.yaml": f"{TASK}{line}\n".encode()}), unsafe=True)

    assert done.files["a.yaml"].decode() == f"{TASK}{becomes}\n"
    assert done.compilation.ok


@pytest.mark.parametrize("line", ["priorityClassName: high", "retry: often", "timeoutMinutes: long"])
def test_a_value_without_a_conversion_is_not_carried_to_the_new_key(line: str) -> None:
    done = fix_tree(MemoryTree({"a.yaml": f"{TASK}{line}\n".encode()}), unsafe=True)

    assert done.files == {}
    assert [d.code for d in done.compilation.diagnostics] == ["OPT101"]


def test_a_secret_is_not_repeated() -> None:
    text = (
        TASK
        + "secret: hunter2secret\nenv: {API_KEY: hunter2secret}\nvariables: {PASSWORD: hunter2secret}\nkey: hunter2secret\n"
    )

    assert not any("hunter2" in str(d.hint) for d in found(text))


def test_every_example_is_read() -> None:
    assert all(
        compile_tree(MemoryTree({"a.yaml": f"x: {text}\n".encode()})).diagnostics[0].code != "OPT001"
        for text in EXAMPLES.values()
    )
