"""Convert a value from another system's notation to YAML text that means the same in Optio. Each conversion takes any value and
returns None where it cannot tell. `key_table` names the conversions; imported only for a file with a mistake."""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, get_args

from optio.compiler.conversions.cron_suggestions import suggest_cron
from optio.compiler.conversions.cron_words import cron_from_words
from optio.compiler.conversions.ecosystems import ECOSYSTEMS
from optio.compiler.conversions.known_keys import CREDENTIAL_NAME
from optio.compiler.conversions.quantities import suggest_amount, suggest_duration, suggest_whole_number
from optio.compiler.payloads.deliveries import event_names
from optio.compiler.yaml.emit import flow
from optio.model.text import format_duration, parse_duration
from optio.model.trigger import ManualConfig, ScheduleConfig, Scheme, WebhookConfig

EXAMPLE_CRON = '"0 9 * * 1"'
Conversion = Callable[[Any], str | None]
_CLOCK = re.compile(r"(?:(\d{1,2}) days?, )?(\d{1,3}):([0-5]\d):([0-5]\d)")
_TIMEDELTA = re.compile(r"(?:\w+\.)?timedelta\(((?:\s*\w+\s*=\s*\d{1,9}\s*,?)+)\)|duration\(((?:\s*\w+\s*=\s*\d{1,9}\s*,?)+)\)")
_TYPES = {
    **dict.fromkeys(("int", "integer", "long"), "integer"), **dict.fromkeys(("float", "number", "double"), "number"),
    **dict.fromkeys(("bool", "boolean"), "boolean"), **dict.fromkeys(("array", "list", "multiselect"), "array"),
    **dict.fromkeys(("object", "json", "map", "dict"), "object"),
}  # fmt: skip
# Keywords of a parameter that have several names elsewhere, and are read one by one.
_SEPARATE = frozenset({"type", "description", "default", "enum"})
_MAX_TEXT_LENGTH = 200
_PYTHON_TYPES: dict[type, str] = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
_RUNTIMES = (
    *(("claude", "claude-code"), ("anthropic", "claude-code"), ("codex", "codex"), ("openai", "codex"), ("copilot", "copilot")),
    *(("gemini", "gemini"), ("google", "gemini"), ("opencode", "opencode"), ("bash", "command"), ("script", "command")),
)
_AMOUNTS = ("time", "value", "amount", "limit", "duration", "timeout", "number", "count", "interval", "length")
_UNITS = frozenset(f"{unit}{ending}" for unit in ("day", "hour", "minute", "second", "millisecond") for ending in ("", "s"))
_PARTS = {
    **dict.fromkeys(("limits", "limit", "max"), "limits"),
    **dict.fromkeys(("requests", "request", "reservations", "reserved", "min"), "requests"),
}
_WORDS = {"second": "1s", "minute": "1m", "hour": "1h", "day": "24h", "dai": "24h", "week": "168h"}
_LISTED = ("allowed", "allow", "names", "hosts", "domains", "urls", "outbound", "egress", "alloweddomains", "allowed_domains")
_IPV6 = r"[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:/\d{1,3})?"
_IN_BRACKETS = rf"\[{_IPV6}\](?::\d{{1,5}})?"
_NO = ("false", "no", "off", "0", "")


def unchanged(value: Any) -> str | None:
    """Return the value itself as YAML on one line."""
    return flow(value)


def text(value: Any) -> str | None:
    """Return a text: a scalar, or the first scalar in a list or a mapping."""
    found = _scalar(value, ("name", "id", "value", "email", "path", "type"))
    return None if found is None else flow(found)


def runtime(value: Any) -> str | None:
    """Return the agent runtime that a word stands for, such as `claude-code` for `anthropic`."""
    word = str(_scalar(value, ("id", "name", "type", "engine")) or "").lower().replace("_", "-").replace(" ", "-")
    known = next((ours for stem, ours in _RUNTIMES if stem in word), None)
    return known or (word if re.fullmatch(r"[a-z-]{1,40}", word) else None)


def scheme(value: Any) -> str | None:
    """Return the signature scheme for a sender's name. An unknown sender gets `hmac` with a header of its own."""
    word = str(_scalar(value, ("type", "name", "provider", "scheme")) or "").lower()
    if word in ("webhook", "schedule", "http", "json", ""):
        return None
    return next((each for each in get_args(Scheme) if each in word), "hmac")


def github_event(word: str) -> str | None:
    """Return the event of GitHub that the word names, if no other event can be meant."""
    folded = word.lower().replace("-", "_").removesuffix("_target")
    return (
        folded
        if folded in event_names("github") and "_" in folded and folded not in ("workflow_dispatch", "repository_dispatch")
        else None
    )


def triggers(value: Any) -> str | None:
    """Return triggers for a mapping by their types, for the `on:` of a GitHub workflow, or for names alone."""
    if isinstance(value, dict) and value and (own := [_own_trigger(*each) for each in value.items()]) and all(own):
        return f"[{', '.join(each for each in own if each)}]"
    named = (
        {str(each): None for each in value}
        if isinstance(value, list)
        else value
        if isinstance(value, dict)
        else {str(value): None}
    )
    made: list[str] = []
    by_hand = ("workflow_dispatch", "workflow_call", "manual", "api")
    if any(name in by_hand for name in named):
        made.append("{type: manual}")
    if "schedule" in named or "cron" in named:
        zone = _zone(named.get("schedule"))
        expression = cron(named.get("schedule", named.get("cron"))) or EXAMPLE_CRON
        made.append(f"{{type: schedule, config: {{cronExpression: {expression}{zone}}}}}")
    if isinstance(value, str) and (meant := suggest_cron(value)) is not None:
        made.append(f'{{type: schedule, config: {{cronExpression: "{meant.expression}"}}}}')
    asked = [name for name in named if name in event_names("github") and name not in by_hand]
    if asked:
        when = _filter_of({name.removesuffix("_target"): named[name] for name in asked})
        events = flow(list(dict.fromkeys(name.removesuffix("_target") for name in asked)))
        filtered = "" if when is None else f", when: {flow(when)}"
        made.append(
            f"{{type: webhook, config: {{path: my-path, scheme: github, events: {events}, secret: {{name: NAME}}{filtered}}}}}"
        )
    return f"[{', '.join(made)}]" if made else None


def _own_trigger(kind: Any, inner: Any) -> str | None:
    """Return the trigger that stands below its type in a mapping, or None if it is not in the form of Optio."""
    if inner in (None, True, {}):
        return "{type: manual}" if kind == "manual" else None
    model = {"manual": ManualConfig, "schedule": ScheduleConfig, "webhook": WebhookConfig}.get(str(kind))
    if model is None or not isinstance(inner, dict):
        return None
    fields = set(model.__struct_encode_fields__)
    beside = {key: inner[key] for key in ("enabled",) if key in inner}
    config = inner["config"] if set(inner) <= {"type", "enabled", "config"} and "config" in inner else inner
    if not isinstance(config, dict) or not {*config} - {"type", "enabled"} <= fields:
        return None
    made = {key: each for key, each in config.items() if key not in ("type", "enabled")}
    return flow({"type": kind, **beside, **({"config": made} if made else {})})


# Top-level fields of events, and the path of the branch that `branches` refers to.
_OBJECTS = {
    "push": ("@.ref", "@.ref", "refs/heads/"), "pull_request": ("@.pull_request", "@.pull_request.base.ref", ""),
    "workflow_run": ("@.workflow_run", "@.workflow_run.head_branch", ""), "issues": ("@.issue", "", ""),
    "issue_comment": ("@.comment", "", ""), "release": ("@.release", "", ""),
    "pull_request_review": ("@.review", "@.pull_request.base.ref", ""), "check_run": ("@.check_run", "", ""),
}  # fmt: skip


def _filter_of(events: dict[str, Any]) -> str | None:
    """Return the filter for GitHub events with branches, tags and actions, or None where nothing is filtered."""
    tests = {name: _tests_of(name, filters) for name, filters in events.items()}
    if not any(tests.values()):
        return None
    if len(events) > 1 and any(name not in _OBJECTS for name in events):
        return None
    parts = [" && ".join(each) if each else _OBJECTS[name][0] for name, each in tests.items()]
    return parts[0] if len(parts) == 1 else " || ".join(f"({each})" if " && " in each else each for each in parts)


def _tests_of(event: str, filters: Any) -> list[str]:
    from optio.compiler.conversions.conditions import branches

    if not isinstance(filters, dict):
        return []
    found: list[str | None] = []
    listed = {key: inner if isinstance(inner, list) else [inner] for key, inner in filters.items()}
    _, branch, prefix = _OBJECTS.get(event, ("", "", ""))
    if branch and "branches" in listed:
        found.append(branches([str(each) for each in listed["branches"]], branch, prefix))
    if event == "push" and "tags" in listed and "branches" not in listed:
        found.append(branches([str(each) for each in listed["tags"]], "@.ref", "refs/tags/"))
    if "types" in listed:
        found.append(branches([str(each) for each in listed["types"]], "@.action"))
    if event == "workflow_run" and "workflows" in listed:
        found.append(branches([str(each) for each in listed["workflows"]], "@.workflow_run.name"))
    return [f"({each})" if each is not None and " || " in each else each for each in found if each is not None]


def _zone(value: Any) -> str:
    found = value[0] if isinstance(value, list) and value else value
    zone = found.get("timezone") if isinstance(found, dict) else None
    return f", timezone: {flow(zone)}" if isinstance(zone, str) else ""


def switch(value: Any) -> str | None:
    """Return `true` or `false` for any usual spelling of a boolean, or None."""
    return None if isinstance(value, (dict, list)) or value is None else _bool(value)


def inverted(value: Any) -> str | None:
    """Return `false` for true and `true` for false, because `disabled: true` means `enabled: false`."""
    if isinstance(value, (dict, list)):
        return "false"
    return None if value is None else {"true": "false", "false": "true"}[_bool(value)]


def seconds(value: Any) -> str | None:
    """Return a duration for a number of seconds, or for a text with units."""
    return _duration(value, 1)


def minutes(value: Any) -> str | None:
    """Return a duration for a number of minutes, or for a text with units."""
    return _duration(value, 60)


def hours(value: Any) -> str | None:
    """Return a duration for a number of hours, or for a text with units."""
    return _duration(value, 3600)


def milliseconds(value: Any) -> str | None:
    """Return a duration for a number of milliseconds, or for a text with units."""
    return _duration(value, 0.001)


def probed(value: Any) -> str | None:
    """Return how long a service is silent until a probe of Compose or Kubernetes gives it up."""
    if not isinstance(value, dict):
        return None
    every = seconds(value.get("interval", value.get("periodSeconds")))
    tries = value.get("retries", value.get("failureThreshold", 3))
    return None if every is None or type(tries) is not int else seconds(int(parse_duration(every).total_seconds()) * tries)


def whole(value: Any) -> str | None:
    """Return a whole number; of a mapping, the only one that it holds."""
    if isinstance(value, dict):
        numbers = [found for each in value.values() if (found := whole(each)) is not None]
        return numbers[0] if len(numbers) == 1 else None
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return whole(value[0])
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    number = suggest_whole_number(str(value).strip())
    return None if number is None or number < 0 else str(number)


def retries(value: Any) -> str | None:
    """Return the number of retries; `true` means one and `false` none."""
    if isinstance(value, dict):
        folded = {re.sub(r"[_-]", "", str(key)).lower(): inner for key, inner in value.items()}
        counted = next((folded[name] for name in ("maximumattempts", "maxattempts") if name in folded), None)
        if counted is not None:
            return retries_of_attempts(counted)
    return {True: "1", False: "0"}[value] if isinstance(value, bool) else whole(value)


def retries_of_attempts(value: Any) -> str | None:
    """Return the number of retries for a number of attempts, which counts the first one."""
    count = whole(value)
    return None if count is None else str(max(0, int(count) - 1))


def concurrency(value: Any) -> str | None:
    """Return the number of concurrent runs; a group whose runs exclude each other has one."""
    is_group = isinstance(value, str) or (isinstance(value, dict) and all(whole(each) is None for each in value.values()))
    return "1" if value is True or (is_group and whole(value) is None) else whole(value)


def is_skipping(value: Any) -> bool:
    """Return True if a limit of concurrent runs leaves out those that come too many, as Prefect's `CANCEL_NEW` does."""
    words = [str(each).lower() for key, each in value.items() if "strategy" in str(key)] if isinstance(value, dict) else []
    return any(overlapping(word) == "skip" for word in words)


def exclusive(value: dict[Any, Any]) -> str | None:
    """Return the deduplication key of a group in which a new run replaces the waiting one."""
    group, cancels = value.get("group"), value.get("cancel-in-progress")
    if not isinstance(group, str) or "{{" not in group or "${{" in group or cancels is not True:
        return None
    return flow({"key": group, "onDuplicate": "replace"})


def money(value: Any) -> str | None:
    """Return an amount of US dollars in quotes, without currency signs."""
    found = None if isinstance(value, (dict, list, bool)) or value is None else suggest_amount(str(value))
    return None if found is None else f'"{found}"'


def cron(value: Any) -> str | None:
    """Return a cron expression: of a list the first one, and of an interval the equivalent."""
    if (every := _every(value)) is not None:
        return every
    if isinstance(value, dict) and (interval := _interval_of_n8n(value.get("interval"))) is not None:
        return interval
    found = _scalar(value, ("cron", "cronExpression", "schedule", "schedules", "expression", "start"))
    if isinstance(found, str) and (meant := suggest_cron(found)) is not None and meant.zone is None:
        return f'"{meant.expression}"'
    return f'"{found}"' if isinstance(found, str) and _is_cron(found) else None


def _is_cron(text: str) -> bool:
    from optio.scheduling.cron import CronError, check_expression

    try:
        check_expression(text)
    except CronError:
        return False
    return '"' not in text and "\\" not in text


def clock(parts: Mapping[str, Any]) -> str | None:
    """Return a cron expression for a time and days, by the folded names of their keys."""

    def first(*names: str) -> Any:
        return next((parts[name] for name in names if name in parts), None)

    hour, minute, at = first("hour", "hours"), first("minute", "minutes"), first("time", "at", "timeofday", "runat", "times")
    if isinstance(at, list) and at and all(re.fullmatch(r"\d{1,2}:\d\d(?::00)?", str(each)) for each in at):
        clocks = [[int(part) for part in str(each).split(":")[:2]] for each in at]
        if len({each[1] for each in clocks}) == 1:
            minute, hour, at = clocks[0][1], [each[0] for each in clocks], None
    if isinstance(hour, list) and hour and all(type(each) is int and 0 <= each < 24 for each in hour):
        weekdays = first("days", "day", "weekdays", "weekday", "dayofweek", "daysofweek", "dow")
        one = clock({"days": weekdays, "time": "9:00"}) if weekdays is not None else '"0 9 * * *"'
        if one is None:
            return None
        return f'"{minute if type(minute) is int else 0} {",".join(map(str, hour))} {one.strip(chr(34)).split(" ", 2)[2]}"'
    if isinstance(hour, int):
        at = f"{hour}:{minute if isinstance(minute, int) else 0:02}"
    days = first(
        "days", "day", "weekdays", "weekday", "dayofweek", "daysofweek", "dow", "on", "frequency", "repeat", "recurrence"
    )
    days = first("every") if days is None else days
    if first("triggeronweekends", "weekends") is False and str(days or "daily") in ("day", "daily"):
        days = "weekdays"
    days = "daily" if days == "day" else days
    named = [str(day) for day in (days if isinstance(days, list) else [days or "daily"])]
    meant = cron_from_words(f"{' and '.join(named)} at {at}") if isinstance(at, str) else None
    return None if meant is None else f'"{meant}"'


def _interval_of_n8n(value: Any) -> str | None:
    """Return a cron expression for `[{field: minutes, minutesInterval: 15}]`, as n8n writes an interval."""
    each = value[0] if isinstance(value, list) and len(value) == 1 else None
    if not isinstance(each, dict):
        return None
    field = each.get("field", "days")
    if field == "cronExpression":
        return cron(each.get("expression"))
    step, hour, minute = each.get(f"{field}Interval", 1), each.get("triggerAtHour", 0), each.get("triggerAtMinute", 0)
    if not all(type(part) is int for part in (step, hour, minute)):
        return None
    if field == "minutes":
        return _every(f"{step}m")
    if field == "hours" and 0 < step < 24 and 24 % step == 0:
        return f'"{minute} {"*" if step == 1 else f"*/{step}"} * * *"'
    days = each.get("triggerAtDay", [0])
    if field == "weeks" and step == 1 and isinstance(days, list) and days and all(type(day) is int for day in days):
        return f'"{minute} {hour} * * {",".join(map(str, days))}"'
    if field == "days" and step == 1:
        return f'"{minute} {hour} * * *"'
    if field == "months" and step == 1 and type(each.get("triggerAtDayOfMonth", 1)) is int:
        return f'"{minute} {hour} {each.get("triggerAtDayOfMonth", 1)} * *"'
    return None


def _every(value: Any) -> str | None:
    """Return a cron expression for an interval that divides an hour, a day or a week evenly."""
    lasts = _duration(value, 1) if isinstance(value, (int, float, str)) else None
    minutes, rest = divmod(parse_duration(lasts).total_seconds(), 60) if lasts else (0, 1)
    if rest or not minutes:
        return None
    if 60 % minutes == 0:
        return f'"*/{int(minutes)} * * * *"' if minutes not in (1, 60) else '"* * * * *"' if minutes == 1 else '"0 * * * *"'
    if minutes % 60 == 0 and 24 % (minutes // 60) == 0:
        return f'"0 */{int(minutes) // 60} * * *"' if minutes < 1_440 else '"0 0 * * *"'
    return '"0 0 * * 0"' if minutes == 7 * 1_440 else None


def starts(value: Any) -> str | None:
    """Return a limit of starts as a `startLimit` mapping, for a mapping with one number and one duration, in any order."""
    if not isinstance(value, dict) or len(value) != 2:
        return None
    counts = [each for each in value.values() if type(each) is int and each > 0]
    spans = [lasts for each in value.values() if isinstance(each, str) and (lasts := seconds(each)) is not None]
    return f"{{count: {counts[0]}, per: {spans[0]}}}" if len(counts) == len(spans) == 1 else None


def starts_a_day(value: Any) -> str | None:
    """Return a limit of starts in any 24 hours, as a `startLimit` mapping."""
    count = None if isinstance(value, dict) else whole(value)
    return None if count is None else f"{{count: {count}, per: 24h}}"


def starts_an_hour(value: Any) -> str | None:
    """Return a limit of starts in any hour, as a `startLimit` mapping."""
    count = None if isinstance(value, dict) else whole(value)
    return None if count is None else f"{{count: {count}, per: 1h}}"


def cores(value: Any) -> str | None:
    """Return an amount of CPU in quotes, for a number of cores or of thousandths of a core."""
    if isinstance(value, (dict, list, bool)) or value is None:
        return None
    return f'"{re.sub(r"(?i)[ _-]*v?(?:cpu|core)s?$", "", str(value).strip())}"'


def memory(value: Any) -> str | None:
    """Return an amount of memory in the notation of Kubernetes, from `512m`, `2g`, `1.5 GB` or a number of bytes."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    found = re.fullmatch(r"(?i)\s*(\d{1,15}(?:\.\d{1,3})?)\s*([kmgt])?(i?)(?:b|bytes?)?\s*", str(value))
    if found is None:
        return None
    number, unit = found[1], (found[2] or "").upper()
    if not unit:
        # A number this small counts mebibytes, not bytes.
        return f"{number}Mi" if float(number) < 1 << 20 else f'"{number}"'
    return f"{number}{unit}i" if unit != "K" or found[3] else f"{number}Ki"


def amounts(value: Any) -> str | None:
    """Return amounts of CPU and memory, also from a container's `limits` and `reservations`."""
    made = _amounts(value) if isinstance(value, dict) else {}
    return flow(made) if made else None


def _amounts(value: dict[Any, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, inner in value.items():
        word = re.sub(r"[_-]", "", str(key)).lower()
        if word == "resources" and isinstance(inner, dict):
            made.update(_amounts(inner))
        elif isinstance(inner, dict) and (ours := _PARTS.get(word)) and (below := _amounts(inner)):
            made[ours] = below
        elif "mem" in word and (amount := memory(inner)) is not None:
            made["memory"] = amount.strip('"')
        elif word in ("cpu", "cpus", "vcpu", "vcpus", "cores") and (amount := cores(inner)) is not None:
            made["cpu"] = amount.strip('"')
    return made


def mebibytes(value: Any) -> str | None:
    """Return an amount of memory for a number of mebibytes."""
    count = whole(value)
    return None if count is None else f"{count}Mi"


def names(value: Any) -> str | None:
    """Return a list of texts: list items, the keys that a mapping allows, or a single value."""
    if isinstance(value, dict):
        inner = next((each for key, each in value.items() if str(key).lower() in _LISTED), None)
        return None if inner is None else names(inner)
    items = value if isinstance(value, list) else [value]
    found = [each for item in items if (each := _scalar(item, ("name", "host", "url", "value"))) is not None]
    return flow([str(each) for each in found]) if found else None


def one_of_actions(value: Any) -> str | None:
    """Return the filter that accepts these actions of a GitHub event."""
    listed = re.split(r"[,\s]+", value.strip()) if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed or not all(re.fullmatch(r"\w{1,40}", str(each)) for each in listed):
        return None
    return '"' + " || ".join(f"@.action == '{each}'" for each in listed) + '"'


def secrets_of(value: Any) -> str | None:
    """Return the names of the Kubernetes secrets that hold a pod's variables."""
    found: list[str] = []
    for each in value if isinstance(value, list) else [value]:
        inner = next(iter(each.values()), None) if isinstance(each, dict) else each
        name = inner.get("name") if isinstance(inner, dict) else inner
        word = re.sub(r"\W+", "_", str(name)).upper()
        if not isinstance(name, str) or not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,60}", word):
            return None
        found.append(word)
    return flow(found) if found else None


def secrets_in(value: Any) -> str | None:
    """Return the names of the secrets that a mapping refers to. A text that may be a secret itself is not repeated."""
    found: list[str] = []
    ahead = [value] if isinstance(value, (dict, list)) else []
    while ahead:
        each = ahead.pop(0)
        for key, inner in each.items() if isinstance(each, dict) else enumerate(each):
            if isinstance(inner, (dict, list)):
                ahead.append(inner)
            elif (
                isinstance(inner, str)
                and re.fullmatch(r"[A-Z][A-Z0-9]{1,30}(?:_[A-Z0-9]{1,30}){1,8}", inner)
                and key != "value"
            ):
                found.append(inner)
    return flow(list(dict.fromkeys(found))) if found else None


def secret_names(value: Any) -> str | None:
    """Return names of secrets. A text that may be a secret itself is not repeated."""
    if isinstance(value, dict) and all(re.fullmatch(r"[A-Z][A-Z0-9_]*", str(each)) for each in value.values()):
        value = list(value.values())  # n8n's credentials: the key is a service
    found = re.findall(r"[\w.-]+", names(value) or "")
    return flow(found) if found and all(re.fullmatch(r"[A-Z][A-Z0-9_]*", each) for each in found) else None


def bare_host(text: str) -> str:
    """Return the host and port of a URL, without scheme and path; a network such as `10.0.0.0/8:5432` keeps its prefix
    length."""
    return re.sub(r"(?i)\A[a-z]+://|/(?!\d{1,3}\]?(?::\d{1,5})?\Z).*\Z", "", text)


def hosts(value: Any) -> str | None:
    """Return a list of hosts, without the other parts of URLs, and without entries that are not hosts."""
    if value is False or (isinstance(value, str) and value.lower() in ("none", "false", "off", "deny", "disabled")):
        return "[]"
    found = names(value)
    sets = [
        host
        for word in re.findall(r"(?<![\w.-])[a-z]{2,12}(?![\w.-])", found or "")
        for host in ("api.anthropic.com" if word == "defaults" else ECOSYSTEMS.get(word, "")).split(", ")
        if host
    ]
    bare = [bare_host(each) for each in re.findall(rf"{_IN_BRACKETS}|[^\s,\[\]'\"]+", found or "")]
    listed = [each for each in bare if re.fullmatch(rf"[A-Za-z0-9.*:-]+\.[A-Za-z0-9.*:/-]+|{_IPV6}|{_IN_BRACKETS}", each)]
    listed = list(dict.fromkeys((*sets, *listed)))
    return flow(listed) if listed else None


def mapping_of_texts(value: Any) -> str | None:
    """Return names with their values as texts, also for a list of `{name: A, value: b}`, `{A: b}` or `A=b`."""
    pairs: dict[str, Any] = {}
    for item in value if isinstance(value, list) else [value]:
        named = next((str(item[key]) for key in ("name", "key") if key in item), None) if isinstance(item, dict) else None
        if named is not None:
            pairs[named] = item.get("value", "value")
        elif isinstance(item, dict):
            pairs.update(item)
        elif isinstance(item, str) and "=" in item:
            name, _, pairs_value = item.partition("=")
            pairs[name] = pairs_value
        else:
            return None
    if any(re.search(CREDENTIAL_NAME, key) for key in pairs):
        return None  # a possible secret is not repeated
    written = {key: _plain(inner) for key, inner in pairs.items() if not isinstance(inner, (dict, list))}
    return flow(written) if written else None


def named_values(value: list[Any]) -> str | None:
    """Return a list of `{name: A, value: b}` or `{A: b}` as one mapping, with values of any type."""
    pairs: dict[str, Any] = {}
    for item in value:
        if not isinstance(item, dict):
            return None
        name = next((item[key] for key in ("name", "key", "parameter", "param") if isinstance(item.get(key), str)), None)
        told = next((item[key] for key in ("value", "path", "from", "jsonPath", "default") if key in item), None)
        if name is not None and told is None:
            return None
        pairs.update(item if name is None else {name: told})
    return flow(pairs) if pairs and not any(re.search(CREDENTIAL_NAME, str(key)) for key in pairs) else None


_CHECKOUT = "actions/checkout"


def commands(value: Any) -> str | None:
    """Return a list of commands: the items, or for steps the commands that they run."""
    items = value if isinstance(value, list) else [value]
    found = [each for item in items if (each := _one_command(item)) is not None]
    lines = [line.strip() for each in found for line in str(each).split("\n") if line.strip()]
    fetched = next((item for item in items if isinstance(item, dict) and _CHECKOUT in str(item.get("uses"))), None)
    if fetched is not None and lines:
        own = fetched.get("with")
        repository = own.get("repository") if isinstance(own, dict) else None
        named = repository if re.fullmatch(r"[\w.-]+/[\w.-]+", str(repository)) else "OWNER/REPO"
        lines.insert(0, f"git clone --depth 1 https://github.com/{named}.git .")
    return flow(lines) if lines else None


def _one_command(item: Any) -> Any:
    """Return what a step runs: of a container its program with the arguments, of a shell the script alone."""
    if isinstance(item, dict) and isinstance(item.get("command"), list):
        arguments = item.get("args")
        words = [str(each) for each in (*item["command"], *(arguments if isinstance(arguments, list) else ()))]
        is_shell = len(words) > 2 and words[0].rpartition("/")[2] in ("sh", "bash", "ash", "dash") and words[1].startswith("-")
        return words[-1] if is_shell else shlex.join(words)
    return _scalar(item, ("run", "command", "script", "commands", "cmd"))


def script(value: list[Any]) -> str | None:
    """Return the lines of a script as one command, of which each runs when the one before has succeeded."""
    lines = [each.strip() for item in value if isinstance(each := _one_command(item), str) and each.strip()]
    return flow(" && ".join(lines)) if lines and len(lines) == len(value) and not any("\n" in line for line in lines) else None


def owner_in(value: dict[Any, Any]) -> str | None:
    """Return the owner that labels name."""
    names = ("owner", "team", "maintainer", "squad", "contact")
    found = next((value[key] for key in value if str(key).rpartition("/")[2].lower() in names), None)
    return flow(found) if isinstance(found, str) else None


def program(value: Any) -> str | None:
    """Return a program and its arguments as a list, from a text or a container's `command` and `args`."""
    if isinstance(value, list) and value and all(isinstance(each, (str, int, float)) for each in value):
        return flow([_plain(each) for each in value])
    found = _scalar(value, ("run", "command", "script"))
    return flow(["sh", "-c", found.strip()]) if isinstance(found, str) else None


def image(value: Any) -> str | None:
    """Return an image reference, also from a mapping of repository and tag."""
    if isinstance(value, dict) and isinstance(value.get("repository"), str) and "tag" in value:
        return flow(f"{value['repository']}:{value['tag']}")
    found = _scalar(value, ("image", "name", "repository"))
    return flow(found) if isinstance(found, str) else None


def schema(value: Any) -> str | None:
    """Return a JSON Schema for parameters in any of the notations of other systems."""
    if isinstance(value, dict) and (value.get("type") == "object" or isinstance(value.get("properties"), dict)):
        return flow(value)
    if isinstance(value, dict) and isinstance(value.get("parameters"), list):
        value = value["parameters"]
    return schema_with(value, {})


def result(value: Any) -> str | None:
    """Return the declaration of a result for named outputs of a job: each is a text, unless its type is given."""
    named = list(_parameters(value)) if isinstance(value, (dict, list)) else []
    if not named or any(not isinstance(each, (dict, str)) for _, each in named):
        return None
    told = [(name, {} if isinstance(each, str) else {k: v for k, v in each.items() if k != "value"}) for name, each in named]
    made = schema_with(dict(told), {})
    return None if made is None else f"{{schema: {made}}}"


def schema_with(value: Any, beside: dict[str, Any]) -> str | None:
    """Return a JSON Schema for parameters in the notation of another system, with the keywords that stand beside them."""
    properties: dict[str, Any] = {}
    listed = beside.get("required")
    required: list[str] = list(listed) if isinstance(listed, list) else []
    for name, given in _parameters(value):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            return None
        properties[name] = _parameter(given)
        is_required = given.get("required") is not False if isinstance(given, dict) else True
        if isinstance(listed, list) and not (isinstance(given, dict) and given.get("required") is True):
            is_required = False
        if is_required and "default" not in properties[name] and name not in required:
            required.append(name)
    if not properties:
        return None
    wanted = {"required": required} if required else {}
    more = {key: inner for key, inner in beside.items() if key not in ("type", "properties", "required")}
    return flow({"type": "object", "properties": properties, **wanted, "additionalProperties": False, **more})


def properties_of(value: Any) -> str | None:
    """Return the declarations of parameters alone, of what `schema` understands."""
    if isinstance(value, dict) and isinstance(value.get("properties"), dict):
        return flow(value["properties"])
    made = {name: _parameter(given) for name, given in _parameters(value) if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)}
    return flow(made) if made else None


def catch_up(value: Any) -> str | None:
    """Return the `misfire` word for a setting about missed schedule slots."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "last"
    word = str(value).lower()
    return "all" if word in ("true", "all") else "last" if word in ("last", "latest") else "skip"


def late(value: Any) -> str | None:
    """Return the `misfire` word for a deadline that limits how late a slot may start."""
    return None if isinstance(value, (dict, list)) or value is None else "skip"


def caught_up_once(value: Any) -> str | None:
    """Return the `misfire` word for a setting that merges all missed slots into one run, or drops them."""
    return None if isinstance(value, (dict, list)) or value is None else "last" if _bool(value) == "true" else "skip"


def overlapping(value: Any) -> str | None:
    """Return the `overlap` word for a setting about slots that fall into a running run."""
    word = str(value).lower().removeprefix("schedule_overlap_policy_")
    return "skip" if word in ("forbid", "skip", "true", "drop", "cancel_new", "cancel", "fail") else "queue"


def allowed_to_overlap(value: Any) -> str | None:
    """Return what becomes of a slot that falls into a run, where a switch says whether runs may overlap."""
    return None if isinstance(value, (dict, list)) or value is None else "queue" if _bool(value) == "true" else "skip"


def alone(value: Any) -> str | None:
    """Return one at once, for a switch that forbids several."""
    return "1" if isinstance(value, (str, dict, list)) or value is True else None


def state(value: Any) -> str | None:
    """Return whether something is on, by the word for its state."""
    word = str(value).lower() if isinstance(value, (str, bool)) else ""
    if word in ("disabled", "paused", "inactive", "suspended", "off", "stopped", "false", "archived"):
        return "false"
    return "true" if word in ("enabled", "active", "on", "running", "true") else None


def mapping_of_values(value: Any) -> str | None:
    """Return parameters with their values, of a mapping, of a list of pairs or of a JSON text."""
    import json

    if isinstance(value, str) and value.strip()[:1] == "{":
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if isinstance(value, dict) and value.keys() == {"parameters"} and isinstance(value["parameters"], (list, dict)):
        value = value["parameters"]  # Argo's `arguments`
    return named_values(value) if isinstance(value, list) else flow(value) if isinstance(value, dict) and value else None


def packages(manager: str) -> Conversion:
    """Return the conversion of packages to the command by which a manager installs them."""

    def convert(value: Any) -> str | None:
        listed = value if isinstance(value, list) else [value]
        if not listed or not all(
            isinstance(each, (str, int, float)) and re.fullmatch(r"[\w@/.=<>~^+-]{1,80}", str(each)) for each in listed
        ):
            return None
        return flow([f"{manager} {' '.join(str(each) for each in listed)}"])

    return convert


def version_of(name: str) -> Conversion:
    """Return the conversion of a version of a language to its image."""

    def convert(value: Any) -> str | None:
        found = re.fullmatch(r"v?(\d{1,2}(?:\.\d{1,3}){0,2})(?:\.x)?", str(value))
        return None if found is None else flow(f"{name}:{found[1]}")

    return convert


def condition(value: Any) -> str | None:
    """Return a filter of deliveries for a condition of another system."""
    from optio.compiler.conversions.conditions import condition as made  # imported only for a file with a foreign value

    return made(value)


def on_duplicate(value: Any) -> str | None:
    """Return the `onDuplicate` word for a setting about runs with the same key."""
    word = str(value).lower()
    if word in ("join", "reject", "replace"):
        return word
    return "reject" if word in ("cancel_new", "cancel", "fail") else "join" if word in ("skip", "drop") else "replace"


def replacing(value: Any) -> str | None:
    """Return what becomes of a run that stands for the same, where a switch says whether the new one takes its place."""
    return None if isinstance(value, (dict, list)) or value is None else "replace" if _bool(value) == "true" else "join"


def key(value: Any) -> str | None:
    """Return a business key, of the names or paths of the parameters that make it."""
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(each, str) for each in listed):
        return None
    if any("{{" in each for each in listed):
        return flow("#".join(listed))
    words = [re.findall(r"[A-Za-z_]\w*", each) for each in listed]
    return flow("#".join(f"{{{{{found[-1]}}}}}" for found in words)) if all(words) else None


def retries_of_policy(value: Any) -> str | None:
    """Return the number of retries for a pod's `restartPolicy`."""
    if isinstance(value, dict):
        return whole(value)
    counted = re.search(r":(\d{1,2})$", str(value))
    return counted[1] if counted else "0" if str(value).lower() in ("never", "no", "false") else "1"


def verdict(value: Any) -> str | None:
    """Return the verdict on a delivery for the status of an answer, or for a word."""
    word = str(value).lower()
    known = {
        **dict.fromkeys(("200", "202", "ok", "success", "started", "queued"), "accepted"),
        **dict.fromkeys(("204", "skipped", "ignored", "dropped"), "filtered"),
        **dict.fromkeys(("401", "403", "unauthorized", "forbidden"), "unsigned"),
        **dict.fromkeys(("422", "rejected", "refused", "failed"), "invalid"),
        "400": "unreadable",
        "415": "unsupported",
    }
    return known.get(word) or (text(value) if word.isalpha() else None)


def standalone(value: Any) -> str | None:
    """Return the document type of a task for any `kind` of another system."""
    return None if isinstance(value, (dict, list)) else "standalone"


def clone(value: Any) -> str | None:
    """Return the set-up command that fetches a repository."""
    into = ""
    if isinstance(value, dict) and isinstance(value.get("source"), str):
        # Nomad's and Terraform's addresses
        if not value["source"].startswith("git::"):
            return None
        into = str(value.get("destination", "")).rstrip("/").rpartition("/")[2]
        into = into if re.fullmatch(r"[\w.-]+", into) else ""
        value = value["source"].removeprefix("git::")
    found = _scalar(value, ("url", "repo", "repository", "name"))
    if not isinstance(found, str) or re.search(r"[\s'\"]", found):
        return None
    url = f"https://github.com/{found}" if re.fullmatch(r"[\w.-]+/[\w.-]+", found) else found
    return flow([f"git clone {url} {into}".strip()])


def secret(value: Any) -> str | None:
    """Return a secret reference by the secret's name."""
    from optio.compiler.conversions.known_keys import suggest_referred_secret

    name = suggest_referred_secret(value)
    return None if name is None else flow({"name": name})


def _duration(value: Any, unit: float) -> str | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, dict):
        return _of_parts({re.sub(r"[_-]", "", str(key)).lower(): inner for key, inner in value.items()}, unit)
    written = str(value).strip()
    written = _WORDS.get(written.lower().removeprefix("per ").removeprefix("every ").removesuffix("ly"), written)
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,3})?", written):
        meant = round(float(written) * unit)
        return format_duration(timedelta(seconds=meant)) if 0 < meant < 86_400 * 365 else None
    if (clock := _CLOCK.fullmatch(written)) is not None:
        days, in_hours, in_minutes, in_seconds = (int(part or 0) for part in clock.groups())
        return (
            format_duration(timedelta(days=days, hours=in_hours, minutes=in_minutes, seconds=in_seconds))
            if any(map(int, re.findall(r"\d+", written)))
            else None
        )
    if (built := _TIMEDELTA.fullmatch(written)) is not None:
        parts = dict(re.findall(r"(\w+)\s*=\s*(\d+)", built[1] or built[2]))
        units = {"days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
        total = sum(int(number) * units.get(name, 0) for name, number in parts.items())
        return format_duration(timedelta(seconds=total)) if total else None
    return suggest_duration(written)


def _of_parts(parts: dict[str, Any], unit: float) -> str | None:
    """Return a duration for `{time: 1, unit: HOURS}`, `{hours: 1, minutes: 30}` or `{limit: 90}`."""
    amount = next((parts[name] for name in _AMOUNTS if isinstance(parts.get(name), (int, float, str))), None)
    named = next((parts[name] for name in ("unit", "units", "timeunit") if isinstance(parts.get(name), str)), None)
    if named is not None and amount is not None:
        return _duration(f"{amount} {named}", 1)
    counted = [f"{inner} {name}" for name, inner in parts.items() if name in _UNITS and type(inner) in (int, float)]
    if counted:
        return suggest_duration(" ".join(counted))
    return None if amount is None else _duration(amount, unit)


def _bool(value: Any) -> str:
    return "false" if str(value).strip().lower() in _NO else "true"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _scalar(value: Any, keys: Iterable[str]) -> Any:
    """Return the value itself, or the value under one of these keys."""
    for _ in range(4):
        if isinstance(value, list):
            value = next(iter(value), None)
        elif isinstance(value, dict):
            value = next((value[key] for key in keys if key in value), None)
    return None if isinstance(value, (list, dict)) else value


def _parameters(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((str(key), inner) for key, inner in value.items())
    elif isinstance(value, str):
        # `A=1 B=2`, or names alone
        yield from ((name, default or None) for name, _, default in (word.partition("=") for word in value.split()))
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            named = next((item[key] for key in ("name", "id") if isinstance(item.get(key), str)), None)
            yield from [(named, item)] if named is not None else ((str(key), inner) for key, inner in item.items())
        elif isinstance(item, str):
            name, _, default = item.partition("=")
            yield name, default or None


def _parameter(given: Any) -> dict[str, Any]:
    """Return the schema of one parameter, from another system's description of it or from its default."""
    if not isinstance(given, dict):
        if given is None:
            return {"type": "string", "maxLength": _MAX_TEXT_LENGTH}
        kind = _PYTHON_TYPES.get(type(given))
        return {"type": kind, "default": given} if kind else {"type": "string", "default": str(given)}
    members = given.get("options", given.get("values", given.get("enum")))
    kind = _TYPES.get(str(given.get("type", "string")).lower(), "string")
    default = next(
        (given[key] for key in ("default", "defaults", "defaultValue", "default_value", "value") if key in given), None
    )
    told = {"description": given["description"]} if isinstance(given.get("description"), str) else {}
    bound: dict[str, Any] = {"enum": members} if isinstance(members, list) else {}
    bound |= _keywords(given, kind)
    if kind == "string" and not {"enum", "const", "maxLength"} & set(bound) and bound.get("minLength", 0) <= _MAX_TEXT_LENGTH:
        bound["maxLength"] = _MAX_TEXT_LENGTH
    known = {} if default is None else {"default": str(default) if kind == "string" else default}
    return {"type": kind, **told, **bound, **known}


def _keywords(given: dict[Any, Any], kind: str) -> dict[str, Any]:
    """Return the other keywords of JSON Schema that a description of a parameter has, under their right names."""
    from optio.compiler.conversions.schema_words import WORDS, is_sound, translate_keyword

    found: dict[str, Any] = {}
    for key, inner in given.items():
        word = key if key in WORDS else translate_keyword(str(key), kind)
        if word in _SEPARATE or word is None or (word == "required" and not isinstance(inner, list)) or word in found:
            continue
        if is_sound({word: inner}):
            found[word] = inner
    return found
