"""What holds of every tree of files, whatever stands in them."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from xml.etree import ElementTree

from optio.compiler import exchange
from optio.compiler import report as reports
from optio.compiler.diagnostics import Diagnostic, Severity, apply_strict
from optio.compiler.pipeline import Compilation, compile_tree
from optio.compiler.source import Position, Span
from optio.compiler.source_tree import MemoryTree
from optio.plan import document, markdown, report
from optio.plan.compare import Plan, compare_sides
from optio.plan.effect import Forecast
from optio.plan.findings import plan_diagnostics
from optio.plan.side import compile_side

OUTLOOK = Forecast(now=datetime(2026, 1, 31, 12, tzinfo=UTC))


class Broken(AssertionError):
    """Something that must always hold does not."""


def must(holds: bool, what: str, *about: object) -> None:
    """Raises Broken, with what it is about."""
    if not holds:
        raise Broken(f"{what}: {about!r}")


def text_of(data: bytes) -> str:
    """A file as an editor shows it."""
    return data.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def compiles(files: Mapping[str, bytes], *, pedantic: bool = False) -> tuple[Compilation, float]:
    """The compilation and the seconds of work that it took."""
    start = time.process_time()
    compilation = compile_tree(MemoryTree(files), pedantic=pedantic)
    work = time.process_time() - start
    lines = {path: text_of(data).split("\n") for path, data in files.items()}
    for each in compilation.diagnostics:
        must("\n" not in each.message + (each.hint or ""), "a message is one line", each)
        must(each.path in files, "a finding is in a file of the tree", each)
        is_inside(each.span, lines[each.path], each)
        for related in each.related:
            is_inside(related.span, lines[related.path], each)
        for edit in each.fix.edits if each.fix is not None else ():
            is_inside(edit.span, lines[each.path], each)
    errors = {d.path for d in compilation.diagnostics if d.severity is Severity.ERROR}
    must(compilation.ok == (not errors), "a compilation with errors is not sound", errors)
    must(not errors or bool(compilation.broken), "an error breaks a file", errors)
    return compilation, work


def is_inside(span: Span, lines: list[str], about: Diagnostic) -> None:
    """The place is one that an editor can go to."""
    must(span.start <= span.end, "a place ends behind its start", about)
    for at in span:
        must(1 <= at.line <= len(lines) or at == Position(len(lines) + 1, 1), "a line of the file", about, len(lines))
        longest = len(lines[at.line - 1]) if at.line <= len(lines) else 0
        must(1 <= at.column <= longest + 1, "a column of the line", about, longest)


def prints(compilation: Compilation, files: Mapping[str, bytes]) -> None:
    """Every form of report can be read by what reads it."""
    for found in (compilation.diagnostics, apply_strict(compilation.diagnostics)):
        for line in (*reports.render_concise(found), *reports.render_full(found, lambda path: text_of(files.get(path, b"")))):
            must("\n" not in line, "a line of a report is one line", line)
        shown = json.loads(reports.render_json(found, files=1, tasks=0).encode("utf-8", "surrogatepass"))
        must(len(shown["diagnostics"]) == len(found), "JSON holds every finding", shown)
        run = json.loads(exchange.sarif(found).encode("utf-8", "surrogatepass"))["runs"][0]
        must(len(run["results"]) == len(found), "SARIF holds every finding", run)
        must(all("\n" not in line for line in exchange.github(found)), "an annotation is one line")
        root = ElementTree.fromstring(exchange.junit(found, list(files)).encode("utf-8", "surrogatepass"))  # noqa: S314
        must(len(root.findall(".//testcase")) == len(files), "JUnit holds every file")


def compares(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Plan:
    """A plan of a change can be read in every form; a tree and itself differ in nothing."""
    old, new = compile_side(MemoryTree(before)), compile_side(MemoryTree(after))
    plan = compare_sides(old, new, OUTLOOK)
    for line in report.render_lines(plan, seen, verbose=True):
        must("\n" not in line and line.isprintable(), "a line of a plan can be printed", line)
    markdown.render_markdown(plan, seen).encode("utf-8", "surrogatepass")
    shown = json.loads(json.dumps(document.plan_document(plan, seen)))
    must(len(shown["tasks"]) == len(plan.changes), "JSON holds every change", shown)
    found = list(plan_diagnostics(plan, MemoryTree(after), busy={}, allow_prune=False))
    json.loads(exchange.sarif(found).encode("utf-8", "surrogatepass"))
    lines = {path: text_of(data).split("\n") for path, data in {**before, **after}.items()}
    for each in found:
        is_inside(each.span, lines[each.path], each)
    for one in (old, new):
        must(not compare_sides(one, one, OUTLOOK).effects, "a tree and itself do the same")
    return plan


def seen(path: str, *, gone: bool = False) -> str:
    """A path as a plan shows it."""
    return f"old/{path}" if gone else path
