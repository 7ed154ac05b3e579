"""The live log of a run of a million lines in a real browser, and many readers of one run.

    python -m tests.bench.bench_live [--lines 1000000] [--minutes 1] [--rate 20] [--readers 50]

A server on a store of its own, and this process as the worker that writes the log. Each figure stands beside its floor in the
same run: two frames of the same page, a scan of the same lines by SQLite, an answer of `/healthz`.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from playwright.sync_api import CDPSession, Page, sync_playwright
from websockets.asyncio.client import connect

from optio.settings import Settings
from optio.store.sql.store import SqlStore
from optio.wiring import build
from tests.bench.bench_dashboard import served
from tests.bench.dashboard_seed import TOKEN, Seed, fill, insert_lines
from tests.server.api import LEASE, Writer
from tests.support import eventually, free_port

LINES, JUMPS = 100, 60
# They fit 11,000 of a million lines, one, none and all.
SEARCHED = ("finds 77", "line 99999 ", "nowhere", "fox")
# The time of a frame after the next one: what was changed before is on the screen then.
FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
WATCH = """() => {
  window.seen = {};
  const shown = (code) => { window.seen[code.textContent] ??= Date.now(); };
  const look = (code) => requestAnimationFrame(() => requestAnimationFrame(() => shown(code)));
  new MutationObserver((changes) => changes.forEach((each) => each.addedNodes.forEach((node) => {
    const code = node.querySelector?.("code");
    if (code) look(code);
  }))).observe(document.getElementById("viewer"), { childList: true, subtree: true });
}"""
JUMP = f"""async (seqs) => {{
  const viewer = document.getElementById("viewer").viewer, took = [];
  for (const seq of seqs) {{
    const began = performance.now();
    viewer.jump(seq);
    while (!viewer.layer.querySelector(".row.current code")?.textContent) await new Promise(requestAnimationFrame);
    await {FRAMES};
    took.push(performance.now() - began);
  }}
  return took;
}}"""
FLOOR = f"""async () => {{
  const took = [];
  for (let each = 0; each < 60; each += 1) {{
    const began = performance.now();
    await {FRAMES};
    took.push(performance.now() - began);
  }}
  return took;
}}"""
SEARCH = f"""async (text) => {{
  const viewer = document.getElementById("viewer").viewer, began = performance.now();
  viewer.input.value = text;
  viewer.search();
  while (viewer.hits.textContent === "…") await new Promise(requestAnimationFrame);
  await {FRAMES};
  return [performance.now() - began, viewer.hits.textContent];
}}"""


def row(what: str, times: list[float], floor: list[float] | None = None) -> None:
    p50, p95 = statistics.median(times), statistics.quantiles(times, n=20, method="inclusive")[-1]
    beside = "" if floor is None else f"   beside {statistics.median(floor):6.1f}: {p50 / statistics.median(floor):.1f}x"
    print(f"{what:<52} p50 {p50:7.1f} ms   p95 {p95:7.1f} ms   max {max(times):7.1f} ms{beside}", flush=True)


@contextlib.contextmanager
def long_run(seed: Seed, port: int, lines: int) -> Iterator[tuple[Writer, SqlStore]]:
    """A run with so many lines, which this process goes on writing."""
    services = build(Settings.load(seed.environ()))
    store = services.store
    assert isinstance(store, SqlStore)
    answer = ask(port, "POST", "/api/tasks/w-many/runs", json.dumps({}))
    run_id = json.loads(answer)["runId"]
    (claim,) = store.claim("bench", LEASE, lambda view: [run_id])
    insert_lines(store, run_id, lines)
    yield Writer(services, claim), store
    services.close()


def ask(port: int, method: str, path: str, body: str | None = None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse().read()
    connection.close()
    return answer


def healthz(port: int) -> list[float]:
    took = []
    for _ in range(LINES):
        began = time.perf_counter()
        ask(port, "GET", "/healthz")
        took.append((time.perf_counter() - began) * 1000)
    return took


def lines_to_pixels(page: Page, run: Writer) -> list[float]:
    """Milliseconds from before a line is stored to the second frame with it."""
    page.evaluate(WATCH)
    sent = []
    for _ in range(LINES):
        sent.append(f"{time.time() * 1000:.3f}")
        run.log(sent[-1])
        time.sleep(0.05)
    page.wait_for_function(f"window.seen['{sent[-1]}']")
    seen = page.evaluate("window.seen")
    return [seen[text] - float(text) for text in sent if text in seen]


def scan(seed: Seed, run: str, text: str) -> float:
    began = time.perf_counter()
    with contextlib.closing(sqlite3.connect(seed.directory / "data/optio.db")) as connection:
        connection.execute(
            "SELECT count(*) FROM log_lines WHERE run_id = ? AND CAST(data AS TEXT) LIKE ?", (run, f"%{text}%")
        ).fetchone()
    return (time.perf_counter() - began) * 1000


async def read(port: int, run: Writer, readers: int) -> list[float]:
    """Milliseconds from before a line is stored to its arrival at each reader."""
    took: list[float] = []
    ready, last = asyncio.Semaphore(0), run.log("before")

    async def reader() -> None:
        async with connect(f"ws://127.0.0.1:{port}/ws/live", additional_headers={"Authorization": f"Bearer {TOKEN}"}) as live:
            await live.send(json.dumps({"type": "follow", "id": "1", "run": run.id, "after": last - 1}))
            got = 0
            while got <= LINES:
                message = json.loads(await live.recv())
                if message["type"] != "lines":
                    continue
                now = time.time() * 1000
                for line in message["lines"]:
                    if got:
                        took.append(now - float(line["text"]))
                    else:
                        ready.release()
                    got += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(readers):
            group.create_task(reader())
        for _ in range(readers):
            await ready.acquire()
        for _ in range(LINES):
            await asyncio.to_thread(run.log, f"{time.time() * 1000:.3f}")
            await asyncio.sleep(0.05)
    return took


def readers(port: int, run: Writer, count: int) -> list[float]:
    """Run `read` in a thread of its own: the browser has a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(read(port, run, count))).result()


def heap(session: CDPSession) -> float:
    session.send("HeapProfiler.collectGarbage")
    values = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return float(values["JSHeapUsedSize"]) / 1e6


def follow(page: Page, session: CDPSession, run: Writer, minutes: float, rate: int) -> None:
    ended = threading.Event()
    total = 0

    def write() -> None:
        nonlocal total
        while not ended.wait(0.5):
            run.log(*(f"followed {total + each}: the agent says something of some length here" for each in range(rate // 2)))
            total += rate // 2

    thread = threading.Thread(target=write)
    thread.start()
    began = time.monotonic()
    while time.monotonic() - began < minutes * 60:
        page.wait_for_timeout(min(300, minutes * 60) * 1000)
        print(f"  followed {(time.monotonic() - began) / 60:.0f} min, {total:,} lines: heap {heap(session):.1f} MB", flush=True)
    ended.set()
    thread.join()
    newest = run.log("the last line")
    eventually(lambda: page.evaluate("document.getElementById('viewer').viewer.last") == newest, what="the last line")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--rate", type=int, default=20, help="lines in a second that are followed")
    parser.add_argument("--readers", type=int, default=50)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, SQLite")
    with tempfile.TemporaryDirectory() as directory:
        seed = Seed(Path(directory), tasks=100, runs=1000, lines=10, waiting=5)
        fill(seed)
        port = free_port()
        with served(seed, port), long_run(seed, port, options.lines) as (run, _), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")
            page.goto(f"http://localhost:{port}/login")
            page.fill("input[name=token]", TOKEN)
            page.click("main button")
            page.wait_for_url("**/tasks")
            page.goto(f"http://localhost:{port}/runs/{run.id}?tab=log")
            page.wait_for_function("document.getElementById('viewer')?.viewer?.rows.size > 10")
            page.wait_for_timeout(1000)
            frames, near = page.evaluate(FLOOR), healthz(port)
            row("two frames of this page", frames)
            row("an answer of /healthz", near)
            row(f"a line is stored -> second frame, {options.lines:,} lines open", lines_to_pixels(page, run), frames)
            seqs = [1 + number * 7_919_317 % options.lines for number in range(1, JUMPS + 1)]
            row("jump to a line", page.evaluate(JUMP, seqs), frames)
            found = [(page.evaluate(SEARCH, text), scan(seed, run.id, text)) for text in 5 * SEARCHED]
            row("search of all lines", [took for (took, _), _ in found], [floor for _, floor in found])
            page.evaluate(SEARCH, "")
            page.evaluate("document.getElementById('viewer').viewer.end()")
            row(f"a line is stored -> each of {options.readers} readers", readers(port, run, options.readers), near)
            follow(page, session, run, options.minutes, options.rate)
            browser.close()


if __name__ == "__main__":
    main()
