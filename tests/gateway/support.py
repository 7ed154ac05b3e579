"""A gateway on a thread, and services of a worker whose agents are led through it."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from optio.cli.shared.gateway_server import GatewayServer
from optio.cli.shared.listening import listen
from optio.runs.gateway_access import GatewayMode, GatewayRoute
from optio.wiring import Services


@contextlib.contextmanager
def gateway(services: Services, mode: GatewayMode = "required") -> Iterator[Services]:
    """Serve on a free port; yield the services with the way there."""
    sock = listen("127.0.0.1", 0)
    server = GatewayServer(services, sock)
    server.start()
    try:
        yield replace(services, gateway=GatewayRoute(f"http://127.0.0.1:{sock.getsockname()[1]}", mode))
    finally:
        server.stop()
        sock.close()
