"""The bodies of the API about changes: the generations that were served, and what each did."""

from typing import Annotated, Literal

from optio.model.effect import EffectKind, EffectWeight
from optio.server.bodies.base import Body, Cursor, Source, Time
from optio.server.bodies.registry import DriftBody


class GenerationBody(Body, frozen=True, kw_only=True):
    """A generation that was served."""

    number: Annotated[int, Source("head.id")]
    digest: Annotated[str, Source("head.digest")]
    """The digest of all tasks together."""
    commit: Annotated[str | None, Source("head.commit")]
    """The git commit of the task files, with `+dirty` if a file differs from it."""
    activated_at: Annotated[Time, Source("head.activated_at")]
    """When it was first served."""
    until: Time | None
    """When the next one was served; null for the newest."""
    adopted_at: Annotated[Time | None, Source("head.scheduled_at")]
    """When a scheduler adopted its schedules."""
    tasks: Annotated[int | None, Source("changes.tasks")]
    """How many tasks it has; null, as the next three, where the generation before it is no longer stored."""
    added: int | None
    changed: int | None
    removed: int | None
    runs: int
    """How many stored runs were accepted while it was the newest; counted up to 1,000."""


class GenerationPageBody(Body, frozen=True, kw_only=True):
    """A page of generations, newest first."""

    items: list[GenerationBody]
    next: Cursor
    """The `cursor` of the next page; null on the last one."""
    drift: DriftBody | None
    """How the directory of the answering server differs from the newest one."""


class EffectBody(Body, frozen=True, kw_only=True):
    """One difference in behaviour."""

    kind: EffectKind
    """The sort of difference."""
    weight: EffectWeight
    """How much attention it deserves."""
    text: str
    """The difference in a line."""
    lines: list[str]
    """The same in more lines, such as the next times of a schedule."""
    diff: list[str]
    """A unified diff of a long text."""
    pointer: str
    """A JSON Pointer to the key that causes it."""


class TaskChangeBody(Body, frozen=True, kw_only=True):
    """A task that behaves differently."""

    task_id: Annotated[str, Source("task.id")]
    task_id_before: Annotated[str | None, Source("before.id")]
    """The id before; null for a new task."""
    status: Literal["added", "changed", "renamed", "removed", "broken", "mended"]
    path: Annotated[str, Source("task.origin.path")]
    """The file, relative to the tree."""
    digest: Annotated[str | None, Source("after.digest")]
    """The digest of the newer definition."""
    digest_before: Annotated[str | None, Source("before.digest")]
    """The digest of the older one."""
    effects: list[EffectBody]


class GenerationDetailsBody(GenerationBody, frozen=True, kw_only=True):
    """A generation, and what it did, as `optio plan` tells it."""

    before: int | None
    """The number of the generation that it is compared with; null for the first."""
    summary: str
    """The effects in a line. Money is that of the tasks that were compared."""
    changes: list[TaskChangeBody]
    """The tasks that behave differently, by id."""
    left: int
    """How many tasks changed too, and were not compared."""
    lost: list[str]
    """Tasks whose definitions are no longer stored."""
