"""The Gemini runtime: Google's Gemini CLI, `gemini --output-format stream-json`. Its events say whether it succeeded. The usage
of each model call, and whether a command failed, are in its session file, the side stream. Whether an answer was cut off or
refused is in its telemetry."""

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from optio.model import prices
from optio.model.agent_event import ToolResult
from optio.model.money import ZERO_USD
from optio.model.registry import CompiledTask
from optio.model.run import LogKind, LogLine, Outcome
from optio.model.runtimes import DECLARED
from optio.model.usage import CostSource, Meter, Usage
from optio.runtimes.base import (
    BY_STATUS,
    TOOL_SERVER,
    AttemptContext,
    Invocation,
    ProcessEnd,
    ToolServer,
    hide_keys,
    is_command,
    log_line,
    reason_of_status,
)
from optio.runtimes.entries import Entry, notice, said, thought, tool_call, tool_result
from optio.runtimes.event_reader import DOUBTFUL_USAGE, EventReader, usage_of
from optio.runtimes.json_events import MAX_TEXT_BYTES, as_dict, as_dicts, as_list, as_output, first_line, token_count

# Set, since they win over the settings of the working directory: to a file alone, and without prompts.
_TO_A_FILE = {
    "GEMINI_TELEMETRY_ENABLED": "true",
    "GEMINI_TELEMETRY_TARGET": "local",
    "GEMINI_TELEMETRY_LOG_PROMPTS": "false",
    "GEMINI_TELEMETRY_TRACES_ENABLED": "false",
    "GEMINI_TELEMETRY_USE_COLLECTOR": "false",
    "GEMINI_TELEMETRY_USE_CLI_AUTH": "false",
}
_NOWHERE = {"GEMINI_TELEMETRY_ENABLED": "false"}
# The longest that a call of a tool may take; the gateway ends it before.
_TOOLS_MS = 3_600_000
_TELEMETRY = ".gemini/telemetry.json"
# By itself it writes its system prompt and its tools three times a call, 150 kB: with these, 9 kB. They are of OpenTelemetry,
# and not for the programs that the agent's commands run.
_SHORT_TELEMETRY = {
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "300",
    "OTEL_TRACES_SAMPLER": "always_off",
    "OTEL_NODE_RESOURCE_DETECTORS": "none",
}
_CALL = re.compile(rb'"gemini_cli\.(?:api_response|api_error|network_retry_attempt)"')
_MAX_TELEMETRY_BYTES = 256 * 1024
# Always set, since Gemini would take another one from an `.env` file of the working directory, and send it the key.
_URL = "https://generativelanguage.googleapis.com"
# The text behind a command goes to the model as it is. In any other prompt Gemini puts the text of a file in the place of `@`
# and its name, and one that begins with `/` may be a command of the working directory.
# A message that begins so is left out of a session that is continued.
_NOT_KEPT = ("?", "<session_context>", "<hook_context>")
_COMMAND = "optio-task"
_COMMAND_FILE = f'prompt = "The task follows the name of this command:"\ndescription = "{_COMMAND}"\n'
# Gemini 0.61 keeps each tool result twice, with its call and as a message, and sends both when it continues a session, which
# Google's API refuses. A later entry with the id of the message takes its place.
_RESULTS_ONCE = r"""for each in "$HOME"/.gemini/tmp/*/chats/session-*.jsonl; do
    [ -f "$each" ] || continue
    message='^{"id":"[^"]*","timestamp":"[^"]*","type":"user","content":\[{"functionResponse":'
    entries=$(sed -n "/$message/s/\"user\",.*/\"info\",\"content\":\"\"}/p" "$each")
    [ -z "$entries" ] || printf '\n%s\n' "$entries" >>"$each"
done"""
# By itself it asks the model 10 times, for more than three minutes.
_MAX_ATTEMPTS = 3
_LOOP = "Loop detected"
_STATUS = re.compile(r'"code":\s*(\d{3})\b')
# Words of the error body of Google's API, which say more than its status -> (reason, whether a second attempt can help).
_BODIES = (
    ("API key not valid", "auth", False),
    ("input token count", "context_overflow", False),
    ("is not found for API version", "model_not_found", False),
)
# What a failed run says, in Gemini's own words -> the same.
_FAILURES = (
    ("exhausted your daily quota", "quota", False),
    ("request a quota increase", "rate_limit", True),
    ("exhausted your capacity", "overloaded", True),
    ("returned an empty response", "unproductive", True),
    ("reasoning thoughts but no final response", "unproductive", True),
    ("exceeded the token limit", "truncated", False),
    ("response was blocked", "refusal", False),
    ("terminated", "network", True),
    ("Incomplete JSON", "network", True),
    ("fetch failed", "network", True),
)
_TYPES = {
    "FatalTurnLimitedError": "max_turns",
    "FatalAuthenticationError": "auth",
    "FatalConfigError": "config",
    "FatalInputError": "config",
}
_UNKNOWN_FINISH = "its telemetry does not say how the answer ended: it may have been cut off or refused"
_SHELL = "run_shell_command"
# The end of what the model is told about a command that failed. Its own output stands before that, and is not searched.
_FAILED = re.compile(r"\n(?:Exit Code: (\d+)|Signal: \w+)\n(?:[A-Z][\w ]+: [^\n]*\n)*</untrusted_context>\s*\Z")
_END_CHARACTERS = 500
# Reasons of a model call that was refused: it costs nothing.
_REFUSALS = frozenset(reason for reason, _ in BY_STATUS.values()) | {"server_error"}
# The beginning, where it was too slow for Gemini. Before the output of any other command stands `Output:`.
_TOO_SLOW = re.compile(r"\s*<untrusted_context>\s*Command was automatically cancelled ")
# It counts cached tokens as input, and reasoning not as output.
_SESSION_USAGE = {"fresh": "input", "cached": "cached", "output": "output", "reasoning": "thoughts"}
_TOTAL_USAGE = {"fresh": "input_tokens", "cached": "cached", "output": "output_tokens"}
# So many entries wait for the session file to tell whether a command failed.
_MAX_WAITING = 200
# Lines of standard error that every run begins with.
_NOISE = ("Warning: ", "YOLO mode is enabled", "Ripgrep is not available", "[STARTUP]", "The 'metricReader' option")
_NO_KEY = 41  # its exit code
# Of a 404 its events have no status, but the report on standard error ends with it.
_REPORTED_STATUS = re.compile(r"^  code: (\d{3}),?$", re.MULTILINE)


class Gemini:
    """The runtime `gemini`: its command line, its settings, and a reader of its events and its session file."""

    declaration = DECLARED["gemini"]
    side: str | None = ".gemini/tmp/*/chats/session-*.jsonl"
    stall: timedelta | None = timedelta(minutes=10)

    def invoke(self, task: CompiledTask, prompt: str, params: Mapping[str, Any], context: AttemptContext) -> Invocation:
        argv = [context.program, "--output-format", "stream-json", "--approval-mode", "yolo", "--skip-trust"]
        if task.spec.model is not None:
            argv += ["-m", task.spec.model]
        if context.session is not None:
            argv += ["--resume", context.session]
        environment = task.spec.environment
        env = {"GEMINI_CLI_NO_RELAUNCH": "true", "GOOGLE_GEMINI_BASE_URL": context.endpoint or _URL}
        files, file_env = {".gemini/settings.json": json.dumps(_settings(task, context.tools)).encode()}, dict[str, str]()
        is_ours = not any(name.startswith("GEMINI_TELEMETRY_") for name in (*environment.env, *environment.secrets))
        if is_ours:
            hidden, file_env = hide_keys(task, "BASH_ENV", _SHORT_TELEMETRY)
            files |= {**hidden, _TELEMETRY: b""}
            file_env["GEMINI_TELEMETRY_OUTFILE"] = _TELEMETRY
        if "@" in prompt or is_command(prompt) or prompt.lstrip().startswith(_NOT_KEPT):
            files[f".gemini/commands/{_COMMAND}.toml"] = _COMMAND_FILE.encode()
            prompt = f"/{_COMMAND} {prompt}"
        return Invocation(
            argv=tuple(argv),
            stdin=prompt.encode("utf-8", "replace"),
            env=env | (_TO_A_FILE | _SHORT_TELEMETRY if is_ours else _NOWHERE),
            files=files,
            file_env=file_env,
            telemetry=_TELEMETRY if is_ours else None,
            setup=() if context.session is None else (_RESULTS_ONCE,),
        )

    def reader(self, task: CompiledTask) -> "GeminiReader":
        return GeminiReader(task)


def _settings(task: CompiledTask, tools: ToolServer | None) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "security": {"auth": {"selectedType": "gemini-api-key"}, "environmentVariableRedaction": {"enabled": True}},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"maxAttempts": _MAX_ATTEMPTS, "enableAutoUpdate": False, "enableAutoUpdateNotification": False},
        "advanced": {"ignoreLocalEnv": True},
        "hooksConfig": {"enabled": False},
        "ui": {"showCompatibilityWarnings": False},
    }
    if task.spec.max_turns is not None:
        settings["model"] = {"maxSessionTurns": task.spec.max_turns}
    if task.spec.budget_limit is not None:
        # The model calls of a subagent are in another file, which nobody reads while they are made.
        settings["tools"] = {"exclude": ["invoke_agent"]}
    if tools is not None:
        server = {"httpUrl": tools.url, "headers": tools.headers, "timeout": _TOOLS_MS, "trust": True}
        settings["mcpServers"] = {TOOL_SERVER: server}
    return settings


class GeminiReader(EventReader):
    """A reader of Gemini's events. Model calls are counted by the answers in the session file; the final figures are those of
    the last event, which has the calls of subagents and tools, too."""

    def __init__(self, task: CompiledTask) -> None:
        super().__init__(task)
        self._answer: list[str] = []  # since the last tool call
        self._pending = ""  # of that, what the log does not have yet
        self._tools: dict[str, str] = {}  # the name of each, by the id of the call
        self._waiting: deque[tuple[Entry, str]] = deque()  # behind the result of a command, whose id is the second
        self._ends: dict[str, tuple[bool, int | None]] = {}  # of commands, by the session file: ok, exit code
        self._calls: set[str] = set()  # of the session file
        self._used: dict[str, Usage] = {}  # by these calls, for each model
        self._totals: dict[str, Usage] | None = None
        self._status: str | None = None
        self._failure = ""
        self._failure_type = ""
        self._looped = False
        self._entry = bytearray()  # of the telemetry, as far as it is read
        self._is_broken_off = False  # a model call was, which its provider may bill
        self._finish: str | None = None  # of the last answer to the main agent, by the telemetry

    def _read_side(self, event: dict[str, Any]) -> Iterator[Entry]:
        """Meter a model call from the session file, which repeats the entry of an answer when its tools have run."""
        tokens, call = as_dict(event.get("tokens")), str(event.get("id"))
        if event.get("type") != "gemini":
            return
        yield from self._command_ends(event)
        if not tokens or call in self._calls:
            return
        usage = usage_of(tokens, _SESSION_USAGE, within_fresh=("cached",), has_reasoning_apart=True)
        model = str(event.get("model"))
        self._identify(model=event.get("model"))
        self._calls.add(call)
        self._used[model] = self._used.get(model, Usage()) + (usage or Usage())
        number = len(self._calls)
        for part in as_dicts(event.get("thoughts")):
            text = "\n".join(str(part[key]) for key in ("subject", "description") if part.get(key))
            yield thought(text)._replace(turn=number)
        yield from self._meter_call(number, model, usage)

    def _command_ends(self, event: dict[str, Any]) -> Iterator[Entry]:
        """Take in how commands ended, and yield what has waited for that. The events say that each of them succeeded."""
        for call in as_dicts(event.get("toolCalls")):
            for part in as_dicts(call.get("result")):
                output = as_dict(as_dict(part.get("functionResponse")).get("response")).get("output")
                if call.get("name") == _SHELL and isinstance(output, str):
                    failed = _FAILED.search(output[-_END_CHARACTERS:])
                    code = int(failed[1]) if failed is not None and failed[1] is not None else None
                    self._ends[str(call.get("id"))] = (failed is None and _TOO_SLOW.match(output) is None, code)
        yield from self._no_longer_waiting()

    def _no_longer_waiting(self, at_most: int = _MAX_WAITING) -> Iterator[Entry]:
        """Yield the entries whose turn it is: those in front of the first command whose end is not known yet."""
        while self._waiting:
            entry, call_id = self._waiting[0]
            if call_id and call_id not in self._ends and len(self._waiting) <= at_most:
                return
            self._waiting.popleft()
            ok, code = self._ends.get(call_id, (True, None))
            yield entry if ok else tool_result(call_id, entry.text, ok=False, exit_code=code)._replace(turn=entry.turn)

    def _read_telemetry(self, data: bytes) -> Iterator[Entry]:
        """Take in a line of an entry, an object of many lines: the first and the last of them are braces alone."""
        if data == b"{":
            self._entry.clear()
        if len(self._entry) < _MAX_TELEMETRY_BYTES:
            self._entry += data
        if data != b"}":
            return
        text = bytes(self._entry)
        self._entry.clear()
        if _CALL.search(text) is not None:
            self._read_call(text)
        yield from ()

    def _read_call(self, entry: bytes) -> None:
        try:
            attributes = as_dict(as_dict(json.loads(entry)).get("attributes"))
        except (ValueError, RecursionError):
            return
        name = str(attributes.get("event.name")).removeprefix("gemini_cli.")
        if name == "api_response" and attributes.get("role") == "main":
            self._finish = next(iter(as_list(attributes.get("finish_reasons"))[-1:]), None)
        elif name == "api_error":
            self._is_broken_off |= not isinstance(attributes.get("status_code"), int)
        elif name == "network_retry_attempt":
            self._is_broken_off |= attributes.get("error_type") == "INCOMPLETE_JSON"

    def _read(self, event: dict[str, Any]) -> Iterator[Entry]:
        for entry in self._entries(event):
            call_id = entry.event.id if isinstance(entry.event, ToolResult) and entry.event.ok else ""
            self._waiting.append((entry._replace(turn=self._turn), call_id if self._tools.get(call_id) == _SHELL else ""))
        yield from self._no_longer_waiting()

    def _entries(self, event: dict[str, Any]) -> Iterator[Entry]:
        kind = event.get("type")
        if kind == "message":
            if event.get("role") == "assistant":
                self._begin_turn()
                yield from self._delta(str(event.get("content", "")))
            return
        if kind in ("tool_use", "error", "result"):
            yield from self._told()
        if kind == "init":
            self._began, self._turn = True, 1
            self._identify(session=event.get("session_id"), model=event.get("model"))
        elif kind == "tool_use":
            self._begin_turn()
            yield self._tool_call(event)
        elif kind == "tool_result":
            yield self._tool_result(event)
        elif kind == "error":
            self._failure = str(event.get("message"))
            self._looped |= self._failure.startswith(_LOOP)
            yield notice(self._failure)
        elif kind == "result":
            yield from self._end(event)

    def _tool_call(self, event: dict[str, Any]) -> Entry:
        call_id = str(event.get("tool_id"))
        self._answer = []
        self._tools[call_id] = name = str(event.get("tool_name"))
        self._open_tools.add(call_id)
        return tool_call(call_id, name, event.get("parameters"))

    def _tool_result(self, event: dict[str, Any]) -> Entry:
        call_id = str(event.get("tool_id"))
        self._end_tool(call_id)
        text = as_output(event.get("output", as_dict(event.get("error")).get("message")))
        return tool_result(call_id, text, ok=event.get("status") != "error")

    def _delta(self, text: str) -> Iterator[Entry]:
        """Take in a part of an answer. The log gets the parts of an answer as one."""
        self._answer.append(text)
        self._pending += text
        if len(self._pending) >= MAX_TEXT_BYTES:
            yield from self._told()

    def _told(self) -> Iterator[Entry]:
        if self._pending:
            text, self._pending = self._pending, ""
            self._said.add(text)
            yield said(text)

    def _end(self, event: dict[str, Any]) -> Iterator[Entry]:
        self._status, self.is_over = str(event.get("status")), True
        error = as_dict(event.get("error"))
        self._failure = str(error.get("message") or self._failure)
        self._failure_type = str(error.get("type"))
        self._totals = _totals(as_dict(event.get("stats")))
        if self._totals is None:
            yield notice(DOUBTFUL_USAGE)

    @property
    def text(self) -> str | None:
        return "\n\n".join(text for text in (self._said.joined, self._pending) if text) or None

    @property
    def meter(self) -> Meter:
        """Return the usage. It is unknown (zero, without a cost) if no answer is known, unless all model calls were refused."""
        usage = sum((self._totals or self._used).values(), Usage())
        is_refused = self._status == "error" and not self._is_broken_off and self._reason()[0] in _REFUSALS
        cost = self._full_cost() if usage != Usage() or self._calls or is_refused else None
        return Meter(
            usage=usage,
            turns=len(self._calls) if self._calls or (is_refused and usage == Usage()) else None,
            tool_calls=len(self._tools),
            cost=cost,
            cost_source=None if cost is None else CostSource.PRICES,
        )

    def _full_cost(self) -> Decimal | None:
        """Return the cost of the calls in the session file, each by itself, and of what the totals have beyond them; None if
        one has no price."""
        totals, cost, call_usage = self._totals or {}, self._cost, self._used
        if totals and not call_usage.keys() <= totals.keys():  # the answers name their models otherwise
            cost, call_usage = ZERO_USD, {}
        for model, total in totals.items():
            beyond = total.beyond(call_usage.get(model, Usage()))
            extra_cost = ZERO_USD if beyond == Usage() else prices.cost_of_calls(model, beyond)
            cost = None if cost is None or extra_cost is None else cost + extra_cost
        return cost

    def closing(self, at: datetime) -> list[LogLine]:
        """Return the last words, and that the end of the answer is not known without telemetry."""
        lines = [self._line(entry, at) for entry in (*self._no_longer_waiting(at_most=0), *self._told())]
        if self._status == "success" and self._finish is None:
            lines.append(log_line(LogKind.SYSTEM, _UNKNOWN_FINISH, at))
        return lines

    def _conclude(self, end: ProcessEnd) -> Outcome:
        if self._status is None:
            if not self._began and end.code == _NO_KEY:
                return Outcome(ok=False, reason="auth", message=self._complaint())
            return self._no_result(end)
        if self._looped:
            return Outcome(ok=False, reason="loop", message="it repeated the same tool call or text, and stopped itself")
        if self._status != "success":
            reason, may_retry = self._reason()
            message = first_line(self._failure) or "an error without a message"
            if reason == "max_turns":
                message = f"stopped after {self._task.spec.max_turns} turns"
            return Outcome(ok=False, reason=reason, message=message, again=may_retry)
        answer = "".join(self._answer)
        return self._cut_off(self._finish, answer) or self._success(end, answer)

    def _reason(self) -> tuple[str, bool]:
        return _reason(self._failure_type, self._failure, self._stderr.decode("utf-8", "replace"))

    def _complaint(self) -> str:
        lines = self._stderr.decode("utf-8", "replace").splitlines()
        return next((line.strip() for line in lines if line.strip() and not line.startswith(_NOISE)), "")


def _reason(kind: str, message: str, stderr: str) -> tuple[str, bool]:
    """Return (reason, may_retry) by Gemini's own words for a failed run and the error body of the model's API, never by the
    model's."""
    if kind in _TYPES:
        return _TYPES[kind], False
    status = _STATUS.search(message)
    for words, reason, may_retry in _BODIES if status is not None else (*_BODIES, *_FAILURES):
        if words in message:
            return reason, may_retry
    status = status or _REPORTED_STATUS.search(stderr)
    return ("no_result", True) if status is None else reason_of_status(int(status[1]))


def _totals(stats: dict[str, Any]) -> dict[str, Usage] | None:
    """Return the usage of each model, or None if one of the numbers is not plausible. Here output is without reasoning, which
    is what the total has beside it."""
    usages: dict[str, Usage] = {}
    for model, raw in as_dict(stats.get("models")).items():
        figures = as_dict(raw)
        usage = usage_of(figures, _TOTAL_USAGE, within_fresh=("cached",))
        total = token_count(figures.get("total_tokens"))
        if usage is None or total is None:
            return None
        reasoning = max(0, total - usage.fresh - usage.cached - usage.output)
        if total:
            usages[model] = Usage(fresh=usage.fresh, cached=usage.cached, output=usage.output + reasoning, reasoning=reasoning)
    return usages
