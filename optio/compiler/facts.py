"""The facts of a file that another file could contradict: id, webhook paths, spending, and what it asks of the
executor. They are plain data, because they are passed between processes. Checks across files (`checks.across`) see only these
facts; a check that needs more adds a field here."""

from collections.abc import Iterator
from typing import NamedTuple

from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source import Span
from optio.compiler.yaml.document import Document
from optio.model.isolation import KEYS, POD, not_applied, requested_keys
from optio.model.route import Route
from optio.model.trigger import WebhookTrigger


class ValuePlace(NamedTuple):
    """A value's route, and its span in the task's own file."""

    route: Route
    span: Span


class WebhookPath(NamedTuple):
    """The path of a webhook, with its place for findings about duplicates."""

    path: str
    place: ValuePlace


class SpendFacts(NamedTuple):
    """The worst case that the task's triggers may spend in a day and in 30 days, in US dollars as text. None means unbounded,
    and `lacks` names the key whose absence is the reason."""

    day: str | None
    month: str | None
    lacks: str | None = None


class SpendCap(NamedTuple):
    """A cap of the policy on the spending of all tasks together, in US dollars as text, with its place in the policy."""

    most: str
    place: ValuePlace


_ASKED: dict[str, Route] = {key: ("environment", *key.split(".")) for key in KEYS}
NO_SPEND_CAPS: tuple[SpendCap | None, SpendCap | None] = (None, None)


class TaskFacts(NamedTuple):
    """The facts of one file. `named` is the place that the id comes from, or None where that value is wrong. `spend` is
    filled under a policy that caps all tasks together. `asks` lists the isolating keys of `environment` that the executor does
    not apply, and `demands` those that the policy requires. `caps` and `namespaces` are the policy's own. `connections` are
    those that a task names, and `connection` is the place of a connection in its own file."""

    path: str
    id: str
    named: ValuePlace | None
    hooks: tuple[WebhookPath, ...] = ()
    spend: SpendFacts | None = None
    caps: tuple[SpendCap | None, SpendCap | None] = NO_SPEND_CAPS
    asks: tuple[tuple[str, ValuePlace], ...] = ()
    demands: tuple[str, ...] = ()
    namespaces: tuple[ValuePlace, ...] = ()
    connections: tuple[str, ...] = ()
    connection: ValuePlace | None = None


def task_facts(
    task: ResolvedTask,
    *,
    executor: str | None = None,
    priced: bool = False,
    demands: tuple[str, ...] = (),
) -> TaskFacts:
    """Return the facts of a task. `demands` come from the policy. A tree whose policy demands pods is meant for pods, so its
    tasks ask nothing of another executor."""
    route = ("id",) if task.spec.id else ("name",)
    return TaskFacts(
        task.path,
        task.id,
        _place(task, route) if task.is_known(route) else None,
        tuple(_webhook_paths(task)),
        _spend_facts(task) if priced else None,
        asks=() if executor is None or POD in demands else tuple(_isolation_keys(task, executor)),
        demands=demands,
        connections=tuple(use if isinstance(use, str) else use.id for use in task.spec.connections),
    )


def connection_facts(document: Document) -> TaskFacts:
    """Return the facts of a connection's own file."""
    place = ValuePlace(("type",), document.span(("type",)))
    return TaskFacts(document.path, document.path, None, connection=place)


def _isolation_keys(task: ResolvedTask, executor: str) -> Iterator[tuple[str, ValuePlace]]:
    for key in not_applied(executor, requested_keys(task.spec.environment)):
        route = _ASKED[key]
        if task.is_known(route):
            yield key, _place(task, route)


def _spend_facts(task: ResolvedTask) -> SpendFacts | None:
    # Imported here: a tree without such a policy does not pay for it.
    from optio.compiler.spending import worst_case_spending

    spending = worst_case_spending(task)
    if spending is None or spending.day.is_nothing:
        return None
    day, month = (None if worst.usd is None else str(worst.usd) for worst in (spending.day, spending.month))
    return SpendFacts(day, month, spending.day.lacks)


def _webhook_paths(task: ResolvedTask) -> Iterator[WebhookPath]:
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index, "config", "path")
        if isinstance(trigger, WebhookTrigger) and task.is_known(route):
            yield WebhookPath(trigger.config.path, _place(task, route))


def _place(task: ResolvedTask, route: Route) -> ValuePlace:
    """Return the place of a value; for a value that a template wrote, the place of `extends` in the task's own file."""
    is_own = task.document.path_at(route) == task.path
    return ValuePlace(route, task.span(route if is_own else ("extends",)))
