"""The bodies of the API about acts on many runs."""

from typing import Annotated, Literal

from msgspec import Meta

from optio.model.run import RunState, RunTrigger
from optio.server.bodies.base import Body, Time, Usd

# The most runs of one act: it must end within the time of a request.
MAX_BULK_RUNS = 200
# What can be done to many runs.
BulkAct = Literal[
    "cancel",  # queued runs are cancelled, running ones stopped
    "retry",  # failed runs are queued again
]


class BulkFilter(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The runs to be acted on, as the filters of `GET /api/runs` choose them."""

    task: str | None = None
    state: RunState | None = None
    trigger: RunTrigger | None = None
    reason: str | None = None
    since: Time | None = None
    until: Time | None = None
    min_cost: Usd | None = None


class ActOnRuns(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An act on many runs: those of `runs`, or the newest that fit `where`."""

    act: BulkAct
    runs: Annotated[list[str], Meta(max_length=MAX_BULK_RUNS)] | None = None
    """The ids of the runs."""
    where: BulkFilter | None = None
    """A filter instead. Only runs in a state that the act is for are chosen."""
    dry_run: bool = False
    """Whether the answer only tells what would be done."""


class RefusedRunBody(Body, frozen=True, kw_only=True):
    """A run on which the act was not done."""

    id: str
    message: str
    """Why not."""


class BulkResultBody(Body, frozen=True, kw_only=True):
    """The result of an act on many runs."""

    act: BulkAct
    dry_run: bool
    """Whether nothing was done."""
    runs: list[str]
    """The ids of the runs on which the act was done, or would be done."""
    refused: list[RefusedRunBody]
    more: bool
    """Whether more runs fit the filter: an act does 200 at most, the newest first. Repeat it for the others."""
