"""The supervisor: one small process above each local attempt. Standard library only; it is executed as a program of its own,
from `main`.

It is a fork server: it reads launch envelopes from the socket on its standard input and forks a supervisor for each, which
costs about a millisecond where a new interpreter costs twenty. Secrets and prompts arrive by that socket and are never written
to disk.

A forked supervisor outlives the worker and confines its agent (see `sandbox.py`). It ends the attempt at its deadline, when it
fills the disk, or when no worker has renewed its lease for too long. It leaves no process behind however the agent ends, and
writes the end into `exit.json`. That file is made, with its blocks, before the agent starts, so that the end of an attempt
needs no room on a disk. Readers trust it only when the supervisor is gone.

A program whose output goes through pipes to the process that started it has a supervisor too, `attend`, which is no fork of the
server, and ends with that process.

    envelope: 4 bytes length, header (a marshalled dict), 8 bytes length, the agent's standard input
    answer:   one line of JSON, {"pid": N} or {"error": "..."}; the first line of all is {"server": N}, its own pid

A supervisor that is killed leaves its agent's processes to the fork server, which is a subreaper and kills them. So the fork
server stays until its last supervisor has ended, whatever becomes of the worker.

A fork costs by the pages of memory that exist and that it touches: hence few imports, and plain system calls in place of files,
sockets, `json`, and the conversions of `signal`. Work is done before the fork where possible, because that memory is touched
already.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import ctypes
import errno
import gc
import marshal
import os
import struct
import sys
import time

from optio.executors.identity import become, become_words, close_way, give, take_user
from optio.executors.trees import delete_tree
from optio.executors.usage import UsageLimits
from optio.executors.view import (
    CLONE_NEWCGROUP,
    CLONE_NEWUSER,
    READ_ONLY,
    check,
    clone,
    enter_user_namespace,
    enter_view,
    make_view,
    start_namespaces,
    system_call,
    unshare,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
SECCOMP_MODE_FILTER = 2
# System calls of Landlock: the same numbers on every architecture.
SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_RULE_PATH_BENEATH, LANDLOCK_RULE_NET_PORT = 1, 2
# Execute, write, read, truncate.
LANDLOCK_ACCESS_FILE = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14
RLIMIT_FSIZE, RLIMIT_NPROC = 1, 6
# A cgroup can be removed a moment after its last process was reaped; what is left is removed by the worker.
REMOVE_GROUP_ATTEMPTS = 50
_libc = ctypes.CDLL(None, use_errno=True)
# Found by their names once, not in each process.
_setrlimit, _prctl = _libc.setrlimit, _libc.prctl
_create_ruleset = system_call(SYS_LANDLOCK_CREATE_RULESET, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_long)
_add_rule = system_call(SYS_LANDLOCK_ADD_RULE, ctypes.c_long, ctypes.c_long, ctypes.c_char_p, ctypes.c_long)
_restrict_self = system_call(SYS_LANDLOCK_RESTRICT_SELF, ctypes.c_long, ctypes.c_long)
# What a first process writes to say that its supervisor lives.
_ALIVE = b"+"
# The standard input that the fork server gives itself.
_NULL = 0
# Ignored in us (by Python, by nohup, on purpose); what is ignored stays so over an exec.
_DEFAULTS = (signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)


def main() -> None:
    """Serve envelopes until the socket closes, then wait for the last supervisor. The argument is `Sandbox.server`."""
    connection = os.dup(0)
    # A collection would touch, and so copy, every page that a fork shares with us.
    gc.disable()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)  # attempts outlive the worker, and must not keep its output open for readers
    if os.fork():
        os._exit(0)  # the process that started this one has no child to wait for
    os.setsid()
    _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _sandbox.update(marshal.loads(bytes.fromhex(sys.argv[1])))  # noqa: S302 - from our own worker
    if _sandbox["view"] is not None:
        start_namespaces()
        _refuse_calls(_sandbox["filter"])  # here once, because all below inherit it, and no supervisor needs these calls
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: _end_orphans())
    try:
        _write(connection, _json({"server": os.getpid()}).encode() + b"\n")
        _serve(connection)
    except OSError:
        pass
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while _supervisors:
        signal.sigwaitinfo({signal.SIGCHLD})
        _reap_and_kill()


# The supervisors that live, by pid.
_supervisors: set[int] = set()
_sandbox: dict[str, Any] = {"users": None, "view": None}
# Mount namespaces, by the programs that they hold beside what all attempts see.
_views: dict[tuple[str, ...], int] = {}


def _serve(connection: int) -> None:
    while True:
        head = _receive(connection, 4)
        if head is None:
            return
        header = _receive(connection, struct.unpack("!I", head)[0])
        size = _receive(connection, 8)
        if header is None or size is None:
            return
        body = _receive(connection, struct.unpack("!Q", size)[0])
        if body is None:
            return
        launch = marshal.loads(header)  # noqa: S302 - from our own worker
        # No supervisor may end before it is known as one, and who makes a view is none.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        descriptors = _Descriptors(launch)
        try:
            pid = os.fork()
        except OSError as err:
            answer: dict[str, Any] = {"error": err.strerror}
        else:
            if pid == 0:
                os.close(connection)
                status = 1
                try:
                    supervise(launch, body, descriptors)
                    status = 0
                finally:
                    os._exit(status)
            _supervisors.add(pid)
            answer = {"pid": pid}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        descriptors.close()
        _write(connection, _json(answer).encode() + b"\n")


class _Descriptors:
    """Descriptors that the fork server opens for an attempt: the ends of its streams, its ruleset and its view if it has them.
    `failure` is the error if they could not be opened."""

    def __init__(self, launch: dict[str, Any]) -> None:
        self.out: int | None = None
        self.err: int | None = None
        self.ruleset: int | None = None
        self.view: int | None = None
        self.failure: OSError | None = None
        if os.path.lexists(f"{launch['control']}/started"):
            return  # it was started, or given up, before: the files there may be the agent's
        try:
            self.out = _append(f"{launch['control']}/stdout")
            self.err = _append(f"{launch['control']}/stderr")
            self.ruleset = _ruleset(launch["sandbox"])
            if launch["plan"] is not None:
                self.view = _view_with(tuple(launch["plan"]["programs"]))
        except OSError as failure:
            self.failure = failure.with_traceback(None)  # which would keep this object alive, and the collector is off

    def streams(self) -> tuple[int, int]:
        """Return the ends of the streams. Raises OSError if anything could not be opened."""
        if self.out is None or self.err is None or self.failure is not None:
            raise self.failure or OSError(errno.ENOENT, "the attempt's marker is gone")
        return self.out, self.err

    def close(self) -> None:
        for descriptor in (self.out, self.err, self.ruleset):
            if descriptor is not None:
                os.close(descriptor)


def _view_with(programs: tuple[str, ...]) -> int:
    """Return a namespace that holds these programs too. Few differ: one for each agent CLI."""
    if programs not in _views:
        view = _sandbox["view"]
        binds = sorted([*view["binds"], *((path, READ_ONLY) for path in programs)])
        _views[programs] = make_view({**view, "binds": binds})
    return _views[programs]


def _end_orphans() -> None:
    """Reap supervisors that have ended, and kill what a killed one has left behind."""
    # Not reentrant: a signal that comes meanwhile is delivered afterwards, and not missed.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        _reap_and_kill()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reap_and_kill() -> None:
    has_orphans = False
    calm = 0
    while calm < 4:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                has_orphans = has_orphans or status != 0 or pid not in _supervisors
                _supervisors.discard(pid)
        except ChildProcessError:
            return
        if not has_orphans:
            return
        orphans = [pid for pid in _children(os.getpid()) if pid not in _supervisors]
        _kill_trees(orphans)
        # The kernel's list of children may miss some while others come and go: one empty look proves nothing.
        calm = 0 if orphans else calm + 1
        time.sleep(0.001 if orphans else 0.005)


def _receive(connection: int, count: int) -> bytes | None:
    parts = []
    while count:
        part = os.read(connection, min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def supervise(launch: dict[str, Any], stdin: bytes, descriptors: _Descriptors) -> None:
    """Supervise one attempt, from its marker to its exit file."""
    os.setsid()
    # First of all: the fork server's handler must not run here.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGCHLD, signal.SIGTERM})
    _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    control = launch["control"]
    last_word = os.open(f"{control}/exit.json", os.O_WRONLY | os.O_CLOEXEC)
    end: dict[str, Any] = {"phase": "setup"}
    try:
        if not _mark(launch):
            return  # this attempt was started, or given up, before
        end.update(_attempt(launch, stdin, descriptors))
    except OSError as failure:
        _end_descendants()
        end.update(code=None, signal=None, stopped_by=None, error=_name_of(failure))
    _remove_groups(launch, end)
    close_way(launch)
    # Nothing is synced: what a power cut loses is the outcome of the last instant, and the sizes show it.
    streams = (("stdout", descriptors.out), ("stderr", descriptors.err))
    end["sizes"] = {name: os.fstat(stream).st_size for name, stream in streams if stream is not None}
    _write_last(f"{control}/exit.json", last_word, _json(end).encode())


def _remove_groups(launch: dict[str, Any], end: dict[str, Any]) -> None:
    """Remove the attempt's cgroups, which are empty by then. If the attempt failed after an OOM kill, note the limit in its
    end."""
    if launch["memory"] is not None and end["code"] != 0 and end["stopped_by"] is None:
        limit, file = launch["memory"]
        if _has_oom_kills(file):
            end["oom"] = limit
    for path in launch["groups"]:
        for _ in range(REMOVE_GROUP_ATTEMPTS):
            try:
                os.rmdir(path)
            except OSError as failure:
                if failure.errno == errno.EBUSY:
                    time.sleep(0.001)
                    continue
            break


def _has_oom_kills(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return any(line.startswith(b"oom_kill ") and int(line[9:]) > 0 for line in file)
    except OSError:
        return False


def _write_last(path: str, reserved: int, data: bytes) -> None:
    """Write the end into the reserved file. Without a sandbox an agent may have put another file in its place."""
    try:
        in_place = os.lstat(path).st_ino == os.fstat(reserved).st_ino
    except FileNotFoundError:
        in_place = False
    if not in_place:
        draft = f"{path}.own"
        reserved = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.rename(draft, path)
    os.pwrite(reserved, data, 0)


def _attempt(launch: dict[str, Any], stdin: bytes, descriptors: _Descriptors) -> dict[str, Any]:
    """Run the set-up commands and the agent. Raises OSError if there is no room to begin."""
    limits = _EndConditions(launch)
    out, err = descriptors.streams()
    _give_user(launch)
    end: dict[str, Any] = {}
    for command in launch["setup"]:
        before = {**launch, "env": launch["setup_env"]}
        end = _run(["/bin/sh", "-c", command], before, (_NULL, err, err), descriptors, limits)
        if end["code"] != 0 or end["stopped_by"] is not None:
            return end
    prompt = os.memfd_create("stdin")
    _write(prompt, stdin)
    os.lseek(prompt, 0, os.SEEK_SET)
    return {**_run(launch["argv"], launch, (prompt, out, err), descriptors, limits), "phase": "agent"}


def _give_user(launch: dict[str, Any]) -> None:
    """Give the attempt a user, if there is a pool of them. Raises OSError."""
    launch["user"] = None
    if _sandbox["users"] is not None:
        launch["user"] = take_user(*_sandbox["users"])
        give(launch, *_sandbox["users"])


def attend() -> None:
    """Run one program on the standard streams of this process, confined as an agent is, and remove what it leaves. It ends,
    with all that it started, when it is done or when the process that started this one ends. The argument is a descriptor from
    which the launch is read. What ended the program, if not itself, is the last line of its standard error."""
    launch = marshal.loads(_read_all(int(sys.argv[1])))  # noqa: S302 - from our own gateway
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGCHLD, signal.SIGTERM})
    _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _sandbox.update(launch["server"])
    end = _end()
    try:
        if _sandbox["view"] is not None:
            start_namespaces()
            _refuse_calls(_sandbox["filter"])
        # Not before: a process that enters a user namespace may lose it.
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        descriptors = _Descriptors(launch)
        if os.getppid() == launch["starter"] and _mark(launch):
            limits = _EndConditions(launch)
            descriptors.streams()
            _give_user(launch)
            end = _run(launch["argv"], launch, (0, 1, 2), descriptors, limits)
    except OSError as failure:
        _end_descendants()
        end["error"] = _name_of(failure)
    _remove_groups(launch, end)
    close_way(launch)
    for root in launch["roots"]:
        delete_tree(root)
    problem = end["error"] or end["stopped_by"]
    if problem is not None and problem != "stop":
        os.set_blocking(2, False)
        _write(2, f"\n{launch['argv'][0]}: {problem}\n".encode("utf-8", "surrogateescape"))
    sys.exit(end["code"] if end["code"] is not None else 128 + (end["signal"] or 0))


def _mark(launch: dict[str, Any]) -> bool:
    """Claim the attempt: only one supervisor, or one tombstone, can ever hold the marker, because a link is made whole or not
    at all. Its time is that of the last renewal of the lease, in nanoseconds since boot."""
    marker = f"{launch['control']}/started"
    try:
        os.symlink(f"{os.getpid()}:{_start_time(os.getpid())}", marker)
    except FileExistsError:
        return False
    leased_at = int(launch["leased_at"] * 1e9)
    os.utime(marker, ns=(leased_at, leased_at), follow_symlinks=False)
    return True


class _EndConditions:
    """The conditions that end an attempt: its deadline, an expired lease, and what it uses."""

    def __init__(self, launch: dict[str, Any]) -> None:
        self._deadline: float = time.monotonic() + launch["timeout"]
        self._patience: float = launch["orphaned"]
        self._marker = f"{launch['control']}/started"
        self._orphan_at: float = launch["leased_at"] + self._patience
        self._usage = UsageLimits(launch)

    def _read_marker(self) -> None:
        try:
            self._orphan_at = max(self._orphan_at, os.lstat(self._marker).st_mtime_ns / 1e9 + self._patience)
        except OSError:
            return  # removed meanwhile: no worker wants this attempt any more

    def left(self) -> float:
        """Return the seconds until it is worth asking again."""
        orphaned = self._orphan_at - time.clock_gettime(time.CLOCK_BOOTTIME)
        return max(0.0, min(self._deadline - time.monotonic(), orphaned, self._usage.left()))

    def reached(self, pids: list[int]) -> str | None:
        """Return the limit that an attempt with these processes has reached, or None."""
        if time.monotonic() >= self._deadline:
            return "timeout"
        if time.clock_gettime(time.CLOCK_BOOTTIME) >= self._orphan_at:
            self._read_marker()
        if time.clock_gettime(time.CLOCK_BOOTTIME) >= self._orphan_at:
            return "orphaned"
        return self._usage.reached(pids)

    def reached_at_end(self) -> str | None:
        """Return a limit that explains why the agent failed, or None."""
        return self._usage.reached_at_end()


def _run(
    argv: list[str], launch: dict[str, Any], streams: tuple[int, int, int], descriptors: _Descriptors, limits: _EndConditions
) -> dict[str, Any]:
    """Run one program to its end, and everything it started with it."""
    limit = limits.reached([])
    if limit is not None:
        return _end(stopped_by=limit)
    try:
        program = _start(argv, launch, streams, descriptors)
    except ExecFailed as failure:
        return _end(code=127 if failure.name == "ENOENT" else 126, error=failure.name)
    status, stopped_by = _wait(program, launch, limits)
    for group in launch["groups"]:
        try:
            _write_into(f"{group}/cgroup.kill", b"1")  # ends a fork bomb at once
        except OSError:
            break  # version 1 has no such file
    _end_descendants()
    if stopped_by is None and max(os.fstat(stream).st_size for stream in streams[1:]) >= launch["disk"]:
        stopped_by = "disk_quota"  # the kernel has ended it, or let it write no more
    code = os.waitstatus_to_exitcode(status)
    if stopped_by is None and code != 0:
        stopped_by = limits.reached_at_end()
    if launch["wrap"] and 128 < code <= 128 + 64:
        code = 128 - code  # as shells do, bubblewrap says 128 + N for signal N
    if code < 0:
        return _end(signal=-code, stopped_by=stopped_by)
    return _end(code=code, stopped_by=stopped_by)


def _end(**fields: Any) -> dict[str, Any]:
    return {"code": None, "signal": None, "stopped_by": None, "error": None, **fields}


def _wait(program: _RunningProgram, launch: dict[str, Any], limits: _EndConditions) -> tuple[int, str | None]:
    """Return the status of a program at its end, and the limit or the request that has ended it."""
    status = stopped_by = kill_at = None
    while status is None:
        pause = limits.left() if kill_at is None else max(0.0, kill_at - time.monotonic())
        received = signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, pause)
        # The clock decides, not the absence of signals: dying orphans can keep those coming for ever.
        limit = limits.reached(program.processes()) if kill_at is None and limits.left() <= 0 else None
        if kill_at is not None and time.monotonic() >= kill_at:
            _signal_children(signal.SIGKILL)
            kill_at = time.monotonic() + 1.0
        elif stopped_by is None and (limit is not None or (received is not None and received.si_signo == signal.SIGTERM)):
            stopped_by = limit or "stop"
            kill_at = time.monotonic() + launch["orphan_grace" if stopped_by == "orphaned" else "grace"]
            program.ask_to_end()
        status = _reap(program.pid)
    return program.status(status), stopped_by


class ExecFailed(Exception):
    """A program that cannot be executed. `name` is that of the error."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _RunningProgram:
    """A program that runs: `pid` is its process, or with `has_first` that of its namespace's first one, above it. That one
    writes the program's end to `end`, if it is in a view."""

    def __init__(self, pid: int, end: int | None, *, has_first: bool) -> None:
        self.pid = pid
        self._end = end
        self._has_first = has_first

    def processes(self) -> list[int]:
        """Return the processes of the agent. The first one of a view is the executor's: it has nothing open that counts, and
        a supervisor that is not root may not look."""
        return [pid for pid in _descendants() if self._end is None or pid != self.pid]

    def ask_to_end(self) -> None:
        """Signal the agent's process group, or all below the first process of its namespace: that one would die of it at once,
        or hear nothing. Never by SIGINT: two of the agent CLIs report success after it."""
        if not self._has_first:
            _signal_group(self.pid, signal.SIGTERM)
            return
        for pid in _descendants():
            if pid != self.pid and _command(pid) != b"bwrap":
                _signal(pid, signal.SIGTERM)

    def status(self, status: int) -> int:
        """Return how the program ended, as the first process has written it, or else as that one itself ended."""
        if self._end is None:
            return status
        text = os.pread(self._end, 16, 0)
        os.close(self._end)
        return int(text) if text else status


def _command(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().strip()
    except OSError:
        return b""


def _start(
    argv: list[str], launch: dict[str, Any], streams: tuple[int, int, int], descriptors: _Descriptors
) -> _RunningProgram:
    """Start a program in a session of its own, with the given environment and nothing else. Raises ExecFailed."""
    if launch["wrap"]:
        _executable(argv[0], launch)  # bubblewrap's exit code would not say what is missing
    reader, writer = os.pipe()
    view = descriptors.view
    end = None if view is None else os.memfd_create("status")
    bwrap = _BwrapStart() if launch["wrap"] and launch["user"] is None else None
    supervisor = os.getpid()
    pid = os.fork() if end is None else clone()
    if pid == 0:
        try:
            if view is None or end is None:
                _execute(_wrapped(argv, launch, bwrap), launch, streams, descriptors, supervisor)
            else:
                groups = _open_groups(launch)
                enter_view(view, launch["plan"])
                _confine(launch, descriptors, groups)
                _be_first(argv, launch, streams, writer, end)
        except ExecFailed as failure:
            os.write(writer, failure.name.encode())
        except OSError as failure:
            os.write(writer, _name_of(failure).encode())
        except ValueError:
            os.write(writer, b"EINVAL")
        finally:
            os._exit(127)
    os.close(writer)
    error = _read_all(reader).strip(_ALIVE)
    if bwrap is not None:
        bwrap.go_on(launch)
    if error:
        os.waitpid(pid, 0)
        if end is not None:
            os.close(end)
        raise ExecFailed(error.decode())
    return _RunningProgram(pid, end, has_first=end is not None or bool(launch["wrap"]))


def _wrapped(argv: list[str], launch: dict[str, Any], bwrap: _BwrapStart | None) -> list[str]:
    if not launch["wrap"]:
        return argv
    words = [] if launch["user"] is None else become_words(launch["user"])
    return [launch["wrap"][0], *(bwrap.words() if bwrap else ()), *launch["wrap"][1:], *words, *argv]


def _execute(
    argv: list[str], launch: dict[str, Any], streams: tuple[int, int, int], descriptors: _Descriptors, supervisor: int
) -> None:
    """Become the agent. Raises OSError."""
    os.setsid()
    for number in _DEFAULTS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    for target, source in enumerate(streams):
        os.dup2(source, target)
    _confine(launch, descriptors, _open_groups(launch))
    # Not before: a process that becomes somebody else loses it.
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:
        os._exit(127)  # the supervisor died before its death could end this child
    execute = os.execve if "/" in argv[0] else os.execvpe
    execute(argv[0], argv, launch["env"])


def _be_first(argv: list[str], launch: dict[str, Any], streams: tuple[int, int, int], writer: int, end: int) -> None:
    """Be the first process of an agent's namespace: start the agent, reap, and write the agent's end. Everything in the
    namespace dies with this one. Raises OSError and ExecFailed.

    It has all that an agent has already, so that it can start the agent without copying its memory, which no fork can. It
    stays the agent's user, but the agent cannot look into its memory, where there may be words of other attempts, and its
    descriptors. Signals from within its namespace do not reach it.
    """
    # Not before it became somebody else, by which it would lose both.
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.write(writer, _ALIVE)  # fails if the supervisor died before its death could end this process
    check(_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
    agent = os.posix_spawn(
        _executable(argv[0], launch),
        argv,
        launch["env"],
        file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(streams)],
        setsid=True,
        setsigmask=(),
        setsigdef=_DEFAULTS,
    )
    os.close(writer)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == agent:
            os.write(end, b"%d" % status)
            os._exit(0)


def _open_groups(launch: dict[str, Any]) -> list[int]:
    return [os.open(f"{group}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for group in launch["groups"]]


class _BwrapStart:
    """A start by bubblewrap as a user: its first process waits before it executes the agent, until the user namespace that it
    has made has its limits."""

    def __init__(self) -> None:
        self._info, self._info_end = os.pipe()
        self._block_end, self._block = os.pipe()

    def words(self) -> list[str]:
        """Return bubblewrap's arguments, and let it inherit the descriptors that they name."""
        for descriptor in (self._info_end, self._block_end):
            os.set_inheritable(descriptor, True)
        return ["--info-fd", str(self._info_end), "--block-fd", str(self._block_end)]

    def go_on(self, launch: dict[str, Any]) -> None:
        """Set the limits, and let the agent start. If bubblewrap has failed, there is nothing to do."""
        os.close(self._info_end)
        os.close(self._block_end)
        child = _read_all(self._info).partition(b'"child-pid":')[2].partition(b",")[0]
        if child:
            limit = _most_processes(launch)
            _libc.prlimit(int(child), RLIMIT_NPROC, struct.pack("=QQ", limit, limit), None)
            helper = os.fork()
            if helper == 0:
                try:
                    enter_user_namespace(int(child))
                    _limit_counts()
                finally:
                    os._exit(0)
            os.waitpid(helper, 0)
        os.close(self._block)


def _confine(launch: dict[str, Any], descriptors: _Descriptors, groups: list[int]) -> None:
    """Give this process the groups, the user, the limits and the directory that an agent has, and take away all else. Raises
    OSError."""
    os.umask(_sandbox["umask"])
    for group in groups:
        os.write(group, b"0")
    if descriptors.view is not None:
        unshare(CLONE_NEWCGROUP)
    user = launch["user"]
    if user is not None and not launch["wrap"]:
        become(user, _sandbox["users"][0])
    elif user is None and descriptors.view is not None:
        unshare(CLONE_NEWUSER)
        _limit_counts()
    if _sandbox["is_confined"]:
        for resource, limit in _sandbox["limits"]:
            _setrlimit(resource, struct.pack("=QQ", limit, limit))
    if _sandbox["users"] is not None or descriptors.view is not None:
        limit = _most_processes(launch)
        _setrlimit(RLIMIT_NPROC, struct.pack("=QQ", limit, limit))
    os.chdir(launch["cwd"])
    _setrlimit(RLIMIT_FSIZE, struct.pack("=QQ", launch["disk"], launch["disk"]))
    if _sandbox["is_confined"]:
        check(_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        if descriptors.ruleset is not None:
            _restrict_self(descriptors.ruleset, 0)
        if descriptors.view is None:
            _refuse_calls(_sandbox["filter"])


def _most_processes(launch: dict[str, Any]) -> int:
    """Return the kernel's limit on processes of a user or user namespace, with its first: more than allowed, so that the
    supervisor sees it."""
    limit: int = min(launch["processes"] + launch["processes"] // 4, _sandbox["most_processes"])
    return limit + 1


def _limit_counts() -> None:
    """Limit what this user namespace takes of what the kernel charges to the worker's user too. Raises OSError."""
    for name, limit in _sandbox["counts"]:
        _write_into(f"/proc/sys/user/max_{name}", b"%d" % limit)


def _name_of(failure: OSError) -> str:
    return errno.errorcode.get(failure.errno or 0, "EIO")


def _executable(program: str, launch: dict[str, Any]) -> str:
    """Return the path of a program. Raises ExecFailed."""
    places = [launch["cwd"]] if "/" in program else launch["env"].get("PATH", os.defpath).split(":")
    paths = [os.path.join(launch["cwd"], place, program) for place in places]
    for path in paths:
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    raise ExecFailed("EACCES" if any(os.path.exists(path) for path in paths) else "ENOENT")


def _ruleset(sandbox: dict[str, Any] | None) -> int | None:
    """Return a Landlock ruleset as a descriptor: anything that it does not allow is refused. `sandbox` holds the kernel's
    `landlock_ruleset_attr` as bytes, pairs of a path and the access to all below it, and TCP ports that may be connected to.
    Raises OSError."""
    if sandbox is None:
        return None
    attr = sandbox["attr"]
    ruleset = _create_ruleset(attr, len(attr), 0)
    try:
        _add_rules(ruleset, sandbox)
    except OSError:
        os.close(ruleset)
        raise
    return ruleset


def _add_rules(ruleset: int, sandbox: dict[str, Any]) -> None:
    for path, access in sandbox["paths"]:
        try:
            place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # not on this machine
        try:
            _add_rule(ruleset, LANDLOCK_RULE_PATH_BENEATH, struct.pack("=Qi", access, place), 0)
        except OSError:
            # The kernel refuses a rule that says of a file what only directories have.
            _add_rule(ruleset, LANDLOCK_RULE_PATH_BENEATH, struct.pack("=Qi", access & LANDLOCK_ACCESS_FILE, place), 0)
        finally:
            os.close(place)
    for port in sandbox["ports"]:
        _add_rule(ruleset, LANDLOCK_RULE_NET_PORT, struct.pack("=QQ", sandbox["connect"], port), 0)


def _refuse_calls(program: bytes | None) -> None:
    """Install a filter of system calls, 8 bytes a line, for this process and everything that it starts from here on. None is
    for an architecture whose numbers are not known. Raises OSError."""
    if program is None:
        return
    check(_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    lines = ctypes.create_string_buffer(program, len(program))
    table = struct.pack("@HP", len(program) // 8, ctypes.addressof(lines))
    check(_prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, table, 0, 0))


def _reap(agent: int) -> int | None:
    """Collect all children that have ended. Return the agent's status if it is among them."""
    agent_status = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return agent_status
        if pid == 0:
            return agent_status
        if pid == agent:
            agent_status = status


def _end_descendants() -> None:
    """Kill and reap until no child is left: orphans of the dead come back to a subreaper, whatever their session.

    The whole tree is stopped before it is killed, because a stopped process cannot start another while its neighbour is killed.
    """
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        _kill_trees(_children(os.getpid()))
        time.sleep(0.001)


def _kill_trees(roots: list[int]) -> None:
    """Kill these processes and everything below them."""
    tree = _with_descendants(roots)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in tree:
            _signal(pid, number)


def _signal_children(number: int) -> None:
    for pid in _children(os.getpid()):
        _signal(pid, number)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        return  # gone, or of another user by set-uid


def _descendants() -> list[int]:
    return _with_descendants(_children(os.getpid()))


def _with_descendants(roots: list[int]) -> list[int]:
    pids = list(roots)
    for pid in pids:
        pids.extend(_children(pid))
    return pids


def _children(parent: int) -> list[int]:
    pids: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{parent}/task"):
            # As bytes: the handler of SIGCHLD comes here, and a codec that is being imported when it comes again is unknown.
            with open(f"/proc/{parent}/task/{thread}/children", "rb") as file:
                pids.extend(int(pid) for pid in file.read().split())
    except OSError:
        # Gone, or a kernel without that file.
        if not os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children"):
            return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _parent(int(pid)) == parent]
    return pids


def _parent(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def _start_time(pid: int) -> int:
    """Return the clock ticks since boot when the process began. Together with the pid it is a name that is never reused."""
    stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    try:
        return int(os.read(stat, 4096).rpartition(b")")[2].split()[19])
    finally:
        os.close(stat)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _write_into(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _read_all(descriptor: int) -> bytes:
    """Read a pipe to its end, and close it."""
    data = b""
    while part := os.read(descriptor, 4096):
        data += part
    os.close(descriptor)
    return data


def _append(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _json(value: Any) -> str:
    """Encode an object of numbers and plain words, without importing `json`."""
    if isinstance(value, dict):
        return "{" + ", ".join([f'"{name}": {_json(field)}' for name, field in value.items()]) + "}"
    return "null" if value is None else f'"{value}"' if isinstance(value, str) else str(value)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
