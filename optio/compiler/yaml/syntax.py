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
    line: int
    column: int
    width: int = 1
    # Column and text of a value on the line that needs quotes.
    bare: tuple[int, str] | None = None


def explain_syntax_error(err: yaml.YAMLError, path: str, text: str) -> Diagnostic:
    """Return one diagnostic for the parser's error, at the smallest place that can be named."""
    slip = _read(err, text)
    start = Position(slip.line + 1, slip.column + 1)
    rest = len(text.split("\n")[slip.line]) - slip.column
    end = Position(slip.line + 1, slip.column + 1 + max(0, min(slip.width, rest)))
    fix = indent_fix(text, slip.line) if slip.code == "OPT005" else None
    if slip.bare is not None:
        fix = quote_fix(slip.line, *slip.bare)
    return diagnostic(slip.code, slip.message, path=path, span=Span(start, end), hint=slip.hint, fix=fix)


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
        return _SyntaxFinding(
            "OPT001", f"`{lines[0].split()[0]}` does not belong in a task file", "delete it", 0, 0, len(lines[0])
        )
    for reader in _READERS:
        slip = reader(scene)
        if slip is not None:
            return slip
    fact = problem.replace("did not find expected", "expected").lower()
    return _SyntaxFinding("OPT001", fact, "check this place and the line above it", scene.row, scene.column)


class _Scene:
    """The parser's error with its line, and the line where the broken construct began."""

    def __init__(self, lines: list[str], problem: str, context: str, place: Position, start: Position) -> None:
        self.lines, self.problem, self.context = lines, problem, context
        # The parser counts further characters as line ends; editors do not, so its line numbers are not used.
        self.row, self.column = place.line - 1, place.column - 1
        self.from_row, self.from_column = start.line - 1, start.column - 1
        self.line = lines[self.row]
        self.from_line = lines[self.from_row]
        self.char = self.line[self.column : self.column + 1]


def _indent(scene: _Scene) -> _SyntaxFinding | None:
    for row in dict.fromkeys((scene.row, scene.row - 1, scene.from_row, scene.row + 1)):
        if not 0 <= row < len(scene.lines):
            continue
        match = re.match(_LEADING, scene.lines[row])
        if match and scene.lines[row].strip():
            name = "a tab" if match[1] == "\t" else f"U+{ord(match[1]):04X}, a blank other than a space,"
            hint = "use spaces" if match[1] != "\ufeff" else "delete it"
            return _SyntaxFinding("OPT005", f"{name} is used to indent", hint, row, match.start(1))
    return None


def _other_break(scene: _Scene) -> _SyntaxFinding | None:
    """Explain a line end that only YAML 1.1 knows, behind which the unreadable part begins."""
    for row, column in ((scene.from_row, scene.from_column), (scene.row, scene.column)):
        before = scene.lines[row][:column].rstrip(" ")
        if before and OTHER_BREAKS.match(before[-1]):
            message = f"U+{ord(before[-1]):04X}, an invisible character, ends the line for YAML"
            hint = f"delete it, or if it is intended write `\\u{ord(before[-1]):04x}` between double quotes"
            return _SyntaxFinding("OPT001", message, hint, row, len(before) - 1)
    return None


def _alias(scene: _Scene) -> _SyntaxFinding | None:
    if scene.problem != "found undefined alias":
        return None
    name = re.match(r"\*([^\s\[\]{},]+)", scene.line[scene.column :])
    word = name[1] if name else ""
    before = "\n".join([*scene.lines[: scene.row], scene.line[: scene.column]])
    near = suggest(word, re.findall(_ANCHOR, before))
    hint = f"did you mean `*{near}`?" if near else f"define the anchor `&{word}` earlier in the file, or put quotes around it"
    return _SyntaxFinding(
        "OPT010", f"no anchor `&{word}` comes before this alias", hint, scene.row, scene.column, len(word) + 1
    )


def _twice(scene: _Scene) -> _SyntaxFinding | None:
    if "duplicate anchor" not in scene.context:
        return None
    name = re.match(r"&([^\s\[\]{},]+)", scene.line[scene.column :])
    word = name[1] if name else ""
    hint = f"first at {scene.from_row + 1}:{scene.from_column + 1}: give one of them another name"
    return _SyntaxFinding("OPT001", f"the anchor `&{word}` is set twice", hint, scene.row, scene.column, len(word) + 1)


def _tag(scene: _Scene) -> _SyntaxFinding | None:
    if "tag" not in scene.problem and "tag" not in scene.context:
        return None
    return _SyntaxFinding(
        "OPT007", "a tag that cannot be read", "remove it, or put quotes around the value", scene.from_row, scene.from_column
    )


def _depth(scene: _Scene) -> _SyntaxFinding | None:
    if "nesting" not in scene.problem and "depth" not in scene.problem:
        return None
    return _SyntaxFinding("OPT014", "nested too deeply", "write it with fewer levels: at most 64", scene.row, scene.column)


def _block(scene: _Scene) -> _SyntaxFinding | None:
    """Explain a line of a text below `|` whose first line is indented deeper than this one."""
    indent = _indent_of(scene.line)
    for row in range(scene.row - 1, -1, -1):
        line = scene.lines[row]
        header = re.match(_BLOCK_HEADER, line)
        if header and _indent_of(line) < indent:
            text = next((each for each in scene.lines[row + 1 : scene.row] if each.strip()), "")
            if _indent_of(text) <= indent or not scene.problem.startswith(("did not find expected", "could not find expected")):
                return None
            sign = header["sign"]
            message = f"the text below `{sign}` ends here: its first line is indented deeper than this one"
            instead = f", or write `{sign}{indent - _indent_of(line)}` for `{sign}`" if not header["item"] else ""
            return _SyntaxFinding("OPT001", message, f"indent it like the first line{instead}", scene.row, indent)
        if line.strip() and _indent_of(line) <= indent:
            return None
    return None


def _outdented(scene: _Scene) -> _SyntaxFinding | None:
    """Explain a line of a text below `|` that is indented no deeper than the key of that text."""
    if not scene.problem.startswith(("did not find expected key", "could not find expected ':'")):
        return None
    row = scene.from_row if scene.problem.startswith("could") else scene.row
    above = row - 1
    while above >= 0 and (not scene.lines[above].strip() or _indent_of(scene.lines[above]) > _indent_of(scene.lines[row])):
        above -= 1
    header = re.match(_BLOCK_HEADER, scene.lines[above]) if above >= 0 else None
    text = next((line for line in scene.lines[above + 1 : row] if line.strip()), None) if header else None
    if header is None or text is None:
        return None
    message = f"the text below `{header['sign']}` ends before this line, which is not a key"
    hint = (
        f"indent it like the text above, by {_indent_of(text)} blanks"
        if _indent_of(text) > 1
        else "indent it like the text above"
    )
    return _SyntaxFinding("OPT001", message, hint, row, _indent_of(scene.lines[row]))


def _no_blank(scene: _Scene) -> _SyntaxFinding | None:
    """Explain `name:value`, which YAML reads as one text."""
    if not scene.problem.startswith(("mapping values are not allowed", "could not find expected ':'")):
        return None
    above = next((row for row in range(scene.row - 1, -1, -1) if scene.lines[row].strip()), scene.row)
    for row in dict.fromkeys((scene.from_row, above)):
        if (keyed := re.match(_NO_COLON, scene.lines[row])) and (keyed[3] or keyed[2] in names_of(TaskSpec)):
            return _SyntaxFinding(
                "OPT001",
                "a line that is not `key: value`",
                f"write `{keyed[2]}: {keyed[4][:_MAX_SHOWN_LENGTH].strip()}`",
                row,
                keyed.start(2),
            )
        match = re.match(r"^(\s*(?:- +)*)([A-Za-z][\w-]*):(?!//)([^\s:].*)$", scene.lines[row])
        if match is not None:
            hint = f"write `{match[2]}: {match[3].strip()[:_MAX_SHOWN_LENGTH]}`"
            return _SyntaxFinding("OPT001", f"no blank follows `{match[2]}:`, so it is not a key", hint, row, match.end(2), 1)
    return None


def _indent_of(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _template(scene: _Scene) -> _SyntaxFinding | None:
    for row in dict.fromkeys((scene.row, scene.from_row)):
        line = scene.lines[row]
        engine = re.search(_TEMPLATE_LINE, line)
        if engine:
            start = len(line) - len(line.lstrip(" ")) if engine.start() == 0 else engine.start() + 2
            message, hint = _TEMPLATED
            return _SyntaxFinding("OPT001", message, hint, row, start, 2)
        value = re.match(_TEMPLATE_VALUE, line)
        if value:
            message, hint = explain_braces(line, value.start(1))
            return _SyntaxFinding("OPT001", message, hint, row, value.start(1), 2, (value.start(1), value[1]))
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
    shown = "a backquote" if char == "`" else f"`{char}`"
    value = _rest(line, column)
    hint = f"put quotes around the value: {quote_rest(value)}"
    return _SyntaxFinding("OPT001", f"an unquoted value cannot begin with {shown}", hint, row, column, bare=(column, value))


def _colon(scene: _Scene) -> _SyntaxFinding | None:
    if scene.problem != "mapping values are not allowed in this context":
        return None
    key = re.match(r"^(\s*(?:- +)?)([^\s:][^:]*):\s+(\S.*)$", scene.line)
    if key and scene.column > key.start(3):
        value = key[3].split(" #")[0]
        return _SyntaxFinding(
            "OPT001", f"`: ` inside the unquoted value of `{key[2]}`", f"put quotes around the value: {quote_rest(value)}",
            scene.row, scene.column, bare=(key.start(3), value),
        )  # fmt: skip
    if (text := _text_without_block_sign(scene)) is not None:
        return text
    return _SyntaxFinding(
        "OPT001", "indented deeper than the key above, which already has a value", "line it up with the key above",
        scene.row, len(scene.line) - len(scene.line.lstrip(" ")),
    )  # fmt: skip


def _text_without_block_sign(scene: _Scene) -> _SyntaxFinding | None:
    """Explain several lines below a key without `|`, one of which has a colon."""
    indent, row = _indent_of(scene.line), scene.row - 1
    while row >= 0 and (not scene.lines[row].strip() or _indent_of(scene.lines[row]) >= indent):
        row -= 1
    key = re.match(r"^\s*(?:- +)*([A-Za-z]\w*):\s*$", scene.lines[row]) if row >= 0 else None
    first = next((line for line in scene.lines[row + 1 : scene.row + 1] if line.strip()), "")
    if key is None or re.match(r"^\s*(?:- |[\w-]+:(?:\s|$))", first):
        return None
    message = f"the lines below `{key[1]}:` are read as keys, not as one text"
    return _SyntaxFinding("OPT001", message, f"write `{key[1]}: |`", row, key.start(1), len(key[1]))


def _quote(scene: _Scene) -> _SyntaxFinding | None:
    if scene.context == "while scanning a quoted scalar":
        quote = scene.from_line[scene.from_column : scene.from_column + 1]
        return _SyntaxFinding(
            "OPT001", "the quote that begins here is not closed", f"close it with `{quote}`", scene.from_row, scene.from_column
        )
    if "escape" in scene.problem or "hexdecimal" in scene.problem:
        start = max(0, scene.line.rfind("\\", 0, scene.column + 1))
        code = re.match(r"\\[xuU][0-9a-fA-F]*", scene.line[start:])
        if code:
            hint = "write the character itself, or the code point that it has"
            return _SyntaxFinding("OPT001", f"`{code[0]}` is not a character", hint, scene.row, start, len(code[0]))
        escape = scene.line[start : start + 2]
        hint = "use single quotes, or double the backslash"
        return _SyntaxFinding("OPT001", f"unknown escape `{escape}` in double quotes", hint, scene.row, start, 2)
    before = scene.line[: scene.column].rstrip()
    if scene.problem.startswith("did not find expected") and before[-1:] in _ENDS and scene.char not in ("]", "}"):
        sign = "quote" if before[-1] in "'\"" else "bracket"
        value = re.match(r"^\s*(?:- +)*(?:[^\s:#\"'\[{][^:#]*:\s+)?(.*)$", scene.line)
        whole = _requoted(value[1].strip() if value else "")
        hint = f"put quotes around the whole value: {whole}" if whole else _AFTER[sign]
        if (odd := scene.line[scene.column :].split(" #")[0].strip()) in (",", ";"):
            return _SyntaxFinding("OPT001", f"`{odd}` behind a value", "delete it", scene.row, scene.column)
        return _SyntaxFinding("OPT001", f"text after the closing {sign}", hint, scene.row, scene.column)
    return None


_ENDS = ("'", '"', "]", "}")


def _requoted(value: str) -> str | None:
    """Return a value that ends too early, in quotes of the other kind."""
    inner = value[1:-1] if value[:1] == value[-1:] and value[:1] in ("'", '"') else value
    if not inner or len(inner) > _MAX_SHOWN_LENGTH or "\\" in inner or " #" in inner:
        return None
    return single_quoted(inner) if '"' in inner or value[:1] not in ("'", '"') else f'"{inner}"'


def _bracket(scene: _Scene) -> _SyntaxFinding | None:
    flow = {"while parsing a flow sequence": "]", "while parsing a flow mapping": "}"}.get(scene.context)
    if scene.char in ("]", "}") and scene.char != flow:
        opener = {"]": "[", "}": "{"}[scene.char]
        return _SyntaxFinding("OPT001", f"`{scene.char}` without `{opener}`", "delete it", scene.row, scene.column)
    if flow is None:
        return None
    closer, opener = flow, {"]": "[", "}": "{"}[flow]
    if scene.char in ("[", "{", '"', "'") and scene.line[scene.column - 1 : scene.column].strip():
        start = max(scene.line.rfind(sign, 0, scene.column) for sign in (": ", ", ", "[", "{"))
        start += len(scene.line[start:]) - len(scene.line[start:].lstrip(":,[{ "))
        value = _between_brackets(scene.line[start:])
        hint, message = (
            f"put quotes around the value: {quote_rest(value)}",
            f"an unquoted value ends before `{scene.char}` between brackets",
        )
        return _SyntaxFinding(
            "OPT001", message, hint, scene.row, scene.column, bare=(start, value) if value and start >= 0 else None
        )
    if scene.row == scene.from_row:
        return _SyntaxFinding(
            "OPT001",
            f"`,` or `{closer}` is missing here",
            f"separate items with `, ` and end with `{closer}`",
            scene.row,
            scene.column,
        )
    return _SyntaxFinding(
        "OPT001",
        f"the `{opener}` that begins here is not closed",
        f"close it with `{closer}`",
        scene.from_row,
        scene.from_column,
    )


def _layout(scene: _Scene) -> _SyntaxFinding | None:
    for beginning, message, hint, at_start in _LAYOUT:
        if scene.problem.startswith(beginning):
            row, column = (scene.from_row, scene.from_column) if at_start else (scene.row, scene.column)
            if row >= len(scene.lines) - 1 and not scene.lines[row]:
                row, column = max(0, row - 1), 0
            return _SyntaxFinding("OPT001", message, hint, row, column)
    return None


_AFTER = {
    "quote": "put the whole value between the quotes; write '' for a quote inside single quotes",
    "bracket": "put quotes around the whole value",
}
# (beginning of the parser's message, Optio's message, hint, whether to point at the beginning of the construct).
_LAYOUT = (
    (
        "could not find expected ':'",
        "a line that is not `key: value`",
        "write `key: value`, or put longer text below `|`",
        True,
    ),
    (
        "block sequence entries are not allowed",
        "a list item on the line of its key",
        "begin each `- ` on its own line below the key",
        False,
    ),
    ("mapping keys are not allowed", "a value cannot begin with `? `", "put quotes around the value", False),
    (
        "did not find expected <document start>",
        "indented less than the lines above",
        "line up all keys of the document",
        False,
    ),
    (
        "did not find expected '-' indicator",
        "a key where a list item is expected",
        "begin it with `- `, or indent it below the item",
        False,
    ),
    (
        "did not find expected comment or line break",
        "text on the line of `|` or `>`",
        "begin the text on the next line, indented",
        False,
    ),
    ("did not find expected key", "indented differently from the keys above", "line it up with the keys above", False),
    (
        "did not find expected node content",
        "a value is missing or begins with a reserved character",
        "put quotes around the value",
        False,
    ),
)
_READERS = (
    _other_break,
    _alias,
    _twice,
    _depth,
    _block,
    _outdented,
    _template,
    _indent,
    _tag,
    _first_character,
    _no_blank,
    _colon,
    _quote,
    _bracket,
    _layout,
)
