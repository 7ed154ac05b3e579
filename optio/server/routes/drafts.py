"""The route that checks the text of a task file before it is written, and says what it would do."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from litestar import Controller, Request, post
from litestar.di import NamedDependency

from optio.errors import Invalid, Problem
from optio.model.route import pointer
from optio.server import request_body, serializers
from optio.server.auth import role
from optio.server.dependencies import Hub
from optio.server.draft_bodies import CheckDraft, DraftBody, DraftEffectBody
from optio.server.routes.runs import refuse_unknown
from optio.server.task_changes import filed_tasks
from optio.tree.drafts import Draft, check_draft


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


async def check_text(hub: Hub, text: str, task_id: str | None) -> Draft:
    """Return the draft of a new task, or of the file of a task. Raises NotFound."""
    snapshot = hub.live.current
    task = None if task_id is None else snapshot.registry.task(task_id)
    root = hub.services.settings.tasks
    return await asyncio.to_thread(check_draft, root, text, filed_tasks(snapshot), datetime.now(UTC), task)


def text_of(document: Mapping[str, Any]) -> str:
    """Return the member `text` of a body. Raises Invalid."""
    text = document.get("text")
    if not isinstance(text, str):
        raise Invalid("invalid text", [Problem("/text", "must be the text of a task file")])
    return text
