"""Webhooks: `POST /api/hooks/{path}`. Each request passes through the steps of `_WebhookRequest`, in the order in which they
stand there.

Plain ASGI: this is the one path that anybody can reach, and a framework would cost more than the work itself.
"""

import asyncio
import hashlib
import logging
import re
import time
from collections import Counter
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
from litestar.types import Receive, Scope, Send
from msgspec import UNSET

from optio.broker.base import announce_queued
from optio.errors import (
    Conflict,
    Duplicate,
    Invalid,
    Malformed,
    NotFound,
    OptioError,
    QueueFull,
    SecretUnavailable,
    StoreUnavailable,
    TooManyRequests,
    TooManyUnsigned,
    Unauthorized,
    answer_to,
)
from optio.limits.strangers import StrangerLimit
from optio.model.json_body import decode
from optio.model.registry import CompiledTask
from optio.model.trigger import WebhookConfig
from optio.runs import replay_guard, signature, webhook_decision
from optio.server import problems, request_body
from optio.server.bodies.base import Body
from optio.server.bodies.deliveries import ChallengeBody, WebhookAnswerBody
from optio.server.dependencies import Hub
from optio.server.http_guard import send_answer
from optio.server.loop_bridge import LoopBridge
from optio.server.problems import HttpProblem
from optio.store.values import Accepted, DeliveryVerdict, InvalidAt, NewDelivery, NewRun
from optio.telemetry.base import Delivered, Queued

log = logging.getLogger(__name__)
PREFIX = "/api/hooks/"
# Credentials of senders are not stored: a reader of deliveries could impersonate the sender.
_CREDENTIAL = re.compile(r"auth|cookie|token|secret|signature|passw|credential|session|api-?key|-hmac|-sign$")
_MAX_KEY_LENGTH = 256
_MAX_HEADER_LENGTH = 1_000
_MAX_HEADERS = 64
# Rejections of unproved senders that are stored per path and minute.
_MAX_UNPROVED_KEPT = 10
# A larger body is handled in a thread, so that other requests need not wait.
_MAX_INLINE_BYTES = 32_768
# These get no row among the deliveries, and are only counted.
_COUNTED = ("rate", "unsigned_rate")
_FORM = "application/x-www-form-urlencoded"
_STATUSES = {405: "method", 413: "too_large"}
_encode = msgspec.json.Encoder().encode
HookAnswer = WebhookAnswerBody | ChallengeBody


class WebhookReceiver:
    """The ASGI application for everything below `/api/hooks/`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._minute = 0
        self._strangers: Counter[str] = Counter()
        self.limit = StrangerLimit()
        self._new: list[Queued] = []
        self._secret_reads: dict[str, asyncio.Task[str | None]] = {}
        self.landing = LoopBridge()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start a run. The answer has its id at once; the run executes asynchronously."""
        content: Body
        try:
            content = answer = await self._receive(scope, receive)
            status, verdict = 200 if isinstance(content, ChallengeBody) else 202, _answered(answer)
        except request_body.ClientGone:
            return
        except OptioError as err:
            await send_answer(scope, send, *problems.raw(err))
            self._count(scope, _verdict(err))
            return
        except Exception:
            log.exception("webhook %s failed", scope["path"])
            verdict = "error"
            status, content = 500, problems.internal()
        data = _encode(content)
        kind = b"application/json" if status < 300 else problems.MEDIA_TYPE.encode()
        await send_answer(scope, send, status, [(b"content-type", kind), (b"content-length", b"%d" % len(data))], data)
        # Nobody waits for what is only counted.
        self._count(scope, verdict)

    def _count(self, scope: Scope, verdict: str) -> None:
        # By task, because unknown paths are chosen by strangers.
        task = self._hub.snapshot.registry.hooks.get(scope["path"].removeprefix(PREFIX))
        self._hub.services.telemetry.tell(Delivered("" if task is None else task.id, verdict))
        if task is not None and task.spec.webhook is not None and verdict in _COUNTED:
            self._hub.refusals.count(task.spec.webhook.config.path, verdict, task.id)

    async def _receive(self, scope: Scope, receive: Receive) -> HookAnswer:
        path = scope["path"].removeprefix(PREFIX)
        if scope["method"] != "POST":  # type: ignore[typeddict-item]
            raise HttpProblem("method-not-allowed", "method not allowed", {"Allow": "POST"})
        task = self._hub.snapshot.registry.hooks.get(path)
        if task is None or task.spec.webhook is None:
            # At this level because strangers choose it; `optio dev` shows it.
            log.debug("webhook %s: not found (404): no task has this path", path[:200])
            raise NotFound("webhook", path[:200])
        request = _WebhookRequest(self, self._hub, task, task.spec.webhook.config, scope)
        request.refuse_flood()
        body = await request_body.read_body(request.received, receive, self._hub.services.settings.max_body_bytes)
        return await request.answer(body)

    def may_keep(self, path: str) -> bool:
        """Return whether a rejection of an unproved sender is stored: a flood of them must not fill the disk."""
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._strangers = minute, Counter()
        self._strangers[path] += 1
        return self._strangers[path] <= _MAX_UNPROVED_KEPT

    async def secret(self, name: str) -> str | None:
        """Return the value of a secret. Requests that come while a program is asked for it wait together, on one thread.
        Raises SecretUnavailable."""
        secrets = self._hub.services.secrets
        if secrets.is_at_hand(name):
            return secrets.get(name)
        reading = self._secret_reads.get(name)
        if reading is None:
            reading = self._secret_reads[name] = asyncio.create_task(asyncio.to_thread(secrets.get, name))
            reading.add_done_callback(lambda finished_task: self._forget(name, finished_task))
        return await asyncio.shield(reading)

    def _forget(self, name: str, reading: "asyncio.Task[str | None]") -> None:
        del self._secret_reads[name]
        if not reading.cancelled():
            reading.exception()  # raised by those who wait, who may all have left

    def tell(self, run: Queued) -> None:
        """Notify workers and metrics of new runs, once for all runs that are committed together."""
        if not self._new:
            asyncio.get_running_loop().call_soon(self._tell)
        self._new.append(run)

    def _tell(self) -> None:
        new, self._new = self._new, []
        tasks = self._hub.snapshot.registry.tasks
        namespaces = {task.id: task.namespace for run in new if (task := tasks.get(run.task_id)) is not None}
        announce_queued(self._hub.services.broker, [(run.run_id, namespaces.get(run.task_id)) for run in new])
        for run in new:
            self._hub.services.telemetry.tell(run)


class _WebhookRequest:
    """One request on its way through the steps."""

    def __init__(self, hooks: WebhookReceiver, hub: Hub, task: CompiledTask, config: WebhookConfig, scope: Scope) -> None:
        self.hooks, self.hub, self.task, self.config, self.generation = hooks, hub, task, config, hub.snapshot.number
        self.received = list(scope["headers"])
        # The address of the other end of the connection: that of a reverse proxy, if there is one.
        self.client = "" if scope["client"] is None else scope["client"][0]
        self.headers: dict[bytes, list[bytes]] = {}
        for name, value in self.received:
            self.headers.setdefault(name, []).append(value)
        self.body, self.sha256 = b"", ""
        self.received_at = datetime.now(UTC)
        self.key: str | None = None

    def delivery(
        self,
        verdict: DeliveryVerdict,
        status: int,
        detail: str | None = None,
        *,
        gate: InvalidAt | None = None,
        keep_body: bool = True,
    ) -> NewDelivery:
        return NewDelivery(
            id=self.hub.new_id(),
            path=self.config.path,
            task_id=self.task.id,
            key=self.key,
            headers=_headers_to_keep(self.received, signature.signature_header(self.config)),
            body=self.body if keep_body else None,
            body_sha256=self.sha256,
            verdict=verdict,
            status=status,
            detail=detail,
            gate=gate,
            guard=replay_guard.replay_guard_of(self.config, self.header, self.sha256) if status == 202 else None,
        )

    def header(self, name: str) -> list[str]:
        return [value.decode("latin-1") for value in self.headers.get(name.encode(), ())]

    def refuse_flood(self) -> None:
        """Refuse a client over the limit of unsigned requests before its body is read, if it has sent no signature at all. A
        client that sends one may be a sender with the same address, and is verified first."""
        if self.config.secret is None or any(self.header(name) for name in signature.signature_headers(self.config)):
            return
        wait = self.hooks.limit.wait(self.config.path, self.client)
        if wait is not None:
            raise TooManyUnsigned(wait)

    async def answer(self, body: bytes) -> HookAnswer:
        self.body, self.sha256 = body, signature.sha256(body)
        await self._authenticate()
        await self._use_rate()
        store = self.hub.services.store
        try:
            if len(self.body) > _MAX_INLINE_BYTES:
                verdict = await asyncio.to_thread(self._judge)
            else:
                verdict = self._judge()
            if isinstance(verdict, NewRun):
                self.hub.queue_limit.admit()
        except (Malformed, Invalid, QueueFull) as err:
            # A repeated delivery gets its first answer, however the task has changed since.
            return await self._repeat_answer(err)
        try:
            if isinstance(verdict, NewRun):
                accepted = await self.hooks.landing.wait(store.accept(verdict, delivery=self.delivery("accepted", 202)))
                await self.hub.withdraw(accepted.superseded)
                if accepted.first and accepted.run_id is not None:
                    self.hooks.tell(Queued(accepted.run_id, self.task.id, "webhook", self.received_at, verdict.traceparent))
                if accepted.rejected and accepted.run_id is not None:
                    raise Duplicate(accepted.run_id)
            elif verdict == webhook_decision.CHALLENGED:
                await self.hooks.landing.wait(store.record_delivery(self.delivery("filtered", 200, verdict)))
                return ChallengeBody(challenge=signature.challenge(self.config, decode(self.body)) or "")
            else:
                accepted = await self.hooks.landing.wait(store.record_delivery(self.delivery("filtered", 202, verdict)))
                log.debug("webhook %s: filtered (202): %s", self.config.path, verdict)
        except Duplicate:
            raise  # that is what its delivery says already
        except Conflict as err:
            self._reject("conflict", 409, str(err))
            raise
        if accepted.replay_of is None:
            return _accepted(accepted)
        return _accepted(accepted, replay_guard.replay_reason(self.config, self.header, accepted.replay_of))

    async def _use_rate(self) -> None:
        """Count the request in the rate window of its path. Only proved senders are counted, so that others cannot use the
        window up."""
        wait = await self.hub.services.rate.hit(f"hook:{self.config.path}")
        if wait is not None:
            raise TooManyRequests(f"more than {self.hub.services.settings.webhook_rate_per_minute} requests in a minute", wait)

    async def _authenticate(self) -> None:
        config = self.config
        if config.secret is None:
            return
        keys, faults = [], []
        unavailable: SecretUnavailable | None = None
        for name in [config.secret.name] + ([config.previous_secret.name] if config.previous_secret else []):
            try:
                value = await self.hooks.secret(name)
                keys += [] if value is None else [signature.signing_key(config, value)]
            except SecretUnavailable as err:
                unavailable = err
            except signature.UnusableSecret as err:
                faults.append(f"the secret `{name}` cannot be used: {err}")
        doubt = signature.why_unproved(keys, self.body, self.header, time.time())
        if doubt is None:
            return
        if unavailable is not None:
            # The sender may be the right one, and is to send it again.
            self._reject("unavailable", 503, str(unavailable), proved=False)
            raise unavailable
        if not keys and not faults:
            places = self.hub.services.secrets.where(config.secret.name)
            faults.append(f"the secret `{config.secret.name}` has no value: {places}")
        # No sender can fix these, or is told of them: the log, `optio doctor` and the list of deliveries name them.
        for fault in faults:
            log.error("webhook %s: %s", config.path, fault)
        wait = await self.hooks.limit.hit(config.path, self.client)
        if wait is not None:
            raise TooManyUnsigned(wait)
        verdict, detail = doubt
        if any(value.startswith(_FORM) for value in self.header("content-type")):
            detail += "; the body is a form: let the sender post `application/json`"
        self._reject(verdict, 401, detail if keys else "; ".join(faults), proved=False)
        raise Unauthorized("the signature is missing or wrong")

    def _key(self) -> str | None:
        """Return the sender's id of this delivery, or the digest of a long one. Raises Malformed for two ids."""
        key = signature.delivery_id(self.config, self.header, self.body)
        if key is None or len(key) <= _MAX_KEY_LENGTH:
            return key
        return "sha256:" + hashlib.sha256(key.encode()).hexdigest()

    def _judge(self) -> NewRun | str:
        """Return the run to start, or the reason why the request starts none. Raises Malformed and Invalid."""
        self.key = self._key()
        return webhook_decision.decide_start(
            self.task,
            self.config,
            self.header,
            self.body,
            new_id=self.hub.new_id(),
            actor=f"webhook:{self.config.path}",
            generation=self.generation,
        )

    async def _repeat_answer(self, err: Malformed | Invalid | QueueFull) -> WebhookAnswerBody:
        """Return the answer of an earlier delivery with the same id. Otherwise raise the error, and store it unless it is the
        server's own."""
        if self.key is not None:
            first = await asyncio.to_thread(self.hub.services.store.known_delivery, self.task.id, self.key)
            if first is not None and first.body_sha256 != self.sha256:
                self._reject("conflict", 409, "a delivery with this id was received with another body")
                raise Conflict("a delivery with this id was received with another body") from err
            if first is not None:
                self.hub.services.store.count_repeat(first.id).add_done_callback(_log_failure)
                return _accepted(Accepted(first.run_id, first=False, duplicate=first.verdict == "duplicate"))
        if isinstance(err, QueueFull):
            raise err
        self._reject(*webhook_decision.refusal(err), gate=webhook_decision.gate_of(err))
        raise err

    def _reject(
        self, verdict: DeliveryVerdict, status: int, detail: str, *, gate: InvalidAt | None = None, proved: bool = True
    ) -> None:
        """Store a refused request without delaying its sender. Only a proved sender may fill the disk with bodies."""
        proved = proved and self.config.secret is not None
        if not proved and not self.hooks.may_keep(self.config.path):
            self.hub.refusals.count(self.config.path, verdict, self.task.id)
            return
        rejected = self.delivery(verdict, status, detail[:2000], gate=gate, keep_body=proved)
        log.info("webhook %s: %s (%d): %s", self.config.path, verdict, status, rejected.detail)
        self.hub.services.store.record_delivery(rejected).add_done_callback(_log_failure)


def _answered(content: HookAnswer) -> str:
    """Return the verdict, for metrics, on a request that was not refused."""
    if isinstance(content, ChallengeBody):
        return "filtered"
    if content.reason is not UNSET:
        return "replayed"
    return "repeated" if content.duplicate is True and content.status != "duplicate" else content.status


def _verdict(err: OptioError) -> str:
    """Return the verdict, for metrics, on a request that was refused."""
    if isinstance(err, HttpProblem):
        return _STATUSES.get(err.status, "error")
    return answer_to(err).verdict


def _log_failure(future: Any) -> None:
    error = future.exception()
    if isinstance(error, StoreUnavailable):
        log.warning("a webhook request could not be recorded: %s", error)
    elif error is not None:
        log.error("a webhook request could not be recorded", exc_info=error)


def _accepted(accepted: Accepted, reason: str | None = None) -> WebhookAnswerBody:
    """Return the body of the answer. `runId` is null for a filtered delivery, and names the existing run for a duplicate."""
    return WebhookAnswerBody(
        run_id=accepted.run_id,
        status="filtered" if accepted.run_id is None else "duplicate" if accepted.duplicate else "accepted",
        duplicate=UNSET if accepted.first else True,
        reason=reason or UNSET,
    )


def _headers_to_keep(headers: list[tuple[bytes, bytes]], signed: str) -> dict[str, str]:
    safe_headers = {}
    for name, value in headers[:_MAX_HEADERS]:
        text = _name(name)
        if text is None or text == signed:
            safe_headers[name.decode("latin-1")] = webhook_decision.MASKED
        else:
            safe_headers[text] = value[:_MAX_HEADER_LENGTH].decode("latin-1")
    return safe_headers


@lru_cache(maxsize=1024)
def _name(header: bytes) -> str | None:
    """Return a header's name, or None if its value is a credential."""
    text = header.decode("latin-1")[:_MAX_HEADER_LENGTH]
    return None if _CREDENTIAL.search(text) else text
