"""A database is copied while it is in use, and the older copy put back while newer attempts are alive on the machine."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.servers import PostgresServer
from tests.support import COMMAND_TASK, Dev, eventually


@dataclass
class Database:
    """What the documentation says of a copy and of putting it back."""

    environ: dict[str, str]
    backup: Callable[[], None]
    restore: Callable[[], None]


def _sqlite(directory: Path) -> Database:
    file, copy = directory / "data" / "optio.db", directory / "backup.db"

    def backup() -> None:
        Dev(directory).cli("db", "backup", str(copy))
        with contextlib.closing(sqlite3.connect(copy)) as made:
            assert made.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert made.execute("PRAGMA foreign_key_check").fetchall() == []

    def restore() -> None:
        for name in ("optio.db-wal", "optio.db-shm"):
            (file.parent / name).unlink(missing_ok=True)
        shutil.copy(copy, file)

    return Database({}, backup, restore)


def _postgres(directory: Path, server: PostgresServer) -> Database:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS restored WITH (FORCE)")
        connection.execute("CREATE DATABASE restored")
    url, copy = server.url.replace("/postgres", "/restored"), str(directory / "backup.dump")

    def backup() -> None:
        subprocess.run(["pg_dump", "-Fc", "-f", copy, url], check=True, timeout=60)

    def restore() -> None:
        subprocess.run(["pg_restore", "--clean", "--if-exists", "-d", url, copy], check=True, timeout=60)

    return Database({"OPTIO_DATABASE_URL": url}, backup, restore)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        return _sqlite(tmp_path)
    return _postgres(tmp_path, request.getfixturevalue("postgres_server"))


class Parts:
    """A server and a worker, each a process of its own, and what was asked of them."""

    def __init__(self, directory: Path, database: Database) -> None:
        self.directory = directory
        self.marks = directory / "marks"
        self.gate = directory / "gate"
        environ = {**database.environ, "OPTIO_LEASE": "2s", "OPTIO_MAX_WORKFLOW_CONCURRENT": "20"}
        self.server = Dev(directory, command="server", environ=environ)
        self.worker = Dev(directory, command="worker", environ=environ)
        made = self.server.cli("token", "create", "--role", "admin")
        assert made.returncode == 0, made.stderr
        self.who = {"Authorization": f"Bearer {made.stdout.strip()}"}
        # One write of less than a page, appended: whole, whoever else writes.
        script = (
            f"echo $OPTIO_RUN_ID-$OPTIO_ATTEMPT >> {self.marks}; echo begun; "
            f"while [ ! -e {self.gate} ]; do sleep 0.05; done; echo over"
        )
        hook = "triggers: [{type: webhook, config: {path: quick, unsigned: true}}]\n"
        self.server.write("slow.yaml", COMMAND_TASK.format(name="Slow", command=f'"{script}"') + "maxConcurrent: 20\n")
        self.server.write("quick.yaml", COMMAND_TASK.format(name="Quick", command='"true"') + hook)

    def stop(self) -> None:
        for part in (self.worker, self.server):
            part.stop()

    def slow(self) -> str:
        """A run that goes on until the gate is opened."""
        run_id: str = self.server.post("/api/tasks/slow/runs", **self.who).json["runId"]
        return run_id

    def deliver(self, key: str) -> dict[str, Any]:
        """What a sender is answered."""
        answer = self.server.post("/api/hooks/quick", {"a": key}, **{"Idempotency-Key": key})
        assert answer.status == 202, answer.body
        found: dict[str, Any] = answer.json
        return found

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.server.get(f"/api/workflow-runs/{run_id}", **self.who).json
        return found

    def until(self, run_id: str, state: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            run = self.run(run_id)
            return run if run.get("state") == state else None

        return eventually(look, within=40, what=f"{run_id} to be {state}")  # type: ignore[return-value]

    def begun(self) -> Counter[str]:
        """How often each attempt's agent has begun."""
        return Counter(self.marks.read_text().split()) if self.marks.exists() else Counter()

    def until_begun(self, run_id: str, attempt: int = 1) -> None:
        eventually(lambda: self.begun()[f"{run_id}-{attempt}"], what=f"attempt {attempt} of {run_id}")

    def supervisor(self, run_id: str, attempt: int) -> int:
        marker = self.directory / "data" / "attempts" / f"{run_id}-{attempt}" / "control" / "started"
        return int(os.readlink(marker).split(":")[0])

    def lines(self, run_id: str) -> list[str]:
        found = self.server.get(f"/api/workflow-runs/{run_id}/logs", **self.who).json["items"]
        return [entry["text"] for entry in found if entry["kind"] == "output"]


def test_an_older_copy_is_put_back_while_newer_attempts_are_alive(tmp_path: Path, database: Database) -> None:
    parts = Parts(tmp_path, database)
    try:
        parts.server.start()
        parts.worker.start(ready=False)
        over = parts.deliver("before")["runId"]
        parts.until(over, "completed")
        steady, renewed = parts.slow(), parts.slow()
        for run_id in (steady, renewed):
            parts.until_begun(run_id)
        parts.worker.stop()  # its agents go on
        queued = parts.slow()

        database.backup()

        parts.worker.start(ready=False)
        parts.until_begun(queued)
        os.kill(parts.supervisor(renewed, 1), signal.SIGKILL)  # the second attempt is one that the copy does not know
        parts.until_begun(renewed, 2)
        unknown = parts.slow()
        parts.until_begun(unknown)
        lost = parts.deliver("after")["runId"]
        parts.until(lost, "completed")
        parts.stop()

        database.restore()

        parts.server.start()
        parts.worker.start(ready=False)
        eventually(
            lambda: f"the attempt {unknown}-1 belongs to no known run" in parts.worker.output.read_text(), what="the report"
        )
        # What the copy knows is known again; what it does not know is accepted anew.
        assert parts.deliver("before") == {"runId": over, "status": "accepted", "duplicate": True}
        again = parts.deliver("after")
        assert again["status"] == "accepted"
        assert again["runId"] != lost
        parts.until(again["runId"], "completed")
        eventually(lambda: parts.run(renewed)["attempt"] == 2, within=40, what="the second attempt to be found")
        parts.gate.touch()
        ended = {name: parts.until(run_id, "completed") for name, run_id in (("s", steady), ("q", queued), ("r", renewed))}
        lines = {run_id: parts.lines(run_id) for run_id in (steady, queued)}
        missing = [parts.server.get(f"/api/workflow-runs/{run_id}", **parts.who).status for run_id in (unknown, lost)]
    finally:
        parts.gate.touch()
        parts.stop()

    assert {name: run["attempt"] for name, run in ended.items()} == {"s": 1, "q": 1, "r": 2}
    assert lines == {steady: ["begun", "over"], queued: ["begun", "over"]}
    assert missing == [404, 404]
    expected = [f"{steady}-1", f"{queued}-1", f"{renewed}-1", f"{renewed}-2", f"{unknown}-1"]
    assert parts.begun() == Counter(expected)
