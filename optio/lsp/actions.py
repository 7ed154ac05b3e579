"""Code actions: quick fixes of findings, comments that ignore them, and "fix all". Each edit is tried before it is offered."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import accumulate
from typing import NamedTuple

from optio.compiler.diagnostics import Diagnostic, Edit, Severity
from optio.compiler.edits.text_edits import apply_edits
from optio.compiler.fixes import fix_tree
from optio.compiler.source import Position, Span
from optio.lsp.pages import OpenPage
from optio.lsp.positions import DocumentLines
from optio.lsp.trees import LspOptions

_MAX_COMPARED_LINES = 4_000


class FileAction(NamedTuple):
    """Edits of one file that a user can choose. `found` is the finding they resolve, if any; `preferred` marks safe fixes."""

    title: str
    path: str
    edits: tuple[Edit, ...]
    found: Diagnostic | None = None
    preferred: bool = False
    fix_all: bool = False


def diagnostic_actions(page: OpenPage, diagnostics: Sequence[Diagnostic], options: LspOptions) -> Iterator[FileAction]:
    """Yield the actions for these findings of a page: first their fixes, then comments that ignore the warnings."""
    for diagnostic in diagnostics:
        if diagnostic.fix is not None:
            what = _fix_title(diagnostic)
            title = (
                what
                if diagnostic.fix.safe
                else f"{what} (a guess)"
                if diagnostic.fix.checked
                else f"{what} (a guess, not checked)"
            )
            yield FileAction(title, diagnostic.path, diagnostic.fix.edits, diagnostic, preferred=diagnostic.fix.safe)
    for diagnostic in diagnostics:
        if diagnostic.severity is not Severity.ERROR:
            edit = ignore_comment_edit(page, diagnostic, options)
            if edit is not None:
                yield FileAction(f"Ignore {diagnostic.code} {diagnostic.rule} here", edit[0], (edit[1],), diagnostic)


def _fix_title(diagnostic: Diagnostic) -> str:
    edits = () if diagnostic.fix is None or diagnostic.fix.safe else diagnostic.fix.edits
    if len(edits) == 1 and edits[0].text and "\n" not in edits[0].text:
        return f"Write `{edits[0].text}`"
    hint = diagnostic.hint or diagnostic.message
    return hint[:1].upper() + hint[1:]


def fix_all(page: OpenPage) -> FileAction | None:
    """Return one action with every safe fix of the page, or None if there is nothing to fix."""
    if page.tree is None or not page.is_yaml:
        return None
    result = fix_tree(page.tree.only(page.path), unsafe=False)
    data = result.files.get(page.path)
    if data is None:
        return None
    edits = tuple(line_edits(page.lines.text, DocumentLines(data.decode("utf-8", "surrogatepass")).text))
    return FileAction("Fix all that is safe to fix", page.path, edits, fix_all=True) if edits else None


def line_edits(before: str, after: str) -> Iterator[Edit]:
    """Yield the edits that turn one text into the other, line by line."""
    lines = DocumentLines(before)
    old, new = _lines_with_ends(before), _lines_with_ends(after)
    starts = list(accumulate(map(len, old), initial=0))
    if max(len(old), len(new)) > _MAX_COMPARED_LINES:
        yield Edit(Span(lines.position(0), lines.position(len(before))), after)
        return
    for tag, i, j, k, m in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if tag != "equal":
            yield Edit(Span(lines.position(starts[i]), lines.position(starts[j])), "".join(new[k:m]))


def _lines_with_ends(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def ignore_comment_edit(page: OpenPage, diagnostic: Diagnostic, options: LspOptions) -> tuple[str, Edit] | None:
    """Return (path, edit) of a comment that silences the finding, in the file where it belongs. Compiles the result before
    offering it."""
    if page.tree is None:
        return None
    path = page.path
    text, route = page.text, diagnostic.route
    if not page.is_yaml:
        user = next(iter(page.users()), None)
        if user is None:
            return None
        path, route = user.path, ("promptFile",)
        text = DocumentLines((page.tree.read(path) or b"").decode("utf-8", "replace")).text
    lines, before = text.split("\n"), page.tree.alone(path, options)[1]
    for line in _comment_lines(page, diagnostic, route, text):
        edit = _comment_edit(lines, line, diagnostic.code)
        data = apply_edits(text.encode("utf-8", "surrogatepass"), [edit])
        after = page.tree.alone(path, options, data)[1]
        # A finding that needs several files does not show in one alone: then there is nothing to compare.
        is_ignored = _count(before, diagnostic) > _count(after, diagnostic) or not _count(before, diagnostic)
        if is_ignored and _errors(after) <= _errors(before):
            return path, edit
    return None


def _comment_lines(page: OpenPage, diagnostic: Diagnostic, route: tuple[str | int, ...], text: str) -> Iterator[int]:
    """Yield lines above which the comment may stand: the line of the finding, then those of the keys around it."""
    if page.is_yaml:
        yield diagnostic.span.start.line
    else:
        for index, line in enumerate(text.split("\n")):
            if line.startswith("promptFile"):
                yield index + 1
        return
    while route:
        entry = page.entry(route)
        if entry is not None:
            yield page.lines.position(entry.start).line
        route = route[:-1]


def _comment_edit(lines: list[str], line: int, code: str) -> Edit:
    """Insert a line, or add the code to a comment that stands there already."""
    line_above = lines[line - 2] if line > 1 else ""
    begin = line_above.find("# optio: ignore[")
    if line_above.lstrip().startswith("# optio: ignore[") and "]" in line_above:
        at = Position(line - 1, line_above.index("]", begin) + 1)
        return Edit(Span(at, at), f", {code}")
    own_line = lines[line - 1]
    indent = own_line[: len(own_line) - len(own_line.lstrip(" "))]
    at = Position(line, 1)
    return Edit(Span(at, at), f"{indent}# optio: ignore[{code}] \n")


def _count(diagnostics: Sequence[Diagnostic], wanted_diagnostic: Diagnostic) -> int:
    return sum(
        diagnostic.code == wanted_diagnostic.code and diagnostic.path == wanted_diagnostic.path for diagnostic in diagnostics
    )


def _errors(diagnostics: Sequence[Diagnostic]) -> int:
    return sum(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics)
