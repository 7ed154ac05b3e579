"""Claims: which run is whose, for how long, and what its owner may write. Every write carries the claim's fence."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from optio.errors import LeaseLost
from optio.model.retry import Again
from optio.model.run import Change, LogLine, Meter, Outcome, Run, RunState, Usage, dump_json
from optio.store.base import AdmissionView, Admit, Claim, Decide, Room, Waiting, endless
from optio.store.sql import events, runs
from optio.store.sql.records import RUN_COLUMNS, meter_columns, to_attempt, to_meter, to_run
from optio.store.sql.transaction import Transaction, maybe, micros, when

# So many queued runs of each task are looked at together: the cost of a claim must not grow with the queue.
_HEADS = 16
# What was queued in the future was queued before the clock was set back: its delay means nothing, so it is due.
_DUE = "(not_before <= :due OR queued_at > :due)"
_OVER = "state = 'running' AND (lease_until < :now OR owner = '')"
_ADOPTABLE = (
    f"{_OVER} AND (place IN (:place, '') OR lease_until < :orphaned OR (place LIKE :directory AND place NOT LIKE :boot))"
)
# The first part walks the index from task to task.
_WAITING = """
WITH RECURSIVE waiting (task_id) AS (
    SELECT MIN(task_id) FROM runs WHERE state = 'queued'
    UNION ALL
    SELECT (SELECT MIN(r.task_id) FROM runs r WHERE r.state = 'queued' AND r.task_id > w.task_id)
    FROM waiting w WHERE w.task_id IS NOT NULL
)
SELECT q.id, q.task_id, q.seq, q.queued_at, q.not_before, COALESCE(t.max_concurrent, q.max_concurrent) AS max_concurrent
FROM waiting w
JOIN {heads}
LEFT JOIN tasks t ON t.task_id = w.task_id
WHERE w.task_id IS NOT NULL
ORDER BY q.seq
"""
_HEAD = f"FROM runs WHERE state = 'queued' AND task_id = w.task_id AND {_DUE} ORDER BY seq LIMIT :heads"
# A lateral join is quick where there is one; a list of keys is quick where there is none.
_WAITING_LATERAL = _WAITING.format(heads=f"LATERAL (SELECT * {_HEAD}) q ON TRUE")
_WAITING_LISTED = _WAITING.format(heads=f"runs q ON q.seq IN (SELECT seq {_HEAD})")
_WAITS = """
SELECT EXISTS (SELECT 1 FROM runs WHERE state = 'queued') AS waits,
    (SELECT COUNT(*) FROM runs WHERE state = 'running') AS running
"""
_TAKE = (
    "UPDATE runs SET owner = :worker, fence = fence + 1, lease_until = :until, place = :place "  # noqa: S608
    f"WHERE id = :id AND {_OVER}"
)
_NEW_WORKER = "UPDATE attempts SET worker = :worker WHERE run_id = :id AND number = (SELECT attempt FROM runs WHERE id = :id)"
_CLAIMED = f"SELECT {RUN_COLUMNS}, prompt, last_event FROM runs WHERE id = :id"  # noqa: S608
_OWNED = f"SELECT {RUN_COLUMNS}, last_event, last_line FROM runs WHERE id = :id"  # noqa: S608


def view(tx: Transaction, *, due: int, room: Room = endless, heads: int = _HEADS) -> AdmissionView:
    """What runs, and what waits and is due: of each task's queue the first `heads`, or as many as there is room for."""
    running = tx.all("SELECT task_id, COUNT(*) AS n FROM runs WHERE state = 'running' GROUP BY task_id")
    heads = min(heads, room(sum(row["n"] for row in running)))
    if heads <= 0:
        return AdmissionView(now=when(tx.now), running={row["task_id"]: row["n"] for row in running})
    waiting = tx.all(_WAITING_LATERAL if tx.lateral else _WAITING_LISTED, {"due": due, "heads": heads})
    return AdmissionView(
        now=when(tx.now),
        waiting=[
            Waiting(
                run_id=row["id"],
                task_id=row["task_id"],
                seq=row["seq"],
                queued_at=when(row["queued_at"]),
                not_before=when(row["not_before"]),
                max_concurrent=row["max_concurrent"],
            )
            for row in waiting
        ],
        running={row["task_id"]: row["n"] for row in running},
    )


def claim(tx: Transaction, worker: str, lease: timedelta, admit: Admit, place: str, room: Room, most: int) -> list[Claim]:
    """See `Store.claim`."""
    tx.lock("admission")
    claims: list[Claim] = []
    more = True
    while more:
        left = most - len(claims)
        seen = view(tx, due=tx.now, room=lambda running: min(room(running), left))  # noqa: B023 - called at once
        starts = admit(seen)[:left] if seen.waiting else ()
        claims += [claim for run_id in starts if (claim := _start(tx, run_id, worker, lease, place)) is not None]
        started = Counter(waiting.task_id for waiting in seen.waiting if waiting.run_id in starts)
        # A task that starts all of it that was seen may have more to start.
        more = any(count == _HEADS for count in started.values())
    return claims


def _start(tx: Transaction, run_id: str, worker: str, lease: timedelta, place: str) -> Claim | None:
    row = tx.hold(_CLAIMED, {"id": run_id})
    if row["state"] != RunState.QUEUED:
        return None  # it was cancelled at this moment
    columns = {
        "attempt": row["attempt"] + 1, "fence": row["fence"] + 1, "owner": worker, "lease_until": tx.now + _us(lease),
        "place": place, "started_at": row["started_at"] or tx.now, "cancel_requested": 0,
    }  # fmt: skip
    state = events.move(tx, row, Change.CLAIM, reason="started", actor=worker, columns=columns)
    tx.run(
        "INSERT INTO attempts (run_id, number, worker, started_at) VALUES (:run_id, :number, :worker, :now)",
        {"run_id": run_id, "number": columns["attempt"], "worker": worker, "now": tx.now},
    )
    changed = {**dict(row), **columns, "state": state.value, "reason": "started", "message": ""}
    return Claim(replace(to_run(changed), meter=Meter()), row["prompt"], adopted=False, offsets={})


def waits(tx: Transaction, room: Room) -> bool:
    """Whether there is anything to claim, as far as can be seen without a lock."""
    row = tx.one(_WAITS)
    return bool(row["waits"]) and room(row["running"]) > 0


def _reach(tx: Transaction, place: str, orphaned: timedelta) -> dict[str, Any]:
    """The parameters of `_ADOPTABLE`."""
    directory, _, rest = place.partition("/")
    return {
        "now": tx.now, "place": place, "directory": f"{directory}/%", "boot": f"{directory}/{rest.partition('/')[0]}/%",
        "orphaned": tx.now - _us(orphaned),
    }  # fmt: skip


def expired(tx: Transaction, place: str, orphaned: timedelta) -> bool:
    """Whether there is anything to adopt, as far as can be seen without a lock."""
    return tx.one(f"SELECT 1 FROM runs WHERE {_ADOPTABLE} LIMIT 1", _reach(tx, place, orphaned)) is not None  # noqa: S608


def adopt(tx: Transaction, worker: str, lease: timedelta, most: int, place: str, orphaned: timedelta) -> list[Claim]:
    """See `Store.adopt`."""
    tx.lock("admission")
    lost = tx.all(
        f"SELECT id FROM runs WHERE {_ADOPTABLE} ORDER BY +seq LIMIT :most",  # noqa: S608
        {**_reach(tx, place, orphaned), "most": most},
    )
    taken = []
    for row in lost:
        # Its owner may have come back at this moment, to renew or to finish.
        changed = tx.run(
            _TAKE, {"worker": worker, "until": tx.now + _us(lease), "id": row["id"], "now": tx.now, "place": place}
        )
        if changed:
            taken.append(row["id"])
            tx.run(_NEW_WORKER, {"worker": worker, "id": row["id"]})
    return [_adopted(tx, run_id) for run_id in taken]


def _adopted(tx: Transaction, run_id: str) -> Claim:
    row = tx.one(_CLAIMED, {"id": run_id})
    attempt = tx.one(
        "SELECT offsets, usage, turns, tool_calls, cost, cost_source FROM attempts WHERE run_id = :id AND number = :number",
        {"id": run_id, "number": row["attempt"]},
    )
    run = replace(to_run(row), meter=to_meter(attempt))
    return Claim(run, row["prompt"], adopted=True, offsets=json.loads(attempt["offsets"]))


def renew(tx: Transaction, worker: str, lease: timedelta) -> dict[str, bool]:
    """See `Store.renew`."""
    tx.run(
        "UPDATE runs SET lease_until = :until WHERE state = 'running' AND owner = :worker",
        {"until": tx.now + _us(lease), "worker": worker},
    )
    rows = tx.all("SELECT id, cancel_requested FROM runs WHERE state = 'running' AND owner = :worker", {"worker": worker})
    return {row["id"]: bool(row["cancel_requested"]) for row in rows}


def release(tx: Transaction, worker: str) -> int:
    """See `Store.release`."""
    return tx.run(
        # Without an owner, whatever the time: the clock may be set back.
        "UPDATE runs SET lease_until = :now, owner = '' WHERE state = 'running' AND owner = :worker",
        {"worker": worker, "now": tx.now},
    )


def drop(tx: Transaction, run_id: str, fence: int) -> None:
    """See `Store.drop`. Without an owner nobody renews it."""
    _owned(tx, run_id, fence)
    tx.run("UPDATE runs SET lease_until = :now, owner = '' WHERE id = :id", {"id": run_id, "now": tx.now})


def owners(tx: Transaction) -> set[str]:
    """See `Store.owners`."""
    return {row["owner"] for row in tx.all("SELECT DISTINCT owner FROM runs WHERE state = 'running'") if row["owner"]}


def next_due(tx: Transaction) -> datetime | None:
    """See `Store.next_due`."""
    due = tx.one(
        "SELECT MIN(not_before) AS at FROM runs "
        "WHERE state = 'queued' AND not_before > queued_at AND not_before > :now AND queued_at <= :now",
        {"now": tx.now},
    )
    lease = tx.one("SELECT MIN(lease_until) AS at FROM runs WHERE state = 'running' AND lease_until >= :now", {"now": tx.now})
    times = [row["at"] for row in (due, lease) if row["at"] is not None]
    return maybe(min(times)) if times else None


def agent_started(tx: Transaction, run_id: str, fence: int) -> None:
    """See `Store.agent_started`."""
    row = _owned(tx, run_id, fence)
    tx.run(
        "UPDATE attempts SET agent_started_at = :now WHERE run_id = :id AND number = :number AND agent_started_at IS NULL",
        {"now": tx.now, "id": run_id, "number": row["attempt"]},
    )


def append_log(
    tx: Transaction,
    run_id: str,
    fence: int,
    attempt: int,
    lines: Sequence[LogLine],
    offsets: Mapping[str, int],
    meter: Meter,
) -> int:
    """See `Store.append_log`."""
    row = _owned(tx, run_id, fence)
    last: int = row["last_line"]
    if lines:
        tx.many(
            "INSERT INTO log_lines (run_id, seq, attempt, kind, at, data) VALUES (:run_id, :seq, :attempt, :kind, :at, :data)",
            [
                {
                    "run_id": run_id, "seq": last + place, "attempt": attempt, "kind": line.kind.value,
                    "at": micros(line.at), "data": line.data,
                }
                for place, line in enumerate(lines, 1)
            ],
        )  # fmt: skip
        last += len(lines)
        tx.run("UPDATE runs SET last_line = :last WHERE id = :id", {"last": last, "id": run_id})
    tx.run(
        "UPDATE attempts SET offsets = :offsets, usage = :usage, turns = :turns, tool_calls = :tool_calls, cost = :cost, "
        "cost_source = :cost_source WHERE run_id = :id AND number = :number",
        {"offsets": dump_json(dict(offsets)), "id": run_id, "number": attempt, **meter_columns(meter)},
    )
    return last


def finish(
    tx: Transaction,
    run_id: str,
    fence: int,
    outcome: Outcome,
    meter: Meter,
    exit_code: int | None,
    signal: int | None,
    decide: Decide,
) -> Run:
    """See `Store.finish`."""
    row = _owned(tx, run_id, fence)
    if row["cancel_requested"]:
        outcome = Outcome(ok=False, reason="cancelled", message=row["message"], text=outcome.text)
    tx.run(
        "UPDATE attempts SET ended_at = :now, ok = :ok, reason = :reason, message = :message, exit_code = :exit_code, "
        "exit_signal = :signal, result_text = :text, usage = :usage, turns = :turns, tool_calls = :tool_calls, cost = :cost, "
        "cost_source = :cost_source WHERE run_id = :id AND number = :number",
        {
            "now": tx.now, "ok": int(outcome.ok), "reason": outcome.reason, "message": outcome.message, "exit_code": exit_code,
            "signal": signal, "text": outcome.text, "id": run_id, "number": row["attempt"], **meter_columns(meter),
        },
    )  # fmt: skip
    columns: dict[str, Any] = {"owner": None, "lease_until": None, "cancel_requested": 0, **_totals(tx, run_id)}
    reason, message, actor = outcome.reason, outcome.message, row["owner"] or "worker"
    if row["cancel_requested"]:
        change = Change.CANCEL
    elif outcome.ok:
        change = Change.COMPLETE
        columns |= {"result_text": outcome.text, "result_json": None if outcome.output is None else dump_json(outcome.output)}
    else:
        decision = decide(to_run(row), outcome, when(tx.now))
        if isinstance(decision, Again):
            change = Change.RETRY
            counter = "infrastructure_retries" if outcome.infrastructure else "retries"
            columns |= {"not_before": micros(decision.at), "queued_at": tx.now, counter: row[counter] + 1}
        else:
            change = Change.FAIL
            columns["result_text"] = outcome.text
            message = f"{message} ({decision.why})" if message else decision.why
    if change is not Change.RETRY:
        columns["ended_at"] = tx.now
    events.move(tx, row, change, reason=reason, message=message, actor=actor, columns=columns)
    return runs.get(tx, run_id)


def _totals(tx: Transaction, run_id: str) -> dict[str, Any]:
    """What all attempts together used."""
    attempts = [to_attempt(row) for row in tx.all("SELECT * FROM attempts WHERE run_id = :id", {"id": run_id})]
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


def _owned(tx: Transaction, run_id: str, fence: int) -> Any:
    row = tx.hold(_OWNED, {"id": run_id})
    if row is None or row["state"] != RunState.RUNNING or row["fence"] != fence:
        raise LeaseLost(run_id)
    return row


def _us(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
