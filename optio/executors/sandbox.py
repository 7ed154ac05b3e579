"""The sandbox of local attempts: what an agent may reach of the machine that it shares with its operator.

    landlock   the kernel refuses what is not listed: files, signals, tracing, TCP ports. No package, no privilege.
    bwrap      bubblewrap: a file system, process list and, for `egress: []`, network of the agent's own. Also no privilege.
    none       the agent may do what the worker's user may do

An agent reads system directories and what is on the worker's PATH, and writes its own directories and `/tmp`; more by two
settings. It never reaches the data directory, whatever those say. The process executor asks here what to hand to the
supervisor, `optio doctor` what holds.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from optio.errors import LaunchFailed, SettingsError
from optio.executors import landlock
from optio.model import egress
from optio.model.probe_result import ProbeResult
from optio.model.task import Environment

# Paths that programs of any distribution need to run; none belongs to a person.
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix", "/gnu", "/snap"),
    *("/proc", "/sys", "/run/systemd/resolve", "/run/resolvconf", "/run/nscd", "/var/lib/ca-certificates"),
)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "fuse")
_SHARED = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - programs write there without asking
# Beside a directory of programs on PATH: what those of a virtual environment, of Node's or of Conda's need.
_BESIDE_BIN = ("lib", "lib64", "libexec", "include", "share", "pyvenv.cfg")
_OF_SESSION, _OF_ATTEMPT = ("home", "work"), ("tmp", "result")
_BWRAP_CURE = "install it (`apt install bubblewrap`), or choose OPTIO_SANDBOX=landlock"
_NOT_CONNECTED = (
    *("unable to connect", "failed to connect", "could not connect", "couldn't connect", "connection refused"),
    *("connect eacces", "connectionerror", "connecterror"),
)
REFUSALS = ("permission denied", "operation not permitted", "eacces", "read-only file system")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """The operator's choices. `kind` is None to use Landlock if the kernel has it. `hidden` are paths that no agent may reach:
    the data directory, the secrets."""

    kind: str | None = None
    read: Sequence[Path] = ()
    write: Sequence[Path] = ()
    ports: Sequence[int] | None = None
    hidden: Sequence[Path] = ()


class Sandbox:
    """The sandbox of attempts on this machine. Raises SettingsError if the chosen kind is not available."""

    def __init__(self, options: SandboxOptions) -> None:
        self._abi = landlock.version()
        self.kind = options.kind or ("landlock" if self._abi else "none")
        self._chosen = options.kind is not None
        self._ports = options.ports
        self._hidden = [_real(path) for path in options.hidden]
        self._bwrap = ""
        if self.kind == "landlock" and not self._abi:
            raise SettingsError("OPTIO_SANDBOX=landlock: this kernel has no Landlock (Linux 5.13), or it is switched off")
        if self.kind == "bwrap":
            self._bwrap = _find_bwrap()
        for path in options.write:
            for hidden in self._hidden:
                if _is_within(hidden, _real(path)) or _is_within(_real(path), hidden):
                    raise SettingsError(f"OPTIO_SANDBOX_WRITE: {path} would open {hidden}, which no agent may write")
        closed = [path for path in _SHARED if any(_is_within(hidden, _real(path)) for hidden in self._hidden)]
        self._closed = [] if self.kind == "bwrap" else closed
        # Resolved now, and none within another: an agent could put a link in the place of one that it may replace.
        self._write = _outermost([*(_real(path) for path in _SHARED if path not in closed), *map(_real, options.write)])
        pythons = (sys.prefix, sys.base_prefix)
        on_path = _on_path(os.environ.get("PATH", os.defpath), Path(os.path.expanduser("~")))
        wanted = (*SYSTEM, *pythons, *on_path, *map(str, options.read))
        read = _outermost(part for path in wanted for part in _carve(_real(path), self._hidden))
        self._read = [path for path in read if not any(_is_within(path, each) for each in self._write)]
        opened = (*self._read, *self._write)
        devices = [_real(f"/dev/{name}") for name in _DEVICES]
        self._rules = landlock.rules(self._abi, read=self._read, write=self._write, devices=devices)
        # Open paths usually stay as they are; if not, the agent's error says so.
        self._is_open = lru_cache(256)(lambda program: any(_is_within(_real(program), path) for path in opened))
        # For the fork server: what its agents, if they are root, are not to have.
        self.capabilities = landlock.closing_capabilities() if self.kind == "landlock" else ()

    def launch(
        self, base: str, session: str, argv: Sequence[str], environment: Environment | None = None, program: str | None = None
    ) -> dict[str, Any]:
        """Return fields for the supervisor's header: `sandbox`, a ruleset, and `wrap`, the words in front of the agent's own.
        `base` is the attempt's directory; HOME and the working directory are in `session`. `program` is the agent CLI of a
        runtime, which may be read wherever it lies. Raises LaunchFailed for a program that the sandbox closes."""
        if self.kind == "none":
            return {"sandbox": None, "wrap": []}
        read = [] if program is None else list(_program_files(program))
        own = [*(f"{session}/{name}" for name in _OF_SESSION), *(f"{base}/{name}" for name in _OF_ATTEMPT)]
        self._check_program(argv[0], read, own)
        ports = self._allowed_ports(environment)
        if self.kind == "bwrap":
            offline = ports is not None and not ports
            # The abstract sockets of other programs are in the network that it shares.
            rules = landlock.ruleset(self._abi, None, None if offline else ports)
            wrap = self._bwrap_arguments([*self._read, *read], own, f"{session}/work", offline=offline)
            return {"sandbox": rules if any(rules["attr"]) else None, "wrap": wrap}
        streams = [f"{base}/control/{name}" for name in ("stdout", "stderr")]
        paths = self._rules + landlock.rules(self._abi, read=read, write=own, append=streams)
        return {"sandbox": landlock.ruleset(self._abi, paths, ports), "wrap": []}

    @property
    def holds_signals(self) -> bool:
        """Return whether an agent can neither stop nor kill its supervisor."""
        return self.kind == "bwrap" or (self.kind == "landlock" and self._abi >= landlock.SCOPES_SINCE)

    def variables(self) -> dict[str, str]:
        """Return variables that tell a program that it runs in a sandbox. Claude Code runs unattended as root only then."""
        return {} if self.kind == "none" else {"IS_SANDBOX": "1"}

    def notes(self, environment: Environment | None) -> Iterator[str]:
        """Yield lines for a run's log: what is confined, what is not, and which settings open more."""
        if self.kind == "none":
            why = "OPTIO_SANDBOX=none" if self._chosen else "this kernel has no Landlock (Linux 5.13): try OPTIO_SANDBOX=bwrap"
            yield f"no sandbox: this program can do whatever the worker's user can, and read other secrets ({why})"
            return
        temporary = " and a /tmp of its own" if self.kind == "bwrap" else "" if "/tmp" in self._closed else " and /tmp"  # noqa: S108
        missing = "".join(f"; it does not close {what}" for what in self._not_held())
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
        text = line[:4096].decode("utf-8", "replace").lower()
        if any(words in text for words in _NOT_CONNECTED) and (opened := self._opened_ports(environment)) is not None:
            named = environment is not None and environment.network is not None
            place = "`environment.network.egress` of the task" if named else "OPTIO_SANDBOX_PORTS"
            entry = "HOST:PORT" if named else "the port"
            return f"a connection failed, perhaps by the sandbox ({self.kind}), which opens {opened}; add {entry} to {place}"
        if not any(word in text for word in REFUSALS):
            return None
        return (
            f"something was refused, perhaps by the sandbox ({self.kind}): OPTIO_SANDBOX_READ=/path/... and "
            "OPTIO_SANDBOX_WRITE=/path/... open further paths, OPTIO_SANDBOX=none opens all"
        )

    def examine(self) -> Iterator[ProbeResult]:
        """Yield results for `optio doctor`."""
        missing = "; ".join(self._not_held())
        if self.kind == "none":
            hint = "unset OPTIO_SANDBOX" if self._abi else "install bubblewrap and set OPTIO_SANDBOX=bwrap"
            yield _warning("none: agents can read and do whatever this user can, all secrets included", hint)
        elif missing and self._abi < landlock.SCOPES_SINCE:
            yield _warning(f"{self.kind}; it does not close {missing}", "use a newer kernel, or OPTIO_SANDBOX=bwrap")
        else:
            detail = f"{self.kind}; it does not close {missing}" if missing else f"{self.kind}: files, processes, signals"
            yield ProbeResult(name="sandbox", status="ok", detail=detail)
        if self._closed:
            detail = f"agents cannot write {', '.join(self._closed)}: the data directory lies there"
            yield _warning(detail, "put the data directory elsewhere")
        if os.geteuid() == 0:
            detail = "agents run as root: what the sandbox leaves open, such as sockets of other services, is open to root"
            yield _warning(detail, "run the worker as a user of its own")

    def _not_held(self) -> Iterator[str]:
        if self.kind == "landlock":
            if self._abi < landlock.SCOPES_SINCE:
                yield f"signals to other processes (Linux {landlock.LINUX_OF[landlock.SCOPES_SINCE]} can)"
            yield "sockets of other services of this user (Docker, tmux, ssh-agent)"

    def _network_notes(self, environment: Environment) -> Iterator[str]:
        ports = self._allowed_ports(environment)
        if ports is None:
            return
        if not ports and self.kind == "bwrap":
            yield "network: none"
        elif self._abi < landlock.NETWORK_SINCE:
            linux = landlock.LINUX_OF[landlock.NETWORK_SINCE]
            yield f"environment.network is not applied: this kernel cannot restrict connections (Linux {linux} can)"
        elif not ports:
            yield "network: no TCP connections; UDP is not restricted"
        else:
            listed = ", ".join(map(str, sorted(ports)))
            yield f"network: TCP connections to port {listed} only; hosts are not told apart, and UDP is not restricted"

    def _opened_ports(self, environment: Environment | None) -> str | None:
        """Return in words the only TCP ports that an agent may connect to, or None if all are open."""
        ports = self._allowed_ports(environment)
        if ports is None or (self._abi < landlock.NETWORK_SINCE and not (self.kind == "bwrap" and not ports)):
            return None
        return f"TCP port {', '.join(map(str, sorted(ports)))} only" if ports else "no TCP port"

    def _allowed_ports(self, environment: Environment | None) -> set[int] | None:
        network = None if environment is None else environment.network
        if network is None:
            return None if self._ports is None else set(self._ports)
        return {egress.parse(entry).port for entry in network.egress}

    def _check_program(self, program: str, read: Sequence[str], own: Sequence[str]) -> None:
        if not program.startswith("/"):
            return  # on PATH, or made by a set-up command
        if self._is_open(program):
            return
        real = _real(program)
        if os.path.exists(real) and not any(_is_within(real, _real(path)) for path in (*read, *own)):
            cure = f"set OPTIO_SANDBOX_READ={os.path.dirname(real)}, or put it on the worker's PATH"
            raise LaunchFailed("sandbox", f"the sandbox ({self.kind}) does not let an agent execute {program}: {cure}")

    def _bwrap_arguments(self, read: Sequence[str], own: Sequence[str], work: str, *, offline: bool) -> list[str]:
        words = [self._bwrap, "--die-with-parent", "--new-session", "--unshare-user", "--unshare-pid", "--unshare-ipc"]
        words.append("--unshare-cgroup-try")
        if offline:
            words.append("--unshare-net")
        for path in _SHARED[:2]:
            words += ["--tmpfs", path]
        for path in read:
            # Bubblewrap fails for a path that this user cannot reach.
            if path not in ("/proc", "/sys") and os.access(path, os.R_OK):
                words += ["--ro-bind-try", path, path]
        for link in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
            if os.path.islink(link):
                words += ["--symlink", os.readlink(link), link]
        words += ["--proc", "/proc", "--dev", "/dev", "--ro-bind-try", "/sys", "/sys"]
        for path in self._write:
            if path not in _SHARED:
                words += ["--bind-try", path, path]
        for path in own:
            words += ["--bind", path, path]
        # What is not one of these places exists only in there: nothing is to be written where it would be lost.
        return [*words, "--remount-ro", "/", "--chdir", work, "--"]


def _warning(detail: str, hint: str) -> ProbeResult:
    return ProbeResult(name="sandbox", status="warning", detail=detail, hint=hint)


def _find_bwrap() -> str:
    found = shutil.which("bwrap")
    if found is None:
        raise SettingsError(f"OPTIO_SANDBOX=bwrap: `bwrap` is not on PATH: {_BWRAP_CURE}")
    command = [found, "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=20, stdin=subprocess.DEVNULL)
    except subprocess.CalledProcessError as err:
        said = err.stderr.decode("utf-8", "replace").strip()[:200]
        cure = "let this user make user namespaces, or choose OPTIO_SANDBOX=landlock"
        raise SettingsError(f"OPTIO_SANDBOX=bwrap: bubblewrap cannot be used here ({said}): {cure}") from err
    except (OSError, subprocess.SubprocessError) as err:
        raise SettingsError(f"OPTIO_SANDBOX=bwrap: bubblewrap cannot be used here ({err}): {_BWRAP_CURE}") from err
    return found


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


def _program_files(program: str) -> Iterator[str]:
    """Yield the files of an agent CLI: its package, with its dependencies."""
    real = Path(_real(Path(program)))
    tree = next((parent for parent in real.parents if parent.name == "node_modules"), real)
    yield str(tree)


def _carve(path: str, hidden: Iterable[str]) -> Iterator[str]:
    """Yield a path, or, if it contains something hidden, everything else in it."""
    inside = [each for each in hidden if _is_within(each, path)]
    if not inside:
        if not any(_is_within(path, each) for each in hidden):
            yield path
        return
    if path in inside:
        return
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return
    for name in names:
        child = os.path.join(path, name)
        if not os.path.islink(child):
            yield from _carve(child, inside)


def _outermost(paths: Iterable[str]) -> list[str]:
    """Return the existing paths that lie in no other one, because each costs a rule at every start."""
    found: list[str] = []
    for path in sorted({path for path in paths if os.path.exists(path)}, key=len):
        if not any(_is_within(path, each) for each in found):
            found.append(path)
    return found


def _real(path: Path | str) -> str:
    return os.path.realpath(path)


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
