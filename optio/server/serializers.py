"""The answers of the API: functions from domain values to the types of `optio.server.bodies`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

import msgspec

from optio.compiler.diagnostics import Diagnostic
from optio.model.drift import Drift
from optio.model.fleet import FleetState, ProcessRow, find_problems
from optio.model.registry import CompiledTask
from optio.model.removal import HeldRemoval
from optio.model.run import Attempt, Event, LogLine, Page, Run, RunState
from optio.model.usage import Meter
from optio.runs.admission import Hold
from optio.runs.delivery_gates import Gate
from optio.runs.failure import RunFailure
from optio.runs.replay import DeliveryDecision, diff, differences
from optio.server.bodies.deliveries import (
    DecisionBody,
    DeliveryBody,
    DeliveryDetailsBody,
    DeliveryPageBody,
    GateBody,
    RefusalsBody,
    ReplayBody,
)
from optio.server.bodies.diagnostics import DiagnosticBody
from optio.server.bodies.failure import ReasonMeaningBody, RunDifferenceBody, RunFailureBody
from optio.server.bodies.health import FleetProblemBody, ProcessBody
from optio.server.bodies.logs import LogLineBody
from optio.server.bodies.registry import DriftBody, RemovalBody, ServerBody
from optio.server.bodies.runs import (
    AttemptBody,
    EventBody,
    RunBody,
    RunDetailsBody,
    RunLinksBody,
    RunPageBody,
    StartedRunBody,
    UsageBody,
    WaitingBody,
)
from optio.server.bodies.tasks import DefinitionBody, PauseBody, SlotBody, SlotPageBody, TaskBody, TaskPageBody, TriggerBody
from optio.store.values import Delivery, GenerationRow, Pause, Refusals, SlotRow
from optio.tree.served import Snapshot

B = TypeVar("B", bound=msgspec.Struct)
# How many ids of held tasks, or of one kind of drift, an answer lists.
MAX_HELD_SHOWN = 100


def at(moment: datetime) -> str:
    """Return a time as text with milliseconds, such as `2026-01-05T08:00:00.000Z`."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def at_if_known(moment: datetime | None) -> str | None:
    """Return a time as `at` does, or None."""
    return None if moment is None else at(moment)


def to_json(body: msgspec.Struct) -> dict[str, Any]:
    """Return a body as the dictionary that its JSON is read as."""
    return cast("dict[str, Any]", msgspec.to_builtins(body))


def copied(kind: type[B], value: object, **others: Any) -> B:
    """Return a body with the fields of the same names of a value, times as text, and with others where they differ."""
    names = [name for name in kind.__struct_fields__ if name not in others]
    return kind(**{name: _plain(getattr(value, name)) for name in names}, **others)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return at(value)
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value


def _members(body: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(body, name) for name in body.__struct_fields__}


def _meter(value: Meter) -> dict[str, Any]:
    usage = value.usage
    return {
        "cost_usd": None if value.cost is None else f"{value.cost:f}",
        "cost_source": value.cost_source,
        "usage": UsageBody(
            fresh=usage.fresh,
            cached=usage.cached,
            cache_write=usage.cache_write,
            output=usage.output,
            reasoning=usage.reasoning,
        ),
        "tokens": usage.total,
        "turns": value.turns,
        "tool_calls": value.tool_calls,
    }


def run(value: Run) -> RunBody:
    """Return a run in the form of lists."""
    duration = value.duration_s
    # In full: a page has hundreds, and `copied` takes twice as long.
    return RunBody(
        id=value.id,
        task_id=value.task_id,
        task_name=value.task_name,
        state=value.state,
        reason=value.reason,
        message=value.message,
        trigger=value.trigger,
        params=dict(value.params),
        attempt=value.attempt,
        max_retries=value.max_retries,
        priority=value.priority,
        dedupe_key=value.dedupe_key,
        cancel_requested=value.cancel_requested,
        created_at=at(value.created_at),
        queued_at=at(value.queued_at),
        next_attempt_at=at(value.not_before) if value.state is RunState.QUEUED else None,
        started_at=at_if_known(value.started_at),
        ended_at=at_if_known(value.ended_at),
        duration_ms=None if duration is None else round(duration * 1000),
        **_meter(value.meter),
        slot=at_if_known(value.slot),
        delivery_id=value.delivery_id,
        definition=value.digest,
        generation=value.generation,
    )


def started_run(value: Run, *, duplicate: bool = False) -> StartedRunBody:
    """Return a run as the answer to a request that started or changed it."""
    return StartedRunBody(run_id=value.id, **_members(run(value)), duplicate=duplicate or msgspec.UNSET)


def run_details(
    value: Run, attempts: list[Attempt], events: list[Event], prompt: str, hold: Hold | None, commit: str | None
) -> RunDetailsBody:
    """Return a run with everything that is stored of it but its log."""
    return RunDetailsBody(
        **_members(run(value)),
        commit=commit,
        prompt=prompt,
        output=value.text,
        result=value.output,
        waiting=None if hold is None else waiting(hold),
        attempts=[_attempt(one) for one in attempts],
        events=[copied(EventBody, one) for one in events],
        links=RunLinksBody(
            itself=f"/api/workflow-runs/{value.id}",
            logs=f"/api/workflow-runs/{value.id}/logs",
            live=f"/ws/workflow-runs/{value.id}/logs",
            task=f"/api/tasks/{value.task_id}",
        ),
    )


def waiting(hold: Hold) -> WaitingBody:
    """Return why a run waits."""
    return copied(WaitingBody, hold, earliest_start=at_if_known(hold.earliest))


def _attempt(value: Attempt) -> AttemptBody:
    pod = value.pod
    return copied(
        AttemptBody,
        value,
        claimed_at=at(value.started_at),
        started_at=at_if_known(value.agent_started_at),
        pod=None if pod is None else pod.name,
        namespace=None if pod is None else pod.namespace,
        node=None if pod is None else pod.node,
        image=None if pod is None else pod.image,
        machine=value.agent.machine,
        program=value.agent.program,
        agent_version=value.agent.version,
        session=value.agent.session,
        model=value.agent.model,
        output=value.text,
        **_meter(value.meter),
    )


def run_failure(run: Run, value: RunFailure) -> RunFailureBody:
    """Return the explanation of a failed run."""
    return RunFailureBody(
        reason=run.reason,
        message=run.message,
        meanings=[copied(ReasonMeaningBody, each) for each in value.meanings],
        last_call=None if value.last_call is None else line(value.last_call),
        call_result=None if value.call_result is None else line(value.call_result),
        lines=[line(each) for each in value.lines],
        last_good=None if value.last_good is None else value.last_good.id,
        differences=[copied(RunDifferenceBody, each) for each in value.differences],
    )


def line(value: LogLine) -> LogLineBody:
    """Return one log line; its `seq` is the cursor that continues after it."""
    return LogLineBody(
        seq=value.seq,
        attempt=value.attempt,
        turn=value.turn,
        kind=value.kind,
        at=at(value.at),
        text=value.text,
        event=value.event,
    )


def run_page(value: Page) -> RunPageBody:
    """Return a page of runs."""
    return RunPageBody(items=[run(item) for item in value.items], next=value.next)


def definition(value: CompiledTask) -> DefinitionBody:
    """Return a task as its definition says: the keys of its file, and what the compiler adds, but not its tests."""
    return cast("DefinitionBody", _definition(value))


def _definition(value: CompiledTask) -> dict[str, Any]:
    # A dictionary in the form of `DefinitionBody`: a key without a value is left out, not null, down to the last mapping.
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


def task(value: CompiledTask, snapshot: Snapshot, paused: Pause | None) -> TaskBody:
    """Return a task as it is served: its definition, and whether it is stale, held or paused."""
    document = {
        **_definition(value),
        "stale": value.id in snapshot.kept,
        "held": value.id in snapshot.held,
        "paused": pause(paused),
        "links": {"self": f"/api/tasks/{value.id}", "runs": f"/api/tasks/{value.id}/runs"},
    }
    return cast("TaskBody", document)


def task_page(snapshot: Snapshot, pauses: Mapping[str, Pause], *, after: str, limit: int | None) -> TaskPageBody:
    """Return the tasks whose ids come after a cursor, which is the id of a task."""
    ids = [task_id for task_id in sorted(snapshot.registry.tasks) if task_id > after]
    shown = ids[:limit]
    return TaskPageBody(
        items=[task(snapshot.registry.tasks[task_id], snapshot, pauses.get(task_id)) for task_id in shown],
        next=shown[-1] if len(shown) < len(ids) else None,
        generation=snapshot.number,
    )


def pause(value: Pause | None) -> PauseBody | None:
    """Return the reason, author and time of a pause, or None."""
    return None if value is None else PauseBody(reason=value.reason, by=value.actor, since=at(value.at))


def triggers(value: CompiledTask) -> list[TriggerBody]:
    """Return the triggers of a task. A webhook has its URL, and says whether it needs a signature."""
    shown = []
    for trigger in value.document["spec"].get("triggers", []):
        entry = dict(trigger)
        if entry["type"] == "webhook":
            entry["url"] = f"/api/hooks/{entry['config']['path']}"
            entry["unsigned"] = "secret" not in entry["config"]
        shown.append(entry)
    return cast("list[TriggerBody]", shown)


def slot_page(value: Page) -> SlotPageBody:
    """Return a page of slots."""
    return SlotPageBody(items=[_slot(item) for item in value.items], next=value.next)


def _slot(value: SlotRow) -> SlotBody:
    return SlotBody(
        slot=at(value.last),
        first=at(value.first),
        slots=value.count,
        verdict=value.verdict,
        run_id=value.run_id,
        at=at(value.at),
    )


def generation(value: GenerationRow | None) -> dict[str, Any]:
    """Return the members of a `RegistryBody` about the generation that is served."""
    return {
        "generation": None if value is None else value.id,
        "digest": None if value is None else value.digest,
        "commit": None if value is None else value.commit,
        "activated_at": None if value is None else at(value.activated_at),
        "tasks": {} if value is None else dict(value.tasks),
    }


def removal(value: HeldRemoval | None) -> RemovalBody | None:
    """Return a held removal: its first tasks, the counts, and the command that releases it."""
    if value is None:
        return None
    return RemovalBody(
        digest=value.digest,
        count=len(value.tasks),
        total=value.total,
        tasks=list(value.tasks[:MAX_HELD_SHOWN]),
        since=at(value.since),
        release=value.command,
    )


def drift(value: Drift | None) -> DriftBody | None:
    """Return how the directory of this server differs from what is served: the first tasks of each kind, and the counts."""
    if value is None:
        return None
    return DriftBody(
        generation=value.generation,
        count=value.count,
        added=list(value.added[:MAX_HELD_SHOWN]),
        changed=list(value.changed[:MAX_HELD_SHOWN]),
        missing=list(value.missing[:MAX_HELD_SHOWN]),
        in_sync=list(value.in_sync),
    )


def server(value: ProcessRow) -> ServerBody:
    """Return a server, the generation that it serves, and whether its directory holds the same."""
    return ServerBody(
        server=value.name,
        generation=value.generation or 0,
        in_sync=value.in_sync is True,
        seen_at=at(cast(datetime, value.seen_at)),
    )


def fleet(value: FleetState) -> dict[str, Any]:
    """Return the processes of an installation, their problems and what waits for them, as fields of its health."""
    return {
        "at": at(value.now),
        "fleet_problems": [copied(FleetProblemBody, each) for each in find_problems(value)],
        "processes": [copied(ProcessBody, row, live=row.is_live) for row in value.processes],
        "queued": sum(value.queued.values()),
        "running": sum(row.running for row in value.processes),
    }


def diagnostic(value: Diagnostic) -> DiagnosticBody:
    """Return a finding of the compiler in the form of `optio check --format json`."""
    return msgspec.convert(value.to_json(), DiagnosticBody)


def delivery(value: Delivery) -> DeliveryBody:
    """Return a webhook request as it came, without its body."""
    return copied(DeliveryBody, value)


def delivery_details(value: Delivery, gates: Sequence[Gate], **body: Any) -> DeliveryDetailsBody:
    """Return a webhook request with its gates, and its body under one of its two keys."""
    steps = [copied(GateBody, each) for each in gates]
    return DeliveryDetailsBody(**_members(delivery(value)), gates=steps, **body)


def delivery_page(value: Page, refused: Sequence[Refusals]) -> DeliveryPageBody:
    """Return a page of webhook requests, and the numbers of those without a delivery."""
    items = [delivery(item) for item in value.items]
    return DeliveryPageBody(
        items=items,
        next=value.next,
        refused=[copied(RefusalsBody, each, first_minute=at(each.first), last_minute=at(each.last)) for each in refused],
    )


def replay(value: Delivery, then: DeliveryDecision, now: DeliveryDecision, before: str | None) -> ReplayBody:
    """Return the decision about a request then, beside the decision now; `replayed_as` is the run of an earlier replay with the
    same definition."""
    return ReplayBody(
        delivery_id=value.id,
        path=value.path,
        received_at=at(value.received_at),
        has_run=value.run_id,
        replayed_as=before,
        then=decision(then),
        now=decision(now),
        differs=differences(then, now),
        diff=diff(then, now),
        run_id=None,
    )


def decision(value: DeliveryDecision) -> DecisionBody:
    """Return a decision about a request, and the run that it means."""
    return copied(DecisionBody, value)
