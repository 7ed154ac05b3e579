"""Parse the questions that a webhook's `when` asks of a payload, such as `@.action == 'opened'`, without the query engine.
`filters` and `github_filters` compare the questions with samples and with the fields of GitHub's events."""

import json
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.payloads import query_fast_path
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.yaml.scalars import single_quoted
from optio.model.route import Route

# What other languages call null.
NOTHING = frozenset({"null", "none", "undefined", "nil"})
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")


_BRACKET = re.compile(r"\[\s*\?|[\[\]]")


_MAX_FILTER_LENGTH = 4_000


# Characters before a path in which its beginning is searched.
_MAX_QUESTIONS = 20


PATH = re.compile(r"[@$](?:\.[A-Za-z_]\w*|\[-?[0-9]+\]|\['_+'\]|\[\"_+\"\])*(?P<more>\s*[.\[])?", re.ASCII)


_ENDS = r"\s*(?:\Z|&&|\|\||\))"


_HELD = re.compile(rf"\s*(==|!=)\s*('_*'|\"_*\"|-?[0-9][0-9.]*|true|false|null)(?={_ENDS})")


_BEGINS = re.compile(r"(?:\A|&&|\|\||(?<!\w)\(|!)\s*\Z")


class Question(NamedTuple):
    """A path of a filter with the comparison that follows it. `at` is the offset of the path, `start` and `end` enclose the
    whole question. `asked` is `other` where the comparison is too complex to read, and `begun` says that the path goes on with
    a step that is not read."""

    asked: Literal["there", "absent", "==", "!=", "other"]
    path: str
    steps: tuple[str, ...]
    begun: bool
    value: Any
    at: int
    start: int
    end: int


def questions_of(text: str) -> Iterator[Question]:
    """Yield the questions of a filter in the order of the text. Questions inside a nested filter (`[?...]`) are left out, and
    so are filters of more than `_MAX_FILTER_LENGTH` characters."""
    masked = _outer(masked_text(text)) if len(text) <= _MAX_FILTER_LENGTH else ""
    for found in PATH.finditer(masked):
        at, begun = found.start(), found["more"] is not None
        end = found.start("more") if begun else found.end()
        path, start = text[at:end], at
        steps = query_fast_path.steps(path)
        asked: Literal["there", "absent", "==", "!=", "other"] = "other"
        value = None
        if not begun and (begins := _BEGINS.search(masked, max(0, at - _MAX_QUESTIONS), at)):
            if held := _HELD.match(masked, end):
                asked, value, end = ("==" if held[1] == "==" else "!="), _value(text[held.start(2) : held.end(2)]), held.end(2)
            elif re.compile(_ENDS).match(masked, end):
                asked, start = ("absent", begins.start()) if begins[0].startswith("!") else ("there", at)
        yield Question(asked, path, steps, begun, value, at, start, end)


def masked_text(text: str) -> str:
    """Return the text with all characters between quotes replaced by `_`, so that offsets stay and quoted signs do not
    match."""
    return _QUOTED.sub(lambda quoted: f"{quoted[0][0]}{'_' * (len(quoted[0]) - 2)}{quoted[0][0]}", text)


def _outer(masked: str) -> str:
    """Return the masked text with the contents of nested filters replaced by `_`."""
    outer, depth, start = masked, 0, 0
    for found in _BRACKET.finditer(masked):
        if depth:
            depth += 1 if found[0][0] == "[" else -1
            if not depth:
                outer = f"{outer[: start + 1]}{'_' * (found.start() - start - 1)}{outer[found.start() :]}"
        elif "?" in found[0]:
            depth, start = 1, found.start()
    return outer


def _value(literal: str) -> Any:
    if literal[0] in "'\"":
        return literal[1:-1]
    try:
        return json.loads(literal)
    except ValueError:
        return None


def write_when(text: str) -> str:
    """Return the key `when` with a filter, as it is written into the file."""
    whole = " ".join(text.split())
    return f"when: {single_quoted(whole)}" if '"' in whole or "\\" in whole else f'when: "{whole}"'


def with_test(when: str | None, test: str) -> str:
    """Return the key `when` with the filter that is there and one more test."""
    if when is None:
        return write_when(test)
    return write_when(f"({when}) && {test}" if "||" in masked_text(when) else f"{when} && {test}")


def without_tests(when: str, gone: list[Question]) -> str | None:
    """Return the filter without the parts between `&&` that ask nothing but these questions. Returns an empty text if none is
    left, and None if a part asks more."""
    masked, parts, start, depth = masked_text(when), [], 0, 0
    for found in re.finditer(r"&&|\|\||[()\[\]]", masked):
        depth += (found[0] in "([") - (found[0] in ")]")
        if depth == 0 and found[0] == "||":
            return None
        if depth == 0 and found[0] == "&&":
            parts.append((start, found.start()))
            start = found.end()
    parts.append((start, len(when)))
    left, dropped = [], 0
    for begin, end in parts:
        inside = [question for question in gone if begin <= question.at < end]
        if inside and ("||" in masked[begin:end] or len(list(PATH.finditer(masked, begin, end))) > len(inside)):
            return None
        dropped += len(inside)
        left += [] if inside else [when[begin:end].strip()]
    return " && ".join(left) if dropped == len(gone) else None


def unsent_diagnostic(
    task: ResolvedTask, route: Route, question: Question, where: str, hint: str, meant: str | None
) -> Diagnostic:
    """Return the finding OPT413 at a question whose path no delivery has. `where` completes the message ("in any sample"), and
    `meant`, a path from `$`, becomes a fix where the question is written on one line."""
    span = task.document.inside(route, question.at, question.at + len(question.path))
    write = f"@{meant[1:]}" if meant is not None and task.document.text_at(span, route) == question.path else None
    message = f"`{question.path}` finds nothing {where}"
    return task.at("OPT413", message, route, hint=hint, span=span, write=write, safe=False)


def is_in_samples(task: ResolvedTask, steps: tuple[str, ...]) -> bool:
    """Return True if one of the payloads that the task's tests name has a value at these steps."""
    return any(_has(sample.payload, steps) for sample in task.samples)


def _has(value: Any, steps: tuple[str, ...]) -> bool:
    for step in steps:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and re.fullmatch("-?[0-9]{1,9}", step) and -len(value) <= int(step) < len(value):
            value = value[int(step)]
        else:
            return False
    return True
