"""Explain an unknown key: the key that was probably meant, the mapping where it belongs, or why Optio has no such key."""

import re
from typing import Any, NamedTuple

from optio.compiler.conversions.known_keys import fold_key, known_keys, suggest_referred_secret
from optio.compiler.conversions.schema_words import WORDS
from optio.compiler.suggest import rank_by_likeness, suggest
from optio.compiler.yaml.emit import flow
from optio.model.route import Route, show, value_at

_REPOSITORY_KEYS = frozenset(
    {
        *("repo", "repoUrl", "repoBranch", "repository", "repositoryUrl", "branch", "baseBranch", "autoMerge"),
        *("pullRequest", "gitRef"),
    }
)
_SET_BY_OPTIO = frozenset({"digest", "origin", "revision", "generation", "status", "createdAt", "updatedAt", "slug"})
# Keys that stand only at the top of a task.
_OF_TASKS = frozenset(
    {"agentRuntime", "promptTemplate", "promptFile", "paramsSchema", "budgetUsd", "maxTurns", "maxConcurrent"}
)


# Letters that look like Latin letters, with the Latin letter.
_LOOKALIKES = str.maketrans(
    "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456\u0458\u0455\u04bb\u0501\u051b\u0261\u03bf\u03b1\u03c1\u03bd\u0131\u0410\u0412\u0421\u0415\u041d\u0406\u0408\u041a\u041c\u041e\u0420\u0422\u0425\u0405\u0391\u0392\u0395\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a7\u0396",
    "aceopxyijshdqgoapviABCEHIJKMOPTXSABEHIKMNOPTXZ",
)  # fmt: skip


_TYPES = ("string", "integer", "number", "boolean", "array", "object")
_MAX_LISTED, _MAX_LIKELY = 8, 5
# Multi-line texts, in which a line may be indented too little.
_TEXTS = ("promptTemplate", "command", "description")


class UnknownKey(NamedTuple):
    """The finding for an unknown key. `meant` is the key that it probably stands for, `into` the sibling mapping that it
    belongs to, and `entry` the replacement for key and value. `sibling` is the key beside it that the cure writes, which is
    then not reported as missing."""

    code: str
    message: str
    hint: str
    meant: str | None = None
    into: str | None = None
    entry: str | None = None
    sibling: str | None = None


def explain_unknown_key(root: Any, route: Route) -> UnknownKey:
    """Return the code, message and cure for a key that the schema does not know at its route."""
    sibling_keys = known_keys(root, route[:-1])
    explained = _odd_spelling(route, sibling_keys) or _never_written(root, route) or _other_case(route, sibling_keys)
    explained = explained or _in_secret(root, route, sibling_keys) or _too_far_out(root, route) or _in_result(root, route)
    if explained is not None:
        return explained
    name = show(route)
    if (joined := _joined(root, route, sibling_keys)) is not None:
        return UnknownKey("OPT101", f"unknown key `{name}`", f"write a blank behind the colon: `{joined}`", entry=joined)
    if (text := _outdented(root, route)) is not None:
        hint = f"indent this line like the lines above it: it belongs to `{text}`"
        return UnknownKey("OPT101", f"unknown key `{name}`", hint)
    inner = value_at(root, route)
    if len(route) == 1 and isinstance(inner, dict) and not _OF_TASKS.isdisjoint(inner):
        return UnknownKey("OPT101", f"unknown key `{name}`", "move the keys below it to the top of the file")
    from optio.compiler.conversions.foreign_keys import explain_foreign_key  # imported only for a file with a mistake

    advice = explain_foreign_key(root, route)
    if advice is not None and len(route) == 1 and route[-1] in _REPOSITORY_KEYS:
        return UnknownKey("OPT109", f"`{name}` belongs to a Repo Task", advice.hint)
    if advice is not None:
        return UnknownKey("OPT101", f"unknown key `{name}`", *advice)
    return UnknownKey("OPT101", f"unknown key `{name}`", _without_equivalent(str(route[-1]), sibling_keys))


def _odd_spelling(route: Route, sibling_keys: list[str]) -> UnknownKey | None:
    """Return the finding for a key with a letter that only looks like one of the alphabet."""
    key = str(route[-1])
    plain_key = _folded(key)
    suggestion = plain_key if plain_key in sibling_keys else suggest(plain_key, sibling_keys)
    if plain_key == key or suggestion is None:
        return None
    odd = next(c for c in key if ord(c) > 127)
    message = f"`{show(route)}` holds the look-alike letter U+{ord(odd):04X}"
    return UnknownKey("OPT020", message, f"write `{suggestion}` in plain letters", suggestion)


def _never_written(root: Any, route: Route) -> UnknownKey | None:
    """Return the finding for a key that no task file has, whatever its value: for anchors, or what Optio sets."""
    key, name = str(route[-1]), show(route)
    if len(route) > 1:
        return None
    if re.fullmatch(r"(?:x-|\.)[\w-]+", key):
        hint = "no key holds values for others: write `&NAME` at the first use, or `type: template` in a file to extend"
        return UnknownKey("OPT101", f"unknown key `{name}`", hint)
    if key in _SET_BY_OPTIO:
        return UnknownKey("OPT116", f"`{name}` is set by Optio", "delete it; `enabled: false` turns a task off")
    if key == "namespace":
        hint = "delete it: `namespaces` in `_policy.yaml` gives namespaces to the paths of task files"
        return UnknownKey("OPT116", f"`{name}` is set by the policy", hint)
    return None


def _other_case(route: Route, keys: list[str]) -> UnknownKey | None:
    spelling = next((key for key in keys if fold_key(key) == fold_key(str(route[-1]))), None)
    return (
        UnknownKey("OPT111", f"`{show(route)}` is not the correct spelling", f"write `{spelling}`", spelling)
        if spelling
        else None
    )


def _in_secret(root: Any, route: Route, sibling_keys: list[str]) -> UnknownKey | None:
    """Return the finding for a key beside the name of a webhook's secret, or for a name that is not indented below it."""
    siblings, message = value_at(root, route[:-1]), f"unknown key `{show(route)}`"
    empty = next((key for key in ("secret", "previousSecret") if key in siblings and siblings[key] is None), None)
    if empty is not None and route[-1] == "name":
        return UnknownKey("OPT101", message, f"indent it deeper than `{empty}`, to which it belongs", sibling=empty)
    if route[-2:-1] not in (("secret",), ("previousSecret",)) or _joined(root, route, sibling_keys) is not None:
        return None
    if "name" in siblings:
        return UnknownKey("OPT101", message, "delete it: a secret is referred to by its name only")
    name = suggest_referred_secret(siblings[str(route[-1])]) or "NAME"
    return UnknownKey("OPT101", message, f"write `name: {name}`", sibling="name")


def _too_far_out(root: Any, route: Route) -> UnknownKey | None:
    """Return the finding for a key of `config` or `expect` that stands beside it."""
    key, name, inner = str(route[-1]), show(route), {"triggers": "config", "tests": "expect"}.get(str(route[0]))
    if len(route) != 3 or inner is None or key not in known_keys(root, (*route[:-1], inner)):
        return None
    siblings = value_at(root, route[:-1])
    if inner == "expect":
        entry = f"{{{key}: {flow(value_at(root, route))}}}"
        hint = "move it below `expect`" if inner in siblings else f"write `expect: {entry}`"
        return UnknownKey("OPT101", f"unknown key `{name}`", hint, into=inner, sibling=inner)
    config = value_at(root, (*route[:-1], inner))
    is_twice = isinstance(config, dict) and key in config
    hint = "write `config:` in this trigger, and move the key below it" if config is None else "move it below `config`"
    code, message = "OPT101", f"unknown key `{name}`"
    if key == "paramMapping":
        code, message = "OPT322", f"`{name}` is beside `config`, and is read only inside it"
    return UnknownKey(
        code, message, "delete it: `config` has one" if is_twice else hint, into=None if is_twice else inner, sibling=inner
    )


def _in_result(root: Any, route: Route) -> UnknownKey | None:
    """Return the finding for a keyword of a schema, or a field's type, that stands directly below `result`."""
    if route[:-1] != ("result",):
        return None
    key, result, message = str(route[-1]), root["result"], f"unknown key `{show(route)}`"
    if key in WORDS:
        return UnknownKey("OPT101", message, below_schema(root), sibling="schema")
    if "schema" in result or result[key] not in _TYPES:
        return None
    hint = f"write `{key}: {{type: {result[key]}}}` below `result.schema.properties`: a result has a JSON Schema"
    return UnknownKey("OPT101", message, hint, sibling="schema")


def below_schema(root: Any) -> str:
    """Return the hint for keywords of a schema that stand directly below `result`."""
    result = value_at(root, ("result",))
    if isinstance(result, dict) and "schema" in result:
        return "move it below `schema`"
    keys = [f"`{key}`" for key in result if key in WORDS] if isinstance(result, dict) else []
    *first, last = keys or ["the schema"]
    return f"write `schema:` below `result:`, and below that {', '.join(first)}{' and ' if first else ''}{last}"


def _without_equivalent(key: str, keys: list[str]) -> str:
    """Return the hint for a key that has no equivalent, so that its value is not lost unseen."""
    if not keys:
        return "Optio has no such key: delete it"
    likely = keys if len(keys) <= _MAX_LISTED else rank_by_likeness(key, tuple(keys), _MAX_LIKELY)
    allowed_text = (
        f"allowed here {'is' if len(likely) == 1 else 'are'} {'' if likely is keys else 'among others '}{', '.join(likely)}"
    )
    return f"Optio has no such key: delete it; {allowed_text}"


def _joined(root: Any, route: Route, sibling_keys: list[str]) -> str | None:
    """Return the entry that `{name:VALUE}` was meant to be; without a blank, YAML reads it as a key without a value."""
    word, colon, rest = str(route[-1]).partition(":")
    if not colon or not rest or word not in sibling_keys or value_at(root, route) is not None:
        return None
    return f"{word}: {rest.strip()}"


def _outdented(root: Any, route: Route) -> str | None:
    """Return the multi-line text before this key, if the key is its last line: `Format: five bullets`."""
    keys = list(root) if len(route) == 1 and isinstance(root, dict) else []
    if not keys or not _is_prose(str(route[-1])) or not isinstance(root[route[-1]], str | None):
        return None
    at = keys.index(route[-1])
    while at and _is_prose(str(keys[at - 1])):
        at -= 1
    before = keys[at - 1] if at else None
    value = root.get(before)
    return before if before in _TEXTS and isinstance(value, str) and "\n" in value else None


def _is_prose(key: str) -> bool:
    return re.fullmatch(r"[A-Z][a-z]*(?: [\w'-]+){0,5}", key) is not None


def _folded(key: str) -> str:
    return key.translate(_LOOKALIKES) if not key.isascii() else key
