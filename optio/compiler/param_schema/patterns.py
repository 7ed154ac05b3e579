"""Check the regular expressions of a schema: each must be valid, and all together must compile within bounded work and
memory."""

import re
from collections.abc import Iterator
from typing import Any

from optio.compiler.diagnostics import Diagnostic, report_first
from optio.compiler.param_schema.keywords import subschemas
from optio.compiler.resolved_task import ResolvedTask
from optio.model.params import MAX_PATTERN_BYTES, SchemaError, validator
from optio.model.route import Route

# Characters times classes, because the engine walks a pattern once for each class in it. Takes a fifth of a second.
MAX_WORK = 320_000
_CLASS = r"\\[wWsSdDc]"
_MAX_TOTAL_BYTES = 16 << 20
# Patterns of the allowed length without repetitions stay below this size.
_MAX_PATTERN_BYTES = 64 << 20
_AHEAD = r"\(\?[=!]"
_UNSUPPORTED = {
    _AHEAD: "look-ahead",
    r"\(\?<[=!]": "look-behind",
    r"\(\?>": "an atomic group",
    r"\\[1-9]": "a back-reference",
}
# A pattern literal of JavaScript or Ruby; no text can precede `^` or follow `$`.
_LITERAL = r"(?s)/(\^.*|.*\$)/[a-z]{0,6}"
_REPEATED = r"\{(\d+)(?:,(\d*))?\}"

Pattern = tuple[Route, bool, str]


def patterns_in(schema: dict[str, Any]) -> list[Pattern]:
    """Return every pattern with its route inside the schema, and whether the pattern is a key (`patternProperties`)."""
    patterns: list[Pattern] = []
    for route, sub in subschemas(schema, ()):
        if isinstance(sub.get("pattern"), str):
            patterns.append(((*route, "pattern"), False, sub["pattern"]))
        keyed = sub.get("patternProperties")
        if isinstance(keyed, dict):
            patterns += [((*route, "patternProperties", pattern), True, pattern) for pattern in keyed]
    return patterns[::-1]  # the walk yields them in reverse


def pattern_size_limit(patterns: list[Pattern]) -> int:
    """Return the bytes that each pattern may use, so that all together stay small. The engine compiles equal patterns once."""
    return min(MAX_PATTERN_BYTES, _MAX_TOTAL_BYTES // max(1, len(_different(patterns))))


def _different(patterns: list[Pattern]) -> set[str]:
    return {pattern for _, _, pattern in patterns}


def check_total_work(task: ResolvedTask, at: Route, patterns: list[Pattern]) -> Iterator[Diagnostic]:
    """Report one finding if the patterns together need more work than `MAX_WORK`."""
    different = _different(patterns)
    if sum(map(_work, different)) <= MAX_WORK:
        return
    place, key, worst = max(patterns, key=lambda pattern: _work(pattern[2]))
    if _work(worst) > MAX_WORK:
        message = (
            f"`{worst}` is too long for its {len(re.findall(_CLASS, worst)):,} classes such as `\\w`: {len(worst):,} characters"
        )
    else:
        message = f"`{worst}` is the longest of {len(different):,} patterns, which have too many classes such as `\\w` together"
    hint = "write them out, such as `[a-z0-9_]`, or list what is allowed under `enum`"
    yield task.at("OPT212", message, at + place, key=key, hint=hint)


def check_slashes(task: ResolvedTask, at: Route, patterns: list[Pattern]) -> Iterator[Diagnostic]:
    """Report patterns between slashes, as other languages write literals."""

    def tell(finding: tuple[Pattern, str]) -> Diagnostic:
        (place, key, pattern), bare = finding
        message = f"`{pattern}` is written between slashes, as in another language, and matches nothing"
        value = None if key else bare
        return task.at("OPT212", message, at + place, key=key, hint=f"write `{bare}`", value=value, safe=False)

    literals = ((finding, re.fullmatch(_LITERAL, finding[2])) for finding in patterns if finding[2].startswith("/"))
    return report_first(((finding, literal[1]) for finding, literal in literals if literal is not None), tell)


def _work(pattern: str) -> int:
    return len(pattern) * len(re.findall(_CLASS, pattern))


def invalid_patterns(patterns: list[Pattern]) -> dict[Route, Pattern]:
    """Return the patterns that the engine rejects, by route."""
    limit = pattern_size_limit(patterns)
    compiles = {pattern: _compiles(pattern, limit) for pattern in _different(patterns)}
    return {finding[0]: finding for finding in patterns if not compiles[finding[2]]}


def explain_patterns(task: ResolvedTask, at: Route, wrong: dict[Route, Pattern], count: int) -> Iterator[Diagnostic]:
    """Report what is wrong with each invalid pattern; `count` is the number of all patterns, which share the memory."""

    def tell(finding: Pattern) -> Diagnostic:
        place, key, pattern = finding
        reason, hint, within = _wrong_with(pattern, count)
        span = None if key else task.document.inside(at + place, *within)
        return task.at("OPT212", f"`{pattern}` {reason}", at + place, key=key, hint=hint, span=span)

    return report_first(wrong.values(), tell)


def _closed(pattern: str) -> str | None:
    """Return the hint for signs of Python's patterns, and for one bracket that is not closed."""
    tries = [re.sub(r"\\Z", "$", re.sub(r"\\A", "^", pattern)), re.sub(r"\(\?<(?=[A-Za-z])", "(?P<", pattern)]
    for sign in "])}":
        tries += [re.sub(r"([+*?]\$?|\$)\Z", rf"{sign}\1", pattern, count=1), f"{pattern}{sign}"]
    better = next((candidate for candidate in tries if candidate != pattern and _compiles(candidate, _MAX_PATTERN_BYTES)), None)
    return None if better is None else f"write `{better}`, or a backslash before a literal sign"


def _wrong_with(pattern: str, count: int) -> tuple[str, str, tuple[int, int]]:
    """Return message, hint and range for an invalid pattern. The engine matches in linear time, so look-ahead, look-behind and
    back-references do not exist."""
    for sign, name in _UNSUPPORTED.items():
        match = re.search(sign, pattern)
        if match is not None:
            hint = "write only the allowed characters, such as `^[a-z]+$`"
            if sign == _AHEAD:
                hint += "; for what is not allowed write `not: {pattern: ...}` beside `pattern`"
            return f"uses {name}, which Optio's patterns do not support", hint, match.span()
    full_range = (0, len(pattern))
    unrepeated = re.sub(_REPEATED, _once, pattern)
    if not _compiles(unrepeated, _MAX_PATTERN_BYTES):
        return (
            "is not a valid pattern",
            _closed(pattern) or "close each bracket, and write a backslash before a literal sign: `\\(`",
            full_range,
        )
    if _compiles(pattern, MAX_PATTERN_BYTES):
        return f"is too large among {count:,} patterns", "write fewer patterns, or repeat less in them", full_range
    if unrepeated != pattern:
        hint = "write `+` or `*` instead of a large number, and bound the length by `maxLength`"
        return "is too large: each repetition copies its pattern", hint, full_range
    hint = "write `[a-z]` or `.` instead of a class such as `\\p{L}`"
    return "is too large: it stands for too many characters", hint, full_range


def _once(match: re.Match[str]) -> str:
    low, high = match.groups()
    return match[0] if high and int(high) < int(low) else "{1}"


def _compiles(pattern: str, limit: int) -> bool:
    try:
        validator({"pattern": pattern}, limit)
    except (SchemaError, ValueError):
        return False
    return True
