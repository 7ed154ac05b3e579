"""Bodies of logs: lines, pages, matches of a search, the end, and the log as a conversation."""

from msgspec import Struct

from optio.model.agent_event import AgentEvent, TurnEnd
from optio.model.run import LogKind, RunState
from optio.server.bodies.base import Body, Time


class LogLineBody(Body, frozen=True, kw_only=True):
    """One line of a run's log."""

    seq: int
    """The cursor of the line: numbers grow within a run."""
    attempt: int
    """The number of the attempt."""
    turn: int | None
    """The number of the agent's model call in this attempt, if the line belongs to one."""
    kind: LogKind
    """The kind of the line."""
    at: Time
    """When Optio read the line."""
    text: str
    """The line, with secrets masked as `***`."""
    event: AgentEvent | None
    """What the agent did, as data: for tool calls, their results, the ends of model calls, and retries."""


class LogPageBody(Body, frozen=True, kw_only=True):
    """A part of a run's log."""

    items: list[LogLineBody]
    next: int
    """The cursor that continues it."""
    last: int
    """The cursor of the last line of the whole log."""
    state: RunState
    """The state of the run: a log of a run that has ended is complete."""


class LogSearchBody(Body, frozen=True, kw_only=True):
    """The lines of a log that fit a search."""

    matches: list[int]
    """The cursors of the first of them."""
    count: int
    """How many there are up to `searched`."""
    searched: int
    """The cursor of the last line that was looked at. A search ends before the end of a huge log: go on from here."""
    last: int
    """The cursor of the last line of the whole log."""


class LogEndBody(Body, frozen=True, kw_only=True):
    """The end of a live log."""

    state: RunState
    """The last state of the run."""
    reason: str
    """Why it is in this state."""


class LineMessage(LogLineBody, frozen=True, kw_only=True, tag_field="type", tag="line"):
    """A line of a live log."""


class EndMessage(LogEndBody, frozen=True, kw_only=True, tag_field="type", tag="end"):
    """The last message of a live log."""


class TranscriptBlockBody(Struct, kw_only=True, rename="camel"):
    """Some lines of one kind, or a tool call."""

    kind: str
    """`call`, or the kind of the lines."""
    seq: int
    """The cursor of its first line."""
    text: str
    """The text of the lines, or the answer of the tool. A line is cut at 16 KiB."""
    name: str
    """The name of the tool; empty for lines."""
    gist: str
    """What the call is about, such as its command."""
    input: str
    """The input of the tool as JSON."""
    diff: list[str]
    """What an edit changes, as lines of a unified difference."""
    ok: bool | None
    """Whether the tool succeeded; null while its result is not there."""
    exit_code: int | None
    """The exit code of the tool, if it told one."""


class TranscriptTurnBody(Struct, kw_only=True, rename="camel"):
    """A model call with what the agent did after it."""

    attempt: int
    """The number of the attempt."""
    number: int | None
    """The number of the model call in its attempt; null for what belongs to none."""
    seq: int
    """The cursor of its first line."""
    blocks: list[TranscriptBlockBody]
    """What was said and done, in order. A result stands with its call."""
    end: TurnEnd | None
    """Its tokens and cost, once it has ended."""


class TranscriptBody(Body, frozen=True, kw_only=True):
    """Some turns of a run."""

    turns: list[TranscriptTurnBody]
    """At most 40 of them."""
    first: int
    """The cursor before the first of them: `before` this plus one are the earlier turns."""
    last: int
    """The cursor of their last line: `after` this are the later turns."""
    end: int
    """The cursor of the last line of the log."""
