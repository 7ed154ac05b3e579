"""Calls of a model through the gateway: what an attempt may spend, what one call reserves before it, and what it has cost.

A key belongs to one attempt, and dies with it. The gateway takes it in place of the credential that it knows and the agent does
not. Money is reserved before a call and settled after it, so all calls of a run together stay within its budget.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

from optio.model.usage import Usage

# A key as it may stand in an agent's output, where it is masked: who adopts an agent does not know its key.
KEY_MARK = b"optio_at_"
KEY_PATTERN = re.compile(KEY_MARK + rb"[A-Za-z0-9_-]{43}")


def key_digest(key: str) -> str:
    """Return the digest by which the store knows a key (SHA-256, hexadecimal)."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


# An open call that its gateway has not renewed for so long is lost.
CALL_LEASE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptKey:
    """Right of one attempt to call what its task names, whose digest is `definition`. `upstream` is the base URL of its model
    service, and `credential` the name of the secret that opens it, both None where the agent calls its model by itself. `limit`
    is what the run may spend in US dollars, None without a budget, and `spent` what earlier attempts have spent of it. With
    `is_priced` no model is called whose price is unknown. `secrets` are the names of the secrets that the agent has; None where
    they are not known, from a worker of an older version."""

    digest: str
    run_id: str
    attempt: int
    definition: str
    upstream: str | None
    credential: str | None
    limit: Decimal | None
    spent: Decimal
    is_priced: bool
    secrets: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """State of an attempt before a call: the US dollars that are left (None without a budget), whether other calls of it are
    open, and how many tokens of input its largest call so far had for each byte of its request, None before the first."""

    left: Decimal | None
    has_open: bool
    tokens_per_byte: Decimal | None


Refusal = Literal["budget", "unpriced", "model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """A call as it is admitted: what it reserves in US dollars, how much of that is for its input, and the most tokens that it
    may answer, None where the request stays as it is."""

    reserved: Decimal
    input_cost: Decimal = Decimal(0)
    max_output: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedCall:
    """A call that is not made. `has_open` says that it may fit when other calls have ended."""

    reason: Refusal
    message: str
    has_open: bool = False


Plan = Callable[[Account], PlannedCall | RefusedCall]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledCall:
    """A call as it has ended: the model that answered, its usage and cost, None where nobody knows it. `is_estimate` says that
    the answer broke off before it told its usage. `status` is that of the answer, 0 if none came; times count from its
    admission."""

    model: str
    usage: Usage
    cost: Decimal | None
    is_estimate: bool
    status: int = 0
    first_byte_s: float | None = None
    duration_s: float | None = None


class CallOutcome(StrEnum):
    """The outcome of a model call."""

    OPEN = "open"  # its answer is to come
    ANSWERED = "answered"  # its answer came whole
    FAILED = "failed"  # the model service refused it, or could not be reached
    BROKEN = "broken"  # its answer broke off
    LOST = "lost"  # its gateway ended before its answer did
    REFUSED = "refused"  # the gateway did not pass it on


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """A call as the store keeps it. `number` counts the calls of the run, and `protocol` is the name of the one it speaks.
    `requested_model` is the one that the request names, `model` the one that answered. `cost` is what the call counts with:
    what it has reserved, where that is all that is known. `reason` and `message` are those of a refusal. `is_recorded` says
    that its request and its answer are kept too."""

    number: int
    attempt: int
    id: str
    at: datetime
    outcome: CallOutcome
    protocol: str | None
    requested_model: str
    model: str | None
    usage: Usage
    cost: Decimal | None
    is_estimate: bool
    status: int | None
    first_byte_s: float | None
    duration_s: float | None
    reason: str | None
    message: str | None
    is_recorded: bool


# Why a call was not recorded.
Omission = Literal[
    "secrets",  # a secret of the run could not be read, so it could not be masked
    "size",  # the call, or all calls of the run, are too large
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecording:
    """A call as it is recorded: its request as JSON, without secrets, and the answer as the agent got it. `is_whole` says that
    the answer came to its end. With `omitted` there is neither."""

    path: str
    status: int
    content_type: str
    is_whole: bool
    request: Any = None
    answer: bytes = b""
    omitted: Omission | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTotals:
    """All model calls of one attempt. `cost` is None if a call has one that nobody knows; calls that are open or lost
    count with what they have reserved. `refusal` is that of the last call, if it was refused."""

    calls: int
    open: int
    usage: Usage
    cost: Decimal | None
    is_estimate: bool
    refusal: RefusedCall | None
