"""Check `warmPoolSize`: pods that are kept ready for more runs than may run at once, or for a schedule that rarely fires."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.route import Route
from optio.model.trigger import ScheduleTrigger

_ROUTE: Route = ("warmPoolSize",)
# Schedules are measured over these 52 weeks, so that findings do not depend on today's date.
_BEGIN = datetime(2024, 1, 1, tzinfo=UTC) - timedelta(seconds=1)
_LENGTH = timedelta(weeks=52)
# A pod that waits longer than this for a run, on average, is rarely worth its cost.
_RARE = timedelta(hours=6)


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a pool larger than `maxConcurrent`, and a pool of a task that only a rare schedule starts."""
    size, max_runs = task.spec.warm_pool_size, task.spec.max_concurrent
    if not size or not task.spec.enabled or not task.is_known(_ROUTE):
        return
    if size > max_runs and task.is_known(("maxConcurrent",)):
        runs = "1 run" if max_runs == 1 else f"{max_runs} runs"
        hint = f"write {max_runs}, or raise `maxConcurrent`"
        yield task.at("OPT606", f"{size} pods are kept ready for {runs} at once", _ROUTE, hint=hint)
    schedule = task.spec.schedule
    if schedule is None or not schedule.enabled or len(task.spec.triggers) > 1:
        return
    gap = _gap(schedule)
    if gap is not None and gap >= _RARE:
        hours = gap / timedelta(hours=1)
        pods = "a pod waits" if size == 1 else f"{size} pods wait"
        yield task.at(
            "OPT606",
            f"only `{schedule.config.cron_expression}` starts this task: {pods} {hours:,.0f} hours for each run",
            _ROUTE,
            hint="write 0; `optio pool plan` compares sizes",
        )


def _gap(schedule: ScheduleTrigger) -> timedelta | None:
    """Return the average time between two fires within 52 weeks, or None for an invalid schedule, which `schedule` reports."""
    # Imported here: a tree without pools does not pay for it.
    from zoneinfo import ZoneInfoNotFoundError

    from optio.scheduling.cron import CronError, count_fires, last_fires, next_fire

    expression, zone, end = schedule.config.cron_expression, schedule.config.timezone, _BEGIN + _LENGTH
    try:
        fires = count_fires(expression, zone, _BEGIN, end)
        first, last = next_fire(expression, zone, _BEGIN), last_fires(expression, zone, end, _BEGIN, 1)
    except (CronError, ZoneInfoNotFoundError, ValueError, OSError):
        return None
    if first is None or not last or fires is None or fires < 2:
        return _LENGTH  # an even rarer schedule counts as this rare
    return (last[0] - first) / (fires - 1)
