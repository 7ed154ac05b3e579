"""Read shell commands without running them: the variables that they expand, and quotes that are not closed. The reader is
conservative and reports nothing where shells differ."""

import re
import shlex
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_VARIABLE = r"(?a)\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)([^}]*)\})"
_SET = r"(?a)(?:^|[\s;&|(])(?:(?:export|local|readonly|declare|for|read|typeset)\s+(?:-\w+\s+)*)?([A-Za-z_]\w*)(?==|\s+in\b)"
_READ = r"(?a)\b(?:read|export|unset)\s+(?:-\w+\s+)*([A-Za-z_][\w \t]*)"
_JOINED = re.compile(r"(&&|\|\||\|)\s*$")
_BEGINS = re.compile(r"\s*(&&|\|\||\||;)")
_SHELL = r"(?<![\w./-])(?:(?:/usr)?/bin/)?(?:ba|da|z|k|a)?sh"
_EVALUATES = rf"(?:(?<![\w./-])eval|{_SHELL}[ \t]{{1,9}}(?:-\w{{1,9}}[ \t]{{1,9}}){{0,4}}-\w{{0,5}}c)[ \t]{{1,9}}(?=[\"$])"
_PIPED_TO_SHELL = (
    rf"OPTIO_PARAMS_FILE[^;&\n]{{0,200}}\|[ \t]{{0,9}}{_SHELL}(?:[ \t]{{1,9}}-\w{{1,9}}){{0,3}}[ \t]{{0,9}}(?=\Z|[;&\n)])"
)
_QUOTED_DOCUMENT = r"(?s)<<-?[ \t]{0,9}['\"](\w{1,80})['\"][^\n]*\n(.*?)(?=\n[ \t]{0,80}\1[ \t]{0,9}(?:\n|\Z)|\Z)"
_MAX_EVALUATED = 1000
_MAX_SPLIT_LENGTH = 20_000
_ENDS = frozenset("();<>|&\n")
# Words before the name of a program.
_BEFORE_PROGRAM = frozenset({"sudo", "exec", "time", "env", "then", "do", "if", "!", "while", "command", "nohup"})
# Linux limits an argument to this length, so longer commands are wrong anyway.
_MAX_COMMAND_LENGTH = 128 * 1024
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_WORD_ENDS = " \t\n;&|()"
_SIGNS = re.compile(r"[\\\"'$()#]")


class Variable(NamedTuple):
    """A use of `$NAME` or `${NAME}` that the shell expands. `guarded` is set where the command says what happens without a
    value, such as `${NAME:-default}`."""

    name: str
    text: str
    guarded: bool


class Evaluated(NamedTuple):
    """A text that the command runs as a command, as it is written (`$NAME`, `$(jq ...)`), and where it stands."""

    source: str
    start: int
    end: int


class ShellError(NamedTuple):
    """A syntax error that every shell would report, with the range of characters to show."""

    message: str
    hint: str
    start: int
    end: int


def unset_variables(text: str) -> Iterator[Variable]:
    """Yield the variables that the command expands and does not set itself, each once."""
    if "$" not in text or len(text) > _MAX_COMMAND_LENGTH:
        return
    own_names = set(re.findall(_SET, text)) | {name for names in re.findall(_READ, text) for name in names.split()}
    single = single_quoted_ranges(text)
    for match in re.finditer(_VARIABLE, text):
        name = match[1] or match[2]
        if name not in own_names and not is_in_ranges(single, match.start()) and not _escaped(text, match.start()):
            own_names.add(name)
            yield Variable(name, match[0], bool(match[3]))


def simple_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each simple command of a text, without quotes. Yields nothing for here-documents, and for text whose
    quotes are not closed."""
    if len(text) > _MAX_SPLIT_LENGTH or "<<" in text:
        return
    lexer = shlex.shlex(text, posix=True, punctuation_chars="".join(sorted(_ENDS)))
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    try:
        tokens = list(lexer)
    except ValueError:
        return
    words: list[str] = []
    is_comment = False
    for token in (*tokens, "\n"):
        if token and _ENDS.issuperset(token):
            is_comment = is_comment and "\n" not in token
            if words and not token.startswith((">", "<")):
                yield words
                words = []
        elif token.startswith("#") or is_comment:
            is_comment = True
        else:
            words.append(token)


def call_of(words: Sequence[str]) -> list[str]:
    """Return a simple command from the name of its program on, without the program's directory and without `python -m`."""
    start = next(
        (at for at, word in enumerate(words) if word not in _BEFORE_PROGRAM and not _ASSIGNMENT.match(word)), len(words)
    )
    program, arguments = (words[start].rpartition("/")[2] if start < len(words) else ""), list(words[start + 1 :])
    if program in ("python", "python3") and arguments[:1] == ["-m"]:
        return arguments[1:]
    return [program, *arguments] if program else []


def evaluated(text: str) -> Iterator[Evaluated]:
    """Yield what `eval`, `sh -c` and `| sh` run, where that holds a variable, the output of a command or the parameters."""
    if len(text) > _MAX_COMMAND_LENGTH:
        return
    single = single_quoted_ranges(text)
    for match in re.finditer(_EVALUATES, text):
        if not is_in_ranges(single, match.start()):
            for start, end in _expansions(text[match.end() : match.end() + _MAX_EVALUATED]):
                yield Evaluated(text[match.end() + start : match.end() + end], match.start(), match.end() + end)
    for match in re.finditer(_PIPED_TO_SHELL, text):
        start = max(text.rfind(sign, 0, match.start()) for sign in ";&\n") + 1
        start += len(text[start:]) - len(text[start:].lstrip())
        yield Evaluated(text[start : match.end()], start, match.end())


def _expansions(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the word at the beginning of the text, perhaps in double quotes, has variables and `$(...)`."""
    at, quote = (1, True) if text[:1] == '"' else (0, False)
    while at < len(text) and text[at] not in ('"' if quote else " \t\n;&|"):
        match = re.match(_VARIABLE, text[at:])
        end = at + len(match[0]) if match else at + _end_of_bracket(text[at:])
        if end > at:
            yield at, end
        at = max(end, at + (2 if text[at] == "\\" else 1))


def _end_of_bracket(text: str) -> int:
    """Return the end of the `$(...)` at the beginning of the text, or 0."""
    depth = 0
    for match in re.finditer(r"[()]", text) if text.startswith("$(") else ():
        depth += 1 if match[0] == "(" else -1
        if not depth:
            return match.end()
    return 0


def single_quoted_ranges(text: str) -> list[tuple[int, int]]:
    """Return the ranges between single quotes and in here-documents with a quoted word, in which a shell expands nothing."""
    if len(text) > _MAX_COMMAND_LENGTH:
        return []
    documents = [match.span(2) for match in re.finditer(_QUOTED_DOCUMENT, text)] if "<<" in text else []
    return sorted([*documents, *_Scan(without_documents(text)).single])


def without_documents(text: str) -> str:
    """Return a command with blanks in the place of here-documents with a quoted word."""
    if "<<" not in text:
        return text
    return re.sub(_QUOTED_DOCUMENT, lambda match: match[0].replace(match[2], re.sub(r"[^\n]", " ", match[2])), text)


def is_in_ranges(ranges: Sequence[tuple[int, int]], at: int) -> bool:
    """Return True if the offset `at` lies in one of the sorted half-open ranges."""
    index = bisect_left(ranges, (at, 0)) - 1
    return index >= 0 and at < ranges[index][1]


def find_shell_error(text: str) -> ShellError | None:
    """Return the first syntax error of a command. Returns None for commands with here-documents, backquotes or `$'...'`, which
    this reader does not follow."""
    begins = _BEGINS.match(text)
    if begins is not None:
        hint = "delete it, or put the command before it into this entry"
        return ShellError(f"a command cannot begin with `{begins[1]}`", hint, begins.start(1), begins.end(1))
    if len(text) > _MAX_COMMAND_LENGTH or any(sign in text for sign in ("<<", "`", "$'")):
        return None
    scan = _Scan(text)
    if scan.unclosed is not None:
        sign = text[scan.unclosed]
        return ShellError(
            f"the `{sign}` that begins here is not closed", f"close it with `{sign}`", scan.unclosed, scan.unclosed + 1
        )
    joined = _JOINED.search(text, 0, scan.end)
    if joined is not None and not _escaped(text, joined.start()) and not is_in_ranges(scan.comments, joined.start()):
        hint = (
            f"delete `{joined[1]}`: each entry is a whole command, and a failed one ends the set-up anyway; or write the next"
        )
        return ShellError(f"nothing follows `{joined[1]}`", hint, joined.start(1), joined.end(1))
    return None


def _escaped(text: str, at: int) -> bool:
    first = at
    while text[first - 1 : first] == "\\":
        first -= 1
    return (at - first) % 2 == 1


class _Scan:
    """One walk through the quotes, comments and `$(...)` of a command. `single` holds the ranges between single quotes, and
    `comments` those of comments that end with their line."""

    def __init__(self, text: str) -> None:
        self.single: list[tuple[int, int]] = []
        self.comments: list[tuple[int, int]] = []
        self.unclosed: int | None = None
        self.end = len(text)
        # Offsets of the double quotes and `$(` that are still open. Quoting starts again inside `$(...)`.
        self._opened: list[tuple[str, int]] = []
        at = 0
        while self.unclosed is None and (match := _SIGNS.search(text, at)) is not None:
            at = self._read(text, match.start()) + 1
        # A `case` has unbalanced brackets, so an open bracket alone proves nothing.
        if self.unclosed is None:
            self.unclosed = next((place for sign, place in reversed(self._opened) if sign == '"'), None)

    def _read(self, text: str, at: int) -> int:
        """Take in the sign at an offset, and return the offset of the last character that belongs to it."""
        sign, is_quoted = text[at], bool(self._opened) and self._opened[-1][0] == '"'
        if sign == "\\":
            return at + 1
        if text.startswith("$(", at):
            self._opened.append(("(", at))
            return at + 1
        if sign == '"' and is_quoted:
            self._opened.pop()
        elif sign == '"':
            self._opened.append((sign, at))
        elif is_quoted:
            return at
        elif sign == "'":
            return self._single_quotes(text, at)
        elif sign == "#":
            return self._comment(text, at)
        elif sign == "(" and self._opened:
            self._opened.append(("(", at))
        elif sign == ")" and self._opened:
            self._opened.pop()
        return at

    def _single_quotes(self, text: str, at: int) -> int:
        closing = self._closing(text, at)
        if closing < 0:
            self.unclosed = at
            return at
        self.single.append((at, closing))
        return closing

    def _comment(self, text: str, at: int) -> int:
        if at > 0 and text[at - 1] not in _WORD_ENDS:
            return at
        newline = text.find("\n", at)
        if newline < 0:
            self.end = at
            return len(text)
        self.comments.append((at, newline))
        return newline

    @staticmethod
    def _closing(text: str, at: int) -> int:
        if text[at - 1 : at] != "$":
            return text.find("'", at + 1)
        end = at + 1  # in some shells a backslash escapes a quote in `$'...'`
        while end < len(text) and text[end] != "'":
            end += 2 if text[end] == "\\" else 1
        return end if end < len(text) else -1
