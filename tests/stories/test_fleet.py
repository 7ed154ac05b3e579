"""A server, a worker and a scheduler as processes of their own: each is killed, and everything that people look at names it."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from optio import wiring
from optio.settings import Settings
from tests.servers import PostgresServer
from tests.support import COMMAND_TASK, Dev, eventually, free_port

KINDS = ("server", "worker", "scheduler")
YEARLY = 'triggers: [{type: schedule, config: {cronExpression: "0 0 1 1 *", timezone: UTC}}]\n'


class Installation:
    """The three processes on one database, and a token."""

    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        self.server = Dev(directory, environ=environ, command="server")
        self.server.write("job.yaml", COMMAND_TASK.format(name="Job", command='["/bin/true"]') + YEARLY)
        made = self.server.cli("token", "create", "--role", "admin")
        self.token = next(word for word in made.stdout.split() if word.startswith("optio_"))
        self.server.environ["OPTIO_TOKEN"] = self.token
        self.parts = {"server": self.server}
        self.server.start()
        for kind in ("worker", "scheduler"):
            part = Dev(directory, environ={**self.server.environ, "OPTIO_PORT": str(free_port())}, command=kind)
            part.start(ready=False)
            self.parts[kind] = part

    def get(self, path: str) -> Any:
        return self.server.get(path, Authorization=f"Bearer {self.token}")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.server.cli("status", "--json").stdout)
        return found

    def doctor(self) -> list[str]:
        checks = json.loads(self.server.cli("doctor", "--json").stdout)["checks"]
        return [check["detail"] for check in checks if check["name"] == "processes"]


@pytest.fixture(params=("sqlite", "postgres"))
def three(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    with ExitStack() as stack:
        environ = {}
        if request.param == "postgres":
            server: PostgresServer = request.getfixturevalue("postgres_server")
            environ["OPTIO_DATABASE_URL"] = stack.enter_context(server.lent_schema())
        made = Installation(tmp_path, environ)
        for part in made.parts.values():
            stack.callback(part.stop)
        eventually(lambda: len(made.get("/api/health").json["processes"]) == 3, what="all three to report")
        eventually(lambda: made.get("/api/health").json["schedules"]["adoptedAt"], what="the scheduler to adopt the task")
        yield made


def live(found: dict[str, Any]) -> dict[str, bool]:
    return {each["kind"]: each["live"] for each in found["processes"]}


def test_three_processes_that_work_are_listed_with_host_version_and_load(three: Installation) -> None:
    done = three.server.cli("status")
    found = three.status()

    assert done.returncode == 0, done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[:4]] == ["KIND", "scheduler", "server", "worker"]
    assert "0/5" in done.stdout
    assert (live(found), found["problems"]) == (dict.fromkeys(sorted(KINDS), True), [])
    assert {each["pid"] for each in found["processes"]} == {
        part.process.pid for part in three.parts.values() if part.process is not None
    }
    assert three.doctor() == ["live: 1 server, 1 worker, 1 scheduler"]


@pytest.mark.parametrize("kind", ["worker", "scheduler"])
def test_a_worker_or_scheduler_that_is_killed_is_named_wherever_people_look(three: Installation, kind: str) -> None:
    part = three.parts[kind]
    assert part.process is not None
    part.kill()
    run = three.server.post("/api/tasks/job/runs", Authorization=f"Bearer {three.token}").json["runId"]

    eventually(lambda: three.get("/readyz").json["status"] == "degraded", within=60, what="readiness to say so")

    missing = f"no {kind} is running"
    died = f"a {kind} ended without stopping, or hangs"
    ready = three.get("/readyz")
    assert ready.status == 200
    assert [missing in ready.body.decode(), died in ready.body.decode()] == [True, True]
    done = three.server.cli("status")
    assert (done.returncode, missing in done.stdout, f"process {part.process.pid})" in done.stdout) == (1, True, True)
    assert [text.partition(",")[0].partition(" ended")[0] for text in three.doctor()] == [missing, f"a {kind}"]
    for path in ("/tasks", "/runs", "/queue"):
        page = three.get(path).body.decode()
        assert re.search(rf'class="banner"[^>]*>.*N{missing[1:]}', page), path
    metrics = three.get("/metrics").body.decode()
    assert [f'optio_{name}{{kind="{kind}"}} 1.0' in metrics for name in ("missing", "silent", "live")] == [True, True, False]
    if kind == "worker":
        why = three.server.cli("runs", "why", run).stdout
        assert "no_worker" in why
    else:
        past = three.server.cli("schedule", "--past")
        assert "no slot was recorded" in past.stdout
        assert "no scheduler is running, the last was seen at " in past.stderr


def test_a_server_that_is_killed_is_named_by_the_database(three: Installation) -> None:
    assert three.server.process is not None
    three.server.kill()

    done = three.server.cli("status")

    assert done.returncode == 1
    assert "no server answers at " in done.stdout
    assert f"process {three.server.process.pid})" in done.stdout
    assert three.doctor()[0].startswith("a server ended without stopping, or hangs")


def test_what_stops_in_order_is_missed_only_where_something_waits(three: Installation) -> None:
    assert three.parts["worker"].stop() == 0
    assert live(three.status()) == {"scheduler": True, "server": True}
    assert three.status()["problems"] == []
    assert three.parts["scheduler"].stop() == 0
    assert three.status()["problems"] == ["no scheduler is running, so schedules do not fire: start one with `optio scheduler`"]
    assert three.server.stop() == 0

    store = wiring.open_store(Settings.load(three.server.environment()))
    try:
        assert store.fleet().processes == []
    finally:
        store.close()
