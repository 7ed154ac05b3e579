"""Webhook requests as they came, and what became of them."""

import asyncio
from typing import Annotated, Any

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from optio.server import views
from optio.server.auth import role
from optio.server.hub import Hub

Limit = Annotated[int, QueryParameter(ge=1, le=200, description="most deliveries in the answer")]


class DeliveryController(Controller):
    """See the module."""

    tags = ("webhooks",)

    @get("/api/deliveries", opt=role("viewer"))
    async def deliveries(
        self,
        hub: NamedDependency[Hub],
        task: FromQuery[str | None] = None,
        cursor: FromQuery[str | None] = None,
        limit: Limit = 50,
    ) -> dict[str, Any]:
        """Webhook requests, newest first, with what became of each."""
        found = await asyncio.to_thread(hub.services.store.deliveries, task_id=task, cursor=cursor, limit=limit)
        return views.page(found, [views.delivery(item) for item in found.items])

    @get("/api/deliveries/{delivery_id:str}", opt=role("viewer"))
    async def delivery(self, delivery_id: FromPath[str], hub: NamedDependency[Hub]) -> dict[str, Any]:
        """One request, with its body as text."""
        found = await asyncio.to_thread(hub.services.store.delivery, delivery_id)
        text = None if found.body is None else found.body.decode("utf-8", "backslashreplace")
        return {**views.delivery(found), "body": text}
