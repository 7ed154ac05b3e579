"""The Copilot runtime: `copilot --output-format json`. Its events say whether it succeeded, and count its model calls. The
usage of each call, and whether an answer was cut off or refused, are in its telemetry, which has a call when its turn ends. Its
session file, which Copilot writes once a second, has what a summary of the conversation cost."""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from optio.model.registry import CompiledTask
from optio.model.run import LogLine, Outcome
from optio.model.runtimes import DECLARED
from optio.model.usage import CostSource, Meter
from optio.runtimes.base import TOOL_SERVER, AttemptContext, Invocation, ProcessEnd, guard_slash, reason_of_status
from optio.runtimes.entries import Entry, notice, retry, said, thought, tool_call, tool_result
from optio.runtimes.event_reader import EventReader, usage_of
from optio.runtimes.json_events import LastTexts, as_dict, as_list, compact, event_of, first_line, whole_number

_TELEMETRY, _TELEMETRY_PATH = ".copilot-telemetry.json", "COPILOT_OTEL_FILE_EXPORTER_PATH"
_TOOLS = ".copilot/mcp-config.json"
_FLAGS = (
    *("--output-format", "json", "--allow-all", "--no-ask-user", "--no-color", "--no-auto-update", "--no-custom-instructions"),
    *("--disable-builtin-mcps", "--disable-client-telemetry", "--no-remote-export"),
    # Kept from the agent's commands, as its keys are.
    f"--secret-env-vars={_TELEMETRY_PATH}",
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
# It counts cached tokens as input, and reasoning as output.
_WITHIN_FRESH = ("cached", "cache_write")
_USAGE = {
    "fresh": "gen_ai.usage.input_tokens",
    "cached": "gen_ai.usage.cache_read.input_tokens",
    "cache_write": "gen_ai.usage.cache_write.input_tokens",
    "output": "gen_ai.usage.output_tokens",
    "reasoning": "gen_ai.usage.reasoning.output_tokens",
}
_SUMMARY_USAGE = {
    "fresh": "inputTokens",
    "cached": "cacheReadTokens",
    "cache_write": "cacheWriteTokens",
    "output": "outputTokens",
    "reasoning": "reasoningTokens",
}
# So many entries wait for the telemetry of the model call before them.
_MAX_WAITING = 200
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
        files = {_TELEMETRY: b""}
        if context.tools is not None:
            server = {"type": "http", "url": context.tools.url, "headers": context.tools.headers, "tools": ["*"]}
            files[_TOOLS] = compact({"mcpServers": {TOOL_SERVER: server}}).encode()
        return Invocation(
            argv=(context.program, *_FLAGS, *model, *session),
            stdin=stdin,
            env=env,
            files=files,
            file_env={_TELEMETRY_PATH: _TELEMETRY},
            telemetry=_TELEMETRY,
        )

    def reader(self, task: CompiledTask) -> "CopilotReader":
        return CopilotReader(task)


class CopilotReader(EventReader):
    """A reader of Copilot's events. What an agent below the main one says is no answer of the run, but its calls cost."""

    def __init__(self, task: CompiledTask) -> None:
        super().__init__(task)
        self._answer = LastTexts()  # of the last turn that had any
        self._is_new_turn = False
        self._tools: set[str] = set()
        self._answered = 0  # model calls, as the events tell them
        self._recorded = 0  # model calls, as the telemetry has them
        self._due = 0  # model calls that it should have, since their turns are over
        self._answered_agents: set[str] = set()  # whose turn is not over
        self._is_closed = False
        self._records: deque[Entry] = deque()  # the ends of turns that the log does not have yet
        self._waiting: deque[Entry] = deque()  # entries behind these
        self._ended_turns = 0  # that the log has
        self._calls_tool = False
        self._finish: str | None = None
        self._failed_call: dict[str, Any] = {}
        self._is_open = False  # a model call has begun
        self._is_broken_off = False  # a model call was, which its provider may bill
        self._error: dict[str, Any] | None = None
        self._interrupted = False
        self._exit_code: int | None = None  # of the terminal event

    def _read_side(self, event: dict[str, Any]) -> Iterator[Entry]:
        kind, data = event.get("type"), as_dict(event.get("data"))
        if kind == "session.start":
            self._identify(version=data.get("copilotVersion"), session=data.get("sessionId"))
        elif kind == "session.compaction_complete" and "compactionTokensUsed" in data:
            # Paid, and no turn; the telemetry has nothing of it.
            tokens = as_dict(data["compactionTokensUsed"])
            usage = usage_of(tokens, _SUMMARY_USAGE, within_fresh=_WITHIN_FRESH)
            *notices, call = self._meter_call(0, self._model(tokens.get("model")), usage)
            yield from notices
            yield notice(f"the conversation was summarised: {call.text.partition(': ')[2]}")

    def _read_telemetry(self, data: bytes) -> Iterator[Entry]:
        """Meter a model call that was answered."""
        span = event_of(data) or {}
        attributes = as_dict(span.get("attributes"))
        if attributes.get("gen_ai.operation.name") != "chat" or "gen_ai.response.model" not in attributes:
            return
        self._recorded += 1
        is_main = attributes.get("github.copilot.initiator") != "sub-agent"
        if is_main:
            version = as_dict(as_dict(span.get("resource")).get("attributes")).get("service.version")
            self._identify(
                version=version, session=attributes.get("gen_ai.conversation.id"), model=attributes["gen_ai.response.model"]
            )
            self._finish = next(iter(as_list(attributes.get("gen_ai.response.finish_reasons"))[-1:]), None)
        model = self._model(attributes["gen_ai.response.model"])
        usage = usage_of(attributes, _USAGE, within_fresh=_WITHIN_FRESH)
        *notices, call = self._meter_call(self._recorded, model, usage, subagent=not is_main)
        yield from notices
        self._records.append(call)
        yield from self._in_order()

    def _model(self, name: Any) -> str:
        return str(name or self._task.spec.model or "")

    def _read(self, event: dict[str, Any]) -> Iterator[Entry]:
        for entry in self._entries(event):
            self._waiting.append(entry._replace(turn=self._turn))
        yield from self._in_order()

    def _in_order(self, at_most: int = _MAX_WAITING) -> Iterator[Entry]:
        """Yield what the log lacks, the end of each turn before what comes behind that turn. Events and telemetry are two
        files, and either may be ahead."""
        while True:
            current = self._ended_turns + 1
            head = self._waiting[0].turn or 0 if self._waiting else None
            if head is not None and (head <= current or (not self._records and len(self._waiting) > at_most)):
                yield self._waiting.popleft()
            elif self._records and (head is not None or self._turn > current or self.is_over or not at_most):
                self._ended_turns += 1
                yield self._records.popleft()
            else:
                return

    def _entries(self, event: dict[str, Any]) -> Iterator[Entry]:
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
            self._is_open = False
            yield _failed(data)
        elif kind == "session.error":
            if is_main:
                self._error, self.is_over = data, True
            yield notice(str(data.get("message")))
        elif kind == "session.warning":
            yield notice(str(data.get("message")))
        elif kind == "result":
            self._identify(session=event.get("sessionId"))
            self._exit_code, self.is_over = code if isinstance(code := event.get("exitCode"), int) else 1, True
        else:
            self._note(kind, data, event.get("agentId"))

    def _note(self, kind: Any, data: dict[str, Any], agent: Any) -> None:
        """Take in an event of which the log shows nothing."""
        if kind == "user.message":
            self._began = True
        elif kind == "assistant.turn_start":
            self._is_new_turn |= agent is None
            self._turn = self._answered + 1
        elif kind == "model.call_start":
            self._is_open = True
        elif kind == "model.call_finished":
            # What was answered is told in the next event.
            self._is_open, self._calls_tool = False, False
            if data.get("outcome") == "success":
                self._answered += 1
                self._answered_agents.add(str(agent))
        elif kind == "assistant.turn_end" and str(agent) in self._answered_agents:
            self._answered_agents.discard(str(agent))
            self._due += 1
        elif kind == "assistant.idle":
            self._interrupted |= bool(data.get("aborted"))

    def _message(self, data: dict[str, Any], *, is_main: bool) -> Iterator[Entry]:
        text = data.get("content")
        self._calls_tool = not is_main or bool(data.get("toolRequests"))
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
        """Return the usage. A call is in the telemetry a moment after its turn is over, so one that is not there is awaited. It
        is unknown (zero, without turns and cost) if there is none of a call that was begun."""
        is_lost = self._due - self._recorded > 1 or (self._is_closed and self._answered > self._recorded)
        was_asked = bool(self._answered or self._is_broken_off or self._is_open)
        cost = None if is_lost or (was_asked and not self._recorded) else self._cost
        return Meter(
            usage=self._usage,
            turns=self._answered if is_lost else self._recorded or (None if was_asked else 0),
            tool_calls=len(self._tools),
            cost=cost,
            cost_source=None if cost is None else CostSource.PRICES,
        )

    @property
    def begun_turns(self) -> int:  # type: ignore[override]
        """Return the model calls so far, also those that the telemetry does not have yet. After a tool call it calls the model
        once more."""
        return self._answered + self._calls_tool

    def closing(self, at: datetime) -> list[LogLine]:
        """Return what has waited for telemetry."""
        self._is_closed = True
        return [self._line(entry, at) for entry in self._in_order(at_most=0)]

    def _conclude(self, end: ProcessEnd) -> Outcome:
        if self._exit_code is None:
            no_result_outcome = self._no_result(end)
            if self._began or "No authentication information" not in no_result_outcome.message:
                return no_result_outcome
            return Outcome(ok=False, reason="auth", message=_NO_CREDENTIAL)
        if self._error is not None:
            reason, may_retry = _reason(self._error, self._failed_call)
            return Outcome(ok=False, reason=reason, message=first_line(str(self._error.get("message"))), again=may_retry)
        if self._interrupted:
            return Outcome(ok=False, reason="signal", message="it was interrupted", again=True)
        if self._exit_code != 0:
            message = f"ended by its own account with exit code {self._exit_code}"
            return Outcome(ok=False, reason="no_result", message=message, again=True)
        answer = self._answer.joined or ""
        return self._cut_off(self._finish, answer) or self._success(end, answer)


def _failed(call: dict[str, Any]) -> Entry:
    """Return an entry for a model call that failed. Copilot counts from 0, and tries most calls again."""
    status, number = call.get("statusCode"), call.get("retryAttempt")
    attempt = number + 1 if isinstance(number, int) else None
    return retry(f"model call failed: {status or ''} {call.get('errorMessage')}", status=status, attempt=attempt)


def _reason(error: dict[str, Any], failed_call: dict[str, Any]) -> tuple[str, bool]:
    """Return (reason, may_retry) by the fields of Copilot's error and of the model call that failed last, never by the model's
    words."""
    message, kind = str(error.get("message")), str(error.get("errorType"))
    status = whole_number(error.get("statusCode"))
    if any(words in message for words in _TOO_LONG):
        return "context_overflow", False
    if _NO_CREDIT.search(str(failed_call.get("errorMessage"))) and status in (400, 402, 429):
        return "quota", False
    if status is not None:
        return reason_of_status(status)
    if kind in _ERRORS:
        return _ERRORS[kind]
    if message.startswith("No response was returned"):
        return "unproductive", True
    return ("network" if failed_call.get("failureKind") == "transport" else "no_result"), True
