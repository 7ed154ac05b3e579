"""The JSON of the API: functions from domain values to dictionaries. Keys are camelCase, times ISO 8601 in UTC, money decimal
text."""

from datetime import datetime
from typing import Any

from optio.model.drift import Drift
from optio.model.registry import CompiledTask
from optio.model.removal import HeldRemoval
from optio.model.run import Attempt, Event, LogLine, Meter, Page, Run, RunState
from optio.runs.admission import Hold
from optio.runs.replay import DeliveryDecision, diff, differences
from optio.store.values import Delivery, GenerationRow, Pause, Refusals, ServerRow, SlotRow
from optio.tree.served import Snapshot

# How many ids of held tasks, or of one kind of drift, an answer lists.
MAX_HELD_SHOWN = 100


def at(moment: datetime | None) -> str | None:
    """Return a time as text with milliseconds, such as `2026-01-05T08:00:00.000Z`."""
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def meter(value: Meter) -> dict[str, Any]:
    """Return cost, tokens and turns of an attempt or a run."""
    return {
        "costUsd": None if value.cost is None else f"{value.cost:f}",
        "costSource": value.cost_source,
        "usage": value.usage.to_json(),
        "tokens": value.usage.total,
        "turns": value.turns,
        "toolCalls": value.tool_calls,
    }


def run(value: Run) -> dict[str, Any]:
    """Return a run in the form of lists."""
    duration = value.duration_s
    return {
        "id": value.id,
        "taskId": value.task_id,
        "taskName": value.task_name,
        "state": value.state.value,
        "reason": value.reason,
        "message": value.message,
        "trigger": value.trigger,
        "params": value.params,
        "attempt": value.attempt,
        "maxRetries": value.max_retries,
        "priority": value.priority,
        "dedupeKey": value.dedupe_key,
        "cancelRequested": value.cancel_requested,
        "createdAt": at(value.created_at),
        "queuedAt": at(value.queued_at),
        "nextAttemptAt": at(value.not_before) if value.state is RunState.QUEUED else None,
        "startedAt": at(value.started_at),
        "endedAt": at(value.ended_at),
        "durationMs": None if duration is None else round(duration * 1000),
        **meter(value.meter),
        "slot": at(value.slot),
        "deliveryId": value.delivery_id,
        "definition": value.digest,
        "generation": value.generation,
    }


def run_details(value: Run, attempts: list[Attempt], events: list[Event], prompt: str, hold: Hold | None) -> dict[str, Any]:
    """Return a run with everything that is stored of it but its log."""
    return {
        **run(value),
        "prompt": prompt,
        "output": value.text,
        "result": value.output,
        "waiting": None if hold is None else waiting(hold),
        "attempts": [attempt(one) for one in attempts],
        "events": [event(one) for one in events],
        "links": {
            "self": f"/api/workflow-runs/{value.id}",
            "logs": f"/api/workflow-runs/{value.id}/logs",
            "live": f"/ws/workflow-runs/{value.id}/logs",
            "task": f"/api/tasks/{value.task_id}",
        },
    }


def waiting(hold: Hold) -> dict[str, Any]:
    """Return why a run waits, since what and until when, as far as that is known."""
    return {
        "reason": hold.reason,
        "message": hold.message,
        "ahead": hold.ahead,
        "position": hold.position,
        "rule": hold.rule,
        "occupiedBy": list(hold.occupied_by),
        "earliestStart": at(hold.earliest),
    }


def attempt(value: Attempt) -> dict[str, Any]:
    """Return one attempt, with its times, worker and outcome."""
    return {
        "number": value.number,
        "worker": value.worker,
        "claimedAt": at(value.started_at),
        "startedAt": at(value.agent_started_at),
        "agentStartedAt": at(value.agent_started_at),
        "began": value.began,
        "pod": None if value.pod is None else value.pod.name,
        "namespace": None if value.pod is None else value.pod.namespace,
        "node": None if value.pod is None else value.pod.node,
        "endedAt": at(value.ended_at),
        "ok": value.ok,
        "reason": value.reason,
        "message": value.message,
        "exitCode": value.exit_code,
        "signal": value.signal,
        "output": value.text,
        **meter(value.meter),
    }


def event(value: Event) -> dict[str, Any]:
    """Return one change of a run's state, with its actor and time."""
    return {
        "seq": value.seq,
        "from": None if value.from_state is None else value.from_state.value,
        "to": value.to_state.value,
        "reason": value.reason,
        "message": value.message,
        "actor": value.actor,
        "at": at(value.at),
    }


def line(value: LogLine) -> dict[str, Any]:
    """Return one log line; its `seq` is the cursor that continues after it."""
    return {"seq": value.seq, "attempt": value.attempt, "kind": value.kind.value, "at": at(value.at), "text": value.text}


def page(value: Page, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a part of a list, with the cursor of the next part under `next`."""
    return {"items": items, "next": value.next}


def definition(value: CompiledTask) -> dict[str, Any]:
    """Return a task as its definition says: the keys of its file, and what the compiler adds, but not its tests."""
    document = dict(value.document["spec"])
    for key in ("promptTemplate", "tests"):
        document.pop(key, None)
    return {
        **document,
        "id": value.id,
        "priority": value.spec.priority,
        "promptTemplate": value.prompt,
        "triggers": triggers(value),
        "digest": value.digest,
        "namespace": value.namespace,
        "origin": {"path": value.origin.path, "line": value.origin.line},
    }


def task(value: CompiledTask, snapshot: Snapshot, paused: Pause | None) -> dict[str, Any]:
    """Return a task as it is served: its definition, and whether it is stale, held or paused."""
    return {
        **definition(value),
        "stale": value.id in snapshot.kept,
        "held": value.id in snapshot.held,
        "paused": pause(paused),
        "links": {"self": f"/api/tasks/{value.id}", "runs": f"/api/tasks/{value.id}/runs"},
    }


def pause(value: Pause | None) -> dict[str, Any] | None:
    """Return the reason, author and time of a pause, or None."""
    return None if value is None else {"reason": value.reason, "by": value.actor, "since": at(value.at)}


def triggers(value: CompiledTask) -> list[dict[str, Any]]:
    """Return the triggers of a task. A webhook has its URL, and says whether it needs a signature."""
    shown = []
    for trigger in value.document["spec"].get("triggers", []):
        entry = dict(trigger)
        if entry["type"] == "webhook":
            entry["url"] = f"/api/hooks/{entry['config']['path']}"
            entry["unsigned"] = "secret" not in entry["config"]
        shown.append(entry)
    return shown


def slot(value: SlotRow) -> dict[str, Any]:
    """Return what became of a slot, or of several missed slots that are stored as a range; `slots` is null when they were not
    counted."""
    return {
        "slot": at(value.last),
        "first": at(value.first),
        "slots": value.count,
        "verdict": value.verdict,
        "runId": value.run_id,
        "at": at(value.at),
    }


def generation(value: GenerationRow | None) -> dict[str, Any]:
    """Return the generation that is served: its number, digest, commit and the digests of its tasks."""
    if value is None:
        return {"generation": None, "digest": None, "commit": None, "activatedAt": None, "tasks": {}}
    return {
        "generation": value.id,
        "digest": value.digest,
        "commit": value.commit,
        "activatedAt": at(value.activated_at),
        "tasks": dict(value.tasks),
    }


def removal(value: HeldRemoval | None) -> dict[str, Any] | None:
    """Return a held removal: its first tasks, the counts, and the command that releases it."""
    if value is None:
        return None
    return {
        "digest": value.digest,
        "count": len(value.tasks),
        "total": value.total,
        "tasks": list(value.tasks[:MAX_HELD_SHOWN]),
        "since": at(value.since),
        "release": value.command,
    }


def drift(value: Drift | None) -> dict[str, Any] | None:
    """Return how the directory of this server differs from what is served: the first tasks of each kind, and the counts."""
    if value is None:
        return None
    return {
        "generation": value.generation,
        "count": value.count,
        "added": list(value.added[:MAX_HELD_SHOWN]),
        "changed": list(value.changed[:MAX_HELD_SHOWN]),
        "missing": list(value.missing[:MAX_HELD_SHOWN]),
        "inSync": list(value.in_sync),
    }


def server(value: ServerRow) -> dict[str, Any]:
    """Return a server, the generation that it serves, and whether its directory holds the same."""
    return {
        "server": value.server,
        "generation": value.generation,
        "inSync": value.in_sync,
        "seenAt": at(value.seen_at),
    }


def delivery(value: Delivery) -> dict[str, Any]:
    """Return a webhook request as it came, without its body."""
    return {
        "id": value.id,
        "path": value.path,
        "taskId": value.task_id,
        "key": value.key,
        "receivedAt": at(value.received_at),
        "verdict": value.verdict,
        "status": value.status,
        "detail": value.detail,
        "runId": value.run_id,
        "repeats": value.repeats,
        "replays": value.replays,
        "bodySha256": value.body_sha256,
        "headers": dict(value.headers),
    }


def refusals(value: Refusals) -> dict[str, Any]:
    """Return the number of refused webhook requests that have no delivery, for one path and verdict."""
    return {
        "path": value.path,
        "taskId": value.task_id,
        "verdict": value.verdict,
        "requests": value.requests,
        "firstMinute": at(value.first),
        "lastMinute": at(value.last),
    }


def replay(value: Delivery, then: DeliveryDecision, now: DeliveryDecision, before: str | None) -> dict[str, Any]:
    """Return the decision about a request then, beside the decision now; `replayedAs` is the run of an earlier replay with the
    same definition."""
    return {
        "deliveryId": value.id,
        "path": value.path,
        "receivedAt": at(value.received_at),
        "hasRun": value.run_id,
        "replayedAs": before,
        "then": judgement(then),
        "now": judgement(now),
        "differs": differences(then, now),
        "diff": diff(then, now),
    }


def judgement(value: DeliveryDecision) -> dict[str, Any]:
    """Return a decision about a request, and the run that it means."""
    return {
        "verdict": value.verdict,
        "detail": value.detail,
        "taskId": value.task_id,
        "definition": value.definition,
        "params": value.params,
        "prompt": value.prompt,
    }
