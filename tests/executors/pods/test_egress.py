"""The isolation of agents on a real cluster: what a pod reaches, tried from inside; the egress proxy, tried by the hostile."""

import base64
import contextlib
import json
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from optio.executors.pods import manifest, network
from optio.executors.pods.executor import PodExecutor
from optio.executors.pods.manifest import PodSettings
from optio.model.run import LogKind
from optio.model.task import Environment, Network
from tests.executors.pods.api import Api
from tests.executors.pods.faults import FaultProxy
from tests.executors.pods.fence import EGRESS_IMAGE, KEY, OTHER_PORT, PORT, PROBE, Fence, endpoints, fence, log
from tests.executors.pods.image import program
from tests.executors.pods.place import settings
from tests.executors.support import read, shell, until_ended
from tests.runs.support import accept, execute, log_of, opened, working
from tests.support import command_task, eventually

API, DNS, METADATA = ("10.96.0.1", 443), ("10.96.0.10", 53), ("169.254.169.254", 80)

CLOSED = Environment.of({"network": {"egress": []}})


@pytest.fixture(scope="module")
def place() -> Iterator[Fence]:
    with fence() as made:
        yield made


@pytest.fixture(scope="module")
def neighbour(place: Fence) -> str:
    """The address of another run's pod that listens, which no policy of its own protects."""
    return place.listener("neighbour", None)


def fenced_settings(place: Fence, directory: Path, install: str) -> dict[str, str]:
    """Of a worker whose pods are closed."""
    return settings(
        directory,
        install,
        OPTIO_KUBE_NAMESPACE=place.runs.namespace,
        OPTIO_KUBE_EGRESS=f"optio-egress.{place.proxies.namespace}.svc={place.proxy.host}:{place.proxy.port}",
        OPTIO_KUBE_EGRESS_IMAGE=EGRESS_IMAGE,
        OPTIO_EGRESS_KEY=KEY.decode(),
    )


@pytest.fixture(scope="module")
def targets(place: Fence, neighbour: str) -> dict[str, tuple[str, int]]:
    """Everything that is near and nobody's business."""
    ((node, port),) = endpoints(place.runs, "default", "kubernetes")
    return {
        "the cluster's API": API,
        "the API at its node": (node, port),
        "the kubelet": (node, 10250),
        "the names of the cluster": DNS,
        "a service": (place.outside_address, OTHER_PORT),
        "a pod of another namespace": (place.outside_pod, OTHER_PORT),
        "the pod of another run": (neighbour, PORT),
        "the canary": (place.proxy.host, place.proxy.canary),
        "the canary at its pod": (place.proxy_pod, place.proxy.canary),
    }


def probed(place: Fence, name: str, entries: list[str] | None, **what: Any) -> dict[str, Any]:
    """What a pod of this class found out by itself."""
    place.admit(name, entries, PROBE, json.dumps(what))
    found: dict[str, Any] = json.loads(place.said(name))
    return found


def test_what_is_tried_here_can_be_reached_where_no_policy_is(place: Fence, targets: dict[str, tuple[str, int]]) -> None:
    place.loose("control", PROBE, json.dumps({"direct": targets, "names": [place.outside_name]}))

    found = json.loads(place.said("control", api=place.proxies))

    assert found["direct"] == dict.fromkeys(targets, "open")
    assert found["names"] == {place.outside_name: place.outside_address}


def test_a_task_with_names_reaches_those_by_the_proxy_and_nothing_else(
    place: Fence, targets: dict[str, tuple[str, int]]
) -> None:
    name = place.outside_name
    via = {
        "listed": ["CONNECT", name, PORT],
        "unlisted port": ["CONNECT", name, OTHER_PORT],
        "unlisted host": ["CONNECT", "api.github.com", 443],
        "its address": ["CONNECT", place.outside_address, PORT],
        "listed, plain": ["GET", name, PORT],
        "unlisted port, plain": ["GET", name, OTHER_PORT],
    }

    found = probed(place, "names", [f"{name}:{PORT}"], direct={**targets, "metadata": METADATA}, names=[name], via=via)

    assert found["direct"] == dict.fromkeys([*targets, "metadata"], "closed")
    assert found["names"] == {name: None}
    statuses = {what: answer[0] for what, answer in found["via"].items()}
    assert statuses == {
        "listed": 200,
        "unlisted port": 403,
        "unlisted host": 403,
        "its address": 403,
        "listed, plain": 200,
        "unlisted port, plain": 403,
    }
    assert "may not reach api.github.com" in found["via"]["unlisted host"][1]
    assert "environment.network.egress" in found["via"]["unlisted port, plain"][1]
    # What the server saw of it.
    assert not {"proxy-authorization", "via", "x-forwarded-for", "forwarded"} & set(found["via"]["listed, plain"][1].split("'"))
    assert found["writes"] == "Read-only file system"


def test_a_task_with_addresses_reaches_those_directly(place: Fence, targets: dict[str, tuple[str, int]]) -> None:
    listed = {"listed": (place.outside_pod, PORT), "metadata": METADATA}
    via = {"a name": ["CONNECT", place.outside_name, PORT], "listed": ["CONNECT", place.outside_pod, PORT]}

    found = probed(
        place, "addresses", [f"{place.outside_pod}:{PORT}"], direct={**targets, **listed}, via=via, names=["localhost"]
    )

    assert found["direct"] == {**dict.fromkeys([*targets, "metadata"], "closed"), "listed": "open"}
    assert {what: answer[0] for what, answer in found["via"].items()} == {"a name": 403, "listed": 403}
    assert "private address" in found["via"]["listed"][1]


def test_a_task_with_an_empty_list_reaches_nothing(place: Fence, targets: dict[str, tuple[str, int]]) -> None:
    via = {"a name": ["CONNECT", place.outside_name, PORT], "plain": ["GET", place.outside_name, PORT]}

    found = probed(place, "nothing", [], direct={**targets, "metadata": METADATA}, via=via, names=[place.outside_name])

    assert found["direct"] == dict.fromkeys([*targets, "metadata"], "closed")
    assert {what: answer[0] for what, answer in found["via"].items()} == {"a name": 403, "plain": 403}
    assert found["names"] == {place.outside_name: None}


def test_a_task_without_a_list_has_names_and_nothing_private(place: Fence, targets: dict[str, tuple[str, int]]) -> None:
    private = {what: where for what, where in targets.items() if where != DNS}

    found = probed(place, "public", None, direct={**private, "metadata": METADATA}, names=[place.outside_name])

    assert found["direct"] == dict.fromkeys([*private, "metadata"], "closed")
    assert found["names"] == {place.outside_name: place.outside_address}


def test_nobody_comes_into_an_agents_pod(place: Fence) -> None:
    address = place.listener("closed", [])

    place.loose("visitor", PROBE, json.dumps({"direct": {"agent": (address, PORT)}}))

    assert json.loads(place.said("visitor", api=place.proxies))["direct"] == {"agent": "closed"}


@pytest.fixture
def fenced(place: Fence) -> Callable[[], PodExecutor]:
    """An executor whose pods have this proxy."""
    fenced = manifest.Fence(proxy=place.proxy, image=EGRESS_IMAGE, key=KEY)
    sizes = {"cpu": "50m", "memory": "64Mi", "disk": "256Mi", "image": EGRESS_IMAGE}
    settings = PodSettings(namespace=place.runs.namespace, install=f"t{uuid.uuid4().hex[:12]}", fence=fenced, **sizes)
    return lambda: PodExecutor(settings, {}, start_s=60.0)


def test_the_pod_of_an_agent_is_ready_from_its_start_to_its_end_and_over_with_it(
    place: Fence, fenced: Callable[[], PodExecutor]
) -> None:
    with contextlib.closing(fenced()) as executor:
        handle = executor.start(shell("echo ready; sleep 4; echo late; sleep 4", environment=CLOSED))
        # By then its node has told what became of the gate when that was open.
        eventually(lambda: b"late" in read(handle, "stdout"), within=60, what="the agent's second line")
        name = handle.name  # type: ignore[attr-defined]
        while_it_runs = ready(place.runs, name)
        ended = until_ended(handle, within=60)
        after = eventually(lambda: over(place.runs, name), what="the end of its pod")
        handle.close(remove=True)

    assert (ended.exit.code, ended.stdout) == (0, b"ready\nlate\n")
    assert (while_it_runs, after) == (["agent", "gate"], "Succeeded")


def ready(api: Api, name: str) -> list[str]:
    """Its containers, when they are as `kubectl get pods` wants them."""
    statuses = (api.pod(name) or {})["status"].get("containerStatuses", [])
    return sorted(each["name"] for each in statuses) if statuses and all(each["ready"] for each in statuses) else []


def over(api: Api, name: str) -> str | None:
    phase: str = (api.pod(name) or {})["status"]["phase"]
    return phase if phase in ("Succeeded", "Failed") else None


def test_where_no_policy_is_enforced_an_attempt_says_so(
    fenced: Callable[[], PodExecutor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultProxy() as proxy:
        # It is told that there is one.
        proxy.rule(r"^POST \S*/networkpolicies", status=409, times=None)
        monkeypatch.setenv("KUBECONFIG", str(proxy.kubeconfig(tmp_path / "kubeconfig")))
        with contextlib.closing(fenced()) as executor:
            handle = executor.start(shell("echo ran", environment=CLOSED))
            ended = until_ended(handle, within=120)
            handle.close(remove=True)

    assert (ended.exit.reason, ended.exit.temporary, ended.stdout) == ("network", True, b"")
    assert "no network policy is enforced" in ended.exit.message


def test_where_no_policy_is_enforced_a_run_says_so_within_75_seconds(
    place: Fence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = command_task("echo ran", extra="maxRetries: 0\nenvironment: {network: {egress: []}}\n")
    with FaultProxy() as proxy:
        proxy.rule(r"^POST \S*/networkpolicies", status=409, times=None)
        monkeypatch.setenv("KUBECONFIG", str(proxy.kubeconfig(tmp_path / "kubeconfig")))
        with opened(tmp_path, fenced_settings(place, tmp_path, "unenforced")) as services, working(services):
            run_id = accept(services, task)

            def said() -> list[bytes]:
                return [line for line in log_of(services, run_id, LogKind.SYSTEM) if b"no network policy is enforced" in line]

            eventually(said, within=75, what="the reason")
            reason = eventually(lambda: services.store.attempts(run_id)[0].reason, within=10, what="the end of the attempt")
            services.store.cancel(run_id, "a person")
            eventually(lambda: services.store.run(run_id).state.terminal, within=60, what="the end of the run")

    assert reason == "network"


def credentials(entries: list[str], key: bytes = KEY) -> tuple[str, str]:
    """User and password of a list, as a worker writes them."""
    egress = network.egress_of(Network(egress=entries))
    url = network.variables(egress, key, network.Proxy(host="10.0.0.1", port=1, namespace="x"))["HTTPS_PROXY"]
    user, _, password = url.removeprefix("http://").partition("@")[0].partition(":")
    return user, password


def crafted(text: str) -> tuple[str, str]:
    """A list that no compiler would let through, signed all the same."""
    user = base64.urlsafe_b64encode(f"1,{text}".encode()).rstrip(b"=").decode()
    return user, network._password(user, KEY)


def head(user: str, password: str) -> bytes:
    return b"Proxy-Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()) + b"\r\n"


def asked(place: Fence, request: bytes, port: int = 3128) -> tuple[int, str]:
    """Status and the rest of the answer to these very bytes; 0 if the connection is closed without one."""
    with socket.create_connection((place.proxy_pod, port), 10) as connection:
        connection.settimeout(10)
        connection.sendall(request)
        data = b""
        while not complete(data, tunnel=request.startswith(b"CONNECT")) and (more := connection.recv(65536)):
            data += more
    return int(data.split(b" ")[1]) if data else 0, data.decode("latin-1")


def complete(data: bytes, *, tunnel: bool) -> bool:
    """Whether an answer has ended; that to a tunnel has no body if it is granted."""
    top, end, rest = data.partition(b"\r\n\r\n")
    if not end or (tunnel and b" 200 " in top.split(b"\r\n")[0]):
        return bool(end)
    lengths = [line.partition(b":")[2] for line in top.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(lengths) and len(rest) >= int(lengths[0])


def connect(place: Fence, host: str, port: int, user: str, password: str, at: int = 3128) -> tuple[int, str]:
    request = f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n".encode("latin-1")
    return asked(place, request + head(user, password) + b"Connection: close\r\n\r\n", at)


def test_who_brings_no_credentials_is_asked_for_them(place: Fence) -> None:
    status, answer = asked(place, f"CONNECT {place.outside_name}:{PORT} HTTP/1.1\r\n\r\n".encode())

    assert status == 407
    assert 'Proxy-Authenticate: Basic realm="optio"' in answer
    assert "OPTIO_EGRESS_KEY" in answer


def test_only_a_list_that_a_worker_wrote_counts(place: Fence) -> None:
    user, password = credentials([f"{place.outside_name}:{PORT}"])
    other, other_password = credentials(["a.example"])

    for _ in range(2):  # the second time from the proxy's memory
        assert connect(place, place.outside_name, PORT, user, password)[0] == 200
        assert connect(place, place.outside_name, PORT, other, other_password)[0] == 403
        assert connect(place, place.outside_name, PORT, user, other_password)[0] == 407
        assert connect(place, place.outside_name, PORT, user, password[:-1])[0] == 407
        assert connect(place, place.outside_name, PORT, user, password.swapcase())[0] == 407
        assert connect(place, place.outside_name, PORT, user.swapcase(), password)[0] == 407
        assert connect(place, place.outside_name, PORT, user, "")[0] == 407
        assert connect(place, place.outside_name, PORT, "", "")[0] == 407
        assert (
            connect(place, place.outside_name, PORT, *credentials([f"{place.outside_name}:{PORT}"], b"another key"))[0] == 407
        )


def test_a_name_is_the_same_however_it_is_written(place: Fence) -> None:
    granted = credentials([f"{place.outside_name}:{PORT}"])

    assert connect(place, place.outside_name.upper(), PORT, *granted)[0] == 200
    assert connect(place, place.outside_name + ".", PORT, *granted)[0] == 200


def test_a_wildcard_is_all_that_stands_below(place: Fence) -> None:
    granted = credentials([f"*.{place.proxies.namespace}.svc.cluster.local:{PORT}"])

    assert connect(place, place.outside_name, PORT, *granted)[0] == 200
    assert connect(place, place.outside_name, OTHER_PORT, *granted)[0] == 403
    assert connect(place, f"{place.proxies.namespace}.svc.cluster.local", PORT, *granted)[0] == 403


@pytest.mark.parametrize(
    "host",
    [
        *(
            "%6futside",
            "outside%00",
            "outside\x00",
            "outside evil.example",
            "outside,evil.example",
            "outside/../evil",
        ),
        *(
            "evil.example#outside",
            "evil.example?outside",
            "*.svc.cluster.local",
            "\xfcber.example",
        ),
        *("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "017700000001", "[::1]", "[::ffff:127.0.0.1]", "0"),
        *("[::ffff:7f00:1]", "[::]", "", ".", "..", "[", "]", "a" * 300, "a." * 2000 + "a"),
    ],
)
def test_no_other_spelling_gets_through(place: Fence, host: str) -> None:
    status, _ = connect(
        place, host.replace("outside", place.outside_name), PORT, *credentials([f"{place.outside_name}:{PORT}"])
    )

    assert status in (0, 400, 403)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "9090x", "443;8080", "", "99999999999999999999"])
def test_no_other_port_gets_through(place: Fence, port: str) -> None:
    request = f"CONNECT {place.outside_name}:{port} HTTP/1.1\r\n".encode()

    status, _ = asked(place, request + head(*credentials([f"{place.outside_name}:{PORT}"])) + b"Connection: close\r\n\r\n")

    assert status in (0, 400, 403)


@pytest.mark.parametrize(
    "host", ["outside:8080@evil.example", "outside:8080x", "outside:08080x", "outside\t", "outside:8080/evil"]
)
def test_an_odd_spelling_leads_to_no_other_place(place: Fence, host: str) -> None:
    """Squid reads a port as far as it is a number, and leaves white space out; it goes where it said that it would go."""

    def tunnels() -> list[str]:
        return [line for line in log(place.proxies, "egress", "egress").splitlines() if " 200 TCP_TUNNEL " in line]

    granted = credentials([f"{place.outside_name}:{PORT}"])
    before = len(tunnels())

    status, _ = connect(place, host.replace("outside", place.outside_name), 443, *granted)

    if status == 200:
        eventually(lambda: len(tunnels()) > before, what="the proxy's word on it")
        assert f" CONNECT {place.outside_name}:{PORT} " in tunnels()[-1]
    else:
        assert status in (0, 400, 403)


@pytest.mark.parametrize(
    "where",
    [
        *("localhost", "kubernetes.default.svc.cluster.local", "127.0.0.1", "10.96.0.1", "10.244.0.1", "169.254.169.254"),
        *("100.100.100.200", "168.63.129.16", "192.168.0.1", "0.0.0.0", "255.255.255.255", "[::1]", "[::ffff:10.96.0.1]"),
        *("[fd00:ec2::254]", "[fe80::1]", "[64:ff9b::a60:1]", "[::10.96.0.1]", "[2002:a60:1::]"),
    ],
)
def test_what_leads_to_a_private_address_is_refused_even_if_it_is_listed(place: Fence, where: str) -> None:
    for port in (443, 3128):
        status, answer = connect(place, where, port, *crafted(f"{where}:{port}"))

        assert status == 403
        # An IPv4 address in an IPv6 one is on no list at all.
        assert "private address" in answer or "ffff" in where


def test_what_the_proxy_passes_on_is_the_request_that_it_judged(place: Fence) -> None:
    user, password = credentials([f"{place.outside_name}:{PORT}"])
    request = f"GET http://{place.outside_name}:{PORT}/x HTTP/1.1\r\nHost: evil.example\r\n".encode()
    more = b"X-Forwarded-For: 1.2.3.4\r\nVia: 1.1 me\r\nConnection: close\r\n\r\n"

    status, answer = asked(place, request + head(user, password) + more)

    assert status == 200
    assert f"('host', '{place.outside_name}:{PORT}')" in answer
    assert "evil.example" not in answer
    assert "proxy-authorization" not in answer
    assert password not in answer


@pytest.mark.parametrize(
    "target",
    [
        *("https://{}:8080/", "ftp://{}:8080/", "gopher://{}:8080/", "urn:x", "file:///etc/passwd", "/etc/passwd", "*", ""),
        *("cache_object://{}/info", "http://optio-egress:3128/squid-internal-mgr/info", "/squid-internal-mgr/info"),
        *("http://user:pw@{}:9090/", "http://{}:9090/", "http://{}/", "whois://{}:8080/"),
    ],
)
def test_nothing_but_plain_http_and_tunnels_is_served(place: Fence, target: str) -> None:
    granted = head(*credentials([f"{place.outside_name}:{PORT}"]))

    status, answer = asked(
        place, f"GET {target.format(place.outside_name)} HTTP/1.1\r\n".encode() + granted + b"Connection: close\r\n\r\n"
    )

    assert status in (400, 403, 501)
    assert "Connection information for squid" not in answer


def test_the_canary_serves_nobody(place: Fence) -> None:
    granted = credentials([f"{place.outside_name}:{PORT}"])

    assert connect(place, place.outside_name, PORT, *granted, at=3129)[0] == 403
    plain = f"GET http://{place.outside_name}:{PORT}/ HTTP/1.1\r\n".encode() + head(*granted) + b"Connection: close\r\n\r\n"
    assert asked(place, plain, 3129)[0] == 403


def test_the_longest_list_that_a_worker_writes_is_understood(place: Fence) -> None:
    names, size = [f"{place.outside_name}:{PORT}"], len(f"{place.outside_name}:{PORT}")
    while size + len(more := f"name-{len(names):05}.region.example.com") + 1 <= 5900:
        names.append(more)
        size += len(more) + 1
    names.append("x" * (5900 - size - 1)) if 1 <= 5900 - size - 1 <= 60 else None

    assert connect(place, place.outside_name, PORT, *credentials(names))[0] == 200
    assert connect(place, place.outside_name, OTHER_PORT, *credentials(names))[0] == 403


@pytest.mark.parametrize("size", [8_000, 9_000, 30_000, 70_000])
def test_a_list_beyond_all_limits_is_refused_and_harms_nobody(place: Fence, size: int) -> None:
    status, _ = connect(place, place.outside_name, PORT, *crafted("a" * size))

    assert status in (0, 400, 403, 407, 431, 494)
    assert connect(place, place.outside_name, PORT, *credentials([f"{place.outside_name}:{PORT}"]))[0] == 200


def test_the_log_names_destination_and_verdict_and_no_credentials(place: Fence) -> None:
    user, password = credentials([f"{place.outside_name}:{PORT}", "for-the-log.example"])
    connect(place, place.outside_name, PORT, user, password)
    connect(place, "log.example", 443, user, password)
    asked(
        place,
        f"GET http://{place.outside_name}:{PORT}/path?token=canary HTTP/1.1\r\n".encode() + head(user, password) + b"\r\n",
    )

    plain = f" GET {place.outside_name}:{PORT} "
    eventually(lambda: plain in log(place.proxies, "egress", "egress"), what="the last line")
    text = log(place.proxies, "egress", "egress")
    assert f" 200 TCP_TUNNEL CONNECT {place.outside_name}:{PORT} " in text
    assert " 403 TCP_DENIED CONNECT log.example:443 " in text
    assert user not in text
    assert password not in text
    assert base64.b64encode(f"{user}:{password}".encode()).decode() not in text
    assert "canary" not in text
    assert "ready.invalid" not in text


def test_the_helper_answers_as_the_proxy_does(place: Fence) -> None:
    """So that the quick tests of the helper alone are worth something."""
    allow = program("allow")
    user, password = credentials([f"{place.outside_name}:{PORT}"])

    for host, port in ((place.outside_name, PORT), (place.outside_name, OTHER_PORT), ("a.example", PORT)):
        status, _ = connect(place, host, port, user, password)
        assert (status == 200) is allow.listed(user, host, str(port))


# A run's log


def test_an_agent_that_prints_its_environment_tells_nobody_how_to_use_the_proxy(place: Fence, tmp_path: Path) -> None:
    environ = fenced_settings(place, tmp_path, "masked")
    task = command_task("env", extra="environment: {network: {egress: [api.example.com]}}\n")
    user, password = network.credentials(network.egress_of(Network(egress=["api.example.com"])), KEY)

    with opened(tmp_path, environ) as services:
        run = execute(services, task)
        said = b"\n".join(log_of(services, run.id)).decode()

    assert (run.reason, run.text is not None) == ("ok", True)
    assert f"HTTPS_PROXY=http://***:***@{place.proxy.host}:{place.proxy.port}" in said
    for shown in (said, str(run.text)):
        assert user not in shown
        assert password not in shown
