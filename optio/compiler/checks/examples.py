"""Check a task's own `tests`: each names exactly one trigger that the task has, and expects a result that can occur. The tests
are run elsewhere, by `optio test`."""

from collections.abc import Iterator
from datetime import datetime

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.example import Example
from optio.model.route import Route, show
from optio.model.senders import SENDERS
from optio.model.trigger import ScheduleTrigger

_KINDS = ("webhook", "schedule", "params")
# The server may refuse a request by these headers and its own name, before it looks up a task.
_OF_THE_SERVER = frozenset({"host", "origin", "x-forwarded-host"})
# Key of the file and field of the model.
_OF_WEBHOOKS = (("headers", "headers"), ("signature", "signature"))
_OF_RUNS = (("params", "params"), ("prompt", "prompt"), ("promptContains", "prompt_contains"))


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the findings of every test of the task. Tests with a reported mistake in their shape are skipped."""
    for index, example in enumerate(task.spec.tests):
        route: Route = ("tests", index)
        if any(gap[:2] == route or gap == ("tests",) for gap in task.gaps):
            continue
        kinds = [kind for kind in _KINDS if getattr(example, kind) is not None]
        if not kinds:
            hint = "add `webhook: payloads/push.json`, `schedule: 2026-03-30T07:00`, or `params: {NAME: value}`"
            yield task.at("OPT425", "the test has no `webhook`, `schedule` or `params`", route, hint=hint)
        elif len(kinds) > 1:
            message = f"both `{kinds[0]}` and `{kinds[1]}` in one test"
            yield task.at(
                "OPT108", message, (*route, kinds[1]), hint=f"delete `{kinds[1]}`, or make another test of it", key=True
            )
        else:
            yield from _trigger(task, route, example, kinds[0])
            yield from _expectation(task, (*route, "expect"), example, kinds[0])


def _trigger(task: ResolvedTask, route: Route, example: Example, kind: str) -> Iterator[Diagnostic]:
    known = all(task.is_known(("triggers", place)) for place in range(len(task.spec.triggers))) and task.is_known(("triggers",))
    if known and kind != "params" and not any(trigger.type == kind for trigger in task.spec.triggers):
        hint = f"add the trigger, or try the task with `params:` instead of `{kind}:`"
        yield task.at("OPT425", f"the task has no {kind} trigger to test", (*route, kind), hint=hint, key=True)
        return
    for key, name in _OF_WEBHOOKS:
        if kind != "webhook" and getattr(example, name):
            yield task.at(
                "OPT425", f"`{key}` without `webhook`: nothing is sent", (*route, key), hint=f"delete `{key}`", key=True
            )
    for name in example.headers:
        if kind == "webhook" and name.lower() in _OF_THE_SERVER:
            message = f"the effect of `{name}` depends on the server's own name, which a test does not have"
            yield task.at("OPT425", message, (*route, "headers", name), hint=f"delete `{name}`", key=True)
    if kind == "schedule":
        try:
            at = example.slot
        except ValueError as err:
            message = f"`{example.schedule}` is not a valid time" + (f": {err}" if "years" in str(err) else "")
            yield task.at("OPT425", message, (*route, kind), hint="write it as `2026-03-30T07:00`, in the schedule's own zone")
        else:
            yield from _no_slot(task, (*route, kind), at)
    if kind == "webhook" and example.signature is not None and task.spec.webhook is not None:
        config = task.spec.webhook.config
        if config.unsigned and config.secret is None:
            message, hint = "`signature` has no effect: the webhook is not signed", "delete `signature`"
            yield task.at("OPT425", message, (*route, "signature"), hint=hint, key=True)
        elif example.signature == "stale" and not SENDERS[config.scheme].can_be_stale:
            message = f"`stale` is impossible: signatures of `scheme: {config.scheme}` have no time stamp"
            yield task.at("OPT425", message, (*route, "signature"), hint="write `missing` or `wrong`")


def _no_slot(task: ResolvedTask, route: Route, at: datetime) -> Iterator[Diagnostic]:
    """Report a test of a time at which the schedule does not fire."""
    config = next((trigger.config for trigger in task.spec.triggers if isinstance(trigger, ScheduleTrigger)), None)
    if config is None:
        return  # the trigger was wrong and has been reported
    from optio.scheduling.slots import NoSlot, find_slot

    try:
        find_slot(config.cron_expression, config.timezone, at)
    except NoSlot as err:
        message = f"`{config.cron_expression}` ({config.timezone}) does not fire then: {err}"
        value = None if err.coming is None else f"{err.coming:%Y-%m-%dT%H:%M}"
        hint = "write a time at which it fires" + (f", such as `{value}`" if value else "")
        yield task.at("OPT428", message, route, hint=hint, value=value, safe=False)
    except (KeyError, ValueError, OSError):
        return  # an expression or a zone that `schedule` reports


def _expectation(task: ResolvedTask, route: Route, example: Example, kind: str) -> Iterator[Diagnostic]:
    expected = example.expect
    if kind != "webhook" and expected.word not in ("accepted", "invalid"):
        message = f"only a delivery can be `{expected.word}`"
        yield task.at("OPT425", message, (*route, "verdict"), hint="write `accepted` or `invalid`")
    if expected.error is not None and expected.word in ("accepted", "filtered"):
        message = f"`error` has no effect with the verdict `{expected.word}`: there is no error"
        yield task.at("OPT425", message, (*route, "error"), hint="delete `error`, or write `verdict: invalid`", key=True)
    for key, text, part in (("error", expected.error, "reason"), ("promptContains", expected.prompt_contains, "prompt")):
        if isinstance(text, str) and not text.strip():
            message, hint = f"`{show((*route, key))}` is blank", f"write a part of the {part}, or delete the key"
            yield task.at("OPT106", message, (*route, key), hint=hint)
    for key, name in _OF_RUNS:
        given = getattr(expected, name)
        if expected.word != "accepted" and given not in (None, []):
            message = f"`{key}` has no effect with the verdict `{expected.word}`: no run starts"
            yield task.at("OPT425", message, (*route, key), hint=f"delete `{key}`", key=True)
