"""Routes of webhook deliveries: list and show requests as they came, and replay them with the tasks that are served now."""

import asyncio
import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import UNSET, structs

from optio.compiler.layers import resolve_path
from optio.compiler.source_tree import MAX_FILE_BYTES
from optio.compiler.yaml.emit import dump
from optio.errors import Conflict, Forbidden, Invalid, Malformed, NotFound, Problem
from optio.model.route import pointer
from optio.model.run import Page, RunState
from optio.runs import webhook_decision
from optio.runs.admission import hold_of
from optio.runs.delivery_gates import Gate, gates_of
from optio.runs.replay import DeliveryDecision
from optio.secrets.base import secret_names
from optio.server import request_body, serializers
from optio.server.auth import ROLES, role
from optio.server.bodies.deliveries import DeliveryDetailsBody, DeliveryPageBody, DeliveryTestBody, ReplayBody, ReplayOptions
from optio.server.dependencies import Hub
from optio.server.routes.runs import Beginning, Cursor, Since, Until, refuse_unknown, require_zone
from optio.store.values import Delivery, DeliveryFilter, DeliveryVerdict, IdempotencyKey, Refusals
from optio.testing.capture import capture_delivery
from optio.testing.redact import Redactor

Limit = Annotated[int, QueryParameter(ge=1, le=200, description="most deliveries in the answer")]
# `body` itself is a reserved name of the framework.
Form = Annotated[Literal["text", "base64"], QueryParameter(name="body", description="how the body is shown")]
NO_BODY = "the body of this delivery is not stored: its sender was not proved, or retention has deleted it"


class DeliveryController(Controller):
    """Routes of `/api/deliveries`."""

    tags = ("webhooks",)

    @get("/api/deliveries", opt=role("viewer"))
    async def list_deliveries(
        self,
        hub: NamedDependency[Hub],
        task: FromQuery[str | None] = None,
        path: FromQuery[str | None] = None,
        verdict: FromQuery[DeliveryVerdict | None] = None,
        beginning: Beginning = None,
        since: Since = None,
        until: Until = None,
        cursor: Cursor = None,
        limit: Limit = 50,
    ) -> DeliveryPageBody:
        """List webhook requests, newest first, with the verdict on each. `id` is the beginning of an id. `since` and `until`
        are times with a time zone. `refused` sums up the requests of that period, by default the last 24 hours, that were
        refused without a row of their own."""
        where = DeliveryFilter(
            task_id=task,
            path=path,
            verdict=verdict,
            id_prefix=None if beginning is None else beginning.lower(),
            since=require_zone("since", since),
            until=require_zone("until", until),
        )
        found, refused = await asyncio.to_thread(read_deliveries, hub, where, cursor, limit)
        return serializers.delivery_page(found, refused)

    @get("/api/deliveries/{delivery_id:str}", opt=role("viewer"))
    async def get_delivery(
        self,
        delivery_id: FromPath[str],
        request: Request[Any, Any, Any],
        hub: NamedDependency[Hub],
        form: Form = "text",
    ) -> DeliveryDetailsBody:
        """Show one request with its body as text, or, for operators, in base64, which preserves every byte. `gates` are the
        steps that it took: which it passed, and where and why it ended."""
        found, gates = await asyncio.to_thread(read_delivery, hub, delivery_id)
        if form == "text":
            text = None if found.body is None else found.body.decode("utf-8", "backslashreplace")
            return serializers.delivery_details(found, gates, body=text)
        if ROLES.index(request.state.who.role) < ROLES.index("operator"):
            raise Forbidden("a body in base64 needs the role operator")
        encoded = None if found.body is None else base64.b64encode(found.body).decode()
        return serializers.delivery_details(found, gates, body_base64=encoded)

    @get("/api/deliveries/{delivery_id:str}/test", opt=role("operator"), problems=("conflict", "secret-unavailable"))
    async def get_delivery_test(self, delivery_id: FromPath[str], hub: NamedDependency[Hub]) -> DeliveryTestBody:
        """Make a test of a stored request, for the task that has its webhook now: the YAML for the `tests:` of its file, and
        the payload with credentials redacted. Nothing is written."""
        return await asyncio.to_thread(make_test, hub, delivery_id)

    @post(
        "/api/deliveries/{delivery_id:str}/replay",
        status_code=200,
        opt=role("operator"),
        body=ReplayOptions,
        examples=[{"dryRun": True}, {"again": True}],
        responses={202: ResponseSpec(ReplayBody, description="A run was started", generate_examples=False)},
        problems=("conflict", "duplicate", "queue-full"),
    )
    async def replay_delivery(
        self, delivery_id: FromPath[str], request: Request[Any, Any, Any], hub: NamedDependency[Hub]
    ) -> Response[ReplayBody]:
        """Decide a stored delivery again, by the tasks that are served now, show the earlier decision beside it, and start the
        resulting run: 202, with `runId`. With `{"dryRun": true}` nothing is started. A delivery that already has a run starts
        another only with `{"again": true}`. A delivery is replayed once per definition, whoever asks and however often."""
        dry_run, again = _options(
            request_body.parse_object(await request_body.read_raw(request, hub.services.settings.max_body_bytes))
        )
        shown, first = await replay(hub, delivery_id, request.state.actor, dry_run=dry_run, again=again)
        return Response(shown, status_code=202 if first else 200)


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


def _options(document: dict[str, Any]) -> tuple[bool, bool]:
    """Return `dryRun` and `again`. Raises Invalid."""
    refuse_unknown(document, "dryRun", "again")
    wrong = [name for name in ("dryRun", "again") if not isinstance(document.get(name, False), bool)]
    if wrong:
        raise Invalid("invalid options", [Problem(pointer((name,)), "must be true or false") for name in wrong])
    return document.get("dryRun", False), document.get("again", False)
