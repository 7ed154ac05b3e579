"""What tests use to drive Optio the way a user does."""

import contextlib
import encodings.idna  # noqa: F401 - `as_nobody` cannot load it: Python may lie where only root reads
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from optio.compiler.pipeline import Compilation, compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.model.registry import CompiledTask
from tests import forked

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
CLAUDE = ROOT / ".tools" / "node_modules" / ".bin" / "claude"
"""The real Claude Code CLI, as `tests/setup.sh` installs it."""

# The task as the document that this project implements creates it.
SEED = {
    "type": "standalone",
    "name": "Weekly Security Report",
    "description": "Scans dependencies and generates a vulnerability summary",
    "agentRuntime": "claude-code",
    "model": "sonnet",
    "promptTemplate": "Analyze the dependency list for {{REPO_NAME}} and produce a security report. Focus on: {{FOCUS_AREAS}}",
    "paramsSchema": {
        "type": "object",
        "properties": {
            "REPO_NAME": {"type": "string"},
            "FOCUS_AREAS": {"type": "string", "default": "CVEs, outdated packages, license issues"},
        },
        "required": ["REPO_NAME"],
    },
    "maxTurns": 20,
    "maxRetries": 2,
    "maxConcurrent": 1,
}
COMMAND_TASK = """\
type: standalone
name: {name}
agentRuntime: command
command: {command}
promptTemplate: "hello"
"""


@cache
def compiled(text: str, path: str = "task.yaml") -> CompiledTask:
    """The one task of a YAML text, which must be free of errors. Store tests ask for the same one thousands of times."""
    result: Compilation = compile_tree(MemoryTree({path: text}))
    assert result.ok, [d.to_json() for d in result.diagnostics]
    (task,) = result.registry.tasks.values()
    return task


def command_task(command: list[str] | str, name: str = "Job", extra: str = "") -> CompiledTask:
    """A task that runs a program."""
    return compiled(COMMAND_TASK.format(name=name, command=json.dumps(command)) + extra)


def eventually(look: Callable[[], T], *, within: float = 60.0, what: str = "the condition") -> T:
    """The first truthy result of `look`, which is asked the less often the longer it takes: most looks are requests."""
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < within:
        found = look()
        if found:
            return found
        time.sleep(min(0.01 + waited / 20, 0.05))
    raise AssertionError(f"{what} did not come true within {within} s")


class Signalled(Protocol):
    """A process that can be frozen."""

    @property
    def pid(self) -> int: ...

    def send_signal(self, sig: int) -> None: ...


def freeze_at_rest(process: Signalled, database: Path) -> None:
    """SIGSTOP while it does not write to this SQLite: who is stopped while he does keeps all others waiting."""
    with contextlib.closing(sqlite3.connect(database, timeout=20, isolation_level=None)) as writing:
        writing.execute("BEGIN IMMEDIATE")
        process.send_signal(signal.SIGSTOP)
        eventually(lambda: _stands(process.pid), what="every thread standing still")
        writing.execute("ROLLBACK")


def _stands(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads)


def tool(path: str) -> Path:
    """Return a file or directory below `.tools`; where it is missing, the test fails with the cure. A test or a fixture calls
    this, never a module that is imported: all tests can be collected in a new clone."""
    found = ROOT / ".tools" / path
    assert found.exists(), f"{found} is missing: run `bash tests/setup.sh`, which installs it"
    return found


def free_port() -> int:
    """A port that nobody listens on now, of those that the kernel gives no connection: it is free when a server comes back."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_768)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def as_nobody(ask: Callable[[], T]) -> T:
    """What another user of the machine gets, as JSON can say it: asked by a fork that gave root's rights up."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writing, json.dumps(ask()).encode())
        except BaseException as err:
            os.write(writing, json.dumps(f"{type(err).__name__}: {err}").encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        found: T = json.loads(answer.read())
    os.waitpid(child, 0)
    return found


@contextlib.contextmanager
def directory_open_to_all() -> Iterator[Path]:
    """A directory that every user of the machine may enter, where pytest's own are closed; a umask that forbids nothing."""
    with tempfile.TemporaryDirectory(prefix="optio-open-") as name:
        os.chmod(name, 0o755)  # noqa: S103 - this is what the directory is for
        before = os.umask(0)
        try:
            yield Path(name)
        finally:
            os.umask(before)


def header_lines(headers: Mapping[str, str]) -> str:
    """Headers as they stand in a request that a test writes by itself."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def open_sandbox(environ: Mapping[str, str]) -> dict[str, str]:
    """Agents as processes write down what they did where the test reads it, unless the test chooses a sandbox for them."""
    return {} if environ.get("OPTIO_EXECUTOR") == "kubernetes" else {"OPTIO_SANDBOX": "none"}


class Dev:
    """A real `optio` process (`dev` unless another command is given), driven over HTTP."""

    def __init__(self, directory: Path, *, environ: Mapping[str, str] | None = None, command: str = "dev") -> None:
        self.directory = directory
        self.tasks = directory / "tasks.d"
        self.data = directory / "data"
        self.tasks.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = command
        self.environ = dict(environ or {})
        self.output = directory / f"{command}.out"
        self.process: subprocess.Popen[bytes] | None = None
        self._token = ""

    def environment(self) -> dict[str, str]:
        """What the process, and a CLI that talks to it, is started with."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("OPTIO_")}
        return {
            **clean,
            "OPTIO_TASKS": str(self.tasks),
            "OPTIO_DATA_DIR": str(self.data),
            "OPTIO_PORT": str(self.port),
            "OPTIO_DEBUG": "1",
            "XDG_CONFIG_HOME": str(self.directory / "config"),
            **open_sandbox(self.environ),
            **self.environ,
        }

    def start(self, *, ready: bool = True) -> None:
        with self.output.open("ab") as out:
            self.process = forked.start([self.command], ROOT, self.environment(), (0, out.fileno(), out.fileno()))
        if ready:
            eventually(self._answers, within=60, what=f"`optio {self.command}` on {self.url}")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.output.read_text()
        try:
            return self.get("/readyz").status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL: nothing is cleaned up."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, *, within: float = 60.0) -> int:
        """SIGTERM; the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within)

    def write(self, path: str, text: str) -> None:
        """Put a task file into the tree, by rename, and wait until the tree is taken up."""
        target = self.tasks / path
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.tmp")
        draft.write_text(text)
        draft.replace(target)

    def request(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Any request, with the token of `optio dev`; error statuses are answers, not exceptions."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        for name, value in {"Content-Type": "application/json", **self.credentials, **(headers or {})}.items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return Answer(response.status, _lower(response.headers), response.read())
        except urllib.error.HTTPError as err:
            return Answer(err.code, _lower(err.headers), err.read())

    @property
    def credentials(self) -> dict[str, str]:
        """The header that `optio dev` wants; nothing for other commands, whose tests make tokens."""
        with contextlib.suppress(OSError):  # the data directory may be away: the server's token is what it was
            self._token = (self.data / "dev.token").read_text().strip()
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.request("POST", path, body, headers=headers)

    def until_served(self, task_id: str, *, digest_other_than: str | None = None) -> dict[str, Any]:
        """The task as it is served, once it is."""

        def look() -> dict[str, Any] | None:
            answer = self.get(f"/api/tasks/{task_id}")
            served = answer.json if answer.status == 200 else None
            return served if served and served["digest"] != digest_other_than else None

        return eventually(look, what=f"task {task_id} being served")  # type: ignore[return-value]

    def until_ended(self, run_id: str, *, within: float = 30.0) -> dict[str, Any]:
        """The run, once it has ended."""

        def look() -> dict[str, Any] | None:
            run = self.get(f"/api/workflow-runs/{run_id}").json
            return run if run.get("state") in ("completed", "failed", "cancelled") else None

        return eventually(look, within=within, what=f"run {run_id} to end")  # type: ignore[return-value]

    def cli(self, *arguments: str, input: bytes = b"") -> subprocess.CompletedProcess[str]:
        """The command line, against this server."""
        return forked.run(arguments, ROOT, self.environment(), input)
