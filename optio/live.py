"""What is served now: one immutable snapshot, swapped whole. A file that broke keeps its task's last good definition, and
tasks whose files are gone in numbers are held until somebody releases them (`optio.model.removal`)."""

import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.pipeline import Compilation
from optio.errors import NotFound
from optio.model.registry import CompiledTask, Registry
from optio.model.removal import HeldRemoval, Removed, Verdict, decide
from optio.model.removal_limit import DEFAULT_REMOVAL_LIMIT, RemovalLimit
from optio.model.trigger import WebhookTrigger
from optio.store.base import GenerationRow, RemovalRow, Store

log = logging.getLogger(__name__)
_DEFAULT_LIMIT = RemovalLimit.parse(DEFAULT_REMOVAL_LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A generation as served. `kept` names the tasks whose file is broken now: their last good definition is served. So is
    that of the tasks of `removal`, whose files are gone. `unreadable` says that the tree cannot be read at all."""

    registry: Registry = field(default_factory=Registry)
    generation: GenerationRow | None = None
    diagnostics: tuple[Diagnostic, ...] = ()
    kept: frozenset[str] = frozenset()
    files: int = 0
    removal: HeldRemoval | None = None
    unreadable: bool = False

    @property
    def held(self) -> frozenset[str]:
        """The ids of the tasks whose removal is held."""
        return frozenset(self.removal.tasks) if self.removal is not None else frozenset()


class LiveRegistry:
    """Holds the snapshot. Readers take it once and work with that."""

    def __init__(
        self, store: Store, limit: RemovalLimit = _DEFAULT_LIMIT, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._limit = limit
        self._clock = clock
        self.current = Snapshot()
        # The guard's state: the tasks that are held, and those that went lately.
        self._held: frozenset[str] = frozenset()
        self._recent: Mapping[str, Removed] = {}

    def restore(self) -> None:
        """Begin with the last good generation of the store, so that a file broken over a restart keeps its task."""
        row = self._store.generation()
        if row is None:
            return
        tasks: dict[str, CompiledTask] = {}
        for task_id, digest in row.tasks.items():
            try:
                tasks[task_id] = self._store.definition(digest)
            except (NotFound, ValueError) as err:
                log.warning("the task %s as it was served before cannot be read any more: %s", task_id, err)
        self.current = Snapshot(registry=Registry.of(tasks), generation=row)
        self._held = frozenset(
            task_id for task_id, row in self._store.removals().items() if row.released_at is None and task_id in tasks
        )

    def replace(
        self,
        compilation: Compilation,
        unserved: Mapping[str, str | None],
        commit: str | None = None,
        *,
        deleted: Collection[str] = (),
    ) -> Snapshot:
        """Keep the generation in the store, then serve it; what is served stays when the store cannot be used.

        `unserved` are the files that give no task, each with the id that it seems to mean. A task whose file is one of
        `deleted`, by a request to the API, goes without being asked for.
        """
        before = self.current
        tasks, kept = _with_last_good(compilation.registry, unserved, before.registry.tasks)
        verdict, removal, over = self._judge(tasks, {t.id for t in before.registry.tasks.values() if t.origin.path in deleted})
        registry = Registry.of(_with_held(tasks, verdict.held.values()))
        generation = before.generation
        if generation is None or (generation.digest, generation.commit) != (registry.digest, commit):
            generation = self._store.activate(registry, commit)
        if over and (over := over & self._store.removals().keys()):
            self._store.drop_removals(over)
        self.current = Snapshot(
            registry=registry,
            generation=generation,
            diagnostics=compilation.diagnostics,
            kept=kept,
            files=compilation.files,
            removal=removal,
        )
        self._held, self._recent = frozenset(verdict.held), verdict.recent
        return self.current

    def _judge(
        self, tasks: Mapping[str, CompiledTask], deleted: Collection[str]
    ) -> tuple[Verdict, HeldRemoval | None, set[str]]:
        """Ask the guard, and the store for releases. The last value names tasks whose hold or release is over."""
        served = self.current.registry.tasks

        def ask(released: Collection[str]) -> Verdict:
            return decide(
                served,
                tasks,
                limit=self._limit,
                now=self._clock(),
                recent=self._recent,
                held=self._held,
                released=released,
            )

        verdict = ask(deleted)
        rows: Mapping[str, RemovalRow] = {}
        released: set[str] = set()
        if verdict.held:
            rows = self._store.hold_removals(verdict.held)
            released = {task_id for task_id, row in rows.items() if row.released_at is not None}
            if released:
                verdict = ask({*deleted, *released})
        # A release is for the removal that was seen: a task that came back is held again when it goes again.
        over = ({*self._held, *rows} - released - verdict.held.keys()) | (tasks.keys() - served.keys())
        if not verdict.held:
            return verdict, None, over
        since = min(rows[task_id].held_at for task_id in verdict.held)
        return verdict, HeldRemoval(tasks=tuple(sorted(verdict.held)), total=verdict.total, since=since), over

    def is_released(self) -> bool:
        """Whether a task that is held here was released, perhaps by way of another server. Asks the store."""
        held = self.current.held
        return bool(held) and any(
            row.released_at is not None and task_id in held for task_id, row in self._store.removals().items()
        )

    def lose(self, diagnostic: Diagnostic) -> Snapshot:
        """The tree cannot be read at all: serve what is served, and say so."""
        self.current = dataclasses.replace(self.current, diagnostics=(diagnostic,), unreadable=True)
        return self.current


def _with_held(tasks: dict[str, CompiledTask], held: Collection[CompiledTask]) -> dict[str, CompiledTask]:
    """Add the held tasks. A webhook path that another task has by now stays with that one."""
    if not held:
        return tasks
    found, paths = dict(tasks), set(Registry.of(tasks).hooks)
    for task in held:
        webhook = task.spec.webhook
        taken = webhook is not None and webhook.config.path in paths
        found[task.id] = _without_hook(task) if taken else task
        if webhook is not None:
            paths.add(webhook.config.path)
    return found


def _with_last_good(
    registry: Registry, unserved: Mapping[str, str | None], before: Mapping[str, CompiledTask]
) -> tuple[dict[str, CompiledTask], frozenset[str]]:
    """A task goes when its file goes, or gives another task. A file that gives none at all removes nothing; nor does one
    that was moved and broken in one go."""
    meant = set(unserved.values())
    kept = {
        task.id: _without_lost_hook(task, registry)
        for task in before.values()
        if task.id not in registry.tasks and (task.origin.path in unserved or task.id in meant)
    }
    return {**registry.tasks, **kept}, frozenset(kept)


def _without_lost_hook(task: CompiledTask, registry: Registry) -> CompiledTask:
    """Another file took the webhook path of a broken one meanwhile: one path never serves two tasks."""
    webhook = task.spec.webhook
    return task if webhook is None or webhook.config.path not in registry.hooks else _without_hook(task)


def _without_hook(task: CompiledTask) -> CompiledTask:
    others = [trigger for trigger in task.spec.triggers if not isinstance(trigger, WebhookTrigger)]
    return dataclasses.replace(task, spec=task.spec.but(triggers=others))
