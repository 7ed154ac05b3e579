"""The policy of the tree, before and after: what it asks of every task."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from optio.model.effect import EffectKind, EffectWeight
from optio.model.policy import Allow, Ceilings, Fleet, PolicySpec
from optio.model.route import Route, show
from optio.model.spec import keys_of, names_of
from optio.model.text import parse_duration, parse_money
from optio.plan.effect import NEW_MONTH_USD, Effect
from optio.plan.words import amount, shorten_pair

EMPTY_POLICY = PolicySpec.of({"type": "policy"})
_LEVELS = ("off", "info", "warning", "error")


def readability_effects(before: bool, after: bool) -> Iterator[Effect]:
    """A policy that cannot be read any more, or can be again."""
    if after and not before:
        text = "the policy cannot be read, and allows nothing until it can: every task stays as it is served"
        yield Effect(kind=EffectKind.POLICY_CHANGED, text=text, weight=EffectWeight.DANGER)
    if before and not after:
        yield Effect(kind=EffectKind.POLICY_CHANGED, text="the policy can be read again; before, it allowed nothing")


def effects(before: PolicySpec | None, after: PolicySpec | None) -> Iterator[Effect]:
    """What it asks for more, and (danger) what it gives up."""
    old, new = before or EMPTY_POLICY, after or EMPTY_POLICY
    for key, was, now in (("ceilings", old.ceilings, new.ceilings), ("fleet", old.fleet, new.fleet)):
        yield from _ceiling_effects(key, was, now)
    if old.executor != new.executor:
        text = f"executor: {old.executor or 'any'} -> {new.executor or 'any'}"
        yield _effect(("executor",), text, new.executor is None)
    yield from _list_effects(old.allow, new.allow)
    less, more = new_month_usd(before), new_month_usd(after)
    if less != more:
        text = f"a new task is a danger from {amount(less)} in 30 days on -> from {amount(more)} on"
        yield _effect(("newMonthUsd",), text, more > less)
    yield from _named_effects(("require",), "asked of every task", old.require, new.require)
    yield from _named_effects(("failOn",), "a reason for a plan to fail", old.fail_on, new.fail_on)
    if list(old.namespaces.items()) != list(new.namespaces.items()):
        shown = shorten_pair(*(_patterns_text(each) for each in (old, new)))
        kept = all(new.namespaces.get(pattern) == name for pattern, name in old.namespaces.items())
        yield _effect(("namespaces",), f"namespaces: {shown[0]} -> {shown[1]}", not kept)
    for code in sorted({*old.rules, *new.rules}):
        level, other = old.rules.get(code, "as usual"), new.rules.get(code, "as usual")
        if level != other:
            usual = "as usual" in (level, other)
            looser = _is_lowered(other, level) if usual else _LEVELS.index(other) < _LEVELS.index(level)
            yield _effect(("rules", code), f"{code}: {level} -> {other}", looser)


def new_month_usd(policy: PolicySpec | None) -> Decimal:
    """What a new task may spend in 30 days before it is a danger."""
    return NEW_MONTH_USD if policy is None or policy.new_month_usd is None else parse_money(policy.new_month_usd)


def _patterns_text(policy: PolicySpec) -> str:
    return ", ".join(f"{pattern}: {name}" for pattern, name in policy.namespaces.items()) or "none"


def _is_lowered(level: str, before: str) -> bool:
    """Where one of both is not said: what is off is less than it was, and what was an error may be less."""
    return level == "off" or before == "error"


def _ceiling_effects(key: str, old: Ceilings | Fleet, new: Ceilings | Fleet) -> Iterator[Effect]:
    for field in keys_of(type(old)):
        was, now = getattr(old, field.name), getattr(new, field.name)
        if _shown_value(field.name, was) == _shown_value(field.name, now):
            continue
        route, name = (key, field.written), field.name
        looser = now is None or (was is not None and _shown_value(name, now) > _shown_value(name, was))
        shown = ["none" if each is None else f"{each}" for each in (was, now)]
        yield _effect(route, f"{show(route)}: {shown[0]} -> {shown[1]}", looser)


def _shown_value(name: str, value: Any) -> Any:
    if value is None or isinstance(value, int):
        return value
    return parse_money(value) if name.endswith("_usd") else Decimal(parse_duration(value).total_seconds())


def _list_effects(old: Allow, new: Allow) -> Iterator[Effect]:
    for name in names_of(Allow):
        was, now = getattr(old, name), getattr(new, name)
        if (None if was is None else sorted(set(was))) == (None if now is None else sorted(set(now))):
            continue
        more = now is None or (was is not None and set(now) - set(was))
        shown = shorten_pair(
            *("anything" if each is None else ", ".join(sorted(set(each))) or "nothing" for each in (was, now))
        )
        yield _effect(("allow", name), f"allowed {name}: {shown[0]} -> {shown[1]}", bool(more))


def _named_effects(route: Route, what: str, old: Sequence[str], new: Sequence[str]) -> Iterator[Effect]:
    for name in sorted({*old} ^ {*new}):
        gone = name in old
        yield _effect(route, f"{name} is {what}{' no more' if gone else ''}", gone)


def _effect(route: Route, text: str, looser: bool) -> Effect:
    weight = EffectWeight.DANGER if looser else EffectWeight.NOTICE
    return Effect(kind=EffectKind.POLICY_CHANGED, text=text, weight=weight, route=route)
