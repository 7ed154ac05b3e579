"""Compare the deliveries of a task's own tests with its webhook: a test that expects a run needs an event and a payload that
`events` and `when` let through. `examples` calls it for tests of a webhook."""

from collections.abc import Iterator
from typing import Any

from optio.compiler.checks.samples import NOTHING, value_of
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.payloads import query_fast_path
from optio.compiler.payloads.filter_tests import FilterTest, leaf_tests, masked_text, parse_filter
from optio.compiler.resolved_task import ResolvedTask, Sample
from optio.model.example import Example
from optio.model.route import Route
from optio.model.senders import InBody, InHeader, Source, sender_of
from optio.model.trigger import WebhookConfig, WebhookTrigger


def check_delivery(task: ResolvedTask, route: Route, example: Example) -> Iterator[Diagnostic]:
    """Report one reason for which the delivery of a test that expects a run starts none."""
    index = next((i for i, trigger in enumerate(task.spec.triggers) if isinstance(trigger, WebhookTrigger)), None)
    if index is None or task.spec.webhook is None or example.expect.word not in ("accepted", "filtered"):
        return
    config, place = task.spec.webhook.config, ("triggers", index, "config")
    sample = next((trigger for trigger in task.samples if trigger.route == (*route, "webhook")), None)
    if example.expect.word == "filtered":
        if sample is not None and _is_let_through(task, place, example, config, sample.payload):
            message = "this delivery is not filtered: its event and its payload start a run"
            hint = "write `verdict: accepted`, or another event or payload"
            yield task.at("OPT430", message, (*route, "expect", "verdict"), hint=hint)
        return
    if config.events and all(task.is_known((*place, key)) for key in ("events", "scheme", "eventHeader", "eventPath")):
        findings = list(_event(task, route, place, example, config, NOTHING if sample is None else sample.payload))
        if findings:
            yield from findings
            return
    if sample is not None and config.when is not None and task.is_known((*place, "when")):
        yield from _filtered(task, route, (*place, "when"), config.when, sample)


def _filtered(task: ResolvedTask, route: Route, place: Route, filter_text: str, sample: Sample) -> Iterator[Diagnostic]:
    """Report the first comparison of the filter at `place` that the payload does not meet. A wrong filter is left out."""
    from optio.compiler.checks import filters  # few tests have a filter

    for test in _conditions(filter_text):
        value = value_of(sample.payload, test.steps)
        if value is NOTHING or type(value) is not type(test.value) or value == test.value:
            continue
        if not any(finding.route == place for finding in filters.check(task)):
            message = f"`when` filters this delivery: `{test.path}` is `{_shown(value)}` in `{sample.path}`"
            hint = f"write `{_shown(test.value)}` there, take another payload, or expect `{{verdict: filtered}}`"
            yield task.at("OPT430", message, (*route, "webhook"), hint=hint)
        return


def _is_let_through(task: ResolvedTask, place: Route, example: Example, config: WebhookConfig, payload: Any) -> bool:
    """Return True if `events` and a filter of comparisons that must all hold surely let the delivery through."""
    if not all(task.is_known((*place, key)) for key in ("events", "scheme", "eventHeader", "eventPath", "when")):
        return False
    if config.events is not None and _event_of(example, config, payload) not in config.events:
        return False
    if config.when is None:
        return True
    tests = _conditions(config.when)
    if not tests or len(tests) != len(list(leaf_tests(parse_filter(config.when)))):
        return False
    pairs = [(value_of(payload, test.steps), test.value) for test in tests]
    return all(type(value) is type(literal) and value == literal for value, literal in pairs)


def _conditions(text: str) -> list[FilterTest]:
    """Return the comparisons of a filter that must all hold; none of a filter with other signs than `&&`."""
    if not {"|", "!", "(", "?", "<", ">"}.isdisjoint(masked_text(text)):
        return []
    tests = leaf_tests(parse_filter(text))
    return [test for test in tests if test.sign == "==" and test.is_read and test.value is not None]


def _event(
    task: ResolvedTask, route: Route, place: Route, example: Example, config: WebhookConfig, payload: Any
) -> Iterator[Diagnostic]:
    """Report a delivery whose event is missing or not among those that start a run."""
    events, sources = config.events or [], sender_of(config).event
    event = _event_of(example, config, payload)
    if event in events or not sources or _is_reported(task, place):
        return
    source, event_text = sources[0], "missing" if event is None else f"`{event}`"
    if isinstance(source, InHeader):
        name = next((name for name in example.headers if name.lower() == source.name.lower()), None)
        message = f"`events` filters this delivery: its `{source.name}` is {event_text}"
        hint = f"write `{source.name}: {events[0]}` under `headers`, or expect `{{verdict: filtered}}`"
        at: Route = (*route, "webhook") if name is None else (*route, "headers", name)
        yield task.at("OPT430", message, at, key=name is None, hint=hint)
    elif payload is not NOTHING:
        message = f"`events` filters this delivery: `{source.path}` is {event_text} in it"
        hint = f"take a payload in which it is `{events[0]}`, or expect `{{verdict: filtered}}`"
        yield task.at("OPT430", message, (*route, "webhook"), hint=hint)


def _is_reported(task: ResolvedTask, place: Route) -> bool:
    """Return True if the events themselves are wrong, or the place where they are read."""
    from optio.compiler.checks import scheme  # imported only for a file with a mistake

    return any(finding.code in ("OPT420", "OPT427") and finding.route[:3] == place for finding in scheme.check(task))


def _event_of(example: Example, config: WebhookConfig, payload: Any) -> str | None:
    """Return the event that a delivery names, as the webhook reads it."""
    headers = {name.lower(): value for name, value in example.headers.items()}
    names = (_read(source, headers, payload) for source in sender_of(config).event)
    return next((name for name in names if isinstance(name, str)), None)


def _read(source: Source, headers: dict[str, str], payload: Any) -> Any:
    if isinstance(source, InBody):
        return value_of(payload, query_fast_path.steps(source.path)) if query_fast_path.is_path(source.path) else None
    return headers.get(source.name.lower())


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else {True: "true", False: "false", None: "null"}.get(value, str(value))
