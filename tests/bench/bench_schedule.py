"""How late schedules fire: from the slot to the commit of its run, beside the overshoot of `time.sleep` in the same run.

    python tests/bench/bench_schedule.py [--schedules 1,100,1000] [--rounds 3]

A real scheduler over a real store; only its clock is moved, so that the next whole minute is a second away. All schedules are
minutely: every one is due at the same instant, which is the worst that can be asked for.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from optio.model.registry import Registry  # noqa: E402
from optio.scheduler import Scheduler  # noqa: E402
from optio.settings import Settings  # noqa: E402
from optio.store.base import Firing  # noqa: E402
from optio.wiring import build  # noqa: E402
from tests.runs.test_schedule import timed  # noqa: E402

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


class Watched:
    """The store, noting when each firing was durable."""

    def __init__(self, store: Any, expected: int) -> None:
        self._store = store
        self.times: list[float] = []
        self.done = threading.Event()
        self._expected = expected

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def fire(self, firing: Firing) -> Future[list[str]]:
        future: Future[list[str]] = self._store.fire(firing)
        future.add_done_callback(lambda _: self._note())
        return future

    def _note(self) -> None:
        self.times.append(time.time())
        if len(self.times) == self._expected:
            self.done.set()


def lateness(count: int) -> list[float]:
    """Milliseconds from the slot to the commit, of each schedule."""
    with tempfile.TemporaryDirectory() as name:
        services = build(Settings.load({"OPTIO_DATA_DIR": name}))
        task = timed()
        services.store.activate(Registry.of({f"t{n}": replace(task, id=f"t{n}") for n in range(count)}), None)
        watched = Watched(services.store, count)
        shift = datetime.now(UTC) - NOON + timedelta(seconds=1 + count / 2000)
        scheduler = Scheduler(replace(services, store=watched), clock=lambda: datetime.now(UTC) - shift)
        scheduler.start()
        watched.done.wait(60)
        scheduler.stop()
        services.close()
        due = (NOON + shift).timestamp()
        return [(at - due) * 1000 for at in watched.times]


def overshoot(times: int = 100) -> list[float]:
    """Milliseconds that `time.sleep` takes longer than asked."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        time.sleep(0.01)
        found.append((time.perf_counter() - start - 0.01) * 1000)
    return found


def row(name: str, values: list[float], peer: float | None = None) -> None:
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    ratio = "" if peer is None else f"{p99 / peer:>10.0f}"
    print(f"{name:<28}{statistics.median(ordered):>10.2f}{p99:>10.2f}{ordered[-1]:>10.2f}{ratio}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--schedules", default="1,100,1000")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"{'ms late':<28}{'p50':>10}{'p99':>10}{'max':>10}{'p99/sleep':>11}")
    slept = overshoot()
    row("time.sleep", slept)
    peer = sorted(slept)[-2]
    for count in map(int, args.schedules.split(",")):
        values = [late for _ in range(args.rounds) for late in lateness(count)]
        row(f"{count:,} due at once", values, peer)


if __name__ == "__main__":
    main()
