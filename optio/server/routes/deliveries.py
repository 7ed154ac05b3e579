"""Routes of webhook deliveries: list and show requests as they came, and replay them with the tasks that are served now."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import UNSET, structs

from optio.errors import Conflict, Forbidden, Invalid, NotFound, Problem
from optio.model.route import pointer
from optio.runs import webhook_decision
from optio.runs.replay import DeliveryDecision
from optio.server import request_body, serializers
from optio.server.auth import ROLES, role
from optio.server.delivery_bodies import DeliveryDetailsBody, DeliveryPageBody, ReplayBody, ReplayOptions
from optio.server.dependencies import Hub
from optio.server.routes.runs import Beginning, Cursor, Since, Until, refuse_unknown, require_zone
from optio.store.values import Delivery, DeliveryFilter, DeliveryVerdict, IdempotencyKey

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
        found = await asyncio.to_thread(hub.services.store.deliveries, where, cursor=cursor, limit=limit)
        refused = await asyncio.to_thread(
            hub.services.store.refusals,
            since=where.since or (where.until or datetime.now(UTC)) - timedelta(days=1),
            until=where.until,
            task_id=task,
            path=path,
            verdict=verdict,
        )
        return serializers.delivery_page(found, refused)

    @get("/api/deliveries/{delivery_id:str}", opt=role("viewer"))
    async def get_delivery(
        self,
        delivery_id: FromPath[str],
        request: Request[Any, Any, Any],
        hub: NamedDependency[Hub],
        form: Form = "text",
    ) -> DeliveryDetailsBody:
        """Show one request with its body as text, or, for operators, in base64, which preserves every byte."""
        found = await asyncio.to_thread(hub.services.store.delivery, delivery_id)
        if form == "text":
            text = None if found.body is None else found.body.decode("utf-8", "backslashreplace")
            return serializers.delivery_details(found, body=text)
        if ROLES.index(request.state.who.role) < ROLES.index("operator"):
            raise Forbidden("a body in base64 needs the role operator")
        return serializers.delivery_details(
            found, body_base64=None if found.body is None else base64.b64encode(found.body).decode()
        )

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
        began = datetime.now(UTC)
        kept = await asyncio.to_thread(hub.services.store.delivery, delivery_id)
        if kept.body is None:
            raise Conflict(NO_BODY)
        actor = f"replay:{request.state.actor}"
        snapshot = hub.live.current
        now, run = await asyncio.to_thread(
            webhook_decision.decide_again,
            snapshot.registry,
            kept.path,
            kept.headers,
            kept.body,
            new_id=hub.new_id(),
            actor=actor,
            delivery_id=kept.id,
            generation=snapshot.number,
        )
        then = await asyncio.to_thread(_decision_then, hub, kept)
        once = None if run is None else IdempotencyKey(f"replay:{kept.id}", run.task.digest, kept.body_sha256)
        before = None if once is None else await asyncio.to_thread(hub.services.store.recall, once)
        shown = serializers.replay(kept, then, now, before)
        if dry_run or run is None or once is None:
            return Response(shown, status_code=200)
        if kept.run_id is not None and not again:
            raise Conflict(f'the delivery has run {kept.run_id} already: `{{"again": true}}` starts another')
        accepted = await hub.start(run, once, began)
        content = structs.replace(shown, run_id=accepted.run_id, duplicate=accepted.duplicate or UNSET)
        return Response(content, status_code=202 if accepted.first else 200)


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
