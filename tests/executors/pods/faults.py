"""A proxy before a real API server that does what networks, overloaded servers and impatient middlemen do.

It speaks plain HTTP to its clients, on loopback, and to the API server as KUBECONFIG says, with the credentials there. Watches,
logs and WebSockets pass through as they come. What a rule names is refused, answered, cut, held back or changed; all is
counted.
"""

import asyncio
import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote_plus, urlsplit

from lightkube import KubeConfig
from lightkube.config.client_adapter import user_auth, verify_cluster

from tests.executors.pods.standin import server_on

_CHUNK = 1 << 16
# Closing with this sends a reset, as a peer that died does.
_RESET = struct.pack("ii", 1, 0)
# What the few commands that are run in a pod are for, by a word that only they have.
_COMMANDS = {
    "parcel": "launch",
    "/renewed": "renew",
    "kill -TERM": "stop",
    "mkdir go": "look",
    "wc -c": "measure",
    "tail": "copy",
}


@dataclass(frozen=True)
class Request:
    """What a client asked; `path` has its query and no percent signs."""

    method: str
    path: str
    headers: Mapping[str, str]
    at: float

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def kind(self) -> str:
        """Of which sort it is: requests of one sort are counted together."""
        path, _, query = self.path.partition("?")
        rest = path.split("/namespaces/", 1)[-1].split("/")[1:]
        if rest[-1:] == ["exec"]:
            return "exec " + next((name for word, name in _COMMANDS.items() if word in query), "other")
        if len(rest) == 1 and "watch=" in query:
            return f"WATCH {rest[0]}"
        if len(rest) == 1 and self.method == "GET":
            return f"LIST {rest[0]}"
        return f"{self.method} {'/'.join('NAME' if n == 1 else part for n, part in enumerate(rest)) or 'namespace'}"


@dataclass(kw_only=True)
class Rule:
    """What is done to requests whose `METHOD path?query` has this pattern, from the one after `skip` on, so many `times`.

    Exactly one of: `refuse` (the connection is reset), `status` (that answer, after the request was carried out if `done`),
    `cut`, `end` or `hold` (reset, an end in good order, or silence, after so many bytes of the answer's body or of what a
    WebSocket's server says: with `once_told` of what it says when its client has said something), `cut_sent` (reset after so
    many bytes of what a WebSocket's client says), `delay` (seconds before it is carried out), `lines` (each line of the answer
    becomes none, one or many). `then` is called when that happens, in the proxy's loop."""

    pattern: str
    skip: int = 0
    times: int | None = 1
    when: Callable[[Request], bool] = lambda _: True
    refuse: bool = False
    status: int | None = None
    message: str = "a fault"
    said: Mapping[str, Any] = field(default_factory=dict)  # more of the answer's Status
    headers: Mapping[str, str] = field(default_factory=dict)
    done: bool = False
    cut: int | None = None
    cut_sent: int | None = None
    once_told: bool = False
    end: int | None = None
    hold: int | None = None
    delay: float = 0.0
    lines: Callable[[bytes], Iterable[bytes]] | None = None
    then: Callable[[], object] = lambda: None
    hits: int = 0

    def takes(self, request: Request) -> bool:
        """Whether this request is one of them; it is counted then."""
        if not re.search(self.pattern, str(request)) or not self.when(request):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


Serve = Callable[[Request, asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, bool]]


class FaultProxy:
    """See the module. Its methods are for the test's thread. `serve` may answer requests itself: it says whether it did."""

    def __init__(self, serve: Serve | None = None) -> None:
        config = KubeConfig.from_env().get()
        assert config is not None
        assert config.user is not None
        parts = urlsplit(config.cluster.server)
        self._upstream = (parts.hostname or "", parts.port or 443)
        tls = verify_cluster(config.cluster, config.user, config.abs_file, trust_env=False)
        self._tls = tls if parts.scheme == "https" else None
        self._auth = getattr(user_auth(config.user), "_bearer", None)
        self.serve = serve
        self.rules: list[Rule] = []
        self.seen: list[Request] = []
        self.open: set[_Exchange] = set()
        self.most_open = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faults", daemon=True)
        self._thread.start()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port: int = self._socket.getsockname()[1]
        self._quiet = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._do(self._listen())

    def kubeconfig(self, path: Path, *, token_file: Path | None = None) -> Path:
        """Write one that leads here."""
        user = {"token": "of-a-worker"} if token_file is None else {"tokenFile": str(token_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "faults", "cluster": server_on(self.port)}],
            "users": [{"name": "faults", "user": user}],
            "contexts": [{"name": "faults", "context": {"cluster": "faults", "user": "faults"}}],
            "current-context": "faults",
        }
        path.write_text(json.dumps(config))
        return path

    # Faults

    def rule(self, pattern: str, **what: Any) -> Rule:
        """From now on; the first rule that takes a request has it."""
        made = Rule(pattern=pattern, **what)
        self.rules.append(made)
        return made

    def clear(self) -> None:
        """No rules any more."""
        self.rules.clear()

    def cut(self, pattern: str = "") -> int:
        """Reset what goes on now; how many."""
        found: int = self._do(self._cut(pattern))
        return found

    def refuse(self) -> None:
        """Nobody listens any more, and all connections are reset."""
        self._do(self._deaf())

    def resume(self) -> None:
        """Listen again."""
        self._do(self._listen())

    # What was asked

    def counts(self) -> Counter[str]:
        """How many requests of each sort."""
        return Counter(request.kind for request in list(self.seen))

    def count(self, pattern: str) -> int:
        """How many requests have this pattern."""
        return sum(1 for request in list(self.seen) if re.search(pattern, str(request)))

    def forget(self) -> None:
        """Count from nothing again."""
        self.seen.clear()

    def close(self) -> None:
        """End everything."""
        self._do(self._deaf())
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        if self._server is not None:
            return
        if self._socket.fileno() < 0:
            self._socket = socket.create_server(("127.0.0.1", self.port), backlog=4096)
        self._server = await asyncio.start_server(self._client, sock=self._socket, limit=1 << 20)

    async def _deaf(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)
            self._socket.close()
        await self._cut("")
        for task in self._tasks:
            task.cancel()

    async def _end(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # transports are closed by the next turns of the loop

    async def _cut(self, pattern: str) -> int:
        found = [each for each in self.open if re.search(pattern, str(each.request))]
        for each in found:
            each.reset()
        return len(found)

    # One connection

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream: list[_Wire] = []
        try:
            while True:
                await self._request(reader, writer, upstream)
        except (OSError, EOFError, asyncio.CancelledError, _Over):
            pass
        finally:
            self._tasks.discard(task)
            for _, each in upstream:
                with contextlib.suppress(AttributeError):  # one by TLS that is closed already, in Python 3.11
                    each.transport.abort()
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: "list[_Wire]") -> None:
        """The next one of a client, whose one connection to the API server is kept, too."""
        first, headers = await _head(reader)
        method, target, _ = first.split(" ", 2)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Request(method, unquote_plus(target), headers, time.monotonic())
        self.seen.append(request)
        rule = next((each for each in list(self.rules) if each.takes(request)), None) or _NO_RULE
        exchange = _Exchange(request, writer)
        self.open.add(exchange)
        self.most_open = max(self.most_open, len(self.open))
        try:
            if rule.refuse:
                rule.then()
                exchange.reset()
                raise _Over
            if rule.status is not None and not rule.done:
                rule.then()
                await _answer(writer, rule)
                return
            await asyncio.sleep(rule.delay)
            if self.serve is not None and await self.serve(request, reader, writer):
                raise _Over
            if not upstream:
                upstream.append(await asyncio.open_connection(*self._upstream, ssl=self._tls, limit=1 << 20))
            exchange.upstream = upstream[0][1]
            await self._pass_on(first, headers, body, upstream[0], reader, exchange, rule)
        finally:
            self.open.discard(exchange)

    async def _pass_on(
        self,
        first: str,
        headers: Mapping[str, str],
        body: bytes,
        upstream: "_Wire",
        reader: asyncio.StreamReader,
        exchange: "_Exchange",
        rule: Rule,
    ) -> None:
        changed = {**headers, "host": f"{self._upstream[0]}:{self._upstream[1]}"}
        changed.pop("authorization", None)
        if self._auth is not None:
            changed["authorization"] = self._auth
        upstream[1].write(_joined(first, changed) + body)
        await upstream[1].drain()
        status, answered = await _head(upstream[0])
        writer = exchange.writer
        code = int(status.split(" ")[1])
        if rule.status is not None:
            async for _ in _body(upstream[0], code, answered):
                pass
            rule.then()
            await _answer(writer, rule)
            return
        limit = _Limit(exchange, rule.then, cut=rule.cut, end=rule.end, hold=rule.hold)
        writer.write(_joined(status, answered))
        if code == 101:
            sent = _Limit(exchange, rule.then, cut=rule.cut_sent)
            if rule.once_told:
                limit.from_ = sent
            await asyncio.gather(_tunnel(reader, upstream[1], sent), _tunnel(upstream[0], writer, limit))
            raise _Over
        if code != 101 and limit.over:
            await limit.passed(b"", lambda _: writer.drain())
        chunked = "chunked" in answered.get("transfer-encoding", "")
        rest = b""
        async for piece in _body(upstream[0], code, answered):
            if rule.lines is not None:
                *lines, rest = (rest + piece).split(b"\n")
                piece = b"".join(new + b"\n" for line in lines for new in rule.lines(line))
            await limit.passed(piece, lambda part: _written(writer, part, chunked=chunked))
        if chunked:
            writer.write(_LAST)
        await writer.drain()


_LAST = b"0\r\n\r\n"
_Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_NO_RULE = Rule(pattern="")


class _Over(Exception):
    """This connection has ended."""


@dataclass(eq=False)
class _Exchange:
    request: Request
    writer: asyncio.StreamWriter
    upstream: asyncio.StreamWriter | None = None

    def reset(self) -> None:
        """As if the peer had died."""
        with contextlib.suppress(OSError):
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.writer.transport.abort()
        if self.upstream is not None:
            self.upstream.transport.abort()


class _Limit:
    """Lets so many bytes pass in one direction."""

    def __init__(
        self,
        exchange: _Exchange,
        then: Callable[[], object],
        *,
        cut: int | None = None,
        end: int | None = None,
        hold: int | None = None,
    ) -> None:
        self._exchange, self._then, self._ends, self._holds = exchange, then, end is not None, hold is not None
        self._left = next((each for each in (cut, end, hold) if each is not None), None)
        self.used = False
        self.from_: _Limit | None = None  # nothing counts before something has passed there

    @property
    def over(self) -> bool:
        """Whether nothing may pass any more. A WebSocket's server has not even answered then: its first word is waited for."""
        return self._left == 0

    async def passed(self, data: bytes, write: Callable[[bytes], Coroutine[Any, Any, None]]) -> None:
        self.used = True
        if self._left is None or (self.from_ is not None and not self.from_.used):
            await write(data)
            return
        part, self._left = data[: self._left], max(0, self._left - len(data))
        await write(part)
        if self._left:
            return
        self._then()
        if self._holds:
            await asyncio.Event().wait()
        if self._ends:
            self._exchange.writer.write(_LAST)
            await self._exchange.writer.drain()
        else:
            # What was passed on is to arrive: a reset throws away what nobody has read yet.
            await asyncio.sleep(0.05)
            self._exchange.reset()
        raise _Over


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    return first, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _joined(first: str, headers: Mapping[str, str]) -> bytes:
    return "\r\n".join([first, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode("latin-1")


async def _body(reader: asyncio.StreamReader, code: int, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    if "chunked" in headers.get("transfer-encoding", ""):
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
        return
    left = int(headers.get("content-length", "0"))
    while left and code >= 200:
        piece = await reader.read(min(left, _CHUNK))
        if not piece:
            raise EOFError
        left -= len(piece)
        yield piece


async def _written(writer: asyncio.StreamWriter, data: bytes, *, chunked: bool) -> None:
    if data:
        writer.write(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)
        await writer.drain()


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: _Limit) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            await limit.passed(data, lambda part: _written(writer, part, chunked=False))
    writer.close()


async def _answer(writer: asyncio.StreamWriter, rule: Rule) -> None:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": rule.message,
        "code": rule.status,
        **rule.said,
    }
    body = json.dumps(status).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **rule.headers}
    writer.write(_joined(f"HTTP/1.1 {rule.status} Fault", headers) + body)
    await writer.drain()
