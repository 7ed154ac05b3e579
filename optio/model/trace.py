"""Trace context (W3C): which trace a run belongs to, and the ids of its spans.

The ids follow from the run alone. Whoever ends an attempt, on whatever machine, gives its spans the same ids as the worker
that began it and died; and the agent was told the right parent before anybody knew how it would end.
"""

import hashlib
import re
from dataclasses import dataclass

_HEADER = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span's place: its trace, itself, and whether the trace is kept. Ids are lower-case hexadecimal."""

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def header(self) -> str:
        """As `traceparent` carries it."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def parse(text: str | None) -> TraceContext | None:
    """What a `traceparent` says; None for one that says nothing that may be used."""
    found = _HEADER.fullmatch(text or "")
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def clean(text: str | None) -> str | None:
    """A `traceparent` from outside, in our words; None for one that is none."""
    found = parse(text)
    return None if found is None else found.header


def trace_id(run_id: str) -> str:
    """The trace of a run that came without one."""
    return _digest(run_id, "trace", 32)


def span_id(run_id: str, name: str) -> str:
    """The id of the run's span with this name, which is unique within the run."""
    return _digest(run_id, name, 16)


def _digest(run_id: str, name: str, length: int) -> str:
    return hashlib.sha256(f"{run_id}/{name}".encode()).hexdigest()[:length]
