"""Agent events: what an agent does, as data beside the lines of its log. Tool calls with their results, model calls with their
usage, and retries have one. Texts and raw output have none, because their line says all.

Names follow the agent client protocol (`tool_call`, kinds of tools) and the `gen_ai` attributes of OpenTelemetry.
"""

from enum import Enum, StrEnum
from typing import Any, cast

import msgspec
from msgspec import Struct

from optio.model.mask import Masker

# Longer texts of an input are cut.
MAX_INPUT_BYTES = 64 * 1024
_MAX_TEXT = 4096
# Ids and names are short; an agent may print others.
_MAX_NAME = 500


class ToolKind(StrEnum):
    """The kinds of tools."""

    READ = "read"  # reads files
    EDIT = "edit"  # changes files
    EXECUTE = "execute"  # runs programs
    SEARCH = "search"  # looks for files, or in them
    FETCH = "fetch"  # asks other hosts
    AGENT = "agent"  # starts another agent
    MCP = "mcp"  # is brought by an MCP server
    OTHER = "other"  # anything else


class ToolCall(Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="tool_call"):
    """A call of a tool by the agent."""

    id: str
    """Its id in the agent's session; its result has the same."""
    name: str
    """The tool's name, as the agent calls it."""
    kind: ToolKind
    """What the tool does."""
    input: Any
    """Its arguments. Long texts in them are cut."""
    server: str | None = None
    """The MCP server that brings the tool."""


class ToolResult(Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="tool_result"):
    """The result of a tool call. The text of its line is what the tool answered."""

    id: str
    """The id of the call."""
    ok: bool
    """Whether the tool succeeded, as the agent says."""
    size: int
    """The bytes of the answer, before the line was cut."""
    exit_code: int | None = None
    """The exit code of a program, if the agent tells it."""


class TurnEnd(Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="turn"):
    """A model call that has ended, with its usage. The run's usage may differ, as some agents correct the sum at their end."""

    model: str | None
    """The model, if the agent tells it."""
    fresh: int
    """Tokens read that were not in the provider's cache."""
    cached: int
    """Tokens read from the cache."""
    cache_write: int
    """Tokens written to the cache."""
    output: int
    """Tokens written."""
    reasoning: int
    """Those of the written tokens that were thoughts, if the agent tells them."""
    cost_usd: str | None
    """The cost in US dollars as decimal text; null where no price is known."""
    subagent: bool = False
    """Whether an agent made the call that this agent had started."""


class Retry(Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="retry"):
    """A model call that failed and is tried again by the agent."""

    status: int | None
    """The HTTP status of the answer, if there was one."""
    attempt: int | None
    """The number of the try, if the agent tells it."""
    delay_ms: int | None
    """How long the agent waits before it."""


AgentEvent = ToolCall | ToolResult | TurnEnd | Retry
_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(AgentEvent)


def encode(event: AgentEvent) -> bytes:
    """Return the event as JSON."""
    return _encode(event)


def decode(data: bytes) -> AgentEvent | None:
    """Return the event, or None for one that a newer version has stored."""
    try:
        return cast("AgentEvent", _decoder.decode(data))
    except msgspec.DecodeError:
        return None


def masked(event: AgentEvent, mask: Masker) -> AgentEvent:
    """Return the event with secrets masked, then cut to a size that the log keeps."""
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    texts = {name: mask.json(value) for name, value in fields.items() if not isinstance(value, (Enum, int, type(None)))}
    names = {name: value[:_MAX_NAME] for name, value in texts.items() if name != "input" and isinstance(value, str)}
    event = msgspec.structs.replace(event, **{**texts, **names})
    if isinstance(event, ToolCall) and len(_encode(event.input)) > MAX_INPUT_BYTES:
        event = msgspec.structs.replace(event, input=_cut_texts(event.input))
        if len(_encode(event.input)) > MAX_INPUT_BYTES:
            event = msgspec.structs.replace(event, input=None)
    return event


def _cut_texts(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        return f"{value[:_MAX_TEXT]}... [{len(value) - _MAX_TEXT:,} characters cut]"
    if isinstance(value, dict):
        return {key: _cut_texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cut_texts(inner) for inner in value]
    return value
