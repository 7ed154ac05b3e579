"""The list of runs with its filters, and acts on many runs, as HTML and as JSON."""

import re
from collections.abc import Callable
from decimal import Decimal
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest

from optio.model.retry import GiveUp
from optio.model.run import Outcome
from optio.model.usage import CostSource, Meter
from tests.server.api import JOB, LEASE, Answer, Api

FAIL = Outcome(ok=False, reason="timeout", message="")
OK = Outcome(ok=True, reason="ok", message="")


def ended(api: Api, outcome: Outcome = OK, cost: str | None = "0.25") -> str:
    run = api.started()
    meter = Meter() if cost is None else Meter(cost=Decimal(cost), cost_source=CostSource.CLI)
    api.services.store.finish(run.claim.run.lease, outcome, meter, 0, None, lambda *_: GiveUp("the test ends it"))
    return run.id


def start(api: Api) -> str:
    return str(api.post("/api/tasks/job/runs", {}).json["runId"])


def shown(api: Api, query: str = "") -> list[str]:
    answer = api.get(f"/runs{query}")
    assert answer.status == 200, answer.body
    return re.findall(r'<tr id="run-([0-9a-f-]+)">', answer.body.decode())


def listed(api: Api, query: str = "") -> list[str]:
    answer = api.get(f"/api/runs{query}")
    assert answer.status == 200, answer.body
    return [run["id"] for run in answer.json["items"]]


def form(api: Api, path: str, **fields: str) -> Answer:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return api.request("POST", path, raw=urlencode(fields).encode(), headers=headers)


def hidden(page: str, name: str) -> str:
    found = re.search(rf'<input type="hidden" name="{name}" value="([^"]*)">', page)
    assert found is not None, page
    return unescape(found[1])


def state(api: Api, run_id: str) -> str:
    return api.services.store.run(run_id).state.value


def test_filters_are_those_of_the_api_and_stand_in_the_address(api: Api) -> None:
    cheap, dear, bad = ended(api), ended(api, cost="2.50"), ended(api, FAIL, None)
    waiting = start(api)
    for query, expected in {
        "": [waiting, bad, dear, cheap],
        "?state=failed": [bad],
        "?reason=timeout": [bad],
        "?trigger=manual": [waiting, bad, dear, cheap],
        "?trigger=schedule": [],
        "?minCost=0.25": [dear, cheap],
        "?minCost=0.3&task=job": [dear],
        "?minCost=9&state=completed": [],
        f"?id={dear}": [dear],
        "?since=2020-01-01T00:00:00Z": [waiting, bad, dear, cheap],
        "?until=2020-01-01T00:00:00Z": [],
    }.items():
        assert listed(api, query) == expected, query
        assert shown(api, query) == expected, query
    assert shown(api, "?since=2020-01-01") == [waiting, bad, dear, cheap]
    page = api.get("/runs?minCost=0.25&since=2020-01-01").body.decode()
    assert 'name="since" value="2020-01-01"' in page


@pytest.mark.parametrize("query", ["since=yesterday", "until=2026-13-01", "minCost=-1", "minCost=x", "state=gone"])
def test_a_filter_that_cannot_be_read_is_refused_as_a_page(api: Api, query: str) -> None:
    answer = api.get(f"/runs?{query}")

    assert answer.status in (400, 422)
    assert "<h1>" in answer.body.decode()
    assert api.get(f"/api/runs?{query}").status in (400, 422)


def test_chosen_runs_are_cancelled_after_a_page_that_names_them(api: Api) -> None:
    done, first, second = ended(api), start(api), start(api)

    page = form(api, "/runs/bulk", **{"act": "cancel", f"run.{first}": "on", f"run.{done}": "on"}).body.decode()

    assert state(api, first) == "queued"
    assert "only queued and running runs can be cancelled" in page
    assert hidden(page, "runs").split() == [first]
    answer = form(api, "/runs/bulk/confirm", act="cancel", runs=f"{first} {first}").body.decode()
    assert ("1 run cancelled" in answer, "not:" in answer) == (True, False)
    assert [state(api, run_id) for run_id in (done, first, second)] == ["completed", "cancelled", "queued"]


def test_all_that_match_are_meant_but_no_run_that_came_since(api: Api) -> None:
    runs = [start(api) for _ in range(3)]
    plan = form(api, "/runs/bulk", act="cancel all", task="job", state="queued").body.decode()
    assert "Cancel 3 runs?" in plan
    assert all(state(api, run_id) == "queued" for run_id in runs)
    late = start(api)

    done = form(api, "/runs/bulk/confirm", act="cancel", runs=hidden(plan, "runs"), back=hidden(plan, "back")).body.decode()

    assert "3 runs cancelled" in done
    assert [state(api, run_id) for run_id in (*runs, late)] == ["cancelled"] * 3 + ["queued"]
    assert 'href="/runs?task=job&state=queued"' in unescape(done)


def test_failed_runs_are_retried_and_a_run_that_changed_meanwhile_is_told(api: Api) -> None:
    one, two = ended(api, FAIL), ended(api, FAIL)
    plan = form(api, "/runs/bulk", act="retry all", reason="timeout").body.decode()
    api.post(f"/api/workflow-runs/{two}/retry")

    done = form(api, "/runs/bulk/confirm", act="retry", runs=hidden(plan, "runs"), back="https://evil.example/").body.decode()

    assert "1 run queued again" in done
    assert "only failed runs can be retried" in done
    assert (state(api, one), state(api, two)) == ("queued", "queued")
    assert "evil.example" not in done


def test_the_route_tells_first_and_does_then(api: Api) -> None:
    runs = [start(api) for _ in range(2)]
    asked = {"act": "cancel", "where": {"task": "job"}}

    dry = api.post("/api/runs/bulk", {**asked, "dryRun": True})
    assert (dry.status, dry.json["dryRun"], dry.json["runs"]) == (200, True, runs[::-1])
    assert state(api, runs[0]) == "queued"

    done = api.post("/api/runs/bulk", {"act": "cancel", "runs": [*runs, "nothing"]}).json
    assert sorted(done["runs"]) == sorted(runs)
    assert [each["id"] for each in done["refused"]] == ["nothing"]
    assert [state(api, run_id) for run_id in runs] == ["cancelled", "cancelled"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"act": "delete", "runs": []},
        {"act": "cancel"},
        {"act": "cancel", "runs": [], "where": {}},
        {"act": "cancel", "where": {"taks": "job"}},
        {"act": "cancel", "where": {"since": "yesterday"}},
        {"act": "cancel", "runs": ["x"] * 201},
    ],
)
def test_a_request_that_says_no_runs_or_no_act_is_refused(api: Api, body: dict[str, Any]) -> None:
    answer = api.post("/api/runs/bulk", body)

    assert (answer.status, len(answer.json["errors"])) == (422, 1)


def test_more_runs_than_an_act_does_are_told(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.server.bulk_runs.MAX_BULK_RUNS", 2)
    running = api.started().id
    runs = [running, *(start(api) for _ in range(2))]
    api.services.store.claim("w", LEASE, lambda view: [runs[2]])

    found = api.post("/api/runs/bulk", {"act": "cancel", "where": {}, "dryRun": True}).json

    assert (found["runs"], found["more"]) == (runs[:0:-1], True)


def test_a_page_acts_on_no_more_runs_than_the_route_does(api: Api) -> None:
    chosen = {f"run.{number}": "on" for number in range(201)}

    plan = form(api, "/runs/bulk", act="cancel", **chosen)
    done = form(api, "/runs/bulk/confirm", act="cancel", runs=" ".join(chosen))

    assert (plan.status, done.status) == (422, 422)
    assert "choose 200 at most" in plan.body.decode()


def test_a_page_by_cost_leads_on_behind_what_it_looked_at(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.store.sql.runs._RUNS_LOOKED_AT", 2)
    dear, *_ = [ended(api, cost="5"), ended(api), ended(api)]

    first = api.get("/api/runs?minCost=1").json
    second = api.get(f"/api/runs?minCost=1&cursor={first['next']}").json

    assert first["items"] == []
    assert [run["id"] for run in second["items"]] == [dear]
    assert second["next"] is None
    assert "Look further" in api.get("/runs?minCost=1").body.decode()


def test_a_viewer_has_no_boxes(served: Callable[..., Api]) -> None:
    api = served(dev_token=None)
    api.serve_task(JOB)
    as_viewer = {"Authorization": f"Bearer {api.token('viewer')}"}

    assert 'type="checkbox"' not in api.get("/runs", **as_viewer).body.decode()
