"""Model calls in traces: a span for each, below that of its agent, with the names of OpenTelemetry's conventions."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind

from optio.runs.execute import Execution
from optio.telemetry.base import Telemetry
from optio.telemetry.tracing import Tracing
from tests.gateway.support import gateway
from tests.runs.support import accept, claim, opened
from tests.runtimes.real_agents import endpoints_of, model_server, task

MODEL = "claude-sonnet-4-5-stub-plain"
# Calls its model as often as its name says, and ends without a result.
AGENT = f"""#!{sys.executable}
import json, os, urllib.error, urllib.request
for model in {[MODEL, MODEL, "claude-sonnet-4-5-stub-error-529"]!r}:
    body = {{"model": model, "max_tokens": 100, "stream": True, "messages": [{{"role": "user", "content": "hello"}}]}}
    headers = {{"x-api-key": os.environ["ANTHROPIC_API_KEY"], "content-type": "application/json"}}
    url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
    try:
        urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)).read()
    except urllib.error.HTTPError:
        pass
"""


class Kept(SpanExporter):
    """An exporter that keeps what comes."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> list[ReadableSpan]:
    directory: Path = tmp_path_factory.mktemp("spans")
    directory.chmod(0o755)
    program = directory / "agent"
    program.write_text(AGENT)
    program.chmod(0o755)
    exporter = Kept()
    tracing = Tracing("worker", exporter)
    with model_server() as model:
        environ = endpoints_of(model.url) | {"OPTIO_PROGRAM_CLAUDE_CODE": str(program)}
        with opened(directory, environ) as made, gateway(made) as led:
            services = replace(led, telemetry=Telemetry(tracing))
            run_id = accept(services, task("claude-code", MODEL, "maxRetries: 0\n"))
            Execution(claim(services, run_id), services.parts(), "tester")()
    tracing.close()
    return exporter.spans


def test_each_call_is_a_span_below_that_of_its_agent(spans: list[ReadableSpan]) -> None:
    (agent,) = (span for span in spans if span.name == "agent")
    calls = [span for span in spans if span.attributes and span.attributes.get("gen_ai.operation.name") == "chat"]

    assert [span.name for span in calls] == [f"chat {MODEL}"] * 2 + ["chat claude-sonnet-4-5-stub-error-529"]
    assert agent.context is not None
    assert {span.parent and span.parent.span_id for span in calls} == {agent.context.span_id}
    assert {span.kind for span in calls} == {SpanKind.CLIENT}
    assert len({span.context and span.context.span_id for span in calls}) == 3
    assert all(agent.start_time <= span.start_time <= span.end_time for span in calls)  # type: ignore[operator]


def test_a_call_has_the_attributes_of_an_inference(spans: list[ReadableSpan]) -> None:
    answered, _, failed = (
        dict(span.attributes or {}) for span in spans if (span.attributes or {}).get("gen_ai.operation.name") == "chat"
    )

    assert 0 < answered.pop("gen_ai.response.time_to_first_chunk") < 60  # type: ignore[operator]
    assert {name: value for name, value in answered.items() if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": MODEL,
        "gen_ai.response.model": MODEL,
        "gen_ai.usage.input_tokens": 1500,
        "gen_ai.usage.output_tokens": 40,
        "gen_ai.usage.cache_read.input_tokens": 300,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 0,
    }
    assert (answered["optio.cost_usd"], answered["optio.call.outcome"]) == (0.00429, "answered")
    assert "error.type" not in answered
    assert (failed["error.type"], failed["http.response.status_code"]) == ("529", 529)
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    assert {name for name in answered if name.startswith("gen_ai.")} <= known
