"""The crash ledger: accepted is accepted, once, whatever is killed or frozen and whatever clock is set meanwhile.

`python -m tests.stories.storm` does the same at any size.
"""

import os
import random
import signal
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
# A step of NTP, a lease and more, and some slots of a schedule.
JUMPS_S = (0.5, 5.0, 100.0)


class Chaos(threading.Thread):
    """Kills and freezes parts and sets clocks at random. What it has killed it starts again a while later; others are harmed
    meanwhile."""

    def __init__(self, made: Cluster, kills: int, stops: int, jumps: int, dice: random.Random) -> None:
        super().__init__(daemon=True)
        self._cluster, self._dice = made, dice
        self._faults = ["kill"] * kills + ["stop"] * stops + ["jump"] * jumps
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
            if fault == "jump":
                self._jump()
            elif fault == "kill" and self._dice.randrange(10) == 0 and self._kill_a_supervisor():
                self.harm["kill supervisor"] += 1
            else:
                self._harm(fault)
            self.done += 1
        for thread in self._later:
            thread.join()

    def _jump(self) -> None:
        clock = self._dice.choice(self._cluster.clocks)
        seconds = self._dice.choice(JUMPS_S) * self._dice.uniform(0.5, 1.5) * self._dice.choice((-1, 1))
        clock.jump(seconds)
        self.harm["jump forward" if seconds > 0 else "jump back"] += 1

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


def crash(
    directory: Path,
    triggers: int,
    kills: int,
    stops: int,
    seed: int,
    *,
    sqlite: bool,
    jumps: int = 0,
    duplicates: int = 10,
    patience: float = 60.0,
) -> tuple[Verdict, Chaos, Cluster]:
    """The whole story. For `patience` seconds no run need end, and for twice as long a request may have no answer."""
    if sqlite:
        made = ledger.cluster(directory, sqlite=True, servers=1, schedulers=1, workers=ON_SQLITE, clocks=jumps > 0)
    else:
        made = ledger.cluster(directory, clocks=jumps > 0)
    with made:
        book = Ledger()
        sampler = Sampler(directory)
        chaos = Chaos(made, kills, stops, jumps, random.Random(seed))
        clients = Clients(made, book, seed, duplicates=duplicates, patience=2 * patience)
        chaos.start()
        ledger.paced(triggers, clients.ask, lambda: chaos.progress)
        clients.finish()
        chaos.join()
        return ledger.judge(made, book, sampler, chaos.harmed, patience=patience), chaos, made


def story(directory: Path, triggers: int, kills: int, stops: int, *, sqlite: bool, jumps: int = 0) -> None:
    seed = int(os.environ.get("LEDGER_SEED", random.randrange(1 << 30)))
    print(f"LEDGER_SEED={seed}, {triggers} triggers, {kills} kills, {stops} stops, {jumps} jumps")

    found, chaos, made = crash(directory, triggers, kills, stops, seed, sqlite=sqlite, jumps=jumps)

    assert found.good, (str(found), found.details, made.fell)
    assert found.seen["accepted"] == triggers
    assert sum(chaos.harm.values()) == kills + stops + jumps
    unexpected = [line for line in made.fell if "ended with 2" not in line]  # no store, no start
    assert unexpected == []


@pytest.mark.timeout(400)
def test_on_many_machines_what_is_accepted_runs_once_through_kills_and_freezes_of_everything(tmp_path: Path) -> None:
    story(tmp_path, 100, 10, 4, sqlite=False)


@pytest.mark.timeout(400)
def test_on_one_sqlite_what_is_accepted_runs_once_through_kills_and_freezes_of_everything(tmp_path: Path) -> None:
    story(tmp_path, 80, 8, 4, sqlite=True)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("sqlite", [True, False], ids=["sqlite", "postgres"])
def test_what_is_accepted_runs_once_through_clocks_that_are_set_forward_and_back(tmp_path: Path, sqlite: bool) -> None:
    story(tmp_path, 40, 0, 0, sqlite=sqlite, jumps=8)
