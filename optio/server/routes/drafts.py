"""Routes that try something out: the text of a task file before it is written, and a webhook by a request of this server."""

import asyncio
import json

from litestar import Controller, get, post
from litestar.params import FromPath

from optio.errors import Invalid, Problem
from optio.model.money import max_run_usd
from optio.model.route import pointer
from optio.server import request_body, serializers
from optio.server.answers.drafts import check_text, forecast_wait, is_event
from optio.server.auth import role
from optio.server.bodies.drafts import CheckDraft, DraftBody, DraftEffectBody, RunForecastBody, TrialDeliveryBody, TrialPayload
from optio.server.bodies.runs import WaitingBody
from optio.server.dependencies import Incoming, InjectedHub
from optio.server.trial_delivery import deliver


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
    async def check_draft(self, request: Incoming, hub: InjectedHub) -> DraftBody:
        """Check the text of a task file, and list what it would change: times, money, secrets, hosts, prompts. Nothing is
        written. Checks of all tasks together come with the write."""
        body = await request_body.read_as(request, hub, CheckDraft)
        draft = await check_text(hub, body.text, body.task)
        return DraftBody(
            path=draft.path,
            task=None if draft.task is None else draft.task.id,
            ok=draft.ok,
            diagnostics=[serializers.diagnostic(diagnostic) for diagnostic in draft.diagnostics],
            summary=None if draft.plan is None else draft.plan.summary,
            effects=[
                serializers.to_body(DraftEffectBody, effect, pointer=pointer(effect.route), failing=effect in draft.failing)
                for effect in draft.effects
            ],
        )

    @get("/api/tasks/{task_id:str}/forecast", opt=role("viewer"))
    async def forecast_run(self, task_id: FromPath[str], hub: InjectedHub) -> RunForecastBody:
        """Say what a run of this task may cost at most, and why it would wait if it was started now."""
        task = hub.snapshot.registry.task(task_id)
        hold = await asyncio.to_thread(forecast_wait, hub, task)
        highest_cost = max_run_usd(task.spec)
        return RunForecastBody(
            max_usd=None if highest_cost is None else f"{highest_cost:f}",
            waiting=None if hold is None else serializers.to_body(WaitingBody, hold),
        )


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
    async def try_webhook(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> TrialDeliveryBody:
        """Sign a payload as the sender of the task's webhook would, and deliver it. It takes the way of every other delivery,
        and a run that it starts is a real one. 409 says why the server cannot sign it."""
        task = hub.snapshot.registry.task(task_id)
        trial = await request_body.read_as(request, hub, TrialPayload)
        if trial.event is not None and not is_event(trial.event):
            raise Invalid("invalid delivery", [Problem("/event", "must be the name of an event, or null")])
        return await deliver(hub, task, json.dumps(trial.payload).encode(), trial.event, request.headers["host"])
