"""Turn a `ValidationIssue` into a diagnostic: the message, the hint, and where possible a fix made of the wrong value. Imported
only for a file with a mistake; what takes longest to import is imported only where a value of another system is converted."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from optio.compiler.conversions.entries import as_entry, example_hint, repair_text
from optio.compiler.conversions.known_keys import CREDENTIAL_NAME, TRIGGERS, known_keys, suggest_secret_name, suggest_trigger
from optio.compiler.conversions.quantities import (
    CURLY,
    number_in,
    suggest_amount,
    suggest_duration,
    suggest_whole_number,
    unit_hint,
)
from optio.compiler.conversions.suggest_words import explain_choices, suggest_allowed_word, suggest_hmac_keys
from optio.compiler.conversions.values import mapping_of_texts, runtime, seconds, text, triggers, whole
from optio.compiler.diagnostics import Diagnostic, Edit, Fix, Severity, diagnostic
from optio.compiler.layers import POLICY, MergedDocument
from optio.compiler.param_schema.expected_type import NUMBER, SCHEMAS, expected_type, keyword_form
from optio.compiler.shape.unknown_keys import UnknownKey, below_schema, explain_unknown_key
from optio.compiler.source import Span
from optio.compiler.suggest import suggest
from optio.compiler.token_shapes import match_tokens
from optio.compiler.validation import LIST, MAPPING, SWITCH, TEXT, WHOLE, IssueKind, ValidationIssue
from optio.compiler.yaml.document import Document
from optio.compiler.yaml.emit import flow
from optio.compiler.yaml.scalars import decimal, single_quoted
from optio.model.route import Route, show, value_at
from optio.model.spec import portable
from optio.model.text import slug

# The hint, alone or with the value that a fix writes; None where only an example can be given.
_Cure = str | tuple[str, str] | None
_SECRETS = ("secret", "previousSecret")
_ONE_SCHEDULE = "a task has one schedule, so write one file for each of the others, with `extends:` for the common keys"
# Placeholders for secrets in documentation.
_PLACEHOLDER = r"(?i)\A(?:change[-_ ]?me|(?:my|your|the)[-_ ].*|secret|password|token|todo|x{3,}|<.*>|\[.*\]|\W*)\Z|\.{3}"
_MONEY = 'write the amount as text with at most four decimals, such as "2.50"'
_DURATION = "write hours, minutes and seconds: `90s`, `20m` or `1h30m`"
_A_UNIT = {"minute": "1m", "hour": "1h", "day": "24h", "week": "168h", "hourly": "1h", "daily": "24h", "weekly": "168h"}
_DURATIONS: tuple[Route, ...] = (
    ("timeout",),
    ("stallTimeout",),
    ("startLimit", "per"),
    ("dedupe", "window"),
    ("environment", "keepFailed"),
)
# Cures for 0 and -1 where other systems mean "no limit".
_NO_LIMIT: dict[Route, str] = {
    ("maxTurns",): "delete it for no limit",
    ("maxConcurrent",): "`100` if no limit was meant; to start nothing, write `enabled: false` and delete it",
}
_UNBOUNDED = ("unlimited", "infinite", "infinity", "none", "no", "off", "max", "inf")
# How other systems take a variable's value from a secret.
_REFERENCES = frozenset(
    {"valueFrom", "secretKeyRef", "secretRef", "secret", "from_secret", "fromSecret", "vault", "ssm", "configMapKeyRef"}
)
_OFF = ("no", "off", "0", "never", "none", "disabled", "n", "paused")
_ON = ("yes", "on", "1", "always", "enabled", "y", "active")
_RANKS = {
    **dict.fromkeys(("highest", "critical", "urgent", "blocker", "p0"), 100),
    **dict.fromkeys(("high", "important", "major", "p1"), 50),
    **dict.fromkeys(("normal", "medium", "default", "standard", "p2"), 0),
    **dict.fromkeys(("low", "minor", "p3", "background"), -50),
    **dict.fromkeys(("lowest", "trivial", "p4", "idle"), -100),
}
_OPEN_NETWORKS = ("host", "bridge", "default", "public", "open", "full", "any", "all", "internet", "true", "enabled", "on")
_LISTS_OF_MAPPINGS: tuple[Route, ...] = (("triggers",), ("tests",))
_TRIGGER_FORMS = {
    "manual": "{type: manual}",
    "schedule": '{type: schedule, config: {cronExpression: "0 9 * * 1"}}',
    "webhook": "{type: webhook, config: {path: my-path, secret: {name: NAME}}}",
}
_CONFIGS = {kind: form.partition(", ")[2][:-1] for kind, form in _TRIGGER_FORMS.items() if "config" in form}
_ALLOWED_TRIGGERS = f"allowed: {', '.join(_TRIGGER_FORMS)}"
_MAX_NAMES = 5
# Smaller numbers are unlikely to be bytes of memory.
_MIN_MEMORY_BYTES, _MIN_MEBIBYTES, _MAX_CORES = 1 << 20, 64, 256
_MAX_MADE, _MAX_ID = 200, 80
_ENV_NAME = "use letters, digits and underscores, no digit first"
# The name of a secret in words. Other texts in its place may be the secret itself and are not shown.
_SECRETS_NAME = r"(?i)[a-z]{2,15}(?:[-. ][a-z]{2,15}){0,4}[-. ](?:token|key|secret|password|credentials|url)"


@dataclass(frozen=True, slots=True)
class _Finding:
    """A `ValidationIssue` with its document, for the functions that explain one kind of mismatch each."""

    document: Document | MergedDocument
    kind: IssueKind
    route: Route
    value: Any
    wanted: Any

    @property
    def name(self) -> str:
        return show(self.route)

    @property
    def last(self) -> int | str:
        return self.route[-1] if self.route else ""

    @property
    def written(self) -> str | None:
        """Return the text of a value without quotes, as the file spells it."""
        return self.document.plain(self.route)

    @property
    def such_as(self) -> str:
        """Return `, such as` with an example of a value for this place, or nothing."""
        return example_hint(self.document.value, self.route)

    @property
    def example(self) -> str:
        """Return the key at this place with an example value."""
        return as_entry(self.document.value, self.route, self.document.path_at(self.route))

    @property
    def is_flow(self) -> bool:
        own, there = self.document.written(self.route)
        return own.is_flow(there)

    def at(
        self,
        code: str,
        message: str,
        hint: str | None = None,
        *,
        place: Route | None = None,
        key: bool = False,
        write: str | None = None,
        safe: bool = True,
        fix: Fix | None = None,
    ) -> Diagnostic:
        """Return the finding at the value, at its `key`, or at another `place`. The fix puts `write` there."""
        document, place = self.document, self.route if place is None else place
        span = document.key_span(place) if key else document.span(place)
        if key and hint is not None and code == "OPT101" and (alone := _parent_left_empty(document, place)) is not None:
            hint = hint.replace("delete it", f"delete `{alone}` with it", 1).replace("delete this line", f"delete `{alone}`", 1)
        elif key and hint is not None and code == "OPT101" and document.span(place).end.line > span.end.line:
            hint = hint.replace("delete this line", "delete this key with all that is below it")
        if write is not None:
            fix = Fix.write(write, span, safe=safe) if key else document.rewritten(place, write, safe=safe)
        return diagnostic(code, message, path=document.path_at(place), span=span, route=place, hint=hint, fix=fix)


def to_diagnostic(document: Document | MergedDocument, misfit: ValidationIssue, explained: UnknownKey | None) -> Diagnostic:
    """Return the finding for one mismatch between the document and the model, which is `explained` if it is an unknown key."""
    found = _Finding(document, *misfit)
    if explained is not None:
        return _unknown_key(found, explained)
    if found.kind in _OF_KEYS_AND_WORDS:
        return _OF_KEYS_AND_WORDS[found.kind](found)
    if found.last in _SECRETS and isinstance(found.value, str):
        return _bad_secret(found)
    if found.route == ("budgetUsd",):
        return _bad_money(found)
    if found.route in _DURATIONS or found.last == "replayWindow":
        return _bad_duration(found)
    return _OF_VALUES[found.kind](found)


def _unknown_key(found: _Finding, what: UnknownKey) -> Diagnostic:
    document, route = found.document, found.route
    write, fix = None, None
    if what.entry is not None:
        fix = _entry(document, route, what.entry)
    elif what.meant is not None and what.meant not in value_at(document.value, route[:-1]):
        write = what.meant
    elif what.into is not None:
        fix = _moved(document, route, what.into)
    return found.at(what.code, what.message, what.hint, key=True, write=write, safe=what.code == "OPT111", fix=fix)


def _missing_key(found: _Finding) -> Diagnostic:
    document, route = found.document, found.route
    trigger = str(value_at(document.value, (*route[:-1], "type"))) if found.last == "config" else ""
    hint = f"add `{_CONFIGS.get(trigger) or found.example}`"
    if found.last == "config" and _is_parted(document, int(route[-2])):
        hint = "delete the `- ` before the `config:` that follows, and indent it like `type`: it belongs to this trigger"
    if route == ("name",) and "templates" in document.path_at(route).split("/")[:-1]:
        hint += ", or `type: template` if tasks extend this file"
    return found.at("OPT102", f"`{found.name}` is missing", hint, key=True)


def _bad_secret(found: _Finding) -> Diagnostic:
    name, last = found.name, found.last
    if re.search(_PLACEHOLDER, found.value):
        hint = f"write `{last}: {{name: NAME}}`, and give that secret its own value: `openssl rand -hex 32`"
        return found.at("OPT406", f"`{name}` is a placeholder, not a secret", hint)
    if (secret := suggest_secret_name(found.value)) is not None:
        write = f"{{name: {secret}}}"
        hint = f"write `{last}: {write}`"
        return found.at("OPT103", f"`{name}` must be a mapping, not text", hint, write=write, safe=False)
    hint = f"write `{last}: {{name: NAME}}`, set OPTIO_SECRET_NAME for the server, and rotate this one: it has been exposed"
    return found.at("OPT405", f"`{name}` is a secret in plain text", hint)


def _blank(found: _Finding) -> Diagnostic:
    return found.at("OPT106", f"`{found.name}` is blank", f"write a text{found.such_as}, or delete the key")


def _too_long(found: _Finding) -> Diagnostic:
    code = "OPT107" if found.route in (("name",), ("id",)) else "OPT105"
    message = f"`{found.name}` is {len(found.value):,} characters long"
    return found.at(code, message, f"write at most {found.wanted} characters")


def _too_small(found: _Finding) -> Diagnostic:
    if found.last == "maxCatchUp" and found.value == 0:
        hint = "delete it, and write `misfire: skip` to catch up no runs"
    else:
        hint = f"write {found.wanted} or more" + (f", or {_NO_LIMIT[found.route]}" if found.route in _NO_LIMIT else "")
    return found.at("OPT105", f"`{found.name}` is {found.value}", hint)


def _too_large(found: _Finding) -> Diagnostic:
    return found.at("OPT105", f"`{found.name}` is {found.value}", f"write {found.wanted} or less")


def _parent_left_empty(document: Document | MergedDocument, route: Route) -> str | None:
    """Return the mapping that would be left empty without its only key."""
    parent = value_at(document.value, route[:-1])
    named = str(route[-2]) if len(route) > 1 and isinstance(route[-2], str) else None
    return named if isinstance(parent, dict) and len(parent) == 1 else None


def _bad_money(found: _Finding) -> Diagnostic:
    value = found.value
    if isinstance(value, dict):
        value = next((value[key] for key in ("amount", "value", "usd", "max", "limit") if key in value), value)
        hint = f'write `budgetUsd: "{suggest_amount(str(value)) or "2.50"}"`'
        return found.at("OPT610", "`budgetUsd` is a mapping: money is text in quotes", hint)
    written = found.written or (value if isinstance(value, str) else "")
    meant = suggest_amount(written)
    if (
        rate := re.search(r"(?i)(\d+(?:[.,]\d{1,2})?)\D{0,6}(?:/|\bper|\ba|\beach)\s*(day|month|week|year|mo\b)", written)
    ) is not None:
        key = {"day": "dayUsd", "mo": "monthUsd", "month": "monthUsd"}.get(rate[2].lower())
        limit = f'; for all runs together write `ceilings: {{{key}: "{suggest_amount(rate[1])}"}}` in `{POLICY}`' if key else ""
        hint = f'a budget is for one run: write `budgetUsd: "1.00"`, or another amount{limit}'
        return found.at("OPT610", "`budgetUsd` is not a valid amount of money", hint)
    hint, write = (_MONEY, None) if meant is None else (f'write "{meant}"', f'"{meant}"')
    if type(value) in (int, float) and meant is not None:
        message = "`budgetUsd` is a number: money is text in quotes"
        return found.at("OPT610", message, hint, write=write, safe=meant == written)
    return found.at("OPT610", "`budgetUsd` is not a valid amount of money", hint, write=write, safe=False)


def _bad_duration(found: _Finding) -> Diagnostic:
    name, route, value = found.name, found.route, found.value
    code = "OPT105" if isinstance(value, str) else "OPT103"
    or_none = ", or `none`" if found.last == "replayWindow" else ""
    if re.fullmatch(r"[0.,\s]*0[a-z\s]*", str(value), re.IGNORECASE):
        return found.at(code, f"`{name}` must be more than 0", "write `20m`, or another time" + or_none)
    if or_none and (value is False or str(value).strip().lower() in _OFF):
        return found.at(code, f"`{name}` is not a valid duration", "write `none`", write="none", safe=False)
    meant = suggest_duration(value) if isinstance(value, str) else None
    if isinstance(value, (dict, list)) or (isinstance(value, str) and "(" in value):
        meant = seconds(value[0] if isinstance(value, list) and value else value)
        return found.at(
            code, f"`{name}` is not a valid duration", f"write `{show(route[-1:])}: {meant}`" if meant else _DURATION
        )
    hint = _DURATION + or_none
    meant = meant or (_A_UNIT.get(value.strip().lower()) if isinstance(value, str) else None)
    if meant is not None:
        hint = f"write `{meant}`" + (": days are not supported" if re.search("[0-9] *[dw]", str(value), re.IGNORECASE) else "")
    elif re.fullmatch(r"[1-9][0-9]{0,5}", str(value)):
        hint = unit_hint(int(value))
    write = None if meant is None else found.document.restyled(route, meant)
    return found.at(code, f"`{name}` is not a valid duration", hint, write=write, safe=False)


def _moved(document: Document | MergedDocument, route: Route, into: str) -> Fix | None:
    """Return the fix that moves the key into a mapping beside it, together with all others that belong there."""
    from optio.compiler.edits.move_keys import move_keys_into

    own, there = document.written(route)
    known, inner = known_keys(document.value, route[:-1]), known_keys(document.value, (*route[:-1], into))
    beside = value_at(own.value, there[:-1])
    stray = [key for key in beside if key in inner and key not in known]
    keys = [key for key in stray if explain_unknown_key(document.value, (*route[:-1], key)).into == into]
    edits = move_keys_into(own, there[:-1], keys, into)
    # If the mapping does not exist yet, an unknown sibling key may be meant for it, and the fix would make a second one.
    is_clear = into in beside or all(key in known or key in keys for key in beside)
    # A change to the environment of a run needs a review.
    return None if edits is None else Fix(edits, safe=is_clear and into != "environment")


def _entry(document: Document | MergedDocument, route: Route, text: str) -> Fix | None:
    """Return the fix that replaces a key and its value, where the value ends with its line or with a bracket."""
    own, there = document.written(route)
    key, value = own.key_span(there), own.span(there)
    if own.plain(there) is None and not own.is_flow(there) and own.source(there)[:1] not in ("'", '"'):
        return None
    if own.is_flow(there) and "#" in own.source(there):
        return None  # a comment would be lost
    if (value.start.line, value.end.line) != (key.start.line, key.start.line) or value.start <= key.start:
        return None
    return Fix((Edit(Span(key.start, value.end), text),), safe=False)


_READ_AS: dict[str | None, type | tuple[type, ...]] = {
    TEXT: str, WHOLE: int, NUMBER: (int, float), SWITCH: bool, LIST: list, MAPPING: dict,
}  # fmt: skip


def odd_scalar(
    document: Document | MergedDocument, route: Route, text: str, reading: str, misfit: ValidationIssue | None
) -> Diagnostic:
    """Return the finding for an unquoted text that YAML 1.1 and 1.2 read differently; `misfit` is its mismatch, if it has
    one."""
    span, fix = document.span(route), None
    own = expected_type(document.value, route)
    kind = misfit.wanted if misfit is not None and misfit.kind == "type" else own
    number = decimal(text)
    if kind == SWITCH:
        hint = f"write {reading}" if reading in ("true", "false") else "write true or false"
        fix = document.rewritten(route, reading, safe=False) if reading in ("true", "false") else None
    elif kind in (WHOLE, NUMBER):
        hint = f"write {number}" if number is not None else "write a number in plain digits, such as 20"
        fix = None if number is None else document.rewritten(route, number)
    elif route in _DURATIONS:
        lasts = suggest_duration(text)
        hint = _DURATION if lasts is None else f"write `{lasts}`"
        fix = None if lasts is None else Fix.write(lasts, span, safe=False)
    elif route == ("budgetUsd",) and (amount := suggest_amount(text)) is not None:
        hint = f'write "{amount}"'
        fix = document.rewritten(route, f'"{amount}"', safe=False)
    elif kind in (LIST, MAPPING):
        hint = (keyword_form(document.value, route) if own else None) or f"write {kind}"
    elif kind is None and number is not None and _is_free(route):
        hint = f"write {single_quoted(text)} for the text, {number} for the number"
    elif kind is None and number is not None and type(value_at(document.value, route)) is int:
        hint = f"write {number}"
        fix = document.rewritten(route, number)
    else:
        hint = f"write {single_quoted(text)}" + (" for that text, '' for an empty one" if reading == "null" else "")
        fix = document.rewritten(route, single_quoted(text))
    message = (
        f"`{text}` without quotes is {reading} for other YAML readers"
        if reading != "null"
        else f"`{text}` without quotes is not a text"
    )
    found = diagnostic("OPT006", message, path=document.path_at(route), span=span, route=route, hint=hint, fix=fix)
    # Optio reads YAML 1.2, so a value that fits there is valid, and only other readers see another one.
    fits = misfit is None and isinstance(value_at(document.value, route), _READ_AS.get(kind, object))
    return replace(found, severity=Severity.WARNING) if fits and reading != "null" else found


def _is_free(route: Route) -> bool:
    """Return True if the author's schema, and not the model, decides what may stand here."""
    return any(route[: len(at)] == at for at in (*SCHEMAS, ("tests",))) or "paramMapping" in route


def _is_parted(document: Document | MergedDocument, index: int) -> bool:
    """Return True if a trigger has no `config`, and the next list item has one and no type: a dash too many."""
    triggers = value_at(document.value, ("triggers",))
    pair = triggers[index : index + 2] if isinstance(triggers, list) and index >= 0 else []
    if len(pair) < 2 or not all(isinstance(each, dict) for each in pair):
        return False
    return "type" in pair[0] and "config" not in pair[0] and "config" in pair[1] and "type" not in pair[1]


def _bad_trigger(found: _Finding) -> Diagnostic:
    route, value = found.route, value_at(found.document.value, found.route)
    if not isinstance(value, dict):
        hint = f"write `- {_TRIGGER_FORMS[suggest_trigger(str(value)) or 'manual']}`"
        return found.at("OPT103", f"`{found.name}` must be a mapping, not {_kind_of(value)}", hint)
    if "type" not in value:
        missing = found.at("OPT102", f"`{found.name}.type` is missing", _missing_type(found, value))
        return replace(missing, route=(*route, "type"))

    allowed, word, write = _ALLOWED_TRIGGERS, str(value["type"]), None
    if word == "ticket":
        hint = f"tickets start Repo Tasks only; {allowed}"
    else:
        write = suggest_trigger(word)
        hint = f"did you mean `{write}`?" if write else allowed
        made = (
            triggers({"schedule": value}) if write == "schedule" and {"cron", "expression", "schedule"} & set(value) else None
        )
        if made is not None and len(made) <= _MAX_MADE:
            hint, write = f"write `- {made[1:-1]}`", None
    return found.at("OPT321", f"unknown trigger `{word}`", hint, place=(*route, "type"), write=write, safe=False)


def _missing_type(found: _Finding, value: dict[str, Any]) -> str:
    if _is_parted(found.document, int(found.last) - 1):
        return "delete the `- ` before it, and indent it like `type` above: it belongs to that trigger"
    made = triggers(value) if {"schedule", "cron"} & set(value) else None
    if made is not None and len(made) <= _MAX_MADE:
        return f"write `- {made[1:-1]}`"
    named = next((key for key in value if key in TRIGGERS), None)
    if named:
        return f"write `type: {named}`, and `config:` with the keys below `{named}`"
    return f"add `type: {_type_of(value)}`; {_ALLOWED_TRIGGERS}"


def _type_of(trigger: dict[str, Any]) -> str:
    """Return the trigger type that the keys belong to."""
    config = trigger.get("config")
    inner = {*trigger, *(config if isinstance(config, dict) else ())}
    return (
        "schedule"
        if inner & {"cronExpression", "timezone"}
        else "webhook"
        if inner & {"path", "secret", "events"}
        else "manual"
    )


def _bad_word(found: _Finding) -> Diagnostic:
    route, value, allowed, name = found.route, found.value, found.wanted, found.name
    if isinstance(value, (dict, list)) and value:
        inner = runtime(value) if route == ("agentRuntime",) else text(value)
        meant = suggest(str(inner).lower(), allowed)
        if meant is not None:
            return found.at("OPT104", f"`{name}` is {_kind_of(value)}, not text", f"write `{route[-1]}: {meant}`")
    if isinstance(known := suggest_allowed_word(route, value), tuple):
        return found.at("OPT104", f"`{name}` is `{value}`", known[0])
    config = value_at(found.document.value, route[:-1])
    if route[-1:] == ("scheme",) and isinstance(config, dict) and (hint := suggest_hmac_keys(value, config)) is not None:
        return found.at("OPT104", f"`{name}` is `{value}`", hint)
    named = [word for word in re.findall(r"[a-z-]+", str(value).lower()) if word in allowed]
    named = named or [word for word in re.findall(r"[a-z]+", str(value).lower()) if word in allowed]
    meant = known or (named[0] if len(set(named)) == 1 else suggest(str(value).lower(), allowed))
    hint = f"did you mean `{meant}`? " if meant else ""
    if (explained := explain_choices(route)) is not None and not meant:
        hint = explained
    elif len(allowed) > 1 or not meant:
        hint += "allowed: " + ", ".join(allowed)
    hint = hint.strip()
    if route == ("type",):
        return _bad_type(found, hint)
    if route == ("apiVersion",):
        return found.at("OPT114", f"unknown version `{value}`", hint)
    message = f"`{name}` is `{value}`" if isinstance(value, str) else f"`{name}` is not a text"
    write = None if meant is None else found.document.restyled(route, meant)
    return found.at("OPT104", message, hint, write=write, safe=False)


def _bad_type(found: _Finding, hint: str) -> Diagnostic:
    value = found.value
    if value == "policy":
        verb = "move it there" if "/" in found.document.path_at(found.route) else "rename it"
        hint = f"a policy must be the file `{POLICY}` at the top of the task directory: {verb}"
        return found.at("OPT110", f"a document of type `{value}` is in the wrong place", hint)
    if value == "connection":
        hint = "delete the file: Optio reads tasks, templates and a policy"
        return found.at("OPT110", f"documents of type `{value}` are not supported yet", hint)
    repo = value in ("repo", "repository", "pr")
    return found.at("OPT110", f"unknown type `{value}`", "Repo Tasks are not supported: write standalone" if repo else hint)


def _bad_pattern(found: _Finding) -> Diagnostic:
    name, route, last, value, pattern = found.name, found.route, found.last, found.value, found.wanted
    if route == ("id",):
        named = slug(value)
        hint = f"write `{named}`" if 0 < len(named) <= _MAX_ID else "use a-z, 0-9 and single dashes: `weekly-report`"
        return found.at("OPT107", f"`{value}` is not a valid id", hint)
    if route[:2] == ("environment", "env"):
        shown = f"`{last}`" if last else "an empty text"
        meant = repair_text(str(last), pattern)
        free = meant is not None and meant not in value_at(found.document.value, route[:-1])
        hint = f"write `{meant}`" if free else f"{_ENV_NAME}: `LOG_LEVEL`"
        return found.at("OPT506", f"{shown} is not a valid name of an environment variable", hint, key=True)
    if route[:2] == ("environment", "secrets") or last == "name":
        # The value may be the secret itself, so name the place only.
        bare = value.strip(CURLY)
        given = None if re.fullmatch(r"[A-Za-z0-9_]+", value) else suggest_secret_name(bare) or bare
        given = given if given and re.fullmatch(r"[A-Z]+(?:_[A-Z0-9]+)+", given) else None
        meant = given or (repair_text(value, pattern) if re.fullmatch(_SECRETS_NAME, value) else None)
        hint = f"write `{meant.upper()}`" if meant else f"{_ENV_NAME}: `API_TOKEN`"
        return found.at("OPT506", f"`{name}` is not a valid name of a secret", hint)
    if str(last).endswith("Header") and (cure := _header(found)) is not None:
        return found.at("OPT105", f"`{name}` is not the name of a header", cure)
    meant = repair_text(value, pattern)
    hint = f"write `{meant}`" if meant else f"write one that matches `{portable(pattern)}`{found.such_as}"
    return found.at("OPT105", f"`{name}` has characters that are not allowed", hint)


def _header(found: _Finding) -> str | None:
    """Return the cure for a path in the place of a header's name: the header that it names, or the key that takes the path."""
    from optio.compiler.payloads.queries import suggest_query_path

    value = found.value
    if (named := re.search(r"(?i)\bheaders?\b\W{1,3}([a-z][\w-]{0,99})", value)) is not None:
        return f"write `{named[1]}`"
    path = value if re.fullmatch(r"\$(?:\.[A-Za-z_]\w*)+", value) else suggest_query_path(value)
    if path is None or not re.search(r"[$.{]", value):
        return None
    path = re.sub(r"^\$\.body\.", "$.", path)
    if found.last == "eventHeader":
        return f"write `eventPath: {path}`, and delete this line"
    if found.last != "deliveryHeader":
        return "write the name of the header that the sender sets, such as `X-Signature`"
    mapping = value_at(found.document.value, (*found.route[:-1], "paramMapping"))
    mapped = next((name for name, source in mapping.items() if source == path), None) if isinstance(mapping, dict) else None
    name = mapped or path.rpartition(".")[2].upper()
    more = "" if mapped else f", and map `{name}: {path}`"
    return f'delete it, and write `dedupe: {{key: "{{{{{name}}}}}"}}` at the top of the file{more}'


def _wrong_type(found: _Finding) -> Diagnostic:
    value, wanted, written = found.value, found.wanted, found.written
    if not found.route:
        message = f"a task is a mapping, not {_kind_of(value)}"
        return found.at("OPT103", message, "begin with `name:`, one `key: value` a line")
    given = f"`{written}`" if wanted == WHOLE and type(value) in (int, float) and written is not None else _kind_of(value)
    message = f"`{found.name}` must be {wanted}, not {given}"
    if (converted := _converted(found)) is not None:
        hint, fix = converted
        return found.at("OPT103", message, hint, fix=fix)
    if value is None:
        return found.at("OPT103", message, _hint_for_empty_key(found))
    digits = written if wanted == WHOLE and isinstance(value, str) and written is not None else ""
    if digits.lstrip("+-").isdigit() and suggest_whole_number(digits) is None:
        message = f"`{found.name}` is too large: it has {len(digits):,} digits"
        return found.at("OPT105", message, "write a smaller number")
    cure = _OF_TYPES[wanted](found) or f"write {wanted}{found.such_as}"
    hint, write = (cure, None) if isinstance(cure, str) else cure
    return found.at("OPT103", message, hint, write=write)


def _for_text(found: _Finding) -> _Cure:
    value, written = found.value, found.written
    if found.route[:2] == ("environment", "secrets") and isinstance(value, dict) and (secret := _only_name(value)) is not None:
        return f"write `{secret}` alone: its value is set for the server"
    if found.last == "cronExpression" and isinstance(value, list) and len(value) > 1:
        return _ONE_SCHEDULE
    if found.last == "memory" and type(value) is int and 0 < value < _MIN_MEMORY_BYTES:
        return f"write {value}{'Gi' if value < _MIN_MEBIBYTES else 'Mi'}"
    if found.last == "cpu" and type(value) is int and (value == 0 or value > _MAX_CORES):
        return f"write {value or 500}m"
    return None if written is None else (f'put quotes around it: "{written}"', f'"{written}"')


def _for_whole(found: _Finding) -> _Cure:
    value, written = found.value, found.written
    word = str(value).strip().lower()
    if isinstance(value, str) and word in _UNBOUNDED and found.route == ("maxTurns",):
        return "delete it for no limit"
    if value is False and found.route == ("maxRetries",):
        return "write 0 for no further attempt", "0"
    if value is True and found.route == ("maxRetries",):
        return "write 1 for one further attempt", "1"
    number = suggest_whole_number(written or str(value).strip()) if isinstance(value, (str, float)) else None
    if number is not None:
        quoted = isinstance(value, str) and value.strip() not in ("", written)
        return f"{'remove the quotes:' if quoted else 'write'} {number}", str(number)
    if found.route == ("priority",) and (rank := _RANKS.get(word)) is not None:
        return f"write {rank}: the highest of -100 to 100 starts first"
    return None if (whole := _whole(value)) is None else f"write {whole}"


def _for_switch(found: _Finding) -> _Cure:
    if isinstance(found.value, str) and (word := found.value.lower()) in ("true", "false"):
        return f"remove the quotes: {word}", word
    if found.route == ("result", "required") and isinstance(found.value, list):
        return below_schema(found.document.value)
    word = str(found.value).strip().lower()
    meant = "false" if word in _OFF else "true" if word in _ON else None
    return f"write {meant}" if meant else "write `true` or `false`"


def _for_list(found: _Finding) -> _Cure:
    route, value, written = found.route, found.value, found.written
    if found.last == "egress" and isinstance(value, bool):
        return "delete `network`, which opens every public address, or name the hosts" if value else "write `egress: []`"
    if route == ("triggers",) and (trigger := _only_trigger(value)) is not None:
        return f"write a list: `[{_TRIGGER_FORMS[trigger]}]`"
    if isinstance(value, dict):
        if value and route in _LISTS_OF_MAPPINGS:
            return _itemized(next(iter(value)), len(value) > 1, flow=found.is_flow)
        return f"write a list: `[{', '.join(list(value)[:_MAX_NAMES])}]`" if value else None
    if isinstance(value, str) and re.match(r"-\w", value):
        items = [item.strip() for item in re.split(r"(?:^|\s)-(?=\w)", value) if item.strip()]
        return f"write a blank behind each `-`: `- {items[0][:_MAX_MADE]}`"
    if route == ("environment", "secrets") and suggest_secret_name(value) is None:
        return "name each secret that the run needs, such as `[API_TOKEN]`: a run gets no others"
    alone = written if written is not None else _alone_in_list(value)
    return None if alone is None else f"write a list: [{alone}]"


def _for_mapping(found: _Finding) -> _Cure:
    value, last = found.value, found.last
    if found.route == ("environment", "network") and str(value).lower() in _OPEN_NETWORKS:
        return "delete it, which opens every public address, or name the hosts: `network: {egress: [api.example.com]}`"
    if isinstance(value, str) and re.fullmatch(r"\S{1,200}\.(?:json|ya?ml)", value):
        return f"write the content of `{value}` here: no other file is read for `{last}`"
    if not (shown := found.example).endswith(":"):
        return f"write it as in `{shown}`"
    return f"write `{last}:`, and `key: value` lines below it" if isinstance(last, str) else None


def _for_text_or_list(found: _Finding) -> _Cure:
    return f"write a list{found.such_as}" if found.route == ("command",) else None


_OF_KEYS_AND_WORDS: dict[IssueKind, Callable[[_Finding], Diagnostic]] = {
    "missing": _missing_key, "variant": _bad_trigger, "word": _bad_word,
}  # fmt: skip
_OF_VALUES: dict[IssueKind, Callable[[_Finding], Diagnostic]] = {
    "type": _wrong_type, "pattern": _bad_pattern, "blank": _blank, "longest": _too_long, "least": _too_small,
    "most": _too_large,
}  # fmt: skip
_OF_TYPES: dict[str, Callable[[_Finding], _Cure]] = {
    TEXT: _for_text, WHOLE: _for_whole, SWITCH: _for_switch, LIST: _for_list, MAPPING: _for_mapping,
    f"{TEXT} or {LIST}": _for_text_or_list,
}  # fmt: skip


def _alone_in_list(value: Any) -> str | None:
    """A text on one line that may be shown, as an item."""
    if not isinstance(value, str) or not value.strip() or "\n" in value or len(value) > _MAX_MADE or _holds_secrets(value):
        return None

    return flow([value.strip()])[1:-1]


def _only_name(value: dict[Any, Any]) -> str | None:
    """Return the name of a secret that is the only key of a mapping. The value behind it is never shown."""
    names = [key for key in value if isinstance(key, str) and re.fullmatch(r"[A-Z][A-Z0-9_]*", key, re.ASCII)]
    return names[0] if len(value) == 1 and names else None


def hint_for_commented_value(document: Document | MergedDocument, route: Route) -> str | None:
    """Return the hint for a key whose value is a comment, such as `channel: #sales`; None for another key."""
    own, there = document.written(route)
    place = own.key_span(there)
    line = own.text.split("\n", place.end.line)[place.end.line - 1][place.end.column - 1 :]
    comment = re.match(r"\s*:\s+(#\S.*)", line)
    return comment and f"`#` begins a comment: put quotes around the value: {single_quoted(comment[1].strip())}"


def _hint_for_empty_key(found: _Finding) -> str:
    """Return the hint for a key without a value, by its siblings."""
    root, route = found.document.value, found.route
    commented = hint_for_commented_value(found.document, route)
    if commented is not None:
        return commented
    inner = known_keys(root, route)
    below = [key for key in value_at(root, route[:-1]) if key in inner and key not in known_keys(root, route[:-1])]
    if below:
        return f"put `{'` and `'.join(below[:_MAX_NAMES])}` below it, indented deeper than `{route[-1]}`"
    written = found.example
    return (
        "give a value or delete the key" if written.endswith(":") else f"write a value, such as `{written}`, or delete the key"
    )


def _whole(value: Any) -> str | None:
    """Return the whole number that the value holds, or the two beside it."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        return whole(value)
    number = number_in(str(value)) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
    if number is None:
        return None
    return str(int(number)) if number == int(number) else f"{int(number // 1)} or {int(number // 1) + 1}"


def _converted(found: _Finding) -> tuple[str, Fix | None] | None:
    """Return the hint made of the value in another form, and a fix where the value is on one line."""
    hint = _of_another_key(found.route, found.value)
    return _rewritten(found) if hint is None else (hint, None)


def _of_another_key(route: Route, value: Any) -> str | None:
    """Return the hint for a value that is none of this key, but of another one."""
    if route == ("promptTemplate",) and isinstance(value, dict):
        file = next((value[key] for key in ("file", "path", "promptFile", "ref", "from", "$ref") if key in value), None)
        return f"write `promptFile: {flow(file)}` for it, and the path from this file on" if isinstance(file, str) else None
    if route == ("environment", "env") and isinstance(value, list):
        return _variables(value)
    if route[:2] == ("environment", "setupCommands") and isinstance(value, dict) and isinstance(value.get("uses"), str):
        return _action(value)
    if route[:2] == ("environment", "env") and len(route) > 2 and isinstance(value, dict) and not _REFERENCES.isdisjoint(value):
        return f"delete `{route[-1]}` with all that is below it, and add it to `environment.secrets`"
    return None


def _rewritten(found: _Finding) -> tuple[str, Fix | None] | None:
    """Return the hint with the value in the form that the key has, and a fix where the value is on one line."""
    route, value, wanted = found.route, found.value, found.wanted
    written: str | None = None
    if wanted == TEXT and isinstance(value, (list, dict)):
        meant = text(value)
        written = None if meant is None or any(match_tokens(meant)) or "\\n" in meant else meant
        if written is None and route[:2] == ("environment", "env") and not _holds_secrets(value):
            written = flow(json.dumps(value, ensure_ascii=False, default=str))
    elif route == ("environment", "env") and isinstance(value, list):
        written = mapping_of_texts(value)
    elif route == ("triggers",) and isinstance(value, (dict, str)):
        written = triggers(value)
        if written is not None and any(match_tokens(written)):
            written = None
    elif wanted == LIST and isinstance(value, str) and re.search(r"[\n,|]|;\s", value.strip()):
        commands = route[-1:] in (("setupCommands",), ("command",))
        parts = value.split("\n") if commands else re.split(r"[\n,|]|;\s", value)
        written = flow([part.strip() for part in parts if part.strip()])
    if written is None or len(written) > _MAX_MADE:
        return None
    last = route[-1]
    hint = f"write `{last}: {written}`" if isinstance(last, str) else f"write `{written}`"
    span = found.document.span(route)
    one_line = span.start.line == span.end.line and (found.written is None or wanted != TEXT)
    alone = one_line and (found.is_flow or not isinstance(value, (list, dict)))
    return hint, found.document.rewritten(route, written, safe=False) if alone else None


def _variables(value: list[Any]) -> str | None:
    """Return the cure for a pod's list of variables, of which some take their value from a secret."""
    taken = [each for each in value if isinstance(each, dict) and not _REFERENCES.isdisjoint(each)]
    names = [str(each.get("name")) for each in taken]
    if not taken or not all(re.fullmatch(r"[A-Z][A-Z0-9_]{0,99}", name) for name in names):
        return None
    plain = [each for each in value if each not in taken]
    written = mapping_of_texts(plain) if plain else "{}"
    if written is None or len(written) > _MAX_MADE:
        return None
    more = f"add `{', '.join(names)}` to `environment.secrets`"
    return f"write `env: {written}`, and {more}" if plain else f"delete it, and {more}"


def _action(step: dict[Any, Any]) -> str:
    """Return the cure for a step of GitHub Actions that uses an action: a run has none."""
    name = str(step["uses"]).partition("@")[0]
    inputs = step.get("with")
    version = (
        next((each for key, each in inputs.items() if str(key).endswith("-version")), None)
        if isinstance(inputs, dict)
        else None
    )
    images = {"actions/setup-node": "node", "actions/setup-python": "python", "actions/setup-go": "golang"}
    if name == "actions/checkout":
        return "write `git clone --depth 1 https://github.com/OWNER/REPOSITORY`: a run begins with an empty directory"
    if name in images:
        return f"delete it, and write `image: '{images[name]}:{version or 'VERSION'}'` below `environment`"
    return "write the shell command that does the same, or delete it: a run has no actions"


def _holds_secrets(value: Any) -> bool:
    """Return True if the value may be a secret, by its shape or its keys, and must not be shown."""
    text = json.dumps(value, default=str)
    return any(match_tokens(text)) or any(
        re.search(CREDENTIAL_NAME, name.upper()) for name in re.findall(r'"([^"]*)"\s*:', text)
    )


def _only_trigger(value: Any) -> str | None:
    """Return the trigger named by a single word in the place of the list."""
    if isinstance(value, str):
        return suggest_trigger(value)
    return next((key for key in value if key in TRIGGERS), None) if isinstance(value, dict) and "type" not in value else None


def _itemized(key: str, more: bool, *, flow: bool) -> str:
    if flow:
        return "put brackets around it: `[{...}]`"
    return f"put `- ` before `{key}:`" + (", and two spaces before the lines below it" if more else "")


def _kind_of(value: Any) -> str:
    if value is None:
        return "empty"
    return {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}[
        type(value)
    ]
