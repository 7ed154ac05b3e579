"""The page of costs, and its CSV."""

import asyncio
from decimal import Decimal
from typing import Annotated, Any, get_args

from litestar import Response, get
from litestar.params import FromQuery, QueryParameter

from optio.server.answers.costs import Span, costs_csv, read_costs
from optio.server.auth import role
from optio.server.bodies.costs import CostsBody
from optio.server.dependencies import Incoming, InjectedHub
from optio.server.pages import charts
from optio.server.pages.rendering import Pages, page

_PAGE = 50
Word = Annotated[str, QueryParameter(max_length=200)]


class CostPages(Pages):
    """Routes of `/costs`."""

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
