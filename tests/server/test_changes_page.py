"""Generations over HTTP: what each changed, what that did, and the pages of both."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import Any

import pytest

from optio.python_api import plan_change
from tests.server.api import Api
from tests.server.test_deliveries_page import Reader, foreign_tags
from tests.server.test_generations import Other
from tests.server.test_pages import HOSTILE, TASK, text_of

OTHER = TASK.replace("name: Report", "name: Other")
DAILY = TASK.replace("0 9 * * 1", "0 9 * * *").replace('"Look at', f'"{HOSTILE[:14]}> at').replace("'", "")


@pytest.fixture
def api(served: Callable[..., Api]) -> Api:
    """Four generations: one task; another one beside it; the first changed; the second gone."""
    made = served()
    made.serve_task(TASK, "report")
    made.serve_task(OTHER, "other")
    made.serve_task(DAILY, "report")
    (made.tasks / "other.yaml").unlink()
    made.serve_task(DAILY, "report")
    return made


def generations(api: Api, query: str = "") -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/api/generations{query}").json
    return found


def test_each_generation_says_what_it_added_changed_and_removed_and_how_many_runs_came(served: Callable[..., Api]) -> None:
    api = served(environ={"OPTIO_REMOVAL_LIMIT": "100%"})
    api.serve_task(TASK, "report")
    api.post("/api/tasks/report/runs", {"params": {"N": 1}})
    api.serve_task(OTHER, "other")
    api.serve_task(DAILY, "report")
    for _ in range(2):
        api.post("/api/tasks/report/runs", {"params": {"N": 1}})
    (api.tasks / "other.yaml").unlink()
    api.serve_task(DAILY, "report")

    items = generations(api)["items"]

    assert [(each["number"], each["added"], each["changed"], each["removed"], each["tasks"]) for each in items] == [
        (4, 0, 0, 1, 1),
        (3, 0, 1, 0, 2),
        (2, 1, 0, 0, 2),
        (1, 1, 0, 0, 1),
    ]
    assert [each["runs"] for each in items] == [0, 2, 0, 1]
    assert [each["until"] for each in items] == [None, *(each["activatedAt"] for each in items[:3])]


def test_generations_are_listed_by_pages_that_agree_with_the_whole(api: Api) -> None:
    whole = generations(api)["items"]
    first = generations(api, "?limit=2")
    second = generations(api, f"?limit=2&cursor={first['next']}")

    assert [*first["items"], *second["items"]] == whole
    assert second["next"] is None
    assert api.get("/api/generations?cursor=x").status == 422


def test_a_generation_tells_its_effects_as_the_plan_of_its_change_did(api: Api) -> None:
    found = api.get("/api/generations/3").json
    since = datetime.fromisoformat(found["activatedAt"])
    before, after = {"report.yaml": TASK, "other.yaml": OTHER}, {"report.yaml": DAILY, "other.yaml": OTHER}

    planned = plan_change(before, after, now=since)["tasks"]

    assert found["before"] == 2
    assert [change["taskId"] for change in found["changes"]] == ["report"] == [change["id"] for change in planned]
    keys = ("kind", "weight", "text", "lines", "diff", "pointer")
    assert [{key: each[key] for key in keys} for each in planned[0]["effects"]] == found["changes"][0]["effects"]
    assert {"fires-changed", "prompt-changed"} <= {each["kind"] for each in found["changes"][0]["effects"]}


def test_the_first_generation_adds_all_and_one_that_never_was_is_not_found(api: Api) -> None:
    assert [each["status"] for each in api.get("/api/generations/1").json["changes"]] == ["added"]
    assert [each["status"] for each in api.get("/api/generations/4").json["changes"]] == ["removed"]
    for number in ("0", "5", "99999999999999999999"):
        assert Reader(api, "viewer").get(f"/changes/{number}").status in (404, 400), number


def test_a_definition_that_cannot_be_read_is_said_and_breaks_nothing(api: Api) -> None:
    assert api.services.settings.database is not None
    with closing(sqlite3.connect(api.services.settings.database)) as database, database:
        database.execute("UPDATE definitions SET document = '{}' WHERE task_id = 'other'")

    found = api.get("/api/generations/4").json

    assert found["lost"] == ["other"]
    assert "no longer stored: other" in text_of(Reader(api, "viewer").get("/changes/4"))


def test_the_pages_show_the_same_and_markup_in_prompts_as_text(api: Api) -> None:
    reader = Reader(api, "viewer")

    listed, opened = reader.get("/changes"), reader.get("/changes/3")

    assert "Generation 3" in text_of(listed)
    assert "~1" in text_of(listed)
    assert "~ changed report" in text_of(opened)
    assert f"+{HOSTILE[:14]}> at" in text_of(opened)
    assert [*foreign_tags(listed), *foreign_tags(opened)] == []


def test_many_tasks_at_once_are_compared_in_part_and_that_is_said(served: Callable[..., Api]) -> None:
    api = served()
    for number in range(205):
        (api.tasks / f"more-{number:03}.yaml").write_text(TASK.replace("name: Report", f"name: More {number:03}"))
    api.serve_task(TASK, "report")

    found = api.get("/api/generations/1").json

    assert (found["added"], len(found["changes"]), found["left"]) == (206, 200, 6)
    assert "6 tasks more changed" in text_of(Reader(api, "viewer").get("/changes/1"))


def test_files_that_differ_from_what_is_served_are_told_above_the_changes(api: Api) -> None:
    other = Other(api)
    other.has(report=DAILY)
    other.has(report=TASK, more=OTHER)
    asyncio.run(api.reloader.load(()))

    shown = text_of(Reader(api, "viewer").get("/changes"))

    assert generations(api)["drift"]["changed"] == ["report"]
    assert "differ from generation 5, which is served, in 2 tasks" in shown
    assert "different in the files: report" in shown
    assert "missing in the files: other" in shown
