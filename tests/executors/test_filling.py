"""Agents that fill what they share with others: disk, inodes, memory and processes, each in several ways. The attempt ends with
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
import contextlib, ctypes, mmap, os, resource, signal, socket, subprocess, sys, tempfile, threading, time
libc = ctypes.CDLL(None, use_errno=True)
BLOCK = b"x" * (1 << 20)
def pause():
    time.sleep(0.02)
def unlinked(name="file"):
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
    os.unlink(name)
    return descriptor
kept = []
def fill(descriptor):
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, BLOCK)
            pause()
def many(make):
    with contextlib.suppress(OSError):
        for number in range(100_000):
            make(str(number))
            if number % 50 == 49:
                time.sleep(0.01)
def deep():
    os.mkdir("closed")
    os.chdir("closed")
    os.chmod(".", 0o300)
def wait():
    while True:
        signal.pause()
"""
DISK = {
    "one file": "fill(os.open('file', os.O_WRONLY | os.O_CREAT))",
    "many files": "many(lambda name: (open(name, 'wb').write(BLOCK[:1 << 16]), time.sleep(0.003)))",
    "a file without a name": "fill(unlinked())",
    "files without names": "[(os.write(each, BLOCK), pause()) for each in (unlinked() for _ in range(200))]",
    "a closed directory": "deep(); file = os.open('file', os.O_WRONLY | os.O_CREAT); os.chmod('.', 0); fill(file)",
    "room without content": """
for number in range(200):
    os.posix_fallocate(os.open(str(number), os.O_WRONLY | os.O_CREAT), 0, 1 << 20)
    pause()
""",
    "memory of files without names": """
for number in range(200):
    file = unlinked()
    os.posix_fallocate(file, 0, 1 << 20)
    memory = mmap.mmap(file, 1 << 20)
    os.close(file)
    memory[:] = BLOCK
    kept.append(memory)
    pause()
""",
    "a file that is only under way": """
ours, theirs = socket.socketpair()
for _ in range(100):
    file = unlinked()
    os.write(file, BLOCK)
    socket.send_fds(ours, [b"x"], [file])
    os.close(file)
    pause()
""",
    "temporary files": "fill(os.open(os.environ['TMPDIR'] + '/file', os.O_WRONLY | os.O_CREAT))",
    "a file without a name for temporary ones": "file = tempfile.TemporaryFile(); fill(file.fileno())",
    "its own output": "fill(1)",
}
INODES_WAYS = {
    "files": "many(lambda name: open(name, 'w').close())",
    "directories": "many(os.mkdir)",
    "links": "many(lambda name: os.symlink('x', name))",
    "files in a closed directory": """
os.mkdir("closed")
os.chdir("closed")
os.chmod(".", 0o300)
many(lambda name: open(name, 'w').close())
""",
    "files without names": """
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
many(lambda name: kept.append(unlinked(name)))
""",
    "FIFOs": "many(os.mkfifo)",
    "temporary files": "os.chdir(os.environ['TMPDIR']); many(lambda name: open(name, 'w').close())",
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
PROCESSES = {
    "a tree": """
def grow():
    while True:
        if os.fork() == 0:
            time.sleep(0.05)
grow()
""",
    "threads": """
while True:
    threading.Thread(target=wait, daemon=True).start()
""",
    "daemons": """
while True:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        wait()
    status = os.waitpid(pid, 0)[1]
    if status: sys.exit(1)
""",
    "a chain": """
while os.fork() == 0:
    pass
status = os.wait()[1]
sys.exit(1 if status else 0)
""",
    "programs": """
while True:
    subprocess.Popen(["sleep", "60"], start_new_session=True)
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
        disk / "attempts", sandbox=SandboxOptions(kind="namespaces"), disk_quota=DISK_QUOTA_BYTES, processes=MAX_PROCESSES
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
        body = (
            f"try:\n{indent(source, ' ')}\nexcept (OSError, RuntimeError): pass\nwait()"
            if after == HOLD
            else f"{source}\n{after}"
        )
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


@pytest.mark.parametrize("way", INODES_WAYS)
def test_an_agent_that_uses_up_inodes_ends_for_that(executor: ProcessExecutor, disk: Path, way: str) -> None:
    ended = filled(executor, disk, INODES_WAYS[way])

    assert ended.exit.stopped_by in ("disk_quota", "disk_full"), ended


@pytest.mark.parametrize("way", MEMORY)
def test_an_agent_that_fills_memory_ends_for_that(executor: ProcessExecutor, disk: Path, way: str) -> None:
    ended = filled(executor, disk, MEMORY[way], after="sys.exit(4)", environment=LIMITS)

    assert ended.exit.reason == "oom", ended


@pytest.mark.parametrize("way", PROCESSES)
def test_an_agent_that_starts_too_many_processes_ends_for_that(executor: ProcessExecutor, disk: Path, way: str) -> None:
    ended = filled(executor, disk, PROCESSES[way])

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
    ended = filled(executor, disk, source, after="sys.exit(0)")

    assert ended.exit.code == 0, ended
