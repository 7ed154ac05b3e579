"""Convert the values of other systems: each converter sets a key of a draft and notes it, asks a person where the value has no
exact counterpart, or returns False for a value that it does not understand."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from optio.importing.agent_call import AgentCall, read_agent_call, read_options, split_words
from optio.importing.draft import SourceKey, TaskDraft
from optio.model.prompt import placeholders
from optio.model.runtimes import DECLARED
from optio.model.text import format_duration, parse_duration, slug
from optio.scheduling.cron import CronError, check_expression

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ALIASES = {"@midnight": "@daily", "@annually": "@yearly"}
# Optio sets these itself.
_RESERVED = re.compile(r"HOME|TMPDIR|OPTIO_.*")
_SECRET = re.compile(r"\$\{\{\s*secrets\.(\w+)\s*\}\}|\{\{\s*secret\(\s*['\"](\w+)['\"]\s*\)\s*\}\}", re.ASCII)
_TOKEN = re.compile(r"\$\{\{\s*(?:secrets\.GITHUB_TOKEN|github\.token)\s*\}\}")
_ISO = re.compile(r"P(?:(\d{1,3})D)?(?:T(?:(\d{1,5})H)?(?:(\d{1,5})M)?(?:(\d{1,6})S)?)?", re.ASCII)
# Values that GitHub and Kestra compute, and those that a shell would expand.
_COMPUTED, EXPANDED = r"\{\{", "[$`]"
Converter = Callable[[TaskDraft, SourceKey, str, Any], bool]


def as_text(value: Any) -> str:
    """Return a scalar as YAML writes it: `true` for a boolean."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def shorten(text: str) -> str:
    """Return a value of the source for a message: one line, at most 60 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:57] + "..."


def entries_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of variables, as a mapping, a list of mappings, or a list of `NAME=value` has them."""
    if isinstance(value, dict):
        yield from ((str(name), item) for name, item in value.items())
    elif isinstance(value, list):
        for item in value:
            yield from entries_of(item)
    elif isinstance(value, str) and "=" in value:
        name, _, text = value.partition("=")
        yield name.strip(), text


def _text(draft: TaskDraft, origin: SourceKey, target: str, value: Any) -> bool:
    if not isinstance(value, (str, int, float)) or "{{" in (text := as_text(value)) or not text.strip():
        return False
    draft.carry(origin, target, text, "the process executor does not apply it" if target == "environment.image" else "")
    return True


def _count(draft: TaskDraft, origin: SourceKey, target: str, value: Any) -> bool:
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", str(value), re.ASCII):
        return False
    draft.carry(origin, target, int(value))
    return True


def _positive(draft: TaskDraft, origin: SourceKey, target: str, value: Any) -> bool:
    return str(value) != "0" and _count(draft, origin, target, value)


def _attempts(draft: TaskDraft, origin: SourceKey, target: str, value: Any) -> bool:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return is_count and _count(draft, origin, target, value - 1)


def _off(draft: TaskDraft, origin: SourceKey, target: str, value: Any) -> bool:
    if value is True:
        draft.carry(origin, target, False)
    return isinstance(value, bool)


def _lasting(unit: int) -> Converter:
    """Return the converter of a number of seconds that limits an attempt. Zero is no limit, and the shorter of two counts."""

    def convert(draft: TaskDraft, origin: SourceKey, target: str, value: Any) -> bool:
        if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,6}", str(value), re.ASCII):
            return False
        length = timedelta(seconds=int(value) * unit)
        if length and (target not in draft.values or length < parse_duration(draft.values[target])):
            draft.carry(origin, target, format_duration(length), "it limits each attempt, not all together")
        return True

    return convert


def _iso(draft: TaskDraft, origin: SourceKey, target: str, value: Any) -> bool:
    match = _ISO.fullmatch(str(value))
    if match is None:
        return False
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return _lasting(1)(draft, origin, target, ((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _cron(draft: TaskDraft, origin: SourceKey, target: str, value: Any) -> bool:
    expression = _ALIASES.get(str(value).strip(), " ".join(str(value).split()))
    try:
        check_expression(expression)
    except CronError as err:
        draft.decide(origin, f"Optio cannot read the schedule `{shorten(str(value))}` ({err}): add a schedule with its times")
    else:
        draft.carry(origin, target, expression)
        # Most systems leave out the times that passed while they were down; others set it themselves before.
        draft.schedule.setdefault("misfire", "skip")
    return True


def _zone(draft: TaskDraft, origin: SourceKey, target: str, value: Any) -> bool:
    try:
        ZoneInfo(str(value))
    except (KeyError, ValueError, OSError):
        draft.decide(origin, f"no time zone is called `{shorten(str(value))}`: write `timezone`, or the times are those of UTC")
    else:
        draft.carry(origin, target, str(value))
    return True


def _secret(draft: TaskDraft, origin: SourceKey, target: str, value: Any) -> bool:
    match = _SECRET.fullmatch(as_text(value))
    stored = "the value of this key" if match is None else f"the value of its secret `{match[1] or match[2]}`"
    put_secret(draft, origin, target, "a token that you create at GitHub" if _TOKEN.fullmatch(as_text(value)) else stored)
    return True


def _variables(draft: TaskDraft, origin: SourceKey, _target: str, value: Any, computed: str = _COMPUTED) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    for name, item in entries_of(value):
        put_variable(draft, origin._replace(key=f"{origin.key}.{name}"), name, "" if item is None else as_text(item), computed)
    return True


def _options(draft: TaskDraft, origin: SourceKey, target: str, value: Any) -> bool:
    """Carry the options of an agent's CLI, which are a JSON list or written as for a shell."""
    words = None if "{{" in as_text(value) else split_words(" ".join(as_text(value).split()))
    if as_text(value).lstrip().startswith("["):
        try:
            parsed = json.loads(value)
        except (TypeError, json.JSONDecodeError):
            parsed = None
        words = list(map(str, parsed)) if isinstance(parsed, list) else None
    call = None if words is None else read_options(target, words)
    if call is None:
        draft.block(origin, "an option is not known here: write what the task needs of them")
    else:
        _put_options(draft, origin, call)
    return True


CONVERTERS: Mapping[str, Converter] = {
    "text": _text,
    "number": _count,
    "positive": _positive,
    "attempts": _attempts,
    "off": _off,
    "seconds": _lasting(1),
    "minutes": _lasting(60),
    "iso": _iso,
    "cron": _cron,
    "zone": _zone,
    "secret": _secret,
    "variables": _variables,
    "expanded variables": lambda draft, origin, target, value: _variables(draft, origin, target, value, EXPANDED),
    "options": _options,
}


def put_variable(draft: TaskDraft, origin: SourceKey, name: str, value: str, computed: str = _COMPUTED) -> None:
    """Give the runs a variable or a secret, or say why a task cannot. A value that `computed` finds depends on others."""
    if not NAME.fullmatch(name):
        draft.block(origin, f"`{shorten(name)}` cannot be the name of a variable: rename it")
    elif _RESERVED.fullmatch(name):
        draft.missing(origin, f"Optio sets `{name}` itself: a program that needs another value sets it in its command")
    elif _SECRET.fullmatch(value) or _TOKEN.fullmatch(value):
        _secret(draft, origin, name, value)
    elif re.search(computed, value):
        draft.block(origin, f"`{name}` is computed: write its value, pass it as a parameter, or compute it in the command")
    else:
        draft.carry(origin, f"environment.env.{name}", value)


def put_secret(draft: TaskDraft, origin: SourceKey, name: str, stored: str) -> None:
    """Give the runs a secret by the name of its variable, and say what to store under it."""
    if not NAME.fullmatch(name) or _RESERVED.fullmatch(name):
        draft.block(origin, f"`{shorten(name)}` cannot be the name of a secret: rename it")
        return
    names = draft.values.setdefault("environment", {}).setdefault("secrets", [])
    if name not in names:
        names.append(name)
    draft.carried(origin, "environment.secrets")
    draft.decide(origin, f"store {stored} as the secret `{name}`")


def webhook_secret(draft: TaskDraft, suffix: str = "") -> str:
    """Return a name for the secret by which the sender of a draft's webhook signs."""
    return f"WEBHOOK_{slug(draft.name)[:80].replace('-', '_').upper()}_SECRET{suffix}"


def put_command(draft: TaskDraft, origin: SourceKey, command: str | list[str]) -> None:
    """Let the task run a command: as an agent if it calls one and nothing else, or else as a program."""
    call = read_agent_call(command)
    if call is None:
        draft.put("agentRuntime", "command")
        draft.carry(origin, "command", command)
    else:
        put_agent_call(draft, origin, call)


def put_agent_call(draft: TaskDraft, origin: SourceKey, call: AgentCall, text_of_source: str | None = None) -> None:
    """Let the task run an agent as a command line does."""
    draft.carry(origin, "agentRuntime", call.runtime, f"it calls {DECLARED[call.runtime].title}")
    put_prompt(draft, origin, call.prompt, text_of_source)
    _put_options(draft, origin, call)


def _put_options(draft: TaskDraft, origin: SourceKey, call: AgentCall) -> None:
    for target, value in call.values.items():
        draft.carry(origin, target, value)
    if call.without_effect:
        listed = ", ".join(f"`{option}`" for option in call.without_effect)
        draft.missing(origin, f"{listed}: Optio calls the agent with options of its own")
    for option in call.questions:
        draft.block(origin, f"`{option}` has no key here: say it in the prompt, or do without")


def put_prompt(draft: TaskDraft, origin: SourceKey, text: str, text_of_source: str | None = None) -> None:
    """Set the prompt. Braces that the source had itself would be a placeholder here, so a person must look at them."""
    draft.carry(origin, "promptTemplate", text)
    for name in placeholders(text if text_of_source is None else text_of_source):
        question = f"`{{{{{name}}}}}` in the prompt is the placeholder of a parameter here: declare it, or write it with blanks"
        draft.block(origin, question)


def complete_draft(draft: TaskDraft, origin: SourceKey) -> None:
    """Set what systems mean that say nothing: no failed run is repeated. Then ask for the credential of the agent."""
    if draft.is_writable and "maxRetries" not in draft.values:
        draft.carry(origin, "maxRetries", 0, "a failed run is not repeated there")
    ask_for_credential(draft, origin)


def ask_for_credential(draft: TaskDraft, origin: SourceKey) -> None:
    """Ask for the credential of the agent, if the task names none."""
    declaration = DECLARED.get(str(draft.values.get("agentRuntime")))
    names = draft.values.get("environment", {}).get("secrets", [])
    service = None if declaration is None else declaration.service
    if service is not None and not any(re.match(service.credentials, name) for name in names):
        question = f"the agent signs in by `{service.key}`: add it to `environment.secrets`, unless its machine is signed in"
        draft.decide(origin, question)


def put_parameters(draft: TaskDraft, properties: dict[str, Any], required: list[str]) -> None:
    """Declare the parameters of the task."""
    if properties:
        names = {"required": required} if required else {}
        draft.put("paramsSchema", {"type": "object", "properties": properties, **names, "additionalProperties": False})
