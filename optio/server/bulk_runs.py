"""Acts on many runs: which runs an act would be done on, and doing it. Used by `POST /api/runs/bulk` and the pages of runs.

A plan names each run. Whoever confirms it acts on these runs and no others, however many have come to fit the filter since.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from optio.errors import NotFound, OptioError
from optio.model.run import Run, RunState
from optio.server.bodies.runs import MAX_BULK_RUNS, BulkAct, RefusedRunBody
from optio.server.dependencies import Hub
from optio.store.base import RunReader
from optio.store.values import RunFilter

STATES: Mapping[BulkAct, Sequence[RunState]] = {
    "cancel": (RunState.QUEUED, RunState.RUNNING),
    "retry": (RunState.FAILED,),
}
# The store commits together what comes together.
_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkPlan:
    """The runs on which an act would be done, newest first, and those that refuse it. `more` says that others fit, too."""

    act: BulkAct
    runs: Sequence[Run]
    refused: Sequence[RefusedRunBody] = field(default_factory=list)
    more: bool = False


def plan_of_filter(store: RunReader, act: BulkAct, filters: RunFilter) -> BulkPlan:
    """Return the plan for the newest runs that fit a filter and are in a state that the act is for."""
    runs: list[Run] = []
    has_more = False
    for state in STATES[act]:
        if filters.state not in (None, state):
            continue
        cursor: str | None = None
        # A page of a filter by cost may be short although others follow.
        while len(runs) <= MAX_BULK_RUNS:
            page = store.runs(replace(filters, state=state), cursor=cursor, limit=MAX_BULK_RUNS + 1)
            runs += page.items
            cursor = page.next
            if cursor is None or filters.min_cost is not None:
                has_more = has_more or cursor is not None
                break
    runs.sort(key=lambda run: -run.seq)
    return BulkPlan(act=act, runs=runs[:MAX_BULK_RUNS], more=has_more or len(runs) > MAX_BULK_RUNS)


def plan_of_runs(store: RunReader, act: BulkAct, run_ids: Sequence[str]) -> BulkPlan:
    """Return the plan for these runs, each once."""
    runs, refusals = [], []
    for run_id in dict.fromkeys(run_ids):
        try:
            run = store.run(run_id)
        except NotFound as err:
            refusals.append(RefusedRunBody(id=run_id, message=str(err)))
            continue
        if run.state in STATES[act]:
            runs.append(run)
        else:
            refusals.append(RefusedRunBody(id=run_id, message=_cure(act, run)))
    return BulkPlan(act=act, runs=runs, refused=refusals)


def _cure(act: BulkAct, run: Run) -> str:
    return f"the run is {run.state}: only {'queued and running runs' if act == 'cancel' else 'failed runs'} can be " + (
        "cancelled" if act == "cancel" else "retried"
    )


async def do_bulk(hub: Hub, act: BulkAct, run_ids: Sequence[str], actor: str) -> tuple[list[str], list[RefusedRunBody]]:
    """Do the act on each run, and return the ids of those that took it, and the others with the reason."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def do(run_id: str) -> str | None:
        async with slots:
            try:
                await (hub.cancel if act == "cancel" else hub.retry)(run_id, actor)
            except OptioError as err:
                return str(err)
            return None

    ids = list(dict.fromkeys(run_ids))
    results = await asyncio.gather(*(do(run_id) for run_id in ids))
    changed_ids = [run_id for run_id, problem in zip(ids, results, strict=True) if problem is None]
    refusals = [
        RefusedRunBody(id=run_id, message=problem) for run_id, problem in zip(ids, results, strict=True) if problem is not None
    ]
    return changed_ids, refusals
