"""The queue over HTTP: tasks that are paused, business keys, and why a run waits."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from optio.broker.base import Topic
from optio.model.retry import GiveUp
from optio.model.run import Outcome
from optio.model.usage import Meter
from optio.runs import admission
from optio.store.values import Claim, RunFilter
from tests.server.api import JOB, Api
from tests.support import Answer

REVIEW = """\
type: standalone
name: Review
agentRuntime: command
command: "true"
promptTemplate: "Review {{REPO}} {{PR}}"
maxConcurrent: 1
paramsSchema:
  type: object
  properties: {REPO: {type: string}, PR: {type: integer}}
  required: [REPO, PR]
  additionalProperties: false
dedupe: {key: "{{REPO}}#{{PR}}"RULE}
triggers:
  - type: webhook
    config: {path: review, unsigned: true, paramMapping: {REPO: $.repo, PR: $.pr}}
"""
LEASE = timedelta(minutes=5)


def review(api: Api, rule: str = "") -> Api:
    api.serve_task(REVIEW.replace("RULE", rule), "review")
    return api


def start(api: Api, pr: int = 7, **headers: str) -> Answer:
    return api.post("/api/tasks/review/runs", {"params": {"REPO": "acme/app", "PR": pr}}, **headers)


def deliver(api: Api, pr: int = 7, **headers: str) -> Answer:
    return api.post("/api/hooks/review", {"repo": "acme/app", "pr": pr}, **headers)


def claim(api: Api) -> list[Claim]:
    """As a worker with room for everything."""
    return api.services.store.claim("w", LEASE, lambda view: admission.starts(view, max_running=99))


def finish(api: Api) -> None:
    for each in claim(api):
        outcome = Outcome(ok=True, reason="ok")
        api.services.store.finish(each.run.lease, outcome, Meter(), 0, None, lambda *_: GiveUp("no"))


def waits(api: Api, run_id: str) -> dict[str, Any]:
    waiting: dict[str, Any] = api.get(f"/api/workflow-runs/{run_id}").json["waiting"]
    return waiting


# Pauses


def test_a_paused_task_takes_runs_and_starts_none_and_everybody_sees_why(api: Api) -> None:
    paused = api.post("/api/tasks/job/pause", {"reason": "the API is down"})
    run_id = api.post("/api/tasks/job/runs").json["runId"]

    assert paused.status == 200
    pause = paused.json["paused"]
    assert (paused.json["id"], pause["reason"], pause["by"]) == ("job", "the API is down", "local")
    assert api.get("/api/tasks").json["items"][0]["paused"] == pause
    assert api.get("/api/tasks/job").json["paused"] == pause
    assert claim(api) == []
    waiting = waits(api, run_id)
    assert (waiting["reason"], waiting["position"], waiting["earliestStart"]) == ("paused", 1, None)
    assert waiting["message"].endswith(": the API is down")


def test_a_resumed_task_starts_what_waits(api: Api) -> None:
    api.post("/api/tasks/job/pause")
    run_id = api.post("/api/tasks/job/runs").json["runId"]

    resumed = [api.post("/api/tasks/job/resume") for _ in range(2)]

    assert [(answer.status, answer.json) for answer in resumed] == [(200, {"id": "job", "paused": None})] * 2
    assert api.get("/api/tasks/job").json["paused"] is None
    assert [each.run.id for each in claim(api)] == [run_id]


def test_workers_are_told_of_a_resumed_task_at_once(api: Api) -> None:
    told: list[str] = []
    api.services.broker.subscribe(lambda topic, key: told.append(topic), (Topic.QUEUE,))
    api.post("/api/tasks/job/pause")
    assert told == []

    api.post("/api/tasks/job/resume")

    assert told == ["queue"]


def test_a_pause_holds_while_the_task_is_edited_and_when_it_is_gone(served: Callable[..., Api]) -> None:
    api = served(environ={"OPTIO_WRITES": "files"})
    api.serve_task(JOB)
    run_id = api.post("/api/tasks/job/runs").json["runId"]
    api.post("/api/tasks/job/pause", {"reason": "why"})

    changed = api.request("PATCH", "/api/tasks/job", {"maxConcurrent": 5})
    assert (changed.status, changed.json["paused"]["reason"]) == (200, "why")
    assert api.request("DELETE", "/api/tasks/job").status == 204

    assert claim(api) == []
    assert api.post("/api/tasks/job/pause", {"reason": "still"}).json["paused"]["reason"] == "still"
    assert api.post("/api/tasks/job/resume").status == 200
    assert [each.run.id for each in claim(api)] == [run_id]


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_what_is_no_task_cannot_be_held(api: Api, verb: str) -> None:
    answer = api.post(f"/api/tasks/jobb/{verb}")

    assert (answer.status, answer.json["detail"]) == (404, "no task `jobb` (did you mean `job`?)")


@pytest.mark.parametrize(
    ("verb", "body", "pointer"),
    [
        ("pause", {"reason": 5}, "/reason"),
        ("pause", {"reason": "two\nlines"}, "/reason"),
        ("pause", {"reason": "x" * 501}, "/reason"),
        ("pause", {"reason": []}, "/reason"),
        ("pause", {"why": "x"}, "/why"),
        ("resume", {"reason": "x"}, "/reason"),
    ],
)
def test_a_pause_that_cannot_be_kept_is_refused_with_its_place(api: Api, verb: str, body: Any, pointer: str) -> None:
    answer = api.post(f"/api/tasks/job/{verb}", body)

    assert (answer.status, [error["pointer"] for error in answer.json["errors"]]) == (422, [pointer])
    assert api.get("/api/tasks/job").json["paused"] is None


# Business keys


def test_a_run_with_a_key_that_a_run_stands_for_is_that_run(api: Api) -> None:
    first, second, other = start(review(api)), start(api), start(api, 8)

    assert (first.status, first.json["dedupeKey"], "duplicate" in first.json) == (202, "acme/app#7", False)
    assert (second.status, second.json["runId"], second.json["duplicate"]) == (200, first.json["runId"], True)
    assert "idempotency-replayed" not in second.headers
    assert (other.status, other.json["runId"] == first.json["runId"]) == (202, False)
    finish(api)
    assert start(api).status == 202


def test_a_rejected_run_names_the_one_that_stands_for_its_key(api: Api) -> None:
    first = start(review(api, ", onDuplicate: reject"), Idempotency_Key="one")
    refused = start(api, Idempotency_Key="two")

    assert (refused.status, refused.json["runId"]) == (409, first.json["runId"])
    assert refused.json["detail"] == f"run {first.json['runId']} has the same key"
    assert start(api, Idempotency_Key="one").json["runId"] == first.json["runId"]
    finish(api)
    assert start(api, Idempotency_Key="two").status == 202


def test_a_rerun_with_a_key_that_a_run_stands_for_is_that_run_or_refused(api: Api) -> None:
    ended = start(review(api)).json["runId"]
    finish(api)
    path = f"/api/workflow-runs/{ended}/rerun"

    first, second = api.post(path), api.post(path)
    review(api, ", onDuplicate: reject")
    refused = api.post(path, {"current": True})

    assert (first.status, first.json["dedupeKey"]) == (202, "acme/app#7")
    assert (second.status, second.json["runId"], second.json["duplicate"]) == (200, first.json["runId"], True)
    assert (refused.status, refused.json["detail"]) == (409, f"run {first.json['runId']} has the same key")


def test_a_replaced_run_says_by_which(api: Api) -> None:
    first, second = start(review(api, ", onDuplicate: replace")), start(api)

    assert (first.status, second.status) == (202, 202)
    replaced = api.get(f"/api/workflow-runs/{first.json['runId']}").json
    assert (replaced["state"], replaced["reason"]) == ("cancelled", "superseded")
    assert second.json["runId"] in replaced["message"]


@pytest.mark.parametrize("ask", [start, deliver])
def test_a_replaced_run_is_counted_among_those_that_ended(api: Api, ask: Callable[[Api], Answer]) -> None:
    start(review(api, ", onDuplicate: replace"))

    ask(api)

    counted = 'optio_runs_total{reason="superseded",state="cancelled",task="review",trigger="manual"} 1.0'
    assert counted in api.get("/metrics").body.decode()


def test_a_webhook_whose_key_a_run_stands_for_is_answered_with_that_run(api: Api) -> None:
    first = start(review(api)).json["runId"]

    answers = [deliver(api, X_Optio_Delivery="d1"), deliver(api, X_Optio_Delivery="d1"), deliver(api, X_Optio_Delivery="d2")]

    assert [answer.status for answer in answers] == [202] * 3
    assert [answer.json for answer in answers] == [{"runId": first, "status": "duplicate", "duplicate": True}] * 3
    kept = api.get("/api/deliveries").json["items"]
    assert [(item["key"], item["verdict"], item["status"], item["runId"]) for item in kept] == [
        ("d2", "duplicate", 202, first),
        ("d1", "duplicate", 202, first),
    ]


def test_a_webhook_that_is_sent_again_after_the_run_has_ended_gets_its_first_answer(api: Api) -> None:
    first = start(review(api)).json["runId"]
    deliver(api, X_Optio_Delivery="d1")
    finish(api)

    assert deliver(api, X_Optio_Delivery="d1").json == {"runId": first, "status": "duplicate", "duplicate": True}
    broken = api.request("POST", "/api/hooks/review", raw=b"{", headers={"X-Optio-Delivery": "d1"})
    assert broken.status == 409
    assert len(api.services.store.runs(RunFilter()).items) == 1


def test_a_webhook_is_rejected_with_the_run_that_stands_for_its_key(api: Api) -> None:
    first = deliver(review(api, ", onDuplicate: reject")).json["runId"]

    refused = deliver(api, X_Optio_Delivery="d1")

    assert (refused.status, refused.json["runId"]) == (409, first)
    newest = api.get("/api/deliveries").json["items"][0]
    assert (newest["key"], newest["verdict"], newest["status"], newest["runId"]) == ("d1", "duplicate", 409, first)
    assert len(api.get("/api/deliveries").json["items"]) == 2


def test_a_run_whose_key_cannot_be_told_is_refused_with_the_parameter(api: Api) -> None:
    api.serve_task(REVIEW.replace("RULE", "").replace("required: [REPO, PR]", "required: [REPO]"), "review")

    answer = api.post("/api/tasks/review/runs", {"params": {"REPO": "acme/app"}})

    assert (answer.status, answer.json["errors"]) == (
        422,
        [{"pointer": "/params/PR", "message": "is needed for the task's `dedupe.key`"}],
    )


def test_a_long_key_is_kept_by_its_digest_and_tells_runs_apart(api: Api) -> None:
    review(api)
    url, base = "/api/tasks/review/runs", "x" * 300
    keys = [api.post(url, {"params": {"REPO": base + end, "PR": 1}}).json["dedupeKey"] for end in ("a", "b", "a")]

    assert keys[0] == keys[2] != keys[1]
    assert all(key.startswith("sha256:") and len(key) == 71 for key in keys)
    edge = api.post(url, {"params": {"REPO": "é" * 99, "PR": 1}}).json["dedupeKey"]
    assert edge == "é" * 99 + "#1"


# Why a run waits


def test_a_waiting_run_names_the_rule_its_place_and_what_is_in_the_way(api: Api) -> None:
    review(api)
    running, second, third = (start(api, pr).json["runId"] for pr in (1, 2, 3))
    claim(api)

    assert waits(api, third) == {
        "reason": "task_limit",
        "message": "the task runs at most 1 at once",
        "ahead": 1,
        "position": 2,
        "rule": "maxConcurrent: 1",
        "occupiedBy": [running],
        "earliestStart": None,
    }
    assert waits(api, second)["position"] == 1


def test_a_start_limit_names_the_earliest_start(api: Api) -> None:
    api.serve_task(JOB + "startLimit: {count: 1, per: 1h30m}\n")
    first, second = (api.post("/api/tasks/job/runs").json["runId"] for _ in range(2))
    (started,) = claim(api)
    assert started.run.started_at is not None

    waiting = waits(api, second)

    assert (waiting["reason"], waiting["rule"]) == ("start_limit", "startLimit: {count: 1, per: 1h30m}")
    assert waiting["occupiedBy"] == [first]
    opens = started.run.started_at + timedelta(hours=1, minutes=30)
    assert waiting["earliestStart"] == opens.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_task_shows_its_priority_and_limits(api: Api) -> None:
    shown = api.get("/api/tasks/job").json
    assert (shown["priority"], "startLimit" in shown, "dedupe" in shown) == (0, False, False)

    api.serve_task(JOB + "priority: -5\nstartLimit: {count: 1, per: 90m}\n")

    shown = api.get("/api/tasks/job").json
    assert (shown["priority"], shown["startLimit"]) == (-5, {"count": 1, "per": "90m"})
