"""Accepted is accepted: `optio dev` is killed again and again at random moments, and every run happens once.

`CRASH_RUNS` and `CRASH_KILLS` make it larger; `python -m tests.stories.test_crash RUNS KILLS [SEED]` prints figures.
"""

import contextlib
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import COMMAND_TASK, Dev, eventually

TASKS = 3


@dataclass
class Ledger:
    """What was asked for, and what the answers were."""

    accepted: dict[str, str] = field(default_factory=dict)  # idempotency key -> run id
    unknown: int = 0  # requests without an answer
    kills: int = 0
    refused: Counter[int] = field(default_factory=Counter)


def crash(directory: Path, runs: int, kills: int, seed: int) -> tuple[Ledger, Dev, Path]:
    """Trigger `runs` runs while the one process is killed `kills` times."""
    dice = random.Random(seed)
    marks = directory / "ran"
    marks.touch()
    marks.chmod(0o666)
    sandbox = {"OPTIO_SANDBOX": "namespaces", "OPTIO_SANDBOX_WRITE": str(marks)}
    dev = Dev(directory, environ={"OPTIO_MAX_WORKFLOW_CONCURRENT": "8", **sandbox})
    for number in range(TASKS):
        # One write of less than a page, appended: whole, whoever else writes.
        command = f"sleep 0.0{number}; echo $OPTIO_RUN_ID-$OPTIO_ATTEMPT >> {marks}; echo done"
        text = COMMAND_TASK.format(name=f"Job {number}", command=f'"{command}"') + "maxConcurrent: 4\nmaxRetries: 0\n"
        dev.write(f"job-{number}.yaml", text)
    ledger = Ledger()
    dev.start()
    killing = threading.Thread(target=_kill, args=(dev, ledger, kills, dice))
    killing.start()
    try:
        for number in range(runs):
            _trigger(dev, ledger, f"key-{seed}-{number}", f"job-{number % TASKS}")
            # Spread over all of the kills.
            while killing.is_alive() and ledger.kills * runs < number * kills:
                time.sleep(0.01)
    finally:
        killing.join()
    return ledger, dev, marks


def _kill(dev: Dev, ledger: Ledger, kills: int, dice: random.Random) -> None:
    for _ in range(kills):
        time.sleep(dice.uniform(0.02, 0.6))
        dev.kill()
        ledger.kills += 1
        dev.start()


def _trigger(dev: Dev, ledger: Ledger, key: str, task: str) -> None:
    """Ask until there is an answer: the key makes that safe."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            answer = dev.post(f"/api/tasks/{task}/runs", {"params": {}}, **{"Idempotency-Key": key})
        except (OSError, ValueError):
            ledger.unknown += 1
            time.sleep(0.02)
            continue
        if answer.status in (200, 202):  # 200: an earlier request, whose answer was lost, has made the run
            ledger.accepted[key] = answer.json["runId"]
            return
        ledger.refused[answer.status] += 1
        time.sleep(0.02)
    raise AssertionError(f"no answer for {key}: {ledger.unknown} without answer, {dict(ledger.refused)}")


def verdict(ledger: Ledger, dev: Dev, marks: Path) -> dict[str, int]:
    """How many runs were lost, stuck or doubled; waits for the last to end."""
    ids = set(ledger.accepted.values())
    ended = {run_id: dev.until_ended(run_id, within=60) for run_id in ids}
    ran = Counter(line.rpartition("-")[0] for line in marks.read_text().split())
    listed = set()
    cursor = ""
    while cursor is not None:
        page = dev.get(f"/api/runs?limit=200{cursor and '&cursor=' + cursor}").json
        listed |= {run["id"] for run in page["items"]}
        cursor = page.get("next")
    return {
        "accepted": len(ledger.accepted),
        "kills": ledger.kills,
        "unknown answers": ledger.unknown,
        "shared ids": len(ledger.accepted) - len(ids),
        "not completed": sum(run["state"] != "completed" for run in ended.values()),
        "lost": len(ids - set(ran)),
        "doubled": sum(count > 1 for count in ran.values()),
        "not asked for": len(set(ran) - ids) + len(listed - ids),
    }


def left_behind(dev: Dev) -> list[Path]:
    """Directories of attempts, but for the marks of those that shall never begin."""
    found = (dev.data / "attempts").iterdir()
    return [path for path in found if not (path / "control" / "started").is_symlink() or (path / "home").exists()]


@pytest.mark.timeout(600)
def test_accepted_runs_survive_kill_dash_nine_once_each(tmp_path: Path) -> None:
    seed = int(os.environ.get("CRASH_SEED", random.randrange(1 << 30)))
    runs, kills = int(os.environ.get("CRASH_RUNS", "40")), int(os.environ.get("CRASH_KILLS", "5"))
    print(f"seed {seed}, {runs} runs, {kills} kills")

    ledger, dev, marks = crash(tmp_path, runs, kills, seed)
    try:
        found = verdict(ledger, dev, marks)
        eventually(lambda: not left_behind(dev), what="tidy attempts", within=30)
    finally:
        dev.stop()

    bad = {name: found[name] for name in ("shared ids", "not completed", "lost", "doubled", "not asked for")}
    assert bad == dict.fromkeys(bad, 0), found
    assert (found["accepted"], found["kills"]) == (runs, kills)
    # 401: `optio dev` has begun again since its token was read, and has another one.
    assert not [status for status in ledger.refused if status not in (401, 503)]


def main() -> None:
    """The figures, at any size."""
    runs, kills = (int(text) for text in sys.argv[1:3])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 30)
    with tempfile.TemporaryDirectory() as directory:
        began = time.monotonic()
        ledger, dev, marks = crash(Path(directory), runs, kills, seed)
        with contextlib.ExitStack() as stack:
            stack.callback(dev.stop)
            found = verdict(ledger, dev, marks)
        print(f"seed {seed}, {time.monotonic() - began:.0f} s:", ", ".join(f"{value} {name}" for name, value in found.items()))


if __name__ == "__main__":
    main()
