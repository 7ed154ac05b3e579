"""Calls of HTTP services: the gateway adds the credential to the requests that a connection allows, and passes no others."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.model.connection import allows
from optio.model.money import RunBudget
from optio.runs.gateway_access import check_connections, find_access
from optio.wiring import Services
from tests.gateway.support import gateway
from tests.runs.support import accept, claim, opened
from tests.store.build import end

TOKEN = "status-token-canary-0123456789"
ALLOWED = ["GET /v1/incidents", "GET /projects/*/issues", "GET /v1/incidents/*", "POST /v1/notes", "GET /moved/**"]
PLACES = {"/api/moved/here": "/api/v1/incidents", "/api/moved/away": "http://169.254.169.254/latest", "/api/moved/up": "/admin"}


@dataclass
class Service:
    """A service, and the requests that it got: method, path, headers and body."""

    url: str = ""
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            found.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            place = PLACES.get(self.path)
            self.send_response(200 if place is None else 302)
            if place is not None:
                self.send_header("location", place)
            self.send_header("set-cookie", "session=1")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}/api"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


class Agent:
    """A running attempt with the connection `status-page`, and its way there."""

    def __init__(self, services: Services, url: str, **keys: Any) -> None:
        document = {"type": "connection", "kind": "http", "url": url, "allow": ALLOWED}
        document |= {"headers": {"Authorization": "Bearer {{secret:STATUS_TOKEN}}"}, **keys}
        task = "name: A\nagentRuntime: command\ncommand: [cat]\npromptTemplate: x\nconnections: [status-page]\n"
        tree = MemoryTree(
            {"a.yaml": f"{task}triggers: [{{type: manual}}]\n", "connections/status-page.yaml": json.dumps(document)}
        )
        result = compile_tree(tree)
        assert result.ok, [finding.to_json() for finding in result.diagnostics]
        (made,) = result.registry.tasks.values()
        self._services, self.claim = services, claim(services, accept(services, made))
        access = find_access(services.gateway, self.claim.run, made, RunBudget.of(made.spec), [], {})
        assert access is not None
        assert (access.endpoint, access.tools) == (None, None)
        self.url, self.token = access.variables["STATUS_PAGE_URL"], access.token
        services.store.open_key(self.claim.run.lease, access.key)

    def send(self, path: str, method: str = "GET", **options: Any) -> httpx2.Response:
        return httpx2.request(method, self.url + path, timeout=30, **options)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with opened(tmp_path, {"OPTIO_SECRET_STATUS_TOKEN": TOKEN}) as own, gateway(own, "preferred") as led:
        yield led


def test_a_request_that_is_allowed_gets_the_credential_and_none_of_the_agent(services: Services, service: Service) -> None:
    agent = Agent(services, service.url)

    answer = agent.send("/v1/incidents?limit=5", headers={"authorization": "Bearer mine", "cookie": "a=1", "x-own": "kept"})
    agent.send("/v1/notes", "POST", content=b"{}")

    assert (answer.status_code, answer.text) == (200, "ok")
    assert "set-cookie" not in answer.headers
    (method, path, headers, _), (*_, body) = service.requests[:2]
    assert (method, path, headers["x-own"]) == ("GET", "/api/v1/incidents?limit=5", "kept")
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert "cookie" not in headers
    assert agent.send("/projects/group%2Frepo/issues").status_code == 200
    assert service.requests[-1][1] == "/api/projects/group%2Frepo/issues"
    assert body == b"{}"


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/secret", "GET"),
        ("/v1/incidents", "DELETE"),
        ("/v1/incidents/7/more", "GET"),
        ("/v1/incidents/%2e%2e", "GET"),
        ("/v1/incidents/..%2fsecret", "GET"),
        ("/moved/..%2f..%2fadmin", "GET"),
        ("//169.254.169.254/latest", "GET"),
        ("", "GET"),
    ],
)
def test_a_request_that_is_not_allowed_never_leaves(services: Services, service: Service, path: str, method: str) -> None:
    answer = Agent(services, service.url).send(path, method)

    assert answer.status_code == 403
    assert answer.json()["error"]["type"] == "connection"
    assert "GET /v1/incidents" in answer.json()["error"]["message"]
    assert service.requests == []


def test_a_redirect_is_passed_on_within_the_connection_alone(services: Services, service: Service) -> None:
    agent = Agent(services, service.url)

    within = agent.send("/moved/here")
    outside = [agent.send(path).status_code for path in ("/moved/away", "/moved/up")]

    assert within.status_code == 302
    assert agent.url.endswith(within.headers["location"].removesuffix("/v1/incidents"))
    assert httpx2.get(agent.url, timeout=30).status_code == 403
    assert agent.send("/moved/here", follow_redirects=True).text == "ok"
    assert outside == [502, 502]


def test_an_attempt_makes_as_many_calls_as_its_connection_allows(services: Services, service: Service) -> None:
    agent = Agent(services, service.url, maxCalls=3)

    assert [agent.send("/v1/incidents").status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    assert len(service.requests) == 3


def test_a_key_opens_nothing_after_its_attempt_nor_the_connections_of_others(services: Services, service: Service) -> None:
    agent = Agent(services, service.url)
    other = agent.url.replace("status-page", "github")

    assert httpx2.get(f"{other}/v1/incidents", timeout=30).status_code == 404
    assert httpx2.get(agent.url.replace(agent.token, "guessed") + "/v1/incidents", timeout=30).status_code == 401
    end(services.store, agent.claim)
    assert agent.send("/v1/incidents").status_code == 401
    assert service.requests == []


def test_a_service_that_is_away_or_without_its_secret_is_told(services: Services, tmp_path: Path) -> None:
    away = Agent(services, "http://127.0.0.1:9").send("/v1/incidents")
    keyless = Agent(services, "http://127.0.0.1:9", headers={"X-Key": "{{secret:NOT_SET}}"})

    assert (away.status_code, away.json()["error"]["type"]) == (502, "unreachable")
    assert services.gateway is not None
    with pytest.raises(Exception, match="needs the secret `NOT_SET`") as failure:
        check_connections(services.gateway, keyless.token)
    assert getattr(failure.value, "reason", None) == "unauthorized"
    assert keyless.send("/v1/incidents").status_code == 502


@pytest.mark.parametrize(
    ("entry", "path", "fits"),
    [
        ("GET /a/*", "/a/b", True),
        ("GET /a/*", "/a/", True),
        ("GET /a/*", "/a/b/c", False),
        ("GET /a/**", "/a", True),
        ("GET /a/**", "/a/b/c", True),
        ("GET /a/**/z", "/a/b/c/z", True),
        ("GET /a-*", "/a-b", True),
        ("GET /a/**", "/a/../b", False),
        ("GET /a", "/a/", False),
        ("HEAD /a", "/a", False),
        ("GET /projects/*/issues", "/projects/group%2Frepo/issues", True),
        ("GET /projects/*/issues", "/projects/group/repo/issues", False),
        ("GET /projects/*/issues", "/projects/..%2Fadmin/issues", False),
        ("GET /projects/*/issues", "/projects/%252e%252e/issues", False),
        ("GET /projects/*/issues", "/projects/..%5cadmin/issues", False),
    ],
)
def test_a_pattern_allows_parts_of_paths(entry: str, path: str, fits: bool) -> None:
    assert allows([entry], "GET", path) is fits
