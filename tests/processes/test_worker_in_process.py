"""A worker in the process of the test: hints that are lost, stores that are away, clocks that jump, leases of others."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from optio.broker.base import Listener, Topic
from optio.errors import StoreUnavailable
from optio.model.run import LogKind, RunState
from optio.processes.worker import Worker, _ClockSteadiness
from optio.store.sqlite import sqlite_store
from optio.wiring import Services
from tests.runs.support import accept, claim, done, execution, log_of, opened, working
from tests.support import ROOT, command_task, eventually


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Services]:
    """What the worker and the test share."""
    with opened(tmp_path) as services:
        yield services


class Deaf:
    """A broker that loses every hint."""

    def tell(self, topic: Topic, *keys: str) -> None: ...

    def subscribe(self, listener: Listener, topics: Collection[Topic]) -> Callable[[], None]:
        return lambda: None

    def ready(self, room: bool) -> None: ...

    def problem(self) -> str | None: ...

    def close(self) -> None: ...


def test_when_every_hint_is_lost_runs_still_start_with_the_sweep(here: Services) -> None:
    deaf = replace(here, broker=Deaf())
    with working(deaf):
        time.sleep(0.2)
        runs = [accept(deaf, command_task("true", name=name)) for name in ("A", "B", "C")]

        assert {done(deaf, run_id).state for run_id in runs} == {RunState.COMPLETED}


def test_a_forged_hint_cancels_nothing(here: Services) -> None:
    with working(here):
        run_id = accept(here, command_task("echo ready; sleep 0.5; echo done"))
        eventually(lambda: log_of(here, run_id, LogKind.OUTPUT))

        for topic in Topic:
            here.broker.tell(topic, run_id)

        assert done(here, run_id).state is RunState.COMPLETED


class Counting:
    """A store that counts the claims, and is away for the first few of them."""

    def __init__(self, store: Any, away: int = 0) -> None:
        self._store, self._away = store, away
        self.claims = 0

    def claim(self, *arguments: Any, **more: Any) -> Any:
        self.claims += 1
        if self.claims <= self._away:
            raise StoreUnavailable("away")
        return self._store.claim(*arguments, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_the_worker_survives_a_store_that_is_away(here: Services) -> None:
    services = replace(here, store=Counting(here.store, away=2))
    with working(services):
        run_id = accept(here, command_task("true"))

        assert done(here, run_id).state is RunState.COMPLETED


def test_a_mistake_in_one_renewal_costs_no_lease(tmp_path: Path) -> None:
    class Mistaken(Counting):
        tried = renewed = 0

        def renew(self, *arguments: Any) -> Any:
            self.tried += 1
            if self.tried == 1:
                raise RuntimeError("a mistake of ours")
            owned = self._store.renew(*arguments)
            self.renewed += len(owned)
            return owned

    go = tmp_path / "go"
    with opened(tmp_path, {"OPTIO_LEASE": "6s"}) as here:
        store = Mistaken(here.store)
        with working(replace(here, store=store)):
            run_id = accept(here, command_task(f"while [ ! -e {go} ]; do sleep 0.05; done"))
            eventually(lambda: store.renewed, what="the next renewal")
            go.touch()
            run = done(here, run_id)

    assert (run.state, run.fence) == (RunState.COMPLETED, 1)


def test_the_supervisor_of_an_agent_is_told_of_each_renewal(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with opened(tmp_path, {"OPTIO_LEASE": "6s"}) as here, working(here):
        run_id = accept(here, command_task(f"echo begun; while [ ! -e {go} ]; do sleep 0.05; done"))
        eventually(lambda: log_of(here, run_id, LogKind.OUTPUT), what="the agent")
        marker = next(tmp_path.rglob("control")) / "started"

        # Its time is that of the last renewal that the supervisor knows; when it is too old, the supervisor ends the agent.
        renewals = [marker.lstat().st_mtime_ns]
        for _ in range(2):
            eventually(lambda: marker.lstat().st_mtime_ns > renewals[-1], what="a renewal")
            renewals.append(marker.lstat().st_mtime_ns)
        go.touch()

        assert done(here, run_id).state is RunState.COMPLETED
    assert renewals[2] <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_a_worker_that_is_stopped_in_the_moment_before_a_look_claims_nothing_more(here: Services) -> None:
    counting = Counting(here.store)
    worker = Worker(replace(here, store=counting))

    class Late(threading.Event):
        def clear(self) -> None:
            worker._stopping.set()
            self.set()
            super().clear()

    worker._wake = Late()
    worker.start()
    worker._threads[0].join(20)
    worker.stop()

    assert counting.claims == 0


def test_a_part_ends_also_by_a_signal_that_does_not_wake_the_thread_that_waits() -> None:
    source = """
import os, signal, threading, time
from optio.cli.shared.starting import Signals
threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
signals = Signals()
signals.started()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
signals.wait()
os.write(1, b"ended")
os._exit(0)
"""
    ended = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, timeout=20, check=False)

    assert (ended.stdout, ended.returncode) == (b"ended", 0)


def test_a_part_that_hangs_at_its_end_is_ended_in_time(tmp_path: Path) -> None:
    source = """
import sys, time
from optio.cli.shared import process_life
from optio.cli.shared.run_until_signal import run_until_signal
from optio.settings import Settings
class Stuck:
    def start(self): pass
    def stop(self): time.sleep(60)
process_life.SHUTDOWN_TIMEOUT_S = 0.5
sys.exit(run_until_signal(Settings.load(), "stuck", lambda services: Stuck()))
"""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OPTIO_")} | {"OPTIO_DATA_DIR": str(tmp_path / "data")}
    part = subprocess.Popen([sys.executable, "-c", source], cwd=ROOT, env=environ, stderr=subprocess.PIPE)
    assert part.stderr is not None
    assert b" stuck on " in part.stderr.readline()

    part.send_signal(signal.SIGTERM)

    assert part.wait(20) == 0
    part.stderr.close()


def test_a_run_that_is_cancelled_after_its_worker_died_before_it_began_never_begins(here: Services, tmp_path: Path) -> None:
    run_id = accept(here, command_task(f"touch {tmp_path / 'ran'}"))
    claim(here, run_id, owner="another-machine:1:1", lease=0)
    here.store.cancel(run_id, "me")

    with working(here):
        run = done(here, run_id)

    assert (run.state, run.attempt) == (RunState.CANCELLED, 1)
    assert not (tmp_path / "ran").exists()


def test_a_run_that_was_adopted_when_the_store_went_away_is_worked_on(tmp_path: Path) -> None:
    with opened(tmp_path, {"OPTIO_LEASE": "1h", "OPTIO_ORPHAN_TIMEOUT": "2h"}) as here:
        run_id = accept(here, command_task("true"))
        claim(here, run_id, owner="another-machine:1:1", lease=0)
        with working(replace(here, store=Counting(here.store, away=2))):
            assert done(here, run_id).infrastructure_retries == 1


def test_a_run_that_a_worker_owns_and_has_forgotten_is_given_back(tmp_path: Path) -> None:
    with opened(tmp_path, {"OPTIO_LEASE": "1s"}) as here:
        forgotten = accept(here, command_task("true", name="Forgotten"))
        worker = Worker(here)
        claim(here, forgotten, owner=worker.name, lease=1)
        keeps_renewing = accept(here, command_task("sleep 60"))
        worker.start()
        try:
            run = done(here, forgotten)
            here.store.cancel(keeps_renewing, "test")
            here.broker.tell(Topic.CANCEL, keeps_renewing)
            done(here, keeps_renewing)
        finally:
            worker.stop()

        assert (run.state, run.infrastructure_retries) == (RunState.COMPLETED, 1)


def test_what_attempts_left_is_looked_through_by_one_worker_of_a_place_at_a_time(
    here: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio.processes.worker._TIDY_PERIOD_S", 0.2)
    looks: list[str] = []
    monkeypatch.setattr(Worker, "tidy", lambda worker: looks.append(worker.name))
    chore = f"tidy {here.executor.place()}"
    assert here.store.acquire_job_lease(chore, "another", timedelta(0), timedelta(minutes=5))

    with working(here), working(here):
        eventually(lambda: len(looks) == 2, what="a look of each, when it starts")
        time.sleep(2)
        meanwhile = len(looks)
        here.store.release_job_lease(chore, "another")
        eventually(lambda: len(looks) > 4, what="looks of those whose turn it is")

    assert meanwhile == 2


def test_attempts_that_run_are_not_asked_for_one_by_one_when_what_is_left_is_looked_through(
    here: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = here.store.run
    run_ids = [accept(here, command_task("sleep 60", name=f"Sleeper {n}")) for n in range(3)]
    with working(here) as worker:
        eventually(lambda: len(here.executor.attempts()) == 3, what="three agents")
        eventually(lambda: len(here.store.running_attempts()) == 3)
        monkeypatch.setattr(here.store, "run", lambda run_id: asked.append(run_id) or real(run_id))
        worker.tidy()
        during = list(asked)
        monkeypatch.setattr(here.store, "running_attempts", dict)
        worker.tidy()
        for run_id in run_ids:
            here.store.cancel(run_id, "test")
            here.broker.tell(Topic.CANCEL, run_id)
            done(here, run_id)

    assert during == []
    assert sorted({*run_ids} & {*asked}) == sorted(run_ids)


@pytest.mark.parametrize("ahead", [-3600, 0, 3600])
def test_the_worker_sleeps_while_there_is_nothing_to_do(
    tmp_path: Path, here: Services, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """Delayed runs, held back runs and leases of others are there, and none of them makes it spin, nor does a store whose clock
    is another."""
    task = command_task("sleep 60", extra="maxConcurrent: 1\n")
    with contextlib.closing(sqlite_store.open_store(tmp_path / "other.db", clock=lambda: time.time() + ahead)) as store:
        counting = Counting(store)
        here = replace(here, store=counting)
        other = accept(here, task)
        claim(here, other, owner="another:1:1", lease=60)
        accept(here, task)
        failing = accept(here, command_task("exit 1", name="F"))
        monkeypatch.setattr("optio.model.retry.FIRST_DELAY", timedelta(minutes=1))
        execution(here, failing)()
        with working(here):
            time.sleep(0.5)
            before = counting.claims
            time.sleep(2.0)
            spun = counting.claims - before

        assert store.run(failing).state is RunState.QUEUED
        assert spun <= 8


def test_a_delayed_run_starts_when_it_is_due_and_not_before(here: Services) -> None:
    report = '{"type": "result", "status": "error", "reason": "rate_limit", "retryAfterS": 1.5}'
    with working(here), pytest.MonkeyPatch.context() as patch:
        patch.setattr("optio.model.retry.FIRST_DELAY", timedelta(seconds=0.1))
        run_id = accept(here, command_task(f"echo '{report}' > $OPTIO_RESULT_FILE; exit 75"))
        eventually(lambda: here.store.run(run_id).attempt == 1 and here.store.run(run_id).state is RunState.QUEUED)
        due = here.store.run(run_id).not_before
        run = done(here, run_id, within=40)

    first, second = here.store.attempts(run_id)
    assert first.ended_at is not None
    assert due - first.ended_at >= timedelta(seconds=1.5)
    assert second.started_at >= due
    assert (run.state, run.reason) == (RunState.FAILED, "rate_limit")


def test_leases_of_a_worker_of_this_machine_that_is_gone_are_taken_over_at_once(here: Services) -> None:
    run_id = accept(here, command_task("true"))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    name = Worker(here).name.split(":")[0]
    claim(here, run_id, owner=f"{name}:{gone.pid}:123", lease=3600)

    other = accept(here, command_task("true", name="Other"))
    claim(here, other, owner=f"another-machine:{gone.pid}:123", lease=3600)

    with working(here):
        run = done(here, run_id)

    assert (run.state, run.infrastructure_retries, run.attempt) == (RunState.COMPLETED, 1, 2)
    assert here.store.run(other).owner == f"another-machine:{gone.pid}:123"


def test_an_orphan_of_another_machine_is_left_alone_until_the_stores_clock_has_been_steady_for_a_lease(tmp_path: Path) -> None:
    with opened(tmp_path, {"OPTIO_LEASE": "2s"}) as here:
        run_id = accept(here, command_task("true"))
        # As after a jump of the clock: nothing tells this one from the run of a worker that renews it in a moment.
        here.store.claim("elsewhere:1:1", timedelta(days=-1), lambda view: [run_id], place="elsewhere/boot/1")
        began = time.monotonic()
        with working(here):
            eventually(lambda: here.store.run(run_id).owner != "elsewhere:1:1", what="the orphan being taken over")
            steady = time.monotonic() - began
            run = done(here, run_id)

    assert steady > 1.9
    assert (run.state, run.infrastructure_retries) == (RunState.COMPLETED, 1)


def test_a_clock_that_jumps_is_not_steady_until_it_has_gone_on_for_a_while() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    looks = [(0, 0), (5, 5), (11, 11), (7213, 13), (7220, 20), (7224, 24), (24, 26), (30, 32), (37, 39)]
    steady = _ClockSteadiness(timedelta(seconds=10))

    found = [steady.look(start + timedelta(seconds=now), clock) for now, clock in looks]

    assert found == [False, False, True, False, False, True, False, False, True]
