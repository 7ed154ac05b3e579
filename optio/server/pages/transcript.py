"""The log of an agent as a conversation: what it said, and its tool calls, each with its result. Pure."""

import difflib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from optio.model.agent_event import Retry, ToolCall, ToolResult, TurnEnd
from optio.model.run import LogKind, LogLine

# Neighbouring lines of these kinds are one block.
_PROSE = frozenset({LogKind.TEXT, LogKind.THOUGHT, LogKind.OUTPUT, LogKind.STDERR, LogKind.SYSTEM})
# The first of these members of a tool's input says what a call is about.
_GISTS = ("command", "cmd", "file_path", "filePath", "path", "pattern", "query", "url", "description", "prompt")
_MAX_GIST = 160
# The names under which agents pass the text before and after an edit.
_BEFORE, _AFTER = ("old_string", "oldString", "old_str"), ("new_string", "newString", "new_str")


@dataclass(slots=True, kw_only=True)
class TranscriptBlock:
    """Some lines of one kind, or a tool call. `ok` is None while the result is not there; `diff` is what an edit changes."""

    kind: str
    text: str = ""
    name: str = ""
    gist: str = ""
    input: str = ""
    diff: list[str] = field(default_factory=list)
    ok: bool | None = None
    exit_code: int | None = None


@dataclass(slots=True, kw_only=True)
class TranscriptTurn:
    """A model call with what the agent did after it. `number` is None for what belongs to no call, and `end` is its usage."""

    attempt: int
    number: int | None
    blocks: list[TranscriptBlock] = field(default_factory=list)
    end: TurnEnd | None = None


def turns(lines: Iterable[LogLine]) -> list[TranscriptTurn]:
    """Return the conversation in the order in which it was logged. A result stands with its call, wherever it came."""
    found: list[TranscriptTurn] = []
    calls: dict[tuple[int, str], TranscriptBlock] = {}
    for line in lines:
        event = line.event
        if isinstance(event, ToolResult) and (line.attempt, event.id) in calls:
            call = calls[line.attempt, event.id]
            call.text, call.ok, call.exit_code = line.text, event.ok, event.exit_code
            continue
        turn = found[-1] if found else None
        if turn is None or turn.attempt != line.attempt or (line.turn is not None and turn.number != line.turn):
            turn = TranscriptTurn(attempt=line.attempt, number=line.turn)
            found.append(turn)
        if isinstance(event, TurnEnd):
            turn.end = event
        elif isinstance(event, ToolCall):
            block = _call(event)
            calls[line.attempt, event.id] = block
            turn.blocks.append(block)
        elif turn.blocks and turn.blocks[-1].kind == line.kind and line.kind in _PROSE and not isinstance(event, Retry):
            turn.blocks[-1].text += "\n" + line.text
        else:
            turn.blocks.append(TranscriptBlock(kind=line.kind, text=line.text))
    return found


def _call(event: ToolCall) -> TranscriptBlock:
    given = event.input if isinstance(event.input, dict) else {}
    gist = next((given[name] for name in _GISTS if isinstance(given.get(name), str)), "")
    gist = gist.partition("\n")[0]
    name = event.name if event.server is None else f"{event.server}: {event.name}"
    return TranscriptBlock(
        kind="call",
        name=name,
        gist=gist if len(gist) <= _MAX_GIST else gist[:_MAX_GIST] + "…",
        input=json.dumps(event.input, indent=2, ensure_ascii=False),
        diff=list(_diff(given)),
    )


def _diff(given: dict[str, Any]) -> Iterator[str]:
    before = next((given[name] for name in _BEFORE if isinstance(given.get(name), str)), None)
    after = next((given[name] for name in _AFTER if isinstance(given.get(name), str)), None)
    if before is not None and after is not None:
        changed = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=3)
        yield from list(changed)[3:]
