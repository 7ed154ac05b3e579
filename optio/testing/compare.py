"""Compare the outcome of a test with what it expects: verdict, reasons, parameters, prompt."""

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optio.compiler.diagnostics import shorten
from optio.compiler.source_tree import MissingFile, Unreadable
from optio.model.example import Expectation
from optio.model.registry import canonical
from optio.model.route import Route
from optio.runs.replay import DeliveryDecision

# Limits on a diff that is shown.
_MAX_LINES, _MAX_LINE_LENGTH = 200, 1_000


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An expectation that did not hold: its route below `expect`, a message for people, and a diff where there is one."""

    route: Route
    message: str
    diff: tuple[str, ...] = ()


def mismatches(
    expected: Expectation, decision: DeliveryDecision, snapshot: Callable[[str], str], came: str | None = None
) -> Iterator[Mismatch]:
    """Yield all mismatches; if the verdict differs, only that one, for the rest cannot match either. `snapshot` returns the
    text of a snapshot file or raises Unreadable; `came` explains the actual verdict."""
    if decision.verdict != expected.word:
        route: Route = ("verdict",) if expected.verdict is not None else ("error",) if expected.error is not None else ()
        reason = "".join(f": {detail}" for detail in (decision.detail, came) if detail)
        yield Mismatch(route, f"expected `{expected.word}`, got `{decision.verdict}`{reason}")
        return
    for index, part in enumerate(expected.reasons):
        if part not in (decision.detail or ""):
            route = ("error",) if isinstance(expected.error, str) else ("error", index)
            yield Mismatch(route, f"`{shorten(part)}` is not in the reason: {decision.detail}")
    if expected.params is not None and canonical(expected.params) != canonical(decision.params):
        yield _params_mismatch(expected.params, decision.params or {})
    prompt = decision.prompt or ""
    if expected.prompt is not None:
        yield from _compare_snapshot(expected.prompt, prompt, snapshot)
    for index, part in enumerate(expected.parts):
        if part not in prompt:
            route = ("promptContains",) if isinstance(expected.prompt_contains, str) else ("promptContains", index)
            lines = _limit_lines([f"  {line}" for line in prompt.splitlines()])
            yield Mismatch(route, f"`{shorten(part)}` is not in the prompt:", lines)


def _params_mismatch(expected: Mapping[str, Any], params: Mapping[str, Any]) -> Mismatch:
    """Build the mismatch at the first parameter that differs, where the test states it."""
    names = [name for name in expected if name not in params or canonical(expected[name]) != canonical(params[name])]
    route: Route = ("params", names[0]) if names else ("params",)
    return Mismatch(route, "the parameters differ", _diff(_lines(expected), _lines(params)))


def _compare_snapshot(name: str, prompt: str, snapshot: Callable[[str], str]) -> Iterator[Mismatch]:
    try:
        stored_prompt = snapshot(name)
    except Unreadable as err:
        cure = "`optio test --update` writes it" if isinstance(err, MissingFile) else err.hint or ""
        yield Mismatch(("prompt",), f"`{name}` {err.message}" + (f": {cure}" if cure else ""))
        return
    if stored_prompt != prompt:
        message = f"the prompt differs from `{name}`: fix the task, or accept the new prompt with `optio test --update`"
        yield Mismatch(("prompt",), message, _diff(stored_prompt, prompt))


def _lines(params: Mapping[str, Any]) -> str:
    return json.dumps(params, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _diff(expected: str, actual: str) -> tuple[str, ...]:
    # Keep line ends: they may be the only difference.
    before, after = expected.splitlines(keepends=True), actual.splitlines(keepends=True)
    lines: list[str] = []
    for line in difflib.unified_diff(before, after, "expected", "got", lineterm="\n", n=2):
        text = line.removesuffix("\n")
        lines.append(text)
        if text == line and line[:1] in "+- ":
            lines.append("\\ no line end")
    return _limit_lines(lines)


def _limit_lines(lines: list[str]) -> tuple[str, ...]:
    limited = [_limit_line(line) for line in lines[:_MAX_LINES]]
    rest = len(lines) - len(limited)
    return (*limited, f"... {rest:,} more lines") if rest else tuple(limited)


def _limit_line(line: str) -> str:
    rest = len(line) - _MAX_LINE_LENGTH
    return f"{line[:_MAX_LINE_LENGTH]}... {rest:,} more characters" if rest > 0 else line
