"""Bodies of errors (RFC 9457)."""

from msgspec import UNSET, UnsetType

from optio.server.bodies.base import Body


class FaultBody(Body, frozen=True, kw_only=True):
    """One fault of a request."""

    pointer: str
    """A JSON Pointer (RFC 6901) into the body, or `/NAME` of a parameter."""
    message: str
    code: str | UnsetType = UNSET
    """The code of the compiler's rule."""
    hint: str | UnsetType = UNSET
    """The cure."""


class ProblemBody(Body, frozen=True, kw_only=True):
    """A problem (RFC 9457)."""

    type: str
    """The type, which stays the same over versions."""
    title: str
    status: int
    """The HTTP status."""
    detail: str
    """What happened, for people."""
    run_id: str | UnsetType = UNSET
    """Of a duplicate: the run that stands for the same business key."""
    path: str | UnsetType = UNSET
    """Where files may not be changed: the file to commit."""
    document: str | UnsetType = UNSET
    """Where files may not be changed: the YAML to commit."""
    errors: list[FaultBody] | UnsetType = UNSET
    """One entry for each fault."""
