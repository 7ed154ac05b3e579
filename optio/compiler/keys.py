"""Unknown keys: what was probably meant, and where a known key belongs."""

import re
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from optio.compiler.nearest import closest
from optio.model.route import Route, show, value_at
from optio.model.spec import Spec, keys_of, names_of
from optio.model.task import TaskSpec
from optio.model.trigger import ManualTrigger, ScheduleTrigger, Scheme, WebhookTrigger

TRIGGERS: dict[str, type[Spec]] = {"manual": ManualTrigger, "schedule": ScheduleTrigger, "webhook": WebhookTrigger}
SCHEMES = get_args(Scheme)
REPOSITORY_KEYS = frozenset(
    {
        "repo",
        "repoUrl",
        "repoBranch",
        "repository",
        "repositoryUrl",
        "branch",
        "baseBranch",
        "autoMerge",
        "pullRequest",
        "gitRef",
    }
)
RESERVED_KEYS = frozenset({"digest", "origin", "revision", "generation", "status", "createdAt", "updatedAt", "slug", "paused"})
# What other systems call it, without capitals and dashes: the key here that holds the same, or else what to do.
_ELSEWHERE_CALLED = {
    "prompt": "promptTemplate", "instructions": "promptTemplate", "systemprompt": "promptTemplate", "runtime": "agentRuntime",
    "agent": "agentRuntime", "engine": "agentRuntime", "params": "paramsSchema", "parameters": "paramsSchema",
    "inputs": "paramsSchema", "schema": "paramsSchema", "budget": "budgetUsd", "maxcost": "budgetUsd", "turns": "maxTurns",
    "concurrency": "maxConcurrent", "title": "name", "maintainer": "owner", "team": "owner", "contact": "owner",
    **dict.fromkeys(("retry", "retries", "maxattempts", "attempts", "backofflimit"), "maxRetries"),
}  # fmt: skip
# The same in the `config` of a trigger, whose key takes the value as it is.
_IN_CONFIG_CALLED = {
    **dict.fromkeys(("cron", "crontab", "schedule", "expression", "at", "scheduleinterval", "interval"), "cronExpression"),
    **dict.fromkeys(("tz", "zone", "timezoneid"), "timezone"),
    **dict.fromkeys(("provider", "source", "sender", "vendor", "type", "auth", "signature"), "scheme"),
    **dict.fromkeys(("filter", "condition", "if", "only"), "when"),
    **dict.fromkeys(("params", "parameters", "inputs", "mapping"), "paramMapping"),
    **dict.fromkeys(("url", "endpoint", "route", "hook"), "path"),
    **dict.fromkeys(("on", "eventtypes"), "events"),
    **dict.fromkeys(("secretref", "secretkeyref"), "secret"),
}
# What a webhook and a schedule have in another form.
_IN_WEBHOOK_ADVICE = {
    **dict.fromkeys(("branch", "branches"), "write `when: \"@.ref == 'refs/heads/main'\"`"),
    **dict.fromkeys(("types", "action", "actions"), "write `when: \"@.action == 'opened'\"`"),
}
_IN_SCHEDULE_ADVICE = {
    "concurrencypolicy": "write `overlap: skip` to leave out what falls into a run, `overlap: queue` to start it afterwards",
    **dict.fromkeys(("catchup", "startingdeadlineseconds"), "write `misfire: skip`, `last` or `all` for what was missed"),
    "suspend": "write `enabled: false` beside `config`",
}
# And in `startLimit`.
_IN_LIMIT_CALLED = {
    **dict.fromkeys(("max", "limit", "runs", "maxruns"), "count"),
    **dict.fromkeys(("window", "period", "interval", "every", "within"), "per"),
}
_TRIGGERS_CALLED = {
    **dict.fromkeys(("cron", "cronjob", "timer", "time", "interval", "periodic", "clock"), "schedule"),
    **dict.fromkeys(("http", "hook", "github", "gitlab", "event", "push", "pull_request", "delivery"), "webhook"),
    **dict.fromkeys(("api", "button", "hand", "workflow_dispatch", "dispatch", "ondemand", "on-demand"), "manual"),
}
_SAME_VALUE = frozenset({"promptTemplate", "agentRuntime", "name", "owner"})
_NUMBERS = frozenset({"maxConcurrent", "maxRetries"})
# Durations whose unit is in the name of the key.
_UNITS = {
    **dict.fromkeys(("timeoutminutes", "timeoutinminutes", "timeoutmins"), "m"),
    **dict.fromkeys(("timeoutseconds", "timeoutinseconds", "timeoutsecs", "activedeadlineseconds"), "s"),
}
_ADVICE = {
    **dict.fromkeys(("schedule", "cron", "cronexpression", "scheduleinterval"),
        "write `triggers: [{type: schedule, config: {cronExpression: \"0 9 * * 1\"}}]`"),
    **dict.fromkeys(("webhook", "webhooks", "hook"),
        "write `triggers: [{type: webhook, config: {path: my-path, secret: {name: NAME}}}]`"),
    **dict.fromkeys(("steps", "script", "run", "setup"),
        "what runs before the agent goes below `environment.setupCommands`; a task that is a program has `command:`"),
    "suspend": "to switch a trigger off, write `enabled: false` in it",
    "maxduration": "write `timeout: 20m`",
    "spec": "move what is below it to the top of the file",
    "metadata": "write `name:` and what else a task has at the top of the file",
    "trigger": "write `triggers:` and a list: `- type: manual`",
    **dict.fromkeys(("tools", "mcpservers", "mcp", "allowedtools", "permissions"), "delete it: agents bring their own tools"),
}  # fmt: skip
# What a pod is never given, wherever it is asked for.
_NEVER = frozenset(
    {
        *("privileged", "securityContext", "hostPath", "hostNetwork", "hostPID", "hostIPC", "volumes", "volumeMounts"),
        *("capabilities", "runAsUser", "runAsRoot", "allowPrivilegeEscalation", "serviceAccount", "serviceAccountName"),
        *("automountServiceAccountToken", "nodeName", "docker", "dockerSocket"),
    }
)
_SECRET_NAMED = re.compile(
    r"\$\{\{ *secrets\.([A-Za-z_]\w{0,99}) *\}\}|(?:env:)?\$\{?([A-Za-z_]\w{0,99})\}?"
    r"|(?:env:)?([A-Z][A-Z0-9]{1,30}(?:_[A-Z0-9]{1,30}){1,8})",
    re.ASCII,
)
# Letters that look like Latin ones, by what they look like.
_LOOKALIKES = str.maketrans(
    "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456\u0458\u0455\u04bb\u0501\u051b\u0261\u03bf\u03b1\u03c1\u03bd\u0131\u0410\u0412\u0421\u0415\u041d\u0406\u0408\u041a\u041c\u041e\u0420\u0422\u0425\u0405\u0391\u0392\u0395\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a7\u0396",
    "aceopxyijshdqgoapviABCEHIJKMOPTXSABEHIKMNOPTXZ",
)  # fmt: skip


class Unknown(NamedTuple):
    """What is said of a key that the schema does not know at its place; `meant` is the key that it stands for, probably, and
    `into` the mapping beside it that it belongs into."""

    code: str
    message: str
    hint: str
    meant: str | None = None
    into: str | None = None


def trigger_meant(word: str) -> str | None:
    """The trigger that a word stands for, probably."""
    return _TRIGGERS_CALLED.get(word.lower()) or closest(word.lower(), TRIGGERS)


def secret_meant(text: Any) -> str | None:
    """The secret whose name a text is, in capitals or in what other systems write around it. The text itself may be one."""
    named = _SECRET_NAMED.fullmatch(text) if isinstance(text, str) else None
    return named and next(filter(None, named.groups()))


def unknown(root: Any, route: Route) -> Unknown:
    """Why it is unknown."""
    key, name = str(route[-1]), show(route)
    known = known_keys(root, route[:-1])
    folded = _folded(key)
    if folded != key and (folded in known or closest(folded, known)):
        odd = next(c for c in key if ord(c) > 127)
        meant = closest(folded, known) or folded
        message, hint = f"`{name}` holds the look-alike letter U+{ord(odd):04X}", f"write `{meant}` in plain letters"
        return Unknown("OPT020", message, hint, meant)
    if len(route) == 1 and key in REPOSITORY_KEYS:
        return Unknown("OPT109", f"`{name}` belongs to a Repo Task", "delete it: a standalone task has no repository")
    if key in _NEVER:
        hint = "delete it: a run has no privileges, no service account and nothing of its node, whatever its task says"
        return Unknown("OPT101", f"unknown key `{name}`", hint)
    if len(route) == 1 and key in RESERVED_KEYS:
        return Unknown("OPT116", f"`{name}` is set by Optio", "delete it")
    if len(route) == 1 and (called := _called(root, key)) is not None:
        return Unknown("OPT101", f"unknown key `{name}`", *called)
    same = next((k for k in known if _plain(k) == _plain(key)), None)
    if same:
        return Unknown("OPT111", f"`{name}` is spelled otherwise", f"write `{same}`", same)
    if (told := _deeper(root, route, name, known)) is not None:
        return told
    inward = len(route) == 3 and route[0] == "triggers" and key in known_keys(root, (*route[:-1], "config"))
    below = value_at(root, (*route[:-1], "config")) if inward else None
    doubled = isinstance(below, dict) and key in below
    hint, into = ("delete it: `config` has one", None) if doubled else ("move it below `config`", "config")
    if inward and key == "paramMapping":
        return Unknown("OPT322", f"`{name}` stands beside `config`", hint, into=into)
    near = closest(key, known)
    if near:
        return Unknown("OPT101", f"unknown key `{name}`", f"did you mean `{near}`?", near)
    if inward:
        return Unknown("OPT101", f"unknown key `{name}`", hint, into=into)
    into = "environment" if len(route) == 1 and key in _places()["environment",] else None
    return Unknown("OPT101", f"unknown key `{name}`", _elsewhere(route, key) or "delete it", into=into)


def _deeper(root: Any, route: Route, name: str, known: list[str]) -> Unknown | None:
    """What other systems have below a key of ours."""
    beside, key, place = value_at(root, route[:-1]), str(route[-1]), route[:-1]
    if place[-1:] in (("secret",), ("previousSecret",)):
        hint = "delete it: a secret is given by its name alone" if "name" in beside else f"write `name: {_named(beside[key])}`"
        return Unknown("OPT101", f"unknown key `{name}`", hint)
    ours = _IN_LIMIT_CALLED.get(_plain(key)) if place == ("startLimit",) else None
    if place[:1] == ("triggers",) and place[2:] == ("config",):
        ours = _IN_CONFIG_CALLED.get(_plain(key))
    advice = (
        _IN_WEBHOOK_ADVICE if "when" in known and "when" not in beside else _IN_SCHEDULE_ADVICE if "misfire" in known else {}
    )
    if (told := advice.get(_plain(key))) is not None:
        return Unknown("OPT101", f"unknown key `{name}`", told)
    if ours is None or ours not in known:
        return None
    if ours in beside:
        return Unknown("OPT101", f"unknown key `{name}`", f"delete it: `{ours}` is there")
    if ours != "scheme":
        return Unknown("OPT101", f"unknown key `{name}`", f"write `{ours}:`", ours)
    if beside[key] in SCHEMES:
        return Unknown("OPT101", f"unknown key `{name}`", f"write `scheme: {beside[key]}`", ours)
    return None


def _called(root: Any, key: str) -> tuple[str, str | None] | None:
    """What to do with a key that other systems have, and the one that takes its value as it is."""
    plain, value = _plain(key), root[key]
    ours = "timeout" if plain in _UNITS else _ELSEWHERE_CALLED.get(plain)
    if ours is None:
        return (_ADVICE[plain], None) if plain in _ADVICE else None
    if ours in root:
        return f"delete it: `{ours}` is there", None
    if plain in _UNITS:
        return f"write `timeout: {value if type(value) is int else 20}{_UNITS[plain]}`", None
    if ours in _NUMBERS and isinstance(value, dict):
        number = next((each for each in value.values() if type(each) is int), 1)
        return f"write `{ours}: {number}`", None
    return f"write `{ours}:`", ours if ours in _SAME_VALUE else None


def _named(value: Any) -> str:
    """The name of the secret in what other systems name one by."""
    while isinstance(value, dict) and value:
        value = value.get("name", next(iter(value.values())))
    return secret_meant(value) or "NAME"


def _elsewhere(route: Route, key: str) -> str | None:
    """Where the schema does know this key."""
    for place, keys in _places().items():
        if key in keys and place != route[:-1]:
            form = key + ": ..."
            for step in reversed(place):
                form = f"{step}: {{{form}}}"
            return f"it belongs below `{show(place)}`: write `{form}`" if place else "it belongs at the top of the file"
    return None


@lru_cache(maxsize=1)
def _places() -> dict[Route, list[str]]:
    places: dict[Route, list[str]] = {(): names_of(TaskSpec)}
    for key in keys_of(TaskSpec):
        model = _model_in(key.annotation)
        if model is not None and key.written not in ("triggers", "tests"):
            places[(key.written,)] = names_of(model)
            for inner in keys_of(model):
                deeper = _model_in(inner.annotation)
                if deeper is not None:
                    places[(key.written, inner.written)] = names_of(deeper)
    return places


def known_keys(root: Any, parent: Route) -> list[str]:
    """The keys that the schema knows at `parent`."""
    model: type[Spec] | None = TaskSpec
    value = root
    for index, step in enumerate(parent):
        value = _step(value, step)
        if isinstance(step, int):
            if parent[index - 1] == "triggers":
                model = TRIGGERS.get(str(value.get("type"))) if isinstance(value, dict) else None
        elif model is not None:
            if step == "triggers" and index == 0:
                continue
            model = next((_model_in(key.annotation) for key in keys_of(model) if key.written == step), None)
    return names_of(model) if model is not None else []


def _step(value: Any, step: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(str(step))
    return value[step] if isinstance(value, list) and isinstance(step, int) and step < len(value) else None


def _model_in(annotation: Any) -> type[Spec] | None:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return annotation
    if get_origin(annotation) in (Annotated, Union, UnionType, list):
        return next((found for part in get_args(annotation) if part is not NoneType and (found := _model_in(part))), None)
    return None


def _plain(key: str) -> str:
    return re.sub(r"[_\-\s]", "", key).lower()


def _folded(key: str) -> str:
    return key.translate(_LOOKALIKES) if not key.isascii() else key
