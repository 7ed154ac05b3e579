"""A value that is passed without a validator is one that the validator would pass."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from optio.compiler.param_schema.self_check import _fits_plainly
from optio.model.params import validator

TYPE = st.sampled_from(("string", "boolean", "array", "object", "integer", "number", "null"))
SCHEMAS = st.fixed_dictionaries(
    {"type": st.just("string") | TYPE | st.lists(TYPE, min_size=1, max_size=2, unique=True)},
    optional={"title": st.just("T"), "maxLength": st.integers(0, 4) | st.sampled_from((0.0, 3.0))},
)
OTHER_WORDS = st.sampled_from(({}, {"minLength": 2}, {"enum": ["a", "bb"]}, {"maxItems": 1}, {"required": ["a"]}))
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=2), max_size=3)
VALUES |= st.dictionaries(st.text(max_size=2), st.booleans(), max_size=2)


@given(SCHEMAS, OTHER_WORDS, VALUES)
def test_a_value_that_is_passed_by_its_type_alone_fits_the_schema(
    schema: dict[str, Any], more: dict[str, Any], value: Any
) -> None:
    whole = {**schema, **more}

    assert validator(whole).is_valid(value) or not _fits_plainly(whole, value)


def test_most_defaults_are_passed_by_their_type_alone() -> None:
    assert _fits_plainly({"type": "string", "description": "Topics", "maxLength": 6}, "hellö!")
    assert _fits_plainly({"type": "boolean"}, False)
    assert not _fits_plainly({"type": "string", "maxLength": 5}, "hellö!")
    assert not _fits_plainly({"type": "string", "minLength": 2}, "b")
    assert not _fits_plainly({"type": "string", "pattern": "^a"}, "b")
    assert not _fits_plainly({"type": "integer"}, True)
