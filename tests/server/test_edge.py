"""What is refused before any route is looked up."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from optio.cli.shared.listening import listen
from tests.server.api import JOB, Api
from tests.support import header_lines


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    made = Api(tmp_path_factory.mktemp("edge"), environ={"OPTIO_ALLOWED_HOSTS": "optio.example,[2001:db8::1]"})
    made.serve_task(JOB)
    yield made
    made.close()


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:8000", "[::1]:80", "LOCALHOST", "optio.example", "optio.example:443", "[2001:db8::1]"]
)
def test_our_own_names_are_answered(api: Api, host: str) -> None:
    assert api.get("/healthz", Host=host).status == 200
    assert api.get("/healthz", **{"Host": "localhost", "X-Forwarded-Host": host}).status == 200


def test_the_server_listens_on_the_address_of_the_settings_and_answers_to_it(tmp_path: Path) -> None:
    with listen("127.0.0.2", 0) as listening:
        assert listening.getsockname()[0] == "127.0.0.2"
    everywhere = Api(tmp_path, environ={"OPTIO_HOST": "0.0.0.0"})
    try:
        answers = {host: everywhere.get("/healthz", Host=host).status for host in ("0.0.0.0", "127.0.0.2")}
    finally:
        everywhere.close()

    assert answers == {"0.0.0.0": 200, "127.0.0.2": 400}


@pytest.mark.parametrize(
    "headers",
    [
        [("Host", "evil.example")],
        [("Host", "optio.example.evil.example")],
        [("Host", "evil-optio.example")],
        [("Host", "localhost@evil.example")],
        [("Host", "")],
        [("Host", "localhost"), ("Host", "localhost")],
        [("Host", "localhost"), ("Host", "evil.example")],
        [("Host", "localhost"), ("X-Forwarded-Host", "evil.example")],
    ],
    ids=str,
)
def test_another_host_is_refused(api: Api, headers: list[tuple[str, str]]) -> None:
    answer = api.request("GET", "/healthz", headers=headers)

    assert answer.status == 400
    assert answer.headers["content-type"] in ("application/problem+json", "text/plain; charset=utf-8")


ORIGINS = ["http://evil.example", "null", "http://localhost.evil.example", "http://user@localhost", "http://[", "localhost", ""]


@pytest.mark.parametrize("origin", ORIGINS)
def test_pages_of_other_sites_reach_nothing(api: Api, origin: str) -> None:
    answer = api.request("POST", "/api/tasks/job/runs", headers={"Host": "localhost", "Origin": origin})

    assert answer.status == 403
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{api.port}/ws/workflow-runs/x/logs", additional_headers={"Origin": origin})
    assert refused.value.response.status_code == 403


def test_our_own_page_and_programs_without_an_origin_are_let_in(api: Api) -> None:
    own = api.request("GET", "/api/tasks", headers={"Host": "localhost:80", "Origin": "http://localhost:80"})

    assert own.status == 200
    assert "access-control-allow-origin" not in own.headers


@pytest.mark.parametrize(
    "path",
    [
        "/api/tasks/",
        "//api/tasks",
        "/api//tasks",
        "/api/tasks/%2fhealthz",
        "/api%2ftasks",
        "/api/%2e%2e/api/tasks",
        "/api/./tasks",
        "/healthz/../api/tasks",
        "/api/tasks/..",
        "/api\\tasks",
        "/API/tasks",
        "/Api/Tasks",
        "/api/tasks/job%00",
        "/api/tasks/health",
        "/api/tasks/healthz",
        "/api/tasks/readyz",
        "/api/tasks;/healthz",
        "/api/tasks/job/configs",
        "/healthz/api/tasks",
        "/healthz/",
        "/api/hooks/",
        "/api/hooks",
        "/api/hooks/a/b",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_has_one_spelling(api: Api, path: str, method: str) -> None:
    answer = api.request(method, path)

    assert answer.status in (404, 405)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == answer.status


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/tasks/job", ["DELETE", "GET", "OPTIONS", "PATCH"]),
        ("/api/tasks/job/runs", ["GET", "OPTIONS", "POST"]),
        ("/healthz", ["GET", "OPTIONS"]),
    ],
)
def test_options_names_every_method_of_a_path(api: Api, path: str, methods: list[str]) -> None:
    answer = api.request("OPTIONS", path)

    assert answer.status == 204
    assert answer.headers["allow"].split(", ") == methods


@pytest.mark.parametrize("method", ["PUT", "TRACE", "PROPFIND", "HEAD", "LOCK"])
def test_another_method_is_answered_by_405_and_what_is_allowed(api: Api, method: str) -> None:
    answer = api.request(method, "/api/runs")

    assert answer.status == 405
    assert "GET" in answer.headers["allow"]
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/healthz", "/login", "/static/live.js"])
def test_a_monitor_or_browser_may_ask_for_the_head_of_a_page(api: Api, path: str) -> None:
    answer, whole = api.request("HEAD", path), api.get(path)

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == whole.headers["content-length"]


@pytest.mark.parametrize("path", ["/healthz", "/api/tasks", "/api/nothing", "/api/hooks/nothing", "/schema"])
def test_every_answer_has_the_security_headers(api: Api, path: str) -> None:
    headers = api.get(path).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "server" not in headers


@pytest.mark.parametrize(
    "head",
    [
        b"POST /api/tasks/job/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /api/tasks/job/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /api/tasks/job/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length : 2\r\n\r\n{}",
        b"POST /api/tasks/job/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -2\r\n\r\n{}",
        b"POST /api/tasks/job/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"garbage\r\n\r\n",
    ],
)
def test_what_is_no_sound_http_starts_nothing(api: Api, head: bytes) -> None:
    before = api.get("/api/runs").json["items"]

    token = header_lines(api.credentials).encode()
    answer = api.talk(head.replace(b"Host: localhost\r\n", b"Host: localhost\r\n" + token))

    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert api.get("/api/runs").json["items"] == before


@pytest.mark.parametrize("begin", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_head_that_does_not_come_is_not_waited_for_for_ever(
    served: Callable[..., Api], monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr("optio.cli.shared.listening.HEAD_TIMEOUT_S", 0.2)
    api = served()
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

    with (
        socket.create_connection(("127.0.0.1", api.port), 10) as fresh,
        socket.create_connection(("127.0.0.1", api.port), 10) as used,
    ):
        fresh.sendall(begin)
        used.sendall(whole)
        assert b"200 OK" in used.recv(65536)
        used.sendall(begin or whole[:20])

        assert ended(fresh)
        assert ended(used)


def test_a_request_that_comes_slowly_but_in_time_is_answered(api: Api) -> None:
    with socket.create_connection(("127.0.0.1", api.port), 10) as sock:
        for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n":
            sock.sendall(bytes([byte]))
        assert b"200 OK" in sock.recv(65536)


def test_a_head_without_an_end_is_cut_off(api: Api) -> None:
    with socket.create_connection(("127.0.0.1", api.port), 10) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        for _ in range(10_000):
            sock.sendall(b"X-Long: " + b"x" * 1_000 + b"\r\n")
        pytest.fail("ten megabytes of head were taken")


def ended(sock: socket.socket) -> bool:
    """Whether the server ends the connection; what it has said before is read."""
    try:
        while sock.recv(65536):
            pass
        return True
    except ConnectionResetError:
        return True


def test_connections_of_readers_that_are_gone_do_not_stay_for_ever() -> None:
    listening = listen("127.0.0.1", 0)
    listening.setblocking(True)
    with listening, socket.create_connection(listening.getsockname(), 5), listening.accept()[0] as accepted:
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
