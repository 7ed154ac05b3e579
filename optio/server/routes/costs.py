"""The route of costs: by day and by task, beside their limits."""

import asyncio

from litestar import Controller, get
from litestar.params import FromQuery

from optio.server.answers.costs import Span, read_costs
from optio.server.auth import role
from optio.server.bodies.costs import CostsBody
from optio.server.dependencies import InjectedHub
from optio.server.routes.runs import Cursor, Limit


class CostController(Controller):
    """The route `/api/costs`."""

    tags = ("tasks",)

    @get("/api/costs", opt=role("viewer"))
    async def get_costs(
        self, hub: InjectedHub, days: FromQuery[Span] = 30, cursor: Cursor = None, limit: Limit = 50
    ) -> CostsBody:
        """Show what the last `days` cost (7, 30 or 90, today included), by day and by task, beside the limits of the policy and
        the worst case of all triggers. An attempt costs on the day of its end, UTC."""
        return await asyncio.to_thread(read_costs, hub, days=days, cursor=cursor, limit=limit)
