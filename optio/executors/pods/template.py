"""The operator's pod template: additions to every pod of a run, in a file that names a strict subset of a pod, merged as
`kubectl patch` would.

Used by `manifest`, for attempts and warm pods alike. It adds what real clusters ask for (pull secrets, tolerations, affinity, a
priority class, labels, volumes that are read). Optio's guarantees cannot be changed by it: the agent's security context, its
command, its token, its marks, the gate, the network's labels. Such a key is refused by name, with the reason.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NamedTuple

from optio.model.route import Route, show

AGENT = "agent"
# While an agent runs, its node is not emptied for being little used; while a pod is idle, it may be.
EVICTABLE = "cluster-autoscaler.kubernetes.io/safe-to-evict"
BUSY: Mapping[str, str] = {EVICTABLE: "false", "karpenter.sh/do-not-disrupt": "true"}
# The autoscaler keeps the node of a pod without a controller, unless the pod says otherwise.
IDLE: Mapping[str, str] = {EVICTABLE: "true"}

_TEXT, _NUMBER, _SWITCH, _TEXTS = "text", "a number", "true or false", "a mapping of text to text"
_EXPRESSIONS = [{"key": _TEXT, "operator": _TEXT, "values": [_TEXT]}]
_SELECTOR = {"matchLabels": _TEXTS, "matchExpressions": _EXPRESSIONS}
_NODE_TERM = {"matchExpressions": _EXPRESSIONS, "matchFields": _EXPRESSIONS}
_POD_TERM = {
    "labelSelector": _SELECTOR,
    "namespaceSelector": _SELECTOR,
    "namespaces": [_TEXT],
    "topologyKey": _TEXT,
    "matchLabelKeys": [_TEXT],
    "mismatchLabelKeys": [_TEXT],
}
_REQUIRED, _PREFERRED = (f"{word}DuringSchedulingIgnoredDuringExecution" for word in ("required", "preferred"))
_POD_AFFINITY = {_REQUIRED: [_POD_TERM], _PREFERRED: [{"weight": _NUMBER, "podAffinityTerm": _POD_TERM}]}
_MOUNT = {"name": _TEXT, "mountPath": _TEXT, "subPath": _TEXT, "readOnly": _SWITCH}
_CONFIG_MAP = {
    "name": _TEXT,
    "items": [{"key": _TEXT, "path": _TEXT, "mode": _NUMBER}],
    "defaultMode": _NUMBER,
    "optional": _SWITCH,
}
_SHAPE: Mapping[str, Any] = {
    "metadata": {"labels": _TEXTS, "annotations": _TEXTS},
    "spec": {
        "imagePullSecrets": [{"name": _TEXT}],
        "tolerations": [
            {"key": _TEXT, "operator": _TEXT, "value": _TEXT, "effect": _TEXT, "tolerationSeconds": _NUMBER},
        ],
        "affinity": {
            "nodeAffinity": {
                _REQUIRED: {"nodeSelectorTerms": [_NODE_TERM]},
                _PREFERRED: [{"weight": _NUMBER, "preference": _NODE_TERM}],
            },
            "podAffinity": _POD_AFFINITY,
            "podAntiAffinity": _POD_AFFINITY,
        },
        "nodeSelector": _TEXTS,
        "topologySpreadConstraints": [
            {
                "maxSkew": _NUMBER,
                "minDomains": _NUMBER,
                "topologyKey": _TEXT,
                "whenUnsatisfiable": _TEXT,
                "labelSelector": _SELECTOR,
                "matchLabelKeys": [_TEXT],
                "nodeAffinityPolicy": _TEXT,
                "nodeTaintsPolicy": _TEXT,
            }
        ],
        "priorityClassName": _TEXT,
        "schedulerName": _TEXT,
        "runtimeClassName": _TEXT,
        "serviceAccountName": _TEXT,
        "volumes": [
            {"name": _TEXT, "configMap": _CONFIG_MAP, "persistentVolumeClaim": {"claimName": _TEXT, "readOnly": _SWITCH}},
        ],
        "containers": [{"name": _TEXT, "volumeMounts": [_MOUNT]}],
    },
}
_IS: Mapping[str, tuple[type, ...]] = {_TEXT: (str,), _NUMBER: (int,), _SWITCH: (bool,)}
_USER = "an agent runs as a user without privileges"
_LIFE = "Optio decides when a pod ends"
_SIDECAR = "a pod ends with its agent, and nothing beside it may see its secrets"
# Of a pod, and of its container: why Optio alone decides, or where it is said instead.
_OURS: Mapping[str, str] = {
    "metadata.name": "a pod is found by it",
    "metadata.namespace": "set OPTIO_KUBE_NAMESPACE",
    "metadata.finalizers": _LIFE,
    "metadata.ownerReferences": _LIFE,
    "spec.securityContext": _USER,
    "spec.hostNetwork": _USER,
    "spec.hostPID": _USER,
    "spec.hostIPC": _USER,
    "spec.hostUsers": _USER,
    "spec.automountServiceAccountToken": "an agent gets no token of the cluster",
    "spec.serviceAccount": "write `serviceAccountName`",
    "spec.restartPolicy": "a pod is used once",
    "spec.activeDeadlineSeconds": _LIFE,
    "spec.terminationGracePeriodSeconds": _LIFE,
    "spec.schedulingGates": _LIFE,
    "spec.initContainers": _SIDECAR,
    "spec.ephemeralContainers": _SIDECAR,
    "spec.dnsPolicy": "OPTIO_KUBE_DNS says what resolves names",
    "spec.dnsConfig": "OPTIO_KUBE_DNS says what resolves names",
    "container.image": "set OPTIO_KUBE_IMAGE, or `environment.image` of a task",
    "container.imagePullPolicy": "Optio sets it",
    "container.command": "it is what takes a launch and keeps the log",
    "container.args": "it is what takes a launch and keeps the log",
    "container.env": "write `environment.env` into a `_defaults.yaml`, for all tasks below it",
    "container.envFrom": "a task names the secrets that it gets in `environment.secrets`",
    "container.resources": "set OPTIO_POD_CPU, OPTIO_POD_MEMORY and OPTIO_POD_DISK, or `environment.resources` of a task",
    "container.securityContext": _USER,
    "container.lifecycle": _LIFE,
    "container.livenessProbe": _LIFE,
    "container.readinessProbe": _LIFE,
    "container.startupProbe": _LIFE,
    "volume.secret": "every agent could read it: a task names the secrets that it gets in `environment.secrets`",
    "volume.hostPath": _USER,
    "volume.emptyDir": "a run writes below HOME and /tmp; OPTIO_POD_DISK says how much",
}
_RESERVED_LABELS = ("app.kubernetes.io/managed-by", "app.kubernetes.io/name")
_RESERVED_PREFIXES = ("optio.dev/", "container.apparmor.security.beta.kubernetes.io/", "container.seccomp.security.")
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"(?:[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_WORD}")
_VALUE = re.compile(rf"(?:{_WORD})?")
_VOLUME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,50}[a-z0-9])?")
# A name that none of Optio's own volumes has.
_PREFIX = "template-"
_TAKEN = re.compile(r"/(optio(-[^/]*)?|tmp|proc|sys|dev)(/|\Z)")


class Fault(NamedTuple):
    """A mistake in a template: its place, message and cure. With `key`, the key is wrong and not its value."""

    route: Route
    message: str
    cure: str
    key: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Additions to every pod. `spec` has only keys that a pod's own specification does not have."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    volumes: Sequence[Mapping[str, Any]] = ()
    mounts: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Template":
        """Return the template for a value in which `faults` finds nothing."""
        metadata, spec = value.get("metadata") or {}, dict(value.get("spec") or {})
        volumes, containers = spec.pop("volumes", []), spec.pop("containers", [])
        return cls(
            labels=metadata.get("labels", {}),
            annotations=metadata.get("annotations", {}),
            spec=spec,
            volumes=[{**volume, "name": _PREFIX + volume["name"]} for volume in volumes],
            mounts=[
                {**mount, "name": _PREFIX + mount["name"]} for volume in containers for mount in volume.get("volumeMounts", [])
            ],
        )

    def apply(self, spec: dict[str, Any]) -> None:
        """Add the template to the specification of a pod whose first container is the agent's."""
        spec.update(self.spec)
        spec["volumes"] += self.volumes
        spec["containers"][0]["volumeMounts"] += self.mounts


def faults(value: Any) -> Iterator[Fault]:
    """Yield all mistakes in a template as it was read from its file."""
    faults_of_shape = list(_misshapen(value if value is not None else {}, _SHAPE, ()))
    yield from faults_of_shape
    if not faults_of_shape and value is not None:
        yield from _metadata(value.get("metadata") or {})
        yield from _volumes(value.get("spec") or {})


def _misshapen(value: Any, shape: Any, route: Route) -> Iterator[Fault]:
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            yield _wrong(route, "a mapping")
            return
        for key, item in value.items():
            if key in shape:
                yield from _misshapen(item, shape[key], (*route, key))
            else:
                yield _unknown((*route, key), shape)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield _wrong(route, "a list")
            return
        for index, item in enumerate(value):
            yield from _misshapen(item, shape[0], (*route, index))
    elif shape == _TEXTS:
        if not isinstance(value, dict):
            yield _wrong(route, _TEXTS)
            return
        for key, item in value.items():
            yield from _misshapen(item, _TEXT, (*route, key))
    elif not isinstance(value, _IS[shape]) or (isinstance(value, bool) and shape != _SWITCH):
        needs_quotes = shape == _TEXT and isinstance(value, bool | int | float)
        cure = f'write it in quotes: "{str(value).lower()}"' if needs_quotes else f"write {shape}"
        yield Fault(route, f"`{show(route)}` is not {shape}", cure)


def _wrong(route: Route, form: str) -> Fault:
    if not route:
        return Fault(route, f"a template is {form}", "write `metadata:` or `spec:`")
    return Fault(route, f"`{show(route)}` is not {form}", f"write {form}")


def _unknown(route: Route, shape: Mapping[str, Any]) -> Fault:
    key, name = str(route[-1]), show(route)
    kinds = {("spec", "containers"): "container", ("spec", "volumes"): "volume"}
    place = kinds.get(route[:2], route[0]) if len(route) in (2, 4) else ""  # type: ignore[arg-type]
    reason = _OURS.get(f"{place}.{key}")
    if reason is not None:
        return Fault(route, f"a template cannot change `{name}`", f"delete it: {reason}", key=True)
    near = get_close_matches(key, shape, n=1)
    cure = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(shape)}"
    return Fault(route, f"a template has no key `{name}`", cure, key=True)


def _metadata(metadata: Mapping[str, Any]) -> Iterator[Fault]:
    for kind in ("labels", "annotations"):
        for key, value in metadata.get(kind, {}).items():
            route: Route = ("metadata", kind, key)
            subject = f"the {kind[:-1]} `{key}`"
            reserved = key in (_RESERVED_LABELS if kind == "labels" else BUSY) or key.startswith(_RESERVED_PREFIXES)
            if reserved:
                yield Fault(route, f"a template cannot change {subject}", "delete it: Optio sets it by itself", key=True)
            elif not _KEY.fullmatch(key):
                yield Fault(
                    route, f"{subject} has no name that a cluster takes", "write `example.com/name`, or `name`", key=True
                )
            elif kind == "labels" and not _VALUE.fullmatch(value):
                cure = "write up to 63 letters, digits, `-`, `_` and `.`, or make it an annotation"
                yield Fault(route, f"{subject} has the value `{value}`, which no label may have", cure)


def _volumes(spec: Mapping[str, Any]) -> Iterator[Fault]:
    names = set()
    for index, volume in enumerate(spec.get("volumes", [])):
        route: Route = ("spec", "volumes", index)
        name, claim = volume.get("name"), volume.get("persistentVolumeClaim")
        if name is None or not _VOLUME.fullmatch(name) or name in names:
            yield Fault((*route, "name"), "a volume needs a name of its own", "write `name:` with letters a-z, digits and `-`")
        names.add(name)
        if (claim is None) == (volume.get("configMap") is None):
            yield Fault(route, "a volume is one of `configMap` and `persistentVolumeClaim`", "write one of them")
        elif claim is not None and not claim.get("readOnly"):
            cure = "add `readOnly: true` to the claim"
            yield Fault((*route, "persistentVolumeClaim"), "runs could write the claim, and read what others wrote", cure)
    for index, container in enumerate(spec.get("containers", [])):
        route = ("spec", "containers", index)
        if container.get("name") != AGENT:
            cure = f"write `name: {AGENT}`, or delete it"
            yield Fault((*route, "name"), f"only the container `{AGENT}` can be changed: {_SIDECAR}", cure)
        for number, mount in enumerate(container.get("volumeMounts", [])):
            mount_route: Route = (*route, "volumeMounts", number)
            path = mount.get("mountPath", "")
            if mount.get("name") not in names:
                yield Fault((*mount_route, "name"), "the mount names no volume of this template", "add it below `volumes`")
            if not path.startswith("/") or posixpath.normpath(path) != path or path == "/":
                yield Fault(
                    (*mount_route, "mountPath"), f"`{path}` is not an absolute path", "write a path such as /etc/ssl/ours"
                )
            elif _TAKEN.match(path):
                yield Fault((*mount_route, "mountPath"), f"`{path}` belongs to Optio or the system", "mount it elsewhere")
            if not mount.get("readOnly"):
                yield Fault(mount_route, "runs could write what others read", "add `readOnly: true` to the mount")
