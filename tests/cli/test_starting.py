"""Processes that start before what they need: they wait, say so, live, are not ready, and start as soon as it is there."""

import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from optio.cli.shared import starting
from optio.cli.shared.starting import wait_for
from optio.errors import SettingsError, StoreMismatch, StoreUnavailable
from tests import forked
from tests.executors.pods.place import NAMESPACE
from tests.executors.pods.standin import StandIn
from tests.proxy import FaultProxy
from tests.servers import PostgresServer
from tests.support import COMMAND_TASK, ROOT, Answer, Dev, eventually, free_port

PARTS = ("server", "worker", "scheduler")


class Part:
    """An `optio` process with a metrics port."""

    def __init__(self, directory: Path, command: str, url: str, **environ: str) -> None:
        self.metrics_port = free_port()
        self.dev = Dev(
            directory,
            environ={"OPTIO_DATABASE_URL": url, "OPTIO_METRICS_PORT": str(self.metrics_port), **environ},
            command=command,
        )
        self.dev.start(ready=False)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self.dev.process is not None
        return self.dev.process

    def log(self) -> str:
        return self.dev.output.read_text()

    def probe(self, path: str) -> Answer | None:
        """What the metrics port answers; None while it is not open."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=20) as response:
                return Answer(response.status, {}, response.read())
        except urllib.error.HTTPError as err:
            return Answer(err.code, {}, err.read())
        except OSError:
            assert self.process.poll() is None, self.log()
            return None

    def is_ready(self) -> bool:
        answer = self.probe("/readyz")
        return answer is not None and answer.status == 200

    def waits(self, what: str) -> bool:
        assert self.process.poll() is None, self.log()
        return f"the {self.dev.command} waits for {what}: " in self.log()


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that may be stopped, with a token in its database."""
    with PostgresServer() as running:
        yield running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Part]]:
    parts: list[Part] = []

    def made(command: str, url: str, **environ: str) -> Part:
        parts.append(Part(tmp_path / command, command, url, **environ))
        return parts[-1]

    yield made
    for part in parts:
        part.process.send_signal(signal.SIGCONT)
        part.process.kill()
        part.process.wait()


def optio(url: str, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return forked.run(argv, ROOT, {"PATH": "/usr/bin:/bin", "OPTIO_DATABASE_URL": url, **environ})


@pytest.mark.parametrize("command", PARTS)
def test_a_part_that_starts_before_its_database_waits_and_says_so_and_starts_when_it_is_there(
    server: PostgresServer, start: Callable[..., Part], tmp_path: Path, command: str
) -> None:
    assert optio(server.url, "token", "create", "--role", "admin", OPTIO_DATA_DIR=str(tmp_path / "data")).returncode == 0
    server.stop()

    part = start(command, server.url)
    part.dev.write("job.yaml", COMMAND_TASK.format(name="Job", command='"true"'))

    eventually(lambda: part.waits("the database"), what="the report of the wait")
    live, ready = part.probe("/healthz"), part.probe("/readyz")
    assert live is not None
    assert ready is not None
    assert (live.status, ready.status) == (200, 503)
    assert ready.json["problems"] == ["not started: waits for the database, the log says why"]
    metrics = part.probe("/metrics")
    assert metrics is not None
    assert metrics.status == 503
    if command == "server":
        eventually(lambda: part.dev.get("/healthz").status == 200, what="the API's port to answer")
        ready = part.dev.get("/readyz")
        assert (ready.status, ready.json["problems"]) == (503, ["not started: waits for the database, the log says why"])
        hook = part.dev.request("POST", "/api/hooks/push", raw=b"x" * 900_000)
        assert (hook.status, hook.headers["retry-after"]) == (503, "1")
        assert hook.json["status"] == 503
    time.sleep(2 * starting.RETRY_INTERVAL_S)
    assert part.log().count("waits for") == 1, "a wait is reported at once, and then rarely"
    assert "Connection refused" in part.log()

    server.start()

    eventually(part.is_ready, what="the part to be ready")
    if command == "server":
        eventually(lambda: part.dev.get("/readyz").status == 200, what="the API to be ready")
    assert part.dev.stop() == 0
    assert "Traceback" not in part.log()


@pytest.mark.parametrize("command", PARTS)
@pytest.mark.parametrize("fault", ["refused", "silent"])
def test_a_part_that_waits_ends_at_once_on_sigterm(
    postgres_server: PostgresServer, start: Callable[..., Part], command: str, fault: str
) -> None:
    with FaultProxy(postgres_server.port) as proxy:
        if fault == "refused":
            proxy.refuse()
        else:
            proxy.blackhole()
        part = start(command, postgres_server.url.replace(str(postgres_server.port), str(proxy.port)))
        eventually(lambda: part.waits("the database"), what="the report of the wait")

        began = time.monotonic()
        assert part.dev.stop() == 0
        # An attempt to connect to a silent server takes 2 s or more: it is not waited for. The bound is for a busy machine.
        assert time.monotonic() - began < 1.9


@pytest.mark.parametrize(
    ("command", "wrong", "words"),
    [
        ("server", ("/postgres", "/lacking"), 'database "lacking" does not exist'),
        ("worker", ("//optio@", "//nobody@"), 'role "nobody" does not exist'),
        ("scheduler", ("//optio@", "//nobody@"), 'role "nobody" does not exist'),
    ],
)
def test_what_no_waiting_cures_ends_a_part_at_once(
    postgres_server: PostgresServer, start: Callable[..., Part], command: str, wrong: tuple[str, str], words: str
) -> None:
    part = start(command, postgres_server.url.replace(*wrong))

    assert part.process.wait(30) == 2
    assert words in part.log()
    assert "waits for" not in part.log()


def test_with_manual_migrations_a_part_waits_for_them(postgres_server: PostgresServer, start: Callable[..., Part]) -> None:
    url = postgres_server.schema()
    part = start("scheduler", url, OPTIO_MIGRATE="manual")
    eventually(lambda: part.waits("the database"), what="the report of the wait")
    assert "run `optio db migrate`" in part.log()

    assert optio(url, "db", "migrate").returncode == 0

    eventually(part.is_ready, what="the part to be ready")
    assert part.dev.stop() == 0


def test_a_newer_schema_ends_a_part_at_once(postgres_server: PostgresServer, start: Callable[..., Part]) -> None:
    url = postgres_server.schema()
    assert optio(url, "db", "migrate").returncode == 0
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (1000, 1000, 0)")

    part = start("worker", url)

    assert part.process.wait(30) == 2
    assert "install the newer Optio" in part.log()


def test_one_shot_commands_do_not_wait() -> None:
    url = f"postgresql://optio@127.0.0.1:{free_port()}/postgres"

    assert optio(url, "token", "list").returncode == 2
    assert optio(url, "db", "check").returncode == 2
    assert optio(url, "db", "migrate").returncode == 2


@pytest.mark.parametrize("command", PARTS)
def test_a_part_that_starts_before_redis_starts_degraded(
    postgres_server: PostgresServer, start: Callable[..., Part], tmp_path: Path, command: str
) -> None:
    url = postgres_server.schema()
    assert optio(url, "token", "create", "--role", "admin", OPTIO_DATA_DIR=str(tmp_path / "data")).returncode == 0

    part = start(command, url, OPTIO_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")

    def degraded() -> bool:
        answer = part.probe("/readyz")
        return answer is not None and answer.status == 200 and answer.json["status"] == "degraded"

    eventually(degraded, what="the part to be ready, and degraded")
    assert part.dev.stop() == 0


def test_a_worker_whose_cluster_is_away_waits_for_it(
    postgres_server: PostgresServer, standin: StandIn, start: Callable[..., Part], tmp_path: Path
) -> None:
    config = standin.kubeconfig.read_text()
    port = re.search(r"127\.0\.0\.1:(\d+)", config)
    assert port is not None
    with FaultProxy(int(port[1])) as proxy:
        proxy.refuse()
        (tmp_path / "kubeconfig").write_text(config.replace(port[1], str(proxy.port)))
        part = start(
            "worker",
            postgres_server.schema(),
            OPTIO_EXECUTOR="kubernetes",
            OPTIO_KUBE_NAMESPACE=NAMESPACE,
            OPTIO_KUBE_IMAGE="none",
            KUBECONFIG=str(tmp_path / "kubeconfig"),
        )
        eventually(lambda: part.waits("the cluster"), what="the report of the wait")
        ready = part.probe("/readyz")
        assert ready is not None
        assert (ready.status, ready.json["problems"]) == (503, ["not started: waits for the cluster, the log says why"])

        proxy.pass_through()

        eventually(part.is_ready, what="the worker to be ready")
        assert part.dev.stop() == 0


# The loop itself


class Reports:
    """Attempts that fail until a time, by a clock that sleeping moves on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(starting.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(starting.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_wait_is_reported_at_once_after_ten_seconds_and_each_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Reports(monkeypatch)
    told: list[str] = []

    def attempt() -> str:
        if clock.now < 200:
            raise StoreUnavailable(f"no answer at {clock.now:.0f}", temporary=True)
        return "made"

    with caplog.at_level("INFO"):
        assert wait_for("the database", attempt, "worker", told.append) == "made"

    assert caplog.messages == [
        "the worker waits for the database: no answer at 0",
        "the worker still waits for the database, for 10 s now: no answer at 10",
        "the worker still waits for the database, for 70 s now: no answer at 70",
        "the worker still waits for the database, for 130 s now: no answer at 130",
        "the worker still waits for the database, for 190 s now: no answer at 190",
        "the worker has the database after 200 s",
    ]
    assert told == ["the database"]


@pytest.mark.parametrize("error", [StoreUnavailable("broken"), StoreMismatch("newer"), SettingsError("wrong")])
def test_an_error_that_is_not_temporary_is_raised_also_after_a_wait(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    clock = Reports(monkeypatch)

    def attempt() -> None:
        raise StoreUnavailable("away", temporary=True) if clock.now < 5 else error

    with pytest.raises(type(error), match=str(error)):
        wait_for("the database", attempt, "worker")
