"""The gateway as an agent's program meets it: over HTTP, with a scripted model service behind it, and with services that break,
lie or are away."""

import asyncio
import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx2
import pytest

from optio.cli.shared.examine_gateway import examine_gateway
from optio.errors import StoreUnavailable
from optio.gateway import app, asgi
from optio.model.model_call import AttemptKey, CallTotals
from optio.model.money import RunBudget
from optio.runs.gateway_access import find_access
from optio.settings import Settings
from optio.wiring import Services, gateway_route
from tests.gateway.support import gateway
from tests.runs.support import accept, claim, opened
from tests.runtimes.real_agents import KEY, Model, endpoints_of, model_server, task
from tests.store.build import end
from tests.support import eventually, free_port

MODEL = "claude-sonnet-4-5-stub-plain"
BODY = {"model": MODEL, "max_tokens": 1000, "stream": True, "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with model_server() as served:
        yield served


@pytest.fixture
def services(tmp_path: Path, model: Model) -> Iterator[Services]:
    with opened(tmp_path, endpoints_of(model.url)) as made, gateway(made) as led:
        yield led


class Agent:
    """An agent's program: a running attempt with its key, and a client."""

    def __init__(
        self,
        services: Services,
        extra: str = "",
        *,
        upstream: str | None = None,
        secrets: Sequence[str] = ("ANTHROPIC_API_KEY",),
    ) -> None:
        made = task("claude-code", MODEL, extra)
        self.claim = claim(services, accept(services, made))
        endpoints = services.settings.endpoints if upstream is None else {"claude-code": upstream}
        budget = RunBudget.of(made.spec)
        access = find_access(services.gateway, self.claim.run, made, budget, [*secrets], endpoints)
        assert access is not None
        self.key: AttemptKey = access.key
        self.token, self.url, self._store = access.variables["ANTHROPIC_API_KEY"], access.endpoint, services.store
        services.store.open_key(self.claim.run.lease, access.key)

    def post(self, path: str = "/v1/messages", body: Any = BODY, **options: Any) -> httpx2.Response:
        headers = {"x-api-key": self.token, "content-type": "application/json"} | options.pop("headers", {})
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx2.post(self.url + path, content=content, headers=headers, timeout=30, **options)

    def totals(self) -> CallTotals:
        totals = self._store.call_totals(self.key.run_id, self.key.attempt)
        assert totals is not None
        return totals


@pytest.fixture
def agent(services: Services) -> Agent:
    return Agent(services, 'budgetUsd: "1.00"\n')


def error_of(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["message"]


def last_of(model: Model) -> dict[str, Any]:
    return model.requests()[-1]


def test_a_call_passes_with_the_credential_in_place_of_the_key(agent: Agent, model: Model) -> None:
    answer = agent.post(headers={"anthropic-beta": "context-1m"})

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert b"message_stop" in answer.content
    headers = last_of(model)["headers"]
    assert headers["x-api-key"] == KEY
    assert headers["anthropic-beta"] == "context-1m"
    totals = agent.totals()
    assert (totals.calls, totals.open, str(totals.cost)) == (1, 0, "0.00429")


@pytest.mark.parametrize("name", ["x-api-key", "x-goog-api-key", "api-key"])
def test_the_key_is_replaced_where_it_stands(agent: Agent, name: str) -> None:
    headers = {"x-api-key": "", name: agent.token}

    assert agent.post(headers=headers).status_code == 200


def test_a_key_may_stand_in_the_query_as_gemini_sends_it(agent: Agent, model: Model) -> None:
    path = f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse&key={agent.token}"

    answer = agent.post(path, {"contents": []}, headers={"x-api-key": ""})

    assert answer.status_code == 200
    assert agent.token not in json.dumps(last_of(model))


@pytest.mark.parametrize("key", ["", "Bearer", "Basic x", "nonsense", f"optio_at_{'x' * 43}", "optio_at_"])
def test_a_call_without_the_key_of_a_running_attempt_is_not_passed_on(agent: Agent, model: Model, key: str) -> None:
    before = len(model.requests())

    answer = agent.post(headers={"x-api-key": "", "authorization": key})

    assert answer.status_code == 401
    assert len(model.requests()) == before


def test_a_key_is_dead_with_its_attempt(services: Services, agent: Agent) -> None:
    assert agent.post().status_code == 200
    end(services.store, agent.claim)

    assert error_of(agent.post()) == (401, "Optio: this key is of no running attempt")


@pytest.mark.parametrize(
    "path",
    ["/v1/files", "/v1/messages/batches", "/", "/../../etc/passwd", "/v1/messages/../files", "//v1/x"],
)
def test_what_is_no_call_of_a_model_is_not_passed_on(agent: Agent, model: Model, path: str) -> None:
    before = len(model.requests())

    assert agent.post(path).status_code == 404
    assert len(model.requests()) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/../files"),
        ("GET", "/v1/models/%2e%2e/organizations/api_keys"),
        ("GET", "/v1/models/a/../../files"),
        ("POST", "/v1/files%3Fx=/messages"),
        ("POST", "/v1/files%23/messages"),
        ("POST", "/v1/threads/one/messages"),
        ("POST", "/v1/messages/batches/../../files%3F/messages"),
        ("POST", "/v1beta/cachedContents/x:generateContent"),
        ("POST", "/v1/models"),
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/models/ft-1"),
    ],
)
def test_no_other_place_of_the_service_is_reached_by_a_path_that_looks_like_a_call(
    services: Services, broken: Any, method: str, path: str
) -> None:
    asked: list[str] = []

    def note(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        html(handler)

    agent = Agent(services, upstream=broken(note))
    host = httpx2.URL(agent.url)
    connection = http.client.HTTPConnection(host.host, host.port, timeout=30)
    connection.request(method, f"/model{path}", json.dumps(BODY), {"x-api-key": agent.token})

    assert connection.getresponse().status == 404
    assert asked == []
    connection.close()


@pytest.mark.parametrize(
    ("path", "more"),
    [("/v1/chat/completions", {"n": 8, "max_completion_tokens": 1000}), ("/v1/chat/completions", {"n": 8})],
)
def test_an_answer_many_times_over_reserves_as_many_times_as_much(services: Services, path: str, more: dict[str, Any]) -> None:
    agent = Agent(services, 'budgetUsd: "0.05"\n')
    body = {"model": "claude-sonnet-4-5-stub-slow-2", "stream": True, "messages": []} | more

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(agent.post, path, body)
        eventually(lambda: agent.totals().open, what="the reservation")
        reserved = agent.totals().cost
        assert answer.result().status_code == 200

    # Eight answers of as many tokens as fit into five cents.
    assert reserved is not None
    assert 0.049 < reserved <= 0.05


def test_a_response_in_the_background_is_refused_because_nobody_would_see_what_it_costs(agent: Agent, model: Model) -> None:
    before = len(model.requests())

    status, message = error_of(agent.post("/v1/responses", {"model": MODEL, "input": "x", "background": True}))

    assert (status, len(model.requests())) == (400, before)
    assert "background" in message


def test_an_answer_in_one_piece_that_tells_no_usage_is_estimated(services: Services, broken: Any) -> None:
    def silent(handler: BaseHTTPRequestHandler) -> None:
        begin(handler)
        handler.wfile.write(b'{"type": "message", "model": "claude-sonnet-4-5", "content": []}')

    agent = Agent(services, 'budgetUsd: "1.00"\n', upstream=broken(silent))
    assert agent.post(body=BODY | {"stream": False}).status_code == 200

    assert agent.totals().is_estimate
    assert agent.totals().cost != 0


def test_counting_tokens_is_free(agent: Agent) -> None:
    answer = agent.post("/v1/messages/count_tokens", {"model": MODEL, "messages": []})

    assert answer.status_code == 200
    assert agent.totals().calls == 0


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"nonsense", {}, 400),
        (b"", {}, 400),
        (gzip.compress(b"{}", mtime=0), {"content-encoding": "gzip"}, 415),
        (b" " * (asgi.MAX_BODY_BYTES + 1), {}, 413),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(agent: Agent, body: bytes, headers: dict[str, str], status: int) -> None:
    assert agent.post(body=body, headers=headers).status_code == status
    assert agent.totals().calls == 0


def test_a_chunked_body_is_read(agent: Agent) -> None:
    def parts() -> Iterator[bytes]:
        text = json.dumps(BODY).encode()
        yield text[:20]
        yield text[20:]

    answer = httpx2.post(f"{agent.url}/v1/messages", content=parts(), headers={"x-api-key": agent.token})

    assert answer.status_code == 200


def test_a_call_that_does_not_fit_is_refused_in_the_makers_shape(services: Services, model: Model) -> None:
    poor = Agent(services, 'budgetUsd: "0.002"\n')
    before = len(model.requests())

    status, message = error_of(poor.post())

    assert (status, len(model.requests())) == (402, before)
    assert "the budget of the run has $0.002 left" in message
    refusal = poor.totals().refusal
    assert refusal is not None
    assert refusal.reason == "budget"


def test_an_answer_has_no_more_room_than_the_budget_has(services: Services, model: Model) -> None:
    agent = Agent(services, 'budgetUsd: "0.008"\n')

    assert agent.post().status_code == 200

    assert 256 <= last_of(model)["limits"]["max_tokens"] < 600


def test_a_call_waits_for_others_of_its_run_where_it_may_fit_then(services: Services) -> None:
    agent = Agent(services, 'budgetUsd: "0.02"\n')
    slow = BODY | {"model": "claude-sonnet-4-5-stub-slow-1"}

    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(agent.post, body=slow) for _ in range(2)]
        statuses = [answer.result().status_code for answer in answers]

    assert statuses == [200, 200]
    assert str(agent.totals().cost) == "0.00858"


@pytest.mark.parametrize("status", [400, 429, 500, 529])
def test_an_error_of_the_service_passes_as_it_is_and_costs_nothing(agent: Agent, status: int) -> None:
    answer = agent.post(body=BODY | {"model": f"claude-sonnet-4-5-stub-error-{status}"})

    assert answer.status_code == status
    assert answer.headers.get("retry-after") == ("1" if status in (429, 529) else None)
    assert agent.totals().cost == 0


def test_a_service_that_is_away_costs_nothing(services: Services) -> None:
    agent = Agent(services, 'budgetUsd: "1.00"\n', upstream=f"http://127.0.0.1:{free_port()}")

    status, message = error_of(agent.post())

    assert (status, message) == (502, "Optio: the model service cannot be reached: ConnectError")
    assert agent.totals().cost == 0
    assert agent.totals().open == 0


def begin(handler: BaseHTTPRequestHandler, status: int = 200, header: tuple[str, str] | None = None) -> None:
    handler.send_response(status)
    if header is not None:
        handler.send_header(*header)
    handler.end_headers()


START = b'data: {"type": "message_start", "message": {"model": "claude-sonnet-4-5", "usage": {"input_tokens": 1000}}}\n\n'


def half(handler: BaseHTTPRequestHandler) -> None:
    begin(handler, header=("content-length", "100000"))
    handler.wfile.write(START + b"data: {}\n\n" * 100)


def html(handler: BaseHTTPRequestHandler) -> None:
    begin(handler, header=("content-type", "text/html"))
    handler.wfile.write(b"<html>" + b"sign in" * 1000)


def redirect(handler: BaseHTTPRequestHandler) -> None:
    begin(handler, 302, ("location", "http://169.254.169.254/latest/meta-data/"))


def garbage(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\0\1\2 no HTTP at all\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "low", "high"),
    [(half, "0.003", "0.01"), (html, "0.0001", "0.04"), (redirect, "0", "0"), (garbage, "0.0001", "0.04")],
)
def test_a_service_that_breaks_off_or_lies_is_paid_an_estimate_and_no_more_than_was_reserved(
    services: Services, broken: Any, answer: Any, low: str, high: str
) -> None:
    agent = Agent(services, 'budgetUsd: "1.00"\n', upstream=broken(answer))
    try:
        status = agent.post(follow_redirects=False).status_code
    except httpx2.HTTPError:
        status = 0

    totals = eventually(lambda: agent.totals() if not agent.totals().open else None, what="the settlement")
    assert totals is not None
    assert totals.cost is not None
    assert float(low) <= float(totals.cost) <= float(high), (status, totals)
    assert status == {half: 0, html: 200, redirect: 302, garbage: 502}[answer]


def test_a_call_is_settled_whose_agent_is_gone(services: Services, broken: Any) -> None:
    left = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        begin(handler)
        handler.wfile.write(START)
        try:
            while not left.wait(0.05):
                handler.wfile.write(b"data: {}\n\n")
                handler.wfile.flush()
        except OSError:
            left.set()

    agent = Agent(services, 'budgetUsd: "1.00"\n', upstream=broken(drip))
    headers = {"x-api-key": agent.token}
    with httpx2.stream("POST", f"{agent.url}/v1/messages", json=BODY, headers=headers) as answer:
        parts = answer.iter_raw()  # kept, because its end would end the connection
        next(parts)
        assert agent.totals().open == 1

    assert left.wait(10), "the gateway lets the service go"
    eventually(lambda: not agent.totals().open, what="the settlement")
    totals = agent.totals()
    assert totals.is_estimate
    assert totals.cost is not None
    assert 0.003 <= totals.cost < 0.02


def test_the_cost_is_known_before_the_agent_has_the_end_of_the_answer(agent: Agent) -> None:
    headers = {"x-api-key": agent.token}
    with httpx2.stream("POST", f"{agent.url}/v1/messages", json=BODY, headers=headers) as answer:
        seen = b""
        for part in answer.iter_raw():
            seen += part
            if b"message_stop" in seen:
                break
        assert (agent.totals().open, str(agent.totals().cost)) == (0, "0.00429")


def test_two_attempts_on_one_connection_pay_each_for_its_own_calls(services: Services) -> None:
    one, other = Agent(services, 'budgetUsd: "1.00"\n'), Agent(services, 'budgetUsd: "0.002"\n')
    with httpx2.Client(limits=httpx2.Limits(max_connections=1)) as client:
        statuses = [
            client.post(f"{one.url}/v1/messages", json=BODY, headers={"x-api-key": agent.token}).status_code
            for agent in (one, other, one)
        ]

    assert statuses == [200, 402, 200]
    assert (str(one.totals().cost), str(other.totals().cost)) == ("0.00858", "0")


def test_an_agent_that_holds_hundreds_of_requests_open_keeps_no_other_from_its_model(services: Services, agent: Agent) -> None:
    fighter = Agent(services)
    address = httpx2.URL(agent.url)
    head = f"POST /model/v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {fighter.token}\r\ncontent-length: 99\r\n\r\nhalf"
    connections = [socket.create_connection((address.host, address.port or 80)) for _ in range(400)]
    try:
        for connection in connections:
            connection.sendall(head.encode())
        assert [agent.post().status_code for _ in range(3)] == [200] * 3
    finally:
        for connection in connections:
            connection.close()
    assert fighter.totals().calls == 0


def test_a_store_that_is_away_is_told_as_a_service_that_can_be_asked_again(
    services: Services, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(type(services.store), "attempt_key", away)

    answer = agent.post()

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_a_secret_without_a_value_is_told(services: Services, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(services.secrets), "get", lambda self, name: None)

    status, message = error_of(agent.post())

    assert status == 401
    assert "the secret `ANTHROPIC_API_KEY` has no value" in message


def test_a_websocket_is_not_opened() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    gateway = app.Gateway(None, None)  # type: ignore[arg-type]
    asyncio.run(gateway({"type": "websocket", "path": "/model/responses"}, receive, send))

    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_two_gateways_hold_one_budget(services: Services) -> None:
    agent = Agent(services, 'budgetUsd: "0.02"\n')
    with gateway(services) as second:
        assert second.gateway is not None
        urls = [agent.url, second.gateway.url + app.MODEL]

        def call(number: int) -> int:
            answer = httpx2.post(f"{urls[number % 2]}/v1/messages", json=BODY, headers={"x-api-key": agent.token}, timeout=60)
            return answer.status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = sorted(pool.map(call, range(12)))

    cost = agent.totals().cost
    assert cost is not None
    assert 0.01 < cost <= 0.02, statuses
    assert set(statuses) == {200, 402}


def test_doctor_says_whether_a_gateway_answers(services: Services) -> None:
    assert services.gateway is not None

    def looked_at(url: str) -> list[str]:
        return [
            probe.status for probe in examine_gateway(Settings.load({"OPTIO_GATEWAY": "required", "OPTIO_GATEWAY_URL": url}))
        ]

    assert looked_at(services.gateway.url) == ["ok"]
    assert looked_at(f"http://127.0.0.1:{free_port()}") == ["warning"]
    assert looked_at(services.settings.endpoints["claude-code"]) == ["warning"], "this is no gateway"
    assert list(examine_gateway(Settings.load({}))) == []


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "http://127.0.0.1:8100"),
        ({"OPTIO_GATEWAY_HOST": "0.0.0.0"}, "http://127.0.0.1:8100"),
        ({"OPTIO_GATEWAY_HOST": "::1", "OPTIO_GATEWAY_PORT": "9"}, "http://[::1]:9"),
        ({"OPTIO_GATEWAY_URL": "http://gateway.internal:1"}, "http://gateway.internal:1"),
    ],
)
def test_agents_are_sent_where_the_settings_say(settings: dict[str, str], url: str) -> None:
    route = gateway_route(Settings.load({"OPTIO_GATEWAY": "preferred", **settings}))

    assert route is not None
    assert (route.url, route.mode) == (url, "preferred")
    assert gateway_route(Settings.load(settings)) is None
