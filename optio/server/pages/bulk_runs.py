"""Pages of acts on many runs: what would be done, and what was done."""

import asyncio
from urllib.parse import urlencode

from litestar import Response, post

from optio.errors import Invalid, Problem
from optio.server.auth import role
from optio.server.bodies.bulk import MAX_BULK_RUNS, BulkAct
from optio.server.bulk_runs import STATES, BulkPlan, do_bulk, plan_of_filter, plan_of_runs
from optio.server.dependencies import Hub, Incoming, InjectedHub
from optio.server.pages.login import read_form
from optio.server.pages.rendering import Pages, page
from optio.server.run_filters import filter_of

_CHOSEN = "run."
_FILTERS = ("task", "state", "reason", "trigger", "since", "until", "minCost", "id")


class BulkRunPages(Pages):
    """Routes of `/runs/bulk`."""

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
