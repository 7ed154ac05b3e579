"""Mappings take what RFC 9535 takes and find what it finds, by its compliance suite; what is refused is a stated bound."""

import json
from pathlib import Path
from typing import Any

import pytest

from optio.model.mapping import MAX_PATH_LENGTH, MAX_WORK, MappingFailed, PathSyntax, compile_path, compile_when

SUITE = Path(__file__).parents[1] / "data" / "jsonpath-compliance-test-suite" / "cts.json"
CASES: list[dict[str, Any]] = json.loads(SUITE.read_text(encoding="utf-8"))["tests"]
WRONG = [case for case in CASES if case.get("invalid_selector")]
RIGHT = [case for case in CASES if not case.get("invalid_selector")]


def wide(count: int) -> dict[str, Any]:
    return {"items": [{"id": i} for i in range(count)]}


def test_the_suite_is_there() -> None:
    assert (len(RIGHT), len(WRONG)) == (456, 247)


def test_each_query_finds_what_the_standard_says() -> None:
    wrong = {}
    for case in RIGHT:
        found = json.dumps(compile_path(case["selector"]).values(case["document"]))
        if found not in [json.dumps(allowed) for allowed in case.get("results") or [case["result"]]]:
            wrong[case["name"]] = found

    assert wrong == {}


def test_what_the_standard_forbids_is_refused_at_a_place_in_the_query() -> None:
    wrong = {}
    for case in WRONG:
        try:
            wrong[case["name"]] = str(compile_path(case["selector"]))
        except PathSyntax as err:
            if not 0 <= err.index <= len(case["selector"]):
                wrong[case["name"]] = f"at {err.index}"

    assert wrong == {}


BOUNDS = {
    "length": ("$" + ".a" * (MAX_PATH_LENGTH // 2), "longer than 2,000"),
    "two descents": ("$..a..b", "more than one `..`"),
    "nesting": ("$[?" + "(" * 900 + "@.a" + ")" * 900 + "]", "nested too deeply"),
    "selectors": ("$" + "['a','b']" * 14, "more than 10,000"),
    "selectors inside filters": ("$[?@['a','b','c','d']['a','b','c','d']]" + "['a','b','c','d']" * 5, "more than 10,000"),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_query_beyond_a_bound_is_refused_by_its_name(name: str) -> None:
    query, reason = BOUNDS[name]

    with pytest.raises(PathSyntax) as refused:
        compile_path(query)

    assert reason.replace(",", "") in str(refused.value).replace(",", "")


@pytest.mark.parametrize(
    "query", ["$" + ".a" * 999, "$..a", "$[?@..a]..b", "$" + "['a','b']" * 13, "$[?" + "(" * 50 + "@.a" + ")" * 50 + "]"]
)
def test_a_query_within_the_bounds_is_taken(query: str) -> None:
    compile_path(query)


@pytest.mark.parametrize("query", ["$.items[?count($..*) > 3]", "$..[?@..[?@..a]]", "$.items[?$.items[?@.id == 1]]"])
def test_a_filter_that_searches_the_payload_for_each_item_takes_small_payloads_only(query: str) -> None:
    assert isinstance(compile_path(query).values(wide(3)), list)

    with pytest.raises(MappingFailed, match="too large"):
        compile_path(query).values(wide(MAX_WORK // 100))


def test_a_filter_that_looks_into_its_items_takes_large_payloads_too() -> None:
    assert len(compile_path("$.items[?@.id >= 0 && @[?@ >= 0]].id").values(wide(20_000))) == 20_000


def test_a_filter_of_deliveries_is_asked_once_and_may_search_a_large_payload() -> None:
    assert compile_when("count($[0].items[*]) == 20000").holds(wide(20_000))

    with pytest.raises(MappingFailed, match="too large"):
        compile_when("@.items[?@ == $[0].items[0]] || $[0].items[?count($..id) > 1]").holds(wide(20_000))


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("a.c", ["abc", "a\u2028c"]),
        (r"a\.c", ["a.c"]),
        ("a[.]c", ["a.c"]),
        ("a[^.]c", ["abc", "a\u2028c", "a\rc", "a\nc"]),
        ("(?s)a.c", ["abc", "a\u2028c", "a\rc", "a\nc", "a.c"]),
    ],
)
def test_a_dot_in_a_pattern_is_any_character_but_a_line_end(pattern: str, matches: list[str]) -> None:
    texts = ["abc", "a\u2028c", "a\rc", "a\nc", "a.c"]
    expected = [*matches, "a.c"] if pattern == "a.c" else matches

    assert compile_path(f"$[?match(@, {json.dumps(pattern)})]").values(texts) == expected


@pytest.mark.parametrize(
    "query",
    [
        "$[?!'a']",
        "$[?!1]",
        "$[?!!@.a]",
        "$[?!@.a == 1]",
        "$[?@.a && length(@)]",
        "$[?count(@.*) || @.a]",
        "$[?(length(@))]",
        "$[?(1)]",
        "$[?(@.a == 1) == true]",
        "$[?@.a == (@.b == 1)]",
        "$[?(@.a) == 1]",
        "$[?@.a == 1 == 1]",
        "$[?@.b[?!'a']]",
        "$[?count(@[?(1)]) > 1]",
        "$[?@.a == 1e400]",
        "$[?@.a == -1e400]",
        "$.\ud800",
        "$['\\uD8\ud80000']",
    ],
)
def test_what_the_grammar_has_no_place_for_is_refused(query: str) -> None:
    with pytest.raises(PathSyntax) as refused:
        compile_path(query)

    assert 0 <= refused.value.index < len(query)


@pytest.mark.parametrize(
    "query",
    [
        "$[?!@.a]",
        "$[?!(@.a == 1)]",
        "$[?((@.a))]",
        "$[?(@.a || @.b) && !@.c]",
        "$[?!match(@.a, 'x')]",
        "$[?(match(@, 'x'))]",
        "$[?-1 == @]",
    ],
)
def test_what_the_grammar_has_a_place_for_is_taken(query: str) -> None:
    compile_path(query)


ITEMS: list[Any] = [0, "", False, None, [], {}, 1, [2, 3]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("$[?@]", ITEMS),
        ("$[?!@]", []),
        ("$[?count(@) == 1]", ITEMS),
        ("$[?value(@) == 1]", [1]),
        ("$[?value(@) == 0 || value(@) == '']", [0, ""]),
        ("$[?@ == null]", [None]),
        ("$[?length(@) == 0]", ["", [], {}]),
        ("$[?@[?@ == $[7][0]]]", [[2, 3]]),
        ("$[?@[?$[6] == 1]]", [[2, 3]]),
    ],
)
def test_a_filter_asks_about_the_item_and_the_whole_payload(query: str, found: list[Any]) -> None:
    assert compile_path(query).values(ITEMS) == found


def test_half_a_character_matches_no_pattern_and_is_none() -> None:
    assert compile_path("$[?match(@[0], @[1])]").values([["a", "\ud800"], ["\ud800", "."]]) == []


def test_a_filter_of_a_filter_knows_the_root() -> None:
    payload = {"wanted": 1, "items": [{"kids": [{"id": 1}]}, {"kids": [{"id": 2}]}]}

    assert compile_path("$.items[?@.kids[?@.id == $.wanted]]").values(payload) == [payload["items"][0]]
    assert compile_when("@.items[?@.kids[?@.id == $[0].wanted]]").holds(payload)
    assert not compile_when("@.items[1:][?@.kids[?@.id == $[0].wanted]]").holds(payload)
