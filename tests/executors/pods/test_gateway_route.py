"""The way of an agent's pod to the gateway: open for the agent that is led through it, and for no other."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from optio.errors import LaunchFailed, SettingsError
from optio.executors.pods import manifest, network
from optio.executors.pods.executor import PodExecutor
from optio.executors.pods.manifest import Fence, PodSettings
from optio.model.task import Environment, Network
from tests.executors.support import launch
from tests.runs.support import opened

FENCE = Fence(proxy=network.proxy_of("optio-egress.optio.svc=10.96.3.4:3128"), image="egress:1", key=b"k" * 32)
GATEWAY = network.gateway_of("http://optio-gateway.optio.svc:8100").at(["10.96.5.6"])
SETTINGS = PodSettings(namespace="optio-runs", install="acme", image="agent:1", fence=FENCE)
LED = replace(SETTINGS, fence=replace(FENCE, gateway=GATEWAY))
CLOSED = Environment(network=Network(egress=[]))


def test_a_pod_that_is_led_through_the_gateway_has_its_name_and_the_label_of_its_policy() -> None:
    pod = manifest.attempt_pod(launch("/bin/agent", environment=CLOSED), LED, "mark", "worker")

    policy = manifest.policy(CLOSED, LED)
    assert policy is not None
    assert pod["spec"]["hostAliases"] == [{"ip": "10.96.5.6", "hostnames": ["optio-gateway.optio.svc"]}]
    assert pod["metadata"]["labels"][network.EGRESS] == policy["metadata"]["labels"][network.EGRESS]
    assert manifest.credentials(CLOSED, LED) == manifest.credentials(CLOSED, SETTINGS)


def test_other_pods_know_nothing_of_the_gateway() -> None:
    pod = manifest.attempt_pod(launch("/bin/agent", environment=CLOSED), SETTINGS, "mark", "worker")

    assert "hostAliases" not in pod["spec"]
    assert "gateway" not in str(pod)
    assert "gateway" not in str(manifest.policy(CLOSED, SETTINGS))
    assert "gateway" not in str(manifest.way_out(CLOSED, SETTINGS))


def test_a_gateway_without_an_address_is_waited_for_and_named_with_its_setting() -> None:
    led = launch("/bin/agent", environment=CLOSED, gateway="http://optio-gateway.optio.invalid:8100")
    with closing(PodExecutor(SETTINGS, {})) as executor, pytest.raises(LaunchFailed) as failed:
        executor.start(led)

    assert (failed.value.reason, failed.value.temporary) == ("network", True)
    assert str(failed.value).startswith("the gateway optio-gateway.optio.invalid (OPTIO_GATEWAY_URL) has no address: ")


def test_a_worker_whose_pods_would_look_for_the_gateway_in_themselves_does_not_start(tmp_path: Path) -> None:
    asked = {"OPTIO_EXECUTOR": "kubernetes", "OPTIO_GATEWAY": "required"}
    with opened(tmp_path, asked) as services, pytest.raises(SettingsError, match="set OPTIO_GATEWAY_URL to its"):
        services.parts()
    with opened(tmp_path, {**asked, "OPTIO_GATEWAY_URL": "http://optio-gateway.optio.svc:8100"}) as services:
        assert services.parts().gateway is not None
