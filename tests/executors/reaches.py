"""The reaches of a hostile agent beyond its run. It runs inside of an attempt, by a plain Python, and imports nothing of Optio.

Each reach is a function of the targets that raises OSError where it is refused. It returns its proof, such as what it has read.
After each one a line of JSON is printed: `name`, `group`, `reached` and `how`. Then the program waits until its observer
has looked at the effect from outside; the process that has reached lives until then.

    ack            a FIFO in the working directory, by which the observer says "go on"
    targets.json   what the observer has laid out, beside it
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import platform
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

REACH_TIMEOUT_S = 10.0
OBSERVER_TIMEOUT_S = 30.0
MAX_QUEUES = 64
_X86_64 = {
    "init_module": 175,
    "swapoff": 168,
    "tgkill": 234,
    "rt_sigqueueinfo": 129,
    "add_key": 248,
    "keyctl": 250,
    "ioprio_set": 251,
    "migrate_pages": 256,
    "move_pages": 279,
    "perf_event_open": 298,
    "kcmp": 312,
    "bpf": 321,
    "userfaultfd": 323,
}
_AARCH64 = {
    "init_module": 105,
    "swapoff": 225,
    "tgkill": 131,
    "rt_sigqueueinfo": 138,
    "add_key": 217,
    "keyctl": 219,
    "ioprio_set": 30,
    "migrate_pages": 238,
    "move_pages": 239,
    "perf_event_open": 241,
    "kcmp": 272,
    "bpf": 280,
    "userfaultfd": 282,
}
_EVERYWHERE = {"io_uring_setup": 425, "pidfd_getfd": 438, "process_madvise": 440}
NUMBERS = {**(_AARCH64 if platform.machine() == "aarch64" else _X86_64), **_EVERYWHERE}
NEWNS, NEWCGROUP, NEWUTS, NEWUSER, NEWNET = 0x20000, 0x02000000, 0x04000000, 0x10000000, 0x40000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
KEYCTL_UPDATE, KEYCTL_LINK, KEYCTL_READ, KEYCTL_JOIN = 2, 8, 11, 1
USER_KEYRING, SESSION_KEYRING = -4, -3

_libc = ctypes.CDLL(None, use_errno=True)
Targets = Any
Reach = Callable[[Targets], object]


def checked(result: int) -> int:
    """Return a result of the C library. Raises OSError for -1."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def syscall(name: str, *arguments: object) -> int:
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return checked(_libc.syscall(ctypes.c_long(NUMBERS[name]), *words))


def read(path: str, size: int = 1 << 16) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(descriptor, size).decode("latin-1")
    finally:
        os.close(descriptor)


def write(path: str, data: str, flags: int = os.O_APPEND) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | flags, 0o600)
    os.write(descriptor, data.encode())


def whole(path: str) -> str:
    """Return the digest of a file without a size of its own."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def refused(words: str) -> OSError:
    return PermissionError(errno.EPERM, words)


# Files


def open_by_handle(t: Targets) -> str:
    data = bytes.fromhex(t.handle)
    handle = ctypes.create_string_buffer(struct.pack("=Ii", len(data), t.handle_type) + data)
    place = os.open(".", os.O_RDONLY | os.O_DIRECTORY)  # on the same file system
    descriptor = checked(_libc.open_by_handle_at(place, handle, os.O_RDONLY))
    return os.read(descriptor, 4096).decode("latin-1")


def made_device(t: Targets) -> str:
    os.mknod("device", 0o60600, t.disk_number)
    return disk("device")


def disk(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    return os.pread(descriptor, 64, 1024).hex()


def watched(t: Targets) -> None:
    descriptor = checked(_libc.inotify_init1(0))
    checked(_libc.inotify_add_watch(descriptor, f"{t.data}/secrets".encode(), 0xFFF))


def watched_by_fanotify(t: Targets) -> None:
    descriptor = checked(_libc.fanotify_init(0x200, os.O_RDONLY))  # FAN_REPORT_FID
    path = f"{t.data}/secrets".encode()
    checked(_libc.fanotify_mark(descriptor, 1, ctypes.c_uint64(0x2), ctypes.c_int(-100), path))


def locked(t: Targets) -> None:
    fcntl.flock(os.open(f"{t.data}/optio.db", os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)


def locked_part(t: Targets) -> None:
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 100, 10, 0)
    fcntl.fcntl(os.open(f"{t.data}/optio.db", os.O_RDWR), 37, lock)  # F_OFD_SETLK


def linked_result(t: Targets) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{t.base}/result/result.jsonl")
    os.link(f"{t.data}/secrets/OTHER", f"{t.base}/result/result.jsonl")


def linked_results(t: Targets) -> None:
    os.rename(f"{t.base}/result", f"{t.base}/result-before")
    os.symlink(f"{t.data}/secrets", f"{t.base}/result")


def marker_time(control: str) -> None:
    marker = f"{control}/started"
    at = os.lstat(marker).st_mtime_ns + 1_000_000_000
    os.utime(marker, ns=(at, at), follow_symlinks=False)


FILES: dict[str, Reach] = {
    "reads another secret": lambda t: read(f"{t.data}/secrets/OTHER"),
    "lists the secrets": lambda t: " ".join(os.listdir(f"{t.data}/secrets")),
    "reads the size of a secret": lambda t: str(os.stat(f"{t.data}/secrets/OTHER").st_size),
    "reads the token of the dev server": lambda t: read(f"{t.data}/dev.token"),
    "reads the database": lambda t: read(f"{t.data}/optio.db"),
    "reads a file of a neighbour": lambda t: read(f"{t.neighbour}/work/file"),
    "reads the output of a neighbour": lambda t: read(f"{t.neighbour}/control/stdout"),
    "reads its control by a relative path": lambda t: read("../control/stdout"),
    "changes the mode of a secret": lambda t: os.chmod(f"{t.data}/secrets/OTHER", 0o644),
    "changes the mode of the token": lambda t: os.chmod(f"{t.data}/dev.token", 0o644),
    "changes the mode of the database": lambda t: os.chmod(f"{t.data}/optio.db", 0o644),
    "changes the mode of the data directory": lambda t: os.chmod(t.data, 0o711),  # noqa: S103
    "changes the mode of a neighbour's directory": lambda t: os.chmod(t.neighbour, 0o711),  # noqa: S103
    "changes the owner of a secret": lambda t: os.chown(f"{t.data}/secrets/OTHER", t.uid, t.gid),
    "changes the times of the database": lambda t: os.utime(f"{t.data}/optio.db", ns=(1, 1)),
    "extends its own lease": lambda t: marker_time(f"{t.base}/control"),
    "changes the lease of a neighbour": lambda t: marker_time(f"{t.neighbour}/control"),
    "sets an attribute of a secret": lambda t: os.setxattr(f"{t.data}/secrets/OTHER", "user.spy", b"1"),
    "renames a secret": lambda t: os.rename(f"{t.data}/secrets/RENAMED", f"{t.data}/secrets/OTHERWISE"),
    "links a secret": lambda t: os.link(f"{t.data}/secrets/LINKED", "linked"),
    "removes a secret": lambda t: os.unlink(f"{t.data}/secrets/REMOVED"),
    "truncates a secret": lambda t: os.truncate(f"{t.data}/secrets/TRUNCATED", 1),
    "adds a secret": lambda t: write(f"{t.data}/secrets/ADDED", "x", os.O_CREAT),
    "appends to the database": lambda t: write(f"{t.data}/optio.db", "more"),
    "adds a file to its control": lambda t: write(f"{t.base}/control/added", "x", os.O_CREAT),
    "appends to its own end": lambda t: write(f"{t.base}/control/exit.json", "x"),
    "adds a file to a neighbour's control": lambda t: write(f"{t.neighbour}/control/added", "x", os.O_CREAT),
    "makes a secret its result by a hard link": linked_result,
    "makes the secrets its results by a link": linked_results,
    "watches the secrets": watched,
    "watches the secrets by fanotify": watched_by_fanotify,
    "locks the database": locked,
    "locks a part of the database": locked_part,
    "reads a key of the user": lambda t: read(f"{t.home}/.ssh/id_ed25519"),
    "writes a profile of the user": lambda t: write(f"{t.home}/.profile", "x", os.O_CREAT),
    "reads a private file in /etc": lambda t: read(f"{t.etc}/private"),
    "reads a private file in /opt": lambda t: read(f"{t.opt}/private"),
    "reads the token of Vault": lambda t: read(f"{t.etc}/vault-token"),
    "reads a private file in /run": lambda t: read(f"{t.run}/private"),
    "changes the mode of a private file in /etc": lambda t: os.chmod(f"{t.etc}/private", 0o644),
    "writes a private file in /opt": lambda t: write(f"{t.opt}/private", "written"),
    "reads the passwords of the machine": lambda t: whole("/etc/shadow"),
    "opens a secret by its handle": open_by_handle,
    "reads a disk": lambda t: disk(t.disk),
    "makes a device of a disk": made_device,
    "reads a file of others in /tmp": lambda t: read(f"{t.tmp}/private"),
    "writes a file of others in /tmp": lambda t: write(f"{t.tmp}/private", "written"),
    "removes a file of others in /tmp": lambda t: os.unlink(f"{t.tmp}/removed"),
    "reads a file of others in /var/tmp": lambda t: read(f"{t.vartmp}/private"),
    "reads a file of others in /dev/shm": lambda t: read(t.shm),
    "writes a file of others in /dev/shm": lambda t: write(t.shm, "written"),
}


# Processes


def limit(pid: int, kind: int, value: int) -> None:
    _, hard = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (value, hard))


def set_io_priority(t: Targets) -> None:
    syscall("ioprio_set", 1, t.worker, 2 << 13 | 7)


def lower_limit(t: Targets, kind: int) -> None:
    soft, hard = resource.prlimit(t.worker, kind)
    resource.prlimit(t.worker, kind, (soft - 1, hard))


def queue_signal(t: Targets) -> None:
    info = struct.pack("iii4xii", signal.SIGUSR1, 0, -1, os.getpid(), os.getuid()).ljust(128, b"\0")
    syscall("rt_sigqueueinfo", t.worker, int(signal.SIGUSR1), ctypes.create_string_buffer(info))


def signal_by_owner(t: Targets) -> None:
    """Let the kernel send the signal, because a pipe has something to read."""
    ours, theirs = socket.socketpair()
    fcntl.fcntl(ours, fcntl.F_SETSIG if hasattr(fcntl, "F_SETSIG") else 10, int(signal.SIGUSR1))
    fcntl.fcntl(ours, fcntl.F_SETOWN, t.worker)
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    theirs.send(b"x")


def take_descriptor(t: Targets) -> str:
    descriptor = syscall("pidfd_getfd", os.pidfd_open(t.worker), t.descriptor, 0)
    return os.pread(descriptor, 4096, 0).decode()


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


def vectors(data: Any, address: int, size: int) -> tuple[Any, Any]:
    return ctypes.byref(_Vector(ctypes.addressof(data), size)), ctypes.byref(_Vector(address, size))


def read_memory(t: Targets) -> str:
    data = ctypes.create_string_buffer(64)
    ours, theirs = vectors(data, t.memory, 64)
    checked(_libc.process_vm_readv(t.worker, ours, 1, theirs, 1, 0))
    return data.raw.decode("latin-1")


def write_memory(t: Targets) -> None:
    data = ctypes.create_string_buffer(b"written", 8)
    ours, theirs = vectors(data, t.scratch, 8)
    checked(_libc.process_vm_writev(t.worker, ours, 1, theirs, 1, 0))


def advise(t: Targets) -> None:
    vector = _Vector(t.memory & ~4095, 4096)
    syscall("process_madvise", os.pidfd_open(t.worker), ctypes.byref(vector), 1, 20, 0)  # MADV_COLD


def read_memory_file(t: Targets) -> str:
    descriptor = os.open(f"/proc/{t.worker}/mem", os.O_RDONLY)
    return os.pread(descriptor, 64, t.memory).decode("latin-1")


def write_memory_file(t: Targets) -> None:
    descriptor = os.open(f"/proc/{t.worker}/mem", os.O_RDWR)
    os.pwrite(descriptor, b"by file\0", t.scratch)


def trace(pid: int) -> None:
    checked(_libc.ptrace(0x4206, ctypes.c_long(pid), None, None))  # PTRACE_SEIZE


def locate_pages(t: Targets) -> str:
    pages, status = (ctypes.c_void_p * 1)(t.memory & ~4095), (ctypes.c_int * 1)(-99)
    syscall("move_pages", t.worker, 1, pages, None, status, 0)
    return str(status[0])


def migrate(t: Targets) -> None:
    mask = ctypes.byref(ctypes.c_ulong(1))
    syscall("migrate_pages", t.worker, 64, mask, mask)


def perf(pid: int, cpu: int) -> None:
    attr = struct.pack("IIQ", 1, 128, 1).ljust(128, b"\0")  # PERF_TYPE_SOFTWARE, the task's clock
    attr = attr[:40] + struct.pack("Q", 1 << 5 | 1 << 6) + attr[48:]  # without kernel and hypervisor
    syscall("perf_event_open", ctypes.create_string_buffer(attr), pid, cpu, -1, 0)


def enter_namespace(t: Targets) -> str:
    checked(_libc.setns(os.open(f"/proc/{t.worker}/ns/mnt", os.O_RDONLY), NEWNS))
    return read(f"{t.data}/secrets/OTHER")


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


PEOPLE = ("worker", "fork_server", "own_supervisor", "neighbour_supervisor", "neighbour_agent")


def of(who: str, action: Callable[[int], object]) -> Reach:
    return lambda t: action(getattr(t, who))


PROCESSES: dict[str, Reach] = {
    **{f"limits the CPU of the {who}": of(who, lambda pid: limit(pid, resource.RLIMIT_CPU, 500_000)) for who in PEOPLE},
    **{f"stops the {who}": of(who, stop) for who in PEOPLE[1:]},
    **{f"traces the {who}": of(who, trace) for who in PEOPLE},
    "limits the files of the worker": lambda t: limit(t.worker, resource.RLIMIT_FSIZE, 1 << 50),
    "limits the descriptors of the worker": lambda t: lower_limit(t, resource.RLIMIT_NOFILE),
    "limits the processes of the worker": lambda t: lower_limit(t, resource.RLIMIT_NPROC),
    "sets the priority of the worker": lambda t: os.setpriority(os.PRIO_PROCESS, t.worker, 1),
    "sets the priority of the worker's group": lambda t: os.setpriority(os.PRIO_PGRP, t.worker, 2),
    "sets the priority of its user": lambda t: os.setpriority(os.PRIO_USER, t.own_uid, 3),
    "sets the priority of the worker's files": set_io_priority,
    "sets the processors of the worker": lambda t: os.sched_setaffinity(t.worker, {min(os.sched_getaffinity(0))}),
    "sets the scheduler of the worker": lambda t: os.sched_setscheduler(t.worker, os.SCHED_BATCH, os.sched_param(0)),
    "sets the priority of the worker's session": lambda t: write(f"/proc/{t.worker}/autogroup", "5", 0),
    "makes the worker the first to be killed": lambda t: write(f"/proc/{t.worker}/oom_score_adj", "500", 0),
    "sets what a dump of the worker holds": lambda t: write(f"/proc/{t.worker}/coredump_filter", "0x7f", 0),
    "sets the slack of the worker's timers": lambda t: write(f"/proc/{t.worker}/timerslack_ns", "60001", 0),
    "signals the worker": lambda t: os.kill(t.worker, signal.SIGUSR1),
    "signals a thread of the worker": lambda t: syscall("tgkill", t.worker, t.worker, int(signal.SIGUSR1)),
    "signals the worker by a descriptor": lambda t: signal.pidfd_send_signal(os.pidfd_open(t.worker), signal.SIGUSR1),
    "queues a signal to the worker": queue_signal,
    "signals the worker by the owner of a file": signal_by_owner,
    "signals a neighbour": lambda t: os.kill(t.neighbour_agent, signal.SIGUSR1),
    "takes a descriptor of the worker": take_descriptor,
    "reads the memory of the worker": read_memory,
    "writes the memory of the worker": write_memory,
    "reads the memory of the worker by a file": read_memory_file,
    "writes the memory of the worker by a file": write_memory_file,
    "advises about the memory of the worker": advise,
    "locates the pages of the worker": locate_pages,
    "migrates the pages of the worker": migrate,
    "reads the environment of the worker": lambda t: whole(f"/proc/{t.worker}/environ"),
    "reads the environment of a neighbour": lambda t: read(f"/proc/{t.neighbour_agent}/environ"),
    "reads a descriptor of the worker": lambda t: read(f"/proc/{t.worker}/fd/{t.descriptor}"),
    "reads by the working directory of the worker": lambda t: read(f"/proc/{t.worker}/cwd/secrets/OTHER"),
    "reads by the root of the worker": lambda t: read(f"/proc/{t.worker}/root{t.data}/secrets/OTHER"),
    "reads by the root of its supervisor": lambda t: read(f"/proc/{t.own_supervisor}/root{t.data}/secrets/OTHER"),
    "reads by the root of the first process": lambda t: read(f"/proc/1/root{t.data}/secrets/OTHER"),
    "lists the descriptors of its supervisor": lambda t: str(len(os.listdir(f"/proc/{t.own_supervisor}/fd"))),
    "reads the maps of the worker": lambda t: read(f"/proc/{t.worker}/maps", 64),
    "reads the arguments of the worker": lambda t: whole(f"/proc/{t.worker}/cmdline"),
    "compares descriptors of the worker": lambda t: syscall("kcmp", t.worker, t.own_supervisor, 0, 0, 0),
    "measures the worker": lambda t: perf(t.worker, -1),
    "measures the machine": lambda t: perf(-1, 0),
    "enters the worker's mounts": enter_namespace,
}


# Communication


def read_key(serial: int) -> str:
    data = ctypes.create_string_buffer(256)
    size = syscall("keyctl", KEYCTL_READ, serial, data, 256, 0)
    return data.raw[:size].decode("latin-1")


def read_keyring(keyring: int) -> str:
    data = (ctypes.c_int32 * 64)()
    size = syscall("keyctl", KEYCTL_READ, keyring, data, 256, 0)
    found = []
    for serial in data[: size // 4]:
        with contextlib.suppress(OSError):
            found.append(read_key(serial))
    return " ".join(found)


def update_key(t: Targets) -> None:
    syscall("keyctl", KEYCTL_UPDATE, t.key, b"written", 7, 0)


def add_key(t: Targets) -> None:
    syscall("add_key", b"user", f"{t.word}-planted".encode(), b"planted", 7, USER_KEYRING)


def read_shared_memory(t: Targets) -> str:
    _libc.shmat.restype = ctypes.c_void_p
    address = _libc.shmat(t.shared_memory, None, 0o10000)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "shmat")
    return ctypes.string_at(address, 64).decode("latin-1")


def post_semaphore(t: Targets) -> None:
    checked(_libc.semop(t.semaphore, ctypes.create_string_buffer(struct.pack("Hhh", 0, 1, 0)), 1))


def send_message(t: Targets) -> None:
    checked(_libc.msgsnd(t.queue, ctypes.create_string_buffer(struct.pack("q", 1) + b"spy"), 3, 0o4000))


def send_posix_message(t: Targets) -> None:
    queue = checked(_libc.mq_open(t.posix_queue.encode(), os.O_WRONLY | os.O_NONBLOCK))
    checked(_libc.mq_send(queue, b"spy", 3, 0))


def post_named_semaphore(t: Targets) -> None:
    _libc.sem_open.restype = ctypes.c_void_p
    semaphore = _libc.sem_open(t.named_semaphore.encode(), 0)
    if not semaphore:
        raise OSError(ctypes.get_errno(), "sem_open")
    checked(_libc.sem_post(ctypes.c_void_p(semaphore)))


def connect(address: str, name: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        client.connect(address)
        client.sendall(name.encode())
        client.shutdown(socket.SHUT_WR)
        client.recv(1)  # until the other side has read it


def send_datagram(address: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(address.lstrip("\0").encode(), address)


def write_fifo(path: str) -> None:
    write(path, "spy", 0)


def type_into(t: Targets) -> None:
    terminal = os.open(t.terminal, os.O_RDWR | os.O_NOCTTY)
    for byte in b"typed\n":
        fcntl.ioctl(terminal, 0x5412, bytes([byte]))  # TIOCSTI


COMMUNICATION: dict[str, Reach] = {
    "reads the keys of its user": lambda t: read_keyring(USER_KEYRING),
    "reads the keys of the worker's session": lambda t: read_keyring(SESSION_KEYRING),
    "reads a key by its number": lambda t: read_key(t.key),
    "changes a key by its number": update_key,
    "adds a key to its user's": add_key,
    "reads shared memory": read_shared_memory,
    "posts a semaphore": post_semaphore,
    "sends a message": send_message,
    "sends a POSIX message": send_posix_message,
    "posts a named semaphore": post_named_semaphore,
    "connects to an abstract socket": lambda t: connect("\0" + t.abstract, "abstract"),
    "sends to an abstract socket": lambda t: send_datagram("\0" + t.abstract + "-datagram"),
    "connects to a socket in its user's home": lambda t: connect(f"{t.home}/socket", "home"),
    "connects to the bus of its user": lambda t: connect(f"{t.run}/bus", "bus"),
    "connects to a PostgreSQL by peer authentication": lambda t: connect(f"{t.run}/.s.PGSQL.5432", "postgres"),
    "connects to a Docker": lambda t: connect(f"{t.run}/docker.sock", "docker"),
    "connects to an agent of keys in /tmp": lambda t: connect(f"{t.tmp}/agent", "agent"),
    "connects to a socket in /opt": lambda t: connect(f"{t.opt}/socket", "opt"),
    "sends to a socket of logs": lambda t: send_datagram(f"{t.run}/log"),
    "writes to a FIFO in /opt": lambda t: write_fifo(f"{t.opt}/fifo"),
    "writes to the worker's terminal": lambda t: write(t.terminal, "spied\n", os.O_NOCTTY),
    "types into the worker's terminal": type_into,
    "reads the worker's terminal": lambda t: read(t.terminal),
}


# The kernel


def same(path: str) -> None:
    """Write what a setting of the kernel is already."""
    text = read(path)
    write(path, next((word[1:-1] for word in text.split() if word.startswith("[")), text), 0)


def namespaces(flags: int) -> None:
    """Become the root of a user namespace of our own, with others by `flags`."""
    uid, gid = os.getuid(), os.getgid()
    checked(_libc.unshare(NEWUSER | flags))
    write("/proc/self/setgroups", "deny", 0)
    write("/proc/self/uid_map", f"0 {uid} 1", 0)
    write("/proc/self/gid_map", f"0 {gid} 1", 0)


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    words = [None if word is None else word.encode() for word in (source, target, kind)]
    checked(_libc.mount(*words, ctypes.c_ulong(flags), None if options is None else options.encode()))


def privately(action: Callable[[], object]) -> object:
    """Do it in mounts of our own, so that no mount of the machine changes: in a user namespace, or without one."""
    try:
        checked(_libc.unshare(NEWNS))
    except PermissionError:
        namespaces(NEWNS)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    return action()


def write_remounted(t: Targets, flags: int) -> None:
    """Write to a place that is for reading, after it was mounted anew to be written: by these rights, or by those of a user
    namespace."""
    with contextlib.suppress(OSError):
        write(f"{t.opt}/private", "remounted")
        return
    if flags:
        namespaces(flags)
    for place in (t.opt, "/opt", "/"):
        with contextlib.suppress(OSError):
            mount(None, place, None, MS_REMOUNT | MS_BIND)
    write(f"{t.opt}/private", "remounted")


def uncover(t: Targets) -> object:
    def remove_and_read() -> str:
        for place in (t.data, "/tmp", "/run", os.path.dirname(t.data)):
            with contextlib.suppress(OSError):
                checked(_libc.umount2(place.encode(), 2))
        return read(f"{t.tmp}/private")

    return privately(remove_and_read)


def escape_root(t: Targets) -> object:
    def climb() -> str:
        out = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        os.makedirs("jail", exist_ok=True)
        os.chroot("jail")
        os.fchdir(out)
        for _ in range(20):
            os.chdir("..")
        os.chroot(".")
        return read(f"{t.data}/secrets/OTHER")

    return privately(climb)


def new_proc(t: Targets) -> object:
    def look() -> str:
        os.makedirs("proc", exist_ok=True)
        mount("proc", "proc", "proc", 0)
        same("proc/sys/vm/swappiness")
        return "proc"

    return privately(look)


def raw_packets(t: Targets) -> str:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as sniffer:
        sniffer.settimeout(2)
        until = time.monotonic() + 2
        while time.monotonic() < until:
            # The observer sends its word to itself all the time.
            if t.word.encode() in (data := sniffer.recv(65536)):
                return data.decode("latin-1")
    raise refused("nothing heard")


def privileged_program(t: Targets) -> str:
    return "uid=" + subprocess.run([f"{t.opt}/id", "-u"], capture_output=True, text=True, check=False).stdout.strip()


def probe(number: str, *arguments: object) -> None:
    """Make a call that the kernel refuses to those without a right, and finds senseless from those with it."""
    try:
        syscall(number, *arguments)
    except OSError as err:
        if err.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise


def leave_group(t: Targets) -> None:
    for group in t.groups:
        write(f"{os.path.dirname(group)}/cgroup.procs", "0", 0)
    if not t.groups:
        raise refused("no group")


def raise_limit(groups: list[str], value: str) -> None:
    done = False
    for group in groups:
        with contextlib.suppress(FileNotFoundError):
            write(f"{group}/pids.max", value, 0)
            done = True
    if not done:
        raise refused("no group")


def raise_limit_by_mount(t: Targets) -> None:
    namespaces(NEWNS | NEWCGROUP)
    os.makedirs("group", exist_ok=True)
    for kind, options in (("cgroup2", None), ("cgroup", "pids")):
        with contextlib.suppress(OSError):
            mount("none", "group", kind, 0, options)
            raise_limit(["group"], "403")
            return
    raise refused("no cgroup can be mounted")


def mount_over(t: Targets) -> None:
    mount("tmpfs", f"{t.data}/mounted", "tmpfs", 0)


def settable(t: Targets) -> str:
    return "/sys/kernel/mm/transparent_hugepage/defrag"


KERNEL: dict[str, Reach] = {
    "writes a setting of the kernel": lambda t: same("/proc/sys/vm/swappiness"),
    "writes the pattern of core dumps": lambda t: same("/proc/sys/kernel/core_pattern"),
    "opens the keys of the kernel": lambda t: os.open("/proc/sysrq-trigger", os.O_WRONLY),
    "writes to /sys": lambda t: same(settable(t)),
    "loads a module": lambda t: probe("init_module", None, 0, b""),
    "switches swap off": lambda t: probe("swapoff", b""),
    "loads a program into the kernel": lambda t: syscall(
        "bpf", 0, ctypes.create_string_buffer(struct.pack("IIIII", 2, 4, 4, 1, 0).ljust(128, b"\0")), 72
    ),
    "reads the log of the kernel": lambda t: str(checked(_libc.klogctl(3, ctypes.create_string_buffer(64), 64))),
    "listens to the machine's packets": raw_packets,
    "becomes root by a set-uid program": privileged_program,
    "mounts over the data directory": mount_over,
    "writes to /opt after a new mount": lambda t: write_remounted(t, 0),
    "writes to /opt after a new mount in namespaces": lambda t: write_remounted(t, NEWNS),
    "uncovers what is mounted over": uncover,
    "climbs out of its root": escape_root,
    "writes a setting by a /proc of its own": new_proc,
    "leaves its cgroup": leave_group,
    "raises its own limit": lambda t: raise_limit(t.groups, "401"),
    "raises its own limit by a new mount": raise_limit_by_mount,
    "limits a neighbour by its cgroup": lambda t: raise_limit(t.neighbour_groups, "402"),
}


# Limits that processes of one user share


def exhaust(make: Callable[[], object], at_most: int) -> str:
    """Make things until the kernel refuses, also what the reach before gives back late, and hold them."""
    made: list[object] = []
    refusals = 0
    while len(made) < at_most and refusals < 20:
        try:
            made.append(make())
        except OSError:
            refusals += 1
            time.sleep(0.002)
    _held.append(made)
    return str(len(made))


_held: list[object] = []


def idle_process() -> int:
    pid = os.fork()
    if pid == 0:
        signal.pause()
    return pid


def pending_signals(t: Targets) -> str:
    number = signal.SIGRTMIN + 1
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    return exhaust(lambda: checked(_libc.sigqueue(os.getpid(), number, None)), 4096)


def message_queues(t: Targets) -> str:
    attr = struct.pack("llll", 0, 10, 8192, 0).ljust(64, b"\0")

    numbers = iter(range(MAX_QUEUES))

    def make() -> int:
        # Landlock refuses it, and leaves a queue behind all the same: the observer removes it by its name.
        name = f"/{t.word}-{next(numbers)}".encode()
        queue = checked(_libc.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, ctypes.create_string_buffer(attr)))
        _libc.mq_unlink(name)
        return queue

    return exhaust(make, MAX_QUEUES // 2)


def keys(t: Targets) -> str:
    syscall("keyctl", KEYCTL_JOIN, None, 0, 0, 0)
    names = iter(range(10_000))
    return exhaust(lambda: syscall("add_key", b"user", f"{next(names)}".encode(), b"x", 1, SESSION_KEYRING), 1000)


def pipes(t: Targets) -> str:
    def make() -> tuple[int, int]:
        pair = os.pipe()
        fcntl.fcntl(pair[0], 1031, 1 << 20)  # F_SETPIPE_SZ
        return pair

    return exhaust(make, 200) + "+" + exhaust(os.pipe, 40)


def instances(t: Targets) -> str:
    """Make instances in a namespace of our own, whose limit we may raise, if there is one."""
    with contextlib.suppress(OSError):
        namespaces(0)
        write("/proc/sys/user/max_inotify_instances", "100000", 0)
    return exhaust(lambda: checked(_libc.inotify_init1(0)), 1024)


def many_namespaces(t: Targets) -> str:
    """Hold as many as a user may have, in processes that each hold as many as they may have files."""

    def make() -> int:
        checked(_libc.unshare(NEWUTS))
        return os.open("/proc/self/ns/uts", os.O_RDONLY)

    at_most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 64
    made = 0
    while made < int(read("/proc/sys/user/max_uts_namespaces")):
        reader, writer = os.pipe()
        if os.fork() == 0:
            checked(_libc.unshare(NEWUSER))
            os.write(writer, exhaust(make, at_most).encode())
            while True:
                signal.pause()
        os.close(writer)
        count = int(os.read(reader, 16) or b"0")
        made += count
        if count < at_most:
            break
    return str(made)


def files_under_way(t: Targets) -> str:
    """Send files and receive none: nobody may send more than a process may have."""

    def make() -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        socket.send_fds(pair[0], [b"x"], [0] * 253)
        return pair

    return exhaust(make, 256)


COUNTERS: dict[str, Reach] = {
    "uses up the inotify instances of its user": instances,
    "uses up the namespaces of its user": many_namespaces,
    "uses up the files under way of its user": files_under_way,
    "uses up the processes of its user": lambda t: exhaust(idle_process, 400),
    "uses up the signals of its user": pending_signals,
    "uses up the message queues of its user": message_queues,
    "uses up the keys of its user": keys,
    "uses up the pipes of its user": pipes,
}


# What is no reach by itself, but a way to the kernel's less tried parts


def own_keyring(t: Targets) -> None:
    syscall("keyctl", KEYCTL_JOIN, None, 0, 0, 0)


def mount_in_namespaces(t: Targets) -> None:
    namespaces(NEWNS)
    mount("tmpfs", "/dev", "tmpfs", 0)


SURFACE: dict[str, Reach] = {
    "makes a user namespace": lambda t: namespaces(0),
    "makes a network of its own": lambda t: namespaces(NEWNET),
    "mounts in namespaces": mount_in_namespaces,
    "makes an io_uring": lambda t: syscall("io_uring_setup", 2, ctypes.create_string_buffer(248)),
    "handles faults of memory": lambda t: syscall("userfaultfd", 1),
    "measures itself": lambda t: perf(0, -1),
    "makes a keyring": own_keyring,
}


# The network, which a task without `network` may use


def connect_tcp(t: Targets) -> None:
    with socket.create_connection(("127.0.0.1", t.tcp_port), timeout=2) as client:
        client.sendall(b"tcp")
        client.shutdown(socket.SHUT_WR)
        client.recv(1)


def send_udp(t: Targets) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"udp", ("127.0.0.1", t.udp_port))


def list_sockets(t: Targets) -> str:
    return read("/proc/net/tcp", 1 << 20)


NETWORK: dict[str, Reach] = {
    "connects to a port of the machine": connect_tcp,
    "sends to a port of the machine": send_udp,
    "lists the sockets of the machine": list_sockets,
}

# What Optio itself prevents, in any sandbox and in none.
INHERITED: dict[str, Reach] = {
    "finds a descriptor of its parents": lambda t: found(t.descriptors),
    "finds a variable of the worker": lambda t: found(os.environ.get("OPTIO_SPY_CANARY", "")),
}


def found(what: Any) -> str:
    if not what:
        raise refused("nothing found")
    return str(what)


GROUPS: dict[str, dict[str, Reach]] = {
    "files": FILES,
    "processes": PROCESSES,
    "communication": COMMUNICATION,
    "kernel": KERNEL,
    "network": NETWORK,
    "surface": SURFACE,
    "inherited": INHERITED,
    "counters": COUNTERS,
}


def patient_fork() -> int:
    """Fork as soon as the reach before has given back what it has used up."""
    until = time.monotonic() + REACH_TIMEOUT_S
    while True:
        try:
            return os.fork()
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def attempt(reach: Reach, targets: Targets) -> tuple[int, bool, str]:
    """Try a reach in a process of its own. Return its pid, whether it says that it has reached, and how. It lives on."""
    reader, writer = os.pipe()
    pid = patient_fork()
    if pid == 0:
        os.setpgid(0, 0)
        try:
            proof = reach(targets)
            answer = [True, "" if proof is None else str(proof)]
        except OSError as err:
            answer = [False, errno.errorcode.get(err.errno or 0, str(err))]
        except BaseException as err:
            answer = [False, f"broken: {err!r}"]
        os.write(writer, json.dumps(answer).encode()[:60_000] + b"\n")
        while True:
            signal.pause()
    os.close(writer)
    data = b""
    until = time.monotonic() + REACH_TIMEOUT_S
    while not data.endswith(b"\n"):
        if not select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
            data = b'[false, "timeout"]\n'
        else:
            part = os.read(reader, 65536)
            data = data + part if part else b'[false, "died"]\n'
    os.close(reader)
    reached, how = json.loads(data)
    return pid, reached, how


def tell(ack: int, **fields: Any) -> None:
    """Print a line, and wait until the observer has looked."""
    os.write(1, json.dumps(fields).encode() + b"\n")
    if not select.select([ack], [], [], OBSERVER_TIMEOUT_S)[0]:
        sys.exit("the observer says nothing")
    os.read(ack, 1)


def main() -> None:
    """Try all that the targets name."""
    descriptors = [name for name in os.listdir("/proc/self/fd") if int(name) > 2 and os.path.lexists(f"/proc/self/fd/{name}")]
    os.mkfifo("ack", 0o666)
    for path, mode in (("ack", 0o666), (".", 0o777)):
        os.chmod(path, mode)  # the observer may be another user
    ack = os.open("ack", os.O_RDWR)
    tell(ack, ready=True)
    with open("targets.json", encoding="utf-8") as file:
        targets = SimpleNamespace(**json.load(file))
    targets.descriptors = descriptors
    for group, reaches in GROUPS.items():
        for name, reach in reaches.items():
            if name in targets.left_out:
                continue
            pid, reached, how = attempt(reach, targets)
            tell(ack, name=name, group=group, reached=reached, how=how)
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    os.write(1, b'{"over": true}\n')


if __name__ == "__main__":
    main()
