"""The real application on a real socket, served by a thread of the test's process: no worker, so a run's log is the test's."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn
from websockets.sync.client import ClientConnection, connect

from optio.broker.base import Topic
from optio.cli.shared.listening import listen, uvicorn_config
from optio.model.retry import GiveUp
from optio.model.run import LogKind, LogLine, Outcome, RunState
from optio.model.usage import Meter
from optio.processes.scheduler import new_id
from optio.server.app import create_app
from optio.server.auth import token_hash
from optio.server.log_fanout import LogFanout
from optio.settings import Settings
from optio.store.values import Claim, RunFilter
from optio.tree.reload import Reloader
from optio.tree.served import ServedRegistry
from optio.wiring import Services, build
from tests.server import contract
from tests.store.empty import put_empty_database
from tests.support import Answer, eventually

Headers = Mapping[str, str] | Iterable[tuple[str, str | bytes]]
LEASE = timedelta(minutes=5)

DEV_TOKEN = "optio_dev_of_the_tests"
JOB = """\
type: standalone
name: Job
agentRuntime: command
command: "true"
promptTemplate: "hello"
maxConcurrent: 1000
"""


class _Server(uvicorn.Server):
    """uvicorn, but it looks for its end when told, not ten times a second."""

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)

    async def main_loop(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        await self._end.wait()


class Api:
    """One server. Its requests bear `dev_token`, as those of the person at `optio dev` do; None is `optio server`."""

    def __init__(self, directory: Path, *, dev_token: str | None = DEV_TOKEN, environ: Mapping[str, str] | None = None) -> None:
        self.credentials = {} if dev_token is None else {"Authorization": f"Bearer {dev_token}"}
        settings = {"OPTIO_DATA_DIR": str(directory / "data"), "OPTIO_TASKS": str(directory / "tasks.d"), **(environ or {})}
        self.tasks = directory / "tasks.d"
        self.tasks.mkdir(parents=True, exist_ok=True)
        put_empty_database(directory / "data" / "optio.db")
        self.services: Services = build(Settings.load(settings))
        self.live = ServedRegistry(self.services.store)
        self.reloader = Reloader(self.tasks, self.live, self.services.broker)
        self.feed = LogFanout()
        app = create_app(
            self.services,
            self.live,
            reload=self.reloader.load,
            new_id=new_id,
            log_fanout=self.feed,
            dev_token=dev_token,
        )
        self.app = app
        self._socket = listen(Settings.load(settings).host, 0)
        self.port: int = self._socket.getsockname()[1]
        self.server = _Server(uvicorn_config(app))
        self._thread = threading.Thread(target=self._serve, name="api", daemon=True)
        self._thread.start()
        eventually(lambda: self.server.started or not self._thread.is_alive(), what="the server to start")

    def _serve(self) -> None:
        asyncio.run(self.server.serve([self._socket]))

    def close(self) -> None:
        self.server.end()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the server does not end"
        self._socket.close()
        self.services.close()

    def serve_task(self, text: str, name: str = "job") -> None:
        """Put a task into the tree and serve it."""
        (self.tasks / f"{name}.yaml").write_text(text)
        snapshot = asyncio.run(self._load())
        assert [d.to_json() for d in snapshot.diagnostics if d.severity == "error"] == []

    async def _load(self) -> Any:
        # A reloader of its own: the lock of the served one belongs to the server's loop.
        return await Reloader(self.tasks, self.live, self.services.broker).load()

    def token(self, role: str, *, expires_at: datetime | None = None) -> str:
        """A new token's secret."""
        secret = f"optio_{role}_{new_id()}"
        self.services.store.add_token(f"tok_{new_id()}", token_hash(secret), role, role, expires_at)
        return secret

    def request(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, headers: Headers = ()) -> Answer:
        """Any request, its headers as given, and the token unless they have one; a JSON body names its type unless they do."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        names = {name.lower() for name, _ in pairs}
        pairs += [] if "authorization" in names else self.credentials.items()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host="host" in names, skip_accept_encoding=True)
            for name, value in pairs:
                connection.putheader(name, value)
            if data is not None and "content-type" not in names:
                connection.putheader("Content-Type", "application/json")
            if data is not None and not {"content-length", "transfer-encoding"} & names:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            response = connection.getresponse()
            # An answer may set several cookies.
            found = {name: ", ".join(response.headers.get_all(name, [])) for name in response.headers}
            answer = Answer(response.status, found, response.read())
        finally:
            connection.close()
        assert method == "HEAD" or (broken := contract.breach(method, path, answer)) is None, broken
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.request("POST", path, body, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def connect(self, path: str, **options: Any) -> ClientConnection:
        """A WebSocket, with the token."""
        return connect(f"ws://127.0.0.1:{self.port}{path}", additional_headers=self.credentials, **options)

    def talk(self, data: bytes) -> bytes:
        """Bytes as they are, and everything that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            answer = b""
            while part := sock.recv(65536):
                answer += part
            return answer

    # A run without a worker

    def started(self, task_id: str = "job", params: Mapping[str, Any] | None = None) -> "Writer":
        """A running run whose log the test writes. Runs that wait are cancelled: they would be claimed first."""
        for waiting in self.services.store.runs(RunFilter(task_id=task_id, state=RunState.QUEUED), limit=200).items:
            self.services.store.cancel(waiting.id, "test")
        run_id = self.post(f"/api/tasks/{task_id}/runs", {"params": params}).json["runId"]
        (claim,) = self.services.store.claim("test", LEASE, lambda view: [w.run_id for w in view.waiting if w.run_id == run_id])
        return Writer(self.services, claim)


class Writer:
    """What a worker does to a run's log."""

    def __init__(self, services: Services, claim: Claim) -> None:
        self.services, self.claim = services, claim
        self.id = claim.run.id

    def log(self, *texts: str) -> int:
        lines = [LogLine(kind=LogKind.OUTPUT, data=text.encode(), at=datetime.now(UTC)) for text in texts]
        run = self.claim.run
        last = self.services.store.append_log(run.lease, lines, {}, Meter())
        self.services.broker.tell(Topic.RUN, self.id)
        return last

    def end(self, *, ok: bool = True) -> None:
        outcome = Outcome(ok=ok, reason="completed" if ok else "agent-failed", message="")
        self.services.store.finish(self.claim.run.lease, outcome, Meter(), 0, None, lambda *_: GiveUp("the test ends it"))
        self.services.broker.tell(Topic.RUN, self.id)
