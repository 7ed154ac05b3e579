"""Report values without effect: `null` for a key that nothing below sets, a `stallTimeout` longer than `timeout`, an empty list
of events, a variable that is a secret as well, a previous secret that is the new one, and `maxCatchUp` beside another `misfire`
than `all`."""

from collections.abc import Iterator
from datetime import timedelta

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.layers import MergedDocument
from optio.compiler.resolved_task import ResolvedTask
from optio.model.route import Route, value_at
from optio.model.text import format_duration
from optio.model.trigger import ScheduleConfig, ScheduleTrigger, WebhookConfig, WebhookTrigger

# Below these keys, null is an ordinary value.
_FREE = ("paramsSchema", "result", "triggers", "tests")


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the values of a task that change nothing, each at its key."""
    if isinstance(task.document, MergedDocument):
        yield from _taken_from_nothing(task, task.document)
    yield from _never_silent(task)
    is_ahead, secrets = task.spec.environment.setup_ahead, set(task.spec.environment.secrets)
    # Commands that run ahead of a run have the variable, and no secret.
    for name in task.spec.environment.env if secrets and not is_ahead else ():
        if name in secrets and "$" not in (text := task.spec.environment.env[name]) and "{{" not in text:
            variable: Route = ("environment", "env", name)
            message = f"`{name}` is also a secret of this task, whose value takes the place of this one"
            hint = "delete it here, or from `environment.secrets` if this is the value that runs need"
            yield task.at("OPT615", message, variable, key=True, hint=hint)
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index, "config")
        if isinstance(trigger, WebhookTrigger) and trigger.config.events == [] and task.is_known((*route, "events")):
            hint = "list the events that start a run, or delete the key for all of them"
            yield task.at("OPT105", "`events` is empty: no delivery starts a run", (*route, "events"), hint=hint)
        if isinstance(trigger, WebhookTrigger):
            yield from _same_secret(task, (*route, "previousSecret"), trigger.config)
        elif isinstance(trigger, ScheduleTrigger):
            yield from _no_catch_up(task, route, trigger.config)


def _same_secret(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    if config.previous_secret is not None and config.previous_secret == config.secret and task.is_known(route):
        message = f"`previousSecret` names the same secret as `secret`, `{config.previous_secret.name}`: the old one is refused"
        hint = "keep the old value under another name, or delete `previousSecret`"
        yield task.at("OPT615", message, (*route, "name"), hint=hint)


def _no_catch_up(task: ResolvedTask, route: Route, config: ScheduleConfig) -> Iterator[Diagnostic]:
    place: Route = (*route, "maxCatchUp")
    is_written = config.misfire != "all" and "maxCatchUp" in (value_at(task.document.value, route) or {})
    if is_written and task.is_known(place) and task.is_known((*route, "misfire")):
        is_written = task.document.written((*route, "misfire"))[0].has((*route, "misfire"))
        message = f"`maxCatchUp` has no effect with `misfire: {config.misfire}`{'' if is_written else ', the default'}"
        step = "write `misfire: all` there" if is_written else "add `misfire: all` beside it"
        yield task.at("OPT615", message, place, key=True, hint=f"{step}, or delete it")


def _taken_from_nothing(task: ResolvedTask, document: MergedDocument) -> Iterator[Diagnostic]:
    for route in document.vain:
        from optio.compiler.edits import fix_edits

        if route[0] not in _FREE and document.plain(route):
            message = f"`{route[-1]}: null` has no effect: no template or defaults of this task set it"
            fix = fix_edits.delete_key(document, route)
            yield task.at("OPT704", message, route, key=True, hint="delete the line", fix=fix)


def _never_silent(task: ResolvedTask) -> Iterator[Diagnostic]:
    stall, timeout = task.spec.stall_span, task.spec.timeout_span
    if stall is None or timeout is None or not (task.is_known(("stallTimeout",)) and task.is_known(("timeout",))):
        return
    # One as long as `timeout` says that silence has no limit, which takes away the one that an agent has.
    if stall > timeout:
        message = f"`stallTimeout: {task.spec.stall_timeout}` has no effect: `timeout` ends the attempt earlier"
        quarter = timedelta(seconds=max(timeout.total_seconds() // 4, 1))
        hint = (
            f"write less than `timeout`, such as `{format_duration(quarter)}`; if the two were exchanged, write "
            f"`timeout: {task.spec.stall_timeout}` and `stallTimeout: {task.spec.timeout}`"
        )
        yield task.at("OPT614", message, ("stallTimeout",), hint=hint)
