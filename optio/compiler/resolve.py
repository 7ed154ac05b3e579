"""Resolve: what a task needs from elsewhere: its id, its prompt's text, its sample payloads."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from optio.compiler.diagnostics import Diagnostic, Fix, finding
from optio.compiler.document import Document
from optio.compiler.layers import Merged, beside, missing_hint
from optio.compiler.source import Position, Span, span_at
from optio.compiler.spec import Shape
from optio.compiler.tree import SourceTree, Unreadable
from optio.errors import Malformed
from optio.model.example import Example
from optio.model.route import Route
from optio.model.task import TaskSpec
from optio.model.text import slug

LONGEST_ID = 80
# What becomes of a delivery whose body is not read, or cannot be.
_UNREAD = ("unsupported", "unsigned", "stale", "unreadable")


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
    document: Document | Merged
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

    def knows(self, route: Route) -> bool:
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
            from optio.compiler.dump import flow  # only who made a mistake waits for it

            is_value = span is None and not key
            text = flow(write) if key else write  # an author's own key may need quotes
            fix = self.document.rewritten(route, write, safe=safe) if is_value else Fix.write(text, place, safe=safe)
        return finding(code, message, path=self.document.path_at(route), span=place, route=route, hint=hint, fix=fix)

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
            return finding(code, message, path=self.prompt_path, span=span, hint=hint, fix=fix)
        span = self.document.find(("promptTemplate",), needle, _occurrence(self.prompt, needle, start))
        if self.document.text_at(span, ("promptTemplate",)) != needle:
            write = None  # escapes or a folded line hide it
        return self.at(code, message, ("promptTemplate",), hint=hint, span=span, write=write, safe=safe)


def resolve(document: Document | Merged, shape: Shape, tree: SourceTree) -> tuple[ResolvedTask, list[Diagnostic]]:
    """The resolved task, and what could not be resolved."""
    spec, gaps = shape.spec, set(shape.gaps)
    found: list[Diagnostic] = []

    def at(code: str, message: str, route: Route, hint: str | None, *, key: bool = False) -> None:
        span = document.key_span(route) if key else document.span(route)
        found.append(finding(code, message, path=document.path_at(route), span=span, route=route, hint=hint))
        gaps.add(route)

    task_id = spec.id or slug(spec.name)
    if ("name",) not in gaps and not spec.name.isprintable():
        at("OPT107", "`name` holds a line break or a control character", ("name",), "write the name on one line")
    elif (not task_id or len(task_id) > LONGEST_ID) and not gaps & {("name",), ("id",)}:
        why = "leads to no id" if not task_id else f"leads to an id of {len(task_id)} characters"
        at("OPT107", f"the name {why}", ("name",), "add `id:` with a-z, 0-9 and dashes")
    prompt, prompt_path = spec.prompt_template or "", None
    if spec.prompt_template is not None and spec.prompt_file is not None:
        at(
            "OPT108",
            "both `promptTemplate` and `promptFile`",
            ("promptFile",),
            "keep one: delete `promptFile`, or `promptTemplate`",
            key=True,
        )
    elif spec.prompt_file is not None:
        try:
            prompt_path = beside(document.path_at(("promptFile",)), spec.prompt_file)
            prompt = _prompt_text(tree.read(prompt_path))
        except Unreadable as err:
            hint = missing_hint(tree, document.path_at(("promptFile",)), spec.prompt_file, err)
            at(err.code, f"`{spec.prompt_file}` {err.message}", ("promptFile",), hint)
        except UnicodeDecodeError:
            at("OPT115", f"`{spec.prompt_file}` is no UTF-8", ("promptFile",), "save it as UTF-8")
    elif (
        spec.prompt_template is None
        and spec.agent_runtime != "command"
        and not _any_gap(gaps, "promptTemplate", "promptFile")
        and not (spec.command is not None and _any_gap(gaps, "agentRuntime"))
    ):
        hint = "add `promptTemplate: |` and the prompt below it, or `promptFile:`"
        at("OPT102", "`promptTemplate` is missing", ("promptTemplate",), hint, key=True)
    samples: list[Sample] = []
    payloads: dict[str, Any] = {}
    for index, example in enumerate(spec.tests):
        if example.webhook is None:
            continue
        route: Route = ("tests", index, "webhook")
        loaded = _sample(document, route, example, example.webhook, tree, payloads)
        if isinstance(loaded, Sample):
            samples.append(loaded)
        elif loaded is not None:
            found.append(loaded)
    task = ResolvedTask(task_id, spec, prompt, document, prompt_path, frozenset(gaps), tuple(samples))
    return task, found


def _any_gap(gaps: set[Route], *keys: str) -> bool:
    return any((key,) in gaps for key in keys)


def _prompt_text(data: bytes) -> str:
    return data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _sample(
    document: Document | Merged, route: Route, example: Example, name: str, tree: SourceTree, payloads: dict[str, Any]
) -> Sample | Diagnostic | None:
    """The payload, read as the server reads it, and once for all tests that name it; None for one that it need not be able to
    read."""

    def at(code: str, message: str, hint: str | None) -> Diagnostic:
        return finding(code, message, path=document.path, span=document.span(route), route=route, hint=hint)

    # Imported here: a tree without samples does not pay for it.
    from optio.model.body import decode

    try:
        path = beside(document.path, name)
        if path not in payloads:
            payloads[path] = decode(tree.read(path), f"`{name}`")
        return Sample(route, path, payloads[path], example.expect.word)
    except Unreadable as err:
        hint = (
            "give a smaller one: the server refuses such a body (413)"
            if err.code == "OPT014"
            else missing_hint(tree, document.path, name, err)
        )
        return at(err.code, f"`{name}` {err.message}", hint)
    except Malformed as err:
        if example.expect.word in _UNREAD:
            return None
        return at("OPT424", str(err), "give the payload as it was received, or expect `verdict: unreadable`")


def _occurrence(text: str, needle: str, start: int) -> int:
    """How many times the needle stands before `start`, overlaps included."""
    return sum(1 for _ in _positions(text, needle, start))


def _positions(text: str, needle: str, before: int) -> Iterator[int]:
    offset = text.find(needle)
    while 0 <= offset < before:
        yield offset
        offset = text.find(needle, offset + 1)


__all__ = ["Position", "ResolvedTask", "Sample", "resolve"]
