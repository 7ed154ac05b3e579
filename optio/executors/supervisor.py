"""The supervisor: one small process above each attempt. Standard library only; run as a program, never imported.

It is a fork server: it reads launch envelopes from the socket on its standard input and forks a supervisor for each, which
costs about a millisecond where a new interpreter costs twenty. Secrets and prompts arrive by that socket and are never
written to disk. A forked supervisor belongs to nobody: it outlives the worker, ends its attempt at the deadline or when no
worker has renewed its lease for too long, leaves no process behind whatever way the agent ends, and writes how it ended into
`exit.json` (written, then renamed).

    envelope: 4 bytes length, header (a marshalled dict), 8 bytes length, the agent's standard input
    answer:   one line of JSON, {"pid": N} or {"error": "..."}

A fork costs by the pages of memory that are there and that it touches: hence few imports, and plain system calls in place of
files, sockets, `json`, and the conversions of `signal`.
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)
# Ignored in us (by Python, by nohup, on purpose); what is ignored stays so over an exec.
_DEFAULTS = (signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)


def main() -> None:
    """Serve envelopes until the socket closes; supervisors that were forked go on."""
    connection = os.dup(0)
    # A collection would touch, and so copy, every page that a fork shares with us.
    gc.disable()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)  # attempts outlive the worker: nobody who reads its output shall wait for them
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forked supervisors are reaped by the kernel
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
        try:
            pid = os.fork()
        except OSError as err:
            _write(connection, _json({"error": err.strerror}).encode() + b"\n")
            continue
        if pid == 0:
            os.close(connection)
            status = 1
            try:
                supervise(marshal.loads(header), body)  # noqa: S302 - from our own worker
                status = 0
            finally:
                os._exit(status)
        _write(connection, _json({"pid": pid}).encode() + b"\n")


def _receive(connection: int, count: int) -> bytes | None:
    parts = []
    while count:
        part = os.read(connection, min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def supervise(launch: dict[str, Any], stdin: bytes) -> None:
    """One attempt, from its marker to its exit file."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    control = launch["control"]
    if not _mark(launch):
        return  # this attempt was started, or given up, before
    limits = _Limits(launch)
    out = _append(f"{control}/stdout")
    err = _append(f"{control}/stderr")
    end: dict[str, Any] = {"phase": "setup"}
    null = os.open(os.devnull, os.O_RDONLY)
    before = {**launch, "env": launch["setup_env"]}
    for command in launch["setup"]:
        end.update(_run(["/bin/sh", "-c", command], before, null, err, err, limits))
        if end["code"] != 0 or end["stopped_by"] is not None:
            break
    else:
        end["phase"] = "agent"
        prompt = os.memfd_create("stdin")
        _write(prompt, stdin)
        os.lseek(prompt, 0, os.SEEK_SET)
        end.update(_run(launch["argv"], launch, prompt, out, err, limits))
    # Nothing is synced: what a power cut loses is the outcome of the last instant, and the sizes show it.
    end["sizes"] = {"stdout": os.fstat(out).st_size, "stderr": os.fstat(err).st_size}
    _replace(f"{control}/exit.json", _json(end).encode())


def _mark(launch: dict[str, Any]) -> bool:
    """Claim the attempt: only one supervisor, or one tombstone, can ever hold the marker. A link is made whole or not. Its time
    is that of the last renewal of the lease, in nanoseconds since boot."""
    marker = f"{launch['control']}/started"
    try:
        os.symlink(f"{os.getpid()}:{_start_time(os.getpid())}", marker)
    except FileExistsError:
        return False
    leased_at = int(launch["leased_at"] * 1e9)
    os.utime(marker, ns=(leased_at, leased_at), follow_symlinks=False)
    return True


class _Limits:
    """When an attempt is ended: at its deadline, or as an orphan. Nothing is looked at before it is time."""

    def __init__(self, launch: dict[str, Any]) -> None:
        self._deadline: float = time.monotonic() + launch["timeout"]
        self._patience: float = launch["orphaned"]
        self._marker = f"{launch['control']}/started"
        self._orphan_at: float = launch["leased_at"] + self._patience

    def _look(self) -> None:
        try:
            self._orphan_at = max(self._orphan_at, os.lstat(self._marker).st_mtime_ns / 1e9 + self._patience)
        except OSError:
            return  # removed under us: nobody wants this attempt any more

    def left(self) -> float:
        """Seconds until it is worth asking again."""
        return max(0.0, min(self._deadline - time.monotonic(), self._orphan_at - time.clock_gettime(time.CLOCK_BOOTTIME)))

    def reached(self) -> str | None:
        """Which of them, if any."""
        if time.monotonic() >= self._deadline:
            return "timeout"
        if time.clock_gettime(time.CLOCK_BOOTTIME) >= self._orphan_at:
            self._look()
        return "orphaned" if time.clock_gettime(time.CLOCK_BOOTTIME) >= self._orphan_at else None


def _run(argv: list[str], launch: dict[str, Any], stdin: int, out: int, err: int, limits: _Limits) -> dict[str, Any]:
    """Run one program to its end, and everything it started with it."""
    reached = limits.reached()
    if reached is not None:
        return {"code": None, "signal": None, "error": None, "stopped_by": reached}
    agent, error = _spawn(argv, launch, stdin, out, err)
    if error is not None:
        return {"code": 127 if error == "ENOENT" else 126, "signal": None, "error": error, "stopped_by": None}
    status = None
    stopped_by = None
    kill_at = None
    while status is None:
        pause = limits.left() if kill_at is None else max(0.0, kill_at - time.monotonic())
        got = signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, pause)
        # The clock decides, not the absence of signals: dying orphans can keep those coming for ever.
        reached = limits.reached() if kill_at is None else None
        if kill_at is not None and time.monotonic() >= kill_at:
            _signal_children(signal.SIGKILL)
            kill_at = time.monotonic() + 1.0
        elif stopped_by is None and (reached is not None or (got is not None and got.si_signo == signal.SIGTERM)):
            stopped_by = reached or "stop"
            kill_at = time.monotonic() + launch["orphan_grace" if stopped_by == "orphaned" else "grace"]
            # Never SIGINT: two of the agent CLIs report success after it.
            _signal_group(agent, signal.SIGTERM)
        status = _reap(agent)
    _end_descendants()
    code = os.waitstatus_to_exitcode(status)
    return {
        "code": code if code >= 0 else None,
        "signal": -code if code < 0 else None,
        "stopped_by": stopped_by,
        "error": None,
    }


def _spawn(argv: list[str], launch: dict[str, Any], stdin: int, out: int, err: int) -> tuple[int, str | None]:
    """(pid, None), or (None, errno name). A session of its own, the given environment and nothing else."""
    reader, writer = os.pipe()
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != supervisor:
                os._exit(127)  # it died before it could take us with it
            for number in _DEFAULTS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, set())
            for source, target in ((stdin, 0), (out, 1), (err, 2)):
                os.dup2(source, target)
            os.umask(0o077)
            os.chdir(launch["cwd"])
            os.execvpe(argv[0], argv, launch["env"])  # noqa: S606 - no shell is the point
        except OSError as failure:
            os.write(writer, errno.errorcode.get(failure.errno or 0, "EIO").encode())
        except ValueError:
            os.write(writer, b"EINVAL")
        finally:
            os._exit(127)
    os.close(writer)
    error = os.read(reader, 64).decode()
    os.close(reader)
    if error:
        os.waitpid(pid, 0)
        return 0, error
    return pid, None


def _reap(agent: int) -> int | None:
    """Collect everyone who died; the agent's status if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == agent:
            found = status


def _end_descendants() -> None:
    """Kill and reap until no child is left: orphans of the dead come back to a subreaper, sessions or not.

    The whole tree is stopped before it is killed: what is stopped cannot start another while we kill its neighbour.
    """
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        tree = _descendants()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in tree:
                _signal(pid, number)
        time.sleep(0.001)


def _signal_children(number: int) -> None:
    for pid in _children(os.getpid()):
        _signal(pid, number)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        return  # gone, or of another user by set-uid


def _descendants() -> list[int]:
    found = _children(os.getpid())
    for pid in found:
        found.extend(_children(pid))
    return found


def _children(parent: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{parent}/task"):
            with open(f"/proc/{parent}/task/{thread}/children", encoding="ascii") as file:
                found.extend(int(pid) for pid in file.read().split())
    except OSError:
        # Gone, or a kernel without that file.
        if not os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children"):
            return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _parent(int(pid)) == parent]
    return found


def _parent(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def _start_time(pid: int) -> int:
    """Clock ticks since boot when the process began: with the pid, a name that is not given twice."""
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


def _append(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _replace(path: str, data: bytes) -> None:
    draft = path + ".tmp"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        _write(descriptor, data)
    finally:
        os.close(descriptor)
    os.rename(draft, path)


def _json(value: Any) -> str:
    """Of an object of numbers and plain words."""
    if isinstance(value, dict):
        return "{" + ", ".join([f'"{name}": {_json(each)}' for name, each in value.items()]) + "}"
    return "null" if value is None else f'"{value}"' if isinstance(value, str) else str(value)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(0)
