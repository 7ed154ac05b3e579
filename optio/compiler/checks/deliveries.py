"""Run the mapping of a webhook over the published deliveries of its sender, as far as its events and its filter let them
through: paths that none of them has, values of other types than their parameters take, and fields that may be missing."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from optio.compiler.checks.params_pedantic import declare
from optio.compiler.checks.samples import find_in_samples
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import DeclaredParameters, declared_parameters, declared_types
from optio.compiler.payloads import query_fast_path
from optio.compiler.payloads.deliveries import WORDS, DeliveryKind, SentField, SentPlace, sent_to
from optio.compiler.payloads.filter_tests import FilterTest, leaf_tests, parse_filter, starting_deliveries
from optio.compiler.payloads.near_paths import NearPath, explain_missing_path, naming_field, path_text
from optio.compiler.resolved_task import ResolvedTask
from optio.model.params import iter_faults
from optio.model.route import Route, value_at
from optio.model.senders import SENDERS
from optio.model.trigger import WebhookConfig, WebhookTrigger

# Each path may cost a search for a suggestion; real mappings are smaller.
_MAX_PATHS = 100
_MAX_EVENTS_NAMED = 5
_ON_TEXTS = ("enum", "const", "pattern", "maxLength", "minLength", "format")


class DryRun(NamedTuple):
    """Numbers of the kinds of deliveries that a webhook can get: of all, of those that may start a run, and of those among
    them that are refused."""

    kinds: int
    starting: int
    refused: int

    @property
    def text(self) -> str:
        """Return the numbers as a sentence without its full stop."""
        kinds = "kind" if self.kinds == 1 else "kinds"
        starts = "starts" if self.starting == 1 else "start"
        return f"of {self.kinds} {kinds} of deliveries {self.starting} {starts} a run, {self.refused} would be refused"


class _Mapped(NamedTuple):
    """A parameter with the path that fills it, and what each kind of delivery has there."""

    route: Route
    source: str
    steps: tuple[str, ...]
    schema: Any
    is_required: bool
    places: list[tuple[DeliveryKind, SentPlace | None]]

    @property
    def name(self) -> str:
        return str(self.route[-1])


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the findings of each mapping. What the payloads of the task's tests show is left to `samples`."""
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index, "config", "paramMapping")
        if not isinstance(trigger, WebhookTrigger) or not task.is_known(route):
            continue
        parameters = declared_parameters(task)
        if parameters is None or not all(task.is_known((*route[:-1], key)) for key in ("scheme", "events", "when")):
            continue
        for mapped in _mapped(trigger.config, parameters, route):
            if not _is_refused_in_samples(task, mapped):
                yield from _one(task, mapped, trigger.config)


def dry_run(task: ResolvedTask, config: WebhookConfig) -> DryRun | None:
    """Return how many kinds of deliveries start a run, or None for a sender whose deliveries are not known."""
    deliveries = sent_to(config)
    if deliveries[0].table is None:
        return None
    parameters, starting = declared_parameters(task), starting_deliveries(config)
    refused_numbers: set[int] = set()
    for mapped in _mapped(config, parameters, ()) if parameters is not None else ():
        taken_types = declared_types(mapped.schema)
        for number, (_, place) in enumerate(mapped.places):
            if (mapped.is_required and place is None) or (place is not None and not _fits(place.field, taken_types)):
                refused_numbers.add(number)
    return DryRun(len(deliveries), len(starting), len(refused_numbers) if starting else 0)


def _mapped(config: WebhookConfig, parameters: DeclaredParameters, route: Route) -> Iterator[_Mapped]:
    deliveries = starting_deliveries(config) or sent_to(config)
    for name, source in islice((config.param_mapping or {}).items(), _MAX_PATHS):
        if isinstance(source, str) and query_fast_path.is_path(source) and source != "$":
            steps = query_fast_path.steps(source)
            is_required = name in parameters.required and not parameters.has_default(name)
            places = [(delivery, delivery.find(steps)) for delivery in deliveries]
            yield _Mapped((*route, name), source, steps, parameters.properties.get(name), is_required, places)


def describe_events(config: WebhookConfig) -> str:
    """Return the events of a webhook, or its sender, for a message about its deliveries."""
    events = config.events or []
    if 0 < len(events) <= _MAX_EVENTS_NAMED:
        return " or ".join(f"`{event}`" for event in events)
    return SENDERS[config.scheme].name


def missing_diagnostic(
    task: ResolvedTask, route: Route, path: str, near: NearPath | None, config: WebhookConfig, **place: Any
) -> Diagnostic:
    """Report a path that no delivery has: as an error where the deliveries show what is meant, or that others have it."""
    if near is None:
        hint = "name a field that a delivery has, or a payload with it under `tests:`"
        return task.at(
            "OPT434", f"`{path}` is in no published delivery of {describe_events(config)}", route, hint=hint, **place
        )
    message = f"`{path}` finds nothing in a delivery of {describe_events(config)}"
    return task.at("OPT413", message, route, hint=near.hint, safe=False, **place)


def unseen_diagnostic(
    task: ResolvedTask, route: Route, steps: tuple[str, ...], config: WebhookConfig, *, root: str = "$", **place: Any
) -> Iterator[Diagnostic]:
    """Report a path that no published example of the sender has: where it resembles one that there is, or where its first
    level is in no example of any event."""
    deliveries = sent_to(config)
    text, table = path_text(steps, root), deliveries[0].table
    if table is None:
        return
    if not all(delivery.fields for delivery in deliveries):
        return
    near = explain_missing_path(steps, deliveries, root)
    if near is not None or not any(
        steps[0] in (delivery.fields or ()) for event in table.events for delivery in table.deliveries(event)
    ):
        hint = near.hint if near is not None else "name a field of the body, or a payload with it under `tests:`"
        message = f"`{text}` is in no published delivery of {describe_events(config)}"
        yield task.at("OPT434", message, route, hint=hint, **place)


def _one(task: ResolvedTask, mapped: _Mapped, config: WebhookConfig) -> Iterator[Diagnostic]:
    places = [(delivery, place) for delivery, place in mapped.places if place is not None and not place.is_unseen]
    taken_types = declared_types(mapped.schema)
    if places:
        clashing = [(delivery, place) for delivery, place in places if not _fits(place.field, taken_types)]
        if clashing and (config.events or len(clashing) == len(places)):
            yield _mismatch(task, mapped, *clashing[0], taken_types or [], is_always=len(clashing) == len(places))
        elif taken_types is not None and not clashing:
            yield from list(_refused_texts(task, mapped, places[0][1].field)) or _lacking(task, mapped, config, taken_types)
    elif task.samples:
        return  # `samples` knows better
    elif all(place is None for _, place in mapped.places):
        yield _missing(task, mapped, config)
    else:
        yield from unseen_diagnostic(task, mapped.route, mapped.steps, config)


def _is_refused_in_samples(task: ResolvedTask, mapped: _Mapped) -> bool:
    """Return True if a payload of the tests shows what is wrong, which `samples` reports."""
    schema = mapped.schema if isinstance(mapped.schema, dict) else {}
    return any(any(iter_faults(schema, value)) for value in find_in_samples(task, mapped.steps))


def _missing(task: ResolvedTask, mapped: _Mapped, config: WebhookConfig) -> Diagnostic:
    is_list = "array" in (declared_types(mapped.schema) or ())
    near = explain_missing_path(mapped.steps, [delivery for delivery, _ in mapped.places], item="[*]" if is_list else "[0]")
    value = None if is_list or near is None else near.path
    return missing_diagnostic(task, mapped.route, mapped.source, near, config, value=value)


def _fits(field: SentField, taken_types: list[str] | None) -> bool:
    """Return True unless the parameter takes no value of the field's type."""
    return taken_types is None or field.kind in ("any", *taken_types) or (field.kind == "integer" and "number" in taken_types)


def _mismatch(
    task: ResolvedTask, mapped: _Mapped, delivery: DeliveryKind, place: SentPlace, taken_types: list[str], *, is_always: bool
) -> Diagnostic:
    """Return the finding for a value of another type than the parameter takes."""
    kind, type_words = place.field.kind, " or ".join(WORDS.get(name, name) for name in taken_types)
    effect = "every delivery would be refused" if is_always else f"such a delivery of `{delivery.event}` is refused"
    message = f"`{mapped.source}` is {WORDS[kind]}, and `{mapped.name}` takes {type_words}: {effect}"
    field = naming_field(delivery, mapped.steps, taken_types) if kind in ("object", "array") else None
    hint = f"map a field of it, such as `{mapped.source}.{field}`" if field else f"write {declare(mapped.name, kind)}"
    return task.at("OPT412", message, mapped.route, hint=hint)


def _lacking(task: ResolvedTask, mapped: _Mapped, config: WebhookConfig, taken_types: list[str]) -> list[Diagnostic]:
    """Return the finding for a value that some deliveries have as null, or not at all. Examples do not show that."""
    table = mapped.places[0][0].table
    if table is None or not table.complete:
        return []
    tests = [] if config.when is None else list(leaf_tests(parse_filter(config.when)))
    places = [place for _, place in mapped.places if place is not None and not place.is_unseen]
    if "null" not in taken_types and any(place.field.null for place in places):
        words = None if _is_tested(tests, mapped.steps) else _may_be_null(mapped, taken_types)
    else:
        words = _may_miss(mapped, config, places, tests) if mapped.is_required else None
    return [] if words is None else [task.at("OPT412", words[0], mapped.route, hint=words[1])]


def _may_be_null(mapped: _Mapped, taken_types: list[str]) -> tuple[str, str]:
    """Return message and hint for a value that may be null."""
    type_word = WORDS.get(taken_types[0], "no null")
    message = f"`{mapped.source}` may be null, and `{mapped.name}` takes {type_word}: such a delivery is refused"
    test = f"{path_text(mapped.steps, '@')} != null"
    hint = f'write `type: [{taken_types[0]}, "null"]`, or leave such deliveries out by `{test}` in `when`'
    return message, hint


def _may_miss(
    mapped: _Mapped, config: WebhookConfig, places: list[SentPlace], tests: list[FilterTest]
) -> tuple[str, str] | None:
    """Return message and hint for a required value that some deliveries do not have."""
    name = mapped.name
    lacking = [delivery.event for delivery, place in mapped.places if place is None and config.events]
    if lacking:
        message = f"`{mapped.source}` is in no delivery of `{lacking[0]}`, so `{name}` is missing: such a delivery is refused"
        return message, f"leave `{lacking[0]}` out of `events`, and give it its own task, or give `{name}` a default"
    parent_steps = next((mapped.steps[: place.above] for place in places if place.above is not None), None)
    if parent_steps is None or _is_tested(tests, parent_steps):
        return None
    message = f"`{path_text(parent_steps)}` may be null, so `{name}` is missing: such a delivery is refused"
    return (
        message,
        f"give `{name}` a default, or leave such deliveries out by `{path_text(parent_steps, '@')} != null` in `when`",
    )


def _is_tested(tests: list[FilterTest], steps: tuple[str, ...]) -> bool:
    """Return True if a filter tests a field, something below it, or a field beside it that begins alike: who asks for
    `pull_request.merged` gets no `merged_at` that is null."""
    return any(
        test.steps[: len(steps)] == steps or (test.steps[:-1] == steps[:-1] and test.steps[-1][:5] == steps[-1][:5])
        for test in tests
        if test.steps
    )


def _refused_texts(task: ResolvedTask, mapped: _Mapped, field: SentField) -> Iterator[Diagnostic]:
    """Report a keyword of a parameter that refuses each word, or each example of the form, that the field can have."""
    texts = field.words or (field.form.examples if field.form is not None else ())
    sub, form = mapped.schema, field.form
    for keyword in _ON_TEXTS if texts and isinstance(sub, dict) else ():
        if keyword not in sub or not all(any(iter_faults({keyword: sub[keyword]}, text)) for text in texts):
            continue
        allowed_values = sub[keyword] if isinstance(sub[keyword], list) else [sub[keyword]]
        if keyword in ("enum", "const") and any(field.accepts(value) for value in allowed_values):
            continue
        if (
            keyword == "pattern"
            and form is not None
            and form.sign
            and re.search(rf"{form.sign}|\.|\[\^|\\[SWDwpPx]", str(sub[keyword]))
        ):
            continue  # it may fit other texts of that form
        form_words = form.what if form is not None else f"one of {', '.join(field.words)}"
        message = f"`{mapped.source}` is {form_words}, which `{mapped.name}` does not take: every delivery would be refused"
        at: Route = ("paramsSchema", "properties", mapped.name, keyword)
        place = at if value_at(task.document.value, at) is not None else mapped.route
        yield task.at("OPT412", message, place, hint=f"delete `{keyword}`, or give `{mapped.name}` values of that form")
        return
