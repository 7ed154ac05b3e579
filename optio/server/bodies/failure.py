"""Bodies that say why a run failed."""

from typing import Annotated

from optio.server.bodies.base import Body, Source
from optio.server.bodies.logs import LogLineBody


class ReasonMeaningBody(Body, frozen=True, kw_only=True):
    """A meaning of a reason."""

    meaning: str
    """What happened."""
    cure: str
    """What you do about it; empty where it is repeated by itself."""


class RunDifferenceBody(Body, frozen=True, kw_only=True):
    """Something in which a run differs from an earlier one."""

    what: str
    """A key of the definition, a parameter, or the agent's model or version."""
    before: str
    """Its value in the earlier run, cut to 200 characters."""
    now: str
    """Its value in this run, cut to 200 characters."""


class RunFailureBody(Body, frozen=True, kw_only=True):
    """The explanation of a failed run."""

    reason: str
    """The reason of the run."""
    message: str
    """The same for people."""
    meanings: list[ReasonMeaningBody]
    """What the reason means: a few have two meanings, and those that programs invent have none."""
    last_call: LogLineBody | None
    """The last tool call of the agent, if it is among the last lines."""
    call_result: LogLineBody | None
    """Its result."""
    lines: list[LogLineBody]
    """The last lines of the log."""
    last_good: Annotated[str | None, Source("last_good.id")]
    """The id of the newest run of the task that was accepted before this one and completed."""
    differences: list[RunDifferenceBody]
    """What differs from that run."""
