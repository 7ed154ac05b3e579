"""The route of acts on many runs."""

import asyncio
from typing import Any

import msgspec
from litestar import Controller, Request, post
from litestar.di import NamedDependency

from optio.errors import Invalid, Problem
from optio.server import request_body
from optio.server.auth import role
from optio.server.bodies.bulk import ActOnRuns, BulkFilter, BulkResultBody
from optio.server.bulk_runs import do_bulk, plan_of_filter, plan_of_runs
from optio.server.dependencies import Hub
from optio.server.run_filters import cost_of, time_of
from optio.store.values import RunFilter


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
    async def bulk_runs(self, request: Request[Any, Any, Any], hub: NamedDependency[Hub]) -> BulkResultBody:
        """Cancel or retry many runs: those of `runs`, or the newest that fit `where`, 200 at most. With `{"dryRun": true}` the
        answer tells which, and nothing is done. Runs that ended or changed meanwhile are listed under `refused`."""
        document = request_body.parse_object(await request_body.read_raw(request, hub.services.settings.max_body_bytes))
        asked = _asked(document)
        store = hub.services.store
        if asked.runs is not None:
            plan = await asyncio.to_thread(plan_of_runs, store, asked.act, asked.runs)
        else:
            plan = await asyncio.to_thread(plan_of_filter, store, asked.act, _filter(asked.where or BulkFilter()))
        done, refused = [run.id for run in plan.runs], list(plan.refused)
        if not asked.dry_run:
            done, others = await do_bulk(hub, asked.act, done, request.state.actor)
            refused += others
        return BulkResultBody(act=asked.act, dry_run=asked.dry_run, runs=done, refused=refused, more=plan.more)


def _asked(document: dict[str, Any]) -> ActOnRuns:
    try:
        asked = msgspec.convert(document, ActOnRuns)
    except msgspec.ValidationError as err:
        message, _, place = str(err).partition(" - at `$")
        raise Invalid("invalid request", [Problem(place.rstrip("`").replace(".", "/"), message)]) from err
    if (asked.runs is None) is (asked.where is None):
        raise Invalid("invalid request", [Problem("/runs", "give either `runs` or `where`")])
    return asked


def _filter(where: BulkFilter) -> RunFilter:
    return RunFilter(
        task_id=where.task,
        state=where.state,
        trigger=where.trigger,
        reason=where.reason,
        since=time_of("where/since", where.since),
        until=time_of("where/until", where.until),
        min_cost=cost_of("where/minCost", where.min_cost),
    )
