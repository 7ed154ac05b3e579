"""`GET /api/tasks` is encoded once, and again as soon as anything in it changes."""

from typing import Any

import pytest

from optio.server import serializers
from tests.server.api import JOB, Api


def listed(api: Api) -> list[tuple[str, bool]]:
    """Each task's id, and whether it is paused."""
    return [(task["id"], task["paused"] is not None) for task in api.get("/api/tasks").json["items"]]


def test_the_list_is_made_once_for_all_who_ask(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    task = serializers.task

    def counted(*args: Any) -> dict[str, Any]:
        made.append(args)
        return task(*args)

    monkeypatch.setattr(serializers, "task", counted)
    first = [api.get("/api/tasks").body for _ in range(3)]

    assert len(set(first)) == 1
    assert len(made) == 1


def test_the_list_shows_each_change_at_once(api: Api) -> None:
    assert listed(api) == [("job", False)]
    api.post("/api/tasks/job/pause", {"reason": "for now"})
    assert listed(api) == [("job", True)]
    # As another process does it: this one is not asked.
    api.services.store.resume("job")
    assert listed(api) == [("job", False)]
    api.services.store.pause("job", "again", "ann")
    assert api.get("/api/tasks").json["items"][0]["paused"]["reason"] == "again"
    api.serve_task(JOB.replace("Job", "Other"), "other")
    assert listed(api) == [("job", True), ("other", False)]
    api.serve_task(JOB.replace("hello", "good bye"))
    assert [task["promptTemplate"] for task in api.get("/api/tasks").json["items"]] == ["good bye", "hello"]
    assert api.get("/api/tasks").json["items"][0] == api.get("/api/tasks/job").json


def test_the_list_has_pages_for_those_who_ask(api: Api) -> None:
    for name in ("b", "a", "c"):
        api.serve_task(JOB.replace("Job", name.upper()), name)

    pages, query = [], "?limit=3"
    while query:
        page = api.get(f"/api/tasks{query}").json
        pages.append([task["id"] for task in page["items"]])
        query = page["next"] and f"?limit=3&cursor={page['next']}"

    assert pages == [["a", "b", "c"], ["job"]]
    assert api.get("/api/tasks?cursor=b").json["items"] == api.get("/api/tasks").json["items"][2:]
    assert api.get("/api/tasks?limit=0").status == 422
