"""The pod of an attempt. Pure: what is not said here is not in it."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from optio.errors import LaunchFailed
from optio.executors.base import Launch

Manifest = dict[str, Any]
CONTAINER = "agent"
INSTALL, RUN, ATTEMPT, ROLE = (f"optio.dev/{name}" for name in ("install", "run", "attempt", "role"))
MARK, ORPHAN = "optio.dev/mark", "optio.dev/orphan-seconds"
ATTEMPT_ROLE, TOMBSTONE_ROLE = "attempt", "tombstone"
# No scheduler will ever look at a pod with it.
GATE = "optio.dev/never"
# The pod goes after its agent: the supervisor keeps the time, this is for when it cannot.
_DEADLINE_MARGIN_S = 120
_USER = 10001
_PLAIN = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """What the operator decides for every pod. `install` tells pods of two installations in one namespace apart."""

    namespace: str
    install: str
    image: str | None
    pull_policy: str = "IfNotPresent"
    cpu: str = "1"
    memory: str = "2Gi"
    disk: str = "4Gi"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    runtime_class: str | None = None


def name_of(install: str, run_id: str, attempt: int) -> str:
    """Always the same for an attempt: whoever creates it twice creates it once."""
    return f"optio-{_digest(install)[:6]}-{run_id if _PLAIN.fullmatch(run_id) else _digest(run_id)[:32]}-{attempt}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def attempt_pod(launch: Launch, settings: PodSettings, mark: str) -> Manifest:
    """The pod that waits for the launch of an attempt. Nothing of the launch is in it but its names and limits."""
    wanted = launch.environment
    image = settings.image if wanted is None or wanted.image is None else wanted.image
    if image is None:
        raise LaunchFailed("image", "the task names no environment.image, and OPTIO_KUBE_IMAGE is not set")
    asked = wanted.resources if wanted is not None else None
    cpu = settings.cpu if asked is None or asked.cpu is None else asked.cpu
    memory = settings.memory if asked is None or asked.memory is None else asked.memory
    size = {"cpu": cpu, "memory": memory, "ephemeral-storage": settings.disk}
    container = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": settings.pull_policy,
        "command": ["/bin/sh", "-c", supervisor()],
        "env": [{"name": "OPTIO_MARK", "value": mark}],
        "resources": {"requests": dict(size), "limits": dict(size)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "optio", "mountPath": "/optio"}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
    spec: Manifest = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": int(launch.timeout_s + launch.grace_s) + _DEADLINE_MARGIN_S,
        "terminationGracePeriodSeconds": max(1, int(launch.grace_s)) + 2,
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
        "volumes": [{"name": name, "emptyDir": {"sizeLimit": settings.disk}} for name in ("optio", "tmp")],
    }
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    if settings.runtime_class is not None:
        spec["runtimeClassName"] = settings.runtime_class
    return _pod(launch.run_id, launch.attempt, settings, ATTEMPT_ROLE, spec, {MARK: mark, ORPHAN: f"{launch.orphan_s:.3f}"})


def tombstone(run_id: str, attempt: int, settings: PodSettings) -> Manifest:
    """Takes the name of an attempt that never began, so that nobody can begin it late. It never gets a node."""
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "schedulingGates": [{"name": GATE}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": CONTAINER,
                "image": "optio.dev/nothing",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    }
    return _pod(run_id, attempt, settings, TOMBSTONE_ROLE, spec, {})


def supervisor() -> str:
    """The script that is the pod's first process."""
    return resources.files(__package__).joinpath("supervisor.sh").read_text()


def selector(settings: PodSettings) -> dict[str, str]:
    """Labels of every pod of this installation."""
    return {INSTALL: settings.install}


def _pod(
    run_id: str, attempt: int, settings: PodSettings, role: str, spec: Manifest, annotations: Mapping[str, str]
) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name_of(settings.install, run_id, attempt),
            "namespace": settings.namespace,
            "labels": {
                "app.kubernetes.io/managed-by": "optio",
                **selector(settings),
                RUN: run_id,
                ATTEMPT: str(attempt),
                ROLE: role,
            },
            "annotations": dict(annotations),
        },
        "spec": spec,
    }
