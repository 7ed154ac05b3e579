"""`optio worker` in processes that are forked from one that has imported it: so each costs a processor a tenth of the two
seconds that the interpreter and the imports take. Who kills or freezes one tells of it as of any other process."""

import multiprocessing.util
import os
import signal
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import optio.cli.worker  # noqa: F401 - what each would import
from optio.cli import main
from optio.model.run import LogLine
from optio.runtimes.command import CommandReader

_FORKS = multiprocessing.get_context("forkserver")
# It has to outlive the directory for temporary files that the tests have, so it is made before that.
multiprocessing.util.get_temp_dir()
# Each imports the program that runs the tests, by its path.
_FORKS.set_forkserver_preload([__name__, "pytest"])


class ForkedWorker:
    """A worker in a process of its own, which writes its output to a file. One that is `mortal` dies when it reads the line
    `poison`."""

    def __init__(self, environ: Mapping[str, str], output: Path, *, mortal: bool = False) -> None:
        self._process = _FORKS.Process(target=_work, args=(dict(environ), output, mortal))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def send_signal(self, sig: int) -> None:
        os.kill(self.pid, sig)

    def kill(self) -> None:
        self._process.kill()

    def poll(self) -> int | None:
        """Its exit code, once it has ended; negative for a signal."""
        return self._process.exitcode

    def wait(self, within: float | None = None) -> int | None:
        """Its exit code, None if it has not ended by then."""
        self._process.join(within)
        return self.poll()


def _work(environ: dict[str, str], output: Path, mortal: bool) -> None:
    os.environ.clear()
    os.environ.update(environ)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(written, number)
    if mortal:
        read = CommandReader.line

        def line(self: CommandReader, stream: str, data: bytes, at: datetime) -> list[LogLine]:
            if data == b"poison":
                os.kill(os.getpid(), signal.SIGKILL)
            return read(self, stream, data, at)

        CommandReader.line = line  # type: ignore[method-assign]
    main(["worker"])
