"""Deliveries: stored webhook requests and their outcomes. The first delivery with a key decides the answer to all its
repeats."""

from collections.abc import Iterator, Sequence
from typing import Any

from optio.errors import Conflict, NotFound
from optio.model.run import Page
from optio.store.sql import replay_guards
from optio.store.sql.records import cursor_after, narrow, page_size, to_delivery
from optio.store.sql.transaction import Row, Transaction, dump_json
from optio.store.values import EVERY_DELIVERY, Accepted, Delivery, DeliveryFilter, DeliveryVerdict, NewDelivery

_COLUMNS = (
    "id, seq, path, task_id, delivery_key, received_at, headers, body, body_sha256, verdict, status, detail, gate, run_id, "
    "(SELECT p.repeats FROM delivery_repeats p WHERE p.delivery_id = deliveries.id) AS repeats, "
    "(SELECT p.replays FROM delivery_repeats p WHERE p.delivery_id = deliveries.id) AS replays"
)
_LISTED = _COLUMNS.replace(" body,", " NULL AS body,")
_OF_KEY = f"SELECT {_COLUMNS} FROM deliveries WHERE task_id = :task_id AND delivery_key = :key"  # noqa: S608
# A delivery that was refused as a duplicate (409) may be tried again.
_DUPLICATE = f"{_OF_KEY} AND verdict = 'duplicate' AND status = 202"
_KNOWN = f"{_OF_KEY} AND verdict IN ('accepted', 'filtered') UNION ALL {_DUPLICATE} LIMIT 1"
_NEW = """
INSERT INTO deliveries (
    id, path, task_id, delivery_key, received_at, headers, body, body_sha256, verdict, status, detail, gate, run_id
) {values}
ON CONFLICT (task_id, delivery_key) WHERE delivery_key IS NOT NULL AND verdict IN ('accepted', 'filtered') DO NOTHING
"""
_VALUES = ":id, :path, :task_id, :key, :now, :headers, :body, :body_sha256, :verdict, :status, :detail, :gate, :run_id"
_INSERT = _NEW.format(values=f"VALUES ({_VALUES})")
_INSERT_MANY = _NEW.format(values=f"SELECT {_VALUES.replace(':', 'lot.')} FROM lot WHERE TRUE")  # noqa: S608
_BULK_COLUMNS = (
    "id text, path text, task_id text, key text, now bigint, headers text, body bytea, body_sha256 text, verdict text, "
    "status integer, detail text, gate text, run_id text"
)
# The data is in memory several times, and PostgreSQL accepts a gigabyte per statement at most.
_MAX_STATEMENT_BYTES = 32 << 20


# The distinct verdicts of a task or path, by a skip scan over the index.
_VERDICTS = """
SELECT verdict FROM (
    WITH RECURSIVE had (verdict) AS (
        SELECT (SELECT MIN(verdict) FROM deliveries WHERE {column} = :{column})
        UNION ALL
        SELECT (SELECT MIN(d.verdict) FROM deliveries d WHERE d.{column} = :{column} AND d.verdict > had.verdict)
        FROM had WHERE had.verdict IS NOT NULL
    )
    SELECT verdict FROM had
) AS each_verdict WHERE verdict IS NOT NULL
"""
# For PostgreSQL: a page is a walk along the index of its filters. The planner assumes that verdicts are spread evenly over time
# and does not know the bounds: it would read all that a filter finds and sort it, or walk along all rows to find a page.
_WALK = "SELECT set_config('enable_sort', 'off', TRUE), set_config('random_page_cost', '0', TRUE)"
# By the sequence number too, so that the walk ends where the time does. Not by the index of times (hence `+ 0`): it leads to
# all rows of the span, which must then be sorted.
_BOUNDS = {
    "since": (
        "received_at + 0 >= :since",
        "seq >= (SELECT seq FROM deliveries WHERE received_at >= :since ORDER BY received_at LIMIT 1)",
    ),
    "until": (
        "received_at + 0 <= :until",
        "seq <= (SELECT seq FROM deliveries WHERE received_at <= :until ORDER BY received_at DESC LIMIT 1)",
    ),
}


def find_known(tx: Transaction, task_id: str, key: str) -> Delivery | None:
    """Return the first delivery with this key that was accepted, filtered or joined to a run."""
    row = tx.one(_KNOWN, {"task_id": task_id, "key": key})
    return None if row is None else to_delivery(row)


def columns(new: NewDelivery, run_id: str | None) -> dict[str, Any]:
    """Return the row of a delivery without its time, so that callers can make it before the transaction."""
    return {
        "id": new.id,
        "path": new.path,
        "task_id": new.task_id,
        "key": new.key,
        "headers": dump_json(dict(new.headers)),
        "body": new.body,
        "body_sha256": new.body_sha256,
        "verdict": new.verdict,
        "status": new.status,
        "detail": new.detail,
        "gate": new.gate,
        "run_id": run_id,
    }


def insert(tx: Transaction, row: dict[str, Any]) -> Accepted | None:
    """Insert a delivery; if its key is known, return the answer of the first one instead, or raise Conflict when the body
    differs."""
    row["now"] = tx.now
    if tx.run(_INSERT, row):
        return None
    return _count_again(tx, find_known(tx, row["task_id"], row["key"]), row)


def receive(tx: Transaction, row: dict[str, Any], guard: dict[str, Any] | None, *, joinable: bool = False) -> Accepted | None:
    """Insert a delivery; if it repeats another, by its id or its guard, return that one's answer instead. Raise Conflict for a
    known id with another body. `joinable` deliveries may later be joined to a run by a business key."""
    holder = None if guard is None else replay_guards.take(tx, guard)
    if holder is not None:
        return _replay(tx, row, holder)
    earlier = insert(tx, row)
    if earlier is None and joinable:
        earlier = record_duplicate(tx, row)
    if earlier is not None and guard is not None:
        replay_guards.release(tx, guard)
    return earlier


def _replay(tx: Transaction, row: dict[str, Any], holder: Row) -> Accepted:
    """Return the answer of the delivery that holds the guard: this request repeats that one, or replays it under another id."""
    first = None if row["key"] is None else find_known(tx, row["task_id"], row["key"])
    if first is not None:
        return _count_again(tx, first, row)
    tx.counts.replays[holder["delivery_id"]] += 1
    return Accepted(holder["run_id"], first=False, replay_of=holder["delivery_id"])


def record_duplicate(tx: Transaction, row: dict[str, Any]) -> Accepted | None:
    """Return the answer of an earlier delivery with the same key that was joined to a run; this one, just inserted, is then
    counted as its repeat."""
    first = None if row["key"] is None else tx.one(_DUPLICATE, {"task_id": row["task_id"], "key": row["key"]})
    if first is None:
        return None
    tx.run("DELETE FROM deliveries WHERE id = :id", {"id": row["id"]})
    return _count_again(tx, to_delivery(first), row)


def _count_again(tx: Transaction, first: Delivery | None, row: dict[str, Any]) -> Accepted:
    if first is None or first.body_sha256 != row["body_sha256"]:
        raise Conflict("a delivery with this id was received with another body")
    tx.counts.repeats[first.id] += 1
    return Accepted(first.run_id, first=False, duplicate=first.verdict == "duplicate")


def settle(tx: Transaction, delivery_id: str, verdict: DeliveryVerdict, status: int, run_id: str) -> None:
    """Record the outcome of a delivery that was inserted in this transaction."""
    tx.run(
        "UPDATE deliveries SET verdict = :verdict, status = :status, run_id = :run_id WHERE id = :id",
        {"verdict": verdict, "status": status, "run_id": run_id, "id": delivery_id},
    )


def insert_many(tx: Transaction, rows: Sequence[dict[str, Any]]) -> set[str]:
    """Insert deliveries whose keys are new; return their ids."""
    for row in rows:
        row["now"] = tx.now
    if sum(tx.lot(_INSERT_MANY, _BULK_COLUMNS, part) for part in _split_by_bytes(rows)) == len(rows):
        return {row["id"] for row in rows}
    names = {f"id{place}": row["id"] for place, row in enumerate(rows)}
    known_rows = tx.all(f"SELECT id FROM deliveries WHERE id IN ({', '.join(f':{name}' for name in names)})", names)  # noqa: S608
    return {row["id"] for row in known_rows}


def _split_by_bytes(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield rows in parts as large as one statement may carry."""
    part: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        part.append(row)
        size += len(row["body"] or b"")
        if size > _MAX_STATEMENT_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def record(tx: Transaction, row: dict[str, Any], guard: dict[str, Any] | None) -> Accepted:
    """Insert a delivery that starts no run (`Store.record_delivery`); a known one gives the first one's run."""
    return receive(tx, row, guard) or Accepted(None, first=True)


def get(tx: Transaction, delivery_id: str) -> Delivery:
    """Return a delivery with its body (`Store.delivery`); raise NotFound."""
    row = tx.one(f"SELECT {_COLUMNS} FROM deliveries WHERE id = :id", {"id": delivery_id})  # noqa: S608
    if row is None:
        raise NotFound("delivery", delivery_id)
    return to_delivery(row)


def page(tx: Transaction, where: DeliveryFilter = EVERY_DELIVERY, *, cursor: str | None = None, limit: int = 50) -> Page:
    """Return a page of deliveries, newest first, without bodies (`Store.deliveries`). It reads one snapshot.

    Every index ends with `verdict, seq`. Without a verdict to filter by, the page is merged from the newest of each verdict
    that the task or path has: there are few, and the index has the next one at hand.
    """
    limit = page_size(limit)
    params: dict[str, Any] = {"limit": limit + 1}
    conditions = [f"{column} = :{column}" for column in ("task_id", "path", "verdict") if getattr(where, column) is not None]
    params.update({column: getattr(where, column) for column in ("task_id", "path", "verdict")})
    conditions = narrow("deliveries", conditions, params, where, _BOUNDS, cursor)
    if tx.lateral:
        tx.one(_WALK)
    rows = tx.all(_page_of(tx, where, conditions, params), params)
    items = [to_delivery(row) for row in rows[:limit]]
    return Page(items=items, next=cursor_after(items[-1].seq) if len(rows) > limit else None)


def _page_of(tx: Transaction, where: DeliveryFilter, conditions: Sequence[str], params: dict[str, Any]) -> str:
    """Return the statement of a page, and add the parameters that it needs beside those of the conditions."""
    newest = "SELECT {} FROM deliveries WHERE {} ORDER BY seq DESC LIMIT :limit"
    if where.id_prefix is not None:
        return newest.replace("seq", "id").format(_LISTED, " AND ".join(conditions))
    if where.verdict is not None or (where.task_id is None and where.path is None):
        return newest.format(_LISTED, " AND ".join([*conditions, "1 = 1"]))
    column = "task_id" if where.path is None else "path"
    verdicts = [row["verdict"] for row in tx.all(_VERDICTS.format(column=column), params)]
    params.update({f"verdict{place}": verdict for place, verdict in enumerate(verdicts)})
    selects = [newest.format(_LISTED, " AND ".join([*conditions, f"verdict = :verdict{n}"])) for n in range(len(verdicts))]
    union = " UNION ALL ".join(f"SELECT * FROM ({select}) AS of_verdict{n}" for n, select in enumerate(selects))  # noqa: S608
    return f"{union} ORDER BY seq DESC LIMIT :limit" if selects else newest.format(_LISTED, "1 = 0")
