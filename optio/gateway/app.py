"""The gateway as an ASGI application: it takes model calls of agents, adds the credential, and passes answers on as they come.

It keeps nothing: a key is looked up for each call, and a reservation is a row. So any gateway may take any call, and one that
is killed ends no run: its calls break, which the agents' own programs repeat, and count with what they had reserved.
"""

import asyncio
import contextlib
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlencode

import httpx2

from optio.errors import NotFound, SecretUnavailable, StoreUnavailable
from optio.gateway.protocols.anthropic import Messages
from optio.gateway.protocols.base import AnswerReader, Dialect, ModelRequest
from optio.gateway.protocols.gemini import GenerateContent
from optio.gateway.protocols.openai import ChatCompletions, Responses
from optio.gateway.reservation import plan_call
from optio.gateway.settlement import settled
from optio.model.model_call import CALL_LEASE, AttemptKey, PlannedCall, RefusedCall, key_digest
from optio.secrets.base import Secrets
from optio.store.base import GatewayStore
from optio.version import __version__

T = TypeVar("T")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger(__name__)
MAX_BODY_BYTES = 32 << 20
# What follows this is the path of the model service.
MODEL = "/model"
# A model that thinks may be silent for minutes.
_SILENCE_S, _CONNECT_S = 900.0, 10.0
# A call that has no room waits so long for others of its run to end, and asks again in between.
_ROOM_S, _ROOM_PAUSE_S = 600.0, 0.25
# Whole paths, because a credential opens much more of a service than its models: nothing else of it is reached. A name begins
# with no dot, so that no path leads upwards.
_VERSION, _NAME = r"(?:/v1(?:beta)?)?", r"/models/\w[\w.@-]*"
_CALLS: tuple[tuple[str, Dialect], ...] = (
    (rf"POST {_VERSION}/messages", Messages()),
    (rf"POST {_VERSION}/responses", Responses()),
    (rf"POST {_VERSION}/chat/completions", ChatCompletions()),
    (rf"POST {_VERSION}{_NAME}:(?:stream)?[gG]enerateContent", GenerateContent()),
)
# Requests that cost nothing: they pass as they are.
_FREE = re.compile(
    rf"POST {_VERSION}(?:/messages/count_tokens|{_NAME}:countTokens)|GET {_VERSION}(?:/models|{_NAME})", re.ASCII
)
# Headers of one connection, and those that the gateway sets itself.
_OURS = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade host content-length "
    b"accept-encoding expect".split()
)
# Where a credential stands, in the order in which it is looked for.
_CREDENTIALS = (b"x-api-key", b"x-goog-api-key", b"api-key", b"authorization")


class _Call(NamedTuple):
    """One request of an agent: whose it is, what it says, and its place at the model service."""

    key: AttemptKey
    token: str
    dialect: Dialect
    path: str
    scope: Message


class _CallRefused(Exception):
    """Raised for a request that is not passed on: the status and the reason, in words for the agent."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


class _Unreached(Exception):
    """Raised when no connection to the model service came about, so nothing was sent and nothing costs."""


class AnswerBroke(Exception):
    """Raised to end a connection whose answer broke off in its middle, so that the agent sees that too."""


class Gateway:
    """The application, as uvicorn calls it."""

    def __init__(self, store: GatewayStore, secrets: Secrets) -> None:
        self._store, self._secrets = store, secrets
        self._open: dict[str, AttemptKey] = {}  # by the ids of calls
        timeout = httpx2.Timeout(_SILENCE_S, connect=_CONNECT_S)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
        self._client = httpx2.AsyncClient(timeout=timeout, limits=limits, follow_redirects=False, trust_env=True)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            # A websocket: the programs that try one fall back to requests.
            await send({"type": "websocket.close", "code": 1008})

    async def _live(self, receive: Receive, send: Send) -> None:
        renewing = asyncio.create_task(self._renew())
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        renewing.cancel()
        await self._client.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(CALL_LEASE.total_seconds() / 4)
            if self._open:
                try:
                    await asyncio.to_thread(self._store.renew_calls, [(key, call_id) for call_id, key in self._open.items()])
                except StoreUnavailable as err:
                    log.warning("open model calls were not renewed: %s", err)

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == "/healthz":
            await _answer(send, 200, b'{"gateway": "%s"}' % __version__.encode())
            return
        request_line = f"{scope['method']} {path.removeprefix(MODEL)}"
        dialect = next((dialect for pattern, dialect in _CALLS if re.fullmatch(pattern, request_line, re.ASCII)), None)
        try:
            if not path.startswith(f"{MODEL}/"):
                raise _CallRefused(404, "path", f"nothing is served here: model calls go to {MODEL}/...")
            token = _token(scope)
            key = await self._ask(self._store.attempt_key, key_digest(token))
            if key is None:
                raise _CallRefused(401, "auth", "this key is of no running attempt")
            call = _Call(key, token, dialect or Messages(), path[len(MODEL) :], scope)
            if dialect is not None:
                await self._metered(call, receive, send)
            elif _FREE.fullmatch(request_line):
                await self._free(call, receive, send)
            else:
                raise _CallRefused(404, "path", f"{request_line} is not a model call that the gateway knows")
        except _CallRefused as refused:
            body = (dialect or Messages()).refusal(refused.status, refused.reason, f"Optio: {refused.message}")
            await _answer(send, refused.status, body)
        except (StoreUnavailable, SecretUnavailable) as err:
            log.warning("a model call was not taken: %s", err)
            body = (dialect or Messages()).refusal(503, "unavailable", "Optio: the gateway cannot take calls now")
            await _answer(send, 503, body, (b"retry-after", b"2"))

    async def _metered(self, call: _Call, receive: Receive, send: Send) -> None:
        """Reserve, pass the call on, and settle it."""
        request = call.dialect.request(call.path, await _body(call.scope, receive))
        if request is None:
            raise _CallRefused(400, "body", f"the body cannot be read as a request of {call.dialect.name}")
        if request.obstacle is not None:
            raise _CallRefused(400, "body", request.obstacle)
        credential = await self._credential(call.key)
        call_id = uuid.uuid4().hex
        plan = await self._admit(call.key, call_id, request)
        self._open[call_id] = call.key
        body = request.body if plan.max_output is None else call.dialect.limited(request, plan.max_output)
        passing = _Passing(call.dialect, request, plan)
        settle = partial(self._settle, call.key, call_id, passing)
        try:
            await self._pass(call, credential, body, passing, receive, send, settle)
        except _Unreached as unreached:
            passing.status = 502
            raise _CallRefused(502, "upstream", f"the model service cannot be reached: {unreached}") from None
        finally:
            await asyncio.shield(settle())

    async def _admit(self, key: AttemptKey, call_id: str, request: ModelRequest) -> PlannedCall:
        plan = partial(
            plan_call,
            model=request.model,
            size=len(request.body),
            max_output=request.max_output,
            answers=request.answers,
            is_priced=key.is_priced,
        )
        last = time.monotonic() + _ROOM_S
        while True:
            admit = partial(self._store.admit_call, key, call_id, request.model, len(request.body), plan)
            try:
                planned = await asyncio.to_thread(admit)
            except NotFound as err:
                raise _CallRefused(401, "auth", "the attempt of this key has ended") from err
            if isinstance(planned, PlannedCall):
                return planned
            if not planned.has_open or time.monotonic() > last:
                raise _refusal(planned)
            await asyncio.sleep(_ROOM_PAUSE_S)

    async def _settle(self, key: AttemptKey, call_id: str, passing: "_Passing") -> None:
        if passing.is_settled:
            return
        passing.is_settled = True
        self._open.pop(call_id, None)
        call = settled(passing.reader.answer, passing.request, passing.plan, passing.status)
        try:
            await asyncio.to_thread(self._store.settle_call, key, call_id, call)
        except StoreUnavailable as err:
            # It counts with what it has reserved.
            log.warning("a model call of run %s was not settled: %s", key.run_id, err)

    async def _pass(
        self,
        call: _Call,
        credential: str,
        body: bytes,
        passing: "_Passing",
        receive: Receive,
        send: Send,
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        """Send the request and pass the answer on, until the agent has it or goes away."""
        gone = asyncio.ensure_future(_gone(receive))
        relay = asyncio.ensure_future(self._relay(call, credential, body, passing, send, settle))
        try:
            await asyncio.wait({gone, relay}, return_when=asyncio.FIRST_COMPLETED)
            if relay.done():
                relay.result()
        finally:
            for task in (gone, relay):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await relay

    async def _relay(
        self,
        call: _Call,
        credential: str,
        body: bytes,
        passing: "_Passing",
        send: Send,
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        async with self._upstream(call, credential, body) as response:
            passing.status = response.status_code
            await send({"type": "http.response.start", "status": response.status_code, "headers": _answer_headers(response)})
            try:
                async for part in response.aiter_raw():
                    passing.reader.feed(part)
                    if passing.reader.answer.is_complete:
                        # The agent may end as soon as it has this, and its cost must be known then.
                        await settle()
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                passing.reader.close()
            except httpx2.HTTPError as err:
                log.info("run %s: an answer of its model broke off: %s", call.key.run_id, type(err).__name__)
                raise AnswerBroke from None
            await settle()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _free(self, call: _Call, receive: Receive, send: Send) -> None:
        credential = await self._credential(call.key)
        body = await _body(call.scope, receive)
        try:
            async with self._upstream(call, credential, body) as response:
                await _answer(send, response.status_code, await response.aread(), *_answer_headers(response))
        except (_Unreached, httpx2.HTTPError) as err:
            raise _CallRefused(502, "upstream", f"the model service cannot be reached: {err}") from None

    @contextlib.asynccontextmanager
    async def _upstream(self, call: _Call, credential: str, body: bytes) -> AsyncIterator[httpx2.Response]:
        headers = [
            (name, value.replace(call.token.encode(), credential.encode()))
            for name, value in call.scope["headers"]
            if name not in _OURS
        ]
        query = [
            (name, credential if value == call.token else value)
            for name, value in parse_qsl(call.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        ]
        url = call.key.upstream.rstrip("/") + call.path + (f"?{urlencode(query)}" if query else "")
        request = self._client.build_request(
            call.scope["method"], url, content=body, headers=[*headers, (b"accept-encoding", b"identity")]
        )
        try:
            response = await self._client.send(request, stream=True)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as err:
            raise _Unreached(type(err).__name__) from err
        except httpx2.HTTPError as err:
            raise _CallRefused(502, "upstream", f"the model service gave no answer: {type(err).__name__}") from err
        try:
            yield response
        finally:
            await response.aclose()

    async def _credential(self, key: AttemptKey) -> str:
        value = await asyncio.to_thread(self._secrets.get, key.credential)
        if value is None:
            raise _CallRefused(
                401, "auth", f"the secret `{key.credential}` has no value: {self._secrets.where(key.credential)}"
            )
        return value

    async def _ask(self, read: Callable[[str], T], digest: str) -> T:
        return read(digest) if self._store.local else await asyncio.to_thread(read, digest)


class _Passing:
    """An answer while it passes."""

    def __init__(self, dialect: Dialect, request: ModelRequest, plan: PlannedCall) -> None:
        self.request, self.plan = request, plan
        self.reader = AnswerReader(dialect, is_stream=request.is_stream)
        self.status = 0  # none has come yet
        self.is_settled = False


def is_no_broken_answer(record: logging.LogRecord) -> bool:
    """Filter out answers that broke off: the server logs what ends a connection as an error."""
    return not (record.exc_info and isinstance(record.exc_info[1], AnswerBroke))


def _refusal(call: RefusedCall) -> _CallRefused:
    return _CallRefused(402 if call.reason in ("budget", "unpriced") else 403, call.reason, call.message)


def _token(scope: Message) -> str:
    headers = dict(scope["headers"])
    for name in _CREDENTIALS:
        value = headers.get(name, b"").decode("latin-1")
        value = value[7:] if value[:7].lower() == "bearer " else value
        if value:
            return str(value)
    in_query = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("key")
    if in_query:
        return str(in_query)
    raise _CallRefused(401, "auth", "the request has no key")


async def _body(scope: Message, receive: Receive) -> bytes:
    """Return the body. Raises _CallRefused for one that is too large, is compressed, or does not come."""
    if dict(scope["headers"]).get(b"content-encoding", b"identity") != b"identity":
        raise _CallRefused(415, "body", "compressed requests are not read: send it as it is")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _CallRefused(400, "body", "the request broke off")
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _CallRefused(413, "body", f"a request has at most {MAX_BODY_BYTES >> 20} MiB")
        if not message.get("more_body"):
            return bytes(body)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _answer_headers(response: httpx2.Response) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in _OURS]


async def _answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    given = {name for name, _ in headers}
    plain = [] if b"content-type" in given else [(b"content-type", b"application/json")]
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *plain, length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
