"""The parts of a task's page, and the routes behind them: runs, who wrote its values, triggers, tests, changes."""

import asyncio
import json
import re
from collections.abc import Callable
from datetime import timedelta

import pytest

from optio.store.values import Firing, ScheduleRow, SlotVerdict
from tests.server.api import Api
from tests.server.test_deliveries_page import Reader
from tests.server.test_hooks import GOOD, HOOK, SECRET
from tests.server.test_pages import HOSTILE, Tags, html, text_of

TABS = ("overview", "runs", "definition", "triggers", "tests", "changes")
SCHEDULE = '{cronExpression: "0 9 * * 1", timezone: Europe/Berlin, paramMapping: {REPO: weekly}}'
TESTED = f"""{HOOK}\
  - type: schedule
    config: {SCHEDULE}
tests:
  - {{name: good, webhook: good.json, expect: {{params: {{REPO: optio, SIZE: 1}}}}}}
  - {{name: {HOSTILE!r}, params: {{REPO: x}}, expect: {{promptContains: nothing like it}}}}
"""


@pytest.fixture
def api(served: Callable[..., Api]) -> Api:
    made = served()
    made.services.secrets.put("PUSH", SECRET)
    (made.tasks / "good.json").write_bytes(GOOD)
    (made.tasks / "_defaults.yaml").write_text("# Of all.\nmaxRetries: 5\n")
    made.serve_task(TESTED)
    return made


def test_every_part_has_an_address_and_says_which_one_it_is(api: Api) -> None:
    reader = Reader(api, "viewer")

    for tab in TABS:
        answer = reader.get(f"/tasks/push?tab={tab}")
        assert answer.status == 200, tab
        (current,) = re.findall(r'<nav class="tabs".*?</nav>', answer.body.decode(), re.S)
        assert re.findall(r'aria-current="page">(\w+)<', current) == [tab.title()]
        assert "img" not in {tag for tag, _ in Tags(answer).found}
    assert reader.get("/tasks/push").body == reader.get("/tasks/push?tab=overview").body
    assert reader.get("/tasks/push?tab=other").status == 422


def test_each_value_is_shown_with_the_file_and_line_that_set_it(api: Api) -> None:
    items = {item["pointer"]: item for item in api.get("/api/tasks/push/origins").json["items"]}
    shown = text_of(Reader(api, "viewer").get("/tasks/push?tab=definition"))

    assert (items["/maxRetries"]["value"], items["/maxRetries"]["path"], items["/maxRetries"]["line"]) == (
        5,
        "_defaults.yaml",
        2,
    )
    assert (items["/name"]["path"], items["/name"]["line"]) == ("job.yaml", 2)
    assert "/maxRetries 5 _defaults.yaml:2" in shown


def test_tests_are_run_when_they_are_asked_for_and_show_why_they_fail(api: Api) -> None:
    reader = Reader(api, "viewer")

    before, after = text_of(reader.get("/tasks/push?tab=tests")), text_of(reader.get("/tasks/push?tab=tests&run=yes"))
    items = api.get("/api/tasks/push/tests").json["items"]

    assert "passed" not in before
    assert [(item["name"], item["passed"]) for item in items] == [("good", True), (HOSTILE, False)]
    assert "✓ passed good" in after
    assert f"✕ failed {HOSTILE}" in after
    assert items[1]["failures"][0]["message"] in after


def test_a_broken_file_says_so_and_the_last_good_definition_stays(api: Api) -> None:
    (api.tasks / "job.yaml").write_text(TESTED + "nothing: 1\n")
    asyncio.run(api._load())
    reader = Reader(api, "viewer")

    for tab in ("definition", "tests&run=yes"):
        assert "so only its last good definition is known" in text_of(reader.get(f"/tasks/push?tab={tab}"))
    assert api.get("/api/tasks/push/origins").status == api.get("/api/tasks/push/tests").status == 409
    assert '"promptTemplate"' in html(reader.get("/tasks/push?tab=definition"))


def test_triggers_show_the_last_slots_and_where_parameters_come_from(api: Api) -> None:
    store, task = api.services.store, api.live.current.registry.task("push")
    slot = store.now().replace(second=0, microsecond=0) - timedelta(hours=2)
    store.change_schedules([ScheduleRow(task_id="push", fingerprint="x", next_fire=slot)], [])
    verdict = SlotVerdict(slot=slot, verdict="missed")
    store.fire(Firing(task_id="push", digest=task.digest, verdicts=[verdict], runs=[], next_fire=None)).result(10)

    shown = text_of(Reader(api, "viewer").get("/tasks/push?tab=triggers"))

    assert f"{slot:%Y-%m-%d %H:%M:%S} ✕ missed" in shown
    assert "REPO $.repository.name" in shown
    assert "optio, by the secret PUSH" in shown
    assert "With REPO: weekly" in shown
    assert SECRET not in shown


def test_runs_are_listed_by_pages(api: Api) -> None:
    for number in range(55):
        api.post("/api/tasks/push/runs", {"params": {"REPO": f"r{number}"}})
    reader = Reader(api, "viewer")

    first = reader.get("/tasks/push?tab=runs")
    (more,) = re.findall(r'rel="next" href="([^"]*)"', html(first))
    second = reader.get(more)

    counts = [len(re.findall(r'class="id" href="/runs/', html(each))) for each in (first, second)]
    assert counts == [50, 5]


def test_changes_are_those_generations_that_changed_this_task(api: Api) -> None:
    other = HOOK.replace("name: Push", "name: Other").replace("path: push", "path: other")
    api.serve_task(other, "other")
    api.serve_task(TESTED.replace("Look at", "Look twice at"))
    api.serve_task(other.replace("Look at", "Peek at"), "other")

    listed = api.get("/api/generations?task=push").json["items"]
    one = api.get("/api/generations/3?task=push").json
    shown = text_of(Reader(api, "viewer").get("/tasks/push?tab=changes"))

    assert [item["number"] for item in listed] == [3, 1]
    assert [item["number"] for item in api.get("/api/generations?task=push&limit=1").json["items"]] == [3]
    cursor = api.get("/api/generations?task=push&limit=1").json["next"]
    assert [item["number"] for item in api.get(f"/api/generations?task=push&cursor={cursor}").json["items"]] == [1]
    assert [change["taskId"] for change in one["changes"]] == ["push"]
    assert api.get("/api/generations/2?task=push").json["changes"] == []
    assert "+Look twice at" in shown
    assert "Peek" not in shown
    assert json.dumps(listed[0]["changed"]) == "1"
