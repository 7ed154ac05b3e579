"""Secrets in plain text: known shapes of tokens anywhere in the file."""

from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.token_shapes import find_tokens


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """The value itself is never repeated."""
    for path, text in task.document.texts:
        yield from find_tokens(path, text)
    if task.prompt_path is not None:
        yield from find_tokens(task.prompt_path, task.prompt)
