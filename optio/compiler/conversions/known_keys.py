"""The keys that the task model knows, by place, and the words that stand for a trigger or a secret. Used for suggestions about
unknown keys and values."""

import re
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from optio.compiler.suggest import suggest
from optio.model.route import Route
from optio.model.spec import Spec, keys_of, names_of
from optio.model.task import TaskSpec
from optio.model.trigger import ManualTrigger, ScheduleTrigger, WebhookTrigger

TRIGGERS: dict[str, type[Spec]] = {"manual": ManualTrigger, "schedule": ScheduleTrigger, "webhook": WebhookTrigger}
_FOREIGN_TRIGGERS = {
    **dict.fromkeys(("cron", "cronjob", "timer", "time", "interval", "periodic", "clock"), "schedule"),
    **dict.fromkeys(("http", "hook", "github", "gitlab", "event", "push", "pull_request", "delivery"), "webhook"),
    **dict.fromkeys(("api", "button", "hand", "workflow_dispatch", "dispatch", "ondemand", "on-demand"), "manual"),
}
# Parts of trigger names such as `io.kestra.plugin.core.trigger.Schedule` and `n8n-nodes-base.webhook`.
_TRIGGER_STEMS = (
    *(("schedule", "schedule"), ("cron", "schedule"), ("timer", "schedule"), ("webhook", "webhook"), ("http", "webhook")),
    *(("github", "webhook"), ("dispatch", "manual"), ("manual", "manual")),
)
_NAMED_VARIABLE = (
    r"(?a)\$\{\{ *secrets\.([A-Za-z_]\w{0,99}) *\}\}|(?:env:)?\$\{?([A-Za-z_]\w{0,99})\}?"
    r"|(?:env:)?([A-Z][A-Z0-9]{1,30}(?:_[A-Z0-9]{1,30}){1,8})"
)


def suggest_trigger(word: str) -> str | None:
    """Return the trigger type that a word of another system stands for (`cron`, `http`), or None."""
    word = word.lower()
    part = next((kind for stem, kind in _TRIGGER_STEMS if stem in word), None)
    return _FOREIGN_TRIGGERS.get(word) or suggest(word, TRIGGERS) or part


def suggest_secret_name(text: Any) -> str | None:
    """Return the secret's name in a text such as `${{ secrets.NAME }}`, `$NAME` or `NAME`. Returns None for other texts, which
    may be a secret themselves."""
    match = re.fullmatch(_NAMED_VARIABLE, text) if isinstance(text, str) else None
    return match and next(filter(None, match.groups()))


def suggest_referred_secret(value: Any) -> str | None:
    """Return the secret's name for a reference of another system: a name, or a Kubernetes object with the key in it, such as
    `{secretKeyRef: {name: shop-hook, key: SHOP_SECRET}}`. Texts that may be a secret themselves give None."""
    while isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    if isinstance(value, dict) and value.keys() == {"name", "key"}:
        return suggest_secret_name(value["key"]) or suggest_secret_name(value["name"])
    return suggest_secret_name(value)


@lru_cache(maxsize=1)
def key_places() -> dict[Route, list[str]]:
    """Return the keys of each mapping of a task, by route, without those of triggers and tests."""
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
    """Return the keys that the schema knows in the mapping at `parent`."""
    model = model_at(root, parent)
    return names_of(model) if model is not None else []


def model_at(root: Any, parent: Route) -> type[Spec] | None:
    """Return the model of the mapping at `parent`, or None where any key is allowed."""
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
        return next((model for part in get_args(annotation) if part is not NoneType and (model := _model_in(part))), None)
    return None


@lru_cache(maxsize=4096)
def fold_key(key: str) -> str:
    """Return the key in lower case, without dashes, underscores and blanks."""
    return re.sub(r"[_\-\s]", "", key).lower()


CREDENTIAL_NAME = r"(?i)(?:^|_)(?:TOKEN|PASSWORD|PASSWD|SECRET|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIALS?)(?:$|_)"
