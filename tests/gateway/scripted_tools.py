"""A server of tools as bad as one can be, by each transport of MCP and without a library: `server` serves by HTTP on a thread,
and as a program it speaks on its standard streams. `MODE` chooses what it does besides."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Json = dict[str, Any]
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}}
NAMES = ("echo", "refuse", "break", "slow", "big", "ask", "schema", "env", "read", "processes", "die")
MANY, PAGE = 10_000, 100
TOKEN = "tools-token-canary-0123456789"
BIG = 50_000_000
# A pattern that takes a lifetime for an answer that does not match.
ENDLESS = {"type": "object", "properties": {"text": {"type": "string", "pattern": "^(a|aa)+$"}}, "required": ["text"]}


@dataclass
class Script:
    """What a server does; the owner of a server on a thread may change it at any time."""

    mode: str = ""
    url: str = ""
    calls: list[str] = field(default_factory=list)
    is_away: bool = False
    sessions: set[str] = field(default_factory=set)

    def answer(self, message: Json, ask: Callable[[Json], Json]) -> Json | None:
        """Return what answers a message. `ask` sends a request to the client, and returns what answers that."""
        method, params, id = message.get("method"), message.get("params", {}), message.get("id")
        if id is None or method is None:
            return None
        made: Callable[[], Json] | None = {
            "initialize": lambda: {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "scripted", "version": "1"},
            },
            "tools/list": lambda: self._list(params),
            "tools/call": lambda: self._call(params["name"], params.get("arguments") or {}, ask),
        }.get(method)
        try:
            if made is None:
                raise LookupError(f"no method {method}")
            return {"jsonrpc": "2.0", "id": id, "result": made()}
        except LookupError as err:
            return {"jsonrpc": "2.0", "id": id, "error": {"code": -32602, "message": str(err.args[0])}}

    def _list(self, params: Json) -> Json:
        schema = {**TEXT, "description": "changed"} if self.mode == "changed" else TEXT
        tools: list[Json] = [{"name": name, "description": name, "inputSchema": schema} for name in NAMES]
        tools[NAMES.index("die")]["annotations"] = {"readOnlyHint": True}
        tools[NAMES.index("schema")]["outputSchema"] = ENDLESS
        if self.mode == "fewer":
            tools = tools[1:]
        if self.mode == "endless":
            return {"tools": [], "nextCursor": str(time.monotonic())}
        if self.mode != "many":
            return {"tools": tools}
        tools = [*({"name": f"tool-{number}", "inputSchema": TEXT} for number in range(MANY)), *tools]
        first = int(params.get("cursor", "0"))
        after = {"nextCursor": str(first + PAGE)} if first + PAGE < len(tools) else {}
        return {"tools": tools[first : first + PAGE], **after}

    def _call(self, name: str, arguments: Json, ask: Callable[[Json], Json]) -> Json:
        self.calls.append(name)
        text = arguments.get("text", "")
        if name == "break":
            raise LookupError("the server says no")
        if name == "slow":
            time.sleep(float(text or 30))
        if name == "big":
            text = "x" * int(text or BIG)
        if name == "ask":
            answers = [
                ask({"method": "elicitation/create", "params": {"message": "password?", "requestedSchema": TEXT}}),
                ask({"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 9}}),
            ]
            text = json.dumps([sorted(answer) for answer in answers])
        if name == "env":
            text = json.dumps(dict(os.environ))
        if name == "read":
            try:
                text = Path(text).read_text()[:1000]
            except OSError as err:
                text = type(err).__name__
        if name == "processes":
            text = json.dumps([Path(f"/proc/{pid}/comm").read_text() for pid in os.listdir("/proc") if pid.isdigit()])
        if name == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        content = {"content": [{"type": "text", "text": f"{name}: {text}"}], "isError": name == "refuse"}
        return {**content, "structuredContent": {"text": "a" * 60 + "!"}} if name == "schema" else content


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # an answer in one piece, which the kernel does not hold back
    script: Script
    streams: dict[str, "queue.Queue[Json]"]
    asked: dict[str, "queue.Queue[Json]"]

    def log_message(self, *_: Any) -> None:
        return

    def _is_refused(self) -> bool:
        refused = 503 if self.script.is_away else 401 if self.headers.get("authorization") != f"Bearer {TOKEN}" else None
        if refused is not None:
            self._send(refused, b"no", "text/plain")
        return refused is not None

    def _send(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _begin_stream(self, kind: str = "text/event-stream") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def _event(self, data: Json | str, event: str = "message") -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        self.wfile.write(f"event: {event}\ndata: {text}\n\n".encode())
        self.wfile.flush()

    def do_GET(self) -> None:
        if self._is_refused():
            return
        if self.path != "/sse":
            self._send(405, b"")
            return
        name = uuid.uuid4().hex
        events = self.streams[name] = queue.Queue()
        self._begin_stream()
        with contextlib.suppress(OSError):
            self._event(f"/messages?session_id={name}", "endpoint")
            while (message := events.get()) and not self.script.is_away:
                self._event(message)

    def do_DELETE(self) -> None:
        self._send(200, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self._is_refused():
            return
        message = json.loads(body)
        if "method" not in message:
            self.asked.pop(message["id"]).put(message)
        if self.path.startswith("/messages"):
            self._send(202, b"")
            send = self.streams[self.path.partition("=")[2]].put
            threading.Thread(target=self._answer, args=(message, send), daemon=True).start()
        elif self.script.mode == "html":
            self._send(200, b"<html>sign in</html>", "text/html")
        elif "id" not in message or "method" not in message:
            self._send(202, b"")
        else:
            self._post(message)

    def _post(self, message: Json) -> None:
        session = self.headers.get("mcp-session-id")
        if session is not None and session not in self.script.sessions:
            self._send(404, b"", "text/plain")
        elif message.get("params", {}).get("name") == "ask":
            self._begin_stream()
            self._answer(message, self._event)
        elif message.get("params", {}).get("name") == "big" and self.script.mode == "chunked":
            self._begin_stream("application/json")
            with contextlib.suppress(OSError):
                for _ in range(10_000):
                    self.wfile.write(b" " * 100_000)
        else:
            made = {}
            if message["method"] == "initialize":
                self.script.sessions.add(uuid.uuid4().hex)
                made = {"Mcp_Session_Id": max(self.script.sessions)}
            with contextlib.suppress(OSError):
                self._send(200, json.dumps(self.script.answer(message, lambda _: {})).encode(), **made)

    def _answer(self, message: Json, send: Callable[[Json], Any]) -> None:
        def ask(request: Json) -> Json:
            id = uuid.uuid4().hex
            answers = self.asked[id] = queue.Queue()
            send({"jsonrpc": "2.0", "id": id, **request})
            return answers.get(timeout=30)

        answer = self.script.answer(message, ask)
        if answer is not None:
            send(answer)


@contextlib.contextmanager
def server() -> Iterator[Script]:
    """Serve on a free port of loopback: streamable HTTP at `/mcp`, server-sent events at `/sse`."""
    script = Script()
    handler = type("Handler", (_Handler,), {"script": script, "streams": {}, "asked": {}})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    running.daemon_threads = True
    script.url = f"http://127.0.0.1:{running.server_address[1]}"
    thread = threading.Thread(target=running.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield script
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _begin(mode: str) -> None:
    """Do what a bad program does before it serves, or in place of it."""
    if mode == "banner":
        _say("Listening on stdio!\n\n{not json}\n[1, 2]")
    if mode == "flood-out":
        while True:
            sys.stdout.write("noise " * 10_000 + "\n")
    if mode == "flood-notes":
        while True:
            _say(json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}))
    if mode == "flood-err":
        threading.Thread(target=lambda: [sys.stderr.write("noise\n" * 10_000) for _ in iter(int, 1)], daemon=True).start()
    if mode == "no-line":
        sys.stdout.write("x" * BIG)
        sys.stdout.flush()
        time.sleep(60)
    if mode == "silent":
        sys.stderr.write("waiting for a sign\n")
        sys.stderr.flush()
        time.sleep(600)
    if mode == "fails":
        sys.exit(f"starting\n\x1b[31mno access with {os.environ.get('TOKEN')}\x1b[0m\n")
    if mode == "stubborn":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        child = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
        for _ in range(3):
            subprocess.Popen([sys.executable, "-c", child], start_new_session=True)


def main() -> None:
    """Serve on standard streams."""
    mode = os.environ.get("MODE", "")
    _begin(mode)
    script = Script(mode)

    def ask(request: Json) -> Json:
        _say(json.dumps({"jsonrpc": "2.0", "id": "asked", **request}))
        return json.loads(sys.stdin.readline())  # type: ignore[no-any-return]

    for line in sys.stdin:
        answer = script.answer(json.loads(line), ask)
        if answer is not None:
            _say(json.dumps(answer))
    if mode == "stubborn":
        time.sleep(600)


if __name__ == "__main__":
    main()
