"""Answers about webhook deliveries: requests as they came, tests made of them, and replays."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from msgspec import UNSET, structs

from optio.compiler.layers import resolve_path
from optio.compiler.source_tree import MAX_FILE_BYTES
from optio.compiler.yaml.emit import dump
from optio.errors import Conflict, Invalid, Malformed, NotFound
from optio.model.route import pointer
from optio.model.run import Page, RunState
from optio.runs import webhook_decision
from optio.runs.admission import hold_of
from optio.runs.delivery_gates import Gate, gates_of
from optio.runs.replay import DeliveryDecision
from optio.secrets.base import secret_names
from optio.server import serializers
from optio.server.bodies.deliveries import DeliveryTestBody, ReplayBody
from optio.server.dependencies import Hub
from optio.store.values import Delivery, DeliveryFilter, IdempotencyKey, Refusals
from optio.testing.capture import capture_delivery
from optio.testing.redact import Redactor

NO_BODY = "the body of this delivery is not stored: its sender was not proved, or retention has deleted it"


def read_deliveries(hub: Hub, where: DeliveryFilter, cursor: str | None, limit: int) -> tuple[Page, Sequence[Refusals]]:
    """Return a page of deliveries, and the sums of the requests of that period that have none."""
    store = hub.services.store
    found = store.deliveries(where, cursor=cursor, limit=limit)
    since = where.since or (where.until or datetime.now(UTC)) - timedelta(days=1)
    return found, store.refusals(since=since, until=where.until, task_id=where.task_id, path=where.path, verdict=where.verdict)


def read_delivery(hub: Hub, delivery_id: str) -> tuple[Delivery, list[Gate]]:
    """Return a delivery with its body, and its gates. Raises NotFound."""
    store = hub.services.store
    found = store.delivery(delivery_id)
    if found.run_id is None:
        return found, gates_of(found, None, None, None)
    try:
        run = store.run(found.run_id)
        # A delivery that was joined to a run had perhaps another definition.
        task = store.definition(run.digest) if run.delivery_id == found.id else None
    except NotFound:
        return found, gates_of(found, None, None, None)
    hold = None
    if run.state is RunState.QUEUED:
        hold = hold_of(run.id, store.admission(), max_running=hub.services.settings.max_workflow_concurrent)
    return found, gates_of(found, task, run, hold)


async def replay(hub: Hub, delivery_id: str, actor: str, *, dry_run: bool, again: bool = False) -> tuple[ReplayBody, bool]:
    """Decide a stored delivery again, and start its run unless it is a `dry_run`; return the decision, and whether a run was
    started. Raises NotFound, Conflict and what `Hub.start` raises."""
    began = datetime.now(UTC)
    kept = await asyncio.to_thread(hub.services.store.delivery, delivery_id)
    if kept.body is None:
        raise Conflict(NO_BODY)
    snapshot = hub.snapshot
    now, run = await asyncio.to_thread(
        webhook_decision.decide_again,
        snapshot.registry,
        kept.path,
        kept.headers,
        kept.body,
        new_id=hub.new_id(),
        actor=f"replay:{actor}",
        delivery_id=kept.id,
        generation=snapshot.number,
    )
    then = await asyncio.to_thread(_decision_then, hub, kept)
    once = None if run is None else IdempotencyKey(f"replay:{kept.id}", run.task.digest, kept.body_sha256)
    before = None if once is None else await asyncio.to_thread(hub.services.store.recall, once)
    shown = serializers.replay(kept, then, now, before)
    if dry_run or run is None or once is None:
        return shown, False
    if kept.run_id is not None and not again:
        raise Conflict(f'the delivery has run {kept.run_id} already: `{{"again": true}}` starts another')
    accepted = await hub.start(run, once, began)
    return structs.replace(shown, run_id=accepted.run_id, duplicate=accepted.duplicate or UNSET), accepted.first


def make_test(hub: Hub, delivery_id: str) -> DeliveryTestBody:
    """Return a test of a stored delivery as `optio hook capture` would write it. Raises NotFound, Conflict and
    SecretUnavailable."""
    kept = hub.services.store.delivery(delivery_id)
    task = hub.snapshot.registry.hooks.get(kept.path)
    if kept.body is None:
        raise Conflict(NO_BODY)
    if task is None or task.spec.webhook is None:
        raise Conflict(f"no webhook `{kept.path}` is served, so no task can have the test")
    if len(kept.body) > MAX_FILE_BYTES:
        raise Conflict(f"the payload is larger than {MAX_FILE_BYTES >> 20} MiB, the maximum for a file of a tree")
    secrets = hub.services.secrets
    redact = Redactor([value for name in secret_names(task) if (value := secrets.get(name))])
    shown = {"id": kept.id, "headers": kept.headers, "receivedAt": serializers.at(kept.received_at)}
    try:
        made = capture_delivery(task, task.spec.webhook.config, shown, kept.body, redact, None)
    except (Malformed, Invalid) as err:
        raise Conflict(f"{err}: it cannot be redacted, so write this test by hand") from err
    return DeliveryTestBody(
        task_id=task.id,
        file=task.origin.path,
        tests=dump({"tests": [made.entry]}),
        payload_file=resolve_path(task.origin.path, made.payload_name),
        payload=made.payload.decode(),
        redacted=[f"{pointer(each.route)}: {each.kind}" for each in made.redactions],
    )


def _decision_then(hub: Hub, kept: Delivery) -> DeliveryDecision:
    """Return the decision of the time when the delivery came, with its run if that is still stored."""
    store = hub.services.store
    found = DeliveryDecision(verdict=kept.verdict, detail=kept.detail, task_id=kept.task_id)
    if kept.run_id is None or kept.verdict != "accepted":
        return found
    try:
        run = store.run(kept.run_id)
        prompt = store.prompt(kept.run_id)
    except NotFound:
        return found
    return DeliveryDecision(verdict=kept.verdict, task_id=kept.task_id, definition=run.digest, params=run.params, prompt=prompt)
