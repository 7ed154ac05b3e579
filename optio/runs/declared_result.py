"""The result of an attempt that ended well: where it comes from, and whether it fits the task's `result`. Pure.

The first of these counts: the structured output of the agent CLI or the last `result` line of the result file, as the runtime
returns it; that line for an agent whose CLI has no structured output; and the agent's answer, if that is JSON. A program's own
output is a log and never a result, since whatever it prints could then forge one.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from optio.errors import Malformed
from optio.model import json_body
from optio.model.params import iter_faults
from optio.model.registry import CompiledTask
from optio.model.result_file import Report
from optio.model.route import pointer
from optio.model.run import Outcome
from optio.model.runtimes import declaration_of
from optio.model.usage import Meter

_MAX_FAULTS = 5
_MAX_QUOTED = 80
_FENCE = "```"
_NO_LINE = "the program wrote no `result` line with an `output` to OPTIO_RESULT_FILE"
# In the words of results, for what `iter_faults` says of parameters.
_SENTENCES = {"required": "is missing", "additionalProperties": "is not in the schema"}


class _Unusable(Exception):
    """Raised for an attempt that gave no value, or none that is JSON."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def judge_result(
    task: CompiledTask, outcome: Outcome, report: Report | None, meter: Meter, mask: Callable[[str], str]
) -> Outcome:
    """Return the outcome as the result file and the task's `result` make it; a failure stays as it is. `mask` is applied to
    words of the agent before they are cut."""
    if not outcome.ok:
        return outcome
    agent = declaration_of(task.spec.agent_runtime)
    is_program = agent is not None and agent.program is None
    answer = outcome.text or ""
    if report is not None:
        outcome = _reported(outcome, report)
        if not outcome.ok or report.status == "no_work":
            return outcome
    if not is_program and outcome.output is None and not meter.tool_calls and not (outcome.text or "").strip():
        return _failed(outcome, "unproductive", "the agent ended well, but called no tool and answered nothing")
    result, value = task.spec.result, outcome.output
    if result is None:
        return outcome
    if value is None:
        try:
            value = _answer_value("" if is_program else answer, mask)
        except _Unusable as err:
            message = _NO_LINE if is_program else str(err)
            return _failed(outcome, err.reason, message) if result.required else outcome
    faults = _faults(result.schema, value)
    return _failed(outcome, "result_invalid", "; ".join(faults)) if faults else replace(outcome, output=value)


def _faults(schema: Mapping[str, Any], value: Any) -> list[str]:
    """Return a sentence for each fault of a value, up to a number."""
    faults = [
        f"{pointer(route) or 'the result'} {_SENTENCES.get(keyword or '', sentence)}"
        for route, sentence, keyword in islice(iter_faults(schema, value), _MAX_FAULTS + 1)
    ]
    return [*faults[:_MAX_FAULTS], "and so on"] if len(faults) > _MAX_FAULTS else faults


def _reported(outcome: Outcome, report: Report) -> Outcome:
    """Return the outcome as the result file makes it."""
    if report.status == "error":
        reason, again = report.why_failed("failed", again=True)
        message = report.text or "the agent reported an error"
        return replace(outcome, ok=False, reason=reason, message=message, again=again, not_before_s=report.wait_s, output=None)
    if report.status == "no_work":
        text = (report.text or "").strip()
        if not text:
            return _failed(outcome, "result_invalid", "the result file says `no_work` without a `text` that says why")
        return replace(outcome, reason="no_work", message=text, text=text, output=None)
    if outcome.output is not None:
        return outcome
    return replace(outcome, output=report.output, text=outcome.text if report.text is None else report.text)


def _answer_value(answer: str, mask: Callable[[str], str]) -> Any:
    """Return the JSON value of an agent's answer. Raises _Unusable."""
    part = _json_part(answer)
    value = None
    if answer.strip():
        try:
            value = json_body.decode(part.encode("utf-8", "surrogatepass"), "the answer")
        except Malformed as err:
            problem = str(err) if part.startswith(("{", "[")) else "the answer is not JSON"
            raise _Unusable("result_invalid", f"{problem}. It begins with: {_beginning(mask(answer))}") from err
    if value is None:
        raise _Unusable("result_missing", "the agent gave no answer")
    return value


def _failed(outcome: Outcome, reason: str, message: str) -> Outcome:
    return replace(outcome, ok=False, reason=reason, message=message, again=True, output=None)


def _json_part(answer: str) -> str:
    """Return the content of the only fenced block of an answer, or the whole answer."""
    lines = answer.strip().splitlines()
    fences = [index for index, line in enumerate(lines) if line.lstrip().startswith(_FENCE)]
    return "\n".join(lines[fences[0] + 1 : fences[1]] if len(fences) == 2 else lines)


def _beginning(answer: str) -> str:
    words: Any = " ".join(answer[: 4 * _MAX_QUOTED].split())
    return words if len(words) <= _MAX_QUOTED else f"{words[:_MAX_QUOTED]}..."
