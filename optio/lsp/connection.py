"""The connection to the editor: what it has open, and what it is sent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcInternalError
from pygls.lsp.server import LanguageServer

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.source import Span
from optio.lsp import wire
from optio.lsp.positions import DocumentLines
from optio.lsp.wire import file_of
from optio.version import __version__

# (message, URI, lines, span) of places that belong to a finding.
Related = Sequence[tuple[str, str, DocumentLines, Span]]


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
