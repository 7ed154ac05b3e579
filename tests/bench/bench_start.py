"""How fast an accepted run becomes a process: `python tests/bench/bench_start.py`. The peer is a bare `subprocess.Popen`."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.runs.support import accept, done, opened, working  # noqa: E402
from tests.support import COMMAND_TASK, Dev, command_task  # noqa: E402

SEQUENTIAL, BURST = 200, 400
SANDBOXES = ("none", "landlock", "bwrap")


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def row(what: str, values: list[float], peer: float | None = None) -> None:
    p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
    ratio = f"{p50 / peer:8.1f}x" if peer else " " * 9
    print(f"{what:<58} {p50:8.2f} ms {p99:8.2f} ms {ratio}")


def bare() -> list[float]:
    """Milliseconds from `Popen` to the program's own first instant, and on to its end."""
    took = []
    for _ in range(SEQUENTIAL):
        began = time.time()
        done = subprocess.run(["/bin/date", "+%s.%N"], start_new_session=True, capture_output=True, check=True)
        took.append((float(done.stdout) - began) * 1e3)
    return took


def bare_rate() -> float:
    """Completed `true` a second, each started when the one before has ended."""
    began = time.monotonic()
    for _ in range(BURST):
        subprocess.Popen(["/bin/true"], start_new_session=True).wait()
    return BURST / (time.monotonic() - began)


def sequential(dev: Dev) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds from sending the request, and from its answer, to the agent's first instant; and to the run's end."""
    asked, accepted, ended = [], [], []
    for _ in range(SEQUENTIAL):
        before = time.time()
        run_id = dev.post("/api/tasks/stamp/runs").json["runId"]
        answered = time.time()
        time.sleep(0.03)
        run = dev.until_ended(run_id)
        stamp = float(run["output"])
        asked.append((stamp - before) * 1e3)
        accepted.append((stamp - answered) * 1e3)
        ended.append(_instant(run["endedAt"]) * 1e3 - before * 1e3)
    return asked, accepted, ended


def _instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def burst(directory: Path, sandbox: str) -> float:
    """Runs of `true` completed a second, from the first claim to the last outcome: they are queued before the worker starts."""
    with opened(directory, {"OPTIO_MAX_WORKFLOW_CONCURRENT": "32", "OPTIO_SANDBOX": sandbox}) as services:
        task = command_task(["/bin/true"], extra="maxConcurrent: 32\n")
        waiting = [accept(services, task) for _ in range(BURST)]
        began = time.monotonic()
        with working(services):
            for run_id in waiting:
                assert done(services, run_id, within=60).reason == "ok"
            return BURST / (time.monotonic() - began)


def started(directory: Path, sandbox: str) -> tuple[list[float], list[float], list[float]]:
    """What `sequential` gives in a sandbox."""
    dev = Dev(directory, environ={"OPTIO_LEASE": "60s", "OPTIO_SANDBOX": sandbox})
    dev.write("stamp.yaml", COMMAND_TASK.format(name="Stamp", command='["/bin/date", "+%s.%N"]'))
    dev.start()
    try:
        for _ in range(10):
            dev.until_ended(dev.post("/api/tasks/stamp/runs").json["runId"])
        return sequential(dev)
    finally:
        dev.stop()


def main() -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}, SQLite, process executor")
    peer = bare()
    print(f"\n{'':<58} {'p50':>11} {'p99':>11} {'to peer':>9}")
    row("bare Popen -> program's first instant", peer)
    for sandbox in SANDBOXES:
        with tempfile.TemporaryDirectory() as directory:
            asked, accepted, ended = started(Path(directory), sandbox)
        row(f"{sandbox}: request sent -> agent's first instant", asked, statistics.median(peer))
        row(f"{sandbox}: 202 received -> agent's first instant", accepted, statistics.median(peer))
        row(f"{sandbox}: request sent -> run completed", ended, statistics.median(peer))
    rounds = [(bare_rate(), *(_burst(sandbox) for sandbox in SANDBOXES)) for _ in range(3)]
    rate, *completed = (statistics.median(each) for each in zip(*rounds, strict=True))
    print(f"\n{'bare Popen of true, one after the other':<58} {rate:8.0f} /s")
    for sandbox, each in zip(SANDBOXES, completed, strict=True):
        print(f"{f'{sandbox}: runs of true completed, at most 32 at once':<58} {each:8.0f} /s {each / rate:8.2f}x")


def _burst(sandbox: str) -> float:
    with tempfile.TemporaryDirectory() as directory:
        return burst(Path(directory), sandbox)


if __name__ == "__main__":
    main()
