"""Say what to write for an unknown key. `foreign_keys.json` has the keys of other systems, one row a line. A value is proposed
only where the meaning of the key, of its value and of the keys beside it is certain. Imported only for a file with a
mistake."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from optio.compiler.conversions.known_keys import fold_key, key_places, known_keys, model_at
from optio.compiler.conversions.values import convert
from optio.compiler.source import SourceFile
from optio.compiler.suggest import suggest
from optio.compiler.token_shapes import find_tokens
from optio.compiler.validation import find_issues, required_keys
from optio.compiler.yaml.document import parse
from optio.compiler.yaml.emit import flow
from optio.model.route import Route, show, value_at
from optio.model.spec import keys_of

TASK, TRIGGER = "task", "trigger"
_IN_SCHEDULE = "schedule:"
_LEVELS: dict[Route, str] = {
    (): TASK, ("environment",): "environment", ("environment", "network"): "network",
    ("environment", "resources"): "resources", ("environment", "resources", "requests"): "resources",
    ("environment", "resources", "limits"): "resources", ("startLimit",): "startLimit", ("dedupe",): "dedupe",
    ("result",): "result",
}  # fmt: skip
_MAX_SHOWN = 200
# Shorter words resemble too many others.
_MIN_GUESSED = 5
# From here on a word is a slip of another one, and its value keeps its meaning; `maxTurnTime` is no `maxTurns`.
_SLIP, _SHORT_SLIP = 0.84, 0.8


class KeyRow(msgspec.Struct, frozen=True):
    """Keys of other systems that mean the same. `at` are the mappings where they stand, and `names` are folded: lower case,
    without `_`, `-` and blanks. `ours` is the key of Optio as a path: from the same mapping, with `/` from the top, with `^`
    from the mapping around it, with `schedule:` from the config of a schedule. `kind` names the converter of the value; a
    `note` is a text that stands alone."""

    at: str
    names: str
    ours: str = ""
    kind: str = ""
    text: str = ""


class KeyAdvice(NamedTuple):
    """The advice for an unknown key: the hint, and where it is certain the key `meant` if only the name changes, the mapping
    `into` which it moves, or the `entry` that replaces key and value. `sibling` is the key beside it that the hint names."""

    hint: str
    meant: str | None = None
    into: str | None = None
    entry: str | None = None
    sibling: str | None = None


@cache
def _rows() -> dict[tuple[str, str], KeyRow]:
    rows = msgspec.json.decode(Path(__file__).with_name("foreign_keys.json").read_bytes(), type=list[KeyRow])
    return {(level, name): row for row in rows for level in row.at.split() for name in row.names.split()}


def find_row(level: str, name: str) -> KeyRow | None:
    """Return the row of a folded name in the mapping of a level, such as `environment`."""
    return _rows().get((level, name))


def is_of_another_program(keys: Iterable[str]) -> bool:
    """Return True if none of the keys is one of a task, resembles one, or is in the table: the file is no task."""
    known_names = known_keys({}, ())
    return not any(
        key in known_names or find_row(TASK, fold_key(key)) or (len(key) >= _MIN_GUESSED and suggest(key, known_names))
        for key in keys
    )


def explain_foreign_key(root: Any, route: Route) -> KeyAdvice | None:
    """Return what to write for the unknown key at the route, or None. In order: the table, a similar key of this mapping, a
    missing key of this mapping, and a key of another mapping."""
    key, parent = str(route[-1]), route[:-1]
    if (placed := _row_at(root, route)) is not None:
        row, base = placed
        return _by_row(root, route, row, base)
    sibling_keys = known_keys(root, parent)
    near = suggest(key, sibling_keys)
    if near is not None and SequenceMatcher(None, key, near).ratio() >= (_SLIP if len(key) >= _MIN_GUESSED else _SHORT_SLIP):
        place = (*parent, near)
        return KeyAdvice(
            f"did you mean `{near}`?", near if _fits(root, place, flow(value_at(root, route))) else None, sibling=near
        )
    if (missing := _missing_key(root, parent, fold_key(key))) is not None:
        return KeyAdvice(f"did you mean `{missing}`?", missing)
    return _in_other_mapping(root, route)


def level_of(root: Any, parent: Route) -> str:
    """Return the level of the table that a mapping belongs to, such as `environment`."""
    if parent[:1] == ("tests",):
        return "expect" if parent[-1] == "expect" else "tests"
    if parent[:1] == ("triggers",) and len(parent) == 3:
        return str(value_at(root, (*parent[:-1], "type")))
    return TRIGGER if parent[:1] == ("triggers",) and len(parent) == 2 else _LEVELS.get(parent, "")


def _row_at(root: Any, route: Route) -> tuple[KeyRow, Route] | None:
    """Return the row of a key and the route that its `ours` begins at. A key may stand too deep, or beside the config that it
    belongs to."""
    parent, folded_key = route[:-1], fold_key(str(route[-1]))
    level = level_of(root, parent)
    bases = [(level, parent)]
    if level == TRIGGER:
        bases.append((str(value_at(root, (*parent, "type"))), (*parent, "config")))
    for level, base in (*bases, (TASK, ())):
        if (row := find_row(level, folded_key)) is not None:
            return row, base
    return None


def _by_row(root: Any, route: Route, row: KeyRow, base: Route) -> KeyAdvice:
    if row.kind == "note":
        return KeyAdvice(row.text)
    if not row.ours:
        return KeyAdvice(f"{deletion(root, route)}: {row.text}")
    trigger, _, name = row.ours.rpartition(":")
    if trigger:
        return _in_trigger(root, route, row, trigger, name)
    base = () if name[0] == "/" else base[:-1] if name[0] == "^" else base
    place = (*base, *name.lstrip("/^").split("."))
    text = None if _has_rival(root, route, row.ours) else convert(row.kind, str(place[-1]), value_at(root, route))
    if place == ("command",) and root.get("agentRuntime") != "command":
        text = None
    return _at_place(root, route, place, text, row.text)


def _has_rival(root: Any, route: Route, ours: str) -> bool:
    """Return True if another unknown key leads to the same key: then neither of their values is the whole meaning."""
    return ours in _beside(root, route)


def _beside(root: Any, route: Route) -> list[str]:
    """Return where the other keys of the mapping lead by the table."""
    rows = (_row_at(root, (*route[:-1], key)) for key in value_at(root, route[:-1]) if key != route[-1])
    return [placed[0].ours for placed in rows if placed is not None]


def _at_place(root: Any, route: Route, place: Route, text: str | None, why: str = "") -> KeyAdvice:
    """Return the advice for a key whose equivalent is the key at `place`, with the converted value if it is certain."""
    parent, last = place[:-1], str(place[-1])
    after = f"; {why}" if why else ""
    siblings = value_at(root, parent)
    if isinstance(siblings, dict) and last in siblings:
        return KeyAdvice(f"delete this key: `{show(place)}` is there already, and takes its value if you mean that")
    value = value_at(root, route)
    if parent == route[:-1] and isinstance(value, (str, list, dict)) and text == flow(value) and _fits(root, place, text):
        return KeyAdvice(f"write `{last}:`{after}", last)
    if text is None or not _may_be_shown(text) or not _fits(root, place, text):
        sibling = str(place[len(route) - 1]) if place[: len(route) - 1] == route[:-1] else None
        hint = f"the nearest key is {_named(route, place)}: write it if you mean that{after}"
        return KeyAdvice(hint, sibling=sibling)
    entry = f"{last}: {text}"
    while parent != route[:-1] and parent and not isinstance(value_at(root, parent), dict):
        entry, parent = f"{parent[-1]}: {{{entry}}}", parent[:-1]
    if parent == route[:-1]:
        return KeyAdvice(f"write `{entry}`{after}", entry=entry)
    place_text = f"below `{show(parent)}`" if parent else "at the top of the file"
    return KeyAdvice(f"write `{entry}` {place_text}, and {deletion(root, route)}{after}")


def _named(route: Route, place: Route) -> str:
    parent = place[:-1]
    if parent == route[:-1]:
        return f"`{place[-1]}`"
    return f"`{place[-1]}` below `{show(parent)}`" if parent else f"`{place[-1]}` at the top of the file"


def _in_trigger(root: Any, route: Route, row: KeyRow, kind: str, name: str) -> KeyAdvice:
    """Return the advice for a key at the top of a file that belongs into the config of a trigger."""
    triggers = value_at(root, ("triggers",))
    kinds = [value_at(trigger, ("type",)) for trigger in triggers] if isinstance(triggers, list) else []
    text = None if _has_rival(root, route, row.ours) else convert(row.kind, name, value_at(root, route))
    if kind in kinds:
        return _at_place(root, route, ("triggers", kinds.index(kind), "config", name), text, row.text)
    is_alone = "triggers" not in root and not any(ours.startswith(_IN_SCHEDULE) for ours in _beside(root, route))
    if name == "cronExpression" and text is not None and is_alone:
        entry = f"triggers: [{{type: schedule, config: {{cronExpression: {text}}}}}]"
        return KeyAdvice(f"write `{entry}`", entry=entry)
    after = f"; {row.text}" if row.text else ""
    return KeyAdvice(f"the nearest key is `{name}` in the `config` of a {kind}: write it if you mean that{after}")


def deletion(root: Any, route: Route) -> str:
    """Return how to delete a key: with the mapping around it, if that would be left empty."""
    parent = value_at(root, route[:-1])
    is_alone = isinstance(parent, dict) and len(parent) == 1 and len(route) > 1 and isinstance(route[-2], str)
    return f"delete `{route[-2]}` with it" if is_alone else "delete it"


def _in_other_mapping(root: Any, route: Route) -> KeyAdvice | None:
    """Return the advice for a key that the schema knows in another mapping."""
    key = str(route[-1])
    for place, keys in key_places().items():
        if key in keys and place != route[:-1]:
            text = flow(value_at(root, route))
            if len(route) == 1 and place == ("environment",) and _fits(root, (*place, key), text):
                return KeyAdvice("move it below `environment`", into="environment")
            # A key of this name may hold a secret itself elsewhere.
            return _at_place(root, route, (*place, key), None if key == "key" else text)
    triggers = ("schedule", "webhook")
    configs = ((kind, known_keys({"triggers": [{"type": kind}]}, ("triggers", 0, "config"))) for kind in triggers)
    kind = next((kind for kind, keys in configs if key in keys), None)
    if kind is None or len(route) != 1:
        return None
    converter = {"cronExpression": "cron", "timezone": "text"}.get(key, "")
    return _in_trigger(root, route, KeyRow(TASK, key, f"{kind}:{key}", converter), kind, key)


def _missing_key(root: Any, parent: Route, word: str) -> str | None:
    """Return the required key of this mapping that the word resembles, in whole or in its first part (`promt`)."""
    model, siblings = model_at(root, parent), value_at(root, parent)
    if model is None or len(word) < _MIN_GUESSED:
        return None
    required = required_keys(model)
    if not parent and not {"promptTemplate", "promptFile", "command"} & set(siblings):
        required.append("promptTemplate")
    parts = {re.split("[A-Z]", name)[0]: name for name in required if name not in siblings}
    near = suggest(word, parts)
    return None if near is None else parts[near]


def _may_be_shown(text: str) -> bool:
    may_be_secret = re.search(r"(?i)(?:token|passw(?:or)?d|api_?key|secret)['\"]?:\s*[^\s{]", text) is not None
    return len(text) <= _MAX_SHOWN and "\n" not in text and not may_be_secret and not any(find_tokens("", text))


def _fits(root: Any, place: Route, text: str) -> bool:
    """Return True if Optio's key takes the value."""
    model = model_at(root, place[:-1])
    key = None if model is None else next((key for key in keys_of(model) if key.written == place[-1]), None)
    document, _ = parse(SourceFile("", f"it: {text}\n".encode()))
    return key is not None and document is not None and not any(find_issues(document.value["it"], key.annotation))
