"""Workspace: what is open in an editor, the trees it belongs to, and what was found in them."""

import asyncio
import gc
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.source import Span
from optio.lsp import keys
from optio.lsp.pages import OpenPage
from optio.lsp.positions import DocumentLines
from optio.lsp.trees import LspOptions, TaskTree, diagnostics_by_path, root_of, tasks_directory_name
from optio.lsp.wire import file_of, uri_of
from optio.lsp.worker import CompileThread

log = logging.getLogger(__name__)
# Whoever types on is not kept waiting by a tree that is being read: it begins when the hands rest.
_QUIET_S = 0.12
# Message, document, its lines and the place in them, of what belongs to a finding.
Related = Sequence[tuple[str, str, DocumentLines, Span]]


class EditorPort(Protocol):
    """What a workspace needs of the editor at the other end."""

    @property
    def folders(self) -> list[Path]:
        """The directories that are open in it."""
        ...

    @property
    def units(self) -> str:
        """What it counts columns in."""
        ...

    def show(self, uri: str, lines: DocumentLines, found: Sequence[tuple[Diagnostic, Related]], version: int | None) -> None:
        """These are all findings of a document."""
        ...

    def show_none(self) -> None:
        """No document has findings."""
        ...

    def reading(self, root: Path) -> AbstractAsyncContextManager[None]:
        """A tree is read, which may take a while."""
        ...

    def warn(self, message: str) -> None:
        """Tell the person at it."""
        ...

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Something went wrong in here."""
        ...


class Workspace:
    """What is open, and the trees it belongs to: they are read anew whenever something changes, and the editor is told."""

    def __init__(self, editor: EditorPort) -> None:
        self.options = LspOptions(tasks=tasks_directory_name())
        self.pages: dict[str, OpenPage] = {}
        self._editor = editor
        self._trees: dict[Path, TaskTree] = {}
        self._files: dict[TaskTree, set[str]] = {}
        self._busy: dict[TaskTree, asyncio.Task[None]] = {}
        self._again: set[TaskTree] = set()
        self._worker: CompileThread | None = None

    # What is open

    def put(self, uri: str, text: str, version: int | None) -> None:
        """A document was opened or changed."""
        file = file_of(uri)
        if file is None:
            return
        before = self.pages.get(uri)
        lines = DocumentLines(text, self._editor.units)
        tree = before.tree if before is not None and before.tree is not None else self._tree_of(file, text)
        page = self.pages[uri] = OpenPage(uri, file, version, lines, tree, before)
        if tree is None:
            return
        tree.type(page.path, text.encode("utf-8", "surrogatepass"))
        page.read(self.options)
        self._show(tree, page.uri, page.lines, self.findings(page), page.version)
        self._stir(tree)

    def drop(self, uri: str) -> None:
        """A document was closed."""
        page = self.pages.pop(uri, None)
        if page is not None and page.tree is not None:
            page.tree.forget(page.path)
            self._files.setdefault(page.tree, set()).add(page.path)
            if page.tree.loose:
                self._show(page.tree, uri, page.lines, ())
            self._stir(page.tree)

    def _tree_of(self, file: Path, text: str) -> TaskTree | None:
        """The tree of a file, which is read from now on."""
        root = root_of(file, text, self._editor.folders, self.options.tasks)
        if root is None:
            return None
        if root not in self._trees:
            loose = not self._is_tasks(root)
            self._trees[root] = TaskTree(root, loose=loose)
        return self._trees[root]

    def _is_tasks(self, root: Path) -> bool:
        return root.name == "tasks.d" or any(root == folder / self.options.tasks for folder in self._editor.folders)

    def open_folders(self) -> None:
        """Read the task directories of the folders that are open."""
        for folder in self._editor.folders:
            root = folder / self.options.tasks
            if root.is_dir():
                self._trees.setdefault(root, TaskTree(root))
        for tree in self._trees.values():
            self._stir(tree)

    def look_again(self, files: list[Path] | None = None) -> None:
        """Something may have changed on the disk: in these files, or anywhere."""
        for tree in self._trees.values():
            if files is None or any(tree.holds(file) for file in files):
                tree.stale()
                self._stir(tree)

    def configure(self, given: object) -> None:
        """Take over options; what they cannot be is told, and left as it was."""
        if not isinstance(given, Mapping):
            return
        mine = given.get("optio", given)
        if not isinstance(mine, Mapping):
            return
        known: dict[str, Any] = {"strict": self.options.strict, "verbose": self.options.verbose, "tasks": self.options.tasks}
        for name, value in mine.items():
            if name not in known:
                self._editor.warn(f"`{name}` is no option of optio: there are `strict`, `verbose` and `tasks`")
            elif type(value) is not type(known[name]) or value == "":
                self._editor.warn(f"`{name}` must be {'true or false' if name != 'tasks' else 'the name of a directory'}")
            else:
                known[name] = value
        if LspOptions(**known) == self.options:
            return
        if known["tasks"] != self.options.tasks:
            self._forget_trees()
        self.options = LspOptions(**known)
        for page in list(self.pages.values()):
            self.put(page.uri, page.lines.raw, page.version)
        self.open_folders()

    def _forget_trees(self) -> None:
        self._trees.clear()
        self._editor.show_none()
        for page in self.pages.values():
            page.tree = None

    # What is found

    def _stir(self, tree: TaskTree) -> None:
        """Read the whole tree, once more if it is being read already."""
        self._again.add(tree)
        if tree not in self._busy:
            task = self._busy[tree] = asyncio.ensure_future(self._follow(tree))
            task.add_done_callback(lambda _: self._busy.pop(tree, None))

    async def _follow(self, tree: TaskTree) -> None:
        while tree in self._again:
            self._again.discard(tree)
            if tree.compiled:
                await asyncio.sleep(_QUIET_S)
                if tree in self._again:
                    continue
            try:
                await self._compile(tree)
            except Exception as err:
                log.exception("compiling %s", tree.root)
                tree.stale()
                self._editor.report_server_error(err, type(err))

    async def _compile(self, tree: TaskTree) -> None:
        if self._worker is None:
            self._worker = CompileThread()
        options, first = self.options, not tree.compiled
        async with self._editor.reading(tree.root) if first and not tree.loose else nullcontext():
            found = await self._worker.do(lambda: tree.compile(options))
            if first:
                await self._worker.do(_freeze_garbage)
        if self._trees.get(tree.root) is tree and tree not in self._again:
            self._show_tree(tree, found)

    def _show_tree(self, tree: TaskTree, found: dict[str, tuple[Diagnostic, ...]]) -> None:
        pages = {page.path: page for page in self.pages.values() if page.tree is tree}
        for page in pages.values():
            mine = found.get(page.path, ())
            alone = set(diagnostics_by_path(page.alone, self.options).get(page.path, ()))
            page.shared = tuple(each for each in mine if each not in alone)
        before = self._files.get(tree, set())
        self._files[tree] = set(found)
        for path in sorted(before | set(found) | set(pages)):
            page_or_none = pages.get(path)
            if page_or_none is not None:
                self._show(tree, page_or_none.uri, page_or_none.lines, found.get(path, ()), page_or_none.version)
            else:
                mine = found.get(path, ())
                lines = DocumentLines((tree.read(path) or b"").decode("utf-8", "replace") if mine else "", self._editor.units)
                self._show(tree, uri_of(tree.root / path), lines, mine)

    def _show(
        self, tree: TaskTree, uri: str, lines: DocumentLines, found: Sequence[Diagnostic], version: int | None = None
    ) -> None:
        self._editor.show(uri, lines, [(each, self.related(each, tree)) for each in found], version)

    def findings(self, page: OpenPage) -> list[Diagnostic]:
        """What is known of a page at once; the rest comes when its tree has been read."""
        alone = diagnostics_by_path(page.alone, self.options).get(page.path, ())
        return [*alone, *(each for each in page.shared if each not in alone)]

    def related(self, found: Diagnostic, tree: TaskTree) -> Related:
        """What belongs to a finding in a tree."""
        return [(each.message, *self.document(tree, each.path), each.span) for each in found.related]

    def document(self, tree: TaskTree, path: str) -> tuple[str, DocumentLines]:
        """A file of a tree as it is now: open, or on the disk."""
        page = self.page_of(tree, path)
        if page is not None:
            return page.uri, page.lines
        return uri_of(tree.root / path), DocumentLines((tree.read(path) or b"").decode("utf-8", "replace"), self._editor.units)

    def page_of(self, tree: TaskTree, path: str) -> OpenPage | None:
        """The page of a file of a tree, if it is open."""
        return next((page for page in self.pages.values() if page.tree is tree and page.path == path), None)


def _freeze_garbage() -> None:
    """What a tree holds lives for long: a later collection need not walk through it all, which stops everybody. And the first
    question about a key need not wait for the schema."""
    gc.collect()
    gc.freeze()
    keys.schemas_at("task", (), lambda _: None)
