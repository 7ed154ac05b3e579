"""Filters of runs as texts, from forms and JSON bodies, as values."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from optio.errors import Invalid, Problem
from optio.model.run import RunState
from optio.model.text import parse_money
from optio.store.values import RunFilter


def filter_of(form: Mapping[str, str], place: str = "") -> RunFilter:
    """Return the filter that a form, an address or a member of a body says by the names of `GET /api/runs`; empty texts say
    nothing. Raises Invalid; `place` is what stands before the names in its pointers, such as `where/`."""
    state, beginning = form.get("state"), form.get("id", "").strip().lower()
    if state and state not in RunState.__members__.values():
        raise _invalid(f"{place}state", f"must be one of {', '.join(RunState)}")
    return RunFilter(
        task_id=form.get("task") or None,
        state=RunState(state) if state else None,
        reason=form.get("reason") or None,
        trigger=form.get("trigger") or None,
        id_prefix=beginning or None,
        since=time_of(f"{place}since", form.get("since")),
        until=time_of(f"{place}until", form.get("until")),
        min_cost=cost_of(f"{place}minCost", form.get("minCost")),
    )


def time_of(name: str, text: str | None) -> datetime | None:
    """Return a time in UTC, which is the zone of one that names none; None for an empty text. Raises Invalid."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as err:
        raise _invalid(name, "must be a time, such as `2026-01-05T08:00:00Z`") from err


def cost_of(name: str, text: str | None) -> Decimal | None:
    """Return an amount of US dollars. Raises Invalid for anything that is none."""
    if not text:
        return None
    try:
        return parse_money(text.removeprefix("$"))
    except ValueError as err:
        raise _invalid(name, str(err)) from err


def _invalid(name: str, message: str) -> Invalid:
    return Invalid("invalid request parameters", [Problem(f"/{name}", message)])
