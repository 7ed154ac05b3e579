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
from optio.model.run import Page
from optio.runs import webhook_decision
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


def read_deliveries(hub: Hub, filters: DeliveryFilter, cursor: str | None, limit: int) -> tuple[Page, Sequence[Refusals]]:
    """Return a page of deliveries, and the sums of the requests of that period that have none."""
    store = hub.services.store
    page = store.deliveries(filters, cursor=cursor, limit=limit)
    since = filters.since or (filters.until or datetime.now(UTC)) - timedelta(days=1)
    return page, store.refusals(
        since=since, until=filters.until, task_id=filters.task_id, path=filters.path, verdict=filters.verdict
    )


def read_delivery(hub: Hub, delivery_id: str) -> tuple[Delivery, list[Gate]]:
    """Return a delivery with its body, and its gates. Raises NotFound."""
    store = hub.services.store
    delivery = store.delivery(delivery_id)
    if delivery.run_id is None:
        return delivery, gates_of(delivery, None, None, None)
    try:
        run = store.run(delivery.run_id)
        # A delivery that was joined to a run had perhaps another definition.
        task = store.definition(run.digest) if run.delivery_id == delivery.id else None
    except NotFound:
        return delivery, gates_of(delivery, None, None, None)
    return delivery, gates_of(delivery, task, run, hub.hold_of(run))


async def replay(hub: Hub, delivery_id: str, actor: str, *, dry_run: bool, again: bool = False) -> tuple[ReplayBody, bool]:
    """Decide a stored delivery again, and start its run unless it is a `dry_run`; return the decision, and whether a run was
    started. Raises NotFound, Conflict and what `Hub.start` raises."""
    requested_at = datetime.now(UTC)
    delivery = await asyncio.to_thread(hub.services.store.delivery, delivery_id)
    if delivery.body is None:
        raise Conflict(NO_BODY)
    snapshot = hub.snapshot
    now, run = await asyncio.to_thread(
        webhook_decision.decide_again,
        snapshot.registry,
        delivery.path,
        delivery.headers,
        delivery.body,
        new_id=hub.new_id(),
        actor=f"replay:{actor}",
        delivery_id=delivery.id,
        generation=snapshot.number,
    )
    earlier_decision = await asyncio.to_thread(_decision_then, hub, delivery)
    idempotency_key = None if run is None else IdempotencyKey(f"replay:{delivery.id}", run.task.digest, delivery.body_sha256)
    before = None if idempotency_key is None else await asyncio.to_thread(hub.services.store.recall, idempotency_key)
    body = serializers.replay(delivery, earlier_decision, now, before)
    if dry_run or run is None or idempotency_key is None:
        return body, False
    if delivery.run_id is not None and not again:
        raise Conflict(f'the delivery has run {delivery.run_id} already: `{{"again": true}}` starts another')
    accepted = await hub.start(run, idempotency_key, requested_at)
    return structs.replace(body, run_id=accepted.run_id, duplicate=accepted.duplicate or UNSET), accepted.first


def make_test(hub: Hub, delivery_id: str) -> DeliveryTestBody:
    """Return a test of a stored delivery as `optio hook capture` would write it. Raises NotFound, Conflict and
    SecretUnavailable."""
    delivery = hub.services.store.delivery(delivery_id)
    task = hub.snapshot.registry.hooks.get(delivery.path)
    if delivery.body is None:
        raise Conflict(NO_BODY)
    if task is None or task.spec.webhook is None:
        raise Conflict(f"no webhook `{delivery.path}` is served, so no task can have the test")
    if len(delivery.body) > MAX_FILE_BYTES:
        raise Conflict(f"the payload is larger than {MAX_FILE_BYTES >> 20} MiB, the maximum for a file of a tree")
    secrets = hub.services.secrets
    redact = Redactor([value for name in secret_names(task) if (value := secrets.get(name))])
    document = {"id": delivery.id, "headers": delivery.headers, "receivedAt": serializers.at(delivery.received_at)}
    try:
        captured_test = capture_delivery(task, task.spec.webhook.config, document, delivery.body, redact, None)
    except (Malformed, Invalid) as err:
        raise Conflict(f"{err}: it cannot be redacted, so write this test by hand") from err
    return DeliveryTestBody(
        task_id=task.id,
        file=task.origin.path,
        tests=dump({"tests": [captured_test.entry]}),
        payload_file=resolve_path(task.origin.path, captured_test.payload_name),
        payload=captured_test.payload.decode(),
        redacted=[f"{pointer(redaction.route)}: {redaction.kind}" for redaction in captured_test.redactions],
    )


def _decision_then(hub: Hub, delivery: Delivery) -> DeliveryDecision:
    """Return the decision of the time when the delivery came, with its run if that is still stored."""
    store = hub.services.store
    decision = DeliveryDecision(verdict=delivery.verdict, detail=delivery.detail, task_id=delivery.task_id)
    if delivery.run_id is None or delivery.verdict != "accepted":
        return decision
    try:
        run = store.run(delivery.run_id)
        prompt = store.prompt(delivery.run_id)
    except NotFound:
        return decision
    return DeliveryDecision(
        verdict=delivery.verdict, task_id=delivery.task_id, definition=run.digest, params=run.params, prompt=prompt
    )
