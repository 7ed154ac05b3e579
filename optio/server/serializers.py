"""The answers of the API: functions from domain values to the types of `optio.server.bodies`."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from operator import attrgetter
from types import MappingProxyType, NoneType
from typing import Any, TypeVar, cast, get_args, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from optio.compiler.diagnostics import Diagnostic
from optio.model.drift import Drift
from optio.model.fleet import FleetState, find_problems
from optio.model.registry import CompiledTask
from optio.model.removal import HeldRemoval
from optio.model.run import Attempt, Event, LogLine, Run, RunState
from optio.runs.admission import Hold
from optio.runs.delivery_gates import Gate
from optio.runs.replay import DeliveryDecision, diff, differences
from optio.server.bodies.base import Body, Source
from optio.server.bodies.deliveries import DeliveryDetailsBody, ReplayBody
from optio.server.bodies.drafts import DiagnosticBody
from optio.server.bodies.health import FleetProblemBody, ProcessBody
from optio.server.bodies.logs import LogLineBody
from optio.server.bodies.registry import DriftBody, RemovalBody
from optio.server.bodies.runs import RunBody, RunDetailsBody, RunLinksBody, StartedRunBody
from optio.server.bodies.tasks import DefinitionBody, PauseBody, TaskBody, TaskPageBody, TriggerBody
from optio.store.values import Delivery, Pause
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


def milliseconds(seconds: float | None) -> int | None:
    """Return a duration in whole milliseconds, or None."""
    return None if seconds is None else round(seconds * 1000)


_PLAIN: dict[type, Callable[[Any], Any]] = {
    datetime: at,
    date: date.isoformat,
    Decimal: "{:f}".format,
    tuple: list,
    MappingProxyType: dict,
}


def to_json(body: msgspec.Struct) -> dict[str, Any]:
    """Return a body as the dictionary that its JSON is read as."""
    return cast("dict[str, Any]", msgspec.to_builtins(body))


def to_body(kind: type[B], value: object, **others: Any) -> B:
    """Return a body whose fields are the attributes of a value, by their names or their `Source`, and `others`.

    Times and amounts become text, sequences lists, and parts bodies where a field declares them so.
    """
    members = {}
    for name, attribute, body in _fields_of(cast("Any", kind)):
        member = others[name] if name in others else attribute(value)
        if body is not None:
            member = _nested(member, body)
        elif (convert := _PLAIN.get(type(member))) is not None:
            member = convert(member)
        members[name] = member
    return kind(**members)


@cache
def _fields_of(kind: type[msgspec.Struct]) -> tuple[tuple[str, Callable[[Any], Any], type[Body] | None], ...]:
    """Return each field of a body with the function that reads its attribute, and the body that it consists of, if it does."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple((name, _attribute(name, hints[name]), _body_within(hints[name])) for name in kind.__struct_fields__)


def _attribute(name: str, annotation: Any) -> Callable[[Any], Any]:
    path = next((part.path for part in get_args(annotation) if isinstance(part, Source)), name)
    first, _, rest = path.partition(".")
    if not rest:
        return attrgetter(first)

    part, attribute = attrgetter(first), _attribute(rest, None)
    return lambda value: None if (owner := part(value)) is None else attribute(owner)


def _body_within(annotation: Any) -> type[Body] | None:
    if isinstance(annotation, type) and issubclass(annotation, Body):
        return annotation
    return next((body for part in get_args(annotation) if (body := _body_within(part)) is not None), None)


def _nested(value: Any, body: type[Body]) -> Any:
    if isinstance(value, (Body, UnsetType, NoneType)):
        return value
    return [_nested(part, body) for part in value] if isinstance(value, (list, tuple)) else to_body(body, value)


def run(value: Run) -> RunBody:
    """Return a run in the form of lists."""
    return to_body(RunBody, value, **_times(value))


def _times(value: Run) -> dict[str, Any]:
    return {
        "next_attempt_at": value.not_before if value.state is RunState.QUEUED else None,
        "duration_ms": milliseconds(value.duration_s),
    }


def started_run(value: Run, *, duplicate: bool = False) -> StartedRunBody:
    """Return a run as the answer to a request that started or changed it."""
    return to_body(StartedRunBody, value, duplicate=duplicate or UNSET, **_times(value))


def run_details(
    value: Run, attempts: list[Attempt], events: list[Event], prompt: str, hold: Hold | None, commit: str | None
) -> RunDetailsBody:
    """Return a run with everything that is stored of it but its log."""
    links = RunLinksBody(
        itself=f"/api/workflow-runs/{value.id}",
        logs=f"/api/workflow-runs/{value.id}/logs",
        calls=f"/api/workflow-runs/{value.id}/calls",
        live=f"/ws/workflow-runs/{value.id}/logs",
        task=f"/api/tasks/{value.task_id}",
    )
    parts = {"attempts": attempts, "events": events, "prompt": prompt, "waiting": hold, "commit": commit, "links": links}
    return to_body(RunDetailsBody, value, **parts, **_times(value))


def line(value: LogLine) -> LogLineBody:
    """Return one log line; its `seq` is the cursor that continues after it."""
    return to_body(LogLineBody, value)


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
        "paused": None if paused is None else to_body(PauseBody, paused),
        "links": {"self": f"/api/tasks/{value.id}", "runs": f"/api/tasks/{value.id}/runs"},
    }
    return cast("TaskBody", document)


def task_page(snapshot: Snapshot, pauses: Mapping[str, Pause], *, after: str, limit: int | None) -> TaskPageBody:
    """Return the tasks whose ids come after a cursor, which is the id of a task."""
    ids = [task_id for task_id in sorted(snapshot.registry.tasks) if task_id > after]
    page_ids = ids[:limit]
    return TaskPageBody(
        items=[task(snapshot.registry.tasks[task_id], snapshot, pauses.get(task_id)) for task_id in page_ids],
        next=page_ids[-1] if len(page_ids) < len(ids) else None,
        generation=snapshot.number,
    )


def triggers(value: CompiledTask) -> list[TriggerBody]:
    """Return the triggers of a task. A webhook has its URL, and says whether it needs a signature."""
    documents = []
    for trigger in value.document["spec"].get("triggers", []):
        entry = dict(trigger)
        if entry["type"] == "webhook":
            entry["url"] = f"/api/hooks/{entry['config']['path']}"
            entry["unsigned"] = "secret" not in entry["config"]
        documents.append(entry)
    return cast("list[TriggerBody]", documents)


def removal(value: HeldRemoval | None) -> RemovalBody | None:
    """Return a held removal: its first tasks, the counts, and the command that releases it."""
    if value is None:
        return None
    return to_body(RemovalBody, value, count=len(value.tasks), tasks=value.tasks[:MAX_HELD_SHOWN])


def drift(value: Drift | None) -> DriftBody | None:
    """Return how the directory of this server differs from what is served: the first tasks of each kind, and the counts."""
    if value is None:
        return None
    parts = {"added": value.added, "changed": value.changed, "missing": value.missing}
    return to_body(DriftBody, value, **{name: ids[:MAX_HELD_SHOWN] for name, ids in parts.items()})


def fleet(value: FleetState) -> dict[str, Any]:
    """Return the processes of an installation, their problems and what waits for them, as fields of its health."""
    return {
        "at": at(value.now),
        "fleet_problems": [to_body(FleetProblemBody, problem) for problem in find_problems(value)],
        "processes": [to_body(ProcessBody, row) for row in value.processes],
        "queued": sum(value.queued.values()),
        "running": sum(row.running for row in value.processes),
    }


def diagnostic(value: Diagnostic) -> DiagnosticBody:
    """Return a finding of the compiler in the form of `optio check --format json`."""
    return msgspec.convert(value.to_json(), DiagnosticBody)


def delivery_details(value: Delivery, gates: Sequence[Gate], **body: str | None) -> DeliveryDetailsBody:
    """Return a webhook request with its gates, and its body under one of its two keys."""
    return to_body(DeliveryDetailsBody, value, **{"gates": gates, "body": UNSET, "body_base64": UNSET, **body})


def replay(value: Delivery, earlier_decision: DeliveryDecision, now: DeliveryDecision, before: str | None) -> ReplayBody:
    """Return the decision about a request then, beside the decision now; `replayed_as` is the run of an earlier replay with the
    same definition."""
    return to_body(
        ReplayBody,
        value,
        replayed_as=before,
        then=earlier_decision,
        now=now,
        differs=differences(earlier_decision, now),
        diff=diff(earlier_decision, now),
        run_id=None,
        duplicate=UNSET,
    )
