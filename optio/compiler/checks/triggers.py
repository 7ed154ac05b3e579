"""Triggers: at most one of each type."""

from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic, Related, finding
from optio.compiler.resolved_task import ResolvedTask
from optio.model.route import Route


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """The second of a type is the one that is too many."""
    first: dict[str, int] = {}
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index)
        if not task.knows(route):
            continue
        other = first.setdefault(trigger.type, index)
        if other != index:
            place = ("triggers", other, "type")
            yield finding(
                "OPT320",
                f"a second `{trigger.type}` trigger",
                path=task.document.path_at((*route, "type")),
                span=task.span((*route, "type")),
                route=(*route, "type"),
                hint="a task has at most one of each type: delete one, or make it a task of its own",
                related=(Related("first here", task.document.path_at(place), task.span(place)),),
            )
