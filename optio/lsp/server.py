"""Server: what is open in an editor, the trees it belongs to, and answers to what the editor asks."""

import asyncio
import contextlib
import gc
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer

from optio.compiler.diagnostics import Diagnostic
from optio.lsp import keys, wire
from optio.lsp.actions import Action, actions, fix_all
from optio.lsp.complete import complete
from optio.lsp.hover import hover
from optio.lsp.links import Target, definition, references
from optio.lsp.pages import Page
from optio.lsp.positions import Lines
from optio.lsp.symbols import symbols
from optio.lsp.trees import Options, TaskTree, by_path, root_of, tasks_of
from optio.lsp.wire import FIX_ALL, file_of, range_at, range_of, uri_of, wanted
from optio.version import __version__

log = logging.getLogger(__name__)
T = TypeVar("T")
# Whoever types on is not kept waiting by a tree that is being read: it begins when the hands rest.
_REST = 0.12
_PARENT_EVERY = 5.0


class _Worker(threading.Thread):
    """One thread for what takes long. It never keeps the process from ending."""

    def __init__(self) -> None:
        super().__init__(name="compiler", daemon=True)
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        while True:
            self._work.get()()

    async def do(self, work: Callable[[], T]) -> T:
        """Wait for its result, or raise what it raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(act: Callable[[Any], None], value: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(lambda: None if future.done() else act(value))

        def run() -> None:
            try:
                settle(future.set_result, work())
            except Exception as err:
                settle(future.set_exception, err)

        self._work.put(run)
        return await future


class Server(LanguageServer):
    """What is open, the trees it belongs to, and what was told of them."""

    def __init__(self) -> None:
        # Whole texts are sent at each change: the library's own way to put pieces together takes other characters for line
        # ends than the protocol does.
        super().__init__(
            "optio", __version__, protocol_cls=wire.Protocol, text_document_sync_kind=lsp.TextDocumentSyncKind.Full
        )
        self.options = Options(tasks=tasks_of())
        self.pages: dict[str, Page] = {}
        self._trees: dict[Path, TaskTree] = {}
        self._told: dict[str, tuple[int | None, tuple[lsp.Diagnostic, ...]]] = {}
        self._files: dict[TaskTree, set[str]] = {}
        self._busy: dict[TaskTree, asyncio.Task[None]] = {}
        self._again: set[TaskTree] = set()
        self._worker: _Worker | None = None

    # What is open

    def put(self, uri: str, text: str, version: int | None) -> None:
        """A document was opened or changed."""
        file = file_of(uri)
        if file is None:
            return
        before = self.pages.get(uri)
        lines = Lines(text, self.units)
        tree = before.tree if before is not None and before.tree is not None else self.tree_of(file, text)
        page = self.pages[uri] = Page(uri, file, version, lines, tree, before)
        if tree is None:
            return
        tree.type(page.path, text.encode("utf-8", "surrogatepass"))
        page.read(self.options)
        self.tell_page(page)
        self.stir(tree)

    def drop(self, uri: str) -> None:
        """A document was closed."""
        page = self.pages.pop(uri, None)
        if page is not None and page.tree is not None:
            page.tree.forget(page.path)
            self._files.setdefault(page.tree, set()).add(page.path)
            if page.tree.loose:
                self._tell(page.tree, uri, page.lines, ())
            self.stir(page.tree)

    def tree_of(self, file: Path, text: str) -> TaskTree | None:
        """The tree of a file, which is read from now on."""
        root = root_of(file, text, self.folders, self.options.tasks)
        if root is None:
            return None
        if root not in self._trees:
            loose = not self._is_tasks(root)
            self._trees[root] = TaskTree(root, loose=loose)
        return self._trees[root]

    def _is_tasks(self, root: Path) -> bool:
        return root.name == "tasks.d" or any(root == folder / self.options.tasks for folder in self.folders)

    @property
    def folders(self) -> list[Path]:
        """The directories that are open in the editor."""
        found = [file_of(folder.uri) for folder in self.workspace.folders.values()]
        if not found and self.workspace.root_uri:
            found = [file_of(self.workspace.root_uri)]
        return [folder for folder in found if folder is not None]

    @property
    def units(self) -> str:
        """What the editor counts columns in."""
        return str(getattr(self.workspace.position_encoding, "value", self.workspace.position_encoding))

    def open_folders(self) -> None:
        """Read the task directories of the workspace."""
        for folder in self.folders:
            root = folder / self.options.tasks
            if root.is_dir():
                self._trees.setdefault(root, TaskTree(root))
        for tree in self._trees.values():
            self.stir(tree)

    def look_again(self, files: list[Path] | None = None) -> None:
        """Something may have changed on the disk: in these files, or anywhere."""
        for tree in self._trees.values():
            if files is None or any(tree.holds(file) for file in files):
                tree.stale()
                self.stir(tree)

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
                self.warn(f"`{name}` is no option of optio: there are `strict`, `verbose` and `tasks`")
            elif type(value) is not type(known[name]) or value == "":
                self.warn(f"`{name}` must be {'true or false' if name != 'tasks' else 'the name of a directory'}")
            else:
                known[name] = value
        if Options(**known) == self.options:
            return
        if known["tasks"] != self.options.tasks:
            self._forget_trees()
        self.options = Options(**known)
        for page in list(self.pages.values()):
            self.put(page.uri, page.lines.raw, page.version)
        self.open_folders()

    def _forget_trees(self) -> None:
        self._trees.clear()
        for uri in [uri for uri, (_, told) in self._told.items() if told]:
            self._publish(uri, (), None)
        for page in self.pages.values():
            page.tree = None

    # What is told

    def stir(self, tree: TaskTree) -> None:
        """Read the whole tree, once more if it is being read already."""
        self._again.add(tree)
        if tree not in self._busy:
            task = self._busy[tree] = asyncio.ensure_future(self._follow(tree))
            task.add_done_callback(lambda _: self._busy.pop(tree, None))

    async def _follow(self, tree: TaskTree) -> None:
        while tree in self._again:
            self._again.discard(tree)
            if tree.compiled:
                await asyncio.sleep(_REST)
                if tree in self._again:
                    continue
            try:
                await self._compile(tree)
            except Exception as err:
                log.exception("compiling %s", tree.root)
                tree.stale()
                self.report_server_error(err, type(err))

    async def _compile(self, tree: TaskTree) -> None:
        if self._worker is None:
            self._worker = _Worker()
        options = self.options
        token = None if tree.compiled or tree.loose else await self._begin(tree)
        try:
            first = not tree.compiled
            found = await self._worker.do(lambda: tree.compile(options))
            if first:
                await self._worker.do(_settle)
        finally:
            if token is not None:
                self.work_done_progress.end(token, lsp.WorkDoneProgressEnd())
        if self._trees.get(tree.root) is tree and tree not in self._again:
            self._tell_tree(tree, found)

    async def _begin(self, tree: TaskTree) -> str | None:
        window = self.client_capabilities.window
        if window is None or not window.work_done_progress:
            return None
        token = f"optio:{tree.root}"
        with contextlib.suppress(Exception):  # an editor that cannot show it is no reason to stop
            await asyncio.wait_for(self.work_done_progress.create_async(token), 2)
            begin = lsp.WorkDoneProgressBegin(title="Optio", message=f"reading {tree.root.name}")
            self.work_done_progress.begin(token, begin)
            return token
        return None

    def _tell_tree(self, tree: TaskTree, found: dict[str, tuple[Diagnostic, ...]]) -> None:
        pages = {page.path: page for page in self.pages.values() if page.tree is tree}
        for page in pages.values():
            mine = found.get(page.path, ())
            alone = set(by_path(page.alone, self.options).get(page.path, ()))
            page.shared = tuple(each for each in mine if each not in alone)
        before = self._files.get(tree, set())
        self._files[tree] = set(found)
        for path in sorted(before | set(found) | set(pages)):
            page_or_none = pages.get(path)
            if page_or_none is not None:
                self._tell(tree, page_or_none.uri, page_or_none.lines, found.get(path, ()), page_or_none.version)
            else:
                mine = found.get(path, ())
                lines = Lines((tree.read(path) or b"").decode("utf-8", "replace") if mine else "", self.units)
                self._tell(tree, uri_of(tree.root / path), lines, mine)

    def findings(self, page: Page) -> list[Diagnostic]:
        """What is known of a page at once; the rest comes when its tree has been read."""
        alone = by_path(page.alone, self.options).get(page.path, ())
        return [*alone, *(each for each in page.shared if each not in alone)]

    def tell_page(self, page: Page) -> None:
        """The same, to the editor."""
        if page.tree is not None:
            self._tell(page.tree, page.uri, page.lines, self.findings(page), page.version)

    def _tell(self, tree: TaskTree, uri: str, lines: Lines, found: Sequence[Diagnostic], version: int | None = None) -> None:
        self._publish(uri, tuple(self._diagnostic(each, lines, tree) for each in found), version)

    def _publish(self, uri: str, found: tuple[lsp.Diagnostic, ...], version: int | None) -> None:
        if self._told.get(uri, (None, ())) == (version, found):
            return
        self._told[uri] = version, found
        params = lsp.PublishDiagnosticsParams(uri=uri, diagnostics=list(found), version=version)
        self.text_document_publish_diagnostics(params)

    def _diagnostic(self, found: Diagnostic, lines: Lines, tree: TaskTree) -> lsp.Diagnostic:
        return wire.diagnostic(
            found, lines, [(each.message, *self._in_tree(tree, each.path), each.span) for each in found.related]
        )

    # What is asked

    def place(self, document: lsp.TextDocumentIdentifier, position: lsp.Position) -> tuple[Page | None, int]:
        """The page and the offset that are asked about."""
        page = self.pages.get(document.uri)
        if page is None or page.tree is None:
            return None, 0
        return page, page.lines.offset(page.lines.from_editor(position.line, position.character))

    @property
    def knows_snippets(self) -> bool:
        """Whether the editor can fill in what is inserted."""
        completion = getattr(self.client_capabilities.text_document, "completion", None)
        return bool(completion and completion.completion_item and completion.completion_item.snippet_support)

    def locations(self, page: Page, found: list[Target]) -> list[lsp.Location]:
        """Places in files of the page's tree."""
        return [
            lsp.Location(uri, range_of(each.span, lines))
            for each in found
            if page.tree is not None
            for uri, lines in [self._in_tree(page.tree, each.path)]
        ]

    def _in_tree(self, tree: TaskTree, path: str) -> tuple[str, Lines]:
        page = self._page_of(tree, path)
        if page is not None:
            return page.uri, page.lines
        return uri_of(tree.root / path), Lines((tree.read(path) or b"").decode("utf-8", "replace"), self.units)

    def actions(self, page: Page, params: lsp.CodeActionParams) -> Iterator[lsp.CodeAction]:
        """What can be done about the findings in a range, and about all of the file."""
        only = params.context.only
        start = page.lines.from_editor(params.range.start.line, params.range.start.character)
        end = page.lines.from_editor(params.range.end.line, params.range.end.character)
        here = [each for each in self.findings(page) if each.span.start <= end and start <= each.span.end]
        if wanted(lsp.CodeActionKind.QuickFix, only):
            for each in actions(page, here, self.options):
                yield self._action(page, each, lsp.CodeActionKind.QuickFix)
        if wanted(FIX_ALL, only) and any(each.fix is not None and each.fix.safe for each in page.alone):
            whole = fix_all(page)
            if whole is not None:
                yield self._action(page, whole, FIX_ALL)

    def _action(self, page: Page, action: Action, kind: str) -> lsp.CodeAction:
        assert page.tree is not None  # noqa: S101 - a page without a tree has no findings
        uri, lines = self._in_tree(page.tree, action.path)
        edits = [lsp.TextEdit(range_of(edit.span, lines), edit.text) for edit in action.edits]
        workspace = self.client_capabilities.workspace
        if workspace and workspace.workspace_edit and workspace.workspace_edit.document_changes:
            target = self._page_of(page.tree, action.path)
            document = lsp.OptionalVersionedTextDocumentIdentifier(uri, target.version if target is not None else None)
            edit = lsp.WorkspaceEdit(document_changes=[lsp.TextDocumentEdit(document, [*edits])])
        else:
            edit = lsp.WorkspaceEdit(changes={uri: edits})
        found = None if action.found is None else [self._diagnostic(action.found, page.lines, page.tree)]
        return lsp.CodeAction(action.title, kind, found, action.preferred or None, edit=edit)

    def _page_of(self, tree: TaskTree, path: str) -> Page | None:
        return next((page for page in self.pages.values() if page.tree is tree and page.path == path), None)

    def warn(self, message: str) -> None:
        """Tell the person at the editor."""
        self.window_show_message(lsp.ShowMessageParams(type=lsp.MessageType.Warning, message=message))

    def report_server_error(self, error: Exception, source: Any) -> None:
        """What went wrong in here is for the log of the editor. It is not the end."""
        message = f"a bug in Optio, or of the editor: {type(error).__name__}: {error}"
        self.window_log_message(lsp.LogMessageParams(type=lsp.MessageType.Error, message=message))


def _settle() -> None:
    """What a tree holds lives for long: a later collection need not walk through it all, which stops everybody. And the first
    question about a key need not wait for the schema."""
    gc.collect()
    gc.freeze()
    keys.at("task", (), lambda _: None)


def create() -> Server:
    """A server that is not running yet."""
    server = Server()
    feature = server.feature

    @feature(lsp.INITIALIZE)
    def initialize(params: lsp.InitializeParams) -> None:
        server.configure(params.initialization_options)
        if params.process_id is not None:
            asyncio.ensure_future(_end_with(params.process_id))  # noqa: RUF006 - it lives as long as the loop

    @feature(lsp.INITIALIZED)
    async def initialized(params: lsp.InitializedParams) -> None:
        server.open_folders()
        files = server.client_capabilities.workspace and server.client_capabilities.workspace.did_change_watched_files
        if files and files.dynamic_registration:
            watchers = [lsp.FileSystemWatcher(glob_pattern="**/*")]
            options = lsp.DidChangeWatchedFilesRegistrationOptions(watchers=watchers)
            wanted = lsp.Registration(id="files", method=lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES, register_options=options)
            with contextlib.suppress(Exception):  # then files are looked at when one is saved
                await server.client_register_capability_async(lsp.RegistrationParams([wanted]))

    @feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def did_open(params: lsp.DidOpenTextDocumentParams) -> None:
        document = params.text_document
        server.put(document.uri, document.text, document.version)

    @feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def did_change(params: lsp.DidChangeTextDocumentParams) -> None:
        document = params.text_document
        server.put(document.uri, server.workspace.get_text_document(document.uri).source, document.version)

    @feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    def did_save(params: lsp.DidSaveTextDocumentParams) -> None:
        server.look_again()

    @feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def did_close(params: lsp.DidCloseTextDocumentParams) -> None:
        server.drop(params.text_document.uri)

    @feature(lsp.TEXT_DOCUMENT_HOVER)
    def on_hover(params: lsp.HoverParams) -> lsp.Hover | None:
        page, offset = server.place(params.text_document, params.position)
        found = hover(page, offset, datetime.now(UTC)) if page is not None else None
        if page is None or found is None:
            return None
        content = lsp.MarkupContent(lsp.MarkupKind.Markdown, found.text)
        return lsp.Hover(content, range_at(found.start, found.end, page.lines))

    completing = lsp.CompletionOptions(trigger_characters=["{", ":", " ", "-", ".", "$", '"', "/"])

    @feature(lsp.TEXT_DOCUMENT_COMPLETION, completing)
    def on_completion(params: lsp.CompletionParams) -> lsp.CompletionList:
        page, offset = server.place(params.text_document, params.position)
        found = complete(page, offset, snippets=server.knows_snippets) if page is not None else []
        return lsp.CompletionList(
            is_incomplete=False, items=[wire.completion(each, page.lines) for each in found if page is not None]
        )

    @feature(lsp.TEXT_DOCUMENT_DEFINITION)
    def on_definition(params: lsp.DefinitionParams) -> list[lsp.Location]:
        page, offset = server.place(params.text_document, params.position)
        return server.locations(page, definition(page, offset)) if page is not None else []

    @feature(lsp.TEXT_DOCUMENT_REFERENCES)
    def on_references(params: lsp.ReferenceParams) -> list[lsp.Location]:
        page, offset = server.place(params.text_document, params.position)
        return server.locations(page, references(page, offset)) if page is not None else []

    @feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def on_symbols(params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
        page = server.pages.get(params.text_document.uri)
        if page is None or not page.is_yaml or page.tree is None:
            return []
        return [wire.document_symbol(each, page.lines) for each in symbols(page)]

    kinds = [lsp.CodeActionKind.QuickFix, FIX_ALL]

    @feature(lsp.TEXT_DOCUMENT_CODE_ACTION, lsp.CodeActionOptions(code_action_kinds=kinds))
    def on_actions(params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        page = server.pages.get(params.text_document.uri)
        return list(server.actions(page, params)) if page is not None and page.tree is not None else []

    @feature(lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def files_changed(params: lsp.DidChangeWatchedFilesParams) -> None:
        server.look_again([file for change in params.changes if (file := file_of(change.uri)) is not None])

    @feature(lsp.WORKSPACE_DID_CHANGE_CONFIGURATION)
    def configured(params: lsp.DidChangeConfigurationParams) -> None:
        server.configure(params.settings)

    @feature(lsp.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)
    def folders_changed(params: lsp.DidChangeWorkspaceFoldersParams) -> None:
        server.open_folders()

    return server


async def _end_with(process: int) -> None:
    """An editor that was killed says no goodbye, and what it leaves open may keep our input open, too."""
    while True:
        await asyncio.sleep(_PARENT_EVERY)
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            os._exit(1)
        except OSError:
            continue


def serve() -> int:
    """Answer an editor on standard input and output until it leaves: 0 if it said so before."""
    server = create()
    server.start_io()
    return 0 if server.protocol._shutdown else 1
