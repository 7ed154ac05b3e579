"""A cluster that takes something away from the worker for a while, under queued runs: none fails, and all complete afterwards.

`python -m tests.stories.pods_refusals SECONDS [PART...]` on the real cluster of KUBECONFIG, of which it must be the
administrator. Each PART (role, binding, account, namespace, node, webhook) is away for so long under 60 runs of three tasks.
"""

import json
import os
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from optio.executors.pods import manifest
from tests.executors.pods.api import Api
from tests.executors.pods.place import settings
from tests.support import ROOT, Dev, eventually

RUNS, TASKS = 60, 3
_NAMESPACE = "optio-refusals"
# Of the worker, whose account outlives the namespace of the runs.
_HOME = "optio-refusals-worker"
_RBAC = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{_NAMESPACE}"
_HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
_TASK = """\
name: {name}
agentRuntime: command
command: ["/bin/sh", "-c", "echo ran"]
promptTemplate: "go"
maxRetries: 0
maxConcurrent: 30
"""
_HOOK = {
    "metadata": {"name": "optio-nothing"},
    "webhooks": [
        {
            "name": "nothing.optio.test",
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": _NAMESPACE}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
    ],
}


def rights() -> list[dict[str, Any]]:
    """The worker's Role as it is deployed, for an account in the namespace of the runs."""
    text = (ROOT / "deploy/kubernetes/worker/runs.yaml").read_text()
    role = next(each for each in yaml.safe_load_all(text) if each["kind"] == "Role")
    binding = {
        "metadata": {"name": "optio-worker"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "optio-worker"},
        "subjects": [{"kind": "ServiceAccount", "name": "worker", "namespace": _HOME}],
    }
    return [{"metadata": {"name": "optio-worker"}, "rules": role["rules"]}, binding]


def make(api: Api) -> None:
    """The namespace and all that a worker needs in it."""
    api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": _NAMESPACE}})
    role, binding = rights()
    api.ask("POST", f"{_RBAC}/roles", role)
    api.ask("POST", f"{_RBAC}/rolebindings", binding)
    eventually(lambda: _is_there(api, "serviceaccounts/default"), within=30, what="the namespace")


def _is_there(api: Api, path: str) -> bool:
    try:
        api.ask("GET", path)
    except AssertionError:
        return False
    return True


def unmake(api: Api) -> None:
    if _is_there(api, f"/api/v1/namespaces/{_NAMESPACE}"):
        api.ask("DELETE", f"/api/v1/namespaces/{_NAMESPACE}")
    eventually(lambda: not _is_there(api, f"/api/v1/namespaces/{_NAMESPACE}"), within=120, what="the end of the namespace")


def kubeconfig(api: Api, path: Path) -> Path:
    """One with the token of the worker's account."""
    home = f"/api/v1/namespaces/{_HOME}"
    if not _is_there(api, home):
        api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": _HOME}})
        api.ask("POST", f"{home}/serviceaccounts", {"metadata": {"name": "worker"}})
    token = api.ask("POST", f"{home}/serviceaccounts/worker/token", {"spec": {"expirationSeconds": 7200}})["status"]["token"]
    found = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    for user in found["users"]:
        user["user"] = {"token": token}
    path.write_text(json.dumps(found))
    return path


@contextmanager
def away(api: Api, part: str) -> Iterator[None]:
    """What is taken away, and given back."""
    role, binding = rights()
    node = "/api/v1/nodes/" + api.ask("GET", "/api/v1/nodes")["items"][0]["metadata"]["name"]
    take: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "role": (
            lambda: api.ask("DELETE", f"{_RBAC}/roles/optio-worker"),
            lambda: api.ask("POST", f"{_RBAC}/roles", role),
        ),
        "binding": (
            lambda: api.ask("DELETE", f"{_RBAC}/rolebindings/optio-worker"),
            lambda: api.ask("POST", f"{_RBAC}/rolebindings", binding),
        ),
        "account": (lambda: api.ask("DELETE", "serviceaccounts/default"), lambda: None),
        "namespace": (lambda: unmake(api), lambda: make(api)),
        "node": (
            lambda: api.ask("PATCH", node, {"spec": {"unschedulable": True}}),
            lambda: api.ask("PATCH", node, {"spec": {"unschedulable": None}}),
        ),
        "webhook": (lambda: api.ask("POST", _HOOKS, _HOOK), lambda: api.ask("DELETE", f"{_HOOKS}/optio-nothing")),
    }
    begin, end = take[part]
    begin()
    try:
        yield
    finally:
        end()


def refused(part: str, seconds: float) -> tuple[Counter[str], str, float, int]:
    """How the runs ended, what was said of one meanwhile, when all had ended after, and how many attempts they took."""
    install = f"r{uuid.uuid4().hex[:10]}"
    with tempfile.TemporaryDirectory() as directory, Api(_NAMESPACE) as api:
        unmake(api)
        make(api)
        more = {"OPTIO_KUBE_NAMESPACE": _NAMESPACE, "OPTIO_MAX_WORKFLOW_CONCURRENT": "10"}
        environ = settings(Path(directory), install, **more)
        environ["KUBECONFIG"] = str(kubeconfig(api, Path(directory) / "kubeconfig"))
        dev = Dev(Path(directory), environ=environ)
        for n in range(TASKS):
            dev.write(f"t{n}.yaml", _TASK.format(name=f"t{n}"))
        dev.start()
        try:
            with away(api, part):
                runs = [dev.post(f"/api/tasks/t{n % TASKS}/runs").json["runId"] for n in range(RUNS)]
                time.sleep(seconds)
                said = dev.cli("runs", "why", runs[-1]).stdout
            back = time.monotonic()
            ended = [dev.until_ended(run_id, within=240) for run_id in runs]
            took = time.monotonic() - back
        finally:
            dev.stop()
            api.sweep(f"{manifest.INSTALL}={install}")
            unmake(api)
    return Counter(f"{run['state']} {run['reason']}" for run in ended), said, took, sum(len(run["attempts"]) for run in ended)


def main() -> None:
    """A table with a row for each part."""
    seconds, parts = float(sys.argv[1]), sys.argv[2:] or ["role", "binding", "namespace", "node", "webhook"]
    bad = False
    for part in parts:
        ended, said, took, attempts = refused(part, seconds)
        bad |= set(ended) != {"completed ok"}
        print(f"{part} away for {seconds:.0f} s: {dict(ended)} in {attempts} attempts, all {took:.0f} s after it was back")
        print("    " + " ".join(said.split())[:400], flush=True)
    raise SystemExit(bad)


if __name__ == "__main__":
    main()
