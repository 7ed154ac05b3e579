"""Convert a value of another system to YAML text, on one line, that means the same in Optio. A converter takes any value, and
returns None unless the meaning of all of it is certain. `foreign_keys.json` names the converters; imported only for a file with
a mistake."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from optio.compiler.conversions.cron_suggestions import suggest_cron
from optio.compiler.conversions.known_keys import CREDENTIAL_NAME, suggest_referred_secret
from optio.compiler.conversions.quantities import suggest_amount, suggest_duration, suggest_whole_number
from optio.compiler.conversions.schema_words import WORDS
from optio.compiler.conversions.suggest_words import suggest_allowed_word
from optio.compiler.yaml.emit import flow
from optio.model.text import format_duration

Converter = Callable[[Any], str | None]
_OFF = frozenset({"false", "no", "off", "disabled", "inactive", "paused", "suspended"})
_ON = frozenset({"true", "yes", "on", "enabled", "active"})
_UNIT_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400}
_TYPES = frozenset({"string", "integer", "number", "boolean", "array", "object"})


def unchanged(value: Any) -> str | None:
    """Return the value itself."""
    return flow(value)


def text(value: Any) -> str | None:
    """Return a text or a number as text; also the only item of a list, and the name that is alone in a mapping."""
    value = _only(value, ("name", "id", "value", "image"))
    return flow(str(value)) if type(value) in (str, int, float) and str(value).strip() else None


def switch(value: Any) -> str | None:
    """Return `true` or `false` for a word that can only mean that."""
    word = _word(value)
    return "true" if word in _ON else "false" if word in _OFF else None


def inverted(value: Any) -> str | None:
    """Return `false` for true and `true` for false, because `disabled: true` means `enabled: false`."""
    return {"true": "false", "false": "true"}.get(_word(value))


def whole(value: Any) -> str | None:
    """Return a whole number that is not negative; of a mapping, the limit that is alone in it."""
    value = _only(value, ("limit", "max", "count"))
    number = suggest_whole_number(str(value).strip()) if type(value) in (int, float, str) else None
    return None if number is None or number < 0 else str(number)


def attempts(value: Any) -> str | None:
    """Return the number of retries for a number of attempts, which counts the first one."""
    count = whole(value)
    return None if count is None or count == "0" else str(int(count) - 1)


def money(value: Any) -> str | None:
    """Return an amount of US dollars in quotes, for a key that counts dollars."""
    amount = suggest_amount(str(value)) if type(value) in (int, float, str) else None
    return None if amount is None else f'"{amount}"'


def price(value: Any) -> str | None:
    """Return an amount of US dollars in quotes, if the value says that it is in dollars."""
    return money(value) if isinstance(value, str) and re.search(r"\$|usd|dollar", value.lower()) else None


def _duration(unit: float | None, value: Any) -> str | None:
    """Return a duration for a number of units, or for a value that names its own. Without a `unit` a number means nothing."""
    if isinstance(value, Mapping):
        parts = {f"{str(key).lower().rstrip('s')}s": number for key, number in value.items()}
        if not parts or not all(key in _UNIT_SECONDS and type(number) is int for key, number in parts.items()):
            return None
        return _formatted(sum(_UNIT_SECONDS[key] * number for key, number in parts.items()))
    if type(value) in (int, float) or (isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value)):
        return None if unit is None else _formatted(float(value) * unit)
    return suggest_duration(value) if isinstance(value, str) else None


def _formatted(number: float) -> str | None:
    return format_duration(timedelta(seconds=number)) if number == int(number) and 0 < number < 86_400 * 365 else None


def cron(value: Any) -> str | None:
    """Return a cron expression for a text, also if it is the only item of a list, or alone in a mapping as `cron`."""
    value = _only(_only(value, ()), ("cron", "expression", "cronExpression", "schedule"))
    if not isinstance(value, str):
        return None
    if _is_cron(value):
        return f'"{value}"'
    near = suggest_cron(value)
    return None if near is None or near.zone is not None else f'"{near.expression}"'


def _is_cron(text: str) -> bool:
    from optio.scheduling.cron import CronError, check_expression

    try:
        check_expression(text)
    except CronError:
        return False
    return '"' not in text and "\\" not in text


def names(value: Any) -> str | None:
    """Return a list of texts, also for a single one."""
    items = value if isinstance(value, list) else [value]
    return flow(items) if items and all(isinstance(item, str) and item.strip() for item in items) else None


def mapping_of_texts(value: Any) -> str | None:
    """Return names with their values as texts, also for a list of `{name: A, value: b}` or of `A=b`. A value that may be a
    secret is not repeated."""
    pairs: dict[str, Any] = dict(value) if isinstance(value, dict) else {}
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict) and item.keys() == {"name", "value"}:
            pairs[str(item["name"])] = item["value"]
        elif isinstance(item, str) and re.match(r"[A-Za-z_]\w*=", item):
            name, _, pairs_value = item.partition("=")
            pairs[name] = pairs_value
        else:
            return None
    if not pairs or any(isinstance(inner, (dict, list)) or inner is None for inner in pairs.values()):
        return None
    if any(re.search(CREDENTIAL_NAME, str(name)) for name in pairs):
        return None
    return flow({str(name): str(inner).lower() if isinstance(inner, bool) else str(inner) for name, inner in pairs.items()})


def secret_names(value: Any) -> str | None:
    """Return the names of secrets. A text that may be a secret itself is not repeated."""
    items = value if isinstance(value, list) else [value]
    return flow(items) if items and all(re.fullmatch(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+", str(item)) for item in items) else None


def secret(value: Any) -> str | None:
    """Return a reference to a secret by its name."""
    name = suggest_referred_secret(value)
    return None if name is None else flow({"name": name})


def memory(value: Any) -> str | None:
    """Return an amount of memory in the notation of Kubernetes. `512m` and `2g` are those of Docker, in powers of two."""
    match = re.fullmatch(r"(\d{1,9})(?:([KMGT]i?)|([kmg]))", value) if isinstance(value, str) else None
    return None if match is None else f"{match[1]}{match[2] or f'{match[3].upper()}i'}"


def schema(value: Any) -> str | None:
    """Return a JSON Schema of parameters: one as it is, or the declarations of parameters that have its keywords alone."""
    if isinstance(value, dict) and value.get("type") == "object" and isinstance(value.get("properties"), dict):
        return flow(value)
    return schema_with(value, {})


def schema_with(value: Any, keywords: dict[str, Any]) -> str | None:
    """Return a JSON Schema for declarations of parameters, with the keywords that stand beside them."""
    parameters = _declared(value)
    if not parameters:
        return None
    required_names = [name for name, inner in parameters.items() if inner.get("required") is True]
    properties = {name: {key: word for key, word in inner.items() if key != "required"} for name, inner in parameters.items()}
    required_beside = keywords.get("required")
    required = [*(required_beside if isinstance(required_beside, list) else ()), *required_names]
    other_keywords = {key: inner for key, inner in keywords.items() if key not in ("type", "properties", "required")}
    required_part = {"required": list(dict.fromkeys(required))} if required else {}
    return flow({"type": "object", "properties": properties, **required_part, **other_keywords})


def _declared(value: Any) -> dict[str, dict[str, Any]] | None:
    """Return the declarations of parameters by name, or None if one of them has another word than those of JSON Schema."""
    pairs: list[tuple[Any, Any]] = list(value.items()) if isinstance(value, dict) else []
    for item in value if isinstance(value, list) else ():
        if not isinstance(item, dict) or "name" not in item:
            return None
        pairs.append((item["name"], {key: inner for key, inner in item.items() if key != "name"}))
    parameters = {name: {"type": inner} if isinstance(inner, str) else inner for name, inner in pairs}
    for name, inner in parameters.items():
        is_declared = isinstance(inner, dict) and inner.get("type") in _TYPES and inner.keys() <= WORDS
        if not is_declared or not re.fullmatch(r"[A-Za-z_]\w{0,99}", str(name), re.ASCII):
            return None
        if not isinstance(inner.get("required", False), bool):
            return None
    return parameters


_CONVERTERS: dict[str, Converter] = {
    "same": unchanged, "text": text, "bool": switch, "not": inverted, "count": whole, "attempts": attempts, "money": money,
    "price": price, "cron": cron, "names": names, "texts": mapping_of_texts, "secrets": secret_names, "secret": secret,
    "memory": memory, "schema": schema, "duration": partial(_duration, None), "milliseconds": partial(_duration, 0.001),
    "seconds": partial(_duration, 1), "minutes": partial(_duration, 60), "hours": partial(_duration, 3_600),
}  # fmt: skip


def convert(kind: str, ours: str, value: Any) -> str | None:
    """Return the value for Optio's key `ours` by the converter of this kind, or None if the meaning is not certain."""
    if kind == "word":
        word = suggest_allowed_word((ours,), str(value) if type(value) is int else value)
        return None if isinstance(word, tuple) else word or text(value)
    converter = _CONVERTERS.get(kind)
    try:
        return None if converter is None or value is None else converter(value)
    except (ValueError, OverflowError, RecursionError):
        return None


def _word(value: Any) -> str:
    return str(value).strip().lower() if isinstance(value, (str, bool)) else ""


def _only(value: Any, keys: tuple[str, ...]) -> Any:
    """Return the only item of a list, and what is alone in a mapping under one of these keys; any other value as it is."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict) and len(value) == 1:
        key, inner = next(iter(value.items()))
        return inner if key in keys else value
    return value
