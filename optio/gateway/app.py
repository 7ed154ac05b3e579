"""The gateway as an ASGI application: it takes calls of agents, to their models, tools and services, adds the credential, and
passes answers on as they come.

It keeps nothing: a key is looked up for each call, and a reservation is a row. So any gateway may take any call, and one that
is killed ends no run: its calls break, which the agents' own programs repeat, and count with what they had reserved.
"""

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from optio.errors import SecretUnavailable, StoreUnavailable
from optio.gateway.asgi import CallRefused, Message, Receive, Send, answer, read_key
from optio.gateway.connections import ConnectionRefused, Connections
from optio.gateway.http_calls import HttpCalls, refuse
from optio.gateway.model_calls import ModelCalls
from optio.gateway.passing_call import AgentRequest
from optio.gateway.protocols.anthropic import Messages
from optio.gateway.protocols.base import Dialect
from optio.gateway.protocols.gemini import GenerateContent
from optio.gateway.protocols.openai import ChatCompletions, Responses
from optio.model.connection import McpConnection
from optio.model.model_call import AttemptKey, key_digest
from optio.secrets.base import Secrets
from optio.store.base import GatewayStore
from optio.telemetry.base import SILENT, Gauge, ModelCallRefused, Telemetry
from optio.version import __version__

if TYPE_CHECKING:
    from optio.gateway.programs import StartProgram
    from optio.gateway.tools import Tools

log = logging.getLogger(__name__)
# What follows this is the path of the model service.
MODEL = "/model"
# The MCP server of a run, and what a worker asks before its agent begins.
MCP, CHECK = "/mcp", "/check"
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


class Gateway:
    """The application, as uvicorn calls it."""

    def __init__(
        self,
        store: GatewayStore,
        secrets: Secrets,
        *,
        telemetry: Telemetry = SILENT,
        is_recording: bool = False,
        start_program: "StartProgram | None" = None,
        max_programs: int = 1,
    ) -> None:
        self._store, self._telemetry = store, telemetry
        self._calls = ModelCalls(store, secrets, telemetry, is_recording=is_recording)
        self._start_program, self._max_programs = start_program, max_programs
        self._connections = Connections(store, secrets)
        self._http = HttpCalls(self._connections)
        self._tools: Tools | None = None

    def readings(self) -> Iterator[Gauge]:
        """Yield the gauges of this gateway."""
        yield Gauge("model_calls_open", "model calls that wait for their answer, or for its end", self._calls.open)

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
        renewing = asyncio.create_task(self._calls.renew())
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        renewing.cancel()
        await self._calls.close()
        await self._http.close()
        if self._tools is not None:
            await self._tools.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == "/healthz":
            await answer(send, 200, b'{"gateway": "%s"}' % __version__.encode())
        elif path.startswith(f"{MODEL}/"):
            await self._serve_model(scope, receive, send)
        else:
            await self._serve_connections(scope, receive, send)

    async def _serve_model(self, scope: Message, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        request_line = f"{scope['method']} {path.removeprefix(MODEL)}"
        dialect = next((dialect for pattern, dialect in _CALLS if re.fullmatch(pattern, request_line, re.ASCII)), None)
        try:
            token = read_key(scope)
            key = await self._key(token)
            if key.upstream is None:
                raise CallRefused(403, "model", "the agent of this run calls its model by itself")
            call = AgentRequest(key, token, dialect or Messages(), path[len(MODEL) :], scope)
            if dialect is not None:
                await self._calls.pass_metered(call, receive, send)
            elif _FREE.fullmatch(request_line):
                await self._calls.pass_free(call, receive, send)
            else:
                raise CallRefused(404, "path", f"{request_line} is not a model call that the gateway knows")
        except CallRefused as refused:
            if refused.status != 502:  # otherwise it was admitted, and is settled
                self._telemetry.tell(ModelCallRefused(refused.reason))
            await answer(send, refused.status, refused.body(dialect or Messages()))
        except (StoreUnavailable, SecretUnavailable) as err:
            log.warning("a model call was not taken: %s", err)
            self._telemetry.tell(ModelCallRefused("unavailable"))
            body = (dialect or Messages()).refusal(503, "unavailable", "Optio: the gateway cannot take calls now")
            await answer(send, 503, body, (b"retry-after", b"2"))

    async def _serve_connections(self, scope: Message, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        try:
            if path.startswith("/http/"):
                token, _, rest = path.removeprefix("/http/").partition("/")
                await self._http.serve(await self._key(token), rest, scope, receive, send)
            elif path == MCP:
                await self._mcp.serve(await self._key(read_key(scope)), scope, receive, send)
            elif path == CHECK:
                await self._check(await self._key(read_key(scope)), send)
            else:
                raise CallRefused(404, "path", f"nothing is served here: model calls go to {MODEL}/..., tools to {MCP}")
        except CallRefused as refused:
            await refuse(send, refused)
        except (StoreUnavailable, SecretUnavailable) as err:
            log.warning("a call of a connection was not taken: %s", err)
            await refuse(send, CallRefused(503, "unavailable", "the gateway cannot take calls now"))

    async def _check(self, key: AttemptKey, send: Send) -> None:
        """Tell a worker whether the connections of a run can be used."""
        try:
            for connection in (await self._connections.of(key)).values():
                await self._connections.filled_in(connection)
                if isinstance(connection.spec, McpConnection):
                    await self._mcp.check(key)
            await answer(send, 200, b"{}")
        except ConnectionRefused as refused:
            body = {"error": {"type": refused.reason, "message": refused.message}}
            await answer(send, 424, json.dumps(body).encode())

    @property
    def _mcp(self) -> "Tools":
        if self._tools is None:
            # 60 MB, and only for runs with MCP connections.
            from optio.gateway.programs import Programs
            from optio.gateway.tools import Tools

            start, limit = self._start_program, self._max_programs
            self._tools = Tools(self._connections, None if start is None else Programs(start, limit))
        return self._tools

    async def _key(self, token: str) -> AttemptKey:
        """Return the key of a running attempt. Raises CallRefused and StoreUnavailable."""
        digest = key_digest(token)
        read = self._store.attempt_key
        key = read(digest) if self._store.local else await asyncio.to_thread(read, digest)
        if key is None:
            raise CallRefused(401, "auth", "this key is of no running attempt")
        return key
