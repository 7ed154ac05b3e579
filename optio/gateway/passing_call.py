"""A model call while it passes: what the agent asked, what came of the answer so far, and what is kept of both."""

import time
import uuid
from decimal import Decimal
from typing import NamedTuple

from optio.gateway.asgi import CallRefused, Message
from optio.gateway.protocols.base import AnswerReader, Dialect, ModelRequest
from optio.gateway.settlement import settled
from optio.model.model_call import AttemptKey, PlannedCall, SettledCall

# A longer answer is not recorded.
MAX_RECORDED_BYTES = 8 << 20


class AgentRequest(NamedTuple):
    """One request of an agent: whose it is, what it says, and its place at the model service."""

    key: AttemptKey
    token: str
    dialect: Dialect
    path: str
    scope: Message


class PassingCall:
    """A call from its admission to its end. `body` is the request as it came. With `is_recorded` the answer is kept in memory
    until then."""

    def __init__(self, call: AgentRequest, body: bytes, request: ModelRequest, *, is_recorded: bool) -> None:
        self.call, self.body, self.request = call, body, request
        self.id = uuid.uuid4().hex
        self.plan = PlannedCall(reserved=Decimal(0))
        self.reader = AnswerReader(call.dialect, is_stream=request.is_stream)
        self.status = 0  # none has come yet
        self.content_type = ""
        self.is_settled = self.is_whole = False
        # What came of the answer; None if it is not to be recorded, or was already.
        self.answer: bytearray | None = bytearray() if is_recorded else None
        self._admitted_at = time.monotonic()
        self._first_byte_at: float | None = None

    def admit(self, plan: PlannedCall) -> None:
        """Take note that the call may be made, from now on."""
        self.plan, self._admitted_at = plan, time.monotonic()

    def begin(self, status: int, content_type: bytes) -> None:
        """Take note of the head of the answer."""
        self.status, self.content_type = status, content_type.decode("latin-1")

    def take(self, part: bytes) -> None:
        """Take note of a piece of the answer."""
        if self._first_byte_at is None:
            self._first_byte_at = time.monotonic()
        self.reader.feed(part)
        self.is_whole = self.reader.answer.is_complete
        if self.answer is not None and len(self.answer) <= MAX_RECORDED_BYTES:
            self.answer += part

    def refuse(self, refused: CallRefused) -> None:
        """Take note of the answer that the agent gets in place of the model's."""
        self.begin(refused.status, b"application/json")
        self.is_whole = True
        if self.answer is not None:
            self.answer[:] = refused.body(self.call.dialect)

    def settled(self) -> SettledCall:
        """Return the call as it ended, now."""
        first = None if self._first_byte_at is None else self._first_byte_at - self._admitted_at
        return settled(
            self.reader.answer,
            self.request,
            self.plan,
            self.status,
            first_byte_s=first,
            duration_s=time.monotonic() - self._admitted_at,
        )
