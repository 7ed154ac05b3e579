"""The command runtime: any program is an agent. Its standard output is a log and never parsed; it reports cost and result by
the file OPTIO_RESULT_FILE."""

import json
import re
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from optio.model import prices
from optio.model.money import ZERO_USD, remaining_budget
from optio.model.registry import CompiledTask
from optio.model.run import CostSource, LogKind, LogLine, Meter, Outcome, Usage
from optio.model.runtimes import DECLARED
from optio.runtimes.base import (
    HOPELESS,
    AttemptContext,
    Invocation,
    ProcessEnd,
    common_outcome,
    log_line,
    over_limits,
)
from optio.runtimes.json_events import reject_constant, token_count

TAIL_BYTES = 64 * 1024
MAX_RESULT_LINE_BYTES = 1 << 20
MAX_WARNINGS = 20
# A file with more invalid lines than this is not a result file: the rest is ignored.
MAX_IGNORED_LINES = 1000
EX_TEMPFAIL, EX_NOPERM, EX_USAGE, EX_CONFIG = 75, 77, 64, 78
_FIELDS = {"input": "fresh", "cached": "cached", "cacheWrite": "cache_write", "output": "output", "reasoning": "reasoning"}
# exit code -> (reason, whether a second attempt can help); other codes are `exit_N`.
_EXITS = {
    EX_TEMPFAIL: ("temporary", True),
    EX_NOPERM: ("auth", False),
    EX_USAGE: ("config", False),
    EX_CONFIG: ("config", False),
    126: ("not_executable", False),
    127: ("command_not_found", False),
}
_PLAIN = frozenset({"stdout", "stderr"})
_REASON = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Command:
    """The runtime `command`: `command: [program, argument, ...]`, or one text that `/bin/sh -c` runs."""

    declaration = DECLARED["command"]
    side: str | None = None
    stall: timedelta | None = None

    def invoke(self, task: CompiledTask, prompt: str, params: Mapping[str, Any], context: AttemptContext) -> Invocation:
        command = task.spec.command
        argv = ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(command or ())
        env = {}
        if task.spec.max_turns is not None:
            env["OPTIO_MAX_TURNS"] = str(task.spec.max_turns)
        budget = remaining_budget(task.spec, context.spent)
        if budget is not None:
            env["OPTIO_BUDGET_USD"] = f"{budget:f}"
        return Invocation(
            argv=argv,
            stdin=prompt.encode("utf-8", "replace"),
            env=env,
            files={".optio-params.json": json.dumps(dict(params), ensure_ascii=False).encode("utf-8", "replace")},
            file_env={"OPTIO_PARAMS_FILE": ".optio-params.json"},
        )

    def reader(self, task: CompiledTask, spent: Decimal = ZERO_USD) -> "CommandReader":
        return CommandReader(task, spent)


class CommandReader:
    """A reader that keeps the tail of standard output, and what the result file says."""

    def __init__(self, task: CompiledTask, spent: Decimal) -> None:
        self._task = task
        self._spent = spent
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._turns: int | None = None
        self._usage: dict[str, Usage] = {}
        self._costs: dict[str, Decimal] = {}
        self._result: dict[str, Any] | None = None
        self._warnings = 0
        self._complaint = b""

    @property
    def plain(self) -> frozenset[str]:
        return _PLAIN if self._warnings < MAX_IGNORED_LINES else _PLAIN | {"result"}

    def line(self, stream: str, data: bytes, at: datetime) -> list[LogLine]:
        if stream == "result":
            if self._warnings >= MAX_IGNORED_LINES:
                return []
            problem = self._report(data)
            return [log_line(LogKind.SYSTEM, f"result file: {problem}", at)] if problem and self._warn() else []
        if stream == "stderr":
            self._complaint = data.strip() or self._complaint
            return [LogLine(kind=LogKind.STDERR, data=data, at=at)]
        self._tail.append(data)
        self._tail_size += len(data) + 1
        while len(self._tail) > 1 and self._tail_size - len(self._tail[0]) - 1 > TAIL_BYTES:
            self._tail_size -= len(self._tail.popleft()) + 1
        return [LogLine(kind=LogKind.OUTPUT, data=data, at=at)]

    @property
    def longest(self) -> int:
        return MAX_RESULT_LINE_BYTES if isinstance((self._result or {}).get("text"), str) else TAIL_BYTES

    def _warn(self) -> bool:
        self._warnings += 1
        return self._warnings <= MAX_WARNINGS

    def _report(self, data: bytes) -> str | None:
        """Take in a line of the result file. Return a sentence about what was ignored, or None."""
        if len(data) > MAX_RESULT_LINE_BYTES:
            return "a line of more than 1 MiB was ignored"
        if not data.strip():
            return None
        try:
            entry = json.loads(data, parse_constant=reject_constant)
        except (ValueError, RecursionError):
            return "a line was ignored because it is not JSON"
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
        model = entry.get("model", "")
        if not isinstance(model, str) or len(model) > 200:
            return "usage without the name of a model was ignored"
        numbers = {ours: token_count(entry.get(theirs, 0)) for theirs, ours in _FIELDS.items()}
        known = self._usage.get(model, Usage())
        if any(n is None or n < getattr(known, ours) for ours, n in numbers.items()):
            return "usage was ignored because it is not a whole number, negative or decreasing"
        if "costUsd" in entry:
            cost = _money(entry["costUsd"])
            if cost is None or cost < self._costs.get(model, Decimal(0)):
                return "a cost was ignored because it is not decimal text, negative or decreasing"
            self._costs[model] = cost
        self._usage[model] = Usage(**{ours: n or 0 for ours, n in numbers.items()})
        return None

    @property
    def meter(self) -> Meter:
        """Return what the result file reported. Usage without a cost is priced by the table, if that knows the model."""
        listed = {model: prices.cost_of_calls(model, used) for model, used in self._usage.items() if model not in self._costs}
        priced = {model: cost for model, cost in listed.items() if cost is not None}
        costs = [*self._costs.values(), *priced.values()]
        return Meter(
            usage=sum(self._usage.values(), Usage()),
            turns=self._turns,
            cost=sum(costs, Decimal(0)) if costs else None,
            cost_source=(CostSource.PRICES if priced else CostSource.CLI) if costs else None,
        )

    def stop(self) -> Outcome | None:
        return over_limits(self._task, self.meter, self._spent)

    def closing(self, at: datetime) -> list[LogLine]:
        """Return lines that count what was ignored, and that warn of limits for which the program reported nothing."""
        spec, meter = self._task.spec, self.meter
        lines = []
        if self._warnings > MAX_WARNINGS:
            rest = "" if self._warnings < MAX_IGNORED_LINES else ", and all that came after them"
            lines.append(f"result file: {self._warnings - MAX_WARNINGS:,} more lines were ignored{rest}")
        if spec.budget is not None and meter.cost is None:
            lines.append("budgetUsd could not be enforced: the program reported no cost to OPTIO_RESULT_FILE")
        if spec.max_turns is not None and meter.turns is None:
            lines.append("maxTurns could not be enforced: the program reported no turn to OPTIO_RESULT_FILE")
        return [log_line(LogKind.SYSTEM, line, at) for line in lines]

    def outcome(self, ended: ProcessEnd) -> Outcome:
        early = common_outcome(ended)
        if early is not None:
            return early
        result = self._result or {}
        text = self._reported()
        failed = result.get("status") == "error"
        if ended.code == 0 and not failed:
            return Outcome(ok=True, reason="ok", text=self.text, output=result.get("output"))
        reason, again = _exit_reason(ended) if ended.code != 0 else ("failed", True)
        reported = result.get("reason")
        if reason in ("failed", "temporary", "exit_code"):
            fixed = reason == "temporary"
            if failed and isinstance(reported, str) and _REASON.fullmatch(reported):
                reason = reported
                again = fixed or reported not in HOPELESS
            if failed and isinstance(result.get("retryable"), bool) and not fixed:
                again = result["retryable"]
        wait = result.get("retryAfterS")
        seconds = float(wait) if isinstance(wait, (int, float)) and not isinstance(wait, bool) and 0 <= wait < 1e6 else 0.0
        ending = f"exit code {ended.code}" if ended.code is not None else f"killed by signal {ended.signal}"
        # The last line of standard error is the reason, as a rule, for whoever asks why.
        said = self._complaint.decode("utf-8", "replace")
        message = f"{ending}: {text or said}" if (text or said) and reason == "exit_code" else text or ending
        return Outcome(ok=False, reason=reason, message=message, again=again, not_before_s=seconds, text=text or self._output())

    def _output(self) -> str:
        return b"\n".join(self._tail).decode("utf-8", "replace")

    def _reported(self) -> str | None:
        text = (self._result or {}).get("text")
        return text if isinstance(text, str) else None

    @property
    def text(self) -> str:
        reported = self._reported()
        return self._output() if reported is None else reported


def _exit_reason(ended: ProcessEnd) -> tuple[str, bool]:
    code = ended.code
    if code is None or 128 < code <= 128 + 64:
        return "signal", True
    return _EXITS.get(code, ("exit_code", True))


def _money(value: Any) -> Decimal | None:
    if not isinstance(value, str) or len(value) > 20:
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return None
    exponent = amount.as_tuple().exponent
    return amount if amount.is_finite() and 0 <= amount < 10**9 and isinstance(exponent, int) and exponent >= -4 else None
