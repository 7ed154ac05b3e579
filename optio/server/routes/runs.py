"""Routes of runs: start, list, show, cancel, retry, rerun and delete. A run is called a workflow run in URLs."""

import asyncio
import hashlib
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar import Controller, Response, delete, get, post
from litestar.di import NamedDependency, Provide
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, QueryParameter

from optio.errors import Invalid, Problem
from optio.model.run import RunState, RunTrigger
from optio.runs.failure import explain_failure
from optio.runs.submit import prepare_run
from optio.server import request_body, serializers
from optio.server.auth import role
from optio.server.bodies.runs import (
    ActOnRuns,
    BulkResultBody,
    RerunRun,
    RunDetailsBody,
    RunFailureBody,
    RunPageBody,
    StartedRunBody,
    StartRun,
)
from optio.server.bulk_runs import do_bulk, plan_of_filter, plan_of_runs
from optio.server.dependencies import Hub, Incoming, InjectedHub
from optio.server.read_models.generations import commit_of_run
from optio.server.run_filters import cost_of, filter_of
from optio.store.values import Accepted, IdempotencyKey, RunFilter

log = logging.getLogger(__name__)

# `state` itself is a reserved name of the framework.
State = Annotated[RunState | None, QueryParameter(name="state")]
Beginning = Annotated[
    str | None,
    QueryParameter(
        name="id", max_length=36, description="only those whose id begins so, newest ids first; a whole id is a beginning, too"
    ),
]
Cursor = Annotated[str | None, QueryParameter(min_length=1, description="the `next` of the page before")]
Reason = Annotated[str | None, QueryParameter(max_length=100, description="only those in a state for this reason")]
Since = Annotated[datetime | None, QueryParameter(description="only those since then, with a time zone")]
Until = Annotated[datetime | None, QueryParameter(description="only those up to then, with a time zone")]
MinCost = Annotated[
    str | None,
    QueryParameter(
        name="minCost",
        pattern=r"^[0-9]{1,9}(\.[0-9]{1,4})?$",
        description="only those with at least this known cost in US dollars; a page may then be short although others follow",
    ),
]
Limit = Annotated[int, QueryParameter(ge=1, le=200, description="most runs in the answer")]


def run_filter(
    state_name: State = None,
    trigger: FromQuery[RunTrigger | None] = None,
    reason: Reason = None,
    beginning: Beginning = None,
    since: Since = None,
    until: Until = None,
    min_cost: MinCost = None,
) -> RunFilter:
    """Return the filter that the query parameters of a list of runs say."""
    return RunFilter(
        state=state_name,
        trigger=trigger,
        reason=reason,
        id_prefix=None if beginning is None else beginning.lower(),
        since=since,
        until=until,
        min_cost=cost_of("minCost", min_cost),
    )


_DEPENDENCIES = {"filters": Provide(run_filter, sync_to_thread=False)}


class RunController(Controller):
    """Routes of `/api/workflow-runs`, `/api/runs` and of the runs of a task."""

    tags = ("runs",)
    dependencies = _DEPENDENCIES

    @post(
        "/api/tasks/{task_id:str}/runs",
        status_code=202,
        opt=role("operator"),
        body=StartRun,
        examples=[{"params": {"REPO_NAME": "optio", "FOCUS_AREAS": "CVEs, outdated packages"}}, {}],
        responses={200: ResponseSpec(StartedRunBody, description="The earlier run of this key", generate_examples=False)},
        problems=("conflict", "duplicate", "queue-full"),
        idempotent=True,
        answers_with=("Location", "Idempotency-Replayed"),
    )
    async def start_run(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[StartedRunBody]:
        """Start a run by hand. An empty body, `{}` and `{"params": null}` all mean: no parameters. The same `Idempotency-Key`
        with the same body returns the same run, with status 200 instead of 202. A run with the same business key (the task's
        `dedupe`) is returned likewise, with `duplicate`, or named by a 409, as the task says."""
        requested_at = datetime.now(UTC)
        body = await request_body.read_raw(request, hub.services.settings.max_body_bytes)
        idempotency_key = idempotency_of(request, f"runs:{task_id}", body)
        if (earlier := await _earlier_response(hub, idempotency_key)) is not None:
            return earlier
        snapshot = hub.snapshot
        task = snapshot.registry.task(task_id)
        document = request_body.parse_object(body)
        request_body.refuse_unknown(document, "params", hint="put parameters under `params`")
        run = prepare_run(
            task,
            document.get("params"),
            new_id=hub.new_id(),
            trigger="manual",
            actor=request.state.actor,
            traceparent=request.headers.get("traceparent"),
            generation=snapshot.number,
        )
        return await _start_response(hub, await hub.start(run, idempotency_key, requested_at))

    @get("/api/tasks/{task_id:str}/runs", opt=role("viewer"))
    async def list_task_runs(
        self,
        task_id: FromPath[str],
        hub: InjectedHub,
        filters: NamedDependency[RunFilter],
        cursor: Cursor = None,
        limit: Limit = 50,
    ) -> RunPageBody:
        """List the runs of one task, newest first. A task that is gone still has its runs."""
        run_page = await _page(hub, replace(filters, task_id=task_id), cursor, limit)
        if not run_page.items:
            hub.snapshot.registry.task(task_id)
        return run_page

    @get("/api/runs", opt=role("viewer"))
    async def list_runs(
        self,
        hub: InjectedHub,
        filters: NamedDependency[RunFilter],
        task: FromQuery[str | None] = None,
        cursor: Cursor = None,
        limit: Limit = 50,
    ) -> RunPageBody:
        """List the runs of all tasks, newest first. `id` is the beginning of an id. `since` and `until` bound the time of
        creation; both are times with a time zone."""
        return await _page(hub, replace(filters, task_id=task), cursor, limit)

    @get("/api/workflow-runs/{run_id:str}", opt=role("viewer"))
    async def get_run(self, run_id: FromPath[str], hub: InjectedHub) -> RunDetailsBody:
        """Show a run with its attempts, events, output, cost and tokens."""
        return await asyncio.to_thread(_details, hub, run_id)

    @get("/api/workflow-runs/{run_id:str}/failure", opt=role("viewer"), problems=("conflict",))
    async def explain_failure(self, run_id: FromPath[str], hub: InjectedHub) -> RunFailureBody:
        """Tell why a run failed: what its reason means, the agent's last tool call and lines, and what differs from the last
        good run. The answer is 409 for a run that has not failed."""
        return await asyncio.to_thread(_failure, hub, run_id)

    @post("/api/workflow-runs/{run_id:str}/retry", status_code=202, opt=role("operator"), problems=("conflict", "duplicate"))
    async def retry_run(self, run_id: FromPath[str], request: Incoming, hub: InjectedHub) -> StartedRunBody:
        """Start a failed run again, at once, with its original definition and parameters, all its retries and its whole
        budget."""
        await request_body.read_empty(request, hub)
        return serializers.started_run(await hub.retry(run_id, request.state.actor))

    @post(
        "/api/workflow-runs/{run_id:str}/rerun",
        status_code=202,
        opt=role("operator"),
        body=RerunRun,
        examples=[{}, {"current": True}],
        responses={200: ResponseSpec(StartedRunBody, description="The earlier run of this key", generate_examples=False)},
        problems=("conflict", "duplicate", "queue-full"),
        idempotent=True,
        answers_with=("Location", "Idempotency-Replayed"),
    )
    async def rerun_run(self, run_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[StartedRunBody]:
        """Start a run that has ended again, as a new run with the same parameters. It runs the definition of the earlier run,
        with `{"current": true}` the task as it is served now. Its first event names the earlier run. While the earlier run is
        queued or running, and when its task is not served any more, the answer is 409. Business keys and `Idempotency-Key`
        count as for any run."""
        requested_at = datetime.now(UTC)
        body = await request_body.read_raw(request, hub.services.settings.max_body_bytes)
        current = request_body.as_body(request_body.parse_object(body), RerunRun).current
        idempotency_key = idempotency_of(request, f"rerun:{run_id}", body)
        if (earlier := await _earlier_response(hub, idempotency_key)) is not None:
            return earlier
        accepted = await hub.rerun(
            run_id,
            request.state.actor,
            requested_at,
            current=current,
            idempotency_key=idempotency_key,
            traceparent=request.headers.get("traceparent"),
        )
        return await _start_response(hub, accepted)

    @post("/api/workflow-runs/{run_id:str}/cancel", status_code=202, opt=role("operator"), problems=("conflict",))
    async def cancel_run(self, run_id: FromPath[str], request: Incoming, hub: InjectedHub) -> StartedRunBody:
        """Cancel a queued run, or stop a running one with every process it started."""
        await request_body.read_empty(request, hub)
        return serializers.started_run(await hub.cancel(run_id, request.state.actor))

    @delete("/api/workflow-runs/{run_id:str}", opt=role("admin"), problems=("conflict",))
    async def delete_run(self, run_id: FromPath[str], request: Incoming, hub: InjectedHub) -> None:
        """Delete a run that has ended, with its attempts, events and log. While it is queued or running the answer is 409."""
        await asyncio.to_thread(hub.services.store.delete_run, run_id)
        log.info("run %s was deleted by %s", run_id, request.state.actor, extra={"event": "run_deleted", "run_id": run_id})

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


def idempotency_of(request: Incoming, scope: str, body: bytes) -> IdempotencyKey | None:
    """Return the request's Idempotency-Key, bound to a scope and the body. Raises Invalid for a key that cannot be stored."""
    keys = request.headers.getall("idempotency-key", [])
    if not keys:
        return None
    if len(keys) > 1 or not 0 < len(keys[0]) <= 255 or not keys[0].isprintable():
        raise Invalid("send one Idempotency-Key with 1 to 255 printable characters")
    return IdempotencyKey(scope, keys[0], hashlib.sha256(body).hexdigest())


def _details(hub: Hub, run_id: str) -> RunDetailsBody:
    store = hub.services.store
    run = store.run(run_id)
    parts = store.attempts(run_id), store.events(run_id), store.prompt(run_id), hub.hold_of(run)
    return serializers.run_details(run, *parts, commit_of_run(store, run))


def _failure(hub: Hub, run_id: str) -> RunFailureBody:
    store = hub.services.store
    run = store.run(run_id)
    return serializers.to_body(
        RunFailureBody,
        explain_failure(store, run, store.attempts(run_id)),
        reason=run.reason,
        message=run.message,
    )


async def _page(hub: Hub, run_filter: RunFilter, cursor: str | None, limit: int) -> RunPageBody:
    run_page = await asyncio.to_thread(hub.services.store.runs, run_filter, cursor=cursor, limit=limit)
    return RunPageBody(items=[serializers.run(run) for run in run_page.items], next=run_page.next)


async def _earlier_response(hub: Hub, key: IdempotencyKey | None) -> Response[StartedRunBody] | None:
    """Return the answer of an earlier request with the same key."""
    run_id = None if key is None else await asyncio.to_thread(hub.services.store.recall, key)
    return None if run_id is None else await _start_response(hub, Accepted(run_id, first=False))


async def _start_response(hub: Hub, accepted: Accepted) -> Response[StartedRunBody]:
    run = await asyncio.to_thread(hub.services.store.run, accepted.run_id or "")
    headers = {"Location": f"/api/workflow-runs/{run.id}"}
    if not accepted.first and not accepted.duplicate:
        headers["Idempotency-Replayed"] = "true"
    content = serializers.started_run(run, duplicate=accepted.duplicate)
    return Response(content, status_code=202 if accepted.first else 200, headers=headers)
