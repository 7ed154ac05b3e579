"""Parameters: defaults, faults, and schemas that are made to hurt."""

import time
from pathlib import Path
from typing import Any

import pytest

from optio.model import params
from optio.model.params import (
    SchemaError,
    apply_defaults,
    describe_error,
    iter_schema_faults,
    params_problems,
    validator,
)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "REPO": {"type": "string", "maxLength": 5},
        "COUNT": {"type": "integer", "default": 3, "minimum": 1},
        "OPTIONS": {"type": "object", "properties": {"deep": {"default": [1]}}, "default": {}},
    },
    "required": ["REPO"],
    "additionalProperties": False,
}


def found(schema: dict[str, Any], params: dict[str, Any]) -> list[tuple[str, str]]:
    return [(p.pointer, p.message) for p in params_problems(schema, params)]


def test_defaults_are_filled_in_before_anything_is_checked() -> None:
    assert apply_defaults(SCHEMA, {"REPO": "a"}) == {"REPO": "a", "COUNT": 3, "OPTIONS": {}}
    assert apply_defaults(SCHEMA, {"OPTIONS": {}}) == {"OPTIONS": {"deep": [1]}, "COUNT": 3}
    assert apply_defaults(None, {"a": 1}) == {"a": 1}


def test_a_default_is_never_shared_between_runs() -> None:
    first = apply_defaults(SCHEMA, {"OPTIONS": {}})
    first["OPTIONS"]["deep"].append(2)

    assert apply_defaults(SCHEMA, {"OPTIONS": {}})["OPTIONS"]["deep"] == [1]


def test_given_values_are_not_replaced_and_not_changed() -> None:
    given = {"COUNT": None, "OPTIONS": {"deep": 0}}

    assert apply_defaults(SCHEMA, given) == given


def test_every_fault_has_its_own_entry() -> None:
    assert sorted(found(SCHEMA, {"REPO": "too long", "COUNT": 0, "OTHER": 1})) == [
        ("/params/COUNT", "is less than 1"),
        ("/params/OTHER", "is not a parameter of this task"),
        ("/params/REPO", "is longer than 5 characters"),
    ]


def test_a_missing_parameter_is_named() -> None:
    assert found(SCHEMA, {}) == [("/params/REPO", "is required and has no default")]
    assert [pointer for pointer, _ in found({"required": ['"A"']}, {})] == ['/params/"A"']


def test_pointers_are_escaped() -> None:
    schema = {"properties": {"a/b~c": {"type": "integer"}}}

    assert found(schema, {"a/b~c": "x"}) == [("/params/a~1b~0c", "must be an integer")]


def test_a_value_is_never_repeated() -> None:
    secret = "hunter2hunter2"
    schema = {"properties": {"A": {"enum": ["x"]}, "B": {"pattern": "^[0-9]+$"}, "C": {"type": "integer"}, "D": {"const": 1}}}

    assert secret not in str(found(schema, dict.fromkeys("ABCD", secret)))


def test_a_nul_character_is_refused_without_a_schema_too() -> None:
    assert [p.pointer for p in params_problems(None, {"a": ["x", {"b": "\0"}]})] == ["/params/a/1/b"]
    assert params_problems(None, {"a": 1}) == []


def test_a_nul_character_is_the_only_fault_that_is_named() -> None:
    assert found(SCHEMA, {"REPO": "\0", "COUNT": 0}) == [("/params/REPO", "contains a NUL character")]


@pytest.mark.parametrize(
    ("schema", "params"),
    [
        ({"properties": {"A": {"pattern": "^(a+)+$"}}}, {"A": "a" * 1_000_000 + "!"}),
        ({"properties": {"A": {"pattern": r"^(\w+\s?)*$"}}}, {"A": "a " * 500_000 + "!"}),
        ({"properties": {"A": {"uniqueItems": True}}}, {"A": [{"i": i} for i in range(5_000)] + [{"i": 1}]}),
        ({"properties": {"A": {"enum": list(range(10_000))}}}, {"A": -1}),
    ],
)
def test_hostile_values_are_judged_within_a_second(schema: dict[str, Any], params: dict[str, Any]) -> None:
    start = time.process_time()

    assert params_problems(schema, params)
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize("pattern", ["(?<=a)b", "(?=a)b", r"(a)\1", "(", "a{1,20000}", "(?P<n>a)(?P=n)"])
def test_patterns_that_could_not_run_in_linear_time_are_refused(pattern: str) -> None:
    with pytest.raises(SchemaError):
        validator({"pattern": pattern})


@pytest.mark.parametrize("target", ["http://127.0.0.1:9/a", "file:///etc/passwd", "#/$defs/none", "other.json"])
def test_references_out_of_the_schema_are_refused(target: str) -> None:
    with pytest.raises(SchemaError):
        validator({"$ref": target})


def test_a_schema_beside_the_task_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "any.json").write_text("{}")

    with pytest.raises(SchemaError):
        validator({"$ref": f"file://{tmp_path}/any.json"})


def test_validators_are_kept_for_a_bounded_number_of_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "_VALIDATORS", {})
    monkeypatch.setattr(params, "_MAX_VALIDATORS", 2)
    kept = []

    for _ in range(3):
        validator({})
        kept.append(len(params._VALIDATORS))

    assert kept == [1, 2, 1]


def test_keys_that_a_default_may_not_have_are_named() -> None:
    (error,) = validator({"properties": {"c": {}}, "additionalProperties": False}).iter_errors({"a": 1, "b": 2})

    assert describe_error(error) == "has unknown keys: `a`, `b`"


@pytest.mark.parametrize(
    ("schema", "faults"),
    [
        ({"minLength": 1, "type": ["string", "null"]}, []),
        # Two keywords of the meta-schema refuse it.
        ({"properties": {"A": {"minLength": -1.5}}}, [(("properties", "A", "minLength"), "type", "must be an integer")]),
        ({"type": "strin", "maxLength": -1}, [
            (("type",), "anyOf", "fits none of the `anyOf` schemas"), (("maxLength",), "minimum", "is less than 0"),
        ]),
        # The meta-schema lets it pass.
        ({"properties": {"A": {"pattern": "(?=a)"}}}, [(("properties", "A", "pattern"), "format", "is not a valid regex")]),
        ({"$ref": "other.json"}, [((), "$ref", "does not fit `$ref`")]),
        # The reference leads to what is a schema only because of it.
        ({"x": {"type": "strin"}, "properties": {"A": {"$ref": "#/x"}}}, [(("x", "type"), "schema", "is not a schema")]),
    ],
)  # fmt: skip
def test_each_place_of_a_schema_that_cannot_be_used_is_named_once(schema: dict[str, Any], faults: list[Any]) -> None:
    assert list(iter_schema_faults(schema)) == faults


def test_a_larger_bound_of_patterns_is_a_matter_of_who_asks() -> None:
    schema = {"pattern": "[0-9]{1,3}"}

    assert [keyword for _, keyword, _ in iter_schema_faults(schema, 100)] == ["format"]
    assert list(iter_schema_faults(schema)) == []


def test_parameters_are_not_checked_against_a_schema_that_cannot_be_used() -> None:
    with pytest.raises(SchemaError):
        params_problems({"pattern": "("}, {})


def test_a_choice_is_written_as_its_author_wrote_it() -> None:
    assert found({"properties": {"A": {"enum": ["Köln", None]}}}, {"A": 1}) == [("/params/A", 'must be one of "Köln", null')]


def test_formats_are_checked() -> None:
    assert found({"properties": {"A": {"format": "date"}}}, {"A": "tomorrow"}) == [("/params/A", "is not a valid date")]


@pytest.mark.parametrize(
    ("levels", "said"), [(200, "must be a string"), (300, "are nested too deeply"), (900, "are nested too deeply")]
)
def test_a_value_that_is_too_deep_is_a_fault(levels: int, said: str) -> None:
    value: Any = 1
    for _ in range(levels):
        value = [value]

    assert [message for _, message in found({"properties": {"A": {"type": "string"}}}, {"A": value})] == [said]


def test_half_a_character_is_a_fault() -> None:
    assert [message for _, message in found({"properties": {"A": {"enum": ["x"]}}}, {"A": "\ud800"})] == [
        "contain a lone surrogate, which is not a character"
    ]


@pytest.mark.parametrize(
    ("names", "given", "hint"),
    [
        (["FOCUS_AREAS"], {"focus_area": 1}, "did you mean `FOCUS_AREAS`?"),
        (["A"], {"zzz": 1}, "the task has `A`"),
        (["A", "B"], {"zzz": 1}, "the task has `A`, `B`"),
        (["A" * 100], {"A" * 99: 1}, f"did you mean `{'A' * 100}`?"),
        (["A" * 101], {"A" * 99: 1}, None),
        ([f"N{n}" for n in range(10)], {"zzz": 1}, "the task has " + ", ".join(f"`N{n}`" for n in range(10))),
        ([f"N{n}" for n in range(11)], {"zzz": 1}, None),
        ([], {"zzz": 1}, None),
        # The names of the task are no help inside one of its parameters.
        (["OPTIONS"], {"OPTIONS": {"OPTION": 1}}, None),
    ],
)
def test_an_unknown_parameter_is_told_with_those_that_the_task_has(
    names: list[str], given: dict[str, Any], hint: str | None
) -> None:
    closed = {"additionalProperties": False, "properties": {}}
    schema = {**closed, "properties": dict.fromkeys(names, closed)}

    assert [problem.hint for problem in params_problems(schema, given) if problem.code == "additionalProperties"] == [hint]
