"""The result of an attempt that ended well: where it comes from, and whether it fits the task's `result`. Pure.

The first of these counts: the structured output of the agent CLI or the last `result` line of the result file, as the runtime
returns it; that line for an agent whose CLI has no structured output; and the agent's answer, if that is JSON. A program's own
output is a log and never a result, since whatever it prints could then forge one.
"""

from collections.abc import Callable
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
# In the words of results, for what `iter_faults` says of parameters.
_SENTENCES = {"required": "is missing", "additionalProperties": "is not in the schema"}


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
    if report is not None and report.status == "error":
        reason, again = report.why_failed("failed", again=True)
        message = report.text or "the agent reported an error"
        return replace(outcome, ok=False, reason=reason, message=message, again=again, not_before_s=report.wait_s, output=None)
    if report is not None and report.status == "no_work":
        why = (report.text or "").strip()
        if not why:
            return _failed(outcome, "result_invalid", "the result file says `no_work` without a `text` that says why")
        return replace(outcome, reason="no_work", message=why, text=why, output=None)
    if report is not None and outcome.output is None:
        outcome = replace(outcome, output=report.output, text=outcome.text if report.text is None else report.text)
    if not is_program and outcome.output is None and not meter.tool_calls and not (outcome.text or "").strip():
        return _failed(outcome, "unproductive", "the agent ended well, but called no tool and answered nothing")
    if task.spec.result is None:
        return outcome
    value, problem = outcome.output, None
    if value is None and is_program:
        problem = "the program wrote no `result` line with an `output` to OPTIO_RESULT_FILE"
    elif value is None and answer.strip():
        part = _json_part(answer)
        try:
            value = json_body.decode(part.encode("utf-8", "surrogatepass"), "the answer")
        except Malformed as err:
            if task.spec.result.required:
                why = str(err) if part.startswith(("{", "[")) else "the answer is not JSON"
                return _failed(outcome, "result_invalid", f"{why}. It begins with: {_beginning(mask(answer))}")
    if value is None:
        missing = problem or "the agent gave no answer"
        return _failed(outcome, "result_missing", missing) if task.spec.result.required else outcome
    faults = [
        f"{pointer(route) or 'the result'} {_SENTENCES.get(keyword or '', sentence)}"
        for route, sentence, keyword in islice(iter_faults(task.spec.result.schema, value), _MAX_FAULTS + 1)
    ]
    if faults:
        more = ["and so on"] if len(faults) > _MAX_FAULTS else []
        return _failed(outcome, "result_invalid", "; ".join([*faults[:_MAX_FAULTS], *more]))
    return replace(outcome, output=value)


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
