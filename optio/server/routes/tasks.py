"""Routes of tasks: read them as they are served, change their files, run their tests, pause them, and list what their schedules
did."""

import asyncio
import re
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

import msgspec
from litestar import Controller, Response, delete, get, patch, post, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, QueryParameter

from optio.broker.base import Topic
from optio.errors import Invalid, NotFound, Problem
from optio.model.registry import CompiledTask
from optio.server import request_body, serializers
from optio.server.answers.task_details import read_origins, run_tests_of
from optio.server.auth import role
from optio.server.bodies.base import MAX_REASON_LENGTH
from optio.server.bodies.drafts import TaskFileBody, TriggerPatch, WriteTaskFile
from optio.server.bodies.tasks import (
    DefinitionBody,
    NewTask,
    NewTrigger,
    PauseBody,
    PausedTaskBody,
    PauseTask,
    SlotPageBody,
    TaskBody,
    TaskPageBody,
    TaskPatch,
    TestListBody,
    TriggerBody,
    TriggerListBody,
    ValueOriginListBody,
    WarningBody,
    WrittenTaskBody,
    WrittenTriggerBody,
)
from optio.server.dependencies import Hub, Incoming, InjectedHub
from optio.server.loop_bridge import read_small
from optio.server.routes.runs import Cursor, Since, Until, idempotency_of
from optio.server.task_changes import delete_task, filed_tasks, put_text, warnings_of, with_file, write_file
from optio.store.values import IdempotencyKey, Pause, RunFilter, SlotFilter, SlotOutcome
from optio.tree.writer import TaskFile, WriteResult

TaskLimit = Annotated[int | None, QueryParameter(ge=1, le=1000, description="most tasks in the answer")]
Limit = Annotated[int, QueryParameter(ge=1, le=200, description="most slots in the answer")]
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
    async def list_tasks(self, hub: InjectedHub, cursor: Cursor = None, limit: TaskLimit = None) -> TaskPageBody:
        """List the tasks of the served generation, by id: all of them, unless `limit` asks for a page."""
        snapshot, pauses = hub.snapshot, await _pauses(hub)
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
    async def create_task(self, request: Incoming, hub: InjectedHub) -> Response[WrittenTaskBody]:
        """Write a file for a new task, and serve it. Compiler warnings are listed under `warnings`. The same `Idempotency-Key`
        with the same body returns the first answer again, with status 200."""
        document, idempotency_key = await _received(request, hub, "tasks")
        async with hub.write_lock:
            return await _first_answer(hub, idempotency_key) or await _write_response(
                hub, lambda: hub.task_writer.create(document, filed_tasks(hub.snapshot)), idempotency_key=idempotency_key
            )

    @get("/api/tasks/{task_id:str}", opt=role("viewer"), answers_with=("ETag",))
    async def get_task(self, task_id: FromPath[str], hub: InjectedHub) -> Response[TaskBody]:
        """Show one task. Its `ETag` is its digest: send it as `If-Match` with a change."""
        snapshot = hub.snapshot
        task = snapshot.registry.task(task_id)
        paused = (await _pauses(hub)).get(task_id)
        return Response(serializers.task(task, snapshot, paused), headers={"ETag": f'"{task.digest}"'})

    @get("/api/definitions/{digest:str}", opt=role("viewer"))
    async def get_definition(self, digest: FromPath[str], hub: InjectedHub) -> DefinitionBody:
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
    async def update_task(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[WrittenTaskBody]:
        """Change the task's file by a JSON Merge Patch (RFC 7396): members replace those of the file, null removes them."""
        document, _ = await _received(request, hub, None)
        digests = _digests(request)
        async with hub.write_lock:
            task = with_file(hub, task_id)
            return await _write_response(hub, lambda: hub.task_writer.patch(task, document, digests), status=200)

    @delete("/api/tasks/{task_id:str}", status_code=204, opt=role("admin"), problems=_CHANGE)
    async def delete_task(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> None:
        """Delete the task's file. Its triggers end at once; queued and running runs finish with the definition they have. If
        the file is already gone and the removal is held, the task is released."""
        await delete_task(hub, task_id, _digests(request), request.state.actor)

    @post(
        "/api/tasks/{task_id:str}/pause",
        status_code=200,
        opt=role("operator"),
        body=PauseTask,
        examples=[{"reason": "the API is down"}, {}],
    )
    async def pause_task(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> PausedTaskBody:
        """Pause a task until it is resumed: triggers are accepted, new runs wait, running ones continue. A pause outlasts
        restarts and edits. `{"reason": "..."}` is shown to everybody who asks why a run waits."""
        reason = (await request_body.read_as(request, hub, PauseTask)).reason or ""
        if not reason.isprintable():
            problem = Problem("/reason", f"must be a line of text with at most {MAX_REASON_LENGTH} characters")
            raise Invalid("invalid reason", [problem])
        store = hub.services.store
        if task_id not in hub.snapshot.registry.tasks:
            # A task that is gone may have queued runs that nobody wants to start.
            page = await asyncio.to_thread(store.runs, RunFilter(task_id=task_id), limit=1)
            if not page.items:
                hub.snapshot.registry.task(task_id)
        paused = await asyncio.to_thread(store.pause, task_id, reason, request.state.actor)
        return PausedTaskBody(id=task_id, paused=serializers.to_body(PauseBody, paused))

    @post("/api/tasks/{task_id:str}/resume", status_code=200, opt=role("operator"))
    async def resume_task(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> PausedTaskBody:
        """End the task's pause: runs that wait for nothing else start at once."""
        await request_body.read_empty(request, hub)
        pause = await asyncio.to_thread(hub.services.store.resume, task_id)
        if pause is None:
            hub.snapshot.registry.task(task_id)
        hub.services.broker.tell(Topic.QUEUE)
        return PausedTaskBody(id=task_id, paused=None)

    @get("/api/tasks/{task_id:str}/triggers", opt=role("viewer"))
    async def list_triggers(self, task_id: FromPath[str], hub: InjectedHub) -> TriggerListBody:
        """List the triggers of a task, at most one of each type."""
        return TriggerListBody(items=serializers.triggers(hub.snapshot.registry.task(task_id)), next=None)

    @get("/api/tasks/{task_id:str}/slots", opt=role("viewer"))
    async def list_slots(
        self,
        task_id: FromPath[str],
        hub: InjectedHub,
        verdict: FromQuery[SlotOutcome | None] = None,
        since: Since = None,
        until: Until = None,
        cursor: Cursor = None,
        limit: Limit = 50,
    ) -> SlotPageBody:
        """List the times of the task's schedule, newest first, each with the run that it started, or why it started none. Where
        many were missed in a row, the older ones are one item with their number. A task that is gone still has its slots."""
        slot_filter = SlotFilter(verdict=verdict, since=since, until=until)
        slots = await asyncio.to_thread(hub.services.store.slots, task_id, slot_filter, cursor=cursor, limit=limit)
        if not slots.items and cursor is None:
            hub.snapshot.registry.task(task_id)
        return serializers.to_body(SlotPageBody, slots)

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
    async def add_trigger(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[WrittenTriggerBody]:
        """Add a trigger to the task. A webhook's `secret` may be sent as text: it is stored separately, its name goes into the
        file, and no answer ever contains it. `Idempotency-Key` works as for tasks."""
        document, idempotency_key = await _received(request, hub, f"triggers:{task_id}")
        kind = str(document.get("type"))
        async with hub.write_lock:
            return await _first_answer(hub, idempotency_key) or await _write_response(
                hub,
                lambda: hub.task_writer.add_trigger(with_file(hub, task_id), document),
                kind=kind,
                idempotency_key=idempotency_key,
            )

    @get("/api/tasks/{task_id:str}/triggers/{kind:str}", opt=role("viewer"))
    async def get_trigger(self, task_id: FromPath[str], kind: FromPath[str], hub: InjectedHub) -> TriggerBody:
        """Show the trigger of this type."""
        trigger: TriggerBody = _trigger(hub.snapshot.registry.task(task_id), kind)
        return trigger

    @patch(
        "/api/tasks/{task_id:str}/triggers/{kind:str}",
        opt=role("admin"),
        body=TriggerPatch,
        examples=[{"enabled": False}],
        problems=_CHANGE,
        answers_with=("ETag",),
    )
    async def enable_trigger(
        self, task_id: FromPath[str], kind: FromPath[str], request: Incoming, hub: InjectedHub
    ) -> Response[WrittenTriggerBody]:
        """Turn the trigger of this type on or off, in the task's file."""
        enabled = (await request_body.read_as(request, hub, TriggerPatch)).enabled
        digests = _digests(request)
        async with hub.write_lock:
            task = with_file(hub, task_id)
            return await _write_response(
                hub, lambda: hub.task_writer.enable_trigger(task, kind, enabled, digests), kind=kind, status=200
            )

    @get("/api/tasks/{task_id:str}/file", opt=role("viewer"), answers_with=("ETag",))
    async def get_task_file(self, task_id: FromPath[str], hub: InjectedHub) -> Response[TaskFileBody]:
        """Show the file of a task as it is on disk. Its `ETag` is the digest of its bytes: send it as `If-Match` with a new
        text."""
        file = await asyncio.to_thread(hub.task_writer.read_file, with_file(hub, task_id))
        body = TaskFileBody(path=file.path, text=file.data.decode("utf-8", "replace"), digest=file.digest)
        return Response(body, headers={"ETag": f'"{file.digest}"'})

    @put(
        "/api/tasks/{task_id:str}/file",
        opt=role("admin"),
        body=WriteTaskFile,
        examples=[{"text": "name: Hello\nagentRuntime: claude-code\npromptTemplate: Say hello\n"}],
        body_required=True,
        responses={201: ResponseSpec(WrittenTaskBody, description="The new task", generate_examples=False)},
        problems=_CHANGE,
        answers_with=("ETag",),
    )
    async def put_task_file(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[WrittenTaskBody]:
        """Write a text as the task's file, of a new task too, and serve it. It must give the task this id. With `If-Match` the
        file must have that digest."""
        text = (await request_body.read_as(request, hub, WriteTaskFile)).text
        digests = _digests(request)
        async with hub.write_lock:
            is_new = task_id not in hub.snapshot.registry.tasks
            pauses = await _pauses(hub)
            result = await put_text(hub, task_id, text, digests)
            content: Any = _written_task(hub, result, pauses)
        digest = TaskFile(result.path, text.encode()).digest
        return Response(content, status_code=201 if is_new else 200, headers={"ETag": f'"{digest}"'})

    @delete("/api/tasks/{task_id:str}/triggers/{kind:str}", status_code=204, opt=role("admin"), problems=_CHANGE)
    async def delete_trigger(self, task_id: FromPath[str], kind: FromPath[str], request: Incoming, hub: InjectedHub) -> None:
        """Remove the trigger of this type from the task's file."""
        digests = _digests(request)
        async with hub.write_lock:
            task = with_file(hub, task_id)
            await write_file(hub, lambda: hub.task_writer.remove_trigger(task, kind, digests))

    @get("/api/tasks/{task_id:str}/origins", opt=role("viewer"), problems=("conflict",))
    async def list_origins(self, task_id: FromPath[str], hub: InjectedHub) -> ValueOriginListBody:
        """List the values of a task, each with the file and the line that set it: the task's own file, a template, or the
        defaults of a directory. The files are those of the answering server."""
        return await asyncio.to_thread(read_origins, hub, hub.snapshot.registry.task(task_id))

    @get("/api/tasks/{task_id:str}/tests", opt=role("viewer"), problems=("conflict",))
    async def run_tests(self, task_id: FromPath[str], hub: InjectedHub) -> TestListBody:
        """Run the tests that the file of a task has under `tests`, as `optio test` does, and show their results. No run is
        started. The files are those of the answering server."""
        return await asyncio.to_thread(run_tests_of, hub, hub.snapshot.registry.task(task_id))


def _trigger(task: CompiledTask, kind: str) -> Any:
    documents: list[Any] = [*serializers.triggers(task)]
    document = next((trigger for trigger in documents if trigger["type"] == kind), None)
    if document is None:
        raise NotFound("trigger", kind)
    return document


async def _received(request: Incoming, hub: Hub, scope: str | None) -> tuple[dict[str, Any], IdempotencyKey | None]:
    body = await request_body.read_raw(request, hub.services.settings.max_body_bytes)
    idempotency_key = None if scope is None else idempotency_of(request, scope, body)
    return request_body.parse_object(body), idempotency_key


async def _first_answer(hub: Hub, idempotency_key: IdempotencyKey | None) -> Response[Any] | None:
    stored_answer = None if idempotency_key is None else await asyncio.to_thread(hub.services.store.recall, idempotency_key)
    if stored_answer is None:
        return None
    answer = msgspec.json.decode(stored_answer)
    return Response(answer["content"], status_code=200, headers=answer["headers"])


async def _pauses(hub: Hub) -> dict[str, Pause]:
    return await read_small(hub.services.store, hub.services.store.pauses)


def _written_task(hub: Hub, result: WriteResult, pauses: Mapping[str, Pause], kind: str | None = None) -> dict[str, Any]:
    """Return the written task as it is served now, or its trigger of a kind, with the warnings of the compiler."""
    task = hub.snapshot.registry.task(result.task_id)
    shown: Any = serializers.task(task, hub.snapshot, pauses.get(task.id)) if kind is None else _trigger(task, kind)
    return {**shown, "warnings": [serializers.to_body(WarningBody, problem) for problem in warnings_of(hub, result)]}


async def _write_response(
    hub: Hub,
    write: Callable[[], WriteResult],
    *,
    kind: str | None = None,
    idempotency_key: IdempotencyKey | None = None,
    status: int = 201,
) -> Response[Any]:
    """Write a file, serve the result, and answer with the task that is served then, or with its trigger of a kind."""
    # Before the write, so that nothing is written if the store is unavailable.
    pauses = await _pauses(hub)
    result = await write_file(hub, write)
    content = _written_task(hub, result, pauses, kind)
    location = f"/api/tasks/{result.task_id}{'' if kind is None else f'/triggers/{kind}'}"
    digest = hub.snapshot.registry.task(result.task_id).digest
    headers = {"ETag": f'"{digest}"', **({"Location": location} if status == 201 else {})}
    if idempotency_key is not None:
        encoded = msgspec.json.encode({"content": content, "headers": headers}).decode()
        await asyncio.to_thread(hub.services.store.remember, idempotency_key, encoded)
    return Response(content, status_code=status, headers=headers)


def _digests(request: Incoming) -> Collection[str] | None:
    """Return the digests of `If-Match`, or None without that header."""
    header = request.headers.get("if-match")
    if header is None:
        return None
    digests = {digest.strip().removeprefix("W/") for digest in header.split(",")}
    if not all(re.fullmatch(r'[*]|"[^"]+"', digest) for digest in digests):
        raise Invalid('If-Match must be `*` or digests in double quotes: `"sha256:..."`')
    return {digest.strip('"') for digest in digests}
