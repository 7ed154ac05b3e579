"""Real agents in pods of the agent image that reach their models through a gateway, which is a process of this machine: closed
pods without a host, without a key, and with the cost that the model served. Needs what `test_agent_pods.py` needs, and kubectl.
"""

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.deploy.installed import KUBECTL
from tests.deploy.test_agent_pods import HOST, IMAGE, address, log, model_of
from tests.deploy.test_installed import LOOK
from tests.executors.pods.fence import EGRESS_IMAGE, INSTALLATION, PORT, Fence, fence
from tests.executors.pods.fence import KEY as PROXY_KEY
from tests.gateway.tool_server import TOKEN, ToolServer, tool_server
from tests.model_server import MCP_TOOL
from tests.runtimes.real_agents import AGENTS, DONE, KEY, Model, endpoints_of, model_server, task_text
from tests.stories.conftest import started
from tests.support import ROOT, Dev, eventually, free_port

CALLS = 4
CALL_USD = Decimal("0.00429")  # 1,200 fresh tokens, 300 from the cache and 40 written, at the price of claude-sonnet-4-5
TOOLS, BUDGET = f"tool-{CALLS - 1}", "tool"
# A program of one's own, which is not led through the gateway.
COMMAND = """\
type: standalone
name: Command
agentRuntime: command
command: ["python3", "-c", "import socket; socket.create_connection(('{host}', {port}), 3)"]
promptTemplate: x
maxRetries: 0
timeout: 1m
environment: {{network: {{egress: []}}}}
"""
# One that names a connection is led there.
CONNECTED = """\
type: standalone
name: Connected
agentRuntime: command
command: ["/bin/sh", "-c", "curl -sf $SERVICE_URL/_stub/requests | grep -c requests"]
promptTemplate: x
maxRetries: 0
timeout: 1m
connections: [service]
environment: {network: {egress: []}}
"""
CONNECTIONS = {
    "service": "{{type: connection, kind: http, url: '{model}', allow: [GET /_stub/requests]}}\n",
    "tools": """\
type: connection
kind: mcp
transport: {{type: streamable-http, url: '{tools}', headers: {{Authorization: "Bearer {{{{secret:TOOLS_TOKEN}}}}"}}}}
tools: {{stub_echo: read}}
""",
}
# Looks for a value, read from standard input, in all that the user of an agent can read: variables, arguments and memory of
# processes, and files. Prints where it is, and how much was read.
SEARCH = """\
import json, os, re, sys
wanted, found, read = sys.stdin.buffer.read(), [], {"processes": 0, "memory": 0, "files": 0, "tokens": 0}
def look(name, data):
    read["tokens"] += b"optio_at_" in data
    if wanted in data:
        found.append(name)
def memory(process):
    with open(f"/proc/{process}/maps") as maps, open(f"/proc/{process}/mem", "rb", 0) as mem:
        for begin, end in re.findall(r"^(\\w+)-(\\w+) r", maps.read(), re.M):
            try:
                mem.seek(int(begin, 16))
                data = mem.read(min(int(end, 16) - int(begin, 16), 1 << 28))
            except (OSError, ValueError, OverflowError):
                continue
            read["memory"] += len(data)
            look(f"memory of {process}", data)
for process in filter(str.isdigit, os.listdir("/proc")):
    if int(process) == os.getpid():
        continue
    try:
        for name in ("environ", "cmdline"):
            with open(f"/proc/{process}/{name}", "rb") as file:
                look(f"{name} of {process}", file.read())
        memory(process)
        read["processes"] += 1
    except OSError:
        pass
for top in ("/optio", "/optio-gate", "/tmp", "/etc", "/home", "/root", "/run", "/var", "/dev/shm"):
    for directory, _, names in os.walk(top):
        for name in names:
            path = f"{directory}/{name}"
            try:
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        look(path, file.read())
                    read["files"] += 1
            except OSError:
                pass
print(json.dumps([found, read]))
"""


class Gateway:
    """`optio gateway` with the data directory of an `optio dev`, and with the keys, which that does not have."""

    def __init__(self, host: str) -> None:
        self.host, self.port = host, free_port()
        self.url = f"http://{host}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, dev: Dev, keys: dict[str, str]) -> None:
        self._environ = {
            **dev.environment(),
            **keys,
            "OPTIO_EXECUTOR": "process",
            "OPTIO_GATEWAY_HOST": self.host,
            "OPTIO_GATEWAY_PORT": str(self.port),
        }
        self._output = dev.directory / "gateway.out"
        self.resume()

    def resume(self) -> None:
        with self._output.open("ab") as out:
            self._process = forked.start(["gateway"], ROOT, self._environ, (0, out.fileno(), out.fileno()))

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with model_server() as running:
        yield running


@pytest.fixture(scope="module")
def place() -> Iterator[Fence]:
    with fence() as made:
        yield made


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    made = Gateway(HOST or address())
    yield made
    made.kill()


@pytest.fixture(scope="module")
def tools() -> Iterator[ToolServer]:
    with tool_server() as running:
        yield running


@pytest.fixture(scope="module")
def optio(
    tmp_path_factory: pytest.TempPathFactory, model: Model, tools: ToolServer, place: Fence, gateway: Gateway
) -> Iterator[Dev]:
    """`optio dev` whose agents are pods, and the gateway beside it. Model and tools are on loopback: no pod reaches them."""
    known = endpoints_of(model.url)
    keys = {name: text for name, text in known.items() if name.startswith("OPTIO_SECRET_")} | {
        "OPTIO_SECRET_TOOLS_TOKEN": TOKEN
    }
    dev = Dev(
        tmp_path_factory.mktemp("gateway"),
        environ={
            "OPTIO_EXECUTOR": "kubernetes",
            "OPTIO_KUBE_NAMESPACE": place.runs.namespace,
            "OPTIO_KUBE_INSTALL": INSTALLATION,
            "OPTIO_KUBE_IMAGE": IMAGE,
            "OPTIO_KUBE_EGRESS": f"optio-egress.{place.proxy.namespace}.svc={place.proxy.host}:{place.proxy.port}",
            "OPTIO_KUBE_EGRESS_IMAGE": EGRESS_IMAGE,
            "OPTIO_EGRESS_KEY": PROXY_KEY.decode(),
            "OPTIO_POD_MEMORY": "1Gi",
            "OPTIO_POD_DISK": "256Mi",
            "OPTIO_GATEWAY": "required",
            "OPTIO_GATEWAY_PORT": "0",
            "OPTIO_GATEWAY_URL": gateway.url,
            **{name: text for name, text in known.items() if name not in keys},
        },
    )
    for agent in AGENTS:
        for name, scenario, extra in (
            ("", TOOLS, 'budgetUsd: "2.00"'),
            ("-poor", BUDGET, 'budgetUsd: "0.005"'),
            ("-tools", "mcp", "connections: [tools]"),
        ):
            text = task_text(agent, model_of(agent + name, scenario), f"id: {agent}{name}\nmaxRetries: 0\n{extra}\n", egress=[])
            dev.write(f"{agent}{name}.yaml", text)
    warm = task_text("claude-code", model_of("warm", "plain"), "id: warm\nmaxRetries: 0\nwarmPoolSize: 1\n", egress=[])
    dev.write("warm.yaml", warm)
    for name, text in CONNECTIONS.items():
        dev.write(f"connections/{name}.yaml", text.format(model=model.url, tools=tools.url))
    dev.write("connected.yaml", CONNECTED)
    dev.write("command.yaml", COMMAND.format(host=gateway.host, port=gateway.port))
    dev.start()
    gateway.start(dev, keys)
    yield dev
    dev.stop()


@pytest.fixture(scope="module")
def runs(optio: Dev, model: Model) -> Iterator[dict[str, str]]:
    """A run of each agent, all in the middle of a call of their model, until they are released."""
    model.hold()
    begun = {agent: started(optio, agent) for agent in AGENTS}
    eventually(lambda: held(model) >= set(AGENTS), within=240, what="a call of each that is open")
    yield begun
    model.release()


def requests_of(model: Model, agent: str, scenario: str = TOOLS) -> list[dict[str, Any]]:
    return [each for each in model.requests() if each.get("model") == model_of(agent, scenario)]


def held(model: Model) -> set[str]:
    """The agents whose calls are open."""
    return {agent for agent in AGENTS if any(each.get("held") for each in requests_of(model, agent))}


def cluster(namespace: str, *words: str, data: str = "") -> str:
    command = [KUBECTL, "-n", namespace, *words]
    done = subprocess.run(command, input=data, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(400)
@pytest.mark.parametrize("agent", AGENTS)
def test_nothing_that_an_agents_user_can_read_in_its_pod_has_a_credential(
    optio: Dev, place: Fence, runs: dict[str, str], agent: str
) -> None:
    (attempt,) = optio.get(f"/api/workflow-runs/{runs[agent]}").json["attempts"]

    said = cluster(place.runs.namespace, "exec", "-i", attempt["pod"], "-c", "agent", "--", "python3", "-c", SEARCH, data=KEY)

    found, read = json.loads(said)
    print(agent, read)
    assert found == []
    # It sees what is there: the agent's own key, in variables and memory.
    assert read["tokens"] > 1
    assert read["processes"] > 1
    assert read["memory"] > 1 << 20
    assert KEY not in cluster(place.runs.namespace, "get", "pods,networkpolicies", "-o", "yaml")


@pytest.mark.timeout(400)
def test_a_pod_that_is_led_there_reaches_the_gateway_and_the_proxy_that_refuses_it_all_and_nothing_else(
    optio: Dev, place: Fence, gateway: Gateway, runs: dict[str, str]
) -> None:
    (attempt,) = optio.get(f"/api/workflow-runs/{runs['codex']}").json["attempts"]
    with socket.create_server((gateway.host, 0)) as other:
        targets = {
            "gateway": (gateway.host, gateway.port),
            "another port of its host": other.getsockname()[:2],
            "proxy": (place.proxy.host, place.proxy.port),
            "canary": (place.proxy.host, place.proxy.canary),
            "pod": (place.outside_pod, PORT),
            "service": (place.outside_address, PORT),
            "metadata": ("169.254.169.254", 80),
            "API": ("10.96.0.1", 443),
        }
        addresses = [f"{host}:{port}" for host, port in targets.values()]
        look = ("--", "python3", "-c", LOOK, *addresses)
        said = cluster(place.runs.namespace, "exec", attempt["pod"], "-c", "agent", *look)
        loose = cluster(place.proxies.namespace, "exec", "outside", *look)

    found = dict(zip(targets, (line.split(" ")[1] for line in said.splitlines()), strict=True))
    assert {name for name, state in found.items() if state == "open"} == {"gateway", "proxy"}
    assert [line.split(" ")[1] for line in loose.splitlines()].count("open") > 4, "without a policy they can be reached"


@pytest.mark.timeout(400)
def test_a_gateway_that_is_killed_in_their_middle_ends_no_run(
    optio: Dev, model: Model, gateway: Gateway, runs: dict[str, str]
) -> None:
    before = {agent: len(requests_of(model, agent)) for agent in AGENTS}
    gateway.kill()
    gateway.resume()
    eventually(
        lambda: all(len(requests_of(model, agent)) > before[agent] for agent in AGENTS), within=120, what="the same calls again"
    )
    model.release()

    ended = {agent: optio.until_ended(run_id, within=180) for agent, run_id in runs.items()}

    for agent, run in ended.items():
        calls = len(requests_of(model, agent))
        print(f"{agent:12} {run['state']} {run['reason']}, {calls} calls, ${run['costUsd']}")
        assert (run["state"], run["output"]) == ("completed", DONE), (agent, run["message"], log(optio, run["id"]))
        # A call whose gateway was killed counts with what it had reserved, once the reservation has run out.
        assert Decimal(run["costUsd"]) >= CALL_USD * CALLS


@pytest.mark.timeout(400)
def test_each_agent_works_in_a_closed_pod_and_costs_what_its_model_served(optio: Dev, model: Model) -> None:
    model.release()
    model.reset()
    runs = {agent: started(optio, agent) for agent in AGENTS}

    ended = {agent: optio.until_ended(run_id, within=240) for agent, run_id in runs.items()}

    for agent, run in ended.items():
        calls, lines = requests_of(model, agent), log(optio, run["id"])
        print(f"{agent:12} {run['state']} {run['reason']}, {len(calls)} calls, ${run['costUsd']}")
        assert (run["state"], run["output"]) == ("completed", DONE), (agent, run["message"], lines)
        assert (len(calls), Decimal(run["costUsd"])) == (CALLS, CALL_USD * CALLS)
        assert all({KEY, f"Bearer {KEY}"} & set(each["headers"].values()) for each in calls)
        assert not any(re.search(rf"{KEY}|optio_at_", line) for line in lines)


@pytest.mark.timeout(400)
def test_a_call_that_the_budget_does_not_allow_ends_the_run_and_is_not_made(optio: Dev, model: Model) -> None:
    runs = {agent: started(optio, f"{agent}-poor") for agent in AGENTS}

    ended = {agent: optio.until_ended(run_id, within=240) for agent, run_id in runs.items()}

    for agent, run in ended.items():
        print(f"{agent:12} {run['state']} {run['reason']}, ${run['costUsd']}: {run['message']}")
        assert (run["state"], run["reason"]) == ("failed", "budget"), (agent, run["message"], log(optio, run["id"]))
        assert requests_of(model, f"{agent}-poor", BUDGET) == []
        assert Decimal(run["costUsd"]) == 0


@pytest.mark.timeout(400)
def test_each_agent_calls_the_tools_of_a_connection_through_the_gateway(optio: Dev, model: Model, tools: ToolServer) -> None:
    runs = {agent: started(optio, f"{agent}-tools") for agent in AGENTS}

    ended = {agent: optio.until_ended(run_id, within=240) for agent, run_id in runs.items()}

    for agent, run in ended.items():
        calls, lines = requests_of(model, f"{agent}-tools", "mcp"), log(optio, run["id"])
        print(f"{agent:12} {run['state']} {run['reason']}, {len(calls)} calls, ${run['costUsd']}")
        assert run["state"] == "completed", (agent, run["message"], lines)
        assert any("echo: ping" in line for line in lines), lines
        assert Decimal(run["costUsd"]) == CALL_USD * len(calls)
        assert not any(re.search(rf"{TOKEN}|optio_at_", line) for line in lines)
    assert tools.calls.count(MCP_TOOL) == len(AGENTS)


@pytest.mark.timeout(200)
def test_a_command_reaches_a_service_that_its_connection_names(optio: Dev) -> None:
    run = optio.until_ended(started(optio, "connected"), within=120)

    assert (run["state"], run["output"]) == ("completed", "1"), (run["message"], log(optio, run["id"]))


@pytest.mark.timeout(200)
def test_a_warm_pod_reaches_the_gateway_for_the_agent_that_comes(optio: Dev) -> None:
    eventually(lambda: [pool["ready"] for pool in optio.get("/api/pools").json["items"]] == [1], within=60, what="a warm pod")

    run = optio.until_ended(started(optio, "warm"), within=120)

    (attempt,) = optio.get(f"/api/workflow-runs/{run['id']}").json["attempts"]
    assert (run["state"], attempt["began"]) == ("completed", "warm"), (run["message"], log(optio, run["id"]))
    assert Decimal(run["costUsd"]) == CALL_USD


@pytest.mark.timeout(200)
def test_a_pod_that_is_not_led_there_does_not_reach_the_gateway(optio: Dev) -> None:
    run = optio.until_ended(started(optio, "command"), within=120)

    assert run["state"] == "failed"
    assert any("timed out" in line or "refused" in line for line in log(optio, run["id"])), log(optio, run["id"])


def test_no_file_of_the_worker_has_a_credential(optio: Dev) -> None:
    files = [path for path in Path(optio.directory).rglob("*") if path.is_file()]

    assert len(files) > 3
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert not any(KEY in text for text in optio.environment().values())
    assert os.environ.get("OPTIO_SECRET_ANTHROPIC_API_KEY") is None
