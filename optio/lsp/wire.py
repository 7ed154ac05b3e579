"""Our values as types of the Language Server Protocol, and the protocol's URIs as paths."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls import uris
from pygls.exceptions import JsonRpcException, JsonRpcInvalidRequest
from pygls.protocol import LanguageServerProtocol

from optio.compiler.diagnostics import Diagnostic, Severity
from optio.compiler.source import Span
from optio.lsp.complete import CompletionItem, CompletionKind
from optio.lsp.positions import DocumentLines
from optio.lsp.symbols import Symbol

SOURCE = "optio"
_SEVERITIES = {
    Severity.ERROR: lsp.DiagnosticSeverity.Error,
    Severity.WARNING: lsp.DiagnosticSeverity.Warning,
    Severity.INFO: lsp.DiagnosticSeverity.Information,
}
_ITEMS = {
    CompletionKind.KEY: lsp.CompletionItemKind.Property,
    CompletionKind.VALUE: lsp.CompletionItemKind.Value,
    CompletionKind.PARAMETER: lsp.CompletionItemKind.Variable,
    CompletionKind.FILE: lsp.CompletionItemKind.File,
    CompletionKind.SNIPPET: lsp.CompletionItemKind.Snippet,
}
FIX_ALL = "source.fixAll.optio"
_UNUSED_CODES = frozenset({"OPT011", "OPT202", "OPT709"})


class LspProtocol(LanguageServerProtocol):
    """Answers requests that the library would drop without an answer: those after `shutdown`, and malformed ones."""

    def handle_message(self, message: Any) -> None:
        if self._shutdown and hasattr(message, "id") and getattr(message, "method", lsp.EXIT) != lsp.EXIT:
            self._send_response(message.id, error=JsonRpcInvalidRequest("the server is shutting down").to_response_error())
            return
        super().handle_message(message)

    def structure_message(self, data: dict[str, Any]) -> Any:
        """Parse a message; answer a malformed request with an error, so that the editor does not wait for it."""
        try:
            return super().structure_message(data)
        except JsonRpcException as err:
            if "id" in data and "method" in data:
                self._send_response(data["id"], error=err.to_response_error())
            raise


def file_of(uri: str) -> Path | None:
    """Return the path of a document; None for a document without a file, such as `untitled:`."""
    try:
        name = uris.to_fs_path(uri)
    except (ValueError, UnicodeError):
        return None
    if not name or "\0" in name:
        return None
    return Path(os.path.normpath(name))


def uri_of(file: Path) -> str:
    """Return the `file:` URI of a path."""
    return file.absolute().as_uri()


def range_of(span: Span, lines: DocumentLines) -> lsp.Range:
    """Return a span as the editor counts."""
    return lsp.Range(lsp.Position(*lines.to_editor(span.start)), lsp.Position(*lines.to_editor(span.end)))


def range_at(start: int, end: int, lines: DocumentLines) -> lsp.Range:
    """Return the range between two offsets as the editor counts."""
    return lsp.Range(lsp.Position(*lines.to_editor_at(start)), lsp.Position(*lines.to_editor_at(end)))


def is_kind_wanted(kind: str, kinds: Sequence[str] | None) -> bool:
    """Return whether a request for these kinds includes this one: `source` includes `source.fixAll`."""
    return not kinds or any(kind == wanted_kind or kind.startswith(f"{wanted_kind}.") for wanted_kind in kinds)


def completion(item: CompletionItem, lines: DocumentLines) -> lsp.CompletionItem:
    """Return a proposal as an item of the protocol."""
    return lsp.CompletionItem(
        label=item.label,
        kind=_ITEMS[item.sort],
        detail=item.detail or None,
        documentation=lsp.MarkupContent(lsp.MarkupKind.Markdown, item.markdown) if item.markdown else None,
        sort_text=f"{item.rank}{item.label}",
        filter_text=item.label,
        insert_text_format=lsp.InsertTextFormat.Snippet if item.snippet else None,
        insert_text_mode=lsp.InsertTextMode.AdjustIndentation if "\n" in item.text else None,
        text_edit=lsp.TextEdit(range_at(item.start, item.end, lines), item.text),
    )


def document_symbol(symbol: Symbol, lines: DocumentLines) -> lsp.DocumentSymbol:
    """Return a symbol with its children."""
    kind = lsp.SymbolKind.Object if symbol.below else lsp.SymbolKind.Property
    return lsp.DocumentSymbol(
        name=symbol.name,
        detail=symbol.detail or None,
        kind=lsp.SymbolKind.Array if symbol.is_item else kind,
        range=range_at(symbol.start, symbol.end, lines),
        selection_range=range_at(symbol.start, symbol.name_end, lines),
        children=[document_symbol(child, lines) for child in symbol.below] or None,
    )


def diagnostic(
    finding: Diagnostic, lines: DocumentLines, related: Sequence[tuple[str, str, DocumentLines, Span]]
) -> lsp.Diagnostic:
    """Return a finding; `related` are (message, URI, lines, span) of other places that belong to it."""
    places = [
        lsp.DiagnosticRelatedInformation(lsp.Location(uri, range_of(span, other_lines)), message)
        for message, uri, other_lines, span in related
    ]
    return lsp.Diagnostic(
        range=range_of(finding.span, lines),
        severity=_SEVERITIES[finding.severity],
        code=finding.code,
        source=SOURCE,
        message=f"{finding.message}\n{finding.hint}" if finding.hint else finding.message,
        tags=[lsp.DiagnosticTag.Unnecessary] if finding.code in _UNUSED_CODES else None,
        related_information=places or None,
        data={"rule": finding.rule, "fix": None if finding.fix is None else "safe" if finding.fix.safe else "unsafe"},
    )
