"""Submission: turn parameters into a run that can be queued. Fill in defaults, validate, and render the prompt byte for byte.
Used by every trigger."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from optio.errors import Invalid, Problem
from optio.model import params as schema
from optio.model import trace
from optio.model.prompt import MAX_PROMPT_LENGTH, length, placeholders, render
from optio.model.registry import CompiledTask
from optio.model.result import with_instructions
from optio.model.route import Route, pointer
from optio.model.run import RunTrigger
from optio.model.runtimes import declaration_of
from optio.store.values import NewRun

# A business key of up to so many bytes is stored as it is, a longer one as its digest.
MAX_KEY_BYTES = 200
_MAX_DEPTH = 100
_SURROGATE = re.compile("[\ud800-\udfff]")
# A byte order mark is no text, and some agents remove it as they do blanks.
_BOM = "\ufeff"
_BLANK = re.compile(rf"[\s{_BOM}]*")
_SHORTER = "give the agent a file or a URL to read"


def prepare_run(
    task: CompiledTask,
    given: Mapping[str, Any] | None,
    *,
    new_id: str,
    trigger: RunTrigger,
    actor: str,
    at: Route = ("params",),
    slot: datetime | None = None,
    delivery_id: str | None = None,
    traceparent: str | None = None,
    generation: int | None = None,
    message: str = "",
) -> NewRun:
    """Return a run of this task that a store can accept. Raises Invalid with one problem per parameter, with pointers that
    start at `at`. `generation` is the one that `task` belongs to, and `message` is that of the run's first event."""
    if given is not None and not isinstance(given, Mapping):
        raise Invalid("the parameters are not an object", [Problem(pointer(at), "must be object")])
    unsendable = list(_unsendable(given or {}, at))
    if unsendable:
        raise Invalid(f"the parameters do not fit the task `{task.id}`", unsendable)
    effective = schema.apply_defaults(task.spec.params_schema, given or {})
    problems = schema.params_problems(task.spec.params_schema, effective, at=at)
    if problems:
        raise Invalid(f"the parameters do not fit the task `{task.id}`", problems)
    prompt = _render("prompt", task.prompt, effective, _SHORTER).lstrip(_BOM)
    if task.prompt and _BLANK.fullmatch(prompt):
        raise Invalid("the rendered prompt is blank")
    agent = declaration_of(task.spec.agent_runtime)
    if agent is not None and (too_long := agent.prompt.why_too_long(with_instructions(prompt, task.spec))) is not None:
        told = "" if task.spec.result is None else " with what the agent is told about its result"
        raise Invalid(f"the rendered prompt{told} has {too_long}, the most that {agent.title} takes: {_SHORTER}")
    return NewRun(
        id=new_id,
        task=task,
        params=effective,
        prompt=prompt,
        trigger=trigger,
        actor=actor,
        slot=slot,
        delivery_id=delivery_id,
        traceparent=trace.clean(traceparent),
        dedupe_key=_business_key(task, effective, at),
        generation=generation,
        message=message,
    )


def _business_key(task: CompiledTask, params: Mapping[str, Any], at: Route) -> str | None:
    """Return the run's business key. Raises Invalid if a parameter of the key is missing: unrelated runs must not share a
    key."""
    if task.spec.dedupe is None:
        return None
    missing = [name for name in placeholders(task.spec.dedupe.key) if name not in params]
    if missing:
        problems = [Problem(pointer((*at, name)), "is needed for the task's `dedupe.key`") for name in missing]
        raise Invalid(f"the parameters do not fit the task `{task.id}`", problems)
    key = _render("`dedupe.key`", task.spec.dedupe.key, params, "make it of shorter parameters")
    data = key.encode()
    return key if len(data) <= MAX_KEY_BYTES else "sha256:" + hashlib.sha256(data).hexdigest()


def _render(what: str, text: str, params: Mapping[str, Any], cure: str) -> str:
    """Render a text, after checking its length: a short template may name a long value many times. Raises Invalid."""
    count = length(text, params)
    if count > MAX_PROMPT_LENGTH:
        raise Invalid(f"the rendered {what} has {count:,} characters, more than {MAX_PROMPT_LENGTH:,}: {cure}")
    return render(text, params)


def _unsendable(value: Any, at: Route, depth: int = 0) -> Iterator[Problem]:
    """Yield a problem for each text that no agent can be given: NUL ends it for some programs, and a lone surrogate is not
    valid Unicode."""
    if isinstance(value, str):
        if "\0" in value:
            yield Problem(pointer(at), "must not contain the NUL character")
        elif not value.isascii() and _SURROGATE.search(value):
            yield Problem(pointer(at), "must be valid Unicode: a surrogate stands alone")
    elif depth > _MAX_DEPTH:
        yield Problem(pointer(at), f"must not be nested deeper than {_MAX_DEPTH} levels")
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _unsendable(key, at, depth)
            yield from _unsendable(each, (*at, key), depth + 1)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from _unsendable(each, (*at, place), depth + 1)
