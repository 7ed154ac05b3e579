"""Redis dies in every way under a server and two workers: triggers are accepted, runs go on, and `/readyz` says so."""

import contextlib
import http.client
import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from optio.broker.dramatiq import KEY
from optio.limits.redis import RETRY_PAUSE_S
from tests.broker.test_redis import message
from tests.proxy import FaultProxy
from tests.servers import PostgresServer, RedisServer
from tests.support import Answer, Dev, eventually, freeze_at_rest

MOST = 4
# Webhooks of a path per minute.
RATE = 16
# A sweep comes every two seconds, a lease lasts thirty.
SWEPT = 10.0
TASK = """\
type: standalone
name: {name}
agentRuntime: command
command: {command}
promptTemplate: "{prompt}"
paramsSchema: {{type: object, properties: {{WHO: {{type: string, maxLength: 100}}}}, additionalProperties: false}}
maxConcurrent: 1000
triggers:
  - type: webhook
    config: {{path: {path}, unsigned: true, paramMapping: {{WHO: $.who}}}}
"""
# Each run leaves a line when it begins and one when it ends: what truly ran at the same time, whatever the database says.
COUNTED = """\
["/bin/sh", "-c", "date +'%s%N + '$OPTIO_RUN_ID >> {ledger}; sleep 0.05; date +'%s%N - '$OPTIO_RUN_ID >> {ledger}"]"""
TALKING = """["/bin/sh", "-c", "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.2; done"]"""

RESTING = """["/bin/sleep", "3"]"""


class Cluster:
    """A server and two workers on one data directory, and a Redis that they reach through a proxy."""

    def __init__(self, directory: Path, redis_server: RedisServer, port: int, *, workers: int = 2, **environ: str) -> None:
        self.redis_server = redis_server
        self.directory = directory
        self.ledger = directory / "ledger"
        self.environ = {
            "OPTIO_REDIS_URL": f"redis://127.0.0.1:{port}",
            "OPTIO_MAX_WORKFLOW_CONCURRENT": str(MOST),
            "OPTIO_WORKER_CONCURRENT": "2",
            "OPTIO_WEBHOOK_RATE_PER_MINUTE": str(RATE),
            **environ,
        }
        self.server = Dev(directory, environ=self.environ, command="server")
        self.parts = [self.server]
        tasks = {"run": '["/bin/true"]', "counted": COUNTED.format(ledger=self.ledger), "talking": TALKING, "resting": RESTING}
        for name, command in tasks.items():
            self.serve(name, command)
        made = self.server.cli("token", "create", "--role", "admin")
        self.token = next(word for word in made.stdout.split() if word.startswith("opt"))
        self.server.start()
        self.workers = [self.another("worker") for _ in range(workers)]

    def serve(self, name: str, command: str = '["/bin/true"]', prompt: str = "hello") -> None:
        """Put a task into the tree; its webhook's path is its name."""
        self.server.write(f"{name}.yaml", TASK.format(name=name.title(), command=command, path=name, prompt=prompt))

    def another(self, command: str, directory: Path | None = None, **environ: str) -> Dev:
        """One more process."""
        part = Dev(directory or self.directory, environ={**self.environ, "OPTIO_TOKEN": self.token, **environ}, command=command)
        part.tasks = self.server.tasks
        part.output = self.directory / f"{command}-{len(self.parts)}.out"
        part.start(ready=command == "server")
        self.parts.append(part)
        return part

    def close(self) -> None:
        for part in self.parts:
            with contextlib.suppress(ProcessLookupError):
                part.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
        for part in self.parts:
            part.stop()

    def freeze(self, part: Dev) -> None:
        """It stands still, and keeps nobody else from the database."""
        assert part.process is not None
        freeze_at_rest(part.process, part.data / "optio.db")

    def api(self, method: str, path: str, body: Any = None, server: Dev | None = None) -> Answer:
        return (server or self.server).request(method, path, body, headers={"Authorization": f"Bearer {self.token}"})

    def trigger(self, task: str) -> str:
        answer = self.api("POST", f"/api/tasks/{task}/runs", {})
        assert answer.status == 202, answer.body
        return str(answer.json["runId"])

    def hook(self, task: str, server: Dev | None = None) -> Answer:
        return (server or self.server).post(f"/api/hooks/{task}", {"who": "ada"})

    def ended(self, runs: Sequence[str], within: float = 40.0) -> list[dict[str, Any]]:
        """The runs, once all have ended: each well, and at the first attempt."""
        found: dict[str, dict[str, Any]] = {}

        def look() -> bool:
            for run_id in set(runs) - set(found):
                run = self.api("GET", f"/api/workflow-runs/{run_id}").json
                if run["state"] in ("queued", "running"):
                    return False
                found[run_id] = run
            return True

        eventually(look, within=within, what="every run ending")
        assert {(run["state"], run["attempt"]) for run in found.values()} == {("completed", 1)}
        return [found[run_id] for run_id in runs]

    def is_(self, status: str, within: float = 8.0) -> None:
        """Wait until `/readyz` says so, which never is that it cannot work; and it is alive all the time."""

        def look() -> bool:
            assert self.server.get("/healthz").status == 200
            answer = self.server.get("/readyz")
            assert answer.status == 200, answer.body
            return bool(answer.json["status"] == status)

        eventually(look, within=within, what=f"the server being {status}")

    def starts_quickly(self) -> None:
        """A hint starts a run, several times in a row: no sweep comes so often."""
        waits = [started(self.ended([self.trigger("run")])[0]) for _ in range(5)]
        assert sorted(waits)[2] < 0.5

    def lines(self) -> list[tuple[int, str, str]]:
        return [(int(at), sign, run) for at, sign, run in (line.split() for line in self.ledger.read_text().splitlines())]

    def most_at_once(self) -> int:
        """How many runs were truly there together."""
        now = most = 0
        for _, sign, _ in sorted(self.lines()):
            now += 1 if sign == "+" else -1
            most = max(most, now)
        return most


def started(run: dict[str, Any]) -> float:
    """Seconds from the request to the start."""
    return (datetime.fromisoformat(run["startedAt"]) - datetime.fromisoformat(run["createdAt"])).total_seconds()


@pytest.fixture(scope="module")
def proxied() -> Iterator[tuple[RedisServer, FaultProxy]]:
    """A Redis of these tests' own: they do it harm."""
    with RedisServer() as server, FaultProxy(server.port) as proxy:
        yield server, proxy


@pytest.fixture(scope="module")
def whole(proxied: tuple[RedisServer, FaultProxy], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One installation for all tests: that it is well after each is part of what they say."""
    made = Cluster(tmp_path_factory.mktemp("cluster"), proxied[0], proxied[1].port)
    made.is_("ok")
    made.starts_quickly()
    yield made
    made.close()


@pytest.fixture
def cluster(whole: Cluster) -> Iterator[Cluster]:
    whole.ledger.write_text("")
    yield whole
    whole.is_("ok")
    whole.starts_quickly()


def follow(cluster: Cluster, run_id: str, server: Dev | None = None) -> list[tuple[float, str]]:
    """A live log to its end: each line, and how long after it was read from the agent it came."""
    connection = http.client.HTTPConnection("127.0.0.1", (server or cluster.server).port, timeout=30)
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {cluster.token}"}
    connection.request("GET", f"/api/workflow-runs/{run_id}/logs", headers=headers)
    found, event = [], ""
    response = connection.getresponse()
    while raw := response.readline():
        name, _, value = raw.decode().rstrip("\n").partition(": ")
        event = value if name == "event" else event
        if name == "data" and event == "line" and json.loads(value)["kind"] == "output":
            line = json.loads(value)
            found.append((time.time() - datetime.fromisoformat(line["at"]).timestamp(), line["text"]))
        if name == "data" and event == "end":
            break
    connection.close()
    return found


def refuse(server: RedisServer, proxy: FaultProxy) -> Callable[[], None]:
    proxy.refuse()
    return proxy.pass_through


def swallow(server: RedisServer, proxy: FaultProxy) -> Callable[[], None]:
    proxy.blackhole()
    return proxy.pass_through


def slow(server: RedisServer, proxy: FaultProxy) -> Callable[[], None]:
    proxy.delay(0.25)  # each way
    return proxy.pass_through


def full(server: RedisServer, proxy: FaultProxy) -> Callable[[], None]:
    server.client().config_set("maxmemory", "1mb")
    return lambda: bool(server.client().config_set("maxmemory", "0")) and None


def read_only(server: RedisServer, proxy: FaultProxy) -> Callable[[], None]:
    server.client().replicaof("127.0.0.1", "1")
    return lambda: bool(server.client().replicaof("NO", "ONE")) and None


def killed(server: RedisServer, proxy: FaultProxy) -> Callable[[], None]:
    server.kill()
    return server.start


@pytest.mark.parametrize("fault", [refuse, swallow, slow, full, read_only, killed], ids=lambda fault: fault.__name__)
def test_without_redis_triggers_are_accepted_soon_runs_start_by_sweeps_and_live_logs_go_on(
    cluster: Cluster, proxied: tuple[RedisServer, FaultProxy], fault: Callable[..., Callable[[], None]]
) -> None:
    hook = f"hook-{fault.__name__}".replace("_", "-")
    cluster.serve(hook)
    eventually(lambda: cluster.hook(hook).status == 202, what="the webhook being served")
    talking = cluster.trigger("talking")
    undo = fault(*proxied)
    try:
        if fault is not slow:
            cluster.is_("degraded")
        with ThreadPoolExecutor(1) as pool:
            log = pool.submit(follow, cluster, cluster.trigger("talking"))
            runs, waits = [], []
            for number in range(20):
                began = time.monotonic()
                answer = cluster.hook(hook) if number % 2 else cluster.api("POST", "/api/tasks/run/runs", {})
                waits.append(time.monotonic() - began)
                assert answer.status == 202, answer.body
                runs.append(answer.json["runId"])
            ended = cluster.ended([*runs, talking])
            lines = log.result()
    finally:
        undo()

    assert sorted(waits)[10] < 0.5
    assert max(waits) < 5
    assert min(started(run) for run in ended[:20]) < SWEPT
    assert [text for _, text in lines] == [f"line {n}" for n in range(1, 7)]
    # A reader looks by itself each second.
    assert max(late for late, _ in lines) < 5


def test_runs_that_wait_when_redis_is_killed_all_run_once(cluster: Cluster, proxied: tuple[RedisServer, FaultProxy]) -> None:
    server, _ = proxied
    for worker in cluster.workers:
        cluster.freeze(worker)
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: cluster.trigger("counted"), range(60)))
    eventually(lambda: server.client().llen(KEY) > 0, what="hints in Redis")
    server.kill()
    for worker in cluster.workers:
        worker.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]

    cluster.ended(runs)

    server.start()
    assert Counter(run for _, sign, run in cluster.lines() if sign == "+") == Counter(runs)
    assert cluster.most_at_once() <= MOST


def test_a_redis_that_forgets_everything_all_the_time_loses_nothing_and_lets_through_no_more(
    cluster: Cluster, proxied: tuple[RedisServer, FaultProxy]
) -> None:
    client = proxied[0].client()
    runs, statuses = [], []
    for number in range(2 * RATE):
        answer = cluster.hook("counted")
        statuses.append(answer.status)
        if answer.status == 202:
            runs.append(answer.json["runId"])
        if number % 5 == 0:
            client.flushall()

    cluster.ended(runs)

    assert statuses == [202] * RATE + [429] * RATE
    assert Counter(run for _, sign, run in cluster.lines() if sign == "+") == Counter(runs)
    assert cluster.most_at_once() <= MOST


def test_hints_of_an_older_copy_of_redis_start_nothing_twice(cluster: Cluster, proxied: tuple[RedisServer, FaultProxy]) -> None:
    server, _ = proxied
    for worker in cluster.workers:
        cluster.freeze(worker)
    runs = [cluster.trigger("counted") for _ in range(8)]
    eventually(lambda: server.client().llen(KEY) > 0, what="hints in Redis")
    server.client().save()
    shutil.copy(server.directory / "dump.rdb", server.directory / "older.rdb")
    for worker in cluster.workers:
        worker.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    cluster.ended(runs)
    server.kill()
    shutil.copy(server.directory / "older.rdb", server.directory / "dump.rdb")

    server.start()
    (server.directory / "dump.rdb").unlink()

    eventually(lambda: not server.client().llen(KEY), what="the old hints being taken")
    cluster.is_("ok")
    cluster.ended(runs)
    assert Counter(run for _, sign, run in cluster.lines() if sign == "+") == Counter(runs)


def test_messages_about_runs_that_are_unknown_ended_or_deleted_do_nothing(
    cluster: Cluster, proxied: tuple[RedisServer, FaultProxy]
) -> None:
    client = proxied[0].client()
    ended = cluster.trigger("counted")
    cluster.ended([ended])
    before = [worker.process.pid for worker in cluster.workers if worker.process is not None]
    said = [worker.output.stat().st_size for worker in cluster.workers]

    for run_id in (ended, "0190a5b6-7c8d-7e9f-8a0b-1c2d3e4f5061", "../../etc/passwd", "' OR 1=1 --", "\0", "\ud800"):
        client.rpush(KEY, *[message(run_id)] * 200)
        client.publish("optio:0:cancel", b"somebody " + run_id.encode("utf-8", "replace"))
    eventually(lambda: not client.llen(KEY), what="the messages being taken")

    cluster.starts_quickly()
    assert [run for _, sign, run in cluster.lines() if sign == "+"] == [ended]
    assert [worker.process.pid for worker in cluster.workers if worker.process is not None] == before
    assert all(worker.process is not None and worker.process.poll() is None for worker in cluster.workers)
    assert all(worker.output.stat().st_size - size < 10_000 for worker, size in zip(cluster.workers, said, strict=True))


def test_nothing_but_ids_ever_goes_to_redis(cluster: Cluster, proxied: tuple[RedisServer, FaultProxy]) -> None:
    canaries = [f"canary-{where}" for where in ("prompt", "param", "secret", "output")]
    (cluster.server.data / "secrets").mkdir(exist_ok=True)
    (cluster.server.data / "secrets" / "CANARY").write_text("canary-secret")
    text = TASK.format(
        name="Canary", path="canary", prompt="canary-prompt {{WHO}}", command='["/bin/sh", "-c", "echo canary-output; cat"]'
    )
    cluster.server.write("canary.yaml", text + "environment: {secrets: [CANARY]}\n")
    eventually(lambda: cluster.api("GET", "/api/tasks/canary").status == 200)
    watching = proxied[0].client()
    with watching.monitor() as monitor:
        monitor.connection._sock.settimeout(5)  # type: ignore[union-attr]
        runs = [cluster.server.post("/api/hooks/canary", {"who": "canary-param"}).json["runId"] for _ in range(3)]
        follow(cluster, runs[0])
        cluster.ended(runs)
        proxied[0].client().echo("the end")
        sent = []
        while "the end" not in (command := monitor.next_command()["command"]):  # type: ignore[no-untyped-call]
            sent.append(command)

    assert any(runs[0] in command for command in sent)
    assert [(canary, command) for canary in canaries for command in sent if canary in command] == []
    assert {command.split()[0] for command in sent} <= {
        "RPUSH", "LTRIM", "EXPIRE", "BLPOP", "LPUSH", "PUBLISH", "PING", "SET", "EVALSHA", "TIME", "TYPE", "LINDEX", "PEXPIRE",
        "HELLO", "CLIENT", "SUBSCRIBE", "SELECT", "SCRIPT", "INFO", "ECHO", "COMMAND",
    }  # fmt: skip


def test_two_servers_share_the_rate_of_webhooks_and_each_has_its_own_without_redis(
    cluster: Cluster, proxied: tuple[RedisServer, FaultProxy]
) -> None:
    servers = [cluster.server, cluster.another("server")]
    for name in ("before", "shared", "apart"):
        cluster.serve(name)
        for server in servers:
            eventually(lambda path=f"/api/tasks/{name}", server=server: cluster.api("GET", path, server=server).status == 200)  # type: ignore[misc]
    # A server that saw Redis fail counts by itself until a hit, a second later at the earliest, has asked again.
    for _ in range(2):
        for server in servers:
            cluster.hook("before", server)
        time.sleep(RETRY_PAUSE_S)

    with ThreadPoolExecutor(8) as pool:
        began = time.monotonic()
        answers = list(pool.map(lambda number: cluster.hook("shared", servers[number % 2]), range(2 * RATE)))
        took = time.monotonic() - began
        proxied[1].refuse()
        alone = list(pool.map(lambda number: cluster.hook("apart", servers[number % 2]), range(3 * RATE)))
    proxied[1].pass_through()

    refused = [answer for answer in answers if answer.status == 429]
    assert Counter(answer.status for answer in answers) == {202: RATE, 429: RATE}
    assert all(59 - took < int(answer.headers["retry-after"]) <= 60 for answer in refused)
    assert Counter(answer.status for answer in alone) == {202: 2 * RATE, 429: RATE}
    cluster.ended([answer.json["runId"] for answer in [*answers, *alone] if answer.status == 202])


def test_every_part_starts_and_ends_without_an_answer_from_redis(
    cluster: Cluster, proxied: tuple[RedisServer, FaultProxy]
) -> None:
    server, _ = proxied
    server.signal(signal.SIGSTOP)
    try:
        parts = [cluster.another(command) for command in ("server", "worker", "scheduler")]
        eventually(lambda: all(b"optio " in part.output.read_bytes() for part in parts), what="every part being up")
        cluster.ended([cluster.trigger("run")])

        with ThreadPoolExecutor(3) as pool:
            codes = list(pool.map(lambda part: part.stop(within=10), parts))
        assert codes == [0, 0, 0]
    finally:
        server.signal(signal.SIGCONT)
    assert all("Traceback" not in part.output.read_text() for part in parts)


# Several workers, several machines


def test_runs_that_wait_are_told_to_workers_that_have_room(cluster: Cluster) -> None:
    """Sweeps would find them after a second, on the average."""
    ended = cluster.ended([cluster.trigger("talking") for _ in range(MOST)])
    assert sorted(Counter(run["attempts"][0]["worker"] for run in ended).values()) == [2, 2]
    assert sum(started(run) for run in ended) < 0.7 * MOST

    # One worker is full now, the other is not.
    long = [cluster.trigger("resting") for _ in range(MOST - 1)]
    waits = [started(cluster.ended([cluster.trigger("run")])[0]) for _ in range(6)]
    assert sum(waits) < 0.7 * len(waits)
    cluster.ended(long)


def test_a_run_that_was_told_to_a_worker_that_died_is_found_by_another(cluster: Cluster) -> None:
    frozen = cluster.workers[0].process
    assert frozen is not None
    cluster.freeze(cluster.workers[0])
    try:
        # It waits for messages: at least one of these goes to it.
        waits = [started(cluster.ended([cluster.trigger("run")])[0]) for _ in range(4)]
    finally:
        frozen.send_signal(signal.SIGCONT)

    assert max(waits) < SWEPT


def test_a_reader_on_another_machine_than_the_worker_gets_lines_soon(
    postgres_server: PostgresServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.client().flushall()
    database = {"OPTIO_DATABASE_URL": postgres_server.schema()}
    cluster = Cluster(tmp_path / "here", redis_server, redis_server.port, workers=0, **database)
    try:
        cluster.another("worker", tmp_path / "elsewhere")
        cluster.starts_quickly()

        late = sorted(delay for delay, _ in follow(cluster, cluster.trigger("talking")))

        assert len(late) == 6
        assert late[2] < 0.3  # a look by itself, once a second, would take half a second
    finally:
        cluster.close()
