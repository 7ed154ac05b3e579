"""A worker dies by SIGKILL at each moment of a pod's life: another goes on, with the same agent if there was one.

The moments are hit from outside: the dying worker is a real process whose way to the cluster is a proxy, which sees the request
that matters. What ran is told by the agents themselves, to a server of this test.

`python -m tests.stories.test_pods SEEDS [--warm]` tries each moment with so many seeds and prints a table.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
from httpx2 import HTTPError

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.executors.pods import manifest
from optio.model.run import LogKind, Run, RunState
from tests.executors.pods.api import Api
from tests.executors.pods.faults import FaultProxy
from tests.executors.pods.place import NAMESPACE, settings
from tests.runs.support import accept, done, log_of, opened, working
from tests.support import ROOT, eventually

# Where pods reach this machine.
ADDRESS = os.environ.get("OPTIO_TEST_ADDRESS", "10.244.0.1")
_WORKER = """
import socket
host = {host!r}
if host:
    socket.gethostname = lambda: host
from optio.cli import main
main(["worker"])
"""
# Bash alone can speak to a port. What was said counts when it was answered: what is on its way while a pod's network changes
# may be lost for good. So it is said again, on another connection, and with the name of who says it.
TELL = """\
me=$RANDOM-$RANDOM
tell() {{
    until timeout 2 bash -c 'exec 3<>/dev/tcp/{address}/{port} && echo "$0" >&3 && read -r _ <&3' \\
        "$1 $OPTIO_RUN_ID $OPTIO_ATTEMPT $me"; do sleep 0.2; done 2>/dev/null
}}
"""
_AGENT = (
    TELL
    + """\
tell start
for n in $(seq {lines}); do printf 'line %d \\001\\377\\t.\\n' $n; sleep 0.03; done
tell end
"""
)
_TASK = """\
type: standalone
name: Told
agentRuntime: command
command: ["/bin/bash", "-c", {source}]
promptTemplate: "go"
maxRetries: 0
{extra}
"""
_AT_ONCE = 3
_ROW = "{:<32}{:>5}{:>14}{:>10}{:>9}{:>11}{:>6}{:>9}"
MAKING, LAUNCH, LOG, CLAIM = r"^POST \S*/pods$", r"/exec\?.*parcel", r"/log\?", r"^PATCH \S*/pods/"


class Marks(threading.Thread):
    """What agents say: one line a connection, which is answered."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._socket = socket.create_server((ADDRESS, 0), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self._lines: list[str] = []

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._hear, args=(connection,), daemon=True).start()

    def _hear(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        with suppress(OSError), connection, connection.makefile() as file:
            line = file.readline().strip()
            if line and line not in self._lines:
                self._lines.append(line)
            connection.sendall(b"heard\n")
            file.read()  # who closes first waits with his port: that is not to be ours

    def of(self, run_id: str) -> list[str]:
        """`start` and `end` of a run's agents, in order."""
        return [word for word, _ in self.lines(run_id)]

    def lines(self, run_id: str) -> list[tuple[str, str]]:
        """(word, attempt) of a run's agents, in order."""
        said = [line.split() for line in list(self._lines)]
        return [(words[0], words[2]) for words in said if len(words) == 4 and words[1] == run_id]

    def count(self, word: str) -> int:
        """How often it was said by all."""
        return sum(line.split()[:1] == [word] for line in list(self._lines))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


class Sightings(threading.Thread):
    """Every pod of an installation that was ever seen."""

    def __init__(self, install: str) -> None:
        super().__init__(daemon=True)
        self._install, self._over = install, threading.Event()
        self.pods: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        with Api(NAMESPACE) as api:
            while not self._over.wait(0.05):
                with suppress(AssertionError, HTTPError):  # a look that fails is made again
                    for each in api.pods(f"{manifest.INSTALL}={self._install}"):
                        self.pods[each["metadata"]["uid"]] = each

    def of(self, run_id: str) -> list[dict[str, Any]]:
        """Those that were an attempt at this run."""
        labels = [(each, each["metadata"]["labels"]) for each in list(self.pods.values())]
        return [
            each for each, said in labels if (said.get(manifest.RUN), said[manifest.ROLE]) == (run_id, manifest.ATTEMPT_ROLE)
        ]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


@dataclass(frozen=True)
class Point:
    """Where a worker dies: `arm` tells the proxy. `begun`: its agent lives by then, so the attempt is gone on with."""

    name: str
    arm: Callable[[FaultProxy, random.Random, Callable[[], None], Callable[[], None]], object]
    begun: bool | None


def _before(proxy: FaultProxy, _d: random.Random, kill: Callable[[], None], _: Callable[[], None]) -> None:
    proxy.rule(f"{MAKING}|{CLAIM}", refuse=True, then=kill)


def _unanswered(proxy: FaultProxy, _d: random.Random, kill: Callable[[], None], _: Callable[[], None]) -> None:
    proxy.rule(f"{MAKING}|{CLAIM}", status=504, done=True, then=kill)


def _had(proxy: FaultProxy, _d: random.Random, kill: Callable[[], None], _: Callable[[], None]) -> None:
    proxy.rule(LAUNCH, refuse=True, then=kill)


def _launched(proxy: FaultProxy, dice: random.Random, kill: Callable[[], None], _: Callable[[], None]) -> None:
    # A pod is tried until it answers: what counts is the one that the launch was sent to.
    answered: dict[str, Any] = {"cut": dice.choice((10, 10, 0)), "once_told": True}
    what = dice.choice((answered, answered, answered, {"cut_sent": dice.randint(0, 1000)}))
    proxy.rule(LAUNCH, times=None, then=kill, **what)


def _running(proxy: FaultProxy, dice: random.Random, kill: Callable[[], None], _: Callable[[], None]) -> None:
    proxy.rule(LOG, cut=dice.randint(60, 200), then=kill)


def _ended(proxy: FaultProxy, dice: random.Random, _: Callable[[], None], kill_later: Callable[[], None]) -> None:
    proxy.rule(LOG, hold=dice.randint(40, 150), then=kill_later)


def _kept(proxy: FaultProxy, _d: random.Random, kill: Callable[[], None], _: Callable[[], None]) -> None:
    # Of a pool the keeper deletes pods, too: this one is an attempt's when it ends.
    proxy.rule("^DELETE", refuse=True, then=kill)


POINTS = (
    Point("pod not asked for yet", _before, begun=False),
    Point("pod made or claimed, not told", _unanswered, begun=False),
    Point("pod there, not launched", _had, begun=False),
    Point("launch sent", _launched, begun=None),
    Point("agent running", _running, begun=True),
    Point("agent ended, not read", _ended, begun=True),
    Point("outcome kept, pod not removed", _kept, begun=True),
)


@dataclass
class Seen:
    """What became of a run."""

    run: Run
    marks: list[str]
    log: list[bytes]
    wanted: list[bytes]
    pods: list[dict[str, Any]]
    left: list[str]
    took: float
    host: str

    @property
    def doubled(self) -> bool:
        return self.marks.count("start") > 1

    @property
    def exact(self) -> bool:
        return self.log == self.wanted

    @property
    def adopted(self) -> bool:
        """By another worker, in the pod where it was."""
        return self.run.attempt == 1 and len(self.pods) == 1

    def problems(self, point: Point) -> list[str]:
        """What must not be."""
        found = {
            f"it is {self.run.state.value}: {self.run.reason} {self.run.message}": self.run.state is not RunState.COMPLETED,
            f"its agent ran so: {self.marks}": self.marks != ["start", "end"],
            f"{len(self.log)} lines of {len(self.wanted)}, or others": not self.exact,
            f"attempt {self.run.attempt} in {len(self.pods)} pods": bool(point.begun) and not self.adopted,
            f"left: {self.left}": bool(self.left),
        }
        return [words for words, wrong in found.items() if wrong]


@contextmanager
def dying(directory: Path, environ: dict[str, str], proxy: FaultProxy, host: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker whose way to the cluster is the proxy."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPTIO_")}
    config = str(proxy.kubeconfig(directory / "kubeconfig"))
    with (directory / "dying.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _WORKER.format(host=host)],
            cwd=ROOT, env={**clean, **environ, "KUBECONFIG": config}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def crash(directory: Path, point: Point, seed: int, *, warm: int = 0) -> Seen:
    """Let a worker die there, and see what becomes of its run."""
    dice = random.Random(f"{seed}-{point.name}")
    host = dice.choice(("", "elsewhere"))  # then nothing but the lease tells that it is gone
    lines = dice.randint(15, 40)
    install = f"c{uuid.uuid4().hex[:10]}"
    environ = settings(directory, install, OPTIO_LEASE="2s")
    with (
        Marks() as marks,
        Sightings(install) as sightings,
        FaultProxy() as proxy,
        Api(NAMESPACE) as api,
        opened(directory, environ) as here,
    ):
        source = _AGENT.format(address=ADDRESS, port=marks.port, lines=lines)
        text = _TASK.format(source=json.dumps(source), extra=f"warmPoolSize: {warm}" if warm else "")
        made = compile_tree(MemoryTree({"told.yaml": text}))
        assert made.ok, [each.to_json() for each in made.diagnostics]
        here.store.activate(made.registry, None)
        (task,) = made.registry.tasks.values()
        began = time.monotonic()
        try:
            with dying(directory, environ, proxy, host) as process:

                def kill() -> None:
                    process.send_signal(signal.SIGKILL)

                def kill_later() -> None:
                    threading.Thread(target=_when_over, args=(sightings, kill), daemon=True).start()

                if warm:
                    eventually(lambda: _ready(api, install) >= warm, within=180, what="a pool that is full")
                point.arm(proxy, dice, kill, kill_later)
                run_id = accept(here, task)
                process.wait(120)
            with working(here) as worker:
                with suppress(AssertionError):  # it is told with the rest
                    done(here, run_id, within=150)
                run = here.store.run(run_id)
                worker.tidy()
                selector = f"{manifest.INSTALL}={install},{manifest.ROLE}!={manifest.WARM_ROLE}"
                with suppress(AssertionError):
                    eventually(lambda: not api.pods(selector), within=30, what="the end of all pods")
                return Seen(
                    run=run,
                    marks=marks.of(run_id),
                    log=log_of(here, run_id, LogKind.OUTPUT),
                    wanted=[b"line %d \x01\xff\t." % n for n in range(1, lines + 1)],
                    pods=sightings.of(run_id),
                    left=[each["metadata"]["name"] for each in api.pods(selector)],
                    took=time.monotonic() - began,
                    host=host,
                )
        finally:
            here.executor.close()  # it would fill its pools again
            api.sweep(f"{manifest.INSTALL}={install}")


def _ready(api: Api, install: str) -> int:
    """How many warm pods a run may take: the next change of one is its claim."""
    return len(api.pods(f"{manifest.INSTALL}={install},{manifest.READY}"))


def _when_over(sightings: Sightings, kill: Callable[[], None]) -> None:
    def over() -> bool:
        found = [pod for pod in list(sightings.pods.values()) if manifest.RUN in pod["metadata"]["labels"]]
        return any(pod["status"].get("phase") in ("Succeeded", "Failed") for pod in found)

    eventually(over, within=110, what="the end of the agent")
    kill()


@pytest.mark.parametrize("warm", [0, 2], ids=["cold", "warm"])
@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name.replace(" ", "-"))
def test_a_worker_that_dies_at_this_moment_of_a_pods_life_harms_no_run(tmp_path: Path, point: Point, warm: int) -> None:
    seen = crash(tmp_path, point, int(os.environ.get("CRASH_SEED", random.randrange(1 << 30))), warm=warm)

    assert seen.problems(point) == []


def main() -> None:
    """Every point with many seeds."""
    seeds, warm = int(sys.argv[1]), 2 if "--warm" in sys.argv else 0
    print(_ROW.format("the worker dies", "runs", "gone on with", "repeated", "doubled", "log exact", "left", "p50"))
    wrong = []
    for point in POINTS:

        def one(seed: int, point: Point = point) -> Seen:
            with tempfile.TemporaryDirectory() as directory:
                return crash(Path(directory), point, seed, warm=warm)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            seen = list(pool.map(one, range(seeds)))
        for seed, found in enumerate(seen):
            wrong += [f"{point.name}, seed {seed}, host {found.host!r}: {words}" for words in found.problems(point)]
        counts = [
            sum(map(bool, each))
            for each in (
                [each.adopted for each in seen],
                [each.run.attempt > 1 for each in seen],
                [each.doubled for each in seen],
                [each.exact for each in seen],
                [each.left for each in seen],
            )
        ]
        took = sorted(each.took for each in seen)[len(seen) // 2]
        print(_ROW.format(point.name, len(seen), *counts, f"{took:.1f} s"), flush=True)
    print("\n".join(wrong) or f"{len(POINTS)} moments x {seeds} seeds: each run once, with every byte")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
