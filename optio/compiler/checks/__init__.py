"""The checks of one task: one subject per module, each with `check(task) -> Iterator[Diagnostic]`.

A check reads a resolved task, reports at the smallest place that it can name, and never raises for what a file says. `run`
calls them in order for the pipeline. Checks that need several tasks at once are in `across`.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module

from optio.compiler.checks import (
    commands,
    environment,
    models,
    overrides,
    params,
    params_pedantic,
    plaintext_secrets,
    prompt,
    runtime,
    schedule,
    schedule_pedantic,
    triggers,
    trust,
)
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.trigger import WebhookConfig, WebhookTrigger

Check = Callable[[ResolvedTask], Iterator[Diagnostic]]

# Findings of these decide what the other checks can rely on.
FIRST: tuple[Check, ...] = (runtime.check, params.check)
CHECKS: tuple[Check, ...] = (
    prompt.check,
    params_pedantic.check,
    triggers.check,
    schedule.check,
    schedule_pedantic.check,
    trust.check,
    environment.check,
    commands.check,
    models.check,
    overrides.check,
    plaintext_secrets.check,
)
_UNUSABLE_SCHEMA = frozenset({"OPT205", "OPT206", "OPT212", "OPT214"})


def _webhooks(task: ResolvedTask) -> list[WebhookConfig]:
    return [trigger.config for trigger in task.spec.triggers if isinstance(trigger, WebhookTrigger)]


def _may_use_secrets(task: ResolvedTask) -> bool:
    environment, template = task.spec.environment, ("$", "{{")
    texts = (*environment.setup_commands, *environment.env.values(), str(task.spec.command))
    if any(sign in text for text in texts for sign in template):
        return True
    if not environment.secrets:
        return False
    return bool(_webhooks(task)) or "$" in task.prompt or any(name in task.prompt for name in environment.secrets)


# Checks that few tasks need: the module, imported only for a task that needs it, and which tasks those are.
CONDITIONAL: dict[str, Callable[[ResolvedTask], bool]] = {
    "webhook": lambda task: bool(_webhooks(task)),
    "untrusted_input": lambda task: bool(_webhooks(task)),
    "samples": lambda task: bool(task.samples),
    "examples": lambda task: bool(task.spec.tests),
    "connections": lambda task: bool(task.connections),
    "dedupe": lambda task: task.spec.dedupe is not None,
    "pool": lambda task: bool(task.spec.warm_pool_size),
    "secrets_use": _may_use_secrets,
    "arguments": lambda task: isinstance(task.spec.command, list),
    "needed_hosts": lambda task: task.spec.environment.network is not None,
    "result": lambda task: task.spec.result is not None,
    "scheme": lambda task: bool(_webhooks(task)),
    "filters": lambda task: any(config.when is not None for config in _webhooks(task)),
    "deliveries": lambda task: any(config.param_mapping for config in _webhooks(task)),
}


def run(task: ResolvedTask, *, pedantic: bool = False) -> list[Diagnostic]:
    """Return every finding about one task, except below `task.gaps`, where an earlier stage has already reported the mistake.
    With `pedantic` the list includes advice: settings that are valid and could be better."""
    findings = [finding for check in FIRST for finding in check(task)]
    if any(finding.code in _UNUSABLE_SCHEMA for finding in findings):
        known_task = replace(task, gaps=task.gaps | {params.ROUTE})
    else:
        known_task = task
    findings = [finding for finding in findings if task.is_known(finding.route)]
    modules = [name for name, needs in CONDITIONAL.items() if needs(task)] + ["pedantic"] * pedantic
    checks = (*CHECKS, *(import_module(f"{__name__}.{name}").check for name in modules))
    return findings + [found for check in checks for found in check(known_task) if known_task.is_known(found.route)]
