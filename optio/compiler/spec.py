"""Shape: Document -> TaskSpec, with pydantic's findings in our words.

Only the *types* and *routes* of pydantic's errors are used, never its texts.
"""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from optio.compiler.diagnostics import Diagnostic, closest, finding
from optio.compiler.document import Document
from optio.model.route import Route, show
from optio.model.task import TaskSpec
from optio.model.trigger import (
    ManualConfig,
    ManualTrigger,
    ScheduleConfig,
    ScheduleTrigger,
    SecretRef,
    WebhookConfig,
    WebhookTrigger,
)

TRIGGERS = {"manual": ManualTrigger, "schedule": ScheduleTrigger, "webhook": WebhookTrigger}
CONFIGS: dict[str, type[BaseModel]] = {"manual": ManualConfig, "schedule": ScheduleConfig, "webhook": WebhookConfig}


def read(document: Document) -> tuple[TaskSpec | None, list[Diagnostic]]:
    """The task as written, or None with the reasons."""
    try:
        return TaskSpec.model_validate(document.value), []
    except ValidationError as err:
        errors = err.errors(include_url=False, include_context=True, include_input=True)
        return None, [found for error in errors for found in _translate(document, error)]


def _translate(document: Document, error: ErrorDetails) -> Iterator[Diagnostic]:
    kind = error["type"]
    route = _route(document.value, error["loc"])
    value = error.get("input")
    context = error.get("ctx", {})
    path = document.path

    def at_value(code: str, message: str, hint: str | None = None) -> Diagnostic:
        return finding(code, message, path=path, span=document.span(route), route=route, hint=hint)

    def at_key(code: str, message: str, hint: str | None = None) -> Diagnostic:
        return finding(code, message, path=path, span=document.key_span(route), route=route, hint=hint)

    name = show(route)
    if kind == "extra_forbidden":
        known = known_keys(document.value, route[:-1])
        meant = closest(str(route[-1]), known)
        yield at_key("OPT101", f"unknown key `{name}`", f"did you mean `{meant}`?" if meant else "delete it")
    elif kind == "missing":
        yield at_key("OPT102", f"`{name}` is missing", f"add `{route[-1]}:`")
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        yield from _bad_trigger(document, route)
    elif kind in ("literal_error", "enum"):
        expected = str(context.get("expected", "")).replace(" or ", ", ").replace("'", "").split(", ")
        meant = closest(str(value), expected)
        hint = (f"did you mean `{meant}`? " if meant else "") + "allowed: " + ", ".join(expected)
        if route == ("type",):
            yield at_value("OPT110", f"unknown type `{value}`", hint)
        else:
            yield at_value("OPT104", f"`{name}` is `{value}`", hint)
    elif kind in ("greater_than_equal", "less_than_equal", "too_long", "too_short", "string_too_long", "string_too_short"):
        yield at_value("OPT105", f"`{name}` is out of range", _range_hint(kind, context))
    elif kind == "string_pattern_mismatch":
        yield at_value("OPT105", f"`{name}` has characters that are not allowed", f"it must match `{context.get('pattern')}`")
    elif kind == "value_error":
        reason = str(context.get("error", ""))
        if reason == "blank":
            yield at_value("OPT106", f"`{name}` is blank", "write a text or delete the key")
        else:
            yield at_value("OPT105", f"`{name}`: {reason}")
    else:
        yield at_value("OPT103", f"`{name}` must be {_wanted(kind)}, not {_kind_of(value)}", _type_hint(kind, value))


def _bad_trigger(document: Document, route: Route) -> Iterator[Diagnostic]:
    value = _at(document.value, route)
    if not isinstance(value, dict) or "type" not in value:
        yield finding(
            "OPT102", f"`{show(route)}.type` is missing", path=document.path, span=document.span(route), route=route,
            hint="add `type:` manual, schedule or webhook",
        )  # fmt: skip
        return
    at = (*route, "type")
    meant = closest(str(value["type"]), TRIGGERS)
    yield finding(
        "OPT321", f"unknown trigger `{value['type']}`", path=document.path, span=document.span(at), route=at,
        hint=(f"did you mean `{meant}`? " if meant else "") + "allowed: manual, schedule, webhook",
    )  # fmt: skip


def _route(value: Any, loc: tuple[int | str, ...]) -> Route:
    """pydantic's `loc` without the union tags it puts between the steps, and without its `[key]` marks."""
    route: list[int | str] = []
    for index, step in enumerate(loc):
        if step == "[key]":
            continue
        inside = (isinstance(value, dict) and step in value) or (isinstance(value, list) and isinstance(step, int))
        if inside:
            route.append(step)
            value = value[step]
        elif index == len(loc) - 1 and step not in TRIGGERS:
            route.append(step)
        elif not isinstance(value, (dict, list)):
            break
    return tuple(route)


def _at(value: Any, route: Route) -> Any:
    for step in route:
        value = value[step]
    return value


def known_keys(root: Any, parent: Route) -> list[str]:
    """The keys that the schema knows at `parent`."""
    model: Any = TaskSpec
    value = root
    for index, step in enumerate(parent):
        value = value[step]
        if isinstance(step, int) and parent[index - 1] == "triggers":
            model = TRIGGERS.get(value.get("type") if isinstance(value, dict) else None)
        elif model is not None and isinstance(step, str):
            model = _field_model(model, step)
        if model is None:
            return []
    return [field.alias or name for name, field in model.model_fields.items()] if isinstance(model, type) else []


def _field_model(model: Any, key: str) -> type[BaseModel] | None:
    for name, field in model.model_fields.items():
        if (field.alias or name) == key:
            candidates = [field.annotation, *get_args(field.annotation)]
            return next(
                (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)),
                TaskSpec if key == "triggers" else None,
            )
    return None


_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def _wanted(kind: str) -> str:
    return _WANTED.get(kind, "something else")


def _kind_of(value: Any) -> str:
    if value is None:
        return "empty"
    return {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}.get(
        type(value), type(value).__name__
    )


def _type_hint(kind: str, value: Any) -> str | None:
    if kind == "int_type" and isinstance(value, str) and value.isdigit():
        return "a quoted number is text: remove the quotes"
    if kind == "string_type" and isinstance(value, (int, float, bool)):
        return "put quotes around it"
    if kind == "list_type" and value is not None:
        return "begin each item with `- `"
    return None


def _range_hint(kind: str, context: dict[str, Any]) -> str:
    if kind == "greater_than_equal":
        return f"at least {context.get('ge')}"
    if kind == "less_than_equal":
        return f"at most {context.get('le')}"
    if "long" in kind:
        return f"at most {context.get('max_length')}"
    return f"at least {context.get('min_length')}"


__all__ = ["SecretRef", "known_keys", "read"]
