"""The seam of the executors: start a launch, get a grip on it, find it again after a restart."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from optio.model.pool import Pool
from optio.model.probe_result import ProbeResult
from optio.model.room import Delay
from optio.model.run import AgentPod
from optio.model.task import Environment

STREAMS = ("stdout", "stderr", "result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Everything one attempt needs. `files` are written below HOME (mode 0600) before anything starts; `file_env` names
    environment variables that hold the absolute path of one of them. `env` is the whole environment, but for PATH, HOME,
    TMPDIR and the like, which are the executor's. `leased_at` is when the lease was asked for, by `Executor.clock`. Whatever
    becomes of its worker, the agent ends by itself before `orphan_s` have passed without a renewal (see `Store.adopt`).
    `setup_env` are the variables of the set-up commands, if these are not to have the agent's. With `runtime_program` the first
    of `argv` is an agent CLI that the executor found, not the task's own choice. `warm` says that a place may be
    ready for it (see `WarmDemand`)."""

    run_id: str
    attempt: int
    argv: tuple[str, ...]
    stdin: bytes
    env: Mapping[str, str]
    files: Mapping[str, bytes] = field(default_factory=dict)
    file_env: Mapping[str, str] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    setup_env: Mapping[str, str] | None = None
    environment: Environment | None = None
    runtime_program: bool = False
    warm: bool = False
    timeout_s: float
    grace_s: float = 10.0
    orphan_s: float
    leased_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmDemand:
    """So many places that are to be ready for the next runs of a task. Tasks whose places are alike share them."""

    task_id: str
    size: int
    environment: Environment


@dataclass(frozen=True, slots=True)
class LaunchArrival:
    """When an attempt's launch arrived where it runs, by this process's `time.monotonic`. `how` says what that took: `process`,
    a `cold` place that was made for it, or a `warm` one that was ready."""

    at: float
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How an attempt's process ended. `stopped_by` is `timeout`, `orphaned`, `disk_full`, `disk_quota` or `stop` when the
    supervisor ended it; `lost` when nothing is known: the supervisor itself is gone, and `by_agent` when its agent may have
    killed it: no sandbox kept it from that, and we followed it, so that no restart of the machine or its service explains it.
    `phase` is `setup` when a set-up command failed. `sizes` are those of the streams, where they are known. `reason` with its
    `message` is the word of the place where it ran, if that ended it, and `temporary` whether it may go better next time.
    With `no_room` nothing was begun, and nothing is left of it: the run may wait for room, and then have another attempt."""

    code: int | None
    signal: int | None
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
    """Whether what an attempt left stays for a look; `told` is for its log: how to look at it, or why it does not stay."""

    is_kept: bool
    told: str


class Handle(Protocol):
    """The grip on a started attempt. Output is read by stream and byte offset, as often as one likes."""

    def read(self, stream: str, offset: int, limit: int) -> bytes:
        """At most `limit` bytes from `offset`; empty when there are no more now."""
        ...

    def settled(self) -> bool:
        """Whether all can be read that was printed before this grip was got; False while it is on its way here."""
        ...

    def wait(self, timeout: float) -> None:
        """Return when there may be more output, when it has ended, when `wake` is called, or after `timeout` seconds."""
        ...

    def wake(self) -> None:
        """Make `wait` return; from any thread."""
        ...

    def begun(self) -> LaunchArrival | None:
        """When it began; None while its place is made ready. What another worker began has begun when it was found, at the
        latest, or is None for a process."""
        ...

    def pod(self) -> AgentPod | None:
        """The pod that it is in, as far as that is known; None for a process. `wait` returns when more is known."""
        ...

    def delay(self) -> Delay | None:
        """Why it has not begun yet, where that takes longer than usual; it changes until it has begun. `wait` tells of it."""
        ...

    def exit(self) -> Exit | None:
        """How it ended, or None while it runs."""
        ...

    def renewed(self, at: float) -> None:
        """Its lease was renewed, which was asked for at this time by `Executor.clock`: it is no orphan. Never raises."""
        ...

    def stop(self) -> None:
        """Ask for the end: SIGTERM to the agent, after the grace SIGKILL to everything it started. Returns at once."""
        ...

    def close(self, *, remove: bool) -> None:
        """Let go; with `remove` delete what the attempt left on disk."""
        ...


class Executor(Protocol):
    """Where agents run."""

    def place(self) -> str:
        """Where its agents can be found again: `directory/boot/namespace` (see `Store.adopt`). Raises StoreUnavailable."""
        ...

    def clock(self) -> float:
        """Seconds, by a clock that nobody sets and that its agents go by (see `Launch.leased_at`)."""
        ...

    def program(self, runtime: str) -> str:
        """The program of an agent CLI; raises LaunchFailed with how to get it."""
        ...

    def start(self, launch: Launch) -> Handle:
        """Start it; raises LaunchFailed. Starting the same (run, attempt) twice starts it once."""
        ...

    def find(self, run_id: str, attempt: int) -> Handle | None:
        """The grip on an attempt that another worker started; None if it never started, and then it never will."""
        ...

    def prepare(self) -> None:
        """Do ahead of the first start what would make it slow. Never raises."""
        ...

    def keep_warm(self, wanted: Sequence[WarmDemand]) -> None:
        """From now on keep these places ready, and no others. Never raises."""
        ...

    def pools(self) -> list[Pool] | None:
        """The places that are kept ready; None if it is not this executor that keeps them."""
        ...

    def attempts(self) -> list[tuple[str, int]]:
        """(run id, attempt) of everything that was ever started here and not removed."""
        ...

    def keep(self, run_id: str, attempt: int, seconds: float) -> KeptAttempt | None:
        """Let what a failed attempt left stay for so long, whatever becomes of this process. `attempts` leaves it out. None
        where nothing can stay, which `notes` has said."""
        ...

    def remove(self, run_id: str, attempt: int) -> None:
        """End what still runs of an attempt and delete what it left. Only for attempts that nobody follows any more."""
        ...

    def notes(self, environment: Environment) -> list[str]:
        """For the run's log: what confines an agent here, and what of a task's `environment` is not applied."""
        ...

    def not_applied(self, names: Iterable[str]) -> list[str]:
        """A sentence for each of these kinds of isolation (`isolation.NAMES`) that this executor does not apply."""
        ...

    def private(self, environment: Environment) -> Iterable[str]:
        """Return what the executor itself gives an agent, and no log may show, such as the proof for the egress proxy."""
        ...

    def refusal_hint(self, line: bytes) -> str | None:
        """For the run's log, once: what opens more, when a line that an agent printed says that something was refused to it."""
        ...

    def examine(self) -> Iterable[ProbeResult]:
        """What confines agents here, and what does not, for `optio doctor` and for a worker's log at its start."""
        ...

    def close(self) -> None:
        """Let go of everything; attempts go on."""
        ...
