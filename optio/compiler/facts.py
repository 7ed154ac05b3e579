"""Claims: what a task says that another file could contradict. Plain data, for they are handed from process to process and kept
on disks, so checks across files see them alone; a check that must know more of each task adds it here.
"""

from collections.abc import Iterator
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source import Span
from optio.model.isolation import KEYS, POD, asked, not_applied
from optio.model.route import Route
from optio.model.trigger import ScheduleTrigger, WebhookTrigger


class Place(NamedTuple):
    """Where a value stands in the task's own file."""

    route: Route
    span: Span


class Hook(NamedTuple):
    """A webhook's path."""

    path: str
    place: Place


class When(NamedTuple):
    """A schedule that may start the task; `own` if the task's file has it, in a place where it
    can be written anew."""

    expression: str
    zone: str
    place: Place
    own: bool


class Spend(NamedTuple):
    """US dollars, as text, that the task's triggers may spend in a day and in 30 days, as far as they have a bound, and the key
    without which they have none."""

    day: str | None
    month: str | None
    lacks: str | None = None


class Cap(NamedTuple):
    """The most of such dollars of all tasks together, by the policy."""

    most: str
    place: Place


_ASKED: dict[str, Route] = {key: ("environment", *key.split(".")) for key in KEYS}
NO_CAPS: tuple[Cap | None, Cap | None] = (None, None)


class Claim(NamedTuple):
    """The task in the file `path`; `named` is what its id comes from, or None when that is wrong. `when` it starts is there
    for a careful check, what it may `spend` under a policy that caps all of them together; `caps` are that policy's own.
    `asks` are the keys of `environment` that isolate and that the executor does not apply, and the policy `demands` some of
    them to be applied; its `namespaces` are the patterns that it gives one."""

    path: str
    id: str
    named: Place | None
    hooks: tuple[Hook, ...] = ()
    when: When | None = None
    spend: Spend | None = None
    caps: tuple[Cap | None, Cap | None] = NO_CAPS
    asks: tuple[tuple[str, Place], ...] = ()
    demands: tuple[str, ...] = ()
    namespaces: tuple[Place, ...] = ()


def claim(
    task: ResolvedTask,
    *,
    careful: bool = False,
    executor: str | None = None,
    priced: bool = False,
    demands: tuple[str, ...] = (),
) -> Claim:
    """What a task says. `demands` are those of the policy. A tree whose policy demands pods is for them, wherever it is
    checked."""
    route = ("id",) if task.spec.id else ("name",)
    return Claim(
        task.path,
        task.id,
        _place(task, route) if task.knows(route) else None,
        tuple(_hooks(task)),
        _when(task) if careful else None,
        _spend(task) if priced else None,
        asks=() if executor is None or POD in demands else tuple(_asks(task, executor)),
        demands=demands,
    )


def _asks(task: ResolvedTask, executor: str) -> Iterator[tuple[str, Place]]:
    for key in not_applied(executor, asked(task.spec.environment)):
        route = _ASKED[key]
        if task.knows(route):
            yield key, _place(task, route)


def _when(task: ResolvedTask) -> When | None:
    for index, trigger in enumerate(task.spec.triggers):
        if not isinstance(trigger, ScheduleTrigger) or not trigger.enabled or not task.spec.enabled or task.gaps:
            continue
        from optio.scheduling.cron import CronError, check_expression

        config = trigger.config
        try:
            check_expression(config.cron_expression)
            ZoneInfo(config.timezone)
        except (CronError, ZoneInfoNotFoundError, ValueError, OSError):
            continue
        route = ("triggers", index, "config", "cronExpression")
        own = task.document.path_at(route) == task.path and task.document.rewritten(route, "") is not None
        return When(config.cron_expression, config.timezone, _place(task, route), own)
    return None


def _spend(task: ResolvedTask) -> Spend | None:
    # Imported here: a tree without such a policy does not pay for it.
    from optio.compiler.spending import spending

    found = spending(task)
    if found is None or found.day.is_nothing:
        return None
    day, month = (None if worst.usd is None else str(worst.usd) for worst in (found.day, found.month))
    return Spend(day, month, found.day.lacks)


def _hooks(task: ResolvedTask) -> Iterator[Hook]:
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index, "config", "path")
        if isinstance(trigger, WebhookTrigger) and task.knows(route):
            yield Hook(trigger.config.path, _place(task, route))


def _place(task: ResolvedTask, route: Route) -> Place:
    """Of what a template wrote, the place that names the template."""
    own = task.document.path_at(route) == task.path
    return Place(route, task.span(route if own else ("extends",)))
