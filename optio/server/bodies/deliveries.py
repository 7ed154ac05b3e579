"""The bodies of the API about webhooks: their answers, requests as they came, the gates that they passed, and replays."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, UnsetType

from optio.errors import RefusalVerdict
from optio.runs.delivery_gates import GateName, GateOutcome
from optio.runs.replay import DecisionVerdict, Difference
from optio.server.bodies.base import Body, Cursor, Source, Time
from optio.store.values import DeliveryVerdict


class DeliveryBody(Body, frozen=True, kw_only=True):
    """A webhook request as it came, without its body."""

    id: str
    path: str
    """The last part of the URL."""
    task_id: str
    key: str | None
    """The sender's id of the delivery."""
    received_at: Time
    verdict: DeliveryVerdict
    """What was decided."""
    status: int
    """The HTTP status of the answer."""
    detail: str | None
    """Why it was decided so."""
    run_id: str | None
    """The run that it started, or was joined to."""
    repeats: int
    """How often it came again under its id."""
    replays: int
    """How often its signed body came again under another id."""
    body_sha256: str
    headers: dict[str, str]
    """Its headers, without credentials."""


class GateBody(Body, frozen=True, kw_only=True):
    """A step that a webhook request took."""

    name: GateName
    outcome: GateOutcome
    detail: str
    """The same for people; empty where there is nothing to say."""


class DeliveryDetailsBody(DeliveryBody, frozen=True, kw_only=True):
    """A webhook request as it came, and the gates that it passed."""

    gates: list[GateBody]
    """The steps of the decision, in order."""
    body: str | UnsetType | None = UNSET
    """The body as text, where it is stored."""
    body_base64: str | UnsetType | None = UNSET
    """With `body=base64`: every byte of it."""


class RefusalsBody(Body, frozen=True, kw_only=True):
    """The number of refused requests that have no delivery, for one path and verdict."""

    path: str
    task_id: str
    verdict: RefusalVerdict
    """Why they were refused."""
    requests: int
    """Their number."""
    first_minute: Annotated[Time, Source("first")]
    last_minute: Annotated[Time, Source("last")]


class DeliveryPageBody(Body, frozen=True, kw_only=True):
    """A page of webhook requests, newest first."""

    items: list[DeliveryBody]
    next: Cursor
    """The `cursor` of the next page; null on the last one."""
    refused: list[RefusalsBody]
    """Requests that were refused without a delivery."""


class DecisionBody(Body, frozen=True, kw_only=True):
    """A decision about a request, and the run that it means."""

    verdict: DecisionVerdict
    """What was decided."""
    detail: str | None
    """Why it was decided so."""
    task_id: str | None
    definition: str | None
    """The digest of the task's definition."""
    params: dict[str, Any] | None
    prompt: str | None


class ReplayOptions(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a replay."""

    dry_run: bool = False
    """Start nothing."""
    again: bool = False
    """Start another run, even if the request has one."""


class ReplayBody(Body, frozen=True, kw_only=True):
    """The decision about a stored request then, beside the decision now."""

    delivery_id: Annotated[str, Source("id")]
    path: str
    received_at: Time
    has_run: Annotated[str | None, Source("run_id")]
    """The run that the request had."""
    replayed_as: str | None
    """The run of an earlier replay with the same definition."""
    then: DecisionBody
    now: DecisionBody
    differs: list[Difference]
    """What differs."""
    diff: str
    """A unified diff of parameters and prompt."""
    run_id: str | None
    """The run that this replay started."""
    duplicate: bool | UnsetType = UNSET
    """True where an earlier run stands for the same business key."""


class DeliveryTestBody(Body, frozen=True, kw_only=True):
    """A test of a task, made of a webhook request."""

    task_id: str
    """The task that has the webhook now."""
    file: str
    """The file of the task, relative to the tree."""
    tests: str
    """The YAML of the test, to be added to that file."""
    payload_file: str
    """The file to write the payload to, relative to the tree."""
    payload: str
    """The redacted payload."""
    redacted: list[str]
    """The redacted places, and what stood there."""


class WebhookAnswerBody(Body, frozen=True, kw_only=True):
    """The outcome of a webhook request."""

    run_id: str | None
    """The run, or the earlier one of a duplicate; null for a request that the task's filter does not want."""
    status: Literal["accepted", "filtered", "duplicate"]
    """`accepted`, `filtered` by the task, or a `duplicate` by its business key."""
    duplicate: bool | UnsetType = UNSET
    """True where an earlier request decided the answer."""
    reason: str | UnsetType = UNSET
    """Why this request counts as a replay."""


class ChallengeBody(Body, frozen=True, kw_only=True):
    """The challenge of a sender that verifies the URL."""

    challenge: str
