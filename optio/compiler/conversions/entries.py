"""Make valid values for hints: the example of a key, and values that fit an author's own schema, derived from the wrong value
where possible. Imported only for a file with a mistake."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from optio.compiler.conversions.known_keys import TRIGGERS, model_at
from optio.compiler.conversions.quantities import number_in
from optio.compiler.json_schema_texts import EXAMPLES
from optio.compiler.suggest import suggest
from optio.compiler.yaml.emit import flow, inline
from optio.model.params import SchemaError, validator
from optio.model.route import Route, value_at
from optio.model.text import slug

# Longer values do not fit into a one-line hint.
_MAX_SHOWN, _MAX_LISTED = 100, 8
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

_MAPPINGS: dict[Route, str] = {
    ("dedupe",): '{key: "{{NAME}}", window: 10m}',
    ("startLimit",): "{count: 10, per: 1h}",
    ("triggers",): "[{type: manual}]",
    ("environment",): "{secrets: [ANTHROPIC_API_KEY]}",
    ("environment", "env"): "{NAME: value}",
    ("environment", "network"): "{egress: [api.example.com]}",
    ("environment", "resources"): '{cpu: "1", memory: 2Gi}',
    ("environment", "resources", "requests"): "{cpu: 250m, memory: 512Mi}",
    ("environment", "resources", "limits"): '{cpu: "1", memory: 2Gi}',
}


def example(root: Any, route: Route, path: str = "") -> str | None:
    """Return an example for a key of a task, as YAML on one line. It uses the file's name where that is a good value."""
    key = next((step for step in reversed(route) if isinstance(step, str)), "")
    stem = slug(PurePosixPath(path).stem.replace("_", "-")) if path else ""
    if route == ("name",) and stem:
        return flow(stem.replace("-", " ").capitalize())
    if route == ("agentRuntime",) and isinstance(root, dict) and "command" in root:
        return "command"
    if key == "path" and stem:
        return flow(stem)
    if route in _MAPPINGS:
        return _MAPPINGS[route]
    parent = route[: route.index(key)] if key in route else ()
    model = model_at(root, parent)
    listed = EXAMPLES.get(model.__name__, {}) if model is not None else {}
    if key not in listed and parent[-1:] == ("config",):
        listed = next((own for kind in TRIGGERS if key in (own := EXAMPLES.get(f"{kind.capitalize()}Config", {}))), {})
    if key not in listed:
        return None
    value = listed[key][0]
    if route[-1] != key:
        value = value[0] if isinstance(value, list) else None
    return None if value is None else inline(value)[0] if isinstance(value, str) else flow(value)


def as_entry(root: Any, route: Route, path: str = "") -> str:
    """Return `key: value` for the key at a route, with an example value if there is one, or else the key alone."""
    shown = example(root, route, path)
    return f"{route[-1]}:" if shown is None else f"{route[-1]}: {shown}"


def example_hint(root: Any, route: Route) -> str:
    """Return the end of a hint that shows an example (", such as `20m`"), or an empty text."""
    shown = example(root, route)
    return "" if shown is None else f", such as `{shown}`"


def repair_text(value: Any, pattern: str) -> str | None:
    """Return the text with its wrong characters replaced so that it matches `pattern`, or None. Only for Optio's own patterns:
    an author's pattern may take unbounded time."""
    return next((each for each in _forms(value) if re.search(pattern, each)), None)


def _forms(value: Any) -> list[str]:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_SHOWN:
        return []
    bare = value.strip(" \t\n'\"`;,:")
    words = re.findall(r"[A-Za-z0-9]+", bare)
    forms = (bare, *(sign.join(words) for sign in ("-", "_", "")), "".join(bare.split()))
    return [each for each in (*forms, *(form.lower() for form in forms), *(f"_{form}" for form in forms)) if each]


def fitting_value(schema: Any, value: Any = None, left_out: Any = ...) -> str | None:
    """Return a value that the schema accepts, as YAML on one line: made of `value` if possible, or else one that the schema
    names."""
    if not isinstance(schema, dict) or "$ref" in str(schema):
        return None
    try:
        judge = validator({word: each for word, each in schema.items() if word not in ("default", "examples")})
    except (SchemaError, ValueError):
        return None
    for each in _tries(schema, value, left_out):
        if judge.is_valid(each) and len(shown := flow(each)) <= _MAX_SHOWN:
            return shown
    return None


def hint_for_value(schema: Any, value: Any = None, left_out: Any = ...) -> str | None:
    """Return the hint for a value that does not fit: a value to write, and all allowed ones where they are few."""
    listed = schema.get("enum") if isinstance(schema, dict) else None
    shown = fitting_value(schema, value, left_out)
    if shown is None:
        return None
    if isinstance(listed, list) and 1 < len(listed) <= _MAX_LISTED and len(flow(listed)) <= _MAX_SHOWN:
        if value is not None and _is_made(schema, value, shown):
            others = ", ".join(other for each in listed if (other := flow(each)) != shown)
            return f"write `{shown}`; allowed, too: {others}"
        *most, last = dict.fromkeys(f"`{flow(each)}`" for each in listed)
        return f"write {', '.join(most)} or {last}" if most else f"write {last}"
    return (
        f"write `{shown}`"
        if value is not None and _is_made(schema, value, shown)
        else f"write a value that fits, such as `{shown}`"
    )


def _is_made(schema: dict[str, Any], value: Any, shown: str) -> bool:
    return any(flow(each) == shown for each in _made(schema, value))


def _tries(schema: dict[str, Any], value: Any, left_out: Any) -> Iterator[Any]:
    yield from _made(schema, value)
    for word in ("default", "const"):
        if word in schema and (word != "default" or schema[word] != left_out):
            yield schema[word]
    for word in ("enum", "examples"):
        if isinstance(schema.get(word), list):
            yield from schema[word][:_MAX_LISTED]
    low, high = schema.get("minimum"), schema.get("maximum")
    yield from (each for each in (low, high, 1, 10, 0, 100) if each is not None)
    for word, by in (("exclusiveMinimum", 1), ("exclusiveMaximum", -1)):
        if isinstance(schema.get(word), int):
            yield schema[word] + by
    yield from (
        "hello",
        "example-value",
        "acme/shop",
        "2026-01-31",
        "a",
        "A1",
        "main",
        "0" * 40,
        "https://example.com",
        True,
        [],
        {},
    )


def _made(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    """Yield the same value in other forms, such as a number for a text of digits."""
    if value is None or isinstance(value, dict):
        return
    kind, listed = schema.get("type"), schema.get("enum")
    texts = [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []
    if isinstance(value, (str, int)) and (near := suggest(str(value), texts)) is not None:
        yield near
    if kind in ("integer", "number"):
        number = value if type(value) in (int, float) else number_in(str(value))
        low, high = schema.get("minimum"), schema.get("maximum")
        if number is not None:
            yield int(number) if number == int(number) else number
            yield from (
                bound
                for bound, beyond in ((low, low is not None and number < low), (high, high is not None and number > high))
                if beyond
            )
            yield round(number)
    elif kind == "boolean" and str(value).strip().lower() in _WORDS:
        yield _WORDS[str(value).strip().lower()]
    elif kind == "string" and not isinstance(value, (list, bool)):
        text = str(value)
        yield text
        yield text.strip()
        yield text[: schema["maxLength"]] if isinstance(schema.get("maxLength"), int) else text
        yield from _forms(text)
    elif kind == "string" and isinstance(value, list) and value:
        yield value[0]
    elif kind == "array":
        parts = re.split(r"\s*[,\n]\s*", value.strip()) if isinstance(value, str) else [value]
        yield parts


def declaration_hint(root: Any, name: str, value: Any = None, *, default: bool = False) -> str:
    """Return the hint that declares a parameter, with the type of its value, and a default where nothing else provides one."""
    kinds = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    form = f"{name}: {{type: {kinds.get(type(value), 'string')}{', default: hello' if default else ''}}}"
    own = ", with your own value in the place of `hello`" if default else ""
    if not isinstance(value_at(root, ("paramsSchema",)), dict):
        return f"add `paramsSchema: {{type: object, properties: {{{form}}}, additionalProperties: false}}`{own}"
    if not isinstance(value_at(root, ("paramsSchema", "properties")), dict):
        return f"add `properties: {{{form}}}` below `paramsSchema`{own}"
    return f"add `{form}` below `paramsSchema.properties`{own}"


def always_set_hint(name: str, schema: Any, *, default_only: bool = False) -> str:
    """Return the hint that makes a parameter have a value in every run: require it, or give it a default. `default_only` says
    that a trigger gives it no value."""
    types = schema.get("type") if isinstance(schema, dict) else None
    # A value that may be null has null where nothing was said.
    default = "null" if isinstance(types, list) and "null" in types else fitting_value(schema) or "..."
    below = f"`paramsSchema.properties.{name}`"
    if default_only:
        return f"give it a default below {below}, such as `default: {default}`: a trigger gives no value for it"
    return f"list `{name}` under `required`, or give it a default below {below}, such as `default: {default}`"
