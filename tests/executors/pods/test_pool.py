"""Which warm pods are made and which go: pure."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from optio.executors.base import WarmDemand
from optio.executors.pods import manifest
from optio.executors.pods.manifest import Fence, PodSettings
from optio.executors.pods.network import gateway_of, proxy_of
from optio.executors.pods.pool import PoolKind, decide, is_ready, kinds_of
from optio.model.task import Environment, Network

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SETTINGS = PodSettings(namespace="agents", install="acme", image="agent:1")
STATUSES: dict[str, dict[str, Any]] = {
    "new": {"phase": "Pending"},
    "ready": {"phase": "Running", "containerStatuses": [{"name": "agent", "ready": True, "state": {"running": {}}}]},
    "starting": {"phase": "Running", "containerStatuses": [{"name": "agent", "ready": False, "state": {"running": {}}}]},
    "ended": {"phase": "Failed", "containerStatuses": [{"name": "agent", "state": {"terminated": {"exitCode": 72}}}]},
    "hopeless": {
        "phase": "Pending",
        "containerStatuses": [{"name": "agent", "state": {"waiting": {"reason": "InvalidImageName"}}}],
    },
}


def pod(key: str, status: str = "ready", *, age: timedelta = timedelta(0), name: str = "p") -> dict[str, Any]:
    made = (NOW - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {manifest.POOL: key}
    return {"metadata": {"name": name, "labels": labels, "creationTimestamp": made}, "status": STATUSES[status]}


def kind(key: str, size: int) -> PoolKind:
    return PoolKind(key, Environment(), SETTINGS, size, ("task",))


def names(pods: list[Any]) -> list[str]:
    return sorted(each["metadata"]["name"] for each in pods)


def test_a_pool_is_filled_up_to_its_size_by_what_is_missing() -> None:
    done = decide({"k": kind("k", 5)}, [pod("k"), pod("k", "new"), pod("k", "starting")], NOW, HOUR, 20)

    assert (done.create, done.delete) == ({"k": 2}, [])


def test_of_too_many_those_go_that_are_not_ready_yet() -> None:
    pods = [pod("k", name="a"), pod("k", "new", name="b"), pod("k", name="c", age=HOUR / 2)]

    done = decide({"k": kind("k", 2)}, pods, NOW, HOUR, 20)

    assert (done.create, names(done.delete)) == ({}, ["b"])


def test_pods_of_a_kind_that_nobody_wants_any_more_go() -> None:
    done = decide({"k": kind("k", 1)}, [pod("k"), pod("before", name="old")], NOW, HOUR, 20)

    assert (done.create, names(done.delete)) == ({}, ["old"])


def test_what_can_never_be_ready_is_replaced() -> None:
    pods = [pod("k", "ended", name="ended"), pod("k", "hopeless", name="hopeless"), pod("k")]

    done = decide({"k": kind("k", 2)}, pods, NOW, HOUR, 20)

    assert (done.create, names(done.delete)) == ({"k": 1}, ["ended", "hopeless"])


def test_an_old_pod_goes_when_its_replacement_is_ready_and_not_before() -> None:
    old = pod("k", name="old", age=HOUR * 1.1)

    before = decide({"k": kind("k", 1)}, [old], NOW, HOUR, 20)
    meanwhile = decide({"k": kind("k", 1)}, [old, pod("k", "starting", name="new")], NOW, HOUR, 20)
    after = decide({"k": kind("k", 1)}, [old, pod("k", name="new")], NOW, HOUR, 20)

    assert (before.create, before.delete) == ({"k": 1}, [])
    assert (meanwhile.create, meanwhile.delete) == ({}, [])
    assert (after.create, names(after.delete)) == ({}, ["old"])


def test_a_pod_that_is_about_to_end_by_itself_is_not_waited_for() -> None:
    done = decide({"k": kind("k", 1)}, [pod("k", name="worn", age=HOUR * 1.3)], NOW, HOUR, 20)

    assert (done.create, names(done.delete)) == ({"k": 1}, ["worn"])


def test_all_pools_together_have_no_more_than_the_operator_allows() -> None:
    done = decide({"a": kind("a", 3), "b": kind("b", 1000)}, [], NOW, HOUR, 10)

    assert done.create == {"a": 3, "b": 7}


@given(
    sizes=st.dictionaries(st.sampled_from("abc"), st.integers(0, 6)),
    pods=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(sorted(STATUSES)), st.integers(0, 100)), max_size=20),
    most=st.integers(0, 12),
)
def test_what_was_decided_leads_to_pools_that_need_nothing(
    sizes: dict[str, int], pods: list[tuple[str, str, int]], most: int
) -> None:
    kinds = {key: kind(key, size) for key, size in sizes.items()}
    have = [pod(key, status, age=timedelta(minutes=age), name=str(n)) for n, (key, status, age) in enumerate(pods)]

    for _ in range(3):  # old pods go in the second round, when the new ones are ready
        done = decide(kinds, have, NOW, HOUR, most)
        gone = names(done.delete)
        assert len(gone) == len(set(gone))
        have = [each for each in have if each["metadata"]["name"] not in gone]
        for key, count in done.create.items():
            have += [pod(key, name=f"{key}{len(have)}{n}{_}") for n in range(count)]
        for each in have:
            each["status"] = STATUSES["ready"]

    done = decide(kinds, have, NOW, HOUR, most)
    assert (done.create, done.delete) == ({}, [])
    assert len(have) == min(most, sum(sizes.values()))
    assert all(map(is_ready, have))


def test_tasks_whose_pods_are_alike_share_a_pool() -> None:
    plain, other = Environment(), Environment(image="other:1")
    wanted = [
        WarmDemand(task_id="one", size=2, environment=plain),
        WarmDemand(task_id="two", size=1, environment=Environment(secrets=["KEY"])),
        WarmDemand(task_id="three", size=1, environment=other),
    ]

    kinds = kinds_of([(demand, SETTINGS) for demand in wanted]).values()

    assert sorted((each.tasks, each.size) for each in kinds) == [(("one", "two"), 3), (("three",), 1)]


def test_a_task_that_can_have_no_pod_at_all_does_not_keep_the_others_from_theirs() -> None:
    settings = PodSettings(namespace="agents", install="acme", image=None)
    wanted = [
        WarmDemand(task_id="none", size=2, environment=Environment()),
        WarmDemand(task_id="one", size=1, environment=Environment(image="agent:1")),
    ]

    assert [each.tasks for each in kinds_of([(demand, settings) for demand in wanted]).values()] == [("one",)]


def test_pods_that_reach_the_gateway_are_a_pool_of_their_own() -> None:
    fence = Fence(proxy=proxy_of("optio-egress.optio.svc=10.96.0.1:3128"), image="egress:1", key=b"k" * 32)
    through = replace(fence, gateway=gateway_of("http://optio-gateway.optio.svc:8100").at(["10.96.0.2"]))
    demand = WarmDemand(task_id="task", size=1, environment=Environment(network=Network(egress=[])))
    wanted = [(demand, replace(SETTINGS, fence=each)) for each in (fence, through, through)]

    kinds = kinds_of(wanted).values()

    assert sorted((each.size, each.settings.fence) for each in kinds) == [(1, fence), (2, through)]


def test_the_kind_of_a_pod_is_told_by_all_that_a_run_cannot_bring_with_it() -> None:
    def key(**changes: Any) -> str:
        return manifest.pool_key(Environment.of(changes), SETTINGS)

    alike = {key(), key(secrets=["KEY"]), key(env={"A": "b"}), key(setupCommands=["true"])}
    others = {
        key(image="other:1"),
        key(resources={"cpu": "2"}),
        key(resources={"requests": {"cpu": "200m"}}),
        key(setupCommands=["true"], setupAhead=True),
        key(setupCommands=["false"], setupAhead=True),
        key(setupCommands=["true"], setupAhead=True, env={"A": "b"}),
    }

    assert (len(alike), len(others), alike & others) == (1, 6, set())
