"""Read the files that are imported: text, YAML documents with lines, and mappings whose keys are taken one by one. Keys that no
module takes are carried or reported as the table of counterparts says, so none is lost in silence."""

import re
from collections.abc import Callable
from typing import Any

from optio.compiler.diagnostics import Diagnostic, Severity
from optio.compiler.source import SourceFile
from optio.compiler.yaml.document import Document, parse
from optio.compiler.yaml.encoding import decode
from optio.importing.converters import CONVERTERS, as_text
from optio.importing.counterparts import table_at
from optio.importing.draft import SourceKey, TaskDraft
from optio.model.route import Route, show, value_at

# Each document is parsed with its lines in place, so many of them would cost the square of the file.
MAX_DOCUMENTS = 100
_MARKER = re.compile(r"(?m)^---(?=\s|$)")
_UNKNOWN = "Optio has no such key, or the import does not know it: look whether the task needs it"
_UNREADABLE = "the import does not understand the value: write `{}` by hand"


class SourceError(Exception):
    """A file that cannot be imported: the line, the problem and the cure."""

    def __init__(self, message: str, cure: str, line: int = 1) -> None:
        self.message, self.cure, self.line = message, cure, line
        super().__init__(message)


def read_text(path: str, data: bytes) -> str:
    """Return the text of a file; raise SourceError for an empty or binary file, or one that is too large."""
    if not data.strip():
        raise SourceError("the file is empty", "name a file that holds something to import")
    text, diagnostics = decode(SourceFile(path, data))
    if text is None:
        raise _error_of(diagnostics)
    return text


def read_documents(path: str, text: str) -> list[Document]:
    """Return the YAML documents of a text, each with the lines of the whole file. Raises SourceError for the first mistake."""
    starts = [match.start() for match in _MARKER.finditer(text)]
    if len(starts) > MAX_DOCUMENTS:
        raise SourceError(f"the file has more than {MAX_DOCUMENTS} documents", "split it into files")
    documents = []
    for start, end in zip([0, *starts], [*starts, len(text)], strict=True):
        part = _MARKER.sub("   ", text[start:end], count=1) if start in starts else text[start:end]
        if any(line.strip() and not line.lstrip().startswith("#") for line in part.split("\n")):
            documents.append(read_document(path, "\n" * text.count("\n", 0, start) + part))
    return documents


def read_document(path: str, text: str) -> Document:
    """Return the one YAML document of a text; raise SourceError for the first mistake."""
    document, diagnostics = parse(SourceFile(path, text.encode()))
    errors = [error for error in diagnostics if error.severity is Severity.ERROR]
    if document is None or errors:
        raise _error_of(errors or diagnostics)
    return document


def _error_of(diagnostics: list[Diagnostic]) -> SourceError:
    first = diagnostics[0]
    return SourceError(first.message, first.hint or "correct the file", first.span.start.line)


class Section:
    """A mapping of the source. A key is taken once; `finish` carries or reports every key that is left, here and below.

    `place` names its table of counterparts, such as `cronjob.spec`. `spelling` maps a key of the file to the name by which it
    is taken, for formats that write keys in two ways.
    """

    def __init__(
        self, document: Document, route: Route, draft: TaskDraft, place: str, spelling: Callable[[str], str] = str
    ) -> None:
        self.draft, self.route, self.place = draft, route, place
        self._document, self._spelling = document, spelling
        self.value: Any = value_at(document.value, route)
        self._keys = {spelling(str(key)): key for key in self.value} if isinstance(self.value, dict) else {}
        self._rest = dict(self._keys)
        self._below: list[Section] = []

    def names(self) -> list[str]:
        """Return the names that are not taken yet."""
        return list(self._rest)

    def origin(self, name: str = "") -> SourceKey:
        """Return the place of a key in the file, or that of the mapping."""
        route = (*self.route, self._keys.get(name, name)) if name else self.route
        return SourceKey(show(route) if route else "the file", self._document.key_span(route).start.line)

    def take(self, name: str) -> Any:
        """Return the value of a key whatever its type, or None; it is not reported as left."""
        key = self._rest.pop(name, None)
        return None if key is None else self.value[key]

    def peek(self, name: str) -> Any:
        """Return the value of a key, or None, and leave it."""
        return self.value[self._rest[name]] if name in self._rest else None

    def text(self, name: str) -> str | None:
        """Take a text, or a number or boolean as a text. Another value is left, and so reported."""
        value = self.peek(name)
        is_text = isinstance(value, (str, int, float)) and value != ""
        return as_text(self.take(name)) if is_text else None

    def name_draft(self, key: str) -> None:
        """Take the name of the draft from a key, if the file has it."""
        origin, name = self.origin(key), self.text(key)
        if name is not None:
            self.draft.name = name
            self.draft.carried(origin, "name")

    @property
    def is_mapping(self) -> bool:
        """Return whether the file has this mapping."""
        return isinstance(self.value, dict)

    def section(self, name: str, place: str | None = None) -> "Section":
        """Take a mapping, whose own keys are then taken one by one. Another value is left, and so reported; its section has no
        keys, and neither has that of an absent one."""
        section = self._below_at((self._keys.get(name, name),), place or f"{self.place}.{name}")
        if section.is_mapping and name in self._rest:
            del self._rest[name]
            self._below.append(section)
        return section

    def sections(self, name: str, place: str) -> "list[Section]":
        """Take a list of mappings. Another value is left, and so reported."""
        value = self.peek(name)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            return []
        key = self._rest.pop(name)
        sections = [self._below_at((key, index), place) for index in range(len(value))]
        self._below += sections
        return sections

    def _below_at(self, steps: Route, place: str) -> "Section":
        return Section(self._document, (*self.route, *steps), self.draft, place, self._spelling)

    def drop(self) -> None:
        """Leave all keys that are left out of the report."""
        self._rest = {}

    def finish(self) -> None:
        """Carry or report every key that was not taken, as the table of this place says."""
        table = table_at(self.place)
        for name in self.names():
            row = table.get(name, _UNKNOWN)
            if isinstance(row, str):
                self._apply(name, row)
            elif not self.section(name).is_mapping:
                self.draft.decide(self.origin(name), _UNREADABLE.format(name))
        self.drop()
        for section in self._below:
            section.finish()

    def _apply(self, name: str, row: str) -> None:
        origin, value = self.origin(name), self.take(name)
        if row.startswith("-> "):
            target, _, converter = row.removeprefix("-> ").partition(": ")
            if not CONVERTERS[converter or "text"](self.draft, origin, target, value):
                self.draft.block(origin, _UNREADABLE.format(target))
        elif row.startswith(("! ", "? ")):
            (self.draft.block if row.startswith("! ") else self.draft.decide)(origin, row[2:])
        elif row != "-":
            self.draft.missing(origin, row)
