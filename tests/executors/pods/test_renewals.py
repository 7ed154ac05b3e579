"""How pods are told that their runs have an owner, where many are due at once."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import pytest

from optio.executors.pods import renewals as module
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.handle import PodHandle
from optio.executors.pods.renewals import MAX_RENEWING, PodRenewals
from optio.executors.pods.start import Renewal
from optio.executors.procfs import uptime


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


class Bench:
    """So many pods that must be told by now."""

    def __init__(self, count: int) -> None:
        self.cluster = SlowCluster()
        self.pods = PodRenewals(cast(Cluster, self.cluster))
        self.handles = [PodHandle(f"pod-{n}", f"run-{n}", 1, lambda *_: None) for n in range(count)]
        self.renewals = {handle: Renewal(900.0, uptime() - 300.0) for handle in self.handles}
        for handle, renewal in self.renewals.items():
            handle.launched = True
            self.pods.put(handle, renewal)

    async def renew(self, handles: Sequence[PodHandle]) -> None:
        await asyncio.gather(*(self.pods.renew(handle) for handle in handles))


def test_many_are_told_a_few_at_a_time_and_each_once() -> None:
    bench = Bench(5 * MAX_RENEWING)
    cluster, handles = bench.cluster, bench.handles

    asyncio.run(bench.renew(handles))
    asyncio.run(bench.renew(handles))

    assert cluster.most == MAX_RENEWING
    assert set(cluster.told.values()) == {1}
    assert len(cluster.told) == len(handles)


def test_who_waits_for_his_turn_is_told_only_while_the_worker_still_owns_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_OWNED_AGE_S", 0.05)
    bench = Bench(2 * MAX_RENEWING)

    asyncio.run(bench.renew(bench.handles))

    assert set(bench.cluster.told) == {handle.name for handle in bench.handles[:MAX_RENEWING]}


def test_who_waits_for_his_turn_keeps_it_while_the_lease_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_OWNED_AGE_S", 0.05)
    bench = Bench(3 * MAX_RENEWING)

    async def renewed_all_the_time() -> None:
        telling = asyncio.ensure_future(bench.renew(bench.handles))
        while not telling.done():
            await asyncio.sleep(0.01)
            await bench.renew([handle for handle, renewal in bench.renewals.items() if renewal.telling])

    asyncio.run(renewed_all_the_time())

    assert bench.cluster.told == Counter({handle.name: 1 for handle in bench.handles})


def test_pods_that_began_together_are_not_due_together() -> None:
    shares: list[Any] = [Renewal(900.0, 0.0)._share for _ in range(100)]

    assert all(0.15 <= share <= 0.25 for share in shares)
    assert len(set(shares)) > 90
