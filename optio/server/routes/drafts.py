"""Routes that try something out: the text of a task file before it is written, and a webhook by a request of this server."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from optio.errors import Invalid, Problem
from optio.model.money import max_run_usd
from optio.model.registry import CompiledTask
from optio.model.route import pointer
from optio.runs.admission import Hold, hold_of_new
from optio.server import request_body, serializers
from optio.server.auth import role
from optio.server.bodies.drafts import CheckDraft, DraftBody, DraftEffectBody, RunForecastBody, TrialDeliveryBody, TrialPayload
from optio.server.dependencies import Hub
from optio.server.routes.runs import refuse_unknown
from optio.server.task_changes import filed_tasks
from optio.server.trial_delivery import deliver
from optio.store.values import QueuedRun
from optio.tree.drafts import Draft, check_draft

_MAX_EVENT_LENGTH = 200


class DraftController(Controller):
    """Routes of `/api/drafts`."""

    tags = ("tasks",)

    @post(
        "/api/drafts",
        status_code=200,
        opt=role("operator"),
        body=CheckDraft,
        examples=[{"text": "name: Hello\nagentRuntime: claude-code\npromptTemplate: Say hello\n"}],
        body_required=True,
        problems=("not-found",),
    )
    async def check_draft(self, request: Request[Any, Any, Any], hub: NamedDependency[Hub]) -> DraftBody:
        """Check the text of a task file, and list what it would change: times, money, secrets, hosts, prompts. Nothing is
        written. Checks of all tasks together come with the write."""
        document = request_body.parse_object(await request_body.read_raw(request, hub.services.settings.max_body_bytes))
        task = document.get("task")
        if task is not None and not isinstance(task, str):
            raise Invalid("invalid draft", [Problem("/task", "must be the id of a task, or null")])
        refuse_unknown(document, "text", "task")
        draft = await check_text(hub, text_of(document), task)
        return DraftBody(
            path=draft.path,
            task=None if draft.task is None else draft.task.id,
            ok=draft.ok,
            diagnostics=[serializers.diagnostic(each) for each in draft.diagnostics],
            summary=None if draft.plan is None else draft.plan.summary,
            effects=[
                DraftEffectBody(
                    kind=each.kind,
                    weight=each.weight,
                    text=each.text,
                    lines=list(each.lines),
                    diff=list(each.diff),
                    pointer=pointer(each.route),
                    failing=each in draft.failing,
                )
                for each in draft.effects
            ],
        )


class ForecastController(Controller):
    """Routes that say what a run would meet."""

    tags = ("tasks",)

    @get("/api/tasks/{task_id:str}/forecast", opt=role("viewer"))
    async def forecast_run(self, task_id: FromPath[str], hub: NamedDependency[Hub]) -> RunForecastBody:
        """Say what a run of this task may cost at most, and why it would wait if it was started now."""
        task = hub.snapshot.registry.task(task_id)
        hold = await asyncio.to_thread(forecast_wait, hub, task)
        most = max_run_usd(task.spec)
        return RunForecastBody(
            max_usd=None if most is None else f"{most:f}", waiting=None if hold is None else serializers.waiting(hold)
        )


def forecast_wait(hub: Hub, task: CompiledTask) -> Hold | None:
    """Return why a run of the task would wait if it was started now; None if a worker would take it at once."""
    view = hub.services.store.admission()
    run = QueuedRun(
        run_id="new",
        task_id=task.id,
        seq=1 + max((each.seq for each in view.waiting), default=0),
        queued_at=view.now,
        not_before=view.now,
        max_concurrent=task.spec.max_concurrent,
        priority=task.spec.priority,
    )
    return hold_of_new(run, task.namespace or "", view, max_running=hub.services.settings.max_workflow_concurrent)


class TrialController(Controller):
    """Routes of trial deliveries."""

    tags = ("webhooks",)

    @post(
        "/api/tasks/{task_id:str}/trial",
        status_code=200,
        opt=role("operator"),
        body=TrialPayload,
        examples=[{"payload": {"repository": {"name": "optio"}}}],
        body_required=True,
        problems=("conflict", "secret-unavailable"),
    )
    async def try_webhook(
        self, task_id: FromPath[str], request: Request[Any, Any, Any], hub: NamedDependency[Hub]
    ) -> TrialDeliveryBody:
        """Sign a payload as the sender of the task's webhook would, and deliver it. It takes the way of every other delivery,
        and a run that it starts is a real one. 409 says why the server cannot sign it."""
        task = hub.snapshot.registry.task(task_id)
        document = request_body.parse_object(await request_body.read_raw(request, hub.services.settings.max_body_bytes))
        refuse_unknown(document, "payload", "event")
        payload, event = document.get("payload"), document.get("event")
        if not isinstance(payload, dict):
            raise Invalid("invalid delivery", [Problem("/payload", "must be a JSON object")])
        if event is not None and not is_event(event):
            raise Invalid("invalid delivery", [Problem("/event", "must be the name of an event, or null")])
        return await deliver(hub, task, json.dumps(payload).encode(), event, request.headers["host"])


def is_event(event: object) -> bool:
    """Return whether this can be sent as the name of an event."""
    return isinstance(event, str) and 0 < len(event) <= _MAX_EVENT_LENGTH and event.isascii() and event.isprintable()


async def check_text(hub: Hub, text: str, task_id: str | None) -> Draft:
    """Return the draft of a new task, or of the file of a task. Raises NotFound."""
    snapshot = hub.snapshot
    task = None if task_id is None else snapshot.registry.task(task_id)
    root = hub.services.settings.tasks
    return await asyncio.to_thread(check_draft, root, text, filed_tasks(snapshot), datetime.now(UTC), task)


def text_of(document: Mapping[str, Any]) -> str:
    """Return the member `text` of a body. Raises Invalid."""
    text = document.get("text")
    if not isinstance(text, str):
        raise Invalid("invalid text", [Problem("/text", "must be the text of a task file")])
    return text
