"""The crash ledger: accepted is accepted, once, whatever is killed or frozen meanwhile on however many machines.

`python -m tests.stories.test_ledger TRIGGERS KILLS STOPS SEED [--sqlite]` prints figures at any size.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.stories import ledger
from tests.stories.cluster import Cluster, Part, Place
from tests.stories.ledger import Clients, Ledger, Sampler, Verdict

ON_SQLITE = (Place("data"), Place("data", "second"), Place("data", "third"))
# Longer than the lease.
FROZEN = (2.3, 4.5)


class Chaos(threading.Thread):
    """Kills and freezes parts at random. What it has killed it starts again a while later; others are harmed meanwhile."""

    def __init__(self, made: Cluster, kills: int, stops: int, dice: random.Random) -> None:
        super().__init__(daemon=True)
        self._cluster, self._dice = made, dice
        self._faults = ["kill"] * kills + ["stop"] * stops
        dice.shuffle(self._faults)
        self._victims = self._in_turn()
        self._later: list[threading.Thread] = []
        self.harm: Counter[str] = Counter()
        self.harmed: Counter[str] = Counter()
        self.done = 0

    @property
    def progress(self) -> float:
        return self.done / len(self._faults) if self._faults else 1.0

    def run(self) -> None:
        for fault in self._faults:
            time.sleep(self._dice.uniform(0.2, 1.4))
            if fault == "kill" and self._dice.randrange(10) == 0 and self._kill_a_supervisor():
                self.harm["kill supervisor"] += 1
            else:
                self._harm(fault)
            self.done += 1
        for thread in self._later:
            thread.join()

    def _harm(self, fault: str) -> None:
        part = next(self._victims)
        unready = self._dice.random() < 0.1  # most are harmed at work, some while they start
        while True:
            with part.lock:
                if part.wanted and not part.frozen and (unready or part.begun()):
                    break
            time.sleep(0.02)
        with part.lock:
            self.harm[f"{fault} {part.name.partition('-')[0]}"] += 1
            if fault == "kill":
                part.kill()
                self._after(self._dice.uniform(0.1, 2.5), part, part.start)
            else:
                part.freeze()
                self._after(self._dice.uniform(*FROZEN), part, part.thaw)

    def _in_turn(self) -> Iterator[Part]:
        """Every part as often as any other."""
        while True:
            yield from self._dice.sample(self._cluster.parts, len(self._cluster.parts))

    def _after(self, pause: float, part: Part, then: Callable[[], None]) -> None:
        def later() -> None:
            time.sleep(pause)
            with part.lock:
                then()

        thread = threading.Thread(target=later, daemon=True)
        self._later.append(thread)
        thread.start()

    def _kill_a_supervisor(self) -> bool:
        """Kill what stands above a running agent."""
        found = ledger.marks(self._cluster.directory)
        ended = {(mark.run, mark.attempt) for mark in found if mark.kind == "end"}
        running = [mark for mark in found if mark.kind == "start" and (mark.run, mark.attempt) not in ended]
        for mark in running[::-1]:
            try:
                above = int(Path(f"/proc/{mark.pid}/stat").read_text().rpartition(")")[2].split()[1])
                if b"supervisor.py" not in Path(f"/proc/{above}/cmdline").read_bytes():
                    continue
                self.harmed[mark.run] += 1
                os.kill(above, signal.SIGKILL)
            except OSError:
                continue
            return True
        return False


def crash(directory: Path, triggers: int, kills: int, stops: int, seed: int, *, sqlite: bool) -> tuple[Verdict, Chaos, Cluster]:
    """The whole story."""
    if sqlite:
        made = ledger.cluster(directory, sqlite=True, servers=1, schedulers=1, workers=ON_SQLITE)
    else:
        made = ledger.cluster(directory)
    with made:
        book = Ledger()
        sampler = Sampler(directory)
        chaos = Chaos(made, kills, stops, random.Random(seed))
        clients = Clients(made, book, seed)
        chaos.start()
        ledger.paced(triggers, clients.ask, lambda: chaos.progress)
        clients.finish()
        chaos.join()
        return ledger.judge(made, book, sampler, chaos.harmed), chaos, made


def story(directory: Path, triggers: int, kills: int, stops: int, *, sqlite: bool) -> None:
    seed = int(os.environ.get("LEDGER_SEED", random.randrange(1 << 30)))
    print(f"LEDGER_SEED={seed}, {triggers} triggers, {kills} kills, {stops} stops")

    found, chaos, made = crash(directory, triggers, kills, stops, seed, sqlite=sqlite)

    assert found.good, (str(found), found.details, made.fell)
    assert found.seen["accepted"] == triggers
    assert sum(chaos.harm.values()) == kills + stops
    unexpected = [line for line in made.fell if "ended with 2" not in line]  # no store, no start
    assert unexpected == []


@pytest.mark.timeout(400)
def test_on_many_machines_what_is_accepted_runs_once_through_kills_and_freezes_of_everything(tmp_path: Path) -> None:
    story(tmp_path, 250, 16, 8, sqlite=False)


@pytest.mark.timeout(400)
def test_on_one_sqlite_what_is_accepted_runs_once_through_kills_and_freezes_of_everything(tmp_path: Path) -> None:
    story(tmp_path, 120, 8, 4, sqlite=True)


def main() -> None:
    """The figures, at any size."""
    sqlite = "--sqlite" in sys.argv
    numbers = [int(text) for text in sys.argv[1:] if not text.startswith("-")]
    triggers, kills, stops = numbers[:3]
    seed = numbers[3] if len(numbers) > 3 else random.randrange(1 << 30)
    directory = Path(tempfile.mkdtemp(prefix="optio-ledger-"))
    began = time.monotonic()
    found, chaos, made = crash(directory, triggers, kills, stops, seed, sqlite=sqlite)
    kind = "SQLite" if sqlite else "PostgreSQL"
    print(f"{kind}, seed {seed}, {time.monotonic() - began:.0f} s, {kills} kills, {stops} stops: {found}")
    print("  harm:", ", ".join(f"{count} {what}" for what, count in sorted(chaos.harm.items())))
    print("  ended by themselves:", len(made.fell), *sorted(set(made.fell))[:20], sep="\n    ")
    print(*found.details, sep="\n")
    if found.good:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print(f"see {directory}")
    sys.exit(not found.good)


if __name__ == "__main__":
    main()
