"""The metrics port: `/metrics`, `/healthz` and `/readyz` of one process, and nothing else, for whoever reaches it."""

import http.server
import json
import logging
import socket
import socketserver
import threading
from http import HTTPStatus
from typing import Any

from optio import health
from optio.errors import OptioError, SettingsError
from optio.settings import LOOPBACK, Settings
from optio.telemetry.base import MISSING
from optio.version import __version__
from optio.wiring import Services

log = logging.getLogger(__name__)
# Seconds that a request may take to come.
_PATIENCE = 5.0
# At one time; who comes then is turned away.
_MOST_CONNECTIONS = 16


class Probe:
    """Serves on a thread of its own. Raises SettingsError when the port cannot be had."""

    def __init__(self, services: Services) -> None:
        self._server = _Server(services)
        self.port: int = self._server.server_address[1]

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._server.serve_forever, name="probe", daemon=True).start()

    def stop(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def __init__(self, services: Services) -> None:
        settings = services.settings
        self.services = services
        self.hosts = _hosts(settings)
        self._room = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in settings.metrics_host else socket.AF_INET
        try:
            super().__init__((settings.metrics_host, settings.metrics_port), _Handler)
        except OSError as err:
            where = f"{settings.metrics_host}:{settings.metrics_port}"
            raise SettingsError(
                f"cannot serve metrics on {where}: {err.strerror or err}: choose another with OPTIO_METRICS_PORT"
            ) from err

    def server_bind(self) -> None:
        # The library's would ask the name service who we are.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "optio", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a request to the metrics port was broken off", exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE
    # An answer is written whole (`handle_one_request` flushes it), and does not wait for acknowledgements.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        services = self.server.services
        if self.server.hosts is not None and _name(self.headers.get("Host", "")) not in self.server.hosts:
            self._answer(400, b"this port answers to its own names only\n", "text/plain")
        elif self.path == "/healthz":
            self._health(health.alive(services))
        elif self.path == "/readyz":
            self._health(health.ready(services))
        elif self.path != "/metrics":
            self._answer(404, b"there are /metrics, /healthz and /readyz\n", "text/plain")
        elif services.metrics is None:
            self._answer(404, f"{MISSING}\n".encode(), "text/plain")
        else:
            try:
                self._answer(200, *services.metrics.text(self.headers.get("Accept", "")))
            except OptioError as err:
                log.warning("the metrics cannot be read: %s", err)
                self._answer(503, b"the store cannot be used\n", "text/plain")

    do_HEAD = do_GET

    def version_string(self) -> str:
        return f"optio/{__version__}"

    def _health(self, found: health.Health) -> None:
        self._answer(found.status, json.dumps(found.to_json()).encode(), "application/json")

    def _answer(self, status: int, data: bytes, media_type: str) -> None:
        self.send_response(status, HTTPStatus(status).phrase)
        for name, value in (("Content-Type", media_type), ("Content-Length", str(len(data))), ("Connection", "close")):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads of every scrape."""


def _hosts(settings: Settings) -> set[str] | None:
    """Names that may be asked for: on loopback a page in a browser of this machine must not get here by a name of its own."""
    return set(LOOPBACK) if settings.metrics_host in LOOPBACK else None


def _name(host: str) -> str:
    host = host.lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
