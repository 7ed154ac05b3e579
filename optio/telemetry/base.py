"""The interface of telemetry: facts, such as "a run was queued", passed to the listeners that count or trace them.

No caller depends on a listener, and a failing one is logged and ignored: a run must behave the same whether or not it is
observed.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, Protocol

from optio.model import trace
from optio.model.model_call import ModelCall
from optio.model.pool import StartKind
from optio.model.run import Attempt, Run, RunTrigger
from optio.model.usage import Meter
from optio.version import how_to_install

log = logging.getLogger(__name__)
MISSING = f"the library of the metrics is not installed: {how_to_install('metrics')}"


@dataclass(frozen=True, slots=True)
class Delivered:
    """A webhook request was answered. `task_id` is empty where no task has the path."""

    task_id: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Queued:
    """A run was queued, durably; `began` is when it was asked for."""

    run_id: str
    task_id: str
    trigger: RunTrigger
    began: datetime
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A worker took a run `waited` after it was due. `swept` means that no hint announced the run: a sweep found it."""

    run: Run
    waited: timedelta
    swept: bool


@dataclass(frozen=True, slots=True)
class Adopted:
    """A worker continued the attempt of another worker, whose lease had expired."""

    run: Run


@dataclass(frozen=True, slots=True)
class Started:
    """The agent's process exists, `after` seconds after the claim. `how` is `process`, or `cold` or `warm` for a pod that was
    made for it or stood ready."""

    run: Run
    runtime: str
    after: float
    how: StartKind


@dataclass(frozen=True, slots=True)
class Finished:
    """An attempt ended. `claimed` is the run before, `run` the run after it; `meter` is what the attempt used. `model` is empty
    for a task that names none. `attempt` asks the store for the attempt's own times, `calls` for its model calls through the
    gateway; both may raise."""

    run: Run
    claimed: Run
    runtime: str
    model: str
    reason: str
    meter: Meter
    attempt: Callable[[], Attempt | None]
    calls: Callable[[], Sequence[ModelCall]] = tuple


@dataclass(frozen=True, slots=True)
class GivenBack:
    """A claimed run found no room where its agent was to run, for this reason, and is queued again."""

    run: Run
    reason: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A run was cancelled while it was queued, before any attempt of it was running."""

    run: Run


@dataclass(frozen=True, slots=True)
class Fired:
    """This scheduler recorded slots of one schedule, counted by verdict; `late` has the delay of each slot that started a
    run."""

    task_id: str
    verdicts: Mapping[str, int]
    late: tuple[timedelta, ...] = ()


@dataclass(frozen=True, slots=True)
class PartFailed:
    """One use of a part failed: of the `store`, the `broker` or the `rate` windows."""

    part: Literal["store", "broker", "rate"]


@dataclass(frozen=True, slots=True)
class ModelCallRefused:
    """The gateway refused a model call for this reason, before anything was sent."""

    reason: str


CallOutcome = Literal["ok", "failed", "broke"]


@dataclass(frozen=True, slots=True)
class ModelCallSettled:
    """A model call that was admitted has ended: with a complete answer, as the service `failed`, or the answer `broke` off. The
    amounts are in US dollars; `cost` is None where nobody knows it."""

    outcome: CallOutcome
    reserved: Decimal
    cost: Decimal | None


@dataclass(frozen=True, slots=True)
class Pruned:
    """Retention deleted this number of rows of a kind."""

    kind: str  # a `PrunedKind` of the store
    count: int


Fact = (
    Delivered
    | Queued
    | Claimed
    | Adopted
    | Started
    | Finished
    | GivenBack
    | Withdrawn
    | Fired
    | PartFailed
    | ModelCallRefused
    | ModelCallSettled
    | Pruned
)
Listener = Callable[[Fact], None]


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value that is read when metrics are scraped; `counts` marks a counter, which only grows, as opposed to a gauge."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    counts: bool = False


Source = Callable[[], Iterable[Gauge]]


class Exposition(Protocol):
    """Metrics that can be scraped; implemented by `telemetry.metrics` where its library is installed."""

    def add(self, source: Source) -> None:
        """Add a source of readings, which is asked at every scrape."""
        ...

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """Return the metrics and their media type, in the format that the scraper's Accept header asks for."""
        ...


def passed_on_traceparent(run: Run) -> str | None:
    """Return the `traceparent` for an agent where this process traces nothing: the one that its run came with."""
    return trace.clean(run.traceparent)


class Telemetry:
    """Passes facts to its listeners. Without listeners it does nothing."""

    def __init__(
        self,
        *listeners: Listener,
        traceparent: Callable[[Run], str | None] = passed_on_traceparent,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._listeners = listeners
        self._traceparent = traceparent
        self.close = close
        self._is_broken = False

    def tell(self, fact: Fact) -> None:
        """Pass a fact to all listeners. Never raises; the first failure of a listener is logged."""
        for listener in self._listeners:
            try:
                listener(fact)
            except Exception:
                # Logged once, since it may fail with every run.
                if not self._is_broken:
                    log.exception("telemetry failed at %s; later failures are not logged", type(fact).__name__)
                self._is_broken = True

    def environment(self, run: Run) -> dict[str, str]:
        """Return the variables by which the spans of the run's agent join the trace of the run."""
        header = self._traceparent(run)
        return {} if header is None else {"TRACEPARENT": header}


SILENT = Telemetry()


def are_traces_enabled(environ: Mapping[str, str]) -> bool:
    """Return whether OpenTelemetry's own variables ask for traces; raise ValueError where they ask for a protocol other than
    http/protobuf."""
    endpoint = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER", "otlp") == "none"
    if not endpoint or off:
        return False
    spoken = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    if spoken != "http/protobuf":
        raise ValueError(f"traces are sent by http/protobuf only, and OTEL_EXPORTER_OTLP_PROTOCOL asks for {spoken}")
    return True


_about: ContextVar[Mapping[str, str]] = ContextVar("about", default={})  # noqa: B039 - nobody changes it


@contextlib.contextmanager
def log_context(**fields: str) -> Iterator[None]:
    """Add these fields to every line that the current thread, or asyncio task, logs inside the block."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def current_log_context() -> Mapping[str, str]:
    """Return the fields that `log_context` has set for the current thread or task."""
    return _about.get()
