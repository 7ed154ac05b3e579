"""The queue as HTML and as JSON, which say the same: `GET /queue` and `GET /api/queue`."""

import re
from typing import Any

from optio.model.namespace import ALL_TASKS
from optio.server.read_models.queue import QueueOverview
from tests.server.api import JOB, LEASE, Api
from tests.support import eventually

PLAIN = JOB.replace("maxConcurrent: 1000\n", "")


def put(api: Api, task_id: str, extra: str = "") -> None:
    api.serve_task(PLAIN.replace("name: Job", f"id: {task_id}\nname: Job") + extra, name=task_id)


def start(api: Api, task_id: str) -> str:
    return str(api.post(f"/api/tasks/{task_id}/runs", {}).json["runId"])


def filled(api: Api) -> dict[str, str]:
    """Runs that wait for five reasons, by reason, and one that runs."""
    api.services.store.note_worker("w", ALL_TASKS)
    put(api, "one", "maxConcurrent: 1\n")
    put(api, "limited", "startLimit: {count: 1, per: 1h}\n")
    put(api, "paused")
    running, started = start(api, "one"), start(api, "limited")
    for run_id in (started, running):
        api.services.store.claim("w", LEASE, lambda view, run_id=run_id: [run_id])
    found = {"running": running, "task_limit": start(api, "one"), "start_limit": start(api, "limited")}
    found["paused"] = start(api, "paused")
    api.post("/api/tasks/paused/pause", {"reason": "incident"})
    for _ in range(4):
        found["global_limit"] = start(api, "job")
    return found


def queue(api: Api, query: str = "") -> dict[str, Any]:
    answer = api.get(f"/api/queue{query}")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    return found


def test_every_reason_is_a_group_and_each_run_says_what_is_in_its_way(api: Api) -> None:
    runs = filled(api)

    found = queue(api)
    groups = {group["reason"]: group for group in found["groups"]}
    items = {item["id"]: item for item in found["items"]}

    assert {reason: group["runs"] for reason, group in groups.items()} == {
        None: 3,
        "global_limit": 1,
        "task_limit": 1,
        "start_limit": 1,
        "paused": 1,
    }
    assert (found["queued"], found["running"], found["maxRunning"]) == (7, 2, 5)
    at_its_limit = items[runs["task_limit"]]
    assert (at_its_limit["rule"], at_its_limit["position"], at_its_limit["occupiedBy"], at_its_limit["occupied"]) == (
        "maxConcurrent: 1",
        1,
        [runs["running"]],
        1,
    )
    assert items[runs["start_limit"]]["earliestStart"] == groups["start_limit"]["earliestStart"] is not None
    page = api.get("/queue").body.decode()
    assert "7 runs wait, 2 of 5 run." in page
    for words in ("task limit", "start limit", "paused", "global limit", "about to start"):
        assert f"</span> {words}</span>" in page, words
    assert re.search(rf'href="/runs/{runs["running"]}"', page)
    assert "incident" in page


def test_a_group_or_a_task_is_listed_alone(api: Api) -> None:
    runs = filled(api)

    assert [item["id"] for item in queue(api, "?reason=task_limit")["items"]] == [runs["task_limit"]]
    assert [item["id"] for item in queue(api, "?task=limited")["items"]] == [runs["start_limit"]]
    page = api.get("/queue?reason=paused").body.decode()
    assert runs["paused"] in page
    assert f'href="/runs/{runs["start_limit"]}"' not in page
    assert "No run waits that fits." in api.get("/queue?task=nobody").body.decode()
    assert api.get("/api/queue?reason=weather").status == 422


def test_pages_follow_each_other_by_the_age_of_runs(api: Api) -> None:
    made = [start(api, "job") for _ in range(5)]

    first = queue(api, "?limit=2")
    second = queue(api, f"?limit=2&cursor={first['next']}")
    last = queue(api, f"?limit=2&cursor={second['next']}")

    assert [item["id"] for page in (first, second, last) for item in page["items"]] == made
    assert last["next"] is None
    assert api.get("/api/queue?cursor=x").status == 422
    assert api.get("/queue?cursor=x").status == 422


def test_without_a_worker_each_run_waits_for_one(api: Api) -> None:
    start(api, "job")

    assert [group["reason"] for group in queue(api)["groups"]] == ["no_worker"]
    assert "optio worker" in api.get("/queue").body.decode()


def test_one_decision_answers_many_readers(api: Api) -> None:
    start(api, "job")
    asked = []

    class Counting:
        def admission(self) -> Any:
            asked.append(1)
            return api.services.store.admission()

    overview = QueueOverview(Counting(), 5)  # type: ignore[arg-type]

    assert [overview.read().queued for _ in range(20)] == [1] * 20
    assert len(asked) <= 2
    start(api, "job")
    eventually(lambda: overview.read().queued == 2, what="the next decision")
