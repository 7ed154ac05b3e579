"""Agents that fill what they share with others, in several ways each, and a driver that lets a real `optio dev` bear them.

`python -m tests.executors.filling --disk ext4 --sandbox bwrap --user` prints a table: how the run of each way ended, whether a
run that was triggered meanwhile was accepted (202) and completed, and how often a neighbour's writing failed. Takes root, and
a loop device for ext4. The disk is small, and memory and processes are limited by a cgroup, so this machine is not filled.
Its 8,000 inodes may be used up between two looks of the supervisor. Then a run may end with `exit_code`, since its
agent could make no file.
"""

import argparse
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import indent

from tests.support import COMMAND_TASK, ROOT, Dev, eventually

USER = 60_133
PYTHON = "/usr/bin/python3"
# So fast that a limit has to be noticed within seconds, and no faster than a disk writes.
HEAD = """
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
NEIGHBOUR = """
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
WAYS = {"disk": DISK, "inodes": INODES_WAYS, "memory": MEMORY, "processes": PROCESSES}
EXPECTED = {"disk": "disk", "inodes": "disk", "memory": "oom", "processes": "processes"}
_SETTINGS = {"OPTIO_ATTEMPT_DISK": "16Mi", "OPTIO_ATTEMPT_PROCESSES": "40", "OPTIO_MAX_CONCURRENT": "6"}
_RESOURCES = "maxConcurrent: 3\nmaxRetries: 0\n"
_LIMITS = "environment: {resources: {memory: 64Mi, cpu: 500m}}\n"


def program(source: str, *, holds: bool = True) -> str:
    """Return the source of an agent that fills something. One that `holds` waits when it is refused: that it gives back what it
    holds is for Optio to see to."""
    body = f"try:\n{indent(source, ' ')}\nexcept (OSError, RuntimeError): pass\nwait()" if holds else f"{source}\nsys.exit(4)"
    return f"{HEAD}\n{body}\n"


@contextlib.contextmanager
def small_disk(kind: str, *, megabytes: int, inodes: int, user: int = 0) -> Iterator[Path]:
    """Mount a small disk with few inodes: a `tmpfs`, `ext4` in a file, or an `overlay` over that. It belongs to a user."""
    path = Path(f"/var/lib/optio-filling-{secrets.token_hex(4)}")
    image = path.with_suffix(".image")
    mounts = [path]
    path.mkdir()
    try:
        if kind == "tmpfs":
            options = f"size={megabytes}m,nr_inodes={inodes}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
        else:
            with image.open("wb") as file:
                file.truncate(megabytes << 20)
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", str(inodes), image], check=True)
            subprocess.run(["mount", "-o", "loop", image, path], check=True)
        if kind == "overlay":
            for name in ("lower", "upper", "inner", "top"):
                (path / name).mkdir()
            options = f"lowerdir={path}/lower,upperdir={path}/upper,workdir={path}/inner"
            mounts.insert(0, path / "top")
            subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", path / "top"], check=True)
        os.chown(mounts[0], user, user)
        for mounted in mounts:
            mounted.chmod(0o711)
        yield mounts[0]
    finally:
        for mounted in mounts:
            subprocess.run(["umount", "--lazy", mounted], check=True)
        image.unlink(missing_ok=True)
        path.rmdir()


@contextlib.contextmanager
def delegated_groups(user: int) -> Iterator[list[Path]]:
    """Make cgroups below that of this process, in which a user may make others."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    names = [(names, own) for _, names, own in lines if set(names.split(",")) & {"memory", "cpu", "pids"} or not names]
    made = []
    for controller, own in names if user else ():
        top = Path("/sys/fs/cgroup", controller, own.lstrip("/"))
        if (top / "cgroup.procs").exists():
            made.append(top / f"optio-filling-{secrets.token_hex(4)}")
            made[-1].mkdir()
            for each in (made[-1], *made[-1].iterdir()):
                shutil.chown(each, user, user)
    try:
        yield made
    finally:
        for group in made:
            eventually(lambda group=group: not _rmdir(group), what=f"{group} is empty")


def _rmdir(path: Path) -> OSError | None:
    try:
        path.rmdir()
    except OSError as err:
        return err
    return None


class _UserDev(Dev):
    """`optio dev` as a user, in cgroups of its own."""

    user = 0
    groups: tuple[Path, ...] = ()

    def start(self, *, ready: bool = True) -> None:
        def enter() -> None:
            for group in self.groups:
                (group / "cgroup.procs").write_text("0")

        words = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--"] if self.user else []
        command = [*words, sys.executable, "-m", "optio", self.command]
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=enter
            )
        if ready:
            eventually(self._answers, within=60, what="optio dev")


def _task(name: str, source: str, more: str) -> str:
    return COMMAND_TASK.format(name=name, command=json.dumps([PYTHON, "-c", source])) + _RESOURCES + more


def _tried(dev: Dev, task: str) -> tuple[str, float, str]:
    """Let one way run beside a neighbour. Return how it ended, in how many seconds, and what became of the others."""
    neighbour = dev.post("/api/tasks/neighbour/runs", {"params": {}}).json["runId"]
    work = dev.data / "attempts" / f"{neighbour}-1" / "work"
    eventually(lambda: (work / "file").exists(), what="the neighbour")
    begun = time.monotonic()
    filler = dev.post(f"/api/tasks/{task}/runs", {"params": {}}).json["runId"]
    accepted, completed = [], []
    while (run := dev.get(f"/api/workflow-runs/{filler}").json)["state"] in ("queued", "running"):
        answer = dev.post("/api/tasks/next/runs", {"params": {}})
        accepted.append(answer.status)
        if answer.status == 202:
            later = dev.until_ended(answer.json["runId"], within=60)
            completed.append(later["reason"] or later["state"])
        time.sleep(0.1)
    took = time.monotonic() - begun
    (work / "stop").touch()
    beside = dev.until_ended(neighbour, within=60)
    log = dev.get(f"/api/workflow-runs/{neighbour}/logs").body.decode()
    failures = log.partition("done ")[2].split('"')[0].split("\\")[0].strip() or "?"
    others = f"{accepted.count(202)}/{len(accepted)} accepted, then {dict(Counter(completed))}"
    return run["reason"] or run["state"], took, f"{others}, neighbour {beside['state']}, its failures {failures}"


def survey(disk: str, sandbox: str, user: int, ways: Mapping[str, Mapping[str, str]], say: Callable[[str], None]) -> int:
    """Print a line for each way. Return the number of those that ended otherwise than expected."""
    wrong = 0
    with small_disk(disk, megabytes=512, inodes=8_000, user=user) as place, delegated_groups(user) as groups:
        dev = _UserDev(place, environ={**_SETTINGS, "OPTIO_SANDBOX": sandbox, "HOME": str(place), "TMPDIR": "/tmp"})
        dev.user, dev.groups = user, tuple(groups)
        dev.write("neighbour.yaml", _task("Neighbour", NEIGHBOUR, ""))
        dev.write("next.yaml", _task("Next", "open('file', 'w').write('x')", ""))
        names = {(kind, way): f"{kind}-{number}" for kind in ways for number, way in enumerate(ways[kind])}
        for (kind, way), name in names.items():
            source = program(ways[kind][way], holds=kind != "memory")
            dev.write(f"{name}.yaml", _task(name, source, _LIMITS if kind == "memory" else ""))
        for path in (place, *place.rglob("*")):
            os.chown(path, user, user)
        dev.start()
        try:
            for (kind, way), name in names.items():
                reason, took, others = _tried(dev, name)
                is_right = reason == EXPECTED[kind] and others.endswith("its failures 0")
                wrong += not is_right
                say(f"{'' if is_right else '! '}{kind}: {way}: {reason} after {took:.1f} s; {others}")
        finally:
            dev.stop()
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--disk", choices=("tmpfs", "ext4", "overlay"), default="ext4")
    parser.add_argument("--sandbox", choices=("namespaces", "bwrap", "landlock"), default="namespaces")
    parser.add_argument("--user", action="store_true", help="let an unprivileged user have the worker")
    options = parser.parse_args()
    sys.exit(survey(options.disk, options.sandbox, USER if options.user else 0, WAYS, lambda line: print(line, flush=True)) > 0)


if __name__ == "__main__":
    main()
