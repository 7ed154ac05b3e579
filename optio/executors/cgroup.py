"""Control groups of attempts: limits of memory, CPU and processes, if this user may make groups.

The worker finds out whether it may, makes a group for each attempt that has limits, and tells the supervisor its path. The
agent enters the group before it is executed; the supervisor removes it at the end. `remove_groups` does so if the supervisor is
gone: a link in the attempt's directory names the groups. Both versions of the kernel's interface are used, controller by
controller. In version 2 only a group without processes may have groups with limits below it, so the worker first moves into a
group `optio-worker` of its own, unless it began there (systemd: `DelegateSubgroup=optio-worker`).

Source: https://docs.kernel.org/admin-guide/cgroup-v2.html, and cgroup-v1/ beside it
"""

import contextlib
import errno
import os
import signal
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from optio.model.pool import parse_quantity
from optio.model.probe_result import ProbeResult
from optio.model.task import Resources

CONTROLLERS = ("memory", "cpu", "pids")
WORKER_GROUP = "optio-worker"
NOT_DELEGATED = "no cgroup is delegated to this user (systemd: Delegate=yes)"
_BUSY = f"it holds other processes (systemd: DelegateSubgroup={WORKER_GROUP})"
_CPU_PERIOD_US, _MIN_CPU_QUOTA_US = 100_000, 1_000
# What sets a limit, by controller and version: the first file is there, the others depend on the kernel (swap).
_LIMIT_FILES = {
    ("memory", 2): (("memory.max", "{}"), ("memory.swap.max", "0"), ("memory.oom.group", "1")),
    ("memory", 1): (("memory.limit_in_bytes", "{}"), ("memory.memsw.limit_in_bytes", "{}")),
    ("cpu", 2): (("cpu.max", f"{{}} {_CPU_PERIOD_US}"),),
    ("cpu", 1): (("cpu.cfs_quota_us", "{}"),),
    ("pids", 2): (("pids.max", "{}"),),
    ("pids", 1): (("pids.max", "{}"),),
}
# Where the kernel counts processes that it killed for memory, on a line `oom_kill N`.
_OOM_FILES = {2: "memory.events", 1: "memory.oom_control"}
# A group can be removed a moment after its last process has been reaped.
_REMOVE_ATTEMPTS, _REMOVE_PAUSE_S = 200, 0.01


class ParentGroup(NamedTuple):
    """The group below which attempts get their groups, with the version of its interface (1 or 2)."""

    version: int
    path: Path


class Cgroups:
    """The groups below this process's own. `problem` says why there can be none; creating this object changes nothing."""

    def __init__(self, root: Path, *, proc: Path = Path("/proc/self"), controllers: tuple[str, ...] = CONTROLLERS) -> None:
        self._prefix = f"optio-{zlib.crc32(os.fsencode(root)):08x}"
        self._entered = False
        self._parents: dict[str, ParentGroup] = {}
        try:
            parents = find_parents((proc / "mountinfo").read_text(), (proc / "cgroup").read_text(), controllers)
        except OSError:
            parents = {}
        self._parents = {name: each for name, each in parents.items() if each.version == 1 or _is_offered(name, each.path)}
        missing = [name for name in controllers if name not in self._parents]
        closed = [each for each in parents.values() if not _is_writable(each)]
        self.problem = NOT_DELEGATED if closed or not parents else ""
        if missing and not self.problem:
            self.problem = f"the cgroup of this process has no controller {', '.join(missing)} (systemd: Delegate=yes)"

    def enter(self) -> None:
        """Prepare this process's group so that groups with limits can be made below it. On failure `problem` says why."""
        if self._entered or self.problem:
            return
        self._entered = True
        names = {name for name, parent in self._parents.items() if parent.version == 2}
        if not names:
            return
        parent = self._parents[min(names)].path
        try:
            if names <= set((parent / "cgroup.subtree_control").read_text().split()):
                return
            if (parent / "cgroup.type").exists():  # the root group has none, and may hold processes
                (parent / WORKER_GROUP).mkdir(exist_ok=True)
                _write(parent / WORKER_GROUP / "cgroup.procs", "0")
            _write(parent / "cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(names)))
        except OSError as err:
            self.problem = f"the cgroup {parent} cannot be used: {_BUSY if err.errno == errno.EBUSY else err.strerror}"

    def launch(self, base: Path, resources: Resources | None, processes: int | None) -> dict[str, Any]:
        """Make the group of an attempt, in version 1 one for each controller. Return fields for the supervisor's header:
        `groups`, their paths; `memory`, the limit as written with the file that counts OOM kills; `pids`, the file that counts
        refused processes. Raises OSError."""
        limits = {} if self.problem else limits_of(resources, processes)
        paths = {name: self._parents[name].path / f"{self._prefix}-{base.name}" for name in limits}
        groups = list(dict.fromkeys(map(str, paths.values())))
        memory = pids = None
        if groups:
            with contextlib.suppress(FileExistsError):  # a launch that is sent twice
                os.symlink("\n".join(groups), base / "control" / "cgroup")
        for name, path in paths.items():
            version = self._parents[name].version
            path.mkdir(exist_ok=True)
            for number, (file, text) in enumerate(_LIMIT_FILES[name, version]):
                if number == 0 or (path / file).exists():
                    _write(path / file, text.format(limits[name]))
            if name == "memory" and resources is not None:
                memory = (resources.limit.memory, str(path / _OOM_FILES[version]))
            if name == "pids":
                pids = str(path / "pids.events")
        return {"groups": groups, "memory": memory, "pids": pids}

    def notes(self, resources: Resources | None, processes: int | None) -> Iterator[str]:
        """Yield lines for a run's log about the limits that its task asks for."""
        if resources is None or self.problem:
            return
        pids = None if processes is None else f"{processes} processes"
        values = [("memory ", resources.limit.memory), ("CPU ", resources.limit.cpu), ("", pids)]
        given = [f"{name}{value}" for name, value in values if value is not None]
        if given:
            yield f"limits: {', '.join(given)}"

    def examine(self) -> Iterator[ProbeResult]:
        """Yield results for `optio doctor`."""
        if not self.problem:
            versions = " and ".join(f"v{version}" for version in sorted({parent.version for parent in self._parents.values()}))
            yield ProbeResult("cgroup", "ok", f"{versions}: environment.resources of processes are applied")
        else:
            yield ProbeResult("cgroup", "ok", f"none: environment.resources of processes are not applied: {self.problem}")


def find_parents(mountinfo: str, own_groups: str, controllers: tuple[str, ...] = CONTROLLERS) -> dict[str, ParentGroup]:
    """Return the group to use for each controller, given the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`."""
    own: dict[str, str] = {}
    for line in own_groups.splitlines():
        _, names, path = line.split(":", 2)
        own.update(dict.fromkeys(names.split(","), path))  # version 2 has no names
    found: dict[str, ParentGroup] = {}
    unified: Path | None = None
    for line in mountinfo.splitlines():
        mount, _, file_system = line.partition(" - ")
        kind, _, options = file_system.split(" ", 2)
        root, point = mount.split(" ")[3:5]
        for name in [""] if kind == "cgroup2" else options.split(",") if kind == "cgroup" else []:
            path = own.get(name, "/..")
            if "/.." in path or not f"{path}/".startswith(root.rstrip("/") + "/"):
                continue  # outside of what is mounted here
            place = Path(point + path.removeprefix(root.rstrip("/")))
            if not name:
                unified = place.parent if place.name == WORKER_GROUP else place
            elif name in controllers:
                found[name] = ParentGroup(1, place)
    if unified is not None:
        found = dict.fromkeys(controllers, ParentGroup(2, unified)) | found
    return found


def limits_of(resources: Resources | None, processes: int | None) -> dict[str, int]:
    """Return the limits of an attempt by controller: bytes of memory, microseconds of CPU in each period, and processes with
    their threads."""
    limits: dict[str, int] = {}
    memory, cpu = (None, None) if resources is None else (resources.limit.memory, resources.limit.cpu)
    if memory is not None and (amount := parse_quantity(memory)) is not None:
        limits["memory"] = int(amount)
    if cpu is not None and (amount := parse_quantity(cpu)) is not None:
        limits["cpu"] = max(_MIN_CPU_QUOTA_US, int(amount * _CPU_PERIOD_US))
    if processes is not None:
        limits["pids"] = processes + 1  # the first process of the agent's namespace is none of its own
    return limits


def remove_groups(control: str, attempt: str) -> None:
    """Kill every process in the groups of an attempt, and remove the groups. Never raises."""
    try:
        paths = os.readlink(f"{control}/cgroup").split("\n")
    except OSError:
        return
    for path in paths:
        # Without a sandbox an agent can change the link: nothing but groups of this attempt.
        name = os.path.basename(path)
        if name.startswith("optio-") and name.endswith(f"-{attempt}"):
            _remove(path)


def _remove(path: str) -> None:
    for _ in range(_REMOVE_ATTEMPTS):
        try:
            os.rmdir(path)
        except OSError as err:
            if err.errno != errno.EBUSY:
                return
            _kill(path)
            time.sleep(_REMOVE_PAUSE_S)
        else:
            return


def _kill(path: str) -> None:
    with contextlib.suppress(OSError):
        _write(Path(path, "cgroup.kill"), "1")
        return
    with contextlib.suppress(OSError):  # version 1
        for line in Path(path, "cgroup.procs").read_text().split():
            if line != "0":  # a process that is not visible from here
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(line), signal.SIGKILL)


def _is_offered(controller: str, path: Path) -> bool:
    try:
        return controller in (path / "cgroup.controllers").read_text().split()
    except OSError:
        return False


def _is_writable(parent: ParentGroup) -> bool:
    files = ["", "cgroup.procs", *(["cgroup.subtree_control"] if parent.version == 2 else [])]
    return all(os.access(parent.path / name, os.W_OK) for name in files)


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
