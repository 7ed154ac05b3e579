"""What we write is what we read, and what any other YAML reader reads."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from optio.compiler.source import SourceFile
from optio.compiler.yaml.document import parse
from optio.compiler.yaml.emit import dump, flow
from optio.model.registry import canonical
from tests.compiler.values import documents, texts


def read(text: str) -> Any:
    document, found = parse(SourceFile("a.yaml", text.encode()))
    assert document is not None, [d.message for d in found]
    assert found == [], text
    return document.value


@given(documents())
def test_a_document_comes_back_as_it_was(value: dict[str, Any]) -> None:
    text = dump(value)

    assert canonical(read(text)) == canonical(value)


@given(documents())
def test_a_reader_of_yaml_1_1_reads_the_same(value: dict[str, Any]) -> None:
    text = dump(value)

    assert canonical(yaml.safe_load(text)) == canonical(value)


@given(documents())
def test_a_value_on_one_line_comes_back_as_it_was(value: dict[str, Any]) -> None:
    text = flow(value)

    assert "\n" not in text
    assert canonical(read(f"x: {text}\n")["x"]) == canonical(value)


@given(st.lists(texts(), min_size=1))
def test_texts_come_back_as_they_were(values: list[str]) -> None:
    assert read(dump({"x": values}))["x"] == values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain words, and more", "plain words, and more"),
        ("0 9 * * 1", "'0 9 * * 1'"),
        ("$.repository.name", "$.repository.name"),
        ("no", "'no'"),
        ("1e3", "'1e3'"),
        ("a: b", "'a: b'"),
        ("it's", "it's"),
        ("{{X}}", "'{{X}}'"),
        ("one\ntwo\n", "|\n  one\n  two"),
        ("one\n\n  two", "|-\n  one\n\n    two"),
        ([], "[]"),
        ({}, "{}"),
        ([{"a": 1, "b": [2]}], "\n  - a: 1\n    b:\n      - 2"),
        (20, "20"),
        (True, "true"),
        (None, "null"),
    ],
)
def test_files_read_as_people_write_them(value: Any, text: str) -> None:
    assert dump({"x": value}) == f"x:{'' if text.startswith(chr(10)) else ' '}{text}\n"
