"""Traces, as a collector gets them: a real one over HTTP that decodes what comes, one that hangs, and none at all."""

import gzip
import http.server
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from optio.model import trace
from optio.telemetry import tracing
from optio.telemetry.base import Queued, are_traces_enabled
from optio.telemetry.tracing import Tracing
from tests.pages import page, rows
from tests.stub_model import StubModel
from tests.support import CLAUDE, COMMAND_TASK, ROOT, Dev, eventually, free_port

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OTHER, THIRD = "1" * 32, "2" * 32
GIVEN = f"00-{TRACE}-{PARENT}-01"
# Tells its own place in the trace, waits for a file, and spends a little.
TELLS = """
import json, os, pathlib, time
print(os.environ.get("TRACEPARENT", "none"), flush=True)
with open(os.environ["OPTIO_RESULT_FILE"], "a") as file:
    print(json.dumps({"type": "usage", "model": "m", "input": 7, "costUsd": "0.25"}), file=file)
gate = pathlib.Path(%r)
while gate.parent.name != "none" and not gate.exists():
    time.sleep(0.02)
"""


class Collector:
    """OTLP over HTTP; `spans` are those that came, as (service, span, attributes)."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.spans: list[tuple[str, Any, dict[str, Any]]] = []
        self.requests = 0
        self.answered = False
        self._released = threading.Event()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.requests += 1
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if hangs:
                    collector._released.wait(300)
                collector.answered = True
                if self.headers.get("Content-Encoding") == "gzip":
                    data = gzip.decompress(data)
                collector._take(self.path, self.headers["Content-Type"], data)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _take(self, path: str, media_type: str, data: bytes) -> None:
        assert (path, media_type) == ("/v1/traces", "application/x-protobuf")
        request = ExportTraceServiceRequest.FromString(data)
        for of_resource in request.resource_spans:
            service = _attributes(of_resource.resource.attributes)["service.name"]
            for of_scope in of_resource.scope_spans:
                self.spans += [(service, span, _attributes(span.attributes)) for span in of_scope.spans]

    def of(self, trace_id: str) -> dict[str, tuple[str, Any, dict[str, Any]]]:
        """The spans of a trace, by name and attempt."""
        found = {}
        for service, span, attributes in list(self.spans):
            if span.trace_id.hex() == trace_id:
                number = attributes.get("optio.attempt")
                name = span.name if number is None else f"{span.name} {number}"
                if span.name.startswith("chat "):  # an attempt has many
                    name += f" #{sum(each.startswith(name) for each in found)}"
                assert name not in found, f"{name} came twice"
                found[name] = (service, span, attributes)
        return found

    def until(self, trace_id: str, *names: str) -> dict[str, tuple[str, Any, dict[str, Any]]]:
        """The trace, once all of these have come."""
        return eventually(lambda: found if (found := self.of(trace_id)).keys() >= set(names) else None, what=f"spans {names}")  # type: ignore[return-value]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def environment(url: str, **more: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "50", "OPTIO_LEASE": "1s", **more}


def task(gate: Path, extra: str = "") -> str:
    import json

    command = json.dumps(["python3", "-c", TELLS % str(gate)])
    hook = "triggers: [{type: webhook, config: {path: traced, unsigned: true}}]\n"
    return COMMAND_TASK.format(name="Traced", command=command) + hook + extra


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Dev]:
    """A server whose spans are collected; its task `traced` ends at once, `failing` fails."""
    directory = tmp_path_factory.mktemp("traced")
    (directory / "gate").touch()
    dev = Dev(directory, environ=environment(collector.url))
    dev.write("traced.yaml", task(directory / "gate"))
    dev.write("failing.yaml", COMMAND_TASK.format(name="Failing", command='"exit 3"') + "maxRetries: 0\n")
    dev.start()
    yield dev
    dev.stop()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "gate"
    yield made
    made.touch()


def test_a_webhooks_trace_goes_on_through_the_run_to_the_agent(traced: Dev, collector: Collector) -> None:
    run_id = traced.post("/api/hooks/traced", {}, traceparent=GIVEN).json["runId"]
    run = traced.until_ended(run_id)
    spans = collector.until(TRACE, "accept", "run", "queue 1", "attempt 1", "agent 1")

    ids = {name: span.span_id.hex() for name, (_, span, _) in spans.items()}
    parents = {name: span.parent_span_id.hex() for name, (_, span, _) in spans.items()}
    assert parents == {
        "accept": PARENT,
        "run": ids["accept"],
        "queue 1": ids["run"],
        "attempt 1": ids["run"],
        "agent 1": ids["attempt 1"],
    }
    # What the agent was told is the span that it gets.
    assert run["output"] == f"00-{TRACE}-{ids['agent 1']}-01"
    _, whole, attributes = spans["run"]
    assert attributes["optio.run.id"] == run_id
    assert attributes["optio.task.id"] == "traced"
    assert (attributes["optio.reason"], attributes["optio.retries"], attributes["optio.cost_usd"]) == ("ok", 0, 0.25)
    _, attempt, used = spans["attempt 1"]
    assert (used["optio.run.id"], used["optio.runtime"], used["process.exit.code"]) == (run_id, "command", 0)
    assert spans["queue 1"][1].end_time_unix_nano == attempt.start_time_unix_nano
    assert whole.start_time_unix_nano <= attempt.start_time_unix_nano <= attempt.end_time_unix_nano <= whole.end_time_unix_nano


def test_a_run_without_a_trace_gets_one_and_failures_show(traced: Dev, collector: Collector) -> None:
    run_id = traced.post("/api/tasks/failing/runs").json["runId"]
    traced.until_ended(run_id)
    spans = collector.until(trace.trace_id(run_id), "accept", "run", "queue 1", "attempt 1", "agent 1")

    assert spans["accept"][1].parent_span_id == b""
    for name in ("run", "attempt 1", "agent 1"):
        assert spans[name][1].status.code == 2, name
    assert spans["run"][1].status.message.startswith("exit_code: ")


AGENT = """\
name: Agent
agentRuntime: claude-code
model: claude-sonnet-4-5-stub-tool
promptTemplate: Look
maxRetries: 0
environment: {secrets: [ANTHROPIC_API_KEY]}
"""


def test_the_span_of_an_agent_has_the_attributes_of_the_conventions(
    tmp_path: Path, collector: Collector, scripted_model: StubModel
) -> None:
    settings = {
        "OPTIO_ANTHROPIC_BASE_URL": scripted_model.url,
        "OPTIO_PROGRAM_CLAUDE_CODE": str(CLAUDE),
        "OPTIO_SANDBOX": "namespaces",
        "OPTIO_SECRET_ANTHROPIC_API_KEY": "sk-secret",
    }
    dev = Dev(tmp_path, environ=environment(collector.url, **settings))
    dev.write("agent.yaml", AGENT)
    dev.start()
    try:
        run_id = dev.post("/api/tasks/agent/runs").json["runId"]
        run = dev.until_ended(run_id)
        _, span, attributes = collector.until(trace.trace_id(run_id), "run", "agent 1")["agent 1"]
    finally:
        dev.stop()
    usage = run["usage"]

    assert run["state"] == "completed"
    assert {name: value for name, value in attributes.items() if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "agent",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5-stub-tool",
        "gen_ai.usage.input_tokens": usage["fresh"] + usage["cached"] + usage["cacheWrite"],
        "gen_ai.usage.output_tokens": usage["output"],
        "gen_ai.usage.cache_read.input_tokens": usage["cached"],
        "gen_ai.usage.cache_creation.input_tokens": usage["cacheWrite"],
        "gen_ai.usage.reasoning.output_tokens": usage["reasoning"],
    }
    assert attributes["gen_ai.usage.input_tokens"] > 0
    assert "error.type" not in attributes
    assert "Look" not in str(span)


def test_a_program_has_them_as_far_as_it_reports_tokens(traced: Dev, collector: Collector) -> None:
    found = {}
    for task_id in ("traced", "failing"):
        run_id = traced.post(f"/api/tasks/{task_id}/runs").json["runId"]
        traced.until_ended(run_id)
        found[task_id] = collector.until(trace.trace_id(run_id), "run", "agent 1")["agent 1"][2]

    assert (found["traced"]["gen_ai.operation.name"], found["traced"]["gen_ai.usage.input_tokens"]) == ("invoke_agent", 7)
    assert not {"gen_ai.provider.name", "gen_ai.request.model", "error.type"} & set(found["traced"])
    assert found["failing"]["error.type"] == "exit_code"
    assert not [name for name in found["failing"] if name.startswith("gen_ai.")]


@pytest.mark.parametrize(
    ("runtime", "model", "provider"),
    [
        ("claude-code", "sonnet", "anthropic"),
        ("codex", "", "openai"),
        ("opencode", "anthropic/claude-sonnet-4-5", "anthropic"),
        ("opencode", "google/gemini-3-pro", "gcp.gemini"),
        ("opencode", "", None),
        ("copilot", "claude-sonnet-4-5", None),
        ("command", "", None),
    ],
)
def test_a_provider_is_named_as_the_conventions_name_it(runtime: str, model: str, provider: str | None) -> None:
    assert tracing.provider_of(runtime, model) == provider
    assert provider is None or provider in {each.value for each in gen_ai_attributes.GenAiProviderNameValues}


def test_the_page_names_each_attribute_as_the_conventions_do() -> None:
    table = {row[0].strip("`") for row in rows(page("operating/metrics.md")) if len(row) == 2} - {"attribute"}
    source = Path(tracing.__file__).read_text()
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")} | {"error.type"}

    assert table <= known
    assert len(table) == 10
    for name in table:
        assert name.removeprefix("gen_ai.usage.") in source, name


def test_an_attempt_that_changes_its_worker_is_one_span(tmp_path: Path, collector: Collector, gate: Path) -> None:
    """Server, workers: real processes that share a database; the first worker is killed under its run."""
    environ = environment(collector.url)
    server = Dev(tmp_path, environ=environ, command="server")
    server.environ["OPTIO_TOKEN"] = server.cli("token", "create", "--role", "admin").stdout.strip()
    server.write("traced.yaml", task(gate))
    server.start()
    workers = []
    for number in range(2):
        workers.append(Dev(tmp_path, environ=environ, command="worker"))
        workers[-1].output = tmp_path / f"worker-{number}.out"
    who = {"Authorization": f"Bearer {server.environ['OPTIO_TOKEN']}"}

    def look(run_id: str) -> dict[str, Any]:
        return server.get(f"/api/workflow-runs/{run_id}", **who).json

    try:
        workers[0].start(ready=False)
        run_id = server.post("/api/hooks/traced", {}, traceparent=f"00-{THIRD}-{PARENT}-01").json["runId"]
        said = eventually(
            lambda: [
                entry
                for entry in server.get(f"/api/workflow-runs/{run_id}/logs", **who).json["items"]
                if entry["kind"] == "output"
            ],
            what="the agent's first line",
        )
        workers[0].kill()
        workers[1].start(ready=False)
        logs = f"/api/workflow-runs/{run_id}/logs"
        eventually(lambda: "found again" in server.get(logs, **who).body.decode(), what="the other worker")
        gate.touch()
        eventually(lambda: look(run_id)["state"] == "completed", what="the end")
        spans = collector.until(THIRD, "accept", "run", "queue 1", "attempt 1", "agent 1")
        services = {name: service for name, (service, _, _) in spans.items()}
    finally:
        for part in (*workers, server):
            part.stop()

    assert any(entry["text"] == f"00-{THIRD}-{spans['agent 1'][1].span_id.hex()}-01" for entry in said)
    assert services == {**dict.fromkeys(spans, "optio-worker"), "accept": "optio-server"}


def test_a_trace_that_is_not_kept_is_not_sent_and_the_agent_is_told(traced: Dev, collector: Collector) -> None:
    silent = traced.post("/api/hooks/traced", {}, traceparent=f"00-{OTHER}-{PARENT}-00").json["runId"]
    output = traced.until_ended(silent)["output"]
    told = traced.post("/api/hooks/traced", {}).json["runId"]
    traced.until_ended(told)
    collector.until(trace.trace_id(told), "run")

    assert collector.of(OTHER) == {}
    assert output == f"00-{OTHER}-{trace.span_id(silent, 'agent 1')}-00"


def test_without_traces_the_agent_gets_what_its_run_came_with(tmp_path: Path, gate: Path) -> None:
    gate.touch()
    dev = Dev(tmp_path)
    dev.write("traced.yaml", task(gate))
    dev.start()
    try:
        with_one = dev.post("/api/hooks/traced", {}, traceparent=GIVEN).json["runId"]
        without = dev.post("/api/hooks/traced", {}, traceparent="nonsense \xe9").json["runId"]
        outputs = [dev.until_ended(run_id)["output"] for run_id in (with_one, without)]
    finally:
        dev.stop()

    assert outputs == [GIVEN, "none"]


def test_a_collector_that_hangs_delays_neither_a_run_nor_the_end(tmp_path: Path) -> None:
    with Collector(hangs=True) as frozen:
        dev = Dev(tmp_path, environ=environment(frozen.url, OTEL_EXPORTER_OTLP_TIMEOUT="300"))
        dev.write("job.yaml", COMMAND_TASK.format(name="Job", command='"true"'))
        dev.start()
        try:
            dev.until_ended(dev.post("/api/tasks/job/runs").json["runId"])
            eventually(lambda: frozen.requests, what="spans that wait for their answer")
            for _ in range(10):
                dev.until_ended(dev.post("/api/tasks/job/runs").json["runId"])
            # All have ended, and so does the process, while that one request still waits.
            assert frozen.requests == 1
        finally:
            code = dev.stop(within=40)
        assert not frozen.answered

    assert code == 0


def test_a_collector_that_is_away_is_told_once(tmp_path: Path) -> None:
    dev = Dev(tmp_path, environ=environment(f"http://127.0.0.1:{free_port()}", OTEL_EXPORTER_OTLP_TIMEOUT="0.2"))
    dev.write("job.yaml", COMMAND_TASK.format(name="Job", command='"true"'))
    dev.start()
    try:

        def lost() -> float:
            """Spans, so far."""
            lines = dev.get("/metrics").body.decode().splitlines()
            return next((float(line.split()[1]) for line in lines if line.startswith("optio_spans_lost_total ")), 0.0)

        for count in (5, 10, 15):
            dev.until_ended(dev.post("/api/tasks/job/runs").json["runId"])
            eventually(partial(lambda least: lost() >= least, count), what="spans that are lost")
    finally:
        dev.stop()

    assert dev.output.read_text().count("traces cannot be sent") == 1
    assert "Traceback" not in dev.output.read_text()


def test_without_the_library_it_is_told_and_all_else_works(tmp_path: Path) -> None:
    package = tmp_path / "opentelemetry"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('not installed')\n")
    dev = Dev(tmp_path, environ={**environment("http://127.0.0.1:9"), "PYTHONPATH": f"{tmp_path}:{ROOT}"})
    dev.write("job.yaml", COMMAND_TASK.format(name="Job", command='"true"'))
    dev.start()
    try:
        assert dev.until_ended(dev.post("/api/tasks/job/runs").json["runId"])["state"] == "completed"
    finally:
        dev.stop()

    assert "pip install '.[tracing]'" in dev.output.read_text()


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
    ],
)
def test_traces_are_asked_for_by_the_standards_own_variables(environ: dict[str, str], wanted: bool) -> None:
    assert are_traces_enabled(environ) is wanted


def test_a_way_of_sending_that_is_not_spoken_is_told() -> None:
    with pytest.raises(ValueError, match="asks for grpc"):
        are_traces_enabled({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


class _Stuck(SpanExporter):
    """An exporter that takes one batch and waits."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.released.wait(30)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.released.set()


def test_spans_that_cannot_be_sent_do_not_fill_the_memory() -> None:
    exporter = _Stuck()
    tracing = Tracing("test", exporter)
    try:
        for number in range(6000):
            tracing(Queued(f"run-{number}", "job", "manual", datetime.now(UTC)))

        assert 2500 < tracing.lost < 6000
    finally:
        exporter.released.set()
        tracing.close()
