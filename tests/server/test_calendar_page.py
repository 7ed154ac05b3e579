"""The calendar over HTTP: what it counts is what the schedules fire, also on nights of clock changes, and what was missed."""

import re
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from optio.model.money import max_run_usd
from optio.scheduling.calendar import TimedTask, calendar_days, fires_by_schedule
from optio.scheduling.collisions import count_starts
from optio.server.read_models.calendar import FireCalendar, day_bounds
from optio.store.values import Firing, ScheduleRow, SkippedSlots, SlotVerdict
from tests.server.api import Api
from tests.server.test_deliveries_page import Reader
from tests.server.test_pages import HOSTILE, Tags, text_of

TASK = """\
type: standalone
name: {name!r}
agentRuntime: claude-code
model: sonnet
promptTemplate: hello
budgetUsd: "0.50"
triggers: [{{type: schedule, config: {{cronExpression: "{cron}", timezone: {zone}}}}}]
"""
TASKS = {
    "nightly": ("30 2 * * *", "Europe/Berlin"),
    "often": ("*/10 * * * *", "UTC"),
    "weekly": ("0 9 * * 1", "America/New_York"),
    **{f"nine-{number}": ("0 9 * * 1-5", "Europe/Berlin") for number in range(7)},
}


@pytest.fixture
def api(served: Callable[..., Api]) -> Api:
    made = served()
    for name, (cron, zone) in TASKS.items():
        (made.tasks / f"{name}.yaml").write_text(TASK.format(name=name, cron=cron, zone=zone))
    made.serve_task(TASK.format(name="Off", cron="0 1 * * *", zone="UTC") + "enabled: false\n", "off")
    return made


def days(api: Api, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/api/calendar?{query}").json["days"]
    return found


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
def test_each_day_has_the_fires_collisions_and_cost_that_the_schedules_give(api: Api, zone: str) -> None:
    registry = api.live.current.registry
    timed = [TimedTask(name, *schedule) for name, schedule in TASKS.items()]
    since, until = day_bounds(zone, date(2026, 10, 19))[0], day_bounds(zone, date(2026, 11, 3))[0]
    fires = fires_by_schedule(timed, since - timedelta(minutes=1), until - timedelta(minutes=1))
    wanted = {day.date.isoformat(): sum(len(row.fires) for row in day.rows) for day in calendar_days(timed, fires, zone)}
    load = count_starts(timed, fires)
    usd = max_run_usd(registry.task("often").spec)
    assert usd is not None

    found = days(api, f"from=2026-10-19&days=15&zone={zone}")

    assert {day["date"]: day["fires"] for day in found} == wanted
    assert all(sum(day["hours"]) == day["fires"] for day in found)
    assert sum(day["crowded"] for day in found) == sum(number > 5 for number in load.values())
    assert max(day["most"] for day in found) == max(load.values()) == 8
    assert sum(Decimal(day["worstUsd"]) for day in found) == usd * sum(wanted.values())


def test_a_night_on_which_clocks_are_set_is_marked_with_the_tasks_that_feel_it(api: Api) -> None:
    (day,) = days(api, "from=2026-10-25&days=1&zone=Europe/Berlin")

    assert day["clockChanges"] == [
        {
            "at": "2026-10-25T01:00:00.000Z",
            "timezone": "Europe/Berlin",
            "before": "03:00",
            "after": "02:00",
            "tasks": ["nightly"],
        }
    ]
    # An hour that the clocks show twice has the fires of both, but of a fixed time those of the first.
    assert (day["fires"], day["hours"][2]) == (151, 13)
    shown = text_of(Reader(api, "viewer").get("/calendar?view=day&on=2026-10-25&zone=Europe/Berlin"))
    assert "The clocks of Europe/Berlin go from 03:00 to 02:00. It changes fires of nightly" in shown


def test_missed_slots_are_told_on_their_day_by_this_word(api: Api) -> None:
    store, now = api.services.store, api.services.store.now()
    noon = (now - timedelta(days=2)).replace(hour=12, minute=0, second=0, microsecond=0)
    digest = api.live.current.registry.task("often").digest
    store.change_schedules([ScheduleRow(task_id="often", fingerprint="x", next_fire=noon - timedelta(days=1))], [])
    verdicts = [SlotVerdict(slot=noon + timedelta(minutes=10 * place), verdict="missed") for place in range(4)]
    skipped = SkippedSlots(first=noon - timedelta(hours=9), last=noon - timedelta(hours=8), count=7, verdict="missed")
    firing = Firing(
        task_id="often", digest=digest, verdicts=verdicts, runs=[], next_fire=now + timedelta(minutes=9), skipped=skipped
    )
    store.fire(firing).result(10)
    reader = Reader(api, "viewer")

    first = days(api, f"from={noon.date() - timedelta(days=1)}&days=3")
    again = days(api, f"from={noon.date() - timedelta(days=1)}&days=3")

    assert [day["outcomes"] for day in first] == [{}, {"missed": 11}, {}]
    assert again == first
    for view in ("month", "week"):
        assert "11 missed" in text_of(reader.get(f"/calendar?view={view}&on={noon.date()}"))
    assert "Slots missed 11" in text_of(reader.get(f"/calendar?view=day&on={noon.date()}"))


def test_coming_fires_are_listed_in_order_with_a_limit_and_say_what_the_clocks_did(api: Api) -> None:
    some = api.get("/api/fires?since=2026-10-24T22:00:00Z&until=2026-10-25T22:00:00Z&limit=1000").json
    few = api.get("/api/fires?since=2026-10-24T22:00:00Z&limit=3").json

    assert [item["at"] for item in some["items"]] == sorted(item["at"] for item in some["items"])
    assert (len(some["items"]), some["more"]) == (145, False)
    assert (few["items"], few["more"]) == (some["items"][:3], True)
    (night,) = [item for item in some["items"] if item["taskId"] == "nightly"]
    assert (night["local"], night["note"]) == ("2026-10-25T02:30+02:00", "the first 02:30 of that night: the clocks go back")
    assert some["items"][0]["at"] == "2026-10-24T22:10:00.000Z"


@pytest.mark.parametrize(
    "query",
    [
        "since=2026-01-01T00:00:00Z&until=2026-03-01T00:00:00Z",
        "since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z",
        "since=9999-12-31T00:00:00Z",
        "since=0001-01-01T00:00:00Z",
        "limit=0",
    ],
)
def test_a_span_that_is_too_long_or_backwards_is_refused(api: Api, query: str) -> None:
    assert api.get(f"/api/fires?{query}").status == 422


@pytest.mark.parametrize("view", ["month", "week", "day"])
def test_every_view_leads_earlier_and_later_also_at_the_ends_of_time(api: Api, view: str) -> None:
    reader = Reader(api, "viewer")

    for on in ("", "2026-12-31", "1970-01-01", "2999-12-31", "2024-02-29"):
        answer = reader.get(f"/calendar?view={view}&on={on}&zone=Europe/Berlin")
        assert answer.status == 200, on
        links = [attrs["href"] for tag, attrs in Tags(answer).found if tag == "a" and attrs.get("rel") in ("prev", "next")]
        assert [reader.get(str(link)).status for link in links] == [200, 200], on
    for wrong in ("on=0000-00-00", "on=tomorrow", "zone=Berlin", "zone=%3Cimg%20src", "view=year"):
        assert reader.get(f"/calendar?{wrong}").status == 422, wrong


def test_names_of_tasks_are_shown_as_text(api: Api) -> None:
    api.serve_task(TASK.format(name=HOSTILE, cron="0 7 * * *", zone="UTC") + "id: hostile\n", "hostile")
    shown = Reader(api, "viewer").get("/calendar?view=day")

    assert HOSTILE in text_of(shown)
    assert "img" not in {tag for tag, _ in Tags(shown).found}


def test_a_day_is_computed_anew_for_another_generation(api: Api) -> None:
    calendar, before = FireCalendar(5), api.live.current.registry
    day = date(2026, 6, 1)

    first = calendar.day(before, "UTC", day)
    api.serve_task(TASK.format(name="More", cron="1 1 * * *", zone="UTC"), "more")
    second = calendar.day(api.live.current.registry, "UTC", day)

    assert second.fires == first.fires + 1
    assert calendar.day(before, "UTC", day) == first
    assert first.date == "2026-06-01"


def test_amounts_on_the_page_are_in_cents_and_thousands(api: Api) -> None:
    api.serve_task(TASK.format(name="dear", cron="*/10 * * * *", zone="UTC").replace("0.50", "100.123"), "dear")

    shown = text_of(Reader(api, "viewer").get("/calendar?view=day&on=2026-10-20&zone=UTC"))

    assert re.search(r"may spend \$\d\d,\d{3}\.\d\d at the worst", shown)
    assert re.search(r"Worst cost \$\d\d,\d{3}\.\d\d ", shown)
