"""The command line without its start: a process that has imported every command forks for each one that a test runs.

The fork has the arguments, the directory, the environment and the files of the command; only the imports, which take most of
the time of a short command, and the routes of servers were there before.
"""

import atexit
import contextlib
import gc
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from optio.cli import COMMANDS, main

_ROOT = Path(__file__).resolve().parent.parent
_TIMEOUT_S = 60
# What servers and workers import when they know their settings.
_IMPORTED_LATER = (
    *("optio.telemetry.metrics", "optio.store.postgres.postgres_store", "optio.executors.process"),
    *("optio.processes.worker", "optio.processes.scheduler"),
    *(
        "uvicorn.protocols.http.httptools_impl",
        "uvicorn.protocols.websockets.websockets_sansio_impl",
        "anyio._backends._asyncio",
    ),
)
# `optio` for a shell: it asks for a fork by itself, hands signals on, and ends as the fork does.
_PROGRAM = """\
#!{python} -IS
import json, os, signal, socket, sys

answer, theirs = os.pipe()
asked = os.memfd_create("asked")
request = {{"arguments": sys.argv[1:], "cwd": os.getcwd(), "environ": dict(os.environ), "umask": os.umask(0), "first": ""}}
os.write(asked, json.dumps(request).encode())
os.lseek(asked, 0, os.SEEK_SET)
parent = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
parent.connect({address!r})
socket.send_fds(parent, [b"."], [asked, 0, 1, 2, theirs])
os.close(theirs)
process = int.from_bytes(os.read(answer, 4), "big")
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.kill(process, number))
code = int.from_bytes(os.read(answer, 4), "big", signed=True)
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Forked(subprocess.Popen[bytes]):
    """`python -m optio` with these files for standard input, output and errors; its pipes are the caller's affair. The module
    `first` is imported before."""

    def __init__(
        self, arguments: Sequence[str], cwd: Path, environ: Mapping[str, str], files: Sequence[int], first: str = ""
    ) -> None:
        self.args = ["optio", *arguments]
        self.stdin = self.stdout = self.stderr = None
        self.returncode: int | None = None
        self._child_created = True
        self._communication_started, self._input, self.text_mode = False, None, False
        self._looking = threading.Lock()
        ours, theirs = os.pipe()
        self._answer = open(ours, "rb", buffering=0)  # noqa: SIM115 - closed when it has said the exit code
        with tempfile.TemporaryFile() as asked:
            umask = Path("/proc/thread-self/status").read_text().partition("Umask:")[2].split()[0]
            request = {
                "arguments": arguments,
                "cwd": str(cwd),
                "environ": dict(environ),
                "umask": int(umask, 8),
                "first": first,
            }
            asked.write(json.dumps(request).encode())
            asked.seek(0)
            asking, _ = _parent(environ.get("LD_PRELOAD", ""))
            socket.send_fds(asking, [b"."], [asked.fileno(), *files, theirs])
        os.close(theirs)
        self.pid = int.from_bytes(self._answer.read(4), "big")

    def _internal_poll(self, **_: object) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._wait(0)
        return self.returncode

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None and not select.select([self._answer], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        with self._looking:
            if self.returncode is None:
                self.returncode = int.from_bytes(self._answer.read(4), "big", signed=True)
                self._answer.close()
        return self.returncode


def is_possible(environ: Mapping[str, str]) -> bool:
    """Whether a fork is what a new process would be: it has our modules, and nothing is loaded before them. Packages that
    are installed elsewhere may be found, too."""
    early = {name: value for name, value in environ.items() if name.startswith(("PYTHON", "LD_")) and name != "LD_PRELOAD"}
    *others, last = early.pop("PYTHONPATH", str(_ROOT)).split(":")
    ours = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return early.items() <= ours.items() and last == str(_ROOT) and all(any(Path(each).glob("*.dist-info")) for each in others)


def start(arguments: Sequence[str], cwd: Path, environ: Mapping[str, str], files: Sequence[int]) -> "subprocess.Popen[bytes]":
    """`optio` in a process of its own: a fork where that is possible."""
    if is_possible(environ):
        return Forked(arguments, cwd, environ, files)
    stdin, stdout, stderr = files
    command = [sys.executable, "-m", "optio", *arguments]
    return subprocess.Popen(command, cwd=cwd, env=dict(environ), stdin=stdin, stdout=stdout, stderr=stderr)


def start_with_pipes(arguments: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """The same with a pipe to its input, and one from each of its outputs."""
    (given, stdin), (stdout, out), (stderr, err) = (os.pipe() for _ in range(3))
    process = start(arguments, cwd, environ, (given, out, err))
    for file in (given, out, err):
        os.close(file)
    process.stdin, process.stdout, process.stderr = os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb"), os.fdopen(stderr, "rb")
    return process


def run(
    arguments: Sequence[str], cwd: Path, environ: Mapping[str, str], stdin: bytes = b""
) -> "subprocess.CompletedProcess[str]":
    """What it printed, when it has ended."""
    with contextlib.ExitStack() as stack:
        given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write(stdin)
        given.seek(0)
        code = start(arguments, cwd, environ, [each.fileno() for each in (given, out, err)]).wait(_TIMEOUT_S)
        printed = []
        for file in (out, err):
            file.seek(0)
            printed.append(file.read().decode())
        return subprocess.CompletedProcess(["optio", *arguments], code, *printed)


def put_program(path: Path) -> None:
    """An executable `optio` for shells, whose environment must be one where a fork `is_possible`."""
    path.write_text(_PROGRAM.format(python=sys.executable, address=_parent()[1]))
    path.chmod(0o755)


@cache
def _parent(library: str = "") -> tuple[socket.socket, bytes]:
    """The connection to the process that forks, which ends with it, and the address where programs ask it: no file, so nothing
    of it is left. The process has this library loaded before all others."""
    ours, theirs = socket.socketpair()
    environ = {**os.environ, "LD_PRELOAD": library} if library else None
    with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as programs:
        programs.bind("")  # to a name that the kernel chooses
        address: bytes = programs.getsockname()
        files = theirs.fileno(), programs.fileno()
        process = subprocess.Popen([sys.executable, "-m", __name__, *map(str, files)], cwd=_ROOT, pass_fds=files, env=environ)

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours, address


def _serve(*askers: socket.socket) -> None:
    """Fork for each request, and say how the forks end, until an asker's connection does."""
    for module in (*(f"optio.cli.{name}" for name, _ in COMMANDS.values()), *_IMPORTED_LATER):
        import_module(module)
    import_module("optio.server.app").rest()
    gc.freeze()
    answers: dict[int, tuple[int, int]] = {}  # by what waits for a fork: its process, and where its exit code goes
    while True:
        for ready in select.select([*askers, *answers], [], [])[0]:
            if isinstance(ready, int):
                process, answer = answers.pop(ready)
                code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                with contextlib.suppress(BrokenPipeError):  # nobody may ask
                    os.write(answer, code.to_bytes(4, "big", signed=True))
                os.close(answer)
                os.close(ready)
                continue
            _, files, _, _ = socket.recv_fds(ready, 1, 5)
            if not files:
                return
            process = os.fork()
            if process == 0:
                _become(files[:4])
            os.write(files[4], process.to_bytes(4, "big"))
            answers[os.pidfd_open(process)] = process, files[4]
            for file in files[:4]:
                os.close(file)


def _become(files: list[int]) -> NoReturn:
    """The command of a request, to its end."""
    with open(files[0], closefd=False) as asking:
        asked = json.load(asking)
    for number, file in enumerate(files[1:]):
        os.dup2(file, number)
    # The old ones know whether their files could be searched.
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old, mode = getattr(sys, name), "w" if number else "r"
        buffering = 1 if name == "stderr" else -1
        new = open(number, mode, buffering, encoding=old.encoding, errors=old.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, new)
    os.closerange(3, 1000)
    os.chdir(asked["cwd"])
    os.umask(asked["umask"])
    os.environ.clear()
    os.environ.update(asked["environ"])
    sys.path[:0] = os.environ.get("PYTHONPATH", "").split(":")[:-1]
    time.tzset()
    code: object = 1
    try:
        if asked["first"]:
            import_module(asked["first"])
        main(asked["arguments"])
    except SystemExit as err:
        code = err.code
    except BaseException:
        traceback.print_exc()
    # The end of Python but for taking all modules apart, which takes longer than most commands.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _serve(*(socket.socket(fileno=int(file)) for file in sys.argv[1:]))
