"""How the pod of an attempt that is over goes."""

import asyncio
from typing import Any, cast

import pytest

from optio.executors.base import Exit
from optio.executors.pods import removal as module
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.handle import PodHandle
from optio.executors.pods.informer import Informer
from optio.executors.pods.manifest import PodSettings
from optio.executors.pods.removal import PodRemoval

DONE = Exit(code=0, signal=None, sizes={"stdout": 0, "stderr": 0})
RUNNING, ENDED = {"running": {}}, {"terminated": {"exitCode": 0, "message": ""}}


class Deleting:
    """Counts how long each pod has for its end."""

    def __init__(self) -> None:
        self.graces: list[int | None] = []

    async def delete(self, name: str, uid: str, grace_s: int | None = None) -> None:
        self.graces.append(grace_s)


def known(state: dict[str, Any], version: int) -> dict[str, Any]:
    status = {"phase": "Running", "containerStatuses": [{"name": "agent", "state": state}]}
    return {"metadata": {"name": "pod", "uid": "1", "resourceVersion": str(version)}, "status": status}


def graces(ended: Exit | None, *, told: bool) -> list[int | None]:
    """How the pod of a handle was deleted that is let go; `told`: its node says meanwhile that the container has ended."""
    cluster = Deleting()
    informer = Informer(cast(Cluster, None), {})
    informer.put(known(RUNNING, 1))
    removal = PodRemoval(cast(Cluster, cluster), informer, PodSettings(namespace="runs", install="test", image="agent"))

    async def let_go() -> None:
        handle = PodHandle("pod", "run", 1, lambda *_: None)
        handle.uid, handle.launched = "1", True
        if ended is not None:
            handle.end(ended)
        letting = asyncio.ensure_future(removal.remove(handle))
        await asyncio.sleep(0.05)
        assert cluster.graces == ([] if ended is not None else [None])
        if told:
            informer.put(known(ENDED, 2))
        await letting

    asyncio.run(let_go())
    return cluster.graces


def test_a_pod_whose_end_is_known_goes_when_its_node_says_so_without_being_ended() -> None:
    assert graces(DONE, told=True) == [0]


def test_a_pod_of_which_no_node_says_so_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ENDED_S", 0.1)

    assert graces(DONE, told=False) == [None]


def test_a_pod_whose_agent_lives_is_ended_at_once() -> None:
    assert graces(None, told=False) == [None]
