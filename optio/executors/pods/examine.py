"""Checks for `optio doctor` whether runs can be pods of this cluster: the permissions of a worker's identity, the admission of
its pods, and the network.

Nothing is created or changed: permissions are queried, and the pod of an attempt is sent as a dry run.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

from optio.errors import LaunchFailed, OptioError
from optio.executors.base import Launch
from optio.executors.pods import manifest
from optio.executors.pods.api_client import Refused, Unreachable
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.manifest import PodSettings
from optio.executors.pods.network import Proxy
from optio.model.probe_result import ERROR, OK, WARNING, ProbeResult

# (API group, resource) -> verbs that a worker needs in the namespace of the pods: the Role in `deploy/kubernetes`.
NEEDED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "namespaces"): ("get",),
    ("", "pods"): ("create", "get", "list", "watch", "patch", "delete"),
    ("", "pods/log"): ("get",),
    ("", "pods/exec"): ("create", "get"),
    ("", "events"): ("list", "watch"),
    ("networking.k8s.io", "networkpolicies"): ("create", "list", "delete"),
    ("coordination.k8s.io", "leases"): ("create", "get", "update"),
}
# Those without which runs start later.
SOONER: Mapping[tuple[str, str], tuple[str, ...]] = {("", "pods/status"): ("patch",)}
_HERE, _OWN, _EVERYWHERE = "here", "own", "everywhere"
# What would be of use to who takes a worker over, and to the worker of none: (where, group, resource, verb).
_TOO_MUCH = (
    (_HERE, "", "secrets", "get"),
    (_HERE, "", "secrets", "list"),
    (_HERE, "", "serviceaccounts/token", "create"),
    (_HERE, "", "pods/ephemeralcontainers", "patch"),
    (_HERE, "rbac.authorization.k8s.io", "rolebindings", "create"),
    (_OWN, "", "secrets", "get"),
    (_OWN, "", "pods/exec", "create"),
    (_OWN, "apps", "deployments", "patch"),
    (_EVERYWHERE, "", "secrets", "list"),
    (_EVERYWHERE, "", "pods", "create"),
    (_EVERYWHERE, "", "pods/exec", "create"),
    (_EVERYWHERE, "", "nodes", "list"),
    (_EVERYWHERE, "*", "*", "*"),
)
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_POLICIES = "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies"
_APPLY = "apply `deploy/kubernetes` of this version"
_LEVEL = "pod-security.kubernetes.io/enforce"


def examine(settings: PodSettings) -> Iterator[ProbeResult]:
    """Yield the results of all checks. Raises SettingsError if no cluster is configured."""

    async def look() -> list[ProbeResult]:
        cluster = Cluster(settings.namespace)
        try:
            return [finding async for finding in _examine(cluster, settings)]
        finally:
            await cluster.close()

    yield from asyncio.run(look())


async def _examine(cluster: Cluster, settings: PodSettings) -> AsyncIterator[ProbeResult]:
    try:
        version = (await cluster.ask("GET", "/version"))["gitVersion"]
        account = await _who(cluster)
    except OptioError as err:
        hint = "look at KUBECONFIG, and at the NetworkPolicy `optio-worker`: it must let the API server's port out"
        yield ProbeResult("cluster", ERROR, str(err), hint)
        return
    yield ProbeResult("cluster", OK, f"Kubernetes {version} answers, to {account}")
    try:
        async for finding in _permissions(cluster, settings.namespace, account, fenced=settings.fence is not None):
            yield finding
        async for finding in _namespace(cluster, settings.namespace):
            yield finding
        yield await _admission(cluster, settings)
        async for finding in _network(cluster, settings):
            yield finding
    except Unreachable as err:
        yield ProbeResult("cluster", ERROR, str(err))
    yield _image(settings)


async def _who(cluster: Cluster) -> str:
    try:
        review = await cluster.ask("POST", _WHO, {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
    except Refused:  # before Kubernetes 1.28
        return "a user whose name it does not tell"
    return str(review["status"]["userInfo"]["username"])


async def _may(cluster: Cluster, namespace: str, group: str, resource: str, verb: str) -> bool:
    """Return whether this identity may use the verb on the resource; an empty namespace means all namespaces."""
    name, _, sub = resource.partition("/")
    attributes = {"namespace": namespace, "group": group, "resource": name, "subresource": sub, "verb": verb}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool((await cluster.ask("POST", _REVIEWS, body))["status"]["allowed"])


def _listed(rights: Mapping[tuple[str, str], tuple[str, ...]]) -> list[tuple[str, str, str]]:
    return [(group, resource, verb) for (group, resource), verbs in rights.items() for verb in verbs]


async def _permissions(cluster: Cluster, namespace: str, account: str, *, fenced: bool) -> AsyncIterator[ProbeResult]:
    rights = _listed(NEEDED)
    try:
        granted = await asyncio.gather(*(_may(cluster, namespace, *right) for right in rights))
    except Refused as err:
        yield ProbeResult("permissions", ERROR, f"what {account} may do cannot be asked for: {err}")
        return
    missing = [f"{verb} {resource}" for (_, resource, verb), is_allowed in zip(rights, granted, strict=True) if not is_allowed]
    if missing:
        yield ProbeResult(
            "permissions", ERROR, f"{account} may not, in {namespace}: {', '.join(missing)}", f"{_APPLY}: its Role has them"
        )
    else:
        yield ProbeResult("permissions", OK, f"all {len(rights)} that runs need in {namespace}")
    slower = [right for right in _listed(SOONER) if fenced and not await _may(cluster, namespace, *right)]
    if slower:
        lacking = ", ".join(f"{verb} {resource}" for _, resource, verb in slower)
        detail = f"{account} may not, in {namespace}: {lacking}; pods with a network policy start up to a second later"
        yield ProbeResult("permissions", WARNING, detail, f"{_APPLY}: its Role has it")
    yield await _surplus(cluster, namespace, account)


async def _surplus(cluster: Cluster, namespace: str, who: str) -> ProbeResult:
    """Return what the account may do that it must not."""
    inside = _own()
    places = {_HERE: namespace, _EVERYWHERE: "", **({_OWN: inside} if inside else {})}
    rights = [(places[where], group, resource, verb) for where, group, resource, verb in _TOO_MUCH if where in places]
    answers = await asyncio.gather(*(_may(cluster, *right) for right in rights))
    surplus = [
        f"{verb} {resource} in {where or 'all namespaces'}"
        for (where, _, resource, verb), is_allowed in zip(rights, answers, strict=True)
        if is_allowed
    ]
    if not surplus:
        detail = f"none of {len(rights)} that it must not have: secrets, exec in other namespaces, ..."
        return ProbeResult("permissions", OK, detail)
    text = ", ".join(surplus[:4]) + (f" and {len(surplus) - 4} more" if len(surplus) > 4 else "")
    hint = (
        "look for RoleBindings beside `optio-worker`" if inside else "a worker needs none of them: look from inside its pod too"
    )
    return ProbeResult("permissions", WARNING, f"{who} may also {text}", hint)


def _own() -> str | None:
    """Return the namespace of the pod that this process runs in, or None outside of a cluster."""
    try:
        return _ACCOUNT.read_text().strip() or None
    except OSError:
        return None


async def _namespace(cluster: Cluster, name: str) -> AsyncIterator[ProbeResult]:
    try:
        metadata = (await cluster.namespace())["metadata"]
    except Refused as err:
        hint = f"{_APPLY}, or set OPTIO_KUBE_NAMESPACE" if err.status == 404 else None
        yield ProbeResult("namespace", ERROR, str(err), hint)
        return
    yield ProbeResult("namespace", OK, f"{name}, {metadata['uid']}")
    level = metadata.get("labels", {}).get(_LEVEL)
    if level == "restricted":
        yield ProbeResult("security", OK, f"pods of {name} must be `restricted`")
    else:
        command = f"kubectl label namespace {name} {_LEVEL}=restricted"
        detail = f"pods of {name} need not be `restricted`" + (f", only `{level}`" if level else "")
        yield ProbeResult("security", WARNING, f"{detail}: Optio's are, others could be made", f"run `{command}`", command)


async def _admission(cluster: Cluster, settings: PodSettings) -> ProbeResult:
    launch = Launch(
        run_id="doctor", attempt=1, argv=("true",), stdin=b"", env={}, timeout_s=60.0, orphan_s=900.0, leased_at=0.0
    )
    try:
        pod = manifest.attempt_pod(launch, settings, "doctor", "doctor")
        await cluster.ask("POST", f"/api/v1/namespaces/{settings.namespace}/pods", pod, dryRun="All")
    except LaunchFailed as err:
        return ProbeResult("admission", WARNING, "no pod was tried", str(err))
    except Refused as err:
        hint = f"check the quotas, limit ranges and admission policies of {settings.namespace}, and OPTIO_POD_*"
        return ProbeResult("admission", ERROR, f"the pod of a run would be refused: {err}", hint)
    return ProbeResult("admission", OK, "the pod of a run would be admitted (tried without making one)")


async def _network(cluster: Cluster, settings: PodSettings) -> AsyncIterator[ProbeResult]:
    if settings.fence is None:
        hint = "set OPTIO_KUBE_EGRESS, OPTIO_KUBE_EGRESS_IMAGE and OPTIO_EGRESS_KEY"
        detail = (
            "OPTIO_KUBE_EGRESS is not set: tasks with environment.network do not start, others reach what the cluster lets them"
        )
        yield ProbeResult("egress", WARNING, detail, hint)
        return
    try:
        policies = (await cluster.ask("GET", _POLICIES.format(settings.namespace)))["items"]
    except Refused as err:
        yield ProbeResult("policies", ERROR, f"NetworkPolicies cannot be listed: {err}", f"{_APPLY}: its Role allows it")
    else:
        if any(_closes_all(policy["spec"]) for policy in policies):
            closes = "one of which closes every pod; the gate in each proves that they hold"
            detail = f"{len(policies)} in {settings.namespace}, {closes}"
            yield ProbeResult("policies", OK, detail)
        else:
            detail = f"none in {settings.namespace} closes the pods that no other policy selects"
            yield ProbeResult("policies", WARNING, detail, f"{_APPLY}: its policy `optio-nothing` does")
    yield await _proxy(cluster, settings.fence.proxy)


def _closes_all(spec: Mapping[str, Any]) -> bool:
    closes_both = set(spec.get("policyTypes", ())) == {"Ingress", "Egress"}
    return closes_both and not any(spec["podSelector"].values()) and not spec.get("ingress") and not spec.get("egress")


async def _proxy(cluster: Cluster, proxy: Proxy) -> ProbeResult:
    """Check the egress proxy through the cluster's API, if that is allowed, else by resolving its name, which works only in a
    pod."""
    if proxy.address is not None:
        return ProbeResult(
            "egress", OK, f"the proxy is {proxy.address}:{proxy.port} by OPTIO_KUBE_EGRESS; only a pod could try it"
        )
    service_path = f"/api/v1/namespaces/{proxy.namespace}/services/{proxy.host.partition('.')[0]}"
    try:
        ports = {service_port["port"] for service_port in (await cluster.ask("GET", service_path))["spec"]["ports"]}
    except Refused as err:
        if err.status == 404:
            return ProbeResult("egress", ERROR, f"there is no Service {proxy.host} (OPTIO_KUBE_EGRESS)", _APPLY)
    else:
        if lacking := {proxy.port, proxy.canary} - ports:
            detail = f"the Service {proxy.host} lacks the port {', '.join(map(str, sorted(lacking)))}: no gate would ever open"
            return ProbeResult(
                "egress", ERROR, detail, f"{_APPLY}: it has the proxy's port, and the one after it for the canary"
            )
        return ProbeResult("egress", OK, f"the Service {proxy.host} has the proxy's port {proxy.port} and the canary's")
    if _own() is None:
        return ProbeResult("egress", WARNING, f"{proxy.host} cannot be checked from here", "run this inside the worker's pod")
    try:
        addresses = await asyncio.to_thread(socket.getaddrinfo, proxy.host, proxy.port, type=socket.SOCK_STREAM)
    except OSError as err:
        return ProbeResult("egress", ERROR, f"the proxy {proxy.host} (OPTIO_KUBE_EGRESS) has no address: {err}", _APPLY)
    return ProbeResult("egress", OK, f"the proxy is {proxy.host}, {addresses[0][4][0]}:{proxy.port}")


def _image(settings: PodSettings) -> ProbeResult:
    if settings.image is None:
        hint = "set OPTIO_KUBE_IMAGE, such as to an image of deploy/images/agent"
        return ProbeResult("image", WARNING, "only tasks that name an environment.image can start", hint)
    name = settings.image.rpartition("/")[2]
    tag = name.partition("@")[0].partition(":")[2]
    if "@sha256:" not in name and tag in ("", "latest"):
        return ProbeResult(
            "image", WARNING, f"{settings.image} may be another one tomorrow", "name a tag of a version, or a digest"
        )
    return ProbeResult("image", OK, f"{settings.image}, for tasks that name none")
