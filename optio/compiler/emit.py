"""Emit: resolved tasks -> compiled tasks."""

from optio.compiler.resolved_task import ResolvedTask
from optio.model.registry import CompiledTask, Origin


def emit(task: ResolvedTask, isolation: tuple[str, ...] = (), namespace: str | None = None) -> CompiledTask:
    """Plain data; the digest is computed when it is asked for."""
    origin = Origin(path=task.path, line=task.document.line)
    # Where its values come from, and how it is tested, is no part of what a task is.
    spec = task.spec
    if spec.extends is not None or spec.tests:
        spec = spec.replace(extends=None, tests=[])
    return CompiledTask(id=task.id, spec=spec, prompt=task.prompt, origin=origin, isolation=isolation, namespace=namespace)
