"""Whether callers break, held against the validator itself: what is called safe takes all that was taken."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optio.model.effect import EffectKind
from optio.model.params import apply_defaults, validator
from optio.plan.contract import differences

CLOSED = {"type": "object", "additionalProperties": False}
SAFE = {EffectKind.PARAMS_WIDENED, EffectKind.DEFAULT_CHANGED}


def kinds(before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[tuple[str, str]]:
    return [(each.kind.value, f"{each.name}: {each.text}" if each.name else each.text) for each in differences(before, after)]


def properties(**schemas: Any) -> dict[str, Any]:
    return {**CLOSED, "properties": schemas}


TEXT, NUMBER = {"type": "string"}, {"type": "number"}
WIDER = [("params-widened", "A: minimum 1 -> above 0")]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (properties(A=NUMBER), properties(A={"type": "integer"}), [("callers-break", "A: type number -> integer")]),
        (properties(A={"type": "integer"}), properties(A=NUMBER), [("params-widened", "A: type integer -> number")]),
        (properties(A={}), properties(A=TEXT), [("callers-break", "A: type any -> string")]),
        (properties(A=TEXT), properties(A=NUMBER), [("callers-break", "A: type string -> number")]),
        (properties(A=TEXT), properties(A=TEXT, B=TEXT), [("params-widened", "B: a new parameter")]),
        (
            properties(A=TEXT),
            {**properties(A=TEXT, B=TEXT), "required": ["B"]},
            [("callers-break", "B: must be given")],
        ),
        (
            properties(A=TEXT),
            {**properties(A=TEXT, B={**TEXT, "default": "b"}), "required": ["B"]},
            [("params-widened", "B: a new parameter, by default `b`")],
        ),
        ({**properties(A=TEXT), "required": ["A"]}, properties(A=TEXT), [("params-widened", "A: may be left out")]),
        (
            {"type": "object", "properties": {}},
            {"type": "object", "properties": {"A": TEXT}},
            [("params-changed", "A: a new parameter: any value was accepted, now it is checked")],
        ),
        (
            {"type": "object", "properties": {"A": {**TEXT, "default": "x"}}},
            {"type": "object"},
            [
                ("default-changed", "A: default `x` -> none"),
                ("params-widened", "A: is removed from the schema: any value is accepted"),
            ],
        ),
        (None, CLOSED, [("callers-break", "parameters that are not in the schema are refused")]),
        (properties(A={"type": "integer", "minimum": 1, "maximum": 3}), properties(A={"enum": [3, 1, 2]}), []),
        (properties(A={"type": "boolean"}), properties(A={"const": True}), [("callers-break", "A: `false` is refused")]),
        (properties(A={"type": "number", "minimum": 1}), properties(A={"type": "number", "exclusiveMinimum": 0}), WIDER),
        (CLOSED, None, [("params-widened", "parameters that are not in the schema are accepted")]),
        (
            properties(A={"enum": ["a", "b"]}),
            properties(A={"type": "string", "maxLength": 1}),
            [("params-widened", "A: other values are accepted too")],
        ),
        (
            properties(A={"enum": ["a", 1]}),
            properties(A={"type": "string"}),
            [("callers-break", "A: `1` is refused"), ("params-widened", "A: other values are accepted too")],
        ),
        (properties(A={"const": "a"}), properties(A={"enum": ["a"]}), []),
        (properties(A=TEXT), properties(A={**TEXT, "minLength": 0, "minItems": 3, "minimum": 3, "format": "phone"}), []),
        (properties(A={"type": "integer"}), properties(A={"type": "integer", "maxLength": 4, "pattern": "x"}), []),
        (properties(A={"type": "array"}), properties(A={"type": "array", "minItems": 0, "uniqueItems": False}), []),
        (properties(A=TEXT), properties(A={**TEXT, "format": "uri"}), [("callers-break", "A: must have format `uri`")]),
        (properties(A=TEXT), properties(A={**TEXT, "pattern": "^a"}), [("callers-break", "A: must have pattern `^a`")]),
        (
            properties(A={**TEXT, "pattern": "^a"}),
            properties(A={**TEXT, "pattern": "^b"}),
            [("params-changed", "A: pattern `^a` -> `^b`")],
        ),
        (
            properties(A={"type": "array", "items": TEXT}),
            properties(A={"type": "array", "items": {**TEXT, "maxLength": 3}}),
            [("callers-break", "A[]: maximum length none -> 3")],
        ),
        (
            properties(A={"$ref": "#/$defs/X"}) | {"$defs": {"X": TEXT}},
            properties(A={"$ref": "#/$defs/X"}) | {"$defs": {"X": NUMBER}},
            [("callers-break", "A: type string -> number")],
        ),
        (
            properties(A=properties(B=TEXT)),
            properties(A={**properties(B=TEXT), "required": ["B"]}),
            [("callers-break", "A.B: must be given")],
        ),
        ({"type": "object"}, {"type": "object", "title": "T", "x-mine": 1, "description": "D"}, []),
        (properties(A=True), properties(A=False), [("callers-break", "A: no value is accepted any more")]),
    ],
)
def test_what_a_change_of_a_schema_does_to_callers(before: Any, after: Any, expected: list[tuple[str, str]]) -> None:
    assert kinds(before, after) == expected


SMALL = st.integers(0, 3)
VALUES = st.sampled_from(["", "a", "ab", "abc", "x", 0, 1, 2.5, 3, True, None, [], ["a"], ["a", "a"], {}, {"A": "a"}, {"B": 1}])


def some(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=strategies)


LEAVES = some(
    type=st.one_of(
        st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"]),
        st.lists(st.sampled_from(["string", "integer", "number", "null"]), min_size=1, max_size=3, unique=True),
    ),
    enum=st.lists(VALUES, min_size=1, max_size=3),
    const=VALUES,
    minimum=SMALL,
    exclusiveMaximum=SMALL,
    minLength=SMALL,
    maxLength=SMALL,
    pattern=st.sampled_from(["^a", "b$"]),
    multipleOf=st.sampled_from([1, 2]),
    default=VALUES,
    description=st.just("words"),
)
SCHEMAS = st.recursive(
    st.one_of(LEAVES, LEAVES, st.booleans()),
    lambda inner: some(
        type=st.sampled_from(["object", "array"]),
        properties=st.dictionaries(st.sampled_from("ABC"), inner, max_size=3),
        required=st.lists(st.sampled_from("ABC"), max_size=2, unique=True),
        additionalProperties=inner,
        items=inner,
        minItems=SMALL,
        maxProperties=SMALL,
        uniqueItems=st.booleans(),
        anyOf=st.lists(inner, min_size=1, max_size=2),
        default=VALUES,
    ),
    max_leaves=6,
)
TOP = st.builds(
    lambda schema, props: {**schema, "type": "object", "properties": props},
    some(required=st.lists(st.sampled_from("ABC"), max_size=2, unique=True), additionalProperties=SCHEMAS),
    st.dictionaries(st.sampled_from("ABC"), SCHEMAS, max_size=3),
)
PARAMS = st.dictionaries(
    st.sampled_from("ABCD"), st.one_of(VALUES, st.dictionaries(st.sampled_from("ABC"), VALUES, max_size=2)), max_size=3
)


def takes(schema: dict[str, Any], params: dict[str, Any]) -> bool:
    return bool(validator(schema).is_valid(apply_defaults(schema, params)))


def mended(schema: Any) -> Any:
    """Without the defaults that do not fit their own schema, which the compiler refuses."""
    if not isinstance(schema, dict):
        return schema
    kept = {key: mended(value) if key in ("items", "additionalProperties") else value for key, value in schema.items()}
    if "properties" in kept:
        kept["properties"] = {name: mended(value) for name, value in kept["properties"].items()}
    if "anyOf" in kept:
        kept["anyOf"] = [mended(value) for value in kept["anyOf"]]
    default = kept.get("default")
    if "default" in kept and not validator(kept).is_valid(
        apply_defaults(kept, default) if isinstance(default, dict) else default
    ):
        del kept["default"]
    return kept


def edited(draw: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two schemas that share a part: those of two people would differ in all."""
    before, after = draw(TOP), draw(TOP)
    for name in draw(st.lists(st.sampled_from("ABC"), unique=True)):
        if name in before["properties"]:
            after["properties"][name] = before["properties"][name]
    for key in ("required", "additionalProperties"):
        if draw(st.booleans()):
            after.pop(key, None)
            after |= {key: before[key]} if key in before else {}
    return before, after


@given(st.data(), st.lists(PARAMS, min_size=1, max_size=10))
@settings(max_examples=60)
def test_a_change_that_is_called_safe_takes_all_that_was_taken(data: st.DataObject, given_params: list[dict[str, Any]]) -> None:
    before, after = map(mended, edited(data.draw))
    found = differences(before, after)
    if {each.kind for each in found} <= SAFE:
        for params in given_params:
            assert takes(after, params) or not takes(before, params), [each.text for each in found]
