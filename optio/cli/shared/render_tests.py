"""The results of `optio test` as text and as JSON."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from optio.cli.shared import render_run
from optio.cli.shared.display_path import display_path
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
        """Return a path of the tree as it is shown."""
        return display_path(self.root, path)

    def errors(self) -> list[Diagnostic]:
        """Return the errors of the files that were named."""
        return [replace(d, path=self.seen(d.path)) for d in self.report.compilation.diagnostics if self._counts(d)]

    def _counts(self, diagnostic: Diagnostic) -> bool:
        paths = {path for tested in self.report.tested for path, _ in tested.task.document.texts}
        return diagnostic.severity is Severity.ERROR and (diagnostic.path in paths or self.named(diagnostic.path))


def text(trees: list[TreeResults], covered: list[Coverage], *, is_selection: bool) -> Iterator[str]:
    """Yield all results as lines. `is_selection` means that tests were selected: that none is found does not mean that none
    exists."""
    results = [result for tree in trees for result in tree.report.results]
    for tree in trees:
        for tested in tree.report.tested:
            if tested.results:
                yield f"{tested.task.id}  {render_run.coloured(tree.seen(tested.task.path), '2')}"
                yield from (line for result in tested.results for line in _lines(result, tree))
    for tree in trees:
        yield from (f"wrote {tree.seen(update.path)}{' (new)' if update.new else ''}" for update in tree.written)
    if covered:
        yield from _coverage_lines(trees, covered)
    yield "no tests" if is_selection and not results else _summary(results)


def _lines(result: ExampleResult, tree: TreeResults) -> Iterator[str]:
    mark = render_run.coloured("ok  ", "32") if result.passed else render_run.coloured("FAIL", "31")
    yield f"  {mark}  {render_run.safe(result.name)}"
    for failure in result.failures:
        yield render_run.safe(f"        {tree.seen(failure.path)}:{failure.line}: {failure.message}")
        yield from (f"          {_coloured(line)}" for line in failure.diff)


def _coloured(line: str) -> str:
    style = {"-": "31", "+": "32", "@": "36"}.get(line[:1])
    return render_run.safe(line) if style is None else render_run.coloured(render_run.safe(line), style)


def _coverage_lines(trees: list[TreeResults], coverages: list[Coverage]) -> Iterator[str]:
    trees_by_task = {tested.task.id: tree for tree in trees for tested in tree.report.tested}
    width = max(len(covered.task_id) for covered in coverages)
    yield "coverage"
    for covered in coverages:
        hits, total = len(covered.items) - len(covered.missing), len(covered.items)
        share = f"{percentage(covered.items):5.0f}%  {hits} of {total}" if total else "  nothing to try"
        yield f"  {covered.task_id:<{width}}  {share}"
        for item in covered.missing:
            yield render_run.safe(f"    {trees_by_task[covered.task_id].seen(item.path)}:{item.line}: not tried: {item.text}")
        if covered.deliveries is not None:
            yield f"    by what the sender publishes, {covered.deliveries.text}"
    if len(coverages) > 1:
        items = [item for covered in coverages for item in covered.items]
        yield f"  {'in all':<{width}}  {percentage(items):5.0f}%  {sum(i.tried for i in items)} of {len(items)}"


def _summary(results: list[ExampleResult]) -> str:
    if not results:
        return "no tests: write some under a task's `tests:`"
    failed = sum(not result.passed for result in results)
    count = f"{len(results):,} test{'s' * (len(results) != 1)}"
    return f"{count}: all passed" if not failed else f"{count}: {len(results) - failed:,} passed, {failed:,} failed"


def document(trees: list[TreeResults], coverages: list[Coverage]) -> dict[str, object]:
    """Return all results as a JSON object."""
    tests = [_test(result, tested, tree) for tree in trees for tested in tree.report.tested for result in tested.results]
    values: dict[str, object] = {
        "tests": tests,
        "passed": sum(bool(test["passed"]) for test in tests),
        "failed": sum(not test["passed"] for test in tests),
        "written": [tree.seen(update.path) for tree in trees for update in tree.written],
    }
    if coverages:
        trees_by_task = {tested.task.id: tree for tree in trees for tested in tree.report.tested}
        values["coverage"] = {
            "percent": round(percentage([item for covered in coverages for item in covered.items]), 2),
            "tasks": [
                {
                    "taskId": covered.task_id,
                    "percent": round(percentage(covered.items), 2),
                    "deliveries": None if covered.deliveries is None else covered.deliveries._asdict(),
                    "items": [
                        {"text": i.text, "path": trees_by_task[covered.task_id].seen(i.path), "line": i.line, "tried": i.tried}
                        for i in covered.items
                    ],
                }
                for covered in coverages
            ],
        }
    return values


def _test(result: ExampleResult, tested: TaskResults, tree: TreeResults) -> dict[str, object]:
    judgement = None if result.trial is None else result.trial.judgement
    return {
        "taskId": tested.task.id,
        "name": result.name,
        "path": tree.seen(tested.task.path),
        "line": result.line,
        "passed": result.passed,
        "verdict": None if judgement is None else judgement.verdict,
        "detail": None if judgement is None else judgement.detail,
        "failures": [_failure(failure, tree) for failure in result.failures],
    }


def _failure(failure: ExampleFailure, tree: TreeResults) -> dict[str, object]:
    return {
        "path": tree.seen(failure.path),
        "line": failure.line,
        "message": failure.message,
        "diff": list(failure.diff),
    }
