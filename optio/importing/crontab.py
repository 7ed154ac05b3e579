"""Import a crontab: every line with a time becomes a task that runs its command."""

import re
from collections.abc import Iterator, Mapping

from optio.importing.converters import CONVERTERS, complete_draft, put_command, put_variable, shorten
from optio.importing.counterparts import table_at
from optio.importing.draft import SourceKey, TaskDraft

_ASSIGNMENT = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*", re.ASCII)
_FIELD = r"[0-9A-Za-z*,/#~-]+"
_ENTRY = re.compile(rf"\s*(@[a-z]+|{_FIELD}(?:[ \t]+{_FIELD}){{4}})[ \t]+(\S.*?)\s*", re.ASCII)
# No program is called `root`: where it stands, all lines have a column for users.
_ROOT = re.compile(r"root[ \t]+\S")
_USER = re.compile(r"([a-z_][a-z0-9_-]*)[ \t]+(\S.*)", re.ASCII)
_SYSTEM_PATHS = re.compile(r"(?:.*/)?etc/(?:crontab|cron\.d/[^/]+)")
# `%` begins the standard input and ends its lines; `\%` is the character.
_PERCENT = re.compile(r"(?<!\\)%")
_NAME_LENGTH = 40
_Assignments = Mapping[str, tuple[str, int]]


def is_crontab(text: str) -> bool:
    """Return whether every line is a comment, an assignment or an entry, and one at least is an entry."""
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    entries = [line for line in lines if not _ASSIGNMENT.fullmatch(line)]
    return bool(entries) and all(map(_ENTRY.fullmatch, entries))


def read_crontab(path: str, text: str) -> Iterator[TaskDraft]:
    """Yield a draft for each entry. An assignment holds for the entries below it."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if not line.lstrip().startswith("#")]
    entries = [match for _, line in lines if (match := _ENTRY.fullmatch(line)) is not None]
    has_users = bool(_SYSTEM_PATHS.fullmatch(path)) or any(_ROOT.match(entry[2]) for entry in entries)
    assignments: dict[str, tuple[str, int]] = {}
    for number, line in lines:
        if (assignment := _ASSIGNMENT.fullmatch(line)) is not None:
            assignments[assignment[1]] = (assignment[2].strip("\"'"), number)
        elif (entry := _ENTRY.fullmatch(line)) is not None:
            yield _read_entry(entry[1], entry[2], number, assignments, has_users=has_users)
        elif line.strip():
            draft = TaskDraft(f"line {number}")
            draft.refuse(
                SourceKey(shorten(line), number), "this is neither a time with a command nor an assignment: correct it"
            )
            yield draft


def _read_entry(time: str, command: str, line: int, assignments: _Assignments, *, has_users: bool) -> TaskDraft:
    draft, origin = TaskDraft("command"), SourceKey("command", line)
    if has_users and (user := _USER.fullmatch(command)) is not None:
        command = user[2]
        draft.missing(SourceKey(f"user {user[1]}", line), "runs have the user of their worker, or of their pod")
    script, *standard_input = (part.replace("\\%", "%") for part in _PERCENT.split(command))
    put_command(draft, origin, script.strip())
    draft.name = _name_of(draft, script)
    if standard_input and draft.values["agentRuntime"] == "command":
        text = "the program reads it from its standard input"
        draft.carry(SourceKey("text behind %", line), "promptTemplate", "\n".join(standard_input), text)
    elif standard_input:
        draft.block(SourceKey("text behind %", line), "the agent got it on its standard input: add it to the prompt")
    if time == "@reboot":
        question = "no schedule has the start of a machine: start the task from the machine by `optio run`"
        draft.missing(SourceKey("time", line), question)
    else:
        CONVERTERS["cron"](draft, SourceKey("time", line), "schedule.cronExpression", time)
    _put_assignments(draft, assignments)
    if draft.schedule and "timezone" not in draft.schedule:
        question = (
            "cron reads times in the zone of its machine: write `timezone`, or import again with a line `CRON_TZ=ZONE` above"
        )
        draft.block(SourceKey("time", line), question)
    complete_draft(draft, origin)
    return draft


def _put_assignments(draft: TaskDraft, assignments: _Assignments) -> None:
    table = table_at("crontab")
    for name, (value, line) in assignments.items():
        origin, row = SourceKey(name, line), table.get(name)
        if row is None:
            put_variable(draft, origin, name, value)
        elif name == "CRON_TZ":
            if draft.schedule:
                CONVERTERS["zone"](draft, origin, "schedule.timezone", value)
        elif name != "SHELL":
            draft.missing(origin, row)
        elif value != "/bin/sh" and draft.values["agentRuntime"] == "command":
            draft.block(origin, row.removeprefix("! "))


def _name_of(draft: TaskDraft, script: str) -> str:
    """Return a name for people: the beginning of an agent's prompt, or the program with its plain arguments."""
    words = str(draft.values.get("promptTemplate") or "").split()
    if not words:
        program, *arguments = re.sub(r"\A\s*cd\s+\S+\s*&&", "", script).split() or ["command"]
        words = [program.rpartition("/")[2]]
        for argument in arguments:
            if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", argument, re.ASCII):
                break
            words.append(argument)
    name = ""
    for word in words:
        name = f"{name} {word}".strip() if len(name) + len(word) < _NAME_LENGTH else name
    return name or words[0][:_NAME_LENGTH]
