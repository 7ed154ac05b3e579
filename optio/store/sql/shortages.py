"""Shortages: the tasks, or whole places, that start no agents for now. `model.room` decides how they go on.

The state of a try is not stored but derived: a run of the task is running and its agent has not begun. So a worker that dies in
the middle of a try leaves nothing behind that would delay the next one.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from optio.model import room
from optio.model.room import Delay, Shortage
from optio.store.sql.rows import from_row
from optio.store.sql.transaction import Row, Transaction, from_micros, span_in_micros

# A place without news for this long no longer exists.
_FORGET_AFTER = timedelta(days=1)
# Of a whole place only a run that was claimed since is a try: those before it found out that it is closed.
_ALL = """
SELECT s.*, (SELECT MIN(e.ended_at) FROM runs e WHERE e.ended_at > s.at) AS freed, (
    SELECT COUNT(*) FROM runs r JOIN attempts a ON a.run_id = r.id AND a.number = r.attempt
    WHERE r.state = 'running' AND a.agent_started_at IS NULL AND a.started_at > :recent
        AND (r.task_id = s.task_id OR (s.task_id = '' AND r.place = s.place AND a.started_at > s.at))
) AS starting FROM shortages s
"""
_OF = "SELECT * FROM shortages WHERE place = :place AND task_id = :task_id"
_PUT = """
INSERT INTO shortages (place, task_id, reason, message, ends_help, since, at, until, tries, begun)
VALUES (:place, :task_id, :reason, :message, :ends_help, :since, :now, :until, :tries, 0)
ON CONFLICT (place, task_id) DO UPDATE SET reason = excluded.reason, message = excluded.message,
    ends_help = excluded.ends_help, since = excluded.since, at = excluded.at, until = excluded.until, tries = excluded.tries,
    begun = 0
"""
# A try counts for every task with the same shortage: the others wait for the next end of a run.
_TRIED = (
    "UPDATE shortages SET at = :now WHERE place = :place AND reason = :reason AND ends_help = 1 AND begun = 0 AND at < :now"
)
_FREED = "SELECT 1 FROM runs WHERE ended_at > :at LIMIT 1"
# Only an attempt claimed after the shortage was found proves that there is room again, or that the place is open.
_SINCE = """
    SELECT 1 FROM lot JOIN runs r ON r.id = lot.id JOIN attempts a ON a.run_id = r.id AND a.number = lot.number
    LEFT JOIN shortages own ON own.place = r.place AND own.task_id = r.task_id
    WHERE r.place = shortages.place AND a.started_at > shortages.at
"""
_BEGUN = f"UPDATE shortages SET begun = begun + 1 WHERE EXISTS ({_SINCE} AND r.task_id = shortages.task_id)"  # noqa: S608
# What was wrong for one task is over for all that it was wrong for.
_OPEN = f"""
DELETE FROM shortages WHERE ends_help = 0
AND EXISTS ({_SINCE} AND (shortages.task_id IN ('', r.task_id) OR shortages.reason = own.reason))
"""  # noqa: S608
# A cluster that says what it lacks room for is open.
_ANSWERS = "DELETE FROM shortages WHERE place = :place AND task_id = '' AND at < :claimed_at"
_OVER = "DELETE FROM shortages WHERE begun >= :enough"
# The time of the next try, for `Shortage.due`.
DUE = f"""
SELECT MIN(due) FROM (
    SELECT until AS due FROM shortages WHERE begun = 0 UNION ALL
    SELECT (SELECT MIN(e.ended_at) FROM runs e WHERE e.ended_at > s.at)
        + {span_in_micros(room.DELAY_AFTER_RUN_END)}
    FROM shortages s WHERE s.begun = 0 AND s.ends_help = 1
) tries WHERE due > :now
"""  # noqa: S608 - a number of ours


def every(tx: Transaction, place: str | None = None) -> list[Shortage]:
    """Return the shortages of one place, or of all places, in the order in which they are due."""
    sql = f"{_ALL} ORDER BY s.place, s.task_id" if place is None else f"{_ALL} WHERE s.place = :place ORDER BY s.task_id"
    params = {"recent": tx.now - span_in_micros(room.MAX_TRY_DURATION)}
    return [_shortage(row) for row in tx.all(sql, params if place is None else {**params, "place": place})]


def _shortage(row: Row) -> Shortage:
    due = row["until"]
    if row["ends_help"] and row["freed"] is not None:
        due = min(due, row["freed"] + span_in_micros(room.DELAY_AFTER_RUN_END))
    return from_row(Shortage, row, due=from_micros(due))


def note(tx: Transaction, place: str, run: Row, why: Delay, claimed_at: int) -> datetime | None:
    """Record that a run, claimed at this time, was refused. Return when its patience ends; None if it waits without end."""
    key: dict[str, Any] = {
        "place": place, "task_id": room.WHOLE_PLACE if why.reason in room.PLACE_REFUSALS else run["task_id"]
    }  # fmt: skip
    row = tx.hold(_OF, key)
    ends_help = int(why.ends_help)
    # Runs claimed together find no room together, so only a run claimed since then counts as a further try.
    news = row is None or claimed_at > row["at"]
    is_same = row is not None and (row["reason"], row["ends_help"]) == (why.reason, ends_help)
    since = row["since"] if is_same and not (news and row["begun"]) else tx.now
    end = None if why.patience is None else max(since, run["queued_at"]) + span_in_micros(why.patience)
    if news:
        tries = 1
        if is_same and not row["begun"] and not (ends_help and tx.one(_FREED, {"at": row["at"]})):
            tries += row["tries"]
        until = tx.now + span_in_micros(room.pause_before_try(tries, for_room=ends_help == 1))
        if end is not None:
            until = min(until, max(end, tx.now + span_in_micros(room.FIRST_PAUSE)))
        new = {"reason": why.reason, "message": why.message, "ends_help": ends_help, "since": since}
        tx.run(_PUT, {**key, **new, "now": tx.now, "until": until, "tries": tries})
        if ends_help:
            tx.run(_TRIED, {"place": place, "reason": why.reason, "now": tx.now})
            tx.run(_ANSWERS, {"place": place, "claimed_at": claimed_at})
        tx.run("DELETE FROM shortages WHERE until < :old", {"old": tx.now - span_in_micros(_FORGET_AFTER)})
    return None if end is None else from_micros(end)


def note_begun(tx: Transaction, attempt_keys: Sequence[dict[str, Any]]) -> None:
    """Record that the agents of these attempts began, given as rows with `id` and `number`."""
    tx.lot(_OPEN, "id text, number bigint", attempt_keys)
    if tx.lot(_BEGUN, "id text, number bigint", attempt_keys):
        tx.run(_OVER, {"enough": room.STARTS_TO_END_SHORTAGE})
