"""Trace context (W3C): the trace that a run belongs to, and the ids of its spans.

The ids are derived from the run's id alone. So whoever ends an attempt, on whatever machine, gives its spans the same ids as
the worker that began it and died, and the agent can be given its parent span before anyone knows how the attempt ends.
"""

import hashlib
import re
from dataclasses import dataclass

_HEADER = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The identity of one span: its trace, its own id, and whether the trace is sampled. Ids are lower-case hexadecimal."""

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def header(self) -> str:
        """Return the context as the value of a `traceparent` header."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def parse(text: str | None) -> TraceContext | None:
    """Return the context of a `traceparent` header; None where the header is malformed, of the forbidden version or all
    zero."""
    match = _HEADER.fullmatch(text or "")
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def clean(text: str | None) -> str | None:
    """Return a `traceparent` from outside in canonical form; None where it is malformed."""
    context = parse(text)
    return None if context is None else context.header


def trace_id(run_id: str) -> str:
    """Return the trace id of a run that came without a `traceparent`."""
    return _digest(run_id, "trace", 32)


def span_id(run_id: str, name: str) -> str:
    """Return the id of the run's span with this name, which must be unique within the run."""
    return _digest(run_id, name, 16)


def _digest(run_id: str, name: str, length: int) -> str:
    return hashlib.sha256(f"{run_id}/{name}".encode()).hexdigest()[:length]
