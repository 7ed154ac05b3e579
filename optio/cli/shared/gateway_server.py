"""The gateway's HTTP side, which `optio gateway` and `optio dev` share: a socket and an event loop on a thread of its own."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import uvicorn

from optio.cli.shared.listening import listen, no_signals, run_loop, uvicorn_config
from optio.errors import OptioError, SettingsError
from optio.gateway.asgi import Application, is_no_broken_answer
from optio.model.fleet import ProcessKind
from optio.process_identity import process_name
from optio.settings import Settings
from optio.wiring import Services, gateway_app

log = logging.getLogger(__name__)
_HEARTBEAT_S, _NOTED_EVERY_S = 1.0, 10.0


def listen_for_agents(settings: Settings) -> socket.socket:
    """Return the gateway's socket; raises SettingsError."""
    return listen(settings.gateway_host, settings.gateway_port, cure="with OPTIO_GATEWAY_PORT")


@contextmanager
def listening_for_agents(settings: Settings) -> Iterator[tuple[Settings, socket.socket | None]]:
    """Open the gateway's socket for the block, none where it is off; yield it with settings that have its port. If the default
    port is in use, as by another `optio dev`, it is a free one. Raises SettingsError."""
    if settings.gateway == "off":
        yield settings, None
        return
    try:
        sock = listen_for_agents(settings)
    except SettingsError:
        if settings.origins["gateway_port"] != "default":
            raise
        sock = listen_for_agents(replace(settings, gateway_port=0))
    with sock:
        yield replace(settings, gateway_port=sock.getsockname()[1]), sock


@contextmanager
def serving_agents(services: Services, sock: socket.socket | None) -> Iterator[None]:
    """Serve a gateway for the block, if there is a socket for it."""
    if sock is None:
        yield
        return
    server = GatewayServer(services, sock)
    server.start()
    try:
        yield
    finally:
        server.stop()


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
        try:
            self._services.store.forget_process(ProcessKind.GATEWAY, process_name())
        except OptioError as err:
            log.warning("this gateway stops, which the database cannot be told: %s", err)

    async def _serve(self) -> None:
        beating = asyncio.create_task(self._beat())
        try:
            await self._server.serve(sockets=[self._sock])
        finally:
            beating.cancel()

    async def _beat(self) -> None:
        noted_at = -_NOTED_EVERY_S
        while True:
            self._services.pulses.beat("gateway", _HEARTBEAT_S)
            if time.monotonic() - noted_at >= _NOTED_EVERY_S:
                noted_at = time.monotonic()
                try:
                    await asyncio.to_thread(self._services.store.note_gateway, process_name())
                except OptioError as err:
                    log.warning("this gateway is alive, which the database cannot be told: %s", err)
            await asyncio.sleep(_HEARTBEAT_S)
