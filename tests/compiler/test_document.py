"""Values follow YAML 1.2, and every value can be found again in the text."""

from typing import Any

import pytest

from optio.compiler.source import Position, SourceFile, Span
from optio.compiler.yaml.document import Document, parse


def document(text: str | bytes) -> Document:
    data = text if isinstance(text, bytes) else text.encode()
    found, diagnostics = parse(SourceFile("a.yaml", data))
    assert found is not None, diagnostics
    return found


def span(line: int, start: int, end: int) -> Span:
    return Span(Position(line, start), Position(line, end))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("NO", "NO"),
        ("on", "on"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("22:22", "22:22"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("+1", 1),
        ("1.", 1.0),
        (".", "."),
        ("~", None),
        ("", None),
        ("Null", None),
        ("nULL", "nULL"),
        ("TRUE", True),
        ("tRUE", "tRUE"),
        ("'5'", "5"),
        ('"5"', "5"),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("=", "="),
        ("1.2.3", "1.2.3"),
        ("0b1", "0b1"),
    ],
)
def test_unquoted_texts_have_their_yaml_1_2_value(written: str, value: Any) -> None:
    assert document(f"a: {written}\n").value == {"a": value}


def test_a_huge_number_stays_a_text_and_costs_nothing() -> None:
    assert document("a: " + "9" * 100_000).value == {"a": "9" * 100_000}


def test_places_count_characters_not_bytes() -> None:
    found = document('\ufeffa: {x: "\U0001f680\u4f60", b: [1, two]}\r\n')

    assert found.span(("a", "b", 1)) == span(1, 21, 24)
    assert found.key_span(("a", "b")) == span(1, 14, 15)


def test_an_absent_value_is_looked_for_at_the_nearest_key() -> None:
    found = document("a:\n  b: {c: 1}\n")

    assert found.span(("a", "b", "missing", "deeper")) == found.key_span(("a", "b")) == span(2, 3, 4)
    assert found.span(("missing",)) == Span(Position(1, 1), Position(1, 1))


def test_a_block_value_is_shown_by_its_first_line() -> None:
    found = document("a: |\n  one\n  two\nb:\n  c: 1\n  d: 2\n")

    assert found.span(("a",)) == span(1, 4, 5)
    assert found.span(("b",)) == span(5, 3, 7)


def test_an_anchor_is_no_part_of_its_value() -> None:
    found = document("a: &x\n  &y b: &z\n    c: 1\nd: *x\n")

    assert found.span(("a", "b", "c")) == span(3, 8, 9)
    assert found.span(("d",)) == span(4, 4, 6)
    assert found.key_span(("a", "b")) == span(2, 6, 7)


def test_a_value_that_came_through_an_alias_is_the_anchors_value() -> None:
    found = document("a: &x {b: 1}\nc: *x\n")

    assert found.value == {"a": {"b": 1}, "c": {"b": 1}}
    assert found.span(("c", "b")) == found.span(("a", "b"))


def test_merged_keys_yield_to_the_mappings_own_and_to_earlier_ones() -> None:
    found = document("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {c: 3, <<: [*x, *y]}\n")

    assert found.value["z"] == {"c": 3, "a": 1, "b": 1}
    assert found.span(("z", "a")) == found.span(("x", "a"))


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_only_line_feeds_begin_a_line_as_in_editors(separator: str) -> None:
    found = document(f'a: "x{separator}y"\nb: 1\n')

    assert found.span(("b",)) == span(2, 4, 5)


def test_a_text_inside_a_scalar_is_found_where_it_is_written() -> None:
    found = document("p: |\n  {{A}} and\n  {{A}}\nq: \"x {{A}}\"\nr: 'it''s {{A}}'\n")

    assert found.find(("p",), "{{A}}", 1) == span(3, 3, 8)
    assert found.find(("q",), "{{A}}") == span(4, 7, 12)
    assert found.find(("r",), "{{A}}") == span(5, 11, 16)
    assert found.find(("q",), "not there") == found.span(("q",))


def test_characters_of_a_one_line_value_have_places_unless_escapes_hide_them() -> None:
    found = document('a: "0 9 * * 1"\nb: 0 9 * * 1\nc: "\\x30 9"\nd: &x "0 9"\n')

    assert found.inside(("a",), 2, 3) == span(1, 7, 8)
    assert found.inside(("b",), 2, 3) == span(2, 6, 7)
    assert found.inside(("c",), 2, 3) == found.span(("c",))
    assert found.inside(("d",), 2, 3) == span(4, 10, 11)
