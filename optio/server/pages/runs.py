"""Pages of runs: the list, and one run as a conversation, a log, its prompt, its events and its attempts."""

import asyncio
import json
from bisect import bisect_left
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlencode

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from optio.errors import Duplicate, Invalid, Problem
from optio.model.run import RunState, RunTrigger
from optio.runs.failure import explain_failure
from optio.server.auth import role
from optio.server.bodies.runs import MAX_BULK_RUNS, BulkAct
from optio.server.bulk_runs import STATES, BulkPlan, do_bulk, plan_of_filter, plan_of_runs
from optio.server.dependencies import Hub, Incoming, InjectedHub
from optio.server.pages.login import read_form
from optio.server.pages.rendering import Pages, Word, page, redirect
from optio.server.read_models import transcript
from optio.server.read_models.generations import commit_of_run
from optio.server.run_filters import filter_of

_PAGE = 50
# The lines of a log on one page.
_LINES = 1000
_CHOSEN = "run."
_FILTERS = ("task", "state", "reason", "trigger", "since", "until", "minCost", "id")
Tab = Literal["transcript", "log", "prompt", "events", "attempts"]
# `state` itself is a reserved name of the framework.
State = Annotated[Literal["", "queued", "running", "completed", "failed", "cancelled"], QueryParameter(name="state")]
Cost = Annotated[str, QueryParameter(name="minCost", max_length=20)]
Beginning = Annotated[str, QueryParameter(name="id", max_length=36)]
Position = Annotated[int | None, QueryParameter(ge=0, le=2**53)]


class RunPages(Pages):
    """Routes of `/runs`, of which `/runs/bulk` acts on many at once."""

    @get("/runs", opt=role("viewer"))
    async def runs_page(
        self,
        request: Incoming,
        hub: InjectedHub,
        task: Word = "",
        state_name: State = "",
        reason: Word = "",
        trigger: Word = "",
        since: Word = "",
        until: Word = "",
        min_cost: Cost = "",
        beginning: Beginning = "",
        cursor: Word = "",
    ) -> Response[str]:
        """Show the runs of all tasks, newest first, or those that fit the filters."""
        filters = {
            "task": task, "state": state_name, "reason": reason, "trigger": trigger, "since": since, "until": until,
            "minCost": min_cost, "id": beginning,
        }  # fmt: skip
        run_filter = filter_of(filters)
        runs = await asyncio.to_thread(hub.services.store.runs, run_filter, cursor=cursor or None, limit=_PAGE)
        return page(
            request,
            "runs.html",
            runs=runs.items,
            next=runs.next,
            filters=filters,
            states=list(RunState),
            triggers=get_args(RunTrigger),
            by_cost=run_filter.min_cost is not None,
        )

    @get("/runs/{run_id:str}", opt=role("viewer"))
    async def run_page(
        self,
        run_id: FromPath[str],
        request: Incoming,
        hub: InjectedHub,
        tab: FromQuery[Tab] = "transcript",
        after: Position = None,
        before: Position = None,
    ) -> Response[str]:
        """Show one run. Log and transcript are shown from their end, from the line after a cursor, or up to the line before
        one."""
        values = await asyncio.to_thread(_read, hub, run_id, tab, after, before)
        return page(request, "run.html", tab=tab, tabs=Tab.__args__, **values)  # type: ignore[attr-defined]

    @post("/runs/{run_id:str}/cancel", status_code=303, opt=role("operator"))
    async def cancel_on_page(self, run_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[None]:
        """Cancel the run."""
        await hub.cancel(run_id, request.state.actor)
        return redirect(f"/runs/{run_id}")

    @post("/runs/{run_id:str}/rerun", status_code=303, opt=role("operator"))
    async def rerun_on_page(self, run_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[None]:
        """Start the same again as a new run, and lead to it."""
        try:
            accepted = await hub.rerun(run_id, request.state.actor, datetime.now(UTC))
        except Duplicate as err:
            return redirect(f"/runs/{err.run_id}")
        return redirect(f"/runs/{accepted.run_id}")

    @post("/runs/{run_id:str}/retry", status_code=303, opt=role("operator"))
    async def retry_on_page(self, run_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[None]:
        """Start the failed run again."""
        await hub.retry(run_id, request.state.actor)
        return redirect(f"/runs/{run_id}")

    @post("/runs/bulk", status_code=200, opt=role("operator"))
    async def bulk_page(self, request: Incoming, hub: InjectedHub) -> Response[str]:
        """Show what an act would be done on: the chosen runs, or all that match the filters. Nothing is done yet."""
        form = await read_form(request)
        act, _, scope = form.get("act", "").partition(" ")
        filters = {name: form[name] for name in _FILTERS if form.get(name)}
        run_ids = [name.removeprefix(_CHOSEN) for name in form if name.startswith(_CHOSEN)]
        plan = await asyncio.to_thread(_plan, hub, _act(act), run_ids, filters if scope == "all" else None)
        back = "/runs" + (f"?{urlencode(filters)}" if filters else "")
        return page(request, "bulk.html", plan=plan, back=back, limit=MAX_BULK_RUNS)

    @post("/runs/bulk/confirm", status_code=200, opt=role("operator"))
    async def confirm_bulk_page(self, request: Incoming, hub: InjectedHub) -> Response[str]:
        """Do the act on the runs that were shown, and show on which it was done."""
        form = await read_form(request)
        act, runs, back = _act(form.get("act", "")), form.get("runs", "").split(), form.get("back", "")
        if len(runs) > MAX_BULK_RUNS:
            raise Invalid("too many runs", [Problem("/runs", f"choose {MAX_BULK_RUNS} at most")])
        changed_ids, refusals = await do_bulk(hub, act, runs, request.state.actor)
        is_ours = back == "/runs" or (back.startswith("/runs?") and back.isprintable())
        return page(request, "bulk_done.html", act=act, done=changed_ids, refused=refusals, back=back if is_ours else "/runs")


def _read(hub: Hub, run_id: str, tab: Tab, after: int | None, before: int | None) -> dict[str, Any]:
    store = hub.services.store
    run = store.run(run_id)
    attempts = store.attempts(run_id)
    values: dict[str, Any] = {
        "run": run,
        "attempts": attempts,
        "origin": attempts[-1].cost_origin if attempts else "",
        "commit": commit_of_run(store, run),
        "hold": hub.hold_of(run),
        "is_open": not run.state.terminal,
    }
    if run.state is RunState.FAILED:
        failure = explain_failure(store, run, attempts)
        call = None if failure.last_call is None else transcript.turns([failure.last_call])[0].blocks[0]
        values |= {"failure": failure, "last_lines": transcript.fit(failure.lines, from_end=True), "call": call}
    if tab == "log":
        end = store.last_line(run_id)
        first = max(0, end - _LINES) if after is None else after
        lines = transcript.fit(store.log(run_id, after=first, limit=_LINES), from_end=after is None)
        first, last = (lines[0].seq - 1, lines[-1].seq) if lines else (first, first)
        starts = json.dumps([(attempt.number, _first_line(hub, run_id, attempt.number, end)) for attempt in attempts])
        values |= {"lines": lines, "first": first, "last": last, "most": _LINES, "end": end, "starts": starts}
    elif tab == "transcript":
        conversation = transcript.read(store, run_id, before=before, after=after)
        values |= {
            "turns": conversation.turns,
            "first": conversation.first,
            "last": conversation.last,
            "is_last": conversation.last >= conversation.end,
        }
    elif tab == "prompt":
        values |= {"prompt": store.prompt(run_id), "params": json.dumps(dict(run.params), indent=2, ensure_ascii=False)}
    elif tab == "events":
        values["events"] = store.events(run_id)
    values["result"] = None if run.output is None else json.dumps(run.output, indent=2, ensure_ascii=False)
    return values


def _first_line(hub: Hub, run_id: str, attempt: int, end: int) -> int:
    """Return the cursor of the first line of an attempt, or of the next one, found by halves: attempts follow each other."""

    def attempt_of(seq: int) -> int:
        return hub.services.store.log(run_id, after=seq - 1, limit=1)[0].attempt

    return 1 if attempt == 1 else bisect_left(range(1, end + 1), attempt, key=attempt_of) + 1


def _act(text: str) -> BulkAct:
    for act in STATES:
        if text == act:
            return act
    raise Invalid("the form names no act", [Problem("/act", f"must be one of {', '.join(STATES)}")])


def _plan(hub: Hub, act: BulkAct, run_ids: list[str], filters: dict[str, str] | None) -> BulkPlan:
    store = hub.services.store
    if filters is not None:
        return plan_of_filter(store, act, filter_of(filters))
    if len(run_ids) > MAX_BULK_RUNS:
        raise Invalid("too many runs", [Problem("/runs", f"choose {MAX_BULK_RUNS} at most")])
    return plan_of_runs(store, act, run_ids)
