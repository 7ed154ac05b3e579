"""Requests about a place in a document, and their responses as types of the protocol."""

from collections.abc import Iterator
from datetime import UTC, datetime

from lsprotocol import types as lsp

from optio.lsp import wire
from optio.lsp.actions import FileAction, diagnostic_actions, fix_all
from optio.lsp.complete import complete
from optio.lsp.hover import hover
from optio.lsp.links import LinkTarget, definition, references
from optio.lsp.pages import OpenPage
from optio.lsp.symbols import symbols
from optio.lsp.wire import FIX_ALL, is_kind_wanted, range_at, range_of
from optio.lsp.workspace import Workspace


class RequestHandler:
    """Answers requests about the documents of a workspace, within what the editor is capable of."""

    def __init__(self, workspace: Workspace, editor: lsp.ClientCapabilities) -> None:
        self._workspace, self._editor = workspace, editor

    def hover(self, request: lsp.HoverParams) -> lsp.Hover | None:
        """Return the text for the place under the pointer, or None."""
        page, offset = self._place(request.text_document, request.position)
        result = hover(page, offset, datetime.now(UTC)) if page is not None else None
        if page is None or result is None:
            return None
        content = lsp.MarkupContent(lsp.MarkupKind.Markdown, result.text)
        return lsp.Hover(content, range_at(result.start, result.end, page.lines))

    def completion(self, request: lsp.CompletionParams) -> lsp.CompletionList:
        """Return what could be written at the cursor; snippets only if the editor supports them."""
        page, offset = self._place(request.text_document, request.position)
        items = complete(page, offset, snippets=self._knows_snippets) if page is not None else []
        return lsp.CompletionList(
            is_incomplete=False, items=[wire.completion(item, page.lines) for item in items if page is not None]
        )

    def definition(self, request: lsp.DefinitionParams) -> list[lsp.Location]:
        """Return the declaration of the parameter or the file named there."""
        page, offset = self._place(request.text_document, request.position)
        return self._locations(page, definition(page, offset)) if page is not None else []

    def references(self, request: lsp.ReferenceParams) -> list[lsp.Location]:
        """Return every use of the parameter named there."""
        page, offset = self._place(request.text_document, request.position)
        return self._locations(page, references(page, offset)) if page is not None else []

    def symbols(self, request: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
        """Return the keys of a document as a tree."""
        page = self._workspace.pages.get(request.text_document.uri)
        if page is None or not page.is_yaml or page.tree is None:
            return []
        return [wire.document_symbol(symbol, page.lines) for symbol in symbols(page)]

    def actions(self, request: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        """Return quick fixes for the findings in a range, and the fix for the whole file."""
        page = self._workspace.pages.get(request.text_document.uri)
        return list(self._actions(page, request)) if page is not None and page.tree is not None else []

    def _actions(self, page: OpenPage, request: lsp.CodeActionParams) -> Iterator[lsp.CodeAction]:
        kinds = request.context.only
        start = page.lines.from_editor(request.range.start.line, request.range.start.character)
        end = page.lines.from_editor(request.range.end.line, request.range.end.character)
        diagnostics = [
            diagnostic
            for diagnostic in self._workspace.findings(page)
            if diagnostic.span.start <= end and start <= diagnostic.span.end
        ]
        if is_kind_wanted(lsp.CodeActionKind.QuickFix, kinds):
            for diagnostic in diagnostic_actions(page, diagnostics, self._workspace.options):
                yield self._action(page, diagnostic, lsp.CodeActionKind.QuickFix)
        if is_kind_wanted(FIX_ALL, kinds) and any(
            diagnostic.fix is not None and diagnostic.fix.safe for diagnostic in page.alone
        ):
            fix = fix_all(page)
            if fix is not None:
                yield self._action(page, fix, FIX_ALL)

    def _action(self, page: OpenPage, action: FileAction, kind: str) -> lsp.CodeAction:
        assert page.tree is not None  # noqa: S101 - a page without a tree has no findings
        uri, lines = self._workspace.document(page.tree, action.path)
        edits = [lsp.TextEdit(range_of(edit.span, lines), edit.text) for edit in action.edits]
        workspace = self._editor.workspace
        if workspace and workspace.workspace_edit and workspace.workspace_edit.document_changes:
            target = self._workspace.page_of(page.tree, action.path)
            document = lsp.OptionalVersionedTextDocumentIdentifier(uri, target.version if target is not None else None)
            edit = lsp.WorkspaceEdit(document_changes=[lsp.TextDocumentEdit(document, [*edits])])
        else:
            edit = lsp.WorkspaceEdit(changes={uri: edits})
        diagnostic = None
        if action.found is not None:
            diagnostic = [wire.diagnostic(action.found, page.lines, self._workspace.related(action.found, page.tree))]
        return lsp.CodeAction(action.title, kind, diagnostic, action.preferred or None, edit=edit)

    def _place(self, document: lsp.TextDocumentIdentifier, position: lsp.Position) -> tuple[OpenPage | None, int]:
        """Return the page and the offset of a request; (None, 0) if the document is not part of a tree."""
        page = self._workspace.pages.get(document.uri)
        if page is None or page.tree is None:
            return None, 0
        return page, page.lines.offset(page.lines.from_editor(position.line, position.character))

    @property
    def _knows_snippets(self) -> bool:
        completion = getattr(self._editor.text_document, "completion", None)
        return bool(completion and completion.completion_item and completion.completion_item.snippet_support)

    def _locations(self, page: OpenPage, targets: list[LinkTarget]) -> list[lsp.Location]:
        return [
            lsp.Location(uri, range_of(target.span, lines))
            for target in targets
            if page.tree is not None
            for uri, lines in [self._workspace.document(page.tree, target.path)]
        ]
