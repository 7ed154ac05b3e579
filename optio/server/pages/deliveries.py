"""Pages of webhook deliveries: the list, one request with its gates, its replay, and the test that can be made of it."""

import asyncio
import json
from typing import Any, get_args

from litestar import Response, get, post
from litestar.params import FromPath

from optio.errors import Conflict, Malformed
from optio.model import json_body
from optio.server.answers.deliveries import make_test, read_deliveries, read_delivery, replay
from optio.server.auth import role
from optio.server.dependencies import Hub, Incoming, InjectedHub
from optio.server.pages.login import read_form
from optio.server.pages.rendering import Pages, Word, page, redirect
from optio.server.run_filters import time_of
from optio.store.values import DeliveryFilter, DeliveryVerdict

_PAGE = 50
# A longer body is shown in part, and is not laid out: that would take longer than the rest of the page.
_MAX_SHOWN_CHARACTERS = 64 << 10
_MAX_PARSED_BYTES = 1 << 20
_MAX_DIFF_CHARACTERS = 200_000
# Those that a delivery can have: others are only counted.
VERDICTS = tuple(sorted({word for part in get_args(DeliveryVerdict) for word in get_args(part)}))


class DeliveryPages(Pages):
    """Routes of `/deliveries`."""

    @get("/deliveries", opt=role("viewer"))
    async def deliveries_page(
        self,
        request: Incoming,
        hub: InjectedHub,
        path: Word = "",
        verdict: Word = "",
        task: Word = "",
        since: Word = "",
        until: Word = "",
        cursor: Word = "",
    ) -> Response[str]:
        """Show webhook requests, newest first, or those that fit the filters."""
        delivery_filter = DeliveryFilter(
            path=path or None,
            verdict=verdict or None,
            task_id=task or None,
            since=time_of("since", since),
            until=time_of("until", until),
        )
        deliveries, refusals = await asyncio.to_thread(read_deliveries, hub, delivery_filter, cursor or None, _PAGE)
        filters = {"path": path, "verdict": verdict, "task": task, "since": since, "until": until}
        return page(
            request,
            "deliveries.html",
            filters=filters,
            deliveries=deliveries.items,
            next=deliveries.next,
            refused=refusals,
            verdicts=VERDICTS,
        )

    @get("/deliveries/{delivery_id:str}", opt=role("viewer"))
    async def delivery_page(self, delivery_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[str]:
        """Show one request: its gates, headers and body."""
        return page(request, "delivery.html", **await asyncio.to_thread(_read, hub, delivery_id))

    @get("/deliveries/{delivery_id:str}/replay", opt=role("operator"))
    async def replay_page(self, delivery_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[str]:
        """Show what the tasks that are served now would make of the request. Nothing is started."""
        body, _ = await replay(hub, delivery_id, request.state.actor, dry_run=True)
        return page(request, "replay.html", replay=body, params=_pretty(body.now.params), diff=_diff_lines(body.diff))

    @post("/deliveries/{delivery_id:str}/replay", status_code=303, opt=role("operator"))
    async def start_replay(self, delivery_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[None]:
        """Start the run of the request again, and lead to it."""
        is_repeat = (await read_form(request)).get("again") == "yes"
        body, _ = await replay(hub, delivery_id, request.state.actor, dry_run=False, again=is_repeat)
        if body.run_id is None:
            raise Conflict(f"the request starts no run now: {body.now.detail or body.now.verdict}")
        return redirect(f"/runs/{body.run_id}")

    @get("/deliveries/{delivery_id:str}/test", opt=role("operator"))
    async def test_page(self, delivery_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[str]:
        """Show a test of the task that is made of the request, to be copied."""
        return page(request, "delivery_test.html", id=delivery_id, made=await asyncio.to_thread(make_test, hub, delivery_id))


def _read(hub: Hub, delivery_id: str) -> dict[str, Any]:
    delivery, gates = read_delivery(hub, delivery_id)
    text, note = ("", "") if delivery.body is None else show_body(delivery.body)
    return {
        "delivery": delivery,
        "gates": gates,
        "body": text,
        "note": note,
        "served": delivery.path in hub.snapshot.registry.hooks,
    }


def show_body(body: bytes) -> tuple[str, str]:
    """Return a body as text, laid out if it is JSON, and a note on what the text leaves out."""
    text, note = "", ""
    if len(body) <= _MAX_PARSED_BYTES:
        try:
            text = _pretty(json_body.decode(body))
        except Malformed as err:
            note = str(err)
    if not text:
        text = body[: 4 * _MAX_SHOWN_CHARACTERS].decode("utf-8", "backslashreplace")
    if len(text) > _MAX_SHOWN_CHARACTERS:
        text, note = text[:_MAX_SHOWN_CHARACTERS], f"only the first {_MAX_SHOWN_CHARACTERS:,} characters are shown"
    return text, note


def _pretty(value: Any) -> str:
    """Return a JSON value in lines. Half a character, which no page can carry, is shown as its escape."""
    if value is None:
        return ""
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _diff_lines(diff: str) -> list[str]:
    lines = diff[:_MAX_DIFF_CHARACTERS].splitlines()
    return [*lines, "... the rest is not shown"] if len(diff) > _MAX_DIFF_CHARACTERS else lines
