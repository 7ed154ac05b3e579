"""Schedulers in any number: each slot once, whichever of them is killed, frozen or late, through edits, pauses and downtime."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from optio.model.registry import CompiledTask, Registry
from optio.runs.audit import AuditReport, audit
from optio.store.base import Store
from optio.store.values import RetentionPolicy, RunFilter
from tests.runs.test_schedule import timed
from tests.servers import PostgresServer
from tests.stories.quick import BEGIN, FACTOR, Process, open_quick
from tests.support import eventually

MINUTE = timedelta(minutes=1)
NEVER = RetentionPolicy()
ALWAYS = datetime.fromtimestamp(BEGIN - 3600, UTC)


class Cluster:
    """Scheduler processes on one database, by the quick clock; `later` than it is."""

    def __init__(self, url: str, directory: Path, later: timedelta = timedelta()) -> None:
        self._url, self._directory = url, directory
        self._start = time.time() - later.total_seconds() / FACTOR
        self.store: Store = open_quick(url, self._start)
        self.running: list[Process] = []

    def after(self, later: timedelta) -> "Cluster":
        """The same database when so much time has passed."""
        return Cluster(self._url, self._directory, later)

    def scheduler(self) -> Process:
        """One more."""
        log = self._directory / f"{len(self.running)}.log"
        self.running.append(Process(self._url, self._start, log))
        return self.running[-1]

    def serve(self, *tasks: CompiledTask) -> None:
        self.store.activate(Registry.of({task.id: task for task in tasks}), None)

    def slots(self, task_id: str) -> Counter[datetime | None]:
        """How often each slot has started a run."""
        found: Counter[datetime | None] = Counter()
        cursor: str | None = None
        while True:
            page = self.store.runs(RunFilter(task_id=task_id), cursor=cursor, limit=1000)
            found.update(run.slot for run in page.items)
            cursor = page.next
            if cursor is None:
                return found

    def pass_(self, minutes: float) -> None:
        """Let so many of the quick clock's minutes go by."""
        until = self.store.now() + minutes * MINUTE
        eventually(lambda: self.store.now() >= until, within=60, what=f"{minutes} minutes")

    def settled(self) -> AuditReport:
        """The audit, once no slot waits any more."""

        def look() -> AuditReport | None:
            report = audit(self.store, since=ALWAYS, keep=NEVER)
            return report if report.pending_since is None else None

        return eventually(look, within=30, what="every slot having its verdict")  # type: ignore[return-value]

    def end(self) -> None:
        for process in self.running:
            process.stop()
        self.store.close()


@pytest.fixture
def cluster(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(postgres_server.schema(), tmp_path)
    yield made
    made.end()


def every(name: str = "timed", expression: str = "* * * * *", **more: object) -> CompiledTask:
    """A task of which every slot shall fire."""
    task = timed(expression, misfire="all", maxCatchUp=1000, **more)  # type: ignore[arg-type]
    return CompiledTask(id=name, spec=task.spec, prompt=task.prompt, origin=task.origin)


def named(policy: str) -> CompiledTask:
    """A task of every other hour with this policy for those that were missed."""
    task = timed("0 */2 * * *", misfire=policy)
    return CompiledTask(id=policy, spec=task.spec, prompt=task.prompt, origin=task.origin)


def without_a_gap(slots: Counter[datetime | None]) -> bool:
    """Whether every minute from the first to the last is there, once."""
    found = sorted(slot for slot in slots if slot is not None)
    return set(slots.values()) == {1} and len(found) == (found[-1] - found[0]) / MINUTE + 1


def test_one_frozen_and_woken_the_others_killed_each_slot_once_and_in_time(cluster: Cluster) -> None:
    frozen, killed, last = (cluster.scheduler() for _ in range(3))
    cluster.serve(every())
    eventually(lambda: cluster.slots("timed"), within=30, what="the first slot")

    frozen.signal(signal.SIGSTOP)
    cluster.pass_(1.5)
    killed.kill()
    cluster.pass_(1)
    frozen.signal(signal.SIGCONT)
    cluster.pass_(1)
    last.kill()
    slot = cluster.store.now().replace(second=0, microsecond=0) + MINUTE
    began = time.monotonic()
    eventually(lambda: slot in cluster.slots("timed"), within=10, what="the slot after two deaths")
    took = time.monotonic() - began
    report = cluster.settled()

    assert without_a_gap(cluster.slots("timed"))
    assert (report.unexplained, set(report.tasks["timed"].slots)) == (0, {"fired"})
    # One second until the slot, by the quick clock, and then a moment.
    assert took < 8


def test_hours_without_any_scheduler_are_caught_up_by_policy_and_counted(cluster: Cluster) -> None:
    tasks = [every("all", "0 */2 * * *"), *(named(policy) for policy in ("skip", "last"))]
    cluster.serve(*tasks)
    first = cluster.scheduler()
    eventually(lambda: len(cluster.store.schedules()) == 3, within=30, what="the schedules being taken up")
    first.kill()

    later = cluster.after(timedelta(hours=12, minutes=5))
    later.scheduler()
    try:
        report = later.settled()
    finally:
        later.end()

    assert report.findings == []
    assert {task.id: (report.tasks[task.id].slots["fired"], report.tasks[task.id].slots["missed"]) for task in tasks} == {
        "all": (6, 0), "skip": (0, 6), "last": (1, 5),
    }  # fmt: skip


def test_a_day_of_edits_renames_pauses_and_deaths_is_explained(cluster: Cluster) -> None:
    chance = random.Random(8)
    variants: list[Callable[[], CompiledTask]] = [
        lambda: every("a"),
        lambda: every("a", "*/2 * * * *"),
        lambda: every("b"),
        lambda: every("b", enabled=False),
        lambda: every("c", overlap="skip"),
        lambda: every("c", "*/3 * * * *", zone="Europe/Berlin"),
    ]
    processes = [cluster.scheduler() for _ in range(2)]
    cluster.serve(every("a"), every("b"))
    eventually(lambda: cluster.slots("a") and cluster.slots("b"), within=30, what="the first slots")
    for turn in range(8):
        served = {task.id: task for task in (make() for make in chance.sample(variants, 3))}
        cluster.serve(*served.values())
        if turn % 4 == 1:
            cluster.store.pause("a", "for a while", "test")
        if turn % 4 == 3:
            cluster.store.resume("a")
        if turn % 3 == 2:
            victim = processes.pop(0)
            victim.kill()
            processes.append(cluster.scheduler())
        elif turn % 3 == 0:
            processes[0].signal(signal.SIGSTOP)
        cluster.pass_(chance.uniform(0.3, 1.7))
        processes[0].signal(signal.SIGCONT)

    report = cluster.settled()

    assert report.findings == []
    assert report.unexplained == 0
    judged = sum((tally.slots for tally in report.tasks.values()), Counter[str]())
    assert judged["fired"] > 5
