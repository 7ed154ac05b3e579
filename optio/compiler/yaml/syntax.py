"""Explain syntax errors of the YAML parser. The library's own messages do not help with the mistakes that people make, so each
reader below recognises one mistake: tabs, templates, missing quotes, a missing `|`, and others."""

import re
from typing import NamedTuple

import yaml

from optio.compiler.diagnostics import Diagnostic, Edit, Fix, diagnostic
from optio.compiler.source import Position, Span, position_at
from optio.compiler.suggest import suggest
from optio.compiler.yaml.nodes import OTHER_BREAKS
from optio.compiler.yaml.scalars import single_quoted
from optio.model.spec import names_of
from optio.model.task import TaskSpec

BLANKS = "\u00a0\u2007\u202f\u3000\ufeff"
_TEMPLATE_VALUE = r"^\s*(?:- +)*(?:[^\s:#][^:#]*:\s+)?(\{\{.*)$"
_TEMPLATE_LINE = r"^\s*(?:\{\{-?\s*(?:if|else|end|range|with|define|include|template|/\*)\b|\{%|<%)|:\s+(?:\{\{-|\{\{\s*\.|<%)"
_TEMPLATED = (
    "template text of Helm, Jinja or ERB is not YAML",
    "task files are not templated: write the values out, or quote the text",
)
_ENDS = ("'", '"', "]", "}")
_BRACKETS = {"[": "]", "{": "}"}
_OPENERS = {closer: opener for opener, closer in _BRACKETS.items()}
_ANCHOR = r"(?:^|[\s\[{,])&([^\s\[\]{},]+)"
_LEADING = rf"^[ ]*([\t{BLANKS}])"
_BLOCK_HEADER = r"^ *(?P<item>- +(?=\S+:))?(?:- +)*(?:[^\s#][^#]*:\s+)?(?P<sign>[|>])[-+]?\s*(?:#.*)?$"
_MAX_INDENTED_LINES = 1_000
_MAX_SHOWN_LENGTH = 60
_NO_COLON = r"^(\s*)([A-Za-z]\w*)\s*(=)?\s*((?<=[ =])[^\s=:].*)$"
_COMMENT = r"\s+#.*$"


class _SyntaxFinding(NamedTuple):
    code: str
    message: str
    hint: str | None
    row: int
    column: int
    width: int = 1
    # Column and text of a value on the line that needs quotes.
    bare: tuple[int, str] | None = None


def explain_syntax_error(err: yaml.YAMLError, path: str, text: str) -> Diagnostic:
    """Return one diagnostic for the parser's error, at the smallest place that can be named."""
    finding = _read(err, text)
    start = Position(finding.row + 1, finding.column + 1)
    rest = len(text.split("\n")[finding.row]) - finding.column
    end = Position(finding.row + 1, finding.column + 1 + max(0, min(finding.width, rest)))
    fix = indent_fix(text, finding.row) if finding.code == "OPT005" else None
    if finding.bare is not None:
        fix = quote_fix(finding.row, *finding.bare)
    return diagnostic(finding.code, finding.message, path=path, span=Span(start, end), hint=finding.hint, fix=fix)


def indent_fix(text: str, row: int) -> Fix | None:
    """Return a fix that writes spaces for other blanks, in this line and in the following ones until a line without them.
    Returns None for tabs, whose width is unknown. Other blanks are as wide as a space, except a byte order mark, which has no
    width."""
    edits, safe = [], True
    for number, line in enumerate(text.split("\n")[row : row + _MAX_INDENTED_LINES], start=row + 1):
        blanks = line[: len(line) - len(line.lstrip(f" \t{BLANKS}"))]
        if line.strip() and not blanks.strip(" "):
            break
        if blanks.strip(" "):
            safe = safe and "\t" not in blanks
            new = re.sub(f"[{BLANKS}]", " ", blanks.replace("\t", "  ").replace("\ufeff", ""))
            edits.append(Edit(Span(Position(number, 1), Position(number, len(blanks) + 1)), new))
    return Fix(tuple(edits), safe) if edits else None


# A field of a payload, in braces: a placeholder has no dot.
_PATH = r"\{\{\s*\$?\.?((?:json\.)?[A-Za-z_]\w*(?:\.\w+)+)\s*\}\}"


def explain_braces(line: str, column: int) -> tuple[str, str]:
    """Return message and hint for a value that begins with `{{`, which YAML reads as a mapping."""
    if re.search(_TEMPLATE_LINE, line):
        return _TEMPLATED
    message, quotes = "the value starts with `{{`", quote_rest(_rest(line, column))
    if (path := re.fullmatch(_PATH, _rest(line, column).rstrip())) is not None:
        return message, f"write `$.{path[1]}` for a path of the body, or put quotes around the text: {quotes}"
    return message, f"put quotes around the value: {quotes}"


def quote_braces_fix(line: str, row: int, column: int) -> Fix | None:
    """Return the fix that puts quotes around a value that begins with `{{`."""
    rest = _rest(line, column)
    is_other = re.search(_TEMPLATE_LINE, line) or re.fullmatch(_PATH, rest.rstrip())
    return None if is_other else quote_fix(row, column, rest)


def _rest(line: str, column: int) -> str:
    """Return the value from the column on: to the end of the line, or between brackets to its comma."""
    before = line[:column]
    inside = before.count("{") + before.count("[") > before.count("}") + before.count("]")
    return _between_brackets(line[column:]) if inside else line[column:]


def _between_brackets(rest: str) -> str:
    """Return the value between brackets: up to the comma, or to the bracket that closes what is around it."""
    depth = 0
    for index, char in enumerate(rest):
        depth += (char in "[{") - (char in "]}")
        if depth < 0 or (char == "," and depth == 0):
            return rest[:index].rstrip()
    return rest


def quote_rest(rest: str) -> str:
    """Return the rest of a line as a quoted value."""
    value = _value(rest)
    return '"..."' if len(value) > 60 else _in_quotes(value)


def quote_fix(row: int, column: int, rest: str) -> Fix:
    """Return the fix that puts quotes around the value from a column on to the end of the line."""
    value = _value(rest)
    start = column + len(rest) - len(rest.lstrip())
    return Fix.write(
        _in_quotes(value), Span(Position(row + 1, start + 1), Position(row + 1, start + 1 + len(value))), safe=False
    )


def _value(rest: str) -> str:
    return re.sub(_COMMENT, "", rest).strip()


def _in_quotes(value: str) -> str:
    return single_quoted(value) if '"' in value or "\\" in value else f'"{value}"'


def _read(err: yaml.YAMLError, text: str) -> _SyntaxFinding:
    mark = getattr(err, "problem_mark", None)
    problem = str(getattr(err, "problem", None) or "the file cannot be read as YAML")
    if mark is None:
        return _SyntaxFinding("OPT001", "the file cannot be read as YAML", "write it again, one key at a time", 0, 0)
    context_mark = getattr(err, "context_mark", None) or mark
    lines = text.split("\n")
    place, start = position_at(text, mark.index), position_at(text, context_mark.index)
    scene = _Scene(lines, problem, str(getattr(err, "context", None) or ""), place, start)
    if lines[0].startswith("%") and scene.row <= 1:
        directive = lines[0].split()[0]
        return scene.at(0, 0, f"`{directive}` does not belong in a task file", "delete it", width=len(lines[0]))
    finding = next((finding for reader in _READERS if (finding := reader(scene)) is not None), None)
    return finding or scene.here(
        problem.replace("did not find expected", "expected").lower(), "check this place and the line above it"
    )


class _Scene:
    """The parser's error with its line, and the line where the broken construct began."""

    def __init__(self, lines: list[str], problem: str, context: str, place: Position, start: Position) -> None:
        self.lines, self.problem, self.context = lines, problem, context
        # The parser counts further characters as line ends; editors do not, so its line numbers are not used.
        self.row, self.column = place.line - 1, place.column - 1
        self.from_row, self.from_column = start.line - 1, start.column - 1
        self.line = lines[self.row]
        self.char = self.line[self.column : self.column + 1]

    def at(
        self,
        row: int,
        column: int,
        message: str,
        hint: str,
        *,
        code: str = "OPT001",
        width: int = 1,
        bare: tuple[int, str] | None = None,
    ) -> _SyntaxFinding:
        """Return a finding at a place; `bare` is the column and text of a value that a fix puts quotes around."""
        return _SyntaxFinding(code, message, hint, row, column, width, bare)

    def here(self, message: str, hint: str, *, code: str = "OPT001", width: int = 1) -> _SyntaxFinding:
        """Return a finding at the place of the parser's error."""
        return self.at(self.row, self.column, message, hint, code=code, width=width)

    def at_start(self, message: str, hint: str, *, code: str = "OPT001") -> _SyntaxFinding:
        """Return a finding where the broken construct began."""
        return self.at(self.from_row, self.from_column, message, hint, code=code)

    def row_above(self, row: int, indent: int) -> int:
        """Return the nearest row above `row` that has text and is indented by no more than `indent` blanks, or -1."""
        rows = range(row - 1, -1, -1)
        return next((i for i in rows if self.lines[i].strip() and _indent_of(self.lines[i]) <= indent), -1)

    def first_text(self, first: int, stop: int) -> str | None:
        """Return the first line with text among the rows from `first` up to `stop`."""
        return next((line for line in self.lines[first:stop] if line.strip()), None)


def _indent_of(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _odd_indent(scene: _Scene) -> _SyntaxFinding | None:
    for row in dict.fromkeys((scene.row, scene.row - 1, scene.from_row, scene.row + 1)):
        if not 0 <= row < len(scene.lines):
            continue
        match = re.match(_LEADING, scene.lines[row])
        if match and scene.lines[row].strip():
            name = "a tab" if match[1] == "\t" else f"U+{ord(match[1]):04X}, a blank other than a space,"
            hint = "use spaces" if match[1] != "\ufeff" else "delete it"
            return scene.at(row, match.start(1), f"{name} is used to indent", hint, code="OPT005")
    return None


def _other_break(scene: _Scene) -> _SyntaxFinding | None:
    """Explain a line end that only YAML 1.1 knows, behind which the unreadable part begins."""
    for row, column in ((scene.from_row, scene.from_column), (scene.row, scene.column)):
        before = scene.lines[row][:column].rstrip(" ")
        if before and OTHER_BREAKS.match(before[-1]):
            message = f"U+{ord(before[-1]):04X}, an invisible character, ends the line for YAML"
            hint = f"delete it, or if it is intended write `\\u{ord(before[-1]):04x}` between double quotes"
            return scene.at(row, len(before) - 1, message, hint)
    return None


def _alias(scene: _Scene) -> _SyntaxFinding | None:
    if scene.problem != "found undefined alias":
        return None
    name = re.match(r"\*([^\s\[\]{},]+)", scene.line[scene.column :])
    word = name[1] if name else ""
    before = "\n".join([*scene.lines[: scene.row], scene.line[: scene.column]])
    near = suggest(word, re.findall(_ANCHOR, before))
    hint = f"did you mean `*{near}`?" if near else f"define the anchor `&{word}` earlier in the file, or put quotes around it"
    return scene.here(f"no anchor `&{word}` comes before this alias", hint, code="OPT010", width=len(word) + 1)


def _block(scene: _Scene) -> _SyntaxFinding | None:
    """Explain a line of a text below `|` whose first line is indented deeper than this one."""
    indent = _indent_of(scene.line)
    row = scene.row_above(scene.row, indent - 1)
    header = re.match(_BLOCK_HEADER, scene.lines[row]) if row >= 0 else None
    if header is None or not scene.problem.startswith(("did not find expected", "could not find expected")):
        return None
    if _indent_of(scene.first_text(row + 1, scene.row) or "") <= indent:
        return None
    sign = header["sign"]
    message = f"the text below `{sign}` ends here: its first line is indented deeper than this one"
    instead = f", or write `{sign}{indent - _indent_of(scene.lines[row])}` for `{sign}`" if not header["item"] else ""
    return scene.at(scene.row, indent, message, f"indent it like the first line{instead}")


def _outdented(scene: _Scene) -> _SyntaxFinding | None:
    """Explain a line of a text below `|` that is indented no deeper than the key of that text."""
    if not scene.problem.startswith(("did not find expected key", "could not find expected ':'")):
        return None
    row = scene.from_row if scene.problem.startswith("could") else scene.row
    indent = _indent_of(scene.lines[row])
    header_row = scene.row_above(row, indent)
    header = re.match(_BLOCK_HEADER, scene.lines[header_row]) if header_row >= 0 else None
    text = scene.first_text(header_row + 1, row)
    if header is None or text is None:
        return None
    message = f"the text below `{header['sign']}` ends before this line, which is not a key"
    by = f", by {_indent_of(text)} blanks" if _indent_of(text) > 1 else ""
    return scene.at(row, indent, message, f"indent it like the text above{by}")


def _no_key(scene: _Scene) -> _SyntaxFinding | None:
    """Explain `name value`, `name = value` and `name:value`, which YAML reads as one text."""
    if not scene.problem.startswith(("mapping values are not allowed", "could not find expected ':'")):
        return None
    row_above = next((row for row in range(scene.row - 1, -1, -1) if scene.lines[row].strip()), scene.row)
    for row in dict.fromkeys((scene.from_row, row_above)):
        line = scene.lines[row]
        if (entry := re.match(_NO_COLON, line)) and (entry[3] or entry[2] in names_of(TaskSpec)):
            hint = f"write `{entry[2]}: {entry[4][:_MAX_SHOWN_LENGTH].strip()}`"
            return scene.at(row, entry.start(2), "a line that is not `key: value`", hint)
        if entry := re.match(r"^(\s*(?:- +)*)([A-Za-z][\w-]*):(?!//)([^\s:].*)$", line):
            hint = f"write `{entry[2]}: {entry[3].strip()[:_MAX_SHOWN_LENGTH]}`"
            return scene.at(row, entry.end(2), f"no blank follows `{entry[2]}:`, so it is not a key", hint)
    return None


def _template(scene: _Scene) -> _SyntaxFinding | None:
    for row in dict.fromkeys((scene.row, scene.from_row)):
        line = scene.lines[row]
        if engine := re.search(_TEMPLATE_LINE, line):
            return scene.at(row, _indent_of(line) if engine.start() == 0 else engine.start() + 2, *_TEMPLATED, width=2)
        if value := re.match(_TEMPLATE_VALUE, line):
            start = value.start(1)
            return scene.at(row, start, *explain_braces(line, start), width=2, bare=(start, value[1]))
    return None


def _first_character(scene: _Scene) -> _SyntaxFinding | None:
    """Explain a value that begins with a character reserved by YAML: `*/5 * * * *`, `@daily`, `%x`, a backquote."""
    row, column = scene.row, scene.column
    if scene.context in ("while scanning an alias", "while scanning an anchor"):
        row, column = scene.from_row, scene.from_column
    elif scene.problem != "found character that cannot start any token":
        return None
    line = scene.lines[row]
    char = line[column : column + 1]
    if not char.strip():
        return None
    name = "a backquote" if char == "`" else f"`{char}`"
    value = _rest(line, column)
    hint = f"put quotes around the value: {quote_rest(value)}"
    return scene.at(row, column, f"an unquoted value cannot begin with {name}", hint, bare=(column, value))


def _colon(scene: _Scene) -> _SyntaxFinding | None:
    if scene.problem != "mapping values are not allowed in this context":
        return None
    entry = re.match(r"^(\s*(?:- +)?)([^\s:][^:]*):\s+(\S.*)$", scene.line)
    if entry and scene.column > entry.start(3):
        value = entry[3].split(" #")[0]
        message, hint = f"`: ` inside the unquoted value of `{entry[2]}`", f"put quotes around the value: {quote_rest(value)}"
        return scene.at(scene.row, scene.column, message, hint, bare=(entry.start(3), value))
    indent = _indent_of(scene.line)
    # Several lines below a key without `|`, one of which has a colon.
    row = scene.row_above(scene.row, indent - 1)
    key = re.match(r"^\s*(?:- +)*([A-Za-z]\w*):\s*$", scene.lines[row]) if row >= 0 else None
    first = scene.first_text(row + 1, scene.row + 1) or ""
    if key is not None and not re.match(r"^\s*(?:- |[\w-]+:(?:\s|$))", first):
        message = f"the lines below `{key[1]}:` are read as keys, not as one text"
        return scene.at(row, key.start(1), message, f"write `{key[1]}: |`", width=len(key[1]))
    message = "indented deeper than the key above, which already has a value"
    return scene.at(scene.row, indent, message, "line it up with the key above")


def _escape(scene: _Scene) -> _SyntaxFinding | None:
    if "escape" not in scene.problem and "hexdecimal" not in scene.problem:
        return None
    start = max(0, scene.line.rfind("\\", 0, scene.column + 1))
    if code := re.match(r"\\[xuU][0-9a-fA-F]*", scene.line[start:]):
        hint = "write the character itself, or the code point that it has"
        return scene.at(scene.row, start, f"`{code[0]}` is not a character", hint, width=len(code[0]))
    message = f"unknown escape `{scene.line[start : start + 2]}` in double quotes"
    return scene.at(scene.row, start, message, "use single quotes, or double the backslash", width=2)


def _after_end(scene: _Scene) -> _SyntaxFinding | None:
    """Explain text behind a value that has ended with a quote or a bracket."""
    before = scene.line[: scene.column].rstrip()
    is_behind = scene.problem.startswith("did not find expected") and before[-1:] in _ENDS
    if not is_behind or scene.char in _OPENERS:
        return None
    if (sign := scene.line[scene.column :].split(" #")[0].strip()) in (",", ";"):
        return scene.here(f"`{sign}` behind a value", "delete it")
    closing = "quote" if before[-1] in "'\"" else "bracket"
    value = re.match(r"^\s*(?:- +)*(?:[^\s:#\"'\[{][^:#]*:\s+)?(.*)$", scene.line)
    quoted_value = _requoted(value[1].strip() if value else "")
    hint = f"put quotes around the whole value: {quoted_value}" if quoted_value else "put quotes around the whole value"
    return scene.here(f"text after the closing {closing}", hint)


def _requoted(value: str) -> str | None:
    """Return a value that ends too early, in quotes of the other kind."""
    inner = value[1:-1] if value[:1] == value[-1:] and value[:1] in ("'", '"') else value
    if not inner or len(inner) > _MAX_SHOWN_LENGTH or "\\" in inner or " #" in inner:
        return None
    return single_quoted(inner) if '"' in inner or value[:1] not in ("'", '"') else f'"{inner}"'


def _bracket(scene: _Scene) -> _SyntaxFinding | None:
    closer = {"while parsing a flow sequence": "]", "while parsing a flow mapping": "}"}.get(scene.context)
    if scene.char in _OPENERS and scene.char != closer:
        return scene.here(f"`{scene.char}` without `{_OPENERS[scene.char]}`", "delete it")
    if closer is None:
        return None
    if scene.char in (*_BRACKETS, '"', "'") and scene.line[scene.column - 1 : scene.column].strip():
        start = max(scene.line.rfind(sign, 0, scene.column) for sign in (": ", ", ", "[", "{"))
        start += len(scene.line[start:]) - len(scene.line[start:].lstrip(":,[{ "))
        value = _between_brackets(scene.line[start:])
        message = f"an unquoted value ends before `{scene.char}` between brackets"
        hint = f"put quotes around the value: {quote_rest(value)}"
        return scene.at(scene.row, scene.column, message, hint, bare=(start, value) if value and start >= 0 else None)
    if scene.row == scene.from_row:
        return scene.here(f"`,` or `{closer}` is missing here", f"separate items with `, ` and end with `{closer}`")
    return scene.at_start(f"the `{_OPENERS[closer]}` that begins here is not closed", f"close it with `{closer}`")


class _Explanation(NamedTuple):
    """The explanation of a message of the parser: how message or context begin, and where the finding stands."""

    begins: str | tuple[str, ...]
    message: str
    hint: str
    is_at_start: bool = False
    code: str = "OPT001"


_EXPLANATIONS = (
    _Explanation(
        "while scanning a quoted scalar", "the quote that begins here is not closed", "close it with the same quote", True
    ),
    _Explanation("found duplicate anchor", "an anchor is set twice", "give one of them another name"),
    _Explanation(
        ("while parsing a tag", "while scanning a tag", "found undefined tag"),
        "a tag that cannot be read",
        "remove it, or put quotes around the value",
        is_at_start=True,
        code="OPT007",
    ),
    _Explanation("exceeded max", "nested too deeply", "write it with fewer levels: at most 64", code="OPT014"),
    _Explanation(
        "could not find expected ':'",
        "a line that is not `key: value`",
        "write `key: value`, or put longer text below `|`",
        True,
    ),
    _Explanation(
        "block sequence entries are not allowed",
        "a list item on the line of its key",
        "begin each `- ` on its own line below the key",
    ),
    _Explanation("mapping keys are not allowed", "a value cannot begin with `? `", "put quotes around the value"),
    _Explanation(
        "did not find expected <document start>", "indented less than the lines above", "line up all keys of the document"
    ),
    _Explanation(
        "did not find expected '-' indicator",
        "a key where a list item is expected",
        "begin it with `- `, or indent it below the item",
    ),
    _Explanation(
        "did not find expected comment or line break",
        "text on the line of `|` or `>`",
        "begin the text on the next line, indented",
    ),
    _Explanation("did not find expected key", "indented differently from the keys above", "line it up with the keys above"),
    _Explanation(
        "did not find expected node content",
        "a value is missing or begins with a reserved character",
        "put quotes around the value",
    ),
)


def _plainly(scene: _Scene) -> _SyntaxFinding | None:
    """Explain an error by the parser's message alone."""
    texts = (scene.problem, scene.context)
    known_error = next(
        (known_error for known_error in _EXPLANATIONS if any(text.startswith(known_error.begins) for text in texts)), None
    )
    if known_error is None:
        return None
    row, column = (scene.from_row, scene.from_column) if known_error.is_at_start else (scene.row, scene.column)
    if row >= len(scene.lines) - 1 and not scene.lines[row]:
        row, column = max(0, row - 1), 0
    return scene.at(row, column, known_error.message, known_error.hint, code=known_error.code)


_READERS = (
    *(_other_break, _alias, _block, _outdented, _template, _odd_indent, _first_character, _no_key, _colon, _escape),
    *(_after_end, _bracket, _plainly),
)
