"""A real `optio dev` whose disk fails: it fills up, its data directory is deleted, moved and comes back, its log is damaged."""

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.server.conftest import Command
from tests.support import COMMAND_TASK, Answer, Dev, eventually


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Dev]:
    """On a disk of 64 MB. Without the right to mount, its tests fail: a full disk cannot be had in another way."""
    dev = Dev(tmp_path)
    dev.data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", dev.data], check=True)
    count = tmp_path / "count"
    count.touch()
    began = f"echo $OPTIO_RUN_ID >> {count}"
    scripts = {
        "Quick": began,
        "Slow": f"{began}; for i in 1 2 3 4 5; do echo line $i; sleep 1; done",
        "Filler": f"{began}; yes > {dev.data}/ballast; sleep 3; rm {dev.data}/ballast",
    }
    for name, script in scripts.items():
        text = COMMAND_TASK.format(name=name, command=json.dumps(["sh", "-c", script])) + "maxConcurrent: 5\n"
        dev.write(f"{name.lower()}.yaml", text)
    try:
        dev.start()
        for name in scripts:
            dev.until_served(name.lower())
        yield dev
    finally:
        with suppress(subprocess.TimeoutExpired):
            dev.stop()
        if dev.process is not None and dev.process.poll() is None:
            dev.kill()
        subprocess.run(["umount", "-l", dev.data], check=False)


def trigger(dev: Dev, task: str) -> Answer:
    return dev.post(f"/api/tasks/{task}/runs", {"params": {}})


def accepted(dev: Dev, task: str) -> str:
    answer = trigger(dev, task)
    assert answer.status == 202, answer.body
    run_id: str = answer.json["runId"]
    return run_id


def test_a_program_that_fills_the_disk_holds_others_up_for_no_longer_than_that(started: Dev) -> None:
    run_ids = [accepted(started, "slow") for _ in range(3)] + [accepted(started, "filler")]
    eventually(lambda: trigger_or_keep(started, run_ids) == 503, what="the disk being full")

    answer, ready = trigger(started, "quick"), started.get("/readyz")
    assert answer.status == 503
    assert "disk is full" in answer.json["detail"]
    assert int(answer.headers["retry-after"]) > 1
    assert ready.status == 503
    assert "the disk is full" in ready.json["problems"][0]

    eventually(lambda: trigger_or_keep(started, run_ids) == 202, within=30, what="a trigger being accepted again")
    # A worker is ready again when an agent has begun.
    eventually(lambda: started.get("/readyz").status == 200, within=60, what="readiness")
    ended = {run_id: started.until_ended(run_id) for run_id in run_ids}
    # A launch that the full disk refused is tried again: no agent had begun.
    assert {run["state"] for run in ended.values()} == {"completed"}
    began = Counter((started.directory / "count").read_text().split())
    assert set(began) == set(run_ids)
    assert {began[run_id] for run_id in run_ids[:4]} == {1}


def trigger_or_keep(dev: Dev, run_ids: list[str]) -> int:
    """The status of one more trigger; what it is accepted as is among those that must end."""
    time.sleep(0.05)
    answer = trigger(dev, "quick")
    if answer.status == 202:
        run_ids.append(answer.json["runId"])
    return answer.status


def test_a_start_on_a_full_disk_lets_runs_end_and_says_why_it_accepts_nothing(started: Dev, command: Command) -> None:
    slow = [accepted(started, "slow") for _ in range(2)]
    eventually(lambda: len((started.directory / "count").read_text().split()) == 2, what="both running")
    ballast = started.data / "ballast"
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while file.write(bytes(65_536)) == 65_536:
            pass
    started.kill()
    started.start(ready=False)
    eventually(lambda: answers(started), within=60, what="the server")

    answer = trigger(started, "quick")
    assert (answer.status, "disk is full" in answer.json["detail"]) == (503, True)
    assert started.get("/readyz").status == 503
    for run_id in slow:
        assert started.get(f"/api/workflow-runs/{run_id}").status == 200
    assert "new runs are refused" in command(started, "doctor").stdout
    assert command(started, "prune", "--yes").returncode == 0
    ballast.unlink()
    assert started.until_ended(accepted(started, "quick"))["state"] == "completed"
    for run_id in slow:
        assert started.until_ended(run_id)["state"] == "completed"


def answers(dev: Dev) -> bool:
    assert dev.process is not None
    assert dev.process.poll() is None, dev.output.read_text()
    try:
        return dev.get("/healthz").status == 200
    except OSError:
        return False


def test_nothing_is_accepted_while_the_data_directory_is_gone(dev: Dev) -> None:
    dev.write("quick.yaml", COMMAND_TASK.format(name="Quick", command='["true"]'))
    dev.until_served("quick")
    run_ids = [accepted(dev, "quick") for _ in range(5)]
    for run_id in run_ids:
        dev.until_ended(run_id)  # an attempt that begins makes its own directory, and those above it
    aside = dev.directory / "aside"
    dev.data.rename(aside)

    assert {trigger(dev, "quick").status for _ in range(20)} == {503}
    assert dev.get("/readyz").status == 503
    aside.rename(dev.data)
    run_ids.append(accepted(dev, "quick"))
    assert dev.get("/readyz").status == 200
    assert {dev.until_ended(run_id)["state"] for run_id in run_ids} == {"completed"}

    # Not by shutil.rmtree, which fails where the directory of an ended attempt is removed before its eyes.
    subprocess.run(["rm", "-rf", dev.data], check=True)
    assert {trigger(dev, "quick").status for _ in range(88)} == {503}
    assert dev.get("/readyz").status == 503


def test_a_damaged_log_is_said_at_the_start_and_recovered_by_a_command(dev: Dev, command: Command) -> None:
    dev.write("quick.yaml", COMMAND_TASK.format(name="Quick", command='["true"]'))
    dev.until_served("quick")
    for _ in range(30):
        accepted(dev, "quick")
    dev.kill()
    wal = dev.data / "optio.db-wal"
    content = bytearray(wal.read_bytes())
    content[len(content) // 2] ^= 0xFF
    wal.write_bytes(content)

    for done in (
        dev.cli("dev"),
        command(dev, "db", "check"),
        command(dev, "audit", "triggers"),
        command(dev, "db", "backup", str(dev.directory / "b")),
    ):
        assert done.returncode == 2, (done.args, done.stdout, done.stderr)
        assert "is damaged" in done.stdout + done.stderr
        assert "optio db recover" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert wal.read_bytes() == content

    done = command(dev, "db", "recover")
    assert done.returncode in (0, 1), done.stderr
    assert "usable again" in done.stdout
    assert [os.path.getsize(each) for each in dev.data.glob("optio.db-wal.damaged-*")] == [len(content)]
    assert command(dev, "db", "recover").returncode == 0
    dev.start()
    accepted(dev, "quick")
