"""The ASGI application: routes, webhooks, WebSockets and the layers around them, put together. Importing it has no side
effects."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import datetime
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from litestar import Controller, Litestar, Request, Response
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, Receive, Scope, Send
from litestar.typing import FieldDefinition

from optio import wiring
from optio.broker.base import Topic
from optio.errors import OptioError
from optio.server import openapi, pages, problems, routes
from optio.server.auth import AccessControl, guard
from optio.server.browser import BrowserAccess
from optio.server.dependencies import Hub
from optio.server.http_guard import HttpGuard
from optio.server.in_time import RequestDeadline
from optio.server.log_fanout import LogFanout
from optio.server.pages.rendering import Pages
from optio.server.routes.metrics import health_samples, registry_samples, store_samples
from optio.server.sockets import Sockets
from optio.server.webhooks import PREFIX, WebhookReceiver
from optio.settings import LOOPBACK
from optio.tree.served import ServedRegistry
from optio.wiring import Services


def create_app(
    services: Services,
    served_registry: ServedRegistry,
    *,
    reload: Callable[[Collection[str]], Awaitable[object]],
    new_id: Callable[[], str],
    log_fanout: LogFanout,
    dev_token: str | None = None,
) -> ASGIApp:
    """Return the whole application. `dev_token` is an admin's token for this start of `optio dev`, which browsers may keep in a
    cookie."""
    hub = Hub(
        services,
        served_registry,
        reload,
        access_control=AccessControl(services.store, dev_token=dev_token),
        identity=wiring.identity(services.settings),
        log_fanout=log_fanout,
        new_id=new_id,
    )
    if services.metrics is not None:
        services.metrics.add(lambda: store_samples(services.store, served_registry))
        services.metrics.add(lambda: registry_samples(served_registry))
        services.metrics.add(lambda: health_samples(services, served_registry, hub.fleet))
    hosts = {*LOOPBACK, services.settings.host, *services.settings.allowed_hosts}
    front: ASGIApp = RequestDeadline(_Front(hub, WebhookReceiver(hub), Sockets(hub)))
    return HttpGuard(BrowserAccess(front, dev_token), hosts)


@cache
def rest() -> Litestar:
    """Return the Litestar application for all but webhooks and WebSockets. A process has one, which takes 150 ms to make:
    each request brings the hub of its server in its state."""
    app = _Rest(
        route_handlers=_controllers(),
        dependencies={"hub": Provide(_hub_of, sync_to_thread=False)},
        guards=[guard],
        exception_handlers={
            OptioError: problems.on_optio_error,
            HTTPException: problems.on_http_exception,
            Exception: problems.on_bug,
        },
        openapi_config=openapi.config(),
        request_max_body_size=None,
        logging_config=None,
        debug=False,
    )
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler, parameters in route.route_handler_map.values():
                aliases = {parameter.field_name: parameter.field_alias for parameter in parameters.expected_query_params}
                signatures = [provider.parsed_fn_signature for provider in handler.resolve_dependencies().values()]
                kinds: dict[str, FieldDefinition] = {}
                for signature in (*signatures, handler.parsed_fn_signature):
                    kinds |= signature.parameters
                handler.opt["query"] = aliases
                handler.opt["required"] = {
                    parameter.field_alias for parameter in parameters.expected_query_params if parameter.is_required
                }
                handler.opt["texts"] = {alias for name, alias in aliases.items() if _takes(str, kinds[name])}
                handler.opt["times"] = {alias for name, alias in aliases.items() if _takes(datetime, kinds[name])}
            if len(route.methods) > 1:
                # The framework's own answer knows only the first method of a path.
                route.route_handler_map["OPTIONS"][0].before_request = _answer_options(route.methods)
    return app


def _controllers() -> list[type[Controller]]:
    """Return the controllers that the modules of the API and of the pages define."""
    names = [f"{package.__name__}.{module.name}" for package in (routes, pages) for module in iter_modules(package.__path__)]
    members = [(name, member) for name in names for member in vars(import_module(name)).values()]
    controllers = [(name, member) for name, member in members if isinstance(member, type) and issubclass(member, Controller)]
    return [member for name, member in controllers if member.__module__ == name and member is not Pages]


class _Rest(Litestar):
    """Litestar without its plugins for models of other libraries. By itself it loads pydantic wherever that is installed, which
    takes a tenth of a start."""

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return [*plugins, MsgspecDIPlugin()]


def _hub_of(request: Request[Any, Any, Any]) -> Hub:
    hub: Hub = request.scope["state"]["hub"]
    return hub


def _takes(kind: type, parameter: FieldDefinition) -> bool:
    return any(definition.annotation is kind for definition in (parameter, *parameter.inner_types))


def _answer_options(methods: Iterable[str]) -> Callable[[Request[Any, Any, Any]], Awaitable[Response[None]]]:
    allow = ", ".join(sorted(methods))

    async def answer(request: Request[Any, Any, Any]) -> Response[None]:
        return Response(None, status_code=204, headers={"Allow": allow})

    return answer


class _Front:
    """The dispatcher that sends each connection to webhooks, WebSockets or the REST application."""

    def __init__(self, hub: Hub, webhooks: ASGIApp, sockets: ASGIApp) -> None:
        self._hub, self._rest, self._webhooks, self._sockets = hub, rest(), webhooks, sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind: Any = scope["type"]
        if kind == "lifespan":
            await self._live(receive, send)
        elif kind == "websocket":
            await self._sockets(scope, receive, send)
        elif kind == "http" and scope["path"].startswith(PREFIX):
            await self._webhooks(scope, receive, send)
        else:
            # Pages only: a stream of the API would not end. The HTTP server leaves the body out.
            page = kind == "http" and scope.get("method") == "HEAD" and not scope["path"].startswith("/api/")
            state = {**scope.get("state", {}), "hub": self._hub}
            await self._rest({**scope, "state": state, **({"method": "GET"} if page else {})}, receive, send)  # type: ignore[arg-type]

    async def _live(self, receive: Any, send: Any) -> None:
        """Follow runs from the server's start until its end."""
        hub = self._hub
        await receive()
        hub.log_fanout.bind(asyncio.get_running_loop())
        listeners = (hub.log_fanout.hint, hub.run_fanout.hint)
        unsubscribe = [hub.services.broker.subscribe(listener, (Topic.RUN,)) for listener in listeners]
        following = asyncio.create_task(hub.fleet.follow())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        following.cancel()
        for callback in unsubscribe:
            callback()
        await hub.refusals.close()
        await hub.services.rate.close()
        await send({"type": "lifespan.shutdown.complete"})
