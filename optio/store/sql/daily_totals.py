"""Totals of each task and day, so that lists and charts cost what they show and not what the task has run: ended runs by their
outcome and duration, ended attempts with their tokens and cost.

They are counted where a run's state changes (`events`) and where an attempt ends (`claims`), and written last in the same
transaction (`bulk`), so they are exact at every moment. A transaction adds to rows of its connection's stripe
(`daily_stripes`): two workers that end runs of one task would otherwise wait for each other's commits. Readers sum the stripes
and the totals; retention folds stripes into totals (`fold`). Writers lock rows in one order and `fold` waits for no writer, so
no two deadlock.

A run that is retried by hand is taken out of its day again. Retention deletes runs, but no totals for `KEPT_DAYS`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from optio.model.run import RunState
from optio.model.run_totals import RunTotals, bucket_of
from optio.model.usage import CostSource, Meter, Usage
from optio.store.sql.transaction import BulkRows, Row, Transaction, dump_json

KEPT_DAYS = 400
DAY_US = 86_400_000_000
_EPOCH = date(1970, 1, 1)
_MICRO = Decimal(1_000_000)
# An agent may report any cost, and a sum must fit into 64 bits.
_MAX_SUMMAND = 10**12
_TOKENS = ("fresh", "cached", "cache_write", "output")
_SUMS = (
    "completed", "failed", "cancelled", "attempts", "unpriced", "cost_cli", "cost_prices", "cost_estimate", "fresh", "cached",
    "cache_write", "output",
)  # fmt: skip
_NAMES = ", ".join(_SUMS)
_COUNTS = ("runs", *_SUMS)
_WRITE = f"""
INSERT INTO daily_stripes (task_id, day, bucket, stripe, {", ".join(_COUNTS)})
SELECT lot.task_id, lot.day, lot.bucket, :stripe, {", ".join(f"lot.{name}" for name in _COUNTS)} FROM lot WHERE TRUE
ON CONFLICT (task_id, day, bucket, stripe) DO UPDATE SET
    {", ".join(f"{name} = daily_stripes.{name} + excluded.{name}" for name in _COUNTS)}
"""  # noqa: S608 - column names are ours
_WRITE_OF = "task_id text, day bigint, bucket bigint, " + ", ".join(f"{name} bigint" for name in _COUNTS)
_STRIPES = "SELECT * FROM daily_stripes LIMIT :most"
_UNSTRIPE = """
DELETE FROM daily_stripes WHERE (task_id, day, bucket, stripe) IN (SELECT lot.task_id, lot.day, lot.bucket, lot.stripe FROM lot)
"""
_UNSTRIPE_OF = "task_id text, day bigint, bucket bigint, stripe bigint"
_FOLD = f"""
INSERT INTO daily_totals (task_id, day, {_NAMES})
SELECT lot.task_id, lot.day, {", ".join(f"lot.{name}" for name in _SUMS)} FROM lot WHERE TRUE
ON CONFLICT (task_id, day) DO UPDATE SET {", ".join(f"{name} = daily_totals.{name} + excluded.{name}" for name in _SUMS)}
"""  # noqa: S608 - column names are ours
_FOLD_DURATIONS = """
INSERT INTO daily_durations (task_id, day, bucket, runs) SELECT lot.task_id, lot.day, lot.bucket, lot.runs FROM lot WHERE TRUE
ON CONFLICT (task_id, day, bucket) DO UPDATE SET runs = daily_durations.runs + excluded.runs
"""
_ALL_SUMS = f"""(
    SELECT task_id, day, {_NAMES} FROM daily_totals UNION ALL SELECT task_id, day, {_NAMES} FROM daily_stripes WHERE bucket = 0
) counted"""  # noqa: S608
_ALL_DURATIONS = """(
    SELECT task_id, day, bucket, runs FROM daily_durations
    UNION ALL SELECT task_id, day, bucket, runs FROM daily_stripes WHERE bucket > 0
) counted"""
_SUM = ", ".join(f"SUM({name}) AS {name}" for name in _SUMS)
# The first part is a skip scan from task to task.
_PRUNE = """DELETE FROM {table} WHERE (task_id, day) IN (
    WITH RECURSIVE tasks_of (task_id) AS (
        SELECT MIN(task_id) FROM {table}
        UNION ALL
        SELECT (SELECT MIN(s.task_id) FROM {table} s WHERE s.task_id > t.task_id) FROM tasks_of t WHERE t.task_id IS NOT NULL
    )
    SELECT s.task_id, s.day FROM tasks_of t JOIN {table} s ON s.task_id = t.task_id AND s.day < :before LIMIT :most
)
"""
_TABLES = ("daily_totals", "daily_durations")
PRUNE = [_PRUNE.format(table=table) for table in _TABLES]
PRUNABLE = " UNION ALL ".join(f"SELECT COUNT(*) AS n FROM {table} WHERE day < :before" for table in (*_TABLES, "daily_stripes"))  # noqa: S608


def day_of(at: int) -> int:
    """Return the day (since 1970, UTC) of a time in microseconds."""
    return at // DAY_US


def count_state(tx: Transaction, row: Row, state: RunState, ended_at: int | None) -> None:
    """Count that a run with this row ended in `state`, or, where it has ended before, that it is to run again. Only failed runs
    run again, so that durations, which completed runs have, are never taken back."""
    before = RunState(row["state"])
    if before.terminal and row["ended_at"] is not None:
        _day(tx, row, row["ended_at"])[before.value] -= 1
    if state.terminal and ended_at is not None:
        _day(tx, row, ended_at)[state.value] += 1
        if state is RunState.COMPLETED and row["started_at"] is not None:
            tx.counts.durations[row["task_id"], day_of(ended_at), bucket_of(ended_at - row["started_at"])] += 1


def count_attempt(tx: Transaction, row: Row, meter: Meter) -> None:
    """Count an attempt of a run with this row, which ends now."""
    day, usage = _day(tx, row, tx.now), meter.usage
    day["attempts"] += 1
    for name in _TOKENS:
        day[name] += min(getattr(usage, name), _MAX_SUMMAND)
    if meter.cost is None:
        day["unpriced"] += 1
    elif meter.cost_source is not None:
        micros = int((meter.cost * _MICRO).to_integral_value(ROUND_HALF_UP))
        day[f"cost_{meter.cost_source.value}"] += min(micros, _MAX_SUMMAND)


def _day(tx: Transaction, row: Row, at: int) -> Counter[str]:
    return tx.counts.totals.setdefault((row["task_id"], day_of(at)), Counter())


def write(tx: Transaction) -> None:
    """Write what all operations of this transaction have counted. Call it last."""
    rows = {(*key, 0): sums for key, sums in tx.counts.totals.items()}
    rows.update({key: Counter(runs=runs) for key, runs in tx.counts.durations.items()})
    tx.bulk_run(_WRITE, BulkRows(_WRITE_OF, _rows(rows)), {"stripe": tx.stripe})


def _rows(counts: Mapping[tuple[str, int, int], Counter[str]]) -> list[Row]:
    return [
        {"task_id": key[0], "day": key[1], "bucket": key[2], **{name: counts[key][name] for name in _COUNTS}}
        for key in sorted(counts)
    ]


def fold(tx: Transaction, most: int) -> int:
    """Move up to `most` stripes into the totals that older versions know; return how many there were. One that a
    transaction counts in stays for the next call."""
    stripes = [dict(row) for row in tx.hold_free(_STRIPES, {"most": most})]
    counts: dict[tuple[str, int, int], Counter[str]] = {}
    for row in stripes:
        counts.setdefault((row["task_id"], row["day"], row["bucket"]), Counter()).update({name: row[name] for name in _COUNTS})
    rows = _rows(counts)
    tx.lot(_UNSTRIPE, _UNSTRIPE_OF, stripes)
    tx.lot(_FOLD, _WRITE_OF, [row for row in rows if row["bucket"] == 0])
    tx.lot(_FOLD_DURATIONS, _WRITE_OF, [row for row in rows if row["bucket"] > 0])
    return len(stripes)


def of_tasks(tx: Transaction, task_ids: Sequence[str], since: date) -> dict[str, RunTotals]:
    """Return the totals of these tasks from a day on (`Store.totals`)."""
    condition, params = _among(tx, task_ids, since)
    durations: dict[str, dict[int, int]] = {}
    for row in tx.all(
        f"SELECT task_id, bucket, SUM(runs) AS runs FROM {_ALL_DURATIONS} WHERE {condition} GROUP BY task_id, bucket",  # noqa: S608
        params,
    ):
        durations.setdefault(row["task_id"], {})[row["bucket"]] = int(row["runs"])
    rows = tx.all(f"SELECT task_id, {_SUM} FROM {_ALL_SUMS} WHERE {condition} GROUP BY task_id", params)  # noqa: S608
    return {row["task_id"]: _totals(row, durations.get(row["task_id"], {})) for row in rows}


def by_task(tx: Transaction, since: date) -> dict[str, RunTotals]:
    """Return the totals of all tasks from a day on, without durations (`Store.totals_by_task`)."""
    sql = f"SELECT task_id, {_SUM} FROM {_ALL_SUMS} WHERE day >= :since GROUP BY task_id"  # noqa: S608
    return {row["task_id"]: _totals(row, {}) for row in tx.all(sql, {"since": _number(since)})}


def by_day(tx: Transaction, since: date, task_ids: Sequence[str] | None) -> dict[date, dict[str, RunTotals]]:
    """Return the totals of each day, without durations: of these tasks by id, or of all together under `""`
    (`Store.totals_by_day`)."""
    params: dict[str, Any] = {"since": _number(since)}
    if task_ids is None:
        sql = f"SELECT day, '' AS task_id, {_SUM} FROM {_ALL_SUMS} WHERE day >= :since GROUP BY day ORDER BY day"  # noqa: S608
    else:
        condition, params = _among(tx, task_ids, since)
        sql = f"SELECT day, task_id, {_SUM} FROM {_ALL_SUMS} WHERE {condition} GROUP BY day, task_id ORDER BY day"  # noqa: S608
    days: dict[date, dict[str, RunTotals]] = {}
    for row in tx.all(sql, params):
        days.setdefault(_EPOCH + timedelta(days=row["day"]), {})[row["task_id"]] = _totals(row, {})
    return days


def _among(tx: Transaction, task_ids: Sequence[str], since: date) -> tuple[str, dict[str, Any]]:
    among = "json_array_elements_text(CAST(:ids AS json))" if tx.lateral else "json_each(:ids)"
    params = {"ids": dump_json(list(task_ids)), "since": _number(since)}
    return f"task_id IN (SELECT value FROM {among}) AND day >= :since", params  # noqa: S608


def _number(day: date) -> int:
    return (day - _EPOCH).days


def _totals(row: Row, durations: Mapping[int, int]) -> RunTotals:
    # A run that an older version ended was not counted, but is taken out when it is retried.
    sums = {name: max(0, int(row[name])) for name in _SUMS}
    return RunTotals(
        **{name: sums[name] for name in ("completed", "failed", "cancelled", "attempts", "unpriced")},
        usage=Usage(**{name: sums[name] for name in _TOKENS}),
        costs={source: sums[f"cost_{source.value}"] / _MICRO for source in CostSource if sums[f"cost_{source.value}"]},
        durations=durations,
    )
