"""An egress proxy, a server outside, and pods that try what they may reach: everything that the isolation of agents needs.

The proxy's namespace and the agents' are made for one test and taken away after it. "Outside" is a pod beside the proxy that
listens on two ports; its Service has the only private address that the proxy may go to. All of them have the proxy's image,
which has Python.
"""

import contextlib
import json
import os
import textwrap
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from optio.executors.pods import network
from optio.executors.pods.network import EGRESS, INSTALL, Proxy
from optio.model.task import Network
from tests.executors.pods.api import Api
from tests.support import ROOT

EGRESS_IMAGE = os.environ.get("OPTIO_TEST_EGRESS_IMAGE", "optio.test/egress:1")
KEY = b"the key of a test, 32 characters"
INSTALLATION = "fence"
PORT, OTHER_PORT = 8080, 9090
Manifest = dict[str, Any]
_RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
_POD = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "dnsConfig": {"options": [{"name": "timeout", "value": "1"}, {"name": "attempts", "value": "1"}]},
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}
_SMALL = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}}
_OUTSIDE = textwrap.dedent(f"""
    import http.server, threading
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = repr(sorted((k.lower(), v) for k, v in self.headers.items())).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def log_message(self, *_): pass
    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 256
    servers = [Server(("", port), Handler) for port in ({PORT}, {OTHER_PORT})]
    threading.Thread(target=servers[0].serve_forever).start()
    servers[1].serve_forever()
""")

# Looks round from inside a pod, and prints what it found. It is told {"direct": {what: [host, port]}, "names": [...],
# "via": {what: [method, host, port]}}.
PROBE = textwrap.dedent("""
    import base64, json, os, socket, sys
    from concurrent.futures import ThreadPoolExecutor
    wanted = json.loads(sys.argv[1])
    def direct(host, port):
        try:
            with socket.create_connection((host, port), 2):
                return "open"
        except OSError:
            return "closed"
    def named(name):
        try:
            return socket.getaddrinfo(name, 1, socket.AF_INET)[0][4][0]
        except OSError:
            return None
    def via(method, host, port):
        user, _, address = os.environ["HTTPS_PROXY"].removeprefix("http://").partition("@")
        at = address.partition(":")
        proof = base64.b64encode(user.encode()).decode()
        target = f"{host}:{port}" if method == "CONNECT" else f"http://{host}:{port}/"
        with socket.create_connection((at[0], int(at[2])), 5) as connection:
            connection.settimeout(10)
            lines = [f"{method} {target} HTTP/1.1", f"Proxy-Authorization: Basic {proof}", "Connection: close", "", ""]
            connection.sendall("\\r\\n".join(lines).encode())
            data = connection.recv(65536)
            status = int(data.split(b" ")[1])
            if method == "CONNECT" and status == 200:
                return status, ""
            while more := connection.recv(65536):
                data += more
        return status, data.partition(b"\\r\\n\\r\\n")[2].decode()
    def writes():
        try:
            open("/optio-gate/mine", "w")
        except OSError as err:
            return err.strerror
    with ThreadPoolExecutor(32) as pool:
        tried = {what: pool.submit(direct, *where) for what, where in wanted.get("direct", {}).items()}
    print(json.dumps({
        "via": {what: via(*how) for what, how in wanted.get("via", {}).items()},
        "direct": {what: each.result() for what, each in tried.items()},
        "names": {name: named(name) for name in wanted.get("names", [])},
        "writes": writes(),
    }))
""")
_LISTENER = f"import socket, time; s = socket.create_server(('', {PORT})); time.sleep(3600)"


def _pod(name: str, labels: dict[str, str], container: Manifest, **spec: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "restartPolicy": "Never",
            **_POD,
            "containers": [{"securityContext": _RESTRICTED, "resources": _SMALL, **container}],
            **spec,
        },
    }


def _service(name: str, *ports: int) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "selector": {"app.kubernetes.io/name": name},
            "ports": [{"name": f"p{port}", "port": port, "protocol": "TCP"} for port in ports],
        },
    }


@dataclass(frozen=True, kw_only=True)
class Fence:
    """What a test has at hand."""

    proxies: Api
    runs: Api
    proxy: Proxy
    outside_name: str
    outside_address: str
    outside_pod: str
    proxy_pod: str

    def admit(self, name: str, entries: list[str] | None, source: str, *words: str, wait: bool = True) -> None:
        """Start a pod of this egress class, its policy first, that runs Python source once its gate is open."""
        egress = network.egress_of(None if entries is None else Network(egress=entries))
        policy = network.policy(egress, self.runs.namespace, INSTALLATION, self.proxy)
        name_of_policy = policy["metadata"]["name"]
        there = self.runs.ask("GET", f"{_policies(self.runs)}", fieldSelector=f"metadata.name={name_of_policy}")
        if not there["items"]:
            self.runs.ask("POST", _policies(self.runs), policy)
        self.runs.ask("POST", "pods", self.pod(name, egress, source, *words, wait=wait))

    def pod(self, name: str, egress: network.Egress, source: str, *words: str, wait: bool = True) -> Manifest:
        """An agent's pod, as the executor makes it in what matters here."""
        gate = network.egress_gate(egress, EGRESS_IMAGE, self.proxy)
        labels = {INSTALL: INSTALLATION, EGRESS: network.digest(egress, INSTALLATION, self.proxy)}
        verdict = network.VERDICT
        waiting = f"""
            began=$(date +%s%N)
            until [ -f {verdict} ]; do sleep 0.02; done
            read -r word <{verdict}
            [ "$word" = open ] || {{ echo "$word"; exit 9; }}
            export WAITED_MS=$((($(date +%s%N) - began) / 1000000))
        """
        agent = {
            "name": "agent",
            "image": EGRESS_IMAGE,
            "command": ["/bin/sh", "-c", f'{waiting if wait else ""} exec python3 -c "$@"', "sh", source, *words],
            "env": [{"name": k, "value": v} for k, v in network.variables(egress, KEY, self.proxy).items()],
            "volumeMounts": [gate.mount, {"name": "tmp", "mountPath": "/tmp"}],
        }
        made = _pod(name, labels, agent, volumes=[gate.volume, {"name": "tmp", "emptyDir": {}}])
        made["spec"]["containers"].append(gate.container)
        return made

    def loose(self, name: str, source: str, *words: str) -> None:
        """Start a pod beside the proxy that no policy holds."""
        container = {"name": "agent", "image": EGRESS_IMAGE, "command": ["python3", "-c", source, *words]}
        self.proxies.ask("POST", "pods", _pod(name, {}, container))

    def listener(self, name: str, entries: list[str] | None) -> str:
        """The address of an agents' pod that listens; without a list it has no policy at all."""
        if entries is None:
            container = {"name": "agent", "image": EGRESS_IMAGE, "command": ["python3", "-c", _LISTENER]}
            self.runs.ask("POST", "pods", _pod(name, {}, container))
        else:
            self.admit(name, entries, _LISTENER)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            status = (self.runs.pod(name) or {}).get("status", {})
            running = [each for each in status.get("containerStatuses", []) if each["name"] == "agent" and each["started"]]
            if running and (entries is None or log(self.runs, name, "gate").strip()):
                time.sleep(0.5)
                address: str = status["podIP"]
                return address
            time.sleep(0.1)
        raise AssertionError(f"{name} does not run")

    def said(self, name: str, within: float = 60.0, api: Api | None = None) -> str:
        """What a pod's agent printed, when it has ended."""
        api = api or self.runs
        until = time.monotonic() + within
        while time.monotonic() < until:
            found = api.pod(name)
            assert found is not None, name
            states = {s["name"]: s["state"] for s in found["status"].get("containerStatuses", [])}
            if "terminated" in states.get("agent", {}):
                return log(api, name, "agent")
            time.sleep(0.1)
        raise AssertionError(f"{name} has not ended: {json.dumps(states)}")


def endpoints(api: Api, namespace: str, service: str) -> list[tuple[str, int]]:
    """Where a service really is."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    slices = api.ask("GET", path, labelSelector=f"kubernetes.io/service-name={service}")["items"]
    ports = {port["port"] for each in slices for port in each["ports"]}
    return [(address, port) for each in slices for e in each["endpoints"] for address in e["addresses"] for port in ports]


def log(api: Api, pod: str, container: str) -> str:
    """What a container has printed."""
    answer = api._http.get(f"/api/v1/namespaces/{api.namespace}/pods/{pod}/log", params={"container": container})
    assert answer.status_code == 200, answer.text
    return answer.text


def _policies(api: Api) -> str:
    return f"/apis/networking.k8s.io/v1/namespaces/{api.namespace}/networkpolicies"


@contextmanager
def fence() -> Iterator[Fence]:
    """Two namespaces with all of it."""
    mark = uuid.uuid4().hex[:8]
    names = [f"optio-fence-{mark}", f"optio-fence-{mark}-runs"]
    with Api(names[0]) as proxies, Api(names[1]) as runs:
        try:
            for name in names:
                labels = {"pod-security.kubernetes.io/enforce": "restricted"}
                body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
                proxies.ask("POST", "/api/v1/namespaces", body)
            keep_addresses(proxies)
            yield _filled(proxies, runs)
        finally:
            for name in names:
                proxies._http.request("DELETE", f"/api/v1/namespaces/{name}")


def keep_addresses(api: Api) -> None:
    """Apply the admission policy with which workers report the addresses of pods, as it is deployed. It stays."""
    for each in yaml.safe_load_all((ROOT / "deploy/kubernetes/base/pod-address.yaml").read_text()):
        kinds = {"ValidatingAdmissionPolicy": "policies", "ValidatingAdmissionPolicyBinding": "policybindings"}
        path = f"/apis/admissionregistration.k8s.io/v1/validatingadmission{kinds[each['kind']]}"
        with contextlib.suppress(AssertionError):  # another test has
            api.ask("POST", path, each)


def _filled(proxies: Api, runs: Api) -> Fence:
    outside = proxies.ask("POST", "services", _service("outside", PORT, OTHER_PORT))["spec"]["clusterIP"]
    service = proxies.ask("POST", "services", _service("optio-egress", 3128, 3129))["spec"]["clusterIP"]
    server = {"name": "server", "image": EGRESS_IMAGE, "command": ["python3", "-c", _OUTSIDE]}
    server["readinessProbe"] = {"tcpSocket": {"port": OTHER_PORT}, "periodSeconds": 1}
    proxies.ask("POST", "pods", _pod("outside", {"app.kubernetes.io/name": "outside"}, server))
    squid = {
        "name": "egress",
        "image": EGRESS_IMAGE,
        "env": [
            {"name": "OPTIO_EGRESS_KEY", "value": KEY.decode()},
            {"name": "EGRESS_ALLOW_PRIVATE", "value": f"{outside}/32"},
        ],
        "readinessProbe": {"exec": {"command": ["optio-egress-ready"]}, "periodSeconds": 1},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    proxies.ask("POST", "pods", _pod("egress", dict([network.PROXY_LABEL]), squid, volumes=[{"name": "tmp", "emptyDir": {}}]))
    dns = ",".join([network.DNS, *(f"{address}:{port}" for address, port in endpoints(proxies, "kube-system", "kube-dns"))])
    proxy = network.proxy_of(f"optio-egress.{proxies.namespace}.svc={service}:3128", dns)
    for name in ("outside", "egress"):
        _ready(proxies, name)
    outside_name = f"outside.{proxies.namespace}.svc.cluster.local"
    addresses = {name: proxies.ask("GET", f"pods/{name}")["status"]["podIP"] for name in ("outside", "egress")}
    return Fence(
        proxies=proxies,
        runs=runs,
        proxy=proxy,
        outside_name=outside_name,
        outside_address=outside,
        outside_pod=addresses["outside"],
        proxy_pod=addresses["egress"],
    )


def _ready(api: Api, name: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        status = (api.pod(name) or {}).get("status", {})
        if any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", [])):
            return
        assert status.get("phase") != "Failed", log(api, name, status["containerStatuses"][0]["name"])
        time.sleep(0.1)
    raise AssertionError(f"{name} is not ready: {json.dumps(status)}")
