"""Sizing of warm pools, for `optio pool plan`: how often a pod would have been ready at each size, and what the idle pods cost.
Pure.

Measured starts, and the coming slots of the schedule, are replayed against each size. A start takes a pod if one is ready, and
a replacement is ready a while later. Making a pod costs the same with or without a pool; the cost of a pool is the time that
pods idle.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from optio.model import text
from optio.model.pool import COLD, WARM
from optio.store.values import PlacedStart

# Assumptions until there are measurements.
DEFAULT_COLD, DEFAULT_WARM, DEFAULT_RUN = timedelta(seconds=10), timedelta(seconds=0.1), timedelta(minutes=5)
# A pod is to be used for at least this share of its time; otherwise no pool is proposed.
MIN_USE_SHARE = 0.01
MAX_POOL_SIZE = 50
_DAY_S = 86_400.0
# So many measured waits represent all of them.
_MAX_SAMPLES = 1_000


Samples = Mapping[tuple[str | None, str], Sequence[float]]
"""Waits of starts in seconds, by task (None for all tasks) and kind of start (`cold` or `warm`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWaits:
    """The times from claim to agent of some starts: their number, and quantiles in seconds."""

    count: int
    p50: float | None
    p90: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTimes:
    """The start times of a task. `cold` and `warm` are seconds from claim to agent, measured or one assumed value; `run_s` is
    the mean run time of an agent in seconds. `assumed` names what was not measured."""

    cold: Sequence[float]
    warm: Sequence[float]
    run_s: float
    assumed: Sequence[str] = ()

    @property
    def refill_s(self) -> float:
        """Return the seconds until a taken pod is replaced: the time in which nine of ten cold starts were ready."""
        return quantile([(wait, 1.0) for wait in self.cold], 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The starts of one task in a period of `span_s` seconds, as ordered seconds from its beginning."""

    span_s: float
    measured: Sequence[float]
    scheduled: Sequence[float]

    @property
    def arrivals(self) -> list[float]:
        """Return the measured and the scheduled starts together, in order."""
        return sorted([*self.measured, *self.scheduled])


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSizeOption:
    """A pool size and its consequences. `idle_h` is the sum of the hours that pods idle, per day."""

    size: int
    hits: int
    share: float
    wait_p50: float
    wait_p99: float
    idle_h: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """The proposed size of a pool, the reason for it, and the sizes that were compared."""

    proposed: int
    why: str
    options: Sequence[PoolSizeOption]


def summarize_waits(starts: Sequence[PlacedStart]) -> StartWaits:
    """Return the number and the quantiles of the waits of these starts; the quantiles are None without starts."""
    if not starts:
        return StartWaits(count=0, p50=None, p90=None, p99=None)
    samples = [(start.waited.total_seconds(), 1.0) for start in starts]
    return StartWaits(count=len(starts), p50=quantile(samples, 0.5), p90=quantile(samples, 0.9), p99=quantile(samples, 0.99))


def quantile(samples: Sequence[tuple[float, float]], share: float) -> float:
    """Return the smallest value that covers `share` of the total weight. `samples` are (value, weight) pairs and must not be
    empty."""
    ordered = sorted(samples)
    target_weight = share * sum(weight for _, weight in ordered) - 1e-9
    weight_so_far = 0.0
    for value, weight in ordered:
        weight_so_far += weight
        if weight_so_far >= target_weight:
            return value
    return ordered[-1][0]


def samples_of(starts: Iterable[PlacedStart]) -> Samples:
    """Return the waits in seconds by task and kind of start, and for all tasks together (None), up to _MAX_SAMPLES each."""
    samples: dict[tuple[str | None, str], list[float]] = defaultdict(list)
    for start in starts:
        for key in ((start.task_id, start.how), (None, start.how)):
            if len(samples[key]) < _MAX_SAMPLES:
                samples[key].append(start.waited.total_seconds())
    return samples


def start_times_of(task_id: str, samples: Samples, took: Sequence[timedelta]) -> StartTimes:
    """Return the start times of a task, from its newest starts and the durations of its runs. Missing figures are taken from
    other tasks, or assumed if no task has them."""
    assumed: list[str] = []

    def known(kind: str, otherwise: timedelta) -> Sequence[float]:
        own_samples, alike = samples.get((task_id, kind), ()), samples.get((None, kind), ())
        if not own_samples:
            assumed.append(f"{kind} starts: {'as of other tasks' if alike else f'{otherwise.total_seconds():g} s assumed'}")
        return own_samples or alike or [otherwise.total_seconds()]

    cold, warm = known(COLD, DEFAULT_COLD), known(WARM, DEFAULT_WARM)
    if not took:
        assumed.append(f"runs: {DEFAULT_RUN.total_seconds():g} s assumed")
    run_s = sum(span.total_seconds() for span in took) / len(took) if took else DEFAULT_RUN.total_seconds()
    return StartTimes(cold=cold, warm=warm, run_s=run_s, assumed=assumed)


def simulate_pool(arrivals: Sequence[float], span_s: float, size: int, refill_s: float) -> tuple[int, float]:
    """Simulate a pool of a fixed size. Return how many of the starts (in order, within the period) find a pod ready, and for
    how many seconds in total pods are missing."""
    busy_until: deque[float] = deque()
    hits, missing = 0, 0.0
    for at in arrivals:
        while busy_until and busy_until[0] <= at:
            busy_until.popleft()
        if len(busy_until) < size:
            hits += 1
            busy_until.append(at + refill_s)
            missing += min(refill_s, span_s - at)
    return hits, missing


def propose_size(demand: Demand, start_times: StartTimes, *, current: int, target: float, largest: int) -> PoolPlan:
    """Propose the smallest size, up to `largest`, at which the share of warm starts reaches `target`; 0 if a pod would be used
    too rarely."""
    arrivals = demand.arrivals
    options = {0: _option(arrivals, demand.span_s, start_times, 0)}
    for size in range(1, min(largest, MAX_POOL_SIZE) + 1):
        if not arrivals or options[size - 1].share >= target:
            break
        options[size] = _option(arrivals, demand.span_s, start_times, size)
    enough = max(options.values(), key=lambda option: (min(option.share, target), -option.size))
    single = options.get(1) or _option(arrivals, demand.span_s, start_times, 1)
    proposed, reason = _choose_size(demand, start_times, enough, single, target, max(options))
    for size in (1, proposed + 1, current):
        if size <= max(largest, current) and size not in options:
            options[size] = _option(arrivals, demand.span_s, start_times, size)
    return PoolPlan(proposed=proposed, why=reason, options=[options[size] for size in sorted(options)])


def _choose_size(
    demand: Demand, start_times: StartTimes, enough: PoolSizeOption, single: PoolSizeOption, target: float, largest: int
) -> tuple[int, str]:
    count = len(demand.arrivals)
    span = text.format_roughly(timedelta(seconds=demand.span_s))
    if count == 0:
        return 0, f"nothing starts in {span}"
    waiting = single.idle_h * demand.span_s / _DAY_S
    busy_share = single.hits * start_times.run_s / 3600
    if waiting / (waiting + busy_share) > 1 - MIN_USE_SHARE:
        starts = "1 start" if count == 1 else f"{count} starts"
        return 0, (
            f"{starts} in {span}: one pod would wait {waiting:.1f} h and work {busy_share:.1f} h "
            f"({100 * waiting / (waiting + busy_share):.2f} % idle), to save {_median_saving_s(start_times):.2g} s each time"
        )
    if enough.share < target:
        return enough.size, (
            f"{100 * enough.share:.1f} % of the starts are warm with {enough.size}; no size up to {largest} reaches "
            f"{100 * target:g} %"
        )
    return enough.size, f"{100 * enough.share:.1f} % of the starts are warm with {enough.size}"


def _median_saving_s(start_times: StartTimes) -> float:
    """Return the seconds that a warm start saves, in the median."""
    cold, warm = (quantile([(wait, 1.0) for wait in samples], 0.5) for samples in (start_times.cold, start_times.warm))
    return max(0.0, cold - warm)


def _option(arrivals: Sequence[float], span_s: float, start_times: StartTimes, size: int) -> PoolSizeOption:
    hits, missing = simulate_pool(arrivals, span_s, size, start_times.refill_s)
    share = hits / len(arrivals) if arrivals else 0.0
    mixed = [*_weighted(start_times.warm, share), *_weighted(start_times.cold, 1 - share)]
    return PoolSizeOption(
        size=size,
        hits=hits,
        share=share,
        wait_p50=quantile(mixed, 0.5),
        wait_p99=quantile(mixed, 0.99),
        idle_h=(size * span_s - missing) / span_s * 24,
    )


def _weighted(samples: Sequence[float], weight: float) -> Iterator[tuple[float, float]]:
    if weight > 0:
        yield from ((value, weight / len(samples)) for value in samples)
