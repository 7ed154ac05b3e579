"""The plan of pools: what holds for every history, and what comes of some that can be counted by hand."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.runs import pool_sizing
from optio.runs.pool_sizing import (
    Demand,
    PoolPlan,
    PoolSizeOption,
    StartTimes,
    propose_size,
    quantile,
    samples_of,
    simulate_pool,
    start_times_of,
    summarize_waits,
)
from optio.store.values import PlacedStart

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
DAY = 86_400.0
KNOWN = StartTimes(cold=[8.0] * 9 + [20.0], warm=[0.1], run_s=600.0)
TIMES = st.lists(st.floats(0, 1000, exclude_max=True), max_size=60).map(sorted)
REFILLS = st.floats(0.001, 300)


def demand(*measured_at: float, span_s: float = DAY, scheduled: tuple[float, ...] = ()) -> Demand:
    return Demand(span_s=span_s, measured=measured_at, scheduled=scheduled)


def option(found: PoolPlan, size: int) -> PoolSizeOption:
    return next(each for each in found.options if each.size == size)


def start(how: str, waited: float, task_id: str = "t") -> PlacedStart:
    return PlacedStart(task_id, how, NOW, timedelta(seconds=waited))


# The replay


@given(TIMES, REFILLS, st.integers(0, 8))
def test_a_larger_pool_never_has_fewer_warm_starts_and_never_fewer_idle_hours(
    arrivals: list[float], refill_s: float, size: int
) -> None:
    hits, missing = simulate_pool(arrivals, 1000, size, refill_s)
    more, missing_more = simulate_pool(arrivals, 1000, size + 1, refill_s)

    assert hits <= more <= len(arrivals)
    assert size * 1000 - missing <= (size + 1) * 1000 - missing_more + 1e-6
    assert size * 1000 - missing >= -1e-6


@given(TIMES, REFILLS)
def test_as_many_places_as_starts_make_every_start_warm_and_none_makes_none(arrivals: list[float], refill_s: float) -> None:
    assert simulate_pool(arrivals, 1000, len(arrivals), refill_s)[0] == len(arrivals)
    assert simulate_pool(arrivals, 1000, 0, refill_s) == (0, 0.0)


@given(TIMES, st.floats(0.001, 100), st.floats(1, 3))
def test_places_that_take_longer_to_be_made_are_never_ready_more_often_in_a_pool_of_one(
    arrivals: list[float], refill_s: float, factor: float
) -> None:
    assert simulate_pool(arrivals, 1000, 1, refill_s * factor)[0] <= simulate_pool(arrivals, 1000, 1, refill_s)[0]


@given(TIMES, REFILLS, st.integers(1, 6))
def test_the_replay_is_that_of_places_which_are_looked_at_one_by_one(arrivals: list[float], refill_s: float, size: int) -> None:
    ready_at = [0.0] * size
    hits = 0
    for at in arrivals:
        free = [place for place, since in enumerate(ready_at) if since <= at]
        if free:
            hits += 1
            ready_at[free[0]] = at + refill_s

    assert simulate_pool(arrivals, 1000, size, refill_s)[0] == hits


def test_a_replay_that_can_be_counted_by_hand() -> None:
    # At 0 both places go, at 5 none is there, at 10 both are back; at 95 one goes that is not back at the end.
    assert simulate_pool([0, 0, 5, 10, 95], 100, 2, 10) == (4, 10 + 10 + 10 + 5)


# What follows


@given(TIMES, REFILLS, st.integers(0, 8), st.floats(0.01, 1), st.integers(1, 12), st.floats(0, 5000))
def test_every_plan_is_in_order(
    arrivals: list[float], cold: float, current: int, target: float, largest: int, run_s: float
) -> None:
    known = StartTimes(cold=[cold], warm=[cold / 10], run_s=run_s)

    found = propose_size(
        Demand(span_s=1000, measured=arrivals, scheduled=()), known, current=current, target=target, largest=largest
    )

    sizes = [each.size for each in found.options]
    assert sizes == sorted(set(sizes))
    assert {0, current, found.proposed} <= set(sizes)
    assert found.proposed <= largest
    for less, more in zip(found.options, found.options[1:], strict=False):
        assert less.hits <= more.hits
        assert less.share <= more.share
        assert less.wait_p50 >= more.wait_p50
        assert less.wait_p99 >= more.wait_p99
        assert less.idle_h <= more.idle_h + 1e-6
    smaller = [each for each in found.options if each.size < found.proposed]
    proposed = option(found, found.proposed)
    if proposed.share >= target:
        assert all(each.share < target for each in smaller)
    elif found.proposed:
        assert all(each.share < proposed.share for each in smaller)
    assert found.why


def test_the_smallest_size_that_reaches_the_share_is_proposed() -> None:
    # Each hour three at once: two of three are warm with 2, all with 3.
    found = propose_size(
        demand(*(hour * 3600.0 for hour in range(24) for _ in range(3))), KNOWN, current=1, target=0.9, largest=9
    )

    assert (found.proposed, found.why) == (3, "100.0 % of the starts are warm with 3")
    assert [round(each.share, 2) for each in found.options] == [0.0, 0.33, 0.67, 1.0, 1.0]
    assert [each.wait_p50 for each in found.options] == [8.0, 8.0, 0.1, 0.1, 0.1]
    assert [each.wait_p99 for each in found.options] == [20.0, 20.0, 20.0, 0.1, 0.1]
    # Of a place's day the time is missing in which it is made again: 24 times 8 s, what nine of ten cold starts took.
    assert option(found, 1).idle_h == pytest.approx(24 - 24 * 8 / 3600)


def test_a_share_that_no_size_reaches_is_said_with_the_best_one() -> None:
    found = propose_size(
        demand(*(hour * 3600.0 for hour in range(24) for _ in range(3))), KNOWN, current=0, target=1.0, largest=2
    )

    assert found.proposed == 2
    assert found.why == "66.7 % of the starts are warm with 2; no size up to 2 reaches 100 %"


@pytest.mark.parametrize(
    ("run_s", "proposed", "why"),
    [
        (600.0, 0, "1 start in 7 days: one pod would wait 168.0 h and work 0.2 h (99.90 % idle), to save 7.9 s each time"),
        (7200.0, 1, "100.0 % of the starts are warm with 1"),
    ],
)
def test_where_a_pod_would_wait_for_almost_all_of_its_time_none_is_proposed(run_s: float, proposed: int, why: str) -> None:
    known = StartTimes(cold=[8.0], warm=[0.1], run_s=run_s)

    found = propose_size(demand(span_s=7 * DAY, scheduled=(100.0,)), known, current=3, target=0.95, largest=9)

    assert (found.proposed, found.why) == (proposed, why)
    assert [each.size for each in found.options] == ([0, 1, 3] if proposed == 0 else [0, 1, 2, 3])


def test_where_nothing_starts_nothing_is_proposed() -> None:
    found = propose_size(demand(), KNOWN, current=2, target=0.95, largest=9)

    assert (found.proposed, found.why) == (0, "nothing starts in 24 hours")
    assert [(each.size, each.idle_h) for each in found.options] == [(0, 0.0), (1, 24.0), (2, 48.0)]


def test_measured_and_coming_starts_count_together() -> None:
    found = propose_size(demand(5.0, scheduled=(5.0, 900.0)), KNOWN, current=0, target=1.0, largest=9)

    assert found.proposed == 2


# What is measured


def test_a_task_is_judged_by_its_own_starts_then_by_others_then_by_what_is_assumed() -> None:
    starts = samples_of([start("cold", 3), start("cold", 5, "other"), start("warm", 0.2, "other")])

    own = start_times_of("t", starts, [timedelta(seconds=10), timedelta(seconds=20)])
    others = start_times_of("u", starts, [])
    nothing = start_times_of("u", {}, [])

    assert (own.cold, own.warm, own.run_s, own.assumed) == ([3.0], [0.2], 15.0, ["warm starts: as of other tasks"])
    assert (others.cold, others.run_s) == ([3.0, 5.0], 300.0)
    assert others.assumed == [
        "cold starts: as of other tasks",
        "warm starts: as of other tasks",
        "runs: 300 s assumed",
    ]
    assert (nothing.cold, nothing.warm) == ([10.0], [0.1])
    assert nothing.assumed == ["cold starts: 10 s assumed", "warm starts: 0.1 s assumed", "runs: 300 s assumed"]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_the_least_value_that_is_enough(values: list[float], share: float) -> None:
    found = quantile([(value, 1.0) for value in values], share)

    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values)


def test_waits_of_no_starts_are_not_known() -> None:
    assert summarize_waits([]) == pool_sizing.StartWaits(count=0, p50=None, p90=None, p99=None)
    found = summarize_waits([start("warm", number) for number in range(1, 101)])
    assert (found.count, found.p50, found.p90, found.p99) == (100, 50.0, 90.0, 99.0)
