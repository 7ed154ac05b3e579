"""What a worker is told of the pods of its installation: all of its own, and of the others next to nothing."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from optio.executors.base import WarmDemand
from optio.executors.pods import cluster, manifest
from optio.executors.pods.executor import PodExecutor
from optio.executors.pods.informer import Informer
from optio.executors.pods.manifest import PodSettings
from optio.executors.pods.site import PodSite
from optio.model.task import Environment
from tests.executors.pods.api import Api
from tests.executors.pods.faults import FaultProxy
from tests.executors.pods.place import CLUSTER, IMAGE, NAMESPACE, waiting_pod
from tests.executors.support import RUN, read, shell, until_ended
from tests.support import eventually

PLAIN = Environment()


class Watched:
    """An executor whose way to the cluster is a proxy of its own, and the changes that it was told."""

    def __init__(self, executor: PodExecutor, proxy: FaultProxy) -> None:
        self.executor, self.proxy = executor, proxy
        self.told: list[dict[str, Any]] = []
        proxy.rule(r"/pods\?watch", times=None, lines=self._seen)

    def _seen(self, line: bytes) -> list[bytes]:
        if line.strip():
            event = json.loads(line)
            if event["type"] != "BOOKMARK":
                self.told.append(event)
        return [line]

    def labels(self, label: str) -> set[str]:
        """What the pods of these changes had in it."""
        return {each["object"]["metadata"]["labels"].get(label, "") for each in self.told}


Make = Callable[..., Watched]


@pytest.fixture
def make(install: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _cluster: None) -> Iterator[Make]:
    with Api(NAMESPACE) as api, ExitStack() as stack:
        stack.callback(lambda: api.sweep(f"{manifest.INSTALL}={install}"))
        made: list[PodExecutor] = []

        def watched(**changes: Any) -> Watched:
            with monkeypatch.context() as patch:
                proxy = stack.enter_context(FaultProxy())
                sizes = {"cpu": "50m", "memory": "64Mi", "disk": "256Mi", "image": IMAGE, **changes}
                executor = PodExecutor(PodSettings(namespace=NAMESPACE, install=install, **sizes), {}, start_s=60.0)
                made.append(executor)
                patch.setenv("KUBECONFIG", str(proxy.kubeconfig(tmp_path / f"kubeconfig-{len(made)}")))
                found = Watched(executor, proxy)
                executor.place()
                eventually(lambda: proxy.count(r"/pods\?watch"), what="a watch")
                return found

        yield watched
        for each in made:
            each.close()


def waiting(executor: PodExecutor, install: str, count: int) -> None:
    for n in range(count):
        pod = waiting_pod(install, f"run-{n}")
        executor._call(lambda site, pod=pod: site.cluster.create(pod))  # type: ignore[misc]


def test_a_worker_is_told_of_the_pods_that_it_follows_and_of_no_others(make: Make) -> None:
    busy, idle = make(), make()

    handle = busy.executor.start(shell("echo ready"))
    ended = until_ended(handle, within=60)
    handle.close(remove=True)

    assert ended.exit.code == 0
    assert busy.labels(manifest.RUN) == {RUN}
    assert idle.told == []
    assert (busy.proxy.count("/events") > 0, idle.proxy.count("/events")) == (True, 0)


def test_of_a_run_that_another_worker_takes_over_that_one_is_told(make: Make) -> None:
    first, second = make(), make()
    handle = first.executor.start(shell("echo ready; sleep 2; echo done"))
    eventually(lambda: read(handle, "stdout"), within=60, what="the agent")
    handle.close(remove=False)

    found = second.executor.find(RUN, 1)
    assert found is not None
    ended = until_ended(found, within=60)
    found.close(remove=True)

    assert (ended.exit.code, ended.stdout) == (0, b"ready\ndone\n")
    assert second.labels(manifest.RUN) == {RUN}
    assert [each["type"] for each in first.told][-1] == "DELETED"


def test_a_worker_that_keeps_no_pool_is_told_of_its_pods_when_they_can_be_taken_and_no_more_than_their_metadata(
    make: Make,
) -> None:
    keeper, other = make(), make()
    wanted = [WarmDemand(task_id="task", size=2, environment=PLAIN)]
    keeper.executor.keep_warm(wanted)
    eventually(lambda: (pools := keeper.executor.pools()) and pools[0].ready == 2, within=90, what="a pool that is full")
    other.executor.keep_warm(wanted)

    handle = other.executor.start(shell("echo ran", warm=True, environment=PLAIN))
    begun = eventually(handle.begun, within=60, what="the beginning")
    ended = until_ended(handle, within=60)
    handle.close(remove=True)
    eventually(lambda: (pools := keeper.executor.pools()) and pools[0].ready == 2, within=90, what="a pool that is full again")

    assert (begun.how, ended.stdout) == ("warm", b"ran\n")
    # Each is told by a watch of its own: the keeper may be told first.
    warm = eventually(
        lambda: [each for each in other.told if each["object"]["metadata"]["labels"].get(manifest.RUN) is None],
        what="a warm pod that the other is told of",
    )
    assert all(manifest.READY in each["object"]["metadata"]["labels"] for each in warm)
    assert all("spec" not in each["object"] for each in warm)


@pytest.mark.skipif(not CLUSTER, reason="fields are managed by Kubernetes only")
def test_who_has_set_which_field_of_a_warm_pod_is_not_sent_with_it(make: Make) -> None:
    keeper = make()
    keeper.executor.keep_warm([WarmDemand(task_id="task", size=1, environment=PLAIN)])
    eventually(lambda: (pools := keeper.executor.pools()) and pools[0].ready == 1, within=90, what="a pool that is full")

    handle = keeper.executor.start(shell("echo ran", warm=True, environment=PLAIN))
    until_ended(handle, within=60)
    handle.close(remove=True)

    mine = [each["object"] for each in keeper.told if each["object"]["metadata"]["labels"].get(manifest.RUN) == RUN]
    assert mine
    assert not [each for each in mine if each["metadata"].get("managedFields")]


def test_a_warm_pod_that_has_ended_when_it_is_taken_is_not_had(make: Make, install: str) -> None:
    keeper, other = make(), make()
    keeper.executor.keep_warm([WarmDemand(task_id="task", size=1, environment=PLAIN)])
    eventually(lambda: (pools := keeper.executor.pools()) and pools[0].ready == 1, within=90, what="a pool that is full")
    keeper.executor.close()

    with Api(NAMESPACE) as api:
        (name,) = (each["metadata"]["name"] for each in api.pods(f"{manifest.INSTALL}={install}"))
        api.container(name, "Failed", {"terminated": {"exitCode": 137, "reason": "Error"}})
        known = api.pod(name)
        assert known is not None
        launch = shell("echo ran", warm=True, environment=PLAIN)
        taken = other.executor._call(lambda site: site.pools.take(known, launch))

        assert taken is None
        eventually(lambda: api.pods(f"{manifest.INSTALL}={install}") == [], within=60, what="the end of the pod")


def test_many_pods_are_listed_in_parts_and_of_those_of_others_no_more_than_the_metadata(
    make: Make, install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_PAGE", 2)
    worker = make()
    waiting(worker.executor, install, 5)

    listed, _ = worker.executor._call(lambda site: site.cluster.pods({manifest.INSTALL: install}, meta=True))

    assert sorted(worker.executor.attempts()) == [(f"run-{n}", 1) for n in range(5)]
    assert worker.proxy.count("continue=") == 4
    assert len(listed) == 5
    assert [each for each in listed if "spec" in each or "status" in each] == []


def test_a_list_whose_parts_are_too_old_is_begun_anew(make: Make, install: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_PAGE", 2)
    worker = make()
    waiting(worker.executor, install, 5)
    broken = worker.proxy.rule("continue=", status=410, skip=1)

    async def known(site: PodSite) -> set[str]:
        informer = Informer(site.cluster, {manifest.INSTALL: install})
        task = asyncio.create_task(informer.run())
        await asyncio.wait_for(informer.listed.wait(), 20)
        task.cancel()
        return {each["metadata"]["labels"][manifest.RUN] for each in informer.pods.values()}

    assert worker.executor._call(known) == {f"run-{n}" for n in range(5)}
    assert broken.hits == 1
