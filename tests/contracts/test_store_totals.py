"""Totals of tasks and days, on both databases. `tests.store.test_machine` compares them after any order of events."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal

import pytest

from optio.model.run_totals import RunTotals
from optio.model.usage import CostSource, Meter, Usage
from optio.store.base import Store
from optio.store.sql import daily_totals, schema
from optio.store.sql.daily_totals import KEPT_DAYS
from optio.store.sql.transaction import Transaction
from optio.store.values import RetentionPolicy
from tests.store.build import BAD, LEASE, OK, Clock, at_once, claimed, end, everything, queued, serve, sql, task
from tests.store.totals import computed, stored

DAY = date(2026, 1, 5)


def totals(store: Store, since: date = DAY) -> RunTotals:
    return store.totals(["job"], since).get("job", RunTotals())


def outcomes(found: RunTotals) -> tuple[int, int, int]:
    return found.completed, found.failed, found.cancelled


def paid(cost: str | None, source: CostSource = CostSource.CLI, **tokens: int) -> Meter:
    price = None if cost is None else Decimal(cost)
    return Meter(usage=Usage(**tokens), cost=price, cost_source=None if cost is None else source)


def test_a_run_counts_by_its_outcome_on_the_day_of_its_end(store: Store, clock: Clock) -> None:
    serve(store, task())
    for outcome in (OK, BAD):
        claim = claimed(store)
        clock.move(seconds=70)
        end(store, claim, outcome)
    store.cancel(queued(store), "me")

    assert outcomes(totals(store)) == (1, 1, 1)
    assert totals(store).success == 0.5
    took = totals(store).duration_s()
    assert took is not None
    assert 64 <= took <= 80

    clock.move(days=1)
    end(store, claimed(store))

    assert outcomes(totals(store)) == (2, 1, 1)
    assert outcomes(totals(store, DAY + timedelta(days=1))) == (1, 0, 0)
    assert {day: outcomes(each[""]) for day, each in store.totals_by_day(DAY, None).items()} == {
        DAY: (1, 1, 1),
        DAY + timedelta(days=1): (1, 0, 0),
    }


def test_every_attempt_counts_what_it_cost_by_the_source_of_the_figure(store: Store, clock: Clock) -> None:
    serve(store, task())
    claim = claimed(store)
    end(store, claim, BAD, paid("0.25", fresh=100, cached=300), decide=at_once)
    (again,) = store.claim("w", LEASE, everything)
    clock.move(days=1)
    end(store, again, meter=paid("0.5000004", CostSource.PRICES, output=7))
    end(store, claimed(store), meter=paid(None))

    found = totals(store)
    assert found.costs == {CostSource.CLI: Decimal("0.25"), CostSource.PRICES: Decimal("0.5")}
    assert (found.cost, found.attempts, found.unpriced) == (Decimal("0.75"), 3, 1)
    assert found.usage == Usage(fresh=100, cached=300, output=7)
    assert found.cached_share == 0.75
    assert store.totals_by_task(DAY)["job"].cost == Decimal("0.75")
    days = store.totals_by_day(DAY, ["job", "nobody"])
    assert [(day, each["job"].cost) for day, each in days.items()] == [
        (DAY, Decimal("0.25")),
        (DAY + timedelta(days=1), Decimal("0.5")),
    ]


def test_a_failed_run_that_is_retried_by_hand_leaves_the_day_of_its_failure(store: Store, clock: Clock) -> None:
    serve(store, task())
    claim = claimed(store)
    end(store, claim, BAD, paid("1.00"))
    clock.move(days=2)
    store.retry(claim.run.id, "me")

    assert outcomes(totals(store)) == (0, 0, 0)
    assert totals(store).cost == Decimal("1.00")

    (again,) = store.claim("w", LEASE, everything)
    end(store, again)

    assert outcomes(totals(store, DAY + timedelta(days=2))) == (1, 0, 0)
    assert stored(store) == computed(store)


def test_a_run_that_older_versions_ended_uncounted_makes_no_negative_total(store: Store) -> None:
    serve(store, task())
    claim = claimed(store)
    end(store, claim, BAD)
    sql(store, "DELETE FROM daily_stripes")
    store.retry(claim.run.id, "me")

    assert outcomes(totals(store)) == (0, 0, 0)


def test_costs_that_no_one_can_have_had_break_no_sum(store: Store) -> None:
    serve(store, task())
    for _ in range(3):
        end(store, claimed(store), meter=paid("999999999", fresh=10**18))

    assert totals(store).cost == 3_000_000
    assert totals(store).usage.fresh == 3 * 10**12


def test_retention_deletes_runs_and_keeps_totals_for_a_year(store: Store, clock: Clock) -> None:
    serve(store, task())
    end(store, claimed(store))
    clock.move(days=KEPT_DAYS)
    end(store, claimed(store))
    keep = RetentionPolicy(runs=timedelta(days=1))

    assert sum(count for kind, count in store.prune(keep) if kind == "runs") == 1
    assert totals(store).completed == 2

    clock.move(days=1)
    list(store.prune(keep))

    assert totals(store).completed == 1
    assert [row["n"] for row in sql(store, "SELECT COUNT(*) AS n FROM daily_durations")] == [1]


@pytest.mark.parametrize("seconds", [0, 0.4, 1, 1.3, 2, 7.9, 60, 100, 3_599, 86_400, 2_000_000, 90_000_000])
def test_the_migration_counts_what_has_ended_as_its_end_would_have(store: Store, clock: Clock, seconds: float) -> None:
    serve(store, task())
    for outcome, cost in ((OK, "0.125"), (BAD, "0.000001"), (OK, None)):
        claim = claimed(store)
        clock.move(seconds=seconds)
        end(store, claim, outcome, meter=paid(cost, CostSource.PRICES, fresh=1, cached=2, cache_write=3, output=4))
    store.cancel(queued(store), "me")
    queued(store)
    counted = stored(store)
    newest = next(each for each in schema.migrations() if each.version == 20)
    driver = "sqlite" if store.local else "postgres"
    for table in ("daily_totals", "daily_durations", "daily_stripes"):
        sql(store, f"DELETE FROM {table}")
    for statement in list(schema.statements(newest.script, driver))[2:]:
        sql(store, statement)

    # Days before the last 92 are not counted.
    last = max(day for _, day in counted)
    assert stored(store) == {key: day for key, day in counted.items() if key[1] >= last - 91}


def test_many_processes_count_what_ends_at_the_same_time(stores: Callable[[], Store]) -> None:
    first = stores()
    serve(first, task(extra="maxConcurrent: 1000\n"))
    claims = [claimed(first) for _ in range(60)]
    others = [first, stores(), stores()]

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda place: end(others[place % 3], claims[place], meter=paid("0.01")), range(len(claims))))

    assert outcomes(totals(first)) == (60, 0, 0)
    assert stored(first) == computed(first)


def folded(store: Store) -> int:
    """Let retention fold the stripes; return how many stay."""
    list(store.prune(RetentionPolicy()))
    return int(sql(store, "SELECT COUNT(*) AS n FROM daily_stripes")[0]["n"])


def test_folding_changes_no_total_and_leaves_a_row_for_each_task_and_day(store: Store, clock: Clock) -> None:
    serve(store, task())
    for outcome in (OK, BAD, OK):
        claim = claimed(store)
        clock.move(seconds=70)
        end(store, claim, outcome, meter=paid("0.01", fresh=3))
    before = totals(store), store.totals_by_task(DAY), store.totals_by_day(DAY, None), store.totals_by_day(DAY, ["job"])

    assert folded(store) == 0

    assert (
        totals(store),
        store.totals_by_task(DAY),
        store.totals_by_day(DAY, None),
        store.totals_by_day(DAY, ["job"]),
    ) == before
    assert [row["completed"] for row in sql(store, "SELECT completed FROM daily_totals")] == [2]
    store.retry(claimed_and_failed(store), "me")
    assert outcomes(totals(store)) == (2, 1, 0)
    assert stored(store) == computed(store)


def claimed_and_failed(store: Store) -> str:
    claim = claimed(store)
    end(store, claim, BAD)
    folded(store)
    return claim.run.id


def test_a_fold_that_dies_before_its_commit_has_changed_nothing(store: Store) -> None:
    serve(store, task())
    end(store, claimed(store))

    def die(tx: Transaction) -> None:
        daily_totals.fold(tx, 10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store._engine.change(die)  # type: ignore[attr-defined]

    assert totals(store).completed == 1
    assert stored(store) == computed(store)
    assert folded(store) == 0
    assert stored(store) == computed(store)


def test_what_a_process_of_an_older_version_counts_in_the_totals_is_added(store: Store) -> None:
    serve(store, task())
    end(store, claimed(store))
    day = (DAY - date(1970, 1, 1)).days
    for _ in range(2):
        sql(
            store,
            "INSERT INTO daily_totals (task_id, day, completed) VALUES ('job', :day, 1) "
            "ON CONFLICT (task_id, day) DO UPDATE SET completed = daily_totals.completed + 1",
            day=day,
        )
        assert folded(store) == 0

    assert outcomes(totals(store)) == (3, 0, 0)
    assert outcomes(store.totals_by_day(DAY, ["job"])[DAY]["job"]) == (3, 0, 0)


def test_readers_see_each_end_once_while_others_end_runs_and_stripes_are_folded(stores: Callable[[], Store]) -> None:
    first = stores()
    serve(first, task(extra="maxConcurrent: 1000\n"))
    claims = [claimed(first) for _ in range(60)]
    others = [first, stores(), stores()]
    # Each run that a snapshot shows as ended is in the totals of the same snapshot.
    ended = threading.Event()

    def compare(tx: Transaction) -> tuple[int, int]:
        count = tx.one("SELECT COUNT(*) AS n FROM runs WHERE ended_at IS NOT NULL")["n"]
        return count, daily_totals.of_tasks(tx, ["job"], DAY).get("job", RunTotals()).completed

    def watch(look: Callable[[], object]) -> list[object]:
        seen: list[object] = []
        while not ended.is_set():
            seen.append(look())
        return seen

    with ThreadPoolExecutor(12) as pool:
        folds = pool.submit(watch, lambda: folded(others[1]))
        views = pool.submit(watch, lambda: others[2]._engine.read(compare))  # type: ignore[attr-defined]
        try:
            list(pool.map(lambda place: end(others[place % 3], claims[place], meter=paid("0.01")), range(len(claims))))
        finally:
            ended.set()

    assert len(folds.result()) > 0
    assert all(count == counted for count, counted in views.result())  # type: ignore[misc]
    assert outcomes(totals(first)) == (60, 0, 0)
    assert stored(first) == computed(first)
