"""The page of connections: services that runs reach through the gateway."""

import asyncio

from litestar import Response, get

from optio.server.answers.connections import read_connections
from optio.server.auth import role
from optio.server.dependencies import Incoming, InjectedHub
from optio.server.pages.rendering import Pages, page


class ConnectionPages(Pages):
    """The route `/connections`."""

    @get("/connections", opt=role("viewer"))
    async def connections_page(self, request: Incoming, hub: InjectedHub) -> Response[str]:
        """Show what runs may reach through the gateway, by which secrets, and which tasks do."""
        found = await asyncio.to_thread(read_connections, hub)
        return page(request, "connections.html", items=found.items)
