"""A cluster that takes something away from the worker for a while, under queued runs: none fails, and all complete afterwards.

`python -m tests.stories.pods_refusals SECONDS [PART...]` on the real cluster of KUBECONFIG, of which it must be the
administrator. Each PART (see `PARTS`) is away for so long under 60 runs of three tasks. What is said of it meanwhile by `optio
runs why`, `/readyz` and `optio doctor` is printed.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from optio.executors.pods import manifest
from tests.executors.pods.api import Api
from tests.executors.pods.place import settings
from tests.support import ROOT, Dev, eventually

RUNS, TASKS = 60, 3
# The Role, its binding, the account of the pods, the worker's own account, the namespace, the node, an admission webhook, a
# policy's consent, the program that reads secrets, and the directory of secrets.
PARTS = ("role", "binding", "account", "worker", "namespace", "node", "webhook", "policy", "vault", "secrets")
# A value that was read is used for so long, from a file and by OPTIO_SECRET_CACHE.
_CACHED_S = 1.5
_NAMESPACE = "optio-refusals"
# Of the worker, whose account outlives the namespace of the runs.
_HOME = "optio-refusals-worker"
_RBAC = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{_NAMESPACE}"
_HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
_POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
_POLICY_BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
_POLICY = {
    "metadata": {"name": "optio-refuses"},
    "spec": {
        "matchConstraints": {
            "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
        },
        "validations": [{"expression": "false", "message": "no pod is admitted now"}],
    },
}
_POLICY_BINDING = {
    "metadata": {"name": "optio-refuses"},
    "spec": {
        "policyName": "optio-refuses",
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": _NAMESPACE}}},
    },
}
_VAULT = """\
#!/bin/sh
[ -e "$(dirname "$0")/sealed" ] || exec echo value-of-the-vault
echo "the vault is sealed" >&2
exit 1
"""
_TEMPLATE = "spec: {serviceAccountName: agents}\n"
_TASK = """\
name: {name}
agentRuntime: command
command: ["/bin/sh", "-c", "echo ran"]
promptTemplate: "go"
maxRetries: 0
maxConcurrent: 30
{more}"""
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
    api.ask("POST", "serviceaccounts", {"metadata": {"name": "agents"}})


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


def renew(api: Api, token: Path) -> None:
    """Make the worker's account unless it exists, and write a token of it, as a node does into the pod of a worker."""
    home = f"/api/v1/namespaces/{_HOME}"
    if not _is_there(api, home):
        api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": _HOME}})
    if not _is_there(api, f"{home}/serviceaccounts/worker"):
        api.ask("POST", f"{home}/serviceaccounts", {"metadata": {"name": "worker"}})
    asked = {"spec": {"expirationSeconds": 7200}}
    token.write_text(api.ask("POST", f"{home}/serviceaccounts/worker/token", asked)["status"]["token"])


def forget_worker(api: Api, config: Path) -> None:
    """Delete the worker's account, and wait until the API server no longer remembers that its token was good."""
    api.ask("DELETE", f"/api/v1/namespaces/{_HOME}/serviceaccounts/worker")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(config))
        with Api(_NAMESPACE) as mine:
            eventually(lambda: not _is_there(mine, "/api"), within=60, what="the end of the account")


def kubeconfig(api: Api, path: Path) -> Path:
    """One whose user is the worker's account."""
    token = path.with_name("token")
    renew(api, token)
    found = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    for user in found["users"]:
        user["user"] = {"tokenFile": str(token)}
    path.write_text(json.dumps(found))
    return path


@contextmanager
def away(api: Api, part: str, directory: Path) -> Iterator[None]:
    """What is taken away, and given back."""
    secrets, hidden, sealed = directory / "secrets", directory / "unmounted", directory / "sealed"
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
        "account": (
            lambda: api.ask("DELETE", "serviceaccounts/agents"),
            lambda: api.ask("POST", "serviceaccounts", {"metadata": {"name": "agents"}}),
        ),
        "worker": (lambda: forget_worker(api, directory / "kubeconfig"), lambda: renew(api, directory / "token")),
        "policy": (
            lambda: [api.ask("POST", _POLICIES, _POLICY), api.ask("POST", _POLICY_BINDINGS, _POLICY_BINDING)],
            lambda: [api.ask("DELETE", f"{each}/optio-refuses") for each in (_POLICY_BINDINGS, _POLICIES)],
        ),
        "vault": (sealed.touch, sealed.unlink),
        "secrets": (lambda: secrets.rename(hidden), lambda: hidden.rename(secrets)),
        "namespace": (lambda: unmake(api), lambda: make(api)),
        "node": (
            lambda: api.ask("PATCH", node, {"spec": {"unschedulable": True}}),
            lambda: api.ask("PATCH", node, {"spec": {"unschedulable": None}}),
        ),
        "webhook": (lambda: api.ask("POST", _HOOKS, _HOOK), lambda: api.ask("DELETE", f"{_HOOKS}/optio-nothing")),
    }
    begin, end = take[part]
    begin()
    time.sleep(_CACHED_S)
    try:
        yield
    finally:
        end()


@dataclass(frozen=True, kw_only=True)
class Outage:
    """How the runs under an outage ended, in how many attempts and how long after it, and what was said of it meanwhile."""

    ended: Counter[str]
    attempts: int
    after_s: float
    why: str
    readyz: str
    doctor: str

    @property
    def is_harmless(self) -> bool:
        return set(self.ended) == {"completed ok"}


def refused(part: str, seconds: float, runs: int = RUNS) -> Outage:
    """Take one part away for so long, under so many runs."""
    install = f"r{uuid.uuid4().hex[:10]}"
    with tempfile.TemporaryDirectory() as name, Api(_NAMESPACE) as api:
        directory = Path(name)
        unmake(api)
        make(api)
        (directory / "template.yaml").write_text(_TEMPLATE)
        (directory / "vault").write_text(_VAULT)
        (directory / "vault").chmod(0o755)
        (directory / "secrets").mkdir()
        (directory / "secrets" / "FROM_FILE").write_text("value-of-the-file")
        more = {
            "OPTIO_KUBE_NAMESPACE": _NAMESPACE,
            "OPTIO_MAX_WORKFLOW_CONCURRENT": "10",
            "OPTIO_POD_TEMPLATE": str(directory / "template.yaml"),
            "OPTIO_SECRETS_DIR": str(directory / "secrets"),
            "OPTIO_SECRET_COMMAND": str(directory / "vault"),
            "OPTIO_SECRET_CACHE": "1s",
        }
        environ = settings(directory, install, **more)
        environ["KUBECONFIG"] = str(kubeconfig(api, directory / "kubeconfig"))
        dev = Dev(directory, environ=environ)
        names = {"vault": "FROM_VAULT", "secrets": "FROM_FILE"}
        secrets = f"environment: {{secrets: [{names[part]}]}}\n" if part in names else ""
        for n in range(TASKS):
            dev.write(f"t{n}.yaml", _TASK.format(name=f"t{n}", more=secrets))
        dev.start()
        try:
            with away(api, part, directory):
                asked = [dev.post(f"/api/tasks/t{n % TASKS}/runs").json["runId"] for n in range(runs)]
                time.sleep(seconds)
                why = dev.cli("runs", "why", asked[-1]).stdout
                readyz = dev.request("GET", "/readyz").body.decode()
                doctor = dev.cli("doctor", "--cluster").stdout
            back = time.monotonic()
            ended = [dev.until_ended(run_id, within=240) for run_id in asked]
            after_s = time.monotonic() - back
        finally:
            dev.stop()
            api.sweep(f"{manifest.INSTALL}={install}")
            unmake(api)
    states = Counter(f"{run['state']} {run['reason']}" for run in ended)
    attempts = sum(len(run["attempts"]) for run in ended)
    return Outage(ended=states, attempts=attempts, after_s=after_s, why=why, readyz=readyz, doctor=doctor)


def main() -> None:
    """Print a table with a row for each part."""
    seconds, parts = float(sys.argv[1]), sys.argv[2:] or PARTS
    bad = False
    for part in parts:
        found = refused(part, seconds)
        bad |= not found.is_harmless
        after = f"all {found.after_s:.0f} s after it was back"
        print(f"{part} away for {seconds:.0f} s: {dict(found.ended)} in {found.attempts} attempts, {after}")
        faults = [line for line in found.doctor.splitlines() if line.lstrip().startswith("FAIL")]
        for what, said in (("why", found.why), ("readyz", found.readyz), ("doctor", " | ".join(faults))):
            print(f"    {what}: {' '.join(said.split())[:500]}", flush=True)
    raise SystemExit(bad)


if __name__ == "__main__":
    main()
