"""All open documents and their trees. A change recompiles its tree in the worker's thread, and publishes the findings."""

import asyncio
import gc
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from optio.compiler.diagnostics import Diagnostic
from optio.lsp import keys
from optio.lsp.connection import EditorConnection, Related
from optio.lsp.pages import OpenPage
from optio.lsp.positions import DocumentLines
from optio.lsp.trees import LspOptions, TaskTree, diagnostics_by_path, root_of, tasks_directory_name
from optio.lsp.wire import file_of, uri_of
from optio.lsp.worker import CompileThread

log = logging.getLogger(__name__)
# A tree is compiled only after a pause in typing, so that the thread does not compete with the editor's requests.
_QUIET_S = 0.12


class Workspace:
    """The open documents (`pages` by URI) and the trees they belong to. Lives on the event loop; trees are compiled in one
    thread."""

    def __init__(self, editor: EditorConnection) -> None:
        self.options = LspOptions(tasks=tasks_directory_name())
        self.pages: dict[str, OpenPage] = {}
        self._editor = editor
        self._trees: dict[Path, TaskTree] = {}
        self._files: dict[TaskTree, set[str]] = {}
        self._busy: dict[TaskTree, asyncio.Task[None]] = {}
        self._retries: set[TaskTree] = set()
        self._worker: CompileThread | None = None

    # Open documents

    def put(self, uri: str, text: str, version: int | None) -> None:
        """Take the text of a document that was opened or changed, and publish what it says by itself at once."""
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
        """Forget a closed document; its file on disk counts again."""
        page = self.pages.pop(uri, None)
        if page is not None and page.tree is not None:
            page.tree.forget(page.path)
            self._files.setdefault(page.tree, set()).add(page.path)
            if page.tree.loose:
                self._show(page.tree, uri, page.lines, ())
            self._stir(page.tree)

    def _tree_of(self, file: Path, text: str) -> TaskTree | None:
        """Return the tree of a file, and begin to read it if it is new."""
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
        """Read the task directories of the open folders."""
        for folder in self._editor.folders:
            root = folder / self.options.tasks
            if root.is_dir():
                self._trees.setdefault(root, TaskTree(root))
        for tree in self._trees.values():
            self._stir(tree)

    def look_again(self, files: list[Path] | None = None) -> None:
        """Mark trees for a new scan: those of the given files, or all of them."""
        for tree in self._trees.values():
            if files is None or any(tree.holds(file) for file in files):
                tree.stale()
                self._stir(tree)

    def configure(self, configuration: object) -> None:
        """Take over settings of the editor. Settings of the wrong type are reported and keep their value."""
        if not isinstance(configuration, Mapping):
            return
        own_settings = configuration.get("optio", configuration)
        if not isinstance(own_settings, Mapping):
            return
        settings: dict[str, Any] = {"strict": self.options.strict, "verbose": self.options.verbose, "tasks": self.options.tasks}
        for name, value in own_settings.items():
            if name not in settings:
                self._editor.warn(f"unknown option `{name}`: optio has `strict`, `verbose` and `tasks`")
            elif type(value) is not type(settings[name]) or value == "":
                self._editor.warn(f"`{name}` must be {'true or false' if name != 'tasks' else 'the name of a directory'}")
            else:
                settings[name] = value
        if LspOptions(**settings) == self.options:
            return
        if settings["tasks"] != self.options.tasks:
            self._forget_trees()
        self.options = LspOptions(**settings)
        for page in list(self.pages.values()):
            self.put(page.uri, page.lines.raw, page.version)
        self.open_folders()

    def _forget_trees(self) -> None:
        self._trees.clear()
        self._editor.show_none()
        for page in self.pages.values():
            page.tree = None

    # Findings

    def _stir(self, tree: TaskTree) -> None:
        """Read the whole tree, once more if it is being read already."""
        self._retries.add(tree)
        if tree not in self._busy:
            task = self._busy[tree] = asyncio.ensure_future(self._follow(tree))
            task.add_done_callback(lambda _: self._busy.pop(tree, None))

    async def _follow(self, tree: TaskTree) -> None:
        while tree in self._retries:
            self._retries.discard(tree)
            if tree.compiled:
                await asyncio.sleep(_QUIET_S)
                if tree in self._retries:
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
            diagnostics = await self._worker.do(lambda: tree.compile(options))
            if first:
                await self._worker.do(_freeze_garbage)
        if self._trees.get(tree.root) is tree and tree not in self._retries:
            self._show_tree(tree, diagnostics)

    def _show_tree(self, tree: TaskTree, diagnostics_by_file: dict[str, tuple[Diagnostic, ...]]) -> None:
        pages = {page.path: page for page in self.pages.values() if page.tree is tree}
        for page in pages.values():
            page_diagnostics = diagnostics_by_file.get(page.path, ())
            own_diagnostics = set(diagnostics_by_path(page.alone, self.options).get(page.path, ()))
            page.shared = tuple(diagnostic for diagnostic in page_diagnostics if diagnostic not in own_diagnostics)
        before = self._files.get(tree, set())
        self._files[tree] = set(diagnostics_by_file)
        for path in sorted(before | set(diagnostics_by_file) | set(pages)):
            page_or_none = pages.get(path)
            if page_or_none is not None:
                self._show(tree, page_or_none.uri, page_or_none.lines, diagnostics_by_file.get(path, ()), page_or_none.version)
            else:
                page_diagnostics = diagnostics_by_file.get(path, ())
                lines = DocumentLines(
                    (tree.read(path) or b"").decode("utf-8", "replace") if page_diagnostics else "", self._editor.units
                )
                self._show(tree, uri_of(tree.root / path), lines, page_diagnostics)

    def _show(
        self, tree: TaskTree, uri: str, lines: DocumentLines, diagnostics: Sequence[Diagnostic], version: int | None = None
    ) -> None:
        self._editor.show(uri, lines, [(diagnostic, self.related(diagnostic, tree)) for diagnostic in diagnostics], version)

    def findings(self, page: OpenPage) -> list[Diagnostic]:
        """Return what is known of a page now; findings that involve other files follow when its tree has been compiled."""
        own_diagnostics = diagnostics_by_path(page.alone, self.options).get(page.path, ())
        return [*own_diagnostics, *(diagnostic for diagnostic in page.shared if diagnostic not in own_diagnostics)]

    def related(self, diagnostic: Diagnostic, tree: TaskTree) -> Related:
        """Return the other places that belong to a finding."""
        return [(place.message, *self.document(tree, place.path), place.span) for place in diagnostic.related]

    def document(self, tree: TaskTree, path: str) -> tuple[str, DocumentLines]:
        """Return URI and lines of a file of a tree: the open document, or the file on disk."""
        page = self.page_of(tree, path)
        if page is not None:
            return page.uri, page.lines
        return uri_of(tree.root / path), DocumentLines((tree.read(path) or b"").decode("utf-8", "replace"), self._editor.units)

    def page_of(self, tree: TaskTree, path: str) -> OpenPage | None:
        """Return the page of a file of a tree if it is open."""
        return next((page for page in self.pages.values() if page.tree is tree and page.path == path), None)


def _freeze_garbage() -> None:
    """Freeze what a compiled tree holds, for it lives long: later garbage collections need not walk it, which stops all
    threads. Loads the modules of the first hover ahead of it, too."""
    gc.collect()
    gc.freeze()
    keys.schemas_at("task", (), lambda _: None)
