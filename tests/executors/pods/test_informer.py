"""What is known of pods from a watch, and from answers that come beside it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from optio.executors.pods.informer import Informer

Change = tuple[str, dict[str, Any]]


def pod(name: str, version: int, uid: str = "1") -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": uid, "resourceVersion": str(version)}}


class Watched:
    """A cluster with this list, whose watch tells what the test puts in."""

    def __init__(self, version: int, *listed: dict[str, Any]) -> None:
        self._version, self._listed = version, listed
        self.changes: asyncio.Queue[Change] = asyncio.Queue()

    async def pods(self, labels: Any, *, meta: bool) -> tuple[list[dict[str, Any]], str]:
        return list(self._listed), str(self._version)

    async def watch(self, labels: Any, version: str, *, meta: bool) -> AsyncIterator[Change]:
        while True:
            yield await self.changes.get()
            self.changes.task_done()


def known_after(cluster: Watched, *changes: Change, put: dict[str, Any]) -> dict[str, int]:
    """The versions of the pods that are known when an answer comes after these changes."""

    async def told() -> dict[str, int]:
        informer = Informer(cluster, {})  # type: ignore[arg-type]
        task = asyncio.create_task(informer.run())
        try:
            await informer.listed.wait()
            for change in changes:
                cluster.changes.put_nowait(change)
            await cluster.changes.join()
            informer.put(put)
            return {name: int(each["metadata"]["resourceVersion"]) for name, each in informer.pods.items()}
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return asyncio.run(told())


def test_an_answer_is_known_before_the_watch_tells_of_it() -> None:
    assert known_after(Watched(1), put=pod("new", 2)) == {"new": 2}
    assert known_after(Watched(1, pod("old", 1)), put=pod("old", 3)) == {"old": 3}


def test_an_answer_that_is_older_than_what_the_watch_told_changes_nothing() -> None:
    assert known_after(Watched(1), ("ADDED", pod("a", 5)), put=pod("a", 4)) == {"a": 5}


def test_an_answer_from_before_its_pod_was_deleted_does_not_bring_the_pod_back() -> None:
    assert known_after(Watched(1, pod("a", 1)), ("DELETED", pod("a", 5)), put=pod("a", 3)) == {}


def test_an_answer_from_before_a_list_does_not_bring_a_pod_back_that_the_list_has_not() -> None:
    assert known_after(Watched(7), put=pod("a", 3)) == {}


def test_a_pod_of_the_same_name_that_is_made_after_a_deletion_is_known() -> None:
    assert known_after(Watched(1, pod("a", 1)), ("DELETED", pod("a", 5)), put=pod("a", 6, "2")) == {"a": 6}


def test_an_event_that_comes_again_after_a_later_one_changes_nothing() -> None:
    changes = ("MODIFIED", pod("a", 5)), ("MODIFIED", pod("a", 3))

    assert known_after(Watched(1, pod("a", 1)), *changes, put=pod("a", 4)) == {"a": 5}
