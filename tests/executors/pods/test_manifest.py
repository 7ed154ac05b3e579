"""The pod of an attempt, against a golden file."""

import json
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from optio.errors import LaunchFailed
from optio.executors.pods import manifest, network
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
    pod = manifest.attempt_pod(secret, SETTINGS, "5f2c")
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


def test_no_image_at_all_is_said_with_its_cure() -> None:
    settings = PodSettings(namespace="agents", install="acme", image=None)

    with pytest.raises(LaunchFailed, match=r"names no environment\.image, and OPTIO_KUBE_IMAGE is not set"):
        manifest.attempt_pod(launch("/bin/true"), settings, "5f2c")


def test_a_tombstone_has_the_name_of_the_attempt_and_never_gets_a_node() -> None:
    stone = manifest.tombstone("0197-run", 1, SETTINGS)

    assert stone["metadata"]["name"] == made()["metadata"]["name"]  # type: ignore[index]
    assert stone["spec"]["schedulingGates"] == [{"name": "optio.dev/never"}]


def test_nothing_that_reaches_beyond_the_pod_is_ever_in_it() -> None:
    text = json.dumps([made(), manifest.tombstone("r", 1, SETTINGS)])

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
