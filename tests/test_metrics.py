"""What a process counts, and whether it is well: on `/metrics`, `/healthz` and `/readyz`."""

import http.client
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from optio.errors import StoreUnavailable
from optio.model.run import RunState
from optio.processes import health
from optio.processes.metrics_server import MetricsServer
from optio.processes.scheduler import Scheduler
from optio.processes.worker import Worker
from optio.telemetry.base import MISSING, Delivered, Fact, Telemetry
from optio.telemetry.liveness import GRACE_S, Liveness
from optio.telemetry.metrics import MAX_REASONS, Metrics
from optio.wiring import Services
from tests.runs.support import accept, claim, done, execute, opened, working
from tests.server.api import JOB, Api
from tests.store.build import BAD, OK, end
from tests.support import COMMAND_TASK, ROOT, Answer, Dev, command_task, compiled, eventually, free_port

HOOK = JOB + "triggers: [{type: webhook, config: {path: job, secret: {name: METRICS_SECRET}}}]\n"
OPEN = JOB.replace("name: Job", "name: Open") + "triggers: [{type: webhook, config: {path: open, unsigned: true}}]\n"
SPENDS = """
import json, os
with open(os.environ["OPTIO_RESULT_FILE"], "a") as file:
    print(json.dumps({"type": "usage", "model": "m", "input": 10, "output": 5, "costUsd": "0.25"}), file=file)
"""

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: bytes) -> Samples:
    """(name, labels) -> value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(services: Services, name: str, **labels: str) -> float:
    """Of a metric now; 0 where it has not been counted yet."""
    assert services.metrics is not None
    return parsed(services.metrics.text()[0]).get((name, tuple(sorted(labels.items()))), 0.0)


def ask(port: int, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


# What is counted


def test_a_run_is_counted_from_its_start_to_its_end(services: Services) -> None:
    task = command_task(["python3", "-c", SPENDS])
    with working(services):
        run_id = accept(services, task)
        done(services, run_id)
        eventually(lambda: value(services, "optio_attempts_total", task="job", runtime="command", outcome="ok"), what="the end")

    labels = {"task": "job", "trigger": "manual", "state": "completed", "reason": "ok"}
    assert value(services, "optio_runs_total", **labels) == 1
    assert value(services, "optio_queue_wait_seconds_count", task="job") == 1
    assert value(services, "optio_start_latency_seconds_count", runtime="command") == 1
    assert value(services, "optio_run_duration_seconds_count", task="job", state="completed") == 1
    assert value(services, "optio_cost_usd_total", task="job", runtime="command") == 0.25
    assert value(services, "optio_tokens_total", task="job", runtime="command", kind="fresh") == 10
    assert value(services, "optio_tokens_total", task="job", runtime="command", kind="output") == 5
    assert value(services, "optio_worker_capacity") == 5


def test_attempts_and_retries_are_told_apart(services: Services) -> None:
    run = execute(services, command_task(["/bin/sh", "-c", "exit 3"], extra="maxRetries: 1\n"))

    assert run.state is RunState.QUEUED
    assert value(services, "optio_attempts_total", task="job", runtime="command", outcome="exit_code") == 1
    assert value(services, "optio_retries_total", task="job", kind="failure") == 1
    assert value(services, "optio_retries_total", task="job", kind="infrastructure") == 0
    labels = {"task": "job", "trigger": "manual", "state": "failed", "reason": "exit_code"}
    assert value(services, "optio_runs_total", **labels) == 0


def rests(worker: Worker, pulses: Liveness) -> bool:
    """Whether nothing is left that was told before, and the next sweep is a good while away."""
    return not worker._running and not worker._wake.is_set() and pulses._due["claim"] - time.monotonic() > GRACE_S + 1


def test_a_run_that_no_hint_told_of_is_a_repair(services: Services) -> None:
    with working(services) as worker:
        told = accept(services, command_task("true"))
        done(services, told)
        worker._unsubscribe()
        eventually(lambda: rests(worker, services.pulses), what="the worker waiting for its next sweep")
        silent = accept(services, command_task("true", "Silent"))
        done(services, silent)

    assert value(services, "optio_sweep_repairs_total", task="silent") == 1
    assert value(services, "optio_sweep_repairs_total", task="job") == 0


def test_an_attempt_that_another_worker_goes_on_with_is_counted(services: Services) -> None:
    run_id = accept(services, command_task("true"))
    claim(services, run_id, owner="gone", lease=0.01)
    time.sleep(0.05)
    with working(services):
        done(services, run_id)

    assert value(services, "optio_leases_adopted_total", task="job") == 1
    assert value(services, "optio_retries_total", task="job", kind="infrastructure") == 1


def test_reasons_that_programs_invent_do_not_become_labels_without_end() -> None:
    metrics = Metrics()
    named = {metrics._reason(f"mine-{n}") for n in range(3 * MAX_REASONS)}

    assert len(named) == MAX_REASONS + 1
    assert "other" in named


def test_a_slot_is_counted_with_its_lateness(services: Services) -> None:
    job = compiled(COMMAND_TASK.format(name="Job", command='"true"') + SCHEDULE)
    services.store.activate(_registry(job), None)
    at = datetime(2026, 3, 1, 11, 59, 30, tzinfo=UTC)
    clock = [at]
    scheduler = Scheduler(services, clock=lambda: clock[0])
    scheduler.step()
    clock[0] = at + timedelta(seconds=32)  # two seconds after noon
    scheduler.step()
    clock[0] += timedelta(minutes=10)  # nobody looked: `misfire: last`
    scheduler.step()

    assert value(services, "optio_slots_total", task="job", verdict="fired") == 2
    assert value(services, "optio_slots_total", task="job", verdict="missed") >= 8
    assert value(services, "optio_slot_lateness_seconds_count") == 2
    assert value(services, "optio_slot_lateness_seconds_bucket", le="1.0") == 0
    assert value(services, "optio_slot_lateness_seconds_bucket", le="2.5") >= 1
    assert value(services, "optio_runs_accepted_total", task="job", trigger="schedule") == 2


SCHEDULE = 'triggers: [{type: schedule, config: {cronExpression: "* * * * *", timezone: UTC}}]\n'


def _registry(task: Any) -> Any:
    from optio.model.registry import Registry

    return Registry.of({task.id: task})


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("OPTIO_SECRET_METRICS_SECRET", "a secret")
    made = Api(tmp_path, environ={"OPTIO_WEBHOOK_RATE_PER_MINUTE": "9"})
    made.serve_task(HOOK)
    made.serve_task(OPEN, "open")
    yield made
    made.close()


def test_deliveries_are_counted_by_task_and_verdict_and_no_path_becomes_a_label(api: Api) -> None:
    post = api.request
    post("POST", "/api/hooks/job", {})
    post("POST", "/api/hooks/open", {}, headers={"Idempotency-Key": "k"})
    post("POST", "/api/hooks/open", {}, headers={"Idempotency-Key": "k"})
    post("POST", "/api/hooks/open", raw=b"{")
    post("POST", "/api/hooks/open", raw=b"x", headers={"Content-Type": "text/plain"})
    post("POST", "/api/hooks/open", raw=b"[1]")
    post("GET", "/api/hooks/open")
    for number in range(5):
        post("POST", f"/api/hooks/nobody-{number}", {})
    while post("POST", "/api/hooks/open", {}).status != 429:
        pass

    samples = parsed(api.get("/metrics").body)
    counted = {
        (dict(labels)["task"], dict(labels)["verdict"]): count
        for (name, labels), count in samples.items()
        if name == "optio_deliveries_total"
    }

    assert counted.pop(("open", "accepted")) >= 2
    assert counted == {
        ("job", "unsigned"): 1,
        ("open", "repeated"): 1,
        ("open", "unreadable"): 1,
        ("open", "unsupported"): 1,
        ("open", "invalid"): 1,
        ("open", "method"): 1,
        ("open", "rate"): 1,
        ("", "unknown"): 5,
    }
    assert samples["optio_rate_refusals_total", (("task", "open"),)] == 1
    assert samples["optio_runs_accepted_total", (("task", "open"), ("trigger", "webhook"))] >= 2


def test_a_server_shows_what_waits_and_what_it_serves(api: Api) -> None:
    for _ in range(3):
        api.post("/api/tasks/job/runs")
    writer = api.started("open")
    cancelled = api.post("/api/tasks/open/runs").json["runId"]
    api.post(f"/api/workflow-runs/{cancelled}/cancel")

    samples = parsed(api.get("/metrics").body)

    assert samples["optio_queue_runs", (("state", "queued"), ("task", "job"))] == 3
    assert samples["optio_queue_runs", (("state", "running"), ("task", "job"))] == 0
    assert samples["optio_queue_runs", (("state", "running"), ("task", "open"))] == 1
    assert 0 < samples["optio_queue_oldest_seconds", (("task", "job"),)] < 60
    assert samples["optio_tasks", ()] == 2
    assert [dict(labels)["digest"] for name, labels in samples if name == "optio_generation_info"] == [
        api.live.current.registry.digest
    ]
    assert samples["optio_part_up", (("part", "store"),)] == 1
    assert samples["optio_degraded", ()] == 0
    withdrawn = (("reason", "cancelled"), ("state", "cancelled"), ("task", "open"), ("trigger", "manual"))
    assert samples["optio_runs_total", withdrawn] == 1
    assert not any(writer.id in str(labels) for _, labels in samples)


def test_a_server_shows_when_a_schedule_last_did_well_and_badly_also_after_its_worker_has_gone(api: Api) -> None:
    api.serve_task(JOB.replace("name: Job", "name: Nightly") + SCHEDULE, "nightly")
    ends: dict[str, float] = {}
    for task_id, outcome in (("nightly", BAD), ("nightly", OK), ("job", OK)):
        ended = end(api.services.store, api.started(task_id).claim, outcome)
        assert ended.ended_at is not None
        ends.setdefault(ended.state.value, ended.ended_at.timestamp())

    samples = parsed(api.get("/metrics").body)

    found = {labels: at for (name, labels), at in samples.items() if name == "optio_schedule_last_end_timestamp_seconds"}
    assert found == {(("state", state), ("task", "nightly")): pytest.approx(at, abs=0.001) for state, at in ends.items()}


def test_metrics_are_for_those_who_may_look(tmp_path: Path) -> None:
    closed = Api(tmp_path, dev_token=None)
    try:
        assert closed.get("/metrics").status == 401
        answer = closed.get("/metrics", Authorization=f"Bearer {closed.token('viewer')}")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        wanted = {"Authorization": f"Bearer {closed.token('viewer')}", "Accept": "application/openmetrics-text; version=1.0.0"}
        opened = closed.request("GET", "/metrics", headers=wanted)
        assert opened.headers["content-type"].startswith("application/openmetrics-text")
        assert opened.body.endswith(b"# EOF\n")
    finally:
        closed.close()


def test_a_store_that_is_away_is_counted_and_hides_nothing_else(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise StoreUnavailable("away")

    engine = api.services.store._engine._engine  # type: ignore[attr-defined]
    monkeypatch.setattr(engine, "peek", away)

    refused = api.get("/api/runs")
    samples = parsed(api.get("/metrics").body)

    assert refused.status == 503
    assert samples["optio_part_up", (("part", "store"),)] == 0
    assert samples["optio_failures_total", (("part", "store"),)] == 1
    assert samples["optio_tasks", ()] == 2


def test_without_the_library_all_works_and_the_metrics_say_what_to_install(tmp_path: Path) -> None:
    """A process that cannot import it, as one that was installed without the extra."""
    (tmp_path / "prometheus_client.py").write_text("raise ImportError('not installed')\n")
    dev = Dev(tmp_path, environ={"PYTHONPATH": f"{tmp_path}:{ROOT}", "OPTIO_METRICS_PORT": str(free_port())})
    dev.write("job.yaml", JOB)
    dev.start()
    try:
        run_id = dev.post("/api/tasks/job/runs").json["runId"]
        assert dev.until_ended(run_id)["state"] == "completed"
        answer, other = dev.get("/metrics"), ask(int(dev.environ["OPTIO_METRICS_PORT"]), "/metrics")
    finally:
        dev.stop()

    assert answer.status == 404
    assert "pip install '.[metrics]'" in answer.json["detail"]
    assert (other.status, other.body) == (404, f"{MISSING}\n".encode())
    assert f"OPTIO_METRICS_PORT shows health alone: {MISSING}" in dev.output.read_text()


def test_telemetry_that_fails_is_told_once_and_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Fact] = []

    def broken(fact: Fact) -> None:
        raise RuntimeError("a bug")

    telemetry = Telemetry(broken, heard.append)
    for _ in range(3):
        telemetry.tell(Delivered("job", "accepted"))

    assert heard == [Delivered("job", "accepted")] * 3
    assert caplog.text.count("telemetry failed") == 1


def test_a_part_of_the_metrics_that_fails_leaves_the_others(services: Services) -> None:
    assert services.metrics is not None

    def broken() -> Any:
        raise RuntimeError("a bug")

    services.metrics.add(broken)

    assert value(services, "optio_build_info", version="0.1.0", python=sys.version.split()[0]) == 1


# The metrics port, and health


@pytest.fixture
def probe(tmp_path: Path) -> Iterator[tuple[Services, int]]:
    port = free_port()
    with opened(tmp_path, {"OPTIO_METRICS_PORT": str(port)}) as services:
        made = MetricsServer(services.settings)
        made.attach(services)
        made.start()
        yield services, port
        made.stop()


def test_the_metrics_port_answers_three_paths_without_a_token(probe: tuple[Services, int]) -> None:
    _, port = probe

    assert b"optio_build_info" in ask(port, "/metrics").body
    assert ask(port, "/healthz").json == {"status": "ok", "problems": []}
    assert ask(port, "/readyz").json == {"status": "ok", "problems": []}
    assert ask(port, "/healthz", "HEAD").body == b""
    assert ask(port, "/api/tasks").status == 404
    assert ask(port, "/metrics", "POST").status == 501
    # A page in a browser of this machine that got a name of its own to point here.
    assert ask(port, "/metrics", Host="attacker.example").status == 400


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/nothing"])
def test_an_answer_of_the_metrics_port_is_one_write_that_waits_for_no_acknowledgement(
    probe: tuple[Services, int], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    _, port = probe
    writes, undelayed = [], []

    class Noted(socket.socket):
        def send(self, data: Any, *flags: int) -> int:
            undelayed.append(self.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writes.append(bytes(data))
            return super().send(data, *flags)

        def sendall(self, data: Any, *flags: int) -> None:
            self.send(data, *flags)

    def accept(server: Any) -> tuple[socket.socket, Any]:
        accepted, address = server.socket.accept()
        return Noted(fileno=accepted.detach()), address

    monkeypatch.setattr("optio.processes.metrics_server._MetricsHttpServer.get_request", accept)
    answer = ask(port, path)

    assert len(writes) == 1
    assert writes[0].startswith(b"HTTP/1.0 ")
    assert writes[0].endswith(answer.body)
    assert undelayed != [0]


def test_idle_connections_keep_nobody_out_for_long(probe: tuple[Services, int], monkeypatch: pytest.MonkeyPatch) -> None:
    _, port = probe
    monkeypatch.setattr("optio.processes.metrics_server._Handler.timeout", 0.3)
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(16)]
    try:

        def answers() -> bool:
            try:
                return ask(port, "/healthz").status == 200
            except (OSError, http.client.HTTPException):
                return False

        eventually(answers, within=30, what="an answer")
    finally:
        for sock in idle:
            sock.close()


def test_the_metrics_port_listens_on_the_address_of_the_settings_only(tmp_path: Path) -> None:
    port = free_port()
    with opened(tmp_path, {"OPTIO_METRICS_PORT": str(port), "OPTIO_METRICS_HOST": "127.0.0.2"}) as services:
        made = MetricsServer(services.settings)
        made.attach(services)
        made.start()
        try:
            with socket.create_connection(("127.0.0.2", port), timeout=10), pytest.raises(ConnectionRefusedError):
                ask(port, "/healthz")
        finally:
            made.stop()


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        worker = Dev(tmp_path, command="worker", environ={"OPTIO_METRICS_PORT": str(port)})
        worker.start(ready=False)
        assert worker.process is not None
        code = worker.process.wait(60)

    assert code == 2
    assert f"cannot serve metrics on 127.0.0.1:{port}" in worker.output.read_text()
    assert "OPTIO_METRICS_PORT" in worker.output.read_text()


def test_ready_means_that_the_store_can_be_used(probe: tuple[Services, int], monkeypatch: pytest.MonkeyPatch) -> None:
    services, port = probe

    def away() -> None:
        raise StoreUnavailable("secret words of the driver")

    monkeypatch.setattr(services.store, "check", away)

    assert ask(port, "/readyz").status == 503
    assert ask(port, "/readyz").json == {"status": "unavailable", "problems": ["the store cannot be used"]}
    assert ask(port, "/healthz").status == 200


def test_a_loop_that_does_not_come_back_is_late_and_one_that_ended_is_not() -> None:
    now = [0.0]
    pulses = Liveness(lambda: now[0])
    pulses.beat("claim", 2.0)
    pulses.beat("schedule", 20.0)
    now[0] = GRACE_S + 2.1
    assert pulses.late() == ["claim"]
    pulses.end("schedule")
    pulses.beat("claim", 2.0)
    now[0] += 10
    assert pulses.late() == []


@pytest.mark.parametrize("part", ["claim", "schedule"])
def test_a_loop_that_hangs_makes_its_process_unwell(services: Services, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.telemetry.liveness.GRACE_S", 0.3)
    hang = threading.Event()
    stuck = threading.Event()

    def never(*_: Any, **__: Any) -> Any:
        stuck.set()
        hang.wait(30)
        raise StoreUnavailable("the test is over")

    monkeypatch.setattr(services.store, "adopt" if part == "claim" else "schedules", never)
    thing: Worker | Scheduler = Worker(services) if part == "claim" else Scheduler(services)
    thing.start()
    try:
        assert stuck.wait(10)
        eventually(lambda: health.alive(services).status == 503, within=30, what="the loop to be late")
        assert health.alive(services).problems == (f"the loop `{part}` does not run",)
        hang.set()
        eventually(lambda: health.alive(services).status == 200, within=30, what="the loop to turn again")
    finally:
        hang.set()
        thing.stop()
    assert health.alive(services).status == 200


@pytest.mark.parametrize("command", ["worker", "scheduler"])
def test_worker_and_scheduler_have_health_and_metrics_too(tmp_path: Path, command: str) -> None:
    port = free_port()
    part = Dev(tmp_path, command=command, environ={"OPTIO_METRICS_PORT": str(port)})
    part.start(ready=False)

    def ready() -> bool:
        try:
            return ask(port, "/readyz").status == 200
        except OSError:
            return False

    try:
        eventually(ready, within=60, what="the part to be ready")
        assert ask(port, "/healthz").json["status"] == "ok"
        if command == "worker":
            eventually(lambda: b"optio_worker_capacity 5.0" in ask(port, "/metrics").body, what="the worker's own readings")
        text = ask(port, "/metrics").body
    finally:
        assert part.stop() == 0

    assert b"optio_loops_late 0.0" in text
    assert b"process_resident_memory_bytes" in text
    assert command == "worker" or b"optio_worker_capacity" not in text


def test_a_redis_that_is_away_is_counted_for_hints_and_for_rates(tmp_path: Path) -> None:
    made = Api(tmp_path, environ={"OPTIO_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"})
    try:
        made.serve_task(OPEN, "open")
        assert made.post("/api/hooks/open", {}).status == 202

        def counted() -> bool:
            samples = parsed(made.get("/metrics").body)
            return all(samples["optio_failures_total", (("part", part),)] >= 1 for part in ("broker", "rate"))

        eventually(counted, what="failures of both")
    finally:
        made.close()
