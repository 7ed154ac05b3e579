"""Merge a task with the template that it extends and with the `_defaults.yaml` files above it.

The order, strongest first: the task, its template, that template's template and so on, then the `_defaults.yaml` of the task's
directory and of each directory above. Mappings merge key by key; lists, texts and numbers replace what is below, except
`paramsSchema.required`, whose names are joined. `null` removes what is below. `promptTemplate` and `promptFile` exclude each
other, so each removes the other. Every value remembers the file that wrote it.
"""

import posixpath
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from optio.compiler.diagnostics import Diagnostic, Fix, diagnostic
from optio.compiler.source import SourceFile, Span
from optio.compiler.source_tree import HIDDEN_HINT, MissingFile, SourceTree, Unreadable, is_hidden
from optio.compiler.suggest_path import suggest_file
from optio.compiler.yaml.document import Document, parse
from optio.model.route import Route, value_at

DEFAULTS = ("_defaults.yaml", "_defaults.yml")
POLICY = "_policy.yaml"
# Types of documents that are neither tasks nor templates.
OTHER_TYPES = ("policy",)
# Other names that people give to files of defaults and policies.
_BASE_NAMES = {
    **dict.fromkeys(("_default", "default", "defaults", "_common", "_base", "_shared"), DEFAULTS[0]),
    **dict.fromkeys(("policy", "_policies", "policies"), POLICY),
}
# Keys about the file itself, which others do not inherit.
_OF_ITSELF = frozenset({"type", "apiVersion", "extends"})
_NOT_IN_TEMPLATES = ("id", "name", "tests")
# Keys that defaults and policies do not have.
_OF_TASKS = frozenset({"name", "promptTemplate", "promptFile", "command", "triggers", "extends", "type"})
# Keys that together make a task of a file.
_RUNS = frozenset({"name", "agentRuntime", "triggers"})
NOT_IN_DEFAULTS = (*_NOT_IN_TEMPLATES, "extends", "triggers", "type")
# Mappings that are replaced as a whole, because a part of one has no meaning.
_REPLACED_WHOLE: tuple[Route, ...] = (("dedupe",), ("result",), ("startLimit",))
_UNION: Route = ("paramsSchema", "required")
# Variables are never null, so an unquoted `null` that removes nothing is dropped.
_VARIABLES: Route = ("environment", "env")
_EXCLUSIVE_KEYS = {"promptTemplate": "promptFile", "promptFile": "promptTemplate"}
_MAX_TEMPLATE_DEPTH = 20


def is_base(document: Document) -> bool:
    """Return True if the file is a template or holds defaults, and so is not a task itself."""
    return posixpath.basename(document.path) in DEFAULTS or _is_template(document)


def is_connection(document: Document) -> bool:
    """Return True if the file says that it is a connection."""
    return isinstance(document.value, dict) and document.value.get("type") == "connection"


def _is_template(document: Document) -> bool:
    return isinstance(document.value, dict) and document.value.get("type") == "template"


def suggest_base_name(document: Document) -> str | None:
    """Return `_defaults.yaml` or `_policy.yaml` for a file with a similar name that does not look like a task, or None."""
    if not isinstance(document.value, dict) or not _OF_TASKS.isdisjoint(document.value):
        return None
    return _BASE_NAMES.get(posixpath.splitext(posixpath.basename(document.path))[0].lower())


class Bases:
    """The templates and defaults of one compilation. Each file is parsed once, and the defaults of a directory are searched
    once."""

    def __init__(self, tree: SourceTree) -> None:
        self._tree = tree
        self._parsed: dict[tuple[str, bytes], Document | None] = {}
        self._defaults: dict[str, tuple[str, ...]] = {}

    def defaults(self, path: str) -> tuple[str, ...]:
        """Return the paths of the defaults that apply to this file, the nearest first, including files that cannot be read."""
        directory = posixpath.dirname(path)
        paths = self._defaults.get(directory)
        if paths is None:
            own_paths = tuple(name for file_name in DEFAULTS if self._is_there(name := posixpath.join(directory, file_name)))
            paths = self._defaults[directory] = (*own_paths, *(self.defaults(directory) if directory else ()))
        return paths

    def _is_there(self, path: str) -> bool:
        try:
            self._tree.read(path)
        except Unreadable as err:
            return err.code != "OPT115"
        return True

    def read(self, path: str, tree: SourceTree) -> Document | None:
        """Return the parsed file, or None if it cannot be parsed, which is reported in that file. Raises Unreadable."""
        data = tree.read(path)
        key = (path, data)
        if key not in self._parsed:
            document, findings = parse(SourceFile(path, data))
            if (
                document is None
                and posixpath.basename(path) in DEFAULTS
                and {finding.code for finding in findings} == {"OPT018"}
            ):
                document, _ = parse(SourceFile(path, b"{}"))  # only comments: defaults without values
            self._parsed[key] = document
        return self._parsed[key]


class Layers(NamedTuple):
    """The files below a task, the strongest first. With findings, some of them are missing."""

    below: tuple[Document, ...] = ()
    found: tuple[Diagnostic, ...] = ()


def read_layers(document: Document, tree: SourceTree, bases: Bases) -> Layers:
    """Return all templates and defaults below a task, or the findings that say which of them cannot be used."""
    lower_layers: list[Document] = []
    findings: list[Diagnostic] = []
    for layer in _templates(document, tree, bases):
        (lower_layers if isinstance(layer, Document) else findings).append(layer)  # type: ignore[arg-type]
    for path in bases.defaults(document.path):
        try:
            base = bases.read(path, tree)
        except Unreadable:
            base = None
        if base is not None and isinstance(base.value, dict):
            lower_layers.append(base)
        else:
            message, hint = f"`{path}` cannot be read, and applies to this task", "correct it first"
            findings.append(diagnostic("OPT703", message, path=document.path, hint=hint))
    return Layers(tuple(lower_layers), tuple(findings))


def _templates(document: Document, tree: SourceTree, bases: Bases) -> Iterator[Document | Diagnostic]:
    chain = [document]
    while isinstance(chain[-1].value, dict) and isinstance(name := chain[-1].value.get("extends"), str):
        last = chain[-1]

        def wrong(
            message: str, hint: str, code: str = "OPT703", missing_file: str | None = None, last: Document = last
        ) -> Diagnostic:
            span, route = last.span(("extends",)), ("extends",)
            return diagnostic(code, message, path=last.path, span=span, route=route, hint=hint, missing_file=missing_file)

        def unreadable(err: Unreadable, last: Document = last, name: str = name) -> Diagnostic:
            near = suggest_missing(tree, last.path, name, err)
            missing_file = name if near is None and isinstance(err, MissingFile) else None
            hint = f"did you mean `{near}`?" if near else err.hint
            return wrong(f"`{name}` {err.message}", hint or "name a template", err.code, missing_file)

        try:
            path = resolve_path(last.path, name)
        except Unreadable as err:
            yield unreadable(err)
            return
        paths = [member.path for member in chain]
        if path in paths:
            circle = " -> ".join([*paths[paths.index(path) :], path])
            yield wrong(f"templates extend each other in a circle: {circle}", "remove one of them")
            return
        if len(chain) > _MAX_TEMPLATE_DEPTH:
            yield wrong(f"more than {_MAX_TEMPLATE_DEPTH} templates that extend each other", "merge some of them")
            return
        try:
            base = bases.read(path, tree)
        except Unreadable as err:
            yield unreadable(err)
            return
        if base is None:
            yield wrong(f"`{name}` cannot be read", "correct it first")
            return
        if not _is_template(base):
            hint = "write `type: template` into it, or name another file"
            if isinstance(base.value, dict) and {"name", "triggers"} <= base.value.keys():
                hint = "it is a task: write what both share into a new file with `type: template`, and extend that in both"
            yield wrong(f"`{name}` is not a template", hint)
            return
        yield base
        chain.append(base)


def missing_hint(tree: SourceTree, path: str, name: str, err: Unreadable) -> str | None:
    """Return the hint for a path that leads to no file, with the file that was probably meant."""
    near = suggest_missing(tree, path, name, err)
    return f"did you mean `{near}`?" if near else err.hint


def suggest_missing(tree: SourceTree, path: str, name: str, err: Unreadable) -> str | None:
    """Return the file that was probably meant by a path that leads to none, or to a hidden one."""
    return suggest_file(tree, path, name) if isinstance(err, MissingFile) or _is_hidden(name) else None


def resolve_path(path: str, name: str) -> str:
    """Return the tree path of a file that a task file names. Raises Unreadable for a hidden file, such as a secret in `.optio`.

    A path that leads out of the tree is returned unchanged, and the tree refuses to read it.
    """
    if _is_hidden(name):
        bare = "/".join(part for part in name.split("/") if part != "." and not is_hidden(part))
        hint = f"move the file, and write `{bare}`: hidden ones, such as the data directory with its secrets, are never read"
        raise Unreadable("OPT115", "is hidden: a part of its path begins with a dot", hint if "." in bare else HIDDEN_HINT)
    return name if name.startswith(("/", "~")) else posixpath.normpath(posixpath.join(posixpath.dirname(path), name))


def _is_hidden(name: str) -> bool:
    return any(is_hidden(part) for part in name.split("/"))


def check_base_keys(document: Document) -> Iterator[Diagnostic]:
    """Report keys of a template or of defaults that each task must write itself, such as `name`."""
    template = _is_template(document)
    if template and set(document.value) >= _RUNS:
        hint = "write `type: standalone` if it is a task; if tasks extend it, delete `name`, and write it into them"
        message, span = "a template is not a task, and this one has its own `name` and `triggers`", document.span(("type",))
        yield diagnostic("OPT120", message, path=document.path, span=span, route=("type",), hint=hint)
        return
    for key in _NOT_IN_TEMPLATES if template else NOT_IN_DEFAULTS:
        if isinstance(document.value, dict) and key in document.value:
            file_kind = "a template" if template else "defaults"
            message, hint = f"`{key}` in {file_kind}: each task has its own", "delete it here, and write it into the tasks"
            span = document.key_span((key,))
            yield diagnostic("OPT120", message, path=document.path, span=span, route=(key,), hint=hint)


def inherited_values(document: Document) -> dict[str, Any]:
    """Return the values of a template or of defaults that tasks inherit."""
    left_out = {*_OF_ITSELF, *(_NOT_IN_TEMPLATES if _is_template(document) else NOT_IN_DEFAULTS)}
    if _is_template(document):
        left_out.add("description")  # the description is about the template
    return {key: value for key, value in document.value.items() if key not in left_out}


def is_removal(document: Document, route: Route) -> bool:
    """Return True if a template or defaults have `null` at this route to remove what is below them."""
    return _can_remove(route) and value_at(document.value, route) is None


def _can_remove(route: Route) -> bool:
    """Return True for a key of the task or below `environment`; in other mappings `null` is a value or a mistake."""
    return (len(route) == 1 or route[:1] == ("environment",)) and not any(isinstance(step, int) for step in route)


def merge_layers(document: Document, lower_layers: Sequence[Document]) -> "Document | MergedDocument":
    """Return the task merged with everything below it, or the document itself where nothing is below."""
    if not lower_layers or not isinstance(document.value, dict):
        return document
    return MergedDocument(document, lower_layers)


class MergedDocument:
    """A task and its layers as one document. It has the methods of `Document`, and each returns places in the file that wrote
    the value."""

    def __init__(self, document: Document, lower_layers: Sequence[Document]) -> None:
        self._top = document
        self._layers: list[tuple[Document, dict[str, Any]]] = [
            (document, document.value),
            *((each, inherited_values(each)) for each in lower_layers),
        ]
        self.path, self.line = document.path, document.line
        self.texts = tuple((each.path, each.text) for each, _ in self._layers)
        self._elsewhere: dict[Route, tuple[Document, Route]] = {}
        self.vain: list[Route] = []
        """Routes of `null` values that remove nothing."""
        value: dict[str, Any] = {}
        for layer, values in reversed(self._layers):
            value = self._over(value, values, layer, ())
        self.value = value
        self.odd = {
            route: text
            for layer, values in self._layers
            for route, text in layer.odd.items()
            if route[0] in values and self.writer(route) is layer
        }

    def _over(self, weak: dict[str, Any], strong: dict[str, Any], layer: Document, route: Route) -> dict[str, Any]:
        values = dict(weak)
        for key, value in strong.items():
            own_route = (*route, key)
            if not route and key in _EXCLUSIVE_KEYS:
                values.pop(_EXCLUSIVE_KEYS[key], None)
            if value is None:
                self._remove(values, key, layer, own_route)
            elif isinstance(value, dict) and own_route not in _REPLACED_WHOLE:
                weaker = values.get(key)
                values[key] = self._over(weaker if isinstance(weaker, dict) else {}, value, layer, own_route)
            elif own_route == _UNION and isinstance(value, list):
                weaker = values.get(key)
                values[key] = self._union(weaker if isinstance(weaker, list) else [], value, layer)
            else:
                values[key] = value
        return values

    def _remove(self, values: dict[str, Any], key: str, layer: Document, route: Route) -> None:
        """Apply a `null`: it removes what is below, and in the task's own file one that removes nothing is reported."""
        if key in values:
            del values[key]
        elif layer is self._top:
            if route[:-1] != _VARIABLES or not layer.plain(route):
                values[key] = None
            self.vain.append(route)
        elif not _can_remove(route):
            values[key] = None

    def _union(self, weak: list[Any], strong: list[Any], layer: Document) -> list[Any]:
        joined = list(weak)
        for index, name in enumerate(strong):
            if name not in weak:
                self._elsewhere[(*_UNION, len(joined))] = (layer, (*_UNION, index))
                joined.append(name)
        return joined

    def writer(self, route: Route) -> Document:
        """Return the file that wrote the value, or the task's own file for a value that nobody wrote."""
        return self.written(route)[0]

    def written(self, route: Route) -> tuple[Document, Route]:
        """Return the file that wrote the value, and the value's route in that file."""
        if route in self._elsewhere:
            return self._elsewhere[route]
        for layer, values in self._layers:
            steps, value = _follow(values, route)
            if steps == len(route):
                if route:
                    return layer, route  # also for a `null` that removes a value of others
            elif steps and not isinstance(value, dict):
                return layer, route  # the value hides everything that other layers have below it
            elif steps and (route[:1] in _REPLACED_WHOLE or any(isinstance(step, int) for step in route[:steps])):
                return layer, route  # other layers cannot add to it
        return self._top, route

    def path_at(self, route: Route) -> str:
        """Return the path of the file that wrote the value; findings about the value are reported there."""
        return self.writer(route).path

    def span(self, route: Route) -> Span:
        """Return the value's span in the file that wrote it, as `Document.span` does."""
        layer, own_route = self.written(route)
        return layer.span(own_route)

    def key_span(self, route: Route) -> Span:
        """Return the span of the value's key in the file that wrote it, as `Document.key_span` does."""
        layer, own_route = self.written(route)
        return layer.key_span(own_route)

    def plain(self, route: Route) -> str | None:
        """Return the text of an unquoted scalar in the file that wrote it, or None."""
        layer, own_route = self.written(route)
        return layer.plain(own_route)

    def inside(self, route: Route, start: int, end: int) -> Span:
        """Return the span of characters `start:end` of a scalar's value, in the file that wrote it."""
        layer, own_route = self.written(route)
        return layer.inside(own_route, start, end)

    def find(self, route: Route, needle: str, nth: int = 0) -> Span:
        """Return the span of the nth occurrence of a text in a scalar, in the file that wrote it."""
        layer, own_route = self.written(route)
        return layer.find(own_route, needle, nth)

    def source(self, route: Route) -> str:
        """Return a scalar as the file that wrote it spells it, quotes included."""
        layer, own_route = self.written(route)
        return layer.source(own_route)

    def restyled(self, route: Route, text: str) -> str:
        """Return another text in the quoting style of the scalar, as the file that wrote it uses."""
        layer, own_route = self.written(route)
        return layer.restyled(own_route, text)

    def rewritten(self, route: Route, text: str, *, safe: bool = True) -> Fix | None:
        """Return the fix that replaces the value in the file that wrote it, or None where it cannot be replaced."""
        layer, own_route = self.written(route)
        return layer.rewritten(own_route, text, safe=safe)

    def text_at(self, span: Span, route: Route) -> str | None:
        """Return the characters at a span of the file that wrote the value, if the span is on one line."""
        return self.writer(route).text_at(span, route)


def _follow(value: Any, route: Route) -> tuple[int, Any]:
    """Return how many steps of the route exist, and the value at the last of them."""
    for index, step in enumerate(route):
        if isinstance(value, dict) and step in value:
            value = value[str(step)]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return index, value
    return len(route), value


def value_origins(document: "Document | MergedDocument", below: Route = ()) -> Iterator[tuple[Route, str, int]]:
    """Yield (route, path, line) for every value that is not a mapping, in the order of the document."""
    for key, inner in value_at(document.value, below).items():
        route = (*below, key)
        if isinstance(inner, dict) and inner:
            yield from value_origins(document, route)
        else:
            yield route, document.path_at(route), document.key_span(route).start.line
