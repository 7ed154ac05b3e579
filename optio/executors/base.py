"""The protocol of executors: start a launch, follow it through a handle, and find it again after a restart. `runs.execute` and
the worker use it; `process` and `pods` implement it. What a place does not have, it inherits: its answer is nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from optio.executors.procfs import uptime
from optio.model.pool import Pool, StartKind
from optio.model.probe_result import ProbeResult
from optio.model.room import Delay
from optio.model.run import AgentPod
from optio.model.task import Environment

STREAMS = ("stdout", "stderr", "result", "side", "telemetry")
# Of each stream so many bytes are read: what the agent writes may have a hole in it and claim any size. The supervisor of a pod
# has the same limits. Output may be twenty times what its log keeps, and needs room where the worker of a pod copies it.
MAX_STREAM_BYTES: Mapping[str, int] = {
    "stdout": 1 << 30,
    "stderr": 1 << 30,
    "result": 16 << 20,
    "side": 256 << 20,
    "telemetry": 256 << 20,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A launch of one attempt, with everything that it needs. `files` are written below HOME (mode 0600) before anything
    starts; `file_env` names environment variables that hold the absolute path of one of them, and `file_options` options that
    take one, at the end of `argv`. `side` is a pattern below HOME for the file in which the agent keeps its session: the first
    that exists is read as the stream `side`. `telemetry` is one of `files`, empty at first, which the agent appends to: it is
    read as the stream `telemetry`. `env` is the whole environment, except PATH, HOME, TMPDIR and the like, which the executor
    sets.

    `gateway` is the URL of the gateway, without a path, if the agent is led through it: its model needs no other host.
    `leased_at` is when the lease was requested, by `Executor.clock`. Whatever becomes of its worker, the agent ends by itself
    before `orphan_s` seconds have passed without a renewal (see `Store.adopt`). `setup_env` are the variables of the set-up
    commands, if these must not get the agent's. With `runtime_program` the first of `argv` is an agent CLI that the executor
    found, not the task's own choice. `warm` says that a pod may be ready for it (see `WarmDemand`). `continues` is the ended
    attempt of the run whose HOME and working directory are used again, where they are (see `Executor.can_continue`).
    """

    run_id: str
    attempt: int
    argv: tuple[str, ...]
    stdin: bytes
    env: Mapping[str, str]
    files: Mapping[str, bytes] = field(default_factory=dict)
    file_env: Mapping[str, str] = field(default_factory=dict)
    file_options: Mapping[str, str] = field(default_factory=dict)
    side: str | None = None
    telemetry: str | None = None
    setup: tuple[str, ...] = ()
    setup_env: Mapping[str, str] | None = None
    environment: Environment | None = None
    runtime_program: bool = False
    warm: bool = False
    continues: int | None = None
    gateway: str | None = None
    timeout_s: float
    grace_s: float = 10.0
    orphan_s: float
    leased_at: float

    def arguments(self, home: str) -> tuple[str, ...]:
        """Return the program and its arguments for an agent with this HOME."""
        return (*self.argv, *(each for name, path in self.file_options.items() for each in (name, f"{home}/{path}")))

    @property
    def gateway_port(self) -> int | None:
        """Return the TCP port of the gateway, which the sandbox of a process leaves open beside those of `network`."""
        if self.gateway is None:
            return None
        parts = urlsplit(self.gateway)
        return parts.port or (443 if parts.scheme == "https" else 80)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmDemand:
    """The number of places that are to be ready for the next runs of a task. Tasks whose places are alike share them.
    `gateway` is that of their launches."""

    task_id: str
    size: int
    environment: Environment
    gateway: str | None = None


@dataclass(frozen=True, slots=True)
class LaunchArrival:
    """The arrival of an attempt's launch where it runs, by this process's `time.monotonic`. `how` is `process`, `cold` (a pod
    was made for it) or `warm` (a pod was ready)."""

    at: float
    how: StartKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """The end of an attempt's process. `stopped_by` is `timeout`, `orphaned`, `disk_full`, `disk_quota`, `disk_files`,
    `processes` or `stop` if the supervisor ended it. `lost` means that nothing is known, because the supervisor itself is gone;
    `by_agent` that its agent may have killed it: no sandbox prevented that, and no restart of the machine or its service
    explains it.

    `phase` is `setup` if a set-up command failed. `sizes` are those of the streams, if known. `reason` and `message` come from
    the place where it ran, if that ended it; `temporary` says whether another attempt may succeed. With `no_room` nothing was
    begun and nothing is left: the run may wait for room, and then gets another attempt.
    """

    code: int | None = None
    signal: int | None = None
    stopped_by: str | None = None
    phase: str = "agent"
    error: str | None = None
    lost: bool = False
    by_agent: bool = False
    reason: str | None = None
    message: str = ""
    temporary: bool = False
    no_room: Delay | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)


class KeptAttempt(NamedTuple):
    """The answer to `Executor.keep`. `is_kept` says whether the remains of the attempt stay; `told` is a sentence for its log:
    how to inspect them, or why they do not stay."""

    is_kept: bool
    told: str


class Handle(Protocol):
    """A started attempt as its worker sees it. Output is read by stream and byte offset, as often as needed. `streams` are
    those of `STREAMS` that the attempt may have."""

    streams: Sequence[str]

    def read(self, stream: str, offset: int, limit: int) -> bytes:
        """Return at most `limit` bytes from `offset` on; empty if there are no more at the moment."""
        ...

    def settled(self) -> bool:
        """Return whether everything can be read that was printed before this handle was obtained; False while it is being
        fetched."""
        return True

    def wait(self, timeout: float) -> None:
        """Return when there may be more output, when the attempt has ended, when `wake` is called, or after `timeout`
        seconds."""
        ...

    def wake(self) -> None:
        """Make `wait` return; may be called from any thread."""
        ...

    def begun(self) -> LaunchArrival | None:
        """Return when the attempt began, or None while its place is prepared. An attempt of another worker has begun when it
        was found, at the latest; for an adopted process the answer is None."""
        ...

    def pod(self) -> AgentPod | None:
        """Return the attempt's pod as far as it is known; None for a process. `wait` returns when more is known."""
        return None

    def delay(self) -> Delay | None:
        """Return why the attempt has not begun yet, if that takes longer than usual. `wait` returns when it changes."""
        return None

    def exit(self) -> Exit | None:
        """Return how the attempt ended, or None while it runs."""
        ...

    def renewed(self, at: float) -> None:
        """Note that the lease was renewed. `at` is when that was requested, by `Executor.clock`. Never raises."""
        ...

    def stop(self) -> None:
        """Request the end: SIGTERM to the agent, and after the grace SIGKILL to everything it started. Returns at once."""
        ...

    def close(self, *, remove: bool) -> None:
        """Let go of the attempt; with `remove`, delete what it left on disk."""
        ...


class ProgramFacts(NamedTuple):
    """The version that an agent's program tells, as a number with dots, and its path with the digest of its file, such as
    `/usr/bin/codex@sha256:...`. Each is None where it cannot be known."""

    version: str | None = None
    identity: str | None = None


class Executor(Protocol):
    """A kind of place where agents run: this machine, or a namespace of a cluster."""

    def place(self) -> str:
        """Return where its agents can be found again, as `directory/boot/namespace` (see `Store.adopt`). Raises
        StoreUnavailable."""
        ...

    def clock(self) -> float:
        """Return seconds by a clock that nobody sets and that its agents use too (see `Launch.leased_at`)."""
        return uptime()

    def program(self, runtime: str) -> str:
        """Return the program of an agent CLI. Raises LaunchFailed, with how to install it."""
        ...

    def start(self, launch: Launch) -> Handle:
        """Start a launch. Raises LaunchFailed. Starting the same (run, attempt) twice starts it once."""
        ...

    def program_facts(self, runtime: str) -> ProgramFacts:
        """Return what is known of the program by which this executor starts the agent CLI; nothing for pods, which have an
        image."""
        return ProgramFacts()

    def can_continue(self, run_id: str, attempt: int, program: str | None = None) -> bool:
        """Return whether HOME and the working directory of an ended attempt are still here, and `program`, if given, is the
        same as it had. If not, an attempt that comes after it begins anew."""
        return False

    def find(self, run_id: str, attempt: int) -> Handle | None:
        """Return the handle of an attempt that another worker started, or None if it never started; then it never will."""
        ...

    def prepare(self) -> None:
        """Do in advance what would make the first start slow. Never raises."""
        return

    def keep_warm(self, wanted: Sequence[WarmDemand]) -> None:
        """Keep these places ready from now on, and no others. Never raises."""
        return

    def pools(self) -> list[Pool] | None:
        """Return the places that are kept ready; None if another executor keeps them."""
        return None

    def attempts(self) -> list[tuple[str, int]]:
        """Return (run id, attempt) of everything that was started here and not removed."""
        ...

    def keep(self, run_id: str, attempt: int, seconds: float) -> KeptAttempt | None:
        """Keep the remains of a failed attempt for so many seconds, whatever becomes of this process. `attempts` leaves it out.
        Return None if nothing can be kept here, which `notes` has said."""
        return None

    def remove(self, run_id: str, attempt: int) -> None:
        """End what still runs of an attempt and delete its remains. Only for attempts that no worker follows any more."""
        ...

    def notes(self, environment: Environment) -> list[str]:
        """Return lines for the run's log: what confines an agent here, and which parts of a task's `environment` are not
        applied."""
        return []

    def not_applied(self, names: Iterable[str]) -> list[str]:
        """Return a sentence for each of these kinds of isolation (`isolation.NAMES`) that this executor does not apply."""
        ...

    def private(self, environment: Environment) -> Iterable[str]:
        """Return values that the executor itself gives an agent and that no log may show, such as the password of the egress
        proxy."""
        return ()

    def refusal_hint(self, line: bytes, environment: Environment) -> str | None:
        """Return a hint for the run's log, if a line that an agent printed says that something was refused to it, in the
        `environment` of its task."""
        return None

    def examine(self) -> Iterable[ProbeResult]:
        """Yield what confines agents here and what does not, for `optio doctor` and for a worker's log at its start."""
        return ()

    def close(self) -> None:
        """Release all resources of this process; attempts continue."""
        ...
