"""One slip in a clean file is one finding: each key with a letter too few, each value of another kind, each at its place."""

import random
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.pipeline import compile_tree
from optio.compiler.source import SourceFile, Span
from optio.compiler.source_tree import MemoryTree
from optio.compiler.yaml.document import parse
from optio.compiler.yaml.nodes import Node, span_of
from optio.model.route import Route
from tests.corpus.corpus import clean_files, companions

CLEAN = clean_files()
SHARED = companions(CLEAN)
PATHS = [path for path in CLEAN if path.endswith((".yaml", ".yml")) and path not in SHARED and b"\r" not in CLEAN[path]]
# Where names are the author's own.
OWN = {"properties", "paramMapping", "env", "expect", "$defs", "dependentRequired"}
OTHER_KIND = "[[1]]"


class Slip(NamedTuple):
    """A file with one thing written otherwise, and where that was."""

    path: str
    route: Route
    text: str
    span: Span


def places(node: Node, route: Route = ()) -> Iterator[tuple[Route, Node | None, Node]]:
    """Each route with its key and its value, as they are written; what an alias stands for is written elsewhere."""
    if node.id == "mapping":
        for key, value in node.value:
            yield (*route, key.value), key, value
            if value.start_mark.index > key.end_mark.index:
                yield from places(value, (*route, key.value))
    elif node.id == "sequence":
        for index, value in enumerate(node.value):
            yield (*route, index), None, value
            yield from places(value, (*route, index))


def keys(path: str) -> Iterator[Slip]:
    document, _ = parse(SourceFile(path, CLEAN[path]))
    assert document is not None
    for route, key, _ in places(document.root):
        if key is not None and len(key.value) > 4 and not key.style and not OWN & set(map(str, route[:-1])):
            at = key.start_mark.index
            text = document.text[:at] + key.value[:-2] + key.value[-1] + document.text[key.end_mark.index :]
            start, end = span_of(key, document.text)
            yield Slip(path, route, text, Span(start, end._replace(column=end.column - 1)))


def values(path: str) -> Iterator[Slip]:
    document, _ = parse(SourceFile(path, CLEAN[path]))
    assert document is not None
    for route, key, value in places(document.root):
        at, end = value.start_mark.index, value.end_mark.index
        plain = value.id == "scalar" and value.style not in ("|", ">") and document.text[at : at + 1] not in ("&", "*", "!")
        behind = key is None or at > key.end_mark.index
        if plain and behind and "\n" not in document.text[at:end] and not {"paramsSchema", "literal", "expect"} & set(route):
            yield Slip(path, route, document.text[:at] + OTHER_KIND + document.text[end:], span_of(value, document.text))


def found(slip: Slip) -> list[Diagnostic]:
    """What is found beyond what the clean file has."""
    files = {**SHARED, slip.path: CLEAN[slip.path]}
    before = Counter((d.path, d.code) for d in compile_tree(MemoryTree(files)).diagnostics)
    new = []
    for each in compile_tree(MemoryTree({**files, slip.path: slip.text.encode()})).diagnostics:
        before[each.path, each.code] -= 1
        if before[each.path, each.code] < 0:
            new.append(each)
    return new


KEYS = [slip for path in PATHS for slip in keys(path)]
VALUES = [slip for path in PATHS for slip in values(path)]


@pytest.mark.parametrize("number", range(6))
def test_a_key_with_a_letter_too_few_is_one_finding_at_the_key(number: int) -> None:
    for slip in random.Random(number).sample(KEYS, 40):
        new = found(slip)

        if slip.route[-1] != "$defs":  # what is no definition any more is missed where it is referred to
            shown = [(d.code, d.path, d.span) for d in new if d.code != "OPT709"]
            assert [(path, span) for _, path, span in shown] == [(slip.path, slip.span)], (slip.route, shown)
            assert shown[0][0] in ("OPT101", "OPT221", "OPT430")


@pytest.mark.parametrize("number", range(6))
def test_a_value_of_another_kind_is_one_finding_at_the_value(number: int) -> None:
    for slip in random.Random(number).sample(VALUES, 40):
        new = [d for d in found(slip) if slip.route != ("type",) or d.code != "OPT102"]

        assert len({(d.path, d.span.start.line) for d in new}) == 1, (slip.path, slip.route, new)
        assert new[0].path == slip.path
        assert slip.span.start <= new[0].span.start
        assert new[0].span.start.column <= slip.span.start.column + len(OTHER_KIND)


def test_there_are_enough_slips() -> None:
    assert len(KEYS) > 1_000
    assert len(VALUES) > 800
