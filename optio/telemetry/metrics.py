"""Prometheus metrics: facts as counters and histograms, and readings that are taken at each scrape.

Labels stay few: a task's id, never a run's; a webhook's task, never its path, which strangers choose.
"""

import logging
import platform
import threading
from collections.abc import Iterable, Iterator
from datetime import timedelta

import prometheus_client
from prometheus_client import Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from optio.model.run import Run, RunState
from optio.telemetry import logs
from optio.telemetry.base import (
    Adopted,
    Claimed,
    Delivered,
    Fact,
    Finished,
    Fired,
    Gauge,
    GivenBack,
    ModelCallRefused,
    ModelCallSettled,
    PartFailed,
    Pruned,
    Queued,
    Source,
    Started,
    Withdrawn,
)
from optio.version import __version__

log = logging.getLogger(__name__)
# Programs choose their own failure reasons: after this many different ones, further reasons count as `other`.
MAX_REASONS = 100
_WAIT_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400)
_START_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_RUN_BUCKETS_S = (0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
_LATE_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600)


class Metrics:
    """The metrics of one process. It listens to telemetry, and `/metrics` shows it."""

    def __init__(self) -> None:
        # Without the `_created` lines, which triple the output.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self._sources = _Sources()
        self._reasons: set[str] = set()
        self._lock = threading.Lock()

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"optio_{name}", words, labels, registry=registry)

        def histogram(name: str, words: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"optio_{name}", words, labels, buckets=buckets, registry=registry)

        self._deliveries = counter("deliveries", "webhook requests that were answered", "task", "verdict")
        self._refusals = counter("rate_refusals", "webhook requests beyond the rate", "task")
        self._accepted = counter("runs_accepted", "runs that were queued", "task", "trigger")
        self._runs = counter("runs", "runs that ended", "task", "trigger", "state", "reason")
        self._attempts = counter("attempts", "attempts that ended", "task", "runtime", "outcome")
        self._retries = counter("retries", "attempts that are followed by another", "task", "kind")
        self._given_back = counter("no_room", "claimed runs that found no room or no secrets, and wait again", "task", "reason")
        self._wait = histogram("queue_wait_seconds", "from due to claimed", _WAIT_BUCKETS_S, "task")
        self._start = histogram("start_latency_seconds", "from claimed to the agent's process", _START_BUCKETS_S, "runtime")
        self._starts = counter("starts", "agents that started: as a process, or in a cold or warm pod", "task", "how")
        self._duration = histogram("run_duration_seconds", "from the first start to the end", _RUN_BUCKETS_S, "task", "state")
        self._cost = counter("cost_usd", "US dollars that agents reported or that prices give", "task", "runtime")
        self._tokens = counter("tokens", "tokens that agents used", "task", "runtime", "kind")
        self._slots = counter("slots", "slots of schedules, by verdict", "task", "verdict")
        self._lateness = histogram("slot_lateness_seconds", "from the slot to the commit of its run", _LATE_BUCKETS_S)
        self._adopted = counter("leases_adopted", "attempts that went on under another worker", "task")
        self._repairs = counter("sweep_repairs", "runs that no hint announced and a sweep found", "task")
        self._failures = counter("failures", "failed uses of a part: store, broker, rate", "part")
        self._calls = counter("model_calls", "model calls that came to the gateway", "outcome", "reason")
        self._reserved = counter("model_reserved_usd", "US dollars that model calls reserved before they were made")
        self._settled = counter("model_settled_usd", "US dollars that these calls cost")
        self._pruned = counter("pruned", "rows that retention deleted", "kind")
        for part in ("store", "broker", "rate"):
            self._failures.labels(part)
        registry.register(self._sources)
        ProcessCollector(registry=registry)
        self.add(_build)
        self.add(_log)

    def add(self, source: Source) -> None:
        self._sources.sources.append(source)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type

    def __call__(self, fact: Fact) -> None:
        """Count a fact in the metrics that concern it."""
        match fact:
            case Delivered(task_id, verdict):
                self._deliveries.labels(task_id, verdict).inc()
                if verdict == "rate":
                    self._refusals.labels(task_id).inc()
            case Queued(task_id=task_id, trigger=trigger):
                self._accepted.labels(task_id, trigger).inc()
            case Claimed(run, waited, swept):
                self._wait.labels(run.task_id).observe(_seconds(waited))
                if swept:
                    self._repairs.labels(run.task_id).inc()
            case Adopted(run):
                self._adopted.labels(run.task_id).inc()
            case Started(run, runtime, after, how):
                self._start.labels(runtime).observe(max(0.0, after))
                self._starts.labels(run.task_id, how).inc()
                # Shown as 0 while the agent runs: Prometheus counts no increase of a series that begins with its first value.
                self._cost.labels(run.task_id, runtime)
            case Finished():
                self._attempt(fact)
            case GivenBack(run, reason):
                self._given_back.labels(run.task_id, self._reason(reason)).inc()
            case Withdrawn(run):
                self._ended(run)
            case Fired():
                self._fired(fact)
            case PartFailed(part):
                self._failures.labels(part).inc()
            case ModelCallRefused(reason):
                self._calls.labels("refused", reason).inc()
            case ModelCallSettled(outcome, reserved, cost):
                self._calls.labels(outcome, "").inc()
                self._reserved.inc(float(reserved))
                self._settled.inc(float(cost or 0))
            case Pruned(kind, count):
                self._pruned.labels(kind).inc(count)

    def _fired(self, fact: Fired) -> None:
        for verdict, count in fact.verdicts.items():
            self._slots.labels(fact.task_id, verdict).inc(count)
        for delay in fact.late:
            self._lateness.observe(_seconds(delay))

    def _attempt(self, fact: Finished) -> None:
        run, task, runtime, meter = fact.run, fact.run.task_id, fact.runtime, fact.meter
        self._attempts.labels(task, runtime, self._reason(fact.reason)).inc()
        if run.state is RunState.QUEUED:
            infrastructure = run.infrastructure_retries > fact.claimed.infrastructure_retries
            self._retries.labels(task, "infrastructure" if infrastructure else "failure").inc()
        else:
            self._ended(run)
        if meter.cost is not None:
            self._cost.labels(task, runtime).inc(float(meter.cost))
        usage = meter.usage
        kinds = {"fresh": usage.fresh, "cached": usage.cached, "cache_write": usage.cache_write, "output": usage.output}
        for kind, count in kinds.items():
            if count:
                self._tokens.labels(task, runtime, kind).inc(count)

    def _ended(self, run: Run) -> None:
        self._runs.labels(run.task_id, run.trigger, run.state.value, self._reason(run.reason)).inc()
        if run.duration_s is not None:
            self._duration.labels(run.task_id, run.state.value).observe(max(0.0, run.duration_s))

    def _reason(self, reason: str) -> str:
        with self._lock:
            if reason not in self._reasons and len(self._reasons) >= MAX_REASONS:
                return "other"
            self._reasons.add(reason)
        return reason


class _Sources(Collector):
    """Readings as a collector of the Prometheus library. A source that fails loses its own readings and no others."""

    def __init__(self) -> None:
        self.sources: list[Source] = []

    def describe(self) -> Iterable[Metric]:
        """Return nothing: to describe ahead of time would ask sources that do not exist yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the readings of all sources, taken now."""
        families: dict[str, Metric] = {}
        for source in self.sources:
            try:
                readings = list(source())
            except Exception:
                log.exception("a part of the metrics could not be read")
                continue
            for reading in readings:
                name = f"optio_{reading.name}"
                family = families.get(name)
                if family is None:
                    kind = CounterMetricFamily if reading.counts else GaugeMetricFamily
                    family = families[name] = kind(name, reading.help, labels=list(reading.labels))
                family.add_metric(list(reading.labels.values()), reading.value)  # type: ignore[attr-defined]
        yield from families.values()


def _build() -> Iterator[Gauge]:
    labels = {"version": __version__, "python": platform.python_version()}
    yield Gauge("build_info", "this process: its version", 1, labels)


def _log() -> Iterator[Gauge]:
    yield Gauge("log_lines_lost", "lines of the service's own log that could not be written", logs.lost_lines(), counts=True)


def _seconds(span: timedelta) -> float:
    return max(0.0, span.total_seconds())
