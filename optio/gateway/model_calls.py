"""Model calls on their way through the gateway: money is reserved, the credential added, the answer passed on as it comes, and
the call settled. Used by `optio.gateway.app`."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from functools import partial
from urllib.parse import parse_qsl, urlencode

import httpx2

from optio.errors import NotFound, StoreUnavailable
from optio.gateway.asgi import OWN_HEADERS, AnswerBroke, CallRefused, Receive, Send, answer, read_body, wait_for_leave
from optio.gateway.call_recorder import CallRecorder
from optio.gateway.passing_call import AgentRequest, PassingCall
from optio.gateway.protocols.base import ModelRequest
from optio.gateway.reservation import plan_call
from optio.model.model_call import CALL_LEASE, AttemptKey, PlannedCall, RefusedCall
from optio.secrets.base import Secrets
from optio.store.base import GatewayStore
from optio.telemetry.base import SILENT, CallOutcome, ModelCallSettled, Telemetry

log = logging.getLogger(__name__)
# A model that thinks may be silent for minutes.
_SILENCE_S, _CONNECT_S = 900.0, 10.0
# A call that has no room waits so long for others of its run to end, and asks again in between.
_ROOM_S, _ROOM_PAUSE_S = 600.0, 0.25


class _Unreached(Exception):
    """Raised when no connection to the model service came about, so nothing was sent and nothing costs."""


class ModelCalls:
    """The calls of a gateway."""

    def __init__(self, store: GatewayStore, secrets: Secrets, telemetry: Telemetry = SILENT, *, is_recording: bool) -> None:
        self._store, self._secrets = store, secrets
        self._telemetry = telemetry
        self._recorder = CallRecorder(store, secrets) if is_recording else None
        self._open: dict[str, AttemptKey] = {}  # by the ids of calls
        timeout = httpx2.Timeout(_SILENCE_S, connect=_CONNECT_S)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
        self._client = httpx2.AsyncClient(timeout=timeout, limits=limits, follow_redirects=False, trust_env=True)

    @property
    def open(self) -> int:
        """Return how many calls wait for their answer, or for its end."""
        return len(self._open)

    async def close(self) -> None:
        """Close the connections to model services."""
        await self._client.aclose()

    async def renew(self) -> None:
        """Keep the reservations of open calls alive, for ever."""
        while True:
            await asyncio.sleep(CALL_LEASE.total_seconds() / 4)
            if self._open:
                try:
                    await asyncio.to_thread(self._store.renew_calls, [(key, call_id) for call_id, key in self._open.items()])
                except StoreUnavailable as err:
                    log.warning("open model calls were not renewed: %s", err)

    async def pass_metered(self, call: AgentRequest, receive: Receive, send: Send) -> None:
        """Reserve, pass the call on, and settle it."""
        body = await read_body(call.scope, receive)
        request = call.dialect.request(call.path, body)
        if request is None:
            raise CallRefused(400, "body", f"the body cannot be read as a request of {call.dialect.name}")
        if request.obstacle is not None:
            raise CallRefused(400, "body", request.obstacle)
        credential = await self._credential(call.key)
        passing = PassingCall(call, body, request, is_recorded=self._recorder is not None)
        try:
            await self._pass_admitted(passing, credential, receive, send)
        except CallRefused as refused:
            passing.refuse(refused)
            raise
        finally:
            await asyncio.shield(self._record(passing))

    async def _pass_admitted(self, passing: PassingCall, credential: str, receive: Receive, send: Send) -> None:
        call, request = passing.call, passing.request
        plan = await self._admit(call, passing.id, request)
        passing.admit(plan)
        self._open[passing.id] = call.key
        body = request.body if plan.max_output is None else call.dialect.limited(request, plan.max_output)
        try:
            await self._pass(passing, credential, body, receive, send)
        except _Unreached as unreached:
            passing.status = 502
            raise CallRefused(502, "upstream", f"the model service cannot be reached: {unreached}") from None
        finally:
            await asyncio.shield(self._settle(passing))

    async def pass_free(self, call: AgentRequest, receive: Receive, send: Send) -> None:
        """Pass on a request that costs nothing."""
        credential = await self._credential(call.key)
        body = await read_body(call.scope, receive)
        try:
            async with self._upstream(call, credential, body) as response:
                await answer(send, response.status_code, await response.aread(), *_answer_headers(response))
        except (_Unreached, httpx2.HTTPError) as err:
            raise CallRefused(502, "upstream", f"the model service cannot be reached: {err}") from None

    async def _admit(self, call: AgentRequest, call_id: str, request: ModelRequest) -> PlannedCall:
        key, size = call.key, len(request.body)
        plan = partial(
            plan_call,
            model=request.model,
            size=size,
            max_output=request.max_output,
            answers=request.answers,
            is_priced=key.is_priced,
        )
        last = time.monotonic() + _ROOM_S
        while True:
            admit = partial(self._store.admit_call, key, call_id, request.model, size, plan, protocol=call.dialect.name)
            try:
                planned = await asyncio.to_thread(admit)
            except NotFound as err:
                raise CallRefused(401, "auth", "the attempt of this key has ended") from err
            if isinstance(planned, PlannedCall):
                return planned
            if not planned.has_open or time.monotonic() > last:
                raise _refusal(planned)
            await asyncio.sleep(_ROOM_PAUSE_S)

    async def _settle(self, passing: PassingCall) -> None:
        if passing.is_settled:
            return
        passing.is_settled = True
        self._open.pop(passing.id, None)
        key = passing.call.key
        call = passing.settled()
        outcome: CallOutcome = "broke" if call.is_estimate else "ok" if passing.reader.answer.is_complete else "failed"
        self._telemetry.tell(ModelCallSettled(outcome, passing.plan.reserved, call.cost))
        try:
            await asyncio.to_thread(self._store.settle_call, key, passing.id, call)
        except StoreUnavailable as err:
            # It counts with what it has reserved.
            log.warning("a model call of run %s was not settled: %s", key.run_id, err)

    async def _record(self, passing: PassingCall) -> None:
        """Keep the request and the answer, if the operator asks for that and a call was made or refused. Its failure is no
        failure of the call."""
        if self._recorder is None or passing.answer is None or passing.status == 0:
            return
        answer, passing.answer = passing.answer, None
        try:
            await asyncio.to_thread(self._recorder.record, passing, bytes(answer))
        except StoreUnavailable as err:
            log.warning("a model call of run %s was not recorded: %s", passing.call.key.run_id, err)
        except Exception:
            # Whatever an answer consists of, it must pass.
            log.exception("a model call of run %s was not recorded", passing.call.key.run_id)

    async def _pass(self, passing: PassingCall, credential: str, body: bytes, receive: Receive, send: Send) -> None:
        """Send the request and pass the answer on, until the agent has it or goes away."""
        gone = asyncio.ensure_future(wait_for_leave(receive))
        relay = asyncio.ensure_future(self._relay(passing, credential, body, send))
        try:
            await asyncio.wait({gone, relay}, return_when=asyncio.FIRST_COMPLETED)
            if relay.done():
                relay.result()
        finally:
            for task in (gone, relay):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await relay

    async def _relay(self, passing: PassingCall, credential: str, body: bytes, send: Send) -> None:
        async with self._upstream(passing.call, credential, body) as response:
            headers = _answer_headers(response)
            passing.begin(response.status_code, dict(headers).get(b"content-type", b""))
            await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            try:
                async for part in response.aiter_raw():
                    passing.take(part)
                    if passing.reader.answer.is_complete:
                        # The agent may end as soon as it has this, and its cost must be known then.
                        await self._settle(passing)
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                passing.reader.close()
            except httpx2.HTTPError as err:
                log.info("run %s: an answer of its model broke off: %s", passing.call.key.run_id, type(err).__name__)
                raise AnswerBroke from None
            passing.is_whole = True
            await self._settle(passing)
            await self._record(passing)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    @contextlib.asynccontextmanager
    async def _upstream(self, call: AgentRequest, credential: str, body: bytes) -> AsyncIterator[httpx2.Response]:
        headers = [
            (name, value.replace(call.token.encode(), credential.encode()))
            for name, value in call.scope["headers"]
            if name not in OWN_HEADERS
        ]
        query = [
            (name, credential if value == call.token else value)
            for name, value in parse_qsl(call.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        ]
        url = (call.key.upstream or "").rstrip("/") + call.path + (f"?{urlencode(query)}" if query else "")
        request = self._client.build_request(
            call.scope["method"], url, content=body, headers=[*headers, (b"accept-encoding", b"identity")]
        )
        try:
            response = await self._client.send(request, stream=True)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as err:
            raise _Unreached(type(err).__name__) from err
        except httpx2.HTTPError as err:
            raise CallRefused(502, "upstream", f"the model service gave no answer: {type(err).__name__}") from err
        try:
            yield response
        finally:
            await response.aclose()

    async def _credential(self, key: AttemptKey) -> str:
        secrets, name = self._secrets, key.credential or ""
        value = secrets.get(name) if secrets.is_at_hand(name) else await asyncio.to_thread(secrets.get, name)
        if value is None:
            raise CallRefused(401, "auth", f"the secret `{name}` has no value: {self._secrets.where(name)}")
        return value


def _refusal(call: RefusedCall) -> CallRefused:
    return CallRefused(402 if call.reason in ("budget", "unpriced") else 403, call.reason, call.message)


def _answer_headers(response: httpx2.Response) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in OWN_HEADERS]
