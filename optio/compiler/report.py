"""Render diagnostics for `optio check`: text with an excerpt of the source, one line each, or JSON."""

import json
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from optio.compiler.diagnostics import Diagnostic, Severity

COLOURS = {Severity.ERROR: "31;1", Severity.WARNING: "33;1", Severity.INFO: "36;1"}
Excerpt = Callable[[str], str | None]
MAX_LINE_LENGTH = 160


def render_full(diagnostics: Sequence[Diagnostic], text_of: Excerpt, *, colour: bool = False) -> Iterator[str]:
    """Yield the lines of the detailed form: a headline, the source line with carets, and the hint below them. `text_of` returns
    the text of a file, or None."""

    def paint(style: str, text: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if colour else text

    path, lines = None, list[str]()
    for d in diagnostics:
        place = f"{printable_path(d.path)}:{d.span.start.line}:{d.span.start.column}"
        yield f"{paint('1', place)}: {paint(COLOURS[d.severity], d.severity.value)}: {d.message} [{d.code} {d.rule}]"
        if d.path != path:
            text = text_of(d.path)
            path, lines = d.path, text.split("\n") if text is not None else []
        if d.span.start.line <= len(lines) and not d.more:
            source_line = lines[d.span.start.line - 1]
            end = d.span.end.column - 1 if d.span.end.line == d.span.start.line else len(source_line)
            line, start, end = _around(source_line, d.span.start.column - 1, end)
            number = str(d.span.start.line)
            before, width = _width(line[:start]), max(1, _width(line[start:end]))
            gutter = " " * len(number)
            yield f" {paint('34', number + ' |')} {line}"
            carets = paint(COLOURS[d.severity], "^" * width)
            yield f" {paint('34', gutter + ' |')} {' ' * before}{carets}" + (f" {d.hint}" if d.hint else "")
        elif d.hint:
            yield f"   {d.hint}"
        for related in d.related:
            yield f"   {printable_path(related.path)}:{related.span.start.line}:{related.span.start.column}: {related.message}"
        yield ""


def render_concise(diagnostics: Sequence[Diagnostic]) -> Iterator[str]:
    """Yield one line for each finding: `path:line:column: severity: message [CODE rule] (hint)`."""
    for d in diagnostics:
        hint = f" ({d.hint})" if d.hint else ""
        place = f"{printable_path(d.path)}:{d.span.start.line}:{d.span.start.column}"
        yield f"{place}: {d.severity.value}: {d.message} [{d.code} {d.rule}]{hint}"


def render_json(diagnostics: Sequence[Diagnostic], *, files: int, tasks: int) -> str:
    """Return the documented JSON form of `optio check --format json`, with the findings and the summary."""
    document = {"diagnostics": [d.to_json() for d in diagnostics], "summary": summary(diagnostics, files, tasks)}
    return json.dumps(document, indent=2, ensure_ascii=False)


def summary(diagnostics: Sequence[Diagnostic], files: int, tasks: int) -> dict[str, int]:
    """Return the counts by severity, of files, and of tasks, as the JSON form has them."""
    counts = {severity: sum(d.count for d in diagnostics if d.severity is severity) for severity in Severity}
    return {
        "files": files,
        "tasks": tasks,
        "errors": counts[Severity.ERROR],
        "warnings": counts[Severity.WARNING],
        "infos": counts[Severity.INFO],
    }


def render_summary(diagnostics: Sequence[Diagnostic], files: int, tasks: int) -> str:
    """Return the closing line for people, such as `2 errors, 1 warning in 5 files`."""
    counts = summary(diagnostics, files, tasks)
    counts_text = [
        f"{counts[name]:,} {name[:-1] if counts[name] == 1 else name}"
        for name in ("errors", "warnings", "infos")
        if counts[name]
    ]
    return f"{', '.join(counts_text) or 'no findings'} in {files} file{'s' if files != 1 else ''}"


def printable_path(path: str) -> str:
    """Return the path as one printable line. File names may contain line breaks and terminal escapes."""
    if path.isprintable():
        return path
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)


def _around(line: str, start: int, end: int) -> tuple[str, int, int]:
    """Return a line as it can be shown, and the new offsets of `start:end`. Of a long line only the surroundings are kept."""
    if len(line) <= MAX_LINE_LENGTH:
        return _visible(line), start, end
    first = min(start - MAX_LINE_LENGTH // 3, len(line) - MAX_LINE_LENGTH) if start > MAX_LINE_LENGTH // 2 else 0
    last = min(len(line), first + MAX_LINE_LENGTH)
    left, right = ("..." if first else ""), ("..." if last < len(line) else "")
    shift = len(left) - first
    return left + _visible(line[first:last]) + right, start + shift, min(end, last) + shift


def _visible(line: str) -> str:
    """Replace control and invisible characters by one visible sign each, so that carets stay in place."""
    if line.isprintable():
        return line
    return "".join(
        c if c.isprintable() else "\N{RIGHTWARDS ARROW TO BAR}" if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line
    )


def _width(text: str) -> int:
    """Return the number of terminal columns: two for wide characters, none for combining marks."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
