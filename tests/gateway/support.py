"""A gateway on a thread, and services of a worker whose agents are led through it."""

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from optio.cli.shared.gateway_server import GatewayServer
from optio.cli.shared.listening import listen
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.model.money import RunBudget
from optio.runs.gateway_access import GatewayMode, GatewayRoute, find_access
from optio.wiring import Services
from tests.gateway import scripted_tools
from tests.runs.support import accept, claim
from tests.runtimes.real_agents import task_text
from tests.store.build import end

PYTHON = os.path.realpath(sys.executable)
SCRIPT = Path(scripted_tools.__file__)
_numbers = itertools.count()


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


def connection(transport: Mapping[str, Any], tools: Mapping[str, str] | None = None, **fields: Any) -> str:
    """The file of a connection with an MCP server; by default with all scripted tools."""
    chosen = dict.fromkeys(scripted_tools.NAMES, "read") if tools is None else tools
    return json.dumps({"type": "connection", "kind": "mcp", "transport": transport, "tools": chosen, **fields})


def transport_of(kind: str, url: str = "", mode: str = "", **env: str) -> dict[str, Any]:
    """The scripted server by one transport, with its credential."""
    if kind == "stdio":
        env = {"TOKEN": "{{secret:TOOLS_TOKEN}}", "MODE": mode, **env}
        return {"type": kind, "command": [PYTHON, "-I", "-S", str(SCRIPT)], "env": env}
    path = "/sse" if kind == "sse" else "/mcp"
    return {"type": kind, "url": url + path, "headers": {"Authorization": "Bearer {{secret:TOOLS_TOKEN}}"}}


class ToolCaller:
    """A running attempt whose task names these connections, and a client of its tools as an agent has one."""

    def __init__(self, services: Services, **connections: str) -> None:
        name = f"caller-{next(_numbers)}"
        text = task_text("claude-code", name, f'maxRetries: 0\nbudgetUsd: "1.00"\nconnections: [{", ".join(connections)}]\n')
        files = {f"connections/{id}.yaml": text for id, text in connections.items()}
        result = compile_tree(MemoryTree({"task.yaml": text, **files}))
        assert result.ok, [finding.to_json() for finding in result.diagnostics]
        (task,) = result.registry.tasks.values()
        self._services, self.claim = services, claim(services, accept(services, task))
        endpoints = {"claude-code": "http://127.0.0.1:9"}
        budget = RunBudget.of(task.spec)
        access = find_access(services.gateway, self.claim.run, task, budget, ["ANTHROPIC_API_KEY"], endpoints)
        assert access is not None
        assert access.tools is not None
        self.key, self.url, self.base = access.tools.key, access.tools.url, access.tools.url.removesuffix("/mcp")
        services.store.open_key(self.claim.run.lease, access.key)

    def end(self) -> None:
        """End the attempt."""
        end(self._services.store, self.claim)

    def post(self, message: Any, key: str | None = None) -> httpx2.Response:
        """Send one message."""
        headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        headers |= {"authorization": f"Bearer {self.key if key is None else key}"} if key != "" else {}
        return httpx2.post(self.url, content=json.dumps(message), headers=headers, timeout=60)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Return what answers a request."""
        answer = self.post({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        assert body["id"] == 7
        return body

    def tools(self) -> dict[str, dict[str, Any]]:
        """Return the tools that are offered, by name."""
        return {tool["name"]: tool for tool in self.ask("tools/list")["result"]["tools"]}

    def call(self, tool: str, text: str = "", connection: str = "tools") -> tuple[bool, str]:
        """Call a tool. Return whether its result is an error, and its text."""
        result = self.ask("tools/call", name=f"{connection}__{tool}", arguments={"text": text})["result"]
        return result.get("isError", False), "".join(item["text"] for item in result["content"])

    def check(self) -> tuple[int, str]:
        """Ask what a worker asks before the agent begins: the status, with the reason and the message."""
        answer = httpx2.get(f"{self.base}/check", headers={"authorization": f"Bearer {self.key}"}, timeout=60)
        error = answer.json().get("error", {"type": "", "message": ""})
        return answer.status_code, f"{error['type']}: {error['message'].removeprefix('Optio: ')}"
