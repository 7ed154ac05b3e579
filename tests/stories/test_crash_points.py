"""A worker dies by SIGKILL at each moment that matters: another goes on, with the same agent if there was one.

The moments are hit from outside: the dying worker runs the very program, with one method replaced by one that kills the process
before or after it does its work. `python -m tests.stories.test_crash_points SEEDS` tries them with so many seeds.
"""

import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from optio.model.run import LogKind, RunState
from tests.runs.support import accept, done, log_of, opened, working
from tests.support import ROOT, command_task

_DYING = """
import os, signal, socket, sys
from importlib import import_module
host, module, owner, name, when, nth = {arguments!r}
if host:
    socket.gethostname = lambda: host
owner = getattr(import_module(module), owner)
original, calls = getattr(owner, name), 0

def dying(*arguments, **named):
    global calls
    if when == "before":
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)
    found = original(*arguments, **named)
    if found:  # a claim that found nothing is none
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
    return found

setattr(owner, name, dying)
{prelude}
from optio.cli import main
main(["worker"])
"""


# Where the dying worker is there is no room: nothing is begun, and the run is to be given back.
_FULL = """
import time
from optio.executors.base import Exit
from optio.executors.process import ProcessExecutor
from optio.model.room import Delay

class Full:
    streams = ("stdout", "stderr")
    def __init__(self, *_):
        self.at = time.monotonic()
        self.why = Delay(reason="quota", message="the quota is full")
    def read(self, stream, offset, limit):
        return b""
    def settled(self):
        return True
    def wait(self, timeout):
        time.sleep(0.05)
    def delay(self):
        return self.why
    def exit(self):
        full = time.monotonic() - self.at > 0.3
        return Exit(code=None, signal=None, reason="quota", temporary=True, no_room=self.why) if full else None
    def nothing(self, *_, **__):
        pass
    wake = begun = renewed = stop = close = pod = nothing

ProcessExecutor.start = Full
"""


@dataclass(frozen=True)
class Point:
    """Where a worker dies. `begun`: its agent lives by then; `most`: up to which call of the method a seed may choose."""

    name: str
    module: str
    owner: str
    method: str
    when: str
    begun: bool
    most: int = 1
    full: bool = False


_STORE = ("optio.store.sql.store", "SqlStore")
POINTS = (
    Point("before the claim", *_STORE, "claim", "before", begun=False),
    Point("after the claim", *_STORE, "claim", "after", begun=False),
    Point("after the agent's start", "optio.executors.process", "ProcessExecutor", "start", "after", begun=True),
    Point("while it speaks", *_STORE, "append_log", "after", begun=True, most=12),
    Point("with the result", *_STORE, "finish", "before", begun=True),
    Point("before the end is told", *_STORE, "finish", "after", begun=True),
    Point("before it says that there is no room", *_STORE, "explain", "before", begun=False, full=True),
    Point("when it has said that there is no room", *_STORE, "explain", "after", begun=False, full=True),
    Point("before it gives the run back", *_STORE, "give_back", "before", begun=False, most=2, full=True),
    Point("when it has given the run back", *_STORE, "give_back", "after", begun=False, most=2, full=True),
)


def crash(directory: Path, point: Point, seed: int) -> None:
    """Let a worker die there, and see what becomes of its run."""
    dice = random.Random(f"{seed}-{point.name}")
    host = dice.choice(("", "elsewhere"))  # then nothing but the lease tells that it is gone
    lines = dice.randint(12, 30)
    marks = directory / "marks"
    marks.touch()
    source = f"echo start >> {marks}; for n in $(seq {lines}); do echo line $n; sleep 0.02; done; echo end >> {marks}"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OPTIO_")}
    settings = {"OPTIO_LEASE": "1s", "OPTIO_SANDBOX_WRITE": str(marks)}
    environ |= {"OPTIO_DATA_DIR": str(directory / "data"), **settings}
    arguments = (host, point.module, point.owner, point.method, point.when, dice.randint(1, point.most))
    with opened(directory, settings) as here:
        run_id = accept(here, command_task(source, extra="maxRetries: 0\n"))
        dying = subprocess.run(
            [sys.executable, "-c", _DYING.format(arguments=arguments, prelude=_FULL if point.full else "")],
            cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
        with working(here):
            run = done(here, run_id)
        said = log_of(here, run_id, LogKind.OUTPUT)

        told = (point.name, seed, host, run.reason, run.message)
        assert dying.returncode == -9, told
        assert run.state is RunState.COMPLETED, told
        assert marks.read_text().split() == ["start", "end"], told
        assert said == [f"line {n}".encode() for n in range(1, lines + 1)], told
        assert run.attempt == 1 or not point.begun, told
        assert run.retries == 0, told
        assert run.infrastructure_retries <= 1, told


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name.replace(" ", "-"))
def test_a_worker_that_dies_at_this_moment_harms_no_run(tmp_path: Path, point: Point) -> None:
    crash(tmp_path, point, int(os.environ.get("CRASH_SEED", random.randrange(1 << 30))))


def main() -> None:
    """Every point with many seeds."""
    for seed in range(int(sys.argv[1])):
        for point in POINTS:
            with tempfile.TemporaryDirectory() as directory:
                crash(Path(directory), point, seed)
    print(f"{len(POINTS)} points x {sys.argv[1]} seeds: each run once, with every line")


if __name__ == "__main__":
    main()
