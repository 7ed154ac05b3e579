"""A worker dies for good: who goes on with its runs, and when. Its agents never notice, and never live twice.

`python -m tests.stories.test_takeover LEASE KILLS` prints how long it takes from the SIGKILL to the new owner's fence, with the
other worker on a machine of another name, so that nothing but the lease tells that the first one is gone.
"""

import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from optio.errors import StoreUnavailable
from optio.model.retry import GiveUp
from optio.model.run import LogKind, Outcome, Run
from optio.model.usage import Meter
from optio.store.base import Store
from optio.store.values import Claim
from tests.stories.cluster import Cluster, Place, Process
from tests.stories.ledger import Sampler, post, trigger
from tests.support import COMMAND_TASK, eventually

SAME_PLACE = (Place("a", "one"), Place("a", "two"))
APART = (Place("a", "one"), Place("b", "two"))
# After a lease of three seconds and two to the next look, and long before an agent is an orphan.
SOON_S = 15.0
# What is told to stop ends itself after less than ten seconds.
ENDS_S = 15.0


@dataclass(frozen=True)
class Stage:
    """A cluster with one server, a look behind the API, and agents that are counted."""

    cluster: Cluster
    store: Store
    sampler: Sampler

    def begin(self) -> str:
        """A new run's id."""
        request = trigger(self.cluster, f"{random.randrange(1 << 60)}", "endless", hook=False)
        status, answer, _ = post(self.cluster.ports[0], request)
        assert status == 202, (status, answer)
        run_id: str = answer["runId"]
        return run_id

    def run(self, run_id: str) -> Run:
        return self.store.run(run_id)

    def owner(self, run_id: str) -> Process:
        """The worker that has it."""
        pid = int((self.run(run_id).owner or "::").split(":")[1])
        return next(each for each in self.cluster.workers if each.process is not None and each.process.pid == pid)

    def lines(self, run_id: str) -> list[str]:
        return [line.text for line in self.store.log(run_id, limit=10_000) if line.kind is LogKind.OUTPUT]


@contextlib.contextmanager
def stage(directory: Path, workers: tuple[Place, ...], schedulers: int = 0, **environ: str) -> Iterator[Stage]:
    """See `Stage`. The second worker is started later. An agent says a line each 50 ms"""
    made = Cluster(directory, servers=1, schedulers=schedulers, workers=workers, environ=environ, later=("worker-1",))
    token = f"takeover-{random.randrange(1 << 60)}"
    (directory / "token").write_text(token)
    says = "import itertools, time\\nfor n in itertools.count(1): print(f'line {n}\\\\n', end='', flush=True); time.sleep(0.05)"
    source = f'["python3", "-c", "{says}"]'
    limits = f"maxConcurrent: 8\nmaxRetries: 0\nenvironment: {{env: {{LEDGER: {token}}}}}\n"
    made.write("endless.yaml", COMMAND_TASK.format(name="endless", command=source) + limits)
    sampler = None
    try:
        with made:
            store = made.store()
            sampler = Sampler(directory, {"": 5})
            try:
                yield Stage(made, store, sampler)
            finally:
                sampler.close()
                store.close()
    finally:
        if sampler is not None:
            end_agents(sampler)


def end_agents(sampler: Sampler) -> None:
    """Nobody is left to begin another one; one that was being begun shows itself in a moment."""
    limit = time.monotonic() + 0.5
    while time.monotonic() < limit:
        for pid in sampler.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def speaking(on: Stage, runs: list[str]) -> None:
    """Wait until each has said something."""
    for run_id in runs:
        eventually(lambda: on.lines(run_id), within=30, what="an agent's first line")  # noqa: B023


def go_on(on: Stage, runs: list[str]) -> None:
    """Wait for more lines of each; none is missing, none stands twice."""
    before = {run_id: len(on.lines(run_id)) for run_id in runs}
    for run_id in runs:
        lines = eventually(lambda: (said := on.lines(run_id))[before[run_id] + 5 :] and said, what="more lines")  # noqa: B023
        assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]


def supervisors(on: Stage) -> set[int]:
    """What stands above the agents."""
    agents, found = on.sampler.processes(), set()
    for pid in agents:
        with contextlib.suppress(OSError):
            found.add(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]))
    return {pid for pid in found - set(agents) if b"supervisor.py" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def takeover(on: Stage, runs: list[str]) -> list[float]:
    """Kill the one worker that has all these; seconds until each has a new owner. It is started again afterwards."""
    (owner,) = {id(each): each for each in map(on.owner, runs)}.values()
    fences = {run_id: on.run(run_id).fence for run_id in runs}
    with owner.lock:
        owner.kill()
    began = time.monotonic()
    took: dict[str, float] = {}
    while len(took) < len(runs) and time.monotonic() - began < 60:
        for run_id in runs:
            if run_id not in took and on.run(run_id).fence > fences[run_id]:
                took[run_id] = time.monotonic() - began
        time.sleep(0.01)
    with owner.lock:
        owner.start()
    assert len(took) == len(runs), f"{len(runs) - len(took)} runs have no new owner after a minute"
    return list(took.values())


@pytest.mark.timeout(300)
def test_another_machine_name_takes_over_with_the_lease_and_the_same_agents_go_on(tmp_path: Path) -> None:
    with stage(tmp_path, SAME_PLACE, OPTIO_LEASE="3s") as on:
        runs = [on.begin() for _ in range(5)]
        speaking(on, runs)
        on.cluster.workers[1].start()
        on.cluster.workers[1].until_begun()

        took = takeover(on, runs)

        go_on(on, runs)
        assert max(took) <= SOON_S
        assert [on.run(run_id).attempt for run_id in runs] == [1] * 5

        # With its agents: their slots come back as soon.
        owner = on.owner(runs[0])
        with owner.lock:
            owner.kill()
        for pid in supervisors(on):
            os.kill(pid, signal.SIGKILL)
        eventually(
            lambda: {on.run(run_id).attempt for run_id in runs} == {2}, within=4 * SOON_S, what="every slot being used again"
        )
        assert on.sampler.excess == []


@pytest.mark.timeout(300)
def test_a_run_is_repeated_on_another_machine_only_when_its_agent_is_dead(tmp_path: Path) -> None:
    with stage(tmp_path, APART, OPTIO_LEASE="1s", OPTIO_ORPHAN_TIMEOUT="9s") as on:
        run_id = on.begin()
        speaking(on, [run_id])
        on.cluster.workers[1].start()
        on.cluster.workers[1].until_begun()
        # The database is away for longer than the lease, and comes back in time.
        assert on.cluster.postgres is not None
        on.cluster.postgres.freeze()
        time.sleep(3.0)
        on.cluster.postgres.thaw()
        before = len(on.lines(run_id))
        eventually(lambda: len(on.lines(run_id)) > before + 20, what="the agent's lines")
        attempts = [on.run(run_id).attempt]

        with on.cluster.workers[0].lock:
            on.cluster.workers[0].kill()
        eventually(lambda: on.run(run_id).attempt == 2, within=40, what="the run being repeated elsewhere")
        eventually(lambda: on.sampler.living(), within=20, what="the second agent")
        attempts.append(on.run(run_id).attempt)

        assert attempts == [1, 2]
        assert on.owner(run_id) is on.cluster.workers[1]
        assert {attempt for _, attempt, _ in on.sampler.living()} == {"2"}
        assert on.sampler.excess == []


def adopted(store: Store) -> list[Claim]:
    """What an impatient worker gets; one frozen inside a transaction keeps its locks until the database ends it."""
    try:
        return store.adopt("impatient:1:1", timedelta(hours=1), 5, place="c/boot/1", orphaned=timedelta(0))
    except StoreUnavailable:
        return []


@pytest.mark.timeout(300)
def test_a_worker_that_finds_its_run_repeated_elsewhere_ends_what_it_has_left_of_it(tmp_path: Path) -> None:
    with stage(tmp_path, APART, OPTIO_LEASE="1s", OPTIO_ORPHAN_TIMEOUT="1h") as on:
        run_id = on.begin()
        speaking(on, [run_id])
        first = on.cluster.workers[0]
        first.freeze()
        time.sleep(1.2)
        # As a worker whose settings give it up too soon would do, or one after a jump of the database's clock.
        impatient = on.cluster.store()
        (claim,) = eventually(lambda: adopted(impatient), what="the run being given up")
        lost = Outcome(ok=False, reason="lost")
        impatient.finish(claim.run.lease, lost, Meter(), None, None, lambda *_: GiveUp("its machine is gone"))
        impatient.close()
        first.thaw()

        eventually(lambda: not on.sampler.living(), within=30, what="the end of the agent")

        assert (on.run(run_id).reason, on.run(run_id).attempt) == ("lost", 1)


@pytest.mark.timeout(300)
def test_a_worker_that_is_told_to_stop_hands_its_five_runs_over_at_once_also_without_redis(tmp_path: Path) -> None:
    with stage(tmp_path, SAME_PLACE, OPTIO_LEASE="60s") as on:
        first, second = on.cluster.workers
        runs = [on.begin() for _ in range(5)]
        speaking(on, runs)
        second.start()
        second.until_begun()
        assert on.cluster.redis is not None
        on.cluster.redis.freeze()

        began = time.monotonic()
        code = first.ended()
        took = time.monotonic() - began
        eventually(lambda: {on.run(run_id).fence for run_id in runs} == {2}, within=25, what="other owners")
        go_on(on, runs)  # no lease has run out by now

        assert (code, took < ENDS_S) == (0, True)
        assert [on.run(run_id).attempt for run_id in runs] == [1] * 5
        assert on.sampler.excess == []


@pytest.mark.timeout(300)
def test_parts_that_are_told_to_stop_while_the_database_is_frozen_end_in_time_and_harm_nothing(tmp_path: Path) -> None:
    with stage(tmp_path, SAME_PLACE, schedulers=2, OPTIO_LEASE="3s") as on:
        first, second = on.cluster.workers
        assert on.cluster.postgres is not None
        runs = [on.begin() for _ in range(5)]
        speaking(on, runs)
        second.start()
        second.until_begun()
        for scheduler in on.cluster.schedulers:
            scheduler.until_begun()
        on.cluster.postgres.freeze()
        time.sleep(0.5)
        patient, hurried = [first, on.cluster.schedulers[1]], [second, on.cluster.schedulers[0]]

        began = time.monotonic()
        for part in (*patient, *hurried):
            part.wanted = False
            part.signal(signal.SIGTERM)
        for part in hurried:  # the second time is an order
            part.until_stopping()
            part.signal(signal.SIGTERM)
        at_once = [part.wait(within=20) for part in hurried]
        waits = first.process is not None and first.process.poll() is None
        in_time = [part.wait(within=20) for part in patient]
        took = time.monotonic() - began
        on.cluster.postgres.thaw()
        second.start()
        eventually(lambda: {on.run(run_id).fence for run_id in runs} == {2}, what="other owners")
        go_on(on, runs)

        assert (at_once, waits, in_time, took < ENDS_S) == ([0, 0], True, [0, 0], True)
        assert [on.run(run_id).attempt for run_id in runs] == [1] * 5
        assert on.sampler.excess == []


def main() -> None:
    """Figures of many takeovers."""
    lease, kills = sys.argv[1], int(sys.argv[2])
    directory = Path(tempfile.mkdtemp(prefix="optio-takeover-"))
    took: list[float] = []
    dice = random.Random(1)
    with stage(directory, SAME_PLACE, OPTIO_LEASE=lease) as on:
        runs = [on.begin() for _ in range(5)]
        speaking(on, runs)
        on.cluster.workers[1].start()
        on.cluster.workers[1].until_begun()
        for _ in range(kills):
            time.sleep(5 + dice.uniform(0, 4))
            took += takeover(on, runs)
        living = on.sampler.living()
        go_on(on, runs)
        attempts = {on.run(run_id).attempt for run_id in runs}
        assert (len(living), attempts, on.sampler.excess) == (5, {1}, [])
    took.sort()
    p99 = took[max(0, round(len(took) * 0.99) - 1)]
    median = took[len(took) // 2]
    print(f"lease {lease}, {kills} kills: {len(took)} takeovers, median {median:.2f} s, p99 {p99:.2f} s, max {took[-1]:.2f} s")
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
