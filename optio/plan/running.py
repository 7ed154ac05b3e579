"""Effects on how runs execute: runtime, model, budget, time limits, retries, concurrency and the like."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from shlex import join
from typing import Any

from optio.model.effect import EffectKind, EffectWeight
from optio.model.registry import CompiledTask, canonical
from optio.model.task import Dedupe, ResultSpec, StartLimit, TaskSpec
from optio.model.text import format_duration
from optio.plan.contract import differences
from optio.plan.effect import Effect
from optio.plan.lines import diff_size, line_diff
from optio.plan.words import amount, shorten_pair


def effects(before: CompiledTask | None, after: CompiledTask | None) -> Iterator[Effect]:
    """Yield one effect per key of `_ROWS` that differs; nothing for a task that is new or removed."""
    if before is None or after is None:
        return
    old, new = before.spec, after.spec
    for kind, key, noun, getter in _ROWS:
        was, now = getter(old), getter(new)
        if was != now:
            was, now = shorten_pair(was, now)
            weight = EffectWeight.INFO if key == "priority" else EffectWeight.NOTICE
            diff = line_diff(_command_lines(old), _command_lines(new), around=1) if key == "command" else ()
            text = f"{noun}: {diff_size(diff)}" if diff else f"{noun}: {was} -> {now}"
            lines = _result_lines(old.result, new.result) if key == "result" else ()
            yield Effect(kind=kind, text=text, weight=weight, before=was, after=now, route=(key,), diff=diff, lines=lines)


def _budget_text(spec: TaskSpec) -> str:
    return "none" if spec.budget_limit is None else amount(spec.budget_limit)


def _model_text(spec: TaskSpec) -> str:
    """Ignore `model` (and `maxTurns`) of a `command` task: they do not reach the program, but may come from directory
    defaults."""
    return "none" if spec.agent_runtime == "command" else spec.model or "the agent's own"


def _turns_text(spec: TaskSpec) -> str:
    return "no limit" if spec.max_turns is None or spec.agent_runtime == "command" else str(spec.max_turns)


def _time_text(length: timedelta | None, owner: str) -> str:
    return f"the {owner}'s default" if length is None else format_duration(length)


def _command_text(spec: TaskSpec) -> str:
    if spec.command is None:
        return "none"
    return f"`{join(spec.command)}`" if isinstance(spec.command, list) else f"sh -c `{spec.command}`"


def _command_lines(spec: TaskSpec) -> list[str]:
    """Return the lines of a multi-line command; a command of one line is shown whole."""
    words = [spec.command] if isinstance(spec.command, str) else spec.command or []
    return words if any("\n" in word.strip() for word in words) else []


def _start_limit_text(limit: StartLimit | None) -> str:
    return "none" if limit is None else f"{limit.count:,} in {format_duration(limit.window)}"


def _dedupe_text(dedupe: Dedupe | None) -> str:
    if dedupe is None:
        return "none"
    window = "while one is queued or running" if dedupe.window_span is None else f"for {format_duration(dedupe.window_span)}"
    return f"`{dedupe.key}` {window}, {dedupe.on_duplicate}"


def _result_text(result: ResultSpec | None) -> str:
    if result is None:
        return "anything"
    return f"`{canonical(_in_order(result.schema))}`" + ("" if result.required else " or none")


def _in_order(schema: Any) -> Any:
    """Return the schema with lists in order whose order says nothing; what it tells the agent in words stays."""
    if isinstance(schema, list):
        return [_in_order(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    ordered = {key: _in_order(value) for key, value in schema.items()}
    for key in ("enum", "required", "type"):
        if isinstance(ordered.get(key), list):
            ordered[key] = sorted(ordered[key], key=canonical)
    if isinstance(ordered.get("type"), list) and len(ordered["type"]) == 1:
        ordered["type"] = ordered["type"][0]
    return ordered


def _result_lines(old: ResultSpec | None, new: ResultSpec | None) -> tuple[str, ...]:
    """Return what another schema means for results, one line each."""
    if old is None or new is None:
        return ()
    changes = differences(old.schema, new.schema)
    return tuple(f"{change.name or 'the result'}: {change.text.replace('a new parameter', 'a new key')}" for change in changes)


_ROWS: tuple[tuple[EffectKind, str, str, Callable[[TaskSpec], str]], ...] = (
    (EffectKind.RUNTIME_CHANGED, "agentRuntime", "runtime", lambda spec: spec.agent_runtime),
    (EffectKind.MODEL_CHANGED, "model", "model", _model_text),
    (EffectKind.COMMAND_CHANGED, "command", "command", _command_text),
    (EffectKind.RESULT_CHANGED, "result", "result of a run", lambda spec: _result_text(spec.result)),
    (EffectKind.BUDGET_CHANGED, "budgetUsd", "budget of a run", _budget_text),
    (EffectKind.BUDGET_CHANGED, "budget", "budget of a run of unknown cost", lambda spec: spec.budget or "enforce"),
    (EffectKind.TURNS_CHANGED, "maxTurns", "turns of an agent", _turns_text),
    (EffectKind.TIME_CHANGED, "timeout", "time of an attempt", lambda spec: _time_text(spec.timeout_span, "server")),
    (EffectKind.TIME_CHANGED, "stallTimeout", "silence of an attempt", lambda spec: _time_text(spec.stall_span, "runtime")),
    (EffectKind.RETRIES_CHANGED, "maxRetries", "retries of a failed run", lambda spec: str(spec.max_retries)),
    (EffectKind.CONCURRENCY_CHANGED, "maxConcurrent", "runs at one time", lambda spec: str(spec.max_concurrent)),
    (EffectKind.PRIORITY_CHANGED, "priority", "priority", lambda spec: str(spec.priority)),
    (EffectKind.START_LIMIT_CHANGED, "startLimit", "starts", lambda spec: _start_limit_text(spec.start_limit)),
    (EffectKind.DEDUPE_CHANGED, "dedupe", "runs that count as duplicates", lambda spec: _dedupe_text(spec.dedupe)),
    (EffectKind.POOL_CHANGED, "warmPoolSize", "pods kept ready", lambda spec: str(spec.warm_pool_size)),
)
