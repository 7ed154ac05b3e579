"""Manifests of pods, for an attempt or for a pool, and the patches that change them. Pure. A pod has nothing in it that is not
written here or in the operator's template."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from optio.errors import LaunchFailed
from optio.executors.base import Launch
from optio.executors.pods import network, script
from optio.executors.pods.launch_script import CONTROL, PRIVATE, ahead, kept_s
from optio.executors.pods.template import BUSY, IDLE, Template
from optio.model.pool import request_and_limit
from optio.model.task import Amounts, Environment, Resources

Manifest = dict[str, Any]
CONTAINER = "agent"
INSTALL, RUN, ATTEMPT, ROLE, POOL = (f"optio.dev/{name}" for name in ("install", "run", "attempt", "role", "pool"))
# The worker that follows the pod of an attempt, by the pod's label; and of a warm pod, that it takes a launch at once.
WORKER, READY = "optio.dev/worker", "optio.dev/ready"
MARK, ORPHAN, KEPT = "optio.dev/mark", "optio.dev/orphan-seconds", "optio.dev/kept-until"
ATTEMPT_ROLE, WARM_ROLE = "attempt", "warm"
# The pod goes after its agent: the supervisor keeps the time, this is for when it cannot.
_DEADLINE_MARGIN_S = 120
_GRACE_S = 10.0
# A warm pod whose keeper is gone ends by itself, at this multiple of the age at which it would have been replaced.
_IDLE = 1.5
# Parts of the launch that must not be on a disk stay in memory until the agent has them.
_PRIVATE_SIZE = "64Mi"
_USER = 10001
_MIN_DISK, _LARGE = "1Gi", ("Gi", "G", "Ti", "T", "Pi", "P")
_PLAIN = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """The settings that close the network of pods: the egress proxy, the image of the gate, and the key shared with the
    proxy. `gateway` is open for the launch at hand."""

    proxy: network.Proxy
    image: str
    key: bytes = field(repr=False)
    gateway: network.GatewayAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """The operator's settings for every pod. `install` separates two installations in one namespace; `is_team` marks a
    namespace that runs only the tasks which the policy puts there."""

    namespace: str
    install: str
    image: str | None
    is_team: bool = False
    cpu: str = "1"
    memory: str = "2Gi"
    cpu_request: str = "100m"
    memory_request: str = "256Mi"
    disk: str = "4Gi"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    runtime_class: str | None = None
    template: Template = field(default_factory=Template)
    warm_age_s: float = 3600.0
    warm_most: int = 20
    orphan_s: float = 900.0
    fence: Fence | None = None

    @property
    def gate_s(self) -> float:
        """Return how many seconds a launch may wait in a pod until the network is closed, or the gate says why it is not."""
        return 0.0 if self.fence is None else network.GATE_PATIENCE_S

    @property
    def idle_s(self) -> float:
        """Return how many seconds a warm pod waits for a launch before it ends."""
        return self.warm_age_s * _IDLE


def name_of(install: str, run_id: str, attempt: int) -> str:
    """Return the name of an attempt's pod. It is always the same, so creating the pod twice creates it once."""
    return f"optio-{_digest(install)[:6]}-{run_id if _PLAIN.fullmatch(run_id) else _digest(run_id)[:32]}-{attempt}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def attempt_pod(launch: Launch, settings: PodSettings, mark: str, worker: str) -> Manifest:
    """Return the pod that waits for the launch of an attempt. It contains nothing of the launch but its names and limits."""
    spec = _spec(launch.environment, settings, {"OPTIO_MARK": mark}, launch.grace_s)
    spec["activeDeadlineSeconds"] = _deadline(launch)
    labels = _taken(launch, worker)
    labels |= _egress_label(launch.environment, settings)
    annotations = {**BUSY, MARK: mark, ORPHAN: f"{launch.orphan_s:.3f}"}
    name = name_of(settings.install, launch.run_id, launch.attempt)
    return _pod(name, settings, labels, spec, annotations)


def pool_key(environment: Environment, settings: PodSettings) -> str:
    """Return the key of a kind of pod: equal for pods that can take each other's launches."""
    template = settings.template
    alike = [_warm_spec(environment, settings, ""), dict(template.labels), dict(template.annotations)]
    return _digest(json.dumps(alike, sort_keys=True))[:12]


def warm_pod(environment: Environment, settings: PodSettings, unique: str, mark: str) -> Manifest:
    """Return a pod that waits in a pool for any attempt with the same environment."""
    labels = {ROLE: WARM_ROLE, POOL: pool_key(environment, settings)} | _egress_label(environment, settings)
    name = f"optio-{_digest(settings.install)[:6]}-warm-{unique}"
    return _pod(name, settings, labels, _warm_spec(environment, settings, mark), {**IDLE, MARK: mark})


def _taken(launch: Launch, worker: str) -> dict[str, str]:
    return {RUN: launch.run_id, ATTEMPT: str(launch.attempt), ROLE: ATTEMPT_ROLE, WORKER: worker}


def offered(pod_object: Mapping[str, Any]) -> Manifest:
    """Return the patch that marks this warm pod as ready. It empties `managedFields`, which make a third of each change that is
    sent, and are not kept once emptied."""
    version = pod_object["metadata"]["resourceVersion"]
    return {"metadata": {"resourceVersion": version, "labels": {READY: "true"}, "managedFields": [{}]}}


def adopted(pod_object: Mapping[str, Any], worker: str) -> Manifest:
    """Return the patch that makes this worker the one that is notified about this pod."""
    return {"metadata": {"uid": pod_object["metadata"]["uid"], "labels": {WORKER: worker}}}


def claimed(warm: Mapping[str, Any], launch: Launch, age_s: float, worker: str) -> Manifest:
    """Return the patch that turns this pod into the attempt's own. Its deadline counts from when the pod began."""
    return {
        "metadata": {
            "resourceVersion": warm["metadata"]["resourceVersion"],
            "labels": {**_taken(launch, worker), READY: None},
            "annotations": {**BUSY, ORPHAN: f"{launch.orphan_s:.3f}"},
        },
        "spec": {"activeDeadlineSeconds": _deadline(launch) + math.ceil(age_s)},
    }


def kept(until: datetime) -> Manifest:
    """Return the patch that lets the pod of a failed run stay until a time."""
    return {"metadata": {"annotations": {KEPT: until.isoformat(timespec="seconds")}}}


def kept_until(pod_object: Mapping[str, Any]) -> datetime | None:
    """Return until when the pod of a failed run stays, or None for any other pod."""
    until = pod_object["metadata"].get("annotations", {}).get(KEPT)
    return None if until is None else datetime.fromisoformat(until)


def lease_name(install: str) -> str:
    """Return the name of the Lease of the process that keeps the pools."""
    return f"optio-{_digest(install)[:6]}-pools"


def given_up_name(install: str) -> str:
    """Return the name of the Lease with the attempts that were given up."""
    return f"optio-{_digest(install)[:6]}-given-up"


def _deadline(launch: Launch) -> int:
    return int(launch.timeout_s + launch.grace_s) + _DEADLINE_MARGIN_S + kept_s(launch)


def _warm_spec(environment: Environment, settings: PodSettings, mark: str) -> Manifest:
    variables = {"OPTIO_MARK": mark, "OPTIO_IDLE": str(int(settings.idle_s))}
    if environment.setup_ahead:
        variables["OPTIO_AHEAD"] = ahead(environment.setup_commands, {**way_out(environment, settings), **environment.env})
    spec = _spec(environment, settings, variables, _GRACE_S)
    # Ready is who has done what comes before a launch; that is asked until it is so, and then no more.
    probe = {"exec": {"command": ["/bin/sh", "-c", f"[ -f {CONTROL}/ready ]"]}, "periodSeconds": 1, "failureThreshold": 900}
    next(container for container in spec["containers"] if container["name"] == CONTAINER)["startupProbe"] = probe
    return spec


def egress(environment: Environment | None, settings: PodSettings) -> network.Egress | None:
    """Return what the pod may reach, or None if networks are not closed. Raises LaunchFailed for an environment that needs them
    closed."""
    declared_network = None if environment is None else environment.network
    if settings.fence is not None:
        return network.egress_of(declared_network, settings.fence.gateway)
    if declared_network is not None:
        cure = "set OPTIO_KUBE_EGRESS, OPTIO_KUBE_EGRESS_IMAGE and OPTIO_EGRESS_KEY, or delete the key"
        raise LaunchFailed("network", f"environment.network cannot be enforced: this installation has no egress proxy: {cure}")
    return None


def policy(environment: Environment | None, settings: PodSettings) -> Manifest | None:
    """Return the NetworkPolicy that must exist before the pod does, or None if networks are not closed."""
    closed, fence = egress(environment, settings), settings.fence
    if closed is None or fence is None:
        return None
    return network.policy(closed, settings.namespace, settings.install, fence.proxy)


def way_out(environment: Environment | None, settings: PodSettings) -> Mapping[str, str]:
    """Return the variables that lead an agent to what it may reach."""
    closed, fence = egress(environment, settings), settings.fence
    return {} if closed is None or fence is None else network.variables(closed, fence.key, fence.proxy)


def credentials(environment: Environment | None, settings: PodSettings) -> tuple[str, ...]:
    """Return the user and password in `way_out` that open the egress proxy; empty if the task has none."""
    closed, fence = egress(environment, settings), settings.fence
    return () if closed is None or closed.public or fence is None else network.credentials(closed, fence.key)


def _egress_label(environment: Environment | None, settings: PodSettings) -> dict[str, str]:
    closed, fence = egress(environment, settings), settings.fence
    return {} if closed is None or fence is None else {network.EGRESS: network.digest(closed, settings.install, fence.proxy)}


def _spec(environment: Environment | None, settings: PodSettings, variables: Mapping[str, str], grace_s: float) -> Manifest:
    image = settings.image if environment is None or environment.image is None else environment.image
    if image is None:
        raise LaunchFailed("image", "the task names no environment.image, and OPTIO_KUBE_IMAGE is not set")
    container: Manifest = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": network.PULL_POLICY,
        "command": ["/bin/sh", "-c", script.waiting()],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "resources": _size(environment.resources if environment is not None else None, settings),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "optio", "mountPath": CONTROL},
            {"name": "private", "mountPath": PRIVATE},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }
    spec: Manifest = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": max(1, int(grace_s)) + 2,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "optio", "emptyDir": {"sizeLimit": settings.disk}},
            {"name": "private", "emptyDir": {"medium": "Memory", "sizeLimit": _PRIVATE_SIZE}},
            {"name": "tmp", "emptyDir": {"sizeLimit": settings.disk}},
        ],
    }
    closed, gate = egress(environment, settings), None
    if closed is not None and settings.fence is not None:
        gate = network.egress_gate(closed, settings.fence.image, settings.fence.proxy)
        container["env"].append({"name": "OPTIO_GATE", "value": network.VERDICT})
        container["volumeMounts"].append(gate.mount)
        spec["volumes"].append(gate.volume)
        if aliases := network.host_aliases(closed):
            spec["hostAliases"] = aliases
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    if settings.runtime_class is not None:
        spec["runtimeClassName"] = settings.runtime_class
    settings.template.apply(spec)
    if gate is not None:
        # A node starts containers in this order, and the gate has the pod's address to tell.
        spec["containers"].insert(0, gate.container)
    return spec


def _size(resources: Resources | None, settings: PodSettings) -> Manifest:
    """Return the agent container's resources. Few agents use much, most wait for a model: reserving for all what each may use
    would leave most of a node empty."""
    requests, limits = (resources.requests or Amounts(), resources.limit) if resources is not None else (Amounts(), Amounts())
    sizes = {
        "cpu": request_and_limit((requests.cpu, limits.cpu), (settings.cpu_request, settings.cpu)),
        "memory": request_and_limit((requests.memory, limits.memory), (settings.memory_request, settings.memory)),
        "ephemeral-storage": (_MIN_DISK if settings.disk.endswith(_LARGE) else settings.disk, settings.disk),
    }
    return {
        "requests": {name: request for name, (request, _) in sizes.items()},
        "limits": {name: limit for name, (_, limit) in sizes.items()},
    }


def memory_of(pod_object: Mapping[str, Any]) -> str | None:
    """Return the memory limit of the agent in a pod as the cluster has it."""
    agent = next(container for container in pod_object["spec"]["containers"] if container["name"] == CONTAINER)
    limit: str | None = agent.get("resources", {}).get("limits", {}).get("memory")
    return limit


def selector(settings: PodSettings) -> dict[str, str]:
    """Return the labels of every pod of this installation."""
    return {INSTALL: settings.install}


def _pod(
    name: str, settings: PodSettings, labels: Mapping[str, str], spec: Manifest, annotations: Mapping[str, str]
) -> Manifest:
    template = settings.template
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": settings.namespace,
            "labels": {**template.labels, "app.kubernetes.io/managed-by": "optio", **selector(settings), **labels},
            "annotations": {**template.annotations, **annotations},
        },
        "spec": spec,
    }
