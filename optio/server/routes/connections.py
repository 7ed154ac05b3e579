"""The route of connections: services that runs reach through the gateway."""

import asyncio

from litestar import Controller, get

from optio.server.answers.connections import read_connections
from optio.server.auth import role
from optio.server.bodies.connections import ConnectionListBody
from optio.server.dependencies import InjectedHub


class ConnectionController(Controller):
    """The route `/api/connections`."""

    tags = ("connections",)

    @get("/api/connections", opt=role("viewer"))
    async def list_connections(self, hub: InjectedHub) -> ConnectionListBody:
        """List the connections that served tasks name: what each opens, by which secrets, and to which tasks. Secrets are
        names, and whether this server has a value for them."""
        return await asyncio.to_thread(read_connections, hub)
