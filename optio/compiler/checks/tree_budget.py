"""Check what all tasks together may spend by the caps of the policy. `across` calls it for trees whose policy has such caps."""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from optio.compiler.diagnostics import Diagnostic, diagnostic
from optio.compiler.facts import SpendCap, TaskFacts
from optio.model.money import dollars
from optio.model.route import show
from optio.model.text import parse_money

_LENGTHS = ("in 24 hours", "in 30 days")
_MAX_NAMES = 3
_BOUNDS = {
    "budgetUsd": ('budgetUsd: "1.00"', "the most that a run may cost"),
    "startLimit": ("startLimit: {count: 50, per: 24h}", "the most runs that webhooks may start within a time"),
}


def check(claims: Sequence[TaskFacts]) -> Iterator[Diagnostic]:
    """Report exceeded caps. Of several tasks with the same id only the first counts."""
    tasks = {claim.id: claim for claim in reversed(claims) if claim.id}
    for claim in claims:
        caps = [(place, cap) for place, cap in enumerate(claim.caps) if cap is not None]
        for place, cap in caps:
            yield from _budget(claim.path, cap, place, tasks.values())
        if caps:
            yield from _unbounded(claim.path, caps[0][1], tasks.values())


def _budget(path: str, cap: SpendCap, place: int, tasks: Iterable[TaskFacts]) -> Iterator[Diagnostic]:
    spending = {
        claim.id: Decimal(usd) for claim in tasks if claim.spend is not None and (usd := claim.spend[place]) is not None
    }
    total, cap_usd = sum(spending.values(), Decimal(0)), parse_money(cap.most)
    span, route = cap.place.span, cap.place.route
    if total > cap_usd:
        first = sorted(spending, key=lambda name: (-spending[name], name))
        shares = _names([f"`{name}` ({dollars(spending[name])})" for name in first])
        message = (
            f"all triggers together may spend {dollars(total)} {_LENGTHS[place]}, "
            f"but the policy allows at most ${cap.most} (`{show(route)}`)"
        )
        enough = f'write `{route[-1]}: "{total:f}"` or more'
        hint = f"begin with {shares}: a smaller `budgetUsd`, a `startLimit`, or fewer fires; or {enough}"
        if spending[first[-1]] > cap_usd:
            least = f"`{first[-1]}` ({dollars(spending[first[-1]])})"
            hint = f"{enough}: not even {least} alone fits into it"
        yield diagnostic("OPT708", message, path=path, span=span, route=route, hint=hint)


def _unbounded(path: str, cap: SpendCap, tasks: Iterable[TaskFacts]) -> Iterator[Diagnostic]:
    for key, (entry, meaning) in _BOUNDS.items():
        lacking = [claim for claim in tasks if claim.spend is not None and claim.spend.lacks == key]
        names = sorted(claim.id for claim in lacking)
        if names:
            files = _names(sorted(claim.path for claim in lacking))
            names_text = _names([f"`{name}`" for name in names])
            message = (
                f"{names_text} {'has' if len(names) == 1 else 'have'} no `{key}`, so the spending of all tasks has no limit"
            )
            hint = f"add `{entry}` to {files}, {meaning}"
            yield diagnostic("OPT708", message, path=path, span=cap.place.span, route=cap.place.route, hint=hint)


def _names(names: Sequence[str]) -> str:
    if len(names) <= _MAX_NAMES:
        return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"{', '.join(names[:_MAX_NAMES])} and {len(names) - _MAX_NAMES} more"
