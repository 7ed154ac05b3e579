"""A worker dies by SIGKILL at each moment that matters: another goes on, with the same agent if there was one.

The moments are hit from outside: the dying worker runs the very program, with one method replaced by one that kills the process
before or after it does its work. `python -m tests.stories.test_crash_points SEEDS` tries them with so many seeds.
"""

import json
import os
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from optio.model.run import LogKind, RunState
from tests import forked
from tests.runs.support import accept, done, log_of, opened, working
from tests.support import ROOT, command_task


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
    marks.chmod(0o666)
    # A busy worker keeps many lines at once: one that is to die at one of several times is spoken to until it has.
    last = f" && grep -q died {marks}" if point.most > 1 and point.begun else ""
    speech = f"n=0; until [ $n -ge {lines} ]{last}; do n=$((n+1)); echo line $n; sleep 0.02; done"
    source = f"echo start >> {marks}; {speech}; echo $n >> {marks}"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OPTIO_")}
    # A sandbox is tried by an attempt, and where there is no room none can begin.
    sandbox = "none" if point.full else "namespaces"
    settings = {"OPTIO_LEASE": "1s", "OPTIO_SANDBOX": sandbox, "OPTIO_SANDBOX_WRITE": str(marks)}
    environ |= {"OPTIO_DATA_DIR": str(directory / "data"), **settings}
    arguments = (host, point.module, point.owner, point.method, point.when, dice.randint(1, point.most), point.full)
    environ |= {"DYING": json.dumps(arguments)}
    with opened(directory, settings) as here:
        run_id = accept(here, command_task(source, extra="maxRetries: 0\n"))
        with Path(os.devnull).open("r+b") as nothing:
            code = forked.Forked(["worker"], ROOT, environ, [nothing.fileno()] * 3, "tests.stories.dying").wait(60)
        with marks.open("a") as file:
            file.write("died\n")
        with working(here):
            run = done(here, run_id)
        said = log_of(here, run_id, LogKind.OUTPUT)

        told = (point.name, seed, host, run.reason, run.message)
        assert code == -9, told
        assert run.state is RunState.COMPLETED, told
        count = int(*set(marks.read_text().split()) - {"start", "died"})
        assert sorted(marks.read_text().split()) == sorted(("start", "died", str(count))), told
        assert said == [f"line {n}".encode() for n in range(1, count + 1)], told
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
