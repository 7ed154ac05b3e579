"""Check the text of a file that parses for what its author may not see: invisible characters, values cut off by `#`,
unused anchors, and text that other YAML readers read differently."""

import re
from collections.abc import Iterator
from itertools import pairwise

from optio.compiler.diagnostics import Diagnostic, Edit, Fix, Related, diagnostic, report_first
from optio.compiler.source import START, Position, SourceFile, Span, position_at, span_at
from optio.compiler.yaml.document import Document
from optio.compiler.yaml.nodes import Node, span_of, walk
from optio.compiler.yaml.scalars import single_quoted
from optio.model.route import Route, show

_BOM = b"\xef\xbb\xbf"
# Line ends of YAML 1.1 alone, bidirectional controls, blanks and joiners without a width, and tag characters. Between other
# letters a joiner is spelling; one variation selector behind a letter or an emoji is, too, and behind another it is not.
_INVISIBLE = (
    "[\x85\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\U000e0000-\U000e007f]"
    "|(?<=[\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?=[\x00-\x7f])"
    "|(?<![^\x00-\x22\x24-\x29\x2b-\x2f\x3a-\x7f\ufe00-\ufe0f\U000e0100-\U000e01ef])[\ufe00-\ufe0f]"
    "|(?<![\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])[\U000e0100-\U000e01ef]"
)
# A comment that begins like a number, a channel or a colour, behind a value: `#12`, `#general`, `#ff0000`.
_CUT = r"(?m)^[^\n#]*[^\s#'\"\[{,:|>-][ \t]+(#(?:[A-Za-z0-9_]|\$?\{\{?\w)[^\n]*)$"
_PROMPT: Route = ("promptTemplate",)
# Required keys, and the type of the document: a blank one must be filled in, not deleted.
_NEEDED = ("type", "name", "agentRuntime", "promptTemplate")
_GOES_ON = r"(?<=\S) (# (?!optio:|yaml|noqa)[^\n]*\w[^\n]*)$"
_ITEM = r"(?:[-*+]|\d{1,2}[.)])[ \t]+\S|#{1,6} \S|```|~~~"
_MISREAD = r"(?m)&[A-Za-z0-9_-]+[^\sA-Za-z0-9_\-,\[\]{}]|[\[{,]\s*\?[^\s,\]}]|(?:^|[\s\[{,])!(?=[\s,\]}]|\Z)"
_ODD_ANCHOR = r"&([A-Za-z0-9_-]+)([^\sA-Za-z0-9_\-,\[\]{}])[^\s,\[\]{}]*"
_BARE_TAG = r"!(?=[\s,\]}]|\Z)"
_ANCHOR = re.compile(r"&([^\s,\[\]{}]+)[ \t]*")


def check(file: SourceFile, document: Document) -> Iterator[Diagnostic]:
    """Report all findings about the text. Plain ASCII files without anchors, tabs or `>` pass quickly."""
    yield from _bytes(file)
    text = document.text
    if not text.isascii():
        yield from check_invisible(file.path, text)
    if ("&" in text or "!" in text or "?" in text) and re.search(_MISREAD, text):
        yield from _misread(document)
    if "&" in text:
        yield from _anchors(document)
    if "<<" in text:
        yield from _merges(document)
    if " #" in text or "\t#" in text:
        yield from _cut(document)
        yield from _cut_prompt(document)
    if ">" in text:
        yield from _folded(document)
    yield from _blank(document)


def _bytes(file: SourceFile) -> Iterator[Diagnostic]:
    if file.data.startswith(_BOM):
        message, hint = (
            "a byte order mark begins the file",
            "save it as UTF-8 without one, or run `optio check --fix --verbose`",
        )
        yield diagnostic("OPT003", message, path=file.path, span=START, hint=hint)
    if b"\r" in file.data:
        lines = file.data.count(b"\r\n")
        kind = "CR LF" if lines == file.data.count(b"\n") and lines == file.data.count(b"\r") else "mixed"
        yield diagnostic(
            "OPT019",
            f"line ends are {kind}",
            path=file.path,
            span=START,
            hint="save it with LF, or run `optio check --fix --verbose`; prompts have LF in any case",
        )


def check_invisible(path: str, text: str) -> Iterator[Diagnostic]:
    """Report characters that people do not see and an agent reads. `text` may also be the prompt's own file."""

    def tell(match: re.Match[str]) -> Diagnostic:
        span = span_at(text, match.start(), match.end())
        message = f"an invisible character, U+{ord(match[0]):04X}"
        hint = "delete it, or write it as an escape between double quotes if it is intended"
        return diagnostic("OPT016", message, path=path, span=span, hint=hint, fix=Fix.write("", span, safe=False))

    yield from report_first(re.finditer(_INVISIBLE, text), tell)


def _misread(document: Document) -> Iterator[Diagnostic]:
    """Report `&an:chor`, `{?key: value}` and `! 12`, which parsers read differently without a message."""
    text, seen, stack = document.text, set[int](), [document.root]
    odd_anchor, bare_tag = re.compile(_ODD_ANCHOR), re.compile(_BARE_TAG)
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.id != "scalar":
            stack += [each for part in node.value for each in (part if isinstance(part, tuple) else (part,))]
        at = node.start_mark.index
        span, code, message, hint = None, "OPT001", "", ""
        if (anchor := odd_anchor.match(text, at)) is not None:
            span = span_at(text, at, anchor.end())
            better = re.sub(r"[^A-Za-z0-9_-]+", "-", anchor[0][1:]).strip("-")
            message = f"the anchor `{anchor[0]}` ends at `{anchor[2]}` for some readers, so the rest becomes part of the value"
            hint = f"write `&{better}`, with letters, digits, `_` and `-`, and the same behind `*`"
        elif bare_tag.match(text, at):
            value = str(node.value) if node.id == "scalar" else ""
            span, code = span_at(text, at, at + 1), "OPT007"
            message = "`!` alone makes the value a text for some readers, and has no effect for others"
            hint = f"delete it; for a text put quotes around the value: {single_quoted(value)}" if value else "delete it"
        elif text[at - 1 : at] == "?" and text[at - 2 : at - 1] in (" ", "{", "[", ",", "\n") and not node.style:
            span = span_at(text, at - 1, node.end_mark.index)
            message = f"`?` before `{_short(str(node.value))}` is YAML syntax, not part of the value"
            hint = f"put quotes around it: {single_quoted('?' + str(node.value))}, or delete the `?`"
        if span is not None:
            yield diagnostic(code, message, path=document.path, span=span, hint=hint)


def _anchors(document: Document) -> Iterator[Diagnostic]:
    """Report anchors that no alias uses. An alias is the same node object as its anchor, so a node reached once has none."""
    odd_anchor = re.compile(_ODD_ANCHOR)
    reached: dict[int, int] = {}
    anchored: dict[int, Node] = {}
    stack = [document.root]
    while stack:
        node = stack.pop()
        reached[id(node)] = reached.get(id(node), 0) + 1
        if reached[id(node)] > 1:
            continue
        if document.text[node.start_mark.index : node.start_mark.index + 1] in ("&", "!"):
            anchored[id(node)] = node
        if node.id != "scalar":
            stack += [each for part in node.value for each in (part if isinstance(part, tuple) else (part,))]
    for key, node in anchored.items():
        match = _ANCHOR.search(document.text, node.start_mark.index, node.end_mark.index)
        if match and reached[key] == 1 and not odd_anchor.match(document.text, match.start()):
            span = Span(position_at(document.text, match.start()), position_at(document.text, match.end(1)))
            gone = span_at(document.text, match.start(), match.end())
            message = f"nothing uses the anchor `&{match[1]}`"
            yield diagnostic("OPT011", message, path=document.path, span=span, hint="delete it", fix=Fix((Edit(gone, ""),)))


def _merges(document: Document) -> Iterator[Diagnostic]:
    for route, node in walk(document.root, ()):
        if node.id != "mapping":
            continue
        # Keys below a `<<` replace what it merges, as everybody expects; those above it do not look so.
        above: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in node.value:
            if key.id == "scalar" and key.value == "<<" and not key.style:
                for part in value.value if value.id == "sequence" else [value]:
                    yield from _overridden(document, route, part, above, merged)
            elif key.id == "scalar":
                above[key.value] = key


def _overridden(
    document: Document, route: Route, part: Node, above: dict[str, Node], merged: dict[str, Node]
) -> Iterator[Diagnostic]:
    for key, _ in part.value if part.id == "mapping" else ():
        if key.id != "scalar":
            continue
        winner = above.get(key.value) or merged.setdefault(key.value, key)
        if winner is not key:
            span = span_of(winner, document.text)
            there = span_of(key, document.text)
            message = f"`{show((*route, key.value))}` is also merged from line {there.start.line}, and this one wins"
            related = (Related("and here", document.path, there),)
            hint = "write it below `<<` if it replaces the merged value" if key.value in above else "delete one of them"
            yield diagnostic("OPT012", message, path=document.path, span=span, hint=hint, related=related)


def _cut(document: Document) -> Iterator[Diagnostic]:
    text = document.text
    cut = list(re.finditer(_CUT, text))
    if not cut:
        return
    nodes = [node for _, node in walk(document.root, ())]
    ends = {node.end_mark.index: node for node in nodes if node.id == "scalar" and not node.style and node.value}

    def tell(comment: tuple[re.Match[str], Node]) -> Diagnostic:
        found, value = comment
        start, span = value.start_mark.index, span_at(text, found.start(1), found.end(1))
        whole = text[start : found.end(1)].rstrip()
        fix = Fix.write(single_quoted(whole), span_at(text, start, start + len(whole)), safe=False)
        message = f"`{_short(found[1])}` is a comment: the value ends before it"
        hint = "put quotes around the value; begin a comment with `# `"
        return diagnostic("OPT021", message, path=document.path, span=span, hint=hint, fix=fix)

    before = ((found, found.start() + len(found[0][: -len(found[1])].rstrip(" \t"))) for found in cut)
    yield from report_first(((found, ends[end]) for found, end in before if end in ends), tell)


def _cut_prompt(document: Document) -> Iterator[Diagnostic]:
    """Report a one-line prompt that a comment after one blank continues like a sentence."""
    source = document.plain(_PROMPT)
    if not isinstance(document.value, dict) or not source:
        return
    end = document.span(_PROMPT).end
    line = document.text.split("\n", end.line)[end.line - 1]
    found = re.compile(_GOES_ON).match(line, end.column - 1)
    if found is None:
        return
    span = Span(Position(end.line, found.start(1) + 1), Position(end.line, found.end(1) + 1))
    message = f"`{_short(found[1])}` is a comment: the prompt ends before it"
    hint = "put quotes around the prompt, or write two blanks before a comment"
    start = document.span(_PROMPT).start
    whole = single_quoted(line[start.column - 1 :].rstrip()) if start.line == end.line else None
    fix = None if whole is None else Fix.write(whole, Span(start, Position(end.line, len(line.rstrip()) + 1)), safe=False)
    yield diagnostic("OPT021", message, path=document.path, span=span, route=_PROMPT, hint=hint, fix=fix)


def _folded(document: Document) -> Iterator[Diagnostic]:
    """Report a prompt below `>`, which joins lines, if it holds a list, a heading or a fence."""
    source = document.source(_PROMPT) if isinstance(document.value, dict) and document.has(_PROMPT) else ""
    if not source.startswith(">"):
        return
    lines = source.split("\n")[1:]
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    for before, line in pairwise(lines):
        if (
            before.strip()
            and line[indent:] == line.lstrip()
            and before[indent:] == before.lstrip()
            and re.match(_ITEM, line.lstrip())
        ):
            start = document.span(_PROMPT).start
            span = Span(start, Position(start.line, start.column + 1))
            message = f"`>` joins the lines of the prompt: `{_short(line.strip())}` continues the line above"
            fix = Fix.write("|", span, safe=False)
            yield diagnostic(
                "OPT024",
                message,
                path=document.path,
                span=span,
                route=_PROMPT,
                hint="write `|`, which keeps the lines",
                fix=fix,
            )
            return


def _blank(document: Document) -> Iterator[Diagnostic]:
    """Report a top-level key without a value, if the schema has a default for it."""
    if not isinstance(document.value, dict):
        return
    for key, value in document.value.items():
        if value is None and document.plain((key,)) == "":
            span = document.key_span((key,))
            from optio.compiler.conversions.entries import as_entry  # imported only for a file with a mistake
            from optio.compiler.edits.fix_edits import delete_key

            form = as_entry(document.value, (key,), document.path)
            message, hint = f"`{key}` has no value", f"delete the line, or write a value: `{form}`"
            fix = None if key in _NEEDED else delete_key(document, (key,), safe=False)
            yield diagnostic("OPT113", message, path=document.path, span=span, route=(key,), hint=hint, fix=fix)


def _short(text: str) -> str:
    return text if len(text) <= 30 else text[:27] + "..."
