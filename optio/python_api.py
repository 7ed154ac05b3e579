"""The functions and types that other Python programs may import from `optio` (see docs/reference/python.md). Nothing else in
the package is promised to stay. `optio/__init__.py` loads this module when one of the names is first used."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optio.compiler import pipeline
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.pipeline import Compilation
from optio.compiler.source_tree import DirectoryTree, MemoryTree, SourceTree
from optio.errors import Invalid
from optio.model.registry import CompiledTask, Registry
from optio.plan.compare import compare_sides
from optio.plan.document import plan_document
from optio.plan.effect import Forecast
from optio.plan.side import compile_side
from optio.runs.submit import prepare_run

__all__ = ["Compilation", "CompiledTask", "Diagnostic", "Invalid", "Registry", "compile_tree", "plan_change", "render"]


def compile_tree(
    source: str | Path | Mapping[str, str | bytes], *, strict: bool = False, executor: str | None = None
) -> Compilation:
    """Compile task files: those below a directory, or texts by path. The result has the tasks without errors and all findings.
    `strict` adds advice, and `executor` (`process`, `kubernetes`) adds findings about keys that it does not apply."""
    return pipeline.compile_tree(_tree(source), pedantic=strict, executor=executor)


def render(task: CompiledTask, params: Mapping[str, Any] | None = None) -> str:
    """Return the prompt that a run of the task would get, with defaults filled in. Raise Invalid, with one problem for each
    parameter that does not fit."""
    return prepare_run(task, params, new_id="", trigger="manual", actor="").prompt


def plan_change(
    before: str | Path | Mapping[str, str | bytes],
    after: str | Path | Mapping[str, str | bytes],
    *,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Return the effects of a change from one set of task files to another, as the document of `optio plan --format json`.
    Schedules are simulated for 30 days from `now`, which needs a time zone."""
    at = datetime.now(UTC) if now is None else now.astimezone(UTC)
    plan = compare_sides(
        compile_side(_tree(before)), compile_side(_tree(after)), Forecast(now=at.replace(second=0, microsecond=0))
    )
    return plan_document(plan, _same_path)


def _tree(source: str | Path | Mapping[str, str | bytes]) -> SourceTree:
    return MemoryTree(source) if isinstance(source, Mapping) else DirectoryTree(Path(source))


def _same_path(path: str, *, gone: bool = False) -> str:
    return path
