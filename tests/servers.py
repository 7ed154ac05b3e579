"""Real servers that tests start, stop, kill and freeze: PostgreSQL and Redis, from Debian's packages, on free ports."""

import atexit
import contextlib
import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
import redis

from tests.support import free_port

_names = itertools.count(1)


def _postgres_programs() -> Path:
    """The newest server that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    assert found, "run tests/setup.sh: it installs PostgreSQL"
    return found[-1].parent


class _Server(ABC):
    """A process in a directory of its own."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="optio-server-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.environ: Mapping[str, str] = {}  # beside this process's own

    def _run(self, argv: list[str]) -> None:
        with (self.directory / "server.log").open("ab") as log:
            environ = {**os.environ, **self.environ}
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, env=environ
            )

    @abstractmethod
    def start(self) -> None:
        """Start it, and return when it answers."""

    def log(self) -> str:
        return (self.directory / "server.log").read_text(errors="replace")

    def signal(self, number: int) -> None:
        """SIGSTOP makes it a black hole, SIGCONT wakes it."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """An orderly end."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class PostgresServer(_Server):
    """A cluster of its own. `fsync=False` is quick and safe against all but the machine's own death."""

    shared: Path | None = None  # where an empty one is kept, made once by the first of several test processes
    _REMOVE_ALL = """
        DO $$ DECLARE name text; BEGIN
            SET LOCAL session_replication_role = replica;
            SET LOCAL lock_timeout = '10s';
            FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'schema_migrations'
            LOOP EXECUTE format('DELETE FROM %I', name); END LOOP;
            FOR name IN SELECT sequencename FROM pg_sequences WHERE schemaname = current_schema()
            LOOP EXECUTE format('ALTER SEQUENCE %I RESTART', name); END LOOP;
        END $$"""

    def __init__(self, *, fsync: bool = False, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._unused: list[str] = []  # migrated, and empty again
        self._emptying: psycopg.Connection | None = None
        self._bin = _postgres_programs()
        self._data = self.directory / "data"
        durable = {} if fsync else {"fsync": "off", "full_page_writes": "off"}
        self._settings = {
            "port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "200",
            "shared_buffers": "64MB", **durable, **(settings or {}),
        }  # fmt: skip
        # The server refuses to run as root.
        self._as_user: list[str] = []
        if os.getuid() == 0:
            self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(self.directory, "postgres", "postgres")
        if PostgresServer.shared is None:
            PostgresServer.shared = Path(tempfile.mkdtemp(prefix="optio-empty-"))
            atexit.register(shutil.rmtree, PostgresServer.shared, ignore_errors=True)
        empty = PostgresServer.shared / "postgres"
        with empty.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not empty.exists():
                options = ["-U", "optio", "-A", "trust", "-E", "UTF8", "--no-sync"]
                self._command([*self._as_user, str(self._bin / "initdb"), "-D", str(self._data), *options])
                self._data.rename(empty)
        self._command(["cp", "-a", str(empty), str(self._data)])

    def _command(self, argv: list[str]) -> None:
        done = subprocess.run(argv, capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"}, cwd=self.directory)
        assert done.returncode == 0, done.stderr.decode()

    @property
    def url(self) -> str:
        """The database `postgres`."""
        return f"postgresql://optio@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = [text for name, value in self._settings.items() for text in ("-c", f"{name}={value}")]
        self._run([*self._as_user, str(self._bin / "postgres"), "-D", str(self._data), *options])
        limit = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self.process is not None
                assert self.process.poll() is None, self.log()
                assert time.monotonic() < limit, self.log()
                time.sleep(0.02)

    def stop(self) -> None:
        """An orderly end."""
        self._leave()
        super().stop()

    def kill(self) -> None:
        """SIGKILL to the server and all of its children: what is in its memory is gone."""
        self._leave()
        assert self.process is not None
        self.signal(signal.SIGSTOP)  # it makes no more of them
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        super().kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        # The next server does not begin beside one of them.
        limit = time.monotonic() + 10
        while any(Path(f"/proc/{child}").exists() for child in children):
            assert time.monotonic() < limit, "a process of the server outlives SIGKILL"
            time.sleep(0.005)

    def schema(self) -> str:
        """A URL on an empty schema: a database of its own, as far as Optio can see."""
        name = f"test_{next(_names)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{self.url}?options=-csearch_path%3D{name}"

    @contextlib.contextmanager
    def lent_schema(self) -> Iterator[str]:
        """A URL on a schema without rows, for tests that change no table itself. It goes from one to the next: to migrate a new
        one takes 0.2 s."""
        url = self._unused.pop() if self._unused else self.schema()
        yield url
        # One session for all: in one that has just begun this takes four times as long.
        if self._emptying is None:
            self._emptying = psycopg.connect(self.url, autocommit=True)
        self._emptying.execute(f"SET search_path = {url.rpartition('%3D')[2]}; {self._REMOVE_ALL}")
        self._unused.append(url)

    def _leave(self) -> None:
        if self._emptying is not None:
            self._emptying.close()
            self._emptying = None


class RedisServer(_Server):
    """Without persistence unless `settings` say otherwise."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._settings = {"save": "", "appendonly": "no", **(settings or {})}

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = [text for name, value in self._settings.items() for text in (f"--{name}", value)]
        self._run(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory), *options])
        limit = time.monotonic() + 20
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.ConnectionError:
                assert self.process is not None
                assert self.process.poll() is None, self.log()
                assert time.monotonic() < limit, self.log()
                time.sleep(0.01)

    def client(self) -> "redis.Redis":
        """For looking, and for harm."""
        return redis.Redis.from_url(self.url, socket_timeout=5)
