"""The protocol with the editor, from `initialize` to `exit`: registers handlers with the library and passes on to the
workspace."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

from lsprotocol import types as lsp

from optio.lsp.answers import RequestHandler
from optio.lsp.connection import EditorConnection
from optio.lsp.wire import FIX_ALL, file_of
from optio.lsp.workspace import Workspace

_PARENT_POLL_S = 5.0


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
    """Register the answers to requests. The library sets attributes on its handlers, so they are functions, not methods."""
    completion = lsp.CompletionOptions(trigger_characters=["{", ":", " ", "-", ".", "$", '"', "/"])
    actions = lsp.CodeActionOptions(code_action_kinds=[lsp.CodeActionKind.QuickFix, FIX_ALL])
    answers: tuple[tuple[str, Callable[[RequestHandler, Any], Any], Any], ...] = (
        (lsp.TEXT_DOCUMENT_HOVER, RequestHandler.hover, None),
        (lsp.TEXT_DOCUMENT_COMPLETION, RequestHandler.completion, completion),
        (lsp.TEXT_DOCUMENT_DEFINITION, RequestHandler.definition, None),
        (lsp.TEXT_DOCUMENT_REFERENCES, RequestHandler.references, None),
        (lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL, RequestHandler.symbols, None),
        (lsp.TEXT_DOCUMENT_CODE_ACTION, RequestHandler.actions, actions),
    )
    for method, answer, options in answers:

        @server.feature(method, options)
        def handle(params: Any, answer: Callable[[RequestHandler, Any], Any] = answer) -> Any:
            return answer(RequestHandler(workspace, server.client_capabilities), params)


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
