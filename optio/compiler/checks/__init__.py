"""The checks of one task: one subject per module, each with `check(task) -> Iterator[Diagnostic]`.

A check reads a resolved task, reports at the smallest place that it can name, and never raises for what a file says. `run`
calls them in order for the pipeline. Checks that need several tasks at once are in `across`.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from optio.compiler.checks import (
    commands,
    dedupe,
    environment,
    examples,
    models,
    overrides,
    params,
    params_pedantic,
    plaintext_secrets,
    pool,
    prompt,
    runtime,
    samples,
    schedule,
    schedule_pedantic,
    triggers,
    trust,
    untrusted_input,
    webhook,
)
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.trigger import WebhookTrigger

Check = Callable[[ResolvedTask], Iterator[Diagnostic]]

# Findings of these decide what the other checks can rely on.
FIRST: tuple[Check, ...] = (runtime.check, params.check)
CHECKS: tuple[Check, ...] = (
    prompt.check,
    params_pedantic.check,
    triggers.check,
    schedule.check,
    schedule_pedantic.check,
    webhook.check,
    samples.check,
    examples.check,
    trust.check,
    untrusted_input.check,
    environment.check,
    commands.check,
    models.check,
    overrides.check,
    dedupe.check,
    pool.check,
    plaintext_secrets.check,
)
_UNUSABLE_SCHEMA = frozenset({"OPT205", "OPT206", "OPT212", "OPT214"})


def _for_some(task: ResolvedTask) -> Iterator[Check]:
    """Yield the checks that few tasks need; their modules are imported only for a task that needs them."""
    environment, hooks = task.spec.environment, [t for t in task.spec.triggers if isinstance(t, WebhookTrigger)]
    told = (*environment.setup_commands, *environment.env.values(), str(task.spec.command))
    named = any(hooks or name in task.prompt for name in environment.secrets)
    named = named or (bool(environment.secrets) and "$" in task.prompt)
    if named or any("$" in text or "{{" in text for text in told):
        from optio.compiler.checks import secrets_use

        yield secrets_use.check
    if isinstance(task.spec.command, list):
        from optio.compiler.checks import arguments

        yield arguments.check
    if environment.network is not None:
        from optio.compiler.checks import needed_hosts

        yield needed_hosts.check
    if task.spec.result is not None:
        from optio.compiler.checks import result

        yield result.check
    if hooks:
        from optio.compiler.checks import scheme

        yield scheme.check
        if any(hook.config.when is not None for hook in hooks):
            from optio.compiler.checks import filters

            yield filters.check
        if any(hook.config.param_mapping for hook in hooks):
            from optio.compiler.checks import deliveries

            yield deliveries.check


def run(task: ResolvedTask, *, pedantic: bool = False) -> list[Diagnostic]:
    """Return every finding about one task, except below `task.gaps`, where an earlier stage has already reported the mistake.
    With `pedantic` the list includes advice: settings that are valid and could be better."""
    first = [d for check in FIRST for d in check(task)]
    found = [d for d in first if task.is_known(d.route)]
    if any(d.code in _UNUSABLE_SCHEMA for d in first):
        task = replace(task, gaps=task.gaps | {params.ROUTE})
    checks = CHECKS
    if pedantic:
        from optio.compiler.checks import pedantic as more

        checks = (*CHECKS, more.check)
    checks = (*checks, *_for_some(task))
    return found + [d for check in checks for d in check(task) if task.is_known(d.route)]
