"""Results of other threads arrive on the loop: each once, errors as errors, and nobody waits for ever. Short reads stay there
if the database is a local file, and go to a thread if it is behind a network."""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import cast

import pytest

from optio.errors import StoreUnavailable
from optio.server.loop_bridge import LoopBridge, read_small
from optio.store.base import Store
from tests.server.api import Api


def test_results_and_errors_arrive_with_whom_they_belong_to() -> None:
    async def main() -> list[object]:
        landing = LoopBridge()
        futures: list[Future[int]] = [Future() for _ in range(3)]
        waiting = [landing.wait(future) for future in futures]
        futures[1].set_exception(ValueError("no"))
        futures[2].set_result(2)
        futures[0].set_result(0)
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    first, error, last = asyncio.run(main())

    assert (first, last) == (0, 2)
    assert isinstance(error, ValueError)


def test_one_that_is_done_already_arrives_too() -> None:
    async def main() -> int:
        done: Future[int] = Future()
        done.set_result(7)
        return await asyncio.wait_for(LoopBridge().wait(done), 5)

    assert asyncio.run(main()) == 7


def test_thousands_from_many_threads_all_arrive() -> None:
    async def main() -> list[int]:
        landing = LoopBridge()
        futures: list[Future[int]] = [Future() for _ in range(8000)]
        gate = threading.Event()

        def resolve(part: int) -> None:
            gate.wait(20)
            for number in range(part, len(futures), 8):
                futures[number].set_result(number)

        with ThreadPoolExecutor(8) as pool:
            for part in range(8):
                pool.submit(resolve, part)
            waiting = [landing.wait(future) for future in futures]
            gate.set()
            return await asyncio.wait_for(asyncio.gather(*waiting), 30)

    assert asyncio.run(main()) == list(range(8000))


def test_who_has_gone_takes_nothing_from_the_others() -> None:
    async def main() -> int:
        landing = LoopBridge()
        futures: list[Future[int]] = [Future(), Future()]
        gone, stays = (landing.wait(future) for future in futures)
        gone.cancel()
        for number, future in enumerate(futures):
            future.set_result(number)
        with pytest.raises(asyncio.CancelledError):
            await gone
        return await stays

    assert asyncio.run(main()) == 1


@pytest.mark.parametrize("local", [True, False])
def test_a_short_read_of_a_local_database_stays_on_the_loop_and_one_over_a_network_does_not(local: bool) -> None:
    store = cast(Store, SimpleNamespace(local=local))

    def fail() -> None:
        raise StoreUnavailable("away")

    async def main() -> int:
        with pytest.raises(StoreUnavailable):
            await read_small(store, fail)
        return await read_small(store, threading.get_ident)

    assert (asyncio.run(main()) == threading.get_ident()) == local


def test_a_request_to_a_local_database_costs_no_change_of_threads(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for name in ("token", "pauses", "check"):
        method = getattr(api.services.store, name)

        def noted(*args: object, name: str = name, method: object = method) -> object:
            names.add((name, threading.current_thread().name))
            return method(*args)  # type: ignore[operator]

        monkeypatch.setattr(api.services.store, name, noted)
    token = api.token("viewer")

    assert api.services.store.local
    assert api.get("/api/tasks", Authorization=f"Bearer {token}").status == 200
    assert api.get("/readyz").status == 200
    assert names == {(name, "api") for name in ("token", "pauses", "check")}
