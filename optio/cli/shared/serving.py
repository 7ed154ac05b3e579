"""The server that `optio dev` and `optio server` share: its application on uvicorn, and an orderly stop."""

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Collection

import uvicorn

from optio.cli.shared.listening import no_signals, uvicorn_config
from optio.cli.shared.process_life import limit_shutdown
from optio.processes.scheduler import new_id
from optio.server.app import create_app
from optio.server.log_fanout import LogFanout
from optio.tree.served import ServedRegistry
from optio.wiring import Services

# Seconds between two heartbeats of the event loop.
_HEARTBEAT_S = 1.0


class _DrainingServer(uvicorn.Server):
    """uvicorn, but readers of live logs are disconnected first: they would keep it from ever ending."""

    def __init__(self, config: uvicorn.Config, log_fanout: LogFanout) -> None:
        super().__init__(config)
        self._log_fanout = log_fanout

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._log_fanout.close()
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()


async def serve(
    services: Services,
    served_registry: ServedRegistry,
    sock: socket.socket,
    stop: asyncio.Event,
    *,
    reload: Callable[[Collection[str]], Awaitable[object]],
    dev_token: str | None = None,
) -> None:
    """Serve until `stop` is set, or the first SIGINT or SIGTERM sets it. A second signal does not wait for open requests."""
    log_fanout = LogFanout()
    app = create_app(services, served_registry, reload=reload, new_id=new_id, log_fanout=log_fanout, dev_token=dev_token)
    server = _DrainingServer(uvicorn_config(app), log_fanout)
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    # Optio handles the signals itself, so that the caller always closes the store.
    server.capture_signals = no_signals  # type: ignore[method-assign]
    set_on_signal(stop, lambda: setattr(server, "force_exit", True))

    async def end() -> None:
        await stop.wait()
        limit_shutdown()
        server.should_exit = True

    async def beat() -> None:
        while True:
            services.pulses.beat("server", _HEARTBEAT_S)
            await asyncio.sleep(_HEARTBEAT_S)

    ending, beating = asyncio.create_task(end()), asyncio.create_task(beat())
    try:
        await server.serve(sockets=[sock])
    finally:
        stop.set()
        ending.cancel()
        beating.cancel()


def set_on_signal(stop: asyncio.Event, again: Callable[[], object] = lambda: None) -> None:
    """Set `stop` on the first SIGINT or SIGTERM from now on, and call `again` on each later one."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: again() if stop.is_set() else stop.set())


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Filter out requests that the end of the server cut off; they are not errors."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
