"""Routes of warm pools: the pods that are kept ready, how often they were used, and what other sizes would cost."""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated

from litestar import Controller, get
from litestar.params import FromQuery, QueryParameter

from optio.server.answers.pools import read_plan, read_pools
from optio.server.auth import role
from optio.server.bodies.pools import PoolListBody, PoolPlanBody
from optio.server.dependencies import InjectedHub

Days = Annotated[int, QueryParameter(ge=1, le=90, description="so many days back, and as many ahead")]
Target = Annotated[float, QueryParameter(gt=0, le=1, description="the share of starts that are to be warm")]
Limit = Annotated[int, QueryParameter(ge=1, le=200, description="most tasks in the answer")]


class PoolController(Controller):
    """Routes of `/api/pools`."""

    tags = ("pools",)

    @get("/api/pools", opt=role("viewer"))
    async def list_pools(self, hub: InjectedHub, since: FromQuery[datetime | None] = None) -> PoolListBody:
        """List the pools as their keeper last reported them, each with the starts of its tasks since then (by default, of one
        day): `warm` if a pod was ready, `cold` if it had to be made, with the time from claim to agent. `reports` gives the
        time of the report. Tasks that want a pool which nobody has reported come last, without `pool`. `shortages` are tasks
        whose runs wait for room, and `startingSlowly` are runs whose agents have not begun yet, each with the reason."""
        return await asyncio.to_thread(read_pools, hub, since)

    @get("/api/pools/plan", opt=role("viewer"), problems=("not-found",))
    async def plan_pools(
        self,
        hub: InjectedHub,
        task: FromQuery[str | None] = None,
        days: Days = 7,
        target: Target = 0.95,
        limit: Limit = 50,
    ) -> PoolPlanBody:
        """Compare sizes of the pools by replaying the starts of the last days and the coming slots of the schedule. The answer
        has tasks with a pool, a schedule or starts, those with a pool first; `left` counts the others."""
        return await asyncio.to_thread(read_plan, hub, task, timedelta(days=days), target, limit)
