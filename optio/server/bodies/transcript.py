"""The bodies of transcripts: a log as a conversation. They are filled while the log is read, so they are not frozen."""

from msgspec import Struct

from optio.model.agent_event import TurnEnd
from optio.server.bodies.base import Body


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
