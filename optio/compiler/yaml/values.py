"""Build Python values from the nodes of a document with the YAML 1.2 core types, and report what cannot be meant: tags,
duplicate keys, keys that are not texts, NUL characters."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from optio.compiler.diagnostics import Diagnostic, Related, Severity, diagnostic
from optio.compiler.source import Span, position_at
from optio.compiler.yaml.nodes import Node, node_at, short_tag, span_of, walk
from optio.compiler.yaml.scalars import SWITCHES, WORDS, scalar, yaml_1_1_reading
from optio.compiler.yaml.syntax import BLANKS, explain_braces, indent_fix, quote_braces_fix
from optio.model.route import Route

MAX_DEPTH = 64
_NUMERIC = frozenset("0123456789+-.")
# Keys without quotes that may be a mistake: by their text, and by its beginning; and the beginnings of values that are no text.
_ODD_KEYS, _ODD_BEGINNINGS = WORDS.keys() | SWITCHES.keys(), _NUMERIC.union(BLANKS)
_ODD_VALUES = _NUMERIC.union(word[0] for word in _ODD_KEYS if word)
_NUL_ESCAPE = r"\\(?:0|x00|u0000|U00000000)"


# Tags by which other systems fetch a value from elsewhere.
_REFERS = r"!(?i:reference|include\w*|import\w*|ref|sub|getatt|join|env\w*|file|var)"
# Values that another tool encrypts or keeps elsewhere.
_HIDES = r"!(?i:vault|secret\w*|encrypted\S*|sops|sealed\w*)"
_MAX_MOVED = 4


class Values(NamedTuple):
    """The document's value, and the routes of unquoted texts that YAML 1.1 readers read differently."""

    value: Any
    odd: dict[Route, str]


class Builder:
    """Builds the values in one walk. Findings do not stop the walk; a fatal one makes `build` return None."""

    def __init__(self, path: str, text: str, root: Node) -> None:
        self._path, self._text, self._root = path, text, root
        self.found: list[Diagnostic] = []
        self._odd: list[Node] = []
        self._told: set[tuple[str, int]] = set()
        self._firsts: dict[int, dict[str, Node]] = {}
        self._fatal = False

    def build(self) -> Values | None:
        """Return the values, or None when nothing can be made of them."""
        value = self._value(self._root, 1)
        if self._fatal:
            return None
        odd = dict(self._odd_routes()) if self._odd else {}
        if "\\" in self._text and re.search(_NUL_ESCAPE, self._text):
            self._find_nuls()
        return Values(value, odd)

    def _value(self, node: Any, depth: int) -> Any:
        if node.tag is not None:
            tag = short_tag(node.tag)
            does = "remove it" + (", and write the value itself" if re.fullmatch(_REFERS, tag) else "")
            hint = f"{does}: nothing is executed or included"
            if re.fullmatch(_HIDES, tag):
                hint = "delete the entry, and add its name to `environment.secrets`: the server holds the value"
            self._report("OPT007", f"`{tag}` is a tag of YAML, and no value has one", node, hint, at_tag=True)
        if node.id == "scalar":
            text: str = node.value
            if node.style or (text and text[0] not in _ODD_VALUES):
                return text
            if text in WORDS:
                return WORDS[text]
            if text[0] in _NUMERIC:
                if yaml_1_1_reading(text):
                    self._odd.append(node)
                return scalar(text)
            if text in SWITCHES:
                self._odd.append(node)
            return text
        if depth > MAX_DEPTH:
            if not self._fatal:
                self._report("OPT014", f"nested deeper than {MAX_DEPTH} levels", node, "write it with fewer levels")
            self._fatal = True
            return None
        if node.id == "sequence":
            return [self._value(item, depth + 1) for item in node.value]
        return self._mapping(node, depth)

    def _mapping(self, node: Node, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merges: list[Node] = []
        for key, value in node.value:
            if key.id != "scalar":
                self._bad_key(node, key)
                continue
            name: str = key.value
            if not key.style:
                if name == "<<":
                    merges.append(value)
                    continue
                if name in _ODD_KEYS or name[0] in _ODD_BEGINNINGS:
                    self._check_key(key, depth)
            if key.tag is not None:
                self._report(
                    "OPT007", f"`{short_tag(key.tag)}` is a tag of YAML, and no key has one", key, "remove it", at_tag=True
                )
            if name in values:
                self._twice(node, key)
                continue
            values[name] = self._value(value, depth + 1)
        for merge in merges:
            for name, inherited in self._merged(merge, depth):
                values.setdefault(name, inherited)
        return values

    def _merged(self, node: Node, depth: int) -> Iterator[tuple[str, Any]]:
        parts = node.value if node.id == "sequence" else [node]
        for part in parts:
            if part.id == "mapping":
                yield from self._value(part, depth + 1).items()
            else:
                self._report("OPT103", "`<<` needs a mapping", part, "give it an alias to a mapping")

    def _check_key(self, key: Node, depth: int) -> None:
        text = key.value
        if text and text[0] in BLANKS:
            span = span_of(key, self._text)
            fix = indent_fix(self._text, span.start.line - 1)
            purpose = "is used to indent" if fix is not None else "begins this key"
            hint = "use spaces" if fix is not None and text[0] != "\ufeff" else "delete it"
            message = f"U+{ord(text[0]):04X}, a blank other than a space, {purpose}"
            self.found.append(diagnostic("OPT005", message, path=self._path, span=span, hint=hint, fix=fix))
            self._fatal = True  # the nesting of such a key is unknown
            return
        reading = yaml_1_1_reading(text)
        if text == "on" and depth == 1:
            return  # not a key of the schema, and reported as such
        if reading:
            message = f"the key `{text}` is {reading} for other YAML readers"
            self._report("OPT006", message, key, f"write `'{text}':`", is_valid=isinstance(scalar(text), str))
        elif not isinstance(scalar(text), str):
            self._report("OPT017", f"the key `{text}` is not a text" if text else "an empty key", key, f"write `'{text}':`")

    def _bad_key(self, node: Node, key: Node) -> None:
        start = node.start_mark
        if key.id == "mapping" and self._text.startswith("{{", start.index):
            line_start = self._text.rfind("\n", 0, start.index) + 1
            line = self._text[line_start:].split("\n", 1)[0]
            column = start.index - line_start
            message, hint = explain_braces(line, column)
            fix = quote_braces_fix(line, self._text.count("\n", 0, line_start), column)
            self.found.append(
                diagnostic("OPT001", message, path=self._path, span=span_of(node, self._text), hint=hint, fix=fix)
            )
        else:
            self._report(
                "OPT017", "a key that is a list or a mapping", key, "write text before the `:`, or put quotes around it"
            )
        self._fatal = True

    def _is_told(self, code: str, node: Node) -> bool:
        """Return True if the node was reported under this code, because an anchored node is visited at each of its aliases."""
        is_repeated = (code, id(node)) in self._told
        self._told.add((code, id(node)))
        return is_repeated

    def _twice(self, node: Node, key: Node) -> None:
        if self._is_told("OPT004", key):
            return
        if id(node) not in self._firsts:
            self._firsts[id(node)] = {entry.value: entry for entry, _ in reversed(node.value) if isinstance(entry.value, str)}
        first = span_of(self._firsts[id(node)][key.value], self._text)
        self.found.append(
            diagnostic(
                "OPT004", f"`{key.value}` appears twice", path=self._path, span=span_of(key, self._text),
                hint=f"first at {first.start.line}:{first.start.column}: {self._one_of(node, key)}",
                related=(Related("first here", self._path, first),),
            )
        )  # fmt: skip

    def _one_of(self, node: Node, key: Node) -> str:
        """Return the cure for a key that stands twice: two mappings without a common key were meant as one."""
        second = next((value for key_node, value in node.value if key_node is key), None)
        first = next((value for key_node, value in node.value if key_node.value == key.value and key_node is not key), None)
        if second is None or first is None or second.id != "mapping" or first.id != "mapping" or not second.value:
            return "keep one"
        own_names, other_names = ([str(key_node.value) for key_node, _ in mapping.value] for mapping in (first, second))
        if set(own_names) & set(other_names) or len(other_names) > _MAX_MOVED:
            return "keep one"
        return f"move {' and '.join(f'`{name}`' for name in other_names)} below it, and delete this line"

    def _report(self, code: str, message: str, node: Node, hint: str, *, at_tag: bool = False, is_valid: bool = False) -> None:
        if self._is_told(code, node):
            return
        span = span_of(node, self._text)
        if at_tag:
            tag = re.compile(r"(?:&\S+\s+)?(!\S*)").match(self._text, node.start_mark.index)
            if tag:
                span = Span(position_at(self._text, tag.start(1)), position_at(self._text, tag.end(1)))
        reported = diagnostic(code, message, path=self._path, span=span, hint=hint)
        self.found.append(replace(reported, severity=Severity.WARNING) if is_valid else reported)

    def _odd_routes(self) -> Iterator[tuple[Route, str]]:
        node_ids = {id(node) for node in self._odd}
        for route, node in walk(self._root, ()):
            # A merged value that the mapping overrides is not checked.
            if id(node) in node_ids and node_at(self._root, route) is node:
                yield route, node.value

    def _find_nuls(self) -> None:
        for route, node in walk(self._root, ()):
            if node.id == "scalar" and "\0" in node.value:
                span, hint = span_of(node, self._text), "delete it: agents cannot handle it"
                self.found.append(diagnostic("OPT015", "a NUL character", path=self._path, span=span, route=route, hint=hint))
