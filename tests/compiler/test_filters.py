"""What a filter tests is read off its text as the query language reads it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.compiler.payloads.filter_tests import Group, leaf_tests, parse_filter
from optio.model.mapping import compile_path, compile_when

PATHS = ("@.a", "@.a.b", "@['a']['x y']", "@.list[0]", "@.list[-1].c")
VALUES = ("'one'", '"two"', "'&& @.z'", "7", "-1.5", "true", "null", "'it\\'s'")
PAYLOADS: list[Any] = [
    {},
    {"a": {"b": "one", "x y": 7}, "list": ["two", {"c": None}]},
    {"a": True, "list": [7]},
    {"a": "&& @.z", "list": [{"c": "one"}]},
]
questions = st.one_of(
    st.sampled_from(PATHS),
    st.sampled_from(PATHS).map(lambda path: f"!{path}"),
    st.builds("{} {} {}".format, st.sampled_from(PATHS), st.sampled_from(("==", "!=")), st.sampled_from(VALUES)),
)


def holds(filter: str, payload: Any) -> bool:
    """By its tests, one of which must hold."""
    part = parse_filter(filter)
    outcomes = []
    for each in part.parts if isinstance(part, Group) and part.sign == "||" else (part,):
        (test,) = leaf_tests(each)
        values = compile_path(f"${test.path[1:]}").values(payload)
        found = values[0] if values else ...
        held = {"there": bool(values), "==": same(found, test.value), "!=": not same(found, test.value)}[test.sign]
        outcomes.append(held != isinstance(each, Group))
    return any(outcomes)


def same(one: Any, other: Any) -> bool:
    return one is not ... and json.dumps(one) == json.dumps(other)


@given(st.lists(questions, min_size=1, max_size=4), st.sampled_from(PAYLOADS), st.sampled_from((" || ", "||", "  ||  ")))
def test_the_tests_of_a_filter_say_what_the_filter_says(parts: list[str], payload: Any, sign: str) -> None:
    text = sign.join(parts)

    assert [text[each.start : each.end] for each in leaf_tests(parse_filter(text))] == [part.lstrip("!") for part in parts]
    if "\\" not in text:  # what an escape stands for is nobody's question here
        assert holds(text, payload) == compile_when(text).holds(payload)


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("@.a == @.b", ["other"]),
        ("'x' == @.a", ["other"]),
        ("@.a > 3", [">"]),
        ("length(@.a) > 3", [">"]),
        ("match(@.a, 'x')", ["match"]),
        ("@.a[?@.b == 1]", ["other"]),
        ("@.a[?@.b[?@.c]] && @.d", ["other", "there"]),
        ("@.a[?@.b[0] == 1 && @['c']] || !@.d", ["other", "there"]),
        ("@..a", ["other"]),
        ("@.a[*]", ["other"]),
        ("!(@.a == 1) && (@.b)", ["==", "there"]),
        ("@.a == '@.b || $.c'", ["=="]),
    ],
)
def test_what_is_no_simple_test_is_not_taken_for_one(text: str, signs: list[str]) -> None:
    compile_when(text)

    assert [each.sign for each in leaf_tests(parse_filter(text))] == signs
