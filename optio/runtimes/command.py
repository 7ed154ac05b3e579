"""The command runtime: any program is an agent. Its standard output is a log and never parsed; it reports cost and result by
the file OPTIO_RESULT_FILE."""

import json
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any

from optio.model import prices
from optio.model.money import ZERO_USD, RunBudget
from optio.model.registry import CompiledTask
from optio.model.result_file import MAX_LINE_BYTES, UNKNOWN_TYPE, Report, ResultFile
from optio.model.run import LogKind, LogLine, Outcome
from optio.model.runtimes import DECLARED
from optio.model.usage import CostSource, Meter, Usage
from optio.runtimes.base import AttemptContext, Invocation, ProcessEnd, common_outcome, end_text, log_line
from optio.runtimes.json_events import money, token_count

TAIL_BYTES = 64 * 1024
EX_TEMPFAIL, EX_NOPERM, EX_USAGE, EX_CONFIG = 75, 77, 64, 78
_SMALLEST_USD = Decimal("0.000001")
_FIELDS = {"input": "fresh", "cached": "cached", "cacheWrite": "cache_write", "output": "output", "reasoning": "reasoning"}
_USAGE_KEYS = ("type", "model", *_FIELDS, "costUsd")
# exit code -> (reason, whether a second attempt can help); other codes are `exit_N`.
_EXITS = {
    EX_TEMPFAIL: ("temporary", True),
    EX_NOPERM: ("auth", False),
    EX_USAGE: ("config", False),
    EX_CONFIG: ("config", False),
    126: ("not_executable", False),
    127: ("command_not_found", False),
}
_PARAMS, _SCHEMA = ".optio-params.json", ".optio-result-schema.json"
_PLAIN = frozenset({"stdout", "stderr"})


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
        budget = RunBudget.of(task.spec, context.spent).left
        if budget is not None:
            env["OPTIO_BUDGET_USD"] = f"{budget:f}"
        if context.tools is not None:
            env |= {"OPTIO_TOOLS_URL": context.tools.url, "OPTIO_TOOLS_KEY": context.tools.key}
        files, file_env = {_PARAMS: dict(params)}, {"OPTIO_PARAMS_FILE": _PARAMS}
        if task.spec.result is not None:
            files[_SCHEMA], file_env["OPTIO_RESULT_SCHEMA_FILE"] = task.spec.result.schema, _SCHEMA
        return Invocation(
            argv=argv,
            stdin=prompt.encode("utf-8", "replace"),
            env=env,
            files={name: json.dumps(content, ensure_ascii=False).encode("utf-8", "replace") for name, content in files.items()},
            file_env=file_env,
        )

    def reader(self, task: CompiledTask) -> "CommandReader":
        return CommandReader()


class CommandReader:
    """A reader that keeps the tail of standard output, and what the result file says."""

    def __init__(self) -> None:
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._turns: int | None = None
        self._usage: dict[str, Usage] = {}
        self._costs: dict[str, Decimal] = {}
        self._meter: Meter | None = Meter()  # None after a line that may have changed it
        self.unpriced: str | None = None  # a model that the file reported without a cost, and that has no price
        self.file = ResultFile(self._take)
        self._complaint = b""

    @property
    def plain(self) -> frozenset[str]:
        return _PLAIN | {"result"} if self.file.is_given_up else _PLAIN

    def line(self, stream: str, data: bytes, at: datetime) -> list[LogLine]:
        if stream == "result":
            problem = self.file.line(data)
            return [] if problem is None else [log_line(LogKind.SYSTEM, problem, at)]
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
        return TAIL_BYTES if self._reported() is None else MAX_LINE_BYTES

    def _take(self, entry: dict[str, Any]) -> str | None:
        """Take in a line of the result file that is not a result."""
        self._meter = None
        if entry.get("type") == "turn":
            self._turns = (self._turns or 0) + 1
            return None
        return self._take_usage(entry) if entry.get("type") == "usage" else UNKNOWN_TYPE

    def _take_usage(self, entry: dict[str, Any]) -> str | None:
        model = entry.get("model", "")
        if not isinstance(model, str) or len(model) > 200:
            return "usage without the name of a model was ignored"
        numbers = {name: token_count(entry.get(key, 0)) for key, name in _FIELDS.items()}
        last_usage = self._usage.get(model, Usage())
        if any(number is None or number < getattr(last_usage, name) for name, number in numbers.items()):
            return "usage was ignored because it is not a whole number, negative or decreasing"
        if "costUsd" in entry:
            cost = _money(entry["costUsd"])
            if cost is None or cost < self._costs.get(model, Decimal(0)):
                return "a cost was ignored because it is negative, decreasing or not a number"
            self._costs[model] = cost
        self._usage[model] = Usage(**{name: number or 0 for name, number in numbers.items()})
        unknown = next((key for key in entry if key not in _USAGE_KEYS), None)
        if unknown is None:
            return None
        return f"usage: {json.dumps(unknown[:50])} is ignored, its keys are {', '.join(_USAGE_KEYS[1:])}"

    @property
    def meter(self) -> Meter:
        """Return what the result file reported. Usage without a cost is priced by the table; where that does not know a model,
        the cost is unknown."""
        self._meter = self._meter or self._add_up()
        return self._meter

    def _add_up(self) -> Meter:
        used_models = {model: usage for model, usage in self._usage.items() if model not in self._costs}
        table_costs = {
            model: prices.cost_of_calls(model, usage) if usage.total else ZERO_USD for model, usage in used_models.items()
        }
        self.unpriced = next((model for model, cost in table_costs.items() if cost is None), None)
        costs = [*self._costs.values(), *(cost for cost in table_costs.values() if cost is not None)]
        is_known = bool(costs) and self.unpriced is None
        return Meter(
            usage=sum(self._usage.values(), Usage()),
            turns=self._turns,
            cost=sum(costs, Decimal(0)) if is_known else None,
            cost_source=(CostSource.PRICES if table_costs else CostSource.CLI) if is_known else None,
        )

    def stop(self) -> Outcome | None:
        return None

    def closing(self, at: datetime) -> list[LogLine]:
        """Return lines that count what was ignored."""
        return [log_line(LogKind.SYSTEM, line, at) for line in self.file.closing()]

    def outcome(self, end: ProcessEnd) -> Outcome:
        common = common_outcome(end)
        if common is not None:
            return common
        report = self.file.report
        if end.code == 0 and (report is None or report.status != "error"):
            return Outcome(ok=True, reason="ok", text=self.text, output=None if report is None else report.output)
        reason, may_retry = _failure_reason(end, report)
        text, ending = self._reported(), end_text(end) if end.code is not None else f"killed by {end_text(end)}"
        # The last line of standard error is the reason, as a rule, for whoever asks why.
        cause = text or self._complaint.decode("utf-8", "replace")
        message = f"{ending}: {cause}" if cause and reason == "exit_code" else text or ending
        wait_s = 0.0 if report is None else report.wait_s
        return Outcome(
            ok=False, reason=reason, message=message, again=may_retry, not_before_s=wait_s, text=text or self._output()
        )

    def _output(self) -> str:
        return b"\n".join(self._tail).decode("utf-8", "replace")

    def _reported(self) -> str | None:
        return None if self.file.report is None else self.file.report.text

    @property
    def text(self) -> str:
        reported = self._reported()
        return self._output() if reported is None else reported


def _failure_reason(end: ProcessEnd, report: Report | None) -> tuple[str, bool]:
    """Return why the program failed, and whether another attempt may help: by its exit code, and by the error in its result
    file where that says more."""
    reason, may_retry = _exit_reason(end) if end.code != 0 else ("failed", True)
    if report is not None and report.status == "error":
        if reason in ("failed", "exit_code"):
            return report.why_failed(reason, again=may_retry)
        if reason == "temporary":
            return report.reason or reason, may_retry
    return reason, may_retry


def _exit_reason(end: ProcessEnd) -> tuple[str, bool]:
    code = end.code
    if code is None or 128 < code <= 128 + 64:
        return "signal", True
    return _EXITS.get(code, ("exit_code", True))


def _money(value: Any) -> Decimal | None:
    """Return an amount that is a number or decimal text, with at most six places, rounded up; None for any other value."""
    try:
        amount = Decimal(value) if isinstance(value, str) and len(value) <= 40 else money(value)
    except InvalidOperation:
        return None
    if amount is None or not amount.is_finite() or not 0 <= amount < 10**9:
        return None
    return amount.quantize(_SMALLEST_USD, ROUND_CEILING).normalize() + ZERO_USD
