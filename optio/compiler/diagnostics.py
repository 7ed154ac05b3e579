"""Diagnostics: findings as data, in one shape for the terminal, JSON and the API. Every stage makes them with `diagnostic`,
which looks up the severity in the catalogue (`optio.compiler.rules`). This module also sorts them, limits how many are shown,
and applies the severities of the policy and of `--strict`."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from optio.compiler.source import START, Position, Span
from optio.model.route import Route, pointer

if TYPE_CHECKING:
    from optio.compiler.rules.rule import Certainty, Rule

MAX_SHOWN_PER_CODE, MAX_STORED_PER_CODE = 20, 1_000
MAX_MESSAGE_LENGTH, MAX_VALUE_LENGTH = 400, 80
# The text to write is useless when cut, so hints may be longer.
MAX_HINT_LENGTH = 640
_VALUE = re.compile(r"`([^`]*)`")
T = TypeVar("T")


class Severity(StrEnum):
    """The severity of a finding. A task with an error is not served; warnings and information never stop one."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Related(NamedTuple):
    """A second place that belongs to a finding, such as the first of two duplicates, with a message of its own."""

    message: str
    path: str
    span: Span


class Edit(NamedTuple):
    """One replacement in the finding's file: the characters in `span` become `text`."""

    span: Span
    text: str


class Fix(NamedTuple):
    """A cure that a program can apply, as edits in the finding's file. A fix that is not `safe` may change what the file means,
    so a person should read the result. One that is `checked` was compiled: it ends its finding and brings no other."""

    edits: tuple[Edit, ...]
    safe: bool = True
    checked: bool = False

    @classmethod
    def write(cls, text: str, span: Span, *, safe: bool = True) -> "Fix":
        """Return a fix with a single edit, which replaces `span` by `text`."""
        return cls((Edit(span, text),), safe)


class CauseKind(StrEnum):
    """The subjects of findings that other code has to know: no code reads them from the text."""

    MISSING_FILE = "missing file"
    INVALID_PARAM = "invalid parameter"


class Cause(NamedTuple):
    """The cause of a finding as data: its kind, and the name of the file or parameter that it concerns."""

    kind: CauseKind
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """A finding. `message` states the fact, `hint` the cure, and `fix` the edits that apply the cure; `unproved_hint` takes the
    place of the hint if they do not. A finding with `more` stands for that many others of its rule in its file, which are not
    listed one by one."""

    code: str
    message: str
    path: str
    span: Span = START
    route: Route = ()
    hint: str | None = None
    related: tuple[Related, ...] = ()
    severity: Severity = Severity.ERROR
    fix: Fix | None = None
    unproved_hint: str | None = None
    cause: Cause | None = None
    more: int = 0

    @property
    def count(self) -> int:
        """Return how many findings this one stands for: 1, or `more` where it is a summary."""
        return self.more or 1

    @property
    def rule(self) -> str:
        """Return the kebab-case name of the rule, such as `unused-parameter`, from the catalogue."""
        return _rule(self.code).name

    @property
    def certainty(self) -> "Certainty":
        """Return whether the rule proves or suspects, from the catalogue."""
        return _rule(self.code).certainty

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form that `optio check --format json` and the API document: 1-based lines and columns, a JSON pointer
        for the route, and related places and fixes as lists."""
        return {
            "code": self.code,
            "rule": self.rule,
            "severity": self.severity.value,
            "certainty": self.certainty.value,
            "message": self.message,
            "path": self.path,
            **_range(self.span),
            "pointer": pointer(self.route),
            "hint": self.hint,
            "more": self.more,
            "related": [
                {"message": r.message, "path": r.path, "line": r.span.start.line, "column": r.span.start.column}
                for r in self.related
            ],
            "fix": None
            if self.fix is None
            else {
                "safe": self.fix.safe,
                "checked": self.fix.checked,
                "edits": [{**_range(e.span), "text": e.text} for e in self.fix.edits],
            },
        }


def _range(span: Span) -> dict[str, int]:
    (line, column), (end_line, end_column) = span
    return {"line": line, "column": column, "endLine": end_line, "endColumn": end_column}


def diagnostic(
    code: str,
    message: str,
    *,
    path: str,
    span: Span = START,
    route: Route = (),
    hint: str | None = None,
    related: tuple[Related, ...] = (),
    fix: Fix | None = None,
    unproved_hint: str | None = None,
    cause: Cause | None = None,
    more: int = 0,
) -> Diagnostic:
    """Return a diagnostic with the severity that the catalogue gives its code. Values from the file are shortened and made
    printable in `message` and `hint`."""
    severity = Severity(_rule(code).severity)
    message, hint = _one_line(message), None if hint is None else _one_line(hint, MAX_HINT_LENGTH)
    unproved_hint = None if unproved_hint is None else _one_line(unproved_hint, MAX_HINT_LENGTH)
    return Diagnostic(
        code=code,
        message=message,
        path=path,
        span=span,
        route=route,
        hint=hint,
        related=related,
        severity=severity,
        fix=fix,
        unproved_hint=unproved_hint,
        cause=cause,
        more=more,
    )


def asks_advice(levels: Mapping[str, str]) -> bool:
    """Return whether the severities of a policy turn on a rule that is otherwise checked only for `pedantic`."""
    if not levels:
        return False
    from optio.compiler.rules.codes import RULES

    return any(level != "off" and code in RULES and RULES[code].pedantic for code, level in levels.items())


def is_pedantic(code: str) -> bool:
    """Return whether the rule is checked only where a careful reviewer is asked for."""
    return _rule(code).pedantic


def apply_severities(findings: Sequence[Diagnostic], levels: Mapping[str, str], *, pedantic: bool) -> list[Diagnostic]:
    """Return the findings with the severities of the policy (`levels`, by code). Findings of a rule that is `off` are dropped,
    and without `pedantic` those of a pedantic rule that the policy does not name."""
    advised = pedantic or not asks_advice(levels)
    done = []
    for finding in findings:
        level = levels.get(finding.code)
        if level is None:
            rule = _rule(finding.code)
            # One that is raised above the catalogue does not depend on the policy.
            if advised or not rule.pedantic or finding.severity != rule.severity:
                done.append(finding)
        elif level != "off":
            done.append(replace(finding, severity=Severity(level)))
    return done


def apply_strict(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return the findings with the severities that the catalogue gives them under `--strict`. A severity that the policy has
    set stays."""
    graded = []
    for finding in diagnostics:
        rule = _rule(finding.code)
        raised = rule.strict and finding.severity == rule.severity
        graded.append(replace(finding, severity=Severity(rule.strict)) if raised else finding)
    return graded


@lru_cache(maxsize=512)
def _rule(code: str) -> "Rule":
    # Imported here: the catalogue is more text than the compiler is code, and a clean tree has no use for it.
    from optio.compiler.rules.codes import RULES

    return RULES[code]


def _one_line(text: str, longest: int = MAX_VALUE_LENGTH) -> str:
    """Return a text from a file as one line of bounded length. It can neither break the terminal nor reverse its direction."""
    if len(text) > longest:
        text = _VALUE.sub(lambda match: f"`{shorten(match[1], longest)}`", text)
    most = max(MAX_MESSAGE_LENGTH, longest + MAX_VALUE_LENGTH)
    if len(text) > most:
        text = text[: most // 2] + " ... " + text[-most // 4 :]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shorten(text: str, longest: int = MAX_VALUE_LENGTH) -> str:
    """Return a value for a message, cut with `...` where it is longer than `longest` characters."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def sort_diagnostics(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return the findings sorted by file, line, column and code, each once. Of many findings of one rule in one file the first
    are listed and the rest are counted, so that a broken generator does not flood the terminal."""
    return sorted((each for found in _groups(diagnostics) for each in _limit_group(found)), key=_sort_key)


def fold_excess(diagnostics: list[Diagnostic]) -> list[Diagnostic]:
    """Return the findings of one file with at most `MAX_STORED_PER_CODE` of each rule; the last of them counts the others."""
    if len(diagnostics) <= MAX_STORED_PER_CODE:
        return diagnostics
    return [each for found in _groups(diagnostics) for each in _fold_group(found)]


def _fold_group(findings: list[Diagnostic]) -> list[Diagnostic]:
    rest = findings[MAX_STORED_PER_CODE:]
    more = sum(each.count for each in rest)
    return [*findings[:MAX_STORED_PER_CODE], replace(rest[-1], fix=None, more=more)] if rest else findings


def _groups(diagnostics: Iterable[Diagnostic]) -> list[list[Diagnostic]]:
    """Group the findings by file and rule, in order and without duplicates."""
    # A mistake in an anchored value is found at each of its aliases, and reported once.
    unique = {(d.path, d.span, d.code, d.message, d.more): d for d in diagnostics}
    alike: dict[tuple[str, str], list[Diagnostic]] = {}
    for each in sorted(unique.values(), key=_sort_key):
        alike.setdefault((each.path, each.code), []).append(each)
    return list(alike.values())


def _sort_key(finding: Diagnostic) -> tuple[str, Position, str, bool, str]:
    return finding.path, finding.span.start, finding.code, finding.more > 0, finding.message


def _limit_group(findings: list[Diagnostic]) -> Iterator[Diagnostic]:
    shown = [finding for finding in findings if not finding.more][:MAX_SHOWN_PER_CODE]
    yield from shown
    more = sum(finding.count for finding in findings) - len(shown)
    if more:
        last = shown[-1] if shown else findings[-1]
        message = f"{more:,} more like this in the file {'are' if more > 1 else 'is'} not shown"
        yield replace(last, message=message, hint="correct these first, then check again", related=(), fix=None, more=more)


def report_first(things: Iterable[T], tell: Callable[[T], Diagnostic]) -> Iterator[Diagnostic]:
    """Make diagnostics for the first of `things` with `tell`, and let the last one stand for all others, so that hostile input
    cannot buy more work than `MAX_SHOWN_PER_CODE` findings."""
    left = iter(things)
    last = None
    for each in islice(left, MAX_SHOWN_PER_CODE):
        last = tell(each)
        yield last
    if last is not None and (more := sum(1 for _ in left)):
        yield replace(last, more=more)
