"""Places in a text, as the compiler and as an editor count them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.compiler.source import Position, position_at
from optio.lsp.positions import DocumentLines

PIECES = st.sampled_from(["a", " ", "\n", "\r", "\r\n", "é", "€", "😀", "\u2028", "\x85", "\ufeff"])
UNITS = ("utf-8", "utf-16", "utf-32")
TEXTS = st.lists(PIECES, max_size=30).map("".join)


def length(text: str, units: str) -> int:
    width = {"utf-8": 1, "utf-16": 2, "utf-32": 4}[units]
    return len(text.encode("utf-8" if units == "utf-8" else f"{units}-le")) // width


@given(TEXTS, st.sampled_from(UNITS))
def test_every_place_is_found_again(raw: str, units: str) -> None:
    lines = DocumentLines(raw, units)

    for offset in range(len(lines.text) + 1):
        at = position_at(lines.text, offset)
        line, unit = lines.to_editor(at)
        assert lines.position(offset) == at
        assert lines.offset(at) == offset
        assert lines.from_editor(line, unit) == at
        mark = length("\ufeff", units) if line == 0 and raw.startswith("\ufeff") else 0
        assert unit == mark + length(lines.lines[line][: at.column - 1], units)


@given(TEXTS, st.sampled_from(UNITS), st.integers(0, 40), st.integers(0, 200))
def test_a_place_that_is_not_there_becomes_one_that_is(raw: str, units: str, line: int, unit: int) -> None:
    lines = DocumentLines(raw, units)

    at = lines.from_editor(line, unit)

    assert 1 <= at.line <= len(lines.lines)
    assert 1 <= at.column <= len(lines.lines[at.line - 1]) + 1


@pytest.mark.parametrize(("units", "unit"), [("utf-8", 6), ("utf-16", 4), ("utf-32", 3)])
def test_an_emoji_counts_as_the_editor_counts_it(units: str, unit: int) -> None:
    lines = DocumentLines("x😀y\n", units)

    assert lines.to_editor(Position(1, 4)) == (0, unit)
    assert lines.from_editor(0, unit) == Position(1, 4)


def test_the_middle_of_a_character_is_its_beginning() -> None:
    assert DocumentLines("😀y").from_editor(0, 1) == Position(1, 1)


def test_a_byte_order_mark_is_the_editors_and_not_ours() -> None:
    lines = DocumentLines("\ufeffname: x\r\nid: y\r\n")

    assert lines.text == "name: x\nid: y\n"
    assert lines.to_editor(Position(1, 1)) == (0, 1)
    assert lines.to_editor(Position(2, 1)) == (1, 0)
