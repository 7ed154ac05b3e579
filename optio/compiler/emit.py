"""The last stage: turn a resolved task into the compiled task that the registry serves."""

from optio.compiler.resolved_task import ResolvedTask
from optio.model.registry import CompiledTask, Origin


def emit(
    task: ResolvedTask,
    isolation: tuple[str, ...] = (),
    namespace: str | None = None,
    allowed_secrets: tuple[str, ...] | None = None,
) -> CompiledTask:
    """Return the task as plain data. The digest is computed on first use; all but the task come from the policy."""
    origin = Origin(path=task.path, line=task.document.line)
    # The origin of values and the tests are not part of the compiled task.
    spec = task.spec
    if spec.extends is not None or spec.tests:
        spec = spec.replace(extends=None, tests=[])
    return CompiledTask(
        id=task.id,
        spec=spec,
        prompt=task.prompt,
        origin=origin,
        isolation=isolation,
        namespace=namespace,
        allowed_secrets=allowed_secrets,
        connections=task.connections,
    )
