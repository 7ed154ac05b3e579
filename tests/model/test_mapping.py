"""Mappings: what is taken from a payload, and what is refused at once."""

import time
from typing import Any

import pytest

from optio.model.mapping import MappingFailed, PathSyntax, compile_path, compile_when, from_payload

PAYLOAD: dict[str, Any] = {
    "text": "x",
    "number": 5,
    "half": 1.5,
    "yes": True,
    "nothing": None,
    "list": [1, "a"],
    "object": {"k": ["v"]},
    "long": "y" * 1_000_000,
    "a-b": "dash",
    "commits": [{"id": 1}, {"id": 2}],
}


@pytest.mark.parametrize("key", ["text", "number", "half", "yes", "nothing", "list", "object", "long"])
def test_a_value_is_taken_as_it_is(key: str) -> None:
    assert from_payload({"A": f"$.{key}"}, PAYLOAD) == {"A": PAYLOAD[key]}


def test_what_is_not_there_leaves_the_parameter_out() -> None:
    assert from_payload({"A": "$.gone", "B": "$.nothing", "C": "$.list[9]"}, PAYLOAD) == {"B": None}


def test_a_query_for_many_gives_a_list_even_of_one_or_none() -> None:
    assert from_payload({"A": "$.commits[*].id", "B": "$.gone[*]", "C": "$.commits[?@.id == 1].id"}, PAYLOAD) == {
        "A": [1, 2],
        "B": [],
        "C": [1],
    }


def test_fixed_values_are_themselves() -> None:
    assert from_payload({"A": {"literal": "$.text"}, "B": {"literal": {"literal": 1}}}, PAYLOAD) == {
        "A": "$.text",
        "B": {"literal": 1},
    }


@pytest.mark.parametrize("path", ["$['a-b']", '$["a-b"]'])
def test_odd_names_stand_in_brackets(path: str) -> None:
    assert from_payload({"A": path}, PAYLOAD) == {"A": "dash"}


@pytest.mark.parametrize(
    "path",
    [
        "$.detail.build-status",
        "$..a..b",
        "$.a[(@.length-1)]",
        "$.a[?@.b * 1e8 > 1]",
        "a.b",
        "",
        "$.",
        "$[",
        "$.a[?(",
        "$ .a\n",
        "$.a[01]",
        "$.a[?search(@.b)]",
        "$.a[?nope(@.b)]",
        "$" + ".a" * 5_000,
        "$" + "[?" * 400,
        "$.a`len`",
        "$.a.length()",
        "$[?@.a =~ /x/]",
        "@.a",
        "$.a|b",
        "$.a + 1",
    ],
)
def test_what_is_no_plain_query_is_refused_at_once(path: str) -> None:
    start = time.process_time()

    with pytest.raises(PathSyntax) as refused:
        compile_path(path)

    assert 0 <= refused.value.index <= len(path)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    "expression", ['search(@, "(a|a)*$")', 'match(@, "(a+)+")', 'search(@, "^(([a-z])+.)+[A-Z]([a-z])+$")']
)
def test_hostile_regular_expressions_end_within_milliseconds(expression: str) -> None:
    path = compile_path(f"$[?{expression}]")
    start = time.process_time()

    path.values(["a" * 5_000 + "!"])

    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("text", ["$.a[0:999999999]", "$.a[-999999999:]", "$.a[::1000000]", "$..*", "$.a[*][*][*]", "$..[*]"])
def test_wide_queries_end_within_milliseconds(text: str) -> None:
    payload = {"a": [[[i] for i in range(10)] for _ in range(100)]}
    start = time.process_time()

    compile_path(text).values(payload)

    assert time.process_time() - start < 0.5


def test_a_payload_that_is_too_deep_is_an_error_of_its_own() -> None:
    deep: Any = 1
    for _ in range(2_000):
        deep = [deep]

    with pytest.raises(MappingFailed):
        compile_path("$..a").values(deep)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("@.action == 'opened'", True),
        ("@.action == 'closed'", False),
        ("@.draft == false && @.count > 2", True),
        ("@.missing", False),
        ("!@.missing", True),
        ("@.labels[?@ == 'bug']", True),
        ("search(@.title, 'fix')", True),
        ("search(@.title, '^fix')", False),
        ("search(@.title, 'fix$')", True),
        ("search(@.title, '(?i)FIX')", True),
        ("search(@.lines, 'one.two')", False),
        ("search(@.title, '(')", False),
        ("length(@.labels) == 2", True),
        ("@.action == 'opened' || @.missing", True),
        ("$[0].action == 'opened'", True),
    ],
)
def test_a_filter_is_about_the_payload(text: str, holds: bool) -> None:
    payload = {"action": "opened", "draft": False, "count": 3, "labels": ["bug", "ui"], "title": "a fix", "lines": "one\ntwo"}

    assert compile_when(text).holds(payload) is holds


@pytest.mark.parametrize(
    "text", ["@.a][0", "@.a, ?@.b", "@.a = 1", "@.a].b[?@.c", "", "@.a + 1 > 2", "open('x')", "0:1", "'a'", "*"]
)
def test_what_is_not_one_filter_is_refused(text: str) -> None:
    with pytest.raises(PathSyntax) as refused:
        compile_when(text)

    assert 0 <= refused.value.index <= len(text)
