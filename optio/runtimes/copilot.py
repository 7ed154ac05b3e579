"""The Copilot runtime: `copilot --output-format json`. Its events say whether it succeeded. The usage of each model call, and
whether an answer was cut off or refused, are in its session file, the side stream."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from optio.model import prices
from optio.model.money import ZERO_USD
from optio.model.registry import CompiledTask
from optio.model.run import CostSource, LogKind, LogLine, Meter, Outcome, Usage
from optio.model.runtimes import DECLARED
from optio.runtimes.base import (
    AttemptContext,
    Invocation,
    ProcessEnd,
    common_outcome,
    guard_slash,
    log_line,
    over_limits,
    reason_of_status,
    unenforced,
)
from optio.runtimes.entries import Entry, notice, retry, said, thought, tool_call, tool_result, turn
from optio.runtimes.event_reader import DOUBTFUL_USAGE, EventReader
from optio.runtimes.json_events import LastTexts, as_dict, first_line, token_count

_FLAGS = (
    *("--output-format", "json", "--allow-all", "--no-ask-user", "--no-color", "--no-auto-update", "--no-custom-instructions"),
    *("--disable-builtin-mcps", "--disable-client-telemetry", "--no-remote-export"),
)
_ENDPOINT = "COPILOT_PROVIDER_BASE_URL"
# What kinds of error Copilot itself tells apart -> (reason, whether a second attempt can help).
_ERRORS = {
    "authentication": ("auth", False),
    "authorization": ("auth", False),
    "policy": ("auth", False),
    "quota": ("quota", False),
    "rate_limit": ("rate_limit", True),
    "context_limit": ("context_overflow", False),
}
_NO_CREDENTIAL = (
    "the run has no credential: name COPILOT_GITHUB_TOKEN in the task's `environment.secrets`, or COPILOT_PROVIDER_API_KEY "
    "and an endpoint in COPILOT_PROVIDER_BASE_URL"
)
_TOO_LONG = ("exceeds the model's prompt budget", "rejected the prompt as too long")
# In the provider's own words, which Copilot passes on: an account without credit, whatever the status is.
_NO_CREDIT = re.compile(r"insufficient_quota|credit balance|billing")
# Events that a model has begun to answer, by how their names begin.
_ANSWERS = ("assistant.message", "assistant.reasoning", "assistant.streaming", "assistant.tool_call", "tool.")
# Model calls that answer somebody else than the task.
_ASIDE = frozenset(f"conversation-{each}" for each in ("subagent", "sampling", "background", "compaction"))
_SHELL_END = re.compile(r"\n?<shellId: \d+ completed with exit code -?\d+>\s*\Z")


class Copilot:
    """The runtime `copilot`: its command line, and a reader of its events and its session file."""

    declaration = DECLARED["copilot"]
    side: str | None = ".copilot/session-state/*/events.jsonl"
    stall: timedelta | None = timedelta(minutes=10)

    def invoke(self, task: CompiledTask, prompt: str, params: Mapping[str, Any], context: AttemptContext) -> Invocation:
        environment = task.spec.environment
        model = () if task.spec.model is None else ("--model", task.spec.model)
        session = () if context.session is None else (f"--resume={context.session}",)
        env = {} if context.endpoint is None else {_ENDPOINT: context.endpoint}
        if _ENDPOINT in (*env, *environment.env, *environment.secrets):
            # It asks that service alone, and nothing of GitHub's.
            env["COPILOT_OFFLINE"] = "true"
        stdin = guard_slash(prompt).encode("utf-8", "replace")
        return Invocation(argv=(context.program, *_FLAGS, *model, *session), stdin=stdin, env=env)

    def reader(self, task: CompiledTask, spent: Decimal = ZERO_USD) -> "CopilotReader":
        return CopilotReader(task, spent)


class CopilotReader(EventReader):
    """A reader of Copilot's events. What an agent below the main one says is no answer of the run, but its calls cost."""

    def __init__(self, task: CompiledTask, spent: Decimal) -> None:
        super().__init__(task, spent)
        self._answer = LastTexts()  # of the last turn that had any
        self._is_new_turn = False
        self._tools: set[str] = set()
        self._answered = 0  # model calls, as the events tell them
        self._calls = 0  # model calls, as the session file records them
        self._used = Usage()
        self._cost = Decimal(0)
        self._unpriced = False
        self._goes_on = False
        self._finish: str | None = None
        self._failed_call: dict[str, Any] = {}
        self._is_broken_off = False  # a model call was, which its provider may bill
        self._error: dict[str, Any] | None = None
        self._interrupted = False
        self._exit_code: int | None = None  # of the terminal event

    def _read_side(self, event: dict[str, Any]) -> Iterator[Entry]:
        kind, data = event.get("type"), as_dict(event.get("data"))
        if kind == "session.start":
            self._identify(version=data.get("copilotVersion"), session=data.get("sessionId"))
        elif kind == "session.usage_record":
            record = as_dict(data.get("usage"))
            aside = record.get("interactionType") in _ASIDE
            if not aside:
                self._identify(model=record.get("model"))
            self._calls += 1
            self._goes_on = aside or record.get("numToolCalls") not in (None, 0)
            if not aside:
                self._finish = str(record.get("finishReason"))
            yield from self._meter(record, lambda model, used, cost: turn(self._calls, model, used, cost, subagent=aside))
        elif kind == "session.compaction_complete" and "compactionTokensUsed" in data:
            # Paid, and no turn.
            yield from self._meter(as_dict(data["compactionTokensUsed"]), _summary)

    def _meter(self, record: dict[str, Any], entry: Callable[[str, Usage, Decimal | None], Entry]) -> Iterator[Entry]:
        """Meter a model call of any agent, by the price of the model that answered."""
        used = _usage(record)
        if used is None:
            yield notice(DOUBTFUL_USAGE)
            used = Usage()
        model = str(record.get("model") or self._task.spec.model or "")
        cost = prices.cost(model, used)
        self._used += used
        self._cost += cost or Decimal(0)
        self._unpriced |= cost is None
        yield entry(model, used, cost)

    def _read(self, event: dict[str, Any]) -> Iterator[Entry]:
        kind, data = event.get("type"), as_dict(event.get("data"))
        is_main = event.get("agentId") is None
        self.is_retrying &= not str(kind).startswith(_ANSWERS)
        if kind == "assistant.message":
            yield from self._message(data, is_main=is_main)
        elif kind == "assistant.reasoning":
            yield thought(str(data.get("content", "")))
        elif kind == "tool.execution_start":
            yield from self._tool_call(data)
        elif kind == "tool.execution_complete":
            yield from self._tool_result(data)
        elif kind == "model.call_failure":
            if is_main:
                self._failed_call, self.is_retrying = data, True
            self._is_broken_off |= data.get("statusCode") is None
            yield _failed(data)
        elif kind == "session.error":
            if is_main:
                self._error = data
            yield notice(str(data.get("message")))
        elif kind == "session.warning":
            yield notice(str(data.get("message")))
        elif kind == "result":
            self._identify(session=event.get("sessionId"))
            self._exit_code = code if isinstance(code := event.get("exitCode"), int) else 1
        else:
            self._note(kind, data, is_main=is_main)

    def _note(self, kind: Any, data: dict[str, Any], *, is_main: bool) -> None:
        """Take in an event of which the log shows nothing."""
        if kind == "user.message":
            self._began = True
        elif kind == "assistant.turn_start":
            self._is_new_turn |= is_main
            self._turn = self._answered + 1
        elif kind == "model.call_finished":
            self._answered += data.get("outcome") == "success"
        elif kind == "assistant.idle":
            self._interrupted |= bool(data.get("aborted"))

    def _message(self, data: dict[str, Any], *, is_main: bool) -> Iterator[Entry]:
        text = data.get("content")
        if not isinstance(text, str) or not text:
            return
        self._said.add(text)
        if is_main:
            if self._is_new_turn:
                self._answer, self._is_new_turn = LastTexts(), False
            self._answer.add(text)
        yield said(text)

    def _tool_call(self, data: dict[str, Any]) -> Iterator[Entry]:
        call_id, server = str(data.get("toolCallId")), data.get("mcpServerName")
        self._tools.add(call_id)
        name = str(data.get("toolName" if server is None else "mcpToolName"))
        yield tool_call(call_id, name, data.get("arguments"), server=None if server is None else str(server))

    def _tool_result(self, data: dict[str, Any]) -> Iterator[Entry]:
        """Log the result of a tool call. A command that failed is a success to Copilot."""
        code = as_dict(data.get("shellExecution")).get("exitCode")
        answer = as_dict(data.get("result")).get("content") or as_dict(data.get("error")).get("message") or ""
        text = _SHELL_END.sub("", str(answer)).rstrip("\n")
        yield tool_result(data.get("toolCallId"), text, ok=data.get("success") is True and code in (None, 0), exit_code=code)

    @property
    def meter(self) -> Meter:
        """Return the usage. It is unknown (zero, without turns and cost) if there is no record of a call that was answered or
        broken off."""
        known = self._calls > 0 or not (self._answered or self._is_broken_off)
        cost = None if self._unpriced or not known else self._cost
        return Meter(
            usage=self._used,
            turns=self._calls if known else None,
            tool_calls=len(self._tools),
            cost=cost,
            cost_source=None if cost is None else CostSource.PRICES,
        )

    def stop(self) -> Outcome | None:
        if self._exit_code is not None or self._error is not None:
            return None
        most = self._task.spec.max_turns
        if most is not None and self._calls >= most + (not self._goes_on):
            # After a tool call it would call the model once more, and a call that has begun is paid.
            return Outcome(ok=False, reason="max_turns", message=f"stopped after {most} turns")
        return over_limits(self._task, self.meter, self._spent)

    def closing(self, at: datetime) -> list[LogLine]:
        """Return a warning of each limit that could not be enforced, with its cause."""
        metered = self._calls > 0 or not (self._answered or self._is_broken_off)
        texts = unenforced(self._task, self.meter, "Copilot", is_metered=metered)
        return [log_line(LogKind.SYSTEM, text, at) for text in texts]

    def outcome(self, ended: ProcessEnd) -> Outcome:
        early = common_outcome(ended)
        if early is not None:
            return early
        if self._exit_code is None:
            found = self._no_result(ended)
            if self._began or "No authentication information" not in found.message:
                return found
            return Outcome(ok=False, reason="auth", message=_NO_CREDENTIAL)
        if self._error is not None:
            reason, again = _reason(self._error, self._failed_call)
            return Outcome(ok=False, reason=reason, message=first_line(str(self._error.get("message"))), again=again)
        if self._interrupted:
            return Outcome(ok=False, reason="signal", message="it was interrupted", again=True)
        if self._exit_code != 0:
            message = f"ended by its own account with exit code {self._exit_code}"
            return Outcome(ok=False, reason="no_result", message=message, again=True)
        if self._finish == "length":
            return Outcome(ok=False, reason="truncated", message="the answer was cut off by its token limit")
        if self._finish == "content_filter":
            return Outcome(ok=False, reason="refusal", message=first_line(self._answer.joined or "the model refused to answer"))
        return self._success(ended, self._answer.joined or "")


def _failed(call: dict[str, Any]) -> Entry:
    """Return an entry for a model call that failed. Copilot counts from 0, and tries most calls again."""
    status, number = call.get("statusCode"), call.get("retryAttempt")
    attempt = number + 1 if isinstance(number, int) else None
    return retry(f"model call failed: {status or ''} {call.get('errorMessage')}", status=status, attempt=attempt)


def _summary(model: str, used: Usage, cost: Decimal | None) -> Entry:
    """Return an entry for a summary of the conversation, which Copilot asks for so that it fits the model."""
    return notice(f"the conversation was summarised: {turn(0, model, used, cost).text.partition(': ')[2]}")


def _reason(error: dict[str, Any], failed_call: dict[str, Any]) -> tuple[str, bool]:
    """Return (reason, again) by the fields of Copilot's error and of the model call that failed last, never by the model's
    words."""
    message, status, kind = str(error.get("message")), error.get("statusCode"), str(error.get("errorType"))
    if any(words in message for words in _TOO_LONG):
        return "context_overflow", False
    if _NO_CREDIT.search(str(failed_call.get("errorMessage"))) and status in (400, 402, 429):
        return "quota", False
    if isinstance(status, int) and not isinstance(status, bool):
        return reason_of_status(status)
    if kind in _ERRORS:
        return _ERRORS[kind]
    if message.startswith("No response was returned"):
        return "unproductive", True
    return ("network" if failed_call.get("failureKind") == "transport" else "no_result"), True


def _usage(record: dict[str, Any]) -> Usage | None:
    """Return the usage of a call, or None if one of its numbers is not plausible. Copilot counts cached tokens as input, and
    reasoning as output."""
    names = ("inputTokens", "cacheReadTokens", "cacheWriteTokens", "outputTokens", "reasoningTokens")
    numbers = [0 if record.get(name) is None else token_count(record[name]) for name in names]
    believed = [number for number in numbers if number is not None]
    if len(believed) != len(numbers) or believed[1] + believed[2] > believed[0]:
        return None
    read, cached, cache_write, output, reasoning = believed
    return Usage(fresh=read - cached - cache_write, cached=cached, cache_write=cache_write, output=output, reasoning=reasoning)
