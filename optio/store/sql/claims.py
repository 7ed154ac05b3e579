"""Claims: which worker owns which run, for how long, and everything that an owner writes. Every write carries the claim's
fence, and fails with LeaseLost when another worker has taken the run over."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from optio.errors import Conflict, LeaseLost
from optio.model import agent_event
from optio.model.namespace import WorkerScope
from optio.model.retry import GiveUp, RetryAt
from optio.model.room import WHOLE_PLACE, Delay
from optio.model.run import UNKNOWN_AGENT, AgentIdentity, Lease, LogLine, Outcome, Run, RunChange, RunState
from optio.model.text import format_duration
from optio.model.usage import Meter, Usage
from optio.store.sql import daily_totals, dedupe, events, namespaces, pools, queue, quotas, shortages
from optio.store.sql.events import StateChange
from optio.store.sql.records import ATTEMPTS, RUN_COLUMNS, meter_columns, to_attempt, to_meter, to_run
from optio.store.sql.transaction import BulkRows, Row, Transaction, dump_json, from_micros, span_in_micros, to_micros
from optio.store.values import AdmissionView, Admit, AgentStart, Claim, Decide, Room

# The reason of a run whose agent has started.
STARTED, _CANCELLING = "started", "cancelling"
_LEASE_OVER = "(lease_until < :now OR owner = '')"
_OVER = f"state = 'running' AND {_LEASE_OVER}"
_IN_SCOPE = f"(SELECT {namespaces.IN_SCOPE} FROM (SELECT 1) one LEFT JOIN namespaces n ON n.task_id = runs.task_id)"  # noqa: S608
# A worker of the agent's place adopts it whatever namespace its task has by now; where no agent is left, the scope decides.
# Nearly all leases hold: the CASE keeps SQLite from looking at places first.
_ADOPTABLE = f"""state = 'running' AND CASE WHEN {_LEASE_OVER} THEN place = :place OR (
    (place = '' OR lease_until < :orphaned OR (place LIKE :directory AND place NOT LIKE :boot)) AND {_IN_SCOPE}
) END"""
# When the earliest delayed run is due; when the first start leaves the window of a task that has used its start limit up, and
# has something waiting; when the earliest lease ends; when another try for room is due.
_NEXT_DUE = f"""
SELECT (
    SELECT MIN(not_before) FROM runs
    WHERE state = 'queued' AND not_before > queued_at AND not_before > :now AND queued_at <= :now
) AS due, (
    SELECT MIN(lease_until) FROM runs WHERE state = 'running' AND lease_until >= :now
) AS lease, (
SELECT MIN(at) FROM (
    SELECT t.start_window + (SELECT MIN(s.at) FROM starts s WHERE s.task_id = t.task_id AND s.at > :now - t.start_window) AS at
    FROM tasks t
    WHERE t.start_limit IS NOT NULL
        AND EXISTS (SELECT 1 FROM runs q WHERE q.state = 'queued' AND q.task_id = t.task_id)
        AND NOT EXISTS (SELECT 1 FROM pauses p WHERE p.task_id = t.task_id)
        AND t.start_limit <= (SELECT COUNT(*) FROM starts s WHERE s.task_id = t.task_id AND s.at > :now - t.start_window)
) openings) AS opening, ({shortages.DUE}) AS trial
"""  # noqa: S608
_TAKE = (
    "UPDATE runs SET owner = :worker, fence = fence + 1, lease_until = :until, place = :place "  # noqa: S608
    f"WHERE id = :id AND {_OVER}"
)
_NEW_WORKER = "UPDATE attempts SET worker = :worker WHERE run_id = :id AND number = (SELECT attempt FROM runs WHERE id = :id)"
# Started in a pod, which the run may have waited for.
_STARTED = """
UPDATE runs SET started_at = COALESCE(runs.started_at, lot.began), last_event = lot.event,
    reason = CASE WHEN runs.cancel_requested = 0 THEN 'started' ELSE runs.reason END,
    message = CASE WHEN runs.cancel_requested = 0 THEN '' ELSE runs.message END
FROM lot WHERE runs.id = lot.id
"""
_EXPLAIN = "UPDATE runs SET reason = :reason, message = :message WHERE id = :id AND cancel_requested = 0"
_AGENT_STARTED = """
UPDATE attempts SET agent_started_at = :at WHERE run_id = :id AND agent_started_at IS NULL
AND number = (SELECT attempt FROM runs WHERE id = :id AND state = 'running' AND fence = :fence)
"""
_ATTEMPT = "SELECT started_at, agent_started_at FROM attempts WHERE run_id = :id AND number = :number"
_BULK_IDS = "FROM runs WHERE id IN (SELECT lot.id FROM lot) ORDER BY +runs.seq"
_CLAIMED = f"SELECT {RUN_COLUMNS}, prompt, last_event, last_line, cost_before FROM runs WHERE id = :id"  # noqa: S608
_QUEUED = f"SELECT {RUN_COLUMNS}, prompt, last_event, last_line, cost_before {_BULK_IDS}"
_OWNED = f"SELECT {RUN_COLUMNS}, last_event, last_line FROM runs WHERE id = :id"  # noqa: S608
_ENDING = f"SELECT {RUN_COLUMNS}, last_event, last_line {_BULK_IDS}"
_ATTEMPTS = """
INSERT INTO attempts (run_id, number, worker, started_at) SELECT lot.id, lot.number, :worker, :now FROM lot
"""
_ENDED = """
UPDATE attempts SET ended_at = lot.now, ok = lot.ok, reason = lot.reason, message = lot.message, exit_code = lot.exit_code,
    exit_signal = lot.signal, result_text = lot.text, usage = lot.usage, turns = lot.turns, tool_calls = lot.tool_calls,
    cost = lot.cost, cost_source = lot.cost_source, agent_started_at = COALESCE(agent_started_at, lot.began)
FROM lot WHERE attempts.run_id = lot.id AND attempts.number = lot.number
"""
_ENDED_COLUMNS = (
    "id text, number bigint, ok bigint, reason text, message text, exit_code bigint, signal bigint, text text, usage text, "
    "turns bigint, tool_calls bigint, cost text, cost_source text, now bigint, began bigint"
)
_AGENTS = """
INSERT INTO attempt_agents (run_id, number, version, session, model, machine, program)
SELECT lot.id, lot.number, lot.version, lot.session, lot.model, lot.machine, lot.program FROM lot WHERE TRUE
ON CONFLICT DO NOTHING
"""
_AGENTS_COLUMNS = "id text, number bigint, version text, session text, model text, machine text, program text"
# The columns that the end of an attempt may set in its run.
_CHANGING = (
    "owner", "lease_until", "cancel_requested", "usage", "turns", "tool_calls", "cost", "cost_source", "result_text",
    "result_json", "not_before", "queued_at", "retries", "infrastructure_retries", "ended_at",
)  # fmt: skip


def claim(
    tx: Transaction,
    worker: str,
    lease: timedelta,
    admit: Admit,
    place: str,
    scope: WorkerScope,
    room: Room,
    most: int,
    reason: str,
    *,
    crowded: bool,
) -> list[Claim]:
    """Claim runs for a worker (`Store.claim`). `crowded` says that many workers may have waited for the lock, so another look
    at the queue is worth its cost."""
    tx.lock("admission")
    claims: list[Claim] = []
    # A hint may wake all workers, and all but the first find the queue empty: they leave before the counting.
    may_be_more = not crowded or queue.is_waiting(tx, scope)
    while may_be_more:
        rest = most - len(claims)
        view = queue.heads(tx, lambda running: min(room(running), rest), place, scope)  # noqa: B023 - called at once
        tasks = {waiting.run_id: waiting.task_id for waiting in view.waiting}
        starts = [run_id for run_id in admit(view) if run_id in tasks][:rest] if tasks else []
        claims += _start(tx, starts, worker, lease, place, reason, view)
        full = len(starts) == rest or room(sum(view.running.values()) + len(starts)) <= 0
        may_be_more = not full and _fit_room(view, set(starts))
    return claims


def _fit_room(view: AdmissionView, starts: set[str]) -> bool:
    """Return whether a task that starts all of its runs in view may start more. Runs that wait for another run of the same key
    are not counted."""
    waiting_counts = Counter(waiting.task_id for waiting in view.waiting)
    starting = [waiting for waiting in view.waiting if waiting.run_id in starts]
    counts = Counter(waiting.task_id for waiting in starting)
    keys = {(waiting.task_id, waiting.dedupe_key) for waiting in starting if waiting.dedupe_key is not None}
    rests = {
        waiting.task_id
        for waiting in view.waiting
        if waiting.run_id not in starts and (waiting.task_id, waiting.dedupe_key) not in keys
    }
    for waiting in starting:
        task = waiting.task_id
        free = waiting.max_concurrent - view.running.get(task, 0)
        if task not in rests and counts[task] < free and waiting_counts[task] >= min(view.heads, free):
            return True
    return False


def _start(
    tx: Transaction, starts: Sequence[str], worker: str, lease: timedelta, place: str, reason: str, view: AdmissionView
) -> list[Claim]:
    """Claim those of the runs that are still queued; one may have been cancelled at this moment."""
    if not starts:
        return []
    rows_by_id = {
        row["id"]: row for row in tx.hold_all(_QUEUED, lot=BulkRows("id text", [{"id": run_id} for run_id in starts]))
    }
    rows = [rows_by_id[run_id] for run_id in starts if run_id in rows_by_id and rows_by_id[run_id]["state"] == RunState.QUEUED]
    moves = [
        StateChange(row=row, change=RunChange.CLAIM, reason=reason, actor=worker, columns={
            "attempt": row["attempt"] + 1, "fence": row["fence"] + 1, "owner": worker,
            "lease_until": tx.now + span_in_micros(lease), "place": place, "cancel_requested": 0,
            "started_at": row["started_at"] or (tx.now if reason == STARTED else None),
        })
        for row in rows
    ]  # fmt: skip
    states = events.change_states(tx, moves)
    attempt_keys = [{"id": move.row["id"], "number": move.columns["attempt"]} for move in moves]
    tx.bulk_run(_ATTEMPTS, BulkRows("id text, number bigint", attempt_keys), {"worker": worker, "now": tx.now})
    for row in rows:
        if row["task_id"] in view.quotas:
            quotas.count_start(tx, row["task_id"], row["id"], view.quotas[row["task_id"]])
    short = {shortage.task_id for shortage in view.shortages}
    return [_to_claimed(tx, move, state, short) for move, state in zip(moves, states, strict=True)]


def _to_claimed(tx: Transaction, move: StateChange, state: RunState, short: Set[str]) -> Claim:
    row, tries = move.row, not short.isdisjoint((WHOLE_PLACE, move.row["task_id"]))
    return Claim(
        to_run(_changed(move, state), Meter()),
        row["prompt"],
        adopted=False,
        offsets={},
        last_line=row["last_line"],
        spent=_spent(row),
        deferred=row["reason"] if tries and _was_given_back(tx, row["id"], row["attempt"]) else "",
        tries=tries,
    )


def _changed(move: StateChange, state: RunState) -> Row:
    """Return the row of a run as it is after a change."""
    return {**dict(move.row), **move.columns, "state": state.value, "reason": move.reason, "message": move.message}


def _spent(row: Row) -> Decimal:
    """Return the cost of a run's ended attempts, which its own `cost` column sums up."""
    return Decimal(row["cost"] or 0) - Decimal(row["cost_before"] or 0)


def _was_given_back(tx: Transaction, run_id: str, attempt: int) -> bool:
    """Return whether this attempt found no room, and so has no row any more."""
    return attempt > 0 and tx.one(_ATTEMPT, {"id": run_id, "number": attempt}) is None


def _reach_parameters(tx: Transaction, place: str, scope: WorkerScope, orphaned: timedelta) -> dict[str, Any]:
    """Return the parameters of `_ADOPTABLE` for a worker."""
    directory, _, rest = place.partition("/")
    return {
        "now": tx.now, "place": place, "directory": f"{directory}/%", "boot": f"{directory}/{rest.partition('/')[0]}/%",
        "orphaned": tx.now - span_in_micros(orphaned), **namespaces.parameters(scope),
    }  # fmt: skip


def expired(tx: Transaction, place: str, scope: WorkerScope, orphaned: timedelta) -> bool:
    """Return whether there may be runs to adopt, judged without a lock."""
    reach = _reach_parameters(tx, place, scope, orphaned)
    return tx.one(f"SELECT 1 FROM runs WHERE {_ADOPTABLE} LIMIT 1", reach) is not None  # noqa: S608


def adopt(
    tx: Transaction, worker: str, lease: timedelta, most: int, place: str, scope: WorkerScope, orphaned: timedelta
) -> list[Claim]:
    """Take over runs whose leases have expired (`Store.adopt`)."""
    tx.lock("admission")
    orphans = tx.all(
        f"SELECT id FROM runs WHERE {_ADOPTABLE} ORDER BY +seq LIMIT :most",  # noqa: S608
        {**_reach_parameters(tx, place, scope, orphaned), "most": most},
    )
    adopted_runs = []
    for row in orphans:
        # Its owner may have renewed or finished it at this moment.
        is_changed = tx.run(
            _TAKE, {"worker": worker, "until": tx.now + span_in_micros(lease), "id": row["id"], "now": tx.now, "place": place}
        )
        if is_changed:
            adopted_runs.append(row["id"])
            tx.run(_NEW_WORKER, {"worker": worker, "id": row["id"]})
    return [_adopt_one(tx, run_id) for run_id in adopted_runs]


def _adopt_one(tx: Transaction, run_id: str) -> Claim:
    row = tx.one(_CLAIMED, {"id": run_id})
    attempt = tx.one(
        "SELECT offsets, usage, turns, tool_calls, cost, cost_source FROM attempts WHERE run_id = :id AND number = :number",
        {"id": run_id, "number": row["attempt"]},
    )
    run = to_run(row, to_meter(attempt))
    offsets = json.loads(attempt["offsets"])
    return Claim(run, row["prompt"], adopted=True, offsets=offsets, last_line=row["last_line"], spent=_spent(row))


def renew(tx: Transaction, worker: str, lease: timedelta) -> dict[str, bool]:
    """Extend all leases of a worker (`Store.renew`)."""
    rows = tx.hold_all(
        "SELECT id, cancel_requested FROM runs WHERE state = 'running' AND owner = :worker ORDER BY +seq", {"worker": worker}
    )
    tx.run(
        "UPDATE runs SET lease_until = :until WHERE state = 'running' AND owner = :worker",
        {"until": tx.now + span_in_micros(lease), "worker": worker},
    )
    return {row["id"]: bool(row["cancel_requested"]) for row in rows}


def release(tx: Transaction, worker: str) -> int:
    """End all leases of a worker (`Store.release`)."""
    return tx.run(
        # Clear the owner instead of relying on the time, since the clock may be set back.
        "UPDATE runs SET lease_until = :now, owner = '' WHERE state = 'running' AND owner = :worker",
        {"worker": worker, "now": tx.now},
    )


def drop(tx: Transaction, lease: Lease) -> None:
    """End the lease of one run (`Store.drop`). Its owner is cleared, so that a renewal cannot revive the lease."""
    owned_row(tx, lease)
    tx.run("UPDATE runs SET lease_until = :now, owner = '' WHERE id = :id", {"id": lease.run_id, "now": tx.now})


def owners(tx: Transaction) -> set[str]:
    """List the workers that own running runs (`Store.owners`)."""
    return {row["owner"] for row in tx.all("SELECT DISTINCT owner FROM runs WHERE state = 'running'") if row["owner"]}


def running_attempts(tx: Transaction) -> dict[str, int]:
    """List the attempt numbers of running runs (`Store.running_attempts`)."""
    return {row["id"]: row["attempt"] for row in tx.all("SELECT id, attempt FROM runs WHERE state = 'running'")}


def next_due(tx: Transaction) -> timedelta | None:
    """Compute the time until a claim may succeed again (`Store.next_due`)."""
    row = tx.one(_NEXT_DUE, {"now": tx.now})
    times = [row[name] for name in ("due", "lease", "opening", "trial") if row[name] is not None]
    return timedelta(microseconds=min(times) - tx.now) if times else None


def cancel_requested(tx: Transaction, lease: Lease) -> bool:
    """Return whether an owned run's cancellation was requested (`Store.cancel_requested`); False for an old fence."""
    row = tx.one("SELECT fence, cancel_requested FROM runs WHERE id = :id", {"id": lease.run_id})
    return row is not None and row["fence"] == lease.fence and bool(row["cancel_requested"])


def agent_started(tx: Transaction, lease: Lease, began: AgentStart) -> None:
    """Record the start of an agent (`Store.agent_started`); raise LeaseLost for an old fence."""
    if began.is_noted:
        _note_begun(tx, [(owned_row(tx, lease), began)])
    if not tx.run(_AGENT_STARTED, {"at": _ago(tx, began), "id": lease.run_id, "fence": lease.fence}):
        owned_row(tx, lease)


def note_continued(tx: Transaction, lease: Lease, attempt: int) -> None:
    """Record whose session an owned run's attempt continues (`Store.note_continued`); raise LeaseLost for an old fence."""
    row = owned_row(tx, lease)
    tx.run(
        "INSERT INTO continued_attempts (run_id, number, continues) VALUES (:id, :number, :continues) ON CONFLICT DO NOTHING",
        {"id": lease.run_id, "number": row["attempt"], "continues": attempt},
    )


def append_log(
    tx: Transaction,
    lease: Lease,
    lines: Sequence[LogLine],
    offsets: Mapping[str, int],
    meter: Meter,
    after: int | None = None,
    began: AgentStart | None = None,
) -> int:
    """Store log lines, read offsets and usage of an owned run (`Store.append_log`)."""
    row = owned_row(tx, lease)
    last: int = row["last_line"]
    if lines and after is not None and last != after:
        return last  # the previous call was committed, though its caller could not know
    last = _append(tx, row, lines)
    _note_begun(tx, [(row, began)])
    tx.run(
        "UPDATE attempts SET offsets = :offsets, usage = :usage, turns = :turns, tool_calls = :tool_calls, cost = :cost, "
        "cost_source = :cost_source, agent_started_at = COALESCE(agent_started_at, :began) "
        "WHERE run_id = :id AND number = :number",
        {
            "offsets": dump_json(dict(offsets)), "id": row["id"], "number": row["attempt"], "began": _ago(tx, began),
            **meter_columns(meter),
        },
    )  # fmt: skip
    return last


def _note_begun(tx: Transaction, beginnings: Sequence[tuple[Row, AgentStart | None]]) -> list[Row]:
    """Record how attempts began and that their runs have started, unless it is recorded; return the runs' rows as they are
    then."""
    keys = [
        (row, agent_start)
        for row, agent_start in beginnings
        if agent_start is not None and agent_start.is_noted and not pools.has_begun(tx, row["id"], row["attempt"])
    ]
    if not keys:
        return [row for row, _ in beginnings]
    started_rows = {
        row["id"]: {"id": row["id"], "began": _ago(tx, agent_start), "event": row["last_event"] + 1, "actor": row["owner"]}
        for row, agent_start in keys
        if row["started_at"] is None or row["reason"] not in (STARTED, _CANCELLING)
    }
    pools.note_begun(tx, [(row["id"], row["attempt"], agent_start) for row, agent_start in keys])
    shortages.note_begun(tx, [{"id": row["id"], "number": row["attempt"]} for row, _ in keys])
    tx.lot(_STARTED, "id text, began bigint, event bigint, actor text", list(started_rows.values()))
    events.record_starts(tx, list(started_rows.values()))
    return [_with_start(row, started_rows.get(row["id"])) for row, _ in beginnings]


def _with_start(row: Row, start: Mapping[str, Any] | None) -> Row:
    if start is None:
        return row
    return {**dict(row), "started_at": row["started_at"] or start["began"], "last_event": start["event"]}


def explain(tx: Transaction, lease: Lease, why: Delay, lines: Sequence[LogLine]) -> int:
    """Record why an owned run's agent has not started (`Store.explain`)."""
    row = owned_row(tx, lease)
    tx.run(_EXPLAIN, {"id": lease.run_id, "reason": why.reason, "message": why.message})
    return _append(tx, row, lines)


def give_back(tx: Transaction, lease: Lease, why: Delay, lines: Sequence[LogLine]) -> Run:
    """Queue an owned run again that found no room (`Store.give_back`)."""
    row, run_id = owned_row(tx, lease), lease.run_id
    attempt_key = {"id": run_id, "number": row["attempt"], "task_id": row["task_id"]}
    attempt = tx.one(_ATTEMPT, attempt_key)
    if attempt["agent_started_at"] is not None:
        raise Conflict("the run's agent has begun: there was room for it")
    place = tx.one("SELECT place FROM runs WHERE id = :id", attempt_key)["place"]
    patient_until = shortages.note(tx, place, row, why, attempt["started_at"])
    patience = why.patience if patient_until is not None and to_micros(patient_until) <= tx.now else None
    if patience is not None or row["cancel_requested"] or dedupe.successor_of(tx, row) is not None:
        _append(tx, row, lines)
        end = Finish(
            lease=lease,
            outcome=Outcome(ok=False, reason=why.reason, message=why.message, again=True),
            meter=Meter(),
            exit_code=None,
            signal=None,
            decide=lambda run, outcome, now: (
                RetryAt(now) if patience is None else GiveUp(f"waited for {format_duration(patience)}")
            ),
        )
        return end.alone(tx)
    tx.run("DELETE FROM attempts WHERE run_id = :id AND number = :number", attempt_key)
    quotas.uncount_start(tx, row["task_id"], run_id)
    attempt_count = tx.one("SELECT COUNT(*) AS n FROM attempts WHERE run_id = :id", attempt_key)["n"]
    columns = {"owner": None, "lease_until": None, "started_at": row["started_at"] if attempt_count else None}
    actor = row["owner"] or "worker"
    move = StateChange(row=row, change=RunChange.DEFER, reason=why.reason, message=why.message, actor=actor, columns=columns)
    if _was_given_back(tx, run_id, row["attempt"] - 1) and events.reason_of(tx, run_id, row["last_event"] - 1) == why.reason:
        events.revert_last_event(tx, move)
    else:
        events.change_states(tx, [move])
        _append(tx, row, lines)
    return _to_ended(move, RunState.QUEUED)


def _append(tx: Transaction, row: Row, lines: Sequence[LogLine]) -> int:
    """Insert log lines of an attempt after those that its run has; return the cursor of the last of them."""
    last: int = row["last_line"]
    if not lines:
        return last
    places = list(enumerate(lines, last + 1))
    tx.many(
        "INSERT INTO log_lines (run_id, seq, attempt, kind, at, data) VALUES (:run_id, :seq, :attempt, :kind, :at, :data)",
        [
            {
                "run_id": row["id"], "seq": seq, "attempt": row["attempt"], "kind": line.kind.value,
                "at": to_micros(line.at), "data": line.data,
            }
            for seq, line in places
        ],
    )  # fmt: skip
    results = [
        {"run_id": row["id"], "seq": seq, "turn": line.turn, "event": line.event and agent_event.encode(line.event)}
        for seq, line in places
        if line.turn is not None or line.event is not None
    ]
    if results:
        tx.many("INSERT INTO agent_events (run_id, seq, turn, event) VALUES (:run_id, :seq, :turn, :event)", results)
    last += len(lines)
    tx.run("UPDATE runs SET last_line = :last WHERE id = :id", {"last": last, "id": row["id"]})
    return last


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The operation of `Store.finish`. It gives the run as it is then, or None when the attempt no longer belongs to its
    owner."""

    lease: Lease
    outcome: Outcome
    meter: Meter
    exit_code: int | None
    signal: int | None
    decide: Decide
    began: AgentStart | None = None
    agent: AgentIdentity = UNKNOWN_AGENT

    def __call__(self, tx: Transaction) -> Run | None:
        return self.together(tx, [self])[0]

    def alone(self, tx: Transaction) -> Run:
        """Finish an attempt that is known to belong to its owner."""
        run = self(tx)
        if run is None:
            raise LeaseLost(self.lease.run_id)
        return run

    @staticmethod
    def together(tx: Transaction, finishes: "Sequence[Finish]") -> list[Run | None]:
        """Finish several attempts with as many statements as one takes."""
        lot = BulkRows("id text", [{"id": run_id} for run_id in {finish.lease.run_id for finish in finishes}])
        rows_by_id = {row["id"]: row for row in tx.hold_all(_ENDING, lot=lot)}
        finishes_and_rows: dict[int, tuple[Finish, Row]] = {}
        for place, finish in enumerate(finishes):
            if _is_owned(rows_by_id.get(finish.lease.run_id), finish.lease.fence):
                row = rows_by_id.pop(finish.lease.run_id)  # a second end of the same attempt finds it gone
                finishes_and_rows[place] = finish._as_requested(row), row
        rows = _note_begun(tx, [(row, finish.began) for finish, row in finishes_and_rows.values()])
        finishes_and_rows = {
            place: (finish, row) for (place, (finish, _)), row in zip(finishes_and_rows.items(), rows, strict=True)
        }
        tx.lot(_ENDED, _ENDED_COLUMNS, [finish._attempt(tx, row) for finish, row in finishes_and_rows.values()])
        agent_rows = [finish._agent(row) for finish, row in finishes_and_rows.values() if finish.agent != UNKNOWN_AGENT]
        tx.lot(_AGENTS, _AGENTS_COLUMNS, agent_rows)
        moves = [finish._move(tx, row) for finish, row in finishes_and_rows.values()]
        states = events.change_states(tx, moves)
        for finish, row in finishes_and_rows.values():
            daily_totals.count_attempt(tx, row, finish.meter)
        for move in moves:
            if move.change is not RunChange.RETRY:
                dedupe.release(tx, move.row)
        runs = dict(zip(finishes_and_rows, map(_to_ended, moves, states), strict=True))
        return [runs.get(place) for place in range(len(finishes))]

    def _as_requested(self, row: Row) -> "Finish":
        """Return an operation that cancels the run where that was requested, whatever became of the agent."""
        if not row["cancel_requested"]:
            return self
        return replace(self, outcome=Outcome(ok=False, reason="cancelled", message=row["message"], text=self.outcome.text))

    def _agent(self, row: Row) -> dict[str, Any]:
        agent = self.agent
        return {
            "id": row["id"], "number": row["attempt"], "version": agent.version, "session": agent.session,
            "model": agent.model, "machine": agent.machine, "program": agent.program,
        }  # fmt: skip

    def _attempt(self, tx: Transaction, row: Row) -> dict[str, Any]:
        outcome = self.outcome
        return {
            "id": self.lease.run_id, "number": row["attempt"], "ok": int(outcome.ok), "reason": outcome.reason,
            "message": outcome.message, "exit_code": self.exit_code, "signal": self.signal, "text": outcome.text,
            "now": tx.now, "began": _ago(tx, self.began), **meter_columns(self.meter),
        }  # fmt: skip

    def _move(self, tx: Transaction, row: Row) -> StateChange:
        outcome, change = self.outcome, RunChange.COMPLETE
        reason, message = outcome.reason, outcome.message
        columns = {name: row[name] for name in _CHANGING}
        columns |= {"owner": None, "lease_until": None, "cancel_requested": 0, **_totals(tx, row, self.meter)}
        if row["cancel_requested"]:
            change = RunChange.CANCEL
        elif outcome.ok:
            columns |= {
                "result_text": outcome.text,
                "result_json": None if outcome.output is None else dump_json(outcome.output),
            }
        else:
            decision = self.decide(to_run(row), outcome, from_micros(tx.now))
            successor = dedupe.successor_of(tx, row) if isinstance(decision, RetryAt) else None
            if successor is not None:
                decision = GiveUp(f"run {successor} has the same key and has taken its place")
            if isinstance(decision, RetryAt):
                change = RunChange.RETRY
                counter = "infrastructure_retries" if outcome.infrastructure else "retries"
                columns |= {"not_before": to_micros(decision.at), "queued_at": tx.now, counter: row[counter] + decision.counts}
            else:
                change = RunChange.FAIL
                columns["result_text"] = outcome.text
                reason = decision.reason or reason
                message = f"{message} ({decision.why})" if message else decision.why
        if change is not RunChange.RETRY:
            columns["ended_at"] = tx.now
        actor = row["owner"] or "worker"
        return StateChange(row=row, change=change, reason=reason, message=message, actor=actor, columns=columns)


def _to_ended(move: StateChange, state: RunState) -> Run:
    return to_run(_changed(move, state))


def _totals(tx: Transaction, run: Row, last: Meter) -> dict[str, Any]:
    """Return the usage of all attempts together, for the run's row."""
    if run["attempt"] == 1:
        return meter_columns(last)
    attempts = [to_attempt(row) for row in tx.all(ATTEMPTS, {"id": run["id"]})]
    usage = sum((a.meter.usage for a in attempts), Usage())
    turns = [a.meter.turns for a in attempts if a.meter.turns is not None]
    costs = [a.meter.cost for a in attempts if a.meter.cost is not None]
    sources = [a.meter.cost_source for a in attempts if a.meter.cost_source is not None]
    total = Meter(
        usage=usage,
        turns=sum(turns) if turns else None,
        tool_calls=sum(a.meter.tool_calls for a in attempts),
        cost=sum(costs[1:], costs[0]) if costs else None,
        cost_source=sources[-1] if sources else None,
    )
    return meter_columns(total)


def owned_row(tx: Transaction, lease: Lease) -> Any:
    """Return the row of an owned run, and lock it; raise LeaseLost for an old fence."""
    row = tx.hold(_OWNED, {"id": lease.run_id})
    if not _is_owned(row, lease.fence):
        raise LeaseLost(lease.run_id)
    return row


def _is_owned(row: Row | None, fence: int) -> bool:
    return row is not None and row["state"] == RunState.RUNNING and row["fence"] == fence


def _ago(tx: Transaction, began: AgentStart | None) -> int | None:
    return None if began is None else tx.now - span_in_micros(began.ago)
