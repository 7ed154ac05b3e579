"""The agent image of OPTIO_TEST_AGENT_IMAGE in the cluster of KUBECONFIG: each real CLI in a pod of its own, whose network is
closed but for a model that answers by script.

Pods must reach this machine: at the address of the cluster's node, unless OPTIO_TEST_HOST names another one.
"""

import json
import os
import re
from collections.abc import Iterator

import pytest
from lightkube import Client
from lightkube.resources.core_v1 import Node

from optio.model import prices
from optio.model.runtimes import DECLARED
from optio.model.usage import Usage
from tests.executors.pods.fence import EGRESS_IMAGE, INSTALLATION, KEY, Fence, fence
from tests.runtimes.real_agents import AGENTS, DONE, Model, endpoints_of, model_server, task_text
from tests.runtimes.real_agents import KEY as SECRET
from tests.stories.conftest import started
from tests.support import Dev, eventually

IMAGE, HOST = os.environ["OPTIO_TEST_AGENT_IMAGE"], os.environ.get("OPTIO_TEST_HOST")
PROGRAMS = [declared.program for declared in DECLARED.values() if declared.program is not None]
VERSIONS = """\
type: standalone
name: Versions
agentRuntime: command
command: "for c in {programs}; do echo $c $($c --version); done; id -u"
promptTemplate: "x"
maxRetries: 0
timeout: 2m
"""
CALLS = 3


def model_of(agent: str, scenario: str = f"tool-{CALLS}") -> str:
    """A model with a list price, whose name says who asks it and what it plays."""
    return f"claude-sonnet-4-5-{agent}-stub-{scenario}"


def address() -> str:
    """The node's: on a cluster of one node on this machine it is this machine's."""
    with Client() as cluster:
        for node in cluster.list(Node):
            for each in (node.status and node.status.addresses) or []:
                if each.type == "InternalIP":
                    return str(each.address)
    pytest.fail("no node says its address: set OPTIO_TEST_HOST")


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with model_server(HOST or address()) as running:
        yield running


@pytest.fixture(scope="module")
def place() -> Iterator[Fence]:
    """An egress proxy, and a namespace for the agents in which nothing is privileged."""
    with fence() as made:
        yield made


@pytest.fixture(scope="module")
def optio(tmp_path_factory: pytest.TempPathFactory, model: Model, place: Fence) -> Iterator[Dev]:
    """`optio dev` whose agents are pods with the image."""
    process = Dev(
        tmp_path_factory.mktemp("pods"),
        environ={
            "OPTIO_EXECUTOR": "kubernetes",
            "OPTIO_KUBE_NAMESPACE": place.runs.namespace,
            "OPTIO_KUBE_INSTALL": INSTALLATION,
            "OPTIO_KUBE_IMAGE": IMAGE,
            "OPTIO_KUBE_EGRESS": f"optio-egress.{place.proxy.namespace}.svc={place.proxy.host}:{place.proxy.port}",
            "OPTIO_KUBE_EGRESS_IMAGE": EGRESS_IMAGE,
            "OPTIO_EGRESS_KEY": KEY.decode(),
            "OPTIO_POD_MEMORY": "1Gi",
            "OPTIO_POD_DISK": "256Mi",
            **endpoints_of(model.url),
        },
    )
    reach = [model.url.removeprefix("http://")]
    for agent in AGENTS:
        process.write(f"{agent}.yaml", task_text(agent, model_of(agent), f"id: {agent}\nmaxRetries: 0\n", egress=reach))
    slow = task_text("claude-code", model_of("claude-code", "slow-60"), "id: slow\nmaxRetries: 0\n", egress=reach)
    process.write("slow.yaml", slow)
    programs = " ".join(program.name for program in PROGRAMS)
    process.write("versions.yaml", VERSIONS.format(programs=programs))
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def runs(optio: Dev) -> dict[str, str]:
    """A run of each agent, all begun."""
    return {agent: started(optio, agent) for agent in AGENTS}


def log(optio: Dev, run_id: str) -> list[str]:
    return [line["text"] for line in optio.get(f"/api/workflow-runs/{run_id}/logs").json["items"]]


@pytest.mark.parametrize("agent", AGENTS)
def test_each_agent_in_a_pod_completes_with_its_text_usage_cost_and_tool_calls(
    optio: Dev, model: Model, place: Fence, runs: dict[str, str], agent: str
) -> None:
    run = optio.until_ended(runs[agent], within=180)

    served = [each["answer"]["usage"] for each in model.requests() if each.get("model") == model_of(agent)]
    (attempt,) = optio.get(f"/api/workflow-runs/{run['id']}").json["attempts"]
    keys = ("state", "reason", "output", "usage", "costUsd", "turns", "toolCalls")
    print(agent, json.dumps({key: run[key] for key in keys}), attempt["image"], attempt["pod"])
    assert (run["state"], run["reason"], run["output"]) == ("completed", "ok", DONE), run["message"]
    assert (run["turns"], run["toolCalls"], len(served)) == (CALLS + 1, CALLS, CALLS + 1)
    used = Usage(**{kind: sum(each[kind] for each in served) for kind in ("fresh", "cached", "output")})
    assert run["usage"] == {
        "fresh": used.fresh,
        "cached": used.cached,
        "cacheWrite": 0,
        "output": used.output,
        "reasoning": 0,
    }
    assert run["costUsd"] == str(prices.cost_of_calls("claude-sonnet-4-5", used))
    assert attempt["namespace"] == place.runs.namespace
    assert attempt["image"].startswith("sha256:")
    lines = log(optio, run["id"])
    assert lines.count("hi") == CALLS
    assert not any(SECRET in line for line in lines)


def test_its_log_is_live_and_a_cancelled_run_leaves_no_pod(optio: Dev, place: Fence, model: Model) -> None:
    run_id = started(optio, "slow")

    eventually(
        lambda: any(each.get("scenario") == "slow-60" for each in model.requests()), within=90, what="a request to the model"
    )
    assert optio.get(f"/api/workflow-runs/{run_id}").json["state"] == "running"
    optio.post(f"/api/workflow-runs/{run_id}/cancel")
    run = optio.until_ended(run_id, within=60)

    assert (run["state"], run["reason"]) == ("cancelled", "cancelled")
    eventually(lambda: not place.runs.pods(f"optio.dev/run={run_id}"), within=60, what="the end of the pod")


def test_each_cli_of_the_image_is_of_the_version_that_optio_is_tested_with(optio: Dev) -> None:
    run = optio.until_ended(started(optio, "versions"), within=120)

    assert run["state"] == "completed", run["message"]
    lines = run["output"].splitlines()
    print(*lines, sep="\n")
    assert lines.pop() == "10001"
    assert [line.split()[0] for line in lines] == [program.name for program in PROGRAMS]
    assert [re.findall(r"\d+\.\d+\.\d+", line) for line in lines] == [[program.tested] for program in PROGRAMS]
