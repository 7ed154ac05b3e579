"""The totals of tasks and days, once as they are stored and once made from the runs and attempts that are there."""

import json
from decimal import Decimal
from typing import Any

from optio.model.run_totals import bucket_of
from optio.store.base import Store
from optio.store.sql.daily_totals import DAY_US
from tests.store.build import sql

Totals = dict[tuple[str, int], dict[str, Any]]
_TOKENS = {"fresh": "fresh", "cached": "cached", "cache_write": "cacheWrite", "output": "output"}


def stored(store: Store) -> Totals:
    found: Totals = {}

    def add(row: Any, name: str, count: int) -> None:
        day = found.setdefault((row["task_id"], row["day"]), {})
        day[name] = day.get(name, 0) + int(count)

    for table in ("daily_totals", "daily_stripes"):
        for row in sql(store, f"SELECT * FROM {table}"):
            for name in set(dict(row)) - {"task_id", "day", "bucket", "stripe", "runs"}:
                add(row, name, row[name])
    for table in ("daily_durations", "daily_stripes"):
        for row in sql(store, f"SELECT task_id, day, bucket, runs FROM {table}"):
            add(row, f"bucket {row['bucket']}", row["runs"])
    sums = {key: {name: count for name, count in day.items() if count} for key, day in found.items()}
    return {key: day for key, day in sums.items() if day}


def computed(store: Store) -> Totals:
    found: Totals = {}

    def add(task_id: str, at: int, name: str, count: int) -> None:
        if count:
            day = found.setdefault((task_id, at // DAY_US), {})
            day[name] = day.get(name, 0) + count

    for run in sql(store, "SELECT task_id, state, started_at, ended_at FROM runs WHERE ended_at IS NOT NULL"):
        task_id, ended = run["task_id"], run["ended_at"]
        add(task_id, ended, run["state"], 1)
        if run["state"] == "completed":
            add(task_id, ended, f"bucket {bucket_of(ended - run['started_at'])}", 1)
    for row in sql(
        store,
        "SELECT r.task_id, a.ended_at, a.usage, a.cost, a.cost_source FROM attempts a JOIN runs r ON r.id = a.run_id "
        "WHERE a.ended_at IS NOT NULL",
    ):
        task_id, ended, usage = row["task_id"], row["ended_at"], json.loads(row["usage"])
        add(task_id, ended, "attempts", 1)
        for name, key in _TOKENS.items():
            add(task_id, ended, name, usage[key])
        if row["cost"] is None:
            add(task_id, ended, "unpriced", 1)
        else:
            add(task_id, ended, f"cost_{row['cost_source']}", round(Decimal(row["cost"]) * 1_000_000))
    return found
