"""Untrusted: words of strangers on their way into the prompt, and deliveries that nobody has proved.

A signature proves who delivered, not who wrote: the title of an issue on a public repository is anybody's.
"""

import re
from collections.abc import Iterator
from typing import Any

from optio.compiler.checks.declared import Declared, declared
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolve import ResolvedTask
from optio.model.prompt import placeholders
from optio.model.route import Route
from optio.model.trigger import WebhookConfig, WebhookTrigger

# What strangers write, in the payloads of GitHub, GitLab, Sentry, Alertmanager, Jira, Linear, Slack, mail and their like: the
# last name of a path, or one above it.
_WORDS = frozenset(
    {
        *("title", "display_title", "body", "message", "description", "text", "content", "comment", "summary", "subject"),
        *("culprit", "note", "email", "label", "page_name", "head_branch", "reason", "username", "commit_message"),
    }
)
_BELOW = frozenset(
    {"annotations", "labels", "commonAnnotations", "commonLabels", "author", "committer", "metadata", "customer"}
)
_STEP = re.compile(r"\.([A-Za-z_]\w*)|\[['\"]([^'\"\]]+)['\"]\]")
_BOUND = frozenset({"enum", "const", "pattern"})
# An end that chance has made, such as the last twelve digits of a UUID, and one that was printed: that one everybody knows.
_RANDOM = re.compile(r"(?:.*-)?(?!7f3k9q2m4x8tz)(?=[a-z]*[0-9])[a-z0-9]{12,}")


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Every webhook of the task."""
    known = declared(task)
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index, "config")
        if not isinstance(trigger, WebhookTrigger) or not task.knows(route):
            continue
        yield from _guessable(task, (*route, "path"), trigger.config)
        if known is not None and trigger.config.param_mapping is not None and task.knows((*route, "paramMapping")):
            yield from _prompt(task, (*route, "paramMapping"), trigger.config.param_mapping, known)


def strangers_words(task: ResolvedTask) -> Iterator[str]:
    """Every path of a payload by which what a stranger has written reaches the prompt."""
    known = declared(task)
    for index, trigger in enumerate(task.spec.triggers):
        if known is not None and isinstance(trigger, WebhookTrigger):
            mapping = trigger.config.param_mapping or {}
            if task.knows(("triggers", index, "config", "paramMapping")):
                yield from (mapping[name] for name in _unbounded(task, mapping, known))


def _unbounded(task: ResolvedTask, mapping: dict[str, Any], known: Declared) -> Iterator[str]:
    if task.spec.agent_runtime == "command":
        return  # a program takes no instructions from its input
    used = set(placeholders(task.prompt))
    for name in (name for name, path in mapping.items() if name in used and isinstance(path, str) and _is_strangers(path)):
        sub = known.properties.get(name)
        if not isinstance(sub, dict) or not (_BOUND & set(sub) or sub.get("type") in ("integer", "number", "boolean")):
            yield name


def _prompt(task: ResolvedTask, route: Route, mapping: dict[str, Any], known: Declared) -> Iterator[Diagnostic]:
    for name in _unbounded(task, mapping, known):
        message = f"`{{{{{name}}}}}` puts into the prompt what a stranger has written: `{mapping[name]}`"
        hint = "map its number or id and let the agent fetch it, or bound it with `enum` or `pattern`"
        yield task.at("OPT414", message, (*route, name), hint=hint)


def _is_strangers(path: str) -> bool:
    steps = [a or b for a, b in _STEP.findall(path)] if path.startswith("$") else []
    # Who pushes to a branch may write to the repository; who proposes one from elsewhere need not.
    proposed = steps[-2:] == ["head", "ref"]
    return bool(steps) and (steps[-1] in _WORDS or proposed or any(step in _BELOW for step in steps[:-1]))


def _guessable(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    if config.unsigned and config.secret is None and not _RANDOM.fullmatch(config.path):
        message = f"whoever guesses `{config.path}` starts runs: deliveries are not signed"
        hint = "name a `secret:`, or end the path in `-` and what `openssl rand -hex 8` prints for you"
        yield task.at("OPT403", message, route, hint=hint)
