"""The pages of health and of pools, the banner of all pages, and what the API tells of the same."""

import asyncio
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from optio.model.namespace import ALL_TASKS, WorkerScope
from optio.model.pool import Pool
from optio.store.values import ScheduleRow
from optio.version import __version__
from tests.server.api import JOB, Api
from tests.server.test_deliveries_page import Reader
from tests.server.test_pages import HOSTILE, Tags, html, text_of

SECRET = "key-of-the-egress-proxy-that-nobody-may-see"


@pytest.fixture
def api(served: Callable[..., Api], tmp_path: Path) -> Api:
    made = served(environ={"OPTIO_EGRESS_KEY": SECRET, "OPTIO_MAX_QUEUED": "77"})
    made.serve_task(JOB)
    return made


def broken(api: Api) -> None:
    """A file with an error beside the good one; the good one is broken too, and stays served."""
    for name in ("job", "other"):
        (api.tasks / f"{name}.yaml").write_text(JOB.replace("name: Job", f"name: {name}\nnothing{HOSTILE[:4]}: 1"))
    api.get("/api/registry")
    asyncio.run(api._load())


def test_workers_and_their_leases_servers_and_parts_are_told(api: Api) -> None:
    run = api.started()
    api.services.store.note_worker("test", WorkerScope("team-a"), 4)
    api.services.store.note_scheduler("s").result(10)
    api.live.tell()

    told = api.get("/api/health").json
    shown = text_of(Reader(api, "viewer").get("/health"))

    scheduler, server, worker = told["processes"]
    assert (worker["name"], worker["namespace"], worker["running"], worker["capacity"]) == ("test", "team-a", 1, 4)
    assert worker["leaseUntil"] > worker["seenAt"]
    assert (worker["pid"], worker["host"], worker["version"]) == (os.getpid(), socket.gethostname(), __version__)
    assert (scheduler["kind"], scheduler["live"], server["generation"], server["inSync"]) == ("scheduler", True, 1, True)
    assert (told["queued"], told["running"], told["problems"]) == (0, 1, [])
    assert [part["kind"] for part in told["parts"]] == ["SQLite", "in this machine", "in this machine"]
    place = f"{socket.gethostname()} · {os.getpid()}"
    assert f"worker 0 s ago {place} {__version__} 0 s ago 1 of 4 team-a, first lease ends" in shown
    run.end()


def test_a_worker_that_is_gone_is_told_while_it_owns_runs(api: Api) -> None:
    run = api.started()

    _, worker = api.get("/api/health").json["processes"]

    assert (worker["name"], worker["seenAt"], worker["live"], worker["running"]) == ("test", None, False, 1)
    assert "✕ gone" in text_of(Reader(api, "viewer").get("/health"))
    run.end()


def test_a_scheduler_that_does_not_fire_is_told(api: Api) -> None:
    store = api.services.store
    store.change_schedules([ScheduleRow(task_id="job", fingerprint="x", next_fire=store.now() - timedelta(minutes=2))], [])

    told = api.get("/api/health").json

    assert (told["schedules"]["overdue"], told["status"]) == (True, "degraded")
    assert "✕ overdue" in text_of(Reader(api, "viewer").get("/health"))


def test_a_missing_worker_or_scheduler_is_told_above_every_page_and_by_readiness(api: Api) -> None:
    assert api.get("/readyz").json == {"status": "ok", "problems": []}
    run = api.post("/api/tasks/job/runs").json["runId"]
    store = api.services.store
    store.change_schedules([ScheduleRow(task_id="job", fingerprint="x", next_fire=store.now() - timedelta(minutes=3))], [])

    told = api.get("/api/health").json

    sentences = [
        "no scheduler is running, so schedules do not fire: start one with `optio scheduler`",
        "no worker is running, and 1 run waits: start one with `optio worker`",
    ]
    assert (told["status"], told["problems"][:2]) == ("degraded", sentences)
    assert told["problems"][2].startswith("1 slot of a schedule is late; the first was due at ")
    ready = api.get("/readyz")
    assert (ready.status, ready.json["status"], ready.json["problems"][:2]) == (200, "degraded", sentences)
    reader = Reader(api, "viewer")
    for path in ("/tasks", "/tasks/job", "/runs", f"/runs/{run}", "/queue", "/calendar", "/costs", "/changes", "/pools"):
        assert "! No scheduler is running, so schedules do not fire. 2 more. Health" in text_of(reader.get(path)), path
    assert f"N{sentences[1][1:]}." in text_of(reader.get("/health"))
    waiting = api.get(f"/api/workflow-runs/{run}").json["waiting"]
    assert (waiting["reason"], waiting["message"]) == ("no_worker", "no worker is running: start one with `optio worker`")


def test_a_silent_process_is_told_with_its_place_to_readers_and_without_to_anyone(api: Api) -> None:
    store = api.services.store
    store.note_worker("w", ALL_TASKS)
    aged = "UPDATE processes SET process = 'box/b/1:77:1', at = at - 31000000 WHERE kind = 'worker'"
    store._engine.change(lambda tx: tx.run(aged))  # type: ignore[attr-defined]

    told = api.get("/api/health").json

    (problem,) = told["problems"]
    assert problem.startswith("a worker ended without stopping, or hangs; it was last seen at ")
    assert problem.endswith(" UTC (host box, process 77): read its log, and start `optio worker` again")
    assert "box" not in api.get("/readyz").body.decode()
    assert "(host box, process 77). Health" in text_of(Reader(api, "viewer").get("/tasks"))
    assert "worker ✕ silent, 31 s ago box · 77" in text_of(Reader(api, "viewer").get("/health"))


def test_a_broken_file_is_told_on_every_page_and_by_its_place_on_this_one(api: Api) -> None:
    assert 'class="banner"' not in html(Reader(api, "viewer").get("/tasks"))
    broken(api)
    reader = Reader(api, "viewer")

    banner, health = text_of(reader.get("/runs")), reader.get("/health")

    assert "2 files have errors: last good definitions are served. Health" in banner
    assert "Health: ! degraded" in text_of(health)
    assert "job.yaml:" in text_of(health)
    assert "Last good definitions are served of 1 task whose files have errors: job" in text_of(health)
    assert "img" not in {tag for tag, _ in Tags(health).found}
    assert 'class="banner"' not in html(reader.get("/login"))


def test_settings_are_shown_to_admins_with_their_origin_and_without_secrets(api: Api) -> None:
    pages = {role: Reader(api, role).get("/health") for role in ("viewer", "operator", "admin")}

    assert ["They are shown to admins" in text_of(page) for page in pages.values()] == [True, True, False]
    assert "OPTIO_MAX_QUEUED 77 OPTIO_MAX_QUEUED" in text_of(pages["admin"])
    assert "OPTIO_EGRESS_KEY *** OPTIO_EGRESS_KEY" in text_of(pages["admin"])
    assert SECRET not in pages["admin"].body.decode()
    assert SECRET not in api.get("/api/settings").body.decode()


def test_pools_are_shown_as_wanted_ready_and_starting_with_what_is_wrong(api: Api) -> None:
    pool = Pool(key="p1", tasks=("job",), size=3, ready=1, starting=2, problem=HOSTILE)
    api.services.store.keep_pools("cluster/a", [pool])
    api.services.store.note_worker("w", ALL_TASKS)

    shown = Reader(api, "viewer").get("/pools?span=7d")

    assert f"p1 cluster/a job 3 1 2 no starts – – – ✕ {HOSTILE}" in text_of(shown)
    assert "cluster/a reported 0 s ago" in text_of(shown)
    assert "img" not in {tag for tag, _ in Tags(shown).found}
    assert Reader(api, "viewer").get("/pools?span=1y").status == 422


def test_without_pools_the_page_says_how_to_ask_for_one(api: Api) -> None:
    assert "No task wants warm pods" in text_of(Reader(api, "viewer").get("/pools"))
