"""Unknown keys: what was probably meant, and where a known key belongs."""

import re
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from optio.compiler.nearest import closest, likely
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
RESERVED_KEYS = frozenset({"digest", "origin", "revision", "generation", "status", "createdAt", "updatedAt", "slug"})
_TRIGGERS_CALLED = {
    **dict.fromkeys(("cron", "cronjob", "timer", "time", "interval", "periodic", "clock"), "schedule"),
    **dict.fromkeys(("http", "hook", "github", "gitlab", "event", "push", "pull_request", "delivery"), "webhook"),
    **dict.fromkeys(("api", "button", "hand", "workflow_dispatch", "dispatch", "ondemand", "on-demand"), "manual"),
}
# Parts of what others call them, such as `io.kestra.plugin.core.trigger.Schedule` and `n8n-nodes-base.webhook`.
_TRIGGER_STEMS = (
    *(("schedule", "schedule"), ("cron", "schedule"), ("timer", "schedule"), ("webhook", "webhook"), ("http", "webhook")),
    *(("github", "webhook"), ("dispatch", "manual"), ("manual", "manual")),
)
# What a pod is never given, wherever it is asked for.
_NEVER = frozenset(
    {
        *("privileged", "securityContext", "hostPath", "hostNetwork", "hostPID", "hostIPC"),
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
_MOST_LISTED, _MOST_LIKELY = 8, 5


class Unknown(NamedTuple):
    """What is said of a key that the schema does not know at its place; `meant` is the key that it stands for, probably, `into`
    the mapping beside it that it belongs into, and `entry` what to write for it and its value."""

    code: str
    message: str
    hint: str
    meant: str | None = None
    into: str | None = None
    entry: str | None = None


def trigger_meant(word: str) -> str | None:
    """The trigger that a word stands for, probably."""
    word = word.lower()
    part = next((kind for stem, kind in _TRIGGER_STEMS if stem in word), None)
    return _TRIGGERS_CALLED.get(word) or closest(word, TRIGGERS) or part


def secret_meant(text: Any) -> str | None:
    """The secret whose name a text is, in capitals or in what other systems write around it. The text itself may be one."""
    named = _SECRET_NAMED.fullmatch(text) if isinstance(text, str) else None
    return named and next(filter(None, named.groups()))


def unknown(root: Any, route: Route) -> Unknown:
    """Return what is wrong with a key that is not known at its place, and the cure."""
    key, name = str(route[-1]), show(route)
    known = known_keys(root, route[:-1])
    folded = _folded(key)
    if folded != key and (folded in known or closest(folded, known)):
        odd = next(c for c in key if ord(c) > 127)
        meant = closest(folded, known) or folded
        message, hint = f"`{name}` holds the look-alike letter U+{ord(odd):04X}", f"write `{meant}` in plain letters"
        return Unknown("OPT020", message, hint, meant)
    if len(route) == 1 and re.fullmatch(r"(?:x-|\.)[\w-]+", key):
        hint = (
            "no key here keeps values for others: write `&NAME` where one stands first, or `type: template` in a file to extend"
        )
        return Unknown("OPT101", f"unknown key `{name}`", hint)
    if key in _NEVER:
        hint = "delete it: a run has no privileges, no service account and nothing of its node, whatever its task says"
        return Unknown("OPT101", f"unknown key `{name}`", hint)
    if len(route) == 1 and key in RESERVED_KEYS:
        return Unknown("OPT116", f"`{name}` is set by Optio", "delete it")
    if len(route) == 1 and key == "namespace":
        hint = "delete it: `namespaces` in `_policy.yaml` gives namespaces to the paths of task files"
        return Unknown("OPT116", f"`{name}` is set by the policy", hint)
    same = next((k for k in known if plain(k) == plain(key)), None)
    if same:
        return Unknown("OPT111", f"`{name}` is spelled otherwise", f"write `{same}`", same)
    if route[-2:-1] in (("secret",), ("previousSecret",)):
        beside = value_at(root, route[:-1])
        hint = "delete it: a secret is given by its name alone" if "name" in beside else f"write `name: {_named(beside[key])}`"
        return Unknown("OPT101", f"unknown key `{name}`", hint)
    inward = len(route) == 3 and route[0] == "triggers" and key in known_keys(root, (*route[:-1], "config"))
    below = value_at(root, (*route[:-1], "config")) if inward else None
    doubled = isinstance(below, dict) and key in below
    hint, into = ("delete it: `config` has one", None) if doubled else ("move it below `config`", "config")
    if inward:
        code, message = ("OPT322", "stands beside `config`") if key == "paramMapping" else ("OPT101", "")
        return Unknown(code, f"`{name}` {message}" if message else f"unknown key `{name}`", hint, into=into)
    from optio.compiler.foreign import foreign  # only who made a mistake waits for it

    cure = foreign(root, route)
    if cure is not None and len(route) == 1 and key in REPOSITORY_KEYS:
        return Unknown("OPT109", f"`{name}` belongs to a Repo Task", cure.hint)
    if cure is not None:
        return Unknown("OPT101", f"unknown key `{name}`", cure.hint, cure.meant, cure.into, cure.entry)
    return Unknown("OPT101", f"unknown key `{name}`", _nothing(key, known))


def _nothing(key: str, known: list[str]) -> str:
    """The cure for a key that nothing here means: what it carries is not lost unseen."""
    if not known:
        return "no key here means it: delete it, or say it in the prompt if the agent should know"
    few = known if len(known) <= _MOST_LISTED else likely(key, known, _MOST_LIKELY)
    there = f"allowed here {'is' if len(few) == 1 else 'are'} {'' if few is known else 'among others '}{', '.join(few)}"
    return f"no key here means it: delete it, and say it in the prompt if the agent should know; {there}"


def _named(value: Any) -> str:
    """The name of the secret in what other systems name one by."""
    while isinstance(value, dict) and value:
        value = value.get("name", next(iter(value.values())))
    return secret_meant(value) or "NAME"


@lru_cache(maxsize=1)
def places() -> dict[Route, list[str]]:
    """The keys of each mapping of a task that has a place of its own, triggers and tests left out."""
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
    model = model_at(root, parent)
    return names_of(model) if model is not None else []


def model_at(root: Any, parent: Route) -> type[Spec] | None:
    """The model of the mapping at `parent`."""
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
    return model


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


def plain(key: str) -> str:
    """The key in small letters, without dashes, underscores and blanks."""
    return re.sub(r"[_\-\s]", "", key).lower()


def _folded(key: str) -> str:
    return key.translate(_LOOKALIKES) if not key.isascii() else key
