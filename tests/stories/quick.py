"""Schedulers as processes of their own, on a database whose clock runs sixty times as fast: a minute there is a second here.

`python -m tests.stories.quick URL START` is one of them; START is the second since 1970 at which the quick clock began.
"""

import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from optio.processes.scheduler import Scheduler
from optio.settings import Settings
from optio.store.postgres import postgres_store
from optio.store.sql.store import SqlStore
from optio.wiring import build
from tests.support import ROOT

FACTOR = 60
BEGIN = datetime(2026, 1, 5, 12, 0, 30, tzinfo=UTC).timestamp()


def quick(start: float) -> Callable[[], float]:
    """Seconds since 1970 by the quick clock."""
    return lambda: BEGIN + (time.time() - start) * FACTOR


def open_quick(url: str, start: float) -> SqlStore:
    """The database, by the quick clock."""
    return postgres_store.open_store(url, clock=quick(start))


class Process:
    """A scheduler that can be stopped, woken and killed."""

    def __init__(self, url: str, start: float, log: Path) -> None:
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.stories.quick", url, str(start)], cwd=ROOT, stdout=out, stderr=out
            )

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """Without a word."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """In order; its exit code."""
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        return self._process.wait(20)


def main(url: str, start: float) -> None:
    end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: end.set())
    store = open_quick(url, start)
    clock = quick(start)
    with tempfile.TemporaryDirectory() as directory:
        services = build(Settings.load({"OPTIO_DATA_DIR": directory}))
        services.store.close()
        # It looks often, for what it waits in seconds are minutes.
        scheduler = Scheduler(replace(services, store=store), clock=lambda: datetime.fromtimestamp(clock(), UTC), longest=0.02)
        scheduler.start()
        end.wait()
        scheduler.stop()
        services.broker.close()
        services.executor.close()
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
