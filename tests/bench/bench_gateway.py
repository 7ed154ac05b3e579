"""What the gateway adds to a model call: `python tests/bench/bench_gateway.py [--postgres] [--calls 200]`. The peer is the same
model service without it. Calls are as those of Claude Code, 60 kB of request; a stream has 400 chunks. Both take turns.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path

import httpx2
import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from optio.model.model_call import AttemptKey, key_digest  # noqa: E402
from tests.runs.support import accept, claim, opened  # noqa: E402
from tests.runtimes.real_agents import endpoints_of, task  # noqa: E402
from tests.servers import PostgresServer  # noqa: E402
from tests.support import Dev, eventually, free_port  # noqa: E402

CHUNKS, REQUEST_BYTES, AT_ONCE = 400, 60_000, 200
SERVICE = f"""
import asyncio, sys, uvicorn
START = b'data: {{"type": "message_start", "message": {{"model": "claude-sonnet-4-5", "usage": {{"input_tokens": 1}}}}}}\\n\\n'
CHUNK = b'data: {{"type": "content_block_delta", "delta": {{"type": "text_delta", "text": "some words of an answer"}}}}\\n\\n'
END = b'data: {{"type": "message_delta", "usage": {{"output_tokens": 1}}}}\\n\\n'
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}})
    await send({{"type": "http.response.body", "body": START, "more_body": True}})
    if b"chunks" in scope["query_string"]:
        for _ in range({CHUNKS}):
            await send({{"type": "http.response.body", "body": CHUNK, "more_body": True}})
            await asyncio.sleep(0)
    await send({{"type": "http.response.body", "body": END}})
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", lifespan="off")
"""


@contextmanager
def served() -> Iterator[str]:
    """Start the model service, and yield its address."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    with subprocess.Popen([sys.executable, "-c", SERVICE, str(port)]) as process:
        eventually(lambda: answers(url), what="the model service")
        try:
            yield url
        finally:
            process.kill()


def answers(url: str) -> bool:
    try:
        httpx2.get(url)
    except httpx2.HTTPError:
        return False
    return True


async def call(client: httpx2.AsyncClient, url: str, query: str = "") -> tuple[float, float]:
    """Return the milliseconds to the first byte and to the end."""
    body = {"model": "claude-sonnet-4-5", "max_tokens": 10, "stream": True, "messages": "x" * REQUEST_BYTES}
    began, first = time.perf_counter(), 0.0
    async with client.stream("POST", f"{url}/v1/messages{query}", content=json.dumps(body).encode()) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for _ in answer.aiter_raw():
            first = first or time.perf_counter() - began
    return first * 1e3, (time.perf_counter() - began) * 1e3


async def measure(straight: str, led: str, token: str, calls: int) -> None:
    """Print the table."""
    timeout, limits = httpx2.Timeout(60), httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(headers={"x-api-key": token}, timeout=timeout, limits=limits) as client:
        for query, what, place in (("", "first byte", 0), ("?chunks", f"stream of {CHUNKS} chunks", 1)):
            times: dict[str, list[float]] = {straight: [], led: []}
            for _ in range(calls):
                for url, took in times.items():
                    took.append((await call(client, url, query))[place])
            rows = {url: (statistics.median(took), sorted(took)[int(len(took) * 0.99)]) for url, took in times.items()}
            (p50, p99), (peer50, peer99) = rows[led], rows[straight]
            more = f"{p50 - peer50:+.2f} ms p50, {p99 - peer99:+.2f} ms p99"
            print(f"{what:28} {peer50:7.2f} ms straight, {p50:7.2f} ms led: {more}")
        for url, name in ((straight, "straight"), (led, "led")):
            began = time.perf_counter()
            await asyncio.gather(*(call(client, url, "?chunks") for _ in range(AT_ONCE)))
            print(f"{AT_ONCE} streams at once {name:12} {time.perf_counter() - began:7.2f} s, all ended")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--postgres", action="store_true", help="with reservations on PostgreSQL in place of SQLite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        place, port = Path(directory), free_port()
        url = stack.enter_context(served())
        environ = endpoints_of(url) | {"OPTIO_DATA_DIR": str(place / "data"), "OPTIO_GATEWAY_PORT": str(port)}
        if options.postgres:
            server = stack.enter_context(PostgresServer(fsync=True))
            environ["OPTIO_DATABASE_URL"] = server.schema()
        services = stack.enter_context(opened(place / "data", environ))
        owned = claim(services, accept(services, task("claude-code", "claude-sonnet-4-5")))
        token = "optio_at_bench"
        key = AttemptKey(
            digest=key_digest(token), run_id=owned.run.id, attempt=1, upstream=url,
            credential="ANTHROPIC_API_KEY", limit=None, spent=Decimal(0), is_priced=False,
        )  # fmt: skip
        services.store.open_key(owned.run.lease, key)
        gateway = Dev(place, environ=environ, command="gateway")
        stack.callback(gateway.stop)
        gateway.start(ready=False)
        led = f"http://127.0.0.1:{port}"
        eventually(lambda: answers(led), what="the gateway")
        assert gateway.process is not None
        print(f"{'PostgreSQL' if options.postgres else 'SQLite'}, {options.calls} calls each")
        asyncio.run(measure(url, f"{led}/model", token, options.calls))
        print(f"{psutil.Process(gateway.process.pid).memory_info().rss >> 20} MB resident")


if __name__ == "__main__":
    main()
