"""Histories of a task: triggers, admission, attempts and retries, as they may happen by its file, with what they cost.

`python -m tests.plan.histories 100000` holds so many of them against the stated worst case.
"""

import random
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from heapq import heappop, heappush
from typing import Any

from optio.model.money import DAY, MONTH, ZERO_USD, worst_case
from optio.model.registry import CompiledTask, Origin
from optio.model.task import TaskSpec
from optio.plan.money import task_spend
from optio.runs.admission import starts
from optio.scheduling.cron import fires
from optio.scheduling.zone_transitions import clock_changes
from optio.store.values import AdmissionView, QueuedRun, Quota

NOW = datetime(2026, 10, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
EXPRESSIONS = (
    *("0 9 * * *", "0 6 * * *", "0 9 * * 1", "0 */6 * * *", "0 * * * *", "30 2 25 10 *", "0 0 1 * *", "*/20 9-10 * * 1-5"),
    *("*/15 2 * * *", "*/20 1 * * *", "30 2 * * 0", "0,30 0-3 * * 0,6", "59 23 * * *", "15 1 1,29 * *"),
)
ZONES = (
    *("UTC", "Asia/Kolkata", "Europe/Berlin", "America/New_York", "America/Santiago", "Australia/Lord_Howe"),
    *("Africa/Casablanca", "Asia/Beirut", "Antarctica/Troll"),
)
CLOCKS = {zone: tuple(clock_changes(zone, NOW, datetime(2040, 1, 1, tzinfo=UTC))) for zone in ZONES}


@dataclass(frozen=True, slots=True)
class Spent:
    """An attempt: when its run was triggered, when it started, what it cost."""

    triggered: datetime
    started: datetime
    cost: Decimal


def task_of(chance: random.Random, *, schedule: bool, webhook: bool) -> CompiledTask:
    """Any task with these triggers."""
    triggers: list[dict[str, Any]] = []
    if schedule:
        config = {"cronExpression": chance.choice(EXPRESSIONS), "timezone": chance.choice(ZONES)}
        triggers.append({"type": "schedule", "config": config})
    if webhook:
        triggers.append({"type": "webhook", "config": {"path": "x", "secret": {"name": "S"}}})
    limit = {"count": chance.randint(1, 6), "per": chance.choice(["1m", "10m", "1h", "7h", "24h", "48h"])}
    spec = TaskSpec.of(
        {
            "name": "Task",
            "agentRuntime": "claude-code",
            "promptTemplate": "x",
            "budgetUsd": f"{chance.randint(1, 500) / 100:.2f}",
            "maxRetries": chance.randint(0, 3),
            "maxConcurrent": chance.randint(1, 4),
            "triggers": triggers,
            **({"startLimit": limit} if webhook or chance.random() < 0.5 else {}),
        }
    )
    return CompiledTask(id="task", spec=spec, prompt="x", origin=Origin(path="task.yaml", line=1))


def delivered(chance: random.Random, rate: int, begin: datetime, over: timedelta, most: int) -> list[datetime]:
    """Deliveries that the rate window takes, sent as fast as it takes them or now and then."""
    taken: list[datetime] = []
    window: deque[datetime] = deque()
    at = begin
    while at < begin + over and len(taken) < most:
        while window and window[0] <= at - MINUTE:
            window.popleft()
        if len(window) < rate:
            window.append(at)
            taken.append(at)
        # In bursts: what is sent at one instant is the hardest for a window.
        at += chance.choice([timedelta(0)] * 3 + [timedelta(seconds=1), MINUTE, timedelta(seconds=chance.randint(1, 90))])
        if len(window) == rate and window[0] > at - MINUTE:
            at = window[0] + MINUTE
    return taken


def history(chance: random.Random, task: CompiledTask, triggers: Sequence[datetime]) -> list[Spent]:
    """What becomes of these triggers. Many attempts spend what is left of their run's budget, which is the worst case."""
    spec, budget = task.spec, task.spec.budget_limit or ZERO_USD
    queue: list[tuple[datetime, int, datetime, int, Decimal]] = [
        (at, seq, at, 0, budget) for seq, at in enumerate(sorted(triggers))
    ]
    seq = len(queue)
    running: list[tuple[datetime, int]] = []
    begun: deque[datetime] = deque()
    spent: list[Spent] = []
    queue.sort()
    while queue:
        now = queue[0][0]
        while running and running[0][0] <= now:
            heappop(running)
        quotas = {}
        if spec.start_limit is not None:
            while begun and begun[0] <= now - spec.start_limit.window:
                begun.popleft()
            quotas = {"task": Quota(count=spec.start_limit.count, window=spec.start_limit.window, used=len(begun))}
        due = [each for each in queue if each[0] <= now]
        waiting = [
            QueuedRun(
                run_id=str(number),
                task_id="task",
                seq=number,
                queued_at=now,
                not_before=now,
                max_concurrent=spec.max_concurrent,
            )
            for _, number, _, _, _ in due
        ]
        view = AdmissionView(now=now, waiting=waiting, running={"task": len(running)}, quotas=quotas)
        admitted = set(starts(view, max_running=5))
        left = [each for each in queue if each[0] > now]
        held = [each for each in due if str(each[1]) not in admitted]
        for _, number, triggered, tried, rest in (each for each in due if str(each[1]) in admitted):
            cost = rest if chance.random() < 0.5 else rest * chance.randint(0, 100) / 100
            spent.append(Spent(triggered, now, cost))
            begun.append(now)
            lasts = timedelta(seconds=chance.choice([1, 30, 600, 7200]))
            heappush(running, (now + lasts, number))
            if tried < spec.max_retries and cost < rest and chance.random() < 0.9:
                left.append((now + lasts + timedelta(seconds=5 * 2**tried), seq, triggered, tried + 1, rest - cost))
                seq += 1
        if held:
            # The next moment at which something may be free.
            moments = [end for end, _ in running] + [at for at, *_ in left]
            if spec.start_limit is not None and begun:
                moments.append(begun[0] + spec.start_limit.window)
            now = min(moments)
            left += [(max(at, now), *rest) for at, *rest in held]  # type: ignore[misc]
        queue = sorted(left)
    return spent


def most_spent(spent: Sequence[Spent], over: timedelta) -> Decimal:
    """The most that attempts cost which start, of runs that are triggered, within one stretch of this length."""
    most = Decimal(0)
    for begin in {each.triggered for each in spent}:
        within = (each.cost for each in spent if begin <= each.triggered and each.started < begin + over)
        most = max(most, sum(within, Decimal(0)))
    return most


def hold_webhook(chance: random.Random) -> tuple[Decimal, Decimal]:
    """(spent, stated) of a webhook with a start limit that is sent to for a while."""
    task = task_of(chance, schedule=False, webhook=True)
    rate, over = chance.randint(4, 20), timedelta(minutes=chance.randint(1, 8))
    sent = delivered(chance, rate, NOW, over * chance.randint(1, 2), 60)
    stated = worst_case(task.spec, fires=0, over=over).usd
    assert stated is not None
    return most_spent(history(chance, task, sent), over), stated


def hold_schedule(chance: random.Random) -> tuple[Decimal, Decimal]:
    """(spent, stated) of a schedule in a day or in 30 days, near a change of its zone's clocks if there is one."""
    task = task_of(chance, schedule=True, webhook=False)
    assert task.spec.schedule is not None
    config = task.spec.schedule.config
    over = chance.choice([DAY, MONTH])
    clocks = CLOCKS[config.timezone]
    near = chance.choice(clocks).at if clocks else NOW
    begin = near - MINUTE * chance.randint(0, (over + DAY) // MINUTE)
    slots = []
    for at in fires(config.cron_expression, config.timezone, begin):
        if at > begin + over + DAY or len(slots) == 60:
            break
        slots.append(at)
    found = task_spend(task)
    stated = (found.day if over == DAY else found.month).usd
    assert stated is not None
    return most_spent(history(chance, task, slots), over), stated


def main(count: int, seed: int) -> None:
    """Prints how near the worst case was come to."""
    for hold in (hold_webhook, hold_schedule):
        reached, over = 0, 0
        for number in range(count // 2):
            spent, stated = hold(random.Random(f"{seed} {number}"))
            over += spent > stated
            reached += spent == stated
        print(f"{hold.__name__}: {count // 2:,} histories, {over} over the worst case, {reached:,} at it exactly")


if __name__ == "__main__":
    main(int(sys.argv[1]), 1)
