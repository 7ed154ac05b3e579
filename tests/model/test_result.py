"""What an agent is told of its result: in the prompt, or by the schema that its CLI takes."""

import json
from typing import Any

import pytest

from optio.model.result import schema_for_cli, with_instructions
from optio.model.runtimes import DECLARED
from optio.model.task import TaskSpec

STRICT = {
    "type": "object",
    "required": ["labels", "due"],
    "additionalProperties": False,
    "properties": {
        "labels": {"type": "array", "items": {"$ref": "#/$defs/label"}, "maxItems": 3},
        "due": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
    },
    "$defs": {"label": {"type": "string", "enum": ["bug", "docs"]}},
}
COMMON = {"type": "object", "properties": {"summary": {"type": "string", "maxLength": 200}}}
AGENTS = sorted(set(DECLARED) - {"command"})
HELD = {"claude-code": "common", "codex": "strict"}


def spec(runtime: str, schema: Any, **result: Any) -> TaskSpec:
    declared = {"schema": schema, **result}
    return TaskSpec.of({"name": "A", "agentRuntime": runtime, "promptTemplate": "Label it", "result": declared})


def property_of(part: Any) -> Any:
    return {"type": "object", "properties": {"a": part}, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize("runtime", AGENTS)
def test_a_schema_is_in_the_prompt_if_the_agents_program_does_not_take_it(runtime: str) -> None:
    for kind, schema in (("strict", STRICT), ("common", COMMON), ("other", {**COMMON, "$schema": "x"})):
        held = (HELD.get(runtime) == "common" and kind != "other") or HELD.get(runtime) == kind
        asked = spec(runtime, schema)

        prompt = with_instructions("Label it", asked)

        assert schema_for_cli(asked) == (schema if held else None)
        lines = prompt.splitlines()
        assert lines[:2] == ["Label it", ""]
        assert json.loads(lines[3]) == schema if not held else len(lines) == 4, lines
        assert prompt.count("no_work") == 1


def test_a_prompt_without_a_declared_result_and_that_of_a_program_stay_as_they_are() -> None:
    plain = TaskSpec.of({"name": "A", "agentRuntime": "codex", "promptTemplate": "x"})

    for of in (plain, spec("command", STRICT)):
        assert with_instructions("Label it \r\n", of) == "Label it \r\n"


def test_a_result_that_is_not_required_is_asked_for_in_words() -> None:
    asked = spec("claude-code", STRICT, required=False)

    assert schema_for_cli(asked) is None
    assert "\n\nIf you have a result, your final answer must be one JSON value" in with_instructions("Label it", asked)
    assert with_instructions("Label it\n", asked).startswith("Label it\n\nIf you")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {},
        {"type": "object", "properties": {}, "required": []},
        {**STRICT, "required": ["labels"]},
        {**STRICT, "anyOf": [{}]},
        property_of({"type": "string", "maxLength": 9}),
        property_of({"type": "string", "pattern": "^a"}),
        property_of({"type": "string", "format": "uri"}),
        property_of({"type": "array"}),
        property_of({"type": ["array", "null"]}),
        property_of({"type": "object"}),
        property_of({"type": ["object", "null"], "properties": {}}),
        property_of({"properties": {}}),
        property_of({"properties": {"b": {"type": "null"}}, "required": ["b"], "additionalProperties": False}),
        property_of({"description": "anything"}),
        property_of(True),
        property_of({"allOf": [{"type": "string"}]}),
        property_of({"type": "array", "items": {"type": "string", "x-mine": 1}}),
        property_of({"anyOf": [{"type": "string", "minLength": 1}]}),
        {**property_of({"$ref": "#/$defs/b"}), "$defs": {"b": {"type": "string", "default": "x"}}},
    ],
)
def test_codex_takes_strict_schemas_alone(schema: Any) -> None:
    assert schema_for_cli(spec("codex", property_of({"type": ["string", "null"]}))) is not None
    assert schema_for_cli(spec("codex", schema)) is None


@pytest.mark.parametrize(
    "part",
    [
        {"$anchor": "a"},
        {"prefixItems": [{}]},
        {"enum": ["a", "a"]},
        {"x-mine": 1},
        {"pattern": "(?i)a"},
        {"items": {"dependentRequired": {}}},
        {"oneOf": [{"minContains": 1}]},
    ],
)
def test_claude_code_gets_no_schema_that_it_refuses(part: Any) -> None:
    assert schema_for_cli(spec("claude-code", property_of({}))) is not None
    assert schema_for_cli(spec("claude-code", property_of(part))) is None
