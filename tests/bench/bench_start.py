"""How fast an accepted run becomes a process: `python tests/bench/bench_start.py`. The peer is a bare `subprocess.Popen`.

With `--peer CHECKOUT` it is another checkout, which has a `.venv` of its own. Both are measured by turns, each with its default
sandbox, and a ratio is the median of those of the rounds: the speed of a machine changes, that of two turns in a row hardly.
CPU is that of the worker, its fork server and all that these start, so other programs on the machine change it little. With
`TMPDIR=/dev/shm` it changes less: ext4 makes no file in the place of one that was deleted within five seconds, and a burst that
makes and deletes thousands spends up to a third of its time with the search, whatever the code does.
"""

import argparse
import ctypes
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

ROOT = Path(os.environ.pop("OPTIO_BENCH_ROOT", Path(__file__).resolve().parent.parent.parent))
sys.path.insert(0, str(ROOT))

from tests.runs.support import accept, done, opened, working  # noqa: E402
from tests.support import COMMAND_TASK, Dev, command_task  # noqa: E402

SEQUENTIAL, BURST = 200, 400
SANDBOXES = ("none", "landlock", "namespaces", "bwrap")
# The default of a checkout, which the helpers of tests replace: before views there was Landlock.
DEFAULT = {"OPTIO_SANDBOX": "namespaces" if (ROOT / "optio" / "executors" / "view.py").exists() else "landlock"}
ROUNDS = 7
# `struct perf_event_attr`, its first version: a software event, the task clock, and with it that of all children.
_PERF_ATTR = struct.pack("=IIQQQQQQQQ", 1, 72, 1, 0, 0, 0, 1 << 1 | 1 << 5 | 1 << 6, 0, 0, 0)
_SYS_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}


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


class Clock:
    """Milliseconds of CPU of this process and of all that it starts from now on, reaped or not; None where the kernel does not
    tell them (`kernel.perf_event_paranoid` above 2)."""

    def __init__(self) -> None:
        number = _SYS_PERF_EVENT_OPEN.get(os.uname().machine, -1)
        self._descriptor = ctypes.CDLL(None).syscall(ctypes.c_long(number), _PERF_ATTR, 0, -1, -1, ctypes.c_ulong(8))

    def read(self) -> float | None:
        return None if self._descriptor < 0 else struct.unpack("=Q", os.read(self._descriptor, 8))[0] / 1e6


def burst(directory: Path, environ: Mapping[str, str], clock: Clock | None = None) -> tuple[float, float | None]:
    """Runs of `true` completed a second, from the first claim to the last outcome (they are queued before the worker starts),
    and the CPU of each."""
    with opened(directory, {"OPTIO_MAX_WORKFLOW_CONCURRENT": "32", **environ}) as services:
        task = command_task(["/bin/true"], extra="maxConcurrent: 32\n")
        waiting = [accept(services, task) for _ in range(BURST)]
        before = None if clock is None else clock.read()
        began = time.monotonic()
        with working(services):
            for run_id in waiting:
                assert done(services, run_id, within=60).reason == "ok"
            rate = BURST / (time.monotonic() - began)
            after = None if clock is None else clock.read()
        return rate, None if before is None or after is None else (after - before) / BURST


def started(directory: Path, environ: Mapping[str, str]) -> tuple[list[float], list[float], list[float]]:
    """What `sequential` gives with these settings."""
    dev = Dev(directory, environ={"OPTIO_LEASE": "60s", **environ})
    dev.write("stamp.yaml", COMMAND_TASK.format(name="Stamp", command='["/bin/date", "+%s.%N"]'))
    dev.start()
    try:
        for _ in range(10):
            dev.until_ended(dev.post("/api/tasks/stamp/runs").json["runId"])
        return sequential(dev)
    finally:
        dev.stop()


def against_bare() -> None:
    peer = bare()
    print(f"\n{'':<58} {'p50':>11} {'p99':>11} {'to peer':>9}")
    row("bare Popen -> program's first instant", peer)
    for sandbox in SANDBOXES:
        with tempfile.TemporaryDirectory() as directory:
            asked, accepted, ended = started(Path(directory), {"OPTIO_SANDBOX": sandbox})
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
        return burst(Path(directory), {"OPTIO_SANDBOX": sandbox})[0]


def one_round(*, bursts_only: bool) -> dict[str, float | None]:
    """The figures of this checkout, once."""
    clock = Clock()  # before any thread: it counts those that begin after it
    with tempfile.TemporaryDirectory() as directory:
        rate, cpu = burst(Path(directory), DEFAULT, clock)
    found = {"burst: runs of true completed, /s": rate, "burst: CPU per run, ms": cpu}
    if not bursts_only:
        with tempfile.TemporaryDirectory() as directory:
            asked, _, ended = started(Path(directory), DEFAULT)
        found["p50 request sent -> agent's first instant, ms"] = statistics.median(asked)
        found["p50 request sent -> run completed, ms"] = statistics.median(ended)
    return found


def against(peer: Path, rounds: int, *, bursts_only: bool) -> None:
    """Both checkouts by turns, in processes of their own."""
    found: dict[Path, list[dict[str, float | None]]] = {ROOT: [], peer: []}
    words = ["--round", *(["--bursts"] if bursts_only else [])]
    for number in range(rounds):
        for root in (ROOT, peer) if number % 2 else (peer, ROOT):
            command = [str(root / ".venv/bin/python"), __file__, *words]
            environ = {**os.environ, "OPTIO_BENCH_ROOT": str(root)}
            done = subprocess.run(command, env=environ, cwd=root, stdout=subprocess.PIPE, check=True)
            found[root].append(json.loads(done.stdout.splitlines()[-1]))
    print(f"\n{'median of ' + str(rounds) + ' rounds':<50} {'this':>8} {'peer':>8} {'ratio':>7} {'difference':>11}")
    for name in found[ROOT][0]:
        pairs = [(ours[name], theirs[name]) for ours, theirs in zip(found[ROOT], found[peer], strict=True)]
        numbers = [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
        if not numbers:
            print(f"{name:<50} {'not told by this kernel':>36}")
            continue
        ours, theirs = (statistics.median(each) for each in zip(*numbers, strict=True))
        ratio = statistics.median(mine / other for mine, other in numbers)
        difference = statistics.median(mine - other for mine, other in numbers)
        print(f"{name:<50} {ours:8.2f} {theirs:8.2f} {ratio:6.2f}x {difference:+11.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, metavar="CHECKOUT", help="compare with another checkout")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often each is measured (default {ROUNDS})")
    parser.add_argument("--bursts", action="store_true", help="with --peer: leave out the start of single runs")
    parser.add_argument("--round", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.round:
        print(json.dumps(one_round(bursts_only=options.bursts)))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}, SQLite, process executor")
    if options.peer is None:
        against_bare()
    else:
        against(options.peer.resolve(), options.rounds, bursts_only=options.bursts)


if __name__ == "__main__":
    main()
