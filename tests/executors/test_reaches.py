"""What a hostile agent reaches beyond its run, under each sandbox, when the worker is root and when it is an ordinary user.

An installation with a neighbour's attempt is laid out, and `reaches.py` runs in an attempt beside it. Whether it has reached is
seen from outside: by the effect on what the worker owns, or by the word of a canary in what the agent says that it has read.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import pty
import re
import resource
import secrets
import select
import shutil
import signal
import socket
import struct
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from optio.executors.base import Handle
from optio.executors.process import ProcessExecutor
from optio.executors.procfs import descendants
from optio.executors.sandbox import ISOLATED
from optio.model.task import Environment, Network
from optio.settings import Settings
from optio.wiring import executor as executor_of
from tests.executors import reaches
from tests.executors.support import launch, read, run, shell
from tests.executors.test_process import server_of
from tests.executors.test_sandbox import PYTHON, as_user
from tests.support import ROOT, eventually

USER = 60_133
MAX_PROCESSES = 600
KEYCTL_REVOKE, KEYCTL_SETPERM, KEYCTL_DESCRIBE, KEYCTL_UNLINK, KEYCTL_INVALIDATE = 3, 5, 6, 9, 21
_QUEUED = signal.SIGRTMIN + 2
_libc = ctypes.CDLL(None, use_errno=True)
_SOURCE = Path(reaches.__file__).read_bytes()
# What one user's processes have together, as small as an attack may fill it quickly.
_RLIMIT_SIGPENDING = 11
_SHARED_LIMITS = ((resource.RLIMIT_NPROC, 150), (_RLIMIT_SIGPENDING, 256), (resource.RLIMIT_NOFILE, 16_384))
_EFFECT_TIMEOUT_S = 0.5

_NEIGHBOUR = """
import os, signal
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"signalled\\n"))
open("file", "w").write(os.environ["SPY_CANARY"])
os.write(1, b"neighbour ready\\n")
while True:
    signal.pause()
"""


class Answer(NamedTuple):
    """What is known of a reach: whether it has reached, seen from outside, what its agent says of it, and how."""

    group: str
    reached: bool
    said: bool
    how: str


@dataclass
class Installation:
    """A worker, which is this process, with an executor, a neighbour's attempt and all that a spy could want."""

    home: Path
    places: dict[str, str]
    kind: str
    word: str = field(default_factory=lambda: f"spy{secrets.token_hex(6)}")
    received: set[str] = field(default_factory=set)
    signals: int = 0
    targets: dict[str, Any] = field(default_factory=dict)

    def canary(self, label: str) -> str:
        return f"{self.word}-{label}"

    # Laying out

    def lay_out(self) -> None:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, {_QUEUED})  # in all threads that come
        self.data = self.home / "data"
        self.lay_out_files()
        self.lay_out_communication()
        self.memory = ctypes.create_string_buffer(self.canary("memory").encode(), 64)
        self.scratch = ctypes.create_string_buffer(b"untouched", 64)
        self.descriptor = os.memfd_create("canary")
        os.write(self.descriptor, self.canary("descriptor").encode())
        os.chdir(self.data)
        signal.signal(signal.SIGUSR1, self.on_signal)
        for kind, value in _SHARED_LIMITS if os.geteuid() else ():
            resource.setrlimit(kind, (value, value))
        os.environ["OPTIO_SPY_CANARY"] = self.canary("variable")
        os.environ["VAULT_TOKEN_FILE"] = f"{self.places['etc']}/vault-token"
        environ = {
            "OPTIO_DATA_DIR": str(self.data),
            "OPTIO_TASKS": str(self.home / "tasks.d"),
            "OPTIO_SANDBOX": self.kind,
            "OPTIO_ATTEMPT_PROCESSES": str(MAX_PROCESSES),
        }
        made = executor_of(Settings.load(environ))
        assert isinstance(made, ProcessExecutor)
        self.executor = made

    def on_signal(self, *_: object) -> None:
        self.signals += 1

    def lay_out_files(self) -> None:
        secret_names = ("OTHER", "RENAMED", "LINKED", "REMOVED", "TRUNCATED", "result.jsonl")
        contents = {
            **{f"{self.data}/secrets/{name}": self.canary("secret") for name in secret_names},
            f"{self.data}/dev.token": self.canary("token"),
            f"{self.data}/optio.db": self.canary("database").ljust(4096),
            f"{self.home}/.ssh/id_ed25519": self.canary("ssh"),
            f"{self.places['etc']}/private": self.canary("etc"),
            f"{self.places['etc']}/vault-token": self.canary("vault"),
            f"{self.places['opt']}/private": self.canary("opt"),
            f"{self.places['run']}/private": self.canary("run"),
            f"{self.places['tmp']}/private": self.canary("tmp"),
            f"{self.places['tmp']}/removed": self.canary("tmp"),
            f"{self.places['vartmp']}/private": self.canary("vartmp"),
            self.places["shm"]: self.canary("shm"),
        }
        for name in ("mounted", "attempts"):
            (self.data / name).mkdir(parents=True)
        self.data.chmod(0o700)
        for path, text in contents.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            Path(path).write_text(text)
            Path(path).chmod(0o600)

    def lay_out_communication(self) -> None:
        reaches.syscall("keyctl", reaches.KEYCTL_JOIN, None, 0, 0, 0)
        self.keys = []
        for label in ("user-key", "session-key"):
            text = self.canary(label).encode()
            self.keys.append(reaches.syscall("add_key", b"user", text, text, len(text), reaches.SESSION_KEYRING))
        # The user may do all with the first: programs that share a key between sessions set this.
        reaches.syscall("keyctl", KEYCTL_SETPERM, self.keys[0], 0x3F3F0000)
        reaches.syscall("keyctl", reaches.KEYCTL_LINK, self.keys[0], reaches.USER_KEYRING)
        reaches.syscall("keyctl", KEYCTL_UNLINK, self.keys[0], reaches.SESSION_KEYRING)
        self.shared_memory = reaches.checked(_libc.shmget(0, 4096, 0o1600))
        _libc.shmat.restype = ctypes.c_void_p
        text = self.canary("shm").encode()
        ctypes.memmove(_libc.shmat(self.shared_memory, None, 0), text, len(text))
        self.semaphore = reaches.checked(_libc.semget(0, 1, 0o1600))
        self.queue = reaches.checked(_libc.msgget(0, 0o1600))
        self.posix_queue = f"/{self.word}"
        attr = ctypes.create_string_buffer(struct.pack("llll", 0, 4, 64, 0).ljust(64, b"\0"))
        self.posix = reaches.checked(_libc.mq_open(self.posix_queue.encode(), os.O_CREAT | os.O_RDWR, 0o600, attr))
        _libc.sem_open.restype = ctypes.c_void_p
        self.named = _libc.sem_open(self.posix_queue.encode(), os.O_CREAT, 0o600, 0)
        self.master, self.slave = pty.openpty()
        self.terminal = os.ttyname(self.slave)
        run, stream, datagram = self.places["run"], socket.SOCK_STREAM, socket.SOCK_DGRAM
        sockets = [(f"{run}/{name}", stream) for name in ("bus", ".s.PGSQL.5432", "docker.sock")]
        sockets += [(f"{self.places['tmp']}/agent", stream), (f"{self.places['opt']}/socket", stream)]
        sockets += [(f"{self.home}/socket", stream), (f"\0{self.word}", stream)]
        sockets += [(f"{run}/log", datagram), (f"\0{self.word}-datagram", datagram)]
        for address, kind in sockets:
            self.listen(socket.socket(socket.AF_UNIX, kind), address)
        self.tcp = socket.socket()
        self.udp = socket.socket(type=datagram)
        for each in (self.tcp, self.udp):
            self.listen(each, ("127.0.0.1", 0))
        os.mkfifo(f"{self.places['opt']}/fifo", 0o600)
        self.fifo = os.open(f"{self.places['opt']}/fifo", os.O_RDWR | os.O_NONBLOCK)

    def listen(self, listening: socket.socket, address: Any) -> None:
        """Note the words that are sent there."""
        listening.bind(address)
        if isinstance(address, str) and not address.startswith("\0"):
            os.chmod(address, 0o600)
        is_stream = listening.type == socket.SOCK_STREAM

        def serve() -> None:
            while True:
                if not is_stream:
                    self.received.add(listening.recv(64).decode())
                    continue
                client, _ = listening.accept()
                with client, contextlib.suppress(OSError):
                    client.settimeout(5)
                    self.received.add(client.recv(64).decode())

        if is_stream:
            listening.listen()
        threading.Thread(target=serve, daemon=True).start()

    # Spying

    def begin_neighbour(self) -> None:
        neighbour = launch(PYTHON, "-c", _NEIGHBOUR, run_id=f"{self.word}n", env={"SPY_CANARY": self.canary("neighbour")})
        self.neighbour = self.executor.start(neighbour)
        eventually(lambda: b"ready" in read(self.neighbour, "stdout"), what="the neighbour")

    def supervisor(self, run: str) -> int:
        return int(os.readlink(self.base(run) / "control" / "started").split(":")[0])

    def base(self, run: str) -> Path:
        return self.data / "attempts" / f"{self.word}{run}-1"

    def groups(self, run: str) -> list[str]:
        try:
            return os.readlink(self.base(run) / "control" / "cgroup").split("\n")
        except OSError:
            return []

    def spy(self, environment: Environment | None, left_out: list[str]) -> dict[str, Answer]:
        """Let an agent try all reaches, and look at each one."""
        program = launch(PYTHON, "-", stdin=_SOURCE, run_id=f"{self.word}s", timeout_s=120.0, environment=environment)
        self.handle: Handle = self.executor.start(program)
        lines = self.lines()
        assert next(lines) == {"ready": True}
        self.aim(left_out)
        before = {key: evidence.look(self) for key, evidence in EFFECTS.items()}
        self.go_on()
        answers = {}
        for line in lines:
            name, said, how = line["name"], line["reached"], line["how"]
            assert not how.startswith("broken"), (name, how)
            evidence = EVIDENCE.get(name)
            if evidence is None:
                reached = said
            elif evidence.is_proof:
                reached = said and evidence.look(self) in how
            else:
                key = id(evidence)
                until = time.monotonic() + (_EFFECT_TIMEOUT_S if said else 0.0)
                while (after := evidence.look(self)) == before[key] and time.monotonic() < until:
                    time.sleep(0.01)
                reached, before[key] = after != before[key], after
            answers[name] = Answer(line["group"], reached, said, how[:200])
            if name in AFTERWARDS:
                AFTERWARDS[name](self)
            self.go_on()
        assert self.neighbour.exit() is None
        assert run(self.executor, shell("echo on", run_id=f"{self.word}a")).stdout == b"on\n"
        self.neighbour.stop()
        for handle in (self.handle, self.neighbour):
            while handle.exit() is None:
                handle.wait(0.2)
        return answers

    def aim(self, left_out: list[str]) -> None:
        """Tell the agent its targets."""
        self.own_supervisor, self.neighbour_supervisor = self.supervisor("s"), self.supervisor("n")
        self.neighbour_agent = descendants(self.neighbour_supervisor)[-1]
        self.fork_server = server_of(self.executor)
        handle_type, handle = _handle_of(f"{self.data}/secrets/OTHER")
        names = "own_supervisor neighbour_supervisor neighbour_agent fork_server descriptor shared_memory semaphore queue"
        names += " posix_queue terminal word"
        disk, number = _disk()
        targets = {
            **self.places,
            **{name: getattr(self, name) for name in names.split()},
            "data": str(self.data),
            "home": str(self.home),
            "base": str(self.base("s")),
            "neighbour": str(self.base("n")),
            "worker": os.getpid(),
            "uid": os.getuid(),
            "own_uid": os.getuid(),
            "gid": os.getgid(),
            "memory": ctypes.addressof(self.memory),
            "scratch": ctypes.addressof(self.scratch),
            "handle": handle.hex(),
            "handle_type": handle_type,
            "disk": disk,
            "disk_number": number,
            "key": self.keys[0],
            "named_semaphore": self.posix_queue,
            "abstract": self.word,
            "tcp_port": self.tcp.getsockname()[1],
            "udp_port": self.udp.getsockname()[1],
            "groups": self.groups("s"),
            "neighbour_groups": self.groups("n"),
            "left_out": left_out,
        }
        path = self.base("s") / "work" / "targets.json"
        path.write_text(json.dumps(targets))
        path.chmod(0o644)
        self.ack = os.open(self.base("s") / "work" / "ack", os.O_RDWR | os.O_NONBLOCK)

    def go_on(self) -> None:
        os.write(self.ack, b"\n")

    def lines(self) -> Iterator[dict[str, Any]]:
        data, offset = b"", 0
        while True:
            while b"\n" in data:
                line, _, data = data.partition(b"\n")
                found = json.loads(line)
                if "over" in found:
                    return
                yield found
            part = self.handle.read("stdout", offset, 1 << 20)
            data, offset = data + part, offset + len(part)
            if not part:
                assert self.handle.exit() is None, (self.handle.exit(), read(self.handle, "stderr").decode())
                self.udp.sendto(self.word.encode(), self.udp.getsockname())  # for a sniffer
                self.handle.wait(0.05)

    def planted(self) -> list[int]:
        """Return the keys in the user's keyring that a spy has added."""
        serials, text = (ctypes.c_int32 * 256)(), ctypes.create_string_buffer(256)
        size = reaches.syscall("keyctl", reaches.KEYCTL_READ, reaches.USER_KEYRING, serials, 1024, 0)
        found = []
        for serial in serials[: size // 4]:
            with contextlib.suppress(OSError):
                reaches.syscall("keyctl", KEYCTL_DESCRIBE, serial, text, 256, 0)
                if f"{self.word}-planted".encode() in text.value:
                    found.append(serial)
        return found

    def clear(self) -> None:
        """Remove what outlives this process."""
        with contextlib.suppress(AttributeError, OSError):
            self.executor.close()
        for function, name in (("shmctl", "shared_memory"), ("msgctl", "queue")):
            getattr(_libc, function)(getattr(self, name), 0, None)
        _libc.semctl(self.semaphore, 0, 0)
        for name in (self.posix_queue, *(f"{self.posix_queue}-{number}" for number in range(reaches.MAX_QUEUES))):
            _libc.mq_unlink(name.encode())
        _libc.sem_unlink(self.posix_queue.encode())
        for key in (*self.keys, *self.planted()):
            _libc.syscall(reaches.NUMBERS["keyctl"], KEYCTL_UNLINK, key, reaches.USER_KEYRING)
            _libc.syscall(reaches.NUMBERS["keyctl"], KEYCTL_REVOKE, key)


def _handle_of(path: str) -> tuple[int, bytes]:
    data, mount = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0), 136), ctypes.c_int()
    reaches.checked(_libc.name_to_handle_at(-100, path.encode(), data, ctypes.byref(mount), 0))
    size, kind = struct.unpack_from("=Ii", data)
    return kind, data.raw[8 : 8 + size]


def _disk() -> tuple[str, int]:
    """Return a disk of this machine, if it has one that can be read by root."""
    for name in sorted(os.listdir("/sys/block"), reverse=True):
        size, path = Path(f"/sys/block/{name}/size").read_text(), f"/dev/{name}"
        if int(size) and os.path.exists(path):
            return path, os.stat(path).st_rdev
    return "/dev/mem", os.makedev(1, 1)


# Evidence


class Evidence(NamedTuple):
    """The evidence of a reach from outside: a change of what `look` returns; for a proof, its part in what the agent says."""

    look: Callable[[Installation], Any]
    is_proof: bool = False


def canary(label: str) -> Evidence:
    return Evidence(lambda i: i.canary(label), is_proof=True)


def proof(look: Callable[[Installation], str]) -> Evidence:
    return Evidence(look, is_proof=True)


def effect(look: Callable[[Installation], Any]) -> Evidence:
    return Evidence(look)


def _facts(path: Callable[[Installation], Path | str], name: str) -> Evidence:
    """Return the evidence that a fact of a file is another one, or that the file is not there any more."""

    def look(i: Installation) -> Any:
        try:
            return getattr(os.lstat(path(i)), name)
        except FileNotFoundError:
            return None

    return Evidence(look)


def _mode(path: Callable[[Installation], Path | str]) -> Evidence:
    return _facts(path, "st_mode")


def _limit(who: str, name: str) -> Evidence:
    """Return the evidence of a limit, which the kernel shows of every process, whosever it is."""

    def look(i: Installation) -> str:
        lines = Path(f"/proc/{os.getpid() if who == 'worker' else getattr(i, who)}/limits").read_text().splitlines()
        return next(line for line in lines if line.startswith(name))

    return effect(look)


def _status(pid: int, name: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return line
    return ""


def _is_watched(i: Installation) -> bool:
    wanted = f"ino:{os.stat(i.data / 'secrets').st_ino:x} "
    for pid in descendants(i.own_supervisor):
        for path in Path(f"/proc/{pid}/fdinfo").glob("*"):
            with contextlib.suppress(OSError):
                text = path.read_text()
                if wanted in text and "notify" in text:
                    return True
    return False


def _can_lock(i: Installation) -> bool:
    with open(i.data / "optio.db", "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _lock_part(i: Installation) -> int:
    with open(i.data / "optio.db", "r+b") as file:
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return int(struct.unpack("hhqqi4x", fcntl.fcntl(file, 36, lock))[0])  # F_OFD_GETLK


def _message_count(i: Installation) -> int:
    attr = (ctypes.c_long * 8)()
    _libc.mq_getattr(i.posix, attr)
    return attr[3]


def _queued(i: Installation) -> int:
    return int(next(line.split()[3] for line in _table("msg") if line.split()[1] == str(i.queue)))


def _table(kind: str) -> list[str]:
    return Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]


def _semaphore_value(i: Installation) -> int:
    value = ctypes.c_int()
    _libc.sem_getvalue(ctypes.c_void_p(i.named), ctypes.byref(value))
    return value.value


def _terminal_output(i: Installation) -> bytes:
    """Return what was written to the terminal since the last look."""
    return os.read(i.master, 4096) if select.select([i.master], [], [], 0)[0] else b""


def _result(i: Installation) -> bool:
    return i.word.encode() in i.handle.read("result", 0, 4096)


def _can(action: Callable[[], Any]) -> Callable[[Installation], Any]:
    def look(_: Installation) -> Any:
        try:
            return action()
        except OSError as err:
            return err.errno

    return look


def _fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _namespace() -> None:
    """Make namespaces in a process of its own. Raises OSError if the kernel refuses them."""
    pid = os.fork()
    if pid == 0:
        made = _libc.unshare(reaches.NEWUSER | reaches.NEWUTS)
        os._exit(ctypes.get_errno() if made < 0 else 0)
    failure = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if failure:
        raise OSError(failure, "unshare")


def _send_file() -> None:
    pair = socket.socketpair()
    with pair[0], pair[1]:
        socket.send_fds(pair[0], [b"x"], [0])


def _watch() -> None:
    os.close(reaches.checked(_libc.inotify_init1(0)))


def _queue_signal() -> None:
    reaches.checked(_libc.sigqueue(os.getpid(), _QUEUED, None))
    signal.sigtimedwait({_QUEUED}, 1)


def _make_queue() -> None:
    name = f"/probe-{os.getpid()}".encode()
    attr = ctypes.create_string_buffer(struct.pack("llll", 0, 10, 8192, 0).ljust(64, b"\0"))
    os.close(reaches.checked(_libc.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, attr)))
    _libc.mq_unlink(name)


def _make_key() -> None:
    key = reaches.syscall("add_key", b"user", b"probe", b"x", 1, -2)
    _libc.syscall(reaches.NUMBERS["keyctl"], KEYCTL_INVALIDATE, key)


def _pipe_size() -> int:
    reader, writer = os.pipe()
    try:
        return fcntl.fcntl(reader, 1032)
    finally:
        os.close(reader)
        os.close(writer)


_SIGNALS = effect(lambda i: i.signals)
_RECEIVED = effect(lambda i: frozenset(i.received))
_DATABASE_SIZE = _facts(lambda i: i.data / "optio.db", "st_size")
_SCRATCH = effect(lambda i: i.scratch.value)
_NICE = effect(lambda i: os.getpriority(os.PRIO_PROCESS, 0))
_OPT = effect(lambda i: Path(i.places["opt"], "private").read_bytes())
_GROUPS = effect(lambda i: [Path(each, "pids.max").read_text() for each in i.groups("s") if Path(each, "pids.max").exists()])
_SECRET = canary("secret")
_DISK = proof(lambda i: "" if os.geteuid() else reaches.disk(_disk()[0]))


def _state(who: str) -> Evidence:
    return effect(lambda i: _status(getattr(i, who), "State").split()[1] == "T")


def _tracer(who: str) -> Evidence:
    return effect(lambda i: _status(os.getpid() if who == "worker" else getattr(i, who), "TracerPid"))


EVIDENCE: dict[str, Evidence] = {
    "reads another secret": _SECRET,
    "lists the secrets": proof(lambda i: "TRUNCATED"),
    "reads the size of a secret": proof(lambda i: str((i.data / "secrets/OTHER").stat().st_size)),
    "reads the token of the dev server": canary("token"),
    "reads the database": canary("database"),
    "reads a file of a neighbour": canary("neighbour"),
    "reads the output of a neighbour": proof(lambda i: "neighbour ready"),
    "reads its control by a relative path": proof(lambda i: "ready"),
    "changes the mode of a secret": _mode(lambda i: i.data / "secrets/OTHER"),
    "changes the mode of the token": _mode(lambda i: i.data / "dev.token"),
    "changes the mode of the database": _mode(lambda i: i.data / "optio.db"),
    "changes the mode of the data directory": _mode(lambda i: i.data),
    "changes the mode of a neighbour's directory": _mode(lambda i: i.base("n")),
    "changes the owner of a secret": _facts(lambda i: i.data / "secrets/OTHER", "st_ctime_ns"),
    "changes the times of the database": _facts(lambda i: i.data / "optio.db", "st_mtime_ns"),
    "extends its own lease": _facts(lambda i: i.base("s") / "control/started", "st_mtime_ns"),
    "changes the lease of a neighbour": _facts(lambda i: i.base("n") / "control/started", "st_mtime_ns"),
    "sets an attribute of a secret": effect(lambda i: os.listxattr(i.data / "secrets/OTHER")),
    "renames a secret": _mode(lambda i: i.data / "secrets/RENAMED"),
    "links a secret": _facts(lambda i: i.data / "secrets/LINKED", "st_nlink"),
    "removes a secret": _mode(lambda i: i.data / "secrets/REMOVED"),
    "truncates a secret": _facts(lambda i: i.data / "secrets/TRUNCATED", "st_size"),
    "adds a secret": _mode(lambda i: i.data / "secrets/ADDED"),
    "appends to the database": _DATABASE_SIZE,
    "adds a file to its control": _mode(lambda i: i.base("s") / "control/added"),
    "appends to its own end": _facts(lambda i: i.base("s") / "control/exit.json", "st_size"),
    "adds a file to a neighbour's control": _mode(lambda i: i.base("n") / "control/added"),
    "makes a secret its result by a hard link": effect(_result),
    "makes the secrets its results by a link": effect(_result),
    "watches the secrets": effect(_is_watched),
    "watches the secrets by fanotify": effect(_is_watched),
    "locks the database": effect(_can_lock),
    "locks a part of the database": effect(_lock_part),
    "reads a key of the user": canary("ssh"),
    "writes a profile of the user": _mode(lambda i: i.home / ".profile"),
    "reads a private file in /etc": canary("etc"),
    "reads a private file in /opt": canary("opt"),
    "reads the token of Vault": canary("vault"),
    "reads a private file in /run": canary("run"),
    "changes the mode of a private file in /etc": _mode(lambda i: f"{i.places['etc']}/private"),
    "writes a private file in /opt": _OPT,
    "reads the passwords of the machine": proof(lambda i: "" if os.geteuid() else reaches.whole("/etc/shadow")),
    "opens a secret by its handle": _SECRET,
    "reads a disk": _DISK,
    "makes a device of a disk": _DISK,
    "reads a file of others in /tmp": canary("tmp"),
    "writes a file of others in /tmp": _facts(lambda i: f"{i.places['tmp']}/private", "st_size"),
    "removes a file of others in /tmp": _mode(lambda i: f"{i.places['tmp']}/removed"),
    "reads a file of others in /var/tmp": canary("vartmp"),
    "reads a file of others in /dev/shm": canary("shm"),
    "writes a file of others in /dev/shm": _facts(lambda i: i.places["shm"], "st_size"),
    **{f"limits the CPU of the {who}": _limit(who, "Max cpu time") for who in reaches.PEOPLE},
    **{f"stops the {who}": _state(who) for who in reaches.PEOPLE[1:]},
    **{f"traces the {who}": _tracer(who) for who in reaches.PEOPLE},
    "limits the files of the worker": _limit("worker", "Max file size"),
    "limits the descriptors of the worker": _limit("worker", "Max open files"),
    "limits the processes of the worker": _limit("worker", "Max processes"),
    "sets the priority of the worker": _NICE,
    "sets the priority of the worker's group": _NICE,
    "sets the priority of its user": _NICE,
    "sets the priority of the worker's files": effect(lambda i: _libc.syscall(reaches.NUMBERS["ioprio_set"] + 1, 1, 0)),
    "sets the processors of the worker": effect(lambda i: os.sched_getaffinity(0)),
    "sets the scheduler of the worker": effect(lambda i: os.sched_getscheduler(0)),
    "sets the priority of the worker's session": effect(lambda i: Path("/proc/self/autogroup").read_text()),
    "makes the worker the first to be killed": effect(lambda i: Path("/proc/self/oom_score_adj").read_text()),
    "sets what a dump of the worker holds": effect(lambda i: Path("/proc/self/coredump_filter").read_text()),
    "sets the slack of the worker's timers": effect(lambda i: Path("/proc/self/timerslack_ns").read_text()),
    "signals the worker": _SIGNALS,
    "signals a thread of the worker": _SIGNALS,
    "signals the worker by a descriptor": _SIGNALS,
    "queues a signal to the worker": _SIGNALS,
    "signals the worker by the owner of a file": _SIGNALS,
    "signals a neighbour": effect(lambda i: read(i.neighbour, "stdout").count(b"signalled")),
    "takes a descriptor of the worker": canary("descriptor"),
    "reads the memory of the worker": canary("memory"),
    "writes the memory of the worker": _SCRATCH,
    "reads the memory of the worker by a file": canary("memory"),
    "writes the memory of the worker by a file": _SCRATCH,
    "reads the environment of the worker": proof(lambda i: reaches.whole("/proc/self/environ")),
    "reads the environment of a neighbour": canary("neighbour"),
    "reads a descriptor of the worker": canary("descriptor"),
    "reads by the working directory of the worker": _SECRET,
    "reads by the root of the worker": _SECRET,
    "reads by the root of its supervisor": _SECRET,
    "reads by the root of the first process": _SECRET,
    "reads the maps of the worker": proof(lambda i: reaches.read("/proc/self/maps", 20)),
    "reads the arguments of the worker": proof(lambda i: reaches.whole("/proc/self/cmdline")),
    "enters the worker's mounts": _SECRET,
    "reads the keys of its user": canary("user-key"),
    "reads the keys of the worker's session": canary("session-key"),
    "reads a key by its number": canary("user-key"),
    "changes a key by its number": effect(lambda i: reaches.read_key(i.keys[0])),
    "adds a key to its user's": effect(lambda i: i.planted()),
    "reads shared memory": canary("shm"),
    "posts a semaphore": effect(lambda i: _libc.semctl(i.semaphore, 0, 12)),
    "sends a message": effect(_queued),
    "sends a POSIX message": effect(_message_count),
    "posts a named semaphore": effect(_semaphore_value),
    "connects to an abstract socket": _RECEIVED,
    "sends to an abstract socket": _RECEIVED,
    "connects to a socket in its user's home": _RECEIVED,
    "connects to the bus of its user": _RECEIVED,
    "connects to a PostgreSQL by peer authentication": _RECEIVED,
    "connects to a Docker": _RECEIVED,
    "connects to an agent of keys in /tmp": _RECEIVED,
    "connects to a socket in /opt": _RECEIVED,
    "sends to a socket of logs": _RECEIVED,
    "writes to a FIFO in /opt": effect(lambda i: bool(select.select([i.fifo], [], [], 0)[0])),
    "writes to the worker's terminal": effect(lambda i: b"spied" in _terminal_output(i)),
    "reads the worker's terminal": canary("terminal"),
    "types into the worker's terminal": effect(lambda i: bool(select.select([i.slave], [], [], 0)[0])),
    "listens to the machine's packets": proof(lambda i: i.word),
    "becomes root by a set-uid program": proof(lambda i: "uid=0" if os.geteuid() else "of no use to root"),
    "mounts over the data directory": effect(lambda i: os.path.ismount(i.data / "mounted")),
    "writes to /opt after a new mount": _OPT,
    "writes to /opt after a new mount in namespaces": _OPT,
    "uncovers what is mounted over": canary("tmp"),
    "climbs out of its root": _SECRET,
    "leaves its cgroup": effect(
        lambda i: len({Path(f"/proc/{pid}/cgroup").read_text() for pid in descendants(i.own_supervisor)})
    ),
    "raises its own limit": _GROUPS,
    "raises its own limit by a new mount": _GROUPS,
    "limits a neighbour by its cgroup": effect(
        lambda i: [Path(each, "pids.max").read_text() for each in i.groups("n") if Path(each, "pids.max").exists()]
    ),
    "connects to a port of the machine": _RECEIVED,
    "sends to a port of the machine": _RECEIVED,
    "lists the sockets of the machine": proof(lambda i: f":{i.tcp.getsockname()[1]:04X} "),
    "uses up the inotify instances of its user": effect(_can(_watch)),
    "uses up the namespaces of its user": effect(_can(_namespace)),
    "uses up the files under way of its user": effect(_can(_send_file)),
    "uses up the processes of its user": effect(_can(_fork)),
    "uses up the signals of its user": effect(_can(_queue_signal)),
    "uses up the message queues of its user": effect(_can(_make_queue)),
    "uses up the keys of its user": effect(_can(_make_key)),
    "uses up the pipes of its user": effect(_can(_pipe_size)),
}
EFFECTS = {id(each): each for each in EVIDENCE.values() if not each.is_proof}


def _put_back_results(i: Installation) -> None:
    base = i.base("s")
    if (base / "result").is_symlink():
        (base / "result").unlink()
        (base / "result-before").rename(base / "result")
    (base / "result" / "result.jsonl").unlink(missing_ok=True)


def _unmount(i: Installation) -> None:
    if os.path.ismount(i.data / "mounted"):
        reaches.checked(_libc.umount2(str(i.data / "mounted").encode(), 2))


def _type(i: Installation) -> None:
    termios.tcflush(i.slave, termios.TCIFLUSH)
    os.write(i.master, i.canary("terminal").encode() + b"\n")


AFTERWARDS: dict[str, Callable[[Installation], None]] = {
    "makes a secret its result by a hard link": _put_back_results,
    "makes the secrets its results by a link": _put_back_results,
    "mounts over the data directory": _unmount,
    "types into the worker's terminal": _type,
    **{f"stops the {who}": lambda i, who=who: os.kill(getattr(i, who), signal.SIGCONT) for who in reaches.PEOPLE[1:]},
}


# These have their effect on all of root's processes, or on the limits that they share.
_OF_ROOT = [*reaches.COUNTERS, "sets the priority of its user"]


@contextlib.contextmanager
def _places(user: int) -> Iterator[dict[str, str]]:
    """Lay out directories of this user in places that every sandbox knows, with a program in one that makes others root."""
    name = f"optio-spy-{secrets.token_hex(4)}"
    roots = {"etc": "/etc", "opt": "/opt", "run": "/run", "tmp": "/tmp", "vartmp": "/var/tmp"}
    places = {key: f"{root}/{name}" for key, root in roots.items()}
    top = f"/var/lib/{name}"
    before, tempfile.tempdir = tempfile.tempdir, top
    try:
        for path in (*places.values(), top):
            os.mkdir(path)
            os.chown(path, user, user)
            os.chmod(path, 0o711)  # noqa: S103 - what is private lies within
        program = f"{places['opt']}/id"
        shutil.copy("/usr/bin/id", program)
        os.chown(program, 0, 0)
        os.chmod(program, 0o4755)  # noqa: S103 - as `sudo` has it
        yield {**places, "shm": f"/dev/shm/{name}"}
    finally:
        tempfile.tempdir = before
        for path in (*places.values(), top):
            shutil.rmtree(path, ignore_errors=True)
        Path(f"/dev/shm/{name}").unlink(missing_ok=True)


def _left_out(kind: str, user: int) -> list[str]:
    """Return what would harm other processes of root. Under a sandbox an agent of root's worker is not root."""
    return [] if user else _OF_ROOT if kind == "none" else _OF_ROOT[-1:]


def spied(kind: str, user: int, *, environment: Environment | None = None) -> dict[str, Answer]:
    """Let a spy try all in an installation of this user."""

    def work(home: Path) -> dict[str, Answer]:
        installation = Installation(home, places, kind)
        try:
            installation.lay_out()
            installation.begin_neighbour()
            return installation.spy(environment, _left_out(kind, user))
        finally:
            installation.clear()

    with _places(user) as places:
        return {name: Answer(*each) for name, each in as_user(work, user).items()}


# What each sandbox leaves open, by who the worker is.
_OPEN_BY_NETWORK = set(reaches.NETWORK)
_OPEN_BY_ISOLATION = {
    *_OPEN_BY_NETWORK,
    *("makes a user namespace", "makes a network of its own", "mounts in namespaces"),
}
# The kernel counts these by user.
_OPEN_BY_USER = {"uses up the pipes of its user", "uses up the files under way of its user"}
_OPEN_BY_LANDLOCK = {
    *_OPEN_BY_NETWORK,
    *_OPEN_BY_USER,
    *("uses up the inotify instances of its user", "uses up the namespaces of its user", "uses up the processes of its user"),
    *(
        "connects to a socket in /opt",
        "reads the size of a secret",
        "changes the mode of a secret",
        "changes the mode of the token",
    ),
    *("changes the mode of the database", "changes the mode of the data directory"),
    *("changes the mode of a neighbour's directory", "changes the owner of a secret", "changes the times of the database"),
    *("extends its own lease", "changes the lease of a neighbour", "sets an attribute of a secret"),
    *("watches the secrets", "watches the secrets by fanotify", "changes the mode of a private file in /etc"),
    *("reads a file of others in /tmp", "writes a file of others in /tmp", "removes a file of others in /tmp"),
    *("reads a file of others in /var/tmp", "reads a file of others in /dev/shm", "writes a file of others in /dev/shm"),
    *("lists the descriptors of its supervisor", "reads the arguments of the worker"),
    *("reads shared memory", "posts a semaphore", "sends a message", "posts a named semaphore"),
    *("connects to a socket in its user's home", "connects to the bus of its user", "connects to a Docker"),
    *("connects to a PostgreSQL by peer authentication", "connects to an agent of keys in /tmp"),
    *("sends to a socket of logs", "writes to the worker's terminal", "reads the worker's terminal"),
}
OPEN = {
    ("namespaces", USER): _OPEN_BY_ISOLATION | _OPEN_BY_USER,
    ("namespaces", 0): _OPEN_BY_ISOLATION,
    ("bwrap", USER): _OPEN_BY_ISOLATION | _OPEN_BY_USER,
    ("bwrap", 0): _OPEN_BY_ISOLATION,
    ("landlock", USER): _OPEN_BY_LANDLOCK,
    ("landlock", 0): _OPEN_BY_NETWORK | {"reads the arguments of the worker"},
}

ALL = {name for group in reaches.GROUPS.values() for name in group}
# Without a sandbox these need root, or a capability.
OF_ROOT_ALONE = {
    *("reads the passwords of the machine", "opens a secret by its handle", "sets the slack of the worker's timers"),
    *("advises about the memory of the worker", "measures the machine", "enters the worker's mounts"),
    *("types into the worker's terminal", "writes a setting of the kernel", "writes the pattern of core dumps"),
    *("writes to /sys", "switches swap off", "loads a program into the kernel", "listens to the machine's packets"),
    *("mounts over the data directory", "writes a setting by a /proc of its own", "leaves its cgroup"),
    *("raises its own limit", "raises its own limit by a new mount", "limits a neighbour by its cgroup"),
}
# These depend on the machine: its disks, its kernel, and what it shows of its first process.
OF_SOME_MACHINES = {
    *("reads a disk", "makes a device of a disk", "opens the keys of the kernel", "loads a module"),
    *("reads by the root of the first process", "reads the log of the kernel"),
}


def reached(answers: dict[str, Answer], *groups: str) -> set[str]:
    return {name for name, each in answers.items() if each.reached and (not groups or each.group in groups)}


@pytest.mark.parametrize("user", [USER, 0], ids=["an ordinary user", "root"])
def test_every_reach_works_where_no_sandbox_is(user: int) -> None:
    answers = spied("none", user)

    possible = ALL - set(reaches.INHERITED) - (OF_ROOT_ALONE if user else {*_OF_ROOT, "becomes root by a set-uid program"})
    assert len(answers) == len(ALL) - (0 if user else len(_OF_ROOT))
    assert reached(answers) - OF_SOME_MACHINES == possible - OF_SOME_MACHINES
    assert len(possible) > 100


@pytest.mark.parametrize(("kind", "user"), OPEN, ids=[f"{kind}, {'a user' if user else 'root'}" for kind, user in OPEN])
def test_a_sandbox_leaves_open_what_is_listed_and_nothing_else(kind: str, user: int) -> None:
    assert reached(spied(kind, user)) == OPEN[kind, user]


# The rows of the page of security, and the reaches that each is about; the first that fits.
ROWS = {
    "reads private files of your user, such as `~/.ssh`, also in `/etc` and `/opt`": "reads a (key of the user|private file)",
    "renews its own lease, or that of another attempt": ".* lease",
    "watches the worker's files, or learns their sizes": "watches|reads the size",
    "signals the worker, supervisors, other agents": "signals|stops|queues a signal",
    "changes limits, priorities or processors of other processes": (
        "limits the|sets (the (priority|processors|scheduler|slack)|what a dump)|makes the worker the first"
    ),
    "reads the kernel's keys of your user or session": ".*keys of (its user|the worker)|.*key by its number|adds a key",
    "uses up pending signals, message queues or keys of your user": "uses up the (signals|message queues|keys)",
    "uses up inotify instances, namespaces or processes of your user": "uses up the (inotify|namespaces|processes)",
    "uses up pages of pipes, files under way or epoll watches of your user": "uses up the (pipes|files under way)",
    "uses shared memory, semaphores or queues of your user": "reads shared|posts|sends a (POSIX )?message",
    "lists the arguments of the machine's processes": "reads the arguments",
    "lists what its supervisor has open": "lists the descriptors",
    "reads or writes terminals of your user": ".* the worker's terminal",
    "reads or writes files of your user in the machine's `/tmp`, `/var/tmp` and `/dev/shm`": ".* of others in",
    "connects to abstract sockets": ".* an abstract socket",
    "connects to your user's sockets by a path, such as Docker's, PostgreSQL's or the user bus": (
        "connects to (a socket|the bus|a PostgreSQL|a Docker|an agent)|sends to a socket|writes to a FIFO"
    ),
    "reaches TCP and UDP ports of the machine, and lists its sockets": ".* to a port of the machine|lists the sockets",
    "makes user namespaces, with a network or mounts in them": (
        "makes a (user namespace|network)|mounts in namespaces|writes to /opt after a new mount in"
    ),
    "changes rights, owners, attributes or times of your user's files": (
        "changes the (mode|owner|times)|sets an attribute|(renames|links|removes|truncates|adds) a |appends|locks|writes a pr"
    ),
    "changes the kernel's settings, mounts or cgroups of the machine": (
        "mounts over|uncovers|climbs|writes (a setting|the pattern|to /)|"
        ".* (mount|cgroup|limit|kernel|module|swap|device|packets|set-uid)"
    ),
    "reads secrets, the database, other attempts, the worker's environment": "",
}


def is_open(cell: str, kind: str, user: int) -> bool:
    """Return what a cell of the page says of a sandbox: `closed`, or `closed; with `bwrap` as a user open`, for example."""
    usual, _, exception = cell.partition("; ")
    applies = (
        exception.endswith("open")
        and "as a user" in exception
        and bool(user)
        and ("with" not in exception or kind in exception)
    )
    return applies or usual.startswith("open")


@pytest.mark.parametrize(("kind", "user"), OPEN, ids=[f"{kind}, {'a user' if user else 'root'}" for kind, user in OPEN])
def test_the_page_of_security_says_what_a_sandbox_leaves_open(kind: str, user: int) -> None:
    column = 1 if kind in ISOLATED else 3 if user else 2
    text = (ROOT / "docs/operating/security.md").read_text()
    lines = text.split("| reach |")[1].split("\n\n")[0].splitlines()[2:]
    cells = {row: rest[column - 1] for row, *rest in ([part.strip() for part in line.strip("|").split("|")] for line in lines)}

    names = {next(row for row, pattern in ROWS.items() if re.match(pattern, name)): name for name in sorted(OPEN[kind, user])}
    assert {row for row, cell in cells.items() if is_open(cell, kind, user)} == set(names), names
    assert set(cells) == set(ROWS)
    assert {next(row for row, pattern in ROWS.items() if re.match(pattern, name)) for name in ALL} == set(ROWS)


@pytest.mark.parametrize("kind", ISOLATED)
def test_an_agent_without_a_network_reaches_no_port_and_no_list_of_sockets(kind: str) -> None:
    answers = spied(kind, USER, environment=Environment(network=Network(egress=[])))

    assert reached(answers, "network") == set()


def test_what_only_optio_prevents_would_be_found() -> None:
    """These reaches fail without a sandbox, too."""
    targets = SimpleNamespace(descriptors=["7"])
    os.environ["OPTIO_SPY_CANARY"] = "a word"
    try:
        proofs = [str(reach(targets)) for reach in reaches.INHERITED.values()]
    finally:
        del os.environ["OPTIO_SPY_CANARY"]

    assert proofs == ["['7']", "a word"]
