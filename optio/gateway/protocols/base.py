"""Protocols of model services: which model a request names, where its limit stands, what an answer has used, and how a refusal
is said. All else passes through the gateway unread."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from optio.model.usage import Usage

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
# A line of an event stream that is longer has no usage in it.
_MAX_LINE = 4 << 20
_MAX_BODY = 64 << 20


def read_object(data: bytes) -> dict[str, Any] | None:
    """Return a JSON object; None for anything else."""
    try:
        value = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def write_object(value: Mapping[str, Any]) -> bytes:
    """Return compact JSON."""
    return _encode(value)


def member(value: Any, *path: str) -> Any:
    """Return what stands at a path of names; None if it is not there."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def count(value: Any, *path: str) -> int:
    """Return the number of tokens at a path; 0 if there is none that can be believed."""
    number = member(value, *path)
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 40 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """A request for an answer of a model, as the gateway sees it. `body` is what is sent on, `answers` how many it asks for at
    once, each as long as `max_output`, and `obstacle` why it cannot be passed on, in words for the agent."""

    model: str
    max_output: int | None
    is_stream: bool
    body: bytes
    answers: int = 1
    obstacle: str | None = None


class PassingAnswer:
    """An answer as it passes: whose it is, what it has used, and whether that is told to the end."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.usage: Usage | None = None
        self.is_complete = False
        # Bytes of the answer's own words, for an estimate where it breaks off.
        self.size = 0


class Dialect(Protocol):
    """One protocol. `name` is shown to people."""

    name: str

    def request(self, path: str, data: bytes) -> ModelRequest | None:
        """Return the request; None for a body that cannot be understood."""
        ...

    def limited(self, request: ModelRequest, max_output: int) -> bytes:
        """Return the body with this limit of tokens."""
        ...

    def take(self, answer: PassingAnswer, event: dict[str, Any]) -> None:
        """Take note of an event of the stream, or of the whole body of an answer that is none."""
        ...

    def refusal(self, status: int, reason: str, message: str) -> bytes:
        """Return the body of a refusal, in the shape in which the service itself refuses."""
        ...


class AnswerReader:
    """A reader of an answer's bytes as they pass, in pieces of any size. It changes none of them."""

    def __init__(self, dialect: Dialect, *, is_stream: bool) -> None:
        self.answer = PassingAnswer()
        self._dialect, self._is_stream = dialect, is_stream
        self._rest = bytearray()

    def feed(self, data: bytes) -> None:
        """Read a piece."""
        self.answer.size += len(data)
        if not self._is_stream:
            # A longer body is none of a model's: it passes, and costs an estimate.
            self._rest += data if self.answer.size <= _MAX_BODY else b""
            return
        self._rest += data
        for line in self._lines():
            if line.startswith(b"data:"):
                event = read_object(line[5:])
                if event is not None:
                    self._dialect.take(self.answer, event)

    def close(self) -> None:
        """Read what is left: the whole body of an answer that is no stream."""
        if self._is_stream:
            self.feed(b"\n")
            return
        body = read_object(bytes(self._rest))
        if body is not None:
            self._dialect.take(self.answer, body)
            self.answer.is_complete = self.answer.usage is not None

    def _lines(self) -> Iterator[bytes]:
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest if len(rest) <= _MAX_LINE else bytearray()
        yield from (bytes(line) for line in lines)
