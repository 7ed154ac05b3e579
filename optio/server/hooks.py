"""Webhooks: `POST /api/hooks/{path}`. The steps stand in the order in which they are done."""

import asyncio
import hashlib
import logging
import time
from dataclasses import replace
from typing import Any

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from optio.broker.base import Topic
from optio.errors import Invalid, NotFound, TooMany, Unauthorized
from optio.model import mapping
from optio.model.registry import CompiledTask
from optio.model.trigger import WebhookConfig
from optio.runs.submit import prepare
from optio.server import payload, signature, views
from optio.server.auth import PUBLIC, role
from optio.server.hub import Hub
from optio.server.problems import HttpProblem
from optio.store.base import NewDelivery

log = logging.getLogger(__name__)
_NOT_KEPT = {"authorization", "cookie", "proxy-authorization"}
_LONGEST_KEY = 256


class HookController(Controller):
    """Webhooks and the deliveries that came by them."""

    tags = ("webhooks",)

    @post("/api/hooks/{path:str}", status_code=202, opt=role(PUBLIC))
    async def receive(
        self, path: FromPath[str], request: Request[Any, Any, Any], hub: NamedDependency[Hub]
    ) -> Response[dict[str, Any]]:
        """Start a run. Answers at once with its id; the run executes asynchronously."""
        task = hub.live.current.registry.hooks.get(path)
        if task is None or task.spec.webhook is None:
            raise NotFound("webhook", path)
        wait = hub.services.rate.hit(f"hook:{path}")
        if wait is not None:
            raise TooMany(f"more than {hub.services.settings.webhook_rate_per_minute} requests in a minute", wait)
        body = await payload.raw(request, hub.services.settings.max_body_bytes)
        return await _Receipt(task, task.spec.webhook.config, request, hub, body).answer()

    @get("/api/deliveries", opt=role("viewer"))
    async def deliveries(
        self,
        hub: NamedDependency[Hub],
        task: FromQuery[str | None] = None,
        cursor: FromQuery[str | None] = None,
        limit: FromQuery[int] = 50,
    ) -> dict[str, Any]:
        """Webhook requests, newest first, with what became of each."""
        found = await asyncio.to_thread(
            hub.services.store.deliveries, task_id=task, cursor=cursor, limit=max(1, min(limit, 200))
        )
        return views.page(found, [views.delivery(item) for item in found.items])

    @get("/api/deliveries/{delivery_id:str}", opt=role("viewer"))
    async def delivery(self, delivery_id: FromPath[str], hub: NamedDependency[Hub]) -> dict[str, Any]:
        """One request, with its body as text."""
        found = await asyncio.to_thread(hub.services.store.delivery, delivery_id)
        text = None if found.body is None else found.body.decode("utf-8", "backslashreplace")
        return {**views.delivery(found), "body": text}


class _Receipt:
    """One request on its way through the steps."""

    def __init__(
        self, task: CompiledTask, config: WebhookConfig, request: Request[Any, Any, Any], hub: Hub, body: bytes
    ) -> None:
        self.task, self.config, self.request, self.hub, self.body = task, config, request, hub, body
        keys = self.header(signature.delivery_header(config))
        self.key = keys[0][:_LONGEST_KEY] if keys and keys[0] else None
        self.delivery = NewDelivery(
            id=hub.new_id(),
            path=config.path,
            task_id=task.id,
            key=self.key,
            headers={name: value for name, value in request.headers.items() if name not in _NOT_KEPT},
            body=body,
            body_sha256=hashlib.sha256(body).hexdigest(),
            verdict="accepted",
            status=202,
        )

    def header(self, name: str) -> list[str]:
        return self.request.headers.getall(name, [])

    async def answer(self) -> Response[dict[str, Any]]:
        store = self.hub.services.store
        self._authenticate()
        if self.key is not None:
            known = store.known_delivery(self.task.id, self.key)
            if known is not None and known.body_sha256 == self.delivery.body_sha256:
                return _accepted(known.run_id, known.verdict, duplicate=True)
        self._check_type()
        try:
            document = payload.decode(self.body)
        except HttpProblem as err:
            self._reject("unreadable", 400, str(err))
            raise
        try:
            if not self._wanted(document):
                filtered = replace(self.delivery, verdict="filtered", detail="the event or `when` filter does not hold")
                accepted = await asyncio.wrap_future(store.record_delivery(filtered))
                return _accepted(accepted.run_id, "filtered", duplicate=not accepted.first)
            run = prepare(
                self.task,
                self._params(document),
                new_id=self.hub.new_id(),
                trigger="webhook",
                actor=f"webhook:{self.config.path}",
                traceparent=next(iter(self.header("traceparent")), None),
            )
        except mapping.MappingFailed as err:
            self._reject("invalid", 422, str(err))
            raise Invalid(str(err)) from err
        except Invalid as err:
            self._reject("invalid", 422, "; ".join(f"{p.pointer} {p.message}" for p in err.problems) or str(err))
            raise
        accepted = await asyncio.wrap_future(store.accept(run, delivery=self.delivery))
        self.hub.services.broker.tell(Topic.QUEUE)
        return _accepted(accepted.run_id, "accepted", duplicate=not accepted.first)

    def _authenticate(self) -> None:
        config = self.config
        if config.secret is None:
            return
        names = [config.secret.name] + ([config.previous_secret.name] if config.previous_secret else [])
        values = [value for name in names if (value := self.hub.services.secrets.get(name))]
        if not values:
            # The sender did nothing wrong, and gets to know nothing: the log and `optio doctor` tell the operator.
            log.error("webhook %s: the secret %s has no value: %s", config.path, names[0], self._where(names[0]))
        if not values or not signature.valid(config, values, self.body, self.header):
            self._reject("unsigned", 401, "the signature is missing or wrong", keep_body=False)
            raise Unauthorized("the signature is missing or wrong")
        if not signature.fresh(config, self.header, time.time()):
            self._reject("stale", 401, "the time stamp is too old or too new", keep_body=False)
            raise Unauthorized("the signature is missing or wrong")

    def _where(self, name: str) -> str:
        return self.hub.services.secrets.where(name)

    def _check_type(self) -> None:
        kind = self.request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            self._reject("unsupported", 415, f"content type {kind[:100]}")
            raise HttpProblem(415, "Unsupported", "send application/json")

    def _wanted(self, document: Any) -> bool:
        events = self.header(signature.event_header(self.config))
        event = events[0] if events else None
        if self.config.events is not None and event not in self.config.events:
            return False
        if self.config.when is None:
            return True
        return mapping.compile_when(self.config.when).holds(document)

    def _params(self, document: Any) -> Any:
        if self.config.param_mapping is not None:
            return mapping.from_payload(self.config.param_mapping, document)
        return document

    def _reject(self, verdict: str, status: int, detail: str, *, keep_body: bool = True) -> None:
        """Keep the request without making its sender wait. Only who proved himself may fill the disk with bodies."""
        rejected = replace(self.delivery, verdict=verdict, status=status, detail=detail[:2000])
        if not keep_body:
            rejected = replace(rejected, body=None)
        self.hub.services.store.record_delivery(rejected)


def _accepted(run_id: str | None, verdict: str, *, duplicate: bool) -> Response[dict[str, Any]]:
    content: dict[str, Any] = {"runId": run_id, "status": verdict}
    if duplicate:
        content["duplicate"] = True
    return Response(content, status_code=202)
