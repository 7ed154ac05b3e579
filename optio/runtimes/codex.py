"""The Codex runtime: `codex exec --json`. Its events say whether it succeeded; the usage of each model call is in its session
file, the side stream."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from optio.model import prices
from optio.model.registry import CompiledTask
from optio.model.result import schema_for_cli
from optio.model.run import Outcome
from optio.model.runtimes import DECLARED
from optio.model.usage import CostSource, Meter, Usage
from optio.runtimes.base import BY_STATUS, TOOL_SERVER, AttemptContext, Invocation, ProcessEnd, reason_of_status
from optio.runtimes.entries import Entry, notice, retry, said, thought, tool_call, tool_result
from optio.runtimes.event_reader import DOUBTFUL_USAGE, EventReader, usage_of
from optio.runtimes.json_events import as_dict, as_dicts, as_output, compact, first_line

# The built-in provider cannot be changed, tries a websocket first and repeats a failed call up to 30 times.
_CONFIG = """\
model_provider = "optio"
project_doc_max_bytes = 0
check_for_update_on_startup = false
[analytics]
enabled = false
[features]
plugins = false
[shell_environment_policy]
ignore_default_excludes = false
[model_providers.optio]
name = "optio"
base_url = {url}
env_key = {key}
wire_api = "responses"
request_max_retries = 2
stream_max_retries = 2
stream_idle_timeout_ms = 120000
"""
_SERVER = """\
[mcp_servers.{name}]
url = {url}
http_headers = {{Authorization = {bearer}}}
required = true
"""
_SCHEMA = ".codex/result.schema.json"
_URL = "https://api.openai.com/v1"
_KEY, _OTHER_KEY = "CODEX_API_KEY", "OPENAI_API_KEY"
# Without a connection Codex says so and tries for ever, at longer and longer intervals: this many take about a minute.
_MAX_RECONNECTS = 4
_STATUS = re.compile(r"(?:unexpected status|last status:) (\d{3})")
# What a failed turn says, in Codex's own words -> (reason, whether a second attempt can help).
_FAILURES = (
    ("experiencing high demand", "server_error", True),
    ("Quota exceeded", "quota", False),
    ("ran out of room in the model's context window", "context_overflow", False),
    ("reason: content_filter", "refusal", False),
    ("reason: max_output_tokens", "truncated", False),
    ("stream disconnected", "network", True),
    ("Missing environment variable", "auth", False),
)
_CODES = {"context_length_exceeded": "context_overflow", "insufficient_quota": "quota", "model_not_found": "model_not_found"}
_TOOLS = {"command_execution": "command", "file_change": "changes", "web_search": "query"}
_USAGE = {
    "fresh": "input_tokens",
    "cached": "cached_input_tokens",
    "cache_write": "cache_write_input_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_output_tokens",
}


class Codex:
    """The runtime `codex`: its command line, its configuration, and a reader of its events and its session file."""

    declaration = DECLARED["codex"]
    side: str | None = ".codex/sessions/*/*/*/rollout-*.jsonl"
    stall: timedelta | None = timedelta(minutes=10)

    def invoke(self, task: CompiledTask, prompt: str, params: Mapping[str, Any], context: AttemptContext) -> Invocation:
        environment = task.spec.environment
        argv = [context.program, "exec", *(() if context.session is None else ("resume",))]
        argv += ["--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
        if task.spec.model is not None:
            argv += ["-m", task.spec.model]
        if context.session is not None:
            argv.append(context.session)
        key = _KEY if _KEY in (*environment.secrets, *environment.env) else _OTHER_KEY
        config = _CONFIG.format(url=json.dumps(context.endpoint or _URL), key=json.dumps(key))
        if context.tools is not None:
            # A text of JSON is one of TOML, too.
            bearer = json.dumps(context.tools.headers["Authorization"])
            config += _SERVER.format(name=TOOL_SERVER, url=json.dumps(context.tools.url), bearer=bearer)
        files, schema = {".codex/config.toml": config.encode()}, schema_for_cli(task.spec)
        if schema is not None:
            files[_SCHEMA] = compact(schema).encode("utf-8", "replace")
        return Invocation(
            argv=(*argv, "-"),
            stdin=prompt.encode("utf-8", "replace"),
            files=files,
            file_options={} if schema is None else {"--output-schema": _SCHEMA},
        )

    def reader(self, task: CompiledTask) -> "CodexReader":
        return CodexReader(task)


class CodexReader(EventReader):
    """A reader of Codex's events. A prompt is one turn of Codex, whatever it takes; model calls are counted by the records of
    the session file, and without that file the usage is known only at the end of a turn that succeeded."""

    def __init__(self, task: CompiledTask) -> None:
        super().__init__(task)
        self._model = task.spec.model or ""
        self._answer: str | None = None
        self._items: set[str] = set()
        self._calls = 0
        self._before = Usage()  # of the session, before this process continued it
        self._calls_tool = False
        self._total: Usage | None = None
        self._completed = False
        self._failure: str | None = None
        self._reconnects = 0
        self._last_error = ""
        self._is_broken_off = False  # a model call was, or may have been, which its provider may bill

    def _read_side(self, event: dict[str, Any]) -> Iterator[Entry]:
        """Meter a model call from the session file. What the model answered stands before its usage."""
        payload = as_dict(event.get("payload"))
        if event.get("type") == "session_meta":
            self._identify(version=payload.get("cli_version"))
        elif event.get("type") == "turn_context":
            self._identify(model=payload.get("model"))
            self._model = self.identity.model or self._model
        elif event.get("type") == "response_item":
            self._calls_tool = str(payload.get("type")).endswith("_call")
        elif event.get("type") == "token_usage_record":
            usage = _usage(as_dict(payload.get("usage")))
            thread = _usage(as_dict(payload.get("thread_token_usage")))
            if self._calls == 0 and thread is not None:
                self._before = thread.beyond(usage or Usage())
            self._calls += 1
            yield from self._meter_call(self._calls, self._model, usage)

    def _read(self, event: dict[str, Any]) -> Iterator[Entry]:
        kind = event.get("type")
        if kind in ("item.started", "item.completed"):
            yield from self._item(as_dict(event.get("item")), is_completed=kind == "item.completed")
        elif kind == "error":
            self._last_error = str(event.get("message"))
            self._is_broken_off |= not _is_refused(self._last_error)
            self._reconnects += 1
            yield retry(self._last_error, attempt=self._reconnects)
        elif kind == "thread.started":
            self._identify(session=event.get("thread_id"))
        elif kind == "turn.started":
            self._began, self._turn = True, 1
        elif kind == "turn.completed":
            self._completed, self.is_over, self._total = True, True, _usage(as_dict(event.get("usage")))
            if self._total is None:
                yield notice(DOUBTFUL_USAGE)
        elif kind == "turn.failed":
            self.is_over, self._failure = True, str(as_dict(event.get("error")).get("message"))
            self._is_broken_off |= not _is_refused(self._failure)

    def _item(self, item: dict[str, Any], *, is_completed: bool) -> Iterator[Entry]:
        kind = str(item.get("type"))
        self._reconnects = 0
        if kind == "error":
            if is_completed:  # only a warning
                yield notice(str(item.get("message")))
            return
        if str(item.get("id")) not in self._items:
            # The session file has its own count, but nothing says which lines here belong to which record there.
            self._begin_turn()
        if kind == "reasoning" and is_completed:
            yield thought(str(item.get("text", "")))
        elif kind == "agent_message":
            if is_completed:
                self._answer = str(item.get("text", ""))
                self._said.add(self._answer)
                yield said(self._answer)
        elif kind in _TOOLS or kind == "mcp_tool_call":
            yield from self._tool(item, kind, is_completed=is_completed)

    def _tool(self, item: dict[str, Any], kind: str, *, is_completed: bool) -> Iterator[Entry]:
        is_mcp = kind == "mcp_tool_call"
        item_id = str(item.get("id"))
        if item_id not in self._items:
            self._items.add(item_id)
            self._open_tools.add(item_id)
            if is_mcp:
                yield tool_call(item_id, str(item.get("tool")), item.get("arguments"), server=str(item.get("server")))
            else:
                yield tool_call(item_id, kind, _input(item, kind))
        if is_completed:
            self._end_tool(item_id)
            code = item.get("exit_code")
            text = as_output(item.get("aggregated_output", item.get("error") or item.get("result")))
            yield tool_result(item_id, text, ok=item.get("status") != "failed" and code in (None, 0), exit_code=code)

    @property
    def is_retrying(self) -> bool:  # type: ignore[override]
        return self._reconnects > 0

    @property
    def meter(self) -> Meter:
        """Return the usage, unknown (zero, without a cost) until a model call has been answered or refused."""
        usage = self._usage if self._total is None else self._total.beyond(self._before)
        is_refused = self._failure is not None and not self._is_broken_off
        cost = self._cost if self._calls or (is_refused and not usage.total) else None
        if usage != self._usage and usage.total:
            cost = prices.cost_of_calls(self._model, usage)
            self.unpriced = self._model if cost is None else self.unpriced
        return Meter(
            usage=usage,
            # Zero would be wrong: the answer came, and the session file has no call.
            turns=self._calls or None,
            tool_calls=len(self._items),
            cost=cost,
            cost_source=None if cost is None else CostSource.PRICES,
        )

    @property
    def begun_turns(self) -> int:  # type: ignore[override]
        """Return the model calls so far. After a tool call it calls the model once more."""
        return self._calls + self._calls_tool

    def stop(self) -> Outcome | None:
        if self._completed or self._failure is not None:
            return None
        status = _STATUS.search(self._last_error) if self._reconnects else None
        if status is not None and status[1] in ("401", "403"):
            return Outcome(ok=False, reason="auth", message=first_line(self._last_error))
        if self._reconnects > _MAX_RECONNECTS:
            return Outcome(ok=False, reason="network", message=first_line(self._last_error), again=True)
        return None

    def _conclude(self, end: ProcessEnd) -> Outcome:
        if self._failure is not None:
            reason, may_retry, message = _reason(self._failure)
            return Outcome(ok=False, reason=reason, message=first_line(message), again=may_retry)
        if not self._completed:
            return self._no_result(end)
        return self._success(end, self._answer or "")


def _input(item: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the input of a tool call under the names that other agents use, with the paths of the files that it changes."""
    arguments = {_TOOLS[kind]: item.get(_TOOLS[kind])}
    paths = [str(change.get("path")) for change in as_dicts(item.get("changes"))]
    return {"path": ", ".join(paths), **arguments} if paths else arguments


def _is_refused(message: str) -> bool:
    """Return whether this tells of a model call that was refused, which costs nothing."""
    reason, _, _ = _reason(message)
    return reason == "server_error" or reason in {reason for reason, _ in BY_STATUS.values()}


def _reason(message: str) -> tuple[str, bool, str]:
    """Return (reason, may_retry, message) by Codex's own words for a failed turn, never the model's. The body of a refused
    request stands in the message as JSON."""
    status = _STATUS.search(message)
    if status is not None:
        return *reason_of_status(int(status[1])), message
    failure = next(((reason, may_retry) for words, reason, may_retry in _FAILURES if words in message), None)
    if failure is not None:
        return *failure, message
    try:
        error = as_dict(as_dict(json.loads(message)).get("error"))
    except ValueError:
        return "no_result", True, message
    reason = _CODES.get(str(error.get("code")), "bad_request")
    return reason, False, str(error.get("message") or message)


def _usage(raw: dict[str, Any]) -> Usage | None:
    return usage_of(raw, _USAGE, within_fresh=("cached",))
