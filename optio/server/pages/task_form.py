"""The form of a task file: the keys that people use most, read from the YAML and put back into it.

The YAML is the whole task, and the form a view of a part of it. A field that was changed changes its key in the text, and
leaves the comments and all other keys. A value that a field cannot show, such as a schema with nested objects, stays in the
YAML.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optio.compiler.edits.edit_yaml import CannotEdit, rewrite_file
from optio.compiler.source import SourceFile
from optio.compiler.yaml.document import parse
from optio.model import runtimes
from optio.model.senders import SENDERS
from optio.server.pages.task_presets import SCHEDULES

# Keys whose values are texts, and those whose values are whole numbers.
_TEXTS = ("name", "description", "agentRuntime", "model", "promptTemplate", "budgetUsd", "timeout")
_COUNTS = ("maxTurns",)
_PARAM = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)[ \t]*(?::[ \t]*([a-z]+))?[ \t]*(?:=[ \t]*(.*?))?[ \t]*")
_TYPES = ("string", "integer", "number", "boolean")
_PATH = "task.yaml"


class FormError(Exception):
    """Raised where the form cannot be put into the YAML. The message says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """A field of the form. `kind` is `line`, `text`, `choice` or `suggest`; a `fixed` one can be changed in the YAML only."""

    name: str
    label: str
    kind: str
    value: str
    note: str = ""
    choices: Sequence[tuple[str, str]] = ()
    fixed: bool = False


def read_fields(text: str) -> dict[str, str] | None:
    """Return the values of the fields by name, or None for a text that is not a mapping. A value that a field cannot show is
    left out."""
    document, _ = parse(SourceFile(_PATH, text.encode("utf-8", "surrogatepass")))
    if document is None or not isinstance(document.value, dict):
        return None
    value = document.value
    fields = {key: _field_text(value.get(key)) for key in (*_TEXTS, *_COUNTS)}
    command = value.get("command")
    if isinstance(command, list) and all(isinstance(word, str) for word in command):
        command = shlex.join(command)
    fields["command"] = _field_text(command)
    environment = value.get("environment") or {}
    secrets = environment.get("secrets") if isinstance(environment, dict) else None
    fields["secrets"] = _comma_list(secrets)
    fields["params"] = _params_text(value.get("paramsSchema"))
    fields |= _trigger_fields(value.get("triggers"))
    return {name: shown for name, shown in fields.items() if shown is not None}


def apply_fields(text: str, was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return the text with the fields that differ between `was` and `now` put into it. Raises FormError."""
    changes = {name: value for name, value in now.items() if was.get(name, "") != value}
    if not changes:
        return text
    document, _ = parse(SourceFile(_PATH, text.encode("utf-8", "surrogatepass")))
    if document is None or not isinstance(document.value, dict):
        raise FormError("the form cannot be put into the YAML, because the YAML cannot be read: correct it, or start again")
    new_value = json.loads(json.dumps(document.value))
    for name, value in changes.items():
        _put(new_value, name, value, now)
    try:
        return rewrite_file(_PATH, text.encode("utf-8", "surrogatepass"), new_value).decode("utf-8", "surrogatepass")
    except CannotEdit as err:
        raise FormError(f"the form cannot be put into the YAML: line {err.line}: {err}: change it there") from err


def form_fields(values: Mapping[str, str] | None, text: str) -> list[FormField]:
    """Return the fields with these values. Fields that the text has a value for, but no field can show, are fixed."""
    fields = read_fields(text)
    values = {} if values is None else values
    services = [runtime.service for runtime in runtimes.DECLARED.values() if runtime.service is not None]
    models = [(model, "") for service in services for model in service.models]
    schedules = [("", "none"), *SCHEDULES.items(), ("other", "at other times")]
    cron = values.get("schedule", "")
    rows: list[tuple[str, str, str, str, Sequence[tuple[str, str]]]] = [
        ("name", "Name", "line", "The id in addresses and commands is made of it.", ()),
        ("description", "Description", "line", "", ()),
        ("agentRuntime", "Agent", "choice", "", [(name, "") for name in runtimes.known_names()]),
        ("model", "Model", "suggest", "", list(dict.fromkeys(models))),
        ("command", "Command", "line", "Only for the agent `command`: a shell command, which reads the prompt.", ()),
        ("promptTemplate", "Prompt", "text", "{{NAME}} is replaced by the parameter NAME.", ()),
        ("params", "Parameters", "text", "One on a line: NAME, NAME: integer, or NAME = default.", ()),
        ("budgetUsd", "Budget of a run in US dollars", "line", "", ()),
        ("maxTurns", "Most turns", "line", "", ()),
        ("timeout", "Longest time of an attempt", "line", "Such as 90s, 20m or 1h30m.", ()),
        ("secrets", "Secrets", "line", "Names, not values; each is a variable of the run.", ()),
        ("schedule", "Schedule", "choice", "", schedules),
        ("cron", "Other times", "line", "Minute, hour, day, month and day of the week: 30 6 * * 1-5", ()),
        ("timezone", "Time zone", "line", "Such as Europe/Berlin; UTC by default.", ()),
        ("hookPath", "Webhook", "line", "The end of its address: a-z, 0-9 and dashes. Empty for none.", ()),
        ("hookScheme", "Sender of the webhook", "choice", "", [(name, row.name) for name, row in SENDERS.items()]),
        ("hookSecret", "Secret of the webhook", "line", "Its name, such as GITHUB_WEBHOOK_SECRET.", ()),
    ]
    return [
        FormField(
            name=name,
            label=label,
            kind=kind,
            value=cron if name == "schedule" else values.get(name, "optio" if name == "hookScheme" else ""),
            note=note,
            choices=choices,
            fixed=fields is not None and name not in fields,
        )
        for name, label, kind, note, choices in rows
    ]


def _field_text(value: Any) -> str | None:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)


def _comma_list(value: Any) -> str | None:
    if value is None:
        return ""
    return ", ".join(value) if isinstance(value, list) and all(isinstance(each, str) for each in value) else None


def _params_text(schema: Any) -> str | None:
    """Return the parameters as lines, or None for a schema that lines cannot show."""
    if schema is None:
        return ""
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        return None
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    if not isinstance(properties, dict) or not isinstance(required, list):
        return None
    lines = []
    for name, parameter in properties.items():
        kind = parameter.get("type", "string") if isinstance(parameter, dict) else None
        default = parameter.get("default") if isinstance(parameter, dict) else None
        # A parameter that is neither required nor has a default cannot be told from a required one.
        is_plain = kind in _TYPES and not isinstance(default, list | dict) and (name in required) == (default is None)
        if not is_plain or _PARAM.fullmatch(name) is None or "\n" in str(default):
            return None
        text = default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)
        lines.append(f"{name}{'' if kind == 'string' else f': {kind}'}{'' if default is None else f' = {text}'}")
    return "\n".join(lines)


def _trigger_fields(triggers: Any) -> dict[str, str | None]:
    names = ("schedule", "cron", "timezone", "hookPath", "hookScheme", "hookSecret")
    if triggers is not None and not (isinstance(triggers, list) and all(isinstance(trigger, dict) for trigger in triggers)):
        return dict.fromkeys(names)
    fields: dict[str, str | None] = dict.fromkeys(names, "")
    fields["hookScheme"] = "optio"
    for trigger in triggers or []:
        config = trigger.get("config") or {}
        if not isinstance(config, dict):
            return dict.fromkeys(names)
        if trigger.get("type") == "schedule":
            cron = _field_text(config.get("cronExpression"))
            fields["schedule"] = cron if cron in SCHEDULES else "other"
            fields["cron"] = "" if cron in SCHEDULES else cron
            fields["timezone"] = _field_text(config.get("timezone"))
        elif trigger.get("type") == "webhook":
            secret = config.get("secret") or {}
            fields["hookPath"] = _field_text(config.get("path"))
            fields["hookScheme"] = _field_text(config.get("scheme")) or "optio"
            fields["hookSecret"] = _field_text(secret.get("name")) if isinstance(secret, dict) else None
    return fields


def _put(new_value: dict[str, Any], name: str, value: str, now: Mapping[str, str]) -> None:
    """Put one changed field into the task."""
    value = value.strip() if name != "promptTemplate" else value
    if name in _COUNTS:
        _set(new_value, name, int(value) if value.isascii() and value.isdigit() else value)
    elif name == "secrets":
        environment = new_value.get("environment")
        environment = dict(environment) if isinstance(environment, dict) else {}
        _set(environment, "secrets", [secret for secret in re.split(r"[,\s]+", value) if secret])
        _set(new_value, "environment", environment)
    elif name == "params":
        _set(new_value, "paramsSchema", _schema(new_value.get("paramsSchema"), value))
    elif name in ("schedule", "cron", "timezone"):
        _put_trigger(new_value, "schedule", schedule_config(now))
    elif name in ("hookPath", "hookScheme", "hookSecret"):
        _put_trigger(new_value, "webhook", webhook_config(now))
    elif name in _TEXTS or name == "command":
        if name == "promptTemplate" and value and not value.endswith("\n") and "\n" in value:
            value += "\n"
        _set(new_value, name, value)


def _set(place: dict[str, Any], key: str, value: Any) -> None:
    if value in ("", [], {}, None):
        place.pop(key, None)
    else:
        place[key] = value


def _schema(before: Any, text: str) -> dict[str, Any] | None:
    """Return the schema of the parameters in the lines. Other keywords of a parameter that stays, such as `maxLength`, stay."""
    known_properties: Any = before.get("properties") if isinstance(before, dict) else None
    known_properties = known_properties if isinstance(known_properties, dict) else {}
    properties: dict[str, Any] = {}
    required = []
    for line in text.splitlines():
        if not line.strip():
            continue
        match = _PARAM.fullmatch(line.strip())
        if match is None:
            raise FormError(f"the parameter `{line.strip()[:80]}` cannot be read: write NAME, NAME: integer, or NAME = default")
        name, kind, default = match.groups()
        if kind is not None and kind not in _TYPES:
            raise FormError(f"the parameter `{name}` has the type `{kind}`: choose one of {', '.join(_TYPES)}")
        parameter = (
            dict(known_properties[name])
            if isinstance(known_properties.get(name), dict)
            else {"maxLength": 1000}
            if kind in (None, "string")
            else {}
        )
        parameter.pop("default", None)
        parameter = {"type": kind or "string", **{key: entry for key, entry in parameter.items() if key != "type"}}
        if default is None:
            required.append(name)
        else:
            parameter["default"] = _default(default, kind)
        properties[name] = parameter
    if not properties:
        return None
    rest = dict(before) if isinstance(before, dict) else {"type": "object", "additionalProperties": False}
    rest |= {"properties": properties}
    _set(rest, "required", required)
    return {key: rest[key] for key in ("type", "properties", "required", "additionalProperties") if key in rest} | rest


def _default(text: str, kind: str | None) -> Any:
    if kind in (None, "string"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def schedule_config(now: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the configuration of the schedule in the fields, or None without one."""
    choice = now.get("schedule", "")
    cron = now.get("cron", "").strip() if choice == "other" else choice
    if not choice:
        return None
    return {"cronExpression": cron, "timezone": now.get("timezone", "").strip() or "UTC"}


def webhook_config(now: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the configuration of the webhook in the fields, or None without a path."""
    path, scheme, secret = (now.get(name, "").strip() for name in ("hookPath", "hookScheme", "hookSecret"))
    if not path:
        return None
    return {
        "path": path,
        **({} if scheme in ("", "optio") else {"scheme": scheme}),
        **({"secret": {"name": secret}} if secret else {}),
    }


def _put_trigger(new_value: dict[str, Any], kind: str, config: dict[str, Any] | None) -> None:
    """Add, change or remove the trigger of this type. What the form does not know of its configuration stays."""
    triggers = [trigger for trigger in new_value.get("triggers") or [] if isinstance(trigger, dict)]
    before = next((trigger for trigger in triggers if trigger.get("type") == kind), None)
    if config is None:
        triggers_after = [trigger for trigger in triggers if trigger is not before]
    elif before is None:
        triggers_after = [*triggers, {"type": kind, "config": config}]
    else:
        old = {key: value for key, value in (before.get("config") or {}).items() if key not in ("secret", "scheme")}
        triggers_after = [{**trigger, "config": old | config} if trigger is before else trigger for trigger in triggers]
    _set(new_value, "triggers", triggers_after)
