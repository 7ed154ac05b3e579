"""The JSON Schema that editors use, generated from the model; the keys' descriptions are the docstrings below its fields."""

import ast
import inspect
import json
from typing import Any

from pydantic import BaseModel

from optio.model import example, task, trigger
from optio.model.task import TaskSpec

_EXAMPLES: dict[str, dict[str, list[Any]]] = {
    "TaskSpec": {
        "name": ["Weekly Security Report"],
        "id": ["weekly-security-report"],
        "agentRuntime": ["claude-code"],
        "model": ["sonnet"],
        "command": [["python3", "report.py"]],
        "promptTemplate": ["Report on {{REPO_NAME}}"],
        "promptFile": ["prompts/report.md"],
        "paramsSchema": [
            {
                "type": "object",
                "properties": {"REPO_NAME": {"type": "string", "maxLength": 200}},
                "required": ["REPO_NAME"],
                "additionalProperties": False,
            }
        ],
        "maxTurns": [20],
        "budgetUsd": ["2.50"],
        "startLimit": [{"count": 10, "per": "1h"}],
        "dedupe": [{"key": "{{REPO}}#{{PR}}"}],
        "timeout": ["20m"],
        "stallTimeout": ["5m"],
    },
    "Environment": {
        "image": ["ghcr.io/acme/agent:1.4"],
        "setupCommands": [["pip install pip-audit==2.9.0"]],
        "env": [{"LOG_LEVEL": "info"}],
        "secrets": [["ANTHROPIC_API_KEY"]],
    },
    "StartLimit": {"per": ["1h"]},
    "Dedupe": {"key": ["{{REPO}}#{{PR}}"], "window": ["10m"]},
    "Network": {"egress": [["api.anthropic.com", "10.0.0.0/8"]]},
    "Resources": {"cpu": ["1", "500m"], "memory": ["2Gi"]},
    "ScheduleConfig": {
        "cronExpression": ["0 9 * * 1", "@daily"],
        "timezone": ["Europe/Berlin"],
        "paramMapping": [{"REPO_NAME": "optio"}],
    },
    "WebhookConfig": {
        "path": ["security-scan"],
        "secret": [{"name": "SECURITY_SCAN_SECRET"}],
        "when": ["@.action == 'opened'"],
        "paramMapping": [{"REPO_NAME": "$.repository.name"}],
    },
}
_DURATION = r"^(?=.)([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$"
_PATTERNS = {
    "TaskSpec": {
        "budgetUsd": r"^[0-9]{1,9}(\.[0-9]{1,4})?$",
        "timeout": _DURATION,
        "stallTimeout": _DURATION,
    },
    "StartLimit": {"per": _DURATION},
    "Dedupe": {"window": _DURATION},
}


def task_schema() -> str:
    """`schemas/task.schema.json`, ready to be written."""
    schema = TaskSpec.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs", {})
    for name, model in _models().items():
        part = schema if name == "TaskSpec" else definitions.get(name)
        if part is not None:
            _describe(part, name, model)
    _tidy(schema)
    _tidy(definitions)
    # A template lacks what its tasks have, and a task what its template or the defaults above it have: all but its name.
    del schema["required"]
    kind = schema["properties"]["type"]
    del kind["const"]
    kind["enum"] = ["standalone", "template"]
    schema["if"] = {"properties": {"type": {"const": "template"}}, "required": ["type"]}
    schema["else"] = {"required": ["name"]}
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Optio task",
        **schema,
        "$defs": definitions,
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _describe(part: dict[str, Any], name: str, model: type[BaseModel]) -> None:
    documented = _docstrings(model)
    for field_name, field in model.model_fields.items():
        key = field.alias or field_name
        found = part["properties"][key]
        if field_name in documented:
            found["description"] = documented[field_name]
        if key in _EXAMPLES.get(name, {}):
            found["examples"] = _EXAMPLES[name][key]
        if key in _PATTERNS.get(name, {}):
            for option in found.get("anyOf", [found]):
                if option.get("type") == "string":
                    option["pattern"] = _PATTERNS[name][key]


def _models() -> dict[str, type[BaseModel]]:
    members = [*vars(task).values(), *vars(trigger).values(), *vars(example).values()]
    return {m.__name__: m for m in members if isinstance(m, type) and issubclass(m, BaseModel) and m is not BaseModel}


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The text below each field of a class."""
    (definition,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101 - the source of a class is a class
    texts: dict[str, str] = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            value = text.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                texts[field.target.id] = value.value
    return texts


def _tidy(schema: Any) -> None:
    """Without the titles that pydantic makes from names, and without `or null`: an empty value helps nobody in an editor."""
    if isinstance(schema, list):
        for item in schema:
            _tidy(item)
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("title"), str):
        del schema["title"]
    options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
    if len(options) == 1:
        del schema["anyOf"]
        schema.update({**options[0], **schema})
    elif options:
        schema["anyOf"] = options
    if schema.get("default", 0) is None:
        del schema["default"]
    for word, value in schema.items():
        if word not in ("examples", "default", "enum", "const"):
            _tidy(value)
