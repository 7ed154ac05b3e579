"""Submit: parameters -> a run that can be queued. Defaults filled in, validated, rendered byte for byte."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from optio.errors import Invalid, Problem
from optio.model import params as schema
from optio.model.prompt import render
from optio.model.registry import CompiledTask
from optio.model.route import Route, pointer
from optio.store.base import NewRun

MAX_PROMPT = 1 << 20


def prepare(
    task: CompiledTask,
    given: Mapping[str, Any] | None,
    *,
    new_id: str,
    trigger: str,
    actor: str,
    at: Route = ("params",),
    slot: datetime | None = None,
    traceparent: str | None = None,
) -> NewRun:
    """Raises Invalid with one problem per parameter; pointers start at `at`."""
    if given is not None and not isinstance(given, Mapping):
        raise Invalid("the parameters are no object", [Problem(pointer(at), "must be object")])
    effective = schema.fill(task.spec.params_schema, given or {})
    problems = schema.problems(task.spec.params_schema, effective, at=at)
    if problems:
        raise Invalid(f"the parameters do not fit the task `{task.id}`", problems)
    prompt = render(task.prompt, effective)
    if len(prompt) > MAX_PROMPT:
        raise Invalid(f"the rendered prompt has {len(prompt):,} characters, more than {MAX_PROMPT:,}")
    if task.prompt and not prompt.strip():
        raise Invalid("the rendered prompt is blank")
    return NewRun(
        id=new_id, task=task, params=effective, prompt=prompt, trigger=trigger, actor=actor, slot=slot, traceparent=traceparent
    )
