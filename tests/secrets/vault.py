"""A server that speaks as much of Vault's KV version 2 as a reader of secrets needs."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support import ROOT

PROGRAM = ROOT / "deploy" / "secrets" / "vault.py"
TOKEN = "hvs.a-token-of-the-worker"


class Vault:
    """The values under `secret/optio`, and how the server answers; all may be changed while it runs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.values: dict[str, str] = {}
        self.status = 200
        self.open = threading.Event()  # a request waits for it
        self.open.set()
        self.asked: list[str] = []

    @property
    def environ(self) -> dict[str, str]:
        return {"VAULT_ADDR": self.url, "VAULT_TOKEN": TOKEN}

    def answer(self, path: str, token: str | None) -> tuple[int, Any]:
        name = path.removeprefix("/v1/secret/data/optio/")
        self.asked.append(name)
        self.open.wait(30)
        if self.status != 200:
            return self.status, {"errors": ["Vault is sealed"]}
        if token != TOKEN:
            return 403, {"errors": ["permission denied"]}
        if name not in self.values:
            return 404, {"errors": []}
        return 200, {"data": {"data": {"value": self.values[name]}, "metadata": {"version": 1}}}


@contextlib.contextmanager
def serving() -> Iterator[Vault]:
    """A vault on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = vault.answer(self.path, self.headers["X-Vault-Token"])
            data = json.dumps(content).encode()
            with contextlib.suppress(OSError):  # the reader may have given up
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    vault = Vault(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield vault
    finally:
        vault.open.set()
        server.shutdown()
        server.server_close()
        thread.join()
