"""The network of an agent's pod: its policy, its routes to the egress proxy and the gateway, and the gate before its start.

The steps for the code that makes pods:

    proxy = proxy_of("optio-egress.optio.svc:3128")   once, from OPTIO_KUBE_EGRESS, with OPTIO_KUBE_DNS if that is set
    at = proxy.at(address)                            with its address, which the worker resolves: closed pods have no DNS
    gateway = gateway_of(launch.gateway).at(addresses) for an agent that is led through it, which the worker resolves too
    egress = egress_of(environment.network, gateway)  raises LaunchFailed for what cannot be enforced
    policy(egress, namespace, install, proxy)         made before the pod; 409 is success, for equal names are equal rules
    {EGRESS: digest(egress, install, proxy)}          into the pod's labels, beside INSTALL
    gate = egress_gate(egress, image, at)             its container and volume into the pod, its mount into the agent
    variables(egress, key, at)                        into the agent's environment, below what the task itself sets there
    host_aliases(egress)                              into the pod, for the name of the gateway

The supervisor waits for the file `VERDICT`: its one line is `open`, or the reason why not (see `deploy/images/egress/gate.py`).
A policy depends on addresses alone, so tasks that differ in names share one. Names are checked by the proxy: the user name in
its URL is the list, the password proves that a worker wrote it, and the proxy needs no state and no restart for a new list.
"""

import base64
import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from optio.errors import LaunchFailed, SettingsError
from optio.model.egress import MAX_LIST_LENGTH, BadEntry, Block, Host, as_text, metadata_within, parse
from optio.model.task import Network

Manifest = dict[str, Any]
INSTALL, EGRESS = "optio.dev/install", "optio.dev/egress"
PROXY_LABEL = ("app.kubernetes.io/name", "optio-egress")
# On the pods of a gateway: the name of the Service before them.
GATEWAY_LABEL = "optio.dev/gateway"
GATE = "gate"
GATE_DIR = "/optio-gate"
PULL_POLICY = "IfNotPresent"
# So long a gate waits for its policy before it says why not.
GATE_PATIENCE_S = 60.0
VERDICT = f"{GATE_DIR}/verdict"
# What no task without a list reaches: not the cluster, not the networks around it, not what a cloud tells its machines.
# `deploy/images/egress/start.py` has the same list for what names resolve to.
PRIVATE = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
)
# All that is public in IPv6, but for what carries an IPv4 address in it.
PUBLIC6, PRIVATE6 = "2000::/3", ("2001::/32", "2002::/16")
# Where clusters resolve names: in these pods, or in a cache on each node that has this address.
DNS = "kube-system/k8s-app=kube-dns,169.254.20.10"
_TRANSPORTS = ("TCP", "UDP")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# An address is none: the namespace of the proxy must be known.
_SERVICE = re.compile(rf"(?![0-9.]+\Z){_LABEL}\.(?P<namespace>{_LABEL})(?:\.{_LABEL})*")
_CLUSTER_SERVICE = re.compile(rf"(?P<name>{_LABEL})\.(?P<namespace>{_LABEL})\.svc(?:\.{_LABEL})*")
_PODS = re.compile(
    rf"(?P<namespace>{_LABEL})/(?P<label>[A-Za-z0-9./_-]+)=(?P<value>[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{{1,5}}))?"
)
_CONTEXT = b"optio egress list\n"
# It works for a moment, and what it asks for is kept for as long as the pod lives.
_GATE_SIZE = {
    "requests": {"cpu": "10m", "memory": "16Mi", "ephemeral-storage": "1Mi"},
    "limits": {"cpu": "500m", "memory": "64Mi", "ephemeral-storage": "16Mi"},
}


@dataclass(frozen=True, slots=True)
class Resolver:
    """A DNS resolver that pods may use: pods by namespace and label, or an address. The port is the one that it listens on
    itself."""

    where: tuple[str, str, str] | str
    port: int


def resolvers_of(setting: str) -> tuple[Resolver, ...]:
    """Parse OPTIO_KUBE_DNS: `NAMESPACE/LABEL=VALUE:PORT` or `ADDRESS:PORT`, separated by commas; the port is 53 by default.
    Raises SettingsError."""
    return tuple(_resolver(part.strip()) for part in setting.split(",") if part.strip())


def _resolver(text: str) -> Resolver:
    pods = _PODS.fullmatch(text)
    if pods and 0 < int(pods["port"] or 53) < 65536:
        return Resolver((pods["namespace"], pods["label"], pods["value"]), int(pods["port"] or 53))
    try:
        block = parse(text)
    except BadEntry:
        block = None
    if not isinstance(block, Block):
        raise SettingsError(
            f"OPTIO_KUBE_DNS has `{text}`: write `kube-system/k8s-app=kube-dns`, or an address as in `10.0.0.2:53`"
        )
    with_port = "]:" in text or text.count(":") == 1
    return Resolver(block.network, block.port if with_port else 53)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """The egress proxy: `host` as it is configured, or its address. Its canary is the next port, which no policy allows.

    `resolvers` are for pods that may go out without it.
    """

    host: str
    port: int
    namespace: str
    resolvers: tuple[Resolver, ...] = resolvers_of(DNS)

    def at(self, address: str) -> "Proxy":
        """Return the same proxy by its address."""
        return replace(self, host=str(ipaddress.ip_address(address)))

    @property
    def canary(self) -> int:
        """Return the port that no pod reaches whose policy is in place."""
        return self.port + 1

    @property
    def address(self) -> str | None:
        """Return the address, or None while only a name is known."""
        return _address(self.host)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAddress:
    """The gateway as pods reach it. `host` is that of its URL, and `addresses` are what it resolves to. `service` is
    (namespace, name) if it is a Service of the cluster."""

    host: str
    port: int
    service: tuple[str, str] | None = None
    addresses: tuple[str, ...] = ()

    def at(self, addresses: Iterable[str]) -> "GatewayAddress":
        """Return the same gateway with its addresses."""
        return replace(self, addresses=tuple(sorted({str(ipaddress.ip_address(address)) for address in addresses})))

    @property
    def peers(self) -> list[Manifest]:
        """Return the places that a policy opens. A Service is opened by the labels of its pods: policies apply to connections
        whose address was translated to that of a pod."""
        if self.service is None:
            return [_block(_single(address), ()) for address in self.addresses]
        namespace, name = self.service
        return [_peer((namespace, GATEWAY_LABEL, name))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """The hosts and networks that a task may reach. `public` means that it has no list and may reach everything public; an
    empty list means nothing at all. `gateway` is reached too, by an agent that is led through it."""

    public: bool = False
    gateway: GatewayAddress | None = None
    hosts: tuple[Host, ...] = ()
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressGate:
    """The parts of a pod that hold its start back until its policy is in place: a container, its volume and the agent's
    mount."""

    container: Manifest
    volume: Manifest
    mount: Manifest


def proxy_of(setting: str, dns: str = DNS) -> Proxy:
    """Parse OPTIO_KUBE_EGRESS: `NAME.NAMESPACE.svc:PORT`, or `NAME.NAMESPACE.svc=ADDRESS:PORT` for a worker that cannot resolve
    the name. Raises SettingsError.

    `dns` is OPTIO_KUBE_DNS, for clusters with other resolvers.
    """
    service, equals, rest = setting.partition("=")
    host, colon, port = (rest if equals else service).rpartition(":")
    service = service if equals else host
    match = _SERVICE.fullmatch(service)
    if not match or not colon or not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) >= 65535:
        raise SettingsError(
            f"OPTIO_KUBE_EGRESS is `{setting}`: write the proxy's service and port, as in `optio-egress.optio.svc:3128`"
        )
    proxy = Proxy(host=service, port=int(port), namespace=match["namespace"], resolvers=resolvers_of(dns))
    if not equals:
        return proxy
    try:
        return proxy.at(host.removeprefix("[").removesuffix("]"))
    except ValueError as err:
        raise SettingsError(f"OPTIO_KUBE_EGRESS is `{setting}`: `{host}` is not an address") from err


def gateway_of(url: str) -> GatewayAddress:
    """Return the gateway of OPTIO_GATEWAY_URL, without its addresses."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    match = _CLUSTER_SERVICE.fullmatch(host)
    return GatewayAddress(
        host=host,
        port=parts.port or (443 if parts.scheme == "https" else 80),
        service=None if match is None else (match["namespace"], match["name"]),
    )


def egress_of(network: Network | None, gateway: GatewayAddress | None = None) -> Egress:
    """Return what a task's `environment.network` asks for, and the gateway. Raises LaunchFailed for an entry that cannot be
    enforced."""
    if network is None:
        return Egress(public=True, gateway=gateway)
    try:
        entries = {parse(entry) for entry in network.egress}
    except BadEntry as err:
        raise LaunchFailed("network", f"environment.network.egress: {err}: {err.hint}") from err
    if (size := len(as_text(entries))) > MAX_LIST_LENGTH:
        raise LaunchFailed(
            "network", f"environment.network.egress: a list of {size} characters, of which {MAX_LIST_LENGTH} can be enforced"
        )
    return Egress(
        gateway=gateway,
        hosts=tuple(sorted((entry for entry in entries if isinstance(entry, Host)), key=str)),
        blocks=tuple(sorted((entry for entry in entries if isinstance(entry, Block)), key=str)),
    )


def digest(egress: Egress, install: str, proxy: Proxy) -> str:
    """Return 12 hexadecimal digits that identify the rules of the policy. They change with every rule, also by a new version of
    Optio."""
    rules = json.dumps([install, _rules(egress, proxy)], sort_keys=True)
    return hashlib.sha256(rules.encode()).hexdigest()[:12]


def policy(egress: Egress, namespace: str, install: str, proxy: Proxy) -> Manifest:
    """Return the NetworkPolicy of the pods with this digest: no connections in, and only allowed ones out."""
    mark = digest(egress, install, proxy)
    labels = {INSTALL: install, EGRESS: mark}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": f"optio-egress-{mark}",
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "optio", **labels},
        },
        "spec": {
            "podSelector": {"matchLabels": labels},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [],
            "egress": _rules(egress, proxy),
        },
    }


def _rules(egress: Egress, proxy: Proxy) -> list[Manifest]:
    proxy_peer = _peer((proxy.namespace, *PROXY_LABEL))
    rules: list[Manifest] = [{"to": [proxy_peer], "ports": [{"protocol": "TCP", "port": proxy.port}]}]
    if egress.gateway is not None:
        rules.append({"to": egress.gateway.peers, "ports": [{"protocol": "TCP", "port": egress.gateway.port}]})
    if egress.public:
        rules += [{"to": [_peer(resolver.where)], "ports": _ports(resolver.port)} for resolver in proxy.resolvers]
        rules.append({"to": [_block("0.0.0.0/0", PRIVATE), _block(PUBLIC6, PRIVATE6)]})
    for port in sorted({block.port for block in egress.blocks}):
        networks = [block.network for block in egress.blocks if block.port == port]
        peers = [_block(network, [_single(address) for address in metadata_within(network)]) for network in networks]
        rules.append({"to": peers, "ports": _ports(port)})
    return rules


def _peer(place: tuple[str, str, str] | str) -> Manifest:
    if isinstance(place, str):
        return _block(place, ())
    namespace, label, value = place
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": {label: value}},
    }


def _block(cidr: str, excepted: tuple[str, ...] | list[str]) -> Manifest:
    block: Manifest = {"cidr": cidr}
    if excepted:
        block["except"] = list(excepted)
    return {"ipBlock": block}


def _single(address: str) -> str:
    return f"{address}/{ipaddress.ip_address(address).max_prefixlen}"


def _ports(port: int) -> list[Manifest]:
    return [{"protocol": protocol, "port": port} for protocol in _TRANSPORTS]


def variables(egress: Egress, key: bytes, proxy: Proxy) -> Mapping[str, str]:
    """Return the proxy variables for an agent's programs. Without a list programs connect directly, and there are none.

    With a list, everything but listed addresses goes through the proxy, even if no name is listed: a refusal by the proxy says
    which line is missing, a lost packet says nothing.
    """
    if egress.public:
        return {}
    user, password = credentials(egress, key)
    url = f"http://{user}:{password}@{_bracketed(proxy.host)}:{proxy.port}"
    gateways = [] if egress.gateway is None else [egress.gateway.host]
    direct = ["localhost", "127.0.0.1", "::1", *gateways, *sorted({_plain(block.network) for block in egress.blocks})]
    environment = {"HTTPS_PROXY": url, "HTTP_PROXY": url, "NO_PROXY": ",".join(direct)}
    # Half of the programs look for the one spelling, half for the other; Node looks for neither unless it is told to.
    return {**environment, **{name.lower(): value for name, value in environment.items()}, "NODE_USE_ENV_PROXY": "1"}


def host_aliases(egress: Egress) -> list[Manifest]:
    """Return the lines of /etc/hosts by which the name of the gateway is found in a pod, which may have no resolver."""
    gateway = egress.gateway
    if gateway is None or _address(gateway.host) is not None:
        return []
    return [{"ip": address, "hostnames": [gateway.host]} for address in gateway.addresses]


def credentials(egress: Egress, key: bytes) -> tuple[str, str]:
    """Return user and password for the proxy: the list, and the proof that a worker wrote it."""
    user = _user(as_text([*egress.hosts, *egress.blocks]))
    return user, _password(user, key)


def _user(text: str) -> str:
    # Never empty, and its form may change: hence the number.
    return _encoded(f"1,{text}".encode())


def _password(user: str, key: bytes) -> str:
    return _encoded(hmac.digest(key, _CONTEXT + user.encode(), "sha256"))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _plain(network: str) -> str:
    """Return a single address without its prefix, which more programs understand."""
    parsed = ipaddress.ip_network(network)
    return str(parsed.network_address) if parsed.num_addresses == 1 else network


def _address(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def egress_gate(egress: Egress, image: str, proxy: Proxy, patience_s: float = GATE_PATIENCE_S) -> EgressGate:
    """Return the gate of a pod. It checks from inside the pod's network whether the policy is in place, and reports once.
    `proxy` must be given by its address.

    A pod that reaches nothing but the proxy must not reach the cluster's API either, which exists in every cluster.
    """
    closed = not egress.public and not egress.blocks
    command = [
        "/usr/local/bin/optio-gate",
        *(["--api"] if closed else []),
        "--patience",
        f"{patience_s:g}",
        proxy.host,
        str(proxy.port),
        str(proxy.canary),
    ]
    container = {
        "name": GATE,
        "image": image,
        "imagePullPolicy": PULL_POLICY,
        "command": [*command, VERDICT],
        "resources": {name: dict(size) for name, size in _GATE_SIZE.items()},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": GATE, "mountPath": GATE_DIR}],
    }
    return EgressGate(
        container=container,
        volume={"name": GATE, "emptyDir": {"sizeLimit": "1Mi"}},
        mount={"name": GATE, "mountPath": GATE_DIR, "readOnly": True},
    )
