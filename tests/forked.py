"""The command line without its start: a process that has imported every command forks for each one that a test runs.

The fork has the arguments, the directory, the environment and the files of the command; only the imports, which take most of
the time of a short command, were there before.
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


def run(
    arguments: Sequence[str], cwd: Path, environ: Mapping[str, str], stdin: bytes = b""
) -> "subprocess.CompletedProcess[str]":
    """`optio` in a process of its own, and what it printed."""
    with contextlib.ExitStack() as stack:
        asked, given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(4))
        asked.write(json.dumps({"arguments": arguments, "cwd": str(cwd), "environ": dict(environ)}).encode())
        given.write(stdin)
        for file in (asked, given):
            file.seek(0)
        code = _code([each.fileno() for each in (asked, given, out, err)])
        printed = []
        for file in (out, err):
            file.seek(0)
            printed.append(file.read().decode())
        return subprocess.CompletedProcess(["optio", *arguments], code, *printed)


def _code(files: list[int]) -> int:
    """The exit code of a fork that has these files."""
    reading, writing = os.pipe()
    with open(reading, "rb") as answer:
        socket.send_fds(_parent(), [b"."], [*files, writing])
        os.close(writing)
        said = b""
        limit = time.monotonic() + _TIMEOUT_S
        while select.select([answer], [], [], max(0, limit - time.monotonic()))[0]:
            part = os.read(reading, 100)
            if not part:
                return int(said)
            said += part
    raise subprocess.TimeoutExpired("optio", _TIMEOUT_S)


@cache
def _parent() -> socket.socket:
    """The connection to the process that forks, which ends with it."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen([sys.executable, "-m", __name__, str(theirs.fileno())], cwd=_ROOT, pass_fds=[theirs.fileno()])
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(connection: socket.socket) -> None:
    """Fork for each request, and say how the forks end."""
    for module, _ in COMMANDS.values():
        import_module(f"optio.cli.{module}")
    gc.freeze()
    answers: dict[int, tuple[int, int]] = {}  # by what waits for a fork: its process, and where its exit code goes
    while True:
        for ready in select.select([connection, *answers], [], [])[0]:
            if ready is not connection:
                process, answer = answers.pop(ready)
                os.write(answer, str(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])).encode())
                os.close(answer)
                os.close(ready)
                continue
            _, files, _, _ = socket.recv_fds(connection, 1, 5)
            if not files:
                return
            process = os.fork()
            if process == 0:
                _become(files[:4])
            answers[os.pidfd_open(process)] = process, files[4]
            for file in files[:4]:
                os.close(file)


def _become(files: list[int]) -> NoReturn:
    """The command of a request, to its end."""
    with open(files[0], closefd=False) as asking:
        asked = json.load(asking)
    for number, file in enumerate(files[1:]):
        os.dup2(file, number)
    os.closerange(3, 1000)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environ"])
    time.tzset()
    try:
        main(asked["arguments"])
    except SystemExit as err:
        # Not by the orderly end of Python, which takes longer than most commands.
        sys.stderr.flush()
        os._exit(err.code if isinstance(err.code, int) else 1)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
