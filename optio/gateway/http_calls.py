"""Calls of HTTP services: `/http/KEY/ID/...` becomes the service's address with the credential added, if the connection allows
the request. The key stands in the path because programs take an address from a variable, and add no header of ours."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx2

from optio.gateway.asgi import OWN_HEADERS, CallRefused, Message, Receive, Send, answer, read_body, wait_for_leave
from optio.gateway.connections import ConnectionRefused, Connections
from optio.model.connection import Connection, HttpConnection, allows
from optio.model.model_call import AttemptKey

# A credential of the agent's own has no meaning for a service whose credential the gateway adds.
_CREDENTIALS = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"x-api-key", b"private-token"})
# Of an answer: a cookie would be another credential.
_NOT_PASSED = OWN_HEADERS | {b"set-cookie", b"location"}
_CONNECT_S = 10.0
_MAX_ANSWER_BYTES = 256 << 20


class HttpCalls:
    """The calls of HTTP services by all agents of a gateway."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._client = httpx2.AsyncClient(follow_redirects=False, trust_env=True)

    async def close(self) -> None:
        """Close the connections to services."""
        await self._client.aclose()

    async def serve(self, key: AttemptKey, rest: str, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on; `rest` is its path after the key. Raises CallRefused, SecretUnavailable and StoreUnavailable."""
        name = rest.partition("/")[0]
        connection = (await self._connections.of(key)).get(name)
        if connection is None or not isinstance(connection.spec, HttpConnection):
            raise CallRefused(404, "path", f"this run has no HTTP connection `{name}`")
        spec = connection.spec
        # As it was sent: a decoded path may hold a `/` that the service does not take for one.
        raw = (scope.get("raw_path") or b"").split(b"?")[0].decode("latin-1")
        sent = f"/{raw.split('/', 4)[4]}" if raw.count("/") >= 4 else "/"
        if not allows(spec.allow, scope["method"], sent):
            allowed = "; ".join(spec.allow) or "nothing"
            request_line = f"{scope['method']} {sent}"
            raise CallRefused(403, "connection", f"`{request_line}` is not in `allow` of the connection `{name}`: {allowed}")
        try:
            headers = await self._connections.filled_in(connection)
        except ConnectionRefused as refused:
            raise CallRefused(502, refused.reason, refused.message) from None
        body = await read_body(scope, receive)
        await self._connections.count(key, connection, spec.max_calls)
        query = scope["query_string"].decode("latin-1")
        url = spec.url.rstrip("/") + sent + (f"?{query}" if query else "")
        gone = asyncio.ensure_future(wait_for_leave(receive))
        relay = asyncio.ensure_future(self._relay(connection, url, headers, scope, body, send))
        try:
            await asyncio.wait({gone, relay}, return_when=asyncio.FIRST_COMPLETED)
            if relay.done():
                relay.result()
        finally:
            for task in (gone, relay):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({task})

    async def _relay(
        self, connection: Connection, url: str, headers: dict[str, str], scope: Message, body: bytes, send: Send
    ) -> None:
        async with self._answer_of(connection, url, headers, scope, body) as response:
            kept = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in _NOT_PASSED]
            location = response.headers.get("location")
            if location is not None:
                kept.append((b"location", _moved(httpx2.URL(url).join(location), connection, scope)))
            await send({"type": "http.response.start", "status": response.status_code, "headers": kept})
            size = 0
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > _MAX_ANSWER_BYTES:
                    raise ConnectionError(f"the answer of {connection.id} is larger than {_MAX_ANSWER_BYTES >> 20} MiB")
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    @contextlib.asynccontextmanager
    async def _answer_of(
        self, connection: Connection, url: str, headers: dict[str, str], scope: Message, body: bytes
    ) -> AsyncIterator[httpx2.Response]:
        own = {name.lower().encode() for name in headers}
        passed = [
            (name, value)
            for name, value in scope["headers"]
            if name not in OWN_HEADERS and name not in _CREDENTIALS and name not in own
        ]
        added = [(name.encode(), value.encode("utf-8")) for name, value in headers.items()]
        timeout = httpx2.Timeout(connection.timeout_span.total_seconds(), connect=_CONNECT_S)
        request = self._client.build_request(
            scope["method"],
            url,
            content=body,
            headers=[*passed, *added, (b"accept-encoding", b"identity")],
            timeout=timeout,
        )
        try:
            response = await self._client.send(request, stream=True)
        except httpx2.TimeoutException as err:
            raise CallRefused(504, "unreachable", f"the connection `{connection.id}` gave no answer in time") from err
        except (httpx2.HTTPError, httpx2.InvalidURL) as err:
            message = f"the connection `{connection.id}` cannot be reached: {type(err).__name__}"
            raise CallRefused(502, "unreachable", message) from err
        try:
            yield response
        finally:
            await response.aclose()


def _moved(target: httpx2.URL, connection: Connection, scope: Message) -> bytes:
    """Return the place of a redirect as the agent reaches it. Raises CallRefused for one that leaves the connection."""
    base = httpx2.URL(connection.url or "")
    around, path = base.raw_path.rstrip(b"/"), target.raw_path
    is_within = (target.scheme, target.host, target.port) == (base.scheme, base.host, base.port)
    if not is_within or not path.startswith(around + b"/"):
        message = f"the connection `{connection.id}` answers with a redirect to another place, which is not followed"
        raise CallRefused(502, "redirect", message)
    prefix = b"/".join((scope.get("raw_path") or b"").split(b"/", 4)[:4])
    return prefix + path.removeprefix(around)


async def refuse(send: Send, refused: CallRefused) -> None:
    """Answer a request that is not passed on, as JSON."""
    body = {"error": {"type": refused.reason, "message": f"Optio: {refused.message}"}}
    await answer(send, refused.status, json.dumps(body).encode())
