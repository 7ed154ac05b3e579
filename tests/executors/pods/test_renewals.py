"""How pods are told that their runs have an owner, where many are due at once."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from optio.executors.pods import executor as module
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.executor import PodExecutor
from optio.executors.pods.handle import PodHandle
from optio.executors.pods.manifest import PodSettings
from optio.executors.pods.start import Renewal
from optio.executors.procfs import uptime

MAX = module._MAX_RENEWING


class SlowCluster:
    """Takes a while for each command, and counts them."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()
        self.running = self.most = 0

    async def run(self, name: str, container: str, command: Sequence[str]) -> tuple[int, bytes]:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.1)
        self.running -= 1
        self.told[name] += 1
        return 0, b""


@pytest.fixture
def executor() -> Iterator[PodExecutor]:
    made = PodExecutor(PodSettings(namespace="runs", install="test", image="agent"), {})
    yield made
    made.close()


def due(executor: PodExecutor, count: int) -> tuple[SlowCluster, list[PodHandle]]:
    """So many pods that must be told by now."""
    cluster = SlowCluster()
    executor._cluster = cast(Cluster, cluster)
    handles = [PodHandle(f"pod-{n}", f"run-{n}", 1, lambda *_: None) for n in range(count)]
    for handle in handles:
        handle.launched = True
        executor._renewals[handle] = Renewal(900.0, uptime() - 300.0)
    return cluster, handles


async def together(executor: PodExecutor, handles: Sequence[PodHandle]) -> None:
    await asyncio.gather(*(executor._renewed(handle) for handle in handles))


def test_many_are_told_a_few_at_a_time_and_each_once(executor: PodExecutor) -> None:
    cluster, handles = due(executor, 5 * MAX)

    asyncio.run(together(executor, handles))
    asyncio.run(together(executor, handles))

    assert cluster.most == MAX
    assert set(cluster.told.values()) == {1}
    assert len(cluster.told) == len(handles)


def test_who_waits_for_his_turn_is_told_only_while_the_worker_still_owns_the_run(
    executor: PodExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_OWNED_AGE_S", 0.05)
    cluster, handles = due(executor, 2 * MAX)

    asyncio.run(together(executor, handles))

    assert set(cluster.told) == {handle.name for handle in handles[:MAX]}


def test_who_waits_for_his_turn_keeps_it_while_the_lease_is_renewed(
    executor: PodExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_OWNED_AGE_S", 0.05)
    cluster, handles = due(executor, 3 * MAX)

    async def renewed_all_the_time() -> None:
        telling = asyncio.ensure_future(together(executor, handles))
        while not telling.done():
            await asyncio.sleep(0.01)
            await together(executor, [each for each in handles if executor._renewals[each].telling])

    asyncio.run(renewed_all_the_time())

    assert cluster.told == Counter({handle.name: 1 for handle in handles})


def test_pods_that_began_together_are_not_due_together() -> None:
    shares: list[Any] = [Renewal(900.0, 0.0)._share for _ in range(100)]

    assert all(0.15 <= share <= 0.25 for share in shares)
    assert len(set(shares)) > 90
