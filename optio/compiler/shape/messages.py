"""Turn a `ValidationIssue` into a diagnostic: the message, the hint, and where possible a fix made of the wrong value."""

import json
import re
from collections.abc import Callable
from typing import Any

from optio.compiler.conversions.known_keys import TRIGGERS, known_keys, suggest_secret_name, suggest_trigger
from optio.compiler.conversions.quantities import number_in, suggest_amount, suggest_duration, suggest_whole_number
from optio.compiler.diagnostics import Diagnostic, Edit, Fix, diagnostic
from optio.compiler.layers import POLICY, MergedDocument
from optio.compiler.shape.unknown_keys import explain_unknown_key
from optio.compiler.source import Span
from optio.compiler.suggest import suggest
from optio.compiler.validation import LIST, MAPPING, SWITCH, TEXT, WHOLE, ValidationIssue
from optio.compiler.yaml.document import Document
from optio.compiler.yaml.scalars import decimal, single_quoted
from optio.model.route import Route, show, value_at
from optio.model.spec import portable
from optio.model.text import slug

At = Callable[..., Diagnostic]
LATER_TYPES = ("connection",)
# Types of documents that are not tasks, with a fixed place.
ELSEWHERE = ("policy",)
_SECRETS = ("secret", "previousSecret")
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
    ("maxConcurrent",): "`enabled: false` beside it if nothing may start the task",
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
_ALL_SECRETS = ("inherit", "all", "*", "true")
_OPEN_NETWORKS = ("host", "bridge", "default", "public", "open", "full", "any", "all", "internet", "true", "enabled", "on")
_LISTS_OF_MAPPINGS: tuple[Route, ...] = (("triggers",), ("tests",))
_TRIGGER_FORMS = {
    "manual": "{type: manual}",
    "schedule": '{type: schedule, config: {cronExpression: "0 9 * * 1"}}',
    "webhook": "{type: webhook, config: {path: my-path, secret: {name: NAME}}}",
}
_CONFIGS = {kind: form.partition(", ")[2][:-1] for kind, form in _TRIGGER_FORMS.items() if "config" in form}
_MAX_NAMES = 5
# Smaller numbers are unlikely to be bytes of memory.
_MIN_MEMORY_BYTES, _MIN_MEBIBYTES = 1 << 20, 64
_MAX_MADE, _MAX_ID = 200, 80
_ENV_NAME = "use letters, digits and underscores, no digit first"
# The name of a secret in words. Other texts in its place may be the secret itself and are not shown.
_SECRETS_NAME = r"(?i)[a-z]{2,15}(?:[-. ][a-z]{2,15}){0,4}[-. ](?:token|key|secret|password|credentials|url)"


def to_diagnostic(document: Document | MergedDocument, misfit: ValidationIssue) -> Diagnostic:
    """Return the finding for one mismatch between the document and the model."""
    kind, route, value, wanted = misfit

    def at(
        code: str,
        message: str,
        hint: str | None = None,
        *,
        place: Route = route,
        key: bool = False,
        write: str | None = None,
        value: str | None = None,
        safe: bool = True,
        fix: Fix | None = None,
    ) -> Diagnostic:
        span = document.key_span(place) if key else document.span(place)
        if key and hint is not None and code == "OPT101" and (alone := _parent_left_empty(document, place)) is not None:
            hint = hint.replace("delete it", f"delete `{alone}` with it", 1).replace("delete this line", f"delete `{alone}`", 1)
        write = write if value is None else document.restyled(place, value)
        if write is not None:
            fix = Fix.write(write, span, safe=safe) if key else document.rewritten(place, write, safe=safe)
        return diagnostic(code, message, path=document.path_at(place), span=span, route=place, hint=hint, fix=fix)

    name = show(route)
    last = route[-1] if route else ""
    if kind == "unknown":
        what = explain_unknown_key(document.value, route)
        free = what.meant is not None and what.meant not in value_at(document.value, route[:-1])
        write = what.meant if free else None
        fix = None if what.into is None else _moved(document, route, what.into)
        if what.entry is not None:
            fix = _entry(document, route, what.entry)
        return at(
            what.code,
            what.message,
            what.hint,
            key=True,
            write=write if what.entry is None else None,
            safe=what.code == "OPT111",
            fix=fix,
        )
    if kind == "missing":
        trigger = str(value_at(document.value, (*route[:-1], "type"))) if last == "config" else ""
        hint = f"add `{_CONFIGS[trigger] if trigger in _CONFIGS else _with_example(document, route)}`"
        if last == "config" and _is_parted(document, int(route[-2])):
            hint = "delete the `- ` before the `config:` that follows, and indent it like `type`: it belongs to this trigger"
        if route == ("name",) and "templates" in document.path_at(route).split("/")[:-1]:
            hint += ", or `type: template` if tasks extend this file"
        return at("OPT102", f"`{name}` is missing", hint, key=True)
    if kind == "variant":
        return _bad_trigger(document, route)
    if last in _SECRETS and isinstance(value, str) and re.search(_PLACEHOLDER, value):
        hint = f"write `{last}: {{name: NAME}}`, and give that secret its own value: `openssl rand -hex 32`"
        return at("OPT406", f"`{name}` is a placeholder, not a secret", hint)
    if last in _SECRETS and (secret := suggest_secret_name(value)) is not None:
        write = f"{{name: {secret}}}"
        hint = f"write `{last}: {write}`"
        return at("OPT103", f"`{name}` must be a mapping, not text", hint, write=write, safe=False)
    if last in _SECRETS and isinstance(value, str):
        return at(
            "OPT405",
            f"`{name}` is a secret in plain text",
            f"write `{last}: {{name: NAME}}`, set OPTIO_SECRET_NAME for the server, and rotate this one: it has been exposed",
        )
    if kind == "word":
        return _bad_word(at, route, value, wanted, document.path_at(route))
    if route == ("budgetUsd",):
        return _bad_money(at, document, route, value)
    if route in _DURATIONS:
        return _bad_duration(at, route, value)
    if last == "replayWindow":
        return _bad_duration(at, route, value, or_none=True)
    if kind == "blank":
        return at("OPT106", f"`{name}` is blank", f"write a text{_such_as(document, route)}, or delete the key")
    if kind == "pattern":
        return _bad_pattern(at, document, route, value, wanted)
    if kind == "longest":
        code = "OPT107" if last in ("name", "id") and len(route) == 1 else "OPT105"
        return at(code, f"`{name}` is {len(value):,} characters long", f"write at most {wanted} characters")
    if kind == "least" and last == "maxCatchUp" and value == 0:
        return at("OPT105", f"`{name}` is 0", "delete it, and write `misfire: skip` to catch up no runs")
    if kind == "least" and route in _NO_LIMIT:
        return at("OPT105", f"`{name}` is {value}", f"write {wanted} or more, or {_NO_LIMIT[route]}")
    if kind in ("least", "most"):
        return at("OPT105", f"`{name}` is {value}", f"write {wanted} or {'more' if kind == 'least' else 'less'}")
    if not route:
        return at("OPT103", f"a task is a mapping, not {_kind_of(value)}", "begin with `name:`, one `key: value` a line")
    return _wrong_type(at, document, route, value, wanted)


def _parent_left_empty(document: Document | MergedDocument, route: Route) -> str | None:
    """Return the mapping that would be left empty without its only key."""
    parent = value_at(document.value, route[:-1])
    named = str(route[-2]) if len(route) > 1 and isinstance(route[-2], str) else None
    return named if isinstance(parent, dict) and len(parent) == 1 else None


def _bad_money(at: At, document: Document | MergedDocument, route: Route, value: Any) -> Diagnostic:
    if isinstance(value, dict):
        value = next((value[key] for key in ("amount", "value", "usd", "max", "limit") if key in value), value)
        return at(
            "OPT610",
            "`budgetUsd` is a mapping: money is text in quotes",
            f'write `budgetUsd: "{suggest_amount(str(value)) or "2.50"}"`',
        )
    written = document.plain(route) or (value if isinstance(value, str) else "")
    meant = suggest_amount(written)
    hint, write = (_MONEY, None) if meant is None else (f'write "{meant}"', f'"{meant}"')
    if type(value) in (int, float) and meant is not None:
        return at("OPT610", "`budgetUsd` is a number: money is text in quotes", hint, write=write, safe=meant == written)
    return at("OPT610", "`budgetUsd` is not a valid amount of money", hint, write=write, safe=False)


def _bad_duration(at: At, route: Route, value: Any, *, or_none: bool = False) -> Diagnostic:
    name, code = show(route), "OPT105" if isinstance(value, str) else "OPT103"
    if re.fullmatch(r"[0.,\s]*0[a-z\s]*", str(value), re.IGNORECASE):
        return at(code, f"`{name}` must be more than 0", "write `20m`, or another time" + (", or `none`" if or_none else ""))
    meant = suggest_duration(value) if isinstance(value, str) else None
    if isinstance(value, (dict, list)) or (isinstance(value, str) and "(" in value):
        from optio.compiler.conversions.values import seconds  # imported only for a file with a mistake

        meant = seconds(value[0] if isinstance(value, list) and value else value)
        return at(code, f"`{name}` is not a valid duration", f"write `{show(route[-1:])}: {meant}`" if meant else _DURATION)
    hint = _DURATION + (", or `none`" if or_none else "")
    meant = meant or (_A_UNIT.get(value.strip().lower()) if isinstance(value, str) else None)
    if meant is not None:
        hint = f"write `{meant}`" + (": days are not supported" if re.search("[0-9] *[dw]", str(value), re.IGNORECASE) else "")
    elif re.fullmatch(r"[1-9][0-9]{0,5}", str(value)):
        hint = f"write `{value}s` for seconds or `{value}m` for minutes"
    return at(code, f"`{name}` is not a valid duration", hint, value=meant, safe=False)


def _moved(document: Document | MergedDocument, route: Route, into: str) -> Fix | None:
    """Return the fix that moves the key into a mapping beside it, together with all others that belong there."""
    from optio.compiler.edits.move_keys import move_keys_into  # imported only for a file with a mistake

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
    if (value.start.line, value.end.line) != (key.start.line, key.start.line) or value.start <= key.start:
        return None
    return Fix((Edit(Span(key.start, value.end), text),), safe=False)


def odd_scalar(
    document: Document | MergedDocument, route: Route, text: str, reading: str, misfit: ValidationIssue | None
) -> Diagnostic:
    """Return the finding for an unquoted text that YAML 1.1 and 1.2 read differently; `misfit` is its mismatch, if it has
    one."""
    from optio.compiler.param_schema.expected_type import (  # imported only for a file with a mistake
        NUMBER,
        expected_type,
        keyword_form,
    )

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
        hint = (keyword_form(route) if own else None) or f"write {kind}"
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
    return diagnostic("OPT006", message, path=document.path_at(route), span=span, route=route, hint=hint, fix=fix)


def _is_free(route: Route) -> bool:
    """Return True if the author's schema, and not the model, decides what may stand here."""
    return route[:1] in (("paramsSchema",), ("tests",)) or "paramMapping" in route


def _is_parted(document: Document | MergedDocument, index: int) -> bool:
    """Return True if a trigger has no `config`, and the next list item has one and no type: a dash too many."""
    triggers = value_at(document.value, ("triggers",))
    pair = triggers[index : index + 2] if isinstance(triggers, list) and index >= 0 else []
    if len(pair) < 2 or not all(isinstance(each, dict) for each in pair):
        return False
    return "type" in pair[0] and "config" not in pair[0] and "config" in pair[1] and "type" not in pair[1]


def _bad_trigger(document: Document | MergedDocument, route: Route) -> Diagnostic:
    value = value_at(document.value, route)
    allowed = "allowed: manual, schedule, webhook"
    if not isinstance(value, dict):
        hint = f"write `- {_TRIGGER_FORMS[suggest_trigger(str(value)) or 'manual']}`"
        message = f"`{show(route)}` must be a mapping, not {_kind_of(value)}"
        return diagnostic("OPT103", message, path=document.path_at(route), span=document.span(route), route=route, hint=hint)
    if "type" not in value:
        from optio.compiler.conversions.values import triggers  # imported only for a file with a mistake

        if _is_parted(document, int(route[-1]) - 1):
            hint = "delete the `- ` before it, and indent it like `type` above: it belongs to that trigger"
            at, span = (*route, "type"), document.span(route)
            return diagnostic(
                "OPT102", f"`{show(route)}.type` is missing", path=document.path_at(route), span=span, route=at, hint=hint
            )
        named = next((key for key in value if key in TRIGGERS), None)
        made = triggers(value) if {"schedule", "cron"} & set(value) else None
        hint = (
            f"write `- {made[1:-1]}`"
            if made is not None and len(made) <= _MAX_MADE
            else f"write `type: {named}`, and `config:` with the keys below `{named}`"
            if named
            else f"add `type: {_type_of(value)}`; {allowed}"
        )
        return diagnostic(
            "OPT102",
            f"`{show(route)}.type` is missing",
            path=document.path_at(route),
            span=document.span(route),
            route=(*route, "type"),
            hint=hint,
        )
    at = (*route, "type")
    word = str(value["type"])
    meant = suggest_trigger(word)
    from optio.compiler.conversions.values import github_event  # imported only for a file with a mistake

    if (event := github_event(word)) is not None:
        form = f"{{type: webhook, config: {{path: my-path, scheme: github, events: [{event}], secret: {{name: NAME}}}}}}"
        return diagnostic(
            "OPT321",
            f"unknown trigger `{word}`",
            path=document.path_at(at),
            span=document.span(at),
            route=at,
            hint=f"write `- {form}`",
        )
    hint = f"tickets start Repo Tasks only; {allowed}" if word == "ticket" else f"did you mean `{meant}`?" if meant else allowed
    span = document.span(at)
    fix = document.rewritten(at, meant, safe=False) if meant and word != "ticket" else None
    return diagnostic("OPT321", f"unknown trigger `{word}`", path=document.path_at(at), span=span, route=at, hint=hint, fix=fix)


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


def _bad_word(at: At, route: Route, value: Any, allowed: tuple[str, ...], path: str) -> Diagnostic:
    if isinstance(value, (dict, list)) and value:
        from optio.compiler.conversions.values import runtime, text

        inner = runtime(value) if route == ("agentRuntime",) else text(value)
        meant = suggest(str(inner).lower(), allowed)
        if meant is not None:
            return at("OPT104", f"`{show(route)}` is {_kind_of(value)}, not text", f"write `{route[-1]}: {meant}`")
    from optio.compiler.conversions.suggest_words import explain_choices, suggest_allowed_word

    if isinstance(known := suggest_allowed_word(route, value), tuple):
        return at("OPT104", f"`{show(route)}` is `{value}`", known[0])
    named = [word for word in re.findall(r"[a-z-]+", str(value).lower()) if word in allowed]
    meant = known or (named[0] if len(set(named)) == 1 else suggest(str(value).lower(), allowed))
    hint = f"did you mean `{meant}`? " if meant else ""
    if (explained := explain_choices(route)) is not None and not meant:
        hint = explained
    elif len(allowed) > 1 or not meant:
        hint += "allowed: " + ", ".join(allowed)
    hint = hint.strip()
    if route == ("type",) and isinstance(value, str) and value in ELSEWHERE:
        verb = "move it there" if "/" in path else "rename it"
        hint = f"a policy must be the file `{POLICY}` at the top of the tree: {verb}"
        return at("OPT110", f"a document of type `{value}` is in the wrong place", hint)
    if route == ("type",) and value in LATER_TYPES:
        return at(
            "OPT110",
            f"documents of type `{value}` are not supported yet",
            "delete the file: Optio reads tasks, templates and a policy",
        )
    if route == ("type",):
        repo = value in ("repo", "repository", "pr")
        return at("OPT110", f"unknown type `{value}`", "Repo Tasks are not supported: write standalone" if repo else hint)
    if route == ("apiVersion",):
        return at("OPT114", f"unknown version `{value}`", hint)
    message = f"`{show(route)}` is `{value}`" if isinstance(value, str) else f"`{show(route)}` is not a text"
    return at("OPT104", message, hint, value=meant, safe=False)


def _bad_pattern(at: At, document: Document | MergedDocument, route: Route, value: Any, pattern: str) -> Diagnostic:
    name, last = show(route), route[-1]
    if route == ("id",):
        named = slug(value)
        hint = f"write `{named}`" if 0 < len(named) <= _MAX_ID else "use a-z, 0-9 and single dashes: `weekly-report`"
        return at("OPT107", f"`{value}` is not a valid id", hint)
    if route[:2] == ("environment", "env"):
        shown = f"`{last}`" if last else "an empty text"
        meant = _reshaped(str(last), pattern)
        free = meant is not None and meant not in value_at(document.value, route[:-1])
        hint = f"write `{meant}`" if free else f"{_ENV_NAME}: `LOG_LEVEL`"
        return at("OPT506", f"{shown} is not a valid name of an environment variable", hint, key=True)
    if route[:2] == ("environment", "secrets") or last == "name":
        # The value may be the secret itself, so name the place only.
        given = None if re.fullmatch(r"[A-Za-z0-9_]+", value) else suggest_secret_name(value)
        given = given if given and re.fullmatch(r"[A-Z]+(?:_[A-Z0-9]+)+", given) else None
        meant = given or (_reshaped(value, pattern) if re.fullmatch(_SECRETS_NAME, value) else None)
        hint = f"write `{meant.upper()}`" if meant else f"{_ENV_NAME}: `API_TOKEN`"
        return at("OPT506", f"`{name}` is not a valid name of a secret", hint)
    meant = _reshaped(value, pattern)
    hint = f"write `{meant}`" if meant else f"write one that matches `{portable(pattern)}`{_such_as(document, route)}"
    return at("OPT105", f"`{name}` has characters that are not allowed", hint)


def _wrong_type(at: At, document: Document | MergedDocument, route: Route, value: Any, wanted: str) -> Diagnostic:
    written, last = document.plain(route), route[-1]
    hint = write = None
    found = _converted(document, route, value, wanted)
    if found is not None:
        hint, fix = found
        return at("OPT103", f"`{show(route)}` must be {wanted}, not {_kind_of(value)}", hint, fix=fix)
    if (
        route[:2] == ("environment", "secrets")
        and len(route) > 2
        and isinstance(value, dict)
        and (secret := _only_name(value)) is not None
    ):
        hint = f"write `{secret}` alone: its value is set for the server"
        return at("OPT103", f"`{show(route)}` must be {wanted}, not a mapping", hint)
    if wanted == WHOLE and isinstance(value, str) and value.strip().lower() in _UNBOUNDED and route == ("maxTurns",):
        return at("OPT103", f"`{show(route)}` must be {wanted}, not text", "delete it for no limit")
    number = (
        suggest_whole_number(written or str(value).strip()) if wanted == WHOLE and isinstance(value, (str, float)) else None
    )
    if value is None:
        hint = _hint_for_empty_key(document, route)
    elif value is False and route == ("maxRetries",):
        write, hint = "0", "write 0 for no further attempt"
    elif value is True and route == ("maxRetries",):
        write, hint = "1", "write 1 for one further attempt"
    elif number is not None:
        write = str(number)
        hint = (
            f"remove the quotes: {write}" if isinstance(value, str) and value.strip() not in ("", written) else f"write {write}"
        )
    elif wanted == WHOLE and isinstance(value, str) and written is not None and written.lstrip("+-").isdigit():
        return at("OPT105", f"`{show(route)}` is too large: it has {len(written):,} digits", "write a smaller number")
    elif last == "cronExpression" and type(value) is int and (every := _cron(value)) is not None:
        write, hint = every, f"write `{every}`"
    elif last == "memory" and type(value) is int and 0 < value < _MIN_MEMORY_BYTES:
        hint = f"write {value}Mi or {value}Gi" if value < _MIN_MEBIBYTES else f"write {value}Mi"
    elif route == ("environment", "network") and str(value).lower() in _OPEN_NETWORKS:
        hint = "delete it, which opens every public address, or name the hosts: `network: {egress: [api.example.com]}`"
    elif last == "egress" and isinstance(value, bool):
        hint = "delete `network`, which opens every public address, or name the hosts" if value else "write `egress: []`"
    elif wanted == TEXT and written is not None:
        write = f'"{written}"'
        hint = f"put quotes around it: {write}"
    elif route == ("triggers",) and (trigger := _only_trigger(value)) is not None:
        hint = f"write a list: `[{_TRIGGER_FORMS[trigger]}]`"
    elif wanted == LIST and isinstance(value, dict) and value and route in _LISTS_OF_MAPPINGS:
        own, there = document.written(route)
        hint = _itemized(next(iter(value)), len(value) > 1, flow=own.is_flow(there))
    elif wanted == LIST and isinstance(value, dict) and value:
        hint = f"write a list: `[{', '.join(list(value)[:_MAX_NAMES])}]`"
    elif wanted == LIST and isinstance(value, str) and re.match(r"-\w", value):
        items = [item.strip() for item in re.split(r"(?:^|\s)-(?=\w)", value) if item.strip()]
        hint = f"write a blank behind each `-`: `- {items[0][:_MAX_MADE]}`"
    elif route == ("environment", "secrets") and str(value).lower() in _ALL_SECRETS:
        hint = f"name each secret that the run needs{_such_as(document, route)}: it gets no others"
    elif wanted == LIST and not isinstance(value, dict):
        alone = written if written is not None else _alone_in_list(value)
        hint = f"write a list: [{alone}]" if alone is not None else f"write a list{_such_as(document, route)}"
    elif wanted == SWITCH and isinstance(value, str) and value.lower() in ("true", "false"):
        write = value.lower()
        hint = f"remove the quotes: {write}"
    elif route == ("command",):
        hint = f"write a list{_such_as(document, route)}"
    elif wanted == MAPPING and isinstance(value, str) and re.fullmatch(r"\S{1,200}\.(?:json|ya?ml)", value):
        hint = f"write the content of `{value}` here: no other file is read for `{last}`"
    elif wanted == MAPPING and not (shown := _with_example(document, route)).endswith(":"):
        hint = f"write it as in `{shown}`"
    elif wanted == MAPPING and isinstance(last, str):
        hint = f"write `{last}:`, and `key: value` lines below it"
    elif wanted == SWITCH:
        word = str(value).strip().lower()
        meant = "false" if word in _OFF else "true" if word in _ON else None
        hint = f"write {meant}" if meant else "write `true` or `false`"
    elif route == ("priority",) and (rank := _RANKS.get(str(value).strip().lower())) is not None:
        hint = f"write {rank}: the highest of -100 to 100 starts first"
    elif wanted == WHOLE and (whole := _whole(value)) is not None:
        hint = f"write {whole}"
    else:
        hint = f"write {wanted}{_such_as(document, route)}"
    is_number = type(value) in (int, float) and written is not None
    given = f"`{written}`" if wanted == WHOLE and is_number else _kind_of(value)
    message = f"`{show(route)}` must be {wanted}, not {given}"
    return at("OPT103", message, hint, write=write)


def _alone_in_list(value: Any) -> str | None:
    """A text on one line that may be shown, as an item."""
    if not isinstance(value, str) or not value.strip() or "\n" in value or len(value) > _MAX_MADE or _holds_secrets(value):
        return None
    from optio.compiler.yaml.emit import flow

    return flow([value.strip()])[1:-1]


def _only_name(value: dict[Any, Any]) -> str | None:
    """Return the name of a secret that is the only key of a mapping. The value behind it is never shown."""
    names = [key for key in value if isinstance(key, str) and re.fullmatch(r"[A-Z][A-Z0-9_]*", key, re.ASCII)]
    return names[0] if len(value) == 1 and names else None


def _hint_for_empty_key(document: Document | MergedDocument, route: Route) -> str:
    """Return the hint for a key without a value, by its siblings."""
    own, there = document.written(route)
    place = own.key_span(there)
    line = own.text.split("\n", place.end.line)[place.end.line - 1][place.end.column - 1 :]
    comment = re.match(r"\s*:\s+(#\S.*)", line)
    if comment is not None:
        return f"`#` begins a comment: put quotes around the value: {single_quoted(comment[1].strip())}"
    beside = value_at(document.value, route[:-1])
    inner = known_keys(document.value, route)
    below = [key for key in beside if key in inner and key not in known_keys(document.value, route[:-1])] if inner else []
    if below:
        return f"put `{'` and `'.join(below[:_MAX_NAMES])}` below it, indented deeper than `{route[-1]}`"
    written = _with_example(document, route)
    return (
        "give a value or delete the key" if written.endswith(":") else f"write a value, such as `{written}`, or delete the key"
    )


def _with_example(document: Document | MergedDocument, route: Route) -> str:
    """Return the key at this place with an example value."""
    from optio.compiler.conversions.entries import as_entry  # imported only for a file with a mistake

    return as_entry(document.value, route, document.path_at(route))


def _such_as(document: Document | MergedDocument, route: Route) -> str:
    from optio.compiler.conversions.entries import example_hint  # imported only for a file with a mistake

    return example_hint(document.value, route)


def _reshaped(value: Any, pattern: str) -> str | None:
    from optio.compiler.conversions.entries import repair_text  # imported only for a file with a mistake

    return repair_text(value, pattern)


def _whole(value: Any) -> str | None:
    """Return the whole number that the value holds, or the two beside it."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        from optio.compiler.conversions.values import whole  # imported only for a file with a mistake

        return whole(value)
    number = number_in(str(value)) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
    if number is None:
        return None
    return str(int(number)) if number == int(number) else f"{int(number // 1)} or {int(number // 1) + 1}"


def _converted(document: Document | MergedDocument, route: Route, value: Any, wanted: str) -> tuple[str, Fix | None] | None:
    """Return the hint made of the value in another form, and a fix where the value is on one line."""
    from optio.compiler.conversions.suggest_text import convert_to_mapping, convert_to_text
    from optio.compiler.conversions.values import program, triggers
    from optio.compiler.token_shapes import match_tokens
    from optio.compiler.yaml.emit import flow

    written: str | None = None
    if route == ("promptTemplate",) and isinstance(value, dict):
        file = next((value[key] for key in ("file", "path", "promptFile", "ref", "from", "$ref") if key in value), None)
        if isinstance(file, str):
            return f"write `promptFile: {flow(file)}` for it, and the path from this file on", None
    if wanted == TEXT and isinstance(value, (list, dict)):
        if route[:2] == ("environment", "env") and isinstance(value, dict) and not _REFERENCES.isdisjoint(value):
            return f"delete it, and add `{route[-1]}` to `environment.secrets`", None
        meant = convert_to_text(route, value)
        if meant is not None and "\n" in meant:
            return f"write `{route[-1]}: |`, with its text below it", None
        written = None if meant is None or any(match_tokens(meant)) else flow(meant)
        if written is None and route[:2] == ("environment", "env") and not _holds_secrets(value):
            written = flow(json.dumps(value, ensure_ascii=False, default=str))
    elif route == ("command",) and isinstance(value, dict):
        written = program(value)
    elif wanted == MAPPING and not isinstance(value, dict):
        written = convert_to_mapping(route, value)
    elif route == ("triggers",) and isinstance(value, (dict, str)):
        written = triggers(value)
    elif wanted == LIST and isinstance(value, str) and re.search(r"[\n,|]|;\s", value.strip()):
        commands = route[-1:] in (("setupCommands",), ("command",))
        parts = value.split("\n") if commands else re.split(r"[\n,|]|;\s", value)
        written = flow([part.strip() for part in parts if part.strip()])
    if written is None or len(written) > _MAX_MADE:
        return None
    last = route[-1]
    hint = f"write `{last}: {written}`" if isinstance(last, str) else f"write `{written}`"
    span = document.span(route)
    one_line = span.start.line == span.end.line and (document.plain(route) is None or wanted != TEXT)
    own, there = document.written(route)
    alone = one_line and (own.is_flow(there) or not isinstance(value, (list, dict)))
    return hint, document.rewritten(route, written, safe=False) if alone else None


def _cron(value: int) -> str | None:
    from optio.compiler.conversions.values import cron  # imported only for a file with a mistake

    return cron(value)


def _holds_secrets(value: Any) -> bool:
    """Return True if the value may be a secret, by its shape or its keys, and must not be shown."""
    from optio.compiler.conversions.known_keys import SECRET_NAME
    from optio.compiler.token_shapes import match_tokens

    text = json.dumps(value, default=str)
    return any(match_tokens(text)) or any(SECRET_NAME.search(name.upper()) for name in re.findall(r'"([^"]*)"\s*:', text))


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
