"""Pools of warm pods."""

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from optio.executors.base import Handle, Launch, WarmDemand
from optio.executors.pods import launch_script, manifest
from optio.executors.pods.executor import PodExecutor
from optio.executors.pods.launch_transfer import LaunchTransfer
from optio.executors.pods.manifest import PodSettings
from optio.executors.pods.site import PodSite
from optio.model.pool import Pool
from optio.model.task import Environment
from tests.executors.pods.place import IMAGE, NAMESPACE
from tests.executors.support import RUN, Ended, read, shell, until_ended
from tests.support import eventually

Make = Callable[..., PodExecutor]
PLAIN = Environment()


@pytest.fixture
def make() -> Iterator[Make]:
    """Executors of one installation, whose pools end with the test."""
    made: list[PodExecutor] = []
    install = f"t{uuid.uuid4().hex[:12]}"

    def executor(**changes: Any) -> PodExecutor:
        sizes = {"cpu": "50m", "memory": "64Mi", "disk": "256Mi", "image": IMAGE, **changes}
        made.append(PodExecutor(PodSettings(namespace=NAMESPACE, install=install, **sizes), {}, start_s=60.0))
        return made[-1]

    yield executor
    last = executor()
    for each in made[:-1]:
        each.close()
    for found in pods(last):
        meta = found["metadata"]
        last._call(lambda site, meta=meta: site.cluster.delete(meta["name"], meta["uid"], 0))  # type: ignore[misc]
    last.close()


def pods(executor: PodExecutor) -> list[dict[str, Any]]:
    executor.attempts()  # opens it
    found, _ = executor._call(lambda site: site.cluster.pods(manifest.selector(executor._settings)))
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def names(executor: PodExecutor, role: str = manifest.WARM_ROLE) -> set[str]:
    return {each["metadata"]["name"] for each in pods(executor) if each["metadata"]["labels"][manifest.ROLE] == role}


def pool(executor: PodExecutor) -> Pool | None:
    return next(iter(executor.pools() or ()), None)


def filled(executor: PodExecutor, size: int, environment: Environment = PLAIN) -> None:
    executor.keep_warm([WarmDemand(task_id="task", size=size, environment=environment)])
    eventually(lambda: (found := pool(executor)) and found.ready == size, within=90, what="a pool that is full")


def warm(source: str, **changes: Any) -> Launch:
    return shell(source, **{"warm": True, "environment": PLAIN, **changes})


def how(handle: Handle) -> str:
    begun = eventually(handle.begun, within=60, what="the beginning")
    return begun.how


def ended(handle: Handle) -> Ended:
    found = until_ended(handle, within=60)
    handle.close(remove=True)
    return found


def test_a_launch_takes_a_pod_that_is_ready_and_the_pool_is_filled_again(make: Make) -> None:
    executor = make()
    filled(executor, 1)
    before = names(executor)

    handle = executor.start(warm("echo one; cat", stdin=b"input"))

    assert how(handle) == "warm"
    assert names(executor, manifest.ATTEMPT_ROLE) == before
    named = handle.pod()
    assert named is not None
    assert ({named.name}, bool(named.node)) == (before, True)
    first = ended(handle)
    assert (first.exit.code, first.stdout) == (0, b"one\ninput")
    filled(executor, 1)
    assert names(executor) & before == set()


def test_a_launch_that_finds_no_pod_ready_has_one_made(make: Make) -> None:
    executor = make()
    filled(executor, 1)
    handles = [executor.start(warm("echo $OPTIO_RUN_ID", run_id=f"run-{n}")) for n in range(2)]

    assert sorted(map(how, handles)) == ["cold", "warm"]
    assert [each.stdout for each in map(ended, handles)] == [b"run-0\n", b"run-1\n"]


def test_a_task_without_a_pool_takes_nobody_elses_pod(make: Make) -> None:
    executor = make()
    filled(executor, 1)

    handle = executor.start(warm("true", warm=False))

    assert how(handle) == "cold"
    assert ended(handle).exit.code == 0


def test_one_pod_is_never_used_twice_however_many_workers_want_it(make: Make) -> None:
    workers = [make() for _ in range(3)]
    filled(workers[0], 3)
    [each.keep_warm([]) for each in workers[1:]]
    handles: list[Handle] = []

    def start(number: int) -> None:
        handles.append(workers[number % 3].start(warm("hostname; ls /tmp /optio/work; echo x >/tmp/x", run_id=f"run-{number}")))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(6)]
    [each.start() for each in threads]
    [each.join() for each in threads]
    hosts = [each.stdout for each in map(ended, handles)]

    assert len(set(hosts)) == 6
    assert not [each for each in hosts if b"x\n" in each.split(b"\n", 1)[1]]


def test_an_attempt_in_a_warm_pod_is_found_again(make: Make) -> None:
    executor, another = make(), make()
    filled(executor, 1)
    handle = executor.start(warm("echo ready; read x </optio/work/go; echo done", setup=("mkfifo go",)))
    eventually(lambda: read(handle, "stdout"), within=60, what="the agent")
    assert how(handle) == "warm"
    handle.close(remove=False)

    found = another.find(RUN, 1)
    assert found is not None
    name = next(iter(names(another, manifest.ATTEMPT_ROLE)))
    another._call(lambda site: site.cluster.run(name, manifest.CONTAINER, ["/bin/sh", "-c", "echo >/optio/work/go"]))

    assert ended(found).stdout == b"ready\ndone\n"
    another.remove(RUN, 1)
    eventually(lambda: another.attempts() == [], within=60, what="the end of all that has the attempt's name")


def test_an_attempt_that_was_given_up_takes_no_pod_any_more(make: Make) -> None:
    late, another = make(), make()
    filled(late, 1)

    assert another.find(RUN, 1) is None
    handle = late.start(warm("echo ran"))
    first = ended(handle)

    assert (first.exit.lost, first.stdout, handle.begun()) == (True, b"", None)
    assert names(late, manifest.ATTEMPT_ROLE) == set()
    another.remove(RUN, 1)


def test_a_pod_that_was_taken_but_not_launched_is_given_up_with_its_attempt(make: Make) -> None:
    executor, another = make(), make()
    filled(executor, 1)
    # So a worker leaves it that dies between the claim and the launch.
    (known,) = pods(executor)
    claimed = executor._call(lambda site: site.pools.take(known, warm("echo ran")))
    assert claimed is not None

    assert another.find(RUN, 1) is None
    eventually(lambda: names(another, manifest.ATTEMPT_ROLE) == set(), within=60, what="the end of the pod")
    another.remove(RUN, 1)


def test_a_launch_that_comes_to_a_pod_after_it_was_given_up_ends_at_once(make: Make) -> None:
    executor = make()
    filled(executor, 1)
    (name,) = names(executor)
    looked = executor._call(lambda site: site.cluster.run(name, manifest.CONTAINER, ["/bin/sh", "-c", launch_script.LOOK]))

    end = ended(executor.start(warm("echo ran")))

    assert looked[0] == launch_script.NEVER
    assert (end.exit.reason, end.exit.temporary, end.stdout) == ("launch", True, b"")
    assert "given up" in end.exit.message


def test_a_launch_that_came_to_a_pod_and_may_not_have_it_changes_nothing_there(make: Make) -> None:
    executor = make()
    filled(executor, 1)
    (name,) = names(executor)

    async def in_vain(site: PodSite) -> None:
        async with aclosing(LaunchTransfer(site.cluster, name)) as delivery:
            await asyncio.sleep(1)  # it waits in the pod
        assert not delivery.sent

    executor._call(in_vain)
    handle = executor.start(warm("ls; echo right"))

    assert (how(handle), ended(handle).stdout, handle.name) == ("warm", b"right\n", name)


def test_set_up_commands_run_ahead_without_the_runs_secrets_and_only_once(make: Make) -> None:
    executor = make()
    ahead = Environment.of(
        {"setupAhead": True, "setupCommands": ["env >seen; echo hello-from-set-up; date +%s%N >when"], "env": {"MINE": "yes"}}
    )
    filled(executor, 1, ahead)
    before = time.time_ns()

    handle = executor.start(
        warm("cat seen when", environment=ahead, setup=tuple(ahead.setup_commands), setup_env=ahead.env, env={"KEY": "canary"})
    )

    assert how(handle) == "warm"
    found = ended(handle)
    *variables, when = found.stdout.decode().split()
    assert "MINE=yes" in variables
    assert not [each for each in variables if "canary" in each]
    assert int(when) < before
    assert found.stderr == b"hello-from-set-up\n"


def test_set_up_that_fails_ahead_is_said_and_its_pods_are_made_less_and_less_often(make: Make) -> None:
    executor = make()
    broken = Environment.of({"setupAhead": True, "setupCommands": ["echo no such thing >&2; exit 3"]})
    executor.keep_warm([WarmDemand(task_id="task", size=2, environment=broken)])

    eventually(lambda: (found := pool(executor)) and "no such thing" in found.problem, within=60, what="the reason")
    handle = executor.start(warm("true", environment=broken, setup=tuple(broken.setup_commands), setup_env={}))

    assert how(handle) == "cold"
    assert (ended(handle).exit.phase, len(names(executor)) <= 2) == ("setup", True)


def test_pods_of_a_kind_that_has_changed_are_replaced(make: Make) -> None:
    executor = make()
    filled(executor, 2)
    before = names(executor)

    filled(executor, 1, Environment.of({"resources": {"memory": "96Mi"}}))

    eventually(lambda: len(names(executor)) == 1, within=60, what="the new pod alone")
    assert names(executor) & before == set()
    executor.keep_warm([])
    eventually(lambda: names(executor) == set(), within=60, what="the end of the pool")


def test_a_pod_of_a_pool_whose_keeper_is_gone_ends_by_itself(make: Make) -> None:
    executor = make(warm_age_s=2.0)  # which nobody is told to keep pools with
    left = manifest.warm_pod(PLAIN, executor._settings, "left", "mark")
    executor.attempts()
    executor._call(lambda site: site.cluster.create(left))

    def ended() -> dict[str, Any] | None:
        (found,) = pods(executor)
        states = [each["state"] for each in found["status"].get("containerStatuses", ())]
        return next((state["terminated"] for state in states if "terminated" in state), None)

    assert eventually(ended, within=60, what="its end")["exitCode"] == 143


def test_one_worker_keeps_the_pools_and_another_goes_on_at_once_when_it_leaves(make: Make) -> None:
    first, second = make(), make()
    filled(first, 1)
    second.keep_warm([WarmDemand(task_id="task", size=1, environment=PLAIN)])
    time.sleep(3)
    assert (second.pools(), len(names(first))) == (None, 1)

    first.close()

    eventually(lambda: (found := pool(second)) and found.ready == 1, within=14, what="the new keeper")
    assert len(names(second)) == 1


def test_of_two_who_know_a_pod_alike_the_second_does_not_get_it(make: Make) -> None:
    first, second = make(), make()
    filled(first, 1)
    (known,) = [each for each in pods(first) if each["metadata"]["labels"][manifest.ROLE] == manifest.WARM_ROLE]
    second.attempts()

    one = first._call(lambda site: site.pools._patched(known, warm("true", run_id="one")))
    two = second._call(lambda site: site.pools._patched(known, warm("true", run_id="two")))

    assert (one is not None, two) == (True, None)
    assert names(first, manifest.ATTEMPT_ROLE) == {known["metadata"]["name"]}
