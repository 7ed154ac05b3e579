"""Routes of logs: paged, searched, exported whole, and live by server-sent events. A cursor is the last `seq` of the reader.

Lines are read from the store only; notifications say when there are more. So a reader that comes back with its cursor gets
every line once, wherever and however the connection broke.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Annotated, Literal

import msgspec
from litestar import Controller, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream

from optio.errors import Invalid, OptioError, Problem, Unauthorized
from optio.model.run import LogLine, Run
from optio.server import serializers
from optio.server.auth import Actor, role
from optio.server.bodies.logs import LogEndBody, LogPageBody, LogSearchBody, TranscriptBody
from optio.server.dependencies import Hub, Incoming, InjectedHub
from optio.server.log_fanout import BATCH_LINES, LineBatch
from optio.server.read_models import transcript

log = logging.getLogger(__name__)
# A revoked token ends its streams after so many seconds, or at the next keep-alive.
CHECK_S = 20.0
# How many lines one statement of a search reads, of two that run side by side, and how long a search goes on.
SEARCH_LINES = 50_000
SEARCH_S = 3.0
Cursor = Annotated[int, QueryParameter(ge=0, le=2**53, description="the last `seq` that you have")]
Lines = Annotated[int, QueryParameter(ge=1, le=5000, description="most lines in the answer")]
Before = Annotated[
    int | None, QueryParameter(ge=0, le=2**53, description="the last lines before this `seq`, instead of the next ones")
]
Text = Annotated[str, QueryParameter(name="q", max_length=200, description="a text that the lines contain")]
Errors = Annotated[bool, QueryParameter(description="only lines of standard error and failed tool results")]
Matches = Annotated[int, QueryParameter(ge=1, le=10_000, description="most cursors in the answer")]
CountAll = Annotated[
    bool, QueryParameter(name="count", description="whether to count all: without it, a search ends with `limit` matches")
]
Later = Annotated[int | None, QueryParameter(ge=0, le=2**53, description="the first turns after this `seq`")]
Earlier = Annotated[int | None, QueryParameter(ge=0, le=2**53, description="the last turns before this `seq`")]
Number = Annotated[int | None, QueryParameter(ge=1, le=2**31, description="only this attempt")]


class LogController(Controller):
    """Routes of `/api/workflow-runs/{id}/logs`."""

    tags = ("logs",)

    @get(
        "/api/workflow-runs/{run_id:str}/logs",
        opt=role("viewer"),
        responses={200: ResponseSpec(LogPageBody, description="The log", generate_examples=False)},
        media=("text/plain", "application/jsonl", "text/event-stream"),
    )
    async def get_log(
        self,
        run_id: FromPath[str],
        request: Incoming,
        hub: InjectedHub,
        after: Cursor = 0,
        before: Before = None,
        limit: Lines = 1000,
        attempt: Number = None,
        format: FromQuery[Literal["json", "text", "jsonl"]] = "json",
    ) -> Response[LogPageBody] | Stream:
        """Return the log from a cursor on, or the lines before one. `format=text` exports it whole, `format=jsonl`
        as a JSON object a line; `Accept: text/event-stream` follows it live."""
        store = hub.services.store
        run = await asyncio.to_thread(store.run, run_id)
        if before is not None and (format != "json" or "text/event-stream" in request.headers.get("accept", "")):
            raise Invalid("only pages go backwards", [Problem("/before", "is for pages of the log alone")])
        if "text/event-stream" in request.headers.get("accept", ""):
            if attempt is not None or format != "json":
                raise Invalid("a live log has every attempt, as events", [Problem("/attempt", "cannot be followed")])
            events = _events(hub, request.state.who, run.id, _cursor(request, after))
            return Stream(events, media_type="text/event-stream")
        if format != "json":
            ending, kind, encode = _EXPORTS[format]
            headers = {"Content-Disposition": f'attachment; filename="{run.id}.{ending}"'}
            return Stream(_export(hub, run.id, after, attempt, encode), media_type=kind, headers=headers)
        lines = await asyncio.to_thread(store.log, run_id, after=after, before=before, limit=limit, attempt=attempt)
        following = lines[-1].seq if lines else after
        last = await asyncio.to_thread(store.last_line, run_id)
        items = [serializers.line(line) for line in lines]
        return Response(LogPageBody(items=items, next=following, last=last, state=run.state))

    @get("/api/workflow-runs/{run_id:str}/logs/search", opt=role("viewer"))
    async def search_log(
        self,
        run_id: FromPath[str],
        hub: InjectedHub,
        text: Text = "",
        errors: Errors = False,
        after: Cursor = 0,
        limit: Matches = 1000,
        count_all: CountAll = True,
    ) -> LogSearchBody:
        """Find lines of a log after a cursor. ASCII letters fit in either case."""
        if "\0" in text:
            raise Invalid("invalid request parameters", [Problem("/q", "must not have a NUL character")])
        store = hub.services.store
        await asyncio.to_thread(store.run, run_id)
        last = await asyncio.to_thread(store.last_line, run_id)
        searched, count, matches = min(after, last), 0, list[int]()
        # The first lines that fit are often near.
        lines = SEARCH_LINES // 16 + 1
        end = asyncio.get_running_loop().time() + SEARCH_S
        while searched < last and asyncio.get_running_loop().time() < end:
            middle, until = min(searched + lines, last), min(searched + 2 * lines, last)
            find = partial(store.search_log, run_id, text=text, errors=errors, limit=limit - len(matches))
            async with hub.search_lock:
                (near, first), (far, second) = await asyncio.gather(
                    asyncio.to_thread(find, after=searched, until=middle), asyncio.to_thread(find, after=middle, until=until)
                )
            matches += (near + far)[: limit - len(matches)]
            count, searched, lines = count + first + second, until, min(2 * lines, SEARCH_LINES)
            if len(matches) == limit and not count_all:
                break
        return LogSearchBody(matches=matches, count=count, searched=searched, last=last)

    @get("/api/workflow-runs/{run_id:str}/transcript", opt=role("viewer"))
    async def get_transcript(
        self, run_id: FromPath[str], hub: InjectedHub, after: Later = None, before: Earlier = None
    ) -> TranscriptBody:
        """Return some turns of the conversation: the last ones, or those after or before a cursor."""
        await asyncio.to_thread(hub.services.store.run, run_id)
        return await asyncio.to_thread(transcript.read, hub.services.store, run_id, before=before, after=after)


async def batches(hub: Hub, actor: Actor, run_id: str, after: int) -> AsyncGenerator[LineBatch, None]:
    """Yield the batches of a live log. Raises Unauthorized once the actor's token is no longer valid."""
    now = asyncio.get_running_loop().time
    checked = now()
    async with aclosing(hub.log_fanout.follow(hub.services.store, run_id, after)) as following:
        async for batch in following:
            if now() - checked >= CHECK_S:
                checked = now()
                if not await hub.access_control.is_still_valid(actor):
                    raise Unauthorized("the token has expired or was revoked")
            yield batch


def encode_end(kind: type[LogEndBody], run: Run) -> bytes:
    """Return the last message of a live log."""
    return msgspec.json.format(msgspec.json.encode(kind(state=run.state, reason=run.reason)), indent=0)


async def _events(hub: Hub, actor: Actor, run_id: str, after: int) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    try:
        async with aclosing(batches(hub, actor, run_id, after)) as live_batches:
            async for batch in live_batches:
                if batch.lines:
                    yield b"".join(b"event: line\nid: %d\ndata: %b\n\n" % (line.seq, line.data) for line in batch.lines)
                elif batch.ended is not None:
                    yield b"event: end\ndata: %b\n\n" % encode_end(LogEndBody, batch.ended)
                else:
                    yield b": still here\n\n"
    except OptioError as err:
        # The stream ends without an `end`: its reader reconnects with its cursor, and gets the error then.
        log.info("the live log of run %s ends early: %s", run_id, err, extra={"run_id": run_id})


_EXPORTS: dict[str, tuple[str, str, Callable[[LogLine], bytes]]] = {
    "text": ("log", "text/plain", lambda line: line.data),
    "jsonl": ("jsonl", "application/jsonl", lambda line: msgspec.json.encode(serializers.line(line))),
}


async def _export(
    hub: Hub, run_id: str, after: int, attempt: int | None, encode: Callable[[LogLine], bytes]
) -> AsyncIterator[bytes]:
    """Yield every line in its encoding, each ended by a newline."""
    read_lines = partial(hub.services.store.log, run_id, limit=BATCH_LINES, attempt=attempt)
    while lines := await asyncio.to_thread(read_lines, after=after):
        after = lines[-1].seq
        yield b"".join(encode(line) + b"\n" for line in lines)


def _cursor(request: Incoming, after: int) -> int:
    """Return the cursor of a stream: a browser that reconnects sends the id of its last event. Raises Invalid for an id of
    another form."""
    last = request.headers.get("last-event-id")
    if not last:
        return after
    if not last.isascii() or not last.isdigit() or len(last) > 16:
        raise Invalid("Last-Event-ID is not a cursor", [Problem("/last-event-id", "must be the id of an event of this log")])
    return int(last)
