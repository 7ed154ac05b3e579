"""Runs over HTTP: the URLs and bodies of the documentation, repeatable requests, lists."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.server.api import JOB, Api

REPORT = """\
type: standalone
name: Weekly Security Report
agentRuntime: command
command: "true"
promptTemplate: "Analyze the dependency list for {{REPO_NAME}} and produce a security report. Focus on: {{FOCUS_AREAS}}"
paramsSchema:
  type: object
  properties:
    REPO_NAME: {type: string}
    FOCUS_AREAS: {type: string, default: "CVEs, outdated packages, license issues"}
  required: [REPO_NAME]
  additionalProperties: false
"""
URL = "/api/tasks/weekly-security-report/runs"
START = {"params": {"REPO_NAME": "optio", "FOCUS_AREAS": "CVEs, outdated packages"}}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    made = Api(tmp_path_factory.mktemp("runs"))
    made.serve_task(JOB)
    made.serve_task(REPORT, "weekly-security-report")
    yield made
    made.close()


def test_a_run_is_started_shown_and_listed_as_the_documentation_says(api: Api) -> None:
    started = api.post(URL, START)
    run_id = started.json["runId"]

    shown = api.get(f"/api/workflow-runs/{run_id}").json
    listed = api.get(URL).json["items"]
    logs = api.get(f"/api/workflow-runs/{run_id}/logs").json

    assert started.status == 202
    assert started.headers["location"] == f"/api/workflow-runs/{run_id}"
    assert shown["state"] == "queued"
    assert shown["params"] == START["params"]
    assert shown["prompt"].endswith("for optio and produce a security report. Focus on: CVEs, outdated packages")
    assert listed[0]["id"] == run_id
    assert logs == {"items": [], "next": 0, "last": 0, "state": "queued"}


@pytest.mark.parametrize("raw", [None, b"", b"  ", b"{}", b'{"params": null}', b'{"params": {}}'])
def test_nothing_means_no_parameters(api: Api, raw: bytes | None) -> None:
    answer = api.request("POST", "/api/tasks/job/runs", raw=raw)

    assert answer.status == 202
    assert answer.json["params"] == {}


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/params/REPO_NAME"]),
        ({"params": {"REPO_NAME": 1, "OTHER": 2}}, ["/params/OTHER", "/params/REPO_NAME"]),
        ({"params": {"REPO_NAME": "a", "a/b~c": 2}}, ["/params/a~1b~0c"]),
        ({"params": []}, ["/params"]),
        ({"params": "REPO_NAME=x"}, ["/params"]),
        ({"REPO_NAME": "optio"}, ["/REPO_NAME"]),
        ([], [""]),
        ("text", [""]),
        ({"params": {"REPO_NAME": "a\0b"}}, ["/params/REPO_NAME"]),
    ],
)
def test_each_fault_has_an_entry_with_its_pointer(api: Api, body: object, pointers: list[str]) -> None:
    answer = api.post(URL, body)

    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert sorted(error["pointer"] for error in answer.json["errors"]) == pointers


@pytest.mark.parametrize(
    ("raw", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"\xff", {}, 400),
        (b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"Content-Encoding": "gzip"}, 415),
        (b" " * (1 << 20) + b"{}", {}, 413),
    ],
)
def test_a_body_that_cannot_be_read_is_a_problem(api: Api, raw: bytes, headers: dict[str, str], status: int) -> None:
    answer = api.request("POST", URL, raw=raw, headers=headers)

    assert answer.status == status
    assert answer.json["status"] == status


# Repeatable requests


def test_the_same_key_with_the_same_body_gives_the_same_run(api: Api) -> None:
    first = api.post(URL, START, Idempotency_Key="k1")

    again = api.post(URL, START, Idempotency_Key="k1")

    assert (first.status, again.status) == (202, 200)
    assert again.json["runId"] == first.json["runId"]
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers


def test_the_same_key_with_another_body_is_a_conflict(api: Api) -> None:
    api.post(URL, START, Idempotency_Key="k2")

    assert api.post(URL, {"params": {"REPO_NAME": "other"}}, Idempotency_Key="k2").status == 409
    assert api.post(URL, {}, Idempotency_Key="k2").status == 409


def test_keys_of_two_tasks_do_not_meet(api: Api) -> None:
    first = api.post(URL, START, Idempotency_Key="k3")

    other = api.request("POST", "/api/tasks/job/runs", headers={"Idempotency-Key": "k3"})

    assert other.status == 202
    assert other.json["runId"] != first.json["runId"]


def test_twenty_at_once_with_one_key_make_one_run(api: Api) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: api.post(URL, START, Idempotency_Key="k4"), range(20)))

    assert len({answer.json["runId"] for answer in answers}) == 1
    assert sorted(answer.status for answer in answers) == [200] * 19 + [202]


@pytest.mark.parametrize(
    "headers", [[("Idempotency-Key", "")], [("Idempotency-Key", "x" * 256)], [("Idempotency-Key", "a")] * 2]
)
def test_a_key_that_cannot_be_kept_is_refused(api: Api, headers: list[tuple[str, str]]) -> None:
    assert api.request("POST", "/api/tasks/job/runs", headers=headers).status == 422


# Lists


def test_pages_hold_every_run_once_newest_first(api: Api) -> None:
    made = [api.post("/api/tasks/job/runs").json["runId"] for _ in range(7)]
    seen: list[str] = []
    url = "/api/tasks/job/runs?limit=2"

    page = api.get(url).json
    # A run that is added meanwhile is on no page that follows.
    api.post("/api/tasks/job/runs")
    while True:
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        page = api.get(f"{url}&cursor={page['next']}").json

    assert seen[:7] == made[::-1]
    assert len(seen) == len(set(seen))


def test_null_is_a_text_where_texts_are_taken_and_refused_everywhere_else(api: Api) -> None:
    api.post("/api/tasks/job/runs")

    assert api.get("/api/runs?task=null").json["items"] == api.get("/api/runs?reason=null").json["items"] == []
    for query in ("state", "trigger", "limit", "since"):
        refused = api.get(f"/api/runs?{query}=null")
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, f"/{query}")


def test_filters_hold_together(api: Api) -> None:
    run_id = api.post("/api/tasks/job/runs").json["runId"]
    api.post(f"/api/workflow-runs/{run_id}/cancel")

    found = api.get("/api/runs?task=job&state=cancelled&trigger=manual").json["items"]
    none = api.get("/api/runs?task=job&state=cancelled&trigger=webhook").json["items"]

    assert [item["id"] for item in found] == [run_id]
    assert none == []


def test_the_runs_of_a_task_have_the_filters_of_the_list_of_all(api: Api) -> None:
    gone, kept = (api.post("/api/tasks/job/runs").json["runId"] for _ in range(2))
    api.post(f"/api/workflow-runs/{gone}/cancel")

    def ids(query: str) -> list[str]:
        both = [api.get(f"{path}{query}").json["items"] for path in ("/api/tasks/job/runs?", "/api/runs?task=job&")]
        assert both[0] == both[1]
        return [item["id"] for item in both[0]]

    assert ids("reason=cancelled&limit=1") == [gone]
    assert ids(f"reason=manual&trigger=manual&id={kept}&since=2026-01-05T08:00:00Z") == [kept]
    assert ids("reason=cancelled&since=2026-01-05T08:00:00Z&state=cancelled&limit=1") == [gone]
    # The first page of an empty list asks whether there is such a task.
    assert api.get("/api/tasks/job/runs?reason=oom").json == {"items": [], "next": None}
    assert api.get("/api/tasks/nothing/runs?reason=oom").status == 404


BAD_QUERIES = [
    ("limit=0", "/limit"),
    ("limit=-1", "/limit"),
    ("limit=1000000000", "/limit"),
    ("limit=many", "/limit"),
    ("limit=1e9", "/limit"),
    ("limit=", "/limit"),
    ("limit=1&limit=2", "/limit"),
    ("cursor=forged", "/cursor"),
    ("cursor=" + "A" * 5000, "/cursor"),
    ("cursor=%00", "/cursor"),
    ("cursor=YmVmb3JlOi0x", "/cursor"),
    ("cursor=%F0%9F%98%80", "/cursor"),
    ("stat=failed", "/stat"),
    ("sort=id", "/sort"),
    ("offset=-1", "/offset"),
    # Each would be read as if it were not there, or as seconds since 1970.
    ("limit=null", "/limit"),
    ("since=null", "/since"),
    ("until=2026", "/until"),
    ("since=0.5", "/since"),
    ("until=2026-01-05", "/until"),
]


@pytest.mark.parametrize(("query", "pointer"), BAD_QUERIES)
@pytest.mark.parametrize("path", ["/api/runs", "/api/tasks/job/runs", "/api/deliveries"])
def test_a_query_that_cannot_be_honoured_is_refused_with_its_pointer(api: Api, path: str, query: str, pointer: str) -> None:
    answer = api.get(f"{path}?{query}")

    assert answer.status == 422
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/api/runs?state=done", "/state"),
        ("/api/runs?state=", "/state"),
        ("/api/runs?trigger=cron", "/trigger"),
        ("/api/tasks/job/runs?task=job", "/task"),
        ("/api/tasks?limit=1&x=2", "/x"),
        ("/healthz?x", "/x"),
    ],
)
def test_an_unknown_filter_is_refused(api: Api, path: str, pointer: str) -> None:
    answer = api.get(path)

    assert answer.status == 422
    assert pointer in [error["pointer"] for error in answer.json["errors"]]


@pytest.mark.parametrize("text", ["' OR 1=1 --", "'; DROP TABLE runs; --", "%", "_", "\\", "job' AND '1'='1", "\x00"])
def test_sql_in_a_filter_is_text(api: Api, text: str) -> None:
    from urllib.parse import quote

    answer = api.get(f"/api/runs?task={quote(text)}")

    assert answer.status == 200
    assert answer.json["items"] == []
    assert api.get("/api/runs").json["items"] != []


@pytest.mark.parametrize(
    "path",
    [
        "/api/tasks/nothing",
        "/api/tasks/nothing/runs",
        "/api/workflow-runs/nothing",
        "/api/workflow-runs/nothing/logs",
        "/api/workflow-runs/nothing/logs?format=text",
        "/api/deliveries/nothing",
        "/api/tasks/' OR 1=1",
    ],
)
def test_what_does_not_exist_is_answered_by_404(api: Api, path: str) -> None:
    answer = api.get(path.replace(" ", "%20"))

    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"


# Control


def test_a_queued_run_is_cancelled_and_cannot_be_twice(api: Api) -> None:
    run_id = api.post("/api/tasks/job/runs").json["runId"]

    answer = api.post(f"/api/workflow-runs/{run_id}/cancel")

    assert answer.status == 202
    assert (answer.json["runId"], answer.json["state"]) == (run_id, "cancelled")
    assert api.post(f"/api/workflow-runs/{run_id}/cancel").status == 409
    assert api.post(f"/api/workflow-runs/{run_id}/retry").status == 409


def test_a_failed_run_is_retried(api: Api) -> None:
    writer = api.started()
    writer.end(ok=False)

    answer = api.post(f"/api/workflow-runs/{writer.id}/retry")

    assert (answer.status, answer.json["state"]) == (202, "queued")


GREETING = """\
type: standalone
name: Greeting
agentRuntime: command
command: "true"
promptTemplate: "Greet {{WHO}}"
paramsSchema:
  type: object
  properties: {WHO: {type: string}}
  required: [WHO]
  additionalProperties: false
"""


@pytest.mark.parametrize("ok", [True, False])
def test_a_run_that_has_ended_is_run_again_as_a_new_one_that_names_it(api: Api, ok: bool) -> None:
    api.serve_task(GREETING, "greeting")
    writer = api.started("greeting", params={"WHO": "you"})
    writer.end(ok=ok)
    api.serve_task(GREETING.replace("Greet ", "Welcome "), "greeting")

    own = api.post(f"/api/workflow-runs/{writer.id}/rerun")
    current = api.post(f"/api/workflow-runs/{writer.id}/rerun", {"current": True})

    earlier, *new = (
        api.get(f"/api/workflow-runs/{each}").json for each in (writer.id, own.json["runId"], current.json["runId"])
    )
    assert (own.status, own.headers["location"]) == (202, f"/api/workflow-runs/{own.json['runId']}")
    assert [each["prompt"] for each in new] == ["Greet you", "Welcome you"]
    assert [each["definition"] == earlier["definition"] for each in new] == [True, False]
    assert [(each["state"], each["trigger"], each["params"]) for each in new] == [("queued", "manual", {"WHO": "you"})] * 2
    assert [each["events"][0]["message"] for each in new] == [f"rerun of {writer.id}"] * 2
    assert api.get(f"/api/workflow-runs/{writer.id}").json == earlier


def test_a_rerun_that_cannot_be_is_refused_with_its_reason(api: Api) -> None:
    api.serve_task(GREETING.replace("Greeting", "Passing"), "passing")
    writer = api.started("passing", params={"WHO": "you"})
    writer.end()
    queued = api.post("/api/tasks/passing/runs", {"params": {"WHO": "you"}}).json["runId"]
    path = f"/api/workflow-runs/{writer.id}/rerun"

    waits = api.post(f"/api/workflow-runs/{queued}/rerun")
    api.serve_task(GREETING.replace("Greeting", "Passing").replace("WHO", "NAME"), "passing")
    misfit = api.post(path, {"current": True})
    unknown, untyped = api.post(path, {"definition": "x"}), api.post(path, {"current": "yes"})
    (api.tasks / "passing.yaml").unlink()
    api.serve_task(JOB)
    gone = api.post(path)

    assert (waits.status, waits.json["detail"]) == (409, "the run is queued: rerun it when it has ended")
    assert (misfit.status, misfit.json["type"]) == (422, "urn:optio:problem:invalid")
    assert {error["pointer"] for error in misfit.json["errors"]} == {"/params/WHO", "/params/NAME"}
    assert [each.json["errors"][0]["pointer"] for each in (unknown, untyped)] == ["/definition", "/current"]
    assert (gone.status, "`passing` is not served any more" in gone.json["detail"]) == (409, True)
    assert api.post("/api/workflow-runs/nothing/rerun").status == 404


def test_a_rerun_with_one_idempotency_key_starts_one_run(api: Api) -> None:
    writer = api.started()
    writer.end()

    first, again = (api.post(f"/api/workflow-runs/{writer.id}/rerun", Idempotency_Key="once more") for _ in range(2))

    assert (first.status, again.status) == (202, 200)
    assert first.json["runId"] == again.json["runId"]


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_control_takes_no_options(api: Api, verb: str) -> None:
    run_id = api.post("/api/tasks/job/runs").json["runId"]

    answer = api.post(f"/api/workflow-runs/{run_id}/{verb}", {"force": True})

    assert answer.status == 422
    assert [error["pointer"] for error in answer.json["errors"]] == ["/force"]
    assert api.post(f"/api/workflow-runs/nothing/{verb}").status == 404


def test_the_list_of_runs_is_filtered_by_the_beginning_of_an_id_and_by_time(api: Api) -> None:
    first, second = (api.post("/api/tasks/job/runs").json["runId"] for _ in range(2))

    def ids(query: str) -> list[str]:
        return [item["id"] for item in api.get(f"/api/runs?{query}").json["items"]]

    assert ids(f"id={second}") == ids(f"id={second.upper()}") == [second]
    assert ids(f"id={second[:8]}")[0] == second
    assert ids("id=ffff") == []
    assert ids("since=2026-01-05T08:00:00Z&task=job")[:2] == [second, first]
    assert ids("until=2026-01-05T08:00:00Z") == []
    refused = api.get("/api/runs?since=2026-01-05T08:00:00")
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/since")
    assert api.get(f"/api/runs?id={'0' * 37}").status == 422


def test_a_run_has_the_commit_from_which_its_task_was_served(tmp_path: Path) -> None:
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run([*git, "init", "-q"], check=True)
    api = Api(tmp_path)
    try:
        (tmp_path / "tasks.d" / "job.yaml").write_text(JOB)
        subprocess.run([*git, "add", "tasks.d"], check=True)
        subprocess.run([*git, "commit", "-qm", "Add a task"], check=True)
        api.serve_task(JOB)
        first = api.post("/api/tasks/job/runs").json["runId"]
        api.serve_task(JOB + "maxRetries: 7\n")
        second = api.post("/api/tasks/job/runs").json["runId"]
        runs = [api.get(f"/api/workflow-runs/{run_id}").json for run_id in (first, second)]
        page = api.get(f"/runs/{second}").body.decode()
    finally:
        api.close()

    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert [(run["generation"], run["commit"]) for run in runs] == [(1, head), (2, f"{head}+dirty")]
    assert f"{head[:12]}+dirty" in page
