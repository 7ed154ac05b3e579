"""The log of an agent as a conversation: what it said, and its tool calls, each with its result."""

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from optio.model.agent_event import Retry, ToolCall, ToolResult, TurnEnd
from optio.model.run import LogKind, LogLine
from optio.server.bodies.logs import TranscriptBlockBody, TranscriptBody, TranscriptTurnBody
from optio.store.base import RunReader

# Neighbouring lines of these kinds are one block.
_PROSE = frozenset({LogKind.TEXT, LogKind.THOUGHT, LogKind.OUTPUT, LogKind.STDERR, LogKind.SYSTEM})
# The first of these members of a tool's input says what a call is about.
_GISTS = ("command", "cmd", "file_path", "filePath", "path", "pattern", "query", "url", "description", "prompt")
_MAX_GIST = 160
# A window has so many turns at most, and no more lines or bytes than these.
_TURNS = 40
_LINES = 2000
_BYTES = 1 << 20
_STEP = 500
# A page shows no more of a log, and no more of a line.
_MAX_SHOWN_BYTES = 2 << 20
_MAX_LINE_BYTES = 16 << 10
# The names under which agents pass the text before and after an edit.
_BEFORE, _AFTER = ("old_string", "oldString", "old_str"), ("new_string", "newString", "new_str")


def read(store: RunReader, run_id: str, *, before: int | None = None, after: int | None = None) -> TranscriptBody:
    """Return some turns: the first ones after a cursor, or the last ones before one or of all."""
    end = store.last_line(run_id)
    window = _read_window(store, run_id, end, before, after)
    lines = fit(window, from_end=after is None)
    if len(lines) < len(window) and after is None:
        lines = lines[next(iter(_starts(lines)), 0) :]
    first, last = (lines[0].seq - 1, lines[-1].seq) if lines else (0, end)
    return TranscriptBody(turns=turns(lines), first=first, last=last, end=end)


def _read_window(store: RunReader, run_id: str, end: int, before: int | None, after: int | None) -> Sequence[LogLine]:
    """Return the lines of some whole turns; a turn that is too long for a window is cut."""
    if after is not None:
        following = store.log(run_id, after=after, limit=_LINES)
        starts = [place for place in _starts(following) if place]
        return following[: starts[_TURNS - 1]] if len(starts) >= _TURNS else following
    lines: list[LogLine] = []
    size, edge = 0, end + 1 if before is None else before
    while edge > 1 and size < _BYTES and len(lines) < _LINES and len(_starts(lines)) <= _TURNS:
        part = store.log(run_id, before=edge, limit=_STEP)
        if not part:
            break
        lines, edge = part + lines, part[0].seq
        size += sum(len(line.data) for line in part)
    starts = _starts(lines)[-_TURNS:]
    # What is before the first turn of a window belongs to another turn, unless the log begins with it.
    return lines[starts[0] :] if (starts and edge > 1) or len(starts) == _TURNS else lines


def _starts(lines: Sequence[LogLine]) -> list[int]:
    """Return the places at which a turn begins."""
    starts, turn = [], None
    for place, line in enumerate(lines):
        if line.turn is not None and (line.attempt, line.turn) != turn:
            turn = line.attempt, line.turn
            starts.append(place)
    return starts


def fit(lines: Sequence[LogLine], *, from_end: bool) -> list[LogLine]:
    """Return as many of the lines as a page shows, the last or the first ones, with long ones cut."""
    fitting: list[LogLine] = []
    size = 0
    for line in reversed(lines) if from_end else lines:
        # A tool call in full: what is cut here is in its data once more.
        size += len(line.data) if line.kind is LogKind.TOOL else min(len(line.data), _MAX_LINE_BYTES)
        rest = len(line.data) - _MAX_LINE_BYTES
        if rest > 0:
            # The note resets the terminal: a sequence that the cut leaves open, such as a link, would reach to the note's end.
            note = f"\x1b[0m ... [{rest:,} bytes more: download the log]"
            line = replace(line, data=line.data[:_MAX_LINE_BYTES] + note.encode())
        if fitting and size > _MAX_SHOWN_BYTES:
            break
        fitting.append(line)
    return fitting[::-1] if from_end else fitting


def turns(lines: Iterable[LogLine]) -> list[TranscriptTurnBody]:
    """Return the conversation in the order in which it was logged. A result stands with its call, wherever it came."""
    turn_list: list[TranscriptTurnBody] = []
    calls: dict[tuple[int, str], TranscriptBlockBody] = {}
    for line in lines:
        event = line.event
        if isinstance(event, ToolResult) and (line.attempt, event.id) in calls:
            call = calls[line.attempt, event.id]
            call.text, call.ok, call.exit_code = line.text, event.ok, event.exit_code
            continue
        turn = turn_list[-1] if turn_list else None
        if turn is None or turn.attempt != line.attempt or (line.turn is not None and turn.number != line.turn):
            turn = TranscriptTurnBody(attempt=line.attempt, number=line.turn, seq=line.seq, blocks=[], end=None)
            turn_list.append(turn)
        if isinstance(event, TurnEnd):
            turn.end = event
        elif isinstance(event, ToolCall):
            block = _call(event, line.seq)
            calls[line.attempt, event.id] = block
            turn.blocks.append(block)
        elif turn.blocks and turn.blocks[-1].kind == line.kind and line.kind in _PROSE and not isinstance(event, Retry):
            turn.blocks[-1].text += "\n" + line.text
        else:
            turn.blocks.append(_block(line.kind, line.seq, text=line.text))
    return turn_list


def _block(kind: str, seq: int, **members: Any) -> TranscriptBlockBody:
    empty: dict[str, Any] = {"text": "", "name": "", "gist": "", "input": "", "diff": [], "ok": None, "exit_code": None}
    return TranscriptBlockBody(kind=kind, seq=seq, **{**empty, **members})


def _call(event: ToolCall, seq: int) -> TranscriptBlockBody:
    arguments = event.input if isinstance(event.input, dict) else {}
    gist = next((arguments[name] for name in _GISTS if isinstance(arguments.get(name), str)), "")
    gist = gist.partition("\n")[0]
    name = event.name if event.server is None else f"{event.server}: {event.name}"
    return _block(
        "call",
        seq,
        name=name,
        gist=gist if len(gist) <= _MAX_GIST else gist[:_MAX_GIST] + "…",
        input=json.dumps(event.input, indent=2, ensure_ascii=False),
        diff=list(_diff(arguments)),
    )


def _diff(arguments: dict[str, Any]) -> Iterator[str]:
    before = next((arguments[name] for name in _BEFORE if isinstance(arguments.get(name), str)), None)
    after = next((arguments[name] for name in _AFTER if isinstance(arguments.get(name), str)), None)
    if before is not None and after is not None:
        difference = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=3)
        yield from list(difference)[3:]
