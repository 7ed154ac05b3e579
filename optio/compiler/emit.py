"""Emit: resolved tasks -> compiled tasks."""

from optio.compiler.resolve import ResolvedTask
from optio.model.registry import CompiledTask, Origin


def emit(task: ResolvedTask) -> CompiledTask:
    """Plain data; the digest is computed when it is asked for."""
    origin = Origin(path=task.path, line=task.document.line)
    return CompiledTask(id=task.id, spec=task.spec, prompt=task.prompt, origin=origin)
