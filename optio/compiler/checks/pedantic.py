"""Advice of `--strict`: settings that are valid and that a reviewer would ask about, such as a task without a budget, a
timeout, an owner or a pinned image. Nothing here runs unless `pedantic` is asked for."""

import re
from collections.abc import Iterator

from optio.compiler.checks import models, pinned, secrets_use, untrusted_input
from optio.compiler.diagnostics import Diagnostic, Fix
from optio.compiler.edits import fix_edits
from optio.compiler.param_schema.declared import declared_parameters
from optio.compiler.resolved_task import ResolvedTask
from optio.model.prompt import placeholders
from optio.model.route import Route
from optio.model.trigger import WebhookConfig, WebhookTrigger

_URL = re.compile(
    r"(?:^|[._'\"])(?:[a-z]*_)?(?:url|uri|href|link|webhook)['\"\]]*$|[a-z](?:Url|URL|Uri|URI|Link)['\"\]]*$", re.ASCII
)
_PEOPLES_URL = re.compile(r"\.(?:homepage|blog|target_url|details_url|environment_url|log_url)$")
_DATED = re.compile(r"\d{6,8}|-\d{4}-\d{2}-\d{2}|@\d|latest-\d")


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report all advice about one task. What is absent is reported at the first key of the task."""
    spec = task.spec
    agent = spec.agent_runtime != "command"
    if agent and spec.budget_usd is None:
        hint = 'add `budgetUsd: "1.00"`, the most that one run may cost'
        message, fix = "no budget: the cost of a run has no limit", _added(task, 'budgetUsd: "1.00"')
        yield task.at("OPT601", message, ("budgetUsd",), key=True, hint=hint, fix=fix)
    if agent and spec.max_turns is None:
        yield task.at("OPT602", "no turn limit", ("maxTurns",), key=True, hint="add `maxTurns: 20`")
    if spec.timeout is None:
        message, fix = "no timeout: the server's default applies", _added(task, "timeout: 20m")
        yield task.at("OPT605", message, ("timeout",), key=True, hint="add `timeout: 20m`", fix=fix)
    if agent and spec.model is None:
        yield task.at(
            "OPT608",
            "no model: the agent uses its own default",
            ("model",),
            key=True,
            hint="add `model: sonnet`, or another one",
        )
    elif agent and spec.model is not None and not _DATED.search(spec.model):
        message = f"the model `{spec.model}` is an alias: it may stand for another model later"
        yield task.at("OPT608", message, ("model",), hint="name a dated version if the model must not change")
    if not spec.description.strip():
        yield task.at("OPT712", "no description", ("description",), key=True, hint="add `description: what the task is for`")
    if spec.owner is None:
        yield task.at("OPT712", "no owner", ("owner",), key=True, hint="add `owner: my-team`, here or in `_defaults.yaml`")
    if not spec.triggers:
        hint = "add `triggers:`, or `- type: manual` if that is intended"
        yield task.at("OPT323", "no trigger: only the API and the command line start it", ("triggers",), key=True, hint=hint)
    yield from models.check_credential(task)
    yield from _environment(task)
    yield from secrets_use.check_unused(task)
    yield from pinned.check(task)
    for index, trigger in enumerate(spec.triggers):
        if isinstance(trigger, WebhookTrigger) and spec.start_limit is None and spec.dedupe is None:
            message = "the webhook may start any number of runs in a day"
            hint = "add `startLimit: {count: 50, per: 24h}`"
            yield task.at("OPT611", message, ("triggers", index, "type"), hint=hint)
        if isinstance(trigger, WebhookTrigger):
            yield from _webhook(task, ("triggers", index, "config"), trigger.config)
            yield from _urls(task, ("triggers", index, "config", "paramMapping"), trigger.config)
            yield from untrusted_input.check_prompt(task, ("triggers", index, "config", "paramMapping"))


def _added(task: ResolvedTask, text: str) -> Fix | None:
    """Return a fix that adds one key above the prompt, or above another key that the task's own file has."""
    for key in ("promptTemplate", "promptFile", "command", "agentRuntime", "name"):
        if task.document.path_at((key,)) == task.path and (
            fix := fix_edits.insert_key_before(task.document, (key,), text, safe=False)
        ):
            return fix
    return None


def _webhook(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    if config.scheme == "github" and config.events is None and config.when is None:
        message = "every event of the repository starts a run, even a ping"
        yield task.at("OPT419", message, (*route, "events"), key=True, hint="add `events: [push]`, or a `when:`")
    unnumbered = config.scheme == "hmac" and config.delivery_header is None and not config.unsigned
    if unnumbered and config.replay_span is None and task.spec.dedupe is None:
        message = "a repeated delivery starts another run: it cannot be recognised"
        hint = "add `deliveryHeader:` if the sender numbers its deliveries, or a `dedupe:` key, or a `replayWindow`"
        yield task.at("OPT418", message, (*route, "replayWindow"), hint=hint)


def _urls(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    """Report mapped URLs that the sender chooses while the agent may reach any host. GitHub's own URLs are safe, except for the
    few that people write."""
    if task.spec.agent_runtime == "command" or not secrets_use.can_send_anywhere(task) or not task.is_known(route):
        return
    used, parameters = set(placeholders(task.prompt)), declared_parameters(task)
    for name, path in (config.param_mapping or {}).items() if parameters is not None else ():
        sub = parameters.properties.get(name) if parameters is not None else None
        bound = isinstance(sub, dict) and {"enum", "const", "pattern"} & set(sub)
        chosen = _PEOPLES_URL if config.scheme == "github" else _URL
        if name in used and isinstance(path, str) and chosen.search(path) and not bound:
            message = f"`{path}` is a URL that the sender chooses, and the agent may fetch any"
            hint = "list the hosts under `environment.network.egress`, or bound the URL with `pattern: ^https://example\\.com/`"
            yield task.at("OPT423", message, (*route, name), hint=hint)


def _environment(task: ResolvedTask) -> Iterator[Diagnostic]:
    environment = task.spec.environment
    if environment.network is None:
        hint = "add `environment: {network: {egress: [api.example.com]}}` with the hosts that it needs"
        yield task.at("OPT510", "the agent may reach every public address", ("environment", "network"), key=True, hint=hint)
    image = environment.image
    if image is not None and "@sha256:" not in image and "{{" not in image:
        tag = image.rsplit("/", 1)[-1].partition(":")[2]
        what = "names no version" if tag in ("", "latest") else "may change: a tag can be moved"
        hint = f"write `{image.partition('@')[0]}@sha256:...`, with the digest that your registry shows"
        yield task.at("OPT501", f"the image `{image}` {what}", ("environment", "image"), hint=hint)
