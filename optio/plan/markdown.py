"""The plan as Markdown, for a comment on a pull request.

Only words of plain letters and counts stand as text. Everything else that a file may hold stands in code spans or blocks, with
a fence longer than any row of backquotes inside. So it cannot break out, mention people, add links or load pictures.
"""

import re
from collections.abc import Iterator, Sequence

from optio.compiler.diagnostics import Diagnostic
from optio.model.effect import EffectWeight
from optio.plan.compare import DisplayPath, Plan, TaskChange
from optio.plan.effect import Effect
from optio.plan.report import MARKS, MAX_EFFECTS
from optio.plan.words import brief, pluralize

# GitHub accepts 65,536 characters.
MAX_LENGTH = 60_000
_MAX_ROWS = 100
_MAX_LINE_LENGTH = 400
_MAX_ERRORS = 20
_TICKS = re.compile("`+")
_TOKEN = re.compile(r"(?P<open>\(?)(?P<value>`[^`]+`|\S+?)(?P<close>[),.;:]*)(?=\s|$)")
_PLAIN = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*|\d{1,3}(?:,\d{3})*|->|/")
# GitHub would render these as a commit hash or a list number.
_NOT_PLAIN = re.compile(r"[a-f]{7,}|\d+[.)]", re.IGNORECASE)
_FOOTER_LENGTH = 400


def render_markdown(
    plan: Plan, display_path: DisplayPath, errors: Sequence[Diagnostic] = (), failing: Sequence[tuple[str, Effect]] = ()
) -> str:
    """Return the summary, the errors and effects that make the plan fail, a table, and each task's effects, folded. Drops diffs
    and then tasks that would exceed GitHub's limit on comments, and says so."""
    parts = [f"### {plan.summary}"]
    if errors:
        parts.append("\n".join(_errors(errors)))
    if failing:
        parts.append("\n".join(_failing(failing)))
    if not plan.changes and not plan.policy:
        return "\n\n".join(parts) + "\n"
    if plan.changes:
        parts.append("\n".join(_table(plan, display_path)))
    if plan.policy:
        parts.append("**The policy**\n\n" + "\n".join(_effects(plan.policy, diff=True)))
    room = MAX_LENGTH - _FOOTER_LENGTH - sum(len(part) + 2 for part in parts)
    for index, change in enumerate(plan.changes):
        block = _details(change, diff=True)
        if len(block) > room:
            block = _details(change, diff=False)
        if len(block) > room:
            rest_count = len(plan.changes) - index
            parts.append(f"... and {pluralize(rest_count, 'task')} more, left out to keep this short: `optio plan` shows all.")
            break
        room -= len(block) + 2
        parts.append(block)
    parts.append(
        f"<sub>:warning: marks effects to review. Times from {plan.outlook.now:%Y-%m-%d %H:%M} UTC on, for 30 days.</sub>"
    )
    return "\n\n".join(parts) + "\n"


def _errors(errors: Sequence[Diagnostic]) -> Iterator[str]:
    for error in errors[:_MAX_ERRORS]:
        hint = f" ({prose(error.hint)})" if error.hint else ""
        position = f"{error.path}:{error.span.start.line}:{error.span.start.column}"
        yield f"- :x: {code(position)} {prose(error.message)}{hint} {code(f'{error.code} {error.rule}')}"
    if len(errors) > _MAX_ERRORS:
        yield f"- ... and {pluralize(len(errors) - _MAX_ERRORS, 'error')} more: `optio check` shows all"


def _failing(failing: Sequence[tuple[str, Effect]]) -> Iterator[str]:
    """Yield the tasks, each with the kinds of its effects that `failOn` lists."""
    kinds: dict[str, dict[str, None]] = {}
    for task, effect in failing:
        kinds.setdefault(task, {})[effect.kind] = None
    yield f":x: {pluralize(len(failing), 'effect')} listed in {code('failOn')}:\n"
    for task, names in list(kinds.items())[:_MAX_ERRORS]:
        yield f"- {code(task) if task else 'the policy'}: {', '.join(names)}"
    if len(kinds) > _MAX_ERRORS:
        yield f"- ... and {pluralize(len(kinds) - _MAX_ERRORS, 'task')} more"


def _table(plan: Plan, display_path: DisplayPath) -> Iterator[str]:
    yield "| | task | file | effects |"
    yield "|---|---|---|---|"
    for change in plan.changes[:_MAX_ROWS]:
        kinds = dict.fromkeys(_effect_text(effect) for effect in change.effects)
        path_text = code(change.path(display_path)).replace("|", "\\|")
        yield f"| {MARKS[change.status]} {change.status} | {code(change.task.id)} | {path_text} | {', '.join(kinds)} |"
    if len(plan.changes) > _MAX_ROWS:
        yield f"| | ... and {pluralize(len(plan.changes) - _MAX_ROWS, 'task')} more | | |"


def _effect_text(effect: Effect) -> str:
    return f":warning: {effect.kind}" if effect.weight is EffectWeight.DANGER else str(effect.kind)


def _details(change: TaskChange, *, diff: bool) -> str:
    open_attribute = " open" if change.weight is EffectWeight.DANGER else ""
    head = f"<details{open_attribute}><summary>{MARKS[change.status]} {change.task.id} ({change.status})</summary>"
    spend_lines = [] if change.expected is None else [f"- {prose(change.expected)}"]
    rest_count = len(change.effects) - MAX_EFFECTS
    rest_lines = [f"- ... and {pluralize(rest_count, 'effect')} more"] if rest_count > 0 else []
    effect_lines = _effects(change.heaviest(MAX_EFFECTS), diff=diff)
    return "\n".join([head, "", *effect_lines, *rest_lines, *spend_lines, "", "</details>"])


def _effects(effects: tuple[Effect, ...], *, diff: bool) -> Iterator[str]:
    for effect in effects:
        yield f"- {_effect_text(effect)}: {prose(effect.text)}"
        for line in effect.lines:
            yield f"  - {prose(line)}"
        if effect.diff and diff:
            diff_lines = [brief(line, _MAX_LINE_LENGTH) for line in effect.diff]
            fence = "`" * max(3, 1 + max(_longest_backquotes(line) for line in diff_lines))
            yield f"\n  {fence}diff"
            yield from (f"  {line}" for line in diff_lines)
            yield f"  {fence}\n"
        elif effect.diff:
            yield f"  - {pluralize(len(effect.diff), 'line')} of diff left out"


def prose(value: str) -> str:
    """Return a sentence on one line, with everything except plain words and counts in code spans."""
    parts: list[str] = []
    coded: list[str] = []  # adjacent values share a code span
    for match in _TOKEN.finditer(brief(value, _MAX_LINE_LENGTH)):
        prefix, word, suffix = match["open"], match["value"], match["close"]
        is_quoted = len(word) > 2 and word.startswith("`") and word.endswith("`")
        if _PLAIN.fullmatch(word) and not _NOT_PLAIN.fullmatch(word) and not (not parts and _NOT_PLAIN.match(word + suffix)):
            parts += [*_spans(coded), f"{prefix}{word}{suffix}"]
            continue
        if is_quoted or prefix:
            parts += _spans(coded)
        coded.append(word[1:-1] if is_quoted else word)
        if is_quoted or prefix or suffix:
            parts.append(prefix + "".join(_spans(coded)) + suffix)
    return " ".join([*parts, *_spans(coded)])


def _spans(words: list[str]) -> list[str]:
    """Empty the list into at most one code span."""
    text = " ".join(words)
    words.clear()
    return [code(text)] if text else []


def code(value: str) -> str:
    """Return a code span of exactly this text, on one line."""
    text = brief(value, _MAX_LINE_LENGTH)
    fence = "`" * (1 + _longest_backquotes(text))
    blank = " " if text.startswith("`") or text.endswith("`") or not text.strip() else ""
    return f"{fence}{blank}{text}{blank}{fence}"


def _longest_backquotes(text: str) -> int:
    return max((len(ticks) for ticks in _TICKS.findall(text)), default=0)
