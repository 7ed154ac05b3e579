"""Open documents, one version each: text, outline, findings, and the task as it was when it last compiled."""

from functools import cached_property
from pathlib import Path

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.layers import resolve_path
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source_tree import SUFFIXES, Unreadable
from optio.lsp import outline
from optio.lsp.positions import DocumentLines
from optio.lsp.trees import LspOptions, TaskTree
from optio.model.route import Route


class OpenPage:
    """One version of an open document. `path` is its name in its tree; `before` is the previous version, whose findings and
    task stay until there are new ones."""

    def __init__(
        self,
        uri: str,
        file: Path,
        version: int | None,
        lines: DocumentLines,
        tree: TaskTree | None,
        before: "OpenPage | None" = None,
    ) -> None:
        self.uri, self.file, self.version, self.lines, self.tree = uri, file, version, lines, tree
        self.path = tree.relative(file) if tree is not None else file.name
        self.alone: tuple[Diagnostic, ...] = ()
        """Findings of the document compiled by itself."""
        self.shared: tuple[Diagnostic, ...] = before.shared if before is not None else ()
        """Findings that involve other files, from the last compilation of the tree."""
        self._last_task: ResolvedTask | None = before._last_task if before is not None else None

    def read(self, options: LspOptions) -> None:
        """Compile the document by itself, without the other tasks of the tree."""
        if self.tree is not None and self.is_yaml:
            file, diagnostics = self.tree.alone(self.path, options)
            self.alone = tuple(diagnostic for diagnostic in diagnostics if diagnostic.path == self.path)
            self._last_task = file.task or self._last_task

    @property
    def is_yaml(self) -> bool:
        return self.path.endswith(SUFFIXES)

    @property
    def text(self) -> str:
        """The text as the compiler reads it: without a byte order mark, lines ending in LF."""
        return self.lines.text

    @cached_property
    def entries(self) -> list[outline.OutlineEntry]:
        return outline.entries(self.text)

    @cached_property
    def _by_route(self) -> dict[Route, outline.OutlineEntry]:
        return {entry.route: entry for entry in self.entries}

    def entry(self, route: Route) -> outline.OutlineEntry | None:
        return self._by_route.get(route)

    def written(self, route: Route) -> str | None:
        """Return the scalar at a route as text, without quotes; None if the value is not a scalar."""
        entry = self._by_route.get(route)
        return None if entry is None or entry.kind is not outline.ValueStyle.SCALAR else self.scalar(entry)

    def scalar(self, entry: outline.OutlineEntry) -> str:
        text = self.text[entry.value : entry.stop]
        if text[:1] in ("'", '"') and text[-1:] == text[:1] and len(text) > 1:
            return text[1:-1]
        return text

    def beside(self, name: str) -> bytes | None:
        """Return the content of a file named in this document; None if a task may not read it."""
        path = self.path_beside(name)
        return None if self.tree is None or path is None else self.tree.read(path)

    def path_beside(self, name: str) -> str | None:
        """Return the path in the tree of a file named in this document; None if it leads outside."""
        try:
            return resolve_path(self.path, name)
        except Unreadable:
            return None

    def users(self) -> list[ResolvedTask]:
        """Return the tasks whose `promptFile` is this document."""
        if self.tree is None:
            return []
        tasks = (self.tree.file(path).task for path in self.tree.users_of(self.path))
        return [task for task in tasks if task is not None]

    @property
    def task(self) -> ResolvedTask | None:
        """The task in its current form, or in the last form that compiled."""
        compiled_file = self.tree.file(self.path) if self.tree is not None and self.is_yaml else None
        return (compiled_file and compiled_file.task) or self._last_task
