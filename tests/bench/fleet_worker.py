"""A worker that counts what it asks of the cluster: `python -m tests.bench.fleet_worker FILE`, for `bench_fleet`.

At the start and at each SIGUSR1 it writes `{kind of request: [requests, bytes of answers]}` to the file. Bytes are those of
bodies as the worker reads them, without HTTP and TLS; of an exec nothing but that it was asked for.
"""

import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2

from optio.cli import main

_counts: dict[str, list[int]] = {}


def _kind(request: httpx2.Request) -> str:
    parts = request.url.path.split("/")
    rest = parts[parts.index("namespaces") + 2 :] if "namespaces" in parts else []
    if "watch=" in request.url.query.decode():
        return "WATCH pods"
    if rest[-1:] in (["exec"], ["log"]):
        return f"{rest[-1]} pods"
    return f"{'LIST' if len(rest) == 1 and request.method == 'GET' else request.method} {rest[0] if rest else 'namespaces'}"


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, stream: Any, count: list[int]) -> None:
        self._stream, self._count = stream, count

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self._count[1] += len(piece)
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


_handle = httpx2.AsyncHTTPTransport.handle_async_request


async def _counting(self: httpx2.AsyncHTTPTransport, request: httpx2.Request) -> httpx2.Response:
    count = _counts.setdefault(_kind(request), [0, 0])
    count[0] += 1
    answer = await _handle(self, request)
    if answer.status_code != 101:
        answer.stream = _Counted(answer.stream, count)
    return answer


def _tell(file: Path) -> None:
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(_counts))
    draft.rename(file)


if __name__ == "__main__":
    httpx2.AsyncHTTPTransport.handle_async_request = _counting  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, lambda *_: _tell(Path(sys.argv[1])))
    _tell(Path(sys.argv[1]))
    main(["worker"])
