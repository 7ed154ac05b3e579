"""Agents that fill what they share with others: disk and memory, each in several ways. The attempt ends with
its reason, a neighbour goes on, and the next attempt starts.

The disk is a small tmpfs, and memory and processes are limited by a cgroup, so that no test fills this machine.
"""

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import pytest

from optio.executors.base import Handle
from optio.executors.process import ProcessExecutor
from optio.executors.sandbox import SandboxOptions
from optio.model.task import Environment, Resources
from tests.executors.support import Ended, launch, run, shell, until_ended
from tests.support import eventually

MEGABYTES, INODES = 96, 8_000
DISK_QUOTA_BYTES = 16 << 20
MAX_PROCESSES = 40
PYTHON = "/usr/bin/python3"
# So fast that a limit has to be noticed within seconds, and no faster than a disk writes.
_HEAD = """
import contextlib, ctypes, mmap, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
BLOCK = b"x" * (1 << 20)
def pause():
    time.sleep(0.02)
def fill(descriptor):
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, BLOCK)
            pause()
def wait():
    while True:
        signal.pause()
"""
DISK = {
    "one file": "fill(os.open('file', os.O_WRONLY | os.O_CREAT))",
    "many files": "for n in range(9999): open(str(n), 'wb').write(BLOCK[:1 << 16]); time.sleep(0.003)",
    "room without content": """
for number in range(200):
    os.posix_fallocate(os.open(str(number), os.O_WRONLY | os.O_CREAT), 0, 1 << 20)
    pause()
""",
}
MEMORY = {
    "its own": "kept = [bytearray(BLOCK) for _ in range(200)]",
    "files in memory": "[os.write(os.memfd_create('x'), BLOCK) for _ in range(200)]",
    "shared memory": "memory = mmap.mmap(-1, 200 << 20)\nfor n in range(200): memory[n << 20:(n + 1) << 20] = BLOCK",
    "files in /dev/shm": """
for number in range(200):
    with open(f"/dev/shm/filling-{number}-" + os.environ["OPTIO_RUN_ID"], "wb") as file: file.write(BLOCK)
""",
    "System V's": """
libc.shmat.restype = ctypes.c_void_p
address = libc.shmat(libc.shmget(0, 200 << 20, 0o1600), None, 0)
ctypes.memset(address, 1, 200 << 20)
""",
    "many processes": """
for _ in range(12):
    if os.fork() == 0:
        kept = bytearray(BLOCK * 12)
        wait()
while True:
    pid, status = os.wait()
    if status: sys.exit(3)
""",
}
_NEIGHBOUR = """
import os, time
failures = 0
while not os.path.exists("stop"):
    try:
        with open("file", "wb") as file:
            file.write(b"x" * 65536)
        open(f"{time.monotonic_ns() % 10}", "w").close()
    except OSError:
        failures += 1
    time.sleep(0.02)
open("last", "w").write("word")
print("done", failures, flush=True)
"""
HOLD = "hold"
LIMITS = Environment(resources=Resources(memory="64Mi", cpu="500m"))


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """A small disk with few inodes."""
    path = Path(f"/var/lib/optio-filling-{secrets.token_hex(4)}")
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m,nr_inodes={INODES},mode=711", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
        path.rmdir()


@pytest.fixture(scope="module")
def executor(disk: Path) -> Iterator[ProcessExecutor]:
    """The executor of all of these attempts, which is to bear them all."""
    made = ProcessExecutor(
        disk / "attempts", sandbox=SandboxOptions(kind="bwrap"), disk_quota=DISK_QUOTA_BYTES, processes=MAX_PROCESSES
    )
    yield made
    made.close()


@contextlib.contextmanager
def neighbour(executor: ProcessExecutor, disk: Path) -> Iterator[Handle]:
    """Another attempt, which writes all the while, and completes."""
    run_id = f"neighbour{secrets.token_hex(4)}"
    handle = executor.start(launch(PYTHON, "-c", _NEIGHBOUR, run_id=run_id, timeout_s=120.0))
    work = disk / "attempts" / f"{run_id}-1" / "work"
    eventually(lambda: (work / "file").exists(), what="the neighbour")
    try:
        yield handle
    finally:
        (work / "stop").touch()
        ended = until_ended(handle)
        handle.close(remove=True)
    assert (ended.exit.code, ended.stdout[:4]) == (0, b"done"), ended


def filled(
    executor: ProcessExecutor, disk: Path, source: str, *, after: str = HOLD, environment: Environment | None = None
) -> Ended:
    """Let an agent fill something beside a neighbour, and wait until Optio has ended it."""
    with neighbour(executor, disk):
        # An agent that is refused waits: that it gives back what it holds is for Optio to see to.
        body = f"try:\n{indent(source, ' ')}\nexcept OSError: pass\nwait()" if after == HOLD else f"{source}\n{after}"
        program = f"{_HEAD}\n{body}\n"
        run_id = f"filler{secrets.token_hex(4)}"
        ended = run(executor, launch(PYTHON, "-c", program, run_id=run_id, environment=environment, timeout_s=20.0))
        # The place is as free as before, and takes the next one.
        assert run(executor, shell("echo next > file && cat file", run_id="next")).stdout == b"next\n"
    used = os.statvfs(disk)
    assert used.f_bavail > used.f_blocks * 0.9
    assert used.f_ffree > INODES * 0.9
    assert [path for path in (disk / "attempts").iterdir() if path.name.startswith("filler")] == []
    return ended


@pytest.mark.parametrize("way", DISK)
def test_an_agent_that_fills_the_disk_ends_for_that(executor: ProcessExecutor, disk: Path, way: str) -> None:
    ended = filled(executor, disk, DISK[way])

    assert ended.exit.stopped_by in ("disk_quota", "disk_full"), ended


@pytest.mark.parametrize("way", MEMORY)
def test_an_agent_that_fills_memory_ends_for_that(executor: ProcessExecutor, disk: Path, way: str) -> None:
    ended = filled(executor, disk, MEMORY[way], after="sys.exit(4)", environment=LIMITS)

    assert ended.exit.reason == "oom", ended
