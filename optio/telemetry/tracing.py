"""OpenTelemetry traces: the spans of a run, sent by OTLP over HTTP.

    accept -> run -> queue, attempt -> agent -> model calls through the gateway, what the agent itself traces

Spans are made when something ends, from times that the store has recorded, and their ids follow from the run's id. So they are
complete even when one worker began an attempt and another ended it. A thread of its own sends them; spans that cannot be sent
are dropped and counted. The span `agent` has OpenTelemetry's attributes of an agent's invocation, by which backends find it,
and that of a model call those of an inference. Its name is the operation and the model, such as `chat claude-sonnet-4-5`.

Source: `gen-ai-agent-spans.md` and `gen-ai-spans.md` in
https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/gen-ai
"""

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from optio.model import trace
from optio.model.model_call import CallOutcome, ModelCall
from optio.model.run import Attempt, Run, RunState
from optio.model.runtimes import declaration_of
from optio.model.usage import Usage
from optio.telemetry.base import Fact, Finished, Gauge, Queued, Withdrawn
from optio.version import __version__

log = logging.getLogger(__name__)
Attributes = dict[str, str | int | float]
# The time for spans that wait to be sent when the process ends.
_FLUSH_TIMEOUT_S = 2.0
# The most spans that wait to be sent; the library silently drops further ones.
_MAX_WAITING_SPANS = 2048
# The library logs a failure with every batch; `_ReportingExporter` logs it once.
logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)


class Tracing:
    """A telemetry listener that turns facts into spans. `part` names this process in them: server, worker or scheduler."""

    def __init__(self, part: str, exporter: SpanExporter | None = None) -> None:
        self._exporter = _ReportingExporter(exporter or OTLPSpanExporter())
        self._ids = _FixedIds()
        resource = {"service.version": __version__, "service.instance.id": f"{os.uname().nodename}:{os.getpid()}"}
        if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
            resource["service.name"] = f"optio-{part}"
        self._provider = TracerProvider(
            resource=Resource.create(resource),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter, max_queue_size=_MAX_WAITING_SPANS))
        self._tracer = self._provider.get_tracer("optio", __version__)

        self._span_count = 0
        self._drop_count = 0

    @property
    def lost(self) -> int:
        """Return the number of spans that could not be sent or made."""
        return self._exporter.lost + self._drop_count

    def readings(self) -> Iterator[Gauge]:
        """Yield the number of lost spans for `/metrics`."""
        yield Gauge("spans_lost", "spans that could not be sent", self.lost, counts=True)

    def traceparent(self, run: Run) -> str | None:
        """Return the `traceparent` for the environment of the run's agent, so that its spans become children of the agent's
        span."""
        return self._spans_of(run.id, run.traceparent).place(f"agent {run.attempt}").header

    def __call__(self, fact: Fact) -> None:
        """Make the spans that end with this fact."""
        match fact:
            case Queued(run_id, task_id, trigger, began, traceparent):
                labels = {"optio.run.id": run_id, "optio.task.id": task_id, "optio.run.trigger": trigger}
                spans = self._spans_of(run_id, traceparent)
                self._emit(spans, "accept", None, began, datetime.now(UTC), labels, kind=SpanKind.PRODUCER)
            case Finished():
                self._attempt(fact)
            case Withdrawn(run):
                self._run(run)

    def _attempt(self, fact: Finished) -> None:
        run, claimed_run = fact.run, fact.claimed
        attempt = fact.attempt()
        if attempt is None or attempt.ended_at is None:
            return
        number = attempt.number
        spans = self._spans_of(run.id, run.traceparent)
        labels = {**_labels(run), "optio.attempt": number}
        due = min(max(claimed_run.queued_at, claimed_run.not_before), attempt.started_at)
        self._emit(spans, f"queue {number}", "run", due, attempt.started_at, labels)
        usage: Attributes = {
            "optio.processes.worker": attempt.worker,
            "optio.runtime": fact.runtime,
            "optio.reason": attempt.reason or "",
            "optio.turns": attempt.meter.turns or 0,
            "optio.tokens": attempt.meter.usage.total,
        }
        if attempt.meter.cost is not None:
            usage["optio.cost_usd"] = float(attempt.meter.cost)
        if attempt.exit_code is not None:
            usage["process.exit.code"] = attempt.exit_code
        failed = None if attempt.ok else f"{attempt.reason}: {attempt.message}"
        self._emit(spans, f"attempt {number}", "run", attempt.started_at, attempt.ended_at, {**labels, **usage}, failed=failed)
        if attempt.agent_started_at is not None:
            started_at = min(attempt.agent_started_at, attempt.ended_at)
            self._emit(
                spans,
                f"agent {number}",
                f"attempt {number}",
                started_at,
                attempt.ended_at,
                {**labels, **usage, **_gen_ai(fact, attempt)},
                failed=failed,
            )
        if run.state is not RunState.QUEUED:
            self._run(run)
        self._calls(fact, spans, labels, f"agent {number}" if attempt.agent_started_at is not None else f"attempt {number}")

    def _calls(self, fact: Finished, spans: "_RunSpans", labels: Attributes, parent: str) -> None:
        if not spans.are_sent:
            return
        for call in fact.calls():
            attributes = _inference(fact, call)
            self._emit(
                spans,
                f"call {call.id}",
                parent,
                call.at,
                call.at + timedelta(seconds=call.duration_s or 0.0),
                {**labels, **attributes},
                kind=SpanKind.CLIENT,
                failed=None if "error.type" not in attributes else f"{attributes['error.type']}: {call.message or ''}",
                title=f"{attributes['gen_ai.operation.name']} {call.requested_model}",
            )

    def _run(self, run: Run) -> None:
        if run.ended_at is None:
            return
        failed = f"{run.reason}: {run.message}" if run.state is RunState.FAILED else None
        labels: Attributes = {
            **_labels(run),
            "optio.run.state": run.state.value,
            "optio.reason": run.reason,
            "optio.attempts": run.attempt,
            "optio.retries": run.retries + run.infrastructure_retries,
            "optio.tokens": run.meter.usage.total,
        }
        if run.meter.cost is not None:
            labels["optio.cost_usd"] = float(run.meter.cost)
        spans = self._spans_of(run.id, run.traceparent)
        self._emit(spans, "run", "accept", run.created_at, run.ended_at, labels, failed=failed)

    def _spans_of(self, run_id: str, traceparent: str | None) -> "_RunSpans":
        """Return the spans of a run. They are sent as the caller who began its trace decided, else by OTEL_TRACES_SAMPLER, with
        the same answer in every process."""
        given = trace.parse(traceparent)
        trace_id = given.trace_id if given else trace.trace_id(run_id)
        decision = self._provider.sampler.should_sample(_parent_context(given), int(trace_id, 16), "run").decision
        return _RunSpans(run_id, trace_id, given, decision is Decision.RECORD_AND_SAMPLE)

    def _emit(
        self,
        spans: "_RunSpans",
        name: str,
        parent: str | None,
        began: datetime,
        ended: datetime,
        attributes: Mapping[str, str | int | float],
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        failed: str | None = None,
        title: str | None = None,
    ) -> None:
        """Make one span that has ended already, below the run's span `parent`, or below the caller's. Spans of a run are told
        apart by `name`, and shown by its first word unless they have a `title`."""
        if not spans.are_sent:
            return
        if self._span_count - self._exporter.taken >= _MAX_WAITING_SPANS:
            self._drop_count += 1
            return
        self._span_count += 1
        place = spans.place(name)
        self._ids.next(int(place.trace_id, 16), int(place.span_id, 16))
        span = self._tracer.start_span(
            title or name.partition(" ")[0],
            context=_parent_context(spans.caller if parent is None else spans.place(parent)),
            kind=kind,
            attributes=attributes,
            start_time=_nanoseconds(began),
        )
        if failed is not None:
            span.set_status(Status(StatusCode.ERROR, failed[:500]))
        span.end(_nanoseconds(max(began, ended)))

    def close(self) -> None:
        """Send the spans that wait, for two seconds at most, and stop."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(_FLUSH_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class _RunSpans:
    """The spans of one run, which refer to each other by name. `caller` is the span of the request that began it."""

    run_id: str
    trace_id: str
    caller: trace.TraceContext | None
    are_sent: bool

    def place(self, name: str) -> trace.TraceContext:
        """Return the ids of the span with this name."""
        return trace.TraceContext(self.trace_id, trace.span_id(self.run_id, name), self.are_sent)


class _FixedIds(IdGenerator):
    """Gives the next span of this thread the ids that were set by `next`, instead of random ones."""

    def __init__(self) -> None:
        self._local = threading.local()

    def next(self, trace_id: int, span_id: int) -> None:
        """Set the ids of the next span that this thread makes."""
        self._local.trace_id, self._local.span_id = trace_id, span_id

    def generate_span_id(self) -> int:
        span_id: int = self._local.span_id
        return span_id

    def generate_trace_id(self) -> int:
        trace_id: int = self._local.trace_id
        return trace_id


class _ReportingExporter(SpanExporter):
    """Wraps the exporter; logs once that spans are lost, and once that they no longer are."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._well = True
        self.lost = 0
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = self._exporter.export(spans)
        well = result is SpanExportResult.SUCCESS
        if not well:
            self.lost += len(spans)
        if well != self._well:
            log.warning("traces are sent again" if well else "traces cannot be sent to the collector, they are dropped")
        self._well = well
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def provider_of(runtime: str, model: str) -> str | None:
    """Return the name of the provider of a model; None where the runtime speaks to many and the model names none."""
    agent = declaration_of(runtime)
    if agent is not None and agent.service is not None:
        return agent.service.provider
    provider, slash, _ = model.partition("/")
    return {"google": "gcp.gemini"}.get(provider, provider) if slash else None


def _gen_ai(fact: Finished, attempt: Attempt) -> Attributes:
    """Return the attributes of an invocation of an agent: none for a program that used no model."""
    usage, provider = attempt.meter.usage, provider_of(fact.runtime, fact.model)
    attributes: Attributes = {} if attempt.ok else {"error.type": attempt.reason or "_OTHER"}
    if provider is None and not usage.total:
        return attributes
    attributes |= {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": fact.run.task_id, **_token_counts(usage)}
    model_attributes = {"gen_ai.provider.name": provider, "gen_ai.request.model": fact.model}
    return attributes | {name: value for name, value in model_attributes.items() if value}


def _inference(fact: Finished, call: ModelCall) -> Attributes:
    """Return the attributes of a call of a model."""
    attributes: Mapping[str, str | int | float | None] = {
        "gen_ai.operation.name": "generate_content" if call.protocol == "Gemini" else "chat",
        "gen_ai.provider.name": provider_of(fact.runtime, fact.model),
        "gen_ai.request.model": call.requested_model,
        "gen_ai.response.model": call.model,
        "gen_ai.response.time_to_first_chunk": call.first_byte_s,
        "http.response.status_code": call.status,
        "optio.call": call.number,
        "optio.call.outcome": call.outcome.value,
        "optio.cost_usd": None if call.cost is None else float(call.cost),
        "error.type": None if call.outcome is CallOutcome.ANSWERED else call.reason or _error_type(call),
    }
    tokens = _token_counts(call.usage) if call.usage.total else {}
    return tokens | {name: value for name, value in attributes.items() if value is not None}


def _error_type(call: ModelCall) -> str:
    return str(call.status) if call.outcome is CallOutcome.FAILED and call.status else call.outcome.value


def _token_counts(usage: Usage) -> Attributes:
    tokens = {
        # The input counts what was read from a cache and written to it, too.
        "input_tokens": usage.fresh + usage.cached + usage.cache_write,
        "output_tokens": usage.output,
        "cache_read.input_tokens": usage.cached,
        "cache_creation.input_tokens": usage.cache_write,
        "reasoning.output_tokens": usage.reasoning,
    }
    return {f"gen_ai.usage.{name}": count for name, count in tokens.items()}


def _labels(run: Run) -> Attributes:
    return {"optio.run.id": run.id, "optio.task.id": run.task_id, "optio.run.trigger": run.trigger}


def _parent_context(parent: trace.TraceContext | None) -> Context:
    if parent is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
    ids = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return otel.set_span_in_context(NonRecordingSpan(ids), Context())


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000
