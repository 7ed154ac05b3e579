"""The registry that is served: one immutable snapshot, swapped as a whole. A broken file keeps its task's last good definition,
and tasks whose files disappear in large numbers are held until somebody releases them (`optio.model.removal`).

All servers of a database serve its newest generation. A server makes the next generation if its directory held the newest
before it changed, or if no live server has a directory that does. So a server that starts with other files, or that was
overtaken, changes nothing for the others; it reports that its directory differs (`optio.model.drift`).
"""

import contextlib
import dataclasses
import logging
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.pipeline import Compilation
from optio.errors import Conflict, NotFound, OptioError
from optio.model.drift import Drift, compare
from optio.model.fleet import ProcessKind
from optio.model.registry import CompiledTask, Registry
from optio.model.removal import HeldRemoval, RemovalDecision, RemovedTask, decide_removals
from optio.model.removal_limit import DEFAULT_REMOVAL_LIMIT, RemovalLimit
from optio.model.trigger import WebhookTrigger
from optio.store.base import RegistryStore
from optio.store.values import Activated, GenerationRow

log = logging.getLogger(__name__)
_DEFAULT_LIMIT = RemovalLimit.parse(DEFAULT_REMOVAL_LIMIT)
# Servers that change the tree at the same time retry so often; then this one follows.
_MAX_RACES = 5
# A third of the time after which the store regards a silent server as gone.
_REPORT_PERIOD_S = 10.0
# After so many seconds without a report of this server, the store was unavailable, for the others too.
_SILENCE_S = 25.0
# If more definitions than this are unknown, all are read in one query.
_DEFINITIONS_PER_READ = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A generation as it is served. `kept` names the tasks whose file is broken: their last good definition is served. So are
    the tasks of `removal`, whose files are gone. `unreadable` means that the tree cannot be read at all, `drift` that it holds
    something else than is served."""

    registry: Registry = field(default_factory=Registry)
    generation: GenerationRow | None = None
    diagnostics: tuple[Diagnostic, ...] = ()
    kept: frozenset[str] = frozenset()
    files: int = 0
    removal: HeldRemoval | None = None
    unreadable: bool = False
    drift: Drift | None = None

    @property
    def number(self) -> int | None:
        """Return the number of the generation, or None before the first one."""
        return None if self.generation is None else self.generation.id

    @property
    def held(self) -> frozenset[str]:
        """The ids of the tasks whose removal is held."""
        return frozenset(self.removal.tasks) if self.removal is not None else frozenset()


def server_name(directory: Path) -> str:
    """Return the name of the server of a directory on this machine. It stays the same after a restart."""
    return f"{socket.gethostname()}:{directory.absolute()}"


@dataclass(frozen=True, slots=True)
class _DirectoryState:
    """The state of this server's directory: the compiled files, and the git commit."""

    compilation: Compilation
    unserved: Mapping[str, str | None]
    commit: str | None
    deleted: frozenset[str]


class ServedRegistry:
    """The holder of the snapshot. Readers take the snapshot once and work with it. `server` names this server among those of
    the database."""

    def __init__(
        self,
        store: RegistryStore,
        limit: RemovalLimit = _DEFAULT_LIMIT,
        *,
        server: str = "server",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._limit = limit
        self._server = server
        self._clock = clock
        self.current = Snapshot()
        # The guard's state: the tasks that are held, and those that went lately.
        self._held: frozenset[str] = frozenset()
        self._recent: Mapping[str, RemovedTask] = {}
        # The newest generation that this server's directory was equal to, and the commit that it was at when it was scanned.
        self._synced: int | None = None
        self._commit: str | None = None
        # The newest generation that this process has made.
        self._generation_id: int | None = None
        # The last report of this server, and when it was made. It and the snapshot change together.
        self._last_state: tuple[int, bool] | None = None
        self._said_at = 0.0
        self._lock = threading.RLock()
        # Until then, a silent server may have been unable to report.
        self._patient_until = 0.0

    def restore(self) -> None:
        """Start with the newest generation in the store, so that a file that was broken across a restart keeps its task."""
        self._follow()
        tasks = self.current.registry.tasks
        if tasks:
            rows = self._store.removals()
            self._held = frozenset(task_id for task_id, row in rows.items() if row.released_at is None and task_id in tasks)

    def replace(
        self,
        compilation: Compilation,
        unserved: Mapping[str, str | None],
        commit: str | None = None,
        *,
        deleted: Collection[str] = (),
    ) -> Snapshot:
        """Take up the content of the directory: store it as the next generation, then serve it; or serve the newest generation
        and report that the directory differs. If the store cannot be used, the snapshot stays.

        `unserved` are the files that give no task, each with the id that it seems to mean. Tasks whose file is one of
        `deleted`, by a request to the API, are removed without being held.
        """
        state = _DirectoryState(compilation, unserved, commit, frozenset(deleted))
        with self._lock:
            for race in range(_MAX_RACES):
                self._follow()
                try:
                    self.current = self._taken(state)
                    break
                except Conflict:
                    if race == _MAX_RACES - 1:
                        raise
            self._commit = commit
            with contextlib.suppress(OptioError):  # it is reported again
                self.tell()
            return self.current

    def _taken(self, state: "_DirectoryState") -> Snapshot:
        """Return the snapshot that follows from the state of the directory. Raises Conflict if another server has made a
        generation meanwhile."""
        before = self.current
        newest = before.generation
        compilation = state.compilation
        tasks, kept_ids = _with_last_good(compilation.registry, state.unserved, before.registry.tasks)
        deleted = {task.id for task in before.registry.tasks.values() if task.origin.path in state.deleted}
        verdict, judged = self._judge(tasks, deleted)
        registry = Registry.of(_with_held(tasks, verdict.held.values()))
        in_sync = newest is not None and newest.digest == registry.digest
        leads = newest is None or self._synced == newest.id or self._is_alone(newest.id)
        if newest is not None and not in_sync and not leads:
            return dataclasses.replace(
                before,
                diagnostics=compilation.diagnostics,
                kept=frozenset(),
                files=compilation.files,
                removal=None,
                unreadable=False,
                drift=self._drift(newest.id, tasks),
            )
        rows = self._store.hold_removals(verdict.held) if verdict.held else {}
        if newest is None or not in_sync or (leads and self._is_renamed(newest, state.commit)):
            newest = self._activate(registry, state.commit)
        self._synced = newest.id
        # A release is for the removal that was seen: a task that came back is held again when it goes again.
        over = (judged - verdict.held.keys()) | (tasks.keys() - before.registry.tasks.keys())
        if over and (over := over & self._store.removals().keys()):
            self._store.drop_removals(over)
        self._held, self._recent = frozenset(verdict.held), verdict.recent
        since = min((rows[task_id].held_at for task_id in verdict.held), default=None)
        return Snapshot(
            registry=registry,
            generation=newest,
            diagnostics=compilation.diagnostics,
            kept=kept_ids,
            files=compilation.files,
            removal=None if since is None else HeldRemoval(tasks=tuple(sorted(verdict.held)), total=verdict.total, since=since),
        )

    def _is_renamed(self, newest: GenerationRow, commit: str | None) -> bool:
        """Return whether the directory moved to a commit that changes no task. A server that is a commit behind returns
        False."""
        return newest.commit != commit and (self._synced is None or commit != self._commit)

    def _activate(self, registry: Registry, commit: str | None) -> GenerationRow:
        """Make the generation after the one that is served. Raises Conflict if another server has made it."""
        snapshot = self.current
        number = snapshot.number or 0
        # An older version, which may run beside this one, may have kept less of each task than this one does.
        after = Activated(number, snapshot.registry if self._generation_id == number else None)
        generation = self._store.activate(registry, commit, after, self._server)
        self._generation_id, self._last_state, self._said_at = generation.id, (generation.id, True), self._clock()
        return generation

    def _judge(self, tasks: Mapping[str, CompiledTask], deleted: Collection[str]) -> tuple[RemovalDecision, frozenset[str]]:
        """Ask the removal guard, with the releases in the store. The returned ids are those that are held, or would be without
        a release that still counts."""
        served = self.current.registry.tasks

        def ask(released: Collection[str]) -> RemovalDecision:
            return decide_removals(
                served,
                tasks,
                limit=self._limit,
                now=self._clock(),
                recent=self._recent,
                held_ids=self._held,
                released=released,
            )

        verdict = ask(deleted)
        if not verdict.held:
            return verdict, self._held
        rows = self._store.removals()
        released = {task_id for task_id in verdict.held if task_id in rows and rows[task_id].released_at is not None}
        return ask({*deleted, *released}) if released else verdict, (self._held | verdict.held.keys()) - released

    def _follow(self) -> None:
        """Serve the newest generation of the store, if it is not served yet."""
        if self._store.newest_generation() == (self.current.number or 0):
            return
        row = self._store.generation()
        if row is not None:
            self.current = dataclasses.replace(self.current, registry=self._definitions(row), generation=row, kept=frozenset())

    def _definitions(self, row: GenerationRow) -> Registry:
        tasks_by_digest = {task.digest: task for task in self.current.registry.tasks.values()}
        if sum(digest not in tasks_by_digest for digest in row.tasks.values()) > _DEFINITIONS_PER_READ:
            tasks_by_digest |= self._store.served_definitions()
        tasks: dict[str, CompiledTask] = {}
        for task_id, digest in row.tasks.items():
            try:
                tasks[task_id] = tasks_by_digest.get(digest) or self._store.definition(digest)
            except (NotFound, ValueError) as err:
                log.warning("the task %s as it was served before cannot be read any more: %s", task_id, err)
        return Registry.of(tasks)

    def _others_in_sync(self, generation: int) -> list[str]:
        """Return the other servers whose directories hold this generation. A row under this server's own name is from before a
        restart."""
        rows = self._store.servers()
        return [row.name for row in rows if row.in_sync and row.generation == generation and row.name != self._server]

    def _is_alone(self, generation: int) -> bool:
        """Return whether no other live server has a directory that holds this generation."""
        return self._clock() >= self._patient_until and not self._others_in_sync(generation)

    def _drift(self, generation: int, tasks: Mapping[str, CompiledTask]) -> Drift:
        added_ids, changed_ids, missing = compare(self.current.registry.tasks, tasks)
        before = self.current.drift
        return Drift(
            generation=generation,
            added=added_ids,
            changed=changed_ids,
            missing=missing,
            in_sync=tuple(self._others_in_sync(generation)),
            since=self._clock() if before is None else before.since,
        )

    def is_behind(self) -> bool:
        """Return whether to scan the directory again though nothing in it changed: there is a newer generation, or this
        directory differs and no live server has one that holds what is served. Asks the store."""
        newest = self._store.newest_generation()
        if newest != (self.current.number or 0):
            return True
        return self.current.drift is not None and self._is_alone(newest)

    def tell(self) -> None:
        """Report to the store what this server serves, and whether its directory holds the same: at each change, and now and
        then."""
        with self._lock:
            snapshot = self.current
            if snapshot.generation is None:
                return
            says = snapshot.generation.id, self._synced == snapshot.generation.id and snapshot.drift is None
            passed = self._clock() - self._said_at
            if says == self._last_state and passed < _REPORT_PERIOD_S:
                return
            self._store.note_server(self._server, *says)
            if self._last_state is not None and passed > _SILENCE_S:
                self._patient_until = self._clock() + _SILENCE_S
            self._last_state, self._said_at = says, self._clock()

    def leave(self) -> None:
        """Remove this server's report, so that others need not wait for it."""
        if self._last_state is not None:
            self._store.forget_process(ProcessKind.SERVER, self._server)

    def is_released(self) -> bool:
        """Return whether a task that is held here was released, perhaps through another server. Asks the store."""
        held_ids = self.current.held
        return bool(held_ids) and any(
            row.released_at is not None and task_id in held_ids for task_id, row in self._store.removals().items()
        )

    def serve_unreadable(self, diagnostic: Diagnostic) -> Snapshot:
        """Serve the newest generation because the tree cannot be read at all, with this diagnostic."""
        with self._lock:
            self._follow()
            self.current = dataclasses.replace(self.current, diagnostics=(diagnostic,), unreadable=True)
            return self.current


def _with_held(tasks: dict[str, CompiledTask], held_tasks: Collection[CompiledTask]) -> dict[str, CompiledTask]:
    """Add the held tasks. A webhook path that another task has taken meanwhile stays with that one."""
    if not held_tasks:
        return tasks
    merged_tasks, paths = dict(tasks), set(Registry.of(tasks).hooks)
    for task in held_tasks:
        webhook = task.spec.webhook
        is_path_taken = webhook is not None and webhook.config.path in paths
        merged_tasks[task.id] = _without_hook(task) if is_path_taken else task
        if webhook is not None:
            paths.add(webhook.config.path)
    return merged_tasks


def _with_last_good(
    registry: Registry, unserved: Mapping[str, str | None], before: Mapping[str, CompiledTask]
) -> tuple[dict[str, CompiledTask], frozenset[str]]:
    """Return the tasks to serve and the ids of those that keep their last good definition. A task goes if its file goes or
    gives another task. A file that gives no task removes nothing, even if it was moved and broken at once."""
    task_ids = set(unserved.values())
    kept_tasks = {
        task.id: _without_lost_hook(task, registry)
        for task in before.values()
        if task.id not in registry.tasks and (task.origin.path in unserved or task.id in task_ids)
    }
    return {**registry.tasks, **kept_tasks}, frozenset(kept_tasks)


def _without_lost_hook(task: CompiledTask, registry: Registry) -> CompiledTask:
    """Return the task without its webhook if another file took that path meanwhile: a path never serves two tasks."""
    webhook = task.spec.webhook
    return task if webhook is None or webhook.config.path not in registry.hooks else _without_hook(task)


def _without_hook(task: CompiledTask) -> CompiledTask:
    other_triggers = [trigger for trigger in task.spec.triggers if not isinstance(trigger, WebhookTrigger)]
    return dataclasses.replace(task, spec=task.spec.replace(triggers=other_triggers))
