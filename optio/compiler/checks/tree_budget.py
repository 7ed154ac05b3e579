"""All tasks together: what they may spend, and how many start in one minute."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from optio.compiler.diagnostics import Diagnostic, Fix, finding
from optio.compiler.facts import Cap, Claim, When
from optio.model.defaults import MAX_WORKFLOW_CONCURRENT
from optio.model.route import show
from optio.model.text import money

if TYPE_CHECKING:
    from optio.scheduling.calendar import Timed
    from optio.scheduling.collisions import Move

# So many that state one minute are no accident of two.
HERD = 10
# A month that begins on the first of the week and of the year; any would do, for what is looked for repeats.
_AFTER = datetime(2024, 1, 1, tzinfo=UTC) - timedelta(seconds=1)
_UNTIL = _AFTER + timedelta(days=31)
_LENGTHS = ("in 24 hours", "in 30 days")
_MOST_NAMES = 3
_BOUNDS = {
    "budgetUsd": 'add `budgetUsd: "1.00"`, the most that a run may cost',
    "startLimit": "add `startLimit: {count: 50, per: 24h}`, the most runs that webhooks may start within a time",
}


def check(claims: Sequence[Claim]) -> Iterator[Diagnostic]:
    """Of tasks with another's id the first one counts."""
    tasks = {claim.id: claim for claim in reversed(claims) if claim.id}
    yield from _herd(tasks)
    for claim in claims:
        caps = [(place, cap) for place, cap in enumerate(claim.caps) if cap is not None]
        for place, cap in caps:
            yield from _budget(claim.path, cap, place, tasks.values())
        if caps:
            yield from _unbounded(claim.path, caps[0][1], tasks.values())


def _budget(path: str, cap: Cap, place: int, tasks: Iterable[Claim]) -> Iterator[Diagnostic]:
    from optio.compiler.spending import dollars

    spent = {claim.id: Decimal(usd) for claim in tasks if claim.spend is not None and (usd := claim.spend[place]) is not None}
    total, most = sum(spent.values(), Decimal(0)), money(cap.most)
    span, route = cap.place.span, cap.place.route
    if total > most:
        first = sorted(spent, key=lambda name: (-spent[name], name))
        shares = _names([f"`{name}` ({dollars(spent[name])})" for name in first])
        message = (
            f"all triggers together may spend {dollars(total)} {_LENGTHS[place]}, "
            f"and the policy allows at most ${cap.most} (`{show(route)}`)"
        )
        hint = f"begin with {shares}: a smaller `budgetUsd`, a `startLimit`, or fewer fires"
        yield finding("OPT708", message, path=path, span=span, route=route, hint=hint)


def _unbounded(path: str, cap: Cap, tasks: Iterable[Claim]) -> Iterator[Diagnostic]:
    for key, hint in _BOUNDS.items():
        names = sorted(claim.id for claim in tasks if claim.spend is not None and claim.spend.lacks == key)
        if names:
            each = _names([f"`{name}`" for name in names])
            message = f"{each} {'has' if len(names) == 1 else 'have'} no `{key}`, so nothing bounds what all tasks spend"
            yield finding("OPT708", message, path=path, span=cap.place.span, route=cap.place.route, hint=hint)


def _names(names: Sequence[str]) -> str:
    if len(names) <= _MOST_NAMES:
        return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"{', '.join(names[:_MOST_NAMES])} and {len(names) - _MOST_NAMES} more"


def _herd(tasks: Mapping[str, Claim]) -> Iterator[Diagnostic]:
    from optio.scheduling.calendar import Timed
    from optio.scheduling.cron import expand

    # A step or a list of minutes is no choice of one.
    timed = tuple(
        Timed(task_id, claim.when.expression, claim.when.zone)
        for task_id, claim in tasks.items()
        if claim.when is not None and expand(claim.when.expression).split()[0].isdigit()
    )
    for move, most in _moves(timed) if len(timed) >= HERD else ():
        claim = tasks[move.task_id]
        if claim.when is not None:
            yield _crowded(claim.path, claim.when, move.new, most)


@lru_cache(maxsize=2)
def _moves(timed: "tuple[Timed, ...]") -> "list[tuple[Move, int]]":
    """Who should start at another minute, and how many start with it now: in an editor the same from one change to the next."""
    from optio.scheduling.calendar import coming
    from optio.scheduling.collisions import herd, starts

    found = coming(timed, _AFTER, _UNTIL)
    if max(starts(timed, found).values(), default=0) < HERD:
        return []
    together = herd(timed, found, _AFTER, _UNTIL, MAX_WORKFLOW_CONCURRENT)
    crowd = {at: number for at, number in together.crowded if number >= HERD}
    keys = {each.task_id: each.key for each in timed}
    moves = []
    for move in together.moves:
        most = max((crowd.get(fire.at.astimezone(UTC), 0) for fire in found[keys[move.task_id]]), default=0)
        if most:
            moves.append((move, most))
    return moves


def _crowded(path: str, when: When, new: str, most: int) -> Diagnostic:
    span, route = when.place.span, when.place.route
    message = f"{most - 1} other tasks start in the same minute, and {MAX_WORKFLOW_CONCURRENT} runs at once are the default"
    hint = f"write `{new}`, a minute that follows from the task's id; `optio schedule --calendar` shows all of them"
    # What a template says is not to be changed in the task.
    fix = Fix.write(json.dumps(new), span, safe=False) if when.own else None
    return finding("OPT312", message, path=path, span=span, route=route, hint=hint, fix=fix)
