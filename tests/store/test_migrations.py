"""From every older schema, with data, to this one; and older versions that work on beside this one."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import PIPE
from typing import Any

import psycopg
import pytest

from optio.errors import Conflict, StoreUnavailable
from optio.model.run import RunState
from optio.store.postgres import postgres_store
from optio.store.sql.schema import Migration, migrations, statements
from optio.store.sql.store import SqlStore
from optio.store.sqlite import sqlite_store
from optio.store.values import Firing, IdempotencyKey, RunFilter, SlotVerdict
from tests.servers import PostgresServer
from tests.store.build import LEASE, OK, delivery, end, everything, new_run
from tests.support import COMMAND_TASK, ROOT, Dev, eventually

# As in `older/fill.py`, which an older version imports: the names of today are none of its.
SLOT = datetime(2026, 1, 5, 8, tzinfo=UTC)

OLDER = ROOT / "tests" / "store" / "older"
WHEEL = OLDER / "optio-0.1.0-py3-none-any.whl"
# Of the version in the wheel, and the oldest of all.
SCHEMA, FIRST = 2, 1
NEWEST = len(migrations())


@pytest.fixture(scope="session")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the older version."""
    place = tmp_path_factory.mktemp("older")
    with zipfile.ZipFile(WHEEL) as wheel:
        wheel.extractall(place)
    return place


def with_older(older: Path, script: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of the older version, in a directory where it finds no other."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPTIO_")}
    environ = {**clean, "PYTHONPATH": str(older)}
    command = [sys.executable, str(OLDER / script), *arguments]
    return subprocess.Popen(command, cwd=older, env=environ, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True)


@pytest.fixture(scope="session")
def filled(older: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with data of every kind, as the older version has left it."""
    path = tmp_path_factory.mktemp("filled") / "optio.db"
    said, errors = with_older(older, "fill.py", str(path)).communicate(timeout=60)
    assert json.loads(said), errors
    return path


def from_first(filled: Path, target: Path) -> None:
    """The same rows in the first schema, which had no table of migrations yet."""
    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        for statement in statements(migrations()[0].script, "sqlite"):
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
        connection.execute("ATTACH ? AS newer", (str(filled),))
        for (table,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
            columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
            connection.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table}")


@pytest.fixture(scope="session")
def filled_database(older: Path, postgres_server: PostgresServer) -> str:
    """The same in a PostgreSQL database, to be copied."""
    url = postgres_server.url.replace("/postgres", "/filled")
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE filled")
    said, errors = with_older(older, "fill.py", url).communicate(timeout=60)
    assert json.loads(said), errors
    return url


@pytest.fixture
def copied(filled_database: str, postgres_server: PostgresServer) -> Iterator[str]:
    """A copy of it."""
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE copied TEMPLATE filled")
        yield filled_database.replace("/filled", "/copied")
        connection.execute("DROP DATABASE copied WITH (FORCE)")


@pytest.fixture(params=[f"sqlite-{FIRST}", f"sqlite-{SCHEMA}", f"postgres-{SCHEMA}"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of an older schema, with data: a file or a URL."""
    kind, _, schema = request.param.partition("-")
    if kind == "postgres":
        return str(request.getfixturevalue("copied"))
    path = tmp_path / "optio.db"
    if schema == str(FIRST):
        from_first(request.getfixturevalue("filled"), path)
    else:
        shutil.copyfile(request.getfixturevalue("filled"), path)
    return str(path)


def later() -> float:
    """After every lease of the data is over."""
    return time.time() + 60


def opened(where: str, *, migrated: bool = True) -> SqlStore:
    if where.startswith("postgresql:"):
        return postgres_store.open_store(where, clock=later, migrated=migrated)
    return sqlite_store.open_store(Path(where), clock=later, migrated=migrated)


@pytest.fixture
def store(where: str) -> Iterator[SqlStore]:
    """The database, migrated."""
    with closing(opened(where)) as made:
        yield made


def rows(store: SqlStore, sql: str) -> list[dict[str, Any]]:
    return [dict(row) for row in store._engine.peek(lambda tx: tx.all(sql))]


# What was there


def test_every_run_of_an_older_version_is_there_and_comes_to_its_end(store: SqlStore) -> None:
    before = {run.id.removeprefix("run-"): run for run in store.runs(RunFilter(), limit=100).items}
    assert {name: run.state.value for name, run in before.items()} == {
        "completed": "completed", "failed": "failed", "delayed": "queued", "cancelled": "cancelled", "running": "running",
        "cancelling": "running", "queued": "queued", "hooked": "queued", "keyed": "queued", "fired": "queued",
    }  # fmt: skip
    assert before["completed"].output == {"n": 1}
    assert before["completed"].params == {"A": "ü", "N": [1, None]}
    assert store.prompt("run-queued") == "Größe ü"
    assert [line.data for line in store.log("run-completed")] == [b"one", b"\x00\xff two"]
    assert [event.to_state.value for event in store.events("run-delayed")] == ["queued", "running", "queued"]
    (attempt,) = store.attempts("run-failed")
    assert (attempt.reason, attempt.exit_code, attempt.meter.turns) == ("exit_3", 3, 3)

    adopted = store.adopt("new", LEASE, 10, place="another", orphaned=timedelta(seconds=1))
    store.retry("run-failed", "eve")
    claims = list(adopted)
    while adopted:
        for claim in adopted:
            end(store, claim, OK)
        adopted = store.claim("new", LEASE, everything)
        claims += adopted

    assert {claim.run.id: claim.adopted for claim in claims if claim.adopted} == {"run-running": True, "run-cancelling": True}
    after = {run.id.removeprefix("run-"): run.state.value for run in store.runs(RunFilter(), limit=100).items}
    ended = dict.fromkeys(before, "completed")
    assert after == {**ended, "cancelled": "cancelled", "cancelling": "cancelled"}
    assert [event.to_state.value for event in store.events("run-failed")][-3:] == ["queued", "running", "completed"]


def test_every_column_that_came_later_has_its_default(store: SqlStore) -> None:
    runs = rows(store, "SELECT id, place, priority, dedupe_key FROM runs ORDER BY id")
    assert len(runs) == 10
    for run in runs:
        # The schema of the older version had a place already; the first one had none.
        assert run["place"] in ("", "place/boot/space")
        assert (run["priority"], run["dedupe_key"]) == (0, None)
    tasks = rows(store, "SELECT task_id, priority, start_limit, start_window FROM tasks ORDER BY task_id")
    assert tasks == [{"task_id": name, "priority": 0, "start_limit": None, "start_window": None} for name in ("one", "two")]
    for table in ("starts", "pauses", "dedupe", "skipped_slots"):
        assert rows(store, f"SELECT * FROM {table}") == []


def test_what_was_promised_before_is_kept(store: SqlStore) -> None:
    again = replace(delivery("d-1", task_id="one"), body_sha256="sha")
    assert store.accept(new_run(), delivery=again).result(20).run_id == "run-hooked"
    with pytest.raises(Conflict):
        store.accept(new_run(), delivery=replace(again, id="other", body_sha256="another")).result(20)
    filtered = replace(delivery("d-2", task_id="one", verdict="filtered"), body_sha256="sha")
    assert not store.record_delivery(filtered).result(20).first
    assert store.accept(new_run(), once=IdempotencyKey("runs:one", "k-1", "sha")).result(20).run_id == "run-keyed"
    assert store.token("token-sha") is not None
    assert {each.verdict for each in store.deliveries().items} == {"accepted", "filtered", "invalid"}
    first = store.delivery("delivery-d-1-accepted")
    assert (first.run_id, first.body, first.headers) == ("run-hooked", b'{"a": 1}', {"x": "ü"})


def test_what_is_served_is_served_on_and_a_slot_that_fired_does_not_fire_again(store: SqlStore) -> None:
    newest = store.generation()
    assert newest is not None
    assert newest.commit == "now"
    tasks = {task_id: store.definition(digest) for task_id, digest in newest.tasks.items()}
    assert {task.id: task.spec.max_concurrent for task in tasks.values()} == {"one": 3, "two": 3}
    assert {task.digest for task in tasks.values()} == set(newest.tasks.values())
    (row,) = store.schedules().values()
    assert row.next_fire == SLOT + timedelta(days=1)

    run = new_run(tasks["one"], trigger="schedule", slot=SLOT)
    verdicts = [SlotVerdict(slot=SLOT, verdict="fired")]
    again = Firing(task_id="one", digest=tasks["one"].digest, verdicts=verdicts, runs=[run], next_fire=row.next_fire)

    assert store.fire(again).result(20) == []


# Steps


def version(where: str) -> int:
    if where.startswith("postgresql:"):
        with psycopg.connect(where) as connection:
            row = connection.execute("SELECT max(version) FROM schema_migrations").fetchone()
        assert row is not None
        return int(row[0])
    with closing(sqlite3.connect(where)) as file:
        return sqlite_store.state(file).version


def test_a_migration_that_is_broken_off_at_any_step_goes_on_from_there(where: str) -> None:
    began = version(where)
    for stop in range(began + 1, NEWEST + 1):

        def break_off(step: Migration, stop: int = stop) -> None:
            if step.version == stop:
                raise KeyboardInterrupt

        with closing(opened(where, migrated=False)) as store, pytest.raises(KeyboardInterrupt):
            store.migrate(break_off)
        assert version(where) == stop - 1

    with closing(opened(where)) as store:
        store.check()
        assert len(store.runs(RunFilter()).items) == 10
    assert version(where) == NEWEST


def test_many_processes_that_find_an_old_schema_take_each_step_once(where: str) -> None:
    began = version(where)
    gate = threading.Barrier(6)

    def start(_: int) -> list[int]:
        with closing(opened(where, migrated=False)) as store:
            gate.wait(20)
            return store.migrate()

    with ThreadPoolExecutor(6) as pool:
        taken = sorted(step for steps in pool.map(start, range(6)) for step in steps)

    assert taken == list(range(began + 1, NEWEST + 1))
    assert version(where) == NEWEST


def test_a_step_that_takes_long_is_no_statement_that_takes_too_long(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Migration(NEWEST + 1, 1, "SELECT pg_sleep(0.6);")
    monkeypatch.setattr(postgres_store, "migrations", lambda: (*migrations(), slow))
    url = f"{postgres_server.schema()}%20-c%20statement_timeout%3D200"

    with closing(postgres_store.open_store(url, patience=0.3)) as store:
        store.check()
        with pytest.raises(StoreUnavailable, match="statement timeout"):
            store._engine.read(lambda tx: tx.one("SELECT pg_sleep(1)"))


def test_a_step_waits_for_a_table_that_is_in_use_and_lets_others_through(copied: str) -> None:
    url = copied
    waited: list[float] = []
    over = threading.Event()

    def read() -> None:
        with psycopg.connect(url, autocommit=True) as reader:
            while not over.is_set():
                began = time.monotonic()
                reader.execute("SELECT count(*) FROM runs")
                waited.append(time.monotonic() - began)
                time.sleep(0.05)

    with ThreadPoolExecutor(2) as pool, psycopg.connect(url) as dump:
        # As pg_dump does for as long as it takes.
        dump.execute("LOCK TABLE runs IN ACCESS SHARE MODE")
        reading = pool.submit(read)
        migrating = pool.submit(opened, url)
        # Who came after the step had to wait for it, but not for all that it waited.
        eventually(lambda: any(each > 1.0 for each in waited), what="a reader who is let through")
        assert not migrating.done()
        dump.rollback()
        migrating.result(30).close()
        over.set()
        reading.result(20)

    assert version(url) == NEWEST


# Side by side


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_older_process_works_on_while_the_schema_moves_on_under_it(
    request: pytest.FixtureRequest, older: Path, tmp_path: Path, kind: str
) -> None:
    where = str(tmp_path / "optio.db")
    if kind == "postgres":
        where = request.getfixturevalue("postgres_server").schema()
    process = with_older(older, "beside.py", where)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "works\n", process.communicate()
    assert version(where) == SCHEMA

    with closing(opened(where)) as store:
        assert version(where) == NEWEST
        said, errors = process.communicate("go on\n", timeout=60)

        assert (said, errors, process.returncode) == ("works on\n", "", 0)
        states = {run.state for run in store.runs(RunFilter(), limit=100).items}
        assert states == {RunState.COMPLETED}


@pytest.mark.parametrize("where", [f"sqlite-{SCHEMA}", f"postgres-{SCHEMA}"], indirect=True)
def test_an_older_process_can_start_on_the_newest_schema(where: str, older: Path) -> None:
    opened(where).close()

    process = with_older(older, "beside.py", where)
    said, errors = process.communicate("go on\n", timeout=60)

    assert (said, errors) == ("works\nworks on\n", "")


def test_no_table_that_an_older_version_selects_whole_has_another_column(older: Path, tmp_path: Path) -> None:
    """PostgreSQL would end the statements that its running processes have prepared."""
    sources = "".join(path.read_text() for path in (older / "optio" / "store" / "sql").glob("*.py"))
    whole = set(re.findall(r"SELECT \* FROM (\w+)", sources))
    assert {"generations", "attempts", "tokens"} <= whole

    def columns(known: tuple[Migration, ...], path: Path) -> dict[str, list[str]]:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            sqlite_store.migrate(connection, known, 0)
            return {table: [row[1] for row in connection.execute(f"PRAGMA table_info({table})")] for table in sorted(whole)}

    assert columns(migrations(), tmp_path / "new.db") == columns(migrations()[:SCHEMA], tmp_path / "old.db")


class Older(Dev):
    """A process of the older version."""

    def __init__(self, directory: Path, older: Path, **more: Any) -> None:
        super().__init__(directory, **more)
        self.older = older
        self.output = directory / f"older-{self.command}.out"

    def start(self, *, ready: bool = True) -> None:
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "optio", self.command],
                cwd=self.older, env={**self.environment(), "PYTHONPATH": str(self.older)}, stdout=out, stderr=out,
            )  # fmt: skip
        if ready:
            eventually(self._answers, within=30, what=f"the older `optio {self.command}`")


def test_old_and_new_processes_serve_one_database_through_a_rolling_upgrade(
    postgres_server: PostgresServer, older: Path, tmp_path: Path
) -> None:
    environ = {"OPTIO_DATABASE_URL": postgres_server.schema(), "OPTIO_LEASE": "5s", "OPTIO_MAX_WORKFLOW_CONCURRENT": "4"}
    old_server = Older(tmp_path, older, environ=environ, command="server")
    schedule = "triggers:\n  - type: schedule\n    config: {cronExpression: '* * * * *', timezone: UTC}\n"
    text = COMMAND_TASK.format(name="Job", command='"echo hello; sleep 0.05"') + "maxConcurrent: 4\n"
    old_server.write("job.yaml", text + schedule)
    process = subprocess.run(
        [sys.executable, "-m", "optio", "token", "create", "--role", "admin"],
        cwd=older, env={**old_server.environment(), "PYTHONPATH": str(older)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    authorization = {"Authorization": f"Bearer {process.stdout.strip()}"}
    parts: dict[str, Dev] = {
        "old server": old_server,
        "new server": Dev(tmp_path, environ=environ, command="server"),
        "old worker": Older(tmp_path, older, environ=environ, command="worker"),
        "new worker": Dev(tmp_path, environ=environ, command="worker"),
        "old scheduler": Older(tmp_path, older, environ=environ, command="scheduler"),
    }
    asked: list[str] = []

    def start(*names: str) -> None:
        for name in names:
            parts[name].start(ready=False)
        for name in names:
            begun = f"{parts[name].command} on "
            eventually(lambda name=name, begun=begun: begun in parts[name].output.read_text(), what=name)  # type: ignore[misc]

    def load(server: str, runs: int) -> None:
        """Some runs, by this server, all of which end."""
        begun = []
        for _ in range(runs):
            answer = parts[server].post("/api/tasks/job/runs", {}, **authorization)
            assert answer.status == 202, answer.body
            begun.append(answer.json["runId"])
        for run_id in begun:
            eventually(lambda run_id=run_id: _state(parts[server], run_id, authorization) == "completed", what="its end")  # type: ignore[misc]
        asked.extend(begun)

    try:
        start("old server", "old worker", "old scheduler")
        load("old server", 6)
        start("new server", "new worker")
        assert version(environ["OPTIO_DATABASE_URL"]) == NEWEST
        load("old server", 6)
        # The tree changes: both versions take it up.
        old_server.write("other.yaml", COMMAND_TASK.format(name="Other", command='"true"'))
        assert parts["old worker"].stop() == 0
        load("old server", 6)
        start("old worker")
        assert parts["new worker"].stop() == 0
        load("new server", 6)
        assert parts["old server"].stop() == 0
    finally:
        ended = [part.stop() for part in parts.values() if part.process is not None]

    assert set(ended) == {0}
    assert len(asked) == len(set(asked)) == 24
    for name, part in parts.items():
        said = part.output.read_text()
        told = "".join(line for line in said.splitlines(keepends=True) if " WARNING sandbox: " not in line)
        assert not re.search(r"ERROR|Traceback|WARNING|CRITICAL", told), f"{name}: {said}"


def _state(server: Dev, run_id: str, authorization: dict[str, str]) -> Any:
    return server.get(f"/api/workflow-runs/{run_id}", **authorization).json["state"]
