"""A task with everything it refers to: what every check reads, and how it points at a place of the task's files."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from optio.compiler.diagnostics import Diagnostic, Fix, diagnostic
from optio.compiler.layers import MergedDocument
from optio.compiler.source import Span, span_at
from optio.compiler.yaml.document import Document
from optio.model.route import Route
from optio.model.task import TaskSpec


class Sample(NamedTuple):
    """A payload that a test names, one object for all that name it; `verdict` is what must become of it."""

    route: Route
    path: str
    payload: Any
    verdict: str


@dataclass(frozen=True, eq=False)
class ResolvedTask:
    """A task with everything it refers to, and its document for places.

    Of what stands below `gaps` nothing is known: it was wrong, and has been reported. A task with an error is checked on
    all the same, and then left out of the registry.
    """

    id: str
    spec: TaskSpec
    prompt: str
    document: Document | MergedDocument
    prompt_path: str | None = None
    gaps: frozenset[Route] = frozenset()
    samples: tuple[Sample, ...] = field(default=())

    @property
    def path(self) -> str:
        """The file it stands in."""
        return self.document.path

    @property
    def prompt_route(self) -> Route:
        """Where its prompt is written or named."""
        return ("promptFile",) if self.prompt_path is not None else ("promptTemplate",)

    def is_known(self, route: Route) -> bool:
        """Whether the value there is what the file says, or its plain absence."""
        return not self.gaps or not any(route[: len(gap)] == gap for gap in self.gaps)

    def span(self, route: Route) -> Span:
        """The place of a value."""
        return self.document.span(route)

    def at(
        self,
        code: str,
        message: str,
        route: Route,
        *,
        hint: str | None = None,
        key: bool = False,
        span: Span | None = None,
        write: str | None = None,
        value: str | None = None,
        safe: bool = True,
        fix: Fix | None = None,
    ) -> Diagnostic:
        """A finding at a route of this task's file: at its value, or (`key`) at its key. `write` stands there when it is
        fixed, or `value`, a text in the quotes that are there. That is `safe` when the task means the same as before, or what
        it can only have meant."""
        place = span or (self.document.key_span(route) if key else self.document.span(route))
        if value is not None:
            fix = self.document.rewritten(route, self.document.restyled(route, value), safe=safe)
        elif write is not None:
            from optio.compiler.yaml.emit import flow  # only who made a mistake waits for it

            is_value = span is None and not key
            text = flow(write) if key else write  # an author's own key may need quotes
            fix = self.document.rewritten(route, write, safe=safe) if is_value else Fix.write(text, place, safe=safe)
        return diagnostic(code, message, path=self.document.path_at(route), span=place, route=route, hint=hint, fix=fix)

    def in_prompt(
        self,
        code: str,
        message: str,
        start: int,
        end: int,
        *,
        hint: str | None = None,
        write: str | None = None,
        safe: bool = True,
    ) -> Diagnostic:
        """A finding at characters `start:end` of the prompt, in whichever file it is written."""
        needle = self.prompt[start:end]
        if self.prompt_path is not None:
            span = span_at(self.prompt, start, end)
            fix = None if write is None else Fix.write(write, span, safe=safe)
            return diagnostic(code, message, path=self.prompt_path, span=span, hint=hint, fix=fix)
        span = self.document.find(("promptTemplate",), needle, _occurrence(self.prompt, needle, start))
        if self.document.text_at(span, ("promptTemplate",)) != needle:
            write = None  # escapes or a folded line hide it
        return self.at(code, message, ("promptTemplate",), hint=hint, span=span, write=write, safe=safe)


def _occurrence(text: str, needle: str, start: int) -> int:
    """How many times the needle stands before `start`, overlaps included."""
    return sum(1 for _ in _positions(text, needle, start))


def _positions(text: str, needle: str, before: int) -> Iterator[int]:
    offset = text.find(needle)
    while 0 <= offset < before:
        yield offset
        offset = text.find(needle, offset + 1)
