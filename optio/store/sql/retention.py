"""Retention: deletion of rows that the policy no longer keeps, in steps so small that no other transaction waits for one.

Rows of runs that have not ended are never touched. The rows that give a repeated request its first answer (deliveries, their
slots, idempotency keys) stay for a week at least, whatever the policy says.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from optio.errors import Conflict, NotFound
from optio.model.run import RunState
from optio.store.sql import audit, daily_totals, dedupe, job_leases, recordings
from optio.store.sql.engine import Engine
from optio.store.sql.registry import UNTAKEN
from optio.store.sql.transaction import Transaction, span_in_micros
from optio.store.values import DEDUPE_MEMORY, SESSION_PREFIX, PrunedKind, RetentionPolicy

# The most rows that one transaction deletes.
ROWS_PER_TRANSACTION = 500
# The most runs, and generations, that one transaction handles.
_RUNS_PER_TRANSACTION = 50
_GENERATIONS_PER_TRANSACTION = 20
# The job whose progress is the end time of runs up to which log lines are deleted.
_LOGS = "logs"

_ENDED = """
SELECT id, seq, ended_at FROM runs
WHERE ended_at IS NOT NULL AND ended_at < :before AND (ended_at > :after OR (ended_at = :after AND seq > :seq))
ORDER BY ended_at, seq LIMIT :most
"""
_HELD = "SELECT id, task_id, dedupe_key, state, ended_at FROM runs WHERE id = :id"
# A run that still holds a business key stays, although its retention is over.
_STANDS = "SELECT 1 FROM dedupe WHERE task_id = :task_id AND dedupe_key = :key AND run_id = :id AND until > :now"
_LINES = "DELETE FROM log_lines WHERE run_id = :id AND seq < :upto"
_AGENT_EVENTS = "DELETE FROM agent_events WHERE run_id = :id AND seq < :upto"
_FIRST_LINE = "SELECT MIN(seq) AS first FROM log_lines WHERE run_id = :id"

_OLD_DELIVERIES = """
FROM deliveries WHERE received_at < :before
    AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = deliveries.run_id AND r.ended_at IS NULL)
"""
_DELIVERIES = f"DELETE FROM deliveries WHERE seq IN (SELECT seq {_OLD_DELIVERIES} ORDER BY received_at LIMIT :most)"  # noqa: S608
_KEYS = (
    "DELETE FROM once WHERE (scope, once_key) IN (SELECT scope, once_key FROM once WHERE at < :before ORDER BY at LIMIT :most)"
)
_GUARDS = (
    "DELETE FROM replay_guards WHERE (task_id, digest) IN "
    "(SELECT task_id, digest FROM replay_guards WHERE until <= :before ORDER BY until LIMIT :most)"
)
# Counts are deleted after their delivery.
_REPEATS = (
    "DELETE FROM delivery_repeats WHERE delivery_id IN (SELECT p.delivery_id FROM delivery_repeats p WHERE p.at < :before "
    "AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.id = p.delivery_id) LIMIT :most)"
)
# Sessions that ended are shown by `optio token list` for a while.
_OLD_SESSIONS = f"FROM tokens WHERE substr(id, 1, {len(SESSION_PREFIX)}) = '{SESSION_PREFIX}' AND expires_at < :before"
_SESSIONS = f"DELETE FROM tokens WHERE id IN (SELECT id {_OLD_SESSIONS} LIMIT :most)"  # noqa: S608
_REFUSALS = (
    "DELETE FROM refused_requests WHERE (minute, path, verdict) IN "
    "(SELECT minute, path, verdict FROM refused_requests WHERE minute < :before ORDER BY minute LIMIT :most)"
)
# The first part is a skip scan from task to task.
_SLOT_TASKS = """
WITH RECURSIVE tasks_of (task_id) AS (
    SELECT MIN(task_id) FROM slots
    UNION ALL
    SELECT (SELECT MIN(s.task_id) FROM slots s WHERE s.task_id > t.task_id) FROM tasks_of t WHERE t.task_id IS NOT NULL
)
"""
_OLD_SLOTS = f"""{_SLOT_TASKS}
SELECT s.task_id, s.slot FROM tasks_of t JOIN slots s ON s.task_id = t.task_id AND s.slot < :before
"""  # noqa: S608
_SLOTS = f"DELETE FROM slots WHERE (task_id, slot) IN ({_OLD_SLOTS} LIMIT :most)"  # noqa: S608
_SKIPPED = "DELETE FROM skipped_slots WHERE last_slot < :before"
# A server that did not know a generation yet may have accepted runs by the previous one, after others did by the new one.
_LATE_GENERATIONS = 1000
# Kept are the generation served at the cutoff, those that a run names or a scheduler has yet to adopt, and all later ones.
_GENERATIONS_FROM = f"""
SELECT (SELECT MAX(id) FROM generations WHERE activated_at < :before) AS served,
    (SELECT MIN(o.generation) FROM (
        SELECT generation FROM runs WHERE generation IS NOT NULL ORDER BY seq LIMIT {_LATE_GENERATIONS}
    ) o) AS named,
    (SELECT MIN(id) FROM generations WHERE {UNTAKEN}) AS unscheduled
"""  # noqa: S608
_OLD_GENERATIONS = "DELETE FROM generations WHERE id IN (SELECT id FROM generations WHERE id < :upto ORDER BY id LIMIT :most)"
_OLD_TAKEN_UP = (
    "DELETE FROM taken_up WHERE generation_id < :upto "
    "AND NOT EXISTS (SELECT 1 FROM generations g WHERE g.id = taken_up.generation_id)"
)
_UNUSED = """
SELECT digest FROM definitions d WHERE first_seen_at < :before AND digest > :after
    AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.digest = d.digest)
    AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.digest = d.digest)
ORDER BY digest LIMIT :most
"""
_DEFINITION = """
DELETE FROM definitions WHERE digest = :digest
    AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.digest = definitions.digest)
    AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.digest = definitions.digest)
"""


@dataclass(frozen=True, slots=True)
class _Cutoffs:
    """The times before which rows of each kind may be deleted; None for never."""

    runs: int | None
    logs: int | None
    deliveries: int | None
    slots: int | None
    keys: int
    guards: int
    totals: int


def _cutoffs(tx: Transaction, keep: RetentionPolicy) -> _Cutoffs:
    def before(span: timedelta | None, least: timedelta = timedelta(0)) -> int | None:
        return None if span is None else tx.now - span_in_micros(max(span, least))

    return _Cutoffs(
        runs=before(keep.runs),
        logs=before(keep.logs),
        deliveries=before(keep.deliveries or keep.runs, DEDUPE_MEMORY),
        slots=before(keep.runs, DEDUPE_MEMORY),
        keys=tx.now - span_in_micros(DEDUPE_MEMORY),
        guards=tx.now,
        totals=daily_totals.day_of(tx.now) - daily_totals.KEPT_DAYS,
    )


def prune(engine: Engine, keep: RetentionPolicy) -> Iterator[tuple[PrunedKind, int]]:
    """Delete what the policy no longer keeps, step by step (`Store.prune`)."""
    cutoffs = engine.peek(lambda tx: _cutoffs(tx, keep))
    if cutoffs.runs is not None:
        yield from _prune_runs(engine, cutoffs.runs)
    if cutoffs.logs is not None:
        yield from _prune_logs(engine, cutoffs.logs)
    yield from _delete_old(engine, "deliveries", _DELIVERIES, cutoffs.deliveries)
    yield from _delete_old(engine, "counts", _REPEATS, cutoffs.deliveries)
    yield from _delete_old(engine, "counts", _REFUSALS, cutoffs.deliveries)
    yield from _delete_old(engine, "keys", _KEYS, cutoffs.keys)
    yield from _repeat(engine, "keys", lambda tx: dedupe.prune(tx, ROWS_PER_TRANSACTION))
    yield from _delete_old(engine, "keys", _GUARDS, cutoffs.guards)
    yield from _delete_old(engine, "sessions", _SESSIONS, cutoffs.keys)
    # Folding the stripes of totals deletes nothing that is counted.
    for _ in _repeat(engine, "totals", lambda tx: daily_totals.fold(tx, ROWS_PER_TRANSACTION)):
        yield "totals", 0
    for sql in daily_totals.PRUNE:
        yield from _delete_old(engine, "totals", sql, cutoffs.totals)
    yield from _delete_old(engine, "slots", _SLOTS, cutoffs.slots)
    if cutoffs.slots is not None:
        before = cutoffs.slots
        yield "slots", engine.change(lambda tx: tx.run(_SKIPPED, {"before": before}))
        if upto := engine.peek(lambda tx: _generations_upto(tx, before)):
            yield from _repeat(engine, "generations", lambda tx: _delete_generations(tx, upto))
        yield from _prune_definitions(engine, before)


def _delete_old(engine: Engine, kind: PrunedKind, sql: str, before: int | None) -> Iterator[tuple[PrunedKind, int]]:
    if before is not None:
        yield from _repeat(engine, kind, lambda tx: tx.run(sql, {"before": before, "most": ROWS_PER_TRANSACTION}))


def _repeat(engine: Engine, kind: PrunedKind, step: Callable[[Transaction], int]) -> Iterator[tuple[PrunedKind, int]]:
    """Run a step that deals with at most ROWS_PER_TRANSACTION rows until it has fewer to deal with."""
    count = ROWS_PER_TRANSACTION
    while count == ROWS_PER_TRANSACTION:
        count = engine.change(step)
        yield kind, count


def _prune_runs(engine: Engine, before: int) -> Iterator[tuple[PrunedKind, int]]:
    after, seq = -(2**62), 0
    while True:
        params = {"before": before, "after": after, "seq": seq, "most": _RUNS_PER_TRANSACTION}
        rows = engine.peek(lambda tx: tx.all(_ENDED, params))  # noqa: B023 - called at once
        ids = [row["id"] for row in rows]
        pruned = 0
        while pruned < len(ids):
            lines, deleted, seen_runs = engine.change(lambda tx: _delete_runs(tx, ids[pruned:], before))  # noqa: B023
            pruned += seen_runs
            yield "log_lines", lines
            yield "runs", deleted
        if not rows:
            return
        after, seq = rows[-1]["ended_at"], rows[-1]["seq"]


def _delete_runs(tx: Transaction, ids: list[str], before: int) -> tuple[int, int, int]:
    """Delete some of these runs and their lines, as far as one step reaches; return (lines, runs, number of runs dealt
    with)."""
    lines = deleted = 0
    for place, run_id in enumerate(ids):
        row = _hold_ended(tx, run_id, before)
        if row is None or _stands(tx, row):
            continue
        lines += _delete_lines(tx, run_id, ROWS_PER_TRANSACTION - lines)
        if lines >= ROWS_PER_TRANSACTION:
            return lines, deleted, place
        _delete(tx, run_id)
        deleted += 1
    return lines, deleted, len(ids)


def _hold_ended(tx: Transaction, run_id: str, before: int) -> Any:
    """Return the locked row of a run, or None if it is gone or has not ended by then."""
    row = tx.hold(_HELD, {"id": run_id})
    return None if row is None or row["ended_at"] is None or row["ended_at"] >= before else row


def _stands(tx: Transaction, row: Any) -> bool:
    if row["dedupe_key"] is None:
        return False
    params = {"task_id": row["task_id"], "key": row["dedupe_key"], "id": row["id"], "now": tx.now}
    return tx.one(_STANDS, params) is not None


def _delete_lines(tx: Transaction, run_id: str, most: int) -> int:
    first = tx.one(_FIRST_LINE, {"id": run_id})["first"]
    if first is None:
        return 0
    part = {"id": run_id, "upto": first + most}
    tx.run(_AGENT_EVENTS, part)
    return tx.run(_LINES, part)


def _delete(tx: Transaction, run_id: str) -> None:
    for table in (
        "attempts",
        "begun",
        "attempt_pods",
        "attempt_agents",
        "continued_attempts",
        "attempt_keys",
        "model_calls",
        "connection_calls",
        "recorded_calls",
        "recorded_parts",
        "agent_events",
        "events",
        "runs",
    ):
        column = "id" if table == "runs" else "run_id"
        tx.run(f"DELETE FROM {table} WHERE {column} = :id", {"id": run_id})  # noqa: S608 - names are ours


def _prune_logs(engine: Engine, before: int) -> Iterator[tuple[PrunedKind, int]]:
    """Delete log lines by the end time of their runs; progress is stored, so that pruned runs are not read again unless a run
    is retried and ends anew."""
    while True:
        after = engine.peek(lambda tx: job_leases.progress(tx, _LOGS))
        # Beyond all sequence numbers, because runs that ended at the same instant are done too.
        params = {"before": before, "after": after, "seq": 2**62, "most": _RUNS_PER_TRANSACTION}
        rows = engine.peek(lambda tx: tx.all(_ENDED, params))  # noqa: B023 - called at once
        if not rows:
            return
        upto = rows[-1]["ended_at"]
        if len(rows) == _RUNS_PER_TRANSACTION:
            params |= {"before": upto + 1, "most": 2**31 - 1}
            rows = engine.peek(lambda tx: tx.all(_ENDED, params))  # noqa: B023
        ids = [row["id"] for row in rows]
        pruned = 0
        while pruned < len(ids):
            lines, seen_runs = engine.change(lambda tx: _delete_logs(tx, ids[pruned:], before))  # noqa: B023
            pruned += seen_runs
            yield "log_lines", lines
        engine.change(lambda tx: job_leases.advance(tx, _LOGS, upto))  # noqa: B023


def _delete_logs(tx: Transaction, ids: list[str], before: int) -> tuple[int, int]:
    lines = 0
    for place, run_id in enumerate(ids):
        if _hold_ended(tx, run_id, before) is not None:
            lines += _delete_lines(tx, run_id, ROWS_PER_TRANSACTION - lines)
            if lines >= ROWS_PER_TRANSACTION:
                return lines, place
            recordings.delete(tx, run_id)
    return lines, len(ids)


def _delete_generations(tx: Transaction, upto: int) -> int:
    count = tx.run(_OLD_GENERATIONS, {"upto": upto, "most": ROWS_PER_TRANSACTION})
    tx.run(_OLD_TAKEN_UP, {"upto": upto})
    return count


def _generations_upto(tx: Transaction, before: int) -> int:
    row = tx.one(_GENERATIONS_FROM, {"before": before})
    if row["served"] is None:
        return 0
    upto: int = min(row[name] for name in ("served", "named", "unscheduled") if row[name] is not None)
    return upto


def _prune_definitions(engine: Engine, before: int) -> Iterator[tuple[PrunedKind, int]]:
    after = ""
    while True:
        params = {"before": before, "after": after, "most": ROWS_PER_TRANSACTION}
        rows = engine.peek(lambda tx: tx.all(_UNUSED, params))  # noqa: B023 - called at once
        if not rows:
            return
        after = rows[-1]["digest"]
        unused = _not_in_generations(engine, {row["digest"] for row in rows})
        if unused:
            yield "definitions", engine.change(lambda tx: _delete_definitions(tx, unused))  # noqa: B023


def _not_in_generations(engine: Engine, digests: set[str]) -> set[str]:
    last = 0
    while digests:
        params = {"last": last, "most": _GENERATIONS_PER_TRANSACTION}
        sql = "SELECT id, tasks FROM generations WHERE id > :last ORDER BY id LIMIT :most"
        rows = engine.peek(lambda tx: tx.all(sql, params))  # noqa: B023 - called at once
        if not rows:
            break
        for row in rows:
            digests.difference_update(json.loads(row["tasks"]).values())
        last = rows[-1]["id"]
    return digests


def _delete_definitions(tx: Transaction, digests: set[str]) -> int:
    # A generation activated meanwhile may need one of them: it finds it, or inserts it again.
    tx.lock("registry")
    return sum(tx.run(_DEFINITION, {"digest": digest}) for digest in sorted(digests))


def prunable(tx: Transaction, keep: RetentionPolicy) -> dict[str, int]:
    """Count the rows that `prune` would delete now (`Store.prunable`)."""
    cutoffs = _cutoffs(tx, keep)
    kinds = ("runs", "log_lines", "deliveries", "counts", "slots", "keys", "totals", "sessions")
    prunable_counts = dict.fromkeys(kinds, 0)
    ended_sql = "SELECT COUNT(*) AS n, COALESCE(SUM(last_line), 0) AS lines FROM runs WHERE ended_at IS NOT NULL"
    if cutoffs.runs is not None:
        row = tx.one(f"{ended_sql} AND ended_at < :before", {"before": cutoffs.runs})
        prunable_counts |= {"runs": row["n"], "log_lines": int(row["lines"])}
    if cutoffs.logs is not None:
        after = max(job_leases.progress(tx, _LOGS), cutoffs.runs or -(2**62))
        row = tx.one(f"{ended_sql} AND ended_at < :before AND ended_at > :after", {"before": cutoffs.logs, "after": after})
        prunable_counts["log_lines"] += int(row["lines"])
    for kind, of_kind, before in (
        ("deliveries", _OLD_DELIVERIES, cutoffs.deliveries),
        ("counts", "FROM refused_requests WHERE minute < :before", cutoffs.deliveries),
        ("slots", "FROM slots WHERE slot < :before", cutoffs.slots),
        ("keys", "FROM once WHERE at < :before", cutoffs.keys),
        ("keys", "FROM replay_guards WHERE until <= :before", cutoffs.guards),
        ("sessions", _OLD_SESSIONS, cutoffs.keys),
    ):
        if before is not None:
            prunable_counts[kind] += tx.one(f"SELECT COUNT(*) AS n {of_kind}", {"before": before})["n"]
    prunable_counts["totals"] = sum(row["n"] for row in tx.all(daily_totals.PRUNABLE, {"before": cutoffs.totals}))
    return prunable_counts


def delete_run(engine: Engine, run_id: str) -> None:
    """Delete an ended run and all that belongs to it (`Store.delete_run`)."""
    while not engine.change(lambda tx: _delete_part(tx, run_id)):
        pass


def _delete_part(tx: Transaction, run_id: str) -> bool:
    row = tx.hold(_HELD, {"id": run_id})
    if row is None:
        raise NotFound("run", run_id)
    if row["ended_at"] is None:
        cure = "cancel it first" if row["state"] in (RunState.QUEUED, RunState.RUNNING) else "try again"
        raise Conflict(f"the run is {row['state']}: {cure}")
    if _delete_lines(tx, run_id, ROWS_PER_TRANSACTION) >= ROWS_PER_TRANSACTION:
        return False
    _delete(tx, run_id)
    audit.note_deleted(tx, run_id)
    return True
