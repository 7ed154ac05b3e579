"""The programs of the egress image, without a cluster: the proxy's helper, its start, and the gate of a pod."""

import base64
import contextlib
import hmac
import ipaddress
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from optio.executors.pods import log_reader, network
from optio.executors.pods import start as starting
from tests.executors.pods.image import FOLDER, program
from tests.support import eventually

KEY = b"0123456789abcdef0123456789abcdef"
PYTHON = [sys.executable, "-I", "-S"]
allow, gate, start = program("allow"), program("gate"), program("start")


def user(text: str) -> str:
    return base64.urlsafe_b64encode(f"1,{text}".encode()).rstrip(b"=").decode()


def password(name: str, key: bytes = KEY) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, b"optio egress list\n" + name.encode(), "sha256")).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("entries", "host", "port"),
    [
        ("api.github.com", "api.github.com", "443"),
        ("api.github.com", "API.GitHub.COM.", "443"),
        ("api.github.com:8443", "api.github.com", "8443"),
        ("*.example.com", "a.example.com", "443"),
        ("*.example.com:80", "a.b.c.example.com", "80"),
        ("*.example.com", "under_score.example.com", "443"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", "443"),
        ("10.1.2.3/32:5432", "10.1.2.3", "5432"),
        ("10.0.0.0/8", "10.255.0.1", "443"),
        ("2001:db8::/32", "[2001:db8::1]", "443"),
        ("[2001:db8::/32]:8443", "2001:DB8:0::1", "8443"),
        ("10.1.2.3/32", "::ffff:10.1.2.3", "443"),
        ("a.example,b.example:80", "b.example", "80"),
    ],
)
def test_what_is_listed_is_found(entries: str, host: str, port: str) -> None:
    assert allow.listed(user(entries), host, port)


@pytest.mark.parametrize(
    ("entries", "host", "port"),
    [
        ("", "api.github.com", "443"),
        ("api.github.com", "api.github.com", "80"),
        ("api.github.com:80", "api.github.com", "443"),
        ("api.github.com", "github.com", "443"),
        ("api.github.com", "xapi.github.com", "443"),
        ("api.github.com", "api.github.com.evil.example", "443"),
        ("api.github.com", "api.github.com..", "443"),
        ("api.github.com", "api.github.com\x00.evil.example", "443"),
        ("api.github.com", "api.github.com\n", "443"),
        ("api.github.com", "api%2egithub.com", "443"),
        ("*.example.com", "example.com", "443"),
        ("*.example.com", "*.example.com", "443"),
        ("*.example.com", ".example.com", "443"),
        ("*.example.com", "a..example.com", "443"),
        ("*.example.com", "aexample.com", "443"),
        ("*.example.com", "a.example.com.", "443 "),
        ("*.com", "10.0.0.1", "443"),
        ("10.0.0.0/8", "11.0.0.1", "443"),
        ("10.0.0.0/8", "10.1", "443"),
        ("127.0.0.0/8", "127.1", "443"),
        ("127.0.0.0/8", "2130706433", "443"),
        ("127.0.0.0/8", "0x7f000001", "443"),
        ("127.0.0.0/8", "localhost", "443"),
        ("10.0.0.0/8", "010.0.0.1", "443"),
        ("fe80::/10", "fe80::1%eth0", "443"),
        ("api.github.com", "", "443"),
        ("api.github.com", "-", "443"),
        *(("a.example", "a.example", port) for port in ("", "0", "0443", "+443", "443x", "\u0664\u0664\u0663", "65979")),
    ],
)  # fmt: skip
def test_nothing_else_is_found(entries: str, host: str, port: str) -> None:
    assert not allow.listed(user(entries), host, port)


@pytest.mark.parametrize(
    "name", ["", "MQ", "MSw=", "%%%", "2,a.example", user("a.example").replace("M", "N"), "\u00e4", "A" * 70_000]
)
def test_what_is_no_list_holds_nothing(name: str) -> None:
    assert not allow.listed(name, "a.example", "443")


@given(st.text(max_size=60), st.text(max_size=10))
@example("*", "443")
def test_no_destination_breaks_it_and_an_empty_list_has_none(host: str, port: str) -> None:
    assert not allow.listed(user(""), host, port)


def test_a_proof_is_for_one_list_and_one_key() -> None:
    name = user("a.example")

    assert allow.genuine(name, password(name), KEY)
    assert not allow.genuine(name, password(name, KEY[:-1]), KEY)
    assert not allow.genuine(user("b.example"), password(name), KEY)
    assert not allow.genuine(name, password(name) + "=", KEY)
    assert not allow.genuine(name, "", KEY)
    assert not allow.genuine(name, "\u00e4", KEY)


def test_the_comparison_takes_the_same_time_for_each_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(allow.hmac, "compare_digest", lambda a, b: asked.append((a, b)) or False)

    allow.genuine("u", "p", KEY)

    assert len(asked) == 1


def helper(question: str, lines: list[bytes], **env: str) -> list[bytes]:
    """The answers of the running program."""
    environment = {"OPTIO_EGRESS_KEY": KEY.decode(), **env}
    done = subprocess.run(
        [*PYTHON, str(FOLDER / "allow.py"), question],
        input=b"".join(lines),
        capture_output=True,
        env=environment,
        timeout=20,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout.splitlines()


def test_each_question_is_answered_on_its_channel_whatever_came_before() -> None:
    name = user("a.example").encode()
    proof = password(name.decode()).encode()

    answers = helper(
        "user", [b"7 %s %s\n" % (name, proof), b"8\n", b"9 x\n", b"10 x y z\n", b"11 %ff y\n", b"12 %s %s\n" % (name, proof)]
    )

    assert answers == [b"7 OK", b"8 ERR", b"9 ERR", b"10 ERR", b"11 ERR", b"12 OK"]


def test_percent_signs_and_spaces_do_not_make_another_question() -> None:
    name = user("a.example").encode()
    questions = [
        b"0 %s a.example 443\n" % name,
        b"1 %s a.example 443 -\n" % name,
        b"2 %s a%%2eexample 443\n" % name,
        b"3 %s evil.example%%20443%%0A4%%20OK 443\n" % name,
        b"4 %s a.example%%00 443\n" % name,
        b"5 %s  443\n" % name,
        b"6 %s a.example 443 a.example\n" % name,
        b"7 %s \xff\xfe 443\n" % name,
        b"8 - a.example 443\n",
        b"9 %s a.example 443\n" % (b"A" * 100_000),
    ]

    answers = helper("listed", questions)

    # Squid percent-encodes what it was told; so %2e is a dot that somebody wrote as such.
    assert answers == [b"0 OK", b"1 OK", b"2 OK", *(b"%d ERR" % n for n in range(3, 10))]


def test_the_key_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY + b"\n")
    name = user("a.example")

    answers = helper(
        "user", [f"0 {name} {password(name)}\n".encode()], OPTIO_EGRESS_KEY="", OPTIO_EGRESS_KEY_FILE=str(tmp_path / "key")
    )

    assert answers == [b"0 OK"]


def holds(networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network], address: str) -> bool:
    return any(ipaddress.ip_address(address) in each for each in networks)


def test_all_that_is_private_for_agents_is_private_for_names() -> None:
    private = start.private([])

    for text in (*network.PRIVATE, *network.PRIVATE6):
        assert any(ipaddress.ip_network(text) == each or ipaddress.ip_network(text).subnet_of(each)
                   for each in private if each.version == ipaddress.ip_network(text).version)  # fmt: skip
    assert all(holds(private, a) for a in ("::1", "::", "::10.0.0.1", "fe80::1", "fd00::1", "ff02::1", "64:ff9b::a00:1"))
    assert not any(holds(private, a) for a in ("1.1.1.1", "2606:4700::1111", "172.32.0.1", "2003::1"))
    # In Squid an IPv4 address is one of these.
    assert not holds(private, "::ffff:1.1.1.1")


@given(
    st.lists(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "fd00::/8", "0.0.0.0/0", "::/0", "169.254.0.0/16"]))
)
def test_an_exception_is_that_and_no_more(texts: list[str]) -> None:
    allowed = [ipaddress.ip_network(text) for text in texts]
    found, before = start.private(allowed), start.private([])

    for address in (
        "10.1.2.3",
        "10.1.2.4",
        "10.200.0.1",
        "192.168.1.1",
        "169.254.1.1",
        "fd00::1",
        "fe80::1",
        "1.1.1.1",
        "2003::1",
    ):
        assert holds(found, address) is (holds(before, address) and not holds(allowed, address))
    assert all(holds(found, address) for address in start.METADATA)
    assert not any(a != b and a.version == b.version and a.overlaps(b) for a in found for b in found)


def test_the_operators_list_is_read() -> None:
    assert [str(each) for each in start.allowed(" 10.1.0.0/16, 10.2.3.4,,fd00::/8 ")] == [
        "10.1.0.0/16",
        "10.2.3.4/32",
        "fd00::/8",
    ]
    assert start.allowed("") == []


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({}, "OPTIO_EGRESS_KEY has fewer than 32 characters"),
        ({"OPTIO_EGRESS_KEY": "short"}, "OPTIO_EGRESS_KEY has fewer than 32 characters"),
        ({"OPTIO_EGRESS_KEY_FILE": "/nowhere/key"}, "/nowhere/key: No such file or directory"),
        (
            {"OPTIO_EGRESS_KEY": KEY.decode(), "EGRESS_ALLOW_PRIVATE": "10.0.0.0/8,intranet"},
            "EGRESS_ALLOW_PRIVATE: `intranet` is no",
        ),
    ],
)
def test_a_start_that_cannot_work_says_why_in_one_line(env: dict[str, str], words: str) -> None:
    done = subprocess.run([*PYTHON, str(FOLDER / "start.py")], capture_output=True, env=env, timeout=20, check=False, text=True)

    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        yield server


def closed_port() -> int:
    with listening() as server:
        return int(server.getsockname()[1])


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address that answers nothing, as if a policy swallowed every packet: its backlog is full."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(server.getsockname())
        yield server.getsockname()


@contextlib.contextmanager
def opened_gate(*words: str, env: Mapping[str, str] = MappingProxyType({})) -> Iterator[subprocess.Popen[str]]:
    """The program with these arguments."""
    process = subprocess.Popen([*PYTHON, str(FOLDER / "gate.py"), *words], stdout=subprocess.PIPE, text=True, env=dict(env))
    with process:
        yield process
        process.kill()


def test_the_gate_opens_when_the_proxy_is_reached_and_nothing_else(silent: tuple[str, int]) -> None:
    with listening() as proxy:
        assert gate.verdict(proxy.getsockname(), [("127.0.0.1", closed_port())]) == "open"
        assert gate.verdict(proxy.getsockname(), [silent, ("127.0.0.1", closed_port())]) == "open"


def test_a_canary_that_can_be_reached_keeps_it_shut() -> None:
    with listening() as proxy, listening() as canary:
        number = canary.getsockname()[1]

        found = gate.verdict(proxy.getsockname(), [canary.getsockname()], 0.3)

    assert found == f"no network policy is enforced: 127.0.0.1:{number} can be reached, which no policy allows"


def test_so_does_one_of_several() -> None:
    with listening() as proxy, listening() as api:
        assert "no network policy" in gate.verdict(proxy.getsockname(), [("127.0.0.1", closed_port()), api.getsockname()], 0.3)


def test_a_proxy_that_cannot_be_reached_keeps_it_shut(silent: tuple[str, int]) -> None:
    for unreachable in (("127.0.0.1", closed_port()), silent):
        found = gate.verdict(unreachable, [("127.0.0.1", closed_port())], 0.3)

        assert found == f"the egress proxy cannot be reached at 127.0.0.1:{unreachable[1]}"


def test_it_waits_for_a_policy_that_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def late(targets: list[tuple[str, int]], first: float) -> set[tuple[str, int]]:
        looks.append(first)
        return set(targets) if len(looks) <= 5 else {targets[0]}

    monkeypatch.setattr(gate, "connected", late)

    assert gate.verdict(("p", 1), [("c", 2)]) == "open"
    assert len(looks) == 6


@pytest.mark.parametrize(("lost", "tries", "reached"), [(0, 1, True), (1, 2, True), (2, 3, True), (3, 3, False)])
def test_a_look_tries_three_times_and_whoever_is_reached_once_is_reached(
    monkeypatch: pytest.MonkeyPatch, lost: int, tries: int, reached: bool
) -> None:
    """A packet may be lost: that is no policy."""
    monkeypatch.setattr(gate, "SHORTEST", 1.0)
    with listening() as proxy, listening() as canary:
        targets, tried = [proxy.getsockname(), canary.getsockname()], list[Any]()

        class Losing(socket.socket):
            def connect_ex(self, target: Any) -> int:
                tried.append(target)
                elsewhere = target == targets[1] and tried.count(target) <= lost
                return super().connect_ex(("127.0.0.1", closed_port()) if elsewhere else target)

        monkeypatch.setattr(gate.socket, "socket", Losing)

        assert (targets[1] in gate.connected(targets)) is reached
        assert tried == targets * tries


def test_a_gate_that_has_to_wait_for_its_turn_looks_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late:
        """Whoever waits is woken after more time than a look has for what is forbidden."""

        def __init__(self) -> None:
            self._poll = poll()
            self.register, self.unregister = self._poll.register, self._poll.unregister

        def poll(self, wait_ms: float) -> list[tuple[int, int]]:
            found = self._poll.poll(wait_ms)
            time.sleep(0 if found else 2 * gate.SHORTEST)
            return found

    poll = gate.select.poll
    monkeypatch.setattr(gate.select, "poll", Late)
    with listening() as proxy:
        targets = [proxy.getsockname(), ("127.0.0.1", closed_port())]

        assert gate.connected(targets, gate.FIRST) == {targets[0]}


def test_a_proxy_that_is_not_reached_each_time_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as proxy:
        tried: list[Any] = []

        class Losing(socket.socket):
            def connect_ex(self, target: Any) -> int:
                tried.append(target)
                return super().connect_ex(("127.0.0.1", closed_port()) if len(tried) == 3 else target)

        monkeypatch.setattr(gate.socket, "socket", Losing)

        assert gate.connected([proxy.getsockname()]) == set()
        assert len(tried) == 3


def test_the_verdict_is_one_line_in_a_file_that_is_there_at_once(tmp_path: Path) -> None:
    path = tmp_path / "verdict"
    seen: list[str] = []

    def watch() -> None:
        until = time.monotonic() + 20
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.001)
        seen.append(path.read_text())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with listening() as proxy, opened_gate("127.0.0.1", str(proxy.getsockname()[1]), str(closed_port()), str(path)) as process:
        watcher.join()
        with (tmp_path / "verdict.alive").open("wb"):
            pass
        said, _ = process.communicate(timeout=20)

    assert said == "open\n"
    assert seen == ["open\n"]
    assert sorted(os.listdir(tmp_path)) == ["verdict", "verdict.alive", "verdict.soon"]


def test_who_waits_for_the_verdict_reads_from_a_pipe_until_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "verdict"
    with listening() as proxy, listening() as canary:
        words = ["127.0.0.1", str(proxy.getsockname()[1]), str(canary.getsockname()[1]), str(path)]
        with opened_gate("--patience", "1", *words):
            eventually((tmp_path / "verdict.soon").is_fifo, what="the pipe")
            said = (tmp_path / "verdict.soon").read_bytes()
            verdict = path.read_text()

    assert (said, verdict.startswith("no network policy is enforced")) == (b"\n", True)


def test_the_gate_lives_as_long_as_what_it_was_opened_for(tmp_path: Path) -> None:
    """A pod is ready as long as all of its containers are, and over when they are."""
    path = tmp_path / "verdict"
    with listening() as proxy, opened_gate("127.0.0.1", str(proxy.getsockname()[1]), str(closed_port()), str(path)) as process:
        eventually(path.exists, what="the verdict")
        with (tmp_path / "verdict.alive").open("wb"), pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)

        assert process.wait(20) == 0


def test_a_gate_that_nobody_goes_through_ends_when_its_pod_does(tmp_path: Path) -> None:
    path = tmp_path / "verdict"
    with listening() as proxy, opened_gate("127.0.0.1", str(proxy.getsockname()[1]), str(closed_port()), str(path)) as process:
        eventually(path.exists, what="the verdict")
        process.terminate()

        assert process.wait(20) == 0


def test_a_network_that_loses_the_first_packets_or_is_slow_is_seen_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """A try for the proxy is short at first, and longer each time until it is as long as any network needs."""
    tries: list[float] = []

    def slow(targets: list[tuple[str, int]], first: float) -> set[tuple[str, int]]:
        tries.append(first)
        return {targets[0]} if first >= 0.9 else set()

    monkeypatch.setattr(gate, "connected", slow)
    monkeypatch.setattr(gate.time, "sleep", lambda _: None)

    assert gate.verdict(("p", 1), [("c", 2)]) == "open"
    assert tries == sorted(tries)
    assert tries[0] <= 0.1
    assert tries[-1] == gate.LONGEST


def test_with_the_api_in_reach_a_closed_pod_stays_shut(tmp_path: Path) -> None:
    path = tmp_path / "verdict"
    with listening() as proxy, listening() as api:
        env = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(api.getsockname()[1])}
        words = ["--patience", "0.3", "127.0.0.1", str(proxy.getsockname()[1]), str(closed_port()), str(path)]
        for more, expected in ((["--api"], f"no network policy is enforced: 127.0.0.1:{api.getsockname()[1]}"), ([], "open")):
            for old in tmp_path.iterdir():
                old.unlink()
            with opened_gate(*more, *words, env=env):
                eventually(path.exists, what="the verdict")
            assert path.read_text().startswith(expected)


def test_where_no_policy_is_enforced_that_is_said_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look takes as long as it may, and its answer is always the same."""
    now = 0.0

    def slow(targets: list[tuple[str, int]], first: float) -> set[tuple[str, int]]:
        nonlocal now
        now += first + gate.LONGEST
        return set(targets)

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(gate, "connected", slow)
    monkeypatch.setattr(gate, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))

    assert "no network policy is enforced" in gate.verdict(("p", 1), [("c", 2)], network.GATE_PATIENCE_S)
    assert now <= network.GATE_PATIENCE_S + 2 * gate.LONGEST + gate.SLOW
    # The supervisor's nap where a shell knows whole seconds only, and the node's look at its containers.
    pod_s = 1.0 + 1.0
    assert now + pod_s + starting._ENDED_ANSWER_S + log_reader._TOLD_S <= 75.0


def test_the_command_of_the_manifest_is_one_that_the_gate_takes(tmp_path: Path) -> None:
    with listening() as proxy:
        at = network.Proxy(host="127.0.0.1", port=proxy.getsockname()[1], namespace="x")
        made = network.egress_gate(network.Egress(), "egress:1", at, patience_s=0.5)
        _, *words = made.container["command"]
        words[-1] = str(tmp_path / "verdict")
        with opened_gate(*words):
            eventually((tmp_path / "verdict").exists, what="the verdict")

    # Who knows what listens on the next port here.
    assert (tmp_path / "verdict").read_text().startswith(("open\n", f"no network policy is enforced: 127.0.0.1:{at.canary}"))


def test_the_image_starts_what_is_in_it() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    used = text + (FOLDER / "squid.conf").read_text()

    assert "optio-gate" in text
    for path in FOLDER.glob("*.py"):
        assert path.name in text
        assert path.name in used
    for path in (FOLDER / "errors").iterdir():
        assert path.name in used or path.name == "ERR_CACHE_ACCESS_DENIED"
