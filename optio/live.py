"""What is served now: one immutable snapshot, swapped whole. A file that broke keeps its task's last good definition."""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.pipeline import Compilation
from optio.errors import NotFound
from optio.model.registry import CompiledTask, Registry
from optio.model.trigger import WebhookTrigger
from optio.store.base import GenerationRow, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A generation as served. `kept` names the tasks whose file is broken now: their last good definition is served."""

    registry: Registry = field(default_factory=Registry)
    generation: GenerationRow | None = None
    diagnostics: tuple[Diagnostic, ...] = ()
    kept: frozenset[str] = frozenset()
    files: int = 0


class LiveRegistry:
    """Holds the snapshot. Readers take it once and work with that."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.current = Snapshot()

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

    def replace(self, compilation: Compilation, unserved: Mapping[str, str | None], commit: str | None = None) -> Snapshot:
        """Keep the generation in the store, then serve it; what is served stays when the store cannot be used.

        `unserved` are the files that give no task, each with the id that it seems to mean.
        """
        before = self.current
        tasks, kept = _with_last_good(compilation.registry, unserved, before.registry.tasks)
        registry = Registry.of(tasks)
        generation = before.generation
        if generation is None or (generation.digest, generation.commit) != (registry.digest, commit):
            generation = self._store.activate(registry, commit)
        self.current = Snapshot(
            registry=registry,
            generation=generation,
            diagnostics=compilation.diagnostics,
            kept=kept,
            files=compilation.files,
        )
        return self.current

    def lose(self, diagnostic: Diagnostic) -> Snapshot:
        """The tree cannot be read at all: serve what is served, and say so."""
        self.current = dataclasses.replace(self.current, diagnostics=(diagnostic,))
        return self.current


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
    if webhook is None or webhook.config.path not in registry.hooks:
        return task
    others = [trigger for trigger in task.spec.triggers if not isinstance(trigger, WebhookTrigger)]
    return dataclasses.replace(task, spec=task.spec.but(triggers=others))
