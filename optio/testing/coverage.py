"""Coverage: which behaviours of a task its tests have exercised.

Items are each trigger; each mapped parameter, covered once its path found a value; a refused signature; each event, and one
that is not wanted; a `when` filter that passes and one that does not; each default, once it was needed; and each required
parameter, once its absence was refused.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optio.compiler.checks.deliveries import DryRun, dry_run
from optio.compiler.resolved_task import ResolvedTask
from optio.errors import Malformed
from optio.model import json_body, mapping
from optio.model.example import Example
from optio.model.params import apply_defaults, iter_faults
from optio.model.route import Route, show, value_at
from optio.model.trigger import ManualTrigger, WebhookConfig, WebhookTrigger
from optio.runs.signature import event_name
from optio.testing.run import ExampleResult, TaskResults


@dataclass(frozen=True, slots=True)
class CoverageItem:
    """One behaviour that tests can exercise, the line that defines it, and whether a test has."""

    text: str
    path: str
    line: int
    tried: bool


@dataclass(frozen=True, slots=True)
class Coverage:
    """Triggers, filters and mappings of a task, each as an item that its tests have exercised or have not."""

    task_id: str
    items: tuple[CoverageItem, ...]
    deliveries: DryRun | None = None
    """What its webhook does with the published deliveries of its sender, if that has some."""

    @property
    def missing(self) -> list[CoverageItem]:
        return [item for item in self.items if not item.tried]


def percentage(items: Sequence[CoverageItem]) -> float:
    """Return the share of items that were exercised, from 0 to 100; 100 when there are none."""
    return 100.0 if not items else 100 * sum(item.tried for item in items) / len(items)


@dataclass(frozen=True, slots=True)
class _TriedTest:
    """A test that ran: its payload, the parameters before defaults if it got that far, and its verdict."""

    example: Example
    payload: Any
    given: Mapping[str, Any] | None
    verdict: str

    @property
    def accepted(self) -> bool:
        return self.verdict == "accepted"

    @property
    def refused(self) -> bool:
        return self.verdict in ("unsigned", "stale")

    @property
    def proved(self) -> bool:
        """Return whether the delivery passed the signature check and reached the filters."""
        return self.verdict in ("accepted", "filtered", "invalid")

    def is_of(self, kind: str) -> bool:
        return getattr(self.example, kind) is not None


MakeItem = Callable[[str, Route, bool], CoverageItem]


def coverage(tested: TaskResults) -> Coverage:
    """Return the coverage of one task without errors by the results of its tests."""
    task = tested.task
    payloads: dict[bytes, Any] = {}
    tried_tests = [tried_test for result in tested.results if (tried_test := _tried_test(task, result, payloads)) is not None]

    def tell(text: str, route: Route, is_tried: bool) -> CoverageItem:
        return CoverageItem(text, task.document.path_at(route), task.document.key_span(route).start.line, is_tried)

    items = [*_trigger_items(task, tried_tests, tell), *_schema_items(task, tried_tests, tell)]
    numbers = None if task.spec.webhook is None else dry_run(task, task.spec.webhook.config)
    return Coverage(task.id, tuple(sorted(items, key=lambda item: (item.path, item.line))), numbers)


def _tried_test(task: ResolvedTask, result: ExampleResult, payloads: dict[bytes, Any]) -> _TriedTest | None:
    """Parse each distinct payload once; `payloads` holds those that were."""
    trial, example = result.trial, result.example
    if trial is None:
        return None
    verdict = trial.judgement.verdict
    payload: Any = None
    params: Mapping[str, Any] | None = None
    if example.webhook is not None and task.spec.webhook is not None and result.body is not None:
        try:
            if result.body not in payloads:
                payloads[result.body] = json_body.decode(result.body)
            payload = payloads[result.body]
        except Malformed:
            return None
        if verdict in ("accepted", "invalid"):
            params = _mapped_params(task.spec.webhook.config, payload)
    elif example.schedule is not None and task.spec.schedule is not None:
        params = task.spec.schedule.config.param_mapping
    elif example.params is not None:
        params = example.params
    return _TriedTest(example, payload, params, verdict)


def _mapped_params(config: WebhookConfig, payload: Any) -> Mapping[str, Any] | None:
    if config.param_mapping is None:
        return payload if isinstance(payload, dict) else None
    try:
        return mapping.from_payload(config.param_mapping, payload)
    except mapping.MappingFailed:
        return None


def _trigger_items(task: ResolvedTask, tried_tests: list[_TriedTest], tell: MakeItem) -> Iterator[CoverageItem]:
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index)
        kind = "params" if trigger.type == "manual" else trigger.type
        runs = [test for test in tried_tests if test.is_of(kind) and test.accepted]
        yield tell(f"the {trigger.type} trigger starts a run", (*route, "type"), bool(runs))
        if isinstance(trigger, ManualTrigger):
            continue
        for name in trigger.config.param_mapping or ():
            is_taken = any(test.given is not None and name in test.given for test in runs)
            yield tell(f"`{name}` is filled by the {trigger.type}", (*route, "config", "paramMapping", name), is_taken)
        if isinstance(trigger, WebhookTrigger):
            yield from _filter_items(
                trigger.config, (*route, "config"), [test for test in tried_tests if test.is_of(kind)], tell
            )


def _filter_items(config: WebhookConfig, route: Route, tried_tests: list[_TriedTest], tell: MakeItem) -> Iterator[CoverageItem]:
    if config.secret is not None:
        is_refused = any(test.refused for test in tried_tests)
        yield tell("a delivery with a wrong signature is refused", (*route, "secret"), is_refused)
    proved = [test for test in tried_tests if test.proved]
    events = [_event(config, test) for test in proved]
    for index, name in enumerate(config.events or ()):
        yield tell(f"the event `{name}` starts a run", (*route, "events", index), name in events)
    if config.events is not None:
        has_other_event = any(event not in config.events for event in events)
        yield tell("an unlisted event is filtered", (*route, "events"), has_other_event)
    if config.when is not None:
        filter_ = mapping.compile_when(config.when)
        starting = [test for test, event in zip(proved, events, strict=True) if config.events is None or event in config.events]
        payloads = {id(test.payload): test.payload for test in starting}
        outcomes = {_filter_outcome(filter_, payload) for payload in payloads.values()}
        yield tell("`when` lets a delivery through", (*route, "when"), True in outcomes)
        yield tell("`when` filters a delivery", (*route, "when"), False in outcomes)


def _event(config: WebhookConfig, tried_test: _TriedTest) -> str | None:
    headers = {name.lower(): [value] for name, value in tried_test.example.headers.items()}
    return event_name(config, lambda name: headers.get(name, []), tried_test.payload)


def _filter_outcome(filter_: mapping.WhenFilter, payload: Any) -> bool | None:
    try:
        return filter_.holds(payload)
    except mapping.MappingFailed:
        return None


def _schema_items(task: ResolvedTask, tried_tests: list[_TriedTest], tell: MakeItem) -> Iterator[CoverageItem]:
    schema = task.spec.params_schema or {}
    for name in _names_with_default(schema):
        is_needed = any(test.accepted and test.given is not None and _uses_default(test.given, name) for test in tried_tests)
        steps = tuple(step for part in name for step in ("properties", part))
        yield tell(f"the default of `{show(name)}` is needed", ("paramsSchema", *steps, "default"), is_needed)
    required = schema.get("required")
    properties = schema.get("properties")
    for index, name in enumerate(required if isinstance(required, list) else ()):
        sub = value_at(properties, (name,))
        if isinstance(sub, dict) and "default" in sub:
            continue
        is_refused = any(
            test.given is not None and not test.accepted and _is_refused_without(schema, test.given, name)
            for test in tried_tests
        )
        yield tell(f"a run without `{name}` is refused", ("paramsSchema", "required", index), is_refused)


def _is_refused_without(schema: Mapping[str, Any], params: Mapping[str, Any], name: str) -> bool:
    return name not in params and any(
        route == (name,) and keyword == "required" for route, _, keyword in iter_faults(schema, apply_defaults(schema, params))
    )


def _names_with_default(schema: Mapping[str, Any], parent: Route = ()) -> Iterator[Route]:
    """Yield the names of parameters that have a default, including members of objects, as routes."""
    properties = schema.get("properties")
    for name, sub in properties.items() if isinstance(properties, Mapping) else ():
        if isinstance(sub, Mapping):
            if "default" in sub:
                yield (*parent, name)
            yield from _names_with_default(sub, (*parent, name))


def _uses_default(params: Mapping[str, Any], name: Route) -> bool:
    """Return whether only the last step is missing, so that its default was filled in."""
    inside = value_at(params, name[:-1])
    return isinstance(inside, Mapping) and name[-1] not in inside
