"""The tolerant reader: as the compiler's own on what is YAML, and of some use on what is not yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optio.compiler.source import SourceFile
from optio.compiler.yaml.document import parse
from optio.compiler.yaml.nodes import walk
from optio.lsp.outline import CursorContext, CursorPlace, ValueStyle, context, entries, entry_at
from optio.model.route import Route
from tests.lsp.opened import HERE
from tests.support import ROOT

# Aliases, merge keys, tags, explicit keys and separators of lines: what this reader does not follow.
NOT_FOLLOWED = ("&", "<<:", "!", "? ", "\u2028")
# Cases that are no YAML; of two equal keys one has to win.
NO_YAML = ("OPT001", "OPT002", "OPT004", "OPT005", "OPT010", "OPT013", "OPT014", "OPT015", "OPT018", "OPT022")
# A whole file that is one text, and a text that looks like a list.
ONE_TEXT = ("whole-file", "text-at-root", "missing-comma", "dashes-without-blanks")


def is_followed(path: Path) -> bool:
    """Whether a file is YAML that this reader follows."""
    if path.parent.name.startswith(NO_YAML) or path.stem in ONE_TEXT:
        return False
    return not any(sign.encode() in path.read_bytes() for sign in NOT_FOLLOWED)


FILES = sorted(
    path
    for pattern in ("tasks.d/**/*.yaml", "examples/**/*.yaml", "tests/cases/*/*.yaml")
    for path in ROOT.glob(pattern)
    if is_followed(path)
)
TASK = (ROOT / "examples" / "weekly-security-report" / "tasks.d" / "weekly-security-report.yaml").read_text()


def scalars(text: str) -> dict[Route, int] | None:
    """Where the compiler's reader finds each scalar; None for what is no YAML, or has what this reader does not follow."""
    document, _ = parse(SourceFile("a.yaml", text.encode()))
    if document is None or any(sign in text for sign in NOT_FOLLOWED):
        return None
    return {
        route: node.start_mark.index for route, node in walk(document.root, ()) if route and node.id == "scalar" and node.value
    }


def test_it_finds_what_the_compiler_finds() -> None:
    assert len(FILES) > 900
    wrong = {}
    for path in FILES:
        text = path.read_bytes().decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        wanted = scalars(text)

        found = {entry.route: entry for entry in entries(text)}

        starts = {route: found[route].value if route in found else None for route in wanted or ()}
        if not wanted or starts != wanted:
            wrong[f"{path.parent.name}/{path.stem}"] = starts
    assert wrong == {}


KEYS = st.sampled_from(["a", "b", "key", "a b", "x-1", "'q'", '"d"'])
PLAIN = st.sampled_from(["1", "text", "two words", "a:b", "'it''s'", '"x \\" y"', "{{NAME}}x", "$.a[0]", "-5", "a#b"])


@st.composite
def block(draw: st.DrawFn, depth: int = 0) -> list[str]:
    """The lines of a mapping or a list."""
    lines: list[str] = []
    kind = draw(st.sampled_from(["map", "list"])) if depth else "map"
    for key in draw(st.lists(KEYS, min_size=1, max_size=3, unique_by=lambda key: key.strip("'\""))):
        head = f"{key}:" if kind == "map" else "-"
        shape = draw(st.sampled_from(["plain", "flow", "text", "deeper", "comment"] if depth < 3 else ["plain", "flow"]))
        if shape == "deeper":
            below = draw(block(depth + 1))
            if kind == "list" and draw(st.booleans()):
                lines += [f"- {below[0]}", *(f"  {line}" for line in below[1:])]
            else:
                lines += [head, *(f"  {line}" for line in below)]
        elif shape == "text":
            lines += [f"{head} |", "  some: text", "", "    - more"]
        elif shape == "flow":
            lines.append(f"{head} {{x: [1, {{y: 'z, w'}}], u: v}}")
        else:
            value = draw(PLAIN)
            quotes = value.startswith(("{", "$")) and '"' not in value
            lines.append(f'{head} "{value}"' if quotes else f"{head} {value}")
            if shape == "comment":
                lines[-1] += "  # a: comment"
                lines.append("# another: one")
    return lines


@given(block())
@settings(max_examples=200)
def test_it_finds_what_the_compiler_finds_in_any_nesting(lines: list[str]) -> None:
    text = "\n".join(lines) + "\n"
    wanted = scalars(text)

    found = {entry.route: entry for entry in entries(text)}

    if wanted is not None:
        assert {route: found[route].value if route in found else None for route in wanted} == wanted


@given(st.text("ab:- \n{}[],'\"|>#&*!?%@`\t😀", max_size=60))
@settings(max_examples=400)
def test_no_text_is_too_much_for_it(text: str) -> None:
    for entry in entries(text):
        assert 0 <= entry.start <= entry.end <= len(text)
        assert 0 <= entry.value <= entry.stop <= len(text)
    for offset in range(len(text) + 1):
        found = context(text, offset)
        assert found.start + len(found.word) == offset


@given(st.integers(0, len(TASK)), st.integers(0, 12))
@settings(max_examples=100)
def test_what_is_above_a_gap_stays_what_it_was(begin: int, length: int) -> None:
    cut = TASK[:begin] + TASK[begin + length :]
    line = TASK.rfind("\n", 0, begin) + 1

    before = [entry for entry in entries(TASK) if entry.stop < line - 1 and entry.kind is ValueStyle.SCALAR]

    assert set(before) <= set(entries(cut))


PLACES: list[tuple[str, CursorPlace, Route, str]] = [
    (HERE, CursorPlace.KEY, (), ""),
    (f"na{HERE}", CursorPlace.KEY, (), "na"),
    (f"name: A\n{HERE}\nid: x\n", CursorPlace.KEY, (), ""),
    (f"agentRuntime: cl{HERE}", CursorPlace.VALUE, ("agentRuntime",), "cl"),
    (f"agentRuntime: {HERE}\nname: x\n", CursorPlace.VALUE, ("agentRuntime",), ""),
    (f'budgetUsd: "2.{HERE}', CursorPlace.VALUE, ("budgetUsd",), "2."),
    (f"environment:\n  {HERE}", CursorPlace.KEY, ("environment",), ""),
    (f"environment:\n  image: x\n  {HERE}", CursorPlace.KEY, ("environment",), ""),
    (f"environment:\n  image: x\n{HERE}", CursorPlace.KEY, (), ""),
    (f"environment:\n  network:\n    {HERE}\n", CursorPlace.KEY, ("environment", "network"), ""),
    (f"triggers:\n  - {HERE}", CursorPlace.KEY, ("triggers", 0), ""),
    (f"triggers:\n- ty{HERE}", CursorPlace.KEY, ("triggers", 0), "ty"),
    (f"triggers:\n  - type: manual\n  - type: sch{HERE}", CursorPlace.VALUE, ("triggers", 1, "type"), "sch"),
    (f"triggers:\n  - type: webhook\n    {HERE}", CursorPlace.KEY, ("triggers", 0), ""),
    (
        f"triggers:\n  - type: webhook\n    config:\n      {HERE}\n  - type: manual",
        CursorPlace.KEY,
        ("triggers", 0, "config"),
        "",
    ),
    (f"triggers:\n  - type: webhook\n    config: {{path: x, {HERE}}}", CursorPlace.KEY, ("triggers", 0, "config"), ""),
    (
        f"triggers:\n  - type: webhook\n    config: {{scheme: g{HERE}",
        CursorPlace.VALUE,
        ("triggers", 0, "config", "scheme"),
        "g",
    ),
    (f"a: {{b: [x, {{c: '{HERE}\nname: x\n", CursorPlace.VALUE, ("a", "b", 1, "c"), ""),
    (f"promptTemplate: |\n  Say {{{{{HERE}\n", CursorPlace.TEXT, ("promptTemplate",), "  Say {{"),
    (f"promptTemplate: |\n  Say\n\n  {HERE}\n", CursorPlace.TEXT, ("promptTemplate",), "  "),
    (f"promptTemplate: |\n  Say\n\n{HERE}\n", CursorPlace.KEY, (), ""),
    (f"name: x # not {HERE}", CursorPlace.NOTHING, (), ""),
    (f"# not {HERE}", CursorPlace.NOTHING, (), ""),
]


@pytest.mark.parametrize(("text", "where", "route", "word"), PLACES)
def test_it_knows_what_belongs_at_a_place(text: str, where: CursorPlace, route: Route, word: str) -> None:
    offset = text.index(HERE)

    found = context(text.replace(HERE, ""), offset)

    assert (found.where, found.route, found.word) == (where, route, word)
    assert isinstance(found, CursorContext)


def test_a_key_and_its_value_are_both_its_place() -> None:
    text = "a:\n  b: one\n  c: [two, three]\n"
    found = entries(text)

    def route(needle: str) -> Route | None:
        entry = entry_at(found, text.index(needle))
        return None if entry is None else entry.route

    assert route("b") == route("one") == ("a", "b")
    assert route("three") == ("a", "c", 1)
    assert route(": [") == ("a", "c")


def indented_lines() -> Iterator[str]:
    yield "promptTemplate: |\n" + "  x\n" * 50_000


@pytest.mark.parametrize("text", [*indented_lines(), "- " * 20_000, "{" * 20_000, "a: [" + "1, " * 30_000, "k: v\n" * 20_000])
def test_large_and_deep_texts_take_time_in_proportion(text: str) -> None:
    assert entries(text) is not None
    assert context(text, len(text)).start <= len(text)


def test_a_text_inside_closed_braces_does_not_go_on_in_the_line_below() -> None:
    text = 'tests:\n  - expect: {promptContains: ["a"]}\n   : more\n'

    (found,) = (entry for entry in entries(text) if entry.route[-1:] == (0,) and entry.kind is ValueStyle.SCALAR)

    assert text[found.value : found.stop] == '"a"'
