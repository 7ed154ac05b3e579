"""Convert a value of another system to YAML text, on one line, that means the same in Optio. A converter takes any value, and
returns None unless the meaning of all of it is certain. `foreign_keys.json` names the converters; imported only for a file with
a mistake."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from optio.compiler.conversions.cron_suggestions import suggest_cron
from optio.compiler.conversions.known_keys import CREDENTIAL_NAME, TRIGGERS, suggest_referred_secret
from optio.compiler.conversions.quantities import suggest_amount, suggest_duration, suggest_whole_number
from optio.compiler.conversions.schema_words import WORDS
from optio.compiler.conversions.suggest_words import suggest_allowed_word
from optio.compiler.yaml.emit import flow
from optio.model import egress
from optio.model.text import format_duration

Converter = Callable[[Any], str | None]
_OFF = frozenset({"false", "no", "off", "disabled", "inactive", "paused", "suspended"})
_ON = frozenset({"true", "yes", "on", "enabled", "active"})
_RUNTIMES = {
    **dict.fromkeys(("claude", "claude-code", "claude-cli"), "claude-code"), "codex": "codex", "codex-cli": "codex",
    "copilot": "copilot", "copilot-cli": "copilot", "gemini": "gemini", "gemini-cli": "gemini", "opencode": "opencode",
}  # fmt: skip
_COUNTS = frozenset({"count", "limit", "max", "runs", "maxruns", "maxstarts", "requests", "calls"})
_SPANS = frozenset({"per", "period", "window", "interval", "within"})
_UNIT_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400}
_TYPES = frozenset({"string", "integer", "number", "boolean", "array", "object"})
_MANUAL = frozenset({"manual", "workflow_dispatch"})


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


def alone(value: Any) -> str | None:
    """Return one at once, for a switch that forbids several."""
    return "1" if value is True else None


def money(value: Any) -> str | None:
    """Return an amount of US dollars in quotes, for a key that counts dollars."""
    amount = suggest_amount(str(value)) if type(value) in (int, float, str) else None
    return None if amount is None else f'"{amount}"'


def price(value: Any) -> str | None:
    """Return an amount of US dollars in quotes, if the value says that it is in dollars."""
    return money(value) if isinstance(value, str) and re.search(r"\$|usd|dollar", value.lower()) else None


def seconds(value: Any) -> str | None:
    """Return a duration for a number of seconds, or for a text or a mapping with units."""
    return _duration(1, value)


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


def interval(value: Any) -> str | None:
    """Return a cron expression for a duration that divides an hour or a day."""
    return cron(f"@every {value}") if isinstance(value, str) else None


def _is_cron(text: str) -> bool:
    from optio.scheduling.cron import CronError, check_expression

    try:
        check_expression(text)
    except CronError:
        return False
    return '"' not in text and "\\" not in text


def zone(value: Any) -> str | None:
    """Return the IANA name of a time zone."""
    return flow(value) if isinstance(value, str) and re.fullmatch(r"UTC|[A-Z][A-Za-z]+(?:/[A-Za-z_+-]+){1,2}", value) else None


def names(value: Any) -> str | None:
    """Return a list of texts, also for a single one."""
    items = value if isinstance(value, list) else [value]
    return flow(items) if items and all(isinstance(item, str) and item.strip() for item in items) else None


def hosts(value: Any) -> str | None:
    """Return a list of hosts for hosts, networks and URLs."""
    items = value if isinstance(value, list) else [value]
    entries = [_egress_entry(item) for item in items]
    return flow(entries) if entries and None not in entries else None


def _egress_entry(value: Any) -> str | None:
    if not isinstance(value, str) or not re.search(r"[.:]", value):
        return None  # a word such as `defaults` is no host
    try:
        return str(egress.parse(value))
    except egress.BadEntry as error:
        return error.meant


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


def mebibytes(value: Any) -> str | None:
    """Return an amount of memory for a number of mebibytes."""
    return f"{value}Mi" if type(value) is int and value > 0 else memory(value)


def cores(value: Any) -> str | None:
    """Return an amount of CPU in quotes, for a number of cores or of thousandths of a core."""
    is_amount = type(value) in (int, float, str) and re.fullmatch(r"\d{1,3}(?:\.\d{1,3})?|\d{1,6}m", str(value))
    return f'"{value}"' if is_amount else None


def amounts(value: Any) -> str | None:
    """Return amounts of CPU and memory."""
    convert_amount: dict[Any, Converter] = {"cpu": cores, "memory": memory}
    if not isinstance(value, dict) or not value or not value.keys() <= convert_amount.keys():
        return None
    made = {key: convert_amount[key](inner) for key, inner in value.items()}
    return None if None in made.values() else f"{{{', '.join(f'{key}: {inner}' for key, inner in made.items())}}}"


def runtime(value: Any) -> str | None:
    """Return the agent runtime that has this name, also if it is the name alone in a mapping."""
    return _RUNTIMES.get(str(_only(value, ("id", "name", "type", "engine"))).lower().replace("_", "-").replace(" ", "-"))


def program(value: Any) -> str | None:
    """Return a program: a text, or a list of its words."""
    is_list = isinstance(value, list) and value and all(isinstance(word, str) for word in value)
    return flow(value) if is_list or (isinstance(value, str) and value.strip() and "\n" not in value) else None


def commands(value: Any) -> str | None:
    """Return a list of commands, each on one line."""
    made = names(value)
    return None if made is None or "\\n" in made or "\n" in str(value) else made


def starts(value: Any) -> str | None:
    """Return a `startLimit` for a mapping with a number of runs and the time that it counts for."""
    if not isinstance(value, dict) or len(value) != 2:
        return None
    folded = {re.sub(r"[_-]", "", str(key)).lower(): inner for key, inner in value.items()}
    counts = [inner for key, inner in folded.items() if key in _COUNTS and type(inner) is int and inner > 0]
    spans = [span for key, inner in folded.items() if key in _SPANS and (span := _duration(None, inner))]
    return f"{{count: {counts[0]}, per: {spans[0]}}}" if counts and spans else None


def _starts_in(span: str, value: Any) -> str | None:
    return f"{{count: {value}, per: {span}}}" if type(value) is int and value > 0 else None


def schema(value: Any) -> str | None:
    """Return a JSON Schema of parameters: one as it is, or the declarations of parameters that have its keywords alone."""
    if isinstance(value, dict) and value.get("type") == "object" and isinstance(value.get("properties"), dict):
        return flow(value)
    return schema_with(value, {})


def schema_with(value: Any, beside: dict[str, Any]) -> str | None:
    """Return a JSON Schema for declarations of parameters, with the keywords that stand beside them."""
    declared = _declared(value)
    if not declared:
        return None
    own = [name for name, inner in declared.items() if inner.get("required") is True]
    properties = {name: {key: word for key, word in inner.items() if key != "required"} for name, inner in declared.items()}
    listed = beside.get("required")
    required = [*(listed if isinstance(listed, list) else ()), *own]
    more = {key: inner for key, inner in beside.items() if key not in ("type", "properties", "required")}
    wanted = {"required": list(dict.fromkeys(required))} if required else {}
    return flow({"type": "object", "properties": properties, **wanted, **more})


def properties_of(value: Any) -> str | None:
    """Return declarations of parameters alone, of what `schema` understands."""
    declared = _declared(value)
    return flow(declared) if declared and not any("required" in inner for inner in declared.values()) else None


def _declared(value: Any) -> dict[str, dict[str, Any]] | None:
    """Return the declarations of parameters by name, or None if one of them has another word than those of JSON Schema."""
    pairs: list[tuple[Any, Any]] = list(value.items()) if isinstance(value, dict) else []
    for item in value if isinstance(value, list) else ():
        if not isinstance(item, dict) or "name" not in item:
            return None
        pairs.append((item["name"], {key: inner for key, inner in item.items() if key != "name"}))
    declared = {name: {"type": inner} if isinstance(inner, str) else inner for name, inner in pairs}
    for name, inner in declared.items():
        is_declared = isinstance(inner, dict) and inner.get("type") in _TYPES and inner.keys() <= WORDS
        if not is_declared or not re.fullmatch(r"[A-Za-z_]\w{0,99}", str(name), re.ASCII):
            return None
        if not isinstance(inner.get("required", False), bool):
            return None
    return declared


def manual(value: Any) -> str | None:
    """Return a manual trigger for an event by hand that has no inputs."""
    return "[{type: manual}]" if value is None or value is True or value == {} else None


def triggers(value: Any) -> str | None:
    """Return triggers for Optio's own form, or for schedules and starts by hand as `on:` of a workflow names them."""
    if (
        isinstance(value, list)
        and value
        and all(isinstance(each, dict) and str(each.get("type")) in TRIGGERS for each in value)
    ):
        return flow(value)
    named = value if isinstance(value, dict) else dict.fromkeys(map(str, value if isinstance(value, list) else [value]))
    made: list[str | None] = []
    for name, inner in named.items():
        if str(name) in _MANUAL:
            made.append(None if manual(inner) is None else "{type: manual}")
        else:
            made.append(_scheduled(inner) if name in ("schedule", "cron") else None)
    return f"[{', '.join(each for each in made if each)}]" if made and None not in made else None


def _scheduled(value: Any) -> str | None:
    """Return the schedule for a text, or for the only mapping of a list with a `cron` and perhaps its time zone."""
    value = _only(value, ())
    keys = {str(key): inner for key, inner in value.items() if key != "type"} if isinstance(value, dict) else {"cron": value}
    named_zone = {key: keys.pop(key) for key in ("timezone", "tz") if key in keys}
    expression = cron(keys)
    zones = [zone(inner) for inner in named_zone.values()]
    if expression is None or None in zones or len(zones) > 1:
        return None
    return f"{{type: schedule, config: {{cronExpression: {expression}{f', timezone: {zones[0]}' if zones else ''}}}}}"


def filter_of_path(value: Any) -> str | None:
    """Return a filter that is a query of JSONPath already."""
    return flow(value) if isinstance(value, str) and re.match(r"@\.\w", value) else None


def mapping(value: Any) -> str | None:
    """Return a mapping of names to values as it is. One that may hold a secret is not repeated."""
    is_open = isinstance(value, dict) and value and not any(re.search(CREDENTIAL_NAME, str(name)) for name in value)
    return flow(value) if is_open else None


def template(value: Any) -> str | None:
    """Return a text that is made of placeholders already."""
    return flow(value) if isinstance(value, str) and re.search(r"(?<!\$)\{\{\w+\}\}", value) else None


_CONVERTERS: dict[str, Converter] = {
    "same": unchanged, "text": text, "bool": switch, "not": inverted, "count": whole, "attempts": attempts, "one": alone,
    "money": money, "price": price, "cron": cron, "interval": interval, "zone": zone, "names": names, "hosts": hosts,
    "texts": mapping_of_texts, "secrets": secret_names, "secret": secret, "memory": memory, "mebibytes": mebibytes,
    "cpu": cores, "amounts": amounts, "runtime": runtime, "command": program, "commands": commands, "starts": starts,
    "day": partial(_starts_in, "24h"), "hour": partial(_starts_in, "1h"), "schema": schema, "manual": manual,
    "triggers": triggers, "filter": filter_of_path, "mapping": mapping, "template": template,
    "duration": partial(_duration, None), "milliseconds": partial(_duration, 0.001), "seconds": seconds,
    "minutes": partial(_duration, 60), "hours": partial(_duration, 3_600),
}  # fmt: skip


def convert(kind: str, ours: str, value: Any) -> str | None:
    """Return the value for Optio's key `ours` by the converter of this kind, or None if the meaning is not certain."""
    if kind == "word":
        word = suggest_allowed_word((ours,), str(value) if type(value) is int else value)
        return None if isinstance(word, tuple) else word or text(value)
    converter = _CONVERTERS.get(kind)
    try:
        return None if converter is None or (value is None and kind != "manual") else converter(value)
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
