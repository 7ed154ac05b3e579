"""Report values without effect: `null` for a key that nothing below sets, a `stallTimeout` longer than `timeout`, and an empty
list of events."""

from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.layers import MergedDocument
from optio.compiler.resolved_task import ResolvedTask
from optio.model.trigger import WebhookTrigger

# Below these keys, null is an ordinary value.
_FREE = ("paramsSchema", "triggers", "tests")


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the values of a task that change nothing, each at its key."""
    if isinstance(task.document, MergedDocument):
        yield from _taken_from_nothing(task, task.document)
    yield from _never_silent(task)
    for index, trigger in enumerate(task.spec.triggers):
        route = ("triggers", index, "config")
        if isinstance(trigger, WebhookTrigger) and trigger.config.events == [] and task.is_known((*route, "events")):
            hint = "list the events that start a run, or delete the key for all of them"
            yield task.at("OPT105", "`events` is empty: no delivery starts a run", (*route, "events"), hint=hint)


def _taken_from_nothing(task: ResolvedTask, document: MergedDocument) -> Iterator[Diagnostic]:
    for route in document.vain:
        from optio.compiler.edits import fix_edits

        if route[0] not in _FREE and document.plain(route):
            message = f"`{route[-1]}: null` has no effect: no template or defaults of this task set it"
            fix = fix_edits.delete_key(document, route)
            yield task.at("OPT704", message, route, key=True, hint="delete the line", fix=fix)


def _never_silent(task: ResolvedTask) -> Iterator[Diagnostic]:
    stall, whole = task.spec.stall_span, task.spec.timeout_span
    # An agent has a limit of silence of its own, which a longer one takes away. A program has none.
    if (
        task.spec.agent_runtime == "command"
        and stall is not None
        and whole is not None
        and stall >= whole
        and task.is_known(("stallTimeout",))
        and task.is_known(("timeout",))
    ):
        message = f"`stallTimeout: {task.spec.stall_timeout}` has no effect: `timeout` ends the attempt earlier"
        yield task.at("OPT614", message, ("stallTimeout",), hint="write less than `timeout`, or delete it")
