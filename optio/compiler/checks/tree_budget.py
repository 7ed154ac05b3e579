"""Check all tasks together: what they may spend by the caps of the policy, and how many schedules start in the same minute.
Called by `across` for strict checks and for trees whose policy has such caps."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from optio.compiler.diagnostics import Diagnostic, Fix, diagnostic
from optio.compiler.facts import ScheduleFacts, SpendCap, TaskFacts
from optio.model.defaults import MAX_WORKFLOW_CONCURRENT
from optio.model.money import dollars
from optio.model.route import show
from optio.model.text import parse_money

if TYPE_CHECKING:
    from optio.scheduling.calendar import TimedTask
    from optio.scheduling.collisions import MinuteMove

# With this many tasks in one minute, it is worth a warning.
MIN_CROWD = 10
# A month that begins on a Monday. Any month would do, because the pattern repeats.
_AFTER = datetime(2024, 1, 1, tzinfo=UTC) - timedelta(seconds=1)
_UNTIL = _AFTER + timedelta(days=31)
_LENGTHS = ("in 24 hours", "in 30 days")
_MAX_NAMES = 3
_BOUNDS = {
    "budgetUsd": ('budgetUsd: "1.00"', "the most that a run may cost"),
    "startLimit": ("startLimit: {count: 50, per: 24h}", "the most runs that webhooks may start within a time"),
}


def check(claims: Sequence[TaskFacts]) -> Iterator[Diagnostic]:
    """Report exceeded caps and crowded minutes. Of several tasks with the same id only the first counts."""
    tasks = {claim.id: claim for claim in reversed(claims) if claim.id}
    yield from _crowds(tasks)
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


def _crowds(tasks: Mapping[str, TaskFacts]) -> Iterator[Diagnostic]:
    from optio.scheduling.calendar import TimedTask
    from optio.scheduling.cron import expand

    # Only schedules with a single minute can be moved.
    schedules = tuple(
        TimedTask(task_id, claim.when.expression, claim.when.zone)
        for task_id, claim in tasks.items()
        if claim.when is not None and expand(claim.when.expression).split()[0].isdigit()
    )
    for move, crowd in _moves(schedules) if len(schedules) >= MIN_CROWD else ():
        claim = tasks[move.task_id]
        if claim.when is not None:
            yield _crowded(claim.path, claim.when, move.new, crowd)


@lru_cache(maxsize=2)
def _moves(schedules: "tuple[TimedTask, ...]") -> "list[tuple[MinuteMove, int]]":
    """Return the tasks that should start in another minute, with the number that now start together. Cached, because an editor
    asks again after every change."""
    from optio.scheduling.calendar import fires_by_schedule
    from optio.scheduling.collisions import count_starts, find_collisions

    fires = fires_by_schedule(schedules, _AFTER, _UNTIL)
    if max(count_starts(schedules, fires).values(), default=0) < MIN_CROWD:
        return []
    collisions = find_collisions(schedules, fires, _AFTER, _UNTIL, MAX_WORKFLOW_CONCURRENT)
    crowd = {at: number for at, number in collisions.crowded if number >= MIN_CROWD}
    keys = {schedule.task_id: schedule.key for schedule in schedules}
    moves = []
    for move in collisions.moves:
        largest = max((crowd.get(fire.at.astimezone(UTC), 0) for fire in fires[keys[move.task_id]]), default=0)
        if largest:
            moves.append((move, largest))
    return moves


def _crowded(path: str, schedule: ScheduleFacts, new: str, crowd: int) -> Diagnostic:
    span, route = schedule.place.span, schedule.place.route
    message = (
        f"{crowd - 1} other tasks start in the same minute, and by default {MAX_WORKFLOW_CONCURRENT} runs at once are allowed"
    )
    hint = f"write `{new}`, a minute derived from the task's id; `optio schedule --calendar` shows them all"
    # A value from a template cannot be changed in the task's file.
    fix = Fix.write(json.dumps(new), span, safe=False) if schedule.own else None
    return diagnostic("OPT312", message, path=path, span=span, route=route, hint=hint, fix=fix)
