"""Which errors of a changed file are new."""

import pytest

from optio.compiler.diagnostics import Diagnostic, Edit, Severity
from optio.compiler.edits.new_errors import has_new_errors
from optio.compiler.source import Position, Span
from optio.model.route import Route

TEXT = "name: A\nenv: {A: b}\ntriggers:\n  - type: webhok\n    config:\n      path: x\nmaxTurns: 3\n"


def error(line: int, code: str = "OPT101", message: str = "wrong", *, route: Route = (), more: int = 0) -> Diagnostic:
    span = Span(Position(line, 1), Position(line, 2))
    return Diagnostic(code=code, message=message, path="a.yaml", span=span, route=route, more=more)


def edit(first: int, last: int, text: str) -> Edit:
    """These lines become another text."""
    return Edit(Span(Position(first, 1), Position(last, len(TEXT.split("\n")[last - 1]) + 1)), text)


@pytest.mark.parametrize(
    ("before", "after", "edits"),
    [
        ([error(2)], [error(2, "OPT103", "other")], [edit(2, 2, "environment: {A: b}")]),
        ([error(3)], [error(6, "OPT105", "below")], [edit(3, 3, "triggers:")]),
        ([error(7)], [error(6)], [edit(2, 2, "")]),
        ([error(4, "OPT321", route=("triggers", 0, "type"))], [error(1, "OPT404", "no", route=("triggers", 0, "secret"))], []),
        ([error(2, more=3)], [error(7, message="one of the three")], []),
        ([error(2)], [error(6, "OPT103", "moved")], [edit(2, 6, "\n".join([*TEXT.split("\n")[2:6], "env: {A: b}"]))]),
    ],
    ids=["on the line", "below the key", "the same", "of the trigger", "folded", "moved with its line"],
)
def test_what_an_error_hid_is_not_new(before: list[Diagnostic], after: list[Diagnostic], edits: list[Edit]) -> None:
    assert not has_new_errors(before, after, TEXT, edits)


@pytest.mark.parametrize(
    ("before", "after", "edits"),
    [
        ([error(2)], [error(7, "OPT105", "elsewhere")], [edit(2, 2, "environment: {A: b}")]),
        ([error(2)], [error(4, "OPT105", "shifted")], [edit(2, 2, "environment:\n  A: b")]),
        ([error(2)], [error(2, "OPT105", "beside")], [edit(2, 6, "\n".join([*TEXT.split("\n")[2:6], "env: {A: b}"]))]),
        ([error(4)], [error(5, "OPT105", "sibling")], []),
        ([], [error(1)], []),
    ],
    ids=["elsewhere", "below what grew", "moved beside it", "beside it in an item", "none before"],
)
def test_an_error_at_another_place_is_new(before: list[Diagnostic], after: list[Diagnostic], edits: list[Edit]) -> None:
    assert has_new_errors(before, after, TEXT, edits)


def test_warnings_are_no_errors() -> None:
    found = Diagnostic(code="OPT011", message="unused", path="a.yaml", severity=Severity.WARNING)

    assert not has_new_errors([], [found], TEXT, [])
