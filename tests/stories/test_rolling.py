"""A rolling restart of every part, again and again, under load: nobody gets an answer but success or 503, and no run notices.

`python -m tests.stories.test_rolling SECONDS PERIOD [SEED]` prints figures: every part is restarted once in each period.
"""

import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests.stories import ledger
from tests.stories.cluster import Cluster, Part, Process
from tests.stories.ledger import Clients, Ledger, Sampler, Verdict

# Requests a second.
RATE = 6.0


class Restarts(threading.Thread):
    """Restarts one part after the other in good order, as an operator would: the next when the last is there again. Each once
    at least, however slow the machine is."""

    def __init__(self, made: Cluster, seconds: float, period: float) -> None:
        super().__init__(daemon=True)
        self._cluster, self._seconds, self._period = made, seconds, period
        self.done = 0
        self.slowest: dict[str, float] = {}
        self.wrong: list[str] = []
        self.over = False

    def run(self) -> None:
        try:
            began = time.monotonic()
            while (passed := time.monotonic() - began) < self._seconds or self.done < len(self._cluster.parts):
                for part in self._cluster.parts:
                    self._restart(part)
                time.sleep(max(0.0, self._period * (1 + passed // self._period) - (time.monotonic() - began)))
        finally:
            self.over = True

    def _restart(self, part: Part) -> None:
        kind = part.name.partition("-")[0]
        with part.lock:
            began = time.monotonic()
            part.stop()
            self.slowest[kind] = max(self.slowest.get(kind, 0.0), time.monotonic() - began)
            if isinstance(part, Process) and part.code != 0:
                self.wrong.append(f"{part.name} ended with {part.code}")
            part.start()
        if kind == "server":
            self._cluster.until_ready(part.name)
        elif isinstance(part, Process):
            part.until_begun()
        self.done += 1


def roll(directory: Path, seconds: float, period: float, seed: int) -> tuple[Verdict, Restarts, Cluster]:
    """The whole story."""
    with ledger.cluster(directory, environ={"OPTIO_LEASE": "10s"}) as made:
        book = Ledger()
        sampler = Sampler(directory)
        restarts = Restarts(made, seconds, period)
        clients = Clients(made, book, seed)
        restarts.start()
        number = 0
        while not restarts.over:
            clients.ask(number)
            number += 1
            time.sleep(1 / RATE)
        clients.finish()
        return ledger.judge(made, book, sampler, {}), restarts, made


@pytest.mark.timeout(600)
def test_a_rolling_restart_of_everything_under_load_is_noticed_by_nobody(tmp_path: Path) -> None:
    found, restarts, made = roll(tmp_path, 0, 1, random.randrange(1 << 30))

    assert found.good, (str(found), found.details, made.fell)
    assert found.seen["repeated attempts"] == 0
    assert restarts.wrong == []
    assert restarts.done >= len(made.parts)
    assert max(restarts.slowest.values()) < 30
    assert made.fell == []


def main() -> None:
    """The figures, at any length."""
    seconds, period = float(sys.argv[1]), float(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 30)
    directory = Path(tempfile.mkdtemp(prefix="optio-rolling-"))
    found, restarts, made = roll(directory, seconds, period, seed)
    print(f"seed {seed}, {seconds:.0f} s, {restarts.done} restarts: {found}")
    print("  slowest stop:", ", ".join(f"{name} {took:.1f} s" for name, took in restarts.slowest.items()))
    print(*restarts.wrong, *made.fell, *found.details, sep="\n")
    if found.good:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print(f"see {directory}")
    sys.exit(not found.good)


if __name__ == "__main__":
    main()
