"""The HTTP side that `optio dev` and `optio server` share: socket, application, limits on request heads, and an orderly
stop."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from typing import Any

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from optio.cli import OK
from optio.errors import SettingsError
from optio.processes import health
from optio.processes.metrics_server import MetricsServer
from optio.processes.scheduler import new_id
from optio.server.app import create_app
from optio.server.log_fanout import LogFanout
from optio.server.transport import GatheringTransport
from optio.settings import Settings
from optio.telemetry import logs
from optio.telemetry.base import MISSING
from optio.tree.served import ServedRegistry
from optio.wiring import Services

log = logging.getLogger(__name__)

# Time for open requests at shutdown; live logs are disconnected at once.
GRACE_TIMEOUT_S = 3
# Seconds between two heartbeats of the event loop.
_HEARTBEAT_S = 1.0
# Supervisors usually kill a process ten seconds after SIGTERM.
SHUTDOWN_TIMEOUT_S = 9.5
# Limits on a request's head: time until it is complete, and size.
HEAD_TIMEOUT_S = 15.0
MAX_HEAD_BYTES = 65_536
# A client that acknowledges neither data nor keepalive probes for so long is disconnected.
_OVERDUE_S = 60


def log_to_stderr(settings: Settings, level: int = logging.INFO) -> None:
    """Log to standard error, one line per fact, as text or JSON."""
    logs.configure(settings.log_format, level)


@contextlib.contextmanager
def open_metrics_port(settings: Settings) -> Iterator[MetricsServer | None]:
    """Open the metrics port for the block if the settings have one; services are attached later. Raises SettingsError if it is
    taken."""
    if not settings.metrics_port:
        yield None
        return
    probe = MetricsServer(settings)
    probe.start()
    try:
        yield probe
    finally:
        probe.stop()


def attach_health(services: Services, probe: MetricsServer | None) -> None:
    """Show the health of these services in the metrics, and on the metrics port if there is one."""
    if services.metrics is not None:
        services.metrics.add(lambda: health.readings(services))
    if probe is not None:
        probe.attach(services)
        if services.metrics is None:
            log.warning("OPTIO_METRICS_PORT shows health alone: %s", MISSING)


def limit_shutdown() -> None:
    """End the process after `SHUTDOWN_TIMEOUT_S`, even if the store or broker hangs. Unsaved state is as safe as after `kill
    -9`."""
    timer = threading.Timer(SHUTDOWN_TIMEOUT_S, os._exit, (OK,))
    timer.daemon = True
    timer.start()


def listen(host: str, port: int, *, cure: str = "with --port or OPTIO_PORT") -> socket.socket:
    """Return a socket that listens, bound before anything else starts; raises SettingsError if the address cannot be used.
    `cure` says how another is chosen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY on accepted connections only if the socket names its protocol.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(2048)
    except OSError as err:
        sock.close()
        raise SettingsError(f"cannot listen on {host}:{port}: {err.strerror}: choose another {cure}") from err
    # Connections inherit these. Without TCP_NODELAY the second segment of an answer waits until the client acknowledges the
    # first, which clients put off for 40 ms on a connection that they keep open.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Disconnect readers that never read or that vanished.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _OVERDUE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _OVERDUE_S * 1000)
    sock.setblocking(False)
    return sock


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` on an event loop of its own. It is uvloop's, on which a durable webhook takes a sixth less time."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def uvicorn_config(app: Any, **options: Any) -> uvicorn.Config:
    """Return uvicorn's configuration for the application."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_TIMEOUT_S,
        http=_LimitedHttpProtocol,
        ws="websockets-sansio",
        ws_max_size=65536,
        ws_per_message_deflate=False,
        lifespan="on",
        **options,
    )


class _LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a limit on the time and size of a request's head; small responses are sent in one piece."""

    _gathering: GatheringTransport
    _in_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._gathering = GatheringTransport(transport, self.loop)
        super().connection_made(self._gathering)
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, transport.abort)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        # The response is complete: send head and body now, not at the end of the loop's iteration.
        self._gathering.flush()
        super().on_response_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head:
            self._head_bytes = 0
            self._in_time()
        else:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.abort()
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        super().connection_lost(exc)

    def _in_time(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


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


class _KeepSignals:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: Any) -> None: ...


def no_signals() -> Any:
    """Return a block in which uvicorn leaves signals alone."""
    return _KeepSignals()
