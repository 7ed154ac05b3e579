"""Addresses of fenced pods that a worker reports, on a real cluster, by an account with the rights of a worker."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from optio.executors.pods import manifest
from optio.executors.pods.address_report import GUARD
from optio.executors.pods.executor import PodExecutor
from optio.executors.pods.manifest import PodSettings
from optio.model.task import Environment
from tests.executors.pods.api import Api
from tests.executors.pods.fence import EGRESS_IMAGE, KEY, Fence, fence
from tests.executors.support import Ended, shell, until_ended
from tests.support import ROOT, eventually

_LEVEL = "pod-security.kubernetes.io/enforce"
CLOSED = Environment.of({"network": {"egress": []}})


@pytest.fixture(scope="module")
def place() -> Iterator[Fence]:
    with fence() as made:
        yield made


def worker(place: Fence, path: Path, *without: str) -> Path:
    """A kubeconfig of an account `optio-worker` with the deployed Role, but for the rights for some resources."""
    api, rbac = place.runs, f"/apis/rbac.authorization.k8s.io/v1/namespaces/{place.runs.namespace}"
    name = "-".join(["optio-worker", *(each.replace("/", "-") for each in without)])
    text = (ROOT / "deploy/kubernetes/worker/runs.yaml").read_text()
    role = next(each for each in yaml.safe_load_all(text) if each["kind"] == "Role")
    rules = [each for each in role["rules"] if not set(each["resources"]) & set(without)]
    api.ask("POST", "serviceaccounts", {"metadata": {"name": name}})
    api.ask("POST", f"{rbac}/roles", {"metadata": {"name": name}, "rules": rules})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": api.namespace}],
    }
    api.ask("POST", f"{rbac}/rolebindings", binding)
    token = api.ask("POST", f"serviceaccounts/{name}/token", {"spec": {"expirationSeconds": 3600}})["status"]["token"]
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    config["users"] = [{**each, "user": {"token": token}} for each in config["users"]]
    path.write_text(json.dumps(config))
    return path


def executor_of(place: Fence) -> PodExecutor:
    fenced = manifest.Fence(proxy=place.proxy, image=EGRESS_IMAGE, key=KEY)
    sizes = {"cpu": "50m", "memory": "64Mi", "disk": "256Mi", "image": EGRESS_IMAGE}
    settings = PodSettings(namespace=place.runs.namespace, install=f"t{uuid.uuid4().hex[:12]}", fence=fenced, **sizes)
    return PodExecutor(settings, {}, start_s=60.0)


def reporters(api: Api, name: str) -> list[str]:
    """Who has set the pod's address, by the operations that the cluster has written down."""
    fields = (api.pod(name) or {})["metadata"]["managedFields"]
    return [each["manager"] for each in fields if "f:podIP" in each.get("fieldsV1", {}).get("f:status", {})]


def started(executor: PodExecutor, api: Api) -> tuple[Ended, list[str]]:
    """A run of an agent that lives until its node has reported the address too; and who reported it."""
    handle = executor.start(shell("echo ran; sleep 2.5", environment=CLOSED, run_id=uuid.uuid4().hex))
    eventually(handle.begun, within=60, what="the agent")
    found = eventually(lambda: reporters(api, handle.name), what="its address")  # type: ignore[attr-defined]
    ended = until_ended(handle, within=60)
    handle.close(remove=True)
    return ended, found


def test_a_worker_reports_the_address_of_a_fenced_pod_once_it_knows_that_the_cluster_keeps_it(
    place: Fence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(worker(place, tmp_path / "kubeconfig")))

    with contextlib.closing(executor_of(place)) as executor:
        first, second = started(executor, place.runs), started(executor, place.runs)

    assert [(each.exit.code, each.stdout) for each, _ in (first, second)] == [(0, b"ran\n")] * 2
    assert first[1] == ["kubelet"]
    assert set(second[1]) - {"kubelet"}, "a worker has"


def test_a_worker_without_the_right_starts_agents_as_before(
    place: Fence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(worker(place, tmp_path / "kubeconfig", "pods/status")))

    with contextlib.closing(executor_of(place)) as executor:
        found = [started(executor, place.runs) for _ in range(2)]

    assert [(each.exit.code, each.stdout, reporters) for each, reporters in found] == [(0, b"ran\n", ["kubelet"])] * 2


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"podIP": None, "podIPs": None}, GUARD),
    ({"podIP": "10.244.0.250", "podIPs": [{"$patch": "replace"}, {"ip": "10.244.0.250"}]}, "of a pod that has none, once"),
    ({"message": "changed"}, "of a pod that has none, once"),
]


def test_a_worker_may_change_nothing_else_of_a_status_and_nobody_takes_an_address_away(
    place: Fence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {"optio.dev/egress": "none"}
    image = {"name": "agent", "image": EGRESS_IMAGE, "command": ["sleep", "600"]}
    pods = {name: {"metadata": {"name": name, "labels": labels}} for name in ("known", "new")}
    known = {**pods["known"], "spec": {"containers": [image], "terminationGracePeriodSeconds": 0}}
    new = {**pods["new"], "spec": {"containers": [image], "nodeSelector": {"no": "node"}}}
    api = place.runs
    api.ask("PATCH", f"/api/v1/namespaces/{api.namespace}", {"metadata": {"labels": {_LEVEL: "privileged"}}})
    for each in (known, new):
        api.ask("POST", "pods", each)
    eventually(lambda: (api.pod("known") or {})["status"].get("podIP"), within=30, what="its address")
    config = worker(place, tmp_path / "kubeconfig", "pods/log")
    monkeypatch.setenv("KUBECONFIG", str(config))
    with Api(api.namespace) as mine:
        refusals = [refusal(mine, "known", status) for status, _ in CHANGES]
        phase = refusal(mine, "new", {"phase": "Failed"})
        accepted = refusal(mine, "new", {"podIP": "10.244.0.251", "podIPs": [{"ip": "10.244.0.251"}]})
    monkeypatch.undo()
    by_admin = refusal(api, "known", {"podIP": None, "podIPs": None})

    assert [expected in said for said, (_, expected) in zip(refusals, CHANGES, strict=True)] == [True] * len(CHANGES), refusals
    assert "nothing of a pod but its address" in phase
    assert accepted == ""
    assert GUARD in by_admin


def refusal(api: Api, name: str, status: dict[str, Any]) -> str:
    """Why the cluster refuses this change of a pod's status; empty if it does not."""
    try:
        api.ask("PATCH", f"pods/{name}/status", {"status": status})
    except AssertionError as err:
        return str(err)
    return ""
