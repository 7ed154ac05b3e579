"""Replay: a kept delivery is judged again by what is served now; a run is started only when asked, and once."""

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from optio.store.values import RunFilter
from tests.server.api import Api
from tests.server.test_hooks import GOOD, HOOK, post, prepared, run_count
from tests.support import Answer, eventually

BAD = b'{"repository": {"name": 7}, "action": "opened"}'
TWICE = HOOK.replace("{type: string, maxLength: 20}", "{}").replace("Look at", "Look twice at")


@pytest.fixture
def api(served: Callable[..., Api]) -> Api:
    return prepared(served(environ={"OPTIO_WEBHOOK_RATE_PER_MINUTE": "1000"}))


def kept(api: Api) -> list[dict[str, Any]]:
    """Newest first."""
    found: list[dict[str, Any]] = api.get("/api/deliveries").json["items"]
    return found


def delivered(api: Api, body: bytes = GOOD, **headers: str) -> str:
    """The id of the delivery that this request becomes; one that is refused is kept a moment later."""
    known = len(kept(api))
    post(api, body, **headers)

    def fresh() -> list[dict[str, Any]]:
        now = kept(api)
        return now[: len(now) - known]

    return str(eventually(fresh, what="the delivery")[0]["id"])


def replay(api: Api, delivery: str, body: Any = None, **headers: str) -> Answer:
    return api.post(f"/api/deliveries/{delivery}/replay", body if body is not None else {}, **headers)


DRY = {"dryRun": True}

# Judged


def test_a_delivery_that_would_become_the_same_differs_in_nothing(api: Api) -> None:
    delivery = delivered(api)

    answer = replay(api, delivery, DRY)

    assert answer.status == 200
    assert (answer.json["differs"], answer.json["diff"], answer.json["runId"]) == ([], "", None)
    assert answer.json["then"] == answer.json["now"]
    assert answer.json["now"]["prompt"] == "Look at optio 1"
    assert run_count(api) == 1


def test_what_would_become_of_it_now_is_told_with_its_differences(api: Api) -> None:
    accepted, invalid = delivered(api), delivered(api, BAD)
    api.serve_task(TWICE)

    first, second = replay(api, accepted, DRY).json, replay(api, invalid, DRY).json

    assert (first["then"]["verdict"], first["now"]["verdict"], first["differs"]) == ("accepted", "accepted", ["prompt"])
    assert "-Look at optio 1\n+Look twice at optio 1" in first["diff"]
    assert (second["then"]["verdict"], second["now"]["verdict"], second["differs"]) == ("invalid", "accepted", ["verdict"])
    assert second["then"]["detail"] == "/params/REPO must be a string"
    assert "+Look twice at 7 1" in second["diff"]
    assert run_count(api) == 1


@pytest.mark.parametrize(
    ("task", "verdict", "detail"),
    [
        (HOOK.replace("path: push", "path: elsewhere"), "absent", "no webhook `push` is served"),
        (HOOK.replace("'closed'", "'opened'"), "filtered", "the `when` filter does not hold"),
        (HOOK.replace("maxLength: 20", "maxLength: 2"), "invalid", "/params/REPO"),
    ],
)
def test_what_starts_nothing_now_is_said_and_starts_nothing(api: Api, task: str, verdict: str, detail: str) -> None:
    delivery = delivered(api)
    api.serve_task(task)

    answer = replay(api, delivery, {"again": True})

    assert (answer.status, answer.json["now"]["verdict"], answer.json["runId"]) == (200, verdict, None)
    assert detail in answer.json["now"]["detail"]
    assert run_count(api) == 1


def test_the_event_that_came_in_a_header_counts_again(api: Api) -> None:
    delivery = delivered(api, X_Optio_Event="push")
    api.serve_task(HOOK.replace("      when:", "      events: [push]\n      when:"))
    wanted = replay(api, delivery, DRY).json["now"]["verdict"]
    api.serve_task(HOOK.replace("      when:", "      events: [pull]\n      when:"))

    assert (wanted, replay(api, delivery, DRY).json["now"]["verdict"]) == ("accepted", "filtered")


def test_a_run_that_is_kept_no_longer_is_not_compared(api: Api) -> None:
    delivery = delivered(api)
    run_id = kept(api)[0]["runId"]
    api.services.store.cancel(run_id, "test")
    api.services.store.delete_run(run_id)
    api.serve_task(TWICE)

    found = replay(api, delivery, DRY).json

    assert (found["then"]["prompt"], found["differs"], found["diff"]) == (None, [], "")


# Started


def test_a_delivery_that_started_nothing_is_replayed_once_by_one_definition(api: Api) -> None:
    delivery = delivered(api, BAD)
    api.serve_task(TWICE)

    first, second, third = replay(api, delivery), replay(api, delivery), replay(api, delivery, DRY)
    api.serve_task(TWICE.replace("twice", "thrice"))
    other = replay(api, delivery)

    assert (first.status, second.status, third.status, other.status) == (202, 200, 200, 202)
    assert first.json["runId"] == second.json["runId"] == third.json["replayedAs"] != other.json["runId"]
    assert run_count(api) == 2
    run = api.get(f"/api/workflow-runs/{first.json['runId']}").json
    assert (run["trigger"], run["deliveryId"], run["prompt"]) == ("webhook", delivery, "Look twice at 7 1")
    assert [event["actor"] for event in run["events"]] == ["replay:local"]


def test_many_at_once_start_one_run(api: Api) -> None:
    delivery = delivered(api, BAD)
    api.serve_task(TWICE)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: replay(api, delivery), range(20)))

    assert sorted(answer.status for answer in answers) == [200] * 19 + [202]
    assert len({answer.json["runId"] for answer in answers}) == run_count(api) == 1


def test_a_delivery_that_has_a_run_starts_another_only_if_asked_to(api: Api) -> None:
    delivery = delivered(api)

    refused, again, once_more = (
        replay(api, delivery),
        replay(api, delivery, {"again": True}),
        replay(api, delivery, {"again": True}),
    )

    assert (refused.status, again.status, once_more.status) == (409, 202, 200)
    assert kept(api)[0]["runId"] in refused.json["detail"]
    assert again.json["runId"] == once_more.json["runId"]
    assert run_count(api) == 2


def test_a_run_that_stands_for_the_business_key_is_joined(api: Api) -> None:
    api.serve_task(HOOK + 'dedupe: {key: "{{REPO}}"}\n')
    delivery = delivered(api)

    answer = replay(api, delivery, {"again": True})

    assert (answer.status, answer.json["duplicate"], answer.json["runId"]) == (200, True, kept(api)[0]["runId"])
    assert run_count(api) == 1


def test_the_trace_of_the_sender_is_not_gone_on_with(api: Api) -> None:
    trace = "0" * 31 + "1"
    delivery = delivered(api, traceparent=f"00-{trace}-{'0' * 15}1-01")

    replay(api, delivery, {"again": True})

    runs = api.services.store.runs(RunFilter()).items
    assert [trace in (run.traceparent or "") for run in runs] == [False, True]


# Refused


def test_a_body_that_was_not_kept_is_said(api: Api) -> None:
    delivery = delivered(api, X_Optio_Signature="0" * 64)

    answer = replay(api, delivery, DRY)

    assert (answer.status, "is not stored" in answer.json["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("body", "pointers"),
    [({"dryrun": True}, ["/dryrun"]), ({"dryRun": 1, "again": "yes"}, ["/dryRun", "/again"]), ([], [""])],
)
def test_options_that_do_not_fit_are_refused(api: Api, body: Any, pointers: list[str]) -> None:
    answer = replay(api, delivered(api), body)

    assert (answer.status, [each["pointer"] for each in answer.json["errors"]]) == (422, pointers)
    assert run_count(api) == 1


def test_an_unknown_delivery_is_not_found(api: Api) -> None:
    assert replay(api, "nobody").status == 404


def test_replay_and_the_very_bytes_need_an_operator(served: Callable[..., Api]) -> None:
    api = prepared(served(dev_token=None))
    post(api)
    viewer, operator = ({"Authorization": f"Bearer {api.token(role)}"} for role in ("viewer", "operator"))
    (delivery,) = api.get("/api/deliveries", **viewer).json["items"]
    path = f"/api/deliveries/{delivery['id']}"

    assert api.get(path, **viewer).json["body"] == GOOD.decode()
    assert api.get(f"{path}?body=base64", **viewer).status == 403
    assert base64.b64decode(api.get(f"{path}?body=base64", **operator).json["bodyBase64"]) == GOOD
    assert api.request("POST", f"{path}/replay", {}, headers=viewer).status == 403
    started = api.request("POST", f"{path}/replay", {"again": True}, headers=operator)
    assert started.status == 202
    assert api.services.store.events(started.json["runId"])[0].actor == "replay:token:operator"


# Listed


def test_deliveries_are_listed_by_time_path_and_verdict(api: Api) -> None:
    first, bad, last = delivered(api), delivered(api, BAD), delivered(api, GOOD + b" ")
    times = {item["id"]: item["receivedAt"].replace("Z", "001Z") for item in api.get("/api/deliveries").json["items"]}

    def listed(query: str) -> list[str]:
        return [item["id"] for item in api.get(f"/api/deliveries?{query}").json["items"]]

    assert listed("verdict=invalid") == [bad]
    assert listed("path=push&verdict=accepted") == [last, first]
    assert listed("path=other") == []
    assert listed("since=2020-01-01T00:00:00Z&until=2020-01-02T00:00:00Z") == []
    assert listed("since=2020-01-01T00:00:00Z&until=2999-01-01T00:00:00%2B01:00") == [last, bad, first]
    assert listed(f"since={times[first]}&verdict=accepted") in ([last], [last, first])
    page = api.get("/api/deliveries?since=2020-01-01T00:00:00Z&limit=2").json
    assert listed(f"since=2020-01-01T00:00:00Z&cursor={page['next']}") == [first]


@pytest.mark.parametrize("query", ["since=yesterday", "since=2026-01-01T00:00:00", "until=2026-01-01", "body=hex"])
def test_a_query_that_cannot_be_honoured_is_refused(api: Api, query: str) -> None:
    path = f"/api/deliveries/{delivered(api)}" if query.startswith("body") else "/api/deliveries"

    assert api.get(f"{path}?{query}").status == 422
