"""The ASGI application. Nothing happens at import time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.types import ASGIApp

from optio.errors import OptioError
from optio.live import LiveRegistry
from optio.server import problems
from optio.server.auth import guard
from optio.server.edge import Edge
from optio.server.health import HealthController
from optio.server.hooks import HookController
from optio.server.hub import Feed, Hub
from optio.server.logs import LogController
from optio.server.runs import RunController
from optio.server.tasks import TaskController
from optio.settings import LOOPBACK
from optio.version import __version__
from optio.wiring import Services


def create_app(
    services: Services,
    live: LiveRegistry,
    *,
    reload: Callable[[], Awaitable[object]],
    new_id: Callable[[], str],
    open_access: bool,
    feed: Feed,
) -> ASGIApp:
    """`open_access` serves requests without a token as an admin's: only for one person on one machine."""
    hub = Hub(services=services, live=live, feed=feed, reload=reload, new_id=new_id, open_access=open_access)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        feed.bind(asyncio.get_running_loop())
        unsubscribe = services.broker.subscribe(feed.hint)
        try:
            yield
        finally:
            unsubscribe()

    app = Litestar(
        route_handlers=[TaskController, RunController, LogController, HookController, HealthController],
        dependencies={"hub": Provide(lambda: hub, sync_to_thread=False)},
        guards=[guard],
        exception_handlers={
            OptioError: problems.on_optio_error,
            HTTPException: problems.on_http_exception,
            Exception: problems.on_bug,
        },
        openapi_config=OpenAPIConfig(title="Optio", version=__version__, path="/schema"),
        lifespan=[lifespan],
        request_max_body_size=None,
        logging_config=None,
        debug=False,
    )
    app.state.hub = hub
    hosts = {*LOOPBACK, services.settings.host, *services.settings.allowed_hosts}
    return Edge(app, hosts)
