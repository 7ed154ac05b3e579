"""Emit: resolved tasks -> compiled tasks."""

from optio.compiler.resolve import ResolvedTask
from optio.model.registry import CompiledTask, Origin


def emit(task: ResolvedTask) -> CompiledTask:
    """Plain data; the digest is computed when it is asked for."""
    line = task.document.span(()).start.line
    return CompiledTask(id=task.id, spec=task.spec, prompt=task.prompt, origin=Origin(path=task.path, line=line))
