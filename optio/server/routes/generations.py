"""Routes of the generations that were served: the list, and what one of them did."""

import asyncio
import re
from typing import Annotated

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import structs

from optio.errors import Invalid, NotFound, Problem
from optio.model.route import pointer
from optio.plan.compare import TaskChange
from optio.plan.effect import Effect
from optio.server import serializers
from optio.server.auth import role
from optio.server.bodies.changes import EffectBody, GenerationBody, GenerationDetailsBody, GenerationPageBody, TaskChangeBody
from optio.server.dependencies import Hub
from optio.server.read_models.generations import ServedGeneration

_NUMBER = re.compile("[0-9]{1,15}")
Limit = Annotated[int, QueryParameter(ge=1, le=100, description="most generations in the answer")]


class GenerationController(Controller):
    """Routes of `/api/generations`."""

    tags = ("health",)

    @get("/api/generations", opt=role("viewer"))
    async def list_generations(
        self,
        hub: NamedDependency[Hub],
        task: FromQuery[str | None] = None,
        cursor: FromQuery[str | None] = None,
        limit: Limit = 20,
    ) -> GenerationPageBody:
        """List the generations that were served, newest first: how many tasks each added, changed and removed, and how many
        runs were accepted meanwhile. With `task`, only those that added, changed or removed it; a page may then hold fewer than
        `limit`. `drift` says how the files of the answering server differ from the newest."""
        return await asyncio.to_thread(read_generations, hub, cursor, limit, task)

    @get("/api/generations/{number:str}", opt=role("viewer"), problems=("not-found",))
    async def get_generation(
        self, number: FromPath[str], hub: NamedDependency[Hub], task: FromQuery[str | None] = None
    ) -> GenerationDetailsBody:
        """Show what a generation did, or with `task` what it did to that one, compared with the generation before it: times,
        money, secrets, hosts, prompts, as `optio plan` told it in the pull request."""
        return await asyncio.to_thread(read_generation, hub, number, task)


def read_generations(hub: Hub, cursor: str | None, limit: int, task: str | None = None) -> GenerationPageBody:
    """Return a page of generations, or of those that changed a task. Raises Invalid for a forged cursor."""
    if cursor is not None and not _NUMBER.fullmatch(cursor):
        raise Invalid("invalid request parameters", [Problem("/cursor", "must be a `next` of an earlier page")])
    after = None if cursor is None else int(cursor)
    found, more = hub.history.page(after, limit) if task is None else hub.history.page_of_task(task, after, limit)
    return GenerationPageBody(
        items=[generation_body(each) for each in found],
        next=None if more is None else str(more),
        drift=serializers.drift(hub.snapshot.drift),
    )


def read_generation(hub: Hub, text: str, task: str | None = None) -> GenerationDetailsBody:
    """Return one generation, by its number, with its effects, or those on one task. Raises NotFound."""
    if not _NUMBER.fullmatch(text):
        raise NotFound("generation", text[:40])
    number = int(text)
    shown, found = generation_body(hub.history.get(number)), hub.history.difference(number, task)
    return GenerationDetailsBody(
        **structs.asdict(shown),
        before=None if found.before is None else found.before.id,
        summary=found.plan.summary,
        changes=[_change(each) for each in found.plan.changes],
        left=found.left,
        lost=list(found.lost),
    )


def generation_body(value: ServedGeneration) -> GenerationBody:
    """Return a generation in the form of lists."""
    head, changes = value.head, value.changes
    return GenerationBody(
        number=head.id,
        digest=head.digest,
        commit=head.commit,
        activated_at=serializers.at(head.activated_at),
        until=serializers.at_if_known(value.until),
        adopted_at=serializers.at_if_known(head.scheduled_at),
        tasks=None if changes is None else changes.tasks,
        added=None if changes is None else len(changes.added),
        changed=None if changes is None else len(changes.changed),
        removed=None if changes is None else len(changes.removed),
        runs=value.runs,
    )


def _change(value: TaskChange) -> TaskChangeBody:
    before, after = value.before, value.after
    return TaskChangeBody(
        task_id=value.task.id,
        task_id_before=None if before is None else before.id,
        status=value.status.value,
        path=value.task.origin.path,
        digest=None if after is None else after.digest,
        digest_before=None if before is None else before.digest,
        effects=[_effect(each) for each in value.effects],
    )


def _effect(value: Effect) -> EffectBody:
    return EffectBody(
        kind=value.kind,
        weight=value.weight,
        text=value.text,
        lines=list(value.lines),
        diff=list(value.diff),
        pointer=pointer(value.route),
    )
