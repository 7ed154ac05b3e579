"""Check the filter (`when`) of each webhook: paths that no payload has, comparisons that always or never hold, and `$` where
`@` is meant. GitHub's own fields are checked in `github_filters`."""

import re
from collections.abc import Iterator
from itertools import islice

from optio.compiler.checks.filter_questions import (
    NOTHING,
    PATH,
    Question,
    is_in_samples,
    masked_text,
    questions_of,
    unsent_diagnostic,
)
from optio.compiler.checks.webhook import SENDERS_NAMES, path_elsewhere, unsent_root
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.payloads import query_fast_path
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.route import Route
from optio.model.trigger import WebhookConfig, WebhookTrigger

# Each question may cost a search for a suggestion.
_MAX_QUESTIONS = 100
_WITH_REFS = frozenset({"push", "Push Hook", "Tag Push Hook"})
# A name directly below `$`. None exists: in a filter `$` is a list with the payload as its only item.
# A path and a quoted text with an order between them. The text is masked.
_TEXT_ORDER = re.compile(r"(?P<path>@(?:\.\w+|\['_+'\]|\[-?\d+\])*)\s*(?:<=?|>=?)\s*(?P<value>'_+'|\"_+\")")
_QUOTED_COUNT = re.compile(r"(?<!\w)(?P<function>length|count)\([^()]*\)\s*(?:[=!<>]=|[<>])\s*(?P<value>'_+'|\"_+\")")
_SLASHED = r"(?<!\w)(?:search|match)\(\s*@[^,()]{1,200},\s*'(?P<pattern>/(?P<inner>[^'/\\]{1,200})/(?P<flags>[a-z]{0,3}))'\s*\)"
_PATTERN = r"(?<!\w)(?:search|match)\(\s*@[^,()]{0,200},\s*'(?P<pattern>[^']{1,300})'\s*\)"
_UNKNOWN_SIGNS = {
    r"\(\?[=!]": "look-ahead",
    r"\(\?<[=!]": "look-behind",
    r"(?<!\\)\\\\?[1-9]": "a back-reference",
}
_FORMS = (
    (r"(?P<path>@(?:\.\w+)+)\s*(?P<sign>[=!]=)\s*(?P<value>'_+')", "glob"),
    (r"(?<![\w.])(?P<path>@(?:\.\w+)+)\.(?:length|size)(?=\s*(?:[=!<>]=|[<>]))", "length"),
    (r"(?<!\w)count\(\s*(?P<path>@(?:\.\w+)+)\s*\)(?=\s*(?:[=!<>]=|[<>]))", "count"),
)
_MATCH = r"(?<!\w)match\(\s*(?P<path>@(?:\.\w+)+)\s*,\s*'(?P<pattern>[^'\\]{1,200})'\s*\)"
# No text that is worth a pattern ends with one of these.
_SEPARATORS = "/:"
# Fields that hold sentences, which are more than one word.
_PROSE = frozenset({"title", "body", "text", "message", "description", "subject", "summary", "content"})
_NUMBER_ORDER = re.compile(r"(?P<path>@(?:\.\w+|\['_+'\]|\[-?\d+\])*)\s*(?P<sign><=?|>=?)\s*(?P<value>-?\d[\d.]*)")
_DECIMAL_AMOUNT = (
    r"(?P<path>@\.data\.object\.(?:amount(?:_\w+)?|total|subtotal))\s*(?:[<>]=?|[!=]=)\s*"
    r"(?P<value>(?P<units>\d{1,9})\.(?P<parts>\d\d?))(?!\d)"
)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
# The beginning of a quoted text or pattern that is the beginning of no ref.
_NO_REF = r"['\"]\^?(?P<ref>(?:refs/(?=(?:tag|head|branch(?:es)?)/)|ref/)(?P<kind>tags?|heads?|branch(?:es)?)/)"
_ROOTED = re.compile(r"\$(?=\.\w|\[['\"])")


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the findings of every filter that parses. A filter that does not parse is reported by `webhook`."""
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index, "config", "when")
        if isinstance(trigger, WebhookTrigger) and trigger.config.when is not None and task.is_known(route):
            if not query_fast_path.is_filter(trigger.config.when):
                from optio.model.mapping import PathSyntax, compile_when

                try:
                    compile_when(trigger.config.when)
                except PathSyntax:
                    continue  # reported by `webhook`
            yield from _one(task, route, trigger.config, trigger.config.when)


def _one(task: ResolvedTask, route: Route, config: WebhookConfig, text: str) -> Iterator[Diagnostic]:
    yield from _rooted(task, route, text)
    questions = list(islice(questions_of(text), _MAX_QUESTIONS))
    yield from _contradiction(task, route, text, questions)
    if _TEXT_ORDER.search(masked_text(text)):
        yield from _quoted_numbers(task, route, text)
    if task.samples and _NUMBER_ORDER.search(masked_text(text)):
        yield from _ordered_texts(task, route, text)
    if config.scheme == "stripe" and "." in text:
        yield from _cents(task, route, text)
    if "length(" in text or "count(" in text:
        yield from _quoted_counts(task, route, text)
    if "search(" in text or "match(" in text:
        yield from _slashes(task, route, text)
        yield from _bad_patterns(task, route, text)
    if "*" in text or ".length" in text or ".size" in text or "count(" in text:
        for form, explain in _FORMS:
            for found in re.finditer(form, masked_text(text)):
                yield from _form(task, route, text, found, explain)
    if "match(" in text:
        yield from _partial_match(task, route, config, text)
    if re.search(_NO_REF, text):
        yield from _misspelt_ref(task, route, text)
    if config.scheme in ("github", "gitea", "gitlab"):
        yield from _short_ref(task, route, config, questions)
    texts = [question.value for question in questions if isinstance(question.value, str)]
    if texts and (config.scheme != "github" or any(text.startswith("refs/") or text.lower() in NOTHING for text in texts)):
        from optio.compiler.checks import sender_filters

        yield from sender_filters.check(task, route, config, questions)
    around = [] if task.samples else list(_around(task, route, config, questions))
    yield from around
    if config.scheme == "github":
        from optio.compiler.checks import github_filters

        yield from github_filters.check(task, route, config, [] if around else questions)
    elif task.samples:
        yield from _unsent(task, route, questions)


def _quoted_numbers(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report `@.total > '100000'`: a number and a text have no order, and texts are compared letter by letter."""
    for found in _TEXT_ORDER.finditer(masked_text(text)):
        value = text[found.start("value") + 1 : found.end("value") - 1]
        path = text[slice(*found.span("path"))]
        if not _NUMBER.fullmatch(value) or _is_text_in_samples(task, query_fast_path.steps(path)):
            continue
        start, end = found.span()
        meant = f"{text[start : found.start('value')]}{value}"
        message = f"`{text[start:end]}` never holds for a number: in quotes it is compared with a text"
        better = f"{text[:start]}{meant}{text[end:]}"
        span = task.document.inside(route, start, end)
        yield task.at("OPT426", message, route, hint=f"write `{meant}`", span=span, value=better, safe=False)


def _cents(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report `@.data.object.amount > 99.99`: Stripe's amounts are whole numbers, of cents in most currencies."""
    for found in re.finditer(_DECIMAL_AMOUNT, masked_text(text)):
        start, end = found.span("value")
        cents = f"{int(found['units'])}{found['parts'].ljust(2, '0')}".lstrip("0") or "0"
        meant = f"{text[found.start() : start]}{cents}"
        message = f"`{found['path']}` is a whole number of the smallest unit: 1000 are 10 dollars"
        better, span = f"{text[:start]}{cents}{text[end:]}", task.document.inside(route, found.start(), end)
        yield task.at("OPT426", message, route, hint=f"write `{meant}`", span=span, value=better, safe=False)


def _ordered_texts(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report `@.total_price >= 1000` where a sample has `"1598.94"`: a text and a number have no order."""
    for found in _NUMBER_ORDER.finditer(masked_text(text)):
        path, value = text[slice(*found.span("path"))], found["value"]
        if not _is_text_in_samples(task, query_fast_path.steps(path)):
            continue
        start, end = found.span()
        message = f"`{path}` is a text in the payload of a test, so `{text[start:end]}` never holds"
        meant = (
            f"match({path}, '[0-9]{{{len(value)},}}([.][0-9]+)?')"
            if re.fullmatch(r"10*", value) and found["sign"] == ">="
            else None
        )
        hint = f"write `{meant}`" if meant else "choose a field that is a number, or map it and let the prompt say what to do"
        better = f"{text[:start]}{meant}{text[end:]}" if meant else None
        span = task.document.inside(route, start, end)
        yield task.at("OPT426", message, route, hint=hint, span=span, value=better, safe=False)


def _quoted_counts(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report `length(@.commits) > '20'`: what `length` and `count` give is a number."""
    for found in _QUOTED_COUNT.finditer(masked_text(text)):
        value = text[found.start("value") + 1 : found.end("value") - 1]
        if not _NUMBER.fullmatch(value):
            continue
        start, end = found.span()
        meant = f"{text[start : found.start('value')]}{value}"
        message = f"`{found['function']}` gives a number, and never the text `'{value}'`"
        better, span = f"{text[:start]}{meant}{text[end:]}", task.document.inside(route, start, end)
        yield task.at("OPT426", message, route, hint=f"write `{meant}`", span=span, value=better, safe=False)


def _slashes(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report `search(@.title, '/bug/i')`: patterns stand without slashes, and flags in the pattern."""
    for found in re.finditer(_SLASHED, text):
        start, end = found.span("pattern")
        meant = f"(?i){found['inner']}" if "i" in found["flags"] else found["inner"]
        message = f"`{found['pattern']}` stands between slashes, as in another language: here they are part of the pattern"
        better, span = f"{text[:start]}{meant}{text[end:]}", task.document.inside(route, start, end)
        yield task.at("OPT426", message, route, hint=f"write `'{meant}'`", span=span, value=better, safe=False)


def _bad_patterns(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report a pattern that is not one of RE2, and one for a shell: both match nothing that their author means."""
    for found in re.finditer(_PATTERN, text):
        pattern = found["pattern"]
        why = next((name for sign, name in _UNKNOWN_SIGNS.items() if re.search(sign, pattern)), None)
        better = re.sub(r"(?<=[/\w-])\*\Z", ".*", pattern) if re.fullmatch(r"(?:refs/)?[\w/.-]*[/\w-]\*", pattern) else None
        span = task.document.inside(route, *found.span("pattern"))
        if why is not None:
            message = f"the pattern `{pattern}` uses {why}, which RE2 does not have: it matches nothing"
            hint = "write what must not match in a test of its own, such as `!search(@.title, 'wip')`"
            yield task.at("OPT426", message, route, hint=hint, span=span)
        elif better is not None:
            message = f"`*` in the pattern `{pattern}` repeats the sign before it"
            start, end = found.span("pattern")
            value = f"{text[:start]}{better}{text[end:]}"
            yield task.at("OPT426", message, route, hint=f"write `'{better}'`", span=span, value=value, safe=False)


def _form(task: ResolvedTask, route: Route, text: str, found: re.Match[str], explain: str) -> Iterator[Diagnostic]:
    """Report a comparison with a glob, `.length` as a field, and `count` of one value."""
    start, end = found.span()
    written, path = text[start:end], found["path"]
    if explain == "glob":
        value = text[found.start("value") + 1 : found.end("value") - 1]
        if not re.fullmatch(r"[\w./-]*[\w./-]\*+", value):
            return
        pattern = re.sub(r"\*+\Z", ".*", re.sub(r"[.]", "[.]", value))
        meant = f"{'!' if found['sign'] == '!=' else ''}match({path}, '{pattern}')"
        message = f"`{value}` is compared as it is, with its `*`"
    elif explain == "length":
        if task.samples and _has_field(task, path, written):
            return
        meant, message = f"length({path})", f"`{written}` finds nothing: a list or a text has no such field"
    else:
        meant = f"length({path})"
        message = f"`{written}` is 1 at most: `count` counts what a path finds, and this one finds one value"
    value = f"{text[:start]}{meant}{text[end:]}"
    span = task.document.inside(route, start, end)
    yield task.at("OPT426", message, route, hint=f"write `{meant}`", span=span, value=value, safe=False)


def _has_field(task: ResolvedTask, path: str, written: str) -> bool:
    return is_in_samples(task, query_fast_path.steps(f"{path}.{written.rpartition('.')[2]}"))


def _is_text_in_samples(task: ResolvedTask, steps: tuple[str, ...]) -> bool:
    values = [sample.payload for sample in task.samples]
    for step in steps:
        values = [value[step] for value in values if isinstance(value, dict) and step in value]
    return any(isinstance(value, str) for value in values)


def _partial_match(task: ResolvedTask, route: Route, config: WebhookConfig, text: str) -> Iterator[Diagnostic]:
    """Report `match(@.ref, 'refs/heads/release/')`: `match` compares the whole text, and this is a part of one."""
    for found in re.finditer(_MATCH, text):
        path, pattern = found["path"], found["pattern"]
        if (meant := _whole_pattern(path, pattern, config)) is None:
            continue
        start, end = found.span()
        message = f"`match` compares the whole text, and `{pattern}` is a part of one"
        span, better = task.document.inside(route, start, end), f"{text[:start]}{meant}{text[end:]}"
        yield task.at("OPT426", message, route, hint=f"write `{meant}`", span=span, value=better, safe=False)


def _whole_pattern(path: str, pattern: str, config: WebhookConfig) -> str | None:
    """Return the test that a pattern for a part of a text means, or None for a pattern that may fit a whole text."""
    begins, ends = pattern.startswith("^"), pattern.endswith("$")
    bare = pattern[begins : len(pattern) - ends]
    if not bare or "|" in re.sub(r"\([^()]*\)", "", bare):
        return None
    short = path == "@.ref" and config.scheme in ("github", "gitea", "gitlab") and set(config.events or ("push",)) <= _WITH_REFS
    if short and (named := re.match(r"[\w/-]+", bare)) and not f"{named[0]}/".startswith("refs/"):
        kind = "tags" if re.match(r"v\b|v?[0-9\[]", bare) else "heads"
        return f"match({path}, 'refs/{kind}/{bare}{'.*' if bare[-1] in _SEPARATORS else ''}')"
    if bare[-1] in _SEPARATORS and not ends and not bare.startswith(".*"):
        return f"match({path}, '{bare}.*')"
    if begins and not ends and not bare.endswith((".*", ".+", ")", "]")):
        return f"search({path}, '^{bare}')"
    if path.rpartition(".")[2] in _PROSE and re.fullmatch(r"(?:\(\?i\))?\w[\w ]*", pattern):
        return f"search({path}, '{pattern}')"
    if ends and not begins and not bare.startswith((".*", ".+", "(", "[")):
        return f"search({path}, '{bare}$')"
    return None


def _short_ref(task: ResolvedTask, route: Route, config: WebhookConfig, questions: list[Question]) -> Iterator[Diagnostic]:
    """Report `@.ref == 'main'`: a push sends the whole ref, such as `refs/heads/main`."""
    if not set(config.events or ("push",)) <= _WITH_REFS:
        return
    sent_refs = {str(sample.payload.get("ref")) for sample in task.samples if isinstance(sample.payload, dict)}
    for question in questions:
        name = question.value
        if question.path != "@.ref" or question.asked not in ("==", "!=") or not isinstance(name, str):
            continue
        if not name or name.startswith(("refs/", "ref/")) or name in sent_refs:
            continue
        name = name.removeprefix("origin/")
        kind = "tags" if re.match(r"v?[0-9]", name) else "heads"
        message = f"`@.ref` is the full name `refs/{kind}/{name}`, never `{name}`"
        hint = f"write `@.ref {question.asked} 'refs/{kind}/{name}'`"
        whole = config.when or ""
        better = f"{whole[: question.start]}@.ref {question.asked} 'refs/{kind}/{name}'{whole[question.end :]}"
        span = task.document.inside(route, question.start, question.end)
        yield task.at("OPT426", message, route, hint=hint, span=span, value=better, safe=False)


def _misspelt_ref(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report `refs/tag/v1` and the like: each ref begins with `refs/heads/` or `refs/tags/`."""
    for found in re.finditer(_NO_REF, text):
        meant = f"refs/{'tags' if found['kind'].startswith('tag') else 'heads'}/"
        start, end = found.span("ref")
        message = f"no ref begins with `{found['ref']}`: {'tags' if 'tags' in meant else 'branches'} are below `{meant}`"
        span, better = task.document.inside(route, start, end), f"{text[:start]}{meant}{text[end:]}"
        yield task.at("OPT426", message, route, hint=f"write `{meant}`", span=span, value=better, safe=False)


def _rooted(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    masked = masked_text(text)
    found = _ROOTED.search(masked)
    if found is None:
        return
    # Inside a nested filter, `@` is the current item.
    right = "$[0]" if "?" in masked else "@"
    path = PATH.match(masked, found.start())
    shown = text[found.start() : path.end() if path else found.end()]
    better, shift = text, 0
    for each in _ROOTED.finditer(masked):
        at, shift = each.start() + shift, shift + len(right) - 1
        better = f"{better[:at]}{right}{better[at + 1 :]}"
    fix = None
    if "\n" not in text:
        fix = task.document.rewritten(route, task.document.restyled(route, better))
    message = f"`{shown}` finds nothing: in a filter `$` is a list with the payload in it"
    hint = f"write `{right}{shown[1:]}`" + (", and quotes around the filter" if task.document.plain(route) else "")
    if len(list(_ROOTED.finditer(masked))) > 1 and "\n" not in text:
        from optio.compiler.yaml.emit import flow  # imported only for a file with a mistake

        hint = f"write `{right}` everywhere: `when: {flow(better)}`"
    span = task.document.inside(route, found.start(), found.start() + len(shown))
    yield task.at("OPT413", message, route, hint=hint, span=span, fix=fix)


def _around(task: ResolvedTask, route: Route, config: WebhookConfig, questions: list[Question]) -> Iterator[Diagnostic]:
    """Report `@.body.action` and the like: other systems put such a level around the body, and a delivery has none."""
    for question in questions:
        steps, on_github = question.steps, config.scheme == "github"
        # GitHub's own fields are known: `github_filters` names a closer one.
        is_other = len(steps) < 2 or question.path[0] != "@" or (on_github and steps[0] != "headers")
        elsewhere = path_elsewhere(steps, config) if question.path[0] == "@" and question.asked != "absent" else None
        if elsewhere is not None:
            where = f"in a delivery of {SENDERS_NAMES[config.scheme]}"
            yield unsent_diagnostic(task, route, question, where, f"write `@{elsewhere[1:]}`", elsewhere)
            continue
        found = None if is_other else unsent_root(steps, config.scheme, "@")
        if found is not None:
            hint, meant = found
            if question.steps[0] == "headers" and "event" in question.steps[1].lower() and question.asked == "==":
                header = f"`eventHeader: {question.steps[1]}` and " if config.scheme == "hmac" else ""
                is_whole = question.end - question.start == len((config.when or "").strip())
                place = "in the place of `when`" if is_whole else "in the place of this test"
                hint = f"a filter sees the body only: write {header}`events: [{question.value}]` {place}"
            where = f"in a delivery: no sender sends `{question.steps[0]}`"
            where = "in the body of a delivery" if question.steps[0] == "headers" else where
            yield unsent_diagnostic(task, route, question, where, hint, meant)


def _contradiction(task: ResolvedTask, route: Route, text: str, questions: list[Question]) -> Iterator[Diagnostic]:
    """Report two comparisons of one path with different values, joined by a sign that makes them always or never true."""
    masked = masked_text(text)
    for sign, asked, other, says in (("&&", "==", "||", "is never true"), ("||", "!=", "&&", "is always true")):
        if other in masked or "(" in masked or "?" in masked:
            continue
        seen: dict[str, Question] = {}
        for question in (each for each in questions if each.asked == asked):
            first = seen.setdefault(question.path, question)
            if first.value != question.value:
                message = f"this {says}: `{question.path}` has one value at a time"
                hint = f"write `{other}` instead of `{sign}`"
                span = task.document.inside(route, first.start, question.end)
                yield task.at("OPT426", message, route, hint=hint, span=span)
                return


def _unsent(task: ResolvedTask, route: Route, questions: list[Question]) -> Iterator[Diagnostic]:
    """Report paths that no sample has and that are close to a path that one has."""
    from optio.compiler.checks.samples import paths_of

    there = sorted({path for sample in task.samples for path in paths_of(sample.payload)})
    for question in questions:
        if (
            question.asked == "=="
            and not is_in_samples(task, question.steps)
            and (meant := suggest(f"${question.path[1:]}", there))
        ):
            yield unsent_diagnostic(task, route, question, "in any sample", f"did you mean `@{meant[1:]}`?", meant)
