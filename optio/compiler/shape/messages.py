"""Turn a `ValidationIssue` into a diagnostic: the message, the hint, and a fix where the same value has another spelling.
Imported only for a file with a mistake."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from optio.compiler.conversions.entries import as_entry, example_hint, repair_text
from optio.compiler.conversions.known_keys import TRIGGERS, known_keys, suggest_secret_name, suggest_trigger
from optio.compiler.conversions.quantities import suggest_amount, suggest_duration, suggest_whole_number, unit_hint
from optio.compiler.conversions.suggest_words import explain_choices, suggest_allowed_word, suggest_hmac_keys
from optio.compiler.diagnostics import Diagnostic, Edit, Fix, Severity, diagnostic
from optio.compiler.layers import POLICY, MergedDocument
from optio.compiler.param_schema.expected_type import NUMBER, SCHEMAS, expected_type, keyword_form
from optio.compiler.shape.unknown_keys import UnknownKey, explain_unknown_key
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

_SECRETS = ("secret", "previousSecret")
# Placeholders for secrets in documentation.
_PLACEHOLDER = r"(?i)\A(?:change[-_ ]?me|(?:my|your|the)[-_ ].*|secret|password|token|todo|x{3,}|<.*>|\[.*\]|\W*)\Z|\.{3}"
_MONEY = 'write the amount as text with at most four decimals, such as "2.50"'
_DURATION = "write hours, minutes and seconds: `90s`, `20m` or `1h30m`"
_DURATIONS: tuple[Route, ...] = (
    ("timeout",),
    ("stallTimeout",),
    ("startLimit", "per"),
    ("dedupe", "window"),
    ("environment", "keepFailed"),
)
# Cures for 0 and -1 where other systems mean "no limit".
_NO_LIMIT = {
    "maxTurns": "delete it for no limit",
    "maxConcurrent": "`100` if no limit was meant; to start nothing, write `enabled: false` and delete it",
    "maxCatchUp": "delete it and write `misfire: skip` to catch up no runs",
}
_UNBOUNDED = ("unlimited", "infinite", "infinity", "none", "no", "off", "max", "inf")
_SWITCHES = {**dict.fromkeys(("yes", "on", "1", "y"), "true"), **dict.fromkeys(("no", "off", "0", "n"), "false")}
_NEVER = ("no", "off", "0", "never", "none", "disabled")
_LISTS_OF_MAPPINGS: tuple[Route, ...] = (("triggers",), ("tests",))
_TRIGGER_FORMS = {
    "manual": "{type: manual}",
    "schedule": '{type: schedule, config: {cronExpression: "0 9 * * 1"}}',
    "webhook": "{type: webhook, config: {path: my-path, secret: {name: NAME}}}",
}
_CONFIGS = {kind: form.partition(", ")[2][:-1] for kind, form in _TRIGGER_FORMS.items() if "config" in form}
_ALLOWED_TRIGGERS = f"allowed: {', '.join(_TRIGGER_FORMS)}"
_MAX_NAMES = 5
# Keys that hold the whole value where other systems have a mapping.
_ONLY_KEYS = frozenset({"name", "value", "run"})
# Lists whose items have no commas.
_WITHOUT_COMMAS = ("secrets", "events", "egress", "required")
_MAX_ITEM_LENGTH, _MAX_ID_LENGTH = 200, 80
_ENV_NAME = "use letters, digits and underscores, no digit first"
# The name of a secret in words. Other texts in its place may be the secret itself and are not shown.
_SECRETS_NAME = r"(?i)[a-z]{2,15}(?:[-. ][a-z]{2,15}){0,4}[-. ](?:token|key|secret|password|credentials|url)"


class _Cure(NamedTuple):
    """The hint for a value of the wrong type, with the text that a fix writes in its place."""

    hint: str
    write: str | None = None
    is_safe: bool = True


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
        layer, own_route = self.document.written(self.route)
        return layer.is_flow(own_route)

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
        unproved_hint: str | None = None,
    ) -> Diagnostic:
        """Return the finding at the value, at its `key`, or at another `place`. The fix puts `write` there."""
        document, place = self.document, self.route if place is None else place
        span = document.key_span(place) if key else document.span(place)
        if write is not None:
            fix = Fix.write(write, span, safe=safe) if key else document.rewritten(place, write, safe=safe)
        path = document.path_at(place)
        return diagnostic(code, message, path=path, span=span, route=place, hint=hint, fix=fix, unproved_hint=unproved_hint)


def to_diagnostic(document: Document | MergedDocument, misfit: ValidationIssue, explained: UnknownKey | None) -> Diagnostic:
    """Return the finding for one mismatch between the document and the model, which is `explained` if it is an unknown key."""
    finding = _Finding(document, *misfit)
    if explained is not None:
        return _unknown_key(finding, explained)
    if finding.kind in _OF_KEYS_AND_WORDS:
        return _OF_KEYS_AND_WORDS[finding.kind](finding)
    if finding.last in _SECRETS and isinstance(finding.value, str):
        return _bad_secret(finding)
    if finding.route == ("budgetUsd",):
        return _bad_money(finding)
    if finding.route in _DURATIONS or finding.last == "replayWindow":
        return _bad_duration(finding)
    return _OF_VALUES[finding.kind](finding)


def _unknown_key(finding: _Finding, unknown: UnknownKey) -> Diagnostic:
    document, route = finding.document, finding.route
    write, fix, unproved_hint = None, None, None
    if unknown.entry is not None:
        fix = _entry(document, route, unknown.entry)
        unproved_hint = f"the nearest key is `{_key_of(unknown.entry)}`: write it if you mean that, and delete this key"
    elif unknown.meant is not None:
        write = unknown.meant if unknown.meant not in value_at(document.value, route[:-1]) else None
    elif unknown.into is not None:
        fix = _moved(document, route, unknown.into)
    is_safe = unknown.code == "OPT111"
    return finding.at(
        unknown.code, unknown.message, unknown.hint, key=True, write=write, safe=is_safe, fix=fix, unproved_hint=unproved_hint
    )


def _key_of(entry: str) -> str:
    """Return the key of an entry, with the one below `environment`: `environment.image`."""
    match = re.match(r"environment: \{(\w+):", entry)
    return entry.partition(":")[0] if match is None else f"environment.{match[1]}"


def _missing_key(finding: _Finding) -> Diagnostic:
    document, route = finding.document, finding.route
    trigger = str(value_at(document.value, (*route[:-1], "type"))) if finding.last == "config" else ""
    hint = f"add `{_CONFIGS.get(trigger) or finding.example}`"
    if route == ("name",) and "templates" in document.path_at(route).split("/")[:-1]:
        hint += ", or `type: template` if tasks extend this file"
    return finding.at("OPT102", f"`{finding.name}` is missing", hint, key=True)


def _bad_secret(finding: _Finding) -> Diagnostic:
    name, last = finding.name, finding.last
    if re.search(_PLACEHOLDER, finding.value):
        hint = f"write `{last}: {{name: NAME}}`, and give that secret its own value: `openssl rand -hex 32`"
        return finding.at("OPT406", f"`{name}` is a placeholder, not a secret", hint)
    if (secret := suggest_secret_name(finding.value)) is not None:
        write = f"{{name: {secret}}}"
        hint = f"write `{last}: {write}`"
        return finding.at("OPT103", f"`{name}` must be a mapping, not text", hint, write=write, safe=False)
    hint = f"write `{last}: {{name: NAME}}`, set OPTIO_SECRET_NAME for the server, and rotate this one: it has been exposed"
    return finding.at("OPT405", f"`{name}` is a secret in plain text", hint)


def _blank(finding: _Finding) -> Diagnostic:
    return finding.at("OPT106", f"`{finding.name}` is blank", f"write a text{finding.such_as}, or delete the key")


def _too_long(finding: _Finding) -> Diagnostic:
    code = "OPT107" if finding.route in (("name",), ("id",)) else "OPT105"
    message = f"`{finding.name}` is {len(finding.value):,} characters long"
    return finding.at(code, message, f"write at most {finding.wanted} characters")


def _too_small(finding: _Finding) -> Diagnostic:
    hint = f"write {finding.wanted} or more" + (f", or {_NO_LIMIT[str(finding.last)]}" if finding.last in _NO_LIMIT else "")
    return finding.at("OPT105", f"`{finding.name}` is {finding.value}", hint)


def _too_large(finding: _Finding) -> Diagnostic:
    return finding.at("OPT105", f"`{finding.name}` is {finding.value}", f"write {finding.wanted} or less")


def _bad_money(finding: _Finding) -> Diagnostic:
    value = finding.value
    source_text = finding.written or (value if isinstance(value, str) else "")
    if re.search(r"(?i)\d\D{0,6}(?:/|\bper|\ba|\beach)\s*(?:day|month|week|year|mo\b)", source_text):
        hint = f'a budget is for one run: write `budgetUsd: "1.00"`; for a day or month use `ceilings` in `{POLICY}`'
        return finding.at("OPT610", "`budgetUsd` is not a valid amount of money", hint)
    suggestion = suggest_amount(source_text)
    hint, write = (_MONEY, None) if suggestion is None else (f'write "{suggestion}"', f'"{suggestion}"')
    if type(value) in (int, float) and suggestion is not None:
        message = "`budgetUsd` is a number: money is text in quotes"
        return finding.at("OPT610", message, hint, write=write, safe=suggestion == source_text)
    return finding.at("OPT610", "`budgetUsd` is not a valid amount of money", hint, write=write, safe=False)


def _bad_duration(finding: _Finding) -> Diagnostic:
    name, route, value = finding.name, finding.route, finding.value
    code = "OPT105" if isinstance(value, str) else "OPT103"
    word = str(value).strip().lower()
    or_none = ", or `none`" if finding.last == "replayWindow" else ""
    if re.fullmatch(r"[0.,\s]*0[a-z\s]*", word):
        return finding.at(code, f"`{name}` must be more than 0", "write `20m`, or another time" + or_none)
    if or_none and (value is False or word in _NEVER):
        return finding.at(code, f"`{name}` is not a valid duration", "write `none`", write="none", safe=False)
    hint, write = _DURATION + or_none, None
    if isinstance(value, str) and (suggestion := suggest_duration(value)) is not None:
        hint = f"write `{suggestion}`" + (": days are not supported" if re.search("[0-9] *[dw]", word) else "")
        write = finding.document.restyled(route, suggestion)
    elif re.fullmatch(r"[1-9][0-9]{0,5}", word):
        hint = unit_hint(int(value))
    return finding.at(code, f"`{name}` is not a valid duration", hint, write=write, safe=False)


def _moved(document: Document | MergedDocument, route: Route, into: str) -> Fix | None:
    """Return the fix that moves the key into a mapping beside it, together with all others that belong there."""
    from optio.compiler.edits.move_keys import move_keys_into

    layer, own_route = document.written(route)
    sibling_keys, inner = known_keys(document.value, route[:-1]), known_keys(document.value, (*route[:-1], into))
    siblings = value_at(layer.value, own_route[:-1])
    stray = [key for key in siblings if key in inner and key not in sibling_keys]
    keys = [key for key in stray if explain_unknown_key(document.value, (*route[:-1], key)).into == into]
    edits = move_keys_into(layer, own_route[:-1], keys, into)
    # If the mapping does not exist yet, an unknown sibling key may be meant for it, and the fix would make a second one.
    is_clear = into in siblings or all(key in sibling_keys or key in keys for key in siblings)
    # A change to the environment of a run needs a review.
    return None if edits is None else Fix(edits, safe=is_clear and into != "environment")


def _entry(document: Document | MergedDocument, route: Route, text: str) -> Fix | None:
    """Return the fix that replaces a key and its value, where the value ends with its line or with a bracket."""
    layer, own_route = document.written(route)
    key, value = layer.key_span(own_route), layer.span(own_route)
    if layer.plain(own_route) is None and not layer.is_flow(own_route) and layer.source(own_route)[:1] not in ("'", '"'):
        return None
    if layer.is_flow(own_route) and "#" in layer.source(own_route):
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
    span = document.span(route)
    expected_kind = expected_type(document.value, route)
    kind = misfit.wanted if misfit is not None and misfit.kind == "type" else expected_kind
    if kind in (LIST, MAPPING):
        cure = _Cure((keyword_form(document.value, route) if expected_kind else None) or f"write {kind}")
    else:
        cure = _cure_of_scalar(document, route, text, reading, kind)
    fix = None if cure.write is None else document.rewritten(route, cure.write, safe=cure.is_safe)
    message = (
        f"`{text}` without quotes is {reading} for other YAML readers"
        if reading != "null"
        else f"`{text}` without quotes is not a text"
    )
    finding = diagnostic("OPT006", message, path=document.path_at(route), span=span, route=route, hint=cure.hint, fix=fix)
    # Optio reads YAML 1.2, so a value that fits there is valid, and only other readers see another one.
    fits = misfit is None and isinstance(value_at(document.value, route), _READ_AS.get(kind, object))
    return replace(finding, severity=Severity.WARNING) if fits and reading != "null" else finding


def _cure_of_scalar(document: Document | MergedDocument, route: Route, text: str, reading: str, kind: str | None) -> _Cure:
    """Return the cure for a text that readers take for another value: the value of the `kind` that belongs there."""
    number = decimal(text)
    if kind == SWITCH:
        is_known = reading in ("true", "false")
        return _Cure(f"write {reading}", reading, is_safe=False) if is_known else _Cure("write true or false")
    if kind in (WHOLE, NUMBER):
        return _Cure("write a number in plain digits, such as 20") if number is None else _Cure(f"write {number}", number)
    if route in _DURATIONS:
        duration = suggest_duration(text)
        return _Cure(_DURATION) if duration is None else _Cure(f"write `{duration}`", duration, is_safe=False)
    if route == ("budgetUsd",) and (amount := suggest_amount(text)) is not None:
        return _Cure(f'write "{amount}"', f'"{amount}"', is_safe=False)
    quoted_text = single_quoted(text)
    if kind is None and number is not None:
        if _is_free(route):
            return _Cure(f"write {quoted_text} for the text, {number} for the number")
        if type(value_at(document.value, route)) is int:
            return _Cure(f"write {number}", number)
    return _Cure(f"write {quoted_text}" + (" for that text, '' for an empty one" if reading == "null" else ""), quoted_text)


def _is_free(route: Route) -> bool:
    """Return True if the author's schema, and not the model, decides what may stand here."""
    return any(route[: len(at)] == at for at in (*SCHEMAS, ("tests",))) or "paramMapping" in route


def _bad_trigger(finding: _Finding) -> Diagnostic:
    route, value = finding.route, value_at(finding.document.value, finding.route)
    if not isinstance(value, dict):
        hint = f"write `- {_TRIGGER_FORMS[suggest_trigger(str(value)) or 'manual']}`"
        return finding.at("OPT103", f"`{finding.name}` must be a mapping, not {_kind_of(value)}", hint)
    if "type" not in value:
        missing = finding.at("OPT102", f"`{finding.name}.type` is missing", _missing_type(value))
        return replace(missing, route=(*route, "type"))

    word = str(value["type"])
    suggestion = suggest_trigger(word)
    hint = f"did you mean `{suggestion}`?" if suggestion else _ALLOWED_TRIGGERS
    if word == "ticket":
        hint, suggestion = f"tickets start Repo Tasks only; {_ALLOWED_TRIGGERS}", None
    return finding.at("OPT321", f"unknown trigger `{word}`", hint, place=(*route, "type"), write=suggestion, safe=False)


def _missing_type(value: dict[str, Any]) -> str:
    trigger_key = next((key for key in value if key in TRIGGERS), None)
    if trigger_key:
        return f"write `type: {trigger_key}`, and `config:` with the keys below `{trigger_key}`"
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


def _bad_word(finding: _Finding) -> Diagnostic:
    route, value, words, name = finding.route, finding.value, finding.wanted, finding.name
    if isinstance(mapped_word := suggest_allowed_word(route, value), tuple):
        return finding.at("OPT104", f"`{name}` is `{value}`", mapped_word[0])
    config = value_at(finding.document.value, route[:-1])
    if route[-1:] == ("scheme",) and isinstance(config, dict) and (hint := suggest_hmac_keys(value, config)) is not None:
        return finding.at("OPT104", f"`{name}` is `{value}`", hint)
    suggestion = mapped_word or suggest(str(value).lower(), words)
    list_text = "allowed: " + ", ".join(words)
    if suggestion:
        hint = f"did you mean `{suggestion}`?" + (f" {list_text}" if len(words) > 1 else "")
    else:
        hint = explain_choices(route) or list_text
    if route == ("type",):
        return _bad_type(finding, hint)
    if route == ("apiVersion",):
        return finding.at("OPT114", f"unknown version `{value}`", hint)
    message = f"`{name}` is `{value}`" if isinstance(value, str) else f"`{name}` is not a text"
    write = None if suggestion is None else finding.document.restyled(route, suggestion)
    return finding.at("OPT104", message, hint, write=write, safe=False)


def _bad_type(finding: _Finding, hint: str) -> Diagnostic:
    value = finding.value
    if value == "policy":
        verb = "move it there" if "/" in finding.document.path_at(finding.route) else "rename it"
        hint = f"a policy must be the file `{POLICY}` at the top of the task directory: {verb}"
        return finding.at("OPT110", f"a document of type `{value}` is in the wrong place", hint)
    repo = value in ("repo", "repository", "pr")
    return finding.at("OPT110", f"unknown type `{value}`", "Repo Tasks are not supported: write standalone" if repo else hint)


def _bad_pattern(finding: _Finding) -> Diagnostic:
    name, route, last, value, pattern = finding.name, finding.route, finding.last, finding.value, finding.wanted
    if route == ("id",):
        task_id = slug(value)
        hint = f"write `{task_id}`" if 0 < len(task_id) <= _MAX_ID_LENGTH else "use a-z, 0-9 and single dashes: `weekly-report`"
        return finding.at("OPT107", f"`{value}` is not a valid id", hint)
    if route[:2] == ("environment", "env"):
        shown_text = f"`{last}`" if last else "an empty text"
        repaired_name = repair_text(str(last), pattern)
        free = repaired_name is not None and repaired_name not in value_at(finding.document.value, route[:-1])
        hint = f"write `{repaired_name}`" if free else f"{_ENV_NAME}: `LOG_LEVEL`"
        return finding.at("OPT506", f"{shown_text} is not a valid name of an environment variable", hint, key=True)
    if route[:2] == ("environment", "secrets") or last == "name":
        # The value may be the secret itself, so name the place only.
        suggestion = suggest_secret_name(value) or (repair_text(value, pattern) if re.fullmatch(_SECRETS_NAME, value) else None)
        hint = f"write `{suggestion.upper()}`" if suggestion else f"{_ENV_NAME}: `API_TOKEN`"
        return finding.at("OPT506", f"`{name}` is not a valid name of a secret", hint)
    if str(last).endswith("Header") and re.search(r"[.${]", value):
        return finding.at("OPT105", f"`{name}` is not the name of a header", "write the name alone, such as `X-Signature`")
    repaired_name = repair_text(value, pattern)
    hint = f"write `{repaired_name}`" if repaired_name else f"write one that matches `{portable(pattern)}`{finding.such_as}"
    return finding.at("OPT105", f"`{name}` has characters that are not allowed", hint)


def _wrong_type(finding: _Finding) -> Diagnostic:
    value, kind, source_text = finding.value, finding.wanted, finding.written
    if not finding.route:
        message = f"a task is a mapping, not {_kind_of(value)}"
        return finding.at("OPT103", message, "begin with `name:`, one `key: value` a line")
    value_text = (
        f"`{source_text}`" if kind == WHOLE and type(value) in (int, float) and source_text is not None else _kind_of(value)
    )
    message = f"`{finding.name}` must be {kind}, not {value_text}"
    if value is None:
        return finding.at("OPT103", message, _hint_for_empty_key(finding))
    digits = source_text if kind == WHOLE and isinstance(value, str) and source_text is not None else ""
    if digits.lstrip("+-").isdigit() and suggest_whole_number(digits) is None:
        message = f"`{finding.name}` is too large: it has {len(digits):,} digits"
        return finding.at("OPT105", message, "write a smaller number")
    form = f"write {kind}{finding.such_as}"
    cure = _OF_TYPES[kind](finding) or _Cure(form)
    return finding.at("OPT103", message, cure.hint, write=cure.write, safe=cure.is_safe, unproved_hint=form)


def _as_text(finding: _Finding) -> _Cure | None:
    value, source_text = finding.value, finding.written
    if (
        finding.route[:2] == ("environment", "secrets")
        and isinstance(value, dict)
        and (secret := _only_name(value)) is not None
    ):
        return _Cure(f"write `{secret}` alone: its value is set for the server")
    content = next(iter(value.values())) if isinstance(value, dict) and len(value) == 1 and set(value) <= _ONLY_KEYS else None
    if isinstance(value, list) and len(value) == 1:
        content = value[0]
    if (item := _item(content)) is not None:
        return _Cure(f"write {item}", item, is_safe=False)
    if finding.route[:2] == ("environment", "env") and isinstance(value, dict):
        return _Cure("write text, or name it in `environment.secrets` if it is secret")
    return None if source_text is None else _Cure(f'put quotes around it: "{source_text}"', f'"{source_text}"')


def _as_whole(finding: _Finding) -> _Cure | None:
    value, source_text = finding.value, finding.written
    if finding.route == ("maxRetries",) and isinstance(value, bool):
        return _Cure("write 1 for one further attempt", "1") if value else _Cure("write 0 for no further attempt", "0")
    if finding.route == ("maxTurns",) and isinstance(value, str) and value.strip().lower() in _UNBOUNDED:
        return _Cure("delete it for no limit")
    if not isinstance(value, str | float):
        return None
    number = suggest_whole_number(source_text or str(value).strip())
    if number is None:
        return _Cure(f"write {int(value)} or {int(value) + 1}") if isinstance(value, float) and abs(value) < 1e9 else None
    is_quoted = isinstance(value, str) and value.strip() not in ("", source_text)
    return _Cure(f"{'remove the quotes:' if is_quoted else 'write'} {number}", str(number))


def _as_switch(finding: _Finding) -> _Cure | None:
    word = str(finding.value).strip().lower()
    if isinstance(finding.value, str) and word in ("true", "false"):
        return _Cure(f"remove the quotes: {word}", word)
    switch = _SWITCHES.get(word)
    return _Cure(f"write {switch}", switch, is_safe=False) if switch is not None else _Cure("write `true` or `false`")


def _as_list(finding: _Finding) -> _Cure | None:
    route, value, source = finding.route, finding.value, finding.written
    if isinstance(value, dict):
        if not value:
            return None
        if route in _LISTS_OF_MAPPINGS:
            return _Cure(_itemized(next(iter(value)), len(value) > 1, flow=finding.is_flow))
        return _Cure(f"write a list: `[{', '.join(list(value)[:_MAX_NAMES])}]`")
    return None if (items := _items(route, value, source)) is None else _Cure(f"write a list: {items}", items, is_safe=False)


def _as_mapping(finding: _Finding) -> _Cure | None:
    if not (entry := finding.example).endswith(":"):
        return _Cure(f"write it as in `{entry}`")
    return _Cure(f"write `{finding.last}:`, and `key: value` lines below it") if isinstance(finding.last, str) else None


def _as_text_or_list(finding: _Finding) -> _Cure | None:
    return _Cure(f"write a list{finding.such_as}") if finding.route == ("command",) else None


def _as_connection(finding: _Finding) -> _Cure | None:
    return _Cure("write the name of a connection, or `{id: NAME, tools: [TOOL]}`")


_OF_KEYS_AND_WORDS: dict[IssueKind, Callable[[_Finding], Diagnostic]] = {
    "missing": _missing_key, "variant": _bad_trigger, "word": _bad_word,
}  # fmt: skip
_OF_VALUES: dict[IssueKind, Callable[[_Finding], Diagnostic]] = {
    "type": _wrong_type, "pattern": _bad_pattern, "blank": _blank, "longest": _too_long, "least": _too_small,
    "most": _too_large,
}  # fmt: skip
_OF_TYPES: dict[str, Callable[[_Finding], _Cure | None]] = {
    TEXT: _as_text, WHOLE: _as_whole, SWITCH: _as_switch, LIST: _as_list, MAPPING: _as_mapping,
    f"{TEXT} or {LIST}": _as_text_or_list, f"{TEXT} or {MAPPING}": _as_connection,
}  # fmt: skip


def _items(route: Route, value: Any, source_text: str | None) -> str | None:
    """Return a list of the items of a text: its lines, or its parts between commas where no item has one."""
    if source_text is not None and not isinstance(value, str):
        return f"[{source_text}]"
    if not isinstance(value, str):
        return None
    items = [part.strip() for part in re.split(r"[,\n]" if route[-1] in _WITHOUT_COMMAS else r"\n", value) if part.strip()]
    is_name = route != ("environment", "secrets") or all(re.fullmatch(r"[A-Z][A-Z0-9_]*", item) for item in items)
    list_text = flow(items)
    return list_text if items and is_name and len(list_text) <= _MAX_ITEM_LENGTH and not any(match_tokens(value)) else None


def _item(value: Any) -> str | None:
    """Return a text on one line that may be shown, as an item of a list."""
    if not isinstance(value, str) or not value.strip() or "\n" in value or len(value) > _MAX_ITEM_LENGTH:
        return None
    return None if any(match_tokens(value)) else flow([value.strip()])[1:-1]


def _only_name(value: dict[Any, Any]) -> str | None:
    """Return the name of a secret that is the only key of a mapping. The value behind it is never shown."""
    names = [key for key in value if isinstance(key, str) and re.fullmatch(r"[A-Z][A-Z0-9_]*", key, re.ASCII)]
    return names[0] if len(value) == 1 and names else None


def hint_for_commented_value(document: Document | MergedDocument, route: Route) -> str | None:
    """Return the hint for a key whose value is a comment, such as `channel: #sales`; None for another key."""
    layer, own_route = document.written(route)
    place = layer.key_span(own_route)
    line = layer.text.split("\n", place.end.line)[place.end.line - 1][place.end.column - 1 :]
    comment = re.match(r"\s*:\s+(#\S.*)", line)
    return comment and f"`#` begins a comment: put quotes around the value: {single_quoted(comment[1].strip())}"


def _hint_for_empty_key(finding: _Finding) -> str:
    """Return the hint for a key without a value, by its siblings."""
    root, route = finding.document.value, finding.route
    commented = hint_for_commented_value(finding.document, route)
    if commented is not None:
        return commented
    inner = known_keys(root, route)
    inner_keys = [key for key in value_at(root, route[:-1]) if key in inner and key not in known_keys(root, route[:-1])]
    if inner_keys:
        return f"put `{'` and `'.join(inner_keys[:_MAX_NAMES])}` below it, indented deeper than `{route[-1]}`"
    entry = finding.example
    return "give a value or delete the key" if entry.endswith(":") else f"write a value, such as `{entry}`, or delete the key"


def _itemized(key: str, has_more: bool, *, flow: bool) -> str:
    if flow:
        return "put brackets around it: `[{...}]`"
    return f"put `- ` before `{key}:`" + (", and two spaces before the lines below it" if has_more else "")


def _kind_of(value: Any) -> str:
    if value is None:
        return "empty"
    return {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}[
        type(value)
    ]
