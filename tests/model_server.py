"""A scripted model server that real coding-agent CLIs can be pointed at.

It speaks four wire protocols on one loopback port, each both streaming and not:

* Anthropic Messages       POST /v1/messages (+ /v1/messages/count_tokens)
* OpenAI Responses         POST /v1/responses
* OpenAI Chat Completions  POST /v1/chat/completions
* Gemini generateContent   POST /v1beta/models/MODEL:generateContent and siblings

The reply is chosen by the model name: "stub-tool" plays the scenario "tool",
and so does any name that ends in "-stub-tool".  Answers are deterministic: the
same request to a fresh server always gives the same text and token counts.

After POST /_stub/hold conversations wait in their middle, which is before the
answer to a second tool result, or within the last answer of "steps", until
POST /_stub/go. With POST /_stub/next they go on to the next such place.

The same port also offers a one-tool MCP server (POST /mcp, streamable HTTP),
and "server.py --mcp-stdio" offers it over stdin and stdout.

Needs Python 3.11 or newer and nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TextIO, cast
from urllib.parse import unquote, urlsplit

Json = dict[str, Any]

# --------------------------------------------------------------------------
# Scenarios
# --------------------------------------------------------------------------

PLAIN_TEXT = "Hello from the stub model."
TOOL_COMMAND = "echo hi"
#: What Optio's prompts ask for if there is nothing to do.
IDLE_COMMAND = """echo '{"type": "result", "status": "no_work", "text": "WHY"}' >> "$OPTIO_RESULT_FILE\""""
TOOL_COMMANDS = {"fail": "echo oops >&2; exit 3", "env": f"env; {IDLE_COMMAND}"}
TOOL_DONE_TEXT = "The command has run. Done."
MCP_TOOL = "stub_echo"
MCP_TEXT = "ping"
JSON_ANSWER: Json = {"status": "ok", "items": [1, 2, 3]}
FLAKY_FAILURES = 2

#: Scenario name -> what it does; printed by --list.
SCENARIOS: dict[str, str] = {
    "plain": "one short text answer",
    "tool": f"one shell call ({TOOL_COMMAND!r}), then a text answer",
    "tool-fail": "one shell call that exits with status 3, then a text answer",
    "tool-env": "one shell call that prints its variables and reports to Optio that there is no work, then a text answer",
    "tool-N": "N shell calls, one a turn, then a text answer",
    "steps": "three shell calls, one a turn, then as plain, but a tenth of a second between any two chunks",
    "loop": "a shell call on every turn, each after a second, for ever (turn limits)",
    "mcp": f"one call of the MCP tool {MCP_TOOL!r}, then a text answer",
    "long": "one answer of 100 chunks (about 20 kB)",
    "long-N": "one answer of N chunks",
    "slow-S": "waits S seconds before the first byte, then as plain",
    "json": "a JSON object (through the tool StructuredOutput where offered)",
    "loop-0.S": "as loop, but each after that part of a second",
    "uncounted": "as loop, but no tokens are told (limits that cannot be measured)",
    "costly": "as loop, but 100,000 output tokens a turn (budget limits)",
    "spend": "as loop without waiting, but 24,000 output tokens a turn, or as many as the request allows",
    "think": "a reasoning block, then a text answer",
    "whole": "two requests that fail with 429, a reasoning block and a shell call as in tool-fail, then the answer of long",
    "empty": "an answer without any text",
    "truncated": "a text answer cut by the output-token limit",
    "refusal": "the model declines to answer",
    "cut": "the connection closes in the middle of the answer",
    "garbage": "status 200 and a body that is neither JSON nor an event stream",
    "error-CODE": "every request fails with that HTTP status (400-599)",
    "flaky-CODE": "the first two such requests fail with CODE, then as plain",
    "late-CODE": "one shell call, then every request fails with CODE, until POST /_stub/heal; then a text, "
    "and JSON once it is told that this does not fit",
}

_LIMIT = re.compile("max.*tokens", re.IGNORECASE)
_STUB = re.compile(r"(?:^|[-/_.:])stub-")
_SCENARIO = re.compile(
    _STUB.pattern + r"("
    r"tool-fail|tool-env|tool-\d+|tool|plain|loop-0\.\d+|loop|mcp|long-\d+|long|slow-\d+(?:\.\d+)?"
    r"|steps|json|costly|spend|uncounted|think|whole|empty|truncated|refusal|cut|garbage"
    r"|error-[45]\d\d|flaky-[45]\d\d|late-[45]\d\d)$"
)


@dataclasses.dataclass(frozen=True)
class Usage:
    """Token counts of one reply. ``fresh`` excludes what the cache served."""

    fresh: int = 1200
    cached: int = 300
    output: int = 40
    reasoning: int = 0

    @property
    def prompt(self) -> int:
        return self.fresh + self.cached


@dataclasses.dataclass(frozen=True)
class ToolCall:
    """One tool call that the stub asks the CLI to make."""

    call_id: str
    name: str
    arguments: Json
    namespace: str = ""  #: Responses only: the group that the tool was offered in
    freeform: str | None = None  #: Responses only: for tools that take text, not JSON


@dataclasses.dataclass(frozen=True)
class Reply:
    """What the stub answers, before it is put into a wire protocol."""

    chunks: Sequence[str] = ()
    tool: ToolCall | None = None
    thinking: str = ""
    usage: Usage = Usage()
    stop: str = "end"  #: end, tool, length or refusal
    delay: float = 0.0  #: seconds between chunks
    cut: bool = False  #: close the connection halfway


@dataclasses.dataclass(frozen=True)
class Failure:
    """An HTTP error answer."""

    status: int


@dataclasses.dataclass(frozen=True)
class Tool:
    """A tool that the CLI offered in its request."""

    name: str
    schema: Json
    namespace: str = ""
    freeform: bool = False


@dataclasses.dataclass(frozen=True)
class Request:
    """The parts of a model request that the scenarios depend on."""

    protocol: str
    model: str
    stream: bool
    tools: Sequence[Tool]
    results: int  #: tool results after the last text that the user wrote
    history: int  #: tool results of the whole conversation
    prompt: str  #: the last text that the user wrote
    schema: Json | None = None  #: the JSON Schema that the answer must satisfy
    limit: int | None = None  #: the most tokens that the answer may have
    deferred: str = ""  #: an MCP tool that is named but must be searched for first


class State:
    """What the server remembers: seen requests and per-scenario counters."""

    def __init__(self, default: str, log: TextIO | None) -> None:
        self.default = default
        self.requests: list[Json] = []
        self._log = log
        self._attempts: dict[str, int] = {}
        self._serial = 0
        self._lock = threading.Lock()
        self.is_healed = False
        self._going = threading.Event()
        self._going.set()

    def hold(self, is_held: bool) -> None:
        """From now on, make conversations wait in their middle, or let them go on."""
        if is_held:
            self._going.clear()
        else:
            self._going.set()

    def middle(self, entry: Json) -> None:
        """Wait here while conversations are held. The request's entry says so."""
        if not self._going.is_set():
            entry["held"] = True
            self._going.wait()

    def record(self, entry: Json) -> None:
        """Show the request at once, before it is answered."""
        with self._lock:
            self.requests.append(entry)

    def answered(self, entry: Json, answer: Json) -> None:
        """Complete the request's entry and write it to the log."""
        with self._lock:
            entry["answer"] = answer
            if self._log is not None:
                self._log.write(json.dumps(entry) + "\n")
                self._log.flush()

    def attempt(self, key: str) -> int:
        """Count one more request for ``key``; the first one is number 1."""
        with self._lock:
            self._attempts[key] = self._attempts.get(key, 0) + 1
            return self._attempts[key]

    def serial(self) -> int:
        with self._lock:
            self._serial += 1
            return self._serial

    def snapshot(self) -> list[Json]:
        with self._lock:
            return list(self.requests)

    def reset(self) -> None:
        with self._lock:
            self.requests.clear()
            self._attempts.clear()
            self._serial = 0
            self.is_healed = False
        self._going.set()


def scenario_of(model: str, default: str) -> str:
    """The scenario that a model name asks for; a misspelt one is a 404."""
    if match := _SCENARIO.search(model):
        return match.group(1)
    return "error-404" if _STUB.search(model) else default


def play(scenario: str, request: Request, state: State) -> Reply | Failure | None:
    """The answer to one request, or None for the 'garbage' scenario."""
    kind, _, argument = scenario.partition("-")
    if kind == "error" or (kind == "late" and request.history and not state.is_healed):
        return Failure(int(argument))
    if kind in ("flaky", "whole") and state.attempt(f"{request.protocol}:{request.model}") <= FLAKY_FAILURES:
        return Failure(int(argument or 429))
    if kind == "garbage":
        return None
    if kind in ("slow", "loop", "costly", "uncounted"):
        time.sleep(float(argument or 1))
    if kind == "json" or (kind == "late" and "does not fit" in request.prompt):
        return _play_json(request, state)
    if kind in ("tool", "steps", "loop", "costly", "spend", "uncounted", "mcp", "late", "whole"):
        return _play_tool(kind, argument, request, state)
    return _play_text(kind, argument, request)


def _play_text(kind: str, argument: str, request: Request) -> Reply:
    match kind:
        case "long":
            count = int(argument or 100)
            lines = [f"Line {i:05d} of the long scripted answer of the stub.\n" for i in range(4 * count)]
            return Reply(["".join(lines[i : i + 4]) for i in range(0, len(lines), 4)], usage=Usage(output=48 * count))
        case "steps":
            return Reply(re.findall(r"\S+\s*", PLAIN_TEXT), delay=0.1)
        case "think":
            return Reply((PLAIN_TEXT,), thinking="Thinking first.", usage=Usage(output=64, reasoning=24))
        case "empty":
            return Reply((), usage=Usage(output=0))
        case "truncated":
            return Reply((PLAIN_TEXT[:10],), stop="length")
        case "refusal":
            return Reply(("I cannot help with that.",), stop="refusal")
        case "cut":
            return Reply((PLAIN_TEXT[:10], PLAIN_TEXT[10:]), cut=True)
    if request.schema is not None:  # a side request, such as the choice of a model
        return Reply((json.dumps(_example(request.schema)),))
    return Reply((PLAIN_TEXT[:11], PLAIN_TEXT[11:]))


def _play_json(request: Request, state: State) -> Reply:
    for tool in request.tools:
        if tool.name == OUTPUT_TOOL and not request.results:
            return Reply(tool=_call(tool, state.serial(), _example(tool.schema)), stop="tool")
    value = JSON_ANSWER if request.schema is None else _example(request.schema)
    text = json.dumps(value)
    return Reply((text[:11], text[11:]))


def _play_tool(kind: str, argument: str, request: Request, state: State) -> Reply:
    wanted = 3 if kind == "steps" else int(argument) if argument.isdigit() and kind == "tool" else 1
    endless = kind in ("loop", "costly", "spend", "uncounted")
    if request.results >= wanted and not endless:
        answers = {"whole": "long", "steps": "steps"}
        return _play_text(answers[kind], "", request) if kind in answers else Reply((TOOL_DONE_TEXT,))
    number = state.serial()
    if kind == "mcp":
        call = _mcp_call(request, number)
    elif kind == "whole":
        call = _shell_call(request.tools, TOOL_COMMANDS["fail"], number)
    elif argument in TOOL_COMMANDS:
        call = _shell_call(request.tools, TOOL_COMMANDS[argument], number)
    else:
        call = _shell_call(request.tools, TOOL_COMMAND, number)
    if call is None:  # a side request (title, summary) that offers no such tool
        return _play_text("plain", "", request)
    if kind == "whole":
        return dataclasses.replace(_play_text("think", "", request), chunks=(), tool=call, stop="tool")
    costly, uncounted = Usage(fresh=10_000, cached=0, output=100_000), Usage(fresh=0, cached=0, output=0)
    spend = Usage(fresh=10_000, cached=0, output=min(24_000, request.limit or 24_000))
    usage = {"costly": costly, "spend": spend, "uncounted": uncounted}.get(kind, Usage())
    return Reply(tool=call, usage=usage, stop="tool")


# --------------------------------------------------------------------------
# Choosing and filling a tool
# --------------------------------------------------------------------------

#: Names under which the CLIs offer a shell, the preferred one first.
SHELL_TOOLS = (
    "Bash",
    "bash",
    "run_shell_command",
    "exec_command",
    "shell_command",
    "shell",
    "local_shell",
)

#: Codex with its newest models offers one tool that takes JavaScript.
CODE_TOOL = "exec"

#: Claude Code offers MCP tools only by name until this tool has loaded them.
SEARCH_TOOL = "ToolSearch"

#: Claude Code offers this tool when it was started with a JSON Schema.
OUTPUT_TOOL = "StructuredOutput"


def _shell_call(tools: Sequence[Tool], command: str, number: int) -> ToolCall | None:
    by_name = {tool.name: tool for tool in tools}
    for name in SHELL_TOOLS:
        if (tool := by_name.get(name)) is not None:
            return _call(tool, number, _fill(tool.schema, command))
    if (tool := by_name.get(CODE_TOOL)) is not None and tool.freeform:
        script = f"const r = await tools.exec_command({json.dumps({'cmd': command})});\ntext(r.output);\n"
        return _call(tool, number, {}, script)
    return None


def _mcp_call(request: Request, number: int) -> ToolCall | None:
    arguments = {"text": MCP_TEXT}
    for tool in request.tools:
        if tool.name.endswith(MCP_TOOL):
            return _call(tool, number, arguments)
        if tool.name == CODE_TOOL and tool.freeform:
            script = (
                f"const t = ALL_TOOLS.find((t) => t.name.endsWith({json.dumps(MCP_TOOL)}));\n"
                f"text(await tools[t.name]({json.dumps(arguments)}));\n"
            )
            return _call(tool, number, {}, script)
        if tool.name == SEARCH_TOOL and request.deferred:
            return _call(tool, number, {"query": f"select:{request.deferred}", "max_results": 1})
    return None


def _call(tool: Tool, number: int, arguments: Json, script: str | None = None) -> ToolCall:
    return ToolCall(f"call_stub{number:06d}", tool.name, arguments, tool.namespace, script)


def _fill(schema: Json, command: str) -> Json:
    """Arguments that satisfy ``schema``, with ``command`` in its place."""
    properties: dict[str, Json] = schema.get("properties") or {}
    required = schema.get("required") or []
    arguments: Json = {}
    for key in ("command", "cmd"):
        if key in properties:
            is_array = "array" in str(properties[key].get("type", "")).lower()
            arguments[key] = ["bash", "-c", command] if is_array else command
            break
    for key in required:
        if key not in arguments:
            arguments[key] = _example(properties.get(key, {}))
    return arguments


def _example(schema: Json) -> Any:
    """A small value that satisfies ``schema`` (enough for the CLIs' own schemas)."""
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return _example(schema[key][0])
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "string")
    if isinstance(kind, list):
        kind = kind[0]
    match str(kind).lower():
        case "object":
            properties: dict[str, Json] = schema.get("properties") or {}
            return {key: _example(properties.get(key, {})) for key in schema.get("required") or []}
        case "array":
            return [_example(schema.get("items") or {}) for _ in range(schema.get("minItems", 0))]
        case "number" | "integer":
            return schema.get("minimum", 1)
        case "boolean":
            return False
    return "stub"


# --------------------------------------------------------------------------
# Protocols: reading requests
# --------------------------------------------------------------------------


def _texts(content: Any) -> list[str]:
    """All plain texts in a message's content, whatever the protocol."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    return [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]


def read_messages(body: Json) -> Request:
    results, history, prompt, searched = 0, 0, "", False
    called: dict[str, str] = {}  # tool_use id -> tool name
    for message in body.get("messages", []):
        content = message.get("content")
        blocks: list[Json] = content if isinstance(content, list) else []
        called.update({b["id"]: b["name"] for b in blocks if b.get("type") == "tool_use"})
        if message.get("role") != "user":
            continue
        if found := [called.get(b["tool_use_id"]) for b in blocks if b.get("type") == "tool_result"]:
            searched = searched or SEARCH_TOOL in found
            count = sum(name != SEARCH_TOOL for name in found)
            results, history = results + count, history + count
        if texts := _texts(content):
            prompt = texts[-1]
            results, searched = (results, searched) if found else (0, False)
    tools = [Tool(t["name"], t.get("input_schema", {})) for t in body.get("tools") or [] if "name" in t]
    named = None if searched else re.search(rf"mcp__\w+__{MCP_TOOL}", json.dumps(body.get("messages")))
    deferred = named.group() if named else ""
    output = (body.get("output_config") or {}).get("format") or {}
    return Request(
        protocol="messages",
        model=body.get("model", ""),
        stream=bool(body.get("stream")),
        tools=tools,
        results=results,
        history=history,
        prompt=prompt,
        schema=output.get("schema"),
        deferred=deferred,
    )


def read_chat(body: Json) -> Request:
    results, history, prompt = 0, 0, ""
    for message in body.get("messages", []):
        if message.get("role") == "tool":
            results, history = results + 1, history + 1
        elif message.get("role") == "user":
            texts = _texts(message.get("content"))
            results, prompt = 0, texts[-1] if texts else ""
    functions = [t["function"] for t in body.get("tools") or [] if t.get("type") == "function"]
    tools = [Tool(f["name"], f.get("parameters") or {}) for f in functions]
    wanted = (body.get("response_format") or {}).get("json_schema") or {}
    return Request(
        protocol="chat",
        model=body.get("model", ""),
        stream=bool(body.get("stream")),
        tools=tools,
        results=results,
        history=history,
        prompt=prompt,
        schema=wanted.get("schema"),
    )


def read_responses(body: Json) -> Request:
    results, history, prompt = 0, 0, ""
    items = body.get("input", [])
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    for item in items:
        if str(item.get("type", "")).endswith("_call_output"):
            results, history = results + 1, history + 1
        elif item.get("role") == "user":
            texts = _texts(item.get("content"))
            results, prompt = 0, texts[-1] if texts else ""
    tools = list(_responses_tools(body.get("tools") or []))
    for item in items:  # newer clients list some tools in the input instead
        if item.get("type") == "additional_tools":
            tools.extend(_responses_tools(item.get("tools") or []))
    wanted = (body.get("text") or {}).get("format") or {}
    return Request(
        protocol="responses",
        model=body.get("model", ""),
        stream=bool(body.get("stream")),
        tools=tools,
        results=results,
        history=history,
        prompt=prompt,
        schema=wanted.get("schema"),
    )


def _responses_tools(tools: list[Json]) -> Iterator[Tool]:
    for tool in tools:
        kind = tool.get("type")
        if kind == "function":
            yield Tool(tool["name"], tool.get("parameters") or {})
        elif kind == "custom":
            yield Tool(tool["name"], {}, freeform=True)
        elif kind == "namespace":
            for inner in _responses_tools(tool.get("tools") or []):
                yield dataclasses.replace(inner, namespace=tool["name"])


def read_gemini(body: Json, model: str, *, stream: bool) -> Request:
    results, history, prompt = 0, 0, ""
    for content in body.get("contents", []):
        if content.get("role", "user") != "user":
            continue
        parts = content.get("parts") or []
        found = [p for p in parts if "functionResponse" in p]
        if found:
            results, history = results + len(found), history + len(found)
        elif texts := _texts(parts):
            results, prompt = 0, texts[-1]
    tools = []
    for group in body.get("tools") or []:
        for declaration in group.get("functionDeclarations") or []:
            schema = declaration.get("parametersJsonSchema") or declaration.get("parameters") or {}
            tools.append(Tool(declaration["name"], schema))
    wanted = body.get("generationConfig") or {}
    return Request(
        protocol="gemini",
        model=model,
        stream=stream,
        tools=tools,
        results=results,
        history=history,
        prompt=prompt,
        schema=wanted.get("responseJsonSchema") or wanted.get("responseSchema"),
    )


# --------------------------------------------------------------------------
# Protocols: writing replies.  Each gives (event name or None, payload) pairs.
# --------------------------------------------------------------------------

Events = Iterator[tuple[str | None, Json]]


def messages_body(request: Request, reply: Reply) -> Json:
    content: list[Json] = []
    if reply.thinking:
        content.append({"type": "thinking", "thinking": reply.thinking, "signature": "c3R1Yg=="})
    if reply.chunks:
        content.append({"type": "text", "text": "".join(reply.chunks)})
    if reply.tool:
        call = reply.tool
        content.append({"type": "tool_use", "id": call.call_id, "name": call.name, "input": call.arguments})
    stops = {"end": "end_turn", "tool": "tool_use", "length": "max_tokens", "refusal": "refusal"}
    return {
        "id": "msg_stub",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": content,
        "stop_reason": stops[reply.stop],
        "stop_sequence": None,
        "usage": {
            "input_tokens": reply.usage.fresh,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": reply.usage.cached,
            "output_tokens": reply.usage.output,
        },
    }


def messages_events(request: Request, reply: Reply) -> Events:
    body = messages_body(request, reply)
    start = {**body, "content": [], "stop_reason": None, "usage": {**body["usage"], "output_tokens": 1}}
    yield "message_start", {"type": "message_start", "message": start}
    for index, block in enumerate(body["content"]):
        at = {"index": index}
        if block["type"] == "thinking":
            empty: Json = {"type": "thinking", "thinking": "", "signature": ""}
            deltas: list[Json] = [
                {"type": "thinking_delta", "thinking": block["thinking"]},
                {"type": "signature_delta", "signature": block["signature"]},
            ]
        elif block["type"] == "text":
            empty = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": chunk} for chunk in reply.chunks]
        else:
            empty = {**block, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        yield "content_block_start", {"type": "content_block_start", **at, "content_block": empty}
        for delta in deltas:
            yield "content_block_delta", {"type": "content_block_delta", **at, "delta": delta}
        yield "content_block_stop", {"type": "content_block_stop", **at}
    end = {"stop_reason": body["stop_reason"], "stop_sequence": None}
    yield "message_delta", {"type": "message_delta", "delta": end, "usage": body["usage"]}
    yield "message_stop", {"type": "message_stop"}


def chat_body(request: Request, reply: Reply) -> Json:
    message: Json = {"role": "assistant", "content": "".join(reply.chunks) or None}
    if reply.thinking:
        message["reasoning_content"] = reply.thinking
    if reply.tool:
        function = {"name": reply.tool.name, "arguments": json.dumps(reply.tool.arguments)}
        message["tool_calls"] = [{"id": reply.tool.call_id, "type": "function", "function": function}]
    return {
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "created": 1,
        "model": request.model,
        "choices": [{"index": 0, "message": message, "finish_reason": _chat_stop(reply)}],
        "usage": _chat_usage(reply.usage),
    }


def _chat_stop(reply: Reply) -> str:
    return {"end": "stop", "tool": "tool_calls", "length": "length", "refusal": "content_filter"}[reply.stop]


def _chat_usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output,
        "total_tokens": usage.prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def chat_events(request: Request, reply: Reply) -> Events:
    def chunk(delta: Json, finish: str | None = None) -> tuple[None, Json]:
        return None, {
            "id": "chatcmpl-stub",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": request.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }

    yield chunk({"role": "assistant", "content": ""})
    if reply.thinking:
        yield chunk({"reasoning_content": reply.thinking})
    for text in reply.chunks:
        yield chunk({"content": text})
    if reply.tool:
        function = {"name": reply.tool.name, "arguments": json.dumps(reply.tool.arguments)}
        call = {"index": 0, "id": reply.tool.call_id, "type": "function", "function": function}
        yield chunk({"tool_calls": [call]})
    _, last = chunk({}, _chat_stop(reply))
    yield None, {**last, "usage": _chat_usage(reply.usage)}


def responses_body(request: Request, reply: Reply) -> Json:
    output: list[Json] = []
    if reply.thinking:
        summary = [{"type": "summary_text", "text": reply.thinking}]
        output.append({"type": "reasoning", "id": "rs_stub", "summary": summary})
    if reply.chunks:
        part: Json = {"type": "output_text", "text": "".join(reply.chunks), "annotations": []}
        output.append(
            {
                "type": "message",
                "id": "msg_stub",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        )
    if reply.tool:
        call = reply.tool
        item: Json = {
            "id": f"fc_{call.call_id}",
            "call_id": call.call_id,
            "name": call.name,
            "status": "completed",
        }
        if call.namespace:
            item["namespace"] = call.namespace
        if call.freeform is None:
            output.append({"type": "function_call", **item, "arguments": json.dumps(call.arguments)})
        else:
            output.append({"type": "custom_tool_call", **item, "input": call.freeform})
    body: Json = {
        "id": "resp_stub",
        "object": "response",
        "created_at": 1,
        "model": request.model,
        "status": "completed",
        "output": output,
        "usage": {
            "input_tokens": reply.usage.prompt,
            "input_tokens_details": {"cached_tokens": reply.usage.cached},
            "output_tokens": reply.usage.output,
            "output_tokens_details": {"reasoning_tokens": reply.usage.reasoning},
            "total_tokens": reply.usage.prompt + reply.usage.output,
        },
    }
    if reply.stop in ("length", "refusal"):
        reason = "max_output_tokens" if reply.stop == "length" else "content_filter"
        body |= {"status": "incomplete", "incomplete_details": {"reason": reason}}
    return body


def responses_events(request: Request, reply: Reply) -> Events:
    number = 0

    def event(kind: str, **fields: Any) -> tuple[str, Json]:
        nonlocal number
        number += 1
        return kind, {"type": kind, "sequence_number": number - 1, **fields}

    body = responses_body(request, reply)
    opening = {**body, "status": "in_progress", "output": [], "usage": None}
    yield event("response.created", response=opening)
    yield event("response.in_progress", response=opening)
    for index, item in enumerate(body["output"]):
        at = {"output_index": index, "item_id": item["id"]}
        empty = {**item, "status": "in_progress"}
        if item["type"] == "message":
            part = {"type": "output_text", "text": "", "annotations": []}
            yield event("response.output_item.added", output_index=index, item={**empty, "content": []})
            yield event("response.content_part.added", **at, content_index=0, part=part)
            for chunk in reply.chunks:
                yield event("response.output_text.delta", **at, content_index=0, delta=chunk)
            whole = item["content"][0]
            yield event("response.output_text.done", **at, content_index=0, text=whole["text"])
            yield event("response.content_part.done", **at, content_index=0, part=whole)
        elif item["type"] == "reasoning":
            yield event("response.output_item.added", output_index=index, item={**item, "summary": []})
            part = {"type": "summary_text", "text": ""}
            yield event("response.reasoning_summary_part.added", **at, summary_index=0, part=part)
            yield event("response.reasoning_summary_text.delta", **at, summary_index=0, delta=reply.thinking)
            yield event("response.reasoning_summary_text.done", **at, summary_index=0, text=reply.thinking)
        elif item["type"] == "function_call":
            yield event("response.output_item.added", output_index=index, item={**empty, "arguments": ""})
            yield event("response.function_call_arguments.delta", **at, delta=item["arguments"])
            yield event("response.function_call_arguments.done", **at, arguments=item["arguments"])
        else:
            yield event("response.output_item.added", output_index=index, item={**empty, "input": ""})
            yield event("response.custom_tool_call_input.delta", **at, delta=item["input"])
            yield event("response.custom_tool_call_input.done", **at, input=item["input"])
        yield event("response.output_item.done", output_index=index, item=item)
    yield event(f"response.{body['status']}", response=body)


def gemini_body(request: Request, reply: Reply) -> Json:
    whole = dataclasses.replace(reply, chunks=("".join(reply.chunks),))
    return _gemini_chunk(request, reply, _gemini_parts(whole), last=True)


def _gemini_parts(reply: Reply) -> list[Json]:
    parts: list[Json] = []
    if reply.thinking:
        parts.append({"text": reply.thinking, "thought": True})
    parts.extend({"text": chunk} for chunk in reply.chunks)
    if reply.tool:
        parts.append({"functionCall": {"name": reply.tool.name, "args": reply.tool.arguments}})
    return parts or [{"text": ""}]


def _gemini_chunk(request: Request, reply: Reply, parts: list[Json], *, last: bool) -> Json:
    candidate: Json = {"index": 0, "content": {"role": "model", "parts": parts}}
    body: Json = {"candidates": [candidate], "modelVersion": request.model, "responseId": "resp_stub"}
    if last:
        stops = {"end": "STOP", "tool": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY"}
        candidate["finishReason"] = stops[reply.stop]
        usage = reply.usage
        body["usageMetadata"] = {
            "promptTokenCount": usage.prompt,
            "cachedContentTokenCount": usage.cached,
            "candidatesTokenCount": usage.output - usage.reasoning,
            "thoughtsTokenCount": usage.reasoning,
            "totalTokenCount": usage.prompt + usage.output,
        }
    return body


def gemini_events(request: Request, reply: Reply) -> Events:
    parts = _gemini_parts(reply)
    for index, part in enumerate(parts):
        yield None, _gemini_chunk(request, reply, [part], last=index == len(parts) - 1)


@dataclasses.dataclass(frozen=True)
class Protocol:
    body: Callable[[Request, Reply], Json]
    events: Callable[[Request, Reply], Events]
    done: str = ""  #: a closing line after the last event


PROTOCOLS: dict[str, Protocol] = {
    "messages": Protocol(messages_body, messages_events),
    "chat": Protocol(chat_body, chat_events, done="data: [DONE]\n\n"),
    "responses": Protocol(responses_body, responses_events),
    "gemini": Protocol(gemini_body, gemini_events),
}

_ERROR_KINDS = {
    400: ("invalid_request_error", "INVALID_ARGUMENT"),
    401: ("authentication_error", "UNAUTHENTICATED"),
    403: ("permission_error", "PERMISSION_DENIED"),
    404: ("not_found_error", "NOT_FOUND"),
    429: ("rate_limit_error", "RESOURCE_EXHAUSTED"),
    503: ("api_error", "UNAVAILABLE"),
    529: ("overloaded_error", "UNAVAILABLE"),
}


def error_body(protocol: str, status: int) -> Json:
    """The error document of ``protocol`` for an HTTP status."""
    fallback = ("api_error", "INTERNAL") if status >= 500 else ("invalid_request_error", "INVALID_ARGUMENT")
    kind, canonical = _ERROR_KINDS.get(status, fallback)
    message = f"stub: scripted failure {status}"
    if protocol == "messages":
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_stub"}
    if protocol == "gemini":
        return {"error": {"code": status, "message": message, "status": canonical}}
    return {"error": {"message": message, "type": kind, "param": None, "code": kind}}


# --------------------------------------------------------------------------
# A one-tool MCP server
# --------------------------------------------------------------------------


def mcp_answer(message: Json) -> Json | None:
    """The JSON-RPC answer to one MCP message; None for a notification."""
    if "id" not in message:
        return None
    method = message.get("method")
    params: Json = message.get("params") or {}
    result: Json
    if method == "initialize":
        result = {
            "protocolVersion": params.get("protocolVersion", "2025-06-18"),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "stub", "version": "1"},
        }
    elif method == "tools/list":
        schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
        tool: Json = {"name": MCP_TOOL, "description": "Gives the text back.", "inputSchema": schema}
        tool["annotations"] = {"readOnlyHint": True, "destructiveHint": False, "openWorldHint": False}
        result = {"tools": [tool]}
    elif method == "tools/call" and params.get("name") == MCP_TOOL:
        text = (params.get("arguments") or {}).get("text", "")
        result = {"content": [{"type": "text", "text": f"echo: {text}"}], "isError": False}
    elif method == "ping":
        result = {}
    else:
        error = {"code": -32601, "message": f"no such method: {method}"}
        return {"jsonrpc": "2.0", "id": message["id"], "error": error}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def mcp_stdio(source: TextIO, sink: TextIO) -> None:
    for line in source:
        if line.strip() and (answer := mcp_answer(json.loads(line))) is not None:
            sink.write(json.dumps(answer) + "\n")
            sink.flush()


# --------------------------------------------------------------------------
# HTTP
# --------------------------------------------------------------------------

_GEMINI_PATH = re.compile(r"^/v1(?:beta\d?|alpha)?/models/([^:/]+(?:/[^:/]+)*):(\w+)$")


def _describe(answer: Reply | Failure | None) -> Json:
    """What was answered, for /_stub/requests and the log."""
    match answer:
        case None:
            return {"status": 200, "garbage": True}
        case Failure():
            return {"status": answer.status}
    return {
        "status": 200,
        "text": "".join(answer.chunks)[:2000],
        "tool": answer.tool.name if answer.tool else None,
        "call": answer.tool.call_id if answer.tool else None,
        "stop": answer.stop,
        "cut": answer.cut,
        "usage": dataclasses.asdict(answer.usage),
    }


class StubServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, state: State) -> None:
        super().__init__((host, port), Handler)
        self.state = state

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is normal here: CLIs are cancelled in tests."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"
    server_version = "stub-model"

    @property
    def state(self) -> State:
        return cast("StubServer", self.server).state

    # -- verbs ------------------------------------------------------------

    def do_HEAD(self) -> None:
        self._send(200, b"", "text/plain")

    def do_DELETE(self) -> None:
        if urlsplit(self.path).path == "/_stub/requests":
            self.state.reset()
        self._send_json(200, {})

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/_stub/requests":
            self._send_json(200, {"requests": self.state.snapshot()})
        elif path == "/_stub/scenarios":
            self._send_json(200, SCENARIOS)
        elif path in ("/", "/healthz"):
            self._send_json(200, {"ok": True})
        elif path == "/mcp":
            self._send(405, b"", "text/plain")
        elif self.headers.get("upgrade", "").lower() == "websocket":
            self._send(426, b"", "text/plain")  # Codex then goes on over plain HTTP
        elif path.rstrip("/") == "/v1/models":
            models = [{"id": f"stub-{name}", "object": "model", "type": "model"} for name in SCENARIOS]
            self._send_json(200, {"object": "list", "data": models, "has_more": False})
        elif path.rstrip("/") == "/v1beta/models":
            self._send_json(200, {"models": [{"name": f"models/stub-{name}"} for name in SCENARIOS]})
        else:
            self._unknown()

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == "/_stub/heal":
            self.state.is_healed = True
            self._send_json(200, {})
            return
        if path in ("/_stub/hold", "/_stub/next", "/_stub/go"):
            if path != "/_stub/hold":
                self.state.hold(False)
            if path != "/_stub/go":
                self.state.hold(True)
            self._send_json(200, {})
            return
        try:
            body = json.loads(self._read_body() or b"{}")
        except ValueError:
            self._send_json(400, error_body("chat", 400))
            return
        gemini = _GEMINI_PATH.match(path)
        if path == "/mcp":
            self._mcp(body)
        elif gemini is not None:
            self._gemini(body, gemini.group(1), gemini.group(2))
        elif path.endswith("/messages/count_tokens"):
            self._send_json(200, {"input_tokens": Usage().prompt})
        elif path.endswith("/messages"):
            self._model(read_messages(body), body)
        elif path.endswith("/chat/completions"):
            self._model(read_chat(body), body)
        elif path.endswith("/responses"):
            self._model(read_responses(body), body)
        else:
            self._unknown()

    # -- model requests ---------------------------------------------------

    def _gemini(self, body: Json, model: str, action: str) -> None:
        if action == "countTokens":
            self._send_json(200, {"totalTokens": Usage().prompt})
        elif action in ("generateContent", "streamGenerateContent"):
            self._model(read_gemini(body, model, stream=action.startswith("stream")), body)
        else:
            self._unknown()

    def _model(self, request: Request, body: Json) -> None:
        scenario = scenario_of(request.model, self.state.default)
        limits = {key: value for key, value in {**body, **(body.get("generationConfig") or {})}.items() if _LIMIT.search(key)}
        request = dataclasses.replace(request, limit=min(limits.values(), default=None))
        names = ("user-agent", "authorization", "x-api-key", "x-goog-api-key", "anthropic-beta")
        entry: Json = {
            "path": self.path,
            "protocol": request.protocol,
            "model": request.model,
            "scenario": scenario,
            "stream": request.stream,
            "tools": [tool.name for tool in request.tools],
            "results": request.results,
            "history": request.history,
            "prompt": request.prompt[-2000:],
            "prompt_chars": len(request.prompt),
            "headers": {name: self.headers[name] for name in names if name in self.headers},
            "limits": limits,
        }
        self.state.record(entry)
        if request.results == 2:
            self.state.middle(entry)
        answer = play(scenario, request, self.state)
        self.state.answered(entry, _describe(answer))
        if answer is None:
            self._send(200, b"<html>this is not a model</html>", "text/html")
        elif isinstance(answer, Failure):
            extra = {"retry-after": "1"} if answer.status in (429, 503, 529) else {}
            self._send_json(answer.status, error_body(request.protocol, answer.status), extra)
        elif request.stream:
            self._stream(request, answer, entry)
        elif answer.cut:
            self.close_connection = True
        else:
            self._send_json(200, PROTOCOLS[request.protocol].body(request, answer))

    def _stream(self, request: Request, reply: Reply, entry: Json) -> None:
        protocol = PROTOCOLS[request.protocol]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("cache-control", "no-cache")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        events = list(protocol.events(request, reply))
        if reply.cut:
            events = events[: max(1, len(events) // 2)]
        for number, (name, payload) in enumerate(events):
            if reply.delay and number == len(events) // 2:
                self.state.middle(entry)
            head = f"event: {name}\n" if name else ""
            self._chunk(f"{head}data: {json.dumps(payload)}\n\n")
            if reply.delay:
                time.sleep(reply.delay)
        if reply.cut:  # no closing chunk: the client sees a broken body
            self.close_connection = True
            return
        if protocol.done:
            self._chunk(protocol.done)
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    # -- MCP --------------------------------------------------------------

    def _mcp(self, body: Json) -> None:
        entry: Json = {"path": self.path, "protocol": "mcp", "method": body.get("method"), "body": body}
        self.state.record(entry)
        answer = mcp_answer(body)
        self.state.answered(entry, answer or {})
        if answer is None:
            self._send(202, b"", "application/json")
        else:
            self._send_json(200, answer)

    # -- plumbing ---------------------------------------------------------

    def _read_body(self) -> bytes:
        if "chunked" in (self.headers.get("transfer-encoding") or "").lower():
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _send_json(self, status: int, body: Json, extra: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), "application/json", extra)

    def _send(self, status: int, body: bytes, kind: str, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _unknown(self) -> None:
        entry: Json = {"path": self.path, "protocol": "unknown", "verb": self.command}
        self.state.record(entry)
        self.state.answered(entry, {"status": 404})
        self._send_json(404, error_body("chat", 404))

    def log_message(self, format: str, *args: Any) -> None:
        """Silence: what was asked is in /_stub/requests and in --log."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Scripted model server for agent-CLI tests.")
    parser.add_argument("port", type=int, nargs="?", default=0, help="port to listen on (0: any free one)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--default", default="plain", metavar="SCENARIO", help="for model names without one")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append each request as a JSON line")
    parser.add_argument("--list", action="store_true", help="print the scenarios and stop")
    parser.add_argument("--mcp-stdio", action="store_true", help="be an MCP server on stdin/stdout instead")
    options = parser.parse_args(argv)
    if options.list:
        for name, text in SCENARIOS.items():
            print(f"stub-{name:12} {text}")
        return 0
    if options.mcp_stdio:
        mcp_stdio(sys.stdin, sys.stdout)
        return 0
    if scenario_of(f"stub-{options.default}", "") != options.default:
        parser.error(f"no such scenario: {options.default}")
    log = options.log.open("a", encoding="utf-8") if options.log else None
    server = StubServer(options.host, options.port, State(options.default, log))
    print(f"listening on http://{options.host}:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
        if log is not None:
            log.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
