"""The list of tasks as HTML and as JSON, which say the same: `GET /tasks` and `GET /api/overview`."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from optio.model.retry import GiveUp
from optio.model.run import Outcome
from optio.model.usage import CostSource, Meter
from tests.server.api import JOB, Api

HOSTILE = '<img src=x onerror=alert(1)>"'
FAIL = Outcome(ok=False, reason="timeout", message="")
OK = Outcome(ok=True, reason="ok", message="")


def put(api: Api, task_id: str, extra: str = "", name: str = "Job") -> None:
    api.serve_task(JOB.replace("name: Job", f"id: {task_id}\nname: {name}") + extra, name=task_id)


def ended(api: Api, task_id: str, outcome: Outcome = OK, cost: str = "0.25") -> str:
    run = api.started(task_id)
    meter = Meter(cost=Decimal(cost), cost_source=CostSource.CLI)
    api.services.store.finish(run.claim.run.lease, outcome, meter, 0, None, lambda *_: GiveUp("the test ends it"))
    return run.id


def overview(api: Api, query: str = "") -> dict[str, Any]:
    answer = api.get(f"/api/overview{query}")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    return found


def ids(api: Api, query: str = "") -> list[str]:
    return [task["id"] for task in overview(api, query)["items"]]


def shown(api: Api, query: str = "") -> list[str]:
    page = api.get(f"/tasks{query}").body.decode()
    return re.findall(r'<td><a href="/tasks/([a-z0-9-]+)">', page)


def test_a_task_shows_its_last_runs_success_cost_and_what_waits(api: Api) -> None:
    good, bad = ended(api, "job"), ended(api, "job", FAIL, "1.50")
    api.post("/api/tasks/job/runs", {})

    (task,) = overview(api)["items"]
    assert [run["state"] for run in task["lastRuns"]] == ["queued", "failed", "completed"]
    assert (task["queued"], task["ended"], task["success"], task["costUsd"]) == (1, 2, 0.5, "1.75")
    page = api.get("/tasks").body.decode()
    assert 'aria-label="completed, failed, queued"' in page
    assert f'href="/runs/{good}"' in page
    assert re.search(rf'href="/runs/{bad}"[^>]*><title>failed: timeout, ', page)
    assert "50 %" in page
    assert "$1.75" in page
    assert 'href="/queue?task=job">1<' in page


def test_only_the_last_twenty_runs_are_shown(api: Api) -> None:
    runs = [ended(api, "job") for _ in range(22)]

    (task,) = overview(api)["items"]

    assert [run["id"] for run in task["lastRuns"]] == runs[:1:-1]


def test_filters_hold_together_and_say_how_many_match(api: Api) -> None:
    put(api, "paused", "owner: ada\n")
    put(api, "idle", "owner: ada\nenabled: false\n")
    put(api, "plain", "owner: bob\n", "Nightly Report")
    api.post("/api/tasks/paused/pause", {"reason": "incident"})

    for query, expected in {
        "?state=paused": ["paused"],
        "?state=disabled": ["idle"],
        "?state=served": ["job", "plain"],
        "?owner=ada": ["idle", "paused"],
        "?owner=ada&state=disabled": ["idle"],
        "?runtime=command&q=REPORT%20nightly": ["plain"],
        "?runtime=codex": [],
        "?q=nobody": [],
    }.items():
        assert ids(api, query) == expected, query
        assert shown(api, query) == expected, query
        assert overview(api, query)["matching"] == len(expected)
    assert "paused: incident" in api.get("/tasks?state=paused").body.decode()
    assert "No task fits." in api.get("/tasks?q=nobody").body.decode()


def test_the_order_is_by_id_name_next_time_or_cost(api: Api) -> None:
    soon, later = (datetime.now(UTC) + timedelta(hours=hours) for hours in (1, 2))
    schedule = "triggers: [{{type: schedule, config: {{cronExpression: '{} {} * * *'}}}}]\n"
    put(api, "b", schedule.format(later.minute, later.hour), "Zebra")
    put(api, "c", schedule.format(soon.minute, soon.hour), "apple")
    ended(api, "b", cost="3")
    ended(api, "job", cost="0.5")

    assert ids(api) == ["b", "c", "job"]
    assert ids(api, "?order=name") == ["c", "job", "b"]
    assert ids(api, "?order=next") == ["c", "b", "job"]
    assert ids(api, "?order=cost") == ["b", "job", "c"] == shown(api, "?order=cost")


@pytest.mark.parametrize("order", ["id", "name", "next", "cost"])
def test_pages_follow_each_other_without_gap_or_repeat(api: Api, order: str) -> None:
    for number in range(6):
        put(api, f"t{number}", name=f"Task {9 - number}")
    found, cursor = [], ""
    while True:
        page = overview(api, f"?order={order}&limit=2" + (f"&cursor={cursor}" if cursor else ""))
        found += [task["id"] for task in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break

    assert found == ids(api, f"?order={order}")
    assert len(found) == 7


def test_a_cursor_of_a_task_that_is_gone_is_refused_with_a_cure_and_goes_on_by_id(api: Api) -> None:
    refused = api.get("/api/overview?order=name&cursor=gone")

    assert (refused.status, refused.json["errors"][0]["message"]) == (422, "its task is not listed any more: begin again")
    assert api.get("/tasks?order=name&after=gone").status == 422
    assert ids(api, "?cursor=gone") == ["job"]


def test_a_cost_stands_beside_the_ceiling_of_the_policy(api: Api) -> None:
    ended(api, "job", cost="2")
    (api.tasks / "_policy.yaml").write_text('type: policy\nceilings: {monthUsd: "75.00"}\n')

    (task,) = overview(api)["items"]

    assert task["ceilingUsd"] == "75.00"
    assert "of $75.00" in api.get("/tasks").body.decode()


def test_names_from_files_are_text(api: Api) -> None:
    name = HOSTILE.replace('"', '\\"')
    api.serve_task(JOB.replace("name: Job", f'id: evil\nname: "{name}"\nowner: "{name}"'), name="evil")

    page = api.get("/tasks").body.decode()

    assert "<img" not in page
    assert "&lt;img" in page
    assert api.get("/tasks?owner=%3Cscript%3E").body.decode().count("<script>") == 0


def test_a_viewer_gets_no_buttons(served: Callable[..., Api]) -> None:
    api = served(dev_token=None)
    api.serve_task(JOB)
    as_viewer = {"Authorization": f"Bearer {api.token('viewer')}"}

    assert "Run…" not in api.get("/tasks", **as_viewer).body.decode()
