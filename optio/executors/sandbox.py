"""The sandbox of local attempts: what an agent may reach of the machine that it shares with its operator.

    namespaces  isolated: a file system of what is listed, a process list and IPC of the agent's own (`view.py`)
    bwrap       isolated: the same by bubblewrap, where that may make user namespaces and other programs may not
    landlock    the kernel refuses files that are not listed, signals, tracing, TCP ports. No package, no privilege.
    none        the agent may do what the worker's user may do

The first that works here is the default. If the worker is root, every attempt but those without a sandbox has a user of its own
(`identity.py`). An agent reads system directories and what is on the worker's PATH, and writes its own directories and `/tmp`;
more by two settings. It never reaches the data directory, whatever those say. The process executor asks here what to hand to
the supervisor, `optio doctor` what holds.
"""

import os
import re
import resource
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from optio.errors import LaunchFailed, SettingsError
from optio.executors import landlock, seccomp
from optio.model import egress
from optio.model.probe_result import ProbeResult
from optio.model.task import Environment

# Paths that programs of any distribution need to run; none belongs to a person.
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix", "/gnu", "/snap"),
    *("/proc", "/sys", "/run/systemd/resolve", "/run/resolvconf", "/run/nscd", "/var/lib/ca-certificates"),
)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "fuse")
_OWN_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_SHARED = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - programs write there without asking
_DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
# Beside a directory of programs on PATH: what those of a virtual environment, of Node's or of Conda's need.
_BESIDE_BIN = ("lib", "lib64", "libexec", "include", "share", "pyvenv.cfg")
_OF_SESSION, _OF_ATTEMPT = ("home", "work"), ("tmp", "result")
# Flags of mounts: read-only, no set-uid programs, no devices, no programs.
_READ, _WRITE, _DEVICE = 1 | 2 | 4, 2 | 4, 2 | 8
_MEMORY_BYTES = 64 << 20
# Pending signals, and bytes of POSIX message queues.
_SHARED_LIMITS = {resource.RLIMIT_SIGPENDING: 1024, resource.RLIMIT_MSGQUEUE: 0}
_MANY = 1 << 31
# What the kernel counts by user and by user namespace (`/proc/sys/user`): the most that an agent with the worker's user needs.
_COUNTS = {"inotify_instances": 48, "inotify_watches": 1 << 16, "fanotify_groups": 48, "fanotify_marks": 1 << 16}
_COUNTS |= {f"{kind}_namespaces": 1024 for kind in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")}
_NOT_CONNECTED = (
    *("unable to connect", "failed to connect", "could not connect", "couldn't connect", "connection refused"),
    *("connect eacces", "connectionerror", "connecterror"),
)
REFUSALS = ("permission denied", "operation not permitted", "eacces", "read-only file system")
ISOLATED = ("namespaces", "bwrap")
KINDS = (*ISOLATED, "landlock")
CHOSEN = "OPTIO_SANDBOX=none"
# Nobody's: systemd keeps these numbers free of its own users and of people's.
USERS = (60_578, 61_183)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """The operator's choices. `kind` is one that works here, and `why` says why it is `none`. `hidden` are paths that no agent
    may reach: the data directory, the secrets. `place` is where attempts have their directories, `users` the pool of root."""

    kind: str = "none"
    why: str = CHOSEN
    read: Sequence[Path] = ()
    write: Sequence[Path] = ()
    ports: Sequence[int] | None = None
    hidden: Sequence[Path] = ()
    place: Path = Path("/nonexistent")
    users: tuple[int, int] = USERS


class Sandbox:
    """The sandbox of attempts on this machine. Raises SettingsError for a path that would open what is hidden."""

    def __init__(self, options: SandboxOptions) -> None:
        self._abi = landlock.version()
        self.kind = options.kind
        self._why = options.why
        self._users = options.users if os.geteuid() == 0 and self.kind != "none" else None
        self._ports = options.ports
        self._place = str(options.place)
        self._hidden = list(map(_real, options.hidden))
        if self._users is None and self.kind != "none":
            self._hidden += _private("/etc", "/opt")
        self._check_write(options.write)
        self._closed = [path for path in _SHARED if _holds_any(_real(path), self._hidden)]
        # Resolved now, and none within another: an agent could put a link in the place of one that it may replace.
        self._opened = _outermost(map(_real, options.write))
        self._write = _outermost([*(_real(path) for path in _SHARED if path not in self._closed), *self._opened])
        read, self._links = _readable(options.read, self._hidden)
        self._all_read = [path for path in read if not _is_in_any(path, self._opened)]
        self._read = [path for path in read if not _is_in_any(path, self._write)]
        devices = [_real(f"/dev/{name}") for name in _DEVICES]
        self._rules = landlock.rules(self._abi, read=self._read, write=self._write, devices=devices)
        # Only the worker's own: what lies above is the operator's to open.
        self._way = [str(path) for path in (options.place, *options.place.parents) if _real(path) in self._hidden]
        if self.kind == "landlock" and self._users is not None:
            _check_way(options.place.parents, self._way)
        self._bwrap = shutil.which("bwrap") or "bwrap"
        # Open paths usually stay as they are; if not, the agent's error says so.
        all_open = (*self._read, *(self._opened if self.is_isolated else self._write))
        self._is_open = lru_cache(256)(lambda program: _is_in_any(_real(program), all_open))

    def _check_write(self, paths: Sequence[Path]) -> None:
        """Raise SettingsError for a path of OPTIO_SANDBOX_WRITE that would open what no agent may write, or that none can."""
        for path in paths:
            for hidden in self._hidden:
                if _is_within(hidden, _real(path)) or _is_within(_real(path), hidden):
                    raise SettingsError(f"OPTIO_SANDBOX_WRITE: {path} would open {hidden}, which no agent may write")
            if self._users is not None and not _is_writable_by_group(path, self._users[0]):
                raise SettingsError(
                    f"OPTIO_SANDBOX_WRITE: agents, which are not root, may not write {path}: "
                    f"run `chgrp {self._users[0]} {path} && chmod g+ws {path}`"
                )

    @property
    def is_isolated(self) -> bool:
        """Return whether an agent has a file system, a process list and IPC of its own."""
        return self.kind in ISOLATED

    def server(self) -> dict[str, Any]:
        """Return what the fork server has to know of the sandbox: the pool of `users`, the `filter` of system calls, and the
        `view` that all attempts share."""
        if self.kind == "none":
            return {"is_confined": False, "users": None, "umask": 0o077, "filter": None, "view": None}
        # Who sees its own processes alone may do with them what it likes.
        program = seccomp.program(os.uname().machine, others=not self.is_isolated)
        view = self._view() if self.kind == "namespaces" else None
        # What one user of the pool writes where all may, the others are to read and write, too.
        umask = 0o007 if self._users and self._opened else 0o077
        # Of what all processes of a user share, an agent with the worker's user gets no more than half.
        limits = [(which, min(most, _half(which))) for which, most in _SHARED_LIMITS.items()]
        most_processes = _MANY if self._users else _half(resource.RLIMIT_NPROC)
        return {
            "is_confined": True,
            "users": self._users,
            "umask": umask,
            "filter": program,
            "view": view,
            "limits": limits,
            "most_processes": most_processes,
            "counts": list(_count_limits()),
        }

    def _view(self) -> dict[str, Any]:
        binds = [(path, _READ) for path in self._all_read if path != "/proc" and not self._is_shared(path)]
        binds += [(path, _WRITE) for path in self._opened if not self._is_shared(path)]
        binds += [(f"/dev/{name}", _DEVICE) for name in _OWN_DEVICES]
        links = {**self._links, **{f"/dev/{name}": text for name, text in _DEVICE_LINKS.items()}, "/dev/ptmx": "pts/ptmx"}
        points = ["/proc", "/dev/pts", *_SHARED, *([] if self._is_shared(self._place) else [self._place])]
        return {
            "place": self._place,
            "binds": sorted(binds),
            "links": sorted(links.items()),
            "points": points,
            "users": self._users,
        }

    def _is_shared(self, path: str) -> bool:
        """Return whether a path lies in a directory of which every attempt has one of its own."""
        return any(path != shared and _is_within(path, shared) for shared in _SHARED)

    def _plan(self, program_paths: Sequence[str], own_paths: Sequence[str], *, offline: bool) -> dict[str, Any]:
        """Return what an attempt adds to the view. A shared directory is its own on its disk, so that the limits of the disk
        count it, or in memory, if paths in it are opened: an agent could put links on the way to those."""
        inner = [(path, path, _READ) for path in (*self._all_read, *program_paths) if self._is_shared(path)]
        inner += [(path, path, _WRITE) for path in self._opened if self._is_shared(path)]
        paths = [self._place, *(path for path, _, _ in inner)]
        in_memory = [shared for shared in _SHARED if shared == _SHARED[2] or _holds_any(shared, paths)]
        private = [shared for shared in _SHARED if not _is_in_any(shared, self._opened)]
        binds = [(own_paths[2], shared, _WRITE) for shared in private if shared not in in_memory]
        binds += sorted(inner, key=lambda bind: len(bind[1]))
        return {
            "memory": [shared for shared in private if shared in in_memory],
            "points": [] if self._is_shared(self._place) else [self._place],
            "binds": [*binds, *((path, path, _WRITE) for path in own_paths)],
            "programs": [path for path in program_paths if not self._is_shared(path) and not self._is_open(path)],
            "offline": offline,
        }

    def launch(
        self,
        base: str,
        session: str,
        argv: Sequence[str],
        environment: Environment | None = None,
        program: str | None = None,
        gateway_port: int | None = None,
    ) -> dict[str, Any]:
        """Return fields for the supervisor's header: `sandbox`, a ruleset; `wrap`, the words before the agent's own; `plan`,
        what the attempt adds to the view; `own`, the directories that become its user's; `way`, those above, if it passes them.
        `base` is the attempt's directory; HOME and the working directory are in `session`. `program` is the agent CLI of a
        runtime, which may be read wherever it lies. Raises LaunchFailed for a program that the sandbox closes."""
        own_paths = [*(f"{session}/{name}" for name in _OF_SESSION), *(f"{base}/{name}" for name in _OF_ATTEMPT)]
        fields: dict[str, Any] = {"sandbox": None, "wrap": [], "plan": None, "own": own_paths, "way": []}
        if self.kind == "none":
            return fields
        program_paths = [] if program is None else list(_program_files(program))
        self._check_program(argv[0], program_paths, own_paths)
        ports = self._allowed_ports(environment)
        if ports and gateway_port is not None:
            ports.add(gateway_port)
        offline = self.is_isolated and ports is not None and not ports
        if self.kind == "landlock":
            streams = [f"{base}/control/{name}" for name in ("stdout", "stderr")]
            paths = self._rules + landlock.rules(self._abi, read=program_paths, write=own_paths, append=streams)
            return {**fields, "sandbox": landlock.ruleset(self._abi, paths, ports), "way": self._way}
        # The abstract sockets of other programs are in the network that it shares.
        rules = landlock.ruleset(self._abi, None, None if offline else ports)
        plan = self._plan(program_paths, own_paths, offline=offline)
        fields["sandbox"] = rules if any(rules["attr"]) else None
        if self.kind == "bwrap":
            return {**fields, "wrap": self._bwrap_arguments(plan, f"{session}/work")}
        return {**fields, "plan": plan}

    @property
    def holds_signals(self) -> bool:
        """Return whether an agent can neither stop nor kill its supervisor."""
        return self.is_isolated or (self.kind == "landlock" and (self._users is not None or self._abi >= landlock.SCOPES_SINCE))

    def variables(self) -> dict[str, str]:
        """Return variables that tell a program that it runs in a sandbox. Claude Code runs unattended as root only then."""
        return {} if self.kind == "none" else {"IS_SANDBOX": "1"}

    def notes(self, environment: Environment | None) -> Iterator[str]:
        """Yield lines for a run's log: what is confined, what is not, and which settings open more."""
        if self.kind == "none":
            yield f"no sandbox: this program can do whatever the worker's user can, and read other secrets ({self._why})"
            return
        temporary = " and a /tmp of its own" if self.is_isolated else "" if "/tmp" in self._closed else " and /tmp"  # noqa: S108
        missing = "".join(f"; it does not close {gap}" for gap in self._not_held())
        yield (
            f"sandbox {self.kind}: reads system directories and PATH, writes its own directories{temporary}{missing}; "
            "OPTIO_SANDBOX_READ and OPTIO_SANDBOX_WRITE open more"
        )
        if environment is not None and environment.network is not None:
            yield from self._network_notes(environment)

    def refusal_hint(self, line: bytes, environment: Environment | None = None) -> str | None:
        """Return a hint if a line of a program says that something was refused to it, else None."""
        if self.kind == "none":
            return None
        line_text = line[:4096].decode("utf-8", "replace")
        text = line_text.lower()
        if any(words in text for words in _NOT_CONNECTED) and (open_ports := self._opened_ports(environment)) is not None:
            is_declared = environment is not None and environment.network is not None
            place = "`environment.network.egress` of the task" if is_declared else "OPTIO_SANDBOX_PORTS"
            entry = "HOST:PORT" if is_declared else "the port"
            return (
                f"a connection failed, perhaps by the sandbox ({self.kind}), which opens {open_ports}; add {entry} to {place}"
            )
        if not any(word in text for word in REFUSALS) and not (self.is_isolated and self._names_what_is_not_seen(line_text)):
            return None
        return (
            f"something was refused, perhaps by the sandbox ({self.kind}): OPTIO_SANDBOX_READ=/path/... and "
            "OPTIO_SANDBOX_WRITE=/path/... open further paths, OPTIO_SANDBOX=none opens all"
        )

    def _names_what_is_not_seen(self, text: str) -> bool:
        """Return whether a line names a path of this machine that is not in the view: there, it is only missing."""
        paths = (path for path in re.findall(r"(?<![\w.])/[^\s'\":;,)]+", text) if os.path.lexists(path))
        return any(not self._is_open(path) and not _is_within(path, self._place) for path in paths)

    def examine(self) -> Iterator[ProbeResult]:
        """Yield results for `optio doctor`."""
        missing = "; ".join(self._not_held())
        if self.kind == "none":
            detail = "none: agents can read and do whatever this user can, all secrets included"
            yield _warning(detail, "unset OPTIO_SANDBOX" if self._why == CHOSEN else self._why)
        elif missing:
            yield _warning(f"{self.kind}; it does not close {missing}", f"use one that isolates: {' or '.join(ISOLATED)}")
        else:
            users = "" if self._users is None else f", each attempt as a user from {self._users[0]} to {self._users[1]}"
            yield ProbeResult(name="sandbox", status="ok", detail=f"{self.kind}: isolated{users}")
        if self._closed and not self.is_isolated:
            detail = f"agents cannot write {', '.join(self._closed)}: the data directory lies there"
            yield _warning(detail, "put the data directory elsewhere")

    def _not_held(self) -> Iterator[str]:
        """Yield what the page on security lists as open, in short."""
        if self.kind != "landlock":
            return
        if not self.holds_signals:
            yield f"signals to other processes (Linux {landlock.LINUX_OF[landlock.SCOPES_SINCE]} can)"
        if self._users is None:
            yield "rights and times of this user's files, limits of its processes, its message queues and shared memory"
        yield "the shared /tmp, and sockets of other services (Docker, tmux, ssh-agent)"

    def _network_notes(self, environment: Environment) -> Iterator[str]:
        ports = self._allowed_ports(environment)
        if ports is None:
            return
        if not ports and self.is_isolated:
            yield "network: none"
        elif self._abi < landlock.NETWORK_SINCE:
            linux = landlock.LINUX_OF[landlock.NETWORK_SINCE]
            yield f"environment.network is not applied: this kernel cannot restrict connections (Linux {linux} can)"
        elif not ports:
            yield "network: no TCP connections; UDP is not restricted"
        else:
            port_text = ", ".join(map(str, sorted(ports)))
            yield f"network: TCP connections to port {port_text} only; hosts are not told apart, and UDP is not restricted"

    def _opened_ports(self, environment: Environment | None) -> str | None:
        """Return in words the only TCP ports that an agent may connect to, or None if all are open."""
        ports = self._allowed_ports(environment)
        if ports is None or (self._abi < landlock.NETWORK_SINCE and not (self.is_isolated and not ports)):
            return None
        return f"TCP port {', '.join(map(str, sorted(ports)))} only" if ports else "no TCP port"

    def _allowed_ports(self, environment: Environment | None) -> set[int] | None:
        network = None if environment is None else environment.network
        if network is None:
            return None if self._ports is None else set(self._ports)
        return {egress.parse(entry).port for entry in network.egress}

    def _check_program(self, program: str, program_paths: Sequence[str], own_paths: Sequence[str]) -> None:
        if not program.startswith("/"):
            return  # on PATH, or made by a set-up command
        if self._is_open(program):
            return
        real = _real(program)
        if os.path.exists(real) and not _is_in_any(real, map(_real, (*program_paths, *own_paths))):
            cure = f"set OPTIO_SANDBOX_READ={os.path.dirname(real)}, or put it on the worker's PATH"
            raise LaunchFailed("sandbox", f"the sandbox ({self.kind}) does not let an agent execute {program}", cure=cure)

    def _bwrap_arguments(self, plan: Mapping[str, Any], work: str) -> list[str]:
        view = self._view()
        words = [self._bwrap, "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
        words.append("--unshare-cgroup-try")
        # Root is to become somebody else inside, which needs the real one.
        words += ["--unshare-user"] if self._users is None else ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        if plan["offline"]:
            words.append("--unshare-net")
        words += ["--dev", "/dev"]
        for path, flags in view["binds"]:
            # Bubblewrap fails for a path that this user cannot reach.
            if flags != _DEVICE and os.access(path, os.R_OK):
                # Without `--dir` bubblewrap closes what is above a private directory.
                words += ["--dir", os.path.dirname(path), "--ro-bind-try" if flags == _READ else "--bind-try", path, path]
        for path in plan["programs"]:
            words += ["--dir", os.path.dirname(path), "--ro-bind", path, path]
        words += ["--proc", "/proc"]
        for path in plan["memory"]:
            words += ["--perms", "1777", "--size", str(_MEMORY_BYTES), "--tmpfs", path]
        for path in plan["points"]:
            words += ["--perms", "0755", "--tmpfs", path]
        for source, target, flags in plan["binds"]:
            words += ["--dir", os.path.dirname(target), "--ro-bind-try" if flags == _READ else "--bind", source, target]
        for path, text in self._links.items():
            if not _is_in_any(path, self._all_read):
                words += ["--symlink", text, path]
        # What is not one of these places exists only in there: nothing is to be written where it would be lost.
        for path in (*plan["points"], "/dev", "/"):
            words += ["--remount-ro", path]
        return [*words, "--chdir", work, "--"]


def _warning(detail: str, hint: str) -> ProbeResult:
    return ProbeResult(name="sandbox", status="warning", detail=detail, hint=hint)


def _count_limits() -> Iterator[tuple[str, int]]:
    """Yield the names of counts with their limits: no more than half of what the kernel gives a user."""
    for name, most in _COUNTS.items():
        with suppress(OSError):  # not in this kernel
            yield name, min(most, int(Path(f"/proc/sys/user/max_{name}").read_text()) // 2)


def _half(which: int) -> int:
    limit = resource.getrlimit(which)[0]
    return _MANY if limit == resource.RLIM_INFINITY else limit // 2


def _private(*tops: str) -> Iterator[str]:
    """Yield files, sockets and pipes that only this user may read: an agent that has this user could, too."""
    for top in tops:
        for folder, _, names in os.walk(top):
            for name in names:
                path = f"{folder}/{name}"
                with suppress(OSError):
                    status = os.lstat(path)
                    if status.st_uid == os.geteuid() and not status.st_mode & stat.S_IROTH:
                        yield path


def _is_writable_by_group(path: Path, group: int) -> bool:
    """Return whether all, or this group, may write a path; True for one that is not there."""
    try:
        status = path.stat()
    except OSError:
        return True
    return bool(status.st_mode & stat.S_IWOTH or (status.st_gid == group and status.st_mode & stat.S_IWGRP))


def _check_way(parents: Iterable[Path], own_paths: Sequence[str]) -> None:
    for path in parents:
        if str(path) not in own_paths and path.exists() and not path.stat().st_mode & stat.S_IXOTH:
            raise SettingsError(
                f"OPTIO_SANDBOX=landlock: as root, each attempt has a user of its own, and {path} is closed to it: "
                f"put OPTIO_DATA_DIR elsewhere, or run `chmod o+x {path}`"
            )


def _on_path(path: str, home: Path) -> Iterator[str]:
    """Yield the directories of programs on PATH, and the directories beside them that programs use, but never a whole home
    directory."""
    for entry in map(Path, path.split(":")):
        parent = entry.parent
        if not entry.is_absolute() or entry in (home, Path("/")):
            continue
        yield str(entry)
        if entry.name == "shims" and parent != home:  # of pyenv, asdf, mise: the programs themselves lie beside them
            yield str(parent)
        elif entry.name == "bin":
            # In `~` lies everything, and `~/.local/share` holds the logins of programs.
            names = [name for name in _BESIDE_BIN if name != "share" or home != parent.parent] if parent != home else ["lib"]
            yield from (str(parent / name) for name in names)


def _readable(paths: Iterable[Path], hidden: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return what an agent may read, these `paths` too, and the links on the way there, each with its text."""
    on_path = _on_path(os.environ.get("PATH", os.defpath), Path(os.path.expanduser("~")))
    readable = (*SYSTEM, sys.prefix, sys.base_prefix, *on_path, *map(str, paths))
    parts = [part for path in readable for part in _carve(_real(path), hidden)]
    links = {path: os.readlink(path) for path in parts if os.path.islink(path)}
    for path in readable:
        links.update(_links(path))
    return _outermost(path for path in parts if not os.path.islink(path)), links


def _program_files(program: str) -> Iterator[str]:
    """Yield the files of an agent CLI: its package, with its dependencies."""
    real = Path(_real(Path(program)))
    tree = next((parent for parent in real.parents if parent.name == "node_modules"), real)
    yield str(tree)


def _carve(path: str, hidden: Sequence[str]) -> Iterator[str]:
    """Yield a path, or, if it contains something hidden, everything else in it."""
    inside = [hidden_path for hidden_path in hidden if _is_within(hidden_path, path)]
    if not inside:
        if not _is_in_any(path, hidden):
            yield path
        return
    if path in inside:
        return
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return
    for name in names:
        yield from _carve(os.path.join(path, name), inside)


def _links(path: str) -> Iterator[tuple[str, str]]:
    """Yield the links on the way to a path, each with its text: who has the path on PATH goes by them."""
    for _ in range(40):  # as many as the kernel follows
        parts = path.split("/")
        heads = ("/".join(parts[: count + 1]) for count in range(1, len(parts)))
        link = next((head for head in heads if os.path.islink(head)), None)
        if link is None:
            return
        yield link, os.readlink(link)
        path = os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link))) + path[len(link) :]


def _outermost(paths: Iterable[str]) -> list[str]:
    """Return the existing paths that lie in no other one, because each costs a rule at every start."""
    outer: list[str] = []
    for path in sorted({path for path in paths if os.path.exists(path)}, key=len):
        if not _is_in_any(path, outer):
            outer.append(path)
    return outer


def _real(path: Path | str) -> str:
    return os.path.realpath(path)


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _is_in_any(path: str, directories: Iterable[str]) -> bool:
    return any(_is_within(path, directory) for directory in directories)


def _holds_any(directory: str, paths: Iterable[str]) -> bool:
    return any(_is_within(path, directory) for path in paths)
