"""Claims: what a task says that another file could contradict. Plain data, for they are handed from process to process and kept
on disks, so checks across files see them alone; a check that must know more of each task adds it here.
"""

from collections.abc import Iterator
from typing import NamedTuple

from optio.compiler.resolve import ResolvedTask
from optio.compiler.source import Span
from optio.model.route import Route
from optio.model.trigger import WebhookTrigger


class Place(NamedTuple):
    """Where a value stands in the task's own file."""

    route: Route
    span: Span


class Hook(NamedTuple):
    """A webhook's path."""

    path: str
    place: Place


class Claim(NamedTuple):
    """The task in the file `path`; `named` is what its id comes from, or None when that is wrong."""

    path: str
    id: str
    named: Place | None
    hooks: tuple[Hook, ...] = ()


def claim(task: ResolvedTask) -> Claim:
    """What a task says."""
    route = ("id",) if task.spec.id else ("name",)
    return Claim(task.path, task.id, _place(task, route) if task.knows(route) else None, tuple(_hooks(task)))


def _hooks(task: ResolvedTask) -> Iterator[Hook]:
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index, "config", "path")
        if isinstance(trigger, WebhookTrigger) and task.knows(route):
            yield Hook(trigger.config.path, _place(task, route))


def _place(task: ResolvedTask, route: Route) -> Place:
    """Of what a template wrote, the place that names the template."""
    own = task.document.path_at(route) == task.path
    return Place(route, task.span(route if own else ("extends",)))
