"""The command runtime: any program is an agent. Its standard output is a log and never parsed; it reports by a file."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from optio.model.registry import CompiledTask
from optio.model.run import CostSource, LogKind, LogLine, Meter, Outcome, Usage
from optio.runtimes.base import Ended, Invocation, broken_off, capped, count, over_limits

TAIL = 64 * 1024
MAX_RESULT_LINE = 1 << 20
EX_TEMPFAIL, EX_NOPERM, EX_USAGE, EX_CONFIG = 75, 77, 64, 78
_FIELDS = {"input": "fresh", "cached": "cached", "cacheWrite": "cache_write", "output": "output", "reasoning": "reasoning"}


class Command:
    """`command: [program, argument, ...]`, or one text for `/bin/sh -c`."""

    name = "command"
    program = False
    stall: timedelta | None = None

    def invoke(self, task: CompiledTask, prompt: str, params: Mapping[str, Any], program: str) -> Invocation:
        """See `Runtime.invoke`."""
        command = task.spec.command
        argv = ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(command or ())
        env = {}
        if task.spec.max_turns is not None:
            env["OPTIO_MAX_TURNS"] = str(task.spec.max_turns)
        if task.spec.budget_usd is not None:
            env["OPTIO_BUDGET_USD"] = task.spec.budget_usd
        return Invocation(
            argv=argv,
            stdin=prompt.encode("utf-8", "replace"),
            env=env,
            files={".optio/params.json": json.dumps(dict(params), ensure_ascii=False).encode("utf-8", "replace")},
            file_env={"OPTIO_PARAMS_FILE": ".optio/params.json"},
        )

    def reader(self, task: CompiledTask) -> "CommandReader":
        """See `Runtime.reader`."""
        return CommandReader(task)


class CommandReader:
    """Keeps the tail of standard output, and what the result file says."""

    def __init__(self, task: CompiledTask) -> None:
        self._task = task
        self._tail: list[bytes] = []
        self._tail_size = 0
        self._turns: int | None = None
        self._usage: dict[str, Usage] = {}
        self._costs: dict[str, Decimal] = {}
        self._result: dict[str, Any] | None = None

    def line(self, stream: str, data: bytes, at: datetime) -> list[LogLine]:
        """See `Reader.line`."""
        if stream == "result":
            problem = self._report(data)
            return [capped(LogKind.SYSTEM, f"result file: {problem}".encode(), at)] if problem else []
        if stream == "stderr":
            return [capped(LogKind.STDERR, data, at)]
        self._tail.append(data)
        self._tail_size += len(data) + 1
        while len(self._tail) > 1 and self._tail_size - len(self._tail[0]) - 1 >= TAIL:
            self._tail_size -= len(self._tail.pop(0)) + 1
        return [capped(LogKind.OUTPUT, data, at)]

    def _report(self, data: bytes) -> str | None:
        """Take a line of the result file; a sentence about what was not believed."""
        if len(data) > MAX_RESULT_LINE:
            return "a line of more than 1 MiB was ignored"
        try:
            entry = json.loads(data)
        except (ValueError, RecursionError):
            return "a line that is no JSON was ignored"
        kind = entry.get("type") if isinstance(entry, dict) else None
        if kind == "turn":
            self._turns = (self._turns or 0) + 1
        elif kind == "usage":
            return self._take_usage(entry)
        elif kind == "result" and entry.get("status") in ("ok", "error"):
            self._result = entry
        else:
            return "a line of an unknown type was ignored"
        return None

    def _take_usage(self, entry: dict[str, Any]) -> str | None:
        model = str(entry.get("model", ""))
        numbers = {ours: count(entry.get(theirs, 0)) for theirs, ours in _FIELDS.items()}
        known = self._usage.get(model, Usage())
        if any(n is None or n < getattr(known, ours) for ours, n in numbers.items()):
            return "usage that is no whole number, negative or sinking was ignored"
        if "costUsd" in entry:
            cost = _money(entry["costUsd"])
            if cost is None or cost < self._costs.get(model, Decimal(0)):
                return "a cost that is no decimal text, negative or sinking was ignored"
            self._costs[model] = cost
        self._usage[model] = Usage(**{ours: n or 0 for ours, n in numbers.items()})
        return None

    @property
    def meter(self) -> Meter:
        """See `Reader.meter`."""
        return Meter(
            usage=sum(self._usage.values(), Usage()),
            turns=self._turns,
            cost=sum(self._costs.values(), Decimal(0)) if self._costs else None,
            cost_source=CostSource.CLI if self._costs else None,
        )

    def stop(self) -> Outcome | None:
        """See `Reader.stop`."""
        return over_limits(self._task, self.meter)

    def outcome(self, ended: Ended) -> Outcome:
        """See `Reader.outcome`."""
        early = broken_off(ended)
        if early is not None:
            return early
        result = self._result or {}
        text = result.get("text") if isinstance(result.get("text"), str) else None
        reported = str(result["reason"])[:64] if isinstance(result.get("reason"), str) else None
        failed = result.get("status") == "error"
        if ended.code == 0 and not failed:
            return Outcome(ok=True, reason="ok", text=text if text is not None else self._output(), output=result.get("output"))
        reason, again = _exit_reason(ended)
        if ended.code == 0:
            reason, again = reported or "failed", True
        elif reason.startswith("exit_") or reason == "temporary":
            reason = reported or reason
        if isinstance(result.get("retryable"), bool) and (ended.code == 0 or reason == reported):
            again = result["retryable"]
        wait = result.get("retryAfterS")
        seconds = float(wait) if isinstance(wait, (int, float)) and not isinstance(wait, bool) and 0 <= wait < 1e6 else 0.0
        message = text or (f"exit code {ended.code}" if ended.code is not None else f"killed by signal {ended.signal}")
        return Outcome(
            ok=False, reason=reason, message=message[:500], again=again, not_before_s=seconds, text=text or self._output()
        )

    def _output(self) -> str:
        return b"\n".join(self._tail)[-TAIL:].decode("utf-8", "replace")


def _exit_reason(ended: Ended) -> tuple[str, bool]:
    code, signal = ended.code, ended.signal
    if code is not None and 128 < code <= 128 + 64:
        signal = code - 128
    if signal is not None:
        return "signal", True
    if code == EX_TEMPFAIL:
        return "temporary", True
    if code == EX_NOPERM:
        return "auth", False
    if code in (EX_USAGE, EX_CONFIG):
        return "config", False
    if code == 126:
        return "not_executable", False
    if code == 127:
        return "command_not_found", False
    return f"exit_{code}", True


def _money(value: Any) -> Decimal | None:
    if not isinstance(value, str) or len(value) > 20:
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return None
    exponent = amount.as_tuple().exponent
    return amount if amount.is_finite() and amount >= 0 and isinstance(exponent, int) and exponent >= -4 else None
