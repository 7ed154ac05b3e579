"""`optio db`, and what `optio doctor` says of databases and Redis."""

import json
import re
import shlex
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

import optio.cli
from optio.store.sql.schema import migrations
from optio.store.sqlite.sqlite_store import migrate, open_store
from tests import forked
from tests.cli.conftest import Shell
from tests.servers import PostgresServer, RedisServer
from tests.store.build import new_run, queued, task

NEWEST = len(migrations())


class Here:
    """`optio` in a directory of its own, within this process: a new one takes most of a second."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.directory, self._patch, self._capture = directory, patch, capture
        patch.chdir(directory)

    def __call__(self, *arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        self._capture.readouterr()
        with self._patch.context() as patch:
            for name, value in (environ or {}).items():
                patch.setenv(name, value)
            code = optio.cli.invoke(list(arguments))
        said = self._capture.readouterr()
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    def write(self, path: str, text: str) -> Path:
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(tmp_path, monkeypatch, capsys)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """One that keeps what it was told, as far as it can say itself."""
    with PostgresServer(fsync=True) as running:
        yield running


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.schema().replace("optio@", "optio:s3cr3t@")


@pytest.fixture(params=["sqlite", "postgres"])
def environ(request: pytest.FixtureRequest, shell: Here) -> dict[str, str]:
    """Settings of an empty database, of each kind."""
    if request.param == "postgres":
        return {"OPTIO_DATABASE_URL": request.getfixturevalue("url")}
    return {}


def checked(shell: Here, *arguments: str, **environ: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    done = shell(*(arguments or ("db", "check")), "--json", environ={"OPTIO_PORT": "0", **environ})
    assert "Traceback" not in done.stderr, done.stderr
    assert "s3cr3t" not in done.stdout + done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    document = json.loads(done.stdout)
    for each in document if isinstance(document, list) else document["checks"]:
        found.setdefault(each["name"], []).append(each)
    return done.returncode, found


def test_migrate_takes_each_step_once_and_says_so(shell: Here, environ: dict[str, str]) -> None:
    first = shell("db", "migrate", environ=environ)
    again = shell("db", "migrate", environ=environ)

    assert (first.returncode, again.returncode, first.stderr, again.stderr) == (0, 0, "", "")
    assert [line for line in first.stdout.splitlines() if "step" in line] == [
        f"step {number} of {NEWEST} ..." for number in range(1, NEWEST + 1)
    ]
    assert f"version {NEWEST} now" in first.stdout
    assert again.stdout.startswith("nothing to do")
    assert json.loads(shell("db", "migrate", "--json", environ=environ).stdout) == {"taken": [], "version": NEWEST}


def test_check_of_a_sound_database_is_clean(shell: Here, environ: dict[str, str]) -> None:
    shell("db", "migrate", environ=environ)

    code, found = checked(shell, **environ)

    assert (code, {each["status"] for looks in found.values() for each in looks}) == (0, {"ok"}), found
    assert found["schema"][0]["detail"] == f"version {NEWEST} of {NEWEST}"
    assert {"database", "schema", "writable"} <= set(found)


def test_an_old_schema_is_a_finding_with_its_cure_and_nobody_starts_on_it(shell: Here, environ: dict[str, str]) -> None:
    if environ:
        # An empty database is the oldest of all.
        steps = NEWEST
    else:
        (shell.directory / ".optio").mkdir()
        with closing(sqlite3.connect(shell.directory / ".optio" / "optio.db", isolation_level=None)) as connection:
            migrate(connection, migrations()[:1], 0)
        steps = NEWEST - 1
    manual = {**environ, "OPTIO_MIGRATE": "manual", "OPTIO_PORT": "0"}

    code, found = checked(shell, **environ)
    server = forked.start_with_pipes(["server"], shell.directory, Shell(shell.directory).environment(manual))
    assert server.stderr is not None
    said = server.stderr.readline().decode()
    server.terminate()

    assert (code, found["schema"][0]["status"], found["schema"][0]["hint"]) == (1, "warning", "run `optio db migrate`")
    assert f"{steps} migrations pending" in found["schema"][0]["detail"]
    assert "waits" in said
    assert "run `optio db migrate`" in said
    server.communicate(timeout=20)
    assert server.returncode == 0
    assert checked(shell, **environ)[0] == 1, "nothing was migrated"
    assert shell("db", "migrate", environ=manual).returncode == 0
    assert shell("token", "list", environ=manual).returncode == 0


def test_a_command_on_an_empty_database_that_must_not_migrate_it_says_so(shell: Here, environ: dict[str, str]) -> None:
    done = shell("token", "list", environ={**environ, "OPTIO_MIGRATE": "manual"})

    assert done.returncode == 2
    assert "lacks tables of this version: run `optio db migrate`" in done.stderr


def test_a_newer_schema_that_excludes_this_version_cannot_be_used(shell: Here, environ: dict[str, str], postgres: Any) -> None:
    shell("db", "migrate", environ=environ)
    if environ:
        with psycopg.connect(environ["OPTIO_DATABASE_URL"]) as connection:
            connection.execute("INSERT INTO schema_migrations VALUES (9999, 9999, 0)")
    else:
        with closing(sqlite3.connect(shell.directory / ".optio" / "optio.db")) as file:
            file.execute("INSERT INTO schema_migrations VALUES (9999, 9999, 0)")
            file.execute("PRAGMA user_version = 9999")
            file.commit()

    code, found = checked(shell, **environ)
    migrated = shell("db", "migrate", environ=environ)

    assert (code, found["schema"][0]["status"], found["schema"][0]["hint"]) == (2, "error", "install the newer Optio")
    assert migrated.returncode == 2
    assert "install the newer Optio" in migrated.stderr


# SQLite


def test_a_look_at_a_database_that_is_not_there_makes_none(shell: Here) -> None:
    code, found = checked(shell)

    assert (code, "does not exist yet" in found["database"][0]["detail"]) == (0, True)
    assert not (shell.directory / ".optio").exists()


def test_a_damaged_file_cannot_be_used(shell: Here) -> None:
    path = shell.write(".optio/optio.db", "no database\n" * 500)
    before = path.read_bytes()

    code, found = checked(shell)

    assert (code, found["database"][0]["status"]) == (2, "error")
    assert "not a database" in found["database"][0]["detail"]
    assert path.read_bytes() == before


def test_damaged_pages_are_found(shell: Here) -> None:
    path = shell.directory / ".optio" / "optio.db"
    with closing(open_store(path)) as store:
        for _ in range(300):
            store.accept(new_run(prompt="x" * 1000))
        queued(store)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    path.write_bytes(content)

    code, found = checked(shell)

    assert code == 2
    assert [each["status"] for each in found.get("pages", found["database"])][-1] == "error"


def test_a_database_that_another_process_holds_is_not_writable(shell: Here) -> None:
    path = shell.directory / ".optio" / "optio.db"
    open_store(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        code, found = checked(shell)

    assert (code, found["writable"][0]["status"]) == (2, "error")
    assert "another process has locked it" in found["writable"][0]["hint"]


def test_a_backup_while_others_write_is_a_whole_database(shell: Here) -> None:
    path = shell.directory / ".optio" / "optio.db"
    stop = threading.Event()
    with closing(open_store(path)) as store:
        before = [queued(store, task()) for _ in range(50)]

        def write() -> None:
            while not stop.is_set():
                queued(store)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            done = shell("db", "backup", "copy.db")
        finally:
            stop.set()
            writer.join(20)

    copy = shell.directory / "copy.db"
    assert (done.returncode, done.stderr) == (0, "")
    assert "secrets" in done.stdout
    assert copy.stat().st_mode & 0o077 == 0
    with closing(open_store(copy)) as restored:
        assert [restored.run(run_id).id for run_id in before] == before
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert [each.name for each in shell.directory.iterdir() if "copy" in each.name and each.suffix == ".db"] == ["copy.db"]


def test_a_backup_overwrites_nothing_and_leaves_nothing_half_done(shell: Here) -> None:
    open_store(shell.directory / ".optio" / "optio.db").close()
    kept = shell.write("kept.db", "mine")
    (shell.directory / "link.db").symlink_to("nowhere")

    for name, says in {
        "kept.db": "exists already",
        "link.db": "exists already",
        ".": "exists already",
        "none/copy.db": "could not be written",
    }.items():
        done = shell("db", "backup", name)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert says in done.stderr
    assert kept.read_text() == "mine"
    assert sorted(each.name for each in shell.directory.iterdir()) == [".optio", "kept.db", "link.db"]


def test_a_backup_of_nothing_is_refused(shell: Here) -> None:
    done = shell("db", "backup", "copy.db")

    assert (done.returncode, done.stderr) == (
        2,
        "optio db: there is no database .optio/optio.db: set OPTIO_DATA_DIR as your services have it\n",
    )
    assert list(shell.directory.iterdir()) == []


# PostgreSQL


def test_the_backup_command_for_postgresql_is_told_without_the_password_and_works(
    shell: Here, url: str, postgres: PostgresServer
) -> None:
    shell("db", "migrate", environ={"OPTIO_DATABASE_URL": url})

    done = shell("db", "backup", "copy of it.dump", environ={"OPTIO_DATABASE_URL": url})

    assert done.returncode == 2
    assert "s3cr3t" not in done.stderr
    program, *arguments = shlex.split(done.stderr.rpartition(": ")[2])
    assert program == "pg_dump"
    subprocess.run([postgres._bin / program, *arguments], cwd=shell.directory, check=True)
    listed = subprocess.run(
        [postgres._bin / "pg_restore", "--list", "copy of it.dump"], cwd=shell.directory, check=True, capture_output=True
    )
    assert b"TABLE DATA test_" in listed.stdout
    assert b" runs optio" in listed.stdout


def setting(name: str, value: str) -> Callable[[str], str]:
    return lambda url: f"{url}%20-c%20{name}%3D{value}"


@pytest.mark.parametrize(
    ("change", "name", "code", "says"),
    [
        (setting("synchronous_commit", "off"), "settings", 1, "synchronous_commit is off: a power failure loses runs"),
        (setting("default_transaction_read_only", "on"), "writable", 2, "read-only"),
        (setting("search_path", "nowhere"), "writable", 2, "no schema of the user's search_path exists"),
        (lambda url: url.replace("/postgres?", "/nowhere?"), "database", 2, "does not exist"),
        (lambda url: re.sub(r":\d+/", ":1/", url), "database", 2, "Connection refused"),
    ],
    ids=["synchronous_commit", "read-only", "search_path", "no database", "no server"],
)
def test_what_hurts_is_a_finding(shell: Here, url: str, change: Callable[[str], str], name: str, code: int, says: str) -> None:
    shell("db", "migrate", environ={"OPTIO_DATABASE_URL": url})

    found_code, found = checked(shell, OPTIO_DATABASE_URL=change(url))

    (bad,) = [each for looks in found.values() for each in looks if each["status"] != "ok" and each["name"] == name]
    assert found_code == code
    assert says in bad["detail"]


def test_a_server_that_may_lose_all_is_a_finding(shell: Here, postgres_server: PostgresServer) -> None:
    code, found = checked(shell, OPTIO_DATABASE_URL=postgres_server.schema())

    details = [each["detail"] for each in found["settings"] if each["status"] == "warning"]
    assert code == 1
    assert ["fsync is off" in details[0], "full_page_writes is off" in details[1]] == [True, True]


def test_another_encoding_than_utf8_cannot_be_used(shell: Here, postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS latin")
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")

    code, found = checked(shell, OPTIO_DATABASE_URL=postgres.url.replace("/postgres", "/latin"))

    assert (code, found["encoding"][0]["status"]) == (2, "error")
    assert "LATIN1" in found["encoding"][0]["detail"]


def test_a_clock_that_differs_is_a_finding(shell: Here, url: str) -> None:
    # In the first schema of the path this function stands before the server's own.
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
            "$$ SELECT pg_catalog.clock_timestamp() - interval '1 hour' $$"
        )
        (path,) = connection.execute("SELECT current_schema()").fetchone() or ("",)

    code, found = checked(shell, OPTIO_DATABASE_URL=f"{url}%2Cpg_catalog")

    assert path
    assert (code, found["clock"][0]["status"]) == (1, "warning")
    assert "3,600 s behind this machine's" in found["clock"][0]["detail"]
    assert "NTP" in found["clock"][0]["hint"]


def test_a_user_without_rights_is_told_what_is_missing(shell: Here, postgres: PostgresServer, url: str) -> None:
    shell("db", "migrate", environ={"OPTIO_DATABASE_URL": url})
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN")

    code, found = checked(shell, OPTIO_DATABASE_URL=url.replace("optio:s3cr3t@", "guest@"))

    assert code == 2
    wrong = " ".join(each["detail"] for looks in found.values() for each in looks if each["status"] == "error")
    assert "permission denied" in wrong or "no schema" in wrong


# The doctor


def test_the_doctor_knows_postgresql_and_redis(shell: Here, url: str, redis_server: RedisServer) -> None:
    shell("db", "migrate", environ={"OPTIO_DATABASE_URL": url})

    code, found = checked(shell, "doctor", OPTIO_DATABASE_URL=url, OPTIO_REDIS_URL=redis_server.url)

    assert code == 0
    for name in ("database", "schema", "writable", "clock", "redis"):
        assert {each["status"] for each in found[name]} == {"ok"}, found[name]
    assert "PostgreSQL 1" in found["database"][0]["detail"]
    assert "Redis " in found["redis"][0]["detail"]


@pytest.mark.parametrize(
    ("settings", "says", "hint"),
    [
        ({"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}, "allkeys-lru", "noeviction"),
        ({"replicaof": "127.0.0.1 1"}, "it is a read-only replica", "primary"),
        ({"requirepass": "another"}, "refused the password", "redis://:PASSWORD@"),
    ],
    ids=["eviction", "replica", "password"],
)
def test_what_hurts_in_redis_is_a_finding(shell: Here, settings: dict[str, str], says: str, hint: str) -> None:
    with RedisServer() as running:
        with running.client() as client:
            for name, value in settings.items():
                if name == "replicaof":
                    client.execute_command("REPLICAOF", *value.split())
                else:
                    client.config_set(name, value)

        _, found = checked(shell, "doctor", OPTIO_REDIS_URL=running.url)

    (bad,) = [each for each in found["redis"] if each["status"] != "ok"]
    assert says in bad["detail"]
    assert hint in bad["hint"]


@pytest.mark.parametrize("host", ["0.0.0.0", "s3cr3t@0.0.0.0"], ids=["open", "password"])
def test_redis_for_others_without_a_password_is_a_finding(shell: Here, redis_server: RedisServer, host: str) -> None:
    """Any address but the loopback one may be reached by others; this one leads to this machine."""
    _, found = checked(shell, "doctor", OPTIO_REDIS_URL=f"redis://{':' if '@' in host else ''}{host}:{redis_server.port}/0")

    assert any("without a password" in each["detail"] for each in found["redis"]) is ("@" not in host)


def test_the_doctor_lives_with_addresses_that_nobody_answers(shell: Here) -> None:
    code, found = checked(
        shell,
        "doctor",
        OPTIO_REDIS_URL="redis://:s3cr3t@127.0.0.1:1/0",
        OPTIO_DATABASE_URL="postgresql://optio:s3cr3t@127.0.0.1:1/optio",
    )

    assert code == 1
    assert [found[name][0]["status"] for name in ("database", "redis")] == ["error", "error"]


def test_the_doctor_lives_with_a_url_that_cannot_be_read(shell: Here) -> None:
    code, found = checked(shell, "doctor", OPTIO_DATABASE_URL="postgresql://optio:s3cr3t@/x@127.0.0.1/optio")

    assert (code, found["database"][0]["status"]) == (1, "error")
    assert "%40 for @" in found["database"][0]["detail"]
