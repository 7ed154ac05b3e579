"""Compare what a parameter takes with the values that a sender puts at the mapped path: whole commit hashes, times, refs,
numbers of minor units. A field that is not known here may hold anything."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from optio.compiler.checks.filter_questions import is_in_samples
from optio.compiler.checks.sender_filters import BOOLEANS, KINDS
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import DeclaredParameters, declared_types
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.yaml.emit import flow
from optio.model.params import iter_faults
from optio.model.route import Route, value_at
from optio.model.trigger import WebhookConfig

_GITS = ("github", "gitea", "gitlab")
_PUSHES = frozenset({"push", "Push Hook", "Tag Push Hook"})
_MAX_SHOWN = 100
_LISTED = ("enum", "const", "pattern")


class _Shape(NamedTuple):
    """A field of a sender: the schemes and the path that have it, what it is, examples of which a parameter must take one, the
    keywords that fit, and a pattern for a sign that each value has: a list or pattern with that sign may fit other values."""

    schemes: tuple[str, ...]
    path: str
    what: str
    examples: tuple[str, ...]
    fits: dict[str, Any]
    sign: str = ""


_SHAPES = (
    _Shape(
        _GITS,
        r"(?:.+\.)?(?:sha|after|before|head_sha|merge_commit_sha|checkout_sha|commit_id)|(?:head_|last_|(?:.+\.)last_)commit\.id",
        "a whole hash of 40 digits",
        ("9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d5e6f7a80", "0f2c4d6e8a1b3c5d7e9f0a2b4c6d8e0f1a3b5c7d"),
        {"pattern": "^[0-9a-f]{40}$", "maxLength": 40, "minLength": 40},
    ),
    _Shape(
        ("github",),
        r".+\.(?:created|updated|closed|merged|published|starred|pushed|submitted)_at",
        "a time such as `2026-01-31T09:00:00Z`",
        ("2026-01-31T09:00:00Z", "2025-12-01T23:59:59Z"),
        {"format": "date-time", "maxLength": 20, "minLength": 20, "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]+Z$"},
        "T",
    ),
    _Shape(
        ("github", "gitea"),
        r"(?:.+\.)?full_name",
        "the owner and the name, such as `acme/app`",
        ("acme/app", "octo-org/hello", "Acme-Corp/Hello_World.js", "acme/storefront", "acme/payments"),
        {"pattern": "^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$"},
        "/",
    ),
    _Shape(
        ("stripe",),
        r"data\.object\.currency",
        "in small letters, such as `eur`",
        ("eur", "usd", "gbp", "chf", "jpy", "sek", "cad", "aud", "nok", "dkk", "pln", "brl", "inr", "sgd", "hkd", "nzd", "mxn"),
        {"pattern": "^[a-z]{3}$", "maxLength": 3, "minLength": 3},
        r"(?<!\\)[a-z]",
    ),
)
_REF = _Shape(
    _GITS,
    r"ref",
    "a whole ref, such as `refs/heads/main`",
    (
        "refs/heads/main",
        "refs/heads/master",
        "refs/tags/v1.2.3",
        "refs/heads/release/1.2",
        "refs/tags/1.0",
        "refs/heads/develop",
    ),
    {"pattern": "^refs/(heads|tags)/.+$"},
    "/",
)


def check(
    task: ResolvedTask, route: Route, steps: tuple[str, ...], config: WebhookConfig, known: DeclaredParameters
) -> Iterator[Diagnostic]:
    """Report a parameter that takes none of the values that the sender has at the path of its mapping."""
    name, path = str(route[-1]), ".".join(steps)
    sub = known.properties.get(name)
    if not isinstance(sub, dict) or is_in_samples(task, steps):
        return
    taken = declared_types(sub)
    kind = _kind(config.scheme, steps)
    if kind is not None:
        if taken is not None and not {kind, "number" if kind == "integer" else kind, "null"} & set(taken):
            is_money = config.scheme == "stripe" and "amount" in steps[-1]
            message = f"`$.{path}` is {'an integer' if kind == 'integer' else 'true or false'}"
            message += " of minor units, such as cents" if is_money else ""
            message += f", and `{name}` takes {' or '.join(taken)}: every delivery would be refused"
            place: Route = ("paramsSchema", "properties", name)
            yield task.at("OPT412", message, (*place, "type"), hint=f"write `{name}: {{type: {kind}}}`")
        return
    shapes = (*_SHAPES, *((_REF,) if config.events and set(config.events) <= _PUSHES else ()))
    shape = next((each for each in shapes if config.scheme in each.schemes and re.fullmatch(each.path, path)), None)
    if shape is None or taken is None or "string" not in taken:
        return
    for keyword in ("enum", "const", "pattern", "maxLength", "minLength", "format"):
        if (
            keyword not in sub
            or (keyword in _LISTED and _may_fit(shape.sign, sub[keyword]))
            or not all(_refuses({keyword: sub[keyword]}, each) for each in _examples(shape, sub))
        ):
            continue
        message = f"`$.{path}` is {shape.what}, which `{name}` does not take: every delivery would be refused"
        place = ("paramsSchema", "properties", name, keyword)
        yield task.at("OPT412", message, place if _is_there(task, place) else route, hint=_hint(shape, sub, keyword, name))
        return


def _may_fit(sign: str, given: Any) -> bool:
    """Return True if a list of values or a pattern may hold the sign of the field, so that it may take values beside the
    examples."""
    texts = [str(each) for each in (given if isinstance(given, list) else [given])]
    return bool(sign) and any(re.search(rf"{sign}|\.|\[\^|\\[SWDwpPx]", text) for text in texts)


def _kind(scheme: str, steps: tuple[str, ...]) -> str | None:
    """Return the type of a field that is no text, or None. `github` and `gitlab` compare the fields of theirs."""
    numbers = KINDS.get(scheme)
    if scheme in ("github", "gitlab") or numbers is None:
        return None
    if re.fullmatch(numbers, ".".join(steps)):
        return "integer"
    return "boolean" if steps[-1] in BOOLEANS and len(steps) > 1 and steps[-2] == "object" else None


def _examples(shape: _Shape, sub: dict[str, Any]) -> tuple[str, ...]:
    """Return the examples; for a list of currencies also its members in small letters."""
    return (
        *shape.examples,
        *(str(each) for each in sub.get("enum", ()) if str(each).islower() and shape.path.endswith("currency")),
    )


def _refuses(schema: dict[str, Any], value: str) -> bool:
    return next(iter(iter_faults(schema, value)), None) is not None


def _is_there(task: ResolvedTask, place: Route) -> bool:
    return value_at(task.document.value, place) is not None


def _hint(shape: _Shape, sub: dict[str, Any], keyword: str, name: str) -> str:
    if keyword in shape.fits:
        hint = f"write `{keyword}: {flow(shape.fits[keyword])}`"
        return f"{hint}, or map `$.repository.name`, the name alone" if "full_name" in shape.path else hint
    given = sub[keyword] if isinstance(sub[keyword], list) else [sub[keyword]]
    lower = [str(each).lower() for each in given]
    if "currency" in shape.path and len(shown := flow(lower)) <= _MAX_SHOWN:
        return f"write `enum: {shown}`"
    return f"delete `{keyword}`, or give `{name}` values of that form"
