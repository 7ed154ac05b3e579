"""Marks of attempts that were given up: kept by all, for as long as somebody may come late."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from optio.executors.pods.api_client import Refused
from optio.executors.pods.given_up import GivenUp


class Leases:
    """A cluster that has one lease, and a clock."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 28, tzinfo=UTC)
        self.kept: dict[str, Any] | None = None

    def now(self) -> datetime:
        return self.time

    async def lease(self, name: str) -> dict[str, Any] | None:
        found = self.kept
        await asyncio.sleep(0)  # others are served meanwhile
        return found

    async def create_lease(self, lease: Mapping[str, Any]) -> dict[str, Any]:
        return self._put(lease, 0)

    async def replace_lease(self, lease: Mapping[str, Any]) -> dict[str, Any]:
        return self._put(lease, int(lease["metadata"]["resourceVersion"]))

    def _put(self, lease: Mapping[str, Any], of: int) -> dict[str, Any]:
        version = 0 if self.kept is None else int(self.kept["metadata"]["resourceVersion"])
        if version != of:
            raise Refused(409, "the object has been modified")
        self.kept = {**lease, "metadata": {**lease["metadata"], "resourceVersion": str(version + 1)}}
        return self.kept


def given_up(leases: Leases) -> GivenUp:
    return GivenUp(leases, "acme", 900.0)  # type: ignore[arg-type]


async def marked(leases: Leases, *runs: str) -> list[str]:
    """Those of these runs whose first attempt is marked."""
    return [run_id for run_id in runs if await given_up(leases).has(run_id, 1)]


def test_an_attempt_that_is_marked_is_given_up_and_no_other() -> None:
    async def story() -> list[bool]:
        marks = given_up(Leases())
        before = await marks.has("run", 1)
        await marks.mark("run", 1)
        return [before, await marks.has("run", 1), await marks.has("run", 2), await marks.has("another", 1)]

    assert asyncio.run(story()) == [False, True, False, False]


def test_marks_that_several_workers_make_at_once_are_all_kept() -> None:
    leases, runs = Leases(), [f"run-{n}" for n in range(4)]

    async def story() -> list[str]:
        await asyncio.gather(*(given_up(leases).mark(run_id, 1) for run_id in runs))
        return await marked(leases, *runs)

    assert asyncio.run(story()) == runs


def test_a_mark_lasts_for_as_long_as_a_launch_may_come_late_and_then_makes_room_for_others() -> None:
    leases = Leases()

    async def story() -> list[list[str]]:
        seen = []
        await given_up(leases).mark("old", 1)
        for later in (timedelta(seconds=900 + 300), timedelta(seconds=900)):
            leases.time += later
            await given_up(leases).mark(f"at-{later.seconds}", 1)
            seen.append(await marked(leases, "old"))
        return seen

    assert asyncio.run(story()) == [["old"], []]
