"""The metrics port: `/metrics`, `/healthz` and `/readyz` of one process and nothing else, without a token.

`StartingApi` answers on the API's own socket while a server cannot start yet: the process is alive but not ready, and every
other request gets 503 with `Retry-After`.
"""

import http.server
import json
import logging
import socket
import socketserver
import threading
from http import HTTPStatus
from typing import Any

from optio.errors import OptioError, SettingsError
from optio.processes import health
from optio.settings import LOOPBACK, Settings
from optio.telemetry.base import MISSING
from optio.version import __version__
from optio.wiring import Services

log = logging.getLogger(__name__)
# Seconds within which a request must arrive.
_REQUEST_TIMEOUT_S = 5.0
# The same for the API of a server that cannot start yet, how much of a body it reads, and how soon it notices `stop`.
_STARTING_TIMEOUT_S = 2.0
_MAX_STARTING_CONNECTIONS = 64
_MAX_DISCARDED_BYTES = 2 << 20
_POLL_S = 0.05
_RETRY = ("Retry-After", "1")
# Connections at one time; further ones are closed.
_MAX_CONNECTIONS = 16


class MetricsServer:
    """The server of the metrics port. It serves on a thread of its own, from before there are services. Raises SettingsError if
    the port cannot be bound."""

    def __init__(self, settings: Settings) -> None:
        self._server = _MetricsHttpServer(settings)
        self.port: int = self._server.server_address[1]

    def wait_for(self, dependency: str) -> None:
        """Say in `/readyz` what the process waits for before it starts."""
        self._server.waits_for = dependency

    def attach(self, services: Services) -> None:
        """Answer for these services from now on: the process has started."""
        self._server.services = services

    def start(self) -> None:
        """Serve on a daemon thread."""
        threading.Thread(target=self._server.serve_forever, name="probe", daemon=True).start()

    def stop(self) -> None:
        """Stop serving and close the socket."""
        self._server.shutdown()
        self._server.server_close()


class _BoundedThreads(socketserver.ThreadingMixIn):
    """A thread for each connection, of which there are as many as `_room` has places: `process_request` takes one."""

    daemon_threads = True
    block_on_close = False
    _room: threading.BoundedSemaphore
    waits_for: str  # what this process needs before it starts

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a request to this process was broken off", exc_info=True)


class _Answers(http.server.BaseHTTPRequestHandler):
    """Short answers, after each of which the connection is closed. Nothing is logged: a line for every scrape is of no use."""

    def version_string(self) -> str:
        return f"optio/{__version__}"

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def _health(self, result: health.Health, *headers: tuple[str, str]) -> None:
        self._answer(result.status, json.dumps(result.to_json()).encode(), "application/json", *headers)

    def _answer(self, status: int, data: bytes, media_type: str, *headers: tuple[str, str]) -> None:
        self.send_response(status, HTTPStatus(status).phrase)
        own_headers = (("Content-Type", media_type), ("Content-Length", str(len(data))), ("Connection", "close"))
        for name, value in (*own_headers, *headers):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class _MetricsHttpServer(_BoundedThreads, http.server.HTTPServer):
    allow_reuse_address = True

    def __init__(self, settings: Settings) -> None:
        self.services: Services | None = None
        self.waits_for = "what it needs to start"
        self.hosts = _hosts(settings)
        self._room = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in settings.metrics_host else socket.AF_INET
        try:
            super().__init__((settings.metrics_host, settings.metrics_port), _Handler)
        except OSError as err:
            address = f"{settings.metrics_host}:{settings.metrics_port}"
            raise SettingsError(
                f"cannot serve metrics on {address}: {err.strerror or err}: choose another with OPTIO_METRICS_PORT"
            ) from err

    def server_bind(self) -> None:
        # The library's version would look up the name of this host.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "optio", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)


class _Handler(_Answers):
    server: _MetricsHttpServer
    timeout = _REQUEST_TIMEOUT_S
    # An answer is written whole (`handle_one_request` flushes it), and does not wait for acknowledgements.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        services = self.server.services
        if self.server.hosts is not None and _name(self.headers.get("Host", "")) not in self.server.hosts:
            self._answer(400, b"this port answers to its own names only\n", "text/plain")
        elif self.path == "/healthz":
            self._health(ALIVE if services is None else health.alive(services))
        elif self.path == "/readyz":
            self._health(not_started(self.server.waits_for) if services is None else health.ready(services))
        elif self.path != "/metrics":
            self._answer(404, b"there are /metrics, /healthz and /readyz\n", "text/plain")
        elif services is None:
            self._answer(503, b"the process has not started yet\n", "text/plain")
        elif services.metrics is None:
            self._answer(404, f"{MISSING}\n".encode(), "text/plain")
        else:
            try:
                self._answer(200, *services.metrics.text(self.headers.get("Accept", "")))
            except OptioError as err:
                log.warning("the metrics cannot be read: %s", err)
                self._answer(503, b"the store cannot be used\n", "text/plain")

    do_HEAD = do_GET


ALIVE = health.Health()


def not_started(waits_for: str) -> health.Health:
    """Return the readiness of a process that waits for something before it starts. Anyone may read it, so the reason is only in
    the log."""
    return health.Health((f"not started: waits for {waits_for}, the log says why",))


class StartingApi:
    """Answers on the server's listening socket until `stop`. The socket stays open: connections that come between `stop` and
    the first accept of the server wait in its backlog."""

    def __init__(self, sock: socket.socket, waits_for: str) -> None:
        self._server = _StartingServer(sock, waits_for)
        loop = self._server.serve_forever
        threading.Thread(target=loop, args=(_POLL_S,), name="starting-api", daemon=True).start()

    def stop(self) -> None:
        """Accept no more connections; requests in progress still get their answer."""
        self._server.shutdown()
        self._server.server_close()


class _StartingServer(_BoundedThreads, socketserver.TCPServer):
    def __init__(self, sock: socket.socket, waits_for: str) -> None:
        super().__init__(("", 0), _StartingHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = sock.dup()
        self.waits_for = waits_for
        self._room = threading.BoundedSemaphore(_MAX_STARTING_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        # Further connections wait in the backlog.
        self._room.acquire()
        super().process_request(request, client_address)


class _StartingHandler(_Answers):
    server: _StartingServer
    timeout = _STARTING_TIMEOUT_S

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        # The answer is lost with a reset where a connection is closed before the request's body was read.
        length = self.headers.get("Content-Length", "")
        if length.isascii() and length.isdigit() and len(length) < 10:
            self.rfile.read(min(int(length), _MAX_DISCARDED_BYTES))
        self.close_connection = True
        path = self.path.partition("?")[0]
        unready = not_started(self.server.waits_for)
        if path == "/healthz":
            self._health(ALIVE)
        elif path == "/readyz":
            self._health(unready, _RETRY)
        else:
            problem = {"type": "about:blank", "title": "Service unavailable", "status": 503, "detail": unready.problems[0]}
            self._answer(503, json.dumps(problem).encode(), "application/problem+json", _RETRY)
        return False


def _hosts(settings: Settings) -> set[str] | None:
    """Names that may be asked for: on loopback a page in a browser of this machine must not get here by a name of its own."""
    return set(LOOPBACK) if settings.metrics_host in LOOPBACK else None


def _name(host: str) -> str:
    host = host.lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
