"""The explanation of a failed run: the meaning of its reason and the cure, the last thing the agent did, and what differs from
the last run of the task that ended well. Used by the API and the dashboard."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optio.errors import Conflict, NotFound
from optio.model.agent_event import ToolCall, ToolResult
from optio.model.reasons import ReasonMeaning, meanings_of
from optio.model.run import Attempt, LogLine, Run, RunState
from optio.store.base import GenerationReader, RunReader
from optio.store.values import RunFilter

LAST_LINES = 20
# The lines in which the last tool call is looked for, and how much of a value is told.
_SEARCHED_LINES = 300
_MAX_VALUE = 200
_BEYOND_ALL = 2**62


class _FailureReads(RunReader, GenerationReader, Protocol):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDifference:
    """Something in which a run differs from an earlier one, such as `model`, with its text there and here."""

    what: str
    before: str
    now: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailure:
    """The known facts of a failure. `last_good` is the newest run of the task that was accepted before and completed."""

    meanings: Sequence[ReasonMeaning]
    last_call: LogLine | None
    call_result: LogLine | None
    lines: Sequence[LogLine]
    last_good: Run | None
    differences: Sequence[RunDifference]


def explain_failure(store: _FailureReads, run: Run, attempts: Sequence[Attempt]) -> RunFailure:
    """Return why a run failed. Raise Conflict for a run that has not."""
    if run.state is not RunState.FAILED:
        raise Conflict(f"the run is {run.state}: only a failed run has a failure")
    lines = store.log(run.id, before=_BEYOND_ALL, limit=_SEARCHED_LINES)
    call = next((line for line in reversed(lines) if isinstance(line.event, ToolCall)), None)
    good = _last_good(store, run)
    return RunFailure(
        meanings=meanings_of(run.reason),
        last_call=call,
        call_result=None if call is None else _result_of(call, lines),
        lines=lines[-LAST_LINES:],
        last_good=good,
        differences=[] if good is None else list(_differences(store, good, run, attempts)),
    )


def _result_of(call: LogLine, lines: Sequence[LogLine]) -> LogLine | None:
    call_id = call.event.id if isinstance(call.event, ToolCall) else None
    fitting = (line for line in lines if isinstance(line.event, ToolResult) and line.event.id == call_id)
    return next((line for line in fitting if line.seq > call.seq), None)


def _last_good(store: _FailureReads, run: Run) -> Run | None:
    run_filter = RunFilter(task_id=run.task_id, state=RunState.COMPLETED, until=run.created_at)
    # Runs that were accepted in the same instant come in the order of their numbers.
    return next((candidate for candidate in store.runs(run_filter, limit=2).items if candidate.seq < run.seq), None)


def _differences(store: _FailureReads, good: Run, run: Run, attempts: Sequence[Attempt]) -> Iterator[RunDifference]:
    if good.digest != run.digest:
        try:
            before, now = (store.definition(compared.digest).document for compared in (good, run))
        except NotFound:  # retention has deleted the older one
            yield RunDifference(what="definition", before=good.digest, now=run.digest)
        else:
            yield from _changed("", {**before, **before["spec"], "spec": None}, {**now, **now["spec"], "spec": None})
    yield from _changed("parameter ", good.params, run.params)
    own_agent, good_agent = (_agent(compared) for compared in (attempts, store.attempts(good.id)))
    yield from _changed("agent's ", good_agent, own_agent)


def _agent(attempts: Sequence[Attempt]) -> Mapping[str, Any]:
    """Return the model and the version of the last agent, as far as they are known."""
    if not attempts:
        return {}
    agent = attempts[-1].agent
    return {name: value for name, value in (("model", agent.model), ("version", agent.version)) if value is not None}


def _changed(kind: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[RunDifference]:
    for name in sorted({*before, *now}):
        was, has = before.get(name), now.get(name)
        # An agent that failed early tells nothing of itself, which is no difference.
        if was != has and not (kind == "agent's " and None in (was, has)):
            yield RunDifference(what=f"{kind}{name}", before=_text(was), now=_text(has))


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE else text[:_MAX_VALUE] + "…"
