"""Secret values from a program of the operator, `OPTIO_SECRET_COMMAND`: one line for Vault, a cloud's secret manager or SOPS.

The program gets the name of the secret as its last argument, and prints the value. Exit code 0 means that it did, 3 that there
is no such secret; anything else means that its source cannot be used now. Values are kept in memory alone and for a while, so
that a run or a request rarely waits for the program, and many that ask at once wait for one call of it.
"""

import os
import re
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from optio.errors import SecretUnavailable, SettingsError
from optio.model.mask import Masker

NO_SUCH_SECRET = 3
# The longest variable of a program on Linux.
MAX_VALUE_BYTES = 1 << 17
_MAX_STDERR_BYTES = 1 << 16
# Characters of the program's complaint that are shown.
_MAX_SHOWN = 300
# What is not there now may be there soon.
_FAILURE_CACHE_S = 5.0
# Descendants of the program may hold its output open after its end.
_POLL_S = 0.05
_CREDENTIAL = re.compile(r"token|secret|passw|credential|key", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Reply:
    """The program's answer for one name: a value, None for no such secret, or the `problem` that keeps it from being read."""

    value: str | None
    problem: str | None = None

    def give(self) -> str | None:
        if self.problem is not None:
            raise SecretUnavailable(self.problem)
        return self.value


class _Failed(Exception):
    """The program gave no answer; the text says why."""


class SecretCommand:
    """Runs the program, one call at a time for each name, and remembers its answers. All methods may be called from any
    thread."""

    def __init__(self, command: Sequence[str], *, timeout_s: float, cache_s: float, environ: Mapping[str, str]) -> None:
        """Raise SettingsError when the program cannot be executed."""
        self._command = list(command)
        self._timeout_s, self._cache_s = timeout_s, cache_s
        # Optio's own settings and secrets are none of the program's business.
        self._environ = {name: value for name, value in environ.items() if not name.startswith("OPTIO_")}
        self._credentials = [value for name, value in environ.items() if _CREDENTIAL.search(name)]
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[float, _Reply]] = {}
        self._calls: dict[str, Future[_Reply]] = {}
        self._command[0] = _executable(command[0], environ)

    @property
    def program(self) -> str:
        """Return the path of the program."""
        return self._command[0]

    def is_at_hand(self, name: str) -> bool:
        """Return whether `get` would answer without a call of the program."""
        with self._lock:
            return self._known(name) is not None

    def get(self, name: str) -> str | None:
        """Return the value, or None when there is no such secret; raise SecretUnavailable. May take as long as the time
        limit."""
        with self._lock:
            reply = self._known(name)
            if reply is not None:
                return reply.give()
            call = self._calls.get(name)
            is_mine = call is None
            if call is None:
                call = self._calls[name] = Future()
        if is_mine:
            self._answer(name, call)
        return call.result().give()

    def _known(self, name: str) -> _Reply | None:
        until, answer = self._answers.get(name, (0.0, None))
        return answer if time.monotonic() < until else None

    def _answer(self, name: str, call: Future[_Reply]) -> None:
        try:
            answer = self._ask(name)
        except BaseException as err:
            with self._lock:
                del self._calls[name]
            call.set_exception(err)
            return
        kept_s = self._cache_s if answer.value is not None else min(self._cache_s, _FAILURE_CACHE_S)
        with self._lock:
            del self._calls[name]
            now = time.monotonic()
            self._answers = {other_name: entry for other_name, entry in self._answers.items() if entry[0] > now}
            self._answers[name] = now + kept_s, answer
        call.set_result(answer)

    def _ask(self, name: str) -> _Reply:
        try:
            return _Reply(self._run(name))
        except _Failed as err:
            return _Reply(None, f"the secret `{name}` cannot be read: `{os.path.basename(self.program)}` {err}")

    def _run(self, name: str) -> str | None:
        try:
            process = subprocess.Popen(
                [*self._command, name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**self._environ, "OPTIO_SECRET_NAME": name},
                start_new_session=True,
            )
        except OSError as err:
            cure = ": a script begins with `#!/bin/sh`" if err.strerror == "Exec format error" else ""
            raise _Failed(f"cannot be executed ({err.strerror}){cure}") from err
        try:
            stdout, stderr = self._read(process)
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        if process.returncode == NO_SUCH_SECRET:
            return None
        if process.returncode:
            raise _Failed(f"{_ending(process.returncode)}{self._complaint(stdout, stderr)}")
        return _value(stdout)

    def _read(self, process: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
        """Return standard output and standard error of the program, once it has ended."""
        limit = time.monotonic() + self._timeout_s
        output: dict[int, bytes] = {}
        with selectors.DefaultSelector() as waiting:
            pipes: list[IO[bytes]] = [pipe for pipe in (process.stdout, process.stderr) if pipe is not None]
            for pipe in pipes:
                output[pipe.fileno()] = b""
                waiting.register(pipe, selectors.EVENT_READ)
            while waiting.get_map() or process.poll() is None:
                has_ended = process.poll() is not None
                if time.monotonic() > limit:
                    raise _Failed(f"gave no answer within {self._timeout_s:g} s (OPTIO_SECRET_TIMEOUT)")
                ready = waiting.select(0 if has_ended else _POLL_S) if waiting.get_map() else _nap(process)
                for key, _ in ready:
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        waiting.unregister(key.fileobj)
                    output[key.fd] += data
                if len(output[pipes[0].fileno()]) > MAX_VALUE_BYTES:
                    raise _Failed(f"printed more than {MAX_VALUE_BYTES:,} bytes")
                output[pipes[1].fileno()] = output[pipes[1].fileno()][-_MAX_STDERR_BYTES:]
                if has_ended and not ready:
                    break
            return output[pipes[0].fileno()], output[pipes[1].fileno()]

    def _complaint(self, stdout: bytes, stderr: bytes) -> str:
        """Return the end of what the program wrote to standard error, for people. Values that it may have printed are
        masked."""
        with self._lock:
            secret_values = [answer.value for _, answer in self._answers.values() if answer.value is not None]
        mask = Masker([*secret_values, *self._credentials, stdout.decode("utf-8", "replace")])
        text = mask.text(stderr.decode("utf-8", "replace"))
        text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
        return f": {text if len(text) <= _MAX_SHOWN else '...' + text[-_MAX_SHOWN:]}" if text else ""


def _nap(process: "subprocess.Popen[bytes]") -> list[tuple[selectors.SelectorKey, int]]:
    """Wait a moment for the end of a program that has closed its output."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_POLL_S)
    return []


def _executable(program: str, environ: Mapping[str, str]) -> str:
    path = shutil.which(program, path=environ.get("PATH"))
    if path is not None:
        return os.path.abspath(path)
    if os.sep in program and os.path.isfile(program):
        raise SettingsError(f"OPTIO_SECRET_COMMAND: the program {program} is not executable: `chmod +x` it")
    reason = "there is no such file" if os.sep in program else "it is not on PATH"
    raise SettingsError(f"OPTIO_SECRET_COMMAND: the program `{program}` is not found: {reason}")


def _ending(returncode: int) -> str:
    if returncode > 0:
        return f"exited with {returncode}"
    try:
        return f"was ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was ended by signal {-returncode}"


def _value(stdout: bytes) -> str:
    """Return the printed value without its one final newline. Raise _Failed for what cannot be one: a pipe whose first program
    failed prints nothing and exits with 0."""
    try:
        value = stdout.decode().removesuffix("\n")
    except UnicodeDecodeError as err:
        raise _Failed("printed bytes that are not UTF-8") from err
    if not value:
        raise _Failed(f"printed nothing: it must print the value, or exit with {NO_SUCH_SECRET} if there is no such secret")
    return value
