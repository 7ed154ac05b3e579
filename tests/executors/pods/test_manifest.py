"""The pod of an attempt, against a golden file."""

import json
import re
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from optio.errors import LaunchFailed
from optio.executors.pods import manifest, network, script
from optio.executors.pods.executor import PodExecutor
from optio.executors.pods.manifest import PodSettings
from optio.model.task import Environment
from tests.executors.support import launch

GOLDEN = Path(__file__).parent / "golden"
SETTINGS = PodSettings(namespace="agents", install="acme", image="registry.example/agent@sha256:" + "0" * 64)
NEVER = ("privileged", "hostPath", "hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "nodeName", "tolerations", "add")


def made(**changes: object) -> dict[str, object]:
    """A pod as people read it: its script is shown elsewhere."""
    secret = launch(
        "/bin/agent", "--flag", run_id="0197-run", stdin=b"canary", env={"KEY": "canary"}, setup=("canary",), **changes
    )
    pod = manifest.attempt_pod(secret, SETTINGS, "5f2c", "worker-1")
    pod["spec"]["containers"][0]["command"][2] = "(supervisor.sh)"
    return pod


def test_the_pod_is_the_golden_one_and_holds_nothing_of_its_launch() -> None:
    text = json.dumps(made(files={"token": b"canary"}), indent=2) + "\n"

    assert text == (GOLDEN / "attempt.json").read_text()
    assert "canary" not in text
    assert "--flag" not in text


def test_a_task_has_its_own_image_and_size() -> None:
    wanted = Environment.of({"image": "ours:1", "resources": {"cpu": "250m", "memory": "512Mi"}})

    container = made(environment=wanted)["spec"]["containers"][0]  # type: ignore[index]

    assert container["image"] == "ours:1"
    assert container["resources"]["limits"] == {"cpu": "250m", "memory": "512Mi", "ephemeral-storage": "4Gi"}


@pytest.mark.parametrize(
    ("asked", "requests", "limits"),
    [
        ({}, ("100m", "256Mi"), ("1", "2Gi")),
        ({"cpu": "2"}, ("100m", "256Mi"), ("2", "2Gi")),
        ({"requests": {"cpu": "500m"}, "limits": {"cpu": "2", "memory": "4Gi"}}, ("500m", "256Mi"), ("2", "4Gi")),
        # An operator's default gives way to what the task says.
        ({"cpu": "50m", "limits": {"memory": "64Mi"}}, ("50m", "64Mi"), ("50m", "64Mi")),
        ({"requests": {"cpu": "3", "memory": "3Gi"}}, ("3", "3Gi"), ("3", "3Gi")),
    ],
)
def test_a_pod_reserves_little_and_may_use_its_limit_unless_the_task_says_otherwise(
    asked: dict[str, object], requests: tuple[str, str], limits: tuple[str, str]
) -> None:
    container = made(environment=Environment.of({"resources": asked}))["spec"]["containers"][0]  # type: ignore[index]

    size = container["resources"]
    assert [(size[kind]["cpu"], size[kind]["memory"]) for kind in ("requests", "limits")] == [requests, limits]


def test_no_image_at_all_is_said_with_its_cure() -> None:
    settings = PodSettings(namespace="agents", install="acme", image=None)

    with pytest.raises(LaunchFailed, match=r"names no environment\.image, and OPTIO_KUBE_IMAGE is not set"):
        manifest.attempt_pod(launch("/bin/true"), settings, "5f2c", "worker-1")


def test_nothing_that_reaches_beyond_the_pod_is_ever_in_it() -> None:
    text = json.dumps(made())

    assert [word for word in NEVER if f'"{word}"' in text] == []


def test_what_a_pod_itself_gives_an_agent_is_known_to_whoever_shows_its_log() -> None:
    """Whatever can be made of it: a list, none, or one that is refused."""
    proxy = network.proxy_of("optio-egress.optio.svc=10.96.3.4:3128")
    settings = replace(SETTINGS, fence=manifest.Fence(proxy=proxy, image="egress:1", key=b"k" * 32))
    listed = Environment.of({"network": {"egress": ["api.example.com"]}})
    with closing(PodExecutor(settings, {})) as fenced, closing(PodExecutor(SETTINGS, {})) as unfenced:
        private = list(fenced.private(listed))
        others = [*fenced.private(Environment.of({})), *unfenced.private(listed)]

    assert len(private) == 2
    assert f"{':'.join(private)}@10.96.3.4:3128" in manifest.way_out(listed, settings)["HTTPS_PROXY"]
    assert others == []


@pytest.mark.parametrize("run_id", ["0197", "with_underscore", "UPPER", "x" * 80, "ends-", "ä"])
def test_every_run_has_a_name_that_the_cluster_takes(run_id: str) -> None:
    name = manifest.name_of("acme", run_id, 12)

    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name)
    assert name != manifest.name_of("acme", run_id, 13)
    assert name != manifest.name_of("other", run_id, 12)


def test_of_the_supervisor_a_pod_has_only_what_waits_for_a_launch() -> None:
    pod = manifest.attempt_pod(launch("/bin/true"), SETTINGS, "5f2c", "worker-1")

    (script,) = pod["spec"]["containers"][0]["command"][2:]

    assert "read -r word <launch" in script
    assert len(json.dumps(script)) < 2000, "it is sent with each change of each pod"
    assert "pump" not in script


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("part", [script.waiting, script.supervising])
def test_each_part_of_the_supervisor_is_a_script_of_its_own(part: Callable[[], str], shell: str) -> None:
    checked = subprocess.run([shell, "-n"], input=part().encode(), capture_output=True)

    assert (checked.returncode, checked.stderr) == (0, b"")
