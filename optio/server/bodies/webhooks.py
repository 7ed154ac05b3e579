"""Bodies that answer webhooks."""

from typing import Literal

from msgspec import UNSET, UnsetType

from optio.server.bodies.base import Body


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
