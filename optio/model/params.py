"""Run parameters: check a task's schema, fill in its defaults, and validate parameters against it.

Schemas are JSON Schema 2020-12, all of it within these bounds:
- nothing is fetched: a `$ref` or meta-schema that is elsewhere is refused;
- patterns take linear time: no look-around, no back-references, and none that compiles to more than 1 MiB;
- values are at most 255 levels deep.
All formats that the standard names are asserted. No message repeats a value of the sender, which may be a secret.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from optio.errors import Problem
from optio.model.route import Route, pointer

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator, ValidationError

    Validator = Draft202012Validator

MAX_PATTERN_BYTES = 1 << 20
# The longest names that are compared with a misspelt one, and the most that a hint lists.
MAX_SUGGESTED_LENGTH, _MAX_LISTED = 100, 10

# The formats that the validator asserts; it ignores all others.
FORMATS = frozenset(
    {
        *("date-time", "date", "time", "duration", "email", "idn-email", "hostname", "idn-hostname", "ipv4", "ipv6", "uri"),
        *("uri-reference", "iri", "iri-reference", "uuid", "uri-template", "json-pointer", "relative-json-pointer", "regex"),
    }
)


class SchemaError(ValueError):
    """A schema that cannot be used. `error` is the validator's own, with the reason and the route into the schema."""

    def __init__(self, error: "ValidationError") -> None:
        self.error = error
        super().__init__(describe_error(error))


def validator(schema: Mapping[str, Any], largest: int = MAX_PATTERN_BYTES) -> "Validator":
    """Return a validator for a JSON Schema 2020-12 whose patterns compile to at most `largest` bytes; raise SchemaError.
    Callers that validate go through `iter_faults`, which caches."""
    # Imported here: a check of tasks without parameters does not pay 7 ms for it.
    import jsonschema_rs

    patterns = jsonschema_rs.RegexOptions(size_limit=largest, dfa_size_limit=MAX_PATTERN_BYTES)
    try:
        compiled = jsonschema_rs.Draft202012Validator(
            dict(schema), offline=True, validate_formats=True, pattern_options=patterns
        )
    except jsonschema_rs.ValidationError as err:
        raise SchemaError(err) from err
    return _remember(schema, compiled)


@lru_cache(maxsize=4096)
def _cached(canonical: str) -> "Validator":
    return validator(json.loads(canonical))


# A task's schema stays one object while the task is served, so its validator is found by identity, without serializing it.
# The schema is stored beside the validator, so that its id cannot be reused by another object.
_VALIDATORS: dict[int, tuple[Mapping[str, Any], "Validator"]] = {}
_MAX_VALIDATORS = 4096


def _validator_of(schema: Mapping[str, Any]) -> "Validator":
    entry = _VALIDATORS.get(id(schema))
    return _remember(schema, _cached(json.dumps(schema, sort_keys=True))) if entry is None else entry[1]


def _remember(schema: Mapping[str, Any], compiled: "Validator") -> "Validator":
    if len(_VALIDATORS) >= _MAX_VALIDATORS:
        _VALIDATORS.clear()
    _VALIDATORS[id(schema)] = schema, compiled
    return compiled


def apply_defaults(schema: Mapping[str, Any] | None, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given parameters with each missing `properties.*.default` filled in, also in objects inside objects."""
    filled = dict(params)
    properties = (schema or {}).get("properties")
    if not isinstance(properties, Mapping):
        return filled
    for name, sub in properties.items():
        if not isinstance(sub, Mapping):
            continue
        if name not in filled and "default" in sub:
            filled[name] = copy.deepcopy(sub["default"])
        elif isinstance(filled.get(name), Mapping):
            filled[name] = apply_defaults(sub, filled[name])
    return filled


def params_problems(schema: Mapping[str, Any] | None, params: Mapping[str, Any], *, at: Route = ("params",)) -> list[Problem]:
    """Return one Problem for each fault, with a JSON pointer that begins with `at`; an empty list when the parameters fit the
    schema. The hint for an unknown parameter is the declared one that was probably meant."""
    properties = (schema or {}).get("properties", {})
    return [
        Problem(pointer(at + route), message, code, hint=_hint(properties, route) if code == "additionalProperties" else None)
        for route, message, code in iter_faults(schema, params)
    ]


def _hint(properties: Mapping[str, Any], route: Route) -> str | None:
    """Return a hint for an unknown parameter: the declared name that is nearest to it, else all of them if they are few."""
    from difflib import get_close_matches  # imported only for a mistake

    if len(route) != 1:
        return None
    names = {name.casefold(): name for name in properties if len(name) <= MAX_SUGGESTED_LENGTH}
    near = get_close_matches(str(route[0])[:MAX_SUGGESTED_LENGTH].casefold(), names)
    if near:
        return f"did you mean `{names[near[0]]}`?"
    few = 0 < len(names) == len(properties) <= _MAX_LISTED
    return f"the task has {', '.join(f'`{name}`' for name in names.values())}" if few else None


def iter_faults(schema: Mapping[str, Any] | None, params: Any) -> Iterator[tuple[Route, str, str | None]]:
    """Yield route into the parameters, sentence and schema keyword of each fault. No sentence contains a value of the sender.
    Any JSON value may take the place of the parameters."""
    nuls = [(route, "contains a NUL character", None) for route in _find_nuls(params)]
    if schema is None or nuls:
        yield from nuls
        return
    try:
        for error in _validator_of(schema).iter_errors(params):
            yield from _explain(error, tuple(error.instance_path))
    except UnicodeError:
        yield (), "contain a lone surrogate, which is not a character", None
    except ValueError as err:
        if isinstance(err, SchemaError):
            raise
        yield (), "are nested too deeply", None


def iter_schema_faults(schema: Mapping[str, Any], largest: int = MAX_PATTERN_BYTES) -> Iterator[tuple[Route, str, str]]:
    """Yield the faults of a schema that `validator` refuses: route into the schema, keyword of the meta-schema, sentence."""
    routes: set[Route] = set()
    for error in _meta().iter_errors(schema):
        route = tuple(error.instance_path)
        if route not in routes:
            routes.add(route)
            yield route, error.kind.name, describe_error(error)
    if not routes:
        try:
            validator(schema, largest)
        except SchemaError as err:
            yield tuple(err.error.instance_path), err.error.kind.name or "schema", str(err)


@lru_cache(maxsize=1)
def _meta() -> "Validator":
    return validator({"$ref": "https://json-schema.org/draft/2020-12/schema"})


def describe_error(error: "ValidationError") -> str:
    """Return a validation error as a sentence without its subject (`is longer than 5 characters`), and without any value of the
    sender."""
    kind = error.kind
    sentence = _SENTENCES.get(type(kind).__name__)
    return sentence(kind) if sentence else f"does not fit `{kind.name}`" if kind.name else "is not a schema"


def _explain(error: "ValidationError", route: Route) -> Iterator[tuple[Route, str, str]]:
    kind: Any = error.kind
    name = type(kind).__name__
    if name == "Required":
        yield (*route, kind.property), "is required and has no default", "required"
    elif name in ("AdditionalProperties", "UnevaluatedProperties"):
        for key in kind.unexpected:
            yield (*route, key), "is an unknown key" if route else "is not a parameter of this task", "additionalProperties"
    else:
        yield route, describe_error(error), kind.name


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _types(kind: Any) -> str:
    types = kind.types if isinstance(kind.types, (list, tuple)) else [kind.types]
    return "must be " + " or ".join(_ARTICLES.get(str(t), str(t)) for t in types)


_ARTICLES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "a boolean",
    "array": "an array",
    "object": "an object",
}


_SENTENCES: dict[str, Any] = {
    "Type": _types,
    "Enum": lambda k: "must be one of " + ", ".join(dict.fromkeys(map(_json, k.options))),
    "Constant": lambda k: f"must be {_json(k.expected_value)}",
    "MaxLength": lambda k: f"is longer than {k.limit} characters",
    "MinLength": lambda k: f"is shorter than {k.limit} characters",
    "Pattern": lambda k: f"does not match the pattern `{k.pattern}`",
    "Format": lambda k: f"is not a valid {k.format}",
    "Minimum": lambda k: f"is less than {k.limit}",
    "Maximum": lambda k: f"is more than {k.limit}",
    "ExclusiveMinimum": lambda k: f"must be more than {k.limit}",
    "ExclusiveMaximum": lambda k: f"must be less than {k.limit}",
    "MinItems": lambda k: f"has fewer than {k.limit} items",
    "MaxItems": lambda k: f"has more than {k.limit} items",
    "MinProperties": lambda k: f"has fewer than {k.limit} keys",
    "MaxProperties": lambda k: f"has more than {k.limit} keys",
    "UniqueItems": lambda k: "has an item twice",
    "MultipleOf": lambda k: f"is not a multiple of {k.multiple_of}",
    "Required": lambda k: f"needs the key `{k.property}`",
    "AdditionalProperties": lambda k: "has unknown keys: " + ", ".join(f"`{key}`" for key in k.unexpected),
    "FalseSchema": lambda k: "can never be valid: the schema is `false`",
    "AnyOf": lambda k: "fits none of the `anyOf` schemas",
    "OneOfNotValid": lambda k: "fits none of the `oneOf` schemas",
    "OneOfMultipleValid": lambda k: "fits more than one of the `oneOf` schemas",
    "Not": lambda k: "fits a schema that `not` forbids",
    "Contains": lambda k: "has no item that `contains` asks for",
    "PropertyNames": lambda k: "has a key that `propertyNames` forbids",
}


def _find_nuls(value: Any) -> Iterator[Route]:
    stack: list[tuple[Route, Any]] = [((), value)]
    while stack:
        route, item = stack.pop()
        if isinstance(item, str):
            if "\0" in item:
                yield route
        elif isinstance(item, Mapping):
            for key, sub in item.items():
                if "\0" in key:
                    yield route
                stack.append(((*route, key), sub))
        elif isinstance(item, (list, tuple)):
            stack.extend(((*route, index), sub) for index, sub in enumerate(item))
