"""Strict JSON: what is taken, what is refused, and where it says the fault is."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from optio.errors import Malformed
from optio.model.json_body import MAX_DEPTH, decode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
)


@given(VALUES)
def test_what_another_library_writes_is_read(value: Any) -> None:
    assert decode(json.dumps(value).encode()) == value


@example([False] * MAX_DEPTH, None)
@example([False] * (MAX_DEPTH + 1), None)
@example([True] * MAX_DEPTH, {})
@given(st.lists(st.booleans(), max_size=MAX_DEPTH + 5), st.sampled_from([None, 1, "[{", [], {}]))
def test_so_many_levels_are_read_and_not_one_more(objects: list[bool], innermost: Any) -> None:
    value = innermost
    for is_object in objects:
        value = {"[": value} if is_object else [value]
    data = json.dumps(value).encode()
    levels = len(objects) + (innermost in ([], {}))

    if levels <= MAX_DEPTH:
        assert decode(data) == value
    else:
        with pytest.raises(Malformed, match=r"^the body is nested deeper than 64 levels$"):
            decode(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b'{"a":\n 1', "input data was truncated"),
        (b'{"a": NaN}', "invalid character at line 1, column 7"),
        (b'{"a": 1e999}', "number out of range"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "integer value out of range"),
        (b'{"a": "\\ud800 is half a character"}', "unexpected end of escaped utf-16 surrogate pair at line 1, column 14"),
        ('{\n  "a": 1,\n  "ü": x}'.encode(), "invalid character at line 3, column 8"),
        (b"{} {}", "trailing characters at line 1, column 5"),
        (b'\xef\xbb\xbf{"a": 1}', "it begins with a byte order mark"),
        ('{"a": "é"}'.encode("latin-1"), "it is not UTF-8"),
    ],
)
def test_what_is_refused_says_why_and_where(data: bytes, why: str) -> None:
    with pytest.raises(Malformed) as refused:
        decode(data, "`push.json`")

    assert str(refused.value) == f"`push.json` is not JSON: {why}"


def test_brackets_without_end_are_refused_in_our_words() -> None:
    with pytest.raises(Malformed, match="nested deeper"):
        decode(b"[" * 100_000)


def test_of_a_doubled_key_the_last_value_counts() -> None:
    assert decode(b'{"a": 1, "a": 2}') == {"a": 2}
