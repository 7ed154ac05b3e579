"""Effects on webhooks: which URLs start runs, who may send to them, which deliveries start runs, and with which parameters."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from optio.model.effect import EffectKind, EffectWeight
from optio.model.params import apply_defaults
from optio.model.registry import CompiledTask, canonical
from optio.model.route import Route
from optio.model.senders import InHeader, sender_of
from optio.model.text import format_duration
from optio.model.trigger import WebhookConfig
from optio.plan import filters, queries
from optio.plan.effect import Effect, Forecast, trigger_route, value_change
from optio.plan.words import brief, changed_entries, quoted, shorten_pair


def config_of(task: CompiledTask | None) -> WebhookConfig | None:
    """Return the webhook that starts the task, or None if it has none, or the task or the trigger is disabled."""
    if task is None or not task.spec.enabled or task.spec.webhook is None or not task.spec.webhook.enabled:
        return None
    return task.spec.webhook.config


def effects(before: CompiledTask | None, after: CompiledTask | None, outlook: Forecast) -> Iterator[Effect]:
    """Yield effects on the URL, the signature, the filter and the mapping of a webhook."""
    old, new = config_of(before), config_of(after)
    route = trigger_route(after, "webhook")
    if old is None and new is not None:
        yield _webhook_added(new, route)
    if old is not None and new is None:
        abandonment, weight = _abandoned_path_text(old, outlook)
        text = f"{_url(old)} {abandonment}"
        yield Effect(kind=EffectKind.WEBHOOK_REMOVED, text=text, weight=weight, before=_url(old), route=route)
    if new is not None and _is_open(new) and (old is None or not _is_open(old)):
        text = f"{_url(new)} accepts deliveries from anyone: they are not signed"
        place = (*route, "unsigned")
        yield Effect(kind=EffectKind.WEBHOOK_UNSIGNED, text=text, weight=EffectWeight.DANGER, after="unsigned", route=place)
    if old is not None and new is not None:
        yield from _webhook_changes(old, new, route, outlook)
        yield from _mapping_changes(before, after, route)


def _is_open(config: WebhookConfig) -> bool:
    return config.unsigned and config.secret is None


def is_moved(before: CompiledTask | None, after: CompiledTask | None) -> bool:
    """Return whether both sides have a webhook, on different paths."""
    old, new = config_of(before), config_of(after)
    return old is not None and new is not None and old.path != new.path


def _url(config: WebhookConfig) -> str:
    return f"/api/hooks/{config.path}"


def _webhook_added(config: WebhookConfig, route: Route) -> Effect:
    lines = [f"signed: {_signature_text(config)}", f"starts runs for: {brief(_filter_text(config))}"]
    text = f"{_url(config)} starts runs"
    return Effect(kind=EffectKind.WEBHOOK_ADDED, text=text, after=_url(config), lines=tuple(lines), route=(*route, "path"))


def _abandoned_path_text(old: WebhookConfig, outlook: Forecast) -> tuple[str, EffectWeight]:
    """Return what happens to senders of a path that the task has left, with its weight."""
    successor = outlook.hooks.get(old.path)
    config = config_of(successor)
    if successor is None or config is None:
        return "answers 404: its senders are refused", EffectWeight.DANGER
    if config.secret is not None and _refuses_more(old, config):
        return f"starts {successor.id} instead, and its senders must change their signature", EffectWeight.DANGER
    return f"starts {successor.id} instead", EffectWeight.NOTICE


def _webhook_changes(old: WebhookConfig, new: WebhookConfig, route: Route, outlook: Forecast) -> Iterator[Effect]:
    if old.path != new.path:
        abandonment, weight = _abandoned_path_text(old, outlook)
        neighbour = outlook.hooks.get(old.path)
        if neighbour is not None and neighbour.id in outlook.moved:
            # Taking over a free path is deliberate; swapping paths sends each task the other's deliveries.
            weight = EffectWeight.DANGER
        yield Effect(
            kind=EffectKind.WEBHOOK_MOVED,
            text=f"{_url(old)} -> {_url(new)}: the old one {abandonment}",
            weight=weight,
            before=_url(old),
            after=_url(new),
            route=(*route, "path"),
        )
    if _signature_text(old) != _signature_text(new) and new.secret is not None:
        keeps_old_secret = (
            old.secret is not None and new.previous_secret == old.secret and _signature_form(old) == _signature_form(new)
        )
        refusals = _refuses_more(old, new)
        lines = ("the old secret is still accepted: senders can change to the new one",) if keeps_old_secret else ()
        yield Effect(
            kind=EffectKind.SIGNATURE_CHANGED,
            text=f"signed: {_signature_text(old)} -> {_signature_text(new)}"
            + (": senders must change their signature" if refusals else ""),
            weight=EffectWeight.DANGER if refusals else EffectWeight.NOTICE,
            before=_signature_text(old),
            after=_signature_text(new),
            lines=lines,
            route=(*route, "secret"),
        )
    yield from _filter_changes(old, new, route)
    if _delivery_header(old) != _delivery_header(new):
        was, now = old.delivery_header or "the scheme's own", new.delivery_header or "the scheme's own"
        place = (*route, "deliveryHeader")
        yield value_change(EffectKind.REPEATS_CHANGED, "header with the delivery id", was, now, place)
    if old.replay_span != new.replay_span:
        was, now = _replay_text(old), _replay_text(new)
        weight = EffectWeight.DANGER if new.replay_span is None else EffectWeight.NOTICE
        noun, place = "the same signed body under another delivery id", (*route, "replayWindow")
        yield value_change(EffectKind.REPEATS_CHANGED, noun, was, now, place, weight)


def _delivery_header(config: WebhookConfig) -> object:
    """Return the custom header that identifies deliveries; None if it is the default of the scheme."""
    if config.delivery_header is None:
        return None
    return (
        None
        if _is_default_header(config.delivery_header, config.replace(delivery_header=None))
        else config.delivery_header.lower()
    )


def _is_default_header(header: str, config: WebhookConfig) -> bool:
    return [place.name.lower() for place in sender_of(config).delivery if isinstance(place, InHeader)] == [header.lower()]


def _signature_form(config: WebhookConfig) -> tuple[str, str, str]:
    """Return scheme, header and encoding. Only `hmac` has a choice of the latter two."""
    if config.scheme != "hmac":
        return config.scheme, "", ""
    return config.scheme, sender_of(config).header.title(), config.signature_encoding


def _replay_text(config: WebhookConfig) -> str:
    window = config.replay_span
    return "starts a run each time" if window is None else f"starts no run for {format_duration(window)}"


def _signature_text(config: WebhookConfig) -> str:
    if config.secret is None:
        return "not at all"
    scheme, header, encoding = _signature_form(config)
    before = f" or {config.previous_secret.name}" if config.previous_secret is not None else ""
    return f"with {config.secret.name}{before}, {scheme}" + (f" in {header} as {encoding}" if header else "")


def _refuses_more(old: WebhookConfig, new: WebhookConfig) -> bool:
    """Return whether a signature that was accepted is refused now."""
    if old.secret is None:
        return True
    were = {secret.name for secret in (old.secret, old.previous_secret) if secret is not None}
    are = {secret.name for secret in (new.secret, new.previous_secret) if secret is not None}
    return _signature_form(old) != _signature_form(new) or not were <= are


def _filter_text(config: WebhookConfig) -> str:
    events = "every event" if config.events is None else ", ".join(sorted(set(config.events)))
    if config.event_header or config.event_path:
        events += f" by `{config.event_header or config.event_path}`"
    return events if config.when is None else f"{events}, if `{config.when}`"


def _filter_changes(old: WebhookConfig, new: WebhookConfig, route: Route) -> Iterator[Effect]:
    difference = filters.compare_filters(old.when, new.when)
    if difference is None and _event_filter(old) == _event_filter(new):
        return
    all_start = "every event starts runs" if new.when is None else "events of every name reach the filter"
    opening = all_start if old.events is not None and new.events is None else None
    dangers = [danger for danger in (opening, None if difference is None else difference.danger) if danger is not None]
    was, now = shorten_pair(_filter_text(old), _filter_text(new))
    place = (*route, "events" if difference is None or opening else "when")
    weight = EffectWeight.DANGER if dangers else EffectWeight.NOTICE
    yield replace(value_change(EffectKind.FILTER_CHANGED, "starts runs for", was, now, place, weight), lines=tuple(dangers))


def _event_filter(config: WebhookConfig) -> tuple[object, ...]:
    path = None if config.event_path is None else queries.normal_path(config.event_path)
    return None if config.events is None else sorted(set(config.events)), (config.event_header or "").lower(), path


def _mapping_changes(before: CompiledTask | None, after: CompiledTask | None, route: Route) -> Iterator[Effect]:
    old, new = config_of(before), config_of(after)
    if before is None or after is None or old is None or new is None:
        return
    place = (*route, "paramMapping")
    if (old.param_mapping is None) != (new.param_mapping is None):
        was, now = ("the whole body" if config.param_mapping is None else "a mapping" for config in (old, new))
        lines = tuple(f"{name}: {quoted(value)}" for name, value in sorted((new.param_mapping or {}).items()))
        yield replace(value_change(EffectKind.MAPPING_CHANGED, "parameters of a delivery", was, now, place), lines=lines)
        return
    sources = _param_sources(before, old), _param_sources(after, new)
    for name, was, now in changed_entries(old.param_mapping or {}, new.param_mapping or {}, "not given"):
        if sources[0].get(name) != sources[1].get(name):
            yield value_change(EffectKind.MAPPING_CHANGED, f"a delivery's {name}", was, now, (*place, name))


def _param_sources(task: CompiledTask, config: WebhookConfig) -> dict[str, object]:
    """Return the source of each parameter of a delivery: a path of the payload, or a value (possibly a default)."""
    paths: dict[str, object] = {}
    values: dict[str, Any] = {}
    for name, source in (config.param_mapping or {}).items():
        if isinstance(source, str):
            paths[name] = ("path", queries.normal_path(source))
            values[name] = None
        else:
            values[name] = source["literal"] if isinstance(source, dict) and set(source) == {"literal"} else source
    filled = apply_defaults(task.spec.params_schema, values)
    return {**{name: ("value", canonical(value)) for name, value in filled.items()}, **paths}
