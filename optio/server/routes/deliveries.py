"""Routes of webhook deliveries: list and show requests as they came, and replay them with the tasks that are served now."""

import asyncio
import base64
from typing import Annotated, Literal

from litestar import Controller, Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, QueryParameter

from optio.errors import Forbidden
from optio.server import request_body, serializers
from optio.server.answers.deliveries import make_test, read_deliveries, read_delivery, replay
from optio.server.auth import role
from optio.server.bodies.deliveries import DeliveryDetailsBody, DeliveryPageBody, DeliveryTestBody, ReplayBody, ReplayOptions
from optio.server.dependencies import Incoming, InjectedHub
from optio.server.routes.runs import Beginning, Cursor, Since, Until
from optio.store.values import DeliveryFilter, DeliveryVerdict

Limit = Annotated[int, QueryParameter(ge=1, le=200, description="most deliveries in the answer")]
# `body` itself is a reserved name of the framework.
Form = Annotated[Literal["text", "base64"], QueryParameter(name="body", description="how the body is shown")]


class DeliveryController(Controller):
    """Routes of `/api/deliveries`."""

    tags = ("webhooks",)

    @get("/api/deliveries", opt=role("viewer"))
    async def list_deliveries(
        self,
        hub: InjectedHub,
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
        delivery_filter = DeliveryFilter(
            task_id=task,
            path=path,
            verdict=verdict,
            id_prefix=None if beginning is None else beginning.lower(),
            since=since,
            until=until,
        )
        deliveries, refusals = await asyncio.to_thread(read_deliveries, hub, delivery_filter, cursor, limit)
        return serializers.to_body(DeliveryPageBody, deliveries, refused=refusals)

    @get("/api/deliveries/{delivery_id:str}", opt=role("viewer"))
    async def get_delivery(
        self,
        delivery_id: FromPath[str],
        request: Incoming,
        hub: InjectedHub,
        form: Form = "text",
    ) -> DeliveryDetailsBody:
        """Show one request with its body as text, or, for operators, in base64, which preserves every byte. `gates` are the
        steps that it took: which it passed, and where and why it ended."""
        delivery, gates = await asyncio.to_thread(read_delivery, hub, delivery_id)
        if form == "text":
            text = None if delivery.body is None else delivery.body.decode("utf-8", "backslashreplace")
            return serializers.delivery_details(delivery, gates, body=text)
        if not request.state.who.may("operator"):
            raise Forbidden("a body in base64 needs the role operator")
        encoded = None if delivery.body is None else base64.b64encode(delivery.body).decode()
        return serializers.delivery_details(delivery, gates, body_base64=encoded)

    @get("/api/deliveries/{delivery_id:str}/test", opt=role("operator"), problems=("conflict", "secret-unavailable"))
    async def get_delivery_test(self, delivery_id: FromPath[str], hub: InjectedHub) -> DeliveryTestBody:
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
    async def replay_delivery(self, delivery_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[ReplayBody]:
        """Decide a stored delivery again, by the tasks that are served now, show the earlier decision beside it, and start the
        resulting run: 202, with `runId`. With `{"dryRun": true}` nothing is started. A delivery that already has a run starts
        another only with `{"again": true}`. A delivery is replayed once per definition, whoever asks and however often."""
        options = await request_body.read_as(request, hub, ReplayOptions)
        actor = request.state.actor
        body, is_new = await replay(hub, delivery_id, actor, dry_run=options.dry_run, again=options.again)
        return Response(body, status_code=202 if is_new else 200)
