"""Entries: what a reader makes of an event that an agent CLI prints. Each is the kind and the text of a log line, with the same
as data for programs."""

import re
from decimal import Decimal
from typing import Any, NamedTuple

from optio.model.agent_event import AgentEvent, Retry, ToolCall, ToolKind, ToolResult, TurnEnd
from optio.model.run import LogKind
from optio.model.usage import Usage
from optio.runtimes.json_events import compact, whole_number

# The names of tools in lower-case letters, as the agent CLIs call them.
_KINDS = {
    ToolKind.READ: "read readfile readmanyfiles view notebookread listdirectory ls list readmcpresource",
    ToolKind.EDIT: "edit write multiedit notebookedit writefile replace create strreplaceeditor applypatch filechange",
    ToolKind.EXECUTE: "bash shell runshellcommand commandexecution readbash writebash stopbash bashoutput killshell",
    ToolKind.SEARCH: "grep glob search searchfilecontent grepsearch rg codesearch toolsearch",
    ToolKind.FETCH: "webfetch websearch googlewebsearch fetch webfetchtool",
    ToolKind.AGENT: "task agent collabtoolcall delegate",
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names.split()}
_NO_LETTER = re.compile(r"[^a-z]")


class Entry(NamedTuple):
    """A log line to be: its kind, its text and its event. `turn` is the number of its model call, if that is not the reader's
    current one."""

    kind: LogKind
    text: str
    event: AgentEvent | None = None
    turn: int | None = None


def said(text: str) -> Entry:
    """Return an entry for words of the agent to people."""
    return Entry(LogKind.TEXT, text)


def thought(text: str) -> Entry:
    """Return an entry for words of the agent to itself."""
    return Entry(LogKind.THOUGHT, text)


def notice(text: str) -> Entry:
    """Return an entry for a message about the agent."""
    return Entry(LogKind.SYSTEM, text)


def retry(text: str, *, status: Any = None, attempt: Any = None, delay_s: float | None = None) -> Entry:
    """Return an entry for a model call that failed and is tried again. Values of other types than expected are left out."""
    delay_ms = None if delay_s is None else round(delay_s * 1000)
    event = Retry(status=whole_number(status), attempt=whole_number(attempt), delay_ms=delay_ms)
    return Entry(LogKind.SYSTEM, text, event)


def tool_call(call_id: Any, name: str, value: Any, *, server: str | None = None) -> Entry:
    """Return an entry for a tool call. `name` is the tool's own, without its MCP server."""
    kind = ToolKind.MCP if server is not None else _KIND_OF.get(_NO_LETTER.sub("", name.lower()), ToolKind.OTHER)
    event = ToolCall(id=str(call_id), name=name, kind=kind, input=value, server=server)
    full_name = name if server is None else f"{server}.{name}"
    return Entry(LogKind.TOOL, f"{full_name} {compact(value)}", event)


def tool_result(call_id: Any, output: str, *, ok: bool, exit_code: Any = None) -> Entry:
    """Return an entry for the result of a tool call."""
    size = len(output.encode("utf-8", "replace"))
    event = ToolResult(id=str(call_id), ok=ok, size=size, exit_code=whole_number(exit_code))
    return Entry(LogKind.RESULT, output if ok else f"error: {output}", event)


def turn(number: int, model: str | None, usage: Usage, cost: Decimal | None, *, subagent: bool = False) -> Entry:
    """Return an entry for a model call that has ended."""
    event = TurnEnd(
        model=model or None,
        fresh=usage.fresh,
        cached=usage.cached,
        cache_write=usage.cache_write,
        output=usage.output,
        reasoning=usage.reasoning,
        cost_usd=None if cost is None else f"{cost.normalize():f}",
        subagent=subagent,
    )
    read = usage.fresh + usage.cached + usage.cache_write
    cached = f" ({usage.cached:,} from the cache)" if usage.cached else ""
    paid = "" if cost is None else f", ${event.cost_usd}"
    speaker = "a subagent's turn" if subagent else f"turn {number}"
    return Entry(LogKind.TURN, f"{speaker}: read {read:,} tokens{cached}, wrote {usage.output:,}{paid}", event, number)
