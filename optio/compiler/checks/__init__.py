"""Checks: one concern per file, each `check(task) -> Iterator[Diagnostic]`. They point at the smallest thing, never raise."""

from collections.abc import Callable, Iterator

from optio.compiler.checks import environment, literals, params, prompt, runtime, samples, schedule, triggers, trust, webhook
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolve import ResolvedTask

Check = Callable[[ResolvedTask], Iterator[Diagnostic]]

CHECKS: tuple[Check, ...] = (
    runtime.check,
    params.check,
    prompt.check,
    triggers.check,
    schedule.check,
    webhook.check,
    samples.check,
    trust.check,
    environment.check,
    literals.check,
)
