"""Comments that silence findings: `# optio: ignore[OPT414] reason`.

The comment stands behind a value, or above it on a line of its own. It covers that line, all lines of a multi-line text that
begins there, and on `promptFile:` the prompt's own file. Errors cannot be silenced, because their task is not served.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from optio.compiler.diagnostics import Diagnostic, Edit, Fix, Severity, diagnostic
from optio.compiler.layers import POLICY
from optio.compiler.source import Position, Span, span_at
from optio.compiler.yaml.document import Document
from optio.compiler.yaml.nodes import Node

if TYPE_CHECKING:
    from optio.compiler.rules.rule import Rule

MAX_CODES = 1_000
_PREFIX = "optio:"
_COMMENT = r"#[ \t]*optio:[ \t]*(?P<word>[\w-]*)(?P<codes>\[[^\]\n]*\])?[ \t]*(?P<reason>[^\n]*)"
_CODE = re.compile(r"[^\s,\[\]]+")
_COMMENT_LINE = r"[ \t]*(#.*)?"


class IgnoredCode(NamedTuple):
    """A rule's code in a comment, with its place."""

    name: str
    span: Span


class IgnoreComment(NamedTuple):
    """A comment with the codes that it names and the lines that it covers. `whole` is the span to delete with it, and
    `prompt_file` says that the prompt's own file is covered as well."""

    span: Span
    whole: Span
    codes: tuple[IgnoredCode, ...]
    reason: str
    lines: range
    prompt_file: bool

    def covers(self, finding: Diagnostic, path: str) -> bool:
        """Return True if the comment silences this finding; `path` is the file of the comment."""
        return any(code.name == finding.code for code in self.codes) and self.covers_place_of(finding, path)

    def covers_place_of(self, finding: Diagnostic, path: str) -> bool:
        """Return True if the comment would silence this finding if it named its rule."""
        if finding.path == path:
            return finding.span.start.line in self.lines
        return self.prompt_file and not finding.route


def find_ignores(document: Document) -> tuple[tuple[IgnoreComment, ...], list[Diagnostic]]:
    """Return the comments of a file, and findings about comments beyond `MAX_CODES`, which are not applied."""
    if _PREFIX not in document.text:
        return (), []
    found: list[IgnoreComment] = []
    count = 0
    for comment in _ignores(document):
        count += max(1, len(comment.codes))
        if count > MAX_CODES:
            message = f"more than {MAX_CODES:,} rules are ignored in this file: the comments from here on have no effect"
            hint = f"delete comments; `{POLICY}` turns a rule off for all files"
            return tuple(found), [diagnostic("OPT709", message, path=document.path, span=comment.span, hint=hint)]
        found.append(comment)
    return tuple(found), []


def _ignores(document: Document) -> Iterator[IgnoreComment]:
    text = document.text
    scalars = _ScalarRanges(document.root, text)
    lines = text.split("\n")
    below = 0  # the line that the comments above it speak of
    for match in re.finditer(_COMMENT, text):
        if scalars.hold(match.start()):
            continue
        span = span_at(text, match.start(), match.end())
        line = span.start.line
        before = lines[line - 1][: span.start.column - 1]
        # Blanks before the comment are deleted with it, and so is a line that holds nothing else.
        whole = Span(Position(line, len(before.rstrip()) + 1), span.end)
        if not before.strip():
            whole = Span(Position(line, 1), Position(line + 1, 1) if line < len(lines) else span.end)
            if below <= line:
                after = (n for n in range(line + 1, len(lines) + 1) if not re.fullmatch(_COMMENT_LINE, lines[n - 1]))
                below = next(after, len(lines) + 1)
            line = below if below <= len(lines) else line
        covered = range(line, max(line, scalars.last_line(line)) + 1)
        named = "promptFile" in lines[line - 1] and document.key_span(("promptFile",)).start.line == line
        codes = _codes(match, span.start) if match["word"] == "ignore" else ()
        yield IgnoreComment(span, whole, codes, match["reason"].strip(), covered, named)


def _codes(match: re.Match[str], start: Position) -> tuple[IgnoredCode, ...]:
    """Return the codes of a comment, which is on one line and begins at `start`."""
    if match["codes"] is None:
        return ()
    found = _CODE.finditer(match.string, match.start("codes"), match.end("codes"))
    shift = start.column - match.start()
    return tuple(
        IgnoredCode(each[0], Span(Position(start.line, each.start() + shift), Position(start.line, each.end() + shift)))
        for each in islice(found, MAX_CODES + 1)
    )


class _ScalarRanges:
    """The ranges of a document's texts, to tell a comment from a `#` inside a text."""

    def __init__(self, root: Node, text: str) -> None:
        held: dict[int, int] = {}
        self._last: dict[int, int] = {}
        for node in _scalars(root):
            start, end = node.start_mark, node.end_mark
            self._last[start.line + 1] = max(end.line, self._last.get(start.line + 1, 0))
            # A comment may stand behind the `|` that begins one.
            begin = text.find("\n", start.index) if node.style in ("|", ">") else start.index
            if begin >= 0:
                held[begin] = max(end.index, held.get(begin, 0))
        self._begins, self._ends = sorted(held), held

    def hold(self, offset: int) -> bool:
        """Return True if the character at `offset` is part of a text."""
        place = bisect_right(self._begins, offset)
        return place > 0 and offset < self._ends[self._begins[place - 1]]

    def last_line(self, line: int) -> int:
        """Return the last line of the multi-line texts that begin on this line, or 0 where there are none."""
        return self._last.get(line, 0)


def _scalars(node: Node) -> Iterator[Node]:
    if node.id == "scalar":
        yield node
    for part in node.value if node.id in ("sequence", "mapping") else ():
        for each in part if isinstance(part, tuple) else (part,):
            yield from _scalars(each)


def drop_ignored(
    found: Mapping[str, list[Diagnostic]], comments: Mapping[str, tuple[IgnoreComment, ...]], *, pedantic: bool = False
) -> dict[str, list[Diagnostic]]:
    """Return the findings of each file that no comment covers, plus findings about the comments themselves. A finding may be in
    another file, such as a prompt or a template, whose own comments cover it. Unused comments for pedantic rules are not
    reported unless `pedantic` is set."""
    used: set[tuple[int, str]] = set()
    left: dict[str, list[Diagnostic]] = {}
    for path, mine in found.items():
        left[path] = []
        for each in mine:
            covering = [
                c for place in dict.fromkeys((path, each.path)) for c in comments.get(place, ()) if c.covers(each, place)
            ]
            used |= {(id(comment), each.code) for comment in covering}
            if not covering or each.severity is Severity.ERROR:
                left[path].append(each)
    for path, own in comments.items():
        errors = [each for each in left.get(path, ()) if each.severity is Severity.ERROR and each.path == path]
        for comment in own:
            effective = {code.name for code in comment.codes if (id(comment), code.name) in used}
            below = {each.code for each in left.get(path, ()) if comment.covers_place_of(each, path)}
            left.setdefault(path, []).extend(_wrong(path, comment, effective, errors, below, pedantic))
    return left


def _wrong(
    path: str, comment: IgnoreComment, used_names: set[str], errors: list[Diagnostic], below: set[str], pedantic: bool
) -> Iterator[Diagnostic]:
    """Yield what is wrong with a comment. `below` are the rules that report something at its place."""
    from optio.compiler.rules.codes import RETIRED, RULES

    if not comment.codes:
        hint = "write `# optio: ignore[CODE] why`"
        yield diagnostic("OPT709", "the comment names no rule", path=path, span=comment.span, hint=hint)
        return
    for code in comment.codes:
        if code.name in RETIRED:
            continue  # an upgrade must not fail a check for a comment that was right
        if code.name not in RULES:
            hint, fix = _cure_for_unknown_rule(comment, code, None if errors else below, pedantic)
            yield diagnostic("OPT709", f"unknown rule `{code.name}`", path=path, span=code.span, hint=hint, fix=fix)
        elif code.name not in used_names:
            rule = RULES[code.name]
            if not _is_checked(rule, pedantic) or errors:
                continue
            message = f"this comment ignores nothing: no {code.name} {RULES[code.name].name} here"
            yield diagnostic("OPT709", message, path=path, span=code.span, hint="delete it", fix=_delete(comment, code))
        elif any(finding.code == code.name for finding in errors):
            message = f"an error cannot be ignored: {code.name} {RULES[code.name].name}"
            yield diagnostic("OPT709", message, path=path, span=code.span, hint="correct the mistake, and delete this comment")
    if not comment.reason:
        yield diagnostic(
            "OPT710",
            "the comment gives no reason",
            path=path,
            span=comment.span,
            hint="write why behind the bracket: `ignore[CODE] why`",
        )


def _is_checked(rule: "Rule", pedantic: bool) -> bool:
    return not rule.by_executor and (pedantic or not rule.pedantic)


def _cure_for_unknown_rule(
    comment: IgnoreComment, code: IgnoredCode, below: set[str] | None, pedantic: bool
) -> tuple[str, Fix | None]:
    """Return hint and fix for a code that no rule has, which may be another spelling of one. `below` is None where an error
    may hide findings."""
    from optio.compiler.rules.codes import RULES, suggest_code

    sure, near = suggest_code(code.name)
    if sure is None:
        return f"did you mean `{near}`?" if near else "delete it", None
    if below is None or not _is_checked(RULES[sure], pedantic):
        return f"write `{sure}`", None
    if sure in below:
        return f"write `{sure}`", Fix(Fix.write(sure, code.span).edits, checked=True)
    return f"delete it: `{sure}` reports nothing here", _delete(comment, code)


def _delete(comment: IgnoreComment, code: IgnoredCode) -> Fix:
    """Return the fix that deletes the whole comment, or one of its several codes with its comma. It silences nothing, so
    nothing comes to light without it."""
    index = comment.codes.index(code)
    if len(comment.codes) == 1:
        span = comment.whole
    elif index:
        span = Span(comment.codes[index - 1].span.end, code.span.end)
    else:
        span = Span(code.span.start, comment.codes[1].span.start)
    return Fix((Edit(span, ""),), checked=True)
