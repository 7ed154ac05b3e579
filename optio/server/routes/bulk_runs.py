"""The route of acts on many runs."""

import asyncio

import msgspec
from litestar import Controller, post

from optio.errors import Invalid, Problem
from optio.server import request_body
from optio.server.auth import role
from optio.server.bodies.bulk import ActOnRuns, BulkResultBody
from optio.server.bulk_runs import do_bulk, plan_of_filter, plan_of_runs
from optio.server.dependencies import Incoming, InjectedHub
from optio.server.run_filters import filter_of


class BulkRunController(Controller):
    """The route `/api/runs/bulk`."""

    tags = ("runs",)

    @post(
        "/api/runs/bulk",
        status_code=200,
        opt=role("operator"),
        body=ActOnRuns,
        body_required=True,
        examples=[
            {"act": "retry", "where": {"task": "hello", "reason": "timeout"}, "dryRun": True},
            {"act": "cancel", "runs": ["01a22c44-8ea2-7609-ae19-e8040f3234e1"]},
        ],
    )
    async def bulk_runs(self, request: Incoming, hub: InjectedHub) -> BulkResultBody:
        """Cancel or retry many runs: those of `runs`, or the newest that fit `where`, 200 at most. With `{"dryRun": true}` the
        answer tells which, and nothing is done. Runs that ended or changed meanwhile are listed under `refused`."""
        act = await request_body.read_as(request, hub, ActOnRuns)
        if (act.runs is None) is (act.where is None):
            raise Invalid("invalid request", [Problem("/runs", "give either `runs` or `where`")])
        store = hub.services.store
        if act.runs is not None:
            plan = await asyncio.to_thread(plan_of_runs, store, act.act, act.runs)
        else:
            filters = filter_of(msgspec.to_builtins(act.where), "where/")
            plan = await asyncio.to_thread(plan_of_filter, store, act.act, filters)
        changed_ids, refusals = [run.id for run in plan.runs], list(plan.refused)
        if not act.dry_run:
            changed_ids, new_refusals = await do_bulk(hub, act.act, changed_ids, request.state.actor)
            refusals += new_refusals
        return BulkResultBody(act=act.act, dry_run=act.dry_run, runs=changed_ids, refused=refusals, more=plan.more)
