"""Which address a worker reports of a pod, of which pod, and when it does not."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from optio.executors.pods import network
from optio.executors.pods.address_report import COMMAND, GUARD, AddressReports, address_in, is_taken, lacks_address, reported
from optio.executors.pods.api_client import Refused, Unreachable
from optio.executors.pods.informer import Informer

Pod = dict[str, Any]
TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.244.0.0/24 2 0 2
        |-- 10.244.0.0
           /24 link UNICAST
        |-- {address}
           /32 host LOCAL
        |-- 10.244.0.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
"""
TWO = TRIE.replace("        |-- 10.244.0.255", "        |-- 192.168.7.7\n           /32 host LOCAL\n        |-- 10.244.0.255")
NO_IPV4 = TRIE.replace("        |-- {address}\n           /32 host LOCAL\n", "")
LINK = "fe80000000000000409c8ffffe3ca5b1 02 40 20 80     eth0\n00000000000000000000000000000001 01 80 10 80       lo\n"
IPV6 = "fd001234000000000000000000000007 02 40 00 80     eth0\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TRIE.format(address="10.244.0.7"), "10.244.0.7"),
        (2 * TRIE.format(address="10.244.0.7") + LINK, "10.244.0.7"),
        (NO_IPV4 + LINK + IPV6, "fd00:1234::7"),
        (TRIE.format(address="10.244.0.7") + LINK + IPV6, None),
        (TWO.format(address="10.244.0.7"), None),
        (NO_IPV4 + LINK, None),
        (TRIE.format(address="169.254.3.4"), None),
        (TRIE.format(address="224.0.0.1"), None),
        (TRIE.format(address="240.0.0.1"), None),
        (NO_IPV4 + "00000000000000000000ffff0af40007 02 40 00 80     eth0\n", None),
        (LINK + IPV6, None),
        ("sh: cannot open /proc/net/fib_trie", None),
        ("", None),
    ],
    ids=[
        "one", "in both tables", "IPv6 alone", "both families", "two interfaces", "loopback alone", "link-local", "multicast",
        "reserved", "IPv4 in IPv6", "no table of IPv4", "another text", "nothing",
    ],
)  # fmt: skip
def test_the_address_of_a_pod_is_the_only_one_in_its_network(text: str, expected: str | None) -> None:
    assert address_in(text) == expected


@pytest.mark.parametrize("garbage", ["|-- x\n /32 host LOCAL", f"{'z' * 32} 02 40 00 80 eth0"])
def test_a_table_that_is_none_raises_what_its_caller_reports(garbage: str) -> None:
    with pytest.raises(ValueError, match=r"address|hexadecimal"):
        address_in(TRIE.format(address="10.244.0.7") + garbage)


NEW: Pod = {"metadata": {"name": "p", "uid": "1", "resourceVersion": "7", "labels": {network.EGRESS: "d"}}, "status": {}}
ENDED = {"phase": "Failed", "containerStatuses": [{"name": "agent", "state": {"terminated": {"exitCode": 1}}}]}


def changed(**parts: Any) -> Pod:
    return {part: {**NEW.get(part, {}), **parts.get(part, {})} for part in ("metadata", "spec", "status")}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (NEW, True),
        (changed(status={"podIP": "10.244.0.7"}), False),
        (changed(status={"podIPs": [{"ip": "10.244.0.7"}]}), False),
        (changed(spec={"hostNetwork": True}), False),
        (changed(metadata={"uid": "2"}), False),
        (changed(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), False),
        (changed(status=ENDED), False),
    ],
    ids=["new", "known", "known by its list", "the node's network", "another pod of the name", "on its way out", "ended"],
)
def test_only_a_pod_without_an_address_gets_one(found: Pod, expected: bool) -> None:
    assert lacks_address(found, "1") is expected


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (changed(metadata={"uid": "2"}, status={"podIP": "10.244.0.7"}), True),
        (changed(metadata={"uid": "2"}, status={"podIP": "10.244.0.8"}), False),
        (changed(metadata={"uid": "2"}, status={**ENDED, "podIP": "10.244.0.7"}), False),
        (changed(status={"hostIP": "10.244.0.7"}), True),
    ],
    ids=["another's", "its own", "of one that has ended", "its node's"],
)
def test_the_address_of_another_pod_or_of_a_node_is_not_reported(other: Pod, expected: bool) -> None:
    assert is_taken("10.244.0.7", "1", {"other": other}) is expected


def test_a_report_names_one_version_of_one_pod_and_nothing_but_its_address() -> None:
    assert reported(NEW, "10.244.0.7") == {
        "metadata": {"uid": "1", "resourceVersion": "7"},
        "status": {"podIP": "10.244.0.7", "podIPs": [{"ip": "10.244.0.7"}]},
    }


DENIED = f"ValidatingAdmissionPolicy 'optio-pod-address' with binding 'optio-pod-address' denied request: {GUARD}"
GUARDED = Refused(422, f'pods "p" is forbidden: {DENIED}')
NO_RIGHT = Refused(403, 'pods "p" is forbidden: cannot patch resource "pods/status"', details={"kind": "pods"})


class FakeCluster:
    """A cluster that answers the question for the guard with `guard`, and each report with the next of `answers`."""

    def __init__(self, guard: Exception | None = GUARDED, answers: Sequence[Exception | None] = ()) -> None:
        self.said = TRIE.format(address="10.244.0.7")
        self.guard, self.answers = guard, list(answers)
        self.now = NEW
        self.asked: list[str] = []

    async def patch_status(self, name: str, changes: Any, *, dry_run: bool = False) -> Pod:
        self.asked.append("dry run" if dry_run else json.dumps(changes["status"]["podIP"]))
        answer = self.guard if dry_run else self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        version = str(int(self.now["metadata"]["resourceVersion"]) + 1)
        self.now = changed(metadata={"resourceVersion": version}, status={"podIP": changes["status"]["podIP"]})
        return self.now

    async def pod(self, name: str) -> Pod:
        self.asked.append("read")
        self.now = changed(metadata={"resourceVersion": str(int(self.now["metadata"]["resourceVersion"]) + 1)})
        return self.now

    async def run(self, name: str, container: str, command: Sequence[str], *, within: float) -> tuple[int, bytes]:
        assert (container, command) == ("gate", COMMAND)
        self.asked.append("run")
        return 0, self.said.encode()


class Gates:
    """Gates that have all been started."""

    async def gate_started(self, name: str) -> None: ...


def asked_of(cluster: FakeCluster, *, starts: int = 2) -> list[str]:
    """What is asked of the cluster by pods that start one after the other. The node reports each one's address in the end."""

    async def begun() -> list[str]:
        informer = Informer(cluster, {})  # type: ignore[arg-type]
        reports = AddressReports(cluster, informer, Gates())  # type: ignore[arg-type]
        for _ in range(starts):
            cluster.asked.clear()
            cluster.now = NEW
            informer.pods.clear()
            informer.listed.clear()
            informer.put(NEW)
            reports.begin(NEW)
            await asyncio.sleep(0.01)
            informer.put(changed(metadata={"resourceVersion": "99"}, status={"podIP": "10.244.0.7"}))
            tasks = list(reports._tasks)
            await asyncio.gather(*tasks)
        await reports.close()
        return cluster.asked

    return asyncio.run(begun())


def test_before_the_cluster_is_known_to_keep_addresses_none_is_reported() -> None:
    assert asked_of(FakeCluster(), starts=1) == ["dry run"]
    assert asked_of(FakeCluster(guard=None)) == []
    assert asked_of(FakeCluster(guard=Refused(422, "another policy"))) == []
    assert asked_of(FakeCluster(guard=Unreachable("no answer"))) == []


def test_where_the_cluster_keeps_addresses_each_is_reported_once() -> None:
    assert asked_of(FakeCluster()) == ["run", '"10.244.0.7"']


def test_a_pod_that_has_changed_meanwhile_is_read_again() -> None:
    conflict = Refused(409, "the object has been modified")

    assert asked_of(FakeCluster(answers=[conflict])) == ["run", '"10.244.0.7"', "read", '"10.244.0.7"']
    assert asked_of(FakeCluster(answers=[conflict] * 9)) == ["run", *['"10.244.0.7"', "read"] * 3]


@pytest.mark.parametrize("answer", [Refused(422, "invalid"), Refused(500, "broken"), Unreachable("no answer")])
def test_a_report_that_fails_is_not_repeated_for_its_pod(answer: Exception) -> None:
    assert asked_of(FakeCluster(answers=[answer])) == ["run", '"10.244.0.7"']
    assert asked_of(FakeCluster(answers=[answer]), starts=3) == ["run", '"10.244.0.7"']


def test_a_worker_without_the_right_says_so_once_and_asks_no_more(caplog: pytest.LogCaptureFixture) -> None:
    assert asked_of(FakeCluster(guard=NO_RIGHT), starts=3) == []
    assert [each.getMessage().partition(":")[0] for each in caplog.records] == ["fenced pods start up to a second later"]


def test_a_gate_that_tells_no_single_address_has_none_reported() -> None:
    cluster = FakeCluster()
    cluster.said = TWO.format(address="10.244.0.7")

    assert asked_of(cluster) == ["run"]


def test_a_pod_without_a_gate_is_left_alone() -> None:
    async def begun() -> int:
        reports = AddressReports(FakeCluster(), Informer(FakeCluster(), {}), Gates())  # type: ignore[arg-type]
        reports.begin({"metadata": {"name": "p", "uid": "1", "labels": {}}})
        return len(reports._tasks)

    assert asyncio.run(begun()) == 0
