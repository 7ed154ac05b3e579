"""A held removal through the API: it is shown, released by what was shown, and the held tasks can be changed one by one."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from optio.model.removal import removal_digest
from optio.server.auth import token_hash
from optio.server.routes.metrics import registry_samples
from optio.tree.reload import Reloader
from optio.tree.served import ServedRegistry
from tests.server.api import JOB, Api

ROUTE = "/api/registry/removal/release"


def scan(api: Api) -> None:
    asyncio.run(api.reloader.load())


def hold(api: Api, count: int = 12) -> dict[str, Any]:
    """Serve so many tasks, then delete their files."""
    for number in range(count):
        (api.tasks / f"job-{number:03}.yaml").write_text(JOB.replace("name: Job", f"name: Job {number:03}"))
    scan(api)
    for path in api.tasks.iterdir():
        path.unlink()
    scan(api)
    removal: dict[str, Any] = api.get("/api/registry").json["removal"]
    return removal


@pytest.fixture
def files(served: Callable[..., Api]) -> Api:
    return served(environ={"OPTIO_WRITES": "files"})


def test_a_held_removal_is_shown_with_its_first_tasks_and_its_command(files: Api) -> None:
    removal = hold(files, 120)

    assert (removal["count"], removal["total"], len(removal["tasks"])) == (120, 120, 100)
    assert removal["tasks"][0] == "job-000"
    assert removal["release"] == f"optio tasks release {removal['digest']}"
    assert files.get("/api/diagnostics").json["removal"] == removal
    assert files.get("/api/tasks/job-007").json["held"] is True
    ready = files.get("/readyz")
    assert (ready.status, ready.json["status"]) == (200, "degraded")
    assert removal["release"] in ready.json["problems"][0]
    assert "job-0" not in ready.body.decode()
    assert b"\noptio_degraded 1.0\n" in files.get("/metrics").body


def test_without_a_held_removal_it_is_null(api: Api) -> None:
    assert api.get("/api/registry").json["removal"] is None
    assert api.get("/api/tasks/job").json["held"] is False
    assert api.post(ROUTE, {"digest": "x"}).status == 409


def test_a_release_removes_what_was_shown(files: Api) -> None:
    removal = hold(files)

    answer = files.post(ROUTE, {"digest": removal["digest"]})

    assert (answer.status, answer.json["count"], answer.json["served"]) == (200, 12, 0)
    assert len(answer.json["tasks"]) == 12
    assert files.get("/api/tasks").json["items"] == []
    assert files.get("/api/registry").json["removal"] is None


def test_a_release_of_something_else_than_is_held_removes_nothing(files: Api) -> None:
    hold(files)

    answer = files.post(ROUTE, {"digest": "000000000000"})

    assert answer.status == 409
    assert "optio tasks release" in answer.json["detail"]
    assert len(files.get("/api/tasks").json["items"]) == 12


@pytest.mark.parametrize("body", [{}, {"digest": 5}, {"digest": None}, {"digests": "x"}, [], "x"])
def test_a_release_that_names_nothing_is_refused(files: Api, body: Any) -> None:
    hold(files)

    answer = files.post(ROUTE, body)

    assert answer.status in (400, 422)
    assert len(files.get("/api/tasks").json["items"]) == 12


def test_a_release_needs_an_admin(served: Callable[..., Api]) -> None:
    api = served(dev_token=None)
    for role in ("viewer", "operator", "admin"):
        api.services.store.add_token(role, token_hash(role), role, role, None)
    assert api.post(ROUTE, {"digest": "x"}).status == 401
    for role, status in (("viewer", 403), ("operator", 403), ("admin", 409)):
        assert api.post(ROUTE, {"digest": "x"}, Authorization=f"Bearer {role}").status == status


@pytest.mark.parametrize("writes", ["files", "deny"])
def test_one_held_task_is_removed_by_its_own_deletion(served: Callable[..., Api], writes: str) -> None:
    api = served(environ={"OPTIO_WRITES": writes})
    hold(api)

    stale = api.request("DELETE", "/api/tasks/job-003", headers={"If-Match": '"sha256:0"'})
    gone = api.request("DELETE", "/api/tasks/job-003")

    assert (stale.status, gone.status) == (412, 204)
    assert api.get("/api/tasks/job-003").status == 404
    assert api.get("/api/registry").json["removal"]["count"] == 11


def test_a_held_task_cannot_be_edited_and_the_answer_says_why(files: Api) -> None:
    hold(files)

    for answer in (
        files.request("PATCH", "/api/tasks/job-003", {"maxTurns": 3}),
        files.post("/api/tasks/job-003/triggers", {"type": "manual"}),
        files.request("DELETE", "/api/tasks/job-003/triggers/manual"),
    ):
        assert answer.status == 409
        assert "its removal is held" in answer.json["detail"]


def test_a_held_task_that_is_created_again_has_a_file_again(files: Api) -> None:
    hold(files)
    task = {"type": "standalone", "name": "Job 003", "agentRuntime": "command", "command": "true", "promptTemplate": "new"}

    answer = files.post("/api/tasks", task)

    assert answer.status == 201
    assert (answer.json["held"], answer.json["promptTemplate"]) == (False, "new")
    assert files.get("/api/registry").json["removal"]["count"] == 11


def test_a_release_waits_for_a_directory_that_can_be_read(files: Api) -> None:
    removal = hold(files)
    files.tasks.rmdir()
    scan(files)

    answer = files.post(ROUTE, {"digest": removal["digest"]})

    assert answer.status == 409
    assert "cannot be read" in answer.json["detail"]
    assert "cannot be read" in str(files.get("/readyz").json["problems"])


def test_a_server_that_holds_nothing_releases_what_another_one_holds(files: Api) -> None:
    other = ["far-1", "far-2", "far-3"]
    files.services.store.hold_removals(other)

    answer = files.post(ROUTE, {"digest": removal_digest(other)})

    assert (answer.status, answer.json["tasks"]) == (200, other)
    assert {row.released_by for row in files.services.store.removals().values()} == {"local"}
    assert files.post(ROUTE, {"digest": removal_digest(other)}).status == 409


def test_a_gauge_counts_the_held_tasks(files: Api) -> None:
    hold(files)

    assert {reading.name: reading.value for reading in registry_samples(files.live)}["tasks_held"] == 12


def test_what_is_deleted_through_one_server_is_not_held_by_another(files: Api) -> None:
    for number in range(12):
        (files.tasks / f"job-{number}.yaml").write_text(JOB.replace("name: Job", f"name: Job {number}"))
    scan(files)
    other = ServedRegistry(files.services.store)
    watching = Reloader(files.tasks, other, files.services.broker)
    asyncio.run(watching.load())

    for number in range(10):
        assert files.request("DELETE", f"/api/tasks/job-{number}").status == 204
    asyncio.run(watching.load())

    assert other.current.removal is None
    assert set(other.current.registry.tasks) == {"job-10", "job-11"}
