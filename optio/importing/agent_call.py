"""Recognise a command that calls an agent's CLI and nothing else, such as `claude -p "..." --model sonnet`. With an option
that is not in the table, or a shell construct around the call, the command stays a command."""

import re
import shlex
from dataclasses import dataclass, field
from typing import Any

from optio.importing.counterparts import table_at

# Between quotes a shell leaves these alone, but for `$` and the backtick between double ones.
_QUOTED = re.compile(r"'[^']*'|\"(?:[^\"\\`$]|\\.)*\"", re.DOTALL)
_SHELL = re.compile(r"[|&;<>()$`*?~#\n{}\[\]!\\'\"]")
_LOG = re.compile(r"\s+(?:>>?|&>>?)\s*[\w./~-]+(?:\s+2>&1)?\s*\Z")


@dataclass
class AgentCall:
    """A call of an agent: its prompt, the values of keys of the task, options that have no effect here, and those that a person
    must decide on."""

    runtime: str
    prompt: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    without_effect: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)


def read_agent_call(command: str | list[str]) -> AgentCall | None:
    """Return the call if the command is one of an agent with a prompt, and nothing else; None where that is not certain."""
    words = split_words(_LOG.sub("", command.strip())) if isinstance(command, str) else command
    program = words[0].rpartition("/")[2] if words else ""
    first = table_at(f"agents.{program}").get("first") if program and "." not in program else None
    if words is None or first is None or words[1 : 1 + len(first)] != first:
        return None
    call = read_options(program, words[1 + len(first) :])
    return call if call is not None and call.prompt.strip() else None


def split_words(text: str) -> list[str] | None:
    """Return the words of a command line; None if a shell would do more than split it."""
    if _SHELL.search(_QUOTED.sub("", text)):
        return None
    try:
        return shlex.split(text)
    except ValueError:
        return None


def read_options(program: str, words: list[str]) -> AgentCall | None:
    """Return the call that options of a CLI make; None if one is not in its table or has a value that no task takes."""
    table = table_at(f"agents.{program}")
    options, ahead = table["options"], list(words)
    takes_prompt = "-> promptTemplate" not in options.values()
    call = AgentCall(table["runtime"])
    while ahead:
        word, equals, value = ahead[0].partition("=")
        row = options.get(word)
        if row is None:
            if ahead[0].startswith("-") or call.prompt or not takes_prompt:
                return None
            call.prompt = ahead.pop(0)
            continue
        ahead.pop(0)
        if row != "flag" and not equals:
            if not ahead or ahead[0] in options:
                return None
            value = ahead.pop(0)
        if not _apply(call, word, row, value):
            return None
    return call


def _apply(call: AgentCall, option: str, row: str, value: str) -> bool:
    target = row.removeprefix("-> ")
    if target == "promptTemplate":
        call.prompt = value
    elif target in ("maxTurns", "budgetUsd"):
        if not re.fullmatch(r"[1-9][0-9]{0,8}" if target == "maxTurns" else r"[0-9]{1,9}(\.[0-9]{1,4})?", value, re.ASCII):
            return False
        call.values[target] = int(value) if target == "maxTurns" else value
    elif target == "model":
        call.values["model"] = value
    elif row.startswith("! "):
        call.questions.append(f"{option} {value}")
    else:
        call.without_effect.append(option)
    return True
