"""Each real agent CLI with a connection: it is offered the tools that its task names and no others, calls them without a token,
and what it pays its model is counted as ever."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.model.registry import CompiledTask
from optio.model.run import LogLine, Run
from optio.runs.execute import Execution
from optio.wiring import Services
from tests.gateway.support import gateway
from tests.gateway.tool_server import TOKEN, ToolServer, tool_server
from tests.model_server import MCP_TOOL
from tests.runs.support import accept, claim, opened
from tests.runtimes.real_agents import AGENTS, KEY, SPARED, Model, environ_of, model_server, task_text
from tests.support import ROOT

CONNECTION = """
type: connection
kind: mcp
transport:
  type: streamable-http
  url: {url}
  headers: {{Authorization: "Bearer {{{{secret:TOOLS_TOKEN}}}}"}}
tools: {{stub_echo: read, delete_all: write}}
"""

CALL_USD = Decimal("0.00429")


class Ended(NamedTuple):
    run: Run
    log: list[LogLine]
    requests: list[dict[str, Any]]
    tools: ToolServer


def connected(agent: str, model: str, url: str, extra: str) -> CompiledTask:
    text = task_text(agent, model, extra, env=SPARED.get(agent, {}))
    result = compile_tree(MemoryTree({"task.yaml": text, "connections/stub.yaml": CONNECTION.format(url=url)}))
    assert result.ok, [finding.to_json() for finding in result.diagnostics]
    (task,) = result.registry.tasks.values()
    return task


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Ended]]]:
    """A run of each agent."""
    with (
        model_server() as model,
        tool_server() as tools,
        opened(tmp_path_factory.mktemp("tools"), environ_of(model.url) | {"OPTIO_SECRET_TOOLS_TOKEN": TOKEN}) as services,
        gateway(services) as led,
        ThreadPoolExecutor(3) as pool,
    ):
        yield {agent: pool.submit(run_agent, led, model, tools, agent) for agent in AGENTS}
        pool.shutdown(cancel_futures=True)
        secrets = (KEY.encode(), TOKEN.encode())
        files = [path for path in led.settings.data_dir.rglob("*") if path.is_file()]
        assert [path for path in files if any(secret in path.read_bytes() for secret in secrets)] == []


def run_agent(services: Services, model: Model, tools: ToolServer, agent: str) -> Ended:
    name = f"claude-sonnet-4-5-{agent}-tools-stub-mcp"
    task = connected(agent, name, tools.url, 'maxRetries: 0\nbudgetUsd: "2.00"\nconnections: [stub]\n')
    run_id = accept(services, task)
    Execution(claim(services, run_id), services.parts(), "tester")()
    log: list[LogLine] = []
    while page := services.store.log(run_id, after=log[-1].seq if log else 0, limit=1000):
        log += page
    return Ended(
        services.store.run(run_id), log, [request for request in model.requests() if request.get("model") == name], tools
    )


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.timeout(600)
def test_an_agent_calls_the_tools_that_its_task_names_and_is_offered_no_others(
    ended: Mapping[str, Future[Ended]], agent: str
) -> None:
    run, log, requests, tools = ended[agent].result()
    said = "\n".join(str(request) for request in requests)
    print(f"{agent:12} {run.reason:8} {len(requests)} calls, ${run.meter.cost}; offered {requests[-1]['tools']}")

    assert run.reason == "ok", (run.message, [line.data[-300:] for line in log[-5:]])
    assert MCP_TOOL in tools.calls
    assert any(b"echo: ping" in line.data for line in log)
    assert run.meter.cost == CALL_USD * len(requests)
    assert "delete_all" not in said
    assert not any(TOKEN.encode() in line.data or KEY.encode() in line.data or b"optio_at_" in line.data for line in log)


@pytest.mark.timeout(600)
def test_an_agent_calls_the_tool_of_a_program_beside_the_gateway(tmp_path: Path) -> None:
    name = "claude-sonnet-4-5-program-tools-stub-mcp"
    script = ROOT / "tests" / "model_server.py"
    program = json.dumps({"type": "stdio", "command": [os.path.realpath(sys.executable), str(script), "--mcp-stdio"]})
    text = task_text("claude-code", name, 'maxRetries: 0\nbudgetUsd: "2.00"\nconnections: [stub]\n')
    connection = f"type: connection\nkind: mcp\ntransport: {program}\ntools: {{{MCP_TOOL}: read}}\n"
    result = compile_tree(MemoryTree({"task.yaml": text, "connections/stub.yaml": connection}))
    assert result.ok, [finding.to_json() for finding in result.diagnostics]
    (task,) = result.registry.tasks.values()

    with model_server() as model:
        environ = environ_of(model.url)
        environ["OPTIO_SANDBOX_READ"] += f",{script}"
        with opened(tmp_path, environ) as services, gateway(services) as led:
            run_id = accept(led, task)
            Execution(claim(led, run_id), led.parts(), "tester")()
            run, log = led.store.run(run_id), led.store.log(run_id, limit=1000)

    assert run.reason == "ok", (run.message, [line.data[-300:] for line in log[-5:]])
    assert any(b"echo: ping" in line.data for line in log)
