"""Values -> the JSON that the API speaks: camelCase, ISO 8601 times in UTC, money as decimal text."""

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

# Ids of held tasks, or of one kind of drift, in one answer.
MAX_HELD_SHOWN = 100


def at(moment: datetime | None) -> str | None:
    """`2026-01-05T08:00:00.000Z`."""
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def meter(value: Meter) -> dict[str, Any]:
    """Cost, tokens and turns."""
    return {
        "costUsd": None if value.cost is None else f"{value.cost:f}",
        "costSource": value.cost_source,
        "usage": value.usage.to_json(),
        "tokens": value.usage.total,
        "turns": value.turns,
        "toolCalls": value.tool_calls,
    }


def run(value: Run) -> dict[str, Any]:
    """A run as lists show it."""
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
    """A run with all that is kept of it but its log."""
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
    """Why a run waits, since what and until when, as far as it is known."""
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
    """One try."""
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
    """One change of state."""
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
    """One log line; `seq` is the cursor that continues after it."""
    return {"seq": value.seq, "attempt": value.attempt, "kind": value.kind.value, "at": at(value.at), "text": value.text}


def page(value: Page, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Part of a list."""
    return {"items": items, "next": value.next}


def definition(value: CompiledTask) -> dict[str, Any]:
    """A task as it is, or was, defined: the file's keys, and what the compiler adds; not its tests."""
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
    """A task as it is served: its definition, and whether it is paused."""
    return {
        **definition(value),
        "stale": value.id in snapshot.kept,
        "held": value.id in snapshot.held,
        "paused": pause(paused),
        "links": {"self": f"/api/tasks/{value.id}", "runs": f"/api/tasks/{value.id}/runs"},
    }


def pause(value: Pause | None) -> dict[str, Any] | None:
    """Why nothing of a task starts now."""
    return None if value is None else {"reason": value.reason, "by": value.actor, "since": at(value.at)}


def triggers(value: CompiledTask) -> list[dict[str, Any]]:
    """Its triggers; a webhook says where to post and whether anyone may."""
    shown = []
    for trigger in value.document["spec"].get("triggers", []):
        entry = dict(trigger)
        if entry["type"] == "webhook":
            entry["url"] = f"/api/hooks/{entry['config']['path']}"
            entry["unsigned"] = "secret" not in entry["config"]
        shown.append(entry)
    return shown


def slot(value: SlotRow) -> dict[str, Any]:
    """What became of a slot, or of several of which nothing but their number is kept; `slots` is null when nobody counted."""
    return {
        "slot": at(value.last),
        "first": at(value.first),
        "slots": value.count,
        "verdict": value.verdict,
        "runId": value.run_id,
        "at": at(value.at),
    }


def generation(value: GenerationRow | None) -> dict[str, Any]:
    """What is served now."""
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
    """A held removal: its first tasks, how many they are of how many, and the command that lets them go."""
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
    """How the directory of this server differs from what is served: the first tasks of each kind, and how many differ."""
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
    """A server that is there, what it serves, and whether its directory holds the same."""
    return {
        "server": value.server,
        "generation": value.generation,
        "inSync": value.in_sync,
        "seenAt": at(value.seen_at),
    }


def delivery(value: Delivery) -> dict[str, Any]:
    """A webhook request as it came, without its body."""
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
    """Webhook requests that were refused and have no delivery, from one minute to another."""
    return {
        "path": value.path,
        "taskId": value.task_id,
        "verdict": value.verdict,
        "requests": value.requests,
        "firstMinute": at(value.first),
        "lastMinute": at(value.last),
    }


def replay(value: Delivery, then: DeliveryDecision, now: DeliveryDecision, before: str | None) -> dict[str, Any]:
    """What became of a request then, beside what would become of it now; `replayedAs` is the run of an earlier replay by the
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
    """A verdict on a request, and the run that it means."""
    return {
        "verdict": value.verdict,
        "detail": value.detail,
        "taskId": value.task_id,
        "definition": value.definition,
        "params": value.params,
        "prompt": value.prompt,
    }
