"""Routes of tasks: read them as they are served, change their files, pause them, and list what their schedules did."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, QueryParameter

from optio.broker.base import Topic
from optio.errors import Conflict, Invalid, NotFound, Problem, StoreUnavailable
from optio.model import isolation
from optio.model.registry import CompiledTask, Registry
from optio.server import request_body, serializers
from optio.server.auth import role
from optio.server.bodies import (
    MAX_REASON_LENGTH,
    DefinitionBody,
    NewTask,
    NewTrigger,
    PausedTaskBody,
    PauseTask,
    SlotPageBody,
    TaskBody,
    TaskPageBody,
    TaskPatch,
    TriggerBody,
    TriggerListBody,
    WarningBody,
    WrittenTaskBody,
    WrittenTriggerBody,
)
from optio.server.dependencies import Hub
from optio.server.loop_bridge import read_small
from optio.server.problems import HttpProblem
from optio.server.routes.removals import release
from optio.server.routes.runs import Cursor, Since, Until, idempotency_of, refuse_unknown, require_zone
from optio.store.values import IdempotencyKey, Pause, RunFilter, SlotFilter, SlotOutcome
from optio.tree.served import Snapshot
from optio.tree.writer import StaleTask, WriteResult

TaskLimit = Annotated[int | None, QueryParameter(ge=1, le=1000, description="most tasks in the answer")]
Limit = Annotated[int, QueryParameter(ge=1, le=200, description="most slots in the answer")]
Incoming = Request[Any, Any, Any]
REPLAYED = "The earlier result of this key"
# The problems of a change of a task that exists.
_CHANGE = ("conflict", "writes-denied", "stale-task", "secret-unavailable")
# The examples of the documentation.
_TASK = {
    "type": "standalone",
    "name": "Weekly Security Report",
    "description": "Scans dependencies and generates a vulnerability summary",
    "agentRuntime": "claude-code",
    "model": "sonnet",
    "promptTemplate": (
        "Analyze the dependency list for {{REPO_NAME}} and produce a security report. Focus on: {{FOCUS_AREAS}}"
    ),
    "paramsSchema": {
        "type": "object",
        "properties": {
            "REPO_NAME": {"type": "string"},
            "FOCUS_AREAS": {"type": "string", "default": "CVEs, outdated packages, license issues"},
        },
        "required": ["REPO_NAME"],
    },
    "maxTurns": 20,
    "maxRetries": 2,
    "maxConcurrent": 1,
}
_SCHEDULE = {"type": "schedule", "config": {"cronExpression": "0 9 * * 1", "paramMapping": {"REPO_NAME": "optio"}}}
_WEBHOOK = {
    "type": "webhook",
    "config": {"path": "security-scan", "secret": "whsec_...", "paramMapping": {"REPO_NAME": "$.repository.name"}},
}


class TaskController(Controller):
    """Routes of `/api/tasks` and `/api/definitions`."""

    tags = ("tasks",)

    @get("/api/tasks", opt=role("viewer"))
    async def list_tasks(self, hub: NamedDependency[Hub], cursor: Cursor = None, limit: TaskLimit = None) -> TaskPageBody:
        """List the tasks of the served generation, by id: all of them, unless `limit` asks for a page."""
        snapshot, pauses = hub.live.current, await _pauses(hub)
        if cursor is not None or limit is not None:
            return serializers.task_page(snapshot, pauses, after=cursor or "", limit=limit)
        items: Any = hub.task_list.encoded(snapshot, pauses)
        return TaskPageBody(items=items, next=None, generation=snapshot.number)

    @post(
        "/api/tasks",
        status_code=201,
        opt=role("admin"),
        body=NewTask,
        examples=[_TASK],
        body_required=True,
        responses={200: ResponseSpec(WrittenTaskBody, description=REPLAYED, generate_examples=False)},
        problems=("conflict", "writes-denied", "secret-unavailable"),
        idempotent=True,
        answers_with=("ETag", "Location"),
    )
    async def create_task(self, request: Incoming, hub: NamedDependency[Hub]) -> Response[WrittenTaskBody]:
        """Write a file for a new task, and serve it. Compiler warnings are listed under `warnings`. The same `Idempotency-Key`
        with the same body returns the first answer again, with status 200."""
        document, once = await _received(request, hub, "tasks")

        def write() -> WriteResult:
            snapshot = hub.live.current
            # A new file for a held task brings the task back.
            filed = {task.id: task for task in snapshot.registry.tasks.values() if task.id not in snapshot.held}
            return hub.files.create(document, Registry.of(filed))

        async with hub.turn:
            return await _first_answer(hub, once) or await _written(hub, write, once, _task_answer(await _pauses(hub)))

    @get("/api/tasks/{task_id:str}", opt=role("viewer"), answers_with=("ETag",))
    async def get_task(self, task_id: FromPath[str], hub: NamedDependency[Hub]) -> Response[TaskBody]:
        """Show one task. Its `ETag` is its digest: send it as `If-Match` with a change."""
        snapshot = hub.live.current
        task = snapshot.registry.task(task_id)
        paused = (await _pauses(hub)).get(task_id)
        return Response(serializers.task(task, snapshot, paused), headers={"ETag": f'"{task.digest}"'})

    @get("/api/definitions/{digest:str}", opt=role("viewer"))
    async def get_definition(self, digest: FromPath[str], hub: NamedDependency[Hub]) -> DefinitionBody:
        """Show the definition with this digest, whether it is still served or not. A run names its definition under
        `definition`."""
        return serializers.definition(await asyncio.to_thread(hub.services.store.definition, digest))

    @patch(
        "/api/tasks/{task_id:str}",
        opt=role("admin"),
        body=TaskPatch,
        examples=[{"maxTurns": 10, "description": None}],
        problems=_CHANGE,
        answers_with=("ETag",),
    )
    async def update_task(
        self, task_id: FromPath[str], request: Incoming, hub: NamedDependency[Hub]
    ) -> Response[WrittenTaskBody]:
        """Change the task's file by a JSON Merge Patch (RFC 7396): members replace those of the file, null removes them."""
        document, _ = await _received(request, hub, None)
        digests = _digests(request)
        async with hub.turn:
            task = _with_file(hub, task_id)
            answer = _task_answer(await _pauses(hub))
            return await _written(hub, lambda: hub.files.patch(task, document, digests), None, answer, status=200)

    @delete("/api/tasks/{task_id:str}", status_code=204, opt=role("admin"), problems=_CHANGE)
    async def delete_task(self, task_id: FromPath[str], request: Incoming, hub: NamedDependency[Hub]) -> None:
        """Delete the task's file. Its triggers end at once; queued and running runs finish with the definition they have. If
        the file is already gone and the removal is held, the task is released."""
        digests = _digests(request)
        async with hub.turn:
            task = hub.live.current.registry.task(task_id)
            if task_id in hub.live.current.held:
                if digests is not None and task.digest not in digests and "*" not in digests:
                    raise HttpProblem("stale-task", f"the task `{task_id}` has the digest {task.digest} now")
                await release(hub, (task_id,), request.state.actor)
            else:
                await _done(hub, lambda: hub.files.delete(task, digests))
                # Other servers of this tree see the file disappear, and must not hold its task, which is gone here in any case.
                with contextlib.suppress(StoreUnavailable):
                    await asyncio.to_thread(hub.services.store.release_removals, [task_id], request.state.actor)

    @post(
        "/api/tasks/{task_id:str}/pause",
        status_code=200,
        opt=role("operator"),
        body=PauseTask,
        examples=[{"reason": "the API is down"}, {}],
    )
    async def pause_task(self, task_id: FromPath[str], request: Incoming, hub: NamedDependency[Hub]) -> PausedTaskBody:
        """Pause a task until it is resumed: triggers are accepted, new runs wait, running ones continue. A pause outlasts
        restarts and edits. `{"reason": "..."}` is shown to everybody who asks why a run waits."""
        document = request_body.parse_object(await request_body.read_raw(request, hub.services.settings.max_body_bytes))
        refuse_unknown(document, "reason")
        reason = document.get("reason")
        reason = "" if reason is None else reason
        if not isinstance(reason, str) or len(reason) > MAX_REASON_LENGTH or not reason.isprintable():
            problem = Problem("/reason", f"must be a line of text with at most {MAX_REASON_LENGTH} characters")
            raise Invalid("invalid reason", [problem])
        store = hub.services.store
        if task_id not in hub.live.current.registry.tasks:
            # A task that is gone may have queued runs that nobody wants to start.
            page = await asyncio.to_thread(store.runs, RunFilter(task_id=task_id), limit=1)
            if not page.items:
                hub.live.current.registry.task(task_id)
        paused = await asyncio.to_thread(store.pause, task_id, reason, request.state.actor)
        return PausedTaskBody(id=task_id, paused=serializers.pause(paused))

    @post("/api/tasks/{task_id:str}/resume", status_code=200, opt=role("operator"))
    async def resume_task(self, task_id: FromPath[str], request: Incoming, hub: NamedDependency[Hub]) -> PausedTaskBody:
        """End the task's pause: runs that wait for nothing else start at once."""
        refuse_unknown(request_body.parse_object(await request_body.read_raw(request, hub.services.settings.max_body_bytes)))
        ended = await asyncio.to_thread(hub.services.store.resume, task_id)
        if ended is None:
            hub.live.current.registry.task(task_id)
        hub.services.broker.tell(Topic.QUEUE)
        return PausedTaskBody(id=task_id, paused=None)

    @get("/api/tasks/{task_id:str}/triggers", opt=role("viewer"))
    async def list_triggers(self, task_id: FromPath[str], hub: NamedDependency[Hub]) -> TriggerListBody:
        """List the triggers of a task, at most one of each type."""
        return TriggerListBody(items=serializers.triggers(hub.live.current.registry.task(task_id)), next=None)

    @get("/api/tasks/{task_id:str}/slots", opt=role("viewer"))
    async def list_slots(
        self,
        task_id: FromPath[str],
        hub: NamedDependency[Hub],
        verdict: FromQuery[SlotOutcome | None] = None,
        since: Since = None,
        until: Until = None,
        cursor: Cursor = None,
        limit: Limit = 50,
    ) -> SlotPageBody:
        """List the times of the task's schedule, newest first, each with the run that it started, or why it started none. Where
        many were missed in a row, the older ones are one item with their number. A task that is gone still has its slots."""
        where = SlotFilter(verdict=verdict, since=require_zone("since", since), until=require_zone("until", until))
        found = await asyncio.to_thread(hub.services.store.slots, task_id, where, cursor=cursor, limit=limit)
        if not found.items and cursor is None:
            hub.live.current.registry.task(task_id)
        return serializers.slot_page(found)

    @post(
        "/api/tasks/{task_id:str}/triggers",
        status_code=201,
        opt=role("admin"),
        body=NewTrigger,
        examples=[_SCHEDULE, _WEBHOOK],
        body_required=True,
        responses={
            200: ResponseSpec(WrittenTriggerBody, description=REPLAYED, generate_examples=False)  # type: ignore[arg-type]
        },
        problems=("conflict", "writes-denied", "secret-unavailable"),
        idempotent=True,
        answers_with=("ETag", "Location"),
    )
    async def add_trigger(
        self, task_id: FromPath[str], request: Incoming, hub: NamedDependency[Hub]
    ) -> Response[WrittenTriggerBody]:
        """Add a trigger to the task. A webhook's `secret` may be sent as text: it is stored separately, its name goes into the
        file, and no answer ever contains it. `Idempotency-Key` works as for tasks."""
        document, once = await _received(request, hub, f"triggers:{task_id}")
        kind = str(document.get("type"))

        def answer(snapshot: Snapshot, written: WriteResult) -> tuple[str, str, Any]:
            task = snapshot.registry.task(task_id)
            return f"/api/tasks/{task_id}/triggers/{kind}", task.digest, _trigger(task, kind)

        async with hub.turn:
            known = await _first_answer(hub, once)
            if known is not None:
                return known
            task = _with_file(hub, task_id)
            return await _written(hub, lambda: hub.files.add_trigger(task, document), once, answer)

    @get("/api/tasks/{task_id:str}/triggers/{kind:str}", opt=role("viewer"))
    async def get_trigger(self, task_id: FromPath[str], kind: FromPath[str], hub: NamedDependency[Hub]) -> TriggerBody:
        """Show the trigger of this type."""
        found: TriggerBody = _trigger(hub.live.current.registry.task(task_id), kind)
        return found

    @delete("/api/tasks/{task_id:str}/triggers/{kind:str}", status_code=204, opt=role("admin"), problems=_CHANGE)
    async def delete_trigger(
        self, task_id: FromPath[str], kind: FromPath[str], request: Incoming, hub: NamedDependency[Hub]
    ) -> None:
        """Remove the trigger of this type from the task's file."""
        digests = _digests(request)
        async with hub.turn:
            task = _with_file(hub, task_id)
            await _done(hub, lambda: hub.files.remove_trigger(task, kind, digests))


def _with_file(hub: Hub, task_id: str) -> CompiledTask:
    """Return a task whose file can be changed. Raises NotFound, and Conflict for a held task, which has no file."""
    task = hub.live.current.registry.task(task_id)
    if task_id in hub.live.current.held:
        cure = f"put it back, or remove the task with DELETE /api/tasks/{task_id}"
        raise Conflict(f"the file of the task `{task_id}` is gone (`{task.origin.path}`) and its removal is held: {cure}")
    return task


def _trigger(task: CompiledTask, kind: str) -> Any:
    shown: list[Any] = [*serializers.triggers(task)]
    found = next((trigger for trigger in shown if trigger["type"] == kind), None)
    if found is None:
        raise NotFound("trigger", kind)
    return found


async def _received(request: Incoming, hub: Hub, scope: str | None) -> tuple[dict[str, Any], IdempotencyKey | None]:
    body = await request_body.read_raw(request, hub.services.settings.max_body_bytes)
    once = None if scope is None else idempotency_of(request, scope, body)
    return request_body.parse_object(body), once


async def _first_answer(hub: Hub, once: IdempotencyKey | None) -> Response[Any] | None:
    known = None if once is None else await asyncio.to_thread(hub.services.store.recall, once)
    if known is None:
        return None
    kept = msgspec.json.decode(known)
    return Response(kept["content"], status_code=200, headers=kept["headers"])


async def _pauses(hub: Hub) -> dict[str, Pause]:
    return await read_small(hub.services.store, hub.services.store.pauses)


def _task_answer(pauses: Mapping[str, Pause]) -> Callable[[Snapshot, WriteResult], tuple[str, str, Any]]:
    def answer(snapshot: Snapshot, written: WriteResult) -> tuple[str, str, Any]:
        task = snapshot.registry.task(written.task_id)
        return f"/api/tasks/{task.id}", task.digest, serializers.task(task, snapshot, pauses.get(task.id))

    return answer


async def _written(
    hub: Hub,
    write: Callable[[], WriteResult],
    once: IdempotencyKey | None,
    answer: Callable[[Snapshot, WriteResult], tuple[str, str, Any]],
    *,
    status: int = 201,
) -> Response[Any]:
    """Write a file, serve the result, and answer with what is served then."""
    written = await _done(hub, write)
    location, digest, content = answer(hub.live.current, written)
    content = {**content, "warnings": [_warning(problem) for problem in (*written.warnings, *_not_applied(hub, written))]}
    headers = {"ETag": f'"{digest}"', **({"Location": location} if status == 201 else {})}
    if once is not None:
        kept = msgspec.json.encode({"content": content, "headers": headers}).decode()
        await asyncio.to_thread(hub.services.store.remember, once, kept)
    return Response(content, status_code=status, headers=headers)


async def _done(hub: Hub, write: Callable[[], WriteResult]) -> WriteResult:
    # If the store is unavailable, the file would be written but not served.
    await asyncio.to_thread(hub.services.store.check)
    drift = hub.live.current.drift
    if drift is not None:
        raise Conflict(f"{drift.summary}: {drift.cure}; or change the task through a server that is in sync")
    try:
        written = await asyncio.to_thread(write)
    except StaleTask as err:
        raise HttpProblem("stale-task", str(err)) from err
    try:
        await hub.reload([written.path])
    except StoreUnavailable as err:
        raise StoreUnavailable(f"`{written.path}` is written, and will be served as soon as the store is back: {err}") from err
    if hub.live.current.drift is not None:
        raise Conflict(
            f"`{written.path}` is written but not served, because another server was faster: {hub.live.current.drift.cure}"
        )
    return written


def _not_applied(hub: Hub, written: WriteResult) -> list[Problem]:
    """Return a warning for each part of the task's environment that this installation's executor does not apply."""
    task = hub.live.current.registry.tasks[written.task_id]
    return [
        Problem(f"/environment/{name}", text, code="OPT523", hint="set OPTIO_EXECUTOR=kubernetes to run agents as pods")
        for name in isolation.requested_keys(task.spec.environment)
        for text in hub.services.executor.not_applied([name])
    ]


def _warning(problem: Problem) -> WarningBody:
    return WarningBody(pointer=problem.pointer, message=problem.message, code=problem.code, hint=problem.hint)


def _digests(request: Incoming) -> Collection[str] | None:
    """Return the digests of `If-Match`, or None without that header."""
    given = request.headers.get("if-match")
    if given is None:
        return None
    digests = {one.strip().removeprefix("W/") for one in given.split(",")}
    if not all(re.fullmatch(r'[*]|"[^"]+"', one) for one in digests):
        raise Invalid('If-Match must be `*` or digests in double quotes: `"sha256:..."`')
    return {one.strip('"') for one in digests}
