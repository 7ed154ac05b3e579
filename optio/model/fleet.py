"""The fleet: the servers, workers, schedulers and gateways of an installation, by the rows that they write every ten seconds,
and what is wrong with them. A process of `optio dev` is one of each kind.

`find_problems` is the one place that decides. The command line, the pages, `/readyz`, doctor and the metrics show its answer.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from optio.model.namespace import NO_WORKER, is_served, unserved

# A part without a heartbeat for this long is silent; parts write one three times as often.
SILENT_AFTER = timedelta(seconds=30)
# A silent part that nothing replaces is reported for this long.
FORGOTTEN_AFTER = timedelta(hours=1)
# A slot that nobody has fired by then is late.
LATE_AFTER = timedelta(minutes=2)
# A slot or a generation that waits for longer than this waits for a scheduler that does not run.
SCHEDULER_GRACE = timedelta(seconds=30)
# An upgrade takes less time than this; servers take up a generation within a second.
VERSIONS_GRACE = timedelta(hours=1)
GENERATION_GRACE = timedelta(minutes=1)


class ProcessKind(StrEnum):
    """The kind of a part of a process."""

    SERVER = "server"  # answers requests
    WORKER = "worker"  # executes runs
    SCHEDULER = "scheduler"  # fires schedules, and deletes old runs
    GATEWAY = "gateway"  # leads agents to their models


class ProblemCode(StrEnum):
    """A kind of problem of a fleet."""

    MISSING = "missing"  # something waits for a process of a kind, and none is live
    LATE = "late"  # slots of schedules are overdue
    SILENT = "silent"  # a process ended without stopping in order, or hangs
    VERSIONS = "versions"  # processes of two versions work side by side for long
    GENERATIONS = "generations"  # a process has not taken the newest generation up


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """A part of a process by its last heartbeat. `process` is the unique name of the process, `name` that of the part: a server
    keeps its own across restarts. `version` and `started_at` are None for processes of versions that write no such rows.
    `seen_at` is None for a worker that left only leases of `running` runs, the first of which ends at `lease_until`. The
    `namespace` is the one whose runs a worker takes: empty for tasks without one, None for all. Servers alone have `generation`
    and `in_sync`."""

    kind: ProcessKind
    name: str
    process: str
    is_live: bool
    version: str | None = None
    started_at: datetime | None = None
    seen_at: datetime | None = None
    namespace: str | None = None
    capacity: int | None = None
    running: int = 0
    lease_until: datetime | None = None
    generation: int | None = None
    in_sync: bool | None = None

    @property
    def host(self) -> str:
        """Return the name of the process's machine."""
        return self.process.partition(":")[0].partition("/")[0]

    @property
    def pid(self) -> int | None:
        """Return the process id on that machine, if the name has one."""
        pid = self.process.split(":")[-2:][0]
        return int(pid) if pid.isdigit() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A periodic job that one process at a time does for all: the last owner, until when it holds the lease (None: nobody
    does), and when the job last ended."""

    job: str
    owner: str
    lease_until: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetState:
    """The processes of an installation and what waits for them, as the store knows it at `now`: queued runs by namespace, the
    next slot of all schedules, the slots that are late, and the newest generation, with when a scheduler took it up. `metered`
    is the number of running agents that the gateway leads to their models."""

    now: datetime
    processes: Sequence[ProcessRow] = ()
    jobs: Sequence[JobRow] = ()
    queued: Mapping[str, int]
    next_fire: datetime | None = None
    late_slots: int = 0
    generation: int | None = None
    activated_at: datetime | None = None
    adopted_at: datetime | None = None
    metered: int = 0

    def live(self, kind: ProcessKind) -> list[ProcessRow]:
        """Return the live parts of a kind."""
        return [row for row in self.processes if row.is_live and row.kind is kind]

    @property
    def versions(self) -> Collection[str | None]:
        """Return the versions of the live processes, None for those before processes wrote rows."""
        return {row.version for row in self.processes if row.is_live}

    @property
    def is_unadopted(self) -> bool:
        """Return whether the newest generation waits for a scheduler, for longer than one needs."""
        return self.activated_at is not None and self.adopted_at is None and self.activated_at < self.now - SCHEDULER_GRACE

    @property
    def is_overdue(self) -> bool:
        """Return whether a slot or a generation waits for a scheduler, for longer than one needs."""
        return self.is_unadopted or (self.next_fire is not None and self.next_fire < self.now - SCHEDULER_GRACE)


@dataclass(frozen=True, slots=True)
class FleetProblem:
    """A problem of a fleet: `text` for everybody, `place` with names of machines for who may read the health, and the cure."""

    code: ProblemCode
    kind: ProcessKind | None
    text: str
    cure: str
    place: str = ""

    @property
    def detail(self) -> str:
        """Return the text with its place."""
        return f"{self.text} ({self.place})" if self.place else self.text

    @property
    def summary(self) -> str:
        """Return one sentence: the problem with its place, and the cure."""
        return f"{self.detail}: {self.cure}"


def find_problems(fleet: FleetState) -> list[FleetProblem]:
    """Return what is wrong with a fleet, what matters most first."""
    finders = (_missing_scheduler, _missing_worker, _missing_gateway, _late_slots, _silent, _generations, _versions)
    return [problem for find in finders for problem in find(fleet)]


def served_namespaces(processes: Sequence[ProcessRow]) -> frozenset[str] | None:
    """Return the namespaces whose runs a live worker takes, `""` for tasks without one; None where one takes the runs of
    all."""
    namespaces = {row.namespace for row in processes if row.is_live and row.kind is ProcessKind.WORKER}
    return None if None in namespaces else frozenset(namespace for namespace in namespaces if namespace is not None)


def _missing_scheduler(fleet: FleetState) -> Iterator[FleetProblem]:
    if fleet.live(ProcessKind.SCHEDULER) or not (fleet.is_unadopted or fleet.next_fire is not None):
        return
    # A scheduler of an older version writes no row: only what it leaves undone tells that there is none.
    if None in fleet.versions and not fleet.is_overdue:
        return
    last_seen = max((row.seen_at for row in fleet.processes if row.kind is ProcessKind.SCHEDULER and row.seen_at), default=None)
    since = "" if last_seen is None else f", the last was seen at {_time(last_seen)}"
    slots = "" if fleet.next_fire is None else ", so schedules do not fire"
    text = f"no scheduler is running{since}{slots}"
    yield FleetProblem(ProblemCode.MISSING, ProcessKind.SCHEDULER, text, "start one with `optio scheduler`")


def _missing_worker(fleet: FleetState) -> Iterator[FleetProblem]:
    namespaces = served_namespaces(fleet.processes)
    if fleet.live(ProcessKind.WORKER):
        missed = [(unserved(name), runs) for name, runs in sorted(fleet.queued.items()) if not is_served(name, namespaces)]
    else:
        missed = [(NO_WORKER, sum(fleet.queued.values()))]
    for (fact, cure), count in missed:
        if count:
            text = f"{fact}, and {'1 run waits' if count == 1 else f'{count:,} runs wait'}"
            yield FleetProblem(ProblemCode.MISSING, ProcessKind.WORKER, text, cure)


def _missing_gateway(fleet: FleetState) -> Iterator[FleetProblem]:
    if fleet.metered and not fleet.live(ProcessKind.GATEWAY):
        agents = "1 running agent needs" if fleet.metered == 1 else f"{fleet.metered:,} running agents need"
        text = f"no gateway is running, and {agents} one to call models"
        yield FleetProblem(ProblemCode.MISSING, ProcessKind.GATEWAY, text, "start one with `optio gateway`")


def _late_slots(fleet: FleetState) -> Iterator[FleetProblem]:
    if fleet.late_slots and fleet.next_fire is not None:
        slots = "1 slot of a schedule is" if fleet.late_slots == 1 else f"slots of {fleet.late_slots:,} schedules are"
        text = f"{slots} late; the first was due at {_time(fleet.next_fire)}"
        cure = "start a scheduler, or read the log of the one that runs"
        yield FleetProblem(ProblemCode.LATE, ProcessKind.SCHEDULER, text, cure)


def _silent(fleet: FleetState) -> Iterator[FleetProblem]:
    """Yield the parts that ended without stopping in order, or hang. Each part of their kind that started later has replaced
    one of them."""
    starts = {kind: sorted(row.started_at for row in fleet.live(kind) if row.started_at) for kind in ProcessKind}
    silent = [(row.seen_at, row) for row in fleet.processes if row.seen_at is not None and not row.is_live]
    for seen_at, row in sorted(silent, key=lambda pair: pair[0]):
        later = next((at for at in starts[row.kind] if at >= seen_at), None)
        if later is not None:
            starts[row.kind].remove(later)
            continue
        text = f"a {row.kind} ended without stopping, or hangs; it was last seen at {_time(seen_at)}"
        yield FleetProblem(ProblemCode.SILENT, row.kind, text, f"read its log, and start `optio {row.kind}` again", _place(row))


def _generations(fleet: FleetState) -> Iterator[FleetProblem]:
    newest, since = fleet.generation, fleet.activated_at
    if newest is None or since is None or since > fleet.now - GENERATION_GRACE:
        return
    for row in fleet.live(ProcessKind.SERVER):
        if row.generation is not None and row.generation < newest:
            text = f"a server serves generation {row.generation}, though {newest} is the newest since {_time(since)}"
            yield FleetProblem(ProblemCode.GENERATIONS, row.kind, text, "read its log", _place(row))
    if fleet.is_unadopted and fleet.live(ProcessKind.SCHEDULER):
        text = f"no scheduler has taken up the schedules of generation {newest}, which is served since {_time(since)}"
        yield FleetProblem(ProblemCode.GENERATIONS, ProcessKind.SCHEDULER, text, "read the log of the scheduler")


def _versions(fleet: FleetState) -> Iterator[FleetProblem]:
    first: dict[str, datetime] = {}
    for row in fleet.processes:
        if row.is_live and row.version is not None and row.started_at is not None:
            first[row.version] = min(row.started_at, first.get(row.version, row.started_at))
    counts = Counter(row.version for row in fleet.processes if row.is_live)
    since = max(first.values(), default=None)
    if len(counts) > 1 and since is not None and fleet.now - since > VERSIONS_GRACE:
        parts = ", ".join(f"{version or 'an older one'}: {count}" for version, count in counts.most_common())
        text = f"processes of {len(counts)} versions have run side by side since {_time(since)}"
        yield FleetProblem(ProblemCode.VERSIONS, None, text, "replace those of the older version", parts)


def _place(row: ProcessRow) -> str:
    return f"host {row.host}" + ("" if row.pid is None else f", process {row.pid}")


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
