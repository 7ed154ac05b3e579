"""`GET /api/pools` and `/api/pools/plan`: what is kept ready, what it was worth, what other sizes would be."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from optio.cli.pool import text as shown
from optio.model.namespace import WorkerScope
from optio.model.pool import COLD, WARM, Pool
from optio.store.values import AgentStart
from tests.server.api import JOB, Api

POOLED = JOB.replace("name: Job", "name: Pooled") + "warmPoolSize: 2\nenvironment: {resources: {cpu: 500m}}\n"
RARE = JOB.replace("name: Job", "name: Rare") + (
    'warmPoolSize: 1\ntriggers: [{type: schedule, config: {cronExpression: "0 9 * * 1"}}, {type: manual}]\n'
)
OFTEN = JOB.replace("name: Job", "name: Often") + 'triggers: [{type: schedule, config: {cronExpression: "* * * * *"}}]\n'


@pytest.fixture
def api(served: Callable[..., Api]) -> Api:
    made = served()
    for name, text in {"job": JOB, "pooled": POOLED, "rare": RARE, "often": OFTEN}.items():
        made.serve_task(text, name)
    return made


def begin(api: Api, task_id: str, how: str, waited: float) -> None:
    """A run of the task whose agent has begun."""
    run_id = api.post(f"/api/tasks/{task_id}/runs").json["runId"]
    (claim,) = api.services.store.claim("w", timedelta(minutes=5), lambda view: [run_id])
    attempt = api.services.store.attempts(run_id)[0]
    ago = api.services.store.now() - attempt.started_at - timedelta(seconds=waited)
    api.services.store.agent_started(claim.run.lease, AgentStart(ago, how)).result(10)


def test_pools_are_shown_as_they_were_told_with_the_starts_of_their_tasks(api: Api) -> None:
    pool = Pool(key="4f2a", tasks=("pooled", "rare"), size=3, ready=2, starting=1, problem="no node has room")
    api.services.store.keep_pools("kubernetes/uid/optio", [pool])
    for how, waited in ((WARM, 0.1), (WARM, 0.2), (COLD, 5.0)):
        begin(api, "pooled", how, waited)
    begin(api, "rare", COLD, 7.0)
    begin(api, "job", COLD, 90.0)

    found = api.get("/api/pools").json

    (item,) = found["items"]
    waits = item.pop("waitMs")
    assert item == {
        "pool": "4f2a", "place": "kubernetes/uid/optio", "tasks": ["pooled", "rare"], "size": 3, "ready": 2, "starting": 1,
        "problem": "no node has room", "warmStarts": 2, "coldStarts": 2,
    }  # fmt: skip
    assert [round(waits[name] / 100) for name in ("p50", "p90", "p99")] == [2, 70, 70]
    assert [report["place"] for report in found["reports"]] == ["kubernetes/uid/optio"]
    assert found["reports"][0]["ageSeconds"] < 30


def test_pools_of_which_nothing_was_told_stand_there_without_places(api: Api) -> None:
    api.services.store.pause("rare", "for now", "ann")

    found = api.get("/api/pools").json

    assert (found["reports"], found["executor"]) == ([], "process")
    shown = [(item["pool"], item["tasks"], item["size"], item["ready"], item["problem"]) for item in found["items"]]
    assert shown == [(None, ["pooled"], 2, 0, ""), (None, ["rare"], 1, 0, "the task is paused")]
    assert found["items"][0]["waitMs"] == {"p50": None, "p90": None, "p99": None}


def test_starts_count_from_the_time_that_is_asked_for(api: Api) -> None:
    begin(api, "pooled", WARM, 0.1)
    later = (datetime.now(UTC) + timedelta(seconds=5)).isoformat().replace("+", "%2B")

    assert api.get("/api/pools").json["items"][0]["warmStarts"] == 1
    assert api.get(f"/api/pools?since={later}").json["items"][0]["warmStarts"] == 0


def test_a_plan_has_the_sizes_of_every_task_that_matters_those_with_a_pool_first(api: Api) -> None:
    begin(api, "pooled", COLD, 4.0)

    found = api.get("/api/pools/plan").json

    assert [item["taskId"] for item in found["items"]] == ["pooled", "rare", "often"]
    pooled, rare, often = found["items"]
    assert (pooled["measuredStarts"], pooled["scheduledStarts"], round(pooled["refillSeconds"])) == (1, 0, 4)
    assert (pooled["cpu"], pooled["memory"]) == ("100m", "256Mi"), "an idle pod costs what it reserves"
    two = next(each for each in pooled["sizes"] if each["size"] == 2)
    assert two["warmShare"] == 1.0
    assert two["cpuHoursPerDay"] == pytest.approx(two["idleHoursPerDay"] / 10, abs=0.01)
    assert two["memoryGibHoursPerDay"] == pytest.approx(two["idleHoursPerDay"] / 4, abs=0.01)
    assert (rare["current"], rare["proposed"], rare["scheduledStarts"], rare["days"]) == (1, 0, 1, 7.0)
    assert rare["why"].startswith("1 start in 7 days: one pod would wait 168.0 h")
    assert (often["proposed"], often["scheduledStarts"]) == (1, 7 * 24 * 60)
    assert "cold starts: as of other tasks" in often["assumed"]


def test_what_the_schedule_started_is_not_counted_twice(api: Api) -> None:
    api.services.store.accept(_by_schedule(api)).result(10)
    api.services.store.claim("w", timedelta(minutes=5), lambda view: ["timed"])

    (item,) = api.get("/api/pools/plan?task=often&days=1").json["items"]

    assert item["measuredStarts"] == 0


def _by_schedule(api: Api) -> object:
    from tests.store.build import new_run

    return new_run(api.live.current.registry.task("often"), "timed", trigger="schedule")


def test_tasks_that_share_their_places_say_so(api: Api) -> None:
    pool = Pool(key="4f2a", tasks=("pooled", "rare"), size=3, ready=3, starting=0)
    api.services.store.keep_pools("here", [pool])

    (item,) = api.get("/api/pools/plan?task=pooled").json["items"]

    assert item["sharedWith"] == ["rare"]


def test_a_plan_goes_no_further_than_its_limit_and_counts_the_rest(api: Api) -> None:
    found = api.get("/api/pools/plan?limit=1").json

    assert ([item["taskId"] for item in found["items"]], found["left"]) == (["pooled"], 2)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/pools?since=2026-01-05T08:00:00", 422),
        ("/api/pools?span=7", 422),
        ("/api/pools/plan?days=0", 422),
        ("/api/pools/plan?days=91", 422),
        ("/api/pools/plan?target=0", 422),
        ("/api/pools/plan?target=1.01", 422),
        ("/api/pools/plan?target=nan", 422),
        ("/api/pools/plan?task=nobody", 404),
    ],
)
def test_what_cannot_be_honoured_is_refused(api: Api, path: str, status: int) -> None:
    assert api.get(path).status == status


def test_pools_are_for_those_who_may_look(served: Callable[..., Api]) -> None:
    closed = served(dev_token=None)

    for path in ("/api/pools", "/api/pools/plan"):
        assert closed.get(path).status == 401
        assert closed.get(path, Authorization=f"Bearer {closed.token('viewer')}").status == 200


def test_namespaces_without_a_worker_are_named_with_the_runs_that_wait(served: Callable[..., Api]) -> None:
    api = served()
    (api.tasks / "_policy.yaml").write_text('type: policy\nnamespaces: {"*": runs-a}\n')
    api.serve_task(JOB, "job")
    run_id = api.post("/api/tasks/job/runs").json["runId"]

    before, waiting = api.get("/api/pools").json, api.get(f"/api/workflow-runs/{run_id}").json["waiting"]
    api.services.store.note_worker("w", WorkerScope("runs-a"))
    after = api.get("/api/pools").json["unserved"]

    message = "no worker takes runs of the namespace `runs-a`: start one with OPTIO_TEAM_NAMESPACE=runs-a"
    assert before["unserved"] == [{"namespace": "runs-a", "tasks": ["job"], "waiting": 1, "message": message}]
    assert (waiting["reason"], waiting["message"], waiting["position"]) == ("no_worker", message, 1)
    assert after == []
    assert f"{message} (job; runs that wait: 1)" in shown(before)
