"""Pages over all tasks: their costs, also as CSV, and the queue with what its runs wait for."""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, get_args

from litestar import Response, get
from litestar.params import FromQuery

from optio.runs.admission import HoldReason
from optio.server.answers.costs import Span, costs_csv, read_costs
from optio.server.auth import role
from optio.server.bodies.costs import CostsBody
from optio.server.dependencies import Incoming, InjectedHub
from optio.server.pages import charts
from optio.server.pages.rendering import Pages, Word, page

_PAGE = 50
# Each reason in words, and what lets its runs start.
REASONS: Mapping[str | None, tuple[str, str]] = {
    None: ("about to start", "a worker takes them at once"),
    "paused": ("paused", "somebody ends the pause of the task"),
    "no_worker": ("no worker", "a worker starts that serves their namespace"),
    "delayed": ("delayed", "the time of their next attempt comes"),
    "same_key": ("same key", "the run that has their business key ends"),
    "start_limit": ("start limit", "earlier starts leave the window of startLimit"),
    "task_limit": ("task limit", "a run of the task ends (maxConcurrent)"),
    "no_room": ("no room", "the cluster has room"),
    "refused": ("refused", "the cluster or the machine starts agents again"),
    "secret_source": ("secrets", "their secrets can be read again"),
    "priority": ("priority", "runs of higher priority have started"),
    "global_limit": ("global limit", "any run ends (OPTIO_MAX_WORKFLOW_CONCURRENT)"),
}


class OverviewPages(Pages):
    """Routes of `/costs` and `/queue`."""

    @get("/costs", opt=role("viewer"))
    async def costs_page(
        self, request: Incoming, hub: InjectedHub, days: FromQuery[Span] = 30, cursor: Word = ""
    ) -> Response[str]:
        """Show the costs of some days as bars, and of each task as a table."""
        costs = await asyncio.to_thread(read_costs, hub, days=days, cursor=cursor or None, limit=_PAGE)
        return page(request, "costs.html", costs=costs, days=days, spans=get_args(Span), **_chart(costs))

    @get("/costs.csv", opt=role("viewer"))
    async def costs_as_csv(self, hub: InjectedHub, days: FromQuery[Span] = 30) -> Response[str]:
        """Return the table of all tasks as CSV."""
        text = await asyncio.to_thread(costs_csv, hub, days)
        name = f'attachment; filename="optio-costs-{days}-days.csv"'
        return Response(text, media_type="text/csv", headers={"content-disposition": name})

    @get("/queue", opt=role("viewer"))
    async def queue_page(
        self,
        request: Incoming,
        hub: InjectedHub,
        reason: FromQuery[Literal["", HoldReason]] = "",
        task: Word = "",
        cursor: Word = "",
    ) -> Response[str]:
        """Show what the queued runs wait for, and the runs that wait, oldest first."""
        queue = await asyncio.to_thread(
            hub.queue.read, reason=reason or None, task_id=task or None, cursor=cursor or None, limit=_PAGE
        )
        return page(request, "queue.html", found=queue, filters={"reason": reason, "task": task}, reasons=REASONS)


def _chart(costs: CostsBody) -> dict[str, Any]:
    amounts = [[*map(Decimal, day.dearest), Decimal(day.others_usd)] for day in costs.days]
    top = charts.round_up(max((sum(day_amounts, Decimal(0)) for day_amounts in amounts), default=Decimal(0)))
    step = charts.CHART_WIDTH / max(1, len(costs.days))
    labels = [(round(place * step + step / 2, 1), day.date[5:]) for place, day in enumerate(costs.days)]
    return {
        "bars": list(zip(costs.days, charts.stacked_bars(amounts, top), strict=True)),
        "series": [*costs.dearest, "others"],
        "top": top,
        "axis": [_axis(top), _axis(top / 2), "$0"],
        # Seven dates at most, so that none covers another.
        "labels": labels[:: max(1, -(-len(labels) // 7))],
        "step": step,
        "pace": _share(costs.month_usd, costs.fleet_ceiling_usd),
    }


def _axis(amount: Decimal) -> str:
    # The label has room for seven characters.
    if amount >= 10_000:
        return f"${amount / 1000:,.0f}k" if amount < 10_000_000 else f"${amount / 1_000_000:,.0f}M"
    return f"${amount:,.0f}" if amount >= 5 else f"${amount.normalize():f}"


def _share(part: str, total: str | None) -> float | None:
    return None if total is None or not Decimal(total) else float(Decimal(part) / Decimal(total))
