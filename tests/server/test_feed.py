"""The feed of live logs: what happens between a look and a hint."""

import asyncio
import threading
from contextlib import aclosing
from typing import Any

import pytest

from optio.broker.base import Topic
from optio.server.log_fanout import LogFanout
from optio.store.base import Store
from tests.server.api import Api
from tests.support import eventually


class Held:
    """A store whose answer to `log` is on its way until it is let go."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.asked, self.go = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def log(self, *args: Any, **more: Any) -> Any:
        found = self.store.log(*args, **more)
        self.asked.set()
        assert self.go.wait(20)
        return found


def test_a_line_that_comes_during_a_look_is_found_by_its_own_hint(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.server.log_fanout.POLL_S", 600.0)
    writer = api.started()
    held = Held(api.services.store)

    async def first_line() -> bytes:
        feed = LogFanout()
        feed.bind(asyncio.get_running_loop())
        async with aclosing(feed.follow(held, writer.id, 0)) as batches:  # type: ignore[arg-type]
            coming = asyncio.ensure_future(anext(batches))
            await asyncio.to_thread(held.asked.wait, 20)
            writer.log("in between")
            feed.hint(Topic.RUN, writer.id)
            await asyncio.sleep(0.05)
            held.go.set()
            batch = await asyncio.wait_for(coming, 20)
        return batch.lines[0].data

    assert b"in between" in asyncio.run(first_line())


def test_readers_of_one_run_share_a_look(api: Api) -> None:
    writer = api.started()
    looks = []

    class Counting(Held):
        def log(self, *args: Any, **more: Any) -> Any:
            looks.append(more["after"])
            return self.store.log(*args, **more)

    async def read(feed: LogFanout, store: Any) -> int:
        count = 0
        async with aclosing(feed.follow(store, writer.id, 0)) as batches:
            async for batch in batches:
                count += len(batch.lines)
        return count

    async def everyone() -> list[int]:
        feed, store = LogFanout(), Counting(api.services.store)
        feed.bind(asyncio.get_running_loop())
        reading = [asyncio.ensure_future(read(feed, store)) for _ in range(50)]
        await asyncio.sleep(0.1)
        for _ in range(5):
            writer.log("a", "b")
            feed.hint(Topic.RUN, writer.id)
            await asyncio.sleep(0.02)
        writer.end()
        feed.hint(Topic.RUN, writer.id)
        return list(await asyncio.gather(*reading))

    assert asyncio.run(everyone()) == [10] * 50
    # Fifty readers that each looked for themselves would have looked 300 times.
    assert len(looks) < 60


def test_a_store_that_fails_ends_the_readers_and_not_the_feed(api: Api) -> None:
    from optio.errors import StoreUnavailable

    writer = api.started()

    class Broken(Held):
        broken = True

        def run(self, run_id: str) -> Any:
            if self.broken:
                raise StoreUnavailable("away")
            return self.store.run(run_id)

    async def twice() -> int:
        feed, store = LogFanout(), Broken(api.services.store)
        store.go.set()
        feed.bind(asyncio.get_running_loop())
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await anext(feed.follow(store, writer.id, 0))  # type: ignore[arg-type]
        store.broken = False
        writer.log("back")
        return len((await anext(feed.follow(store, writer.id, 0))).lines)  # type: ignore[arg-type]

    assert asyncio.run(twice()) == 1


@pytest.mark.parametrize("steps", range(5))
def test_a_reader_that_is_dropped_while_a_line_is_announced_ends(api: Api, steps: int) -> None:
    writer = api.started()

    async def drop() -> bool:
        feed = LogFanout()
        feed.bind(asyncio.get_running_loop())
        stream = feed.follow(api.services.store, writer.id, 0)
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.to_thread(eventually, lambda: (tail := feed._tails.get(writer.id)) and not tail.stale)
        feed._tails[writer.id].wake()
        for _ in range(steps):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading], timeout=3)
        ended = reading.done()
        feed.close()
        return ended

    assert asyncio.run(drop())
