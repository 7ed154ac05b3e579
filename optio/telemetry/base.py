"""The seam of telemetry: facts, told to whoever counts or traces them.

Nobody waits for it, and what goes wrong there goes no further: a run must not notice whether it is looked at.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from optio.model import trace
from optio.model.run import Attempt, Meter, Run

log = logging.getLogger(__name__)
MISSING = "metrics need `pip install 'optio[metrics]'`"


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
    trigger: str
    began: datetime
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A worker took a run that was due for so long. `swept`: no hint told of it, a look found it."""

    run: Run
    waited: timedelta
    swept: bool


@dataclass(frozen=True, slots=True)
class Adopted:
    """A worker went on with another's attempt."""

    run: Run


@dataclass(frozen=True, slots=True)
class Started:
    """The agent's process exists, so many seconds after the claim; `how` it began: as a `process`, or in a `cold` or `warm`
    place."""

    run: Run
    runtime: str
    after: float
    how: str


@dataclass(frozen=True, slots=True)
class Finished:
    """An attempt ended. `run` is how the run stands then, `claimed` how it stood before; `meter` is what the attempt used.
    `attempt` asks the store for the attempt's own times, and may raise."""

    run: Run
    claimed: Run
    runtime: str
    reason: str
    meter: Meter
    attempt: Callable[[], Attempt | None]


@dataclass(frozen=True, slots=True)
class GivenBack:
    """A claimed run found no room where its agent was to run, for this reason, and is queued again."""

    run: Run
    reason: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A run was cancelled before it began."""

    run: Run


@dataclass(frozen=True, slots=True)
class Fired:
    """Slots of one schedule got their verdicts by this scheduler; `late` has the delay of each that started a run."""

    task_id: str
    verdicts: Mapping[str, int]
    late: tuple[timedelta, ...] = ()


@dataclass(frozen=True, slots=True)
class PartFailed:
    """A part could not be used once: `store`, `broker` or `rate`."""

    part: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """So many rows were deleted because nothing keeps them any more."""

    kind: str
    count: int


Fact = Delivered | Queued | Claimed | Adopted | Started | Finished | GivenBack | Withdrawn | Fired | PartFailed | Pruned
Listener = Callable[[Fact], None]


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value that is looked up when somebody asks; `counts` if it only grows."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    counts: bool = False


Source = Callable[[], Iterable[Gauge]]


class Exposition(Protocol):
    """Shows what was counted."""

    def add(self, source: Source) -> None:
        """Ask this one too, whenever somebody asks."""
        ...

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """(text, media type) as the asker understands it."""
        ...


def passed_on_traceparent(run: Run) -> str | None:
    """The `traceparent` that an agent gets where nothing is traced here: the one that its run came with."""
    return trace.clean(run.traceparent)


class Telemetry:
    """Passes facts on. Without listeners it does nothing."""

    def __init__(
        self,
        *listeners: Listener,
        traceparent: Callable[[Run], str | None] = passed_on_traceparent,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._listeners = listeners
        self._traceparent = traceparent
        self.close = close
        self._broken = False

    def tell(self, fact: Fact) -> None:
        """Never raises."""
        for listener in self._listeners:
            try:
                listener(fact)
            except Exception:
                # Once: it may fail with every run.
                if not self._broken:
                    log.exception("telemetry failed at %s; later failures are not told", type(fact).__name__)
                self._broken = True

    def environment(self, run: Run) -> dict[str, str]:
        """What an agent's environment gets, so that its own spans join the run's."""
        header = self._traceparent(run)
        return {} if header is None else {"TRACEPARENT": header}


SILENT = Telemetry()


def are_traces_enabled(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's own variables ask for traces; raises ValueError for a way of sending that is not spoken here."""
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
    """Every line that this thread, or task, logs meanwhile carries these fields."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def current_log_context() -> Mapping[str, str]:
    """What is logged about now."""
    return _about.get()
