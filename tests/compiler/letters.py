"""Follows a hint to the letter: what it says to write, to add, to delete or to rename, at the place of its finding."""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from optio.compiler.diagnostics import Diagnostic, Edit
from optio.compiler.edits.edit_yaml import CannotEdit, rewrite_file
from optio.compiler.edits.text_edits import apply_edits
from optio.compiler.source import SourceFile
from optio.compiler.yaml.document import parse
from optio.model.route import Route

Files = Mapping[str, bytes]
_QUOTED = r"`[^`]+`|\"[^\"]*\"|'(?:[^']|'')*'|\[[^\]]*\]|-?\d[\w.]*|true|false|null"
_WRITE = re.compile(
    r"(?:write|did you mean|use|name|as in|around (?:it|the value|the whole value):|remove the quotes:|give|such as|as text)"
    rf" (?:it (?:as|as in) )?(?:a list: )?({_QUOTED})(?: at the top of the file| below `([^`]+)`)?"
)
_ADD = re.compile(r"add `([^`]+)`(?: (?:to|below) `([^`]+)`)?")
_DELETE = re.compile(
    r"\b(?:delete (?:it|this line|the line|this|the key|them|one of them|one|`([^`]+)`)|take it out|keep one|remove it)(?!\w)"
)
_ALLOWED = re.compile(r"allowed: ([\w-]+)")
_ENTRY = re.compile(r"\A([\w.-]+):(?: (.*))?\Z", re.DOTALL)
_SAID = re.compile(rf"{_QUOTED}")


def says_text(hint: str | None) -> bool:
    """Whether a hint has a text to write, or something to delete."""
    return hint is not None and (_SAID.search(hint) is not None or _DELETE.search(hint) is not None or "allowed: " in hint)


def followed(files: Files, found: Diagnostic) -> Iterator[dict[str, bytes]]:
    """The files after the hint, by each way to read it, the most literal first, and each text once."""
    seen = {None, files[found.path]}
    for data in itertools.chain([_by_fix(files, found)], _by_words(files, found)):
        if data not in seen:
            seen.add(data)
            yield {**files, found.path: data}


def _by_fix(files: Files, found: Diagnostic) -> bytes | None:
    return None if found.fix is None else apply_edits(files[found.path], found.fix.edits)


def _by_words(files: Files, found: Diagnostic) -> Iterator[bytes | None]:
    data, hint = files[found.path], found.hint or ""
    for match in sorted([*_WRITE.finditer(hint), *_ADD.finditer(hint), *_DELETE.finditer(hint)], key=lambda m: m.start()):
        if match.re is _DELETE:
            for route in (found.route[:-1], found.route, ()) if match[1] else ():
                yield _edited(found, data, (*route, *_route(match[1])), None)
            if match[1]:
                yield data.replace(match[1].encode(), b"", 1)
            yield _edited(found, data, found.route, None)
            yield _spliced(data, found, "")
            yield _without_line(data, found)
            continue
        text, place = match[1].strip("`") if match[1].startswith("`") else match[1], match[2]
        top = "at the top" in match[0]
        base: Route | None = () if top else _route(place) if place else None
        entry = _ENTRY.match(text)
        if text.startswith("- "):
            yield _edited(found, data, found.route, _value(text[2:]))
        elif match.re is _ADD or base is not None:
            yield from _added(found, data, base, text, "write" in match[0])
        elif entry:
            for parent in (found.route[:-1], found.route, found.route[:2], ()):
                yield _entered(found, data, parent, entry[1], _value(entry[2] or ""))
        if base is None and found.code == "OPT001":
            yield from _on_line(data, found, text if entry else match[1].strip("`"))
        if base is None and not text.startswith("- "):
            yield _spliced(data, found, text)
            yield _spliced(data, found, match[1])
            yield from _reworded(data, found, text)
            if found.route and not isinstance(found.route[-1], int):
                yield _renamed(found, data, text)
            yield _edited(found, data, found.route, _value(text))
            yield _edited(found, data, found.route, text)
    for name, place in re.findall(r"(?:add|list|name|declare) (?:it|`(\w+)`) (?:under|to) `([^`]+)`", hint):
        gone = _edited(found, data, found.route, None) or data
        key = name or (str(found.route[-1]) if found.route else "")
        yield _edited(found, gone, (*_route(place), key), {"type": "string"}) if "properties" in place else None
        document, _ = parse(SourceFile(found.path, gone))
        listed = [] if document is None else _at(document.value, _route(place)) or []
        yield _edited(found, gone, _route(place), [*listed, key])
    if allowed := _ALLOWED.search(hint):
        yield _spliced(data, found, allowed[1])


def _value(text: str) -> Any:
    document, _ = parse(SourceFile("task.yaml", f"it: {text}\n".encode()))
    return text if document is None else document.value["it"]


def _route(place: str) -> Route:
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"[\w-]+", place))


def _edited(found: Diagnostic, data: bytes, route: Route, value: Any) -> bytes | None:
    """The file with another value at a place, or without it."""
    document, _ = parse(SourceFile(found.path, data))
    if document is None or not route:
        return None
    try:
        return rewrite_file(found.path, data, _put(document.value, route, value))
    except (CannotEdit, KeyError, IndexError, TypeError, AttributeError, ValueError):
        return None


def _put(whole: Any, route: Route, value: Any) -> Any:
    first, *rest = route
    if isinstance(whole, list):
        index = int(first)
        inner = [_put(whole[index], tuple(rest), value)] if rest else [] if value is None else [value]
        return [*whole[:index], *inner, *whole[index + 1 :]]
    if whole is None:
        whole = {}
    if rest:
        return {**whole, first: _put(whole.get(first), tuple(rest), value)}
    if value is None:
        return {key: each for key, each in whole.items() if key != first}
    return {**whole, first: value}


def _entered(found: Diagnostic, data: bytes, parent: Route, key: str, value: Any) -> bytes | None:
    """The finding's entry replaced by this one."""
    document, _ = parse(SourceFile(found.path, data))
    if document is None:
        return None
    if found.route[:-1] == parent and found.route and found.route[-1] != key:
        without = _edited(found, data, found.route, None)
        data = data if without is None else without
    return _edited(found, data, (*parent, key), value)


def _renamed(found: Diagnostic, data: bytes, key: str) -> bytes | None:
    document, _ = parse(SourceFile(found.path, data))
    if document is None or not re.fullmatch(r"[\w-]+", key):
        return None
    return apply_edits(data, [Edit(document.key_span(found.route), key)])


def _added(found: Diagnostic, data: bytes, base: Route | None, text: str, instead: bool) -> Iterator[bytes | None]:
    entry = _ENTRY.match(text)
    if instead:
        data = _edited(found, data, found.route, None) or data
    document, _ = parse(SourceFile(found.path, data))
    if document is None:
        return
    if entry is None:
        if base is not None:
            yield _edited(found, data, base, [*(_at(document.value, base) or []), text])
        return
    for parent in [base] if base is not None else [found.route[:-1], found.route, (), found.route[:3]]:
        yield _edited(found, data, (*parent, *entry[1].split(".")), _value(entry[2] or ""))


def _reworded(data: bytes, found: Diagnostic, text: str) -> Iterator[bytes]:
    """The lines of the finding with this text for one that its message quotes."""
    lines = data.decode("utf-8").split("\n")
    first, last = found.span.start.line - 1, found.span.end.line
    whole = "\n".join(lines[first:last])
    for quoted in re.findall(r"`([^`]+)`", f"{found.message} {found.hint}"):
        if quoted in whole and quoted != text:
            yield "\n".join([*lines[:first], whole.replace(quoted, text, 1), *lines[last:]]).encode()


def _at(value: Any, route: Route) -> Any:
    for step in route:
        value = value.get(step) if isinstance(value, dict) else value[step] if isinstance(value, list) else None
    return value


def _spliced(data: bytes, found: Diagnostic, text: str) -> bytes | None:
    try:
        return apply_edits(data, [Edit(found.span, text)])
    except (IndexError, ValueError):
        return None


def _without_line(data: bytes, found: Diagnostic) -> bytes:
    lines = data.split(b"\n")
    return b"\n".join([*lines[: found.span.start.line - 1], *lines[found.span.end.line :]])


def _on_line(data: bytes, found: Diagnostic, text: str) -> Iterator[bytes]:
    """The line of the finding with this text for all of it, for its value, or for an item."""
    lines = data.decode("utf-8").split("\n")
    line = lines[found.span.start.line - 1]
    indent = line[: len(line) - len(line.lstrip())]
    key, colon, _ = line.partition(":")
    forms = [indent + text, f"{key}: {text}", f"{indent}- {text}"] if colon else [indent + text, f"{indent}- {text}"]
    for form in forms:
        lines[found.span.start.line - 1] = form
        yield "\n".join(lines).encode()
