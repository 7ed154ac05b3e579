"""The instructions for an agent whose task declares a result, and whether its CLI holds the answer to the schema. Pure.

Where the CLI does not, the schema is in the prompt. `runs.declared_result` judges the result in either case.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from optio.model.registry import canonical
from optio.model.runtimes import declaration_of
from optio.model.task import TaskSpec

_NO_WORK = """\
If there is nothing to do, run this command, with the reason in place of WHY, and end:
echo '{"type": "result", "status": "no_work", "text": "WHY"}' >> "$OPTIO_RESULT_FILE"
"""
# Patterns are left out: each CLI and each provider has a syntax of its own.
_STRICT = frozenset(
    {
        *("type", "title", "description", "enum", "const", "anyOf", "$ref", "$defs", "properties", "required", "items"),
        *("additionalProperties", "format", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
        *("minItems", "maxItems"),
    }
)
_STRICT_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_PLAIN = _STRICT | {
    *("$comment", "default", "examples", "minLength", "maxLength", "minProperties", "maxProperties", "uniqueItems"),
    *("allOf", "oneOf", "not", "contains", "propertyNames", "if", "then", "else"),
}
_BY_NAME, _IN_LIST = ("properties", "$defs"), ("anyOf", "allOf", "oneOf")
_ONE = ("items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else")


def with_instructions(prompt: str, spec: TaskSpec) -> str:
    """Return the prompt of an agent, with what its answer must be and how to report that there was nothing to do. A program
    gets its prompt as it is, and a file with the schema."""
    agent = declaration_of(spec.agent_runtime)
    if spec.result is None or (agent is not None and agent.program is None):
        return prompt
    must = "Your final answer must be" if spec.result.required else "If you have a result, your final answer must be"
    form = "one JSON value, without any other words, that fits this JSON Schema:"
    schema_text = "" if schema_for_cli(spec) is not None else f"{must} {form}\n{canonical(spec.result.schema)}\n"
    return prompt + ("\n" if prompt.endswith("\n") else "\n\n") + schema_text + _NO_WORK


def schema_for_cli(spec: TaskSpec) -> Mapping[str, Any] | None:
    """Return the schema if the agent's CLI takes it; None where the prompt has it. A CLI gives an object in any case, and may
    refuse a schema with keywords that it does not know."""
    agent = declaration_of(spec.agent_runtime)
    kind = None if agent is None else agent.capabilities.schema
    if spec.result is None or not spec.result.required or kind is None or spec.result.schema.get("type") != "object":
        return None
    fits = _is_strict if kind == "strict" else _is_plain
    return spec.result.schema if all(fits(part) for part in _parts(spec.result.schema)) else None


def _is_plain(part: Mapping[str, Any]) -> bool:
    members = [canonical(value) for value in part.get("enum", ())]
    return part.keys() <= _PLAIN and len(members) == len(set(members))


def _is_strict(part: Mapping[str, Any]) -> bool:
    """Return whether a schema is in the subset that OpenAI calls strict: objects are closed, and have all of their keys."""
    properties, kinds = part.get("properties", {}), part.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    is_open = part.get("additionalProperties") is not False or set(part.get("required", ())) != set(properties)
    inner = [*properties.values(), *part.get("anyOf", ()), *([part["items"]] if "items" in part else [])]
    return (
        part.keys() <= _STRICT
        and _is_plain(part)
        and not ("object" in kinds and is_open)
        and not ("array" in kinds and "items" not in part)
        and not ("object" not in kinds and properties)
        and len({"type", "anyOf", "$ref", "enum", "const"} & part.keys() - ({"enum", "const"} if kinds else set())) == 1
        and all(isinstance(subschema, dict) for subschema in inner)
        and part.get("format", "date") in _STRICT_FORMATS
    )


def _parts(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a schema and all inside it."""
    yield schema
    for word, inner in schema.items():
        parts = inner.values() if word in _BY_NAME else inner if word in _IN_LIST else [inner] if word in _ONE else ()
        for part in parts:
            if isinstance(part, dict):
                yield from _parts(part)
