"""Whole tree: what only several files together can get wrong."""

from collections.abc import Iterator, Sequence

from optio.compiler.diagnostics import Diagnostic, Related, finding
from optio.compiler.resolve import ResolvedTask
from optio.model.route import Route
from optio.model.trigger import WebhookTrigger


def check_across(tasks: Sequence[ResolvedTask]) -> Iterator[Diagnostic]:
    """Duplicate ids and webhook paths; the first file in path order keeps them."""
    yield from _duplicate_ids(tasks)
    yield from _duplicate_paths(tasks)


def _duplicate_ids(tasks: Sequence[ResolvedTask]) -> Iterator[Diagnostic]:
    first: dict[str, ResolvedTask] = {}
    for task in tasks:
        if not (task.knows(("name",)) if task.spec.id is None else task.knows(("id",))):
            continue
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


def _duplicate_paths(tasks: Sequence[ResolvedTask]) -> Iterator[Diagnostic]:
    first: dict[str, tuple[ResolvedTask, Route]] = {}
    for task in tasks:
        for index, trigger in enumerate(task.spec.triggers):
            route: Route = ("triggers", index, "config", "path")
            if not isinstance(trigger, WebhookTrigger) or not task.knows(route):
                continue
            path = trigger.config.path
            other, there = first.setdefault(path.strip("/").lower(), (task, route))
            if other is not task:
                yield finding(
                    "OPT402",
                    f"the webhook path `{path}` is taken by {other.path}",
                    path=task.path,
                    span=task.span(route),
                    route=route,
                    hint="choose another path",
                    related=(Related("also here", other.path, other.span(there)),),
                )
