"""The process executor: agents as detached processes of this machine, each under a supervisor, with their output in files.

The files of an attempt are in `attempts/<run>-<attempt>/`: `home`, `tmp`, `work` and `result` belong to the agent, `control`
holds its output, the marker `started` and `exit.json`. Everything is found again by its name, so a worker can die at any
moment. An attempt that continues the session of another one uses that one's `home` and `work`, where they are: agent CLIs find
a session by its working directory, and the conversation is full of paths.
"""

import contextlib
import json
import marshal
import math
import os
import secrets
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optio.errors import LaunchFailed, SettingsError, StoreUnavailable
from optio.executors import cgroup, execve, landlock
from optio.executors.attempt import (
    OVERDUE_S,
    AttemptLimits,
    ProcessHandle,
    StartedAttempt,
    continue_session,
    delete_attempt,
    keep_link,
    kill_marked,
    link_of,
    marker_of,
    open_pidfd,
    reserve_exit,
)
from optio.executors.base import Executor, Handle, Launch, ProgramFacts
from optio.executors.procfs import uptime
from optio.executors.program_facts import facts_of
from optio.executors.sandbox import KINDS, Sandbox, SandboxOptions
from optio.model import isolation
from optio.model.probe_result import ProbeResult
from optio.model.runtimes import Program, declaration_of
from optio.model.task import Environment
from optio.process_identity import machine

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
# What it imports, in an order in which each finds those before it.
_PARTS = ("trees", "identity", "usage", "view")
# By its bytecode, which is written once: compiling it would leave a megabyte behind that every fork has to share.
_BEGIN = f"""
import sys
from importlib.machinery import SourceFileLoader
place = sys.argv.pop(1)
for name in {_PARTS}:
    module = sys.modules["optio.executors." + name] = type(sys)(name)
    exec(SourceFileLoader(name, place + "/" + name + ".py").get_code(name), module.__dict__)
exec(SourceFileLoader("supervisor", place + "/supervisor.py").get_code("supervisor"))
"""
_SUPERVISED = (sys.executable, "-I", "-S", "-c")
# A fork server that is silent for so long is stuck, or was stopped; a new one takes its place.
_FORK_TIMEOUT_S = 10.0
DISK_QUOTA_BYTES, DISK_FILES, PROCESSES = 4 << 30, 500_000, 4096
_TOMBSTONE = "never"
# Directories of programs that are no attempts, and the seconds between SIGTERM and SIGKILL to one.
_ATTACHED, _ATTACHED_GRACE_S = "attached.", 0.5
# A tombstone must outlive every worker that could still come late to start its attempt.
_TOMBSTONE_AGE_S = 86_400.0
# An orphan is dead a good while before others repeat its run: their clock may be a little faster. Of a short time it gets no
# more than this part to end in good order.
_ORPHAN_SHARE = 0.9
_ORPHAN_GRACE_SHARE = 0.25
_TRIAL_TIMEOUT_S = 20.0
_ARCH = {"x86_64": "x64", "aarch64": "arm64"}


class ProcessExecutor(Executor):
    """The executor of local processes. `programs` maps a runtime to a configured program. An attempt may write `disk_quota`
    bytes and `disk_files` files, and have `processes` at once; if these are given, it gets a cgroup for them. Raises
    SettingsError for a sandbox that cannot be."""

    def __init__(
        self,
        root: Path,
        programs: Mapping[str, str] | None = None,
        *,
        sandbox: SandboxOptions | None = None,
        disk_quota: int = DISK_QUOTA_BYTES,
        disk_files: int = DISK_FILES,
        processes: int | None = None,
    ) -> None:
        self._root = root.absolute()
        self._programs = dict(programs or {})
        options = choose_sandbox() if sandbox is None else sandbox
        self.sandbox = Sandbox(replace(options, hidden=(self._root, *options.hidden), place=self._root))
        self._disk_quota = disk_quota
        self._disk_files = disk_files
        self._cgroups = cgroup.Cgroups(self._root)
        self._processes = processes
        self._lock = threading.Lock()
        self._server: _ForkServer | None = None
        self._has_attached = False

    def place(self) -> str:
        """Return a name for this machine and directory. The directory has an id of its own, because its path means something
        else on another machine."""
        name = self._root.with_name("place")
        try:
            if not name.exists():
                name.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                draft = name.with_name(f".place-{os.getpid()}")
                draft.write_text(secrets.token_hex(8))
                with contextlib.suppress(FileExistsError):
                    os.link(draft, name)
                draft.unlink()
            return "/".join((name.read_text(), *machine()))
        except OSError as err:
            raise StoreUnavailable(f"the directory of attempts {self._root} cannot be used: {err.strerror}") from err

    def program(self, runtime: str) -> str:
        agent = declaration_of(runtime)
        if agent is None or agent.program is None:
            raise ValueError(f"the runtime {runtime} has no program of its own")
        program = agent.program
        setting = "OPTIO_PROGRAM_" + runtime.upper().replace("-", "_")
        configured = self._programs.get(runtime)
        path = shutil.which(configured or program.name)
        if path is None:
            setting_text = f"{setting}={configured}"
            reason = f"{setting_text} {_why_no_program(configured)}" if configured else f"`{program.name}` is not on PATH"
            cure = f"install it with `{program.install}`, or set {setting} to its path"
            raise LaunchFailed("runtime_missing", reason, cure=cure)
        return _native(program, path)

    def program_facts(self, runtime: str) -> ProgramFacts:
        try:
            return facts_of(self.program(runtime))
        except (LaunchFailed, ValueError):
            return ProgramFacts()

    def start(self, launch: Launch) -> Handle:
        directory = self._directory(launch.run_id, launch.attempt)
        base = str(directory)
        control = f"{base}/control"
        session = base if launch.continues is None else str(self._directory(launch.run_id, launch.continues))
        environment = {
            **_session_variables(base, session),
            **self.sandbox.variables(),
            **_launch_variables(launch, base, session),
        }
        bare = environment if launch.setup_env is None else {**_session_variables(base, session), **launch.setup_env}
        execve.check_launch(launch.argv, environment)
        try:
            _make_directories(base)
            overdue = uptime() + launch.timeout_s + launch.grace_s + OVERDUE_S
            limits = AttemptLimits(overdue, launch.grace_s, self.sandbox.holds_signals)
            reserve_exit(control, limits)
            if launch.runtime_program and (identity := _identify(launch.argv[0])) is not None:
                keep_link(f"{control}/program", identity)
            if launch.side is not None:
                keep_link(f"{control}/side", launch.side)
            if launch.telemetry is not None:
                keep_link(f"{control}/telemetry", launch.telemetry)
            if launch.continues is not None:
                continue_session(control, session, launch.continues, launch.side)
            for name, data in launch.files.items():
                _write_private(f"{session}/home", name, data)
        except OSError as err:
            raise LaunchFailed("disk", f"the attempt's directory cannot be made: {err}", temporary=True) from err
        groups = _make_groups(self._cgroups, self._lock, directory, launch.environment, self._processes)
        orphan_grace = min(launch.grace_s, launch.orphan_s * _ORPHAN_GRACE_SHARE)
        program = launch.argv[0] if launch.runtime_program else None
        header = {
            "roots": [base] if session == base else [base, session],
            "control": control,
            "cwd": f"{session}/work",
            "files": [f"{session}/home/{name}" for name in launch.files],
            "argv": list(launch.arguments(f"{session}/home")),
            "env": environment,
            "setup": list(launch.setup),
            "setup_env": bare,
            "timeout": launch.timeout_s,
            "grace": launch.grace_s,
            "leased_at": launch.leased_at,
            "orphaned": launch.orphan_s * _ORPHAN_SHARE - orphan_grace,
            "orphan_grace": orphan_grace,
            "disk": self._disk_quota,
            "disk_files": self._disk_files,
            "processes": self._processes or PROCESSES,
            **self.sandbox.launch(base, session, launch.argv, launch.environment, program, launch.gateway_port),
            **groups,
        }
        pid = self._fork(marshal.dumps(header), launch.stdin)
        patterns = {"side": launch.side, "telemetry": launch.telemetry}
        return ProcessHandle(directory, StartedAttempt(open_pidfd(pid), limits, patterns, launch.continues))

    def attach(self, argv: Sequence[str], env: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """Start a program that is no agent, with pipes as its standard streams, confined as an agent without `network` is.
        Return its supervisor, which ends it at SIGTERM, and when the calling thread ends. Raises LaunchFailed."""
        base = str(self._root / f"{_ATTACHED}{secrets.token_hex(8)}")
        environment = {**_session_variables(base, base), **env}
        execve.check_launch(argv, environment)
        try:
            self._remove_left()
            _make_directories(base)
            groups = _make_groups(self._cgroups, self._lock, Path(base), None, self._processes)
            header = {
                "server": self.sandbox.server(),
                "starter": os.getpid(),
                "roots": [base],
                "control": f"{base}/control",
                "cwd": f"{base}/work",
                "files": [],
                "argv": list(argv),
                "env": environment,
                "timeout": math.inf,
                "grace": _ATTACHED_GRACE_S,
                "leased_at": uptime(),
                "orphaned": math.inf,
                "orphan_grace": _ATTACHED_GRACE_S,
                "relay": None,
                "disk": self._disk_quota,
                "disk_files": self._disk_files,
                "processes": self._processes or PROCESSES,
                **self.sandbox.launch(base, base, argv),
                **groups,
            }
            # Not as an argument: others may read those, and the environment holds secrets.
            with open(os.memfd_create("launch"), "w+b") as file:
                file.write(marshal.dumps(header))
                file.seek(0)
                return subprocess.Popen(
                    [*_SUPERVISED, f"{_BEGIN}attend()", str(_SUPERVISOR.parent), str(file.fileno())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=[file.fileno()],
                    env=_supervisor_variables(),
                )
        except OSError as err:
            delete_attempt(Path(base))
            raise LaunchFailed("supervisor", f"`{argv[0]}` cannot be started: {err.strerror}", temporary=True) from err
        except LaunchFailed:
            delete_attempt(Path(base))
            raise

    def _remove_left(self) -> None:
        """Remove, once, what programs have left whose supervisors were killed."""
        with self._lock:
            is_first, self._has_attached = not self._has_attached, True
        for base in self._root.glob(f"{_ATTACHED}*") if is_first else ():
            marker = marker_of(f"{base}/control")
            if marker is None:
                continue  # about to start
            if (pidfd := open_pidfd(*marker)) is None:
                cgroup.remove_groups(f"{base}/control", base.name)
                delete_attempt(base)
            else:
                os.close(pidfd)

    def can_continue(self, run_id: str, attempt: int, program: str | None = None) -> bool:
        base = str(self._directory(run_id, attempt))
        marker = marker_of(f"{base}/control")
        if marker is not None and (pidfd := open_pidfd(*marker)) is not None:
            os.close(pidfd)
            return False
        try:
            is_whole = all(stat.S_ISDIR(os.lstat(f"{base}/{name}").st_mode) for name in ("home", "work"))
        except OSError:
            return False
        return is_whole and (program is None or link_of(f"{base}/control/program") == (_identify(program) or ""))

    def find(self, run_id: str, attempt: int) -> Handle | None:
        """Return the handle of an attempt, or leave a tombstone as its marker, so that a supervisor that comes late does
        nothing."""
        base = self._directory(run_id, attempt)
        control = base / "control"
        control.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.symlink(_TOMBSTONE, control / "started")
        except FileExistsError:
            return ProcessHandle(base) if marker_of(str(control)) else None
        _leave_tombstone(base)
        return None

    def prepare(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._server is None:
                self._serve()

    def attempts(self) -> list[tuple[str, int]]:
        try:
            names = os.listdir(self._root)
        except OSError:
            return []
        parts = [name.rpartition("-") for name in names]
        return [(run_id, int(number)) for run_id, _, number in parts if run_id and number.isascii() and number.isdigit()]

    def remove(self, run_id: str, attempt: int) -> None:
        base = self._directory(run_id, attempt)
        marker = marker_of(f"{base}/control")
        if marker is None and time.time() - _changed_at(f"{base}/control/started") < _TOMBSTONE_AGE_S:
            _leave_tombstone(base)
            return
        handle = ProcessHandle(base)
        handle.stop()
        while handle.exit() is None:
            handle.wait(1.0)
        handle.close(remove=False)
        kill_marked(base.name)
        cgroup.remove_groups(f"{base}/control", base.name)
        delete_attempt(base)

    def notes(self, environment: Environment) -> list[str]:
        # The sandbox has its own notes about `network`.
        confined = self.sandbox.kind != "none"
        return [
            *self.not_applied(name for name in isolation.requested_keys(environment) if not (confined and name == "network")),
            *self.sandbox.notes(environment),
            *self._cgroups.notes(environment.resources, self._processes),
        ]

    def not_applied(self, names: Iterable[str]) -> list[str]:
        names = [name for name in names if not (name == isolation.ISOLATED and self.sandbox.is_isolated)]
        if self._cgroups.problem:
            return isolation.notes("process", names, {"resources": self._cgroups.problem})
        return isolation.notes("process", (name for name in names if name != "resources"))

    def refusal_hint(self, line: bytes, environment: Environment) -> str | None:
        return self.sandbox.refusal_hint(line, environment)

    def examine(self) -> Iterable[ProbeResult]:
        yield from self.sandbox.examine()
        yield from self._cgroups.examine()

    def _directory(self, run_id: str, attempt: int) -> Path:
        return self._root / f"{run_id}-{attempt}"

    def _fork(self, header: bytes, stdin: bytes) -> int:
        message = struct.pack("!I", len(header)) + header + struct.pack("!Q", len(stdin))
        server: _ForkServer | None = None
        for may_retry in (True, False):
            try:
                with self._lock:
                    server = self._server or self._serve()
                answer = server.ask(message, stdin)
                break
            except OSError as err:
                # Only before an answer, and the marker keeps a second supervisor from starting the agent again.
                with self._lock:
                    if self._server is server:  # another launch may have replaced it
                        self._drop_server(kill=True)
                if not may_retry:
                    raise LaunchFailed("supervisor", f"no supervisor can be started: {err}", temporary=True) from err
        if "error" in answer:
            raise LaunchFailed("supervisor", f"no supervisor can be started: {answer['error']}", temporary=True)
        pid: int = answer["pid"]
        return pid

    def _serve(self) -> "_ForkServer":
        self._cgroups.enter()  # before there is a child, which would stay behind
        self._server = _ForkServer(marshal.dumps(self.sandbox.server()).hex())
        return self._server

    def _drop_server(self, *, kill: bool = False) -> None:
        if self._server is not None:
            self._server.close(kill=kill)
            self._server = None

    def close(self) -> None:
        """Drop the connection to the fork server, which stays until its last supervisor has ended."""
        with self._lock:
            self._drop_server()


def _make_groups(
    cgroups: cgroup.Cgroups, lock: threading.Lock, base: Path, environment: Environment | None, processes: int | None
) -> dict[str, Any]:
    """Make the cgroup of an attempt that has limits, and return what the supervisor is told of it. Raises LaunchFailed."""
    resources = None if environment is None else environment.resources
    if resources is not None or processes is not None:
        with lock:
            cgroups.enter()
    try:
        return cgroups.launch(base, resources, processes)
    except OSError as err:
        raise LaunchFailed("cgroup", f"the attempt's cgroup cannot be made: {err}", temporary=True) from err


def _supervisor_variables() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}


def _session_variables(base: str, session: str) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": f"{session}/home",
        "TMPDIR": f"{base}/tmp",  # noqa: S108
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "NO_COLOR": "1",
    }


def _launch_variables(launch: Launch, base: str, session: str) -> dict[str, str]:
    return {
        **launch.env,
        **{name: f"{session}/home/{path}" for name, path in launch.file_env.items()},
        "OPTIO_RESULT_FILE": f"{base}/result/result.jsonl",
    }


class _ForkServer:
    """A connection to a fork server (see `supervisor.py`), which is detached from this process. Methods raise OSError.

    Any number of threads may ask at once. The answers come in the order of the envelopes: one thread reads them, its own and
    those before it, while others send.
    """

    def __init__(self, sandbox: str) -> None:
        self._connection, server_end = socket.socketpair()
        # Not `settimeout`, which asks the kernel before each call whether it would block.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", int(_FORK_TIMEOUT_S), 0))
        starter = subprocess.Popen(
            [*_SUPERVISED, f"{_BEGIN}main()", str(_SUPERVISOR.parent), sandbox],
            stdin=server_end.fileno(),
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            # A symbol that is resolved late, after the fork, is resolved again for each attempt, and copies pages there.
            env={**_supervisor_variables(), "LD_BIND_NOW": "1"},
        )
        server_end.close()
        self._starter: subprocess.Popen[bytes] | None = starter
        self._pidfd: int | None = None
        self._sending, self._receiving = threading.Lock(), threading.Lock()
        self._requests: deque[list[dict[str, Any]]] = deque()  # where the answers go that are still to come
        self._received = b""

    def ask(self, message: bytes, stdin: bytes) -> dict[str, Any]:
        """Send one envelope and return the answer to it."""
        answer: list[dict[str, Any]] = []
        try:
            with self._sending:
                if self._starter is not None:
                    pid = self._line()["server"]
                    self._starter.wait(_FORK_TIMEOUT_S)
                    self._starter = None
                    self._pidfd = open_pidfd(pid)
                self._requests.append(answer)
                try:
                    self._connection.sendall(message + stdin)
                except OSError:
                    self._break_off()  # the next envelope must not complete this one
                    raise
            with self._receiving:
                while not answer:
                    self._receive()
        except BlockingIOError as err:
            raise TimeoutError(f"the fork server has not answered for {_FORK_TIMEOUT_S:.0f} seconds") from err
        return answer[0]

    def _break_off(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _receive(self) -> None:
        line = self._line()  # this waits, and meanwhile the request stays in the queue
        self._requests.popleft().append(line)

    def _line(self) -> dict[str, Any]:
        while b"\n" not in self._received:
            part = self._connection.recv(4096)
            if not part:
                raise ConnectionResetError("the fork server is gone")
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self, *, kill: bool) -> None:
        """Close the connection after the answers that are to come. With `kill`, wait for none, and end a server that does not
        answer; its supervisors continue."""
        if kill:
            self._break_off()  # threads that wait for it fail at once
        with self._sending, self._receiving:
            with contextlib.suppress(OSError):
                while self._requests and not kill:
                    self._receive()
            self._connection.close()
        if self._starter is not None:
            if kill:
                self._starter.kill()
            self._starter.wait()
        if self._pidfd is not None:
            if kill:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)


def choose_sandbox(kind: str | None = None, *, is_open: bool = False) -> SandboxOptions:
    """Return options with a sandbox that works here: the chosen one, or the first of those there are. With `is_open` nothing is
    confined where none works. Raises SettingsError."""
    if kind == "none":
        return SandboxOptions()
    problems = []
    for candidate in (kind,) if kind is not None else KINDS:
        problem = _why_not(candidate, os.geteuid())
        if not problem:
            return SandboxOptions(kind=candidate)
        problems.append(f"{candidate}: {problem}")
    problem_text = "; ".join(problems)
    if kind is not None:
        raise SettingsError(f"OPTIO_SANDBOX={problem_text}")
    if is_open:
        return SandboxOptions(why=f"no sandbox works here: {problem_text}")
    raise SettingsError(
        f"no sandbox works here ({problem_text}): enable one, or set OPTIO_SANDBOX=none to run agents unconfined"
    )


@lru_cache
def _why_not(kind: str, _user: int) -> str:
    """Return why a sandbox does not work for this user, or nothing. An attempt tries it: what is allowed depends on the kernel,
    its modules and the container around."""
    if kind == "landlock" and not landlock.version():
        return "this kernel has no Landlock (Linux 5.13), or it is switched off"
    if kind == "bwrap" and shutil.which("bwrap") is None:
        return "`bwrap` is not on PATH: install it (`apt install bubblewrap`)"
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        executor = ProcessExecutor(Path(folder, "attempts"), sandbox=SandboxOptions(kind=kind))
        trial = Launch(
            run_id="trial",
            attempt=1,
            argv=("/bin/sh", "-c", ":"),
            stdin=b"",
            env={},
            timeout_s=_TRIAL_TIMEOUT_S,
            orphan_s=_TRIAL_TIMEOUT_S,
            leased_at=uptime(),
        )
        try:
            handle = executor.start(trial)
            while (end := handle.exit()) is None:
                handle.wait(1.0)
            output = handle.read("stderr", 0, 200).decode("utf-8", "replace").strip()
            handle.close(remove=True)
        except LaunchFailed as err:
            return str(err)
        finally:
            executor.close()
    if end.code == 0:
        return ""
    return output or end.error or f"a trial ended with {end.stopped_by or end.code}"


def _leave_tombstone(base: Path) -> None:
    """Remove everything of an attempt that never began except its tombstone."""
    cgroup.remove_groups(f"{base}/control", base.name)
    for name in ("home", "tmp", "work", "result"):
        delete_attempt(base / name)


def _changed_at(path: str) -> float:
    """Return when a file was last changed, or 0 if there is none."""
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


def _why_no_program(path: str) -> str:
    if os.path.isdir(path):
        return "is a directory"
    return "is not executable for this user" if os.path.isfile(path) else "is not there"


def _native(program: Program, found: str) -> str:
    """Return the native program that npm installed beside the launcher, or the launcher if there is none. That is named in its
    package, which a sandbox opens, and not by the link that was found."""
    machine = os.uname().machine
    arch = _ARCH.get(machine, machine)
    # .../node_modules/@anthropic-ai/claude-code/bin/claude.exe -> .../node_modules/@anthropic-ai/claude-code-linux-x64/claude
    real = Path(os.path.realpath(found))
    for parent in list(real.parents)[:4]:
        for folder in (parent, parent / "node_modules"):
            for native in program.natives:
                path = folder / native.format(arch=arch, machine=machine)
                if path.is_file():
                    return str(path)
    return str(real) if "node_modules" in real.parts else found


def _identify(program: str) -> str | None:
    """Return a text that changes when a program is replaced; None for a program that is not there."""
    try:
        status = os.stat(program)
    except OSError:
        return None
    return f"{status.st_size}:{status.st_mtime_ns}:{program}"


def _make_directories(base: str) -> None:
    for name in ("", "/home", "/tmp", "/work", "/result", "/control"):  # noqa: S108
        try:
            os.mkdir(base + name, 0o700)
        except FileExistsError:
            continue
        except FileNotFoundError:
            os.makedirs(base + name, 0o700)


def _write_private(top: str, name: str, data: bytes) -> None:
    """Write a file below a directory. An agent may have been at work there before, so no link on the way is followed, and what
    stands in the file's place is taken away. Raises OSError."""
    *parents, last = [part for part in name.split("/") if part]
    directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for parent in parents:
            with contextlib.suppress(FileExistsError):
                os.mkdir(parent, 0o700, dir_fd=directory)
            inner = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = inner
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            descriptor = os.open(last, flags, 0o600, dir_fd=directory)
        except FileExistsError:
            os.unlink(last, dir_fd=directory)
            descriptor = os.open(last, flags, 0o600, dir_fd=directory)
        with open(descriptor, "wb") as file:
            file.write(data)
    finally:
        os.close(directory)
