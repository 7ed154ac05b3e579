"""What holds of fixes, of whatever tree: what they write can be read, is no worse, and is all that they changed.

A new error is one of a code and a place that the tree did not have. Places are compared by their route, and by their line as
it was before. Only two kinds of error may come to light:

- of a file that could not be read: the reader said the first thing only;
- at a place that had an error: what stands there was not looked at, or is now another thing.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any

import yaml

from optio.compiler import fixes
from optio.compiler.diagnostics import Diagnostic, Edit, Severity
from optio.compiler.pipeline import Compilation
from optio.compiler.source import Position, SourceFile, position_at
from optio.compiler.source_tree import SUFFIXES, MemoryTree, OverlayTree
from optio.compiler.yaml.document import parse
from optio.compiler.yaml.nodes import span_of
from tests.fuzz.always import compiles, must, text_of

_BREAK = re.compile(r"(?<=\n)|(?<=\r)(?!\n)")
_COMMENT = re.compile(r"(?:^|(?<=[ \t\n]))#[^\n]*")
_HEADER = re.compile(r"[|>][-+0-9]*[ \t]*")
# Rules whose fix is that a line, a comment or a part of one goes, or becomes part of the value.
# A trigger of an unknown type is not looked at, whatever its other keys say.
_OF_WHOLE_MAPPING = frozenset({"OPT321"})
_TAKES_COMMENTS = frozenset({"OPT113", "OPT704", "OPT709", "OPT710", "OPT021", "OPT016", "OPT005", "OPT225"})


def mends(files: Mapping[str, bytes], before: Compilation, *, unsafe: bool) -> int:
    """All of it; returns how much was fixed."""
    if not any(d.fix is not None and (unsafe or d.fix.safe) for d in before.diagnostics):
        return 0
    tree = MemoryTree(files)
    with checked() as seen:
        done = fixes.fix_tree(tree, unsafe=unsafe)
    again = fixes.fix_tree(OverlayTree(tree, dict(done.files)), unsafe=unsafe)
    must(not again.files, "what was fixed needs no fix", shown(done.files), shown(again.files))
    now, _ = compiles({**files, **done.files})
    must(now.diagnostics == done.compilation.diagnostics, "what is left is what is found anew", shown(done.files))
    for path, data in done.files.items():
        must(path in files, "only files of the tree are changed", path)
        if not path.endswith(SUFFIXES):
            continue  # a prompt's own file
        is_readable(path, data)
        keeps_comments(path, files[path], data, seen.chosen)
        keeps_values(path, files[path], data, [*before.diagnostics, *seen.chosen])
    brings_nothing(files, done.files, before, now)
    return done.count


def shown(files: Mapping[str, bytes]) -> dict[str, str]:
    """Files as somebody can read them in a failure."""
    return {path: data.decode("utf-8", "replace") for path, data in files.items()}


class checked:
    """While it is entered, every application of edits is held against a plain reading of what edits are."""

    def __enter__(self) -> "checked":
        self.apply, self.fixable = fixes.apply_edits, fixes.compatible_fixes
        self.chosen: list[Diagnostic] = []

        def apply(data: bytes, edits: Any) -> bytes:
            chosen = list(edits)
            after = self.apply(data, chosen)
            keeps_lines(data, after, chosen)
            return after

        def fixable(found: Any, *, unsafe: bool) -> list[Diagnostic]:
            chosen = self.fixable(found, unsafe=unsafe)
            self.chosen += chosen
            return chosen

        fixes.apply_edits, fixes.compatible_fixes = apply, fixable
        return self

    def __exit__(self, *_: object) -> None:
        fixes.apply_edits, fixes.compatible_fixes = self.apply, self.fixable


def keeps_lines(before: bytes, after: bytes, edits: list[Edit]) -> None:
    """Lines that no edit touches are there as they were, ends and all, in their order."""
    old = _BREAK.split(before.decode("utf-8"))
    touched = {
        n
        for e in edits
        for n in range(e.span.start.line, e.span.end.line + (e.span.end.column > 1 or e.span.start == e.span.end))
    }
    rest = after.decode("utf-8")
    parts: list[str] = [""]
    for number, line in enumerate(old, 1):
        if number in touched:
            parts.append("")
        else:
            parts[-1] += line
    must(rest.startswith(parts[0]) and rest.endswith(parts[-1]), "the beginning and the end stay", before, after)
    at = 0
    for part in parts:
        found = rest.find(part, at)
        must(found >= 0, "untouched lines stay byte for byte", part, before.decode(), after.decode())
        at = found + len(part)


def is_readable(path: str, data: bytes) -> None:
    """The YAML can be read."""
    document, found = parse(SourceFile(path, data))
    must(document is not None, "what was fixed can be read", found, data.decode("utf-8", "replace"))


def _nodes(text: str) -> list[yaml.Node] | None:
    """Every node once, however often an alias names it; None where the text is no YAML."""
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError):
        return None
    stack, found = [root] if root is not None else [], dict[int, yaml.Node]()
    while stack:
        node = stack.pop()
        if id(node) not in found:
            found[id(node)] = node
            parts = () if isinstance(node, yaml.ScalarNode) else node.value
            stack += [each for part in parts for each in (part if isinstance(part, tuple) else (part,))]
    return list(found.values())


def comments(text: str) -> Counter[str]:
    """Every comment: a `#` behind a blank that is in no scalar."""
    covered = bytearray(len(text) + 1)
    nodes = _nodes(text)
    if nodes is None:
        return Counter()
    for node in nodes:
        if isinstance(node, yaml.ScalarNode):
            start, end = node.start_mark.index, node.end_mark.index
            if node.style in ("|", ">"):
                header = _HEADER.search(text, start, end)
                start = text.find("\n", start, end) if header and text[header.end() : header.end() + 1] == "#" else start
                end = start + len(text[start:end].rstrip())
                end = text.find("\n", end) if text.find("\n", end) >= 0 else len(text)
            covered[start:end] = b"\1" * (end - start)
    found, at = Counter[str](), 0
    while (comment := _COMMENT.search(text, at)) is not None:
        if covered[comment.start()]:
            at = comment.start() + 1
        else:
            found[comment[0].rstrip()] += 1
            at = comment.end()
    return found


def keeps_comments(path: str, old: bytes, new: bytes, chosen: Iterable[Diagnostic]) -> None:
    """No comment goes, but where that is what the fix says."""
    if any(d.code in _TAKES_COMMENTS and d.path == path for d in chosen):
        return
    lost = comments(text_of(old)) - comments(text_of(new))
    must(not lost, "comments stay", lost, old.decode("utf-8", "replace"), new.decode("utf-8", "replace"))


def keeps_values(path: str, old: bytes, new: bytes, found: Iterable[Diagnostic]) -> None:
    """A value changes, or goes, only at a place that something was found at. An empty list or mapping may be filled."""
    first, _ = parse(SourceFile(path, old))
    last, _ = parse(SourceFile(path, new))
    if first is None or last is None:
        return
    was, now = dict(leaves(first.value, ())), dict(leaves(last.value, ()))
    mine = [d for d in found if d.path == path]
    if any(d.more or d.code == "OPT016" for d in mine):
        return  # some places are not told; and what nobody sees may end a text, or make a key another
    # Where an item goes, those behind it have other numbers.
    routes = [d.route[:-1] if d.code in _OF_WHOLE_MAPPING or isinstance(d.route[-1], int) else d.route for d in mine if d.route]
    lines = {n for d in mine for n in range(d.span.start.line, d.span.end.line + 1)}
    ends = dict(entries(text_of(old)))
    for route, value in was.items():
        same = (
            route in now
            and (now[route] == value or now[route] != now[route] or value != value)
            and type(now[route]) is type(value)
        ) or (value in ([], {}) and any(len(one) > len(route) and _is_above(route, one) for one in now))
        if same or any(_is_above(one, route) or _is_above(route, one) for one in routes):
            continue
        key, span = first.key_span(route).start, first.span(route)
        near = range(min(key.line, span.start.line), max(span.end.line, ends.get(span.start, 0), ends.get(key, 0)) + 1)
        must(any(n in lines for n in near), "a value stays", route, value, now.get(route), old.decode(), new.decode())


def leaves(value: Any, route: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Everything that is no mapping and no list, with its route."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*route, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, (*route, index))
    else:
        yield route, value


def entries(text: str) -> Iterator[tuple[Position, int]]:
    """Where each key, value and item begins, with the last line of its entry."""
    for node in _nodes(text) or ():
        for part in () if isinstance(node, yaml.ScalarNode) else node.value:
            both = part if isinstance(part, tuple) else (part,)
            end = max(len(text[: each.end_mark.index].rstrip()) for each in both)
            for each in both:
                yield span_of(each, text).start, position_at(text, end).line


def _is_above(one: tuple[str | int, ...], other: tuple[str | int, ...]) -> bool:
    return other[: len(one)] == one


def brings_nothing(files: Mapping[str, bytes], fixed: Mapping[str, bytes], before: Compilation, after: Compilation) -> None:
    """No new error in any file; see the head of the module."""
    old = [d for d in before.diagnostics if d.severity is Severity.ERROR]
    for path in {d.path for d in after.diagnostics if d.severity is Severity.ERROR}:
        mine = [d for d in old if d.path == path]
        if parse(SourceFile(path, files[path]))[0] is None and path.endswith(SUFFIXES):
            continue
        lines = origins(files[path], fixed.get(path, files[path]))
        ends: dict[Position, int] = {}
        for at, line in entries(text_of(files[path])):
            ends[at] = max(line, ends.get(at, 0))
        for each in after.diagnostics:
            if each.path == path and each.severity is Severity.ERROR:
                is_known = any(_is_same_place(each, other, lines, ends) for other in mine)
                must(
                    is_known,
                    "a fix brings no error",
                    str(each),
                    [(d.code, d.route, d.span.start) for d in mine],
                    shown(files),
                    shown(fixed),
                )


def origins(old: bytes, new: bytes) -> dict[int, set[int]]:
    """For each line of the new text, the lines of the old one that it was."""
    before, after = text_of(old).split("\n"), text_of(new).split("\n")
    if before == after:
        return {number: {number} for number in range(1, len(after) + 2)}
    found: dict[int, set[int]] = {len(after) + 1: {len(before) + 1}}
    for kind, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        for number in range(k, m):
            own = {i + number - k + 1} if kind == "equal" else set(range(i + 1, max(j, i + 1) + 1))
            # It may have come from elsewhere.
            found[number + 1] = own | {n for n, line in enumerate(before, 1) if line.strip() == after[number].strip() != ""}
    return found


def _is_same_place(new: Diagnostic, old: Diagnostic, lines: Mapping[int, set[int]], ends: Mapping[Position, int]) -> bool:
    if old.more and old.code == new.code:
        return True
    if not new.route and not old.route and (new.code, new.message) == (old.code, old.message):  # of the file as a whole
        return True
    route = old.route[:-1] if old.code in _OF_WHOLE_MAPPING else old.route
    if new.route and old.route and (_is_above(route, new.route) or _is_above(new.route, route)):
        return True
    was = {n for line in range(new.span.start.line, new.span.end.line + 1) for n in lines.get(line, ())}
    last = max(old.span.end.line, ends.get(old.span.start, 0))
    return any(old.span.start.line <= n <= last for n in was)
