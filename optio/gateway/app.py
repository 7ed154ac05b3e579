"""The gateway as an ASGI application: it takes model calls of agents, adds the credential, and passes answers on as they come.

It keeps nothing: a key is looked up for each call, and a reservation is a row. So any gateway may take any call, and one that
is killed ends no run: its calls break, which the agents' own programs repeat, and count with what they had reserved.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from typing import TypeVar

from optio.errors import SecretUnavailable, StoreUnavailable
from optio.gateway.asgi import CallRefused, Message, Receive, Send, answer, read_key
from optio.gateway.model_calls import ModelCall, ModelCalls
from optio.gateway.protocols.anthropic import Messages
from optio.gateway.protocols.base import Dialect
from optio.gateway.protocols.gemini import GenerateContent
from optio.gateway.protocols.openai import ChatCompletions, Responses
from optio.model.model_call import key_digest
from optio.secrets.base import Secrets
from optio.store.base import GatewayStore
from optio.version import __version__

T = TypeVar("T")

log = logging.getLogger(__name__)
# What follows this is the path of the model service.
MODEL = "/model"
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

    def __init__(self, store: GatewayStore, secrets: Secrets) -> None:
        self._store, self._calls = store, ModelCalls(store, secrets)

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
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == "/healthz":
            await answer(send, 200, b'{"gateway": "%s"}' % __version__.encode())
            return
        request_line = f"{scope['method']} {path.removeprefix(MODEL)}"
        dialect = next((dialect for pattern, dialect in _CALLS if re.fullmatch(pattern, request_line, re.ASCII)), None)
        try:
            if not path.startswith(f"{MODEL}/"):
                raise CallRefused(404, "path", f"nothing is served here: model calls go to {MODEL}/...")
            token = read_key(scope)
            key = await self._ask(self._store.attempt_key, key_digest(token))
            if key is None:
                raise CallRefused(401, "auth", "this key is of no running attempt")
            call = ModelCall(key, token, dialect or Messages(), path[len(MODEL) :], scope)
            if dialect is not None:
                await self._calls.pass_metered(call, receive, send)
            elif _FREE.fullmatch(request_line):
                await self._calls.pass_free(call, receive, send)
            else:
                raise CallRefused(404, "path", f"{request_line} is not a model call that the gateway knows")
        except CallRefused as refused:
            body = (dialect or Messages()).refusal(refused.status, refused.reason, f"Optio: {refused.message}")
            await answer(send, refused.status, body)
        except (StoreUnavailable, SecretUnavailable) as err:
            log.warning("a model call was not taken: %s", err)
            body = (dialect or Messages()).refusal(503, "unavailable", "Optio: the gateway cannot take calls now")
            await answer(send, 503, body, (b"retry-after", b"2"))

    async def _ask(self, read: Callable[[str], T], digest: str) -> T:
        return read(digest) if self._store.local else await asyncio.to_thread(read, digest)
