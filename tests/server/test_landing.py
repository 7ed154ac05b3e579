"""Results of other threads arrive on the loop: each once, errors as errors, and nobody waits for ever."""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from optio.server.landing import Landing


def test_results_and_errors_arrive_with_whom_they_belong_to() -> None:
    async def main() -> list[object]:
        landing = Landing()
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
        return await asyncio.wait_for(Landing().wait(done), 5)

    assert asyncio.run(main()) == 7


def test_thousands_from_many_threads_all_arrive() -> None:
    async def main() -> list[int]:
        landing = Landing()
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
        landing = Landing()
        futures: list[Future[int]] = [Future(), Future()]
        gone, stays = (landing.wait(future) for future in futures)
        gone.cancel()
        for number, future in enumerate(futures):
            future.set_result(number)
        with pytest.raises(asyncio.CancelledError):
            await gone
        return await stays

    assert asyncio.run(main()) == 1
