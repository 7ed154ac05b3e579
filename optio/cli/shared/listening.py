"""The HTTP side that the server and the gateway share: a socket, an event loop, and uvicorn with limits on request heads."""

import asyncio
import socket
import sys
from collections.abc import Coroutine
from typing import Any

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from optio.errors import SettingsError
from optio.server.transport import GatheringTransport

# Time for open requests at shutdown; live logs are disconnected at once.
GRACE_TIMEOUT_S = 3
# Limits on a request's head: time until it is complete, and size.
HEAD_TIMEOUT_S = 15.0
MAX_HEAD_BYTES = 65_536
# A client that acknowledges neither data nor keepalive probes for so long is disconnected.
_OVERDUE_S = 60


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


class _KeepSignals:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: Any) -> None: ...


def no_signals() -> Any:
    """Return a block in which uvicorn leaves signals alone."""
    return _KeepSignals()
