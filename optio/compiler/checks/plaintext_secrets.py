"""Report secrets in plain text: tokens of well-known shapes in any file that the task is made of."""

from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.token_shapes import find_tokens


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report every token in the task's files and in its prompt file. The message never repeats the value."""
    for path, text in task.document.texts:
        yield from find_tokens(path, text)
    if task.prompt_path is not None:
        yield from find_tokens(task.prompt_path, task.prompt)
