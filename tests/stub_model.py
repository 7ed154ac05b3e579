"""A model server for tests: speaks Anthropic's Messages API, plays a scenario that the model's name ends with.

plain    answers with a text
tool     one shell call, then a text
costly   a shell call every turn, 100,000 tokens each
late     one shell call, then it refuses with 500
slow     does not answer before the server is closed
401 429  refuses every call
anything else answers with a text
"""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TEXT = "Hello from the model."
USAGE = {"input_tokens": 1200, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 300, "output_tokens": 40}
COSTLY = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 100_000}


@dataclass
class StubModel:
    """A running server. A model whose name says nothing plays `default`. `served` has the usage of every answered call,
    `prompts` the text of every request."""

    host: str = "127.0.0.1"
    port: int = 0
    default: str = "plain"
    served: list[dict[str, int]] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "StubModel":
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                stub._answer(self, body)

            def log_message(self, *_: Any) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients are killed in these tests."""

        self._server = Server((self.host, self.port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://{self.host}:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        _, said, scenario = body["model"].rpartition("stub-")
        scenario = scenario if said else self.default
        self.prompts.append(json.dumps(body["messages"], ensure_ascii=False))
        if scenario == "slow":
            self.closing.wait()
            return
        called = sum(block.get("type") == "tool_result" for message in body["messages"] for block in _blocks(message))
        if scenario == "late":
            scenario = "500" if called else "tool"
        if len(scenario) == 3 and scenario.isdigit():
            error = {"type": "error", "error": {"type": "scripted", "message": f"scripted failure {scenario}"}}
            _send(handler, int(scenario), "application/json", json.dumps(error).encode(), retry_after=scenario == "429")
            return
        usage = COSTLY if scenario == "costly" else USAGE
        tool = scenario == "costly" or (scenario == "tool" and not called)
        self.served.append(usage)
        events = b"".join(
            f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            for event in _message(body["model"], usage, f"call_{called}" if tool else None)
        )
        _send(handler, 200, "text/event-stream", events)


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return content if isinstance(content, list) else []


def _message(model: str, usage: dict[str, int], call: str | None) -> Iterator[dict[str, Any]]:
    start = {"id": "msg", "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": None}
    yield {"type": "message_start", "message": {**start, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}}
    if call is None:
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}}
    else:
        block = {"type": "tool_use", "id": call, "name": "Bash", "input": {}}
        argument = json.dumps({"command": "echo from the tool"})
        yield {"type": "content_block_start", "index": 0, "content_block": block}
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": argument}}
    yield {"type": "content_block_stop", "index": 0}
    reason = "end_turn" if call is None else "tool_use"
    yield {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}
    yield {"type": "message_stop"}


def _send(handler: BaseHTTPRequestHandler, status: int, kind: str, body: bytes, *, retry_after: bool = False) -> None:
    handler.send_response(status)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(body)))
    if retry_after:
        handler.send_header("retry-after", "1")
    handler.end_headers()
    handler.wfile.write(body)
