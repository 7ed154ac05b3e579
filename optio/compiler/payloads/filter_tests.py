"""Parse a webhook's `when` into its tests, such as `@.action == 'opened'`, and try it on a kind of delivery without values.

A test may be true, may be false, or both, by what the field at its path can hold; the outcomes of the filter follow from all
combinations. So "never true" holds for every payload of that kind.
"""

import json
import re
from collections.abc import Iterator
from itertools import chain, product
from math import prod
from typing import Any, Literal, NamedTuple

from optio.compiler.payloads import query_fast_path
from optio.compiler.payloads.deliveries import UNKNOWN, DeliveryKind, SentField, SentPlace, sent_to
from optio.model.trigger import WebhookConfig

_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_PATH_TEXT = r"[@$](?:\.[A-Za-z_]\w*|\[-?[0-9]{1,9}\]|\['_+'\]|\[\"_+\"\])*"
PATH = re.compile(_PATH_TEXT, re.ASCII)
_LITERAL = r"'_*'|\"_*\"|-?[0-9][0-9.]*|true|false|null"
_COUNT = r"(?:length|count)\([^()]*\)"
_COMPARISON = re.compile(rf"(?P<path>{_PATH_TEXT}|{_COUNT})\s*(?P<sign>[=!]=|<=?|>=?)\s*(?P<value>{_LITERAL})", re.ASCII)
_PATTERN = re.compile(rf"(?P<sign>match|search)\(\s*(?P<path>{_PATH_TEXT})\s*,\s*(?P<value>'_*'|\"_*\")\s*\)", re.ASCII)
_MAX_LENGTH, _MAX_SIGNS, _MAX_STATES = 4_000, 200, 2_000
_MISSING, _OTHER = object(), object()
Sign = Literal["there", "==", "!=", "<", ">", "<=", ">=", "match", "search", "other"]


class FilterTest(NamedTuple):
    """A test of a filter: the path and its steps, the sign, the value; `start` and `end` enclose the text, `at` is the path's
    offset. The sign `other` is for a test that is not read."""

    sign: Sign
    path: str
    steps: tuple[str, ...]
    value: Any
    at: int
    start: int
    end: int
    is_count: bool = False

    @property
    def is_read(self) -> bool:
        """Return True for a test of the payload that is understood."""
        return self.sign != "other" and (self.is_count or self.path[:1] == "@")


class Group(NamedTuple):
    """Parts of a filter, joined by `&&` or `||`, or the one part behind a `!`."""

    sign: Literal["&&", "||", "!"]
    parts: "tuple[Group | FilterTest, ...]"


def masked_text(text: str) -> str:
    """Return the text with all characters between quotes replaced by `_`, so that offsets stay and quoted signs do not
    match."""
    return _QUOTED.sub(lambda match: f"{match[0][0]}{'_' * (len(match[0]) - 2)}{match[0][0]}", text)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.masked, self.at = text, masked_text(text), 0

    def alternatives(self) -> "Group | FilterTest":
        return self._joined("||", lambda: self._joined("&&", self._part))

    def _joined(self, sign: Literal["&&", "||"], part: Any) -> "Group | FilterTest":
        parts = [part()]
        while self._take(sign):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Group(sign, tuple(parts))

    def _take(self, sign: str) -> bool:
        self.at += len(self.masked[self.at :]) - len(self.masked[self.at :].lstrip())
        is_next = self.masked.startswith(sign, self.at)
        self.at += len(sign) * is_next
        return is_next

    def _part(self) -> "Group | FilterTest":
        if self._take("!"):
            return Group("!", (self._part(),))
        if self._take("("):
            inner = self.alternatives()
            self._take(")")
            return inner
        start, depth = self.at, 0
        while self.at < len(self.masked):
            sign = self.masked[self.at]
            if depth == 0 and (sign == ")" or self.masked[self.at : self.at + 2] in ("&&", "||")):
                break
            depth += (sign in "([") - (sign in ")]")
            self.at += 1
        return _read_test(self.text, self.masked, start, start + len(self.masked[start : self.at].rstrip()))


def _read_test(text: str, masked: str, start: int, end: int) -> FilterTest:
    part = masked[start:end]
    match = _COMPARISON.fullmatch(part) or _PATTERN.fullmatch(part)
    if match is not None:
        path = text[slice(*(start + finding for finding in match.span("path")))]
        value = _value(text[slice(*(start + finding for finding in match.span("value")))])
        at, is_count = start + match.start("path"), path[0] not in "@$"
        steps = () if is_count else query_fast_path.steps(path)
        return FilterTest(match["sign"], path, steps, value, at, start, end, is_count)  # type: ignore[arg-type]
    if PATH.fullmatch(part):
        return FilterTest("there", text[start:end], query_fast_path.steps(text[start:end]), None, start, start, end)
    return FilterTest("other", text[start:end], (), None, start, start, end)


def _value(literal: str) -> Any:
    if literal[0] in "'\"":
        return literal[1:-1]
    try:
        return json.loads(literal)
    except ValueError:
        return literal


def parse_filter(text: str) -> Group | FilterTest:
    """Return the parts of a filter; one that is very long or nested is one test that is not read."""
    masked = masked_text(text)
    if len(text) > _MAX_LENGTH or sum(map(masked.count, "(!")) > _MAX_SIGNS:
        return FilterTest("other", text, (), None, 0, 0, len(text))
    return _Parser(text).alternatives()


def leaf_tests(part: Group | FilterTest) -> Iterator[FilterTest]:
    """Yield the tests of a filter, in the order of the text."""
    if isinstance(part, FilterTest):
        yield part
    else:
        for part_below in part.parts:
            yield from leaf_tests(part_below)


def place_of(test: FilterTest, delivery: DeliveryKind) -> SentPlace | None:
    """Return what a delivery has at the path of a test, or None where it never has something."""
    if test.is_count:
        return SentPlace(SentField("integer", null=True), may_miss=True)
    return delivery.find(test.steps) if test.is_read else UNKNOWN


def _states(tests: list[FilterTest], place: SentPlace | None) -> list[Any]:
    """Return the values, of those that the tests tell apart, that the field at their path can have."""
    if place is None:
        return [_MISSING]
    field, texts = place.field, [test.value for test in tests if test.sign in ("==", "!=")]
    distinct = {(isinstance(value, bool), value): value for value in texts}
    values = [value for value in distinct.values() if field.accepts(value)]
    if field.kind == "boolean":
        values = [True, False]
    elif not field.words or not set(field.words) <= set(values):
        values.append(_OTHER)
    if field.null and not any(value is None for value in values):
        values.append(None)
    return [*values, _MISSING] if place.may_miss else values


def _holds(test: FilterTest, state: Any) -> bool:
    if test.sign == "there":
        return state is not _MISSING
    is_equal = state is not _MISSING and state is not _OTHER and state == test.value
    is_equal = is_equal and isinstance(state, bool) == isinstance(test.value, bool)
    return is_equal == (test.sign == "==")


def _can_hold(test: FilterTest, place: SentPlace | None) -> bool:
    """Return False for an order or a pattern that no value of the field meets."""
    if test.sign == "other":
        return True
    if place is None:
        return False
    field = place.field
    if field.kind == "any":
        return True
    if test.sign in ("match", "search"):
        return field.kind == "string" and _can_match(test, field)
    return isinstance(test.value, str) == (field.kind == "string") and field.kind in ("string", "integer", "number")


def _can_match(test: FilterTest, field: SentField) -> bool:
    """Return False for a pattern whose first letters begin none of the texts of the field."""
    pattern, prefixes = str(test.value), () if field.form is None else field.form.prefixes
    if not prefixes or "|" in pattern or (test.sign == "search" and pattern[:1] != "^"):
        return True
    letters = re.match(r"[\w/-]*", pattern.removeprefix("^"))
    head = letters[0] if letters is not None else ""
    if pattern.removeprefix("^")[len(head) :][:1] in ("*", "?", "{"):
        head = head[:-1]
    return any(head.startswith(prefix) or prefix.startswith(head) for prefix in prefixes)


def _is_by_path(test: FilterTest) -> bool:
    """Return True for a test whose result follows from the value at its path."""
    return test.is_read and test.sign in ("there", "==", "!=")


def _question(test: FilterTest) -> tuple[Any, ...]:
    """Return what two tests share that are decided together: their path, or the whole test."""
    return (test.steps, test.is_count and test.path) if _is_by_path(test) else (test.sign, test.path, str(test.value))


def truths(part: Group | FilterTest, delivery: DeliveryKind) -> frozenset[bool]:
    """Return what the filter, or one of its tests, can give for a delivery: true, false or both."""
    questions: dict[tuple[Any, ...], list[FilterTest]] = {}
    for test in leaf_tests(part):
        questions.setdefault(_question(test), []).append(test)
    choices: list[list[dict[FilterTest, bool]]] = []
    for tests in questions.values():
        place = place_of(tests[0], delivery)
        if _is_by_path(tests[0]):
            choices.append([{test: _holds(test, state) for test in tests} for state in _states(tests, place)])
        else:
            choices.append(
                [dict.fromkeys(tests, result) for result in ((True, False) if _can_hold(tests[0], place) else (False,))]
            )
    if prod(map(len, choices)) > _MAX_STATES:
        return frozenset((True, False))
    results: set[bool] = set()
    for choice in product(*choices):
        results.add(_result(part, dict(chain.from_iterable(results_of_tests.items() for results_of_tests in choice))))
        if len(results) > 1:
            break
    return frozenset(results)


def _result(part: Group | FilterTest, results_of_tests: dict[FilterTest, bool]) -> bool:
    if isinstance(part, FilterTest):
        return results_of_tests[part]
    results = (_result(part_below, results_of_tests) for part_below in part.parts)
    return not next(results) if part.sign == "!" else all(results) if part.sign == "&&" else any(results)


def starting_deliveries(config: WebhookConfig) -> tuple[DeliveryKind, ...]:
    """Return the kinds of deliveries that may start a run: those of the events, as far as the filter may be true for them."""
    deliveries = sent_to(config)
    if config.when is None:
        return deliveries
    part = parse_filter(config.when)
    return tuple(delivery for delivery in deliveries if True in truths(part, delivery))
