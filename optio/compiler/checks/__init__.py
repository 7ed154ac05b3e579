"""Checks: one concern per file, each `check(task) -> Iterator[Diagnostic]`. They point at the smallest thing and never raise."""

from collections.abc import Callable, Iterator

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolve import ResolvedTask

Check = Callable[[ResolvedTask], Iterator[Diagnostic]]

CHECKS: tuple[Check, ...] = ()
