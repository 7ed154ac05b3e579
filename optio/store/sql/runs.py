"""Runs: accepting, cancelling, retrying and reading them. Claims, logs and ends are written by their owners, in `claims`."""

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from optio.errors import Conflict, NotFound
from optio.model.registry import CompiledTask, canonical
from optio.model.run import Attempt, Event, LogLine, Page, Run, RunChange, RunState
from optio.store.sql import dedupe, deliveries, events, idempotency, replay_guards
from optio.store.sql.group_commit import DiskUse
from optio.store.sql.records import (
    ATTEMPTS,
    RUN_COLUMNS,
    cursor_after,
    narrow,
    page_size,
    to_attempt,
    to_line,
    to_run,
)
from optio.store.sql.rows import from_row
from optio.store.sql.transaction import BulkRows, Transaction, dump_json, to_micros
from optio.store.values import Accepted, IdempotencyKey, NewDelivery, NewRun, RunFilter

_COLUMNS = (
    "id, task_id, task_name, digest, generation, state, reason, run_trigger, slot, delivery_id, params, prompt, "
    "max_concurrent, max_retries, created_at, queued_at, not_before, traceparent, priority, dedupe_key, last_event"
)
_VALUES = (
    ":id, :task_id, :task_name, :digest, :generation, 'queued', :trigger, :trigger, :slot, "
    ":delivery_id, :params, :prompt, :max_concurrent, :max_retries, :now, :now, :now, :traceparent, :priority, :dedupe_key, 1"
)
_INSERT = f"INSERT INTO runs ({_COLUMNS}) VALUES ({_VALUES})"  # noqa: S608
_BULK_VALUES = re.sub(r":(?!now\b)", "lot.", _VALUES)
_INSERT_MANY = f"INSERT INTO runs ({_COLUMNS}) SELECT {_BULK_VALUES} FROM lot"  # noqa: S608
_BULK_COLUMNS = (
    "id text, task_id text, task_name text, digest text, generation bigint, trigger text, slot bigint, delivery_id text, "
    "params text, prompt text, max_concurrent integer, max_retries integer, traceparent text, priority integer, dedupe_key text"
)
_DEFINITIONS = """
INSERT INTO definitions (digest, task_id, document, first_seen_at)
SELECT lot.digest, lot.task_id, lot.document, lot.now FROM lot WHERE TRUE ON CONFLICT (digest) DO NOTHING
"""
_DEFINITIONS_PER_STATEMENT = 500
# By the sequence number too, so that a walk along any index ends where the time does. Transactions that run side by side take
# their times and their numbers in different orders: hence a second more on either side.
_BOUNDS = {
    "since": (
        "created_at + 0 >= :since",
        "seq >= (SELECT seq FROM runs WHERE created_at >= :since - 1000000 ORDER BY created_at, seq LIMIT 1)",
    ),
    "until": (
        "created_at + 0 <= :until",
        "seq <= (SELECT seq FROM runs WHERE created_at <= :until + 1000000 ORDER BY created_at DESC, seq DESC LIMIT 1)",
    ),
}
_COUNT_ACCEPTED = """
SELECT COUNT(*) AS runs
FROM (SELECT 1 FROM runs WHERE created_at >= :since AND created_at < :until ORDER BY created_at LIMIT :most) AS counted
"""
# Literals, not parameters: a partial index is used only where its condition appears literally. Runs that have not ended are
# few: they are sorted, not read in the order of an index.
_ENDED = ("ended_at IS NOT NULL", "seq")
_OF_STATE = {
    state: (f"state = '{state.value}' AND ended_at IS NOT NULL", "seq")
    if state.terminal
    else (f"state = '{state.value}'", "+seq")
    for state in RunState
}
# A page by cost looks at no more runs.
_RUNS_LOOKED_AT = 5000
_BY_SEQ = f"SELECT {RUN_COLUMNS} FROM runs WHERE seq IN ({{list}})"  # noqa: S608
# The most log lines in one answer.
MAX_LOG_LINES = 10_000
_LAST_CURSOR = 2**62
_WITH_STATE = f"SELECT {RUN_COLUMNS}, last_event FROM runs WHERE id = :id"  # noqa: S608
_ONE = f"SELECT {RUN_COLUMNS} FROM runs WHERE id = :id"  # noqa: S608


class Accept:
    """The operation of `Store.accept`. Rows are made in its constructor, on the caller's thread; the transaction only has to
    run the statements."""

    __slots__ = ("_actor", "_business", "_guard", "_key", "_message", "_received", "_row", "_task")
    disk_use = DiskUse.NOTHING
    independent = True  # nothing else can refer to the run before the commit

    def __init__(self, run: NewRun, delivery: NewDelivery | None, key: IdempotencyKey | None, *, definition_kept: bool) -> None:
        self._row = columns(run, run.delivery_id if delivery is None else delivery.id)
        self._received = None if delivery is None else deliveries.columns(delivery, run.id)
        self._guard = None if delivery is None else replay_guards.columns(delivery, run.id)
        self._task = None if definition_kept else run.task
        self._key = key
        self._business = business_key(run)
        self._actor = run.actor
        self._message = run.message

    def __call__(self, tx: Transaction) -> Accepted:
        """Accept one request."""
        # The key is taken first, so that of two requests at the same moment one waits here for the other.
        if self._key is not None and not idempotency.take(tx, self._key, self._row["id"]):
            return Accepted(idempotency.recall(tx, self._key), first=False)
        if self._received is not None:
            earlier = deliveries.receive(tx, self._received, self._guard, joinable=self._business is not None)
            if earlier is not None:
                return earlier
        superseded: str | None = None
        if self._business is not None:
            holder = self._business.take(tx)
            if holder.duplicate_of is not None:
                return self._duplicate(tx, self._business, holder.duplicate_of)
            superseded = holder.superseded
        if self._task is not None:
            put_definition(tx, self._task)
        insert(tx, self._row, self._actor, self._message)
        return Accepted(self._row["id"], first=True, superseded=superseded)

    def _duplicate(self, tx: Transaction, business: dedupe.DedupeKey, run_id: str) -> Accepted:
        """Return the answer for a request whose business key a run holds, and record it with the delivery and the idempotency
        key. A client that was refused may ask again with the same key."""
        rejected = business.rule.on_duplicate == "reject"
        if self._key is not None:
            idempotency.settle(tx, self._key, None if rejected else run_id)
        if self._received is not None:
            deliveries.settle(tx, self._received["id"], "duplicate", 409 if rejected else 202, run_id)
        if self._guard is not None and rejected:
            replay_guards.release(tx, self._guard)
        elif self._guard is not None:
            replay_guards.settle(tx, self._guard, run_id)
        return Accepted(run_id, first=False, duplicate=True, rejected=rejected)

    @property
    def _plain(self) -> bool:
        return self._received is not None and self._key is None and self._business is None

    @property
    def _order(self) -> tuple[str, ...]:
        key_order = ("", "") if self._key is None else (self._key.scope, self._key.key)
        guard = "" if self._guard is None else self._guard["digest"]
        return (self._row["dedupe_key"] or "", *key_order, guard, "" if self._received is None else self._received["key"] or "")

    @staticmethod
    def together(tx: Transaction, accepts: Sequence["Accept"]) -> list[Accepted]:
        """Accept several requests; webhooks, which are nearly all of them, take four statements together."""
        plain = _guarded(tx, [accept for accept in accepts if accept._plain])
        # In one order everywhere, so that two servers with the same deliveries cannot deadlock.
        received = sorted(
            (accept._received for accept in plain if accept._received), key=lambda row: (row["task_id"], row["key"] or "")
        )
        new_ids = deliveries.insert_many(tx, received)
        _release_guards(tx, plain, new_ids)
        fresh = [accept for accept in plain if accept._received is not None and accept._received["id"] in new_ids]
        unkept = {accept._task.digest: accept._task for accept in fresh if accept._task is not None}
        for digest in sorted(unkept):
            put_definition(tx, unkept[digest])
        insert_many(tx, BulkRuns([(accept._row, accept._actor) for accept in fresh]))
        accepted_by_id = {id(accept): Accepted(accept._row["id"], first=True) for accept in fresh}
        rest = sorted((accept for accept in accepts if id(accept) not in accepted_by_id), key=lambda accept: accept._order)
        accepted_by_id |= {id(accept): accept(tx) for accept in rest}
        return [accepted_by_id[id(accept)] for accept in accepts]


def _guarded(tx: Transaction, accepts: Sequence[Accept]) -> list[Accept]:
    """Take the replay guards of these; return those that hold theirs, or need none. Of several with one body the first holds
    it."""
    firsts: dict[tuple[str, str], Accept] = {}
    for accept in accepts:
        if accept._guard is not None:
            firsts.setdefault((accept._guard["task_id"], accept._guard["digest"]), accept)
    held_deliveries = replay_guards.take_many(tx, [firsts[key]._guard or {} for key in sorted(firsts)])
    return [accept for accept in accepts if accept._guard is None or accept._guard["delivery_id"] in held_deliveries]


def _release_guards(tx: Transaction, accepts: Sequence[Accept], new_ids: Collection[str]) -> None:
    """Release the guards of those whose deliveries are not new."""
    for accept in accepts:
        if accept._guard is not None and accept._guard["delivery_id"] not in new_ids:
            replay_guards.release(tx, accept._guard)


def columns(run: NewRun, delivery_id: str | None = None) -> dict[str, Any]:
    """Return the row of a queued run without its time."""
    task = run.task
    return {
        "id": run.id,
        "task_id": task.id,
        "task_name": task.spec.name,
        "digest": task.digest,
        "generation": run.generation,
        "trigger": run.trigger,
        "slot": None if run.slot is None else to_micros(run.slot),
        "delivery_id": delivery_id,
        "params": dump_json(run.params),
        "prompt": run.prompt,
        "max_concurrent": task.spec.max_concurrent,
        "max_retries": task.spec.max_retries,
        "traceparent": run.traceparent,
        "priority": task.spec.priority,
        "dedupe_key": run.dedupe_key,
    }


def business_key(run: NewRun) -> dedupe.DedupeKey | None:
    """Return the business key that the run asks for; None if its task has no `dedupe`."""
    rule = run.task.spec.dedupe
    if rule is None or run.dedupe_key is None:
        return None
    return dedupe.DedupeKey(task_id=run.task.id, key=run.dedupe_key, rule=rule, run_id=run.id, actor=run.actor)


def insert(tx: Transaction, row: dict[str, Any], actor: str, message: str = "") -> None:
    """Insert a queued run and its first event; its definition must be stored already."""
    row["now"] = tx.now
    tx.run(_INSERT, row)
    events.record_creation(tx, row["id"], row["trigger"], actor, message)


class BulkRuns:
    """Queued runs that are inserted together, given as (row, actor)."""

    def __init__(self, rows: Sequence[tuple[dict[str, Any], str]]) -> None:
        self.rows = BulkRows(_BULK_COLUMNS, [row for row, _ in rows])
        self.births = events.creation_rows((row["id"], row["trigger"], actor) for row, actor in rows)


def insert_many(tx: Transaction, many: BulkRuns) -> None:
    """Insert queued runs and their first events in two statements."""
    tx.bulk_run(_INSERT_MANY, many.rows, {"now": tx.now})
    events.record_creations(tx, many.births)


def put_definition(tx: Transaction, task: CompiledTask) -> None:
    """Store a definition by its digest, unless it is there."""
    if tx.one("SELECT 1 FROM definitions WHERE digest = :digest", {"digest": task.digest}) is None:
        put_definitions(tx, [task])


def put_definitions(tx: Transaction, tasks: Sequence[CompiledTask]) -> None:
    """Store definitions by their digests, unless they are there: thousands at once, since a whole tree may be new."""
    for part in range(0, len(tasks), _DEFINITIONS_PER_STATEMENT):
        rows = [
            {"digest": task.digest, "task_id": task.id, "document": canonical(task.to_json()), "now": tx.now}
            for task in tasks[part : part + _DEFINITIONS_PER_STATEMENT]
        ]
        tx.lot(_DEFINITIONS, "digest text, task_id text, document text, now bigint", rows)


def row_of(tx: Transaction, run_id: str) -> Any:
    """Return the run's row with its event counter, locked; raise NotFound."""
    row = tx.hold(_WITH_STATE, {"id": run_id})
    if row is None:
        raise NotFound("run", run_id)
    return row


def cancel(tx: Transaction, run_id: str, actor: str) -> Run:
    """Cancel a run, or request it (`Store.cancel`)."""
    row = row_of(tx, run_id)
    state = RunState(row["state"])
    if state is RunState.RUNNING:
        tx.run(
            "UPDATE runs SET cancel_requested = 1, reason = 'cancelling', message = :message "
            "WHERE id = :id AND state = 'running'",
            {"id": run_id, "message": f"cancelled by {actor}"},
        )
    else:
        if state.terminal:
            raise Conflict(f"the run is {state} already")
        events.change_state(
            tx,
            row,
            RunChange.CANCEL,
            reason="cancelled",
            actor=actor,
            message=f"cancelled by {actor}",
            columns={"ended_at": tx.now},
        )
        dedupe.release(tx, row)
    return get(tx, run_id)


def retry(tx: Transaction, run_id: str, actor: str) -> Run:
    """Queue a failed run again (`Store.retry`)."""
    row = row_of(tx, run_id)
    if row["state"] != RunState.FAILED:
        raise Conflict(f"the run is {row['state']}: only failed runs can be retried")
    dedupe.retake(tx, row)
    events.change_state(
        tx,
        row,
        RunChange.RETRY_BY_HAND,
        reason="retry",
        message=f"retried by {actor}",
        actor=actor,
        columns={
            "queued_at": tx.now, "not_before": tx.now, "started_at": None, "ended_at": None, "retries": 0,
            "infrastructure_retries": 0, "result_text": None, "result_json": None,
            "cost_before": row["cost"],
        },
    )  # fmt: skip
    return get(tx, run_id)


def get(tx: Transaction, run_id: str) -> Run:
    """Return a run (`Store.run`); raise NotFound."""
    row = tx.one(_ONE, {"id": run_id})
    if row is None:
        raise NotFound("run", run_id)
    return to_run(row)


def prompt(tx: Transaction, run_id: str) -> str:
    """Return a run's prompt (`Store.prompt`); raise NotFound."""
    row = tx.one("SELECT prompt FROM runs WHERE id = :id", {"id": run_id})
    if row is None:
        raise NotFound("run", run_id)
    text: str = row["prompt"]
    return text


def page(tx: Transaction, where: RunFilter, cursor: str | None, limit: int) -> Page:
    """Return a page of runs, newest first (`Store.runs`)."""
    limit = page_size(limit)
    if where.min_cost is not None:
        return _page_by_cost(tx, where, cursor, limit)
    sql, params = _selection(where, cursor, RUN_COLUMNS)
    rows = tx.all(sql, {**params, "limit": limit + 1})
    has_more = len(rows) > limit
    items = [to_run(row) for row in rows[:limit]]
    return Page(items=items, next=cursor_after(items[-1].seq) if has_more else None)


def _selection(where: RunFilter, cursor: str | None, columns: str) -> tuple[str, dict[str, Any]]:
    """Return the statement for the first `:limit` runs of a page, and its other parameters."""
    params: dict[str, Any] = {}
    conditions = []
    for name, column in (("task_id", "task_id"), ("trigger", "run_trigger"), ("reason", "reason")):
        value = getattr(where, name)
        if value is not None:
            conditions.append(f"{column} = :{name}")
            params[name] = value
    if where.state is not None:
        parts = [_OF_STATE[where.state]]
    elif where.reason is not None and where.id_prefix is None:
        # Each part has an index of its own.
        parts = [_ENDED, _OF_STATE[RunState.QUEUED], _OF_STATE[RunState.RUNNING]]
    else:
        parts = [("1 = 1", "seq")]
    selects = []
    for condition, order in parts:
        narrowed = narrow("runs", [condition, *conditions], params, where, _BOUNDS, cursor)
        selects.append(
            f"SELECT {columns} FROM runs WHERE {' AND '.join(narrowed)} "  # noqa: S608
            f"ORDER BY {order if where.id_prefix is None else 'id'} DESC LIMIT :limit"
        )
    if len(selects) == 1:
        return selects[0], params
    subselects = (f"SELECT * FROM ({select}) AS part{place}" for place, select in enumerate(selects))  # noqa: S608
    return " UNION ALL ".join(subselects) + " ORDER BY seq DESC LIMIT :limit", params


def _page_by_cost(tx: Transaction, where: RunFilter, cursor: str | None, limit: int) -> Page:
    """Return the runs with at least that cost among the next ones of the list, and a cursor behind all that were looked at."""
    sql, params = _selection(where, cursor, "seq, id, cost")
    rows = tx.all(sql, {**params, "limit": _RUNS_LOOKED_AT})
    least = where.min_cost or 0
    fit = [row["seq"] for row in rows if row["cost"] is not None and Decimal(row["cost"]) >= least]
    items = [to_run(row) for row in tx.all(_BY_SEQ.format(list=", ".join(map(str, fit[:limit]))))] if fit else []
    items.sort(key=lambda run: fit.index(run.seq))
    if len(fit) > limit:
        return Page(items=items, next=cursor_after(fit[limit - 1]))
    return Page(items=items, next=cursor_after(rows[-1]["seq"]) if len(rows) == _RUNS_LOOKED_AT else None)


def attempts(tx: Transaction, run_id: str) -> list[Attempt]:
    """Return the attempts of a run, oldest first (`Store.attempts`)."""
    return [to_attempt(row) for row in tx.all(ATTEMPTS, {"id": run_id})]


def history(tx: Transaction, run_id: str) -> list[Event]:
    """Return the events of a run, oldest first (`Store.events`)."""
    return [from_row(Event, row) for row in tx.all("SELECT * FROM events WHERE run_id = :id ORDER BY seq", {"id": run_id})]


_LOG = (
    "SELECT l.seq, l.attempt, l.kind, l.at, l.data, e.turn, e.event FROM log_lines l "
    "LEFT JOIN agent_events e ON e.run_id = l.run_id AND e.seq = l.seq WHERE l.run_id = :id AND l.seq > :after"
)


def log(
    tx: Transaction,
    run_id: str,
    *,
    after: int = 0,
    before: int | None = None,
    limit: int = 1000,
    attempt: int | None = None,
) -> list[LogLine]:
    """Return log lines in the order of their cursor (`Store.log`)."""
    sql, order = _LOG, "l.seq"
    params: dict[str, Any] = {"id": run_id, "after": min(after, _LAST_CURSOR), "limit": max(1, min(limit, MAX_LOG_LINES))}
    if before is not None:
        sql, order = sql + " AND l.seq < :before", "l.seq DESC"
        params["before"] = min(before, _LAST_CURSOR)
    if attempt is not None:
        sql += " AND l.attempt = :attempt"
        params["attempt"] = attempt
    log_lines = [to_line(row) for row in tx.all(f"{sql} ORDER BY {order} LIMIT :limit", params)]
    return log_lines if before is None else log_lines[::-1]


def last_line(tx: Transaction, run_id: str) -> int:
    """Return the cursor of the last line (`Store.last_line`)."""
    row = tx.one("SELECT seq FROM log_lines WHERE run_id = :id ORDER BY seq DESC LIMIT 1", {"id": run_id})
    return 0 if row is None else row["seq"]


_FAILED_RESULT = b'%"ok":false%'
_ERRORS = (
    "(l.kind = 'stderr' OR (l.kind = 'tool-result' AND EXISTS "
    "(SELECT 1 FROM agent_events e WHERE e.run_id = l.run_id AND e.seq = l.seq AND {failed})))"
)


def search_log(
    tx: Transaction, run_id: str, *, after: int = 0, until: int, text: str = "", errors: bool = False, limit: int = 1000
) -> tuple[list[int], int]:
    """Return the first cursors of lines that fit, and their number (`Store.search_log`)."""
    conditions = ["l.run_id = :id AND l.seq > :after AND l.seq <= :until"]
    params: dict[str, Any] = {"id": run_id, "after": min(after, _LAST_CURSOR), "until": min(until, _LAST_CURSOR)}
    if text:
        conditions.append(tx.matches.format(column="l.data", pattern=":text"))
        params["text"] = b"%" + re.sub(rb"[%_!]", rb"!\g<0>", text.encode("utf-8", "replace")) + b"%"
    if errors:
        conditions.append(_ERRORS.format(failed=tx.matches.format(column="e.event", pattern=":failed")))
        params["failed"] = _FAILED_RESULT
    fitting = f"FROM log_lines l WHERE {' AND '.join(conditions)}"
    first = tx.all(f"SELECT l.seq {fitting} ORDER BY l.seq LIMIT :limit", {**params, "limit": limit})
    cursors = [row["seq"] for row in first]
    if len(cursors) < limit:
        return cursors, len(cursors)
    # A row for Python costs more than a line that is searched, and most lines may fit.
    rest = tx.one(f"SELECT COUNT(*) AS n {fitting}", {**params, "after": cursors[-1] if cursors else params["after"]})
    return cursors, len(cursors) + int(rest["n"])


def count_accepted(tx: Transaction, since: datetime, until: datetime, most: int) -> int:
    """Count the runs that were accepted in a span, up to a number (`Store.count_accepted`)."""
    values = {"since": to_micros(since), "until": to_micros(until), "most": most}
    row = tx.one(_COUNT_ACCEPTED, values)
    return 0 if row is None else int(row["runs"])
