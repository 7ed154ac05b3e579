"""The handle of a local attempt: its files, its supervisor and its end. Everything is found by name, so that any process can
adopt an attempt. Used by `executors.process`."""

import contextlib
import glob
import json
import math
import os
import select
import signal
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from optio.executors import cgroup
from optio.executors.base import Exit, Handle, LaunchArrival
from optio.executors.inotify import Inotify
from optio.executors.procfs import descendants, uptime
from optio.executors.trees import delete_tree
from optio.process_identity import start_time

# Without inotify (no watches left) output is polled at this interval, in seconds.
_POLL_S = 0.05
# The session file of an agent is looked for so often, until there is one to watch.
_SIDE_POLL_S = 0.5
# A younger attempt is polled every few milliseconds: most short ones end before a watch would pay off, and giving
# one back takes the kernel longer than a short program runs.
_YOUNG_S = 0.1
_YOUNG_POLL_S = 0.005
# The files of an attempt that left nothing of its own, innermost first: deleted without listing directories.
_FILES = (
    "control/stdout",
    "control/stderr",
    "control/exit.json",
    "control/started",
    "home/.optio-params.json",
)
# Streams from files that the agent itself writes.
_OF_AGENT = frozenset({"result", "side", "telemetry"})
# Those whose files are looked for below HOME, with the name below `control` by which the first that is found stays.
_FOUND = {"side": "session", "telemetry": "session-telemetry"}
_DIRECTORIES = ("control", "result", "home", "tmp", "work", "")
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Room for the supervisor's last word: numbers and plain words. After it the file has the attempt's limits.
EXIT_BYTES = 512
_LIMITS_BYTES = 64
# A supervisor that has not ended its attempt so long after the grace was stopped, or hangs: it is ended from here.
OVERDUE_S = 3.0
_USUAL_GRACE_S = 10.0


class ProcessHandle(Handle):
    """The handle of a local attempt. The supervisor is not a child of this process: a pidfd waits for it, and cannot refer to
    another process by mistake."""

    def __init__(self, base: Path, start: "StartedAttempt | None" = None) -> None:
        self._base = base
        self._control = control = f"{base}/control"
        # Attempts that an older version began have their result below `control`.
        has_results = start is not None or os.path.isdir(f"{base}/result")
        self._results = f"{base}/result" if has_results else f"{control}/result"
        self._paths = {"stdout": f"{control}/stdout", "stderr": f"{control}/stderr", "result": f"{self._results}/result.jsonl"}
        self._open: dict[str, int] = {}
        start_facts = start or _read_started(control)
        self._missing = {stream: pattern for stream, pattern in start_facts.patterns.items() if pattern is not None}
        self.streams: Sequence[str] = (*self._paths, *self._missing)
        # The attempt whose HOME this one uses, and where its own part of the session file begins.
        self._home, self._side_from = f"{base}/home", 0
        if start_facts.continues is not None:
            self._home = str(base.with_name(f"{base.name.rpartition('-')[0]}-{start_facts.continues}") / "home")
            self._side_from = _number_of(f"{control}/side-from") or 0
        self._watched = False  # its supervisor was seen alive from here
        self._overdue_at, self._grace, self._holds_signals = start_facts.limits
        self._overdue_as: str | None = None
        self._pidfd = start_facts.pidfd
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._inotify: Inotify | None = None
        self._created_at = time.monotonic()
        self._arrival = None if start is None else LaunchArrival(self._created_at, "process")

    def _marked(self) -> int | None:
        marker = marker_of(self._control)
        return None if marker is None else open_pidfd(*marker)

    def read(self, stream: str, offset: int, limit: int) -> bytes:
        """Return bytes of a stream. The agent may replace its own files by anything, so only a regular file is read."""
        offset += self._side_from if stream == "side" else 0
        descriptor = self._open.get(stream)
        if descriptor is not None:
            return os.pread(descriptor, limit, offset)
        if stream in _FOUND and not self._find(stream):
            return b""
        try:
            descriptor = os.open(self._paths[stream], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        if stream not in _OF_AGENT and stat.S_ISREG(os.fstat(descriptor).st_mode):
            self._open[stream] = descriptor
            return os.pread(descriptor, limit, offset)
        try:
            return os.pread(descriptor, limit, offset) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
        finally:
            os.close(descriptor)

    def _find(self, stream: str) -> bool:
        """Return whether the agent has this file. It is looked for until there is one, a regular file, which is then kept by a
        link: a worker that adopts the attempt reads the same, whatever the agent has put beside it."""
        if stream in self._missing:
            kept_path = f"{self._control}/{_FOUND[stream]}"
            if not os.path.lexists(kept_path):
                linked = _link_session(self._home, self._missing[stream], kept_path)
                if linked is None:
                    return False
                kept_path = linked
            del self._missing[stream]
            self._paths[stream] = kept_path
            if self._inotify is not None:
                self._inotify.watch(kept_path)
        return stream in self._paths

    def wait(self, timeout: float) -> None:
        timeout = min(timeout, max(0.01, self._overdue_at - uptime()))
        if self._inotify is None:
            if time.monotonic() - self._created_at > _YOUNG_S:
                self._watch()
                return  # output that was written before the watch began is read first
            timeout = min(timeout, _YOUNG_POLL_S)
        elif self._inotify.fd is None:
            timeout = min(timeout, _POLL_S)
        elif self._missing:
            timeout = min(timeout, _SIDE_POLL_S)
        poll = select.poll()
        changes = None if self._inotify is None else self._inotify.fd
        for descriptor in (self._pidfd, self._wake, changes):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        ready = poll.poll(timeout * 1000)
        if any(descriptor == self._wake for descriptor, _ in ready):
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
        if self._inotify is not None:
            self._inotify.drain()

    def _watch(self) -> None:
        self._inotify = Inotify()
        self._inotify.watch(self._control)
        self._inotify.watch(self._results)
        for stream in _FOUND:
            if stream in self._paths:
                self._inotify.watch(self._paths[stream])

    def renewed(self, at: float) -> None:
        """Set the marker's time to that of the renewal. This needs no room on a disk that may be full."""
        if marker_of(self._control) is not None:
            with contextlib.suppress(OSError):
                nanoseconds = int(at * 1e9)
                os.utime(f"{self._control}/started", ns=(nanoseconds, nanoseconds), follow_symlinks=False)

    def wake(self) -> None:
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def begun(self) -> LaunchArrival | None:
        return self._arrival

    def exit(self) -> Exit | None:
        """Return how the attempt ended, or None while it runs. An exit file is a forgery while its supervisor lives."""
        if self._alive():
            self._watched = True
            if not self._end_overdue():
                return None
        exit_ = self._read_exit()
        if exit_ is None:
            kill_marked(self._base.name)
            cgroup.remove_groups(self._control, self._base.name)
            if self._overdue_as is not None:
                return Exit(code=None, signal=signal.SIGKILL, stopped_by=self._overdue_as)
            exit_ = Exit(lost=True, by_agent=self._watched and not self._holds_signals)
        return exit_

    def _alive(self) -> bool:
        if self._pidfd is not None:
            if not select.select([self._pidfd], [], [], 0)[0]:
                return True
            os.close(self._pidfd)
        # A launch that was sent twice has one supervisor, and the marker names it.
        self._pidfd = self._marked()
        return self._pidfd is not None

    def _end_overdue(self) -> bool:
        """Kill a supervisor that should have ended its attempt long ago, with everything below it. Return whether there was
        one."""
        if uptime() < self._overdue_at:
            return False
        marker = marker_of(self._control)
        if marker is not None and self._pidfd is not None:
            self._overdue_as = self._overdue_as or "timeout"
            kill_tree(marker[0])
            select.select([self._pidfd], [], [], 1.0)
        return not self._alive()

    def _read_exit(self) -> Exit | None:
        try:
            data: dict[str, Any] = json.loads(_read(f"{self._control}/exit.json", 0, EXIT_BYTES).rstrip(b"\0"))
            # After a power cut: an end without all of its output does not count.
            if any(os.stat(self._paths[name]).st_size < size for name, size in data["sizes"].items()):
                return None
        except (OSError, ValueError):
            return None
        if data["error"] == "ENOSPC":
            return Exit(reason="disk", message="the disk had no room to begin", temporary=True)
        oom = data.get("oom")  # the limit that was too small
        return Exit(
            code=data["code"],
            signal=data["signal"],
            stopped_by=data["stopped_by"],
            phase=data["phase"],
            error=data["error"],
            sizes=data["sizes"],
            reason=None if oom is None else "oom",
            message="" if oom is None else f"it used more memory than its limit (environment.resources.memory: {oom})",
        )

    def stop(self) -> None:
        """Signal the supervisor. The marker names the right one, should this launch have been sent twice."""
        if self._overdue_as is None:
            self._overdue_at = min(self._overdue_at, uptime() + self._grace + OVERDUE_S)
            self._overdue_as = "stop"
        pid = self._marked()
        if pid is not None:
            if self._pidfd is not None:
                os.close(self._pidfd)
            self._pidfd = pid
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)

    def close(self, *, remove: bool) -> None:
        """Let go of the attempt. After a removal, a supervisor that comes late finds no directory for its marker, and does
        nothing."""
        if self._inotify is not None:
            self._inotify.close()
        for descriptor in (self._pidfd, self._wake, *self._open.values()):
            if descriptor is not None:
                os.close(descriptor)
        self._pidfd = None
        self._open = {}
        if remove:
            cgroup.remove_groups(self._control, self._base.name)
            delete_attempt(self._base)


def continue_session(control: str, session: str, attempt: int, side: str | None) -> None:
    """Let an attempt use the HOME and the working directory of an ended one, and read that one's session file from where it
    ends now. What else the ended attempt has left is deleted. Raises OSError."""
    keep_link(f"{control}/continues", str(attempt))
    if side is not None and not os.path.lexists(f"{control}/side-from"):
        linked = _link_session(f"{session}/home", side, f"{control}/session")
        keep_link(f"{control}/side-from", str(0 if linked is None else os.stat(linked, follow_symlinks=False).st_size))
    for name in ("stdout", "stderr", *_FOUND.values()):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{session}/control/{name}")
    for name in ("tmp", "result"):
        # Not as an attempt, whose files are deleted by their names: links of the agent could stand on the way to them.
        delete_tree(f"{session}/{name}")


def _link_session(home: str, side: str, target: str) -> str | None:
    """Link the agent's session file to another name; see `_link_below`. Return None if there is none."""
    paths = sorted(glob.iglob(f"{glob.escape(home)}/{side}"))
    return _link_below(home, os.path.relpath(paths[0], home), target) if paths else None


def _link_below(top: str, path: str, target: str) -> str | None:
    """Link a regular file below a directory to another name. Return the name by which it is found, or None for anything else.

    No symbolic link is followed on the way: the agent may have made one to a directory that only this process may read.
    """
    *parents, name = path.split("/")
    place = os.open(top, _PLACE)
    try:
        for each in parents:
            descriptor = os.open(each, _PLACE, dir_fd=place)
            os.close(place)
            place = descriptor
        if not stat.S_ISREG(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode):
            return None
        try:
            os.link(name, target, src_dir_fd=place, follow_symlinks=False)
        except FileExistsError:
            return target
        except OSError:
            return f"{top}/{path}"  # a file system without links
    except OSError:
        return None
    finally:
        os.close(place)
    return target


def delete_attempt(base: Path) -> None:
    """Delete the files of an attempt, even if the agent has taken away rights of its own directories."""
    if not _delete_bare(str(base)):
        delete_tree(str(base))


def _delete_bare(base: str) -> bool:
    """Delete an attempt that holds only the executor's own files. Return whether it was one."""
    try:
        for name in _FILES:
            os.unlink(f"{base}/{name}")
        for name in _DIRECTORIES:
            os.rmdir(f"{base}/{name}")
    except OSError:
        return False
    return True


def marker_of(control: str) -> tuple[int, int] | None:
    """Return (pid, start time) of the supervisor; None for a tombstone, or if none began."""
    try:
        pid, start = os.readlink(f"{control}/started").split(":")
        return int(pid), int(start)
    except (OSError, ValueError):
        return None


def keep_link(path: str, text: str) -> None:
    """Keep a short text as a link for whoever adopts the attempt, unless it is kept already. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        os.symlink(text, path)


def link_of(path: str) -> str | None:
    """Return the text of a link that `keep_link` made, or None."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def _number_of(path: str) -> int | None:
    text = link_of(path)
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


class AttemptLimits(NamedTuple):
    """The limits of an attempt for whoever adopts it: `overdue` is when the supervisor should have ended it, in seconds since
    boot; `grace` is in seconds; `holds_signals` says whether a sandbox keeps the agent from signalling its supervisor."""

    overdue: float
    grace: float
    holds_signals: bool


class StartedAttempt(NamedTuple):
    """A started attempt as its handle has to know it: a pidfd of its supervisor, if that lives, its limits, the patterns of
    files that are looked for below HOME, by stream, and `Launch.continues`."""

    pidfd: int | None
    limits: AttemptLimits
    patterns: Mapping[str, str | None]
    continues: int | None


def _read_started(control: str) -> StartedAttempt:
    marker = marker_of(control)
    pidfd = None if marker is None else open_pidfd(*marker)
    patterns = {stream: link_of(f"{control}/{stream}") for stream in _FOUND}
    return StartedAttempt(pidfd, limits_of(control), patterns, _number_of(f"{control}/continues"))


def reserve_exit(control: str, limits: AttemptLimits) -> None:
    """Make the exit file with its blocks allocated, so that writing the end needs no room on a disk. The limits stand behind
    it. Raises OSError."""
    descriptor = os.open(f"{control}/exit.json", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, EXIT_BYTES + _LIMITS_BYTES)
        text = f"{limits.overdue:.3f}:{limits.grace:.3f}:{int(limits.holds_signals)}"
        os.pwrite(descriptor, text.encode().ljust(_LIMITS_BYTES), EXIT_BYTES)
    finally:
        os.close(descriptor)


def limits_of(control: str) -> AttemptLimits:
    """Return the limits that `reserve_exit` stored. For an attempt of an older version none are known."""
    try:
        overdue, grace, holds_signals = _read(f"{control}/exit.json", EXIT_BYTES, _LIMITS_BYTES).split(b":")
        return AttemptLimits(float(overdue), float(grace), int(holds_signals) == 1)
    except (OSError, ValueError):
        return AttemptLimits(math.inf, _USUAL_GRACE_S, holds_signals=True)


def _read(path: str, offset: int, limit: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, limit, offset)
    finally:
        os.close(descriptor)


def kill_tree(pid: int) -> None:
    """Kill everything below a process, then the process itself. While it lives, even stopped, orphans of its children come to
    it."""
    for _ in range(100):
        children = descendants(pid)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for child in children:
                with contextlib.suppress(OSError):
                    os.kill(child, number)
        if not children:
            break
        time.sleep(0.01)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def kill_marked(attempt: str) -> None:
    """Kill every process of an attempt whose supervisor is gone. They are found by the run's names in their environment."""
    run_id, _, number = attempt.rpartition("-")
    marks = {f"OPTIO_RUN_ID={run_id}".encode(), f"OPTIO_ATTEMPT={number}".encode()}
    for _ in range(10):
        is_found = False
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                environment = set(Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"))
                if marks <= environment:
                    os.kill(int(entry), signal.SIGKILL)
                    is_found = True
            except OSError:
                continue
        if not is_found:
            return


def open_pidfd(pid: int, start: int | None = None) -> int | None:
    """Return a descriptor of the process, or None if it is gone or its pid belongs to another process by now."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return None
    if start is not None and start_time(pid) != start:
        os.close(descriptor)
        return None
    return descriptor
