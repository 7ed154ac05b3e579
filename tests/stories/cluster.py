"""Optio on many machines: servers, schedulers and workers as real processes on one PostgreSQL and one Redis, or on one SQLite.

Every part can be killed, frozen, stopped and started again. A keeper starts what ended by itself, as systemd or Kubernetes
would, and remembers it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from optio.settings import Settings
from optio.store.base import Store
from optio.wiring import open_store
from tests import forked
from tests.servers import PostgresServer, RedisServer
from tests.stories.clock import Clock
from tests.support import ROOT, eventually, free_port, open_sandbox

# All parts start at once, and a busy machine has other work to do.
READY_S = 180.0


class Part(Protocol):
    """What can be harmed."""

    name: str
    lock: threading.Lock
    wanted: bool  # it shall run: who kills it says so
    frozen: bool

    def start(self) -> None: ...

    def begun(self) -> bool: ...

    def kill(self) -> None: ...

    def stop(self) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


class Process:
    """An `optio` process. `host` gives it another machine's name."""

    def __init__(self, name: str, command: str, environ: Mapping[str, str], log: Path, host: str | None = None) -> None:
        self.name, self.command, self.environ, self.log = name, command, environ, log
        self.lock = threading.Lock()
        self.wanted = self.frozen = False
        self.process: subprocess.Popen[bytes] | None = None
        self.code = 0  # of its last orderly end
        self._began_at = 0
        if host is not None:
            self.environ = {**environ, "STORY_HOST": host}
        self._first = "" if host is None else "tests.stories.elsewhere"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._began_at = log.tell()
            self.process = forked.Forked([self.command], ROOT, self.environ, (log.fileno(),) * 3, self._first)
        # Not before: the keeper would start it too, in place of the one that has ended.
        self.wanted, self.frozen = True, False

    def begun(self) -> bool:
        """Whether it has said that it is at work."""
        with self.log.open("rb") as log:
            log.seek(self._began_at)
            return f" {self.command} on ".encode() in log.read(4000)

    def until_stopping(self) -> None:
        """Wait until it has heard that it shall end."""

        def look() -> bool:
            return f"the {self.command} is stopping".encode() in self.log.read_bytes()[self._began_at :]

        eventually(look, within=60, what=f"{self.name} being told to stop")

    def until_begun(self) -> None:
        """Wait for that."""
        eventually(self.begun, within=READY_S, what=f"{self.name} being at work")

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        self.wanted = False
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.code = self.ended()

    def ended(self, within: float = 60.0) -> int:
        """SIGTERM; the exit code."""
        self.wanted = False
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait(within)

    def wait(self, within: float) -> int:
        """The exit code of one that is about to end."""
        assert self.process is not None
        return self.process.wait(within)

    def freeze(self) -> None:
        self.frozen = True
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.frozen = False
        self.signal(signal.SIGCONT)


class Server:
    """PostgreSQL or Redis."""

    def __init__(self, name: str, server: PostgresServer | RedisServer) -> None:
        self.name, self.server = name, server
        self.lock = threading.Lock()
        self.wanted = self.frozen = False

    def start(self) -> None:
        limit = time.monotonic() + 30
        while True:
            try:
                self.server.start()
                break
            except AssertionError:
                # What it had in shared memory goes with the last of its processes.
                if time.monotonic() > limit:
                    raise
                time.sleep(0.1)
        self.wanted, self.frozen = True, False

    def begun(self) -> bool:
        return True

    def kill(self) -> None:
        self.wanted = False
        self.server.kill()

    def stop(self) -> None:
        self.wanted = False
        self.server.stop()

    def freeze(self) -> None:
        self.frozen = True
        self.server.signal(signal.SIGSTOP)
        self._children(signal.SIGSTOP)

    def thaw(self) -> None:
        self._children(signal.SIGCONT)
        self.server.signal(signal.SIGCONT)
        self.frozen = False

    def _children(self, number: int) -> None:
        assert self.server.process is not None
        pid = self.server.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), number)


@dataclass(frozen=True)
class Place:
    """Where a worker runs: those of one directory find each other's agents, those of one host see each other's processes."""

    directory: str
    host: str | None = None


TWO_MACHINES = (Place("a"), Place("a", "elsewhere"), Place("b"))


class Cluster:
    """See the module. `start` it, harm it, `close` it."""

    def __init__(
        self,
        directory: Path,
        *,
        sqlite: bool = False,
        servers: int = 2,
        schedulers: int = 2,
        workers: Sequence[Place] = TWO_MACHINES,
        environ: Mapping[str, str] | None = None,
        later: Collection[str] = (),
        clocks: bool = False,
    ) -> None:
        """Parts that are named in `later` are started by the test. With `clocks` those of the machines and that of PostgreSQL
        are the story's own, to be set at will; SQLite goes by the machine's."""
        self.directory = directory
        self.tasks = directory / "tasks.d"
        self.tasks.mkdir(parents=True, exist_ok=True)
        self.postgres = None if sqlite else Server("postgres", PostgresServer())
        self.redis = None if sqlite else Server("redis", RedisServer({"save": "60 1000"}))
        self.fell: list[str] = []
        self.clocks: list[Clock] = []
        if clocks:
            self.clocks.append(Clock())
            if self.postgres is not None:
                self.clocks.append(Clock())
                self.postgres.server.environ = self.clocks[1].environ
        self._environ, self._later = dict(environ or {}), later
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self.ports = [free_port() for _ in range(servers)]
        self.servers = [
            Process(f"server-{n}", "server", self.environment("servers", OPTIO_PORT=str(port)), directory / f"server-{n}.log")
            for n, port in enumerate(self.ports)
        ]
        self.schedulers = [
            Process(f"scheduler-{n}", "scheduler", self.environment("schedulers"), directory / f"scheduler-{n}.log")
            for n in range(schedulers)
        ]
        self.workers = [
            Process(f"worker-{n}", "worker", self.environment(place.directory), directory / f"worker-{n}.log", place.host)
            for n, place in enumerate(workers)
        ]
        self.processes = [*self.servers, *self.schedulers, *self.workers]
        self.parts: list[Part] = [*self.processes, *(part for part in (self.postgres, self.redis) if part is not None)]
        self.token = ""

    def environment(self, directory: str, **more: str) -> dict[str, str]:
        """What a part with this data directory is started with. On SQLite there is one for all."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("OPTIO_")}
        shared = {"OPTIO_TASKS": str(self.tasks), "OPTIO_DEBUG": "1", **open_sandbox(self._environ), **self._environ}
        if self.clocks:
            shared |= self.clocks[0].environ
        if self.postgres is None or self.redis is None:
            return {**clean, **shared, "OPTIO_DATA_DIR": str(self.directory / "data"), **more}
        urls = {"OPTIO_DATABASE_URL": self.postgres.server.url, "OPTIO_REDIS_URL": self.redis.server.url}
        return {**clean, **shared, **urls, "OPTIO_DATA_DIR": str(self.directory / directory), **more}

    def write(self, path: str, text: str) -> None:
        """Put a task file into the tree."""
        draft = self.tasks / f".{path}.tmp"
        draft.write_text(text)
        draft.replace(self.tasks / path)

    def start(self) -> None:
        """Start everything, and wait until the servers are ready."""
        for part in (self.postgres, self.redis):
            if part is not None:
                part.start()
        made = forked.run(["token", "create", "--role", "admin"], ROOT, self.environment("servers"))
        self.token = next(word for word in made.stdout.split() if word.startswith("opt"))
        for process in self.processes:
            if process.name not in self._later:
                process.start()
        self._keeper.start()
        for process in self.servers:
            self.until_ready(process.name)

    def until_ready(self, name: str) -> None:
        """Wait for a server."""
        number = int(name.partition("-")[2])
        try:
            eventually(lambda: self._answers(self.ports[number]), within=READY_S, what=f"{name} being ready")
        except AssertionError as err:
            raise AssertionError(f"{err}: {self.servers[number].log.read_text()[-2000:]}") from err

    def _answers(self, port: int) -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).status == 200)
        return False

    def store(self) -> Store:
        """A look behind the API, as one more process would have it."""
        environ = {k: v for k, v in self.environment("servers").items() if k.startswith("OPTIO_")}
        return open_store(Settings.load(environ))

    def _keep(self) -> None:
        """Start again what ended by itself."""
        while not self._closing.wait(0.1):
            for process in self.processes:
                with process.lock:
                    if process.wanted and process.process is not None and process.process.poll() is not None:
                        said = process.log.read_text(errors="replace").strip().splitlines()[-1:] or [""]
                        self.fell.append(f"{process.name} ended with {process.process.returncode}: {said[0]}")
                        time.sleep(0.2)
                        process.start()

    def close(self) -> None:
        """Stop everything, whatever has become of it."""
        self._closing.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for part in self.parts:
            with part.lock, contextlib.suppress(Exception):
                part.thaw()
        for process in self.processes:
            if process.process is not None and process.process.poll() is None:
                process.wanted = False
                process.signal(signal.SIGTERM)
        for process in self.processes:
            if process.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.process.wait(15)
                    continue
                process.kill()
        for each in (self.postgres, self.redis):
            if each is not None:
                each.stop()
                shutil.rmtree(each.server.directory, ignore_errors=True)
        for clock in self.clocks:
            clock.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
