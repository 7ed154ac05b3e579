"""A resolved task: the decoded task, its prompt and sample payloads, and the document for places. Checks read it, and make
their findings with `at` and `in_prompt`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from optio.compiler.diagnostics import Diagnostic, Fix, diagnostic
from optio.compiler.layers import MergedDocument
from optio.compiler.source import Span, span_at
from optio.compiler.yaml.document import Document
from optio.compiler.yaml.emit import flow
from optio.model.route import Route
from optio.model.task import TaskSpec

if TYPE_CHECKING:
    from optio.model.connection import Connection


class Sample(NamedTuple):
    """A payload file that tests of the task name; tests that name the same file share one. `verdict` is the result that the
    test expects."""

    route: Route
    path: str
    payload: Any
    verdict: str


@dataclass(frozen=True, eq=False)
class ResolvedTask:
    """A task with everything that it refers to. Below the routes in `gaps` nothing is known, because the value there was wrong
    and has been reported. A task with errors is still checked, and then left out of the registry."""

    id: str
    spec: TaskSpec
    prompt: str
    document: Document | MergedDocument
    prompt_path: str | None = None
    gaps: frozenset[Route] = frozenset()
    samples: tuple[Sample, ...] = field(default=())
    connections: "tuple[Connection, ...]" = ()

    @property
    def path(self) -> str:
        """Return the path of the task's own file."""
        return self.document.path

    @property
    def prompt_route(self) -> Route:
        """Return the route of the prompt: `promptTemplate`, or `promptFile` where the prompt is in a file."""
        return ("promptFile",) if self.prompt_path is not None else ("promptTemplate",)

    @property
    def has_model_service(self) -> bool:
        """Return whether a connection takes the place of the service that the agent asks for its model."""
        return any(connection.spec.kind == "model" for connection in self.connections)

    def is_known(self, route: Route) -> bool:
        """Return True if the value at the route is the file's own, or is simply absent. False means that it was wrong."""
        return not self.gaps or not any(route[: len(gap)] == gap for gap in self.gaps)

    def span(self, route: Route) -> Span:
        """Return the span of a value in the file that wrote it."""
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
        """Return a finding at a route: at its value, or with `key` at its key. `write` is the replacement that fixes it, as
        YAML, and `value` a replacement text in the quotes of the old one. `safe` says that the fix keeps the meaning, or is the
        only possible one."""
        place = span or (self.document.key_span(route) if key else self.document.span(route))
        if value is not None:
            fix = self.document.rewritten(route, self.document.restyled(route, value), safe=safe)
        elif write is not None:
            is_value = span is None and not key
            text = flow(write) if key else write  # the author's key may need quotes
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
        """Return a finding at characters `start:end` of the prompt, in the file that holds the prompt."""
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
    """Return how many times the needle occurs before `start`, overlaps included."""
    return sum(1 for _ in _positions(text, needle, start))


def _positions(text: str, needle: str, before: int) -> Iterator[int]:
    offset = text.find(needle)
    while 0 <= offset < before:
        yield offset
        offset = text.find(needle, offset + 1)
