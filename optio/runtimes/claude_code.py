"""The Claude Code runtime: `claude -p --output-format stream-json`. It meters usage live from the event stream, and takes the
result event for the final word."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from optio.model import prices
from optio.model.money import ZERO_USD, RunBudget
from optio.model.registry import CompiledTask
from optio.model.result import schema_for_cli
from optio.model.run import Outcome
from optio.model.runtimes import DECLARED
from optio.model.usage import CostSource, Meter, Usage
from optio.runtimes.base import TOOL_SERVER, AttemptContext, Invocation, ProcessEnd, guard_slash, hide_keys, reason_of_status
from optio.runtimes.entries import Entry, notice, retry, said, thought, tool_call, tool_result, turn
from optio.runtimes.event_reader import DOUBTFUL_USAGE, EventReader, usage_of
from optio.runtimes.json_events import as_dict, as_dicts, as_list, compact, first_line, money, token_count, whole_number

_ENV = {
    "CLAUDE_CODE_MAX_RETRIES": "4",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "MCP_TIMEOUT": "10000",
    # A server that answers late would be lost without a word.
    "MCP_CONNECTION_NONBLOCKING": "0",
}
_TOOLS = ".optio-tools.json"
_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_NO_LOGIN = (
    "the run has no credential that the model's API takes: name ANTHROPIC_API_KEY in the task's `environment.secrets` "
    "and give that secret its value"
)
# The CLI's own words where it has no credential at all. It goes on to advise a command that nobody can give to it.
_LOGGED_OUT = "Not logged in"
_KINDS = ("stream_event", "assistant", "user", "result", "system")
_SUBTYPES = {
    "error_max_turns": "max_turns",
    "error_max_budget_usd": "budget",
    "error_max_structured_output_retries": "result_invalid",
}


class ClaudeCode:
    """The runtime `claude-code`: its command line, its variables, and a reader of its event stream."""

    declaration = DECLARED["claude-code"]
    side: str | None = None
    stall: timedelta | None = timedelta(minutes=10)

    def invoke(self, task: CompiledTask, prompt: str, params: Mapping[str, Any], context: AttemptContext) -> Invocation:
        spec = task.spec
        argv = [context.program, "-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages"]
        argv += ["--dangerously-skip-permissions", "--setting-sources", "", "--strict-mcp-config"]
        if spec.model is not None:
            argv += ["--model", spec.model]
        if spec.max_turns is not None:
            argv += ["--max-turns", str(spec.max_turns)]
        # The CLI counts what a session that it continues has cost before.
        budget = RunBudget.of(spec, context.spent).left if context.session is None else spec.budget_limit
        if budget:
            argv += ["--max-budget-usd", f"{budget:f}"]
        schema = schema_for_cli(spec)
        if schema is not None:
            argv += ["--json-schema", compact(schema)]
        if context.session is not None:
            argv += ["--resume", context.session]
        files, file_env = hide_keys(task, "CLAUDE_ENV_FILE", _KEYS)
        env = _ENV if context.endpoint is None else _ENV | {"ANTHROPIC_BASE_URL": context.endpoint}
        options = {}
        if context.tools is not None:
            server = {"type": "http", "url": context.tools.url, "headers": context.tools.headers}
            files[_TOOLS], options = compact({"mcpServers": {TOOL_SERVER: server}}).encode(), {"--mcp-config": _TOOLS}
        return Invocation(
            argv=tuple(argv),
            stdin=guard_slash(prompt).encode("utf-8", "replace"),
            env=env,
            files=files,
            file_env=file_env,
            file_options=options,
        )

    def reader(self, task: CompiledTask) -> "ClaudeReader":
        return ClaudeReader(task)


class ClaudeReader(EventReader):
    """A reader of the event stream. Each model call begins with `message_start`; its `message_delta` has the final usage."""

    def __init__(self, task: CompiledTask) -> None:
        super().__init__(task)
        self._calls: list[tuple[str, Usage | None]] = []
        self._open: dict[str | None, int] = {}
        self._turns = 0
        self._tools = 0
        self._result: dict[str, Any] | None = None
        self._no_login = False
        self._wait_s = 0.0

    def _read(self, event: dict[str, Any]) -> Iterator[Entry]:
        kind = event.get("type")
        self._began |= kind in _KINDS
        self.is_retrying &= kind != "stream_event"
        if kind == "stream_event":
            parent = event.get("parent_tool_use_id")
            yield from self._stream(as_dict(event.get("event")), None if parent is None else str(parent))
        elif kind == "assistant":
            yield from self._assistant(event)
        elif kind == "user":
            yield from _tool_results(event)
        elif kind == "result":
            self._result, self.is_over = event, True
            if any(usage_of(as_dict(entry), _CLI) is None for entry in as_dict(event.get("modelUsage")).values()):
                yield notice(DOUBTFUL_USAGE)
        elif kind == "system":
            yield from self._system(event)

    def _stream(self, event: dict[str, Any], parent: str | None) -> Iterator[Entry]:
        """Meter a model call. It counts when its usage arrives, because a call that broke off is made again. Subagents spend,
        but take no turns."""
        if event.get("type") == "message_start":
            self._turn = self._turns + 1 if parent is None else self._turn
            self._open[parent] = len(self._calls)
            model = as_dict(event.get("message")).get("model")
            self._calls.append((str(model), None))
            if parent is None:
                self._identify(model=model)
        elif event.get("type") == "message_delta" and parent in self._open:
            place = self._open[parent]
            model, before = self._calls[place]
            usage = usage_of(as_dict(event.get("usage")), _API)
            if usage is None:
                yield notice(DOUBTFUL_USAGE)
            self._calls[place] = (model, usage or before or Usage())
            self._turns += parent is None and before is None
        elif event.get("type") == "message_stop" and parent in self._open:
            model, final = self._calls[self._open.pop(parent)]
            if final is not None:
                yield turn(self._turn, model, final, self._price(model, final), subagent=parent is not None)

    def _assistant(self, event: dict[str, Any]) -> Iterator[Entry]:
        if event.get("error") == "authentication_failed":
            self._no_login = True
        for block in as_dicts(as_dict(event.get("message")).get("content")):
            if block.get("type") == "text":
                text = str(block.get("text", ""))
                # An error of the API comes as words of a model that does not exist.
                if event.get("parent_tool_use_id") is None and as_dict(event.get("message")).get("model") != "<synthetic>":
                    self._said.add(text)
                yield said(text)
            elif block.get("type") == "thinking" and block.get("thinking"):
                yield thought(str(block["thinking"]))
            elif block.get("type") == "tool_use":
                self._tools += 1
                yield _tool_call(block)

    def _system(self, event: dict[str, Any]) -> Iterator[Entry]:
        subtype = event.get("subtype")
        if subtype == "init":
            self._identify(version=event.get("claude_code_version"), session=event.get("session_id"), model=event.get("model"))
            yield notice(f"claude-code {event.get('claude_code_version', '')} with model {event.get('model')}")
        elif subtype == "api_retry":
            self.is_retrying = True
            if event.get("error") == "authentication_failed":
                self._no_login = True
            delay = event.get("retry_delay_ms")
            if isinstance(delay, (int, float)) and not isinstance(delay, bool) and 0 <= delay < 1e8:
                self._wait_s = delay / 1000
            status, attempt = event.get("error_status"), event.get("attempt")
            text = f"model API error {status or event.get('error')}: try {attempt} of {event.get('max_retries')}"
            yield retry(text, status=status, attempt=attempt, delay_s=self._wait_s)
        elif subtype == "permission_denied":
            yield notice(f"permission denied: {compact(event)}")

    @property
    def meter(self) -> Meter:
        own_usage = self._own_usage()
        calls = [(model, usage) for model, usage in self._calls if usage is not None]
        result = self._result or {}
        broke_off = self._result is not None and not calls and _reason(self._result)[0] == "network"
        # Where every call broke off, the CLI may tell the beginning of one of them.
        if own_usage and not broke_off:
            return self._final_meter(result, own_usage)
        cost, source = self._cost_of(calls), CostSource.PRICES
        if self._result is not None and not calls and not broke_off:
            # Nothing used, nothing paid: if the API refused every call, the cost is zero. If they broke off, it is unknown.
            # The CLI's own figure would include what a continued session has cost before.
            cost, source = ZERO_USD if own_usage == {} else money(result.get("total_cost_usd")), CostSource.CLI
        return Meter(
            usage=sum((usage for _, usage in calls), Usage()),
            turns=self._turns or token_count(result.get("num_turns")) or 0,
            tool_calls=self._tools,
            cost=cost,
            cost_source=None if cost is None else source,
        )

    def _cost_of(self, calls: Sequence[tuple[str, Usage]]) -> Decimal | None:
        """Return what these calls cost by the prices of their models; None if there is none, or one has no price."""
        costs = [self._price(model, usage) for model, usage in calls]
        amounts = [cost for cost in costs if cost is not None]
        return sum(amounts, Decimal(0)) if costs and len(amounts) == len(costs) else None

    def _own_usage(self) -> dict[str, Any] | None:
        """Return the usage of this process by model, as the result event has it; None if there is none. `modelUsage` includes
        all that a continued session has used before; older versions have nothing else. `usage` lacks the last call of a budget
        stop."""
        if self._result is None:
            return None
        since = self._result.get("model_usage_since_last_result")
        return since if isinstance(since, dict) else as_dict(self._result.get("modelUsage")) or None

    def _final_meter(self, result: dict[str, Any], own_usage: dict[str, Any]) -> Meter:
        """Return the meter of the result event."""
        usage, cost, source = Usage(), Decimal(0), CostSource.CLI
        for model, raw in own_usage.items():
            entry = as_dict(raw)
            model_usage = usage_of(entry, _CLI)
            if model_usage is None:
                continue
            usage += model_usage
            figure = money(entry.get("costUSD"))
            if entry.get("costBasis") != "list" or figure is None:
                # The CLI invents a price for a model it does not know.
                known_cost = prices.cost_of_calls(model, model_usage)
                source = CostSource.PRICES if known_cost is not None else CostSource.ESTIMATE
                figure = known_cost if known_cost is not None else figure or Decimal(0)
            cost += figure
        turns = token_count(result.get("num_turns"))
        return Meter(
            usage=usage,
            turns=self._turns or turns,
            tool_calls=self._tools,
            cost=cost.quantize(Decimal("0.000001")).normalize() + Decimal(0),
            cost_source=source,
        )

    def stop(self) -> Outcome | None:
        is_refused = self._no_login and self._result is None
        return Outcome(ok=False, reason="auth", message=self._refused_login()) if is_refused else None

    def _refused_login(self) -> str:
        service = DECLARED["claude-code"].service
        secrets = self._task.spec.environment.secrets
        names = [name for name in secrets if service is not None and re.match(service.credentials, name)]
        if not names:
            return _NO_LOGIN
        return f"the model's API refused the credential of the run: give the secret {' or '.join(names)} a valid value"

    def _conclude(self, end: ProcessEnd) -> Outcome:
        result = self._result
        if result is None:
            return self._no_result(end)
        text = result.get("result")
        text = text if isinstance(text, str) else "; ".join(str(e) for e in as_list(result.get("errors")))
        reason, may_retry = _reason(result)
        if reason != "ok":
            wait = self._wait_s if reason in ("rate_limit", "overloaded") else 0.0
            message = _NO_LOGIN if _LOGGED_OUT in text else first_line(text)
            return Outcome(ok=False, reason=reason, message=message, again=may_retry, not_before_s=wait)
        return self._success(end, text, result.get("structured_output"))

    def _complaint(self) -> str:
        complaint = super()._complaint()
        cure = ": choose an OPTIO_SANDBOX, or run the worker as a user of its own"
        return complaint + cure if "root/sudo privileges" in complaint else complaint


def _reason(result: dict[str, Any]) -> tuple[str, bool]:
    """Return (reason, may_retry) by the CLI's own fields; the reason is `ok` for success."""
    subtype = result.get("subtype")
    failed = bool(result.get("is_error"))
    terminal = result.get("terminal_reason")
    text = str(result.get("result") or "")
    if subtype == "success" and not failed:
        return ("config", False) if result.get("num_turns") == 0 else ("ok", False)
    if isinstance(subtype, str) and subtype in _SUBTYPES:
        return _SUBTYPES[subtype], subtype == "error_max_structured_output_retries"
    if terminal == "aborted_tools":
        return "cancelled", False
    if terminal in ("prompt_too_long", "blocking_limit"):
        return "context_overflow", False
    if result.get("stop_reason") == "refusal":
        return "refusal", False
    if result.get("api_error") == "max_output_tokens":
        return "truncated", False
    if (status := whole_number(result.get("api_error_status"))) is not None:
        # The credit text arrives as a 400: the provider's own error body, not the model's words.
        return ("quota", False) if status == 400 and "redit balance is too low" in text else reason_of_status(status)
    if _LOGGED_OUT in text:
        return "auth", False
    if result.get("api_error") == "connection_failed" or terminal == "api_error":
        return "network", True
    return "no_result", True


_API = {
    "fresh": "input_tokens",
    "cached": "cache_read_input_tokens",
    "cache_write": "cache_creation_input_tokens",
    "output": "output_tokens",
}
_CLI = {
    "fresh": "inputTokens",
    "cached": "cacheReadInputTokens",
    "cache_write": "cacheCreationInputTokens",
    "output": "outputTokens",
    "reasoning": "thinkingTokens",
}


def _tool_results(event: dict[str, Any]) -> Iterator[Entry]:
    for block in as_dicts(as_dict(event.get("message")).get("content")):
        if block.get("type") == "tool_result":
            content = block.get("content")
            parts = [content] if isinstance(content, str) else [str(part.get("text", "")) for part in as_dicts(content)]
            yield tool_result(block.get("tool_use_id"), "\n".join(parts), ok=not block.get("is_error"))


def _tool_call(block: dict[str, Any]) -> Entry:
    """Return the call of a tool; `mcp__SERVER__TOOL` is one that an MCP server brings."""
    name = str(block.get("name"))
    prefix, _, rest = name.partition("__")
    server, _, tool = rest.partition("__")
    if prefix == "mcp" and tool:
        return tool_call(block.get("id"), tool, block.get("input"), server=server)
    return tool_call(block.get("id"), name, block.get("input"))
