"""Workers as real processes: killed, stopped, frozen, several on one database. The run must not notice."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from optio.model.run import LogKind, RunState
from optio.runs.blame import MAX_READ_CRASHES
from optio.wiring import Services
from tests import forked
from tests.executors.support import living
from tests.runs.support import accept, done, log_of, opened
from tests.support import ROOT, command_task, eventually, freeze_at_rest, open_sandbox

LINES = 80
TALKS = f"""
import json, os, time
for n in range(1, {LINES} + 1):
    print("line", n, flush=True)
    with open(os.environ["OPTIO_RESULT_FILE"], "a") as file:
        print(json.dumps({{"type": "usage", "model": "m", "output": n, "costUsd": f"{{n / 100:.2f}}"}}), file=file)
        print(json.dumps({{"type": "turn"}}), file=file)
    time.sleep(0.02)
"""


def until_go(directory: Path) -> str:
    """What `TALKS` goes on with: after fifty lines it waits for the file `go`."""
    return f"    while n == 50 and not os.path.exists({str(directory / 'go')!r}): time.sleep(0.01)\n"


class Process:
    """A real `optio worker` on a data directory. The module `first` is imported before."""

    def __init__(self, directory: Path, *, first: str = "", **environ: str) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("OPTIO_")}
        own = {"OPTIO_DATA_DIR": str(directory / "data"), "OPTIO_DEBUG": "1", **open_sandbox(environ), **environ}
        with (directory / "worker.log").open("ab") as log:
            self.process = forked.Forked(["worker"], ROOT, {**clean, **own}, (log.fileno(),) * 3, first)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def peak_memory(self) -> int:
        """Bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts worker processes."""
    made: list[Process] = []

    def start(**more: Any) -> Process:
        made.append(Process(tmp_path, **more))
        return made[-1]

    yield start
    for each in made:
        with contextlib.suppress(ProcessLookupError):
            each.signal(signal.SIGCONT)
            each.kill()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Services]:
    """This process's view of the data that the workers share."""
    with opened(tmp_path) as services:
        yield services


def talking(services: Services, run_id: str, count: int = 20) -> None:
    """Wait until the log has some lines."""
    eventually(lambda: len(services.store.log(run_id)) >= count, within=40, what="some lines of the log")


def assert_whole(services: Services, run_id: str, *, attempts: int = 1) -> None:
    """Every line once, the meter right, no second attempt."""
    run = services.store.run(run_id)
    assert (run.state, run.attempt) == (RunState.COMPLETED, attempts)
    assert log_of(services, run_id, LogKind.OUTPUT) == [f"line {n}".encode() for n in range(1, LINES + 1)]
    meter = services.store.attempts(run_id)[-1].meter
    assert (meter.usage.output, meter.turns, meter.cost) == (LINES, LINES, Decimal(LINES) / 100)


def test_a_run_goes_on_when_its_worker_is_killed_and_its_log_has_every_line_once(
    here: Services, tmp_path: Path, worker: Callable[..., Process]
) -> None:
    run_id = accept(here, command_task(["python3", "-c", TALKS + until_go(tmp_path)]))

    def found_again() -> int:
        return sum(line.startswith(b"found again") for line in log_of(here, run_id, LogKind.SYSTEM))

    for turn, count in enumerate((10, 25, 40)):
        process = worker()
        talking(here, run_id, count)
        eventually(lambda turn=turn: found_again() == turn, within=40, what="the worker going on with it")  # type: ignore[misc]
        process.kill()
    (tmp_path / "go").touch()
    worker()

    done(here, run_id, within=50)

    assert_whole(here, run_id)
    assert found_again() == 3


def test_a_worker_that_is_told_to_stop_hands_over_without_harm(
    here: Services, tmp_path: Path, worker: Callable[..., Process]
) -> None:
    run_id = accept(here, command_task(["python3", "-c", TALKS + until_go(tmp_path)]))
    process = worker()
    talking(here, run_id)

    process.signal(signal.SIGTERM)
    code = process.process.wait(30)
    state = here.store.run(run_id).state
    (tmp_path / "go").touch()
    worker()
    done(here, run_id, within=50)

    assert (code, state) == (0, RunState.RUNNING)
    assert_whole(here, run_id)


def test_a_worker_that_was_frozen_for_longer_than_its_lease_does_no_harm(
    here: Services, tmp_path: Path, worker: Callable[..., Process]
) -> None:
    run_id = accept(here, command_task(["python3", "-c", TALKS + until_go(tmp_path)]))
    frozen = worker(OPTIO_LEASE="1s")
    talking(here, run_id)
    freeze_at_rest(frozen.process, here.settings.data_dir / "optio.db")
    fence = here.store.run(run_id).fence
    other = worker(OPTIO_LEASE="1s")
    eventually(lambda: here.store.run(run_id).fence > fence, within=40, what="another owner")
    (tmp_path / "go").touch()

    frozen.signal(signal.SIGCONT)
    done(here, run_id, within=50)

    assert_whole(here, run_id)
    assert [p.process.poll() for p in (frozen, other)] == [None, None]


def test_a_worker_that_was_frozen_alone_goes_on_with_its_own_run(
    here: Services, tmp_path: Path, worker: Callable[..., Process]
) -> None:
    run_id = accept(here, command_task(["python3", "-c", TALKS + until_go(tmp_path)]))
    frozen = worker(OPTIO_LEASE="1s")
    talking(here, run_id)

    frozen.signal(signal.SIGSTOP)
    time.sleep(1.3)
    frozen.signal(signal.SIGCONT)
    (tmp_path / "go").touch()
    done(here, run_id, within=50)

    assert_whole(here, run_id)


def test_the_time_limit_holds_while_no_worker_is_alive(here: Services, worker: Callable[..., Process]) -> None:
    token = f"60.{time.time_ns()}"
    run_id = accept(here, command_task(f"echo ready; sleep {token}", extra="timeout: 3s\nmaxRetries: 0\n"))
    process = worker()
    eventually(lambda: living(token), within=40)
    process.kill()

    eventually(lambda: not living(token), within=40)
    state = here.store.run(run_id).state
    worker()
    run = done(here, run_id, within=40)

    assert (state, run.state, run.reason) == (RunState.RUNNING, RunState.FAILED, "timeout")


@pytest.mark.timeout(240)
def test_a_line_of_a_gigabyte_and_a_flood_take_little_memory_and_keep_the_lease(
    here: Services, worker: Callable[..., Process]
) -> None:
    line = "import os; os.ftruncate(1, 1_000_000_000); os.write(1, b'\\nafter\\n')"
    flood = "import os\nfor n in range(700): os.write(1, (b'%0999d\\n' % n) * 100)"
    process = worker(OPTIO_LEASE="2s")
    runs = [accept(here, command_task(["python3", "-c", source], name=name)) for name, source in (("L", line), ("F", flood))]

    ended = [done(here, run_id, within=150) for run_id in runs]
    peak = process.peak_memory()

    assert [(run.state, run.attempt, run.fence) for run in ended] == [(RunState.COMPLETED, 1, 1)] * 2
    first, after = log_of(here, runs[0], LogKind.OUTPUT)
    assert (len(first) < 66_000, b"bytes cut]" in first[-40:], after) == (True, True, b"after")
    kept = log_of(here, runs[1], LogKind.OUTPUT)
    assert sum(len(each) for each in kept) < 50_000_000
    assert b" of output were not kept" in b"".join(log_of(here, runs[1], LogKind.SYSTEM))
    assert peak < 300 * 1024 * 1024
    assert list((here.settings.data_dir / "attempts").iterdir()) == []


def agents(token: str, run_ids: list[str]) -> list[str]:
    """The last argument of each `sleep` of these runs that lives, in their order."""
    return [run_id for n, run_id in enumerate(run_ids) if living(f"{token}{n}")]


def test_a_run_whose_worker_dies_each_time_ends_after_some_tries_and_others_go_on(
    here: Services, worker: Callable[..., Process]
) -> None:
    token = f"600.{time.time_ns()}"
    said = ("", "echo fine;", "echo poison;")
    runs = [
        accept(here, command_task(f"{text} sleep {token}{n}", name=f"Job {n}", extra="maxRetries: 0\n"))
        for n, text in enumerate(said)
    ]
    poisoned = runs[2]
    deaths = 0
    while not here.store.run(poisoned).state.terminal and deaths < 12:
        mortal = worker(first="tests.processes.mortal")
        eventually(lambda: mortal.process.poll() is not None or here.store.run(poisoned).state.terminal, within=40)  # noqa: B023
        mortal.kill()
        deaths += 1
    other = accept(here, command_task("echo fine", name="Other"))
    worker()

    run = here.store.run(poisoned)
    assert (run.state, run.reason) == (RunState.FAILED, "worker_crash")
    assert deaths <= 8
    assert done(here, other, within=40).state is RunState.COMPLETED
    assert agents(token, runs) == runs[:2]
    assert [here.store.run(run_id).state for run_id in runs[:2]] == [RunState.RUNNING] * 2
    for run_id in runs[:2]:
        here.store.cancel(run_id, "me")
        done(here, run_id, within=40)


@pytest.mark.timeout(240)
def test_runs_are_not_blamed_for_workers_that_are_killed_from_outside_soon_after_they_went_on_with_them(
    here: Services, worker: Callable[..., Process]
) -> None:
    token = f"600.{time.time_ns()}"
    runs = [
        accept(here, command_task(f"{text} sleep {token}{n}", name=f"Job {n}", extra="maxRetries: 0\n"))
        for n, text in enumerate(("", "echo fine;"))
    ]
    for turn in range(MAX_READ_CRASHES + 3):
        process = worker()
        eventually(
            lambda: all(run.state.terminal or run.fence > turn for run in map(here.store.run, runs)),  # noqa: B023
            within=40, what="the worker going on with them",
        )  # fmt: skip
        time.sleep(random.uniform(0.0, 1.0))
        process.kill()

    assert [here.store.run(run_id).state for run_id in runs] == [RunState.RUNNING] * 2
    assert agents(token, runs) == runs
    worker()
    for run_id in runs:
        here.store.cancel(run_id, "me")
        done(here, run_id, within=40)


def test_two_worker_processes_keep_the_limits_together_and_use_them_whole(
    here: Services, tmp_path: Path, worker: Callable[..., Process]
) -> None:
    marks, go = tmp_path / "marks", tmp_path / "go"
    marks.mkdir()
    mark = f"{marks}/$OPTIO_TASK_ID.$$"
    source = f"touch {mark}; while [ ! -e {go} ]; do sleep 0.02; done; sleep 0.1; rm {mark}"
    tasks = [command_task(source, name=name, extra="maxConcurrent: 2\n") for name in ("A", "B", "C")]
    runs = [accept(here, task) for _ in range(8) for task in tasks]
    most: dict[str, int] = {}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.003):
            names = [name.partition(".")[0] for name in os.listdir(marks)]
            for key, count in {"all": len(names), **{name: names.count(name) for name in names}}.items():
                most[key] = max(most.get(key, 0), count)

    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(2):
        worker(OPTIO_MAX_WORKFLOW_CONCURRENT="5", OPTIO_SANDBOX="none")
    eventually(lambda: most.get("all") == 5, within=40, what="every slot being used")
    go.touch()
    ended = [done(here, run_id, within=50) for run_id in runs]
    stop.set()
    thread.join()

    assert {run.state for run in ended} == {RunState.COMPLETED}
    assert most.pop("all") == 5
    assert max(most.values()) == 2
