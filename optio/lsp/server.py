"""The protocol with the editor, from `initialize` to `exit`: registers handlers with the library and passes on to the
workspace."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcInternalError
from pygls.lsp.server import LanguageServer

from optio.compiler.diagnostics import Diagnostic
from optio.lsp import wire
from optio.lsp.answers import RequestHandler
from optio.lsp.positions import DocumentLines
from optio.lsp.wire import FIX_ALL, file_of
from optio.lsp.workspace import Related, Workspace
from optio.version import __version__

_PARENT_POLL_S = 5.0


class EditorConnection(LanguageServer):
    """The connection to one editor, and the findings it was last sent for each document."""

    def __init__(self) -> None:
        # The editor sends the whole text at each change: the library applies partial changes with other line ends than
        # the protocol defines.
        super().__init__(
            "optio", __version__, protocol_cls=wire.LspProtocol, text_document_sync_kind=lsp.TextDocumentSyncKind.Full
        )
        self._published: dict[str, tuple[int | None, tuple[lsp.Diagnostic, ...]]] = {}

    @property
    def folders(self) -> list[Path]:
        """The directories open in the editor."""
        folders = [file_of(folder.uri) for folder in self.workspace.folders.values()]
        if not folders and self.workspace.root_uri:
            folders = [file_of(self.workspace.root_uri)]
        return [folder for folder in folders if folder is not None]

    @property
    def units(self) -> str:
        """The unit in which the editor counts columns: `utf-8`, `utf-16` or `utf-32`."""
        return str(getattr(self.workspace.position_encoding, "value", self.workspace.position_encoding))

    def show(
        self, uri: str, lines: DocumentLines, diagnostics: Sequence[tuple[Diagnostic, Related]], version: int | None
    ) -> None:
        """Publish all findings of a document, unless the editor has exactly these."""
        self._publish(uri, tuple(wire.diagnostic(diagnostic, lines, related) for diagnostic, related in diagnostics), version)

    def show_none(self) -> None:
        """Clear the findings of every document."""
        for uri in [uri for uri, (_, diagnostics) in self._published.items() if diagnostics]:
            self._publish(uri, (), None)

    def _publish(self, uri: str, diagnostics: tuple[lsp.Diagnostic, ...], version: int | None) -> None:
        if self._published.get(uri, (None, ())) == (version, diagnostics):
            return
        self._published[uri] = version, diagnostics
        params = lsp.PublishDiagnosticsParams(uri=uri, diagnostics=list(diagnostics), version=version)
        self.text_document_publish_diagnostics(params)

    @contextlib.asynccontextmanager
    async def reading(self, root: Path) -> AsyncIterator[None]:
        """Show progress in the editor while the block reads a tree."""
        token = await self._begin(root)
        try:
            yield
        finally:
            if token is not None:
                self.work_done_progress.end(token, lsp.WorkDoneProgressEnd())

    async def _begin(self, root: Path) -> str | None:
        window = self.client_capabilities.window
        if window is None or not window.work_done_progress:
            return None
        token = f"optio:{root}"
        with contextlib.suppress(Exception):  # an editor that cannot show it is no reason to stop
            await asyncio.wait_for(self.work_done_progress.create_async(token), 2)
            self.work_done_progress.begin(token, lsp.WorkDoneProgressBegin(title="Optio", message=f"reading {root.name}"))
            return token
        return None

    def warn(self, message: str) -> None:
        """Show a warning to the user."""
        self.window_show_message(lsp.ShowMessageParams(type=lsp.MessageType.Warning, message=message))

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Log an internal error in the editor and go on. A message that could not be sent is no reason for another one."""
        if source is JsonRpcInternalError:
            return
        message = f"a bug in Optio, or of the editor: {type(error).__name__}: {error}"
        self.window_log_message(lsp.LogMessageParams(type=lsp.MessageType.Error, message=message))


def create() -> EditorConnection:
    """Return a server with its handlers, not running yet."""
    server = EditorConnection()
    workspace = Workspace(server)
    _register_notifications(server, workspace)
    _register_requests(server, workspace)
    return server


def _register_notifications(server: EditorConnection, workspace: Workspace) -> None:
    """Register handlers of notifications about the editor and its documents."""
    feature = server.feature

    @feature(lsp.INITIALIZE)
    def initialize(params: lsp.InitializeParams) -> None:
        workspace.configure(params.initialization_options)
        if params.process_id is not None:
            asyncio.ensure_future(_exit_with_parent(params.process_id))  # noqa: RUF006 - it lives as long as the loop

    @feature(lsp.INITIALIZED)
    async def initialized(params: lsp.InitializedParams) -> None:
        workspace.open_folders()
        files = server.client_capabilities.workspace and server.client_capabilities.workspace.did_change_watched_files
        if files and files.dynamic_registration:
            watchers = [lsp.FileSystemWatcher(glob_pattern="**/*")]
            options = lsp.DidChangeWatchedFilesRegistrationOptions(watchers=watchers)
            registration = lsp.Registration(id="files", method=lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES, register_options=options)
            with contextlib.suppress(Exception):  # then files are scanned when one is saved
                await server.client_register_capability_async(lsp.RegistrationParams([registration]))

    @feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def did_open(params: lsp.DidOpenTextDocumentParams) -> None:
        document = params.text_document
        workspace.put(document.uri, document.text, document.version)

    @feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def did_change(params: lsp.DidChangeTextDocumentParams) -> None:
        document = params.text_document
        workspace.put(document.uri, server.workspace.get_text_document(document.uri).source, document.version)

    @feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    def did_save(params: lsp.DidSaveTextDocumentParams) -> None:
        workspace.look_again()

    @feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def did_close(params: lsp.DidCloseTextDocumentParams) -> None:
        workspace.drop(params.text_document.uri)

    @feature(lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def files_changed(params: lsp.DidChangeWatchedFilesParams) -> None:
        workspace.look_again([file for change in params.changes if (file := file_of(change.uri)) is not None])

    @feature(lsp.WORKSPACE_DID_CHANGE_CONFIGURATION)
    def configured(params: lsp.DidChangeConfigurationParams) -> None:
        workspace.configure(params.settings)

    @feature(lsp.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)
    def folders_changed(params: lsp.DidChangeWorkspaceFoldersParams) -> None:
        workspace.open_folders()


def _register_requests(server: EditorConnection, workspace: Workspace) -> None:
    """Register handlers of requests. The library sets attributes on them, so they are functions, not methods."""
    feature = server.feature

    def answers() -> RequestHandler:
        return RequestHandler(workspace, server.client_capabilities)

    @feature(lsp.TEXT_DOCUMENT_HOVER)
    def hover(params: lsp.HoverParams) -> lsp.Hover | None:
        return answers().hover(params, datetime.now(UTC))

    completing = lsp.CompletionOptions(trigger_characters=["{", ":", " ", "-", ".", "$", '"', "/"])

    @feature(lsp.TEXT_DOCUMENT_COMPLETION, completing)
    def completion(params: lsp.CompletionParams) -> lsp.CompletionList:
        return answers().completion(params)

    @feature(lsp.TEXT_DOCUMENT_DEFINITION)
    def definition(params: lsp.DefinitionParams) -> list[lsp.Location]:
        return answers().definition(params)

    @feature(lsp.TEXT_DOCUMENT_REFERENCES)
    def references(params: lsp.ReferenceParams) -> list[lsp.Location]:
        return answers().references(params)

    @feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def symbols(params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
        return answers().symbols(params)

    kinds = [lsp.CodeActionKind.QuickFix, FIX_ALL]

    @feature(lsp.TEXT_DOCUMENT_CODE_ACTION, lsp.CodeActionOptions(code_action_kinds=kinds))
    def actions(params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        return answers().actions(params)


async def _exit_with_parent(process: int) -> None:
    """Exit when the editor's process is gone: a killed editor sends no `exit`, and its children may keep our input open."""
    while True:
        await asyncio.sleep(_PARENT_POLL_S)
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            os._exit(1)
        except OSError:
            continue


def serve() -> int:
    """Serve one editor on standard input and output. Returns 0 if it sent `shutdown` before it left, else 1."""
    server = create()
    server.start_io()
    return 0 if server.protocol._shutdown else 1
