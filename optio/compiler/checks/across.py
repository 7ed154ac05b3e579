"""Whole tree: what only several files together can get wrong."""

from collections.abc import Iterator, Sequence

from optio.compiler.diagnostics import Diagnostic, Related, finding
from optio.compiler.resolve import ResolvedTask


def check_across(tasks: Sequence[ResolvedTask]) -> Iterator[Diagnostic]:
    """Duplicate ids and webhook paths; the first file in path order keeps them."""
    yield from _duplicate_ids(tasks)


def _duplicate_ids(tasks: Sequence[ResolvedTask]) -> Iterator[Diagnostic]:
    first: dict[str, ResolvedTask] = {}
    for task in tasks:
        other = first.setdefault(task.id, task)
        if other is not task:
            route = ("id",) if task.spec.id else ("name",)
            yield finding(
                "OPT701",
                f"the id `{task.id}` is taken by {other.path}",
                path=task.path,
                span=task.span(route),
                route=route,
                hint="give one of them another name, or an `id:`",
                related=(Related("also here", other.path, other.span(("id",) if other.spec.id else ("name",))),),
            )
