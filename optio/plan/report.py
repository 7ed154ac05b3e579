"""The plan as text for a terminal."""

from collections.abc import Callable, Iterator

from optio.model.effect import EffectWeight
from optio.plan.compare import DisplayPath, Plan, Status, TaskChange
from optio.plan.effect import Effect
from optio.plan.words import brief, pluralize

Paint = Callable[[str, str], str]
MARKS = {
    Status.ADDED: "+",
    Status.CHANGED: "~",
    Status.RENAMED: "~",
    Status.REMOVED: "-",
    Status.BROKEN: "!",
    Status.MENDED: "+",
}
_COLOURS = {EffectWeight.DANGER: "31;1", EffectWeight.NOTICE: "0", EffectWeight.INFO: "2"}
_STATUS = {"+": "32;1", "~": "33;1", "-": "31;1", "!": "31;1"}
# Effects shown of one task.
MAX_EFFECTS = 60
_MAX_DIFF_LINES = 60
_MAX_TEXT_LENGTH = 400
_INDENT = 4


def paint_nothing(text: str, style: str) -> str:
    """Return the text without colour; the default of `paint`."""
    return text


def render_lines(
    plan: Plan, display_path: DisplayPath, *, paint: Paint = paint_nothing, verbose: bool = False
) -> Iterator[str]:
    """Yield the summary, then every task with its effects. `seen` gives the paths to show; `paint(text, style)` adds an ANSI
    style; `verbose` adds tasks whose files differ but which behave the same."""
    yield paint(plan.summary, "1")
    if plan.policy:
        yield ""
    for effect in plan.policy:
        yield from _effect_lines(effect, len(effect.kind), paint)
    for change in plan.changes:
        yield ""
        yield from _change_lines(change, display_path, paint)
    if plan.changes or plan.policy:
        yield ""
        yield from _legend(plan)
    if verbose and plan.cosmetic:
        yield ""
        for task in plan.cosmetic:
            yield f"= {task.id} ({display_path(task.origin.path)}): its file differs, its behaviour does not"


def _change_lines(change: TaskChange, display_path: DisplayPath, paint: Paint) -> Iterator[str]:
    mark = MARKS[change.status]
    path = change.path(display_path)
    yield paint(f"{mark} {change.task.id}", _STATUS[mark]) + paint(f"  {change.status}, {brief(path, _MAX_TEXT_LENGTH)}", "2")
    width = max(len(effect.kind) for effect in change.effects)
    for effect in change.heaviest(MAX_EFFECTS):
        yield from _effect_lines(effect, width, paint)
    if len(change.effects) > MAX_EFFECTS:
        yield " " * _INDENT + f"... {pluralize(len(change.effects) - MAX_EFFECTS, 'effect')} more: `--format json` has all"
    if change.expected is not None:
        yield " " * _INDENT + brief(change.expected, _MAX_TEXT_LENGTH)


def _effect_lines(effect: Effect, width: int, paint: Paint) -> Iterator[str]:
    mark = paint("!", "31;1") if effect.weight is EffectWeight.DANGER else " "
    yield f"{'':<{_INDENT - 2}}{mark} {paint(f'{effect.kind:<{width}}', _COLOURS[effect.weight])}  " + brief(
        effect.text, _MAX_TEXT_LENGTH
    )
    indent = " " * (_INDENT + width + 2)
    for line in effect.lines:
        yield indent + brief(line, _MAX_TEXT_LENGTH)
    for line in effect.diff[:_MAX_DIFF_LINES]:
        style = "32" if line.startswith("+") else "31" if line.startswith("-") else "2"
        yield indent + paint(brief(line, _MAX_TEXT_LENGTH), style)
    if len(effect.diff) > _MAX_DIFF_LINES:
        yield f"{indent}... {pluralize(len(effect.diff) - _MAX_DIFF_LINES, 'line')} more"


def _legend(plan: Plan) -> Iterator[str]:
    dangers = sum(effect.weight is EffectWeight.DANGER for effect in plan.effects)
    if dangers:
        yield f"`!` marks effects to review: {pluralize(dangers, 'effect')}"
    yield f"times from {plan.outlook.now:%Y-%m-%d %H:%M} UTC on, for 30 days"
