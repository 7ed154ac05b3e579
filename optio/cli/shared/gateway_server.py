"""The gateway's HTTP side, which `optio gateway` and `optio dev` share: a socket and an event loop on a thread of its own."""

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import uvicorn

from optio.cli.shared.listening import listen, no_signals, run_loop, uvicorn_config
from optio.gateway.asgi import Application, is_no_broken_answer
from optio.settings import Settings
from optio.wiring import Services, gateway_app, gateway_route

_HEARTBEAT_S = 1.0


def listen_for_agents(settings: Settings) -> socket.socket:
    """Return the gateway's socket; raises SettingsError."""
    return listen(settings.gateway_host, settings.gateway_port, cure="with OPTIO_GATEWAY_PORT")


@contextmanager
def serving_agents(services: Services) -> Iterator[Services]:
    """Serve a gateway for the block, unless it is off; yield the services by which agents find it. Raises SettingsError."""
    if services.gateway is None:
        yield services
        return
    settings, sock = services.settings, listen_for_agents(services.settings)
    server = GatewayServer(services, sock)
    server.start()
    try:
        yield replace(services, gateway=gateway_route(settings, port=sock.getsockname()[1]))
    finally:
        server.stop()
        sock.close()


class GatewayServer:
    """Serves on a socket, from `start` to `stop`."""

    def __init__(self, services: Services, sock: socket.socket, app: Application | None = None) -> None:
        """Make a server of the gateway, or of an application that stands in for it."""
        self._services, self._sock = services, sock
        self._server = uvicorn.Server(uvicorn_config(app or gateway_app(services)))
        logging.getLogger("uvicorn.error").addFilter(is_no_broken_answer)
        self._server.capture_signals = no_signals  # type: ignore[method-assign]
        self._thread = threading.Thread(target=lambda: run_loop(self._serve()), name="gateway")

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Let open calls end, for a few seconds, and stop."""
        self._server.should_exit = True
        self._thread.join()

    async def _serve(self) -> None:
        beating = asyncio.create_task(self._beat())
        try:
            await self._server.serve(sockets=[self._sock])
        finally:
            beating.cancel()

    async def _beat(self) -> None:
        while True:
            self._services.pulses.beat("gateway", _HEARTBEAT_S)
            await asyncio.sleep(_HEARTBEAT_S)
