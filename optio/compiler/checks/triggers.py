"""Check that a task has at most one trigger of each type."""

from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic, Related, diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.route import Route

_ONE_OF_EACH = (
    "a task has at most one of each type: delete one, or move it to its own task, with `extends:` for what they share"
)


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report each further trigger of a type, with the first one as the related place."""
    first: dict[str, int] = {}
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index)
        if not task.is_known(route):
            continue
        first_index = first.setdefault(trigger.type, index)
        if first_index != index:
            place = ("triggers", first_index, "type")
            yield diagnostic(
                "OPT320",
                f"a second `{trigger.type}` trigger",
                path=task.document.path_at((*route, "type")),
                span=task.span((*route, "type")),
                route=(*route, "type"),
                hint=_ONE_OF_EACH,
                related=(Related("first here", task.document.path_at(place), task.span(place)),),
            )
