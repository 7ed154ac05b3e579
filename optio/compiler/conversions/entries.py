"""Make valid values for hints: the example of a key, and values that fit an author's own schema, derived from the wrong value
where possible. Imported only for a file with a mistake."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
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
    value = _listed_example(root, route[: route.index(key)] if key in route else (), key)
    if route[-1] != key:
        value = value[0] if isinstance(value, list) else None
    return None if value is None else inline(value)[0] if isinstance(value, str) else flow(value)


def _listed_example(root: Any, parent: Route, key: str) -> Any:
    """Return the first example of a key in the texts of the schema, or None. In the config of a trigger without a type, the key
    may be one of any trigger."""
    model = model_at(root, parent)
    models = [model.__name__] if model is not None else []
    if parent[-1:] == ("config",):
        models += [f"{kind.capitalize()}Config" for kind in TRIGGERS]
    return next((EXAMPLES[name][key][0] for name in models if key in EXAMPLES.get(name, {})), None)


def as_entry(root: Any, route: Route, path: str = "") -> str:
    """Return `key: value` for the key at a route, with an example value if there is one, or else the key alone."""
    text = example(root, route, path)
    return f"{route[-1]}:" if text is None else f"{route[-1]}: {text}"


def example_hint(root: Any, route: Route) -> str:
    """Return the end of a hint that shows an example (", such as `20m`"), or an empty text."""
    text = example(root, route)
    return "" if text is None else f", such as `{text}`"


def repair_text(value: Any, pattern: str) -> str | None:
    """Return the text with its wrong characters replaced so that it matches `pattern`, or None. Only for Optio's own patterns:
    an author's pattern may take unbounded time."""
    return next((form for form in _forms(value) if re.search(pattern, form)), None)


def _forms(value: Any) -> list[str]:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_SHOWN:
        return []
    bare = value.strip(" \t\n'\"`;,:")
    words = re.findall(r"[A-Za-z0-9]+", bare)
    forms = (bare, *(sign.join(words) for sign in ("-", "_", "")), "".join(bare.split()))
    return [each for each in (*forms, *(form.lower() for form in forms), *(f"_{form}" for form in forms)) if each]


def fitting_value(schema: Any, value: Any = None, left_out: Any = ...) -> str | None:
    """Return a value that the schema accepts, as YAML on one line: made of `value` if possible, or else one that the schema
    names, but not the default `left_out`."""
    values = chain(_same_in_other_forms(schema, value), _named_values(schema, left_out), _USUAL)
    return next(_fitting(schema, values), None)


def hint_for_value(schema: Any, value: Any = None, left_out: Any = ...) -> str | None:
    """Return the hint for a value that does not fit: a value to write, and all allowed ones where they are few."""
    own_text = next(_fitting(schema, _same_in_other_forms(schema, value)), None)
    shown = own_text or fitting_value(schema, None, left_out)
    if shown is None:
        return None
    members = schema.get("enum")
    if isinstance(members, list) and 1 < len(members) <= _MAX_LISTED and len(flow(members)) <= _MAX_SHOWN:
        texts = list(dict.fromkeys(map(flow, members)))
        if own_text is not None:
            return f"write `{own_text}`; allowed, too: {', '.join(text for text in texts if text != own_text)}"
        *first, last = (f"`{text}`" for text in texts)
        return f"write {', '.join(first)} or {last}" if first else f"write {last}"
    return f"write `{own_text}`" if own_text is not None else f"write a value that fits, such as `{shown}`"


def _fitting(schema: Any, values: Iterable[Any]) -> Iterator[str]:
    """Yield those of the values that the schema accepts, as YAML."""
    if not isinstance(schema, dict) or "$ref" in str(schema):
        return
    try:
        judge = validator({word: inner for word, inner in schema.items() if word not in ("default", "examples")})
    except (SchemaError, ValueError):
        return
    yield from (text for value in values if judge.is_valid(value) and len(text := flow(value)) <= _MAX_SHOWN)


def _named_values(schema: Any, left_out: Any) -> Iterator[Any]:
    """Yield the values that the schema itself names, and those next to its bounds."""
    if not isinstance(schema, dict):
        return
    yield from (
        schema[word] for word in ("default", "const") if word in schema and (word == "const" or schema[word] != left_out)
    )
    for word in ("enum", "examples"):
        if isinstance(schema.get(word), list):
            yield from schema[word][:_MAX_LISTED]
    for word, step in (("minimum", 0), ("maximum", 0), ("exclusiveMinimum", 1), ("exclusiveMaximum", -1)):
        if isinstance(schema.get(word), (int, float)):
            yield schema[word] + step


def _same_in_other_forms(schema: Any, value: Any) -> Iterator[Any]:
    """Yield the value as the type of the schema writes it, such as a number for a text of digits."""
    if not isinstance(schema, dict) or value is None or isinstance(value, dict):
        return
    members = schema.get("enum")
    texts = [member for member in members if isinstance(member, str)] if isinstance(members, list) else []
    if isinstance(value, (str, int)) and (near := suggest(str(value), texts)) is not None:
        yield near
    yield from _FORMS_OF_TYPES.get(str(schema.get("type")), _no_forms)(schema, value)


def _no_forms(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    return iter(())


def _numbers(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    number = value if type(value) in (int, float) else number_in(str(value))
    if number is not None:
        yield int(number) if number == int(number) else number
        yield max(number, schema.get("minimum", number))
        yield min(number, schema.get("maximum", number))
        yield round(number)


def _booleans(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    if (word := str(value).strip().lower()) in _WORDS:
        yield _WORDS[word]


def _texts(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from value[:1]
    elif not isinstance(value, bool):
        yield from (str(value), str(value).strip(), str(value)[: schema.get("maxLength")], *_forms(str(value)))


def _lists(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    yield re.split(r"\s*[,\n]\s*", value.strip()) if isinstance(value, str) else [value]


_FORMS_OF_TYPES = {"integer": _numbers, "number": _numbers, "boolean": _booleans, "string": _texts, "array": _lists}
_USUAL: tuple[Any, ...] = (
    *(1, 10, 0, 100, "hello", "example-value", "acme/shop", "2026-01-31", "a", "A1", "main", "0" * 40),
    *("https://example.com", True, [], {}),
)


def declaration_hint(root: Any, name: str, value: Any = None, *, default: bool = False) -> str:
    """Return the hint that declares a parameter, with the type of its value, and a default where nothing else provides one."""
    kinds = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    form = f"{name}: {{type: {kinds.get(type(value), 'string')}{', default: hello' if default else ''}}}"
    reminder = ", with your own value in the place of `hello`" if default else ""
    if not isinstance(value_at(root, ("paramsSchema",)), dict):
        return f"add `paramsSchema: {{type: object, properties: {{{form}}}, additionalProperties: false}}`{reminder}"
    if not isinstance(value_at(root, ("paramsSchema", "properties")), dict):
        return f"add `properties: {{{form}}}` below `paramsSchema`{reminder}"
    return f"add `{form}` below `paramsSchema.properties`{reminder}"


def always_set_hint(name: str, schema: Any, *, default_only: bool = False) -> str:
    """Return the hint that makes a parameter have a value in every run: require it, or give it a default. `default_only` says
    that a trigger gives it no value."""
    types = schema.get("type") if isinstance(schema, dict) else None
    # A value that may be null has null where nothing was said.
    default = "null" if isinstance(types, list) and "null" in types else fitting_value(schema) or "..."
    place = f"`paramsSchema.properties.{name}`"
    if default_only:
        return f"give it a default below {place}, such as `default: {default}`: a trigger gives no value for it"
    return f"list `{name}` under `required`, or give it a default below {place}, such as `default: {default}`"
