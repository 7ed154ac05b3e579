"""A full disk: agents end while nothing can be written, and one agent prints until nothing fits any more.

`python -m tests.stories.disk --agents 20 --flood 60 --megabytes 64` prints figures. The data directory is a small tmpfs, which
takes root to mount; what the agents did is written down elsewhere, by themselves.
"""

import argparse
import contextlib
import errno
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import COMMAND_TASK, Answer, Dev, eventually

# Processes look at least every few seconds whether there is room again.
NOTICED_S = 20.0
TERMINAL = ("completed", "failed", "cancelled")
_FILLER = ".filler"


class Disk:
    """A tmpfs of so many megabytes at a path, for as long as the context lasts."""

    def __init__(self, path: Path, megabytes: int) -> None:
        self.path, self._megabytes = path, megabytes

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={self._megabytes}m", "tmpfs", self.path], check=True, capture_output=True
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True)

    def free(self) -> int:
        """Return the bytes that still fit."""
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def fill(self) -> None:
        """Write until not a byte fits, and again for what others give back meanwhile."""
        with (self.path / _FILLER).open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError as err:
                    if err.errno != errno.ENOSPC:
                        raise

    def clear(self) -> None:
        """Make room again."""
        (self.path / _FILLER).unlink()


def can_mount() -> bool:
    """Return whether this process may mount a tmpfs."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            with Disk(Path(directory) / "try", 1):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


@contextlib.contextmanager
def served(directory: Path, megabytes: int, tasks: dict[str, str], **environ: str) -> Iterator[tuple[Dev, Disk]]:
    """An `optio dev` whose data lie on a small disk. `tasks` maps names to shell scripts; each may start ten times at once."""
    dev = Dev(directory, environ=environ)
    for name, script in tasks.items():
        path = directory / f"{name}.sh"
        path.write_text(script)
        text = COMMAND_TASK.format(name=name, command=f'["/bin/sh", "{path}"]')
        dev.write(f"{name}.yaml", f"{text}maxConcurrent: 100\nmaxRetries: 0\n")
    with Disk(dev.data, megabytes) as disk:
        dev.start()
        try:
            yield dev, disk
        finally:
            dev.stop(within=60)


def marks(path: Path) -> Counter[str]:
    """Count the lines that agents wrote."""
    return Counter(path.read_text().split("\n")[:-1]) if path.exists() else Counter()


def ask(dev: Dev, task: str, key: str) -> Answer | None:
    """Trigger a run; None when there was no answer."""
    with contextlib.suppress(OSError):
        return dev.post(f"/api/tasks/{task}/runs", {"params": {}}, **{"Idempotency-Key": key})
    return None


def ended(dev: Dev, ids: list[str], within: float = 90.0) -> list[dict[str, Any]]:
    """Return the runs as they are when all have ended, or after so many seconds."""
    limit = time.monotonic() + within
    while True:
        runs = []
        for run_id in ids:
            with contextlib.suppress(OSError, ValueError):
                answer = dev.get(f"/api/workflow-runs/{run_id}")
                runs += [answer.json] if answer.status == 200 else []
        if len(runs) == len(ids) and all(run["state"] in TERMINAL for run in runs):
            return runs
        if time.monotonic() > limit:
            return runs
        time.sleep(0.2)


def has_ended(dev: Dev, run_id: str) -> bool:
    """Return whether the run has its outcome, as far as the server answers."""
    try:
        return dev.get(f"/api/workflow-runs/{run_id}").json.get("state") in TERMINAL
    except (OSError, ValueError):
        return False


@dataclass
class Result:
    """Counts for one line; `bad` must be all zero."""

    seen: dict[str, object] = field(default_factory=dict)
    bad: dict[str, int] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return not any(self.bad.values())

    def __str__(self) -> str:
        return ", ".join(f"{value} {name}" for name, value in (*self.seen.items(), *self.bad.items()))


def end_while_full(directory: Path, agents: int, megabytes: int = 64) -> Result:
    """Agents end while the disk is full; then there is room again."""
    started, over, gate = directory / "started", directory / "over", directory / "gate"
    # Only what is written elsewhere is sure to be written.
    script = (
        f"echo $OPTIO_RUN_ID >> {started}; while [ ! -e {gate} ]; do sleep 0.05; done; echo $OPTIO_RUN_ID >> {over}; exit 0\n"
    )
    result = Result({"agents": agents})
    with served(directory, megabytes, {"waits": script}, OPTIO_MAX_WORKFLOW_CONCURRENT=str(agents)) as (dev, disk):
        try:
            ids = []
            for number in range(agents):
                answer = ask(dev, "waits", f"key-{number}")
                assert answer is not None, "no answer"
                assert answer.status == 202, answer.body
                ids.append(answer.json["runId"])
            eventually(lambda: len(marks(started)) == agents, within=60, what="every agent's start")
            disk.fill()
        finally:
            gate.touch()
        eventually(lambda: sum(marks(over).values()) >= agents, within=60, what="every agent's end")
        until = time.monotonic() + 3.0  # supervisors and the worker have tried to write by then
        while time.monotonic() < until:
            disk.fill()
            time.sleep(0.1)
        disk.clear()
        cleared = time.monotonic()
        runs = ended(dev, ids)
        result.seen["seconds from room to the last outcome"] = round(time.monotonic() - cleared, 1)
        reasons = Counter(f"{run['state']}/{run['reason']}" for run in runs)
        result.seen["outcomes"] = dict(reasons)
        result.bad = {
            "repeated attempts": sum(run["attempt"] - 1 for run in runs),
            "agents begun twice": sum(count > 1 for count in marks(started).values()),
            "not completed": agents - sum(run["state"] == "completed" for run in runs),
        }
    return result


def flood(directory: Path, seconds: int, megabytes: int = 64) -> Result:
    """One agent prints for so long as fast as it can. Some runs are running and queued when it begins, and more are asked for
    all the while."""
    over, ran = directory / "over", directory / "ran"
    scripts = {
        # `yes` ends when a write fails: it is started again until the time is up.
        "flood": f"sleep 1; end=$(($(date +%s) + {seconds}))\n"
        f"while left=$((end - $(date +%s))); [ $left -gt 0 ]; do timeout $left yes {'x' * 1000} 2>/dev/null; sleep 0.05; done\n"
        f"echo over >> {over}\n",
        "small": f"echo $OPTIO_RUN_ID >> {ran}; exit 0\n",
        "before": f"sleep 1; echo $OPTIO_RUN_ID >> {ran}; exit 0\n",
    }
    result = Result({"seconds": seconds})
    with served(directory, megabytes, scripts, OPTIO_MAX_WORKFLOW_CONCURRENT="4") as (dev, disk):
        answer = ask(dev, "flood", "flood")
        assert answer is not None, "no answer"
        flooding: str = answer.json["runId"]
        answers: Counter[int] = Counter()
        accepted = [answer.json["runId"] for n in range(10) if (answer := ask(dev, "before", f"before-{n}")) is not None]
        last_refusal = over_at = 0.0
        number = 0
        accepts_again = False
        least = disk.free()
        began = time.monotonic()
        # Until the first one is accepted after its end, or for so long that none will be.
        while time.monotonic() < (over_at or began + seconds + 60) + NOTICED_S:
            number += 1
            answer = ask(dev, "small", f"key-{number}")
            now = time.monotonic()
            answers[0 if answer is None else answer.status] += 1
            least = min(least, disk.free())
            if answer is not None and answer.status in (200, 202):
                accepted.append(answer.json["runId"])
                if over_at:
                    accepts_again = True
                    break
            else:
                last_refusal = now
            # At the latest; Optio may have ended it before.
            if not over_at and (marks(over) or has_ended(dev, flooding)):
                over_at = now
            time.sleep(0.2)
        dev.kill()
        begins_again = True
        try:
            dev.start()
        except AssertionError:
            begins_again = False
        runs = ended(dev, accepted)
        (flooded,) = ended(dev, [flooding]) or [{"state": "unknown", "reason": "", "attempt": 1}]
        after = [ask(dev, "small", f"after-{n}") for n in range(5)] if begins_again else []
        result.seen |= {
            "asked": number,
            "accepted": len(accepted),
            "refused with 503": answers[503],
            "bytes free at least": least,
            "seconds from its end to the last refusal": round(max(0.0, last_refusal - over_at), 1) if over_at else "?",
            "flood": f"{flooded['state']}/{flooded['reason']}",
            "MB free after it": disk.free() >> 20,
        }
        result.bad = {
            "other answers": sum(answers.values()) - answers[200] - answers[202] - answers[503],
            "never over": int(not over_at),
            "refused for good": int(not accepts_again),
            "does not start again": int(not begins_again),
            "refused after the restart": sum(each is None or each.status != 202 for each in after),
            "lost": len(set(accepted) - set(marks(ran))),
            "not completed": len(accepted) - sum(run["state"] == "completed" for run in runs),
            "repeated": sum(count > 1 for count in marks(ran).values()) + flooded["attempt"] - 1,
            "flood not ended": int(flooded["state"] not in TERMINAL),
        }
    return result


def main() -> None:
    """Print a line for each of the two stories; the exit code is 1 when one went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.stories.disk")
    parser.add_argument("--agents", type=int, default=20)
    parser.add_argument("--flood", type=int, default=60, help="seconds")
    parser.add_argument("--megabytes", type=int, default=64)
    given = parser.parse_args()
    good = True
    for name, story, size in (("end while full", end_while_full, given.agents), ("flood", flood, given.flood)):
        with tempfile.TemporaryDirectory(prefix="optio-disk-", ignore_cleanup_errors=True) as directory:
            result = story(Path(directory), size, given.megabytes)
            print(f"{name}: {result}", flush=True)
            good &= result.good
    sys.exit(not good)


if __name__ == "__main__":
    main()
