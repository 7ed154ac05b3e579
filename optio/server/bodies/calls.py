"""Bodies of model calls: pages of them, and one with its request and its answer."""

from typing import Annotated, Any

from optio.model.model_call import CallOutcome, Omission
from optio.server.bodies.base import Body, Source, Time, Usd
from optio.server.bodies.runs import UsageBody


class ModelCallBody(Body, frozen=True, kw_only=True):
    """A call of a run's agent to its model, through the gateway."""

    number: int
    """Its number within the run, from 1."""
    attempt: int
    """The number of the attempt."""
    at: Time
    """When it was admitted or refused."""
    outcome: CallOutcome
    """How it went."""
    protocol: str | None
    """The protocol that it speaks, such as `Anthropic Messages`."""
    requested_model: str
    """The model that the agent asked for."""
    model: str | None
    """The model that answered."""
    usage: UsageBody
    """Its tokens."""
    tokens: Annotated[int, Source("usage.total")]
    """All its tokens, each counted once."""
    cost_usd: Annotated[Usd | None, Source("cost")]
    """Its cost in US dollars: what it has reserved, while that is all that is known; null where no price is known."""
    is_estimate: bool
    """Whether the cost is an estimate, as no usage was told."""
    status: int | None
    """The HTTP status of the model service's answer; 502 where it could not be reached."""
    first_byte_ms: int | None
    """The time from its admission to the first byte of the answer."""
    duration_ms: int | None
    """The time from its admission to its end."""
    reason: str | None
    """Why the gateway refused it."""
    message: str | None
    """The same for people."""
    is_recorded: bool
    """Whether its request and its answer are kept."""


class ModelCallPageBody(Body, frozen=True, kw_only=True):
    """Some model calls of a run."""

    items: list[ModelCallBody]
    """In the order in which they were made."""
    next: int | None
    """The `after` of the next page; null on the last one."""


class RecordingBody(Body, frozen=True, kw_only=True):
    """The request and the answer of a call, as they are kept. Secrets are `***`."""

    path: str
    """The path of the request at the model service."""
    request: Any
    """The request, as JSON."""
    status: int
    """The HTTP status of the answer that the agent got."""
    content_type: str
    """The media type of the answer."""
    answer: str
    """The answer: a text of events for one that was streamed."""
    is_whole: bool
    """Whether the answer came to its end."""
    omitted: Omission | None
    """Why there is neither request nor answer."""


class RecordedCallBody(ModelCallBody, frozen=True, kw_only=True):
    """A model call with its recording."""

    recording: RecordingBody | None
    """Null where nothing is kept."""
