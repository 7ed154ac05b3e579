"""An editor's side of the protocol: it starts the real server and talks to it over its pipes."""

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests import forked
from tests.support import ROOT

Message = dict[str, Any]
WAIT = 60.0
CAPABILITIES: Message = {
    "window": {"workDoneProgress": True},
    "workspace": {
        "didChangeWatchedFiles": {"dynamicRegistration": True},
        "workspaceEdit": {"documentChanges": True},
        "workspaceFolders": True,
    },
    "textDocument": {
        "completion": {"completionItem": {"snippetSupport": True}},
        "codeAction": {"codeActionLiteralSupport": {"codeActionKind": {"valueSet": []}}},
        "documentSymbol": {"hierarchicalDocumentSymbolSupport": True},
    },
}


class Editor:
    """Start it with `with`: the server runs in between, and is asked to leave at the end."""

    def __init__(self, folder: Path, *, options: Mapping[str, Any] | None = None, encodings: list[str] | None = None) -> None:
        self.folder, self.options, self.encodings = folder, options, encodings
        self.seen: list[Message] = []
        self.capabilities: Message = {}
        self._inbox: queue.Queue[Message | None] = queue.Queue()
        self._answers: dict[int, Message] = {}
        self._id = 0
        self._versions: dict[str, int] = {}
        environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = forked.start_with_pipes(["lsp", "--stdio"], folder, environ)
        self.errors: list[bytes] = []
        self._readers = [threading.Thread(target=work, daemon=True) for work in (self._read, self._listen)]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> "Editor":
        general = {"general": {"positionEncodings": self.encodings}} if self.encodings else {}
        answer = self.ask(
            "initialize",
            processId=None,
            rootUri=self.folder.as_uri(),
            workspaceFolders=[{"uri": self.folder.as_uri(), "name": "folder"}],
            capabilities={**CAPABILITIES, **general},
            initializationOptions=self.options,
        )
        self.capabilities = answer["capabilities"]
        self.tell("initialized")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.ask("shutdown", None)
            self.tell("exit")
        self.leave()

    def leave(self) -> int:
        """Close the pipes and wait for the end."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            return self.process.wait(WAIT)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            for reader in self._readers:
                reader.join(WAIT)

    # Messages

    def send(self, message: Mapping[str, Any] | bytes) -> None:
        assert self.process.stdin is not None
        body = message if isinstance(message, bytes) else json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def tell(self, method: str, **params: Any) -> None:
        self.send({"method": method, "params": params})

    def request(self, method: str, _params: Any = ..., **params: Any) -> Message:
        """The whole answer, with its error if there is one."""
        self._id += 1
        mine = self._id
        self.send({"id": mine, "method": method, "params": params if _params is ... else _params})
        self.until(lambda: mine in self._answers, what=method)
        return self._answers.pop(mine)

    def ask(self, method: str, _params: Any = ..., **params: Any) -> Any:
        """The result."""
        answer = self.request(method, _params, **params)
        assert "error" not in answer, answer
        return answer["result"]

    def until(self, holds: Callable[[], Any], *, what: str = "it") -> Any:
        """Take messages until it holds."""
        limit = time.monotonic() + WAIT
        while not (found := holds()):
            try:
                message = self._inbox.get(timeout=max(0.01, limit - time.monotonic()))
            except queue.Empty:
                message = None
            if message is None:
                raise AssertionError(f"{what} did not come: {self.seen[-3:]} {b''.join(self.errors).decode()[-3000:]}")
            self._take(message)
        return found

    def _take(self, message: Message) -> None:
        if "method" not in message:
            self._answers[message["id"]] = message
            return
        self.seen.append(message)
        if "id" in message:
            self.send({"id": message["id"], "result": None})

    def _read(self) -> None:
        assert self.process.stdout is not None
        while header := self.process.stdout.readline():
            length = 0
            while header.strip():
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
                header = self.process.stdout.readline()
            self._inbox.put(json.loads(self.process.stdout.read(length)))
        self._inbox.put(None)
        self.process.stdout.close()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line)
        self.process.stderr.close()

    # Documents

    def uri(self, path: str) -> str:
        return (self.folder / path).as_uri()

    def open(self, path: str, text: str | None = None, language: str = "yaml") -> str:
        uri = self.uri(path)
        if text is None:
            text = (self.folder / path).read_bytes().decode()
        self._versions[uri] = 1
        self.tell("textDocument/didOpen", textDocument={"uri": uri, "languageId": language, "version": 1, "text": text})
        return uri

    def type(self, uri: str, text: str) -> int:
        self._versions[uri] += 1
        version = self._versions[uri]
        self.tell("textDocument/didChange", textDocument={"uri": uri, "version": version}, contentChanges=[{"text": text}])
        return version

    @contextlib.contextmanager
    def within(self, folder: Path) -> Iterator[None]:
        """Another directory for a while, with nothing open before and after."""
        before, self.folder = self.folder, folder
        self.seen.clear()
        yield
        for uri in list(self._versions):
            self.close(uri)
        self.folder = before

    def close(self, uri: str) -> None:
        self._versions.pop(uri, None)
        self.tell("textDocument/didClose", textDocument={"uri": uri})

    def told(self, uri: str) -> list[Message] | None:
        """The findings that were told last of a document."""
        for message in reversed(self.seen):
            if message["method"] == "textDocument/publishDiagnostics" and message["params"]["uri"] == uri:
                found: list[Message] = message["params"]["diagnostics"]
                return found
        return None

    def codes(self, uri: str, expected: list[str]) -> list[Message]:
        """Wait until these are the findings of a document."""

        def now() -> list[str] | None:
            told = self.told(uri)
            return None if told is None else [each["code"] for each in told]

        try:
            self.until(lambda: now() == expected)
        except AssertionError as err:
            raise AssertionError(f"{expected} expected, told: {self.told(uri)}\n{err}") from err
        return self.told(uri) or []

    def at(self, method: str, uri: str, line: int, character: int, **more: Any) -> Any:
        """Ask about a place."""
        return self.ask(method, textDocument={"uri": uri}, position={"line": line, "character": character}, **more)
