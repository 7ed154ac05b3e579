"""Suggest the path that was probably meant by one that a sender's deliveries do not have."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from optio.compiler.payloads.deliveries import WORDS, DeliveryKind, SentField, read_type
from optio.compiler.suggest import suggest

_MAX_EVENTS = 5
_MAX_SLIP = 3
# Fields by which people name an object, the most telling ones first.
_NAMES = ("full_name", "path_with_namespace", "login", "username", "title", "name", "summary", "number", "ref", "id")


class NearPath(NamedTuple):
    """The cure for a path that finds nothing: the hint, and the path if there is one that is spelt nearly so."""

    hint: str
    path: str | None = None


def path_text(steps: Sequence[str], root: str = "$") -> str:
    """Return the steps as a JSONPath."""
    return root + "".join(
        f".{step}"
        if re.fullmatch(r"[A-Za-z_]\w*", step, re.ASCII)
        else f"[{step}]"
        if step.lstrip("-").isdigit()
        else f"['{step}']"
        for step in steps
    )


def naming_field(delivery: DeliveryKind, steps: Sequence[str], kinds: Sequence[str]) -> str | None:
    """Return the field of the object at a path that names it and has one of these kinds, or any such field."""
    fields = delivery.fields_at(steps)
    fitting = [name for name, typed in fields.items() if read_type(typed).kind in kinds]
    return next((name for name in (*_NAMES, *fitting) if name in fitting), None)


def naming_item(delivery: DeliveryKind, field: SentField) -> str | None:
    """Return the field by which the objects of a list are named, or None for a list of plain values."""
    fields = delivery.table.fields_of(field.item[1:]) if delivery.table is not None and field.item[:1] == "@" else {}
    return next((name for name in _NAMES if name in fields), None)


def explain_missing_path(
    steps: tuple[str, ...], deliveries: Sequence[DeliveryKind], root: str = "$", *, item: str = "[0]", equal: str | None = None
) -> NearPath | None:
    """Return the cure for a path that none of the deliveries has, or None if it resembles nothing that they have. Behind a
    list, the cure writes `item`, or for a comparison with the literal `equal` a filter of the items."""
    delivery, depth = max(((kind, _depth(kind, steps)) for kind in deliveries), key=lambda pair: pair[1])
    parent_steps, child_steps = steps[:depth], steps[depth + 1 :]
    parent = delivery.find(parent_steps) if parent_steps else None
    if parent is not None and parent.field.kind not in ("object", "any"):
        return _below_value(path_text(parent_steps, root), steps[depth:], parent.field, item, equal)
    name = _spelt(steps[depth], delivery.fields_at(parent_steps))
    if name is not None:
        spelt = (*parent_steps, name, *child_steps)
        if _depth(delivery, spelt) == len(spelt):
            return NearPath(f"did you mean `{path_text(spelt, root)}`?", path_text(spelt, root))
        place = delivery.find((*parent_steps, name))
        if place is not None and place.field.kind == "array":
            return explain_missing_path(spelt, [delivery], root, item=item, equal=equal)
    between = _with_level(parent_steps, steps[depth:], deliveries)
    if between is not None:
        return NearPath(f"did you mean `{path_text(between, root)}`?", path_text(between, root))
    return _elsewhere(steps, deliveries, delivery, root)


def _elsewhere(
    steps: tuple[str, ...], deliveries: Sequence[DeliveryKind], delivery: DeliveryKind, root: str
) -> NearPath | None:
    """Return the cure for a path whose end stands elsewhere in the deliveries, or that other events have."""
    tails = (steps[count:] for count in range(1, len(steps)))
    tail_elsewhere = next((tail for tail in tails if all(_has(kind, tail) for kind in deliveries)), None) or _same_end(
        steps, deliveries, 2
    )
    if tail_elsewhere is not None:
        return NearPath(f"did you mean `{path_text(tail_elsewhere, root)}`?")
    events = _events_with(steps, delivery)
    if events and len(events) <= _MAX_EVENTS:
        return NearPath(f"delete it, or accept events that have it: {' or '.join(f'`{event}`' for event in events)}")
    if events:
        return NearPath("delete it: other events have it, and none of these")
    tail_elsewhere = _same_end(steps, deliveries, 1) if len(steps) <= (1 if delivery.is_complete else 2) else None
    return None if tail_elsewhere is None else NearPath(f"did you mean `{path_text(tail_elsewhere, root)}`?")


def _spelt(step: str, fields: Collection[str]) -> str | None:
    """Return the field that a name is a slip of, or the beginning of."""
    suggestion = suggest(step, fields)
    if suggestion is not None and abs(len(suggestion) - len(step)) <= _MAX_SLIP:
        return suggestion
    completions = [name for name in fields if name.startswith(step)] if len(step) > _MAX_SLIP else []
    return completions[0] if len(completions) == 1 else None


def _below_value(text: str, rest: tuple[str, ...], field: SentField, item: str, equal: str | None) -> NearPath:
    """Return the cure for a path that goes on below a list, or below a value without fields."""
    if rest[0] in ("length", "size", "count") and field.kind in ("array", "string"):
        return NearPath(f"write `length({text})`" if text[0] == "@" else f"map `{text}`: a path computes nothing")
    if field.kind == "array":
        write = f"{text}{item}{path_text(rest, '')}" if equal is None else f"{text}[?{path_text(rest, '@')} == {equal}]"
        return NearPath(f"`{text}` is a list: write `{write}`")
    return NearPath(f"write `{text}`, which is {WORDS[field.kind]} and has no fields", text)


def _has(delivery: DeliveryKind, path: Sequence[str]) -> bool:
    """Return True if the table lists the field at a path; of an open object it lists none."""
    return path[-1] in delivery.fields_at(path[:-1])


def _depth(delivery: DeliveryKind, steps: Sequence[str]) -> int:
    """Return how many of the steps the delivery surely has."""
    for count in range(1, len(steps) + 1):
        place = delivery.find(steps[:count])
        if place is None or place.is_unseen:
            return count - 1
    return len(steps)


def _with_level(
    parent_steps: tuple[str, ...], rest: tuple[str, ...], deliveries: Sequence[DeliveryKind]
) -> tuple[str, ...] | None:
    """Return the only path with one more level between two parts of a path, such as `data.object.amount`."""
    if not parent_steps:
        return None
    levels = [(*parent_steps, name, *rest) for name in deliveries[0].fields_at(parent_steps) if not name.startswith("_")]
    paths = [path for path in levels if all(_has(kind, path) for kind in deliveries)]
    return paths[0] if len(paths) == 1 else None


def _same_end(steps: tuple[str, ...], deliveries: Sequence[DeliveryKind], least: int) -> tuple[str, ...] | None:
    """Return the only path of most deliveries, nearest to the root, that ends in the same names: as many as possible."""
    counts = Counter(path for kind in deliveries for path, _ in kind.paths() if "._" not in path)
    paths = sorted((tuple(path[2:].split(".")) for path, count in counts.items() if 2 * count > len(deliveries)), key=len)
    for count in range(len(steps), least - 1, -1):
        ends = [path for path in paths if path[-count:] == steps[-count:]]
        nearest = [path for path in ends if len(path) == len(ends[0])]
        if nearest:
            return nearest[0] if len(nearest) == 1 else None
    return None


def _events_with(steps: tuple[str, ...], delivery: DeliveryKind) -> list[str]:
    """Return the events whose deliveries have the path. Examples do not show which have it not."""
    table = delivery.table
    if table is None or not table.complete:
        return []
    return [event for event in table.events if any(_has(kind, steps) for kind in table.deliveries(event))]
