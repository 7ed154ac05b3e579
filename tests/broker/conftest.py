"""A Redis that asks who one is."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import RedisServer
from tests.support import free_port


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[RedisServer, str]]:
    """With a certificate, and a user who is let in by his password only; the URL says it all."""
    key, certificate, port = tmp_path / "key.pem", tmp_path / "certificate.pem", free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    settings = {
        "tls-port": str(port), "tls-cert-file": str(certificate), "tls-key-file": str(key), "tls-auth-clients": "no",
    }  # fmt: skip
    with RedisServer(settings) as server:
        server.client().acl_setuser(
            "optio", enabled=True, passwords=["+p/w @1"], keys=["optio:*"], channels=["optio:*"], commands=["+@all"]
        )
        yield server, f"rediss://optio:p%2Fw%20%401@localhost:{port}/3?ssl_ca_certs={certificate}"
