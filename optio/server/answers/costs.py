"""The costs of some days: by day and by task, beside the limits of the policy and the worst case of the plan. Used by `GET
/api/costs`, the page `/costs` and its CSV.

Sums over all tasks are those of `recent_totals`; the rest is read for the tasks that are shown.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Literal

from optio.errors import Invalid, Problem
from optio.model.run_totals import RunTotals
from optio.model.usage import CostSource
from optio.plan import money
from optio.server.bodies.costs import CostsBody, CostSourcesBody, DayCostBody, TaskCostBody
from optio.server.dependencies import Hub
from optio.server.read_models.overview import DAYS
from optio.server.read_models.totals import AllTotals
from optio.server.serializers import to_body
from optio.tree.served import Snapshot

# The spans that may be asked for, in days.
Span = Literal[7, 30, 90]
_MAX_DEAREST = 7
_CENT_MILLIONTH = Decimal("0.000001")
_COLUMNS = (
    "task", "name", "runs_ended", "completed", "failed", "cancelled", "attempts", "attempts_without_cost", "cost_usd",
    "cost_usd_cli", "cost_usd_prices", "cost_usd_estimate", "tokens_fresh", "tokens_cached", "tokens_cache_write",
    "tokens_output",
)  # fmt: skip


def read_costs(hub: Hub, *, days: Span = 30, cursor: str | None = None, limit: int = 50) -> CostsBody:
    """Return the costs of so many days and a page of the tasks. Raises Invalid for a cursor that no page gave."""
    snapshot, totals = hub.snapshot, hub.totals.of_days(days)
    ids = list(totals.costs)
    first = _position(cursor)
    month = totals if days == DAYS else hub.totals.of_days(DAYS)
    dearest = [task_id for task_id in ids[:_MAX_DEAREST] if totals.costs[task_id]]
    total, worst = totals.cost, hub.overview.worst_case(snapshot)
    page_ids = ids[first : first + limit]
    return to_body(
        CostsBody,
        totals,
        cost_usd=total,
        month_usd=month.cost,
        fleet_ceiling_usd=hub.policy.fleet_month_usd,
        task_ceiling_usd=hub.policy.task_month_usd,
        worst_case_usd=worst.month,
        unbounded=len(worst.lacking),
        dearest=dearest,
        days=list(_days(hub, totals, dearest, days)),
        items=[_task(task_id, totals.by_task[task_id], total, snapshot) for task_id in page_ids],
        next=str(first + limit) if len(ids) > first + limit else None,
    )


def _position(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 9:
        raise Invalid("the cursor is invalid", [Problem("/cursor", "use `next` of the previous page")])
    return int(cursor)


def _days(hub: Hub, totals_by_task: AllTotals, dearest: Sequence[str], count: int) -> Iterator[DayCostBody]:
    of_dearest = hub.services.store.totals_by_day(totals_by_task.since, dearest) if dearest else {}
    for place in range(count):
        day = totals_by_task.since + timedelta(days=place)
        totals, parts = totals_by_task.by_day.get(day, RunTotals()), of_dearest.get(day, {})
        costs = [parts[task_id].cost if task_id in parts else Decimal(0) for task_id in dearest]
        # The parts may be a minute newer than the sum.
        day_cost = max(totals.cost, sum(costs, Decimal(0)))
        others = day_cost - sum(costs, Decimal(0))
        dearest_usd = [f"{cost:f}" for cost in costs]
        yield to_body(DayCostBody, totals, date=day, cost_usd=day_cost, dearest=dearest_usd, others_usd=others)


def _task(task_id: str, totals: RunTotals, all_tasks: Decimal, snapshot: Snapshot) -> TaskCostBody:
    task, cost = snapshot.registry.tasks.get(task_id), totals.cost
    bound = None if task is None else money.task_spend(task).bound
    return to_body(
        TaskCostBody,
        totals,
        task_id=task_id,
        name=None if task is None else task.spec.name,
        per_run_usd=(cost / totals.ended).quantize(_CENT_MILLIONTH) if totals.ended else None,
        share=float(cost / all_tasks) if all_tasks else None,
        sources=CostSourcesBody(**{source.value: f"{totals.costs.get(source, Decimal(0)):f}" for source in CostSource}),
        worst_case_usd=bound,
    )


def costs_csv(hub: Hub, days: Span) -> str:
    """Return the totals of all tasks over so many days as CSV, the dearest first."""
    snapshot, all_totals = hub.snapshot, hub.totals.of_days(days)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    for task_id in all_totals.costs:
        totals, task = all_totals.by_task[task_id], snapshot.registry.tasks.get(task_id)
        usage, costs = totals.usage, totals.costs
        writer.writerow(
            [
                _cell(task_id), _cell("" if task is None else task.spec.name), totals.ended, totals.completed, totals.failed,
                totals.cancelled, totals.attempts, totals.unpriced, f"{totals.cost:f}",
                *(f"{costs.get(source, Decimal(0)):f}" for source in CostSource),
                usage.fresh, usage.cached, usage.cache_write, usage.output,
            ]
        )  # fmt: skip
    return text.getvalue()


def _cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
