"""Bodies of findings in task files, with their fixes."""

from typing import Literal

from optio.server.bodies.base import Body
from optio.server.bodies.registry import RemovalBody


class EditBody(Body, frozen=True, kw_only=True):
    """A range of a file to be replaced by a text, in lines and columns from 1."""

    line: int
    column: int
    end_line: int
    end_column: int
    text: str


class FixBody(Body, frozen=True, kw_only=True):
    """A cure that a program can apply."""

    safe: bool
    """Whether the file means the same after it."""
    edits: list[EditBody]


class RelatedBody(Body, frozen=True, kw_only=True):
    """A second place that belongs to a diagnostic."""

    message: str
    path: str
    line: int
    column: int


class DiagnosticBody(Body, frozen=True, kw_only=True):
    """A finding of the compiler, in lines and columns from 1."""

    code: str
    """The code of the rule, such as `OPT101`."""
    rule: str
    """The name of the rule."""
    severity: Literal["error", "warning", "info"]
    certainty: Literal["proves", "suspects"]
    """Whether the rule proves what it reports, or suspects it."""
    message: str
    path: str
    """The file, relative to the tree."""
    line: int
    column: int
    end_line: int
    end_column: int
    pointer: str
    """A JSON Pointer into the file."""
    hint: str | None
    """The cure."""
    more: int
    """The number of others that this one stands for."""
    related: list[RelatedBody]
    """Further places."""
    fix: FixBody | None


class DiagnosticListBody(Body, frozen=True, kw_only=True):
    """The compiler's findings about the tree on disk."""

    diagnostics: list[DiagnosticBody]
    stale: list[str]
    """Tasks whose files are broken: their last good definitions are served."""
    removal: RemovalBody | None
    """The removal that is held."""
    files: int
    """The number of files of the tree."""
