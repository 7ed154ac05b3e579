"""Servers of tools behind the gateway: the same by each transport, and none of them trusted."""

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from optio.wiring import Services
from tests.gateway import scripted_tools
from tests.gateway.scripted_tools import NAMES, TOKEN, Script
from tests.gateway.support import SCRIPT, ToolCaller, connection, gateway, transport_of
from tests.runs.support import opened

WRONG_PIN = dict.fromkeys(NAMES, f"schema={'0' * 32} text={'0' * 32}")
TRANSPORTS = ("streamable-http", "sse", "stdio")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    directory = tmp_path_factory.mktemp("tools")
    environ = {"OPTIO_SECRET_TOOLS_TOKEN": TOKEN, "OPTIO_SANDBOX": "namespaces", "OPTIO_SANDBOX_READ": str(SCRIPT)}
    with opened(directory, environ) as made, gateway(made) as led:
        yield led


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted_tools.server() as served:
        yield served


@pytest.fixture(params=TRANSPORTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def caller(services: Services, kind: str, script: Script, mode: str = "", **fields: Any) -> ToolCaller:
    """An attempt with a scripted server by a transport."""
    script.mode = mode
    return ToolCaller(services, tools=connection(transport_of(kind, script.url, mode), **fields))


def test_a_tool_is_offered_and_called(services: Services, script: Script, kind: str) -> None:
    agent = caller(services, kind, script)

    assert agent.check() == (200, ": ")
    assert set(agent.tools()) == {f"tools__{name}" for name in NAMES}
    assert agent.tools()["tools__echo"]["inputSchema"] == scripted_tools.TEXT
    assert agent.call("echo", "ping") == (False, "echo: ping")


def test_what_a_server_answers_reaches_the_agent_whether_it_is_an_error_or_not(
    services: Services, script: Script, kind: str
) -> None:
    agent = caller(services, kind, script)

    assert agent.call("refuse", "x") == (True, "refuse: x")
    assert agent.call("break") == (True, "the server says no")
    assert agent.call("echo", "after") == (False, "echo: after")


def test_a_tool_that_a_task_does_not_name_is_neither_offered_nor_called(services: Services, script: Script, kind: str) -> None:
    chosen = connection(transport_of(kind, script.url), {"echo": "read"})
    agent = ToolCaller(services, tools=chosen)

    assert set(agent.tools()) == {"tools__echo"}
    assert agent.call("refuse") == (True, "Optio: this run has no tool `tools__refuse`: it has tools__echo")


def test_a_call_that_takes_too_long_is_given_up_and_the_next_is_answered(services: Services, script: Script, kind: str) -> None:
    agent = caller(services, kind, script, timeout="2s")

    assert agent.call("slow", "4") == (True, "Optio: the connection `tools` gave no answer in 2 s")
    time.sleep(2.5)  # a program makes one call at a time
    assert agent.call("echo", "after") == (False, "echo: after")


def test_calls_at_once_do_not_wait_for_each_other(services: Services, script: Script) -> None:
    agent = caller(services, "streamable-http", script)

    with ThreadPoolExecutor(40) as pool:
        texts = [str(number) for number in range(40)]
        answers = list(pool.map(lambda text: agent.call("echo", text), texts))

    assert answers == [(False, f"echo: {text}") for text in texts]
    assert agent.call("echo", "after") == (False, "echo: after")


def test_a_result_that_is_too_large_is_refused_and_the_next_call_is_answered(
    services: Services, script: Script, kind: str
) -> None:
    agent = caller(services, kind, script)

    failed, text = agent.call("big")

    assert failed
    assert text.startswith("Optio: the connection `tools` ")
    assert len(text) < 1000
    if kind != "sse":
        assert "answers with more than 8 MiB" in text
    assert agent.call("echo", "after") == (False, "echo: after")


def test_an_answer_without_end_is_refused_while_it_comes(services: Services, script: Script) -> None:
    agent = caller(services, "streamable-http", script, mode="chunked")

    assert agent.call("big") == (True, "Optio: the connection `tools` sends more than was asked for")
    assert agent.call("echo", "after") == (False, "echo: after")


def test_a_result_that_is_large_is_cut(services: Services, script: Script, kind: str) -> None:
    agent = caller(services, kind, script)

    failed, text = agent.call("big", "600000")

    assert not failed
    assert text.startswith("big: xxx")
    assert text.endswith("bytes and 262144 pass]")
    assert len(text) < 263_000


@pytest.mark.parametrize("mode", ["fewer", "changed"])
def test_a_server_that_offers_other_tools_than_pinned_is_refused(
    services: Services, script: Script, kind: str, mode: str
) -> None:
    pin = {} if mode == "fewer" else {"pin": WRONG_PIN}
    agent = caller(services, kind, script, mode=mode, **pin)

    status, text = agent.check()

    assert status == 424
    assert text.startswith("changed: the connection `tools` ")
    assert agent.tools() == {}
    assert agent.call("refuse")[1].startswith("Optio: the connection `tools` ")


def test_ten_thousand_tools_are_read_and_those_of_the_task_are_offered(services: Services, script: Script, kind: str) -> None:
    agent = caller(services, kind, script, mode="many")

    assert set(agent.tools()) == {f"tools__{name}" for name in NAMES}
    assert agent.call("echo", "ping") == (False, "echo: ping")


def test_a_list_of_tools_without_end_is_refused(services: Services, script: Script, kind: str) -> None:
    agent = caller(services, kind, script, mode="endless")

    assert agent.check()[1] == "unreachable: the connection `tools` has a list of tools of more than 200 pages"


@pytest.mark.parametrize(("kind", "mode"), [("streamable-http", "html"), ("stdio", "banner")])
def test_what_is_no_message_is_refused_by_http_and_skipped_in_the_output_of_a_program(
    services: Services, script: Script, kind: str, mode: str
) -> None:
    agent = caller(services, kind, script, mode=mode)

    if kind == "stdio":
        assert agent.check() == (200, ": ")
    else:
        assert agent.check()[1].startswith("unreachable: the connection `tools` cannot be reached: ")


def test_what_a_server_asks_of_its_client_is_refused(services: Services, script: Script, kind: str) -> None:
    agent = caller(services, kind, script)

    failed, text = agent.call("ask")

    assert not failed
    assert text.count("error") == 2
    assert "result" not in text


def test_a_server_that_lies_about_a_tool_changes_nothing_but_what_the_agent_reads(
    services: Services, script: Script, kind: str
) -> None:
    agent = caller(services, kind, script)

    assert agent.tools()["tools__die"]["annotations"] == {"readOnlyHint": True}


def test_an_answer_that_does_not_fit_its_schema_costs_the_gateway_no_time(
    services: Services, script: Script, kind: str
) -> None:
    agent = caller(services, kind, script)

    assert agent.call("schema", "x") == (False, "schema: x")


def test_a_secret_of_the_connection_is_masked_in_a_result(services: Services, script: Script, kind: str) -> None:
    agent = caller(services, kind, script)

    assert agent.call("echo", f"it is {TOKEN}") == (False, "echo: it is ***")


@pytest.mark.parametrize("kind", ["streamable-http", "sse"])
def test_a_server_that_was_away_is_reached_again(services: Services, script: Script, kind: str) -> None:
    agent = caller(services, kind, script)
    assert agent.call("echo", "before") == (False, "echo: before")

    script.is_away = True
    assert agent.call("echo", "while")[0]
    script.is_away = False
    script.sessions.clear()

    assert agent.call("echo", "after") == (False, "echo: after")


def test_a_server_that_has_forgotten_its_session_gets_another_one(services: Services, script: Script) -> None:
    agent = caller(services, "streamable-http", script)
    assert agent.call("echo", "before") == (False, "echo: before")

    script.sessions.clear()

    assert agent.call("echo", "after") == (False, "echo: after")
    assert script.calls == ["echo", "echo"]


def test_a_server_that_is_gone_takes_no_tools_of_another_one_away(services: Services, script: Script) -> None:
    gone = connection(transport_of("streamable-http", "http://127.0.0.1:9"))
    here = connection(transport_of("streamable-http", script.url))
    agent = ToolCaller(services, gone=gone, here=here)

    assert agent.check()[0] == 424
    assert set(agent.tools()) == {f"here__{name}" for name in NAMES}
    assert agent.call("echo", "ping", "here") == (False, "echo: ping")
    assert agent.call("echo", "ping", "gone") == (True, "Optio: the connection `gone` cannot be reached: ConnectError")


def test_a_key_opens_the_tools_of_its_run_and_dies_with_its_attempt(services: Services, script: Script) -> None:
    mine = caller(services, "streamable-http", script)
    others = ToolCaller(services, other=connection(transport_of("streamable-http", script.url), {"echo": "read"}))
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}

    with_other_key = mine.post(message, key=others.key).json()
    assert [tool["name"] for tool in with_other_key["result"]["tools"]] == ["other__echo"]
    assert mine.post(message, key="").status_code == 401
    assert mine.post(message, key="nonsense").status_code == 401
    assert mine.post(message).status_code == 200
    mine.end()
    assert mine.post(message).status_code == 401
    assert others.post(message).status_code == 200


def test_two_attempts_on_one_kept_connection_have_their_own_tools(services: Services, script: Script) -> None:
    one = caller(services, "streamable-http", script)
    two = ToolCaller(services, other=connection(transport_of("streamable-http", script.url), {"echo": "read"}))
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    kept = http.client.HTTPConnection(one.base.removeprefix("http://"))
    counts = []

    for agent in (one, two, one):
        headers = {"authorization": f"Bearer {agent.key}", "accept": "application/json", "content-type": "application/json"}
        kept.request("POST", "/mcp", body, headers)
        counts.append(len(json.loads(kept.getresponse().read())["result"]["tools"]))
    kept.close()

    assert counts == [len(NAMES), 1, len(NAMES)]


def test_streams_that_would_be_held_open_are_refused(services: Services, script: Script) -> None:
    agent = caller(services, "streamable-http", script)
    kept = http.client.HTTPConnection(agent.base.removeprefix("http://"))
    statuses = []

    for _ in range(400):
        kept.request("GET", "/mcp", headers={"authorization": f"Bearer {agent.key}", "accept": "text/event-stream"})
        answer = kept.getresponse()
        answer.read()
        statuses.append(answer.status)
    kept.close()

    assert set(statuses) == {405}
    assert agent.call("echo", "ping") == (False, "echo: ping")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"null",
        b'"x"',
        b'[{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}]',
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"cursor": 1}}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {}}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "resources/list"}',
        b'{"jsonrpc": "2.0", "id": {"x": 1}, "method": "tools/list"}',
        b"[" * 100_000,
        b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "x": "' + b"x" * 5_000_000 + b'"}',
    ],
    ids=lambda body: body[:60].decode(),
)
def test_a_request_that_is_no_call_is_an_error_of_the_agent(services: Services, script: Script, body: bytes) -> None:
    agent = caller(services, "streamable-http", script)
    kept = http.client.HTTPConnection(agent.base.removeprefix("http://"), timeout=30)
    headers = {"authorization": f"Bearer {agent.key}", "accept": "application/json", "content-type": "application/json"}

    kept.request("POST", "/mcp", body, headers)
    answer = kept.getresponse()
    text = answer.read()
    kept.close()

    assert answer.status in (200, 202, 400, 413)
    assert b"result" not in text
    assert script.calls == []


def test_a_websocket_is_refused(services: Services, script: Script) -> None:
    agent = caller(services, "streamable-http", script)
    kept = http.client.HTTPConnection(agent.base.removeprefix("http://"), timeout=30)
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x" * 22 + "==",
    }

    kept.request("GET", "/mcp", headers={"authorization": f"Bearer {agent.key}", **upgrade})
    status = kept.getresponse().status
    kept.close()

    assert status in (400, 403, 405)
