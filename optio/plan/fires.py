"""Effects on schedules: walk the old and the new cron expression through the same 30 days, and compare the slots."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from optio.model.effect import EffectKind
from optio.model.params import apply_defaults
from optio.model.registry import CompiledTask, canonical
from optio.model.route import Route
from optio.model.trigger import ScheduleConfig
from optio.plan.effect import Effect, Forecast, trigger_route, value_change
from optio.plan.words import changed_entries, local_time, pluralize
from optio.scheduling import calendar, cron
from optio.scheduling.dst import dst_effect
from optio.scheduling.zone_transitions import clock_changes

# Schedules with more fires in the horizon are counted, not listed.
MAX_LISTED_FIRES = 5_000
# Two schedules that agree on so many fires are taken to be equal.
_FIRES_COMPARED = 1_000
_MAX_SLOTS_SHOWN = 3
_YEAR, _DAY, _SECOND = timedelta(days=366), timedelta(days=1), timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class FireForecast:
    """The fires of a schedule within the horizon. `slots` is None when there are too many to list, so that they are only
    counted."""

    count: int
    first: datetime | None
    slots: tuple[datetime, ...] | None


NO_FIRES = FireForecast(0, None, ())


def config_of(task: CompiledTask | None) -> ScheduleConfig | None:
    """Return the schedule that starts the task, or None if it has none, or the task or the trigger is disabled."""
    if task is None or not task.spec.enabled or task.spec.schedule is None or not task.spec.schedule.enabled:
        return None
    return task.spec.schedule.config


def fires_of(task: CompiledTask | None, outlook: Forecast) -> FireForecast:
    """Return the fires of a task's schedule within the horizon."""
    config = config_of(task)
    return NO_FIRES if config is None else _forecast_fires(config.cron_expression, config.timezone, outlook.now, outlook.until)


@lru_cache(maxsize=4096)
def _forecast_fires(expression: str, zone: str, now: datetime, until: datetime) -> FireForecast:
    first = cron.next_fire(expression, zone, now)
    count = cron.count_fires(expression, zone, now, until) or 0
    if count > MAX_LISTED_FIRES:
        return FireForecast(count, first, None)
    return FireForecast(count, first, tuple(islice(cron.fires(expression, zone, now), count)))


def effects(before: CompiledTask | None, after: CompiledTask | None, outlook: Forecast) -> Iterator[Effect]:
    """Yield effects on when the schedule fires, on missed and overlapping slots, and on the parameters of its runs."""
    old, new = config_of(before), config_of(after)
    route = trigger_route(after, "schedule")
    if old is None and new is None:
        return
    if old is None or new is None or not _is_same_schedule(old, new, outlook.now):
        yield _fires_changed(before, after, outlook, (*route, "cronExpression"))
    if old is None or new is None:
        return
    if _catch_up(old) != _catch_up(new):
        yield value_change(
            EffectKind.CATCH_UP_CHANGED, "missed and overlapping times", _catch_up(old), _catch_up(new), (*route, "misfire")
        )
    schedule_params = _schedule_params(before, old), _schedule_params(after, new)
    for name, was, now in changed_entries(old.param_mapping, new.param_mapping, "not given"):
        # An explicit value equal to the default is no change.
        if all(name in params for params in schedule_params) and canonical(schedule_params[0][name]) == canonical(
            schedule_params[1][name]
        ):
            continue
        place = (*route, "paramMapping", name)
        yield value_change(EffectKind.SCHEDULE_PARAMS_CHANGED, f"the schedule's runs get {name}", was, now, place)


def _schedule_params(task: CompiledTask | None, config: ScheduleConfig) -> dict[str, Any]:
    return apply_defaults(None if task is None else task.spec.params_schema, config.param_mapping)


def _catch_up(config: ScheduleConfig) -> str:
    limit_text = f" of at most {config.max_catch_up}" if config.misfire == "all" else ""
    return f"misfire {config.misfire}{limit_text}, overlap {config.overlap}"


def _is_same_schedule(old: ScheduleConfig, new: ScheduleConfig, now: datetime) -> bool:
    return _have_same_fires(old.cron_expression, old.timezone, new.cron_expression, new.timezone, now)


@lru_cache(maxsize=4096)
def _have_same_fires(old: str, old_zone: str, new: str, new_zone: str, now: datetime) -> bool:
    if (cron.expand(old), old_zone) == (cron.expand(new), new_zone):
        return True
    old_fires, new_fires = cron.fires(old, old_zone, now), cron.fires(new, new_zone, now)
    if any(a != b for a, b in zip(islice(old_fires, _FIRES_COMPARED), islice(new_fires, _FIRES_COMPARED), strict=False)):
        return False
    # Frequent schedules agree long before the first clock change, so compare the days around those too.
    set_at = {change.at for zone in {old_zone, new_zone} for change in clock_changes(zone, now, now + _YEAR)}
    spans = [(at - _DAY, at + _DAY) for at in set_at]
    return all(
        list(cron.fires_between(old, old_zone, *span)) == list(cron.fires_between(new, new_zone, *span)) for span in spans
    )


def _fires_changed(before: CompiledTask | None, after: CompiledTask | None, outlook: Forecast, route: Route) -> Effect:
    old, new = fires_of(before, outlook), fires_of(after, outlook)
    texts = _schedule_text(config_of(before)), _schedule_text(config_of(after))
    lines = [_next_fire_text(old, new, config_of(before), config_of(after))]
    if old.slots is None or new.slots is None:
        lines.append(f"more than {MAX_LISTED_FIRES:,} fires: counted, not listed")
    else:
        were, are = set(old.slots), set(new.slots)
        lines += _slots_text("added", [at for at in new.slots if at not in were], config_of(after))
        lines += _slots_text("lost", [at for at in old.slots if at not in are], config_of(before))
        if were == are:
            lines.append("the same times in these days, different ones later")
    lines += _skipped_times(config_of(before), config_of(after), outlook)
    text = f"fires in 30 days: {old.count:,}" + (", as before" if old.count == new.count else f" -> {new.count:,}")
    if texts[0] != texts[1]:
        text += f"  ({texts[0]} -> {texts[1]})" if all(texts) else f"  ({texts[0] or texts[1]})"
    return Effect(
        kind=EffectKind.FIRES_CHANGED, text=text, before=texts[0], after=texts[1], lines=tuple(filter(None, lines)), route=route
    )


def _schedule_text(config: ScheduleConfig | None) -> str | None:
    return None if config is None else f"{cron.explain(config.cron_expression)}, {config.timezone}"


def _next_fire_text(old: FireForecast, new: FireForecast, was: ScheduleConfig | None, now: ScheduleConfig | None) -> str:
    if old.first == new.first:
        return ""
    return f"next: {_fire_text(old.first, was)} -> {_fire_text(new.first, now)}"


def _fire_text(at: datetime | None, config: ScheduleConfig | None) -> str:
    if at is None or config is None:
        return "never"
    return local_time(at.astimezone(ZoneInfo(config.timezone)))


def _skipped_times(was: ScheduleConfig | None, now: ScheduleConfig | None, outlook: Forecast) -> Iterator[str]:
    """Yield a line for the first clock change of the next year that newly skips a time of the schedule."""
    if now is None:
        return
    for change in clock_changes(now.timezone, outlook.now, outlook.until + _YEAR):
        effect = dst_effect(now.cron_expression, change) if change.skips else None
        if effect is None:
            continue
        if was is None or was.timezone != now.timezone or dst_effect(was.cron_expression, change) != effect:
            at, further = effect.times[0], len(effect.times) - 1
            further_text = f" and {pluralize(further, 'further time')}" if further else ""
            instead = cron.next_fire(now.cron_expression, now.timezone, change.at - _SECOND)
            fate = f"it starts at {_fire_text(instead, now)}" if effect.what == "moved" else "it does not start then"
            yield f"{at:%a %Y-%m-%d}: the clocks of {now.timezone} skip {at:%H:%M}{further_text}, so {fate}"
        return


def _slots_text(noun: str, slots: list[datetime], config: ScheduleConfig | None) -> list[str]:
    if not slots or config is None:
        return []
    zone = ZoneInfo(config.timezone)
    texts = []
    for at in slots[:_MAX_SLOTS_SHOWN]:
        local = at.astimezone(zone)
        note = calendar.dst_note(config.cron_expression, local)
        texts.append(local_time(local) + (f" ({note})" if note else ""))
    rest_text = f" and {len(slots) - _MAX_SLOTS_SHOWN:,} more" if len(slots) > _MAX_SLOTS_SHOWN else ""
    return [f"{pluralize(len(slots), 'time')} {noun}: {', '.join(texts)}{rest_text}"]
