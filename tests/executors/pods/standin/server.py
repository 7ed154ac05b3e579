"""The API of the stand-in, as an ASGI application."""

import asyncio
import contextlib
import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import reduce
from typing import Any
from urllib.parse import parse_qs

from tests.executors.pods.standin.node import Container, Node, background
from tests.executors.pods.standin.store import Object, Refusal, Selector, Store

Query = dict[str, list[str]]
Receive, Send = Callable[[], Coroutine[Any, Any, Any]], Callable[[Any], Coroutine[Any, Any, None]]
_PATH = re.compile(r"(/api\S*/namespaces/[^/]+/[a-z]+|/api/v1/(?:namespaces|nodes))(?:/([^/]+))?(?:/([a-z]+))?")


class Server:
    """Answers for the objects of the store and the pods of the node."""

    def __init__(self, store: Store, node: Node) -> None:
        self._store, self._node = store, node

    async def __call__(self, scope: Object, receive: Receive, send: Send) -> None:
        query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
        websocket = scope["type"] == "websocket"
        accept = dict(scope["headers"]).get(b"accept", b"").decode()
        try:
            found = _PATH.fullmatch(scope["path"])
            if found is None:
                raise Refusal(404, "the server could not find the requested resource")
            where, name, part = found.groups()
            if websocket:
                await receive()
                await self._exec(self._container(where, name), query, receive, send)
            elif part == "log":
                await _streamed(self._container(where, name).log(follow="follow" in query), receive, send)
            elif "watch" in query:
                await _streamed(self._watch(where, query, accept), receive, send)
            else:
                body = json.loads(await _read(receive) or b"{}")
                answer = self._answer(scope["method"], where, name, part, query, body)
                await _answered(send, "http", 201 if scope["method"] == "POST" else 200, _as(accept, answer))
        except Refusal as err:
            await _answered(send, "websocket.http" if websocket else "http", err.code, err.status)

    def _answer(self, method: str, where: str, name: str | None, part: str | None, query: Query, body: Object) -> Object:
        pods, store = where.endswith("/pods"), self._store
        if name is None:
            if method == "GET":
                return self._list(where, query)
            return (
                self._node.add(where, store.create(where, {**body, "status": {"phase": "Pending"}}))
                if pods
                else (store.create(where, body))
            )
        found = store.get(where, name)
        if part == "binding":
            return store.change(where, name, {"spec": {"nodeName": body["target"]["name"]}})
        if part == "eviction":
            said = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "evicted"}
            store.change(where, name, {"status": {"conditions": [said]}})
            return self._node.delete(where, name, None)
        if method == "PATCH" and part == "status":
            return store.change(where, name, {"status": body["status"]})
        if method in ("PATCH", "PUT"):  # who replaces a Lease names all of its fields
            return store.change(where, name, body)
        if method == "DELETE":
            for field, wanted in body.get("preconditions", {}).items():
                if found["metadata"][field] != wanted:
                    raise Refusal(409, f"the {field} in the precondition ({wanted}) does not match the one in record")
            return self._node.delete(where, name, body.get("gracePeriodSeconds")) if pods else store.drop(where, name)
        return found

    def _list(self, where: str, query: Query) -> Object:
        """A part of it, if one is asked for. What changes between two parts is in the later one and in a watch from the version
        of the first, which is what all of them name; when that is too old, so is the list."""
        items = sorted(self._store.all(where, _selector(query)), key=_name)
        version, after = query.get("continue", [f"{self._store.version} "])[0].split(" ", 1)
        if not self._store.remembers(int(version)):
            raise Refusal(410, "The provided continue parameter is too old")
        items = [each for each in items if _name(each) > after]
        limit = int(query.get("limit", ["0"])[0]) or len(items)
        meta = {"resourceVersion": version}
        if items[limit:]:
            meta["continue"] = f"{version} {_name(items[limit - 1])}"
        return {"kind": "List", "metadata": meta, "items": items[:limit]}

    async def _watch(self, where: str, query: Query, accept: str) -> AsyncIterator[bytes]:
        since, seconds = int(query["resourceVersion"][0]), float(query["timeoutSeconds"][0])
        async for event in self._store.watch(where, _selector(query), since, seconds):
            yield json.dumps({**event, "object": _as(accept, event["object"])}).encode() + b"\n"

    def _container(self, where: str, name: str) -> Container:
        container = self._node.containers.get(self._store.get(where, name)["metadata"]["uid"])
        if container is None or not container.began:
            raise Refusal(400, f'container "agent" in pod "{name}" is waiting to start')
        return container

    async def _exec(self, container: Container, query: Query, receive: Receive, send: Send) -> None:
        """By the protocol v5.channel.k8s.io: the first byte of a message is its channel."""
        if container.over.is_set():
            raise Refusal(500, "the container does not run")
        await send({"type": "websocket.accept", "subprotocol": "v5.channel.k8s.io"})
        process = await container.run(*query["command"], stdin=subprocess.PIPE)

        async def feed() -> None:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                while (message := await receive())["type"] == "websocket.receive" and message["bytes"] != b"\xff\0":
                    process.stdin.write(message["bytes"][1:])
                    await process.stdin.drain()
            process.stdin.close()

        async def tell(channel: int, stream: asyncio.StreamReader | None) -> None:
            while stream is not None and (data := await stream.read(1 << 15)):
                await send({"type": "websocket.send", "bytes": bytes([channel]) + data})

        feeding = background(feed())
        with contextlib.suppress(OSError, RuntimeError):  # the client is gone: what it began goes on
            await asyncio.gather(tell(1, process.stdout), tell(2, process.stderr))
            status: Object = {"status": "Success"}
            if (code := await process.wait()) != 0:
                causes = [{"reason": "ExitCode", "message": str(code if code > 0 else 128 - code)}]
                status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
            await send({"type": "websocket.send", "bytes": b"\3" + json.dumps(status).encode()})
            await send({"type": "websocket.close", "code": 1000})
        await feeding


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _answered(send: Send, kind: str, code: int, answer: Object) -> None:
    body, headers = json.dumps(answer).encode(), [(b"content-type", b"application/json")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": f"{kind}.response.start", "status": code, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": body})


async def _streamed(pieces: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
    """Until there are no more, or nobody reads them."""

    async def write() -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = {background(write()), background(gone())}
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for each in tasks:
        each.cancel()


def _selector(query: Query) -> Selector:
    wanted = [each.partition("=") for each in query.get("labelSelector", [""])[0].split(",") if each]
    fields = [each.partition("=") for each in query.get("fieldSelector", [""])[0].split(",") if each]

    def chosen(found: Object) -> bool:
        labels = found["metadata"].get("labels", {})
        return all(name in labels and (not equal or labels[name] == value) for name, equal, value in wanted) and all(
            reduce(lambda part, key: part.get(key, {}), path.split("."), found) == value for path, _, value in fields
        )

    return chosen


def _name(found: Object) -> str:
    name: str = found["metadata"]["name"]
    return name


def _as(accept: str, found: Object) -> Object:
    """What of it was asked for."""
    if "as=PartialObjectMetadata" not in accept or found.get("kind") == "Status":
        return found
    if "items" in found:
        return {**found, "items": [_as(accept, each) for each in found["items"]] or None}
    return {"kind": "PartialObjectMetadata", "metadata": found["metadata"]}
