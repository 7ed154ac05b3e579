"""What is served now: one immutable snapshot, swapped whole. A file that broke keeps its task's last good definition."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.pipeline import Compilation
from optio.model.registry import CompiledTask, Registry
from optio.store.base import GenerationRow, Store


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
        if row is not None:
            tasks = {task_id: self._store.definition(digest) for task_id, digest in row.tasks.items()}
            self.current = Snapshot(registry=Registry.of(tasks), generation=row)

    def replace(self, compilation: Compilation, commit: str | None = None) -> Snapshot:
        """Keep the generation in the store, then serve it."""
        tasks, kept = _with_last_good(compilation, self.current.registry.tasks)
        registry = Registry.of(tasks)
        self.current = Snapshot(
            registry=registry,
            generation=self._store.activate(registry, commit),
            diagnostics=compilation.diagnostics,
            kept=kept,
            files=compilation.files,
        )
        return self.current


def _with_last_good(
    compilation: Compilation, before: Mapping[str, CompiledTask]
) -> tuple[dict[str, CompiledTask], frozenset[str]]:
    tasks = dict(compilation.registry.tasks)
    kept = {task.id: task for task in before.values() if task.origin.path in compilation.broken and task.id not in tasks}
    hooks = set(compilation.registry.hooks)
    for task_id, task in list(kept.items()):
        # Another file took its webhook path meanwhile: the last good definition would make it serve two tasks.
        if task.spec.webhook is not None and task.spec.webhook.config.path in hooks:
            del kept[task_id]
    return {**tasks, **kept}, frozenset(kept)
