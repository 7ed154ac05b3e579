"""The agent image of OPTIO_TEST_AGENT_IMAGE in the cluster of KUBECONFIG: real CLIs, on a model that answers by script.

Pods must reach this machine: at the address of the cluster's node, unless OPTIO_TEST_HOST names another one.
"""

import os
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from lightkube import Client, KubeConfig
from lightkube.resources.core_v1 import Node, Pod

from optio.executors.process import INSTALL
from tests.deploy.test_agent_image import CLIS, wanted
from tests.executors.pods.place import NAMESPACE
from tests.stories.conftest import started
from tests.stub_model import TEXT, StubModel
from tests.support import Dev, eventually

IMAGE, HOST = os.environ["OPTIO_TEST_AGENT_IMAGE"], os.environ.get("OPTIO_TEST_HOST")
KEY = "sk-in-a-pod"
AGENT = """\
type: standalone
name: {name}
agentRuntime: claude-code
model: claude-sonnet-4-5-stub-{scenario}
promptTemplate: "Look at {{{{REPO_NAME}}}}"
maxRetries: 0
timeout: 2m
environment:
  secrets: [ANTHROPIC_API_KEY]
"""
VERSIONS = """\
type: standalone
name: Versions
agentRuntime: command
command: "for c in {programs}; do command -v $c >/dev/null && echo $c $($c --version); done; id -u"
promptTemplate: "x"
maxRetries: 0
timeout: 2m
"""
# A task that asks for nothing gets these.
SIZES = {"OPTIO_POD_CPU": "250m", "OPTIO_POD_MEMORY": "512Mi", "OPTIO_POD_DISK": "256Mi"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    config = KubeConfig.from_env().get()
    assert config is not None, "KUBECONFIG names no cluster"
    with Client(config, namespace=NAMESPACE) as client:
        yield client


def address(cluster: Client) -> str:
    """The node's: on a cluster of one node on this machine it is this machine's."""
    for node in cluster.list(Node):
        for each in (node.status and node.status.addresses) or []:
            if each.type == "InternalIP":
                return str(each.address)
    pytest.fail("no node says its address: set OPTIO_TEST_HOST")


@pytest.fixture(scope="module")
def model(cluster: Client) -> Iterator[StubModel]:
    with StubModel(host=HOST or address(cluster)) as running:
        yield running


@pytest.fixture(scope="module")
def install() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def optio(tmp_path_factory: pytest.TempPathFactory, model: StubModel, install: str) -> Iterator[Dev]:
    """`optio dev` whose agents are pods with the image."""
    process = Dev(
        tmp_path_factory.mktemp("pods"),
        environ={
            "OPTIO_EXECUTOR": "kubernetes",
            "OPTIO_KUBE_NAMESPACE": NAMESPACE,
            "OPTIO_KUBE_INSTALL": install,
            "OPTIO_KUBE_IMAGE": IMAGE,
            "OPTIO_ANTHROPIC_BASE_URL": model.url,
            "OPTIO_SECRET_ANTHROPIC_API_KEY": KEY,
            **SIZES,
        },
    )
    for scenario in ("tool", "slow"):
        process.write(f"{scenario}.yaml", AGENT.format(name=scenario.title(), scenario=scenario))
    process.write("versions.yaml", VERSIONS.format(programs=" ".join(program for program, _ in INSTALL.values())))
    process.start()
    yield process
    process.stop()


def log(optio: Dev, run_id: str) -> list[str]:
    return [line["text"] for line in optio.get(f"/api/workflow-runs/{run_id}/logs").json["items"]]


def test_claude_code_in_a_pod_completes_with_its_output_usage_and_cost(optio: Dev, model: StubModel) -> None:
    before = len(model.served)
    run = optio.until_ended(started(optio, "tool", {"REPO_NAME": "optio"}), within=120)

    served = model.served[before:]
    assert (run["state"], run["reason"], run["output"]) == ("completed", "ok", TEXT), run["message"]
    assert (run["turns"], run["toolCalls"], len(served)) == (2, 1, 2)
    usage = run["usage"]
    assert usage["fresh"] == sum(each["input_tokens"] for each in served)
    assert usage["cached"] == sum(each["cache_read_input_tokens"] for each in served)
    assert usage["output"] == sum(each["output_tokens"] for each in served)
    # List prices of the model: 3, 0.30 and 15 dollars for a million tokens.
    assert run["costUsd"] == f"{(2400 * 3 + 600 * 0.3 + 80 * 15) / 1e6:.5f}"
    lines = log(optio, run["id"])
    assert any("from the tool" in line for line in lines)
    assert not any(KEY in line for line in lines)


def test_its_log_is_live_and_a_cancelled_run_leaves_no_pod(optio: Dev, cluster: Client, install: str) -> None:
    run_id = started(optio, "slow", {"REPO_NAME": "optio"})

    eventually(lambda: any("claude-code 2" in line for line in log(optio, run_id)), within=60, what="its first line")
    assert optio.get(f"/api/workflow-runs/{run_id}").json["state"] == "running"
    optio.post(f"/api/workflow-runs/{run_id}/cancel")
    run = optio.until_ended(run_id, within=60)

    assert (run["state"], run["reason"]) == ("cancelled", "cancelled")
    labels: dict[str, Any] = {"optio.dev/install": install}
    eventually(lambda: not list(cluster.list(Pod, labels=labels)), within=60, what="the end of the pods")


def test_each_cli_of_the_image_is_of_the_version_in_its_lock_file(optio: Dev) -> None:
    run = optio.until_ended(started(optio, "versions"), within=120)

    assert run["state"] == "completed", run["message"]
    lines = run["output"].splitlines()
    assert lines.pop() == "10001"
    found = {line.split()[0]: line for line in lines}
    assert "claude" in found
    for cli in CLIS:
        program = INSTALL[cli][0]
        if program in found:
            (version,) = {re.sub(r"^.*@|-.*$", "", v) for name, v in wanted(cli).items() if not name.startswith("node-")}
            assert re.search(rf"\b{re.escape(version)}\b", found[program]), found[program]
