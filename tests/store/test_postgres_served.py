"""A real server process on PostgreSQL that is refused, silent, cut or restarted: success or 503, nothing else."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

import optio.cli
from tests.proxy import FaultProxy
from tests.servers import PostgresServer
from tests.support import COMMAND_TASK, Answer, Dev, eventually

PASSWORD = "s3cr3t-w0rd"
HOOK = "triggers:\n  - type: webhook\n    config: {path: push, unsigned: true}\n"
COMMIT = b"COMMIT\0"


class Served:
    """A server, the proxy before its database, and the database."""

    def __init__(self, dev: Dev, proxy: FaultProxy, postgres: PostgresServer) -> None:
        self.dev, self.proxy, self.postgres = dev, proxy, postgres
        token = dev.cli("token", "create", "--role", "admin")
        assert token.returncode == 0, token.stderr
        self.token = token.stdout.strip()

    def post(self, path: str, **headers: str) -> Answer:
        return self.dev.post(path, {}, Authorization=f"Bearer {self.token}", **headers)

    def start_run(self, key: str | None = None) -> Answer:
        return self.post("/api/tasks/job/runs", **({"Idempotency-Key": key} if key else {}))

    def hook(self, delivery: str | None = None) -> Answer:
        return self.dev.post("/api/hooks/push", {}, **({"Idempotency-Key": delivery} if delivery else {}))

    def get(self, path: str) -> Answer:
        return self.dev.get(path, Authorization=f"Bearer {self.token}")

    def count(self) -> int:
        with psycopg.connect(self.postgres.url) as connection:
            row = connection.execute("SELECT count(*) FROM runs").fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with PostgresServer() as postgres, FaultProxy(postgres.port) as proxy:
        url = f"postgresql://optio:{PASSWORD}@127.0.0.1:{proxy.port}/postgres"
        environ = {"OPTIO_DATABASE_URL": url, "OPTIO_WEBHOOK_RATE_PER_MINUTE": "100000"}
        dev = Dev(tmp_path_factory.mktemp("served"), environ=environ, command="server")
        dev.write("job.yaml", COMMAND_TASK.format(name="Job", command='"true"') + HOOK)
        made = Served(dev, proxy, postgres)
        dev.start()
        yield made
        proxy.pass_through()
        assert dev.stop() == 0
        said = dev.output.read_text()
    assert "Traceback" not in said
    assert PASSWORD not in said


@pytest.fixture
def served(running: Served) -> Iterator[Served]:
    """It answers at the beginning, and again at the end."""
    # The use of a token is noted once a minute, by a commit of its own.
    eventually(lambda: running.start_run().status == 202, what="a run to be accepted")
    time.sleep(0.1)
    yield running
    running.proxy.pass_through()
    eventually(lambda: running.dev.get("/readyz").status == 200, what="the server to be ready again")


Ask = Callable[[Served], Answer]
ASK: Mapping[str, Ask] = {
    "run": lambda served: served.start_run(),
    "run with a key": lambda served: served.start_run("away"),
    "hook": lambda served: served.hook(),
    "list": lambda served: served.get("/api/runs"),
    "ready": lambda served: served.dev.get("/readyz"),
}


def test_while_the_database_is_away_everything_is_answered_with_503_and_it_is_back_within_five_seconds(served: Served) -> None:
    before = served.count()
    served.proxy.refuse()

    for name, ask in ASK.items():
        answer = ask(served)
        assert answer.status == 503, name
        if name != "ready":
            assert answer.headers["retry-after"] == "1", name
        assert PASSWORD not in answer.body.decode()
    assert served.dev.get("/healthz").status == 200
    served.proxy.pass_through()

    began = time.monotonic()
    eventually(lambda: served.start_run().status == 202, within=5, what="a run to be accepted again")
    assert served.hook().status == 202
    assert time.monotonic() - began < 5
    assert served.count() == before + 2, "what was answered with 503 was not accepted"


def test_in_a_black_hole_every_request_is_answered_in_time_and_the_server_recovers(served: Served) -> None:
    before = served.count()
    served.proxy.blackhole()

    def timed(ask: Ask) -> tuple[int, float]:
        began = time.monotonic()
        return ask(served).status, time.monotonic() - began

    with ThreadPoolExecutor(40) as pool:
        first = list(pool.map(timed, list(ASK.values()) * 8))
        # It is known to be silent now: one asks at a time, nobody else waits.
        second = list(pool.map(timed, list(ASK.values()) * 8))

    assert {status for status, _ in first + second} == {503}
    assert max(took for _, took in first) < 5 + 2
    assert sorted(took for _, took in second)[20] < 1
    assert served.dev.get("/healthz").status == 200
    served.proxy.pass_through()

    eventually(lambda: served.start_run().status == 202, within=5, what="a run to be accepted again")
    assert served.count() == before + 1
    with psycopg.connect(served.postgres.url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'optio'").fetchone()
    assert row is not None
    assert row[0] <= 8


@pytest.mark.parametrize("answered", [True, False], ids=["done", "not done"])
@pytest.mark.parametrize("kind", ["run", "hook"])
def test_a_commit_whose_answer_is_lost_is_a_503_and_the_same_key_gives_the_one_run(
    served: Served, kind: str, answered: bool
) -> None:
    before = served.count()
    ask = served.start_run if kind == "run" else served.hook
    key = f"{kind}-{answered}"
    served.proxy.cut_at(COMMIT, answered=answered)

    lost = ask(key)
    again = [ask(key) for _ in range(3)]

    assert lost.status == 503
    assert lost.headers["retry-after"] == "1"
    assert "it is unknown whether" in lost.json["detail"]
    assert {answer.status for answer in again} <= {200, 202}
    assert len({answer.json["runId"] for answer in again}) == 1
    assert served.count() == before + 1


def test_a_restart_of_the_database_between_requests_is_not_noticed(served: Served) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: served.get("/api/runs"), range(16)))
    served.postgres.stop()
    served.postgres.start()

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, served) for ask in ASK.values() for _ in range(4)]
        statuses = {answer.result(30).status for answer in asked}

    assert statuses <= {200, 202}


def test_under_load_the_answers_are_success_or_503_whatever_the_database_does(served: Served) -> None:
    before = served.count()
    over = threading.Event()
    accepted: list[str] = []
    statuses: set[int] = set()

    def load(place: int) -> None:
        number = 0
        while not over.wait(0.03):
            number += 1
            key = f"load-{place}-{number}"
            ask = served.hook if number % 2 else served.start_run
            answer = ask(key)
            while answer.status == 503:
                statuses.add(503)
                time.sleep(0.05)
                answer = ask(key)
            statuses.add(answer.status)
            accepted.append(answer.json["runId"])

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, place) for place in range(4)]
        try:
            for fault in (served.proxy.cut, served.proxy.refuse, served.postgres.kill, served.proxy.cut):
                time.sleep(0.5)
                fault()
                time.sleep(0.1)
                if fault == served.postgres.kill:
                    served.postgres.start()
                served.proxy.pass_through()
            time.sleep(0.5)
        finally:
            over.set()
        for each in loads:
            each.result(30)

    assert statuses == {200, 202, 503} or statuses == {202, 503}
    assert len(accepted) > 20
    assert len(set(accepted)) == len(accepted)
    assert served.count() == before + len(accepted)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://optio:s3cr3t@127.0.0.1:1/optio", "Connection refused"),
        ("postgresql://optio:s3cr3t@/w0rd@127.0.0.1/optio", "the URL of the database cannot be read"),
        ("postgresql://optio:s3cr3t@127.0.0.1:{port}/nowhere", 'database "nowhere" does not exist'),
        ("mysql://optio:s3cr3t@127.0.0.1/optio", "OPTIO_DATABASE_URL"),
    ],
)
@pytest.mark.parametrize("command", [["token", "list"], ["db", "check"], ["db", "migrate"]], ids=" ".join)
def test_a_database_that_cannot_be_used_ends_a_command_with_one_sentence(
    tmp_path: Path,
    running: Served,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    url: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTIO_DATABASE_URL", url.format(port=running.postgres.port))

    code = optio.cli.invoke(command)

    said = capsys.readouterr()
    assert code == 2
    assert says in said.err + said.out
    assert "s3cr3t" not in said.err + said.out
    assert len((said.err + said.out).splitlines()) == 1


@pytest.mark.parametrize("part", ["server", "worker", "scheduler"])
def test_a_part_whose_database_cannot_be_used_ends_with_one_sentence(tmp_path: Path, running: Served, part: str) -> None:
    url = f"postgresql://optio:s3cr3t@127.0.0.1:{running.postgres.port}/nowhere"

    done = Dev(tmp_path, environ={"OPTIO_DATABASE_URL": url}).cli(part)

    assert (done.returncode, done.stdout) == (2, "")
    assert 'database "nowhere" does not exist' in done.stderr
    assert "s3cr3t" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
