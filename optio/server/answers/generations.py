"""Answers about the generations that were served, for their routes and pages."""

import re

from optio.errors import Invalid, NotFound, Problem
from optio.model.route import pointer
from optio.plan.compare import TaskChange
from optio.server.bodies.changes import EffectBody, GenerationBody, GenerationDetailsBody, GenerationPageBody, TaskChangeBody
from optio.server.dependencies import Hub
from optio.server.read_models.generations import ServedGeneration
from optio.server.serializers import drift, to_body

_NUMBER = re.compile("[0-9]{1,15}")


def read_generations(hub: Hub, cursor: str | None, limit: int, task: str | None = None) -> GenerationPageBody:
    """Return a page of generations, or of those that changed a task. Raises Invalid for a forged cursor."""
    if cursor is not None and not _NUMBER.fullmatch(cursor):
        raise Invalid("invalid request parameters", [Problem("/cursor", "must be a `next` of an earlier page")])
    after = None if cursor is None else int(cursor)
    generations, following = hub.history.page(after, limit, task)
    return GenerationPageBody(
        items=[to_body(GenerationBody, generation, **_counts(generation)) for generation in generations],
        next=None if following is None else str(following),
        drift=drift(hub.snapshot.drift),
    )


def read_generation(hub: Hub, text: str, task: str | None = None) -> GenerationDetailsBody:
    """Return one generation, by its number, with its effects, or those on one task. Raises NotFound."""
    if not _NUMBER.fullmatch(text):
        raise NotFound("generation", text[:40])
    number = int(text)
    generation, difference = hub.history.get(number), hub.history.difference(number, task)
    return to_body(
        GenerationDetailsBody,
        generation,
        before=None if difference.before is None else difference.before.id,
        summary=difference.plan.summary,
        changes=[_change(change) for change in difference.plan.changes],
        left=difference.left,
        lost=list(difference.lost),
        **_counts(generation),
    )


def _counts(generation: ServedGeneration) -> dict[str, int | None]:
    changes, names = generation.changes, ("added", "changed", "removed")
    return {name: None if changes is None else len(getattr(changes, name)) for name in names}


def _change(value: TaskChange) -> TaskChangeBody:
    effects = [to_body(EffectBody, effect, pointer=pointer(effect.route)) for effect in value.effects]
    return to_body(TaskChangeBody, value, status=value.status.value, effects=effects)
