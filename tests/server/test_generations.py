"""One generation for all servers, through the API: what differs is said, and nothing is written where it is not served."""

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.source_tree import MemoryTree
from optio.model.drift import DRIFT_GRACE_S
from optio.server.routes.metrics import registry_samples
from optio.tree.served import ServedRegistry
from tests.server.api import JOB, Api


class Other:
    """Another server of the same database, with files of its own."""

    def __init__(self, api: Api) -> None:
        self.live, self._compiler = ServedRegistry(api.services.store, server="elsewhere:/tasks"), IncrementalCompiler()

    def has(self, **files: str) -> None:
        compilation = self._compiler.compile(MemoryTree({f"{name}.yaml": text for name, text in files.items()}))
        self.live.replace(compilation, self._compiler.unserved(compilation))


def scan(api: Api) -> None:
    asyncio.run(api.reloader.load(()))


@pytest.fixture
def drifting(served: Callable[..., Api]) -> Api:
    """A server with the task `job`; what is served has another version of it, and the task `more`."""
    api = served(environ={"OPTIO_WRITES": "files"})
    api.serve_task(JOB)
    other = Other(api)
    other.has(job=JOB)
    other.has(job=JOB.replace("hello", "good day"), more=JOB.replace("name: Job", "name: More"))
    scan(api)
    return api


def test_another_generation_is_followed_and_a_run_names_it(drifting: Api) -> None:
    registry = drifting.get("/api/registry").json
    run = drifting.get(f"/api/workflow-runs/{drifting.post('/api/tasks/more/runs', {}).json['runId']}").json

    assert drifting.get("/api/tasks/job").json["promptTemplate"] == "good day"
    assert run["generation"] == registry["generation"] == drifting.get("/api/tasks").json["generation"]
    assert run["definition"] == registry["tasks"]["more"]


def test_a_run_names_the_generation_that_accepted_it_though_another_is_the_newest_by_now(api: Api) -> None:
    before = api.get("/api/registry").json
    other = Other(api)
    other.has(job=JOB)
    other.has(job=JOB.replace("hello", "good day"))

    run = api.get(f"/api/workflow-runs/{api.post('/api/tasks/job/runs', {}).json['runId']}").json

    assert (run["generation"], run["definition"]) == (before["generation"], before["tasks"]["job"])
    assert run["prompt"] == "hello"


def test_a_run_of_a_webhook_and_that_of_its_replay_name_the_generation_that_judged_each(api: Api) -> None:
    hook = JOB + "triggers: [{type: webhook, config: {path: hit, unsigned: true, paramMapping: {}}}]\n"
    api.serve_task(hook)
    first = api.post("/api/hooks/hit", {}).json["runId"]
    before = api.get("/api/registry").json["generation"]
    api.serve_task(hook.replace("hello", "good day"))
    delivery = api.get("/api/deliveries").json["items"][0]["id"]

    second = api.post(f"/api/deliveries/{delivery}/replay", {"again": True}).json["runId"]

    named = [api.get(f"/api/workflow-runs/{run_id}").json["generation"] for run_id in (first, second)]
    assert named == [before, api.get("/api/registry").json["generation"]]
    assert named[0] != named[1]


def test_a_directory_that_differs_is_told_wherever_people_look(drifting: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = drifting.get("/api/registry").json

    drift = registry["drift"]
    assert (drift["count"], drift["changed"], drift["missing"], drift["added"]) == (2, ["job"], ["more"], [])
    assert drift["inSync"] == ["elsewhere:/tasks"]
    assert {row["server"]: row["inSync"] for row in registry["servers"]}["elsewhere:/tasks"] is True
    assert {reading.name: reading.value for reading in registry_samples(drifting.live)}["tasks_drifting"] == 2
    assert drifting.get("/readyz").json["status"] == "ok"  # a change may be on its way here
    later = time.monotonic() + DRIFT_GRACE_S + 1
    monkeypatch.setattr("optio.server.answers.health.time", SimpleNamespace(monotonic=lambda: later))
    ready = drifting.get("/readyz")
    assert (ready.status, ready.json["status"]) == (200, "degraded")
    assert "differs in 2 tasks" in ready.json["problems"][0]
    assert "more" not in ready.body.decode()
    assert "elsewhere" not in ready.body.decode()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/tasks", {"type": "standalone", "name": "New", "agentRuntime": "command", "command": "true"}),
        ("PATCH", "/api/tasks/job", {"description": "mine"}),
        ("DELETE", "/api/tasks/job", None),
    ],
)
def test_nothing_is_written_into_a_directory_that_differs(drifting: Api, method: str, path: str, body: Any) -> None:
    before = sorted((file.name, file.read_text()) for file in drifting.tasks.iterdir())

    answer = drifting.request(method, path, body)

    assert answer.status == 409
    assert "elsewhere:/tasks" in answer.json["detail"]
    assert sorted((file.name, file.read_text()) for file in drifting.tasks.iterdir()) == before


def test_a_definition_can_be_read_by_the_digest_that_a_run_names(api: Api) -> None:
    digest = api.get("/api/tasks/job").json["digest"]
    api.serve_task(JOB.replace("hello", "good day"))

    found = api.get(f"/api/definitions/{digest}").json

    assert (found["id"], found["promptTemplate"], found["digest"]) == ("job", "hello", digest)
    assert api.get("/api/definitions/sha256:0").status == 404
