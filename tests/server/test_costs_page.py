"""Costs as HTML, JSON and CSV, which say the same: `GET /costs`, `GET /api/costs` and `GET /costs.csv`."""

import csv
import io
import re
from decimal import Decimal
from typing import Any

import pytest

from optio.model.retry import GiveUp
from optio.model.run import Outcome
from optio.model.usage import CostSource, Meter, Usage
from tests.server.api import JOB, Api

HOSTILE = "=HYPERLINK(1)<img src=x onerror=alert(1)>"


def spend(api: Api, task_id: str, cost: str | None, source: CostSource = CostSource.CLI, **tokens: int) -> None:
    run = api.started(task_id)
    price = None if cost is None else Decimal(cost)
    meter = Meter(usage=Usage(**tokens), cost=price, cost_source=None if cost is None else source)
    outcome = Outcome(ok=True, reason="ok", message="")
    api.services.store.finish(run.claim.run.lease, outcome, meter, 0, None, lambda *_: GiveUp("the test ends it"))


def put(api: Api, task_id: str, name: str = "Job", extra: str = "") -> None:
    api.serve_task(JOB.replace("name: Job", f"id: {task_id}\nname: {name!r}") + extra, name=task_id)


def costs(api: Api, query: str = "") -> dict[str, Any]:
    answer = api.get(f"/api/costs{query}")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    return found


def test_costs_are_summed_by_task_and_by_day_with_the_dearest_first(api: Api) -> None:
    put(api, "dear")
    spend(api, "job", "0.25", fresh=100, cached=300, output=50)
    spend(api, "job", None)
    spend(api, "dear", "2.00", CostSource.PRICES)

    found = costs(api)

    assert (found["costUsd"], found["monthUsd"], found["ended"]) == ("2.25", "2.25", 3)
    dear, job = found["items"]
    assert (dear["taskId"], dear["costUsd"], dear["perRunUsd"], dear["sources"]["prices"]) == ("dear", "2", "2.000000", "2")
    assert (job["costUsd"], job["perRunUsd"], job["unpriced"], job["tokens"], job["cached"]) == (
        "0.25",
        "0.125000",
        1,
        450,
        0.75,
    )
    assert abs(dear["share"] - 2 / 2.25) < 1e-9
    assert found["dearest"] == ["dear", "job"]
    assert len(found["days"]) == 30
    today = found["days"][-1]
    assert (today["costUsd"], today["dearest"], today["othersUsd"]) == ("2.25", ["2", "0.25"], "0.00")
    assert all(day["costUsd"] == "0" for day in found["days"][:-1])


@pytest.mark.parametrize(
    ("cost", "top", "half"), [("1234.5", "$2,000", "$1,000"), ("12345", "$20k", "$10k"), ("999999", "$1,000k", "$500k")]
)
def test_labels_of_the_chart_have_room_for_large_amounts(api: Api, cost: str, top: str, half: str) -> None:
    spend(api, "job", cost)

    assert re.findall(r'<text class="axis" [^>]*>([^<]*)<', api.get("/costs").body.decode()) == [top, half, "$0"]


def test_the_page_draws_each_day_and_names_prices_and_unknown_costs(api: Api) -> None:
    put(api, "dear")
    spend(api, "dear", "2.00", CostSource.PRICES)
    spend(api, "job", "0.25")
    spend(api, "job", None)

    page = api.get("/costs").body.decode()

    assert len(re.findall(r"<g><title>\d{4}-\d\d-\d\d: ", page)) == 30
    assert re.search(r'<rect class="series0"[^>]*height="80.0"><title>[\d-]+, dear: \$2.00</title>', page)
    assert re.search(r'<rect class="series1"[^>]*height="10.0"><title>[\d-]+, job: \$0.25</title>', page) is not None
    assert "price list" in page
    assert "1 of 2 attempts unknown" in page
    assert "style=" not in page


def test_the_limits_of_the_policy_and_the_worst_case_stand_beside_the_sum(api: Api) -> None:
    (api.tasks / "_policy.yaml").write_text('type: policy\nfleet: {monthUsd: "1.50"}\nceilings: {monthUsd: "75.00"}\n')
    spend(api, "job", "2.00")

    found = costs(api)

    assert (found["fleetCeilingUsd"], found["taskCeilingUsd"]) == ("1.50", "75.00")
    page = api.get("/costs").body.decode()
    assert "✕ $2.00 of $1.50 (more than 100 %)" in page


def test_an_unbounded_task_is_counted_and_not_summed(api: Api) -> None:
    api.serve_task(
        JOB.replace('agentRuntime: command\ncommand: "true"', "agentRuntime: claude-code\nmodel: sonnet")
        + "triggers: [{type: webhook, config: {path: job, unsigned: true}}]\n"
    )

    found = costs(api)

    assert (Decimal(found["worstCaseUsd"]), found["unbounded"]) == (0, 1)
    assert "1 task without a bound" in api.get("/costs").body.decode()


def test_a_span_is_7_30_or_90_days(api: Api) -> None:
    assert [len(costs(api, f"?days={days}")["days"]) for days in (7, 30, 90)] == [7, 30, 90]
    assert api.get("/api/costs?days=8").status in (400, 422)
    assert api.get("/costs?cursor=x").status == 422


def test_pages_of_tasks_follow_each_other(api: Api) -> None:
    for number in range(3):
        put(api, f"t{number}")
        spend(api, f"t{number}", str(number + 1))

    first = costs(api, "?limit=2")
    second = costs(api, f"?limit=2&cursor={first['next']}")

    assert [item["taskId"] for page in (first, second) for item in page["items"]] == ["t2", "t1", "t0"]
    assert second["next"] is None


def test_a_spreadsheet_gets_numbers_and_no_formula(api: Api) -> None:
    put(api, "evil", HOSTILE)
    spend(api, "evil", "1.25", fresh=7)

    answer = api.get("/costs.csv?days=7")
    (row,) = csv.DictReader(io.StringIO(answer.body.decode()))

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="optio-costs-7-days.csv"'
    assert (row["task"], row["name"], row["cost_usd"], row["tokens_fresh"]) == ("evil", f"'{HOSTILE}", "1.25", "7")
    page = api.get("/costs").body.decode()
    assert "<img" not in page
    assert "&lt;img" in page


def test_a_task_that_is_gone_keeps_its_costs(api: Api) -> None:
    put(api, "gone")
    spend(api, "gone", "1.00")
    (api.tasks / "gone.yaml").unlink()
    api.serve_task(JOB)

    (item,) = costs(api)["items"]

    assert (item["taskId"], item["name"], item["costUsd"]) == ("gone", None, "1")
    assert "not served any more" in api.get("/costs").body.decode()
