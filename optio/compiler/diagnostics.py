"""Diagnostics: findings as data, one shape for terminal, JSON and API."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from operator import eq
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from optio.compiler.source import START, Span
from optio.model.route import Route, pointer

if TYPE_CHECKING:
    from optio.compiler.rule import Rule

MOST_OF_ONE_CODE_PER_FILE = 20
LONGEST_MESSAGE = 400
MOST_COMPARED, LONGEST_COMPARED = 1_000, 100
# Letters that are looked at, and pairs of them that are compared: half a second of work.
MOST_GUESSED = 2_000_000
_MOST_NEAR, _CLOSE = 20, 0.7
_left: ContextVar[list[int] | None] = ContextVar("left", default=None)
T = TypeVar("T")


class Severity(StrEnum):
    """An error keeps its task from being served."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Related(NamedTuple):
    """A second place that belongs to a finding."""

    message: str
    path: str
    span: Span


class Edit(NamedTuple):
    """What stands at a place of the finding's file becomes `text`."""

    span: Span
    text: str


class Fix(NamedTuple):
    """A cure that a program can apply. One that is not `safe` may change what the file means: somebody should look at it."""

    edits: tuple[Edit, ...]
    safe: bool = True

    @classmethod
    def write(cls, text: str, span: Span, *, safe: bool = True) -> "Fix":
        """Put this text in the place of another."""
        return cls((Edit(span, text),), safe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """A finding. `message` states the fact, `hint` the cure, which `fix` applies."""

    code: str
    message: str
    path: str
    span: Span = START
    route: Route = ()
    hint: str | None = None
    related: tuple[Related, ...] = ()
    severity: Severity = Severity.ERROR
    fix: Fix | None = None

    @property
    def rule(self) -> str:
        """The rule's kebab-case name."""
        return _rule(self.code).name

    def to_json(self) -> dict[str, Any]:
        """The documented JSON form."""
        return {
            "code": self.code,
            "rule": self.rule,
            "severity": self.severity.value,
            "message": self.message,
            "path": self.path,
            **_range(self.span),
            "pointer": pointer(self.route),
            "hint": self.hint,
            "related": [
                {"message": r.message, "path": r.path, "line": r.span.start.line, "column": r.span.start.column}
                for r in self.related
            ],
            "fix": None
            if self.fix is None
            else {"safe": self.fix.safe, "edits": [{**_range(e.span), "text": e.text} for e in self.fix.edits]},
        }


def _range(span: Span) -> dict[str, int]:
    (line, column), (end_line, end_column) = span
    return {"line": line, "column": column, "endLine": end_line, "endColumn": end_column}


def finding(
    code: str,
    message: str,
    *,
    path: str,
    span: Span = START,
    route: Route = (),
    hint: str | None = None,
    related: tuple[Related, ...] = (),
    fix: Fix | None = None,
) -> Diagnostic:
    """A diagnostic with the severity that the catalogue gives its code."""
    severity = Severity(_rule(code).severity)
    message, hint = _one_line(message), None if hint is None else _one_line(hint)
    return Diagnostic(
        code=code, message=message, path=path, span=span, route=route, hint=hint, related=related, severity=severity, fix=fix
    )


def graded(found: Sequence[Diagnostic], levels: Mapping[str, str]) -> list[Diagnostic]:
    """The findings with the severities of the policy, without those that it turns off."""
    done = []
    for each in found:
        level = levels.get(each.code)
        if level is None:
            done.append(each)
        elif level != "off":
            done.append(replace(each, severity=Severity(level)))
    return done


def strictly(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """The same, with the severities that the catalogue gives them under `--strict`."""
    graded = []
    for each in diagnostics:
        rule = _rule(each.code)
        raised = rule.strict and each.severity == rule.severity
        graded.append(replace(each, severity=Severity(rule.strict)) if raised else each)
    return graded


def _rule(code: str) -> "Rule":
    # Imported here: the catalogue is more text than the compiler is code, and a clean tree has no use for it.
    from optio.compiler.codes import RULES

    return RULES[code]


def _one_line(text: str) -> str:
    """What a file holds must not break the line, turn it round or bury it."""
    if len(text) > LONGEST_MESSAGE:
        text = text[: LONGEST_MESSAGE // 2] + " ... " + text[-LONGEST_MESSAGE // 4 :]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def ordered(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """By file, line, column and code, each once, and bounded: a broken generator must not bury the terminal."""
    # What is wrong with an anchor's value is wrong at each of its aliases: that is one mistake.
    unique = {(d.path, d.span, d.code, d.message): d for d in diagnostics}
    return list(_bounded(sorted(unique.values(), key=lambda d: (d.path, d.span.start, d.code, d.message))))


def _bounded(diagnostics: list[Diagnostic]) -> Iterator[Diagnostic]:
    seen: dict[tuple[str, str], int] = {}
    for diagnostic in diagnostics:
        key = (diagnostic.path, diagnostic.code)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= MOST_OF_ONE_CODE_PER_FILE:
            yield diagnostic


def first(things: Iterable[T]) -> Iterator[T]:
    """As many as are ever shown of one rule in one file: hostile input must not buy more work than that."""
    return islice(things, MOST_OF_ONE_CODE_PER_FILE)


@contextmanager
def guesses() -> Iterator[None]:
    """What is asked of `closest` herein is bounded together: of one file, say, in which thousands of names are unknown."""
    token = _left.set([MOST_GUESSED])
    try:
        yield
    finally:
        _left.reset(token)


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant; none once too much has been compared."""
    from difflib import SequenceMatcher  # only who made a mistake waits for it

    left, word = _left.get() or [MOST_GUESSED], word[:LONGEST_COMPARED]
    if left[0] <= 0:
        return None
    near: list[tuple[float, int, str]] = []
    matcher = SequenceMatcher(None, "", word)
    for each in islice(known, MOST_COMPARED):
        left[0] -= 1
        if 2 * min(len(each), len(word)) < _CLOSE * (len(each) + len(word)):
            continue
        left[0] -= len(each)
        matcher.set_seq1(each)
        if (most := matcher.quick_ratio()) >= _CLOSE:
            near.append((most, sum(map(eq, each, word)), each))
    # Of those that are equally near, the one with most letters in their places.
    best = (_CLOSE, -1, "")
    for most, in_place, each in sorted(near, reverse=True)[:_MOST_NEAR]:
        if most < best[0]:
            break
        left[0] -= len(each) * len(word)
        matcher.set_seq1(each)
        best = max(best, (matcher.ratio(), in_place, each))
    return best[2] or None
