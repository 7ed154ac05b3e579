"""The messages of `WS /ws/live`, by which a page follows logs and runs. The AsyncAPI document is derived from them, as the
OpenAPI document is from `optio.server.bodies`."""

from typing import Annotated

from msgspec import Meta

from optio.model.run import RunState
from optio.server.bodies.base import Body
from optio.server.bodies.logs import LogEndBody, LogLineBody

Key = Annotated[str, Meta(min_length=1, max_length=40)]
MAX_CURSOR = 2**53


class _Request(Body, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """A message that a client sends."""


class FollowMessage(_Request, frozen=True, kw_only=True, tag="follow"):
    """Asks for the log of a run, from a cursor until the run has ended."""

    id: Key
    """Your name for this subscription; the messages for it carry it."""
    run: Annotated[str, Meta(max_length=100)]
    """The id of the run."""
    after: Annotated[int, Meta(ge=0, le=MAX_CURSOR)] = 0
    """The last `seq` that you have."""


class WatchMessage(_Request, frozen=True, kw_only=True, tag="watch"):
    """Asks for the changes of runs."""

    id: Key
    """Your name for this subscription; the messages for it carry it."""
    task: Annotated[str, Meta(max_length=200)] | None = None
    """The id of a task; without it, runs of all tasks are watched."""


class DropMessage(_Request, frozen=True, kw_only=True, tag="drop"):
    """Ends a subscription."""

    id: Key
    """The name of the subscription; one that has ended may be dropped, too."""


class PingMessage(_Request, frozen=True, kw_only=True, tag="ping"):
    """Asks for a `pong`."""


class LinesMessage(Body, frozen=True, kw_only=True, tag_field="type", tag="lines"):
    """The next lines of a log, in order."""

    id: str
    """The name of the subscription."""
    lines: list[LogLineBody]
    """The lines; the `seq` of the last one is the cursor."""


class LogEndMessage(LogEndBody, frozen=True, kw_only=True, tag_field="type", tag="end"):
    """The end of a log, which ends the subscription. A run that is retried has more lines: follow it again."""

    id: str
    """The name of the subscription."""


class RunChangeBody(Body, frozen=True, kw_only=True):
    """A run that is new, or that has another state, reason or attempt than before."""

    id: str
    """The id of the run."""
    task_id: str
    """The id of its task."""
    state: RunState
    """The state of the run."""
    reason: str
    """Why it is in this state."""
    attempt: int
    """The number of the newest attempt; 0 before the first."""


class RunsMessage(Body, frozen=True, kw_only=True, tag_field="type", tag="runs"):
    """Changes of runs, of each run the last one."""

    id: str
    """The name of the subscription."""
    runs: list[RunChangeBody]
    """The runs that have changed."""
    missed: bool
    """Whether earlier changes may be missing: read the list again. This is so in the first message of each subscription."""


class RefusedMessage(Body, frozen=True, kw_only=True, tag_field="type", tag="refused"):
    """Says why a subscription was not made, or has ended."""

    id: str
    """The name of the subscription."""
    detail: str
    """The reason, for people."""


class PongMessage(Body, frozen=True, kw_only=True, tag_field="type", tag="pong"):
    """The answer to a `ping`."""
