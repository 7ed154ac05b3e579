"""Conversion of database rows into the values of `model` and `store.base`, and the conditions and cursors of pages."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from optio.errors import Invalid, Problem
from optio.model import agent_event
from optio.model.run import AgentIdentity, AgentPod, Attempt, LogLine, Run
from optio.model.usage import CostSource, Meter, Usage
from optio.store.sql.rows import from_row
from optio.store.sql.transaction import Row, dump_json, to_micros
from optio.store.values import Delivery, DeliveryFilter, RunFilter

# Without the prompt, which may be large and is needed by the worker only.
RUN_COLUMNS = (
    "id, seq, task_id, task_name, digest, generation, state, reason, message, run_trigger, slot, delivery_id, params, "
    "max_concurrent, max_retries, attempt, retries, infrastructure_retries, fence, owner, lease_until, cancel_requested, "
    "created_at, queued_at, not_before, started_at, ended_at, result_text, result_json, turns, tool_calls, usage, cost, "
    "cost_source, traceparent, priority, dedupe_key"
)
# A started attempt without a row in `begun` began as a process.
ATTEMPTS = (
    "SELECT a.*, CASE WHEN a.agent_started_at IS NOT NULL THEN COALESCE(b.how, 'process') END AS how, "
    "p.namespace AS pod_namespace, p.pod, p.node, p.image, g.version, g.session, g.model, g.machine, g.program, c.continues, "
    "(SELECT COUNT(*) FROM model_calls m WHERE m.run_id = a.run_id AND m.number = a.number) AS model_calls, "
    "COALESCE(k.upstream, '') <> '' AS metered FROM attempts a "
    "LEFT JOIN attempt_keys k ON k.run_id = a.run_id AND k.number = a.number "
    "LEFT JOIN begun b ON b.run_id = a.run_id AND b.number = a.number "
    "LEFT JOIN attempt_pods p ON p.run_id = a.run_id AND p.number = a.number "
    "LEFT JOIN attempt_agents g ON g.run_id = a.run_id AND g.number = a.number "
    "LEFT JOIN continued_attempts c ON c.run_id = a.run_id AND c.number = a.number WHERE a.run_id = :id ORDER BY a.number"
)
_MAX_INT32 = 2**31 - 1


def _loads(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def to_meter(row: Row) -> Meter:
    """Return the usage in the columns that attempts and runs share."""
    return Meter(
        usage=Usage.from_json(_loads(row["usage"])),
        turns=row["turns"],
        tool_calls=row["tool_calls"],
        cost=None if row["cost"] is None else Decimal(row["cost"]),
        cost_source=None if row["cost_source"] is None else CostSource(row["cost_source"]),
    )


def meter_columns(meter: Meter) -> dict[str, Any]:
    """Return a usage as statement parameters, the inverse of `to_meter`."""
    return {
        "usage": dump_json(meter.usage.to_json()),
        # An agent may report anything; these columns hold 31 bits.
        "turns": None if meter.turns is None else min(meter.turns, _MAX_INT32),
        "tool_calls": min(meter.tool_calls, _MAX_INT32),
        "cost": None if meter.cost is None else str(meter.cost),
        "cost_source": None if meter.cost_source is None else meter.cost_source.value,
    }


def to_run(row: Row, meter: Meter | None = None) -> Run:
    """Return the run of a row with `RUN_COLUMNS`, which leaves the prompt out, with another usage than the row's if given."""
    return from_row(
        Run,
        row,
        trigger=row["run_trigger"],
        text=row["result_text"],
        output=_loads(row["result_json"]),
        meter=meter or to_meter(row),
    )


def to_attempt(row: Row) -> Attempt:
    """Return the attempt of a row of `ATTEMPTS`."""
    return from_row(
        Attempt,
        row,
        began=row["how"],
        signal=row["exit_signal"],
        text=row["result_text"],
        meter=to_meter(row),
        pod=None if row["pod"] is None else AgentPod(row["pod_namespace"], row["pod"], row["node"], row["image"]),
        agent=from_row(AgentIdentity, row),
    )


def to_line(row: Row) -> LogLine:
    """Return the log line of a row of `log_lines`."""
    return from_row(LogLine, row, event=None if row["event"] is None else agent_event.decode(row["event"]))


def to_delivery(row: Row) -> Delivery:
    """Return the delivery of a row; its body is None in lists."""
    return from_row(Delivery, row, key=row["delivery_key"], repeats=row["repeats"] or 0, replays=row["replays"] or 0)


# The most rows of a page, whatever the caller asks for.
MAX_PAGE_SIZE = 1000


def page_size(limit: int) -> int:
    """Return `limit`, brought between 1 and 1,000."""
    return max(1, min(limit, MAX_PAGE_SIZE))


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def narrow(
    table: str,
    conditions: list[str],
    params: dict[str, Any],
    where: RunFilter | DeliveryFilter,
    bounds: Mapping[str, Sequence[str]],
    cursor: str | None,
) -> list[str]:
    """Return the conditions of a page together with those of its period (`bounds` has them by `since` and `until`), of the
    beginning of ids, and of the cursor, and add their parameters. A page by ids is in the order of ids."""
    for name, bound in (("since", where.since), ("until", where.until)):
        if bound is not None:
            conditions = [*conditions, *bounds[name]]
            params[name] = to_micros(bound)
    before = "seq < :before"
    if where.id_prefix is not None:
        # Ids begin with their time, so their own order is newest first, too. `IS TRUE` keeps other indexes out.
        between = _id_range(where.id_prefix)
        of_ids = "1 = 0" if between is None else "id >= :low AND id <= :high"
        conditions = [*(f"({condition}) IS TRUE" for condition in conditions), of_ids]
        params["low"], params["high"] = between or ("", "")
        before = f"id < (SELECT earlier.id FROM {table} earlier WHERE earlier.seq = :before)"  # noqa: S608
    if cursor is not None:
        conditions = [*conditions, before]
        params["before"] = cursor_seq(cursor)
    return conditions


def _id_range(prefix: str) -> tuple[str, str] | None:
    """Return the lowest and the highest UUID that begin with a prefix, for a range over an index; None if no UUID does. Both
    are whole, because the order of texts of one shape is the same under every collation."""
    low, high = (prefix + "-".join(digit * n for n in (8, 4, 4, 4, 12))[len(prefix) :] for digit in "0f")
    return (low, high) if _UUID.fullmatch(low) else None


def cursor_after(seq: int) -> str:
    """Return an opaque cursor with which a list continues below this sequence number."""
    return base64.urlsafe_b64encode(f"before:{seq}".encode()).decode().rstrip("=")


def cursor_seq(cursor: str) -> int:
    """Return the sequence number in a cursor; raise Invalid for anything that `cursor_after` did not make."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        kind, _, number = text.partition(":")
        if kind != "before" or not number.isascii() or not number.isdigit() or len(number) > 18:
            raise ValueError
        return int(number)
    except ValueError as err:
        raise Invalid("the cursor is invalid", [Problem("/cursor", "use `next` of the previous page")]) from err
