"""Resolve: what a task needs from elsewhere: its id and its prompt's text."""

import posixpath
from dataclasses import dataclass

from optio.compiler.diagnostics import Diagnostic, finding
from optio.compiler.document import Document
from optio.compiler.source import Span
from optio.compiler.tree import SourceTree, Unreadable
from optio.model.route import Route
from optio.model.task import TaskSpec
from optio.model.text import slug


@dataclass(frozen=True)
class ResolvedTask:
    """A task with everything it refers to, and its document for places."""

    id: str
    spec: TaskSpec
    prompt: str
    document: Document

    @property
    def path(self) -> str:
        """The file it stands in."""
        return self.document.path

    @property
    def prompt_route(self) -> Route:
        """Where its prompt is written or named."""
        return ("promptTemplate",) if self.spec.prompt_template is not None else ("promptFile",)

    def span(self, route: Route) -> Span:
        """The place of a value."""
        return self.document.span(route)

    def at(
        self, code: str, message: str, route: Route, *, hint: str | None = None, key: bool = False, span: Span | None = None
    ) -> Diagnostic:
        """A finding at a route of this task's file: at its value, or (`key`) at its key."""
        place = span or (self.document.key_span(route) if key else self.document.span(route))
        return finding(code, message, path=self.path, span=place, route=route, hint=hint)


def resolve(document: Document, spec: TaskSpec, tree: SourceTree) -> tuple[ResolvedTask | None, list[Diagnostic]]:
    """The resolved task, or None with the reasons."""

    def at(code: str, message: str, route: Route, hint: str | None = None) -> Diagnostic:
        return finding(code, message, path=document.path, span=document.span(route), route=route, hint=hint)

    found: list[Diagnostic] = []
    task_id = spec.id or slug(spec.name)
    if not task_id or len(task_id) > 80:
        found.append(at("OPT107", f"`{spec.name}` leads to no usable id", ("name",), "add `id:` with a-z, 0-9 and dashes"))
    prompt = spec.prompt_template or ""
    if spec.prompt_template is not None and spec.prompt_file is not None:
        found.append(at("OPT108", "both `promptTemplate` and `promptFile`", ("promptFile",), "keep one"))
    elif spec.prompt_file is not None:
        try:
            path = posixpath.join(posixpath.dirname(document.path), spec.prompt_file)
            data = tree.read(path if spec.prompt_file.startswith(("/", "~")) else posixpath.normpath(path))
            prompt = data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
        except Unreadable as err:
            found.append(at("OPT115", f"`{spec.prompt_file}` {err.message}", ("promptFile",), err.hint))
        except UnicodeDecodeError:
            found.append(at("OPT115", f"`{spec.prompt_file}` is no UTF-8", ("promptFile",), "save it as UTF-8"))
    elif spec.prompt_template is None and spec.agent_runtime != "command":
        found.append(
            finding(
                "OPT102",
                "`promptTemplate` is missing",
                path=document.path,
                span=document.key_span(()),
                route=("promptTemplate",),
                hint="add `promptTemplate: |` and the prompt below it, or `promptFile:`",
            )  # fmt: skip
        )
    if found:
        return None, found
    return ResolvedTask(task_id, spec, prompt, document), []
