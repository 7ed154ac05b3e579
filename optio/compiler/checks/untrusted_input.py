"""Report text from strangers on its way into the prompt, and unsigned webhooks with a path that can be guessed."""

import re
from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import declared_parameters
from optio.compiler.resolved_task import ResolvedTask
from optio.model.route import Route
from optio.model.trigger import WebhookConfig, WebhookTrigger
from optio.model.untrusted import untrusted_params

# A random ending, such as the last twelve digits of a UUID, but not the one that the manual prints as an example.
_RANDOM = r"(?:.*-)?(?!7f3k9q2m4x8tz)(?=[a-z]*[0-9])[a-z0-9]{12,}"


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the unsigned webhooks of the task, each at its path."""
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index, "config")
        if isinstance(trigger, WebhookTrigger) and task.is_known(route):
            yield from _guessable(task, (*route, "path"), trigger.config)


def untrusted_parameters(task: ResolvedTask) -> dict[str, str]:
    """Return the parameters of the prompt that carry text written by strangers, with the path that each comes from
    (`optio.model.untrusted`). Empty while the schema or a mapping has an error."""
    parameters = declared_parameters(task) is not None and all(
        task.is_known(("triggers", index, "config", "paramMapping")) for index in range(len(task.spec.triggers))
    )
    return untrusted_params(task.spec, task.prompt) if parameters else {}


def check_prompt(task: ResolvedTask, route: Route) -> Iterator[Diagnostic]:
    """Report text from strangers that the mapping at `route` brings into the prompt. This is advice: with secrets and an open
    network beside it, OPT516 is reported always, and `optio plan` tells each such text when it is added."""
    for name, path in untrusted_parameters(task).items():
        message = f"`{{{{{name}}}}}` puts text from a stranger into the prompt: `{path}`"
        hint = "map its number or id and let the agent fetch it, or bound it with `enum` or `pattern`"
        yield task.at("OPT414", message, (*route, name), hint=hint)


def _guessable(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    if config.unsigned and config.secret is None and not re.fullmatch(_RANDOM, config.path):
        message = f"anyone who guesses `{config.path}` can start runs: deliveries are not signed"
        hint = "name a `secret:`, or end the path in `-` and the output of `openssl rand -hex 8`"
        yield task.at("OPT403", message, route, hint=hint)
