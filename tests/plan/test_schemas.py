"""The normal form of a schema takes what the schema takes."""

import random
from itertools import pairwise
from typing import Any

import pytest

from optio.model.params import apply_defaults, validator
from optio.model.registry import canonical
from optio.plan.schemas import normalize

VALUES: list[Any] = [
    *(None, True, False, 0, 1, 1.0, 2, -1, 0.5, 1.5, 9, 10, "", "a", "b", "abc", "abcdef", "2026-01-02"),
    *([], [1], [1, 1], ["a"], ["a", 1, None], {}, {"a": 1}, {"a": "a"}, {"b": 1}, {"a": 1, "b": "b"}, {"c": {"a": 1}}),
]
NUMBERS = (0, 1, 2, 0.5, 1.5, 9, -1)


def written(rng: random.Random, depth: int) -> Any:
    """A schema of a few keywords, as nobody would write it."""
    if rng.random() < 0.04:
        return rng.choice([True, False])
    found: dict[str, Any] = {}
    for _ in range(rng.randint(0, 4)):
        key = rng.choice([*PLAIN, *(NESTED if depth else ())])
        found[key] = PLAIN[key](rng) if key in PLAIN else NESTED[key](rng, depth - 1)
    return found


PLAIN: dict[str, Any] = {
    "type": lambda rng: rng.choice(
        ["string", "integer", "number", ["string", "null"], ["integer", "string"], "object", "array", "boolean", ["number"]]
    ),
    "const": lambda rng: rng.choice(VALUES),
    "enum": lambda rng: [*{canonical(value): value for value in rng.sample(VALUES, 3)}.values()],
    **{key: lambda rng: rng.choice(NUMBERS) for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")},
    **{key: lambda rng: rng.randint(0, 3) for key in ("minLength", "maxLength", "minItems", "maxItems", "minProperties")},
    "multipleOf": lambda rng: rng.choice([1, 2, 0.5]),
    "uniqueItems": lambda rng: rng.random() < 0.5,
    "required": lambda rng: rng.sample(["a", "b"], rng.randint(0, 2)),
    "pattern": lambda rng: rng.choice(["^a", "b"]),
    "format": lambda rng: rng.choice(["date", "unknown"]),
    "title": lambda rng: "title",
    "$ref": lambda rng: rng.choice(["#/$defs/one", "#/$defs/two", "#/$defs/one"]),
}
NESTED: dict[str, Any] = {
    "properties": lambda rng, depth: {name: written(rng, depth) for name in rng.sample("abc", rng.randint(1, 2))},
    **{
        key: lambda rng, depth: written(rng, depth)
        for key in ("additionalProperties", "items", "not", "unevaluatedProperties", "propertyNames", "contains", "if", "then")
    },
    **{key: lambda rng, depth: [written(rng, depth) for _ in range(rng.randint(1, 3))] for key in ("allOf", "anyOf", "oneOf")},
    "patternProperties": lambda rng, depth: {"^a": written(rng, depth)},
    "prefixItems": lambda rng, depth: [written(rng, depth)],
}


def taken(schema: Any) -> list[bool]:
    takes = validator(schema).is_valid
    return [takes(value) for value in VALUES]


@pytest.mark.parametrize("seed", range(40))
def test_the_normal_form_takes_the_same(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        schema = {**(found if isinstance(found := written(rng, 3), dict) else {}), "$defs": {}}
        schema["$defs"] = {name: written(rng, 1) for name in ("one", "two")}
        if '"$ref"' in canonical(schema["$defs"]):  # perhaps in a circle that no value leaves
            continue
        form = normalize(schema)
        # No type, and no value, is said in a form that no validator takes.
        if '"type":[]' not in canonical(form) and '"enum":[]' not in canonical(form):
            assert taken(form) == taken(schema), (schema, form)


def test_a_default_counts_where_it_is_filled_in() -> None:
    shared = {"type": "string", "default": "of all"}
    schema = {
        "type": "object",
        "properties": {
            "A": {"$ref": "#/$defs/text"},
            "B": {"$ref": "#/$defs/text", "default": "own"},
            "C": {"allOf": [shared]},
        },
        "$defs": {"text": shared},
    }

    assert apply_defaults(normalize(schema), {}) == apply_defaults(schema, {}) == {"B": "own"}


def test_a_reference_in_a_circle_stays() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#/$defs/tree"}}}
    schema = {"$ref": "#/$defs/tree", "$defs": {"tree": tree}}

    form = normalize(schema)

    assert form["$defs"] == {"tree": tree}
    assert taken(form) == taken(schema)


def test_references_that_multiply_end_soon() -> None:
    names = [f"d{number}" for number in range(25)]
    defs: dict[str, Any] = {
        name: {"properties": {"a": {"$ref": f"#/$defs/{below}"}, "b": {"$ref": f"#/$defs/{below}"}}}
        for name, below in pairwise(names)
    }
    schema = {"$ref": "#/$defs/d0", "$defs": {**defs, names[-1]: {"type": "string"}}}

    assert normalize(schema) == schema
