"""Keys of attempts and their model calls: money is reserved before a call, and settled after it.

A call is admitted under the lock of its attempt's key, so that calls of one run which come at the same time see each other.
Used by `optio.gateway`; workers write keys and read totals.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any, cast

from optio.errors import NotFound
from optio.model.model_call import (
    CALL_LEASE,
    Account,
    AttemptKey,
    CallOutcome,
    CallTotals,
    ModelCall,
    Plan,
    PlannedCall,
    Refusal,
    RefusedCall,
    SettledCall,
)
from optio.model.run import Lease
from optio.model.usage import Usage
from optio.store.sql.claims import owned_row
from optio.store.sql.transaction import Row, Transaction, dump_json, from_micros, span_in_micros

_NANO = Decimal(10**9)
MIN_ERROR_STATUS = 300  # redirects are not followed
_LIVING = """
SELECT k.*, r.digest AS definition FROM attempt_keys k JOIN runs r ON r.id = k.run_id AND r.attempt = k.number
WHERE k.digest = :digest AND r.state = 'running'
"""
_OPENS_MODEL = "SELECT 1 AS one FROM attempt_keys WHERE run_id = :run_id AND number = :number AND upstream <> ''"
_CALLS = "SELECT * FROM model_calls WHERE run_id = :run_id AND number = :number"
# One statement: each costs a round trip before the first byte of an answer.
_ACCOUNT = """
SELECT COALESCE(SUM(CASE state WHEN 'open' THEN reserved WHEN 'ended' THEN COALESCE(cost, 0) ELSE 0 END), 0) AS used,
    COALESCE(MAX(CASE WHEN state = 'open' AND until > :now THEN 1 ELSE 0 END), 0) AS has_open,
    (SELECT CAST(l.input_tokens AS TEXT) || '/' || CAST(l.bytes AS TEXT) FROM model_calls l
        WHERE l.run_id = :run_id AND l.number = :number AND l.input_tokens > 0 AND l.bytes > 0 AND l.is_estimate = 0
        ORDER BY l.bytes DESC, l.at, l.id LIMIT 1) AS largest,
    (SELECT 1 FROM runs r WHERE r.id = :run_id AND r.attempt = :number AND r.state = 'running') AS living
FROM model_calls WHERE run_id = :run_id AND number = :number
"""
_ADMIT = """
INSERT INTO model_calls (run_id, number, id, at, state, until, model, protocol, bytes, reserved, is_estimate, reason, message)
VALUES (:run_id, :number, :id, :now, :state, :until, :model, :protocol, :bytes, :reserved, 0, :reason, :message)
"""
_RENEW = """
UPDATE model_calls SET until = :until WHERE run_id = :run_id AND number = :number AND id = :id AND state = 'open'
"""
_COUNT = """
INSERT INTO connection_calls (run_id, number, connection, calls) VALUES (:run_id, :number, :connection, 1)
ON CONFLICT (run_id, number, connection) DO UPDATE SET calls = connection_calls.calls + 1
RETURNING calls
"""
_SETTLE = """
UPDATE model_calls SET state = 'ended', answered = :model, usage = :usage, input_tokens = :input_tokens, cost = :cost,
    is_estimate = :is_estimate, status = :status, first_byte = :first_byte, duration = :duration
WHERE run_id = :run_id AND number = :number AND id = :id AND state = 'open'
"""
_LIST = """
SELECT c.*, CASE WHEN r.omitted IS NULL THEN r.id END AS recorded FROM (
    SELECT m.*, ROW_NUMBER() OVER (ORDER BY m.at, m.number, m.id) AS place FROM model_calls m WHERE m.run_id = :run_id
) c LEFT JOIN recorded_calls r ON r.run_id = c.run_id AND r.number = c.number AND r.id = c.id
WHERE c.place > :after AND (CAST(:attempt AS INTEGER) IS NULL OR c.number = :attempt) ORDER BY c.place LIMIT :most
"""


def open_key(tx: Transaction, lease: Lease, key: AttemptKey) -> None:
    """Store the key of an owned run's attempt (`Store.open_key`). A launch that is repeated replaces it."""
    owned_row(tx, lease)
    tx.run("DELETE FROM attempt_keys WHERE run_id = :run_id AND number = :number", _place(key))
    tx.run(
        "INSERT INTO attempt_keys (run_id, number, digest, upstream, credential, budget, spent, is_priced, secrets) "
        "VALUES (:run_id, :number, :digest, :upstream, :credential, :budget, :spent, :is_priced, :secrets)",
        {
            **_place(key),
            "digest": key.digest,
            "upstream": key.upstream or "",
            "credential": key.credential or "",
            "budget": None if key.limit is None else _nano(key.limit),
            "spent": _nano(key.spent),
            "is_priced": int(key.is_priced),
            "secrets": None if key.secrets is None else dump_json(key.secrets),
        },
    )


def key(tx: Transaction, digest: str) -> AttemptKey | None:
    """Return the living key of this digest (`Store.attempt_key`)."""
    row = tx.one(_LIVING, {"digest": digest})
    return None if row is None else _key(row)


def admit(
    tx: Transaction, key: AttemptKey, call_id: str, model: str, size: int, plan: Plan, *, protocol: str | None = None
) -> PlannedCall | RefusedCall:
    """Admit or refuse a call (`Store.admit_call`)."""
    row = tx.hold("SELECT * FROM attempt_keys WHERE digest = :digest", {"digest": key.digest})
    state = None if row is None else tx.one(_ACCOUNT, {**_place(key), "now": tx.now})
    if row is None or state is None or state["living"] is None:
        raise NotFound("attempt", f"{key.run_id}/{key.attempt}")
    planned = plan(_account(key, state))
    is_refused = isinstance(planned, RefusedCall)
    if isinstance(planned, RefusedCall) and planned.has_open:
        return planned  # it is asked again
    tx.run(
        _ADMIT,
        {
            **_place(key),
            "id": call_id,
            "now": tx.now,
            "until": tx.now + span_in_micros(CALL_LEASE),
            "state": "refused" if is_refused else "open",
            "model": model,
            "protocol": protocol,
            "bytes": size,
            "reserved": 0 if isinstance(planned, RefusedCall) else _nano(planned.reserved),
            "reason": planned.reason if isinstance(planned, RefusedCall) else None,
            "message": planned.message if isinstance(planned, RefusedCall) else None,
        },
    )
    return planned


def renew(tx: Transaction, calls: Sequence[tuple[AttemptKey, str]]) -> None:
    """Renew open calls (`Store.renew_calls`)."""
    until = tx.now + span_in_micros(CALL_LEASE)
    tx.many(_RENEW, [{**_place(key), "id": call_id, "until": until} for key, call_id in calls])


def settle(tx: Transaction, key: AttemptKey, call_id: str, call: SettledCall) -> None:
    """Settle an open call (`Store.settle_call`); one that is settled already stays as it is."""
    usage = call.usage
    tx.run(
        _SETTLE,
        {
            **_place(key),
            "id": call_id,
            "model": call.model,
            "usage": dump_json(usage.to_json()),
            "input_tokens": usage.fresh + usage.cached + usage.cache_write,
            "cost": None if call.cost is None else _nano(call.cost),
            "is_estimate": int(call.is_estimate),
            "status": call.status,
            "first_byte": _micros(call.first_byte_s),
            "duration": _micros(call.duration_s),
        },
    )


def count(tx: Transaction, key: AttemptKey, connection: str) -> int:
    """Count a call of a connection (`Store.count_call`)."""
    row = tx.one(_COUNT, {**_place(key), "connection": connection})
    return 0 if row is None else int(row["calls"])


def calls(tx: Transaction, run_id: str, *, attempt: int | None = None, after: int = 0, limit: int = 200) -> list[ModelCall]:
    """Return calls of a run with a greater number, in order (`Store.model_calls`)."""
    rows = tx.all(_LIST, {"run_id": run_id, "attempt": attempt, "after": after, "most": limit})
    return [_call(row, tx.now) for row in rows]


def totals(tx: Transaction, run_id: str, attempt: int) -> CallTotals | None:
    """Return the sum of an attempt's calls (`Store.call_totals`); None for one whose key opens no model."""
    place = {"run_id": run_id, "number": attempt}
    if tx.one(_OPENS_MODEL, place) is None:
        return None
    calls = tx.all(f"{_CALLS} ORDER BY at", place)
    made = [call for call in calls if call["state"] != "refused"]
    costs = [_cost(call) for call in made]
    refused = calls[-1] if calls and calls[-1]["state"] == "refused" else None
    usages = [_usage(call) for call in made]
    return CallTotals(
        calls=len(made),
        open=sum(_is_open(call, tx.now) for call in made),
        usage=sum(usages, Usage()),
        cost=None if None in costs else sum((cost for cost in costs if cost is not None), Decimal(0)),
        is_estimate=any(call["is_estimate"] or call["state"] == "open" for call in made),
        refusal=None if refused is None else RefusedCall(reason=cast("Refusal", refused["reason"]), message=refused["message"]),
    )


def _call(row: Row, now: int) -> ModelCall:
    return ModelCall(
        number=row["place"],
        attempt=row["number"],
        id=row["id"],
        at=from_micros(row["at"]),
        outcome=_outcome(row, now),
        protocol=row["protocol"],
        requested_model=row["model"],
        model=row["answered"],
        usage=_usage(row),
        cost=None if row["state"] == "refused" else _cost(row),
        is_estimate=bool(row["is_estimate"]) or row["state"] == "open",
        status=row["status"] or None,
        first_byte_s=_seconds(row["first_byte"]),
        duration_s=_seconds(row["duration"]),
        reason=row["reason"],
        message=row["message"],
        is_recorded=row["recorded"] is not None,
    )


def _outcome(row: Row, now: int) -> CallOutcome:
    if row["state"] == "refused":
        return CallOutcome.REFUSED
    if row["state"] == "open":
        return CallOutcome.OPEN if _is_open(row, now) else CallOutcome.LOST
    if row["is_estimate"]:
        return CallOutcome.BROKEN
    return CallOutcome.FAILED if (row["status"] or 0) >= MIN_ERROR_STATUS else CallOutcome.ANSWERED


def _usage(row: Row) -> Usage:
    return Usage.from_json(None if row["usage"] is None else json.loads(row["usage"]))


def _micros(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)


def _seconds(micros: int | None) -> float | None:
    return None if micros is None else micros / 1e6


def _is_open(call: Row, now: int) -> bool:
    """Return whether an answer of this call is to come: not that of a gateway which has died."""
    return bool(call["state"] == "open" and call["until"] > now)


def _account(key: AttemptKey, state: Row) -> Account:
    tokens, _, size = (state["largest"] or "").partition("/")
    return Account(
        left=None if key.limit is None else key.limit - key.spent - Decimal(int(state["used"])) / _NANO,
        has_open=bool(state["has_open"]),
        tokens_per_byte=Decimal(tokens) / Decimal(size) if size else None,
    )


def _cost(call: Row) -> Decimal | None:
    amount = call["reserved"] if call["state"] == "open" else call["cost"]
    return None if amount is None else Decimal(amount) / _NANO


def _key(row: Row) -> AttemptKey:
    return AttemptKey(
        digest=row["digest"],
        run_id=row["run_id"],
        attempt=row["number"],
        definition=row["definition"],
        upstream=row["upstream"] or None,
        credential=row["credential"] or None,
        limit=None if row["budget"] is None else Decimal(row["budget"]) / _NANO,
        spent=Decimal(row["spent"]) / _NANO,
        is_priced=bool(row["is_priced"]),
        secrets=None if row["secrets"] is None else tuple(json.loads(row["secrets"])),
    )


def _place(key: AttemptKey) -> Mapping[str, Any]:
    return {"run_id": key.run_id, "number": key.attempt}


def _nano(amount: Decimal) -> int:
    return int((amount * _NANO).to_integral_value(ROUND_CEILING))
