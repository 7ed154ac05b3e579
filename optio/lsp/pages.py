"""Pages: open documents, each in one version."""

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
    """One version of an open document. `path` is its name in its tree."""

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
        """What it says by itself."""
        self.shared: tuple[Diagnostic, ...] = before.shared if before is not None else ()
        """Findings in which other files have a part, as the tree was when it was last read."""
        self._known: ResolvedTask | None = before._known if before is not None else None

    def read(self, options: LspOptions) -> None:
        """Understand it as far as that needs no other task."""
        if self.tree is not None and self.is_yaml:
            file, found = self.tree.alone(self.path, options)
            self.alone = tuple(each for each in found if each.path == self.path)
            self._known = file.task or self._known

    @property
    def is_yaml(self) -> bool:
        """Whether it may be a task, or what tasks are made from."""
        return self.path.endswith(SUFFIXES)

    @property
    def text(self) -> str:
        """As the compiler reads it."""
        return self.lines.text

    @cached_property
    def entries(self) -> list[outline.OutlineEntry]:
        """Its keys and values."""
        return outline.entries(self.text)

    @cached_property
    def _by_route(self) -> dict[Route, outline.OutlineEntry]:
        return {entry.route: entry for entry in self.entries}

    def entry(self, route: Route) -> outline.OutlineEntry | None:
        """The key or item at a route."""
        return self._by_route.get(route)

    def written(self, route: Route) -> str | None:
        """The scalar at a route, as text."""
        entry = self._by_route.get(route)
        return None if entry is None or entry.kind is not outline.ValueStyle.SCALAR else self.scalar(entry)

    def scalar(self, entry: outline.OutlineEntry) -> str:
        """The text of a scalar without its quotes."""
        text = self.text[entry.value : entry.stop]
        if text[:1] in ("'", '"') and text[-1:] == text[:1] and len(text) > 1:
            return text[1:-1]
        return text

    def beside(self, name: str) -> bytes | None:
        """The bytes of a file that is named in this one; None for one that no task may read."""
        path = self.path_beside(name)
        return None if self.tree is None or path is None else self.tree.read(path)

    def path_beside(self, name: str) -> str | None:
        """The path in the tree of a file that is named in this one; None for one that no task may read."""
        try:
            return resolve_path(self.path, name)
        except Unreadable:
            return None

    def users(self) -> list[ResolvedTask]:
        """The tasks whose prompt this file is."""
        if self.tree is None:
            return []
        found = (self.tree.file(path).task for path in self.tree.users_of(self.path))
        return [task for task in found if task is not None]

    @property
    def task(self) -> ResolvedTask | None:
        """The task, or what it was when it could last be understood."""
        found = self.tree.file(self.path) if self.tree is not None and self.is_yaml else None
        return (found and found.task) or self._known
