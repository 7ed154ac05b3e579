"""Check that a task has at most one trigger of each type."""

from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic, Related, diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.route import Route
from optio.model.trigger import ScheduleTrigger, Trigger

_FIELDS = 5


def _one_of_each(first: Trigger, second: Trigger) -> str:
    """Return the hint for a second trigger: one expression for both where they differ in a single field, or two tasks."""
    if isinstance(first, ScheduleTrigger) and isinstance(second, ScheduleTrigger):
        one, other = (each.config.cron_expression.split() for each in (first, second))
        differ = [index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b]
        fields = (name for name in first.config.__struct_fields__ if name != "cron_expression")
        same = all(getattr(first.config, name) == getattr(second.config, name) for name in fields)
        if len(one) == len(other) == _FIELDS and len(differ) == 1 and same and "*" not in (one[differ[0]], other[differ[0]]):
            both = [*one[: differ[0]], f"{one[differ[0]]},{other[differ[0]]}", *one[differ[0] + 1 :]]
            return f'write `cronExpression: "{" ".join(both)}"` in the first, and delete this trigger'
        return "a task has one schedule: write one file for each time, with `extends:` for what they share"
    return "a task has at most one of each type: delete one, or move it to its own task"


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report each further trigger of a type, with the first one as the related place."""
    first: dict[str, int] = {}
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index)
        if not task.is_known(route):
            continue
        other = first.setdefault(trigger.type, index)
        if other != index:
            place = ("triggers", other, "type")
            yield diagnostic(
                "OPT320",
                f"a second `{trigger.type}` trigger",
                path=task.document.path_at((*route, "type")),
                span=task.span((*route, "type")),
                route=(*route, "type"),
                hint=_one_of_each(task.spec.triggers[other], trigger),
                related=(Related("first here", task.document.path_at(place), task.span(place)),),
            )
