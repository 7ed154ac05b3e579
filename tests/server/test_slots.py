"""`GET /api/tasks/{id}/slots`: what became of each time of a schedule."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from optio.store.values import Firing, ScheduleRow, SkippedSlots, SlotVerdict
from tests.runs.test_schedule import TASK
from tests.server.api import JOB, Api
from tests.store.build import new_run

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TIMED = TASK.format(config='{cronExpression: "* * * * *", paramMapping: {A: x}}', enabled="true")


@pytest.fixture
def api(served: Callable[..., Api]) -> Api:
    """A thousand and three slots of `timed`: one fired, two missed, the others in one row."""
    made = served()
    made.serve_task(JOB)
    made.serve_task(TIMED, "timed")
    task = made.live.current.registry.task("timed")
    store = made.services.store
    store.change_schedules([ScheduleRow(task_id="timed", fingerprint="x", next_fire=NOON - 1002 * MINUTE)], [])
    verdicts = [SlotVerdict(slot=NOON - place * MINUTE, verdict="missed" if place else "fired") for place in range(3)]
    older = SkippedSlots(first=NOON - 1002 * MINUTE, last=NOON - 3 * MINUTE, count=1000, verdict="missed")
    run = new_run(task, "run-of-noon", slot=NOON)
    firing = Firing(task_id="timed", digest=task.digest, verdicts=verdicts, runs=[run], next_fire=NOON + MINUTE, skipped=older)
    store.fire(firing).result(10)
    return made


def test_slots_are_listed_newest_first_with_their_runs_and_numbers(api: Api) -> None:
    items = api.get("/api/tasks/timed/slots").json["items"]

    assert [(item["slot"], item["slots"], item["verdict"], item["runId"]) for item in items] == [
        ("2026-01-05T12:00:00.000Z", 1, "fired", "run-of-noon"),
        ("2026-01-05T11:59:00.000Z", 1, "missed", None),
        ("2026-01-05T11:58:00.000Z", 1, "missed", None),
        ("2026-01-05T11:57:00.000Z", 1000, "missed", None),
    ]
    assert items[3]["first"] == "2026-01-04T19:18:00.000Z"


def test_pages_hold_every_slot_once(api: Api) -> None:
    first = api.get("/api/tasks/timed/slots?limit=3").json
    rest = api.get(f"/api/tasks/timed/slots?limit=3&cursor={first['next']}").json

    assert [len(first["items"]), len(rest["items"]), rest["next"]] == [3, 1, None]


def test_a_task_without_slots_has_none_and_an_unknown_one_is_not_found(api: Api) -> None:
    assert api.get("/api/tasks/job/slots").json == {"items": [], "next": None}
    assert api.get("/api/tasks/nobody/slots").status == 404


def test_a_task_that_is_gone_still_has_its_slots(api: Api) -> None:
    (api.tasks / "timed.yaml").unlink()
    api.serve_task(JOB)

    assert api.get("/api/tasks/timed").status == 404
    assert len(api.get("/api/tasks/timed/slots").json["items"]) == 4


@pytest.mark.parametrize("query", ["limit=0", "limit=999", "cursor=forged", "since=now"])
def test_a_query_that_cannot_be_honoured_is_refused(api: Api, query: str) -> None:
    assert api.get(f"/api/tasks/timed/slots?{query}").status == 422
