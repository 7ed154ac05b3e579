"""`schemas/` is generated: what is kept there is what the code says today."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from optio.compiler.json_schema import SCHEMAS, task_schema
from optio.compiler.rules.codes import RETIRED, RULES
from tests.support import ROOT

FILES = sorted([*(ROOT / "tasks.d").rglob("*.yaml"), *(ROOT / "examples").rglob("tasks.d/**/*.yaml")])


def fits(kind: str, value: Any) -> bool:
    return jsonschema_rs.Draft202012Validator(json.loads(SCHEMAS[kind]())).is_valid(value)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_kept_schema_is_current(kind: str) -> None:
    kept = (ROOT / "schemas" / f"{kind}.schema.json").read_text()

    assert kept == SCHEMAS[kind](), "run `optio schema --write`"


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_schema_is_one(kind: str) -> None:
    assert jsonschema_rs.meta.is_valid(json.loads(SCHEMAS[kind]()))


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_schema_is_named_by_the_id_that_the_guide_has(kind: str) -> None:
    name = json.loads(SCHEMAS[kind]())["$id"]

    assert name == f"https://www.schemastore.org/optio-{kind}.json"
    assert f"optio-{kind}.json" in (ROOT / "docs" / "guides" / "editors.md").read_text()


def kind_of(path: Path) -> str:
    if path.parent.name == "connections":
        return "connection"
    return path.stem.removeprefix("_") if path.stem in ("_policy", "_defaults") else "task"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_task_file_here_fits_its_schema(path: Path) -> None:
    schema = jsonschema_rs.Draft202012Validator(json.loads(SCHEMAS[kind_of(path)]()))

    assert [str(error) for error in schema.iter_errors(yaml.safe_load(path.read_text()))] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_task_file_here_names_its_schema_for_editors(path: Path) -> None:
    first = path.read_text().splitlines()[0]

    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("=")[2]).resolve() == ROOT / "schemas" / f"{kind_of(path)}.schema.json"


def test_defaults_need_nothing_and_have_no_key_that_each_task_has_for_itself() -> None:
    assert fits("defaults", {})
    assert fits("defaults", {"model": "sonnet", "environment": {"image": "x"}})
    assert not fits("defaults", {"name": "A"})
    assert not fits("defaults", {"triggers": []})
    assert not fits("defaults", {"modle": "sonnet"})


def test_nothing_takes_away_what_a_template_says() -> None:
    assert fits("task", {"name": "A", "model": None, "timeout": None, "command": None, "triggers": None})
    assert not fits("task", {"name": None})


@pytest.mark.parametrize("kind", ["task", "defaults"])
@pytest.mark.parametrize(
    "below",
    [
        {"environment": None},
        {"startLimit": None},
        {"dedupe": None},
        {"environment": {"image": None, "setupCommands": None, "setupAhead": None, "secrets": None, "keepFailed": None}},
        {"environment": {"env": None, "network": None, "resources": None}},
        {"environment": {"env": {"LOG_LEVEL": None}, "network": {"egress": None}}},
        {"environment": {"resources": {"cpu": None, "memory": None, "requests": None, "limits": {"cpu": None}}}},
    ],
    ids=json.dumps,
)
def test_nothing_takes_away_a_mapping_and_what_is_in_it(kind: str, below: dict[str, Any]) -> None:
    own = {"name": "A"} if kind == "task" else {}

    assert fits(kind, {**own, **below})


def test_nothing_is_no_part_of_a_mapping_that_is_replaced_as_a_whole() -> None:
    assert not fits("task", {"name": "A", "startLimit": {"count": 1, "per": None}})
    assert not fits("task", {"name": "A", "dedupe": {"key": "{{A}}", "window": None}})
    assert not fits("task", {"name": "A", "triggers": [{"type": "manual", "enabled": None}]})


def test_a_policy_knows_each_rule_and_leaves_errors_errors() -> None:
    assert fits("policy", {"type": "policy", "ceilings": {"budgetUsd": "5.00"}, "rules": {"OPT202": "off"}})
    assert not fits("policy", {"type": "policy", "rules": {"OPT101": "off"}})
    assert not fits("policy", {"type": "policy", "rules": {"OPT999": "error"}})
    assert set(json.loads(SCHEMAS["policy"]())["properties"]["rules"]["properties"]) == set(RULES) | set(RETIRED)


GITHUB = {
    "type": "connection",
    "kind": "mcp",
    "transport": {"type": "streamable-http", "url": "https://api.githubcopilot.com/mcp/"},
    "tools": {"get_issue": "read"},
}


def test_a_connection_has_the_keys_of_its_kind() -> None:
    assert fits("connection", GITHUB)
    assert fits("connection", {**GITHUB, "transport": {"type": "stdio", "command": ["server"], "env": {"A": "b"}}})
    assert not fits("connection", {**GITHUB, "transport": {"type": "stdio", "url": "https://api.example.com"}})
    assert not fits("connection", {**GITHUB, "tools": {"get_issue": "admin"}})
    assert not fits("connection", {**GITHUB, "kind": "http"})
    assert not fits("connection", {**GITHUB, "allow": ["GET /v1"]})
    assert not fits("task", GITHUB)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_key_is_described_and_every_choice_says_what_it_means(kind: str) -> None:
    def look(schema: Any, at: str) -> None:
        if "enumDescriptions" in schema:
            assert len(schema["enumDescriptions"]) == len(schema["enum"]), at
        for word in ("properties", "$defs"):
            for key, sub in schema.get(word, {}).items():
                assert sub.get("description"), f"{at}.{key}"
                look(sub, f"{at}.{key}")
        if isinstance(schema.get("additionalProperties"), dict):
            look(schema["additionalProperties"], f"{at}.*")

    look(json.loads(SCHEMAS[kind]()), kind)


def test_examples_and_defaults_fit_where_they_stand() -> None:
    whole = json.loads(task_schema())
    for part in (whole, *whole["$defs"].values()):
        for key, sub in part.get("properties", {}).items():
            schema = jsonschema_rs.Draft202012Validator({**sub, "$defs": whole["$defs"]})
            for value in (*sub.get("examples", []), *([sub["default"]] if "default" in sub else [])):
                assert schema.is_valid(value), f"{key}: {value}"


def test_editors_complete_the_keywords_of_a_result_and_of_its_keys() -> None:
    schema = json.loads(task_schema())["$defs"]["ResultSpec"]["properties"]["schema"]
    inner = schema["properties"]["properties"]["additionalProperties"]["properties"]

    assert {"type", "properties", "required", "items", "enum"} <= set(schema["properties"])
    assert {"type", "items", "maxLength"} <= set(inner)
    assert "default" not in {*schema["properties"], *inner}, "defaults are not filled in"
