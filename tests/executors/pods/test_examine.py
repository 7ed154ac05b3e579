"""`optio doctor --cluster`, against an API server that answers as each test wants."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from optio.executors.pods.examine import NEEDED, SOONER, examine
from optio.executors.pods.manifest import Fence, PodSettings
from optio.executors.pods.network import proxy_of
from optio.model.probe_result import ProbeResult
from tests.executors.pods.standin import server_on

ALL = {(group, resource, verb) for (group, resource), verbs in {**NEEDED, **SOONER}.items() for verb in verbs}
NEEDED_ALONE = {(group, resource, verb) for (group, resource), verbs in NEEDED.items() for verb in verbs}
CLOSED = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
FENCE = Fence(proxy=proxy_of("optio-egress.optio.svc:3128"), image="egress:1", key=b"k" * 32)


@dataclass
class Api:
    """As an installation in good order has it. A number in place of an object is a refusal."""

    granted: set[tuple[str, str, str]] = field(default_factory=lambda: set(ALL))
    elsewhere: set[tuple[str, str, str]] = field(default_factory=set)
    labels: dict[str, str] = field(default_factory=lambda: {"pod-security.kubernetes.io/enforce": "restricted"})
    namespace: int | None = None
    pod: int | None = None
    policies: list[Any] | int = field(default_factory=lambda: [{"spec": CLOSED}])
    ports: tuple[int, ...] | int = (3128, 3129)
    dry: list[bool] = field(default_factory=list)

    def answer(self, method: str, path: str, body: Any) -> Any:
        path, _, query = path.partition("?")
        if path == "/version":
            return {"gitVersion": "v1.99.0"}
        if path.endswith("/selfsubjectreviews"):
            return {"status": {"userInfo": {"username": "somebody"}}}
        if path.endswith("/selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            resource = asked["resource"] + (f"/{asked['subresource']}" if asked["subresource"] else "")
            allowed = self.granted if asked["namespace"] == "runs" else self.elsewhere
            return {"status": {"allowed": (asked["group"], resource, asked["verb"]) in allowed}}
        if path == "/api/v1/namespaces/runs":
            return self.namespace or {"metadata": {"uid": "uid-1", "labels": self.labels}}
        if path == "/api/v1/namespaces/runs/pods" and method == "POST":
            self.dry.append(query == "dryRun=All")
            return self.pod or body
        if path.endswith("/networkpolicies"):
            return self.policies if isinstance(self.policies, int) else {"items": self.policies}
        if path == "/api/v1/namespaces/optio/services/optio-egress":
            return self.ports if isinstance(self.ports, int) else {"spec": {"ports": [{"port": port} for port in self.ports]}}
        return 404


Look = Callable[..., dict[str, list[ProbeResult]]]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Look]:
    """Findings by name."""
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", 0))
            found = api.answer(self.command, self.path, json.loads(self.rfile.read(length) or b"null"))
            status = found if isinstance(found, int) else 200
            data = json.dumps({"message": f"refused with {found}"} if isinstance(found, int) else found).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    config = {
        "clusters": [{"name": "c", "cluster": server_on(server.server_port)}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))

    def looked(*, running: bool = True, fence: Fence | None = FENCE, image: str | None = "agent:1", **changes: Any) -> Any:
        for key, value in changes.items():
            setattr(api, key, value)
        if not running:
            server.shutdown()
            server.server_close()
        found: dict[str, list[ProbeResult]] = {}
        for each in examine(PodSettings(namespace="runs", install="optio", image=image, fence=fence)):
            found.setdefault(each.name, []).append(each)
        assert all(api.dry), "a look makes no pod"
        return found

    yield looked
    server.shutdown()
    server.server_close()


def test_a_cluster_in_good_order_is_told_to_be_one(look: Look) -> None:
    found = look()

    assert {each.status for checks in found.values() for each in checks} == {"ok"}
    assert set(found) == {"cluster", "permissions", "namespace", "security", "admission", "policies", "egress", "image"}
    assert "v1.99.0" in found["cluster"][0].detail
    assert "somebody" in found["cluster"][0].detail


def test_every_permission_that_is_missing_is_named(look: Look) -> None:
    check = look(granted=set())["permissions"][0]

    assert check.status == "error"
    assert check.hint is not None
    named = sorted(check.detail.partition("runs: ")[2].split(", "))
    assert named == sorted(f"{verb} {resource}" for _, resource, verb in NEEDED_ALONE)


def test_one_that_is_missing_is_named_alone(look: Look) -> None:
    check = look(granted=ALL - {("", "pods/exec", "create")})["permissions"][0]

    assert (check.status, check.detail) == ("error", "somebody may not, in runs: create pods/exec")


def test_without_the_right_to_report_addresses_fenced_pods_are_said_to_start_later_and_others_are_not(look: Look) -> None:
    needed, slower, _ = look(granted=NEEDED_ALONE)["permissions"]
    unfenced = look(granted=NEEDED_ALONE, fence=None)["permissions"]

    assert (needed.status, slower.status) == ("ok", "warning")
    assert "may not, in runs: patch pods/status; pods with a network policy start up to a second later" in slower.detail
    assert {each.status for each in unfenced} == {"ok"}


@pytest.mark.parametrize(
    ("granted", "elsewhere", "said"),
    [
        ({("", "secrets", "get")}, set(), "get secrets in runs"),
        (set(), {("", "pods/exec", "create")}, "create pods/exec in all namespaces"),
        (set(), {("*", "*", "*")}, "* * in all namespaces"),
    ],
)
def test_a_permission_too_many_is_warned_of(look: Look, granted: set[Any], elsewhere: set[Any], said: str) -> None:
    needed, more = look(granted=ALL | granted, elsewhere=elsewhere)["permissions"]

    assert needed.status == "ok"
    assert more.status == "warning"
    assert said in more.detail


@pytest.mark.parametrize(
    ("changes", "name", "status", "said"),
    [
        ({"namespace": 404}, "namespace", "error", "refused with 404"),
        ({"labels": {}}, "security", "warning", "need not be `restricted`"),
        ({"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}, "security", "warning", "only `baseline`"),
        ({"pod": 403}, "admission", "error", "would be refused: refused with 403"),
        ({"image": None}, "admission", "warning", "no pod was tried"),
        ({"image": None}, "image", "warning", "environment.image"),
        ({"image": "registry:5000/agent"}, "image", "warning", "another one tomorrow"),
        ({"image": "agent:latest"}, "image", "warning", "another one tomorrow"),
        ({"image": "registry:5000/agent@sha256:" + "0" * 64}, "image", "ok", "agent"),
        ({"policies": []}, "policies", "warning", "none in runs closes"),
        ({"policies": [{"spec": {**CLOSED, "egress": [{}]}}]}, "policies", "warning", "none in runs closes"),
        ({"policies": 403}, "policies", "error", "cannot be listed"),
        ({"fence": None}, "egress", "warning", "OPTIO_KUBE_EGRESS is not set"),
        ({"ports": (3128,)}, "egress", "error", "lacks the port 3129"),
        ({"ports": 404}, "egress", "error", "no Service optio-egress.optio.svc"),
        ({"ports": 403}, "egress", "warning", "cannot be checked from here"),
    ],
)
def test_what_is_wrong_is_told_with_its_cure(look: Look, changes: dict[str, Any], name: str, status: str, said: str) -> None:
    (check,) = look(**changes)[name]

    assert check.status == status
    assert said in check.detail
    assert (check.hint is None) == (status == "ok")


def test_a_cluster_that_does_not_answer_is_one_error(look: Look) -> None:
    found = look(running=False)

    assert list(found) == ["cluster"]
    (check,) = found["cluster"]
    assert (check.status, check.hint is not None) == ("error", True)
