"""Check the filter (`when`) of each webhook by a dry run over the published deliveries of its sender: paths that no delivery
has, tests that are the same for all, and a filter that lets all or none through. Slips of the language are found without."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from optio.compiler.checks.deliveries import describe_events, missing_diagnostic, unseen_diagnostic
from optio.compiler.checks.samples import find_in_samples, paths_of
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.payloads import query_fast_path
from optio.compiler.payloads.deliveries import WORDS, DeliveryKind, SentField, SentPlace, deliveries_of, sent_to
from optio.compiler.payloads.filter_tests import (
    PATH,
    FilterTest,
    Group,
    leaf_tests,
    masked_text,
    parse_filter,
    place_of,
    truths,
)
from optio.compiler.payloads.near_paths import explain_missing_path, naming_field, naming_item, path_text
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.route import Route
from optio.model.trigger import WebhookConfig, WebhookTrigger

# Each test may cost a search for a suggestion.
_MAX_TESTS = 100
_MAX_WORDS = 12
_ROOTED = re.compile(r"\$(?=\.\w|\[['\"])")
_BELOW_ROOT = re.compile(r"\$(?:\.\w+|\[[^\]]*\])*")
# What RE2 does not have.
_UNKNOWN_SIGNS = {
    r"\(\?[=!]": "look-ahead",
    r"\(\?<[=!]": "look-behind",
    r"(?<!\\)\\\\?[1-9]": "a back-reference",
}
_PATTERN = r"(?<!\w)(?:search|match)\(\s*@[^,()]{0,200},\s*'(?P<pattern>[^']{1,300})'\s*\)"


class _Filter(NamedTuple):
    """A filter with its place, its webhook, its parts, and the kinds of deliveries that it is tried on."""

    route: Route
    config: WebhookConfig
    text: str
    part: Group | FilterTest
    sent: tuple[DeliveryKind, ...]


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the findings of every filter that parses. A filter that does not parse is reported by `webhook`."""
    for index, trigger in enumerate(task.spec.triggers):
        config: Route = ("triggers", index, "config")
        if not isinstance(trigger, WebhookTrigger) or trigger.config.when is None or not task.is_known((*config, "when")):
            continue
        text = trigger.config.when
        if not query_fast_path.is_filter(text):
            from optio.model.mapping import PathSyntax, compile_when

            try:
                compile_when(text)
            except PathSyntax:
                continue  # reported by `webhook`
        is_sender_known = task.is_known((*config, "scheme")) and task.is_known((*config, "events"))
        deliveries = sent_to(trigger.config) if is_sender_known else deliveries_of("", ())
        filter_ = _Filter((*config, "when"), trigger.config, text, parse_filter(text), deliveries)
        yield from _rooted(task, filter_.route, text)
        yield from _bad_patterns(task, filter_.route, text)
        findings = list(_tests(task, filter_))
        yield from findings or _whole(task, filter_)
        if not findings:
            yield from _unlikely(task, filter_)


def _tests(task: ResolvedTask, filter_: _Filter) -> Iterator[Diagnostic]:
    """Report at most one finding for each test. Paths that a sample of the task has are known by that sample."""
    for test in islice(leaf_tests(filter_.part), _MAX_TESTS):
        samples = list(find_in_samples(task, test.steps)) if test.steps else []
        if not test.is_read or (samples and not _never_in_samples(test, samples)):
            continue
        span = task.document.inside(filter_.route, test.start, test.end)
        if samples:
            never = f"`{filter_.text[test.start : test.end]}` never holds"
            message = f"`{test.path}` is {_shown(samples[0])} in the payload of a test, so {never}"
            yield task.at("OPT426", message, filter_.route, hint="compare it with a value of that type", span=span)
        elif task.samples:
            yield from _not_in_samples(task, filter_, test)
        else:
            yield from _one(task, filter_, test)


def _one(task: ResolvedTask, filter_: _Filter, test: FilterTest) -> Iterator[Diagnostic]:
    """Report a test of a path that no delivery has, or one that is the same for all of them."""
    places = [place_of(test, delivery) for delivery in filter_.sent]
    pairs = [(delivery, place) for delivery, place in zip(filter_.sent, places, strict=True) if place is not None]
    span = task.document.inside(filter_.route, test.at, test.at + len(test.path))
    if not pairs:
        equal = f"'{test.value}'" if test.sign == "==" and isinstance(test.value, str) else None
        near = explain_missing_path(test.steps, filter_.sent, "@", equal=equal)
        near_path = near.path if near is not None and task.document.text_at(span, filter_.route) == test.path else None
        # A test that something is missing is right, if only always.
        if not _is_negated(filter_, test) or near_path is not None:
            yield missing_diagnostic(task, filter_.route, test.path, near, filter_.config, span=span, write=near_path)
    elif all(place.is_unseen for _, place in pairs):
        yield from unseen_diagnostic(task, filter_.route, test.steps, filter_.config, root="@", span=span)
    else:
        outcomes = frozenset(outcome for delivery in filter_.sent for outcome in truths(test, delivery))
        if len(outcomes) == 1:
            yield _constant(task, filter_, test, *pairs[0], is_true=True in outcomes)


def _constant(
    task: ResolvedTask, filter_: _Filter, test: FilterTest, delivery: DeliveryKind, place: SentPlace, *, is_true: bool
) -> Diagnostic:
    """Return the finding for a test with one outcome, with the fact of its field that decides it."""
    field, is_negated = place.field, _is_negated(filter_, test)
    words = list(dict.fromkeys(word for sent_place in _places(filter_, test) for word in sent_place.field.words))
    start = filter_.text.rindex("!", 0, test.start) if is_negated else test.start
    span, test_text = task.document.inside(filter_.route, start, test.end), filter_.text[start : test.end]
    outcome = "always" if is_true is not is_negated else "never"
    message = f"`{test_text}` is {outcome} true: `{test.path}` is {_fact(test, field, words)}"
    similar = _similar_word(str(test.value), words)
    if similar is None and test.steps == ("action",) and not _is_action(test, delivery):
        return task.at("OPT434", message, filter_.route, hint="the sender may have added it since", span=span)
    better = _as_kind(test, field)
    if better is not None:
        hint = f"write `{better}`"
    elif test.sign == "there":
        hint = "compare it with a value, or delete the test"
        if field.kind == "boolean":
            hint = f"write `{test.path} == {'false' if is_negated else 'true'}`"
    elif similar is not None:
        hint = f"did you mean `{similar}`?"
    else:
        hint = _part_hint(test, field, delivery) or "compare it with another value, or delete the test"
    text = None if better is None else f"{filter_.text[: test.start]}{better}{filter_.text[test.end :]}"
    return task.at("OPT426", message, filter_.route, hint=hint, span=span, value=text, safe=False)


def _places(filter_: _Filter, test: FilterTest) -> list[SentPlace]:
    return [place for delivery in filter_.sent if (place := delivery.find(test.steps)) is not None]


def _fact(test: FilterTest, field: SentField, words: list[str]) -> str:
    """Return what the field of a test is, as the end of a message."""
    if test.sign == "there":
        return "in every delivery"
    if not words:
        return field.form.what if field.form is not None else WORDS[field.kind]
    rest = f" and {len(words) - _MAX_WORDS} more" if len(words) > _MAX_WORDS else ""
    return f"one of {', '.join(words[:_MAX_WORDS])}{rest}" if len(words) > 1 else f"always `{words[0]}`"


def _part_hint(test: FilterTest, field: SentField, delivery: DeliveryKind) -> str | None:
    """Return the hint that compares an item of a list, or a field of an object."""
    if field.kind == "array" and test.sign in ("==", "!="):
        name, no = naming_item(delivery, field), "!" if test.sign == "!=" else ""
        return f"write `{no}{test.path}[?@{f'.{name}' if name else ''} == {_literal(test.value)}]`"
    if field.kind == "object":
        kinds = ("string",) if isinstance(test.value, str) else ("integer", "boolean")
        name = naming_field(delivery, test.steps, kinds)
        return f"compare a field of it, such as `{test.path}.{name}`" if name else None
    return None


def _is_negated(filter_: _Filter, test: FilterTest) -> bool:
    return test.sign == "there" and filter_.text[: test.start].rstrip().endswith("!")


def _as_kind(test: FilterTest, field: SentField) -> str | None:
    """Return the test with its value in the type of the field, where that is the same value without or with quotes."""
    text = str(test.value)
    is_same = (field.kind == "boolean" and text in ("true", "false")) or (
        field.kind in ("integer", "number") and re.fullmatch(r"-?(?:0|[1-9][0-9]{0,17})", text) is not None
    )
    if field.null and text.lower() in ("null", "none", "nil"):
        is_same, text = True, "null"
    if field.kind == "string" and isinstance(test.value, (int, float)) and not isinstance(test.value, bool):
        is_same, text = True, f"'{text}'"
    return f"{test.path} {test.sign} {text}" if is_same else None


def _is_action(test: FilterTest, delivery: DeliveryKind) -> bool:
    """Return True if the word is an action of another event of the sender."""
    table = delivery.table
    return table is not None and any(kind.action == test.value for event in table.events for kind in table.deliveries(event))


def _similar_word(value: str, words: list[str]) -> str | None:
    """Return the word of the field that a value spells otherwise, or nearly so."""
    spelt = next((word for word in words if _folded(word) == _folded(value)), None)
    return spelt or suggest(value.lower(), words)


def _folded(word: str) -> str:
    return re.sub(r"[ _-]", "", word.casefold())


def _whole(task: ResolvedTask, filter_: _Filter) -> Iterator[Diagnostic]:
    """Report a filter that lets none of the deliveries through, or all of them, where no test of it is to blame alone."""
    outcomes = frozenset(outcome for delivery in filter_.sent for outcome in truths(filter_.part, delivery))
    if len(outcomes) != 1 or task.samples:
        return
    if True in outcomes:
        message, hint = "this filter is always true", "delete `when`, or write `&&` in the place of `||`"
    else:
        message = f"this filter is never true for a delivery of {describe_events(filter_.config)}"
        hint = "its tests exclude each other: write `||` in the place of `&&`, or try it with a payload under `tests:`"
    span = task.document.inside(filter_.route, 0, len(filter_.text))
    yield task.at("OPT426", message, filter_.route, hint=hint, span=span)


def _never_in_samples(test: FilterTest, samples: list[Any]) -> bool:
    """Return True for an order between a number and what all samples have as a text, or the other way round."""
    if test.sign not in ("<", ">", "<=", ">="):
        return False
    return all(
        isinstance(value, (str, int, float)) and isinstance(value, str) != isinstance(test.value, str) for value in samples
    )


def _not_in_samples(task: ResolvedTask, filter_: _Filter, test: FilterTest) -> Iterator[Diagnostic]:
    """Report a path that no sample has and that is close to a path that one has."""
    paths = sorted({path for sample in task.samples for path in paths_of(sample.payload)})
    suggestion = suggest(path_text(test.steps), paths) if test.sign == "==" and test.steps else None
    if suggestion is not None:
        span = task.document.inside(filter_.route, test.at, test.at + len(test.path))
        message, hint = f"`{test.path}` finds nothing in any sample", f"did you mean `@{suggestion[1:]}`?"
        write = f"@{suggestion[1:]}" if task.document.text_at(span, filter_.route) == test.path else None
        yield task.at("OPT434", message, filter_.route, hint=hint, span=span, write=write, safe=False)


def _unlikely(task: ResolvedTask, filter_: _Filter) -> Iterator[Diagnostic]:
    """Report tests that can be true, but are mostly written by who knows another language."""
    for test in islice(leaf_tests(filter_.part), _MAX_TESTS):
        value, span = test.value, task.document.inside(filter_.route, test.start, test.end)
        if isinstance(value, str) and test.is_read and (words := _slip(test, value)) is not None:
            message, hint = words
            yield task.at("OPT434", message, filter_.route, hint=hint, span=span)
        count_match = re.fullmatch(rf"count\(\s*({PATH.pattern})\s*\)", test.path)
        if count_match is not None and test.is_count:
            message = f"`{test.path}` is 1 at most: `count` counts what a path finds, and this one finds one value"
            yield task.at(
                "OPT426", message, filter_.route, hint=f"write `length({count_match[1]}) {test.sign} {value}`", span=span
            )


def _slip(test: FilterTest, value: str) -> tuple[str, str] | None:
    """Return message and hint for a value that looks like one of another language, or None."""
    is_part = re.fullmatch(r"(?:\(\?i\))?\w[\w ]*|\^\w+|[\w-]+\$|.*\w/", value) is not None
    if test.sign == "match" and is_part:
        return f"`match` compares the whole text with `{value}`", "write `search` to find it within a text"
    if test.sign in ("<", ">", "<=", ">=") and re.fullmatch(r"-?[0-9]+(?:\.[0-9]+)?", value):
        hint = f"write `{test.path} {test.sign} {value}` for a number"
        return f"`{test.path}` is compared with a text, letter by letter", hint
    return None


def _bad_patterns(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report a pattern with signs that RE2 does not have: it matches nothing."""
    for match in re.finditer(_PATTERN, text):
        pattern = match["pattern"]
        reason = next((name for sign, name in _UNKNOWN_SIGNS.items() if re.search(sign, pattern)), None)
        if reason is not None:
            message = f"the pattern `{pattern}` uses {reason}, which RE2 does not have: it matches nothing"
            hint = "write what must not match in a test of its own, such as `!search(@.title, 'wip')`"
            yield task.at("OPT426", message, route, hint=hint, span=task.document.inside(route, *match.span("pattern")))


def _rooted(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report a name directly below `$`: in a filter, `$` is a list with the payload as its only item."""
    masked = masked_text(text)
    match = _ROOTED.search(masked)
    if match is None:
        return
    # Inside a nested filter, `@` is the current item.
    right = "$[0]" if "?" in masked else "@"
    better = text
    for sign in reversed(list(_ROOTED.finditer(masked))):
        better = better[: sign.start()] + right + better[sign.end() :]
    fix = None if "\n" in text else task.document.rewritten(route, task.document.restyled(route, better))
    path = _BELOW_ROOT.match(masked, match.start())
    start, end = path.span() if path is not None else match.span()
    message = f"`{text[start:end]}` finds nothing: in a filter `$` is a list with the payload in it"
    span = task.document.inside(route, start, end)
    yield task.at("OPT413", message, route, hint=f"write `{right}` in the place of `$`", span=span, fix=fix)


def _literal(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value).lower()


def _shown(value: Any) -> str:
    return f"the text `{_literal(value)}`" if isinstance(value, str) else f"`{_literal(value)}`"
