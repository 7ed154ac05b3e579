"""Schedules that fire, and not quite as they read."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise, takewhile

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolve import ResolvedTask
from optio.model.route import Route
from optio.model.text import duration
from optio.model.trigger import ScheduleTrigger

# How many values a field has; a step that does not divide it leaves an odd gap at its end.
_SIZES = (60, 24)
_NAMES = ("minute", "hour")
# Any time does: what is looked for repeats.
_START = datetime(2024, 1, 1, tzinfo=UTC)
_LOOKED_AT = 500
_DAY = timedelta(days=1)
# No zone sets its clocks by more in one night.
_MOST_SET = timedelta(hours=2)


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Every schedule that can be read."""
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index, "config", "cronExpression")
        if not isinstance(trigger, ScheduleTrigger) or not task.knows(route):
            continue
        from optio.model.cron import CronError, check_expression, expand

        try:
            check_expression(trigger.config.cron_expression)
        except CronError:
            continue
        fields = expand(trigger.config.cron_expression).split()
        yield from _uneven(task, route, fields)
        yield from _dialect(task, route, trigger.config.cron_expression, fields)
        yield from _overlap(task, route, trigger, fields)


def _uneven(task: ResolvedTask, route: Route, fields: list[str]) -> Iterator[Diagnostic]:
    for field, size, name in zip(fields, _SIZES, _NAMES, strict=False):
        whole, _, step = field.partition("/")
        if whole == "*" and step.isdigit() and int(step) and size % int(step):
            last = size - 1 - (size - 1) % int(step)
            message = f"every {step} {name}s, and {size - last} from {name} {last} to 0"
            steps = [n for n in range(2, size) if size % n == 0]
            near = min(steps, key=lambda n: (abs(n - int(step)), n))
            yield task.at("OPT305", message, route, hint=f"`*/{near}` divides {size}")


def _dialect(task: ResolvedTask, route: Route, expression: str, fields: list[str]) -> Iterator[Diagnostic]:
    odd = next((sign for sign in ("L", "W", "#", "?") if any(_has(field, sign) for field in fields)), None)
    if odd is not None or expression.strip().startswith("@"):
        what = f"`{odd}`" if odd else f"`{expression.strip()}`"
        hint = f"in five plain fields: `{' '.join(fields)}`" if odd is None else "keep it if only Optio reads it"
        yield task.at("OPT316", f"{what} is not read by every cron", route, hint=hint)


def _has(field: str, sign: str) -> bool:
    if sign in "#?":
        return sign in field
    # `JUL` and `WED` are names; `L`, `15W` and `5L` are not.
    return any(part == sign or (part.endswith(sign) and not part.isalpha()) for part in field.split(","))


def _overlap(task: ResolvedTask, route: Route, trigger: ScheduleTrigger, fields: list[str]) -> Iterator[Diagnostic]:
    """With one slot, a run that takes its whole time is still there when the next one is due."""
    spec = task.spec
    if spec.timeout is None or spec.max_concurrent != 1 or not task.knows(("timeout",)) or trigger.config.overlap == "skip":
        return
    if _least_gap(fields[0], fields[1]) - _MOST_SET >= duration(spec.timeout):
        return
    try:
        gap = _gap(trigger.config.cron_expression, trigger.config.timezone)
    except (KeyError, ValueError, OSError):  # the zone is reported where it stands
        return
    if gap < duration(spec.timeout):
        message = f"fires every {_words(gap)} at times, and a run may take {spec.timeout}: runs queue behind each other"
        hint = "write `overlap: skip`, a shorter `timeout`, or `maxConcurrent: 2`"
        yield task.at("OPT314", message, route, hint=hint)


@lru_cache(maxsize=4096)
def _gap(expression: str, zone: str) -> timedelta:
    from optio.model.cron import fires

    times = islice(fires(expression, zone, _START), _LOOKED_AT)
    return min((b - a for a, b in pairwise(times)), default=timedelta.max)


@lru_cache(maxsize=4096)
def _least_gap(minute: str, hour: str) -> timedelta:
    """A bound that costs little: the gap if every day counted and nobody set the clocks."""
    from optio.model.cron import fires

    times = takewhile(lambda at: at <= _START + 2 * _DAY, fires(f"{minute} {hour} * * *", "UTC", _START))
    return min(b - a for a, b in pairwise(times))


def _words(gap: timedelta) -> str:
    minutes = int(gap.total_seconds() // 60)
    return f"{minutes // 60} h" if minutes and minutes % 60 == 0 else f"{minutes} min"
