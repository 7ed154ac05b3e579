"""Effects of a changed `_policy.yaml`: demands that are added, and (a danger) demands that are dropped."""

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
    """Yield an effect if the policy can no longer be read, or can be read again."""
    if after and not before:
        text = "the policy cannot be read, so it allows nothing: every task stays as it is served"
        yield Effect(kind=EffectKind.POLICY_CHANGED, text=text, weight=EffectWeight.DANGER)
    if before and not after:
        yield Effect(kind=EffectKind.POLICY_CHANGED, text="the policy can be read again; until now it allowed nothing")


def effects(before: PolicySpec | None, after: PolicySpec | None) -> Iterator[Effect]:
    """Yield the differences between two policies, key by key; None is a missing policy, which demands nothing."""
    old, new = before or EMPTY_POLICY, after or EMPTY_POLICY
    for key, was, now in (("ceilings", old.ceilings, new.ceilings), ("fleet", old.fleet, new.fleet)):
        yield from _ceiling_effects(key, was, now)
    if old.executor != new.executor:
        text = f"executor: {old.executor or 'any'} -> {new.executor or 'any'}"
        yield _effect(("executor",), text, new.executor is None)
    if old.sandbox != new.sandbox:
        yield _effect(("sandbox",), f"sandbox: {old.sandbox or 'any'} -> {new.sandbox or 'any'}", new.sandbox is None)
    yield from _list_effects(old.allow, new.allow)
    less, more = new_month_usd(before), new_month_usd(after)
    if less != more:
        text = f"spend in 30 days from which a new task is a danger: {amount(less)} -> {amount(more)}"
        yield _effect(("newMonthUsd",), text, more > less)
    yield from _named_effects(("require",), "required of every task", old.require, new.require)
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
    """Return the 30-day spend from which a new task is a danger, in USD; the default is `NEW_MONTH_USD`."""
    return NEW_MONTH_USD if policy is None or policy.new_month_usd is None else parse_money(policy.new_month_usd)


def _patterns_text(policy: PolicySpec) -> str:
    return ", ".join(f"{pattern}: {name}" for pattern, name in policy.namespaces.items()) or "none"


def _is_lowered(level: str, before: str) -> bool:
    """Compare levels where one side keeps the rule's default: `off` is lower than any, and nothing is higher than `error`."""
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
        yield _effect(route, f"{name} is {'no longer ' if gone else ''}{what}", gone)


def _effect(route: Route, text: str, looser: bool) -> Effect:
    weight = EffectWeight.DANGER if looser else EffectWeight.NOTICE
    return Effect(kind=EffectKind.POLICY_CHANGED, text=text, weight=weight, route=route)
