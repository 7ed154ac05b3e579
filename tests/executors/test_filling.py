"""Agents that fill what they share with others: disk, inodes, memory and processes, each in several ways. The attempt ends with
its reason, a neighbour goes on, and the next attempt starts.

The disk is small, and memory and processes are limited by a cgroup, so that no test fills this machine.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from optio.executors.base import Handle
from optio.executors.process import ProcessExecutor
from optio.executors.sandbox import SandboxOptions
from optio.model.task import Environment, Resources
from tests.executors.filling import DISK, INODES_WAYS, MEMORY, NEIGHBOUR, PROCESSES, PYTHON, USER, program, small_disk, survey
from tests.executors.support import Ended, launch, run, shell, until_ended
from tests.support import eventually

MEGABYTES, INODES = 96, 8_000
DISK_QUOTA_BYTES = 16 << 20
MAX_PROCESSES = 40
LIMITS = Environment(resources=Resources(memory="64Mi", cpu="500m"))


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    with small_disk("tmpfs", megabytes=MEGABYTES, inodes=INODES) as path:
        yield path


@pytest.fixture(scope="module")
def executor(disk: Path) -> Iterator[ProcessExecutor]:
    """The executor of all of these attempts, which is to bear them all."""
    made = ProcessExecutor(
        disk / "attempts", sandbox=SandboxOptions(kind="namespaces"), disk_quota=DISK_QUOTA_BYTES, processes=MAX_PROCESSES
    )
    yield made
    made.close()


@contextlib.contextmanager
def neighbour(executor: ProcessExecutor, disk: Path) -> Iterator[Handle]:
    """Another attempt, which writes all the while, and completes."""
    run_id = f"neighbour{secrets.token_hex(4)}"
    handle = executor.start(launch(PYTHON, "-c", NEIGHBOUR, run_id=run_id, timeout_s=120.0))
    work = disk / "attempts" / f"{run_id}-1" / "work"
    eventually(lambda: (work / "file").exists(), what="the neighbour")
    try:
        yield handle
    finally:
        (work / "stop").touch()
        ended = until_ended(handle)
        handle.close(remove=True)
    assert (ended.exit.code, ended.stdout[:4]) == (0, b"done"), ended


def filled(executor: ProcessExecutor, disk: Path, source: str, environment: Environment | None = None) -> Ended:
    """Let an agent fill something beside a neighbour, and wait until Optio has ended it."""
    with neighbour(executor, disk):
        run_id = f"filler{secrets.token_hex(4)}"
        ended = run(executor, launch(PYTHON, "-c", source, run_id=run_id, environment=environment, timeout_s=20.0))
        # The place is as free as before, and takes the next one.
        assert run(executor, shell("echo next > file && cat file", run_id="next")).stdout == b"next\n"
    used = os.statvfs(disk)
    assert used.f_bavail > used.f_blocks * 0.9
    assert used.f_ffree > INODES * 0.9
    assert [path for path in (disk / "attempts").iterdir() if path.name.startswith("filler")] == []
    return ended


@pytest.mark.parametrize("way", DISK)
def test_an_agent_that_fills_the_disk_ends_for_that(executor: ProcessExecutor, disk: Path, way: str) -> None:
    ended = filled(executor, disk, program(DISK[way]))

    assert ended.exit.stopped_by in ("disk_quota", "disk_full"), ended


@pytest.mark.parametrize("way", INODES_WAYS)
def test_an_agent_that_uses_up_inodes_ends_for_that(executor: ProcessExecutor, disk: Path, way: str) -> None:
    ended = filled(executor, disk, program(INODES_WAYS[way]))

    assert ended.exit.stopped_by in ("disk_quota", "disk_full"), ended


@pytest.mark.parametrize("way", MEMORY)
def test_an_agent_that_fills_memory_ends_for_that(executor: ProcessExecutor, disk: Path, way: str) -> None:
    ended = filled(executor, disk, program(MEMORY[way], holds=False), LIMITS)

    assert ended.exit.reason == "oom", ended


@pytest.mark.parametrize("way", PROCESSES)
def test_an_agent_that_starts_too_many_processes_ends_for_that(executor: ProcessExecutor, disk: Path, way: str) -> None:
    ended = filled(executor, disk, program(PROCESSES[way]))

    assert ended.exit.stopped_by == "processes", ended


def test_what_an_agent_has_built_without_end_is_deleted_with_it(executor: ProcessExecutor, disk: Path) -> None:
    """A tree deeper than a path may be, a name as long as one may be, and directories without rights."""
    source = """
os.mkdir("n" * 255)
os.mkdir("closed")
open("closed/file", "w").close()
os.chmod("closed", 0)
for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
os.mkdir("closed")
os.chmod("closed", 0)
os.chmod(".", 0)
"""
    ended = filled(executor, disk, f"import os\n{source}")

    assert ended.exit.code == 0, ended


ONE_WAY_EACH = {
    "disk": {"many files": DISK["many files"]},
    "inodes": {"links": INODES_WAYS["links"]},
    "memory": {"files in /dev/shm": MEMORY["files in /dev/shm"]},
    "processes": {"a tree": PROCESSES["a tree"]},
}


@pytest.mark.skipif(not os.path.exists("/dev/loop-control"), reason="this machine has no loop devices")
@pytest.mark.parametrize(("kind", "user"), [("namespaces", USER), ("bwrap", 0), ("bwrap", USER)])
def test_a_server_accepts_and_runs_others_while_an_agent_fills_a_real_disk(kind: str, user: int) -> None:
    lines: list[str] = []

    assert survey("ext4", kind, user, ONE_WAY_EACH, lines.append) == 0, lines
