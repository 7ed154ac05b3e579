"""Routes of model calls: how each one of a run went, and what was recorded of it."""

import asyncio
from typing import Annotated, Any

from litestar import Controller, get
from litestar.params import FromPath, QueryParameter

from optio.errors import NotFound
from optio.model.model_call import ModelCall
from optio.server import serializers
from optio.server.auth import role
from optio.server.bodies.calls import ModelCallBody, ModelCallPageBody, RecordedCallBody, RecordingBody
from optio.server.dependencies import Hub, InjectedHub
from optio.server.serializers import milliseconds

After = Annotated[int, QueryParameter(ge=0, le=2**31, description="the number of the last call that you have")]
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="most calls in the answer")]
Attempt = Annotated[int | None, QueryParameter(ge=1, le=2**31 - 1, description="only this attempt")]


class CallController(Controller):
    """Routes of `/api/workflow-runs/{id}/calls`."""

    tags = ("runs",)

    @get("/api/workflow-runs/{run_id:str}/calls", opt=role("viewer"))
    async def list_calls(
        self, run_id: FromPath[str], hub: InjectedHub, after: After = 0, limit: Limit = 200, attempt: Attempt = None
    ) -> ModelCallPageBody:
        """List the model calls of a run, which its agents made through the gateway."""
        store = hub.services.store
        await asyncio.to_thread(store.run, run_id)
        calls = await asyncio.to_thread(store.model_calls, run_id, attempt=attempt, after=after, limit=limit)
        return ModelCallPageBody(
            items=[serializers.to_body(ModelCallBody, call, **_times(call)) for call in calls],
            next=calls[-1].number if len(calls) == limit else None,
        )

    @get("/api/workflow-runs/{run_id:str}/calls/{number:int}", opt=role("viewer"))
    async def get_call(self, run_id: FromPath[str], number: FromPath[int], hub: InjectedHub) -> RecordedCallBody:
        """Show a model call. Its request and its answer are there with `OPTIO_GATEWAY_RECORD=runs`."""
        return await asyncio.to_thread(_recorded, hub, run_id, number)


def _recorded(hub: Hub, run_id: str, number: int) -> RecordedCallBody:
    store = hub.services.store
    run = store.run(run_id)
    calls = store.model_calls(run.id, after=number - 1, limit=1) if 0 < number < 2**31 else []
    if not calls or calls[0].number != number:
        raise NotFound("call", f"{run.id}/{number}")
    (call,) = calls
    recording = store.recording(run.id, call.attempt, call.id)
    body = None
    if recording is not None:
        body = serializers.to_body(RecordingBody, recording, answer=recording.answer.decode("utf-8", "replace"))
    return serializers.to_body(RecordedCallBody, call, recording=body, **_times(call))


def _times(call: ModelCall) -> dict[str, Any]:
    return {"first_byte_ms": milliseconds(call.first_byte_s), "duration_ms": milliseconds(call.duration_s)}
