"""The OpenCode runtime: `opencode run --format json`. It has no limits of its own, so Optio meters each model call; the last
`step_finish` and the exit code say whether it succeeded."""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from optio.model.registry import CompiledTask
from optio.model.run import Outcome
from optio.model.runtimes import DECLARED, PROVIDERS, provider_key
from optio.model.usage import CostSource, Meter, Usage
from optio.runtimes.base import TOOL_SERVER, AttemptContext, Invocation, ProcessEnd, hide_keys, reason_of_status
from optio.runtimes.entries import Entry, notice, said, thought, tool_call, tool_result
from optio.runtimes.event_reader import DOUBTFUL_USAGE, EventReader, usage_of
from optio.runtimes.json_events import LastTexts, as_dict, first_line, money, whole_number

_ENV = {
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_CLAUDE_CODE": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
    "OPENCODE_PURE": "1",
    "npm_config_offline": "true",
}
# The longest that a call of a tool may take; the gateway ends it before.
_TOOLS_MS = 3_600_000
_CONFIG = ".optio-opencode.json"
# Where OpenCode finds no library for plugins, it loads npm at each start to install one, which takes a tenth of the start.
# `OPENCODE_PURE` leaves plugins out.
_NO_PLUGINS = {
    ".config/opencode/node_modules/.optio": b"",
    ".config/opencode/package-lock.json": b'{"packages": {"": {"dependencies": {"@opencode-ai/plugin": "*"}}}}',
}
# An answer that is no answer, such as a page of HTML, is a step of no tokens, and OpenCode asks again for ever.
_MAX_EMPTY_STEPS = 3
# error name -> (reason, whether a second attempt can help)
_ERRORS = {
    "ContextOverflowError": ("context_overflow", False),
    "ContentFilterError": ("refusal", False),
    "MessageOutputLengthError": ("truncated", False),
    "ProviderAuthError": ("auth", False),
}
_USAGE = {"fresh": "input", "cached": "read", "cache_write": "write", "output": "output", "reasoning": "reasoning"}


class OpenCode:
    """The runtime `opencode`: its command line, its configuration, and a reader of its events. `model` is `PROVIDER/MODEL`."""

    declaration = DECLARED["opencode"]
    side: str | None = None
    stall: timedelta | None = timedelta(minutes=10)

    def invoke(self, task: CompiledTask, prompt: str, params: Mapping[str, Any], context: AttemptContext) -> Invocation:
        argv = [context.program, "run", "--format", "json", "--thinking", "--auto"]
        # Without a title OpenCode asks the model for one, which costs a call that no event tells of.
        argv += ["--title", "run"]
        if task.spec.model is not None:
            argv += ["-m", task.spec.model]
        if context.session is not None:
            argv += ["--session", context.session]
        files, file_env = hide_keys(task, "BASH_ENV", _keys(task.spec.model))
        config = {"permission": "allow", "share": "disabled", "autoupdate": False}
        if context.endpoint is not None:
            config |= {"provider": _provider(task.spec.model or "", context.endpoint)}
        if context.tools is not None:
            server = {"type": "remote", "url": context.tools.url, "headers": context.tools.headers, "timeout": _TOOLS_MS}
            config |= {"mcp": {TOOL_SERVER: {**server, "enabled": True, "oauth": False}}}
        return Invocation(
            argv=tuple(argv),
            stdin=prompt.encode("utf-8", "replace"),
            env=_ENV,
            files={**files, **_NO_PLUGINS, _CONFIG: json.dumps(config).encode()},
            file_env={**file_env, "OPENCODE_CONFIG": _CONFIG},
        )

    def reader(self, task: CompiledTask) -> "OpenCodeReader":
        return OpenCodeReader(task)


def _keys(model: str | None) -> tuple[str, ...]:
    """Return the variables that may hold the key of the model's provider: `<PROVIDER>_API_KEY` for one that is not listed.
    Without a model OpenCode takes one of a provider that it has a key for."""
    if model is None:
        return tuple(key for service in PROVIDERS.values() for key in service.keys)
    provider = model.partition("/")[0]
    if provider in PROVIDERS:
        return PROVIDERS[provider].keys
    return (provider_key(model),)


def _provider(model: str, endpoint: str) -> dict[str, Any]:
    """Return the configuration of the model's provider with this endpoint. A provider that OpenCode does not know is taken
    to speak OpenAI's chat completions."""
    provider, _, name = model.partition("/")
    entry: dict[str, Any] = {"options": {"baseURL": endpoint}, "models": {name: {}}}
    if provider not in PROVIDERS:
        entry["npm"] = "@ai-sdk/openai-compatible"
        entry["options"]["apiKey"] = f"{{env:{_keys(model)[0]}}}"
        entry["models"] = {name: {"name": name}}
    return {provider: entry}


class OpenCodeReader(EventReader):
    """A reader of OpenCode's events. Each model call is a step, and `step_finish` has its usage and cost."""

    def __init__(self, task: CompiledTask) -> None:
        super().__init__(task)
        self._model = (task.spec.model or "").partition("/")[2]
        self._identify(model=task.spec.model)  # its events name none
        self._last = LastTexts()  # of the last step
        self._source = CostSource.CLI
        self._steps = 0
        self._empty = 0
        self._tools = 0
        self._denied = False
        self._finish: str | None = None
        self._error: dict[str, Any] | None = None

    def _read(self, event: dict[str, Any]) -> Iterator[Entry]:
        kind, part = event.get("type"), as_dict(event.get("part"))
        self._identify(session=event.get("sessionID"))
        if kind == "step_start":
            self._began, self._last, self._finish, self._denied = True, LastTexts(), None, False
            self._turn = self._steps + 1
        elif kind == "text":
            text = str(part.get("text", ""))
            self._said.add(text)
            self._last.add(text)
            yield said(text)
        elif kind == "reasoning":
            yield thought(str(part.get("text", "")))
        elif kind == "tool_use":
            yield from self._tool(part)
        elif kind == "step_finish":
            yield from self._step(part)
        elif kind == "error":
            self._error = as_dict(event.get("error"))
            yield notice(f"{self._error.get('name')}: {_message(self._error)}")

    def _tool(self, part: dict[str, Any]) -> Iterator[Entry]:
        """Log a tool call, which is told once it has ended."""
        self._tools += 1
        state = as_dict(part.get("state"))
        failed = state.get("status") == "error"
        self._denied |= failed
        call_id = part.get("callID")
        yield tool_call(call_id, str(part.get("tool")), state.get("input"))
        answer = str((state.get("error") if failed else state.get("output")) or "").rstrip("\n")
        code = as_dict(state.get("metadata")).get("exit")
        yield tool_result(call_id, answer, ok=not failed and code in (None, 0), exit_code=code)

    def _step(self, part: dict[str, Any]) -> Iterator[Entry]:
        self._finish = str(part.get("reason"))
        usage = _usage(as_dict(part.get("tokens")))
        if (usage or Usage()) == Usage() and self._finish not in ("stop", "tool-calls"):
            if usage is None:
                yield notice(DOUBTFUL_USAGE)
            self._empty += 1
            return
        self._empty = 0
        self._steps += 1
        cost = money(part.get("cost"))
        if not cost:  # OpenCode knows no price of this model
            self._source = CostSource.PRICES
        yield from self._meter_call(self._steps, self._model, usage, cost=cost)

    @property
    def meter(self) -> Meter:
        """Return the usage. It is unknown (zero, without turns and cost) until a model call has ended or was refused: one that
        broke off may be billed."""
        is_known = self._steps > 0 or (self._error is not None and _reason(self._error)[0] != "network")
        cost = None if self._cost is None or not is_known else self._cost.normalize() + Decimal(0)
        return Meter(
            usage=self._usage,
            turns=self._steps if is_known else None,
            tool_calls=self._tools,
            cost=cost,
            cost_source=None if cost is None else self._source,
        )

    @property
    def begun_turns(self) -> int:  # type: ignore[override]
        """Return the steps so far. After a tool call it calls the model once more."""
        return self._steps + (self._finish == "tool-calls")

    def stop(self) -> Outcome | None:
        if self._empty >= _MAX_EMPTY_STEPS:
            message = f"the model's answer was empty {_MAX_EMPTY_STEPS} times in a row: does the endpoint speak its protocol?"
            return Outcome(ok=False, reason="network", message=message, again=True)
        return None

    def _conclude(self, end: ProcessEnd) -> Outcome:
        if self._error is not None:
            reason, may_retry = _reason(self._error)
            return Outcome(
                ok=False,
                reason=reason,
                message=first_line(_message(self._error)),
                again=may_retry,
                not_before_s=_wait_s(self._error) if reason in ("rate_limit", "overloaded") else 0.0,
            )
        answer = self._last.joined or ""
        if (cut_off := self._cut_off(self._finish, answer)) is not None:
            return cut_off
        if self._finish == "tool-calls" and self._denied and end.code == 0:
            return Outcome(ok=False, reason="denied", message="it ended at a tool call that failed, without an answer")
        if self._finish != "stop":
            return self._no_result(end)
        return self._success(end, answer)


def _message(error: dict[str, Any]) -> str:
    return str(as_dict(error.get("data")).get("message") or error.get("name") or "")


def _reason(error: dict[str, Any]) -> tuple[str, bool]:
    """Return (reason, may_retry) by the error's own fields."""
    data, name = as_dict(error.get("data")), str(error.get("name"))
    status = whole_number(data.get("statusCode"))
    if name in _ERRORS:
        return _ERRORS[name]
    if status is not None:
        # The provider's own error body, not the model's words.
        body = str(data.get("responseBody") or "")
        return ("quota", False) if "insufficient_quota" in body or "redit balance" in body else reason_of_status(status)
    if name == "APIError" or "timed out" in _message(error):
        return "network", True
    return "config", False


def _wait_s(error: dict[str, Any]) -> float:
    """Return the seconds of a `Retry-After` header, or 0."""
    text = str(as_dict(as_dict(error.get("data")).get("responseHeaders")).get("retry-after") or "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0.0


def _usage(tokens: dict[str, Any]) -> Usage | None:
    cache = as_dict(tokens.get("cache"))
    return usage_of({**tokens, "read": cache.get("read"), "write": cache.get("write")}, _USAGE, has_reasoning_apart=True)
