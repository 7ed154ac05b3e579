"""Check a task's own `tests`: each names exactly one trigger that the task has, and expects a result that can occur. The tests
are run elsewhere, by `optio test`."""

from collections.abc import Iterator
from typing import Any

from optio.compiler.checks.prompt import almost_placeholders
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import DeclaredParameters, declared_parameters, declared_types, parameter_names
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.yaml.emit import flow
from optio.model.example import Example
from optio.model.params import apply_defaults, iter_faults
from optio.model.prompt import placeholders, render
from optio.model.route import Route, pointer, show
from optio.model.senders import SENDERS, InHeader, sender_of
from optio.model.trigger import ScheduleTrigger, WebhookConfig

_MAX_SHOWN = 80
_TYPES: dict[str, type | tuple[type, ...]] = {"string": str, "integer": int, "number": (int, float), "boolean": bool}
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
            yield from _other_verdict(task, route, example)
            if kinds[0] == "webhook" and example.signature in (None, "valid"):
                from optio.compiler.checks import example_deliveries  # most tasks have no such test

                yield from example_deliveries.check_delivery(task, route, example)


def _trigger(task: ResolvedTask, route: Route, example: Example, kind: str) -> Iterator[Diagnostic]:
    routes: list[Route] = [("triggers", index) for index in range(len(task.spec.triggers))]
    is_known = all(map(task.is_known, [("triggers",), *routes]))
    if is_known and kind != "params" and not any(trigger.type == kind for trigger in task.spec.triggers):
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
        yield from _time(task, (*route, kind), example)
    if kind == "webhook" and task.spec.webhook is not None:
        yield from _signature(task, route, example, task.spec.webhook.config)


def _signature(task: ResolvedTask, route: Route, example: Example, config: WebhookConfig) -> Iterator[Diagnostic]:
    """Report a signature that the webhook does not have, and a verdict that the signature excludes."""
    signature, word, sender = example.signature, example.expect.word, SENDERS[config.scheme]
    possible_verdict = {"missing": "unsigned", "wrong": "unsigned", "stale": "stale"}.get(signature or "")
    if config.unsigned and config.secret is None:
        if signature is not None:
            message, hint = "`signature` has no effect: the webhook is not signed", "delete `signature`"
            yield task.at("OPT425", message, (*route, "signature"), hint=hint, key=True)
    elif signature == "stale" and not sender.can_be_stale:
        message = f"`stale` is impossible: signatures of `scheme: {config.scheme}` have no time stamp"
        hint = "write `missing` or `wrong`, and `expect: {verdict: unsigned}`"
        yield task.at("OPT425", message, (*route, "signature"), hint=hint)
    elif config.secret is None or _is_signed_by_hand(example, config) or (signature == "stale" and sender.timestamp is None):
        return
    elif possible_verdict is not None and word != possible_verdict:
        place = ("expect", "verdict") if example.expect.verdict is not None else ("signature",)
        hint = f"write `verdict: {possible_verdict}`" + (", or delete `signature`" if word == "accepted" else "")
        yield task.at("OPT425", f"`{word}` is impossible: the signature is {signature}", (*route, *place), hint=hint)
    elif possible_verdict is None and word in ("unsigned", "stale"):
        hint = f"add `signature: {'missing' if word == 'unsigned' else word}` beside `webhook`"
        yield task.at("OPT425", f"`{word}` is impossible: the signature is valid", (*route, "expect", "verdict"), hint=hint)


def _is_signed_by_hand(example: Example, config: WebhookConfig) -> bool:
    """Return True if the test's own headers carry a signature, a part of what is signed, or a coding that is refused before."""
    row = sender_of(config)
    signed_names = {"content-encoding", *(header.name.lower() for header in row.signed if isinstance(header, InHeader))}
    signed_names |= {row.header.lower(), *(() if row.signing is None else (row.signing.header.lower(),))}
    return any(name.lower() in signed_names for name in example.headers)


def _time(task: ResolvedTask, route: Route, example: Example) -> Iterator[Diagnostic]:
    """Report a test of a time at which the schedule does not fire."""
    try:
        time = example.slot
    except ValueError as err:
        message = f"`{example.schedule}` is not a valid time" + (f": {err}" if "years" in str(err) else "")
        yield task.at("OPT425", message, route, hint="write it as `2026-03-30T07:00`, in the schedule's own zone")
        return
    if task.spec.schedule is None:
        return  # the trigger was wrong and has been reported
    config = task.spec.schedule.config
    from optio.scheduling.slots import NoSlot, find_slot

    try:
        find_slot(config.cron_expression, config.timezone, time)
    except NoSlot as err:
        message = f"`{config.cron_expression}` ({config.timezone}) does not fire then: {err}"
        value = None if err.coming is None else f"{err.coming:%Y-%m-%dT%H:%M}"
        hint = "write a time at which it fires" + (f", such as `{value}` in {config.timezone}" if value else "")
        yield task.at("OPT428", message, route, hint=hint, value=value, safe=False)
    except (KeyError, ValueError, OSError):
        return  # an expression or a zone that `schedule` reports


def _expectation(task: ResolvedTask, route: Route, example: Example, kind: str) -> Iterator[Diagnostic]:
    expectation = example.expect
    if kind != "webhook" and expectation.word not in ("accepted", "invalid"):
        message = f"only a delivery can be `{expectation.word}`"
        yield task.at("OPT425", message, (*route, "verdict"), hint="write `accepted` or `invalid`")
    if expectation.error is not None and expectation.word in ("accepted", "filtered"):
        message = f"`error` has no effect with the verdict `{expectation.word}`: there is no error"
        yield task.at("OPT425", message, (*route, "error"), hint="delete `error`, or write `verdict: invalid`", key=True)
    for key, text, part in (("error", expectation.error, "reason"), ("promptContains", expectation.prompt_contains, "prompt")):
        if isinstance(text, str) and not text.strip():
            message, hint = f"`{show((*route, key))}` is blank", f"write a part of the {part}, or delete the key"
            yield task.at("OPT106", message, (*route, key), hint=hint)
    yield from _all_params(task, (*route, "params"), example)
    for key, name in _OF_RUNS:
        value = getattr(expectation, name)
        if expectation.word != "accepted" and value not in (None, []):
            message = f"`{key}` has no effect with the verdict `{expectation.word}`: no run starts"
            yield task.at("OPT425", message, (*route, key), hint=f"delete `{key}`", key=True)


def _other_verdict(task: ResolvedTask, route: Route, example: Example) -> Iterator[Diagnostic]:
    """Report a run by hand whose parameters fit the schema or not, against what the test expects."""
    parameters, word = declared_parameters(task), example.expect.word
    if example.params is None or parameters is None or parameters.undeclared or word not in ("accepted", "invalid"):
        return
    faults = list(iter_faults(parameters.schema, apply_defaults(parameters.schema, example.params)))
    if word == "invalid" and faults:
        yield from _other_reason(task, (*route, "expect"), example, [(place, message) for place, message, _ in faults])
    elif word == "accepted" and faults:
        place, message, _ = faults[0]
        at_fault = f"`{show(place)}`" if place else "the parameters"
        at: Route = (*route, "params", *place) if place and place[0] in example.params else (*route, "params")
        hint = "write a value that fits, or `expect: {verdict: invalid}`"
        yield task.at("OPT430", f"no run starts: {at_fault} {message}", at, key=at[-1] == "params", hint=hint)
    elif word == "invalid" and all(part.strip() for part in example.expect.reasons):
        key = "verdict" if example.expect.verdict is not None else "error"
        hint = f"{'write `verdict: accepted`' if key == 'verdict' else 'delete `error`'}, or a value that does not fit"
        message = "these parameters are valid, so a run starts"
        yield task.at("OPT430", message, (*route, "expect", key), key=key == "error", hint=hint)


def _other_reason(task: ResolvedTask, route: Route, example: Example, faults: list[tuple[Route, str]]) -> Iterator[Diagnostic]:
    """Report a part of the expected reason that the reason of the refusal does not have."""
    reasons = [f"{pointer(('params', *place))} {message}" for place, message in faults]
    text = f"the parameters do not fit the task `{task.id}`: {'; '.join(reasons)}"
    for index, part in enumerate(example.expect.reasons):
        if part.strip() and part not in text and "`" not in part:  # a suggestion may follow
            place: Route = ("error",) if isinstance(example.expect.error, str) else ("error", index)
            message = f"the reason does not contain `{part[:_MAX_SHOWN]}`"
            hint = f"write a part of it, such as `{reasons[0]}`"
            yield task.at("OPT430", message, (*route, *place), hint=hint, value=reasons[0], safe=False)


def _other_prompt(
    task: ResolvedTask, route: Route, example: Example, values: dict[str, Any], parameters: DeclaredParameters
) -> Iterator[Diagnostic]:
    """Report a text that the prompt of the run does not contain, if all of its parameters are known."""
    if not task.prompt or not task.is_known(task.prompt_route) or not {*placeholders(task.prompt)} <= {*values}:
        return
    if _is_refused(parameters, values) or any(almost_placeholders(task.prompt, parameters.properties)):
        return  # what is meant to be filled in is reported
    prompt = render(task.prompt, values)
    absent = next((part for part in example.expect.parts if part not in prompt), None)
    if absent is not None and absent.strip():
        lines = [line.strip() for line in prompt.splitlines() if line.strip()]
        near = next((line for line in lines if absent.casefold() in line.casefold()), lines[0] if lines else "")
        hint = f"write a part of it, such as `{near[:_MAX_SHOWN]}`"
        yield task.at("OPT430", f"the prompt does not contain `{absent[:_MAX_SHOWN]}`", route, hint=hint)


def _is_refused(parameters: DeclaredParameters, values: dict[str, Any]) -> bool:
    return next(iter(iter_faults(parameters.schema, apply_defaults(parameters.schema, values))), None) is not None


def _all_params(task: ResolvedTask, route: Route, example: Example) -> Iterator[Diagnostic]:
    """Report parameters that each run has and the expected ones do not, such as those with a default."""
    expected_params, parameters, mapping = example.expect.params, declared_parameters(task), None
    if example.expect.word != "accepted" or parameters is None:
        return
    values_given = example.params or {}
    if example.schedule is not None:
        index = next((index for index, trigger in enumerate(task.spec.triggers) if isinstance(trigger, ScheduleTrigger)), 0)
        if task.spec.schedule is None or not task.is_known(("triggers", index, "config", "paramMapping")):
            return  # the trigger or its mapping was wrong and has been reported
        values_given = task.spec.schedule.config.param_mapping
    if example.webhook is not None and task.spec.webhook is not None:
        mapping = task.spec.webhook.config.param_mapping or {}
    values = apply_defaults(parameters.schema, values_given)
    if mapping is None and _is_refused(parameters, values):
        return  # no run starts, as other checks report
    run_values = _values_of_run(task, route, values, mapping)
    yield from _other_prompt(task, (*route[:-1], "promptContains"), example, run_values, parameters)
    if expected_params is not None:
        yield from _other_params(task, route, expected_params, values, run_values, mapping)


def _other_params(
    task: ResolvedTask,
    route: Route,
    expected_params: dict[str, Any],
    values: dict[str, Any],
    run_values: dict[str, Any],
    mapping: dict[str, Any] | None,
) -> Iterator[Diagnostic]:
    parameters = declared_parameters(task)
    names = None if parameters is None else parameter_names(task, parameters)
    unknown = [name for name in expected_params if names is not None and name not in names and name not in values]
    if parameters is not None and not unknown:
        yield from _other_values(task, route, expected_params, run_values, parameters)
    for name in unknown[:1]:
        message, hint = (
            f"no run has `{name}`, which is not a parameter of this task",
            "delete it here, or declare it as a parameter",
        )
        yield task.at("OPT429", message, (*route, name), key=True, hint=hint)
    for name in [name for name in values if name not in expected_params][:1]:
        entry = f"{name}: {'...' if mapping is not None and name in mapping else flow(values[name])}"
        message = f"`params` lacks `{name}`, which each run of this test has"
        hint = f"add `{entry}`: all parameters count, with their defaults"
        yield task.at("OPT429", message, route, key=True, hint=hint)


def _values_of_run(task: ResolvedTask, route: Route, values: dict[str, Any], mapping: dict[str, Any] | None) -> dict[str, Any]:
    """Return the values of the run that are known: for a webhook, literals and what simple paths find in the payload."""
    if mapping is None:
        return values
    from optio.compiler.checks.samples import NOTHING, value_of
    from optio.compiler.payloads import query_fast_path

    sample = next((sample for sample in task.samples if sample.route == (*route[:2], "webhook")), None)
    run_values = {name: value for name, value in values.items() if name not in mapping} if mapping else {}
    for name, source in mapping.items():
        if isinstance(source, dict) and "literal" in source:
            run_values[name] = source["literal"]
        elif sample is not None and isinstance(source, str) and query_fast_path.is_path(source):
            value = value_of(sample.payload, query_fast_path.steps(source))
            run_values |= {name: value} if value is not NOTHING else {}
    return run_values


def _other_values(
    task: ResolvedTask, route: Route, expected_params: dict[str, Any], values: dict[str, Any], parameters: DeclaredParameters
) -> Iterator[Diagnostic]:
    """Report the first expected value that differs from the one that the run has."""
    for name, value in expected_params.items():
        if name not in values or (values[name] == value and isinstance(values[name], bool) == isinstance(value, bool)):
            continue
        types = declared_types(parameters.properties.get(name))
        if types is not None and types[0] in _TYPES and not isinstance(values[name], _TYPES[types[0]]):
            return  # the value itself is reported
        text = flow(values[name])
        if "{{" in text:
            return  # a default with a placeholder is reported
        if len(text) <= _MAX_SHOWN:
            message = f"`{name}` is `{text}` in this run"
            yield task.at("OPT429", message, (*route, name), hint=f"write `{name}: {text}`, or change what gives it")
        return
