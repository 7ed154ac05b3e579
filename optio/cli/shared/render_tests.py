"""The results of `optio test` as text and as JSON."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from optio.cli.shared import render_run
from optio.compiler.diagnostics import Diagnostic, Severity
from optio.testing.coverage import Coverage, percentage
from optio.testing.run import ExampleFailure, ExampleResult, SnapshotUpdate, TaskResults, TreeReport


@dataclass(frozen=True)
class TreeResults:
    """The test results of one tree, and the snapshots that were written."""

    root: Path
    named: Callable[[str], bool]
    report: TreeReport
    written: list[SnapshotUpdate]

    def seen(self, path: str) -> str:
        """Return a path of the tree relative to the working directory."""
        inside = self.root.absolute().is_relative_to(Path.cwd())
        return os.path.relpath(self.root / path) if inside else os.path.join(self.root, path)

    def errors(self) -> list[Diagnostic]:
        """Return the errors of the files that were named."""
        return [replace(d, path=self.seen(d.path)) for d in self.report.compilation.diagnostics if self._counts(d)]

    def _counts(self, diagnostic: Diagnostic) -> bool:
        mine = {path for each in self.report.tested for path, _ in each.task.document.texts}
        return diagnostic.severity is Severity.ERROR and (diagnostic.path in mine or self.named(diagnostic.path))


def text(done: list[TreeResults], covered: list[Coverage], *, chosen: bool) -> Iterator[str]:
    """Yield all results as lines. `chosen` means that tests were selected, so that none found does not mean that none exist."""
    results = [result for each in done for result in each.report.results]
    for one in done:
        for each in one.report.tested:
            if each.results:
                yield f"{each.task.id}  {render_run.coloured(one.seen(each.task.path), '2')}"
                yield from (line for result in each.results for line in _lines(result, one))
    for one in done:
        yield from (f"wrote {one.seen(each.path)}{' (new)' if each.new else ''}" for each in one.written)
    if covered:
        yield from _coverage_lines(done, covered)
    yield "no tests" if chosen and not results else _summary(results)


def _lines(result: ExampleResult, done: TreeResults) -> Iterator[str]:
    mark = render_run.coloured("ok  ", "32") if result.passed else render_run.coloured("FAIL", "31")
    yield f"  {mark}  {render_run.safe(result.name)}"
    for failure in result.failures:
        yield render_run.safe(f"        {done.seen(failure.path)}:{failure.line}: {failure.message}")
        yield from (f"          {_coloured(line)}" for line in failure.diff)


def _coloured(line: str) -> str:
    style = {"-": "31", "+": "32", "@": "36"}.get(line[:1])
    return render_run.safe(line) if style is None else render_run.coloured(render_run.safe(line), style)


def _coverage_lines(done: list[TreeResults], covered: list[Coverage]) -> Iterator[str]:
    seen = {each.task.id: one for one in done for each in one.report.tested}
    width = max(len(each.task_id) for each in covered)
    yield "coverage"
    for each in covered:
        tried, total = len(each.items) - len(each.missing), len(each.items)
        share = f"{percentage(each.items):5.0f}%  {tried} of {total}" if total else "  nothing to try"
        yield f"  {each.task_id:<{width}}  {share}"
        for item in each.missing:
            yield render_run.safe(f"    {seen[each.task_id].seen(item.path)}:{item.line}: not tried: {item.text}")
        if each.deliveries is not None:
            yield f"    by what the sender publishes, {each.deliveries.text}"
    if len(covered) > 1:
        items = [item for each in covered for item in each.items]
        yield f"  {'in all':<{width}}  {percentage(items):5.0f}%  {sum(i.tried for i in items)} of {len(items)}"


def _summary(results: list[ExampleResult]) -> str:
    if not results:
        return "no tests: write some under a task's `tests:`"
    failed = sum(not result.passed for result in results)
    count = f"{len(results):,} test{'s' * (len(results) != 1)}"
    return f"{count}: all passed" if not failed else f"{count}: {len(results) - failed:,} passed, {failed:,} failed"


def document(done: list[TreeResults], covered: list[Coverage]) -> dict[str, object]:
    """Return all results as a JSON object."""
    tests = [_test(result, each, one) for one in done for each in one.report.tested for result in each.results]
    found: dict[str, object] = {
        "tests": tests,
        "passed": sum(bool(test["passed"]) for test in tests),
        "failed": sum(not test["passed"] for test in tests),
        "written": [one.seen(each.path) for one in done for each in one.written],
    }
    if covered:
        seen = {each.task.id: one for one in done for each in one.report.tested}
        found["coverage"] = {
            "percent": round(percentage([item for each in covered for item in each.items]), 2),
            "tasks": [
                {
                    "taskId": each.task_id,
                    "percent": round(percentage(each.items), 2),
                    "deliveries": None if each.deliveries is None else each.deliveries._asdict(),
                    "items": [
                        {"text": i.text, "path": seen[each.task_id].seen(i.path), "line": i.line, "tried": i.tried}
                        for i in each.items
                    ],
                }
                for each in covered
            ],
        }
    return found


def _test(result: ExampleResult, tested: TaskResults, done: TreeResults) -> dict[str, object]:
    got = None if result.trial is None else result.trial.judgement
    return {
        "taskId": tested.task.id,
        "name": result.name,
        "path": done.seen(tested.task.path),
        "line": result.line,
        "passed": result.passed,
        "verdict": None if got is None else got.verdict,
        "detail": None if got is None else got.detail,
        "failures": [_failure(failure, done) for failure in result.failures],
    }


def _failure(failure: ExampleFailure, done: TreeResults) -> dict[str, object]:
    return {
        "path": done.seen(failure.path),
        "line": failure.line,
        "message": failure.message,
        "diff": list(failure.diff),
    }
