"""Secrets of this machine: from the environment, from files in a directory, and from a program of the operator."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from optio import private_files
from optio.errors import Invalid, SecretUnavailable
from optio.secrets.base import NAME
from optio.secrets.command import SecretCommand

PREFIX = "OPTIO_SECRET_"
# These variables are settings, though they begin like secrets.
SETTINGS = ("COMMAND", "CACHE", "TIMEOUT")
# Files are read again after this time, so a changed value takes effect then.
_CACHE_S = 1.0


class LocalSecrets:
    """Reads `OPTIO_SECRET_<NAME>` first, then a file per secret in a directory, the form of a mounted Kubernetes Secret. What
    neither has is asked of the program, if there is one.

    A file that is not there means that there is no such secret. Where the directory itself is away, nobody can tell: if it
    `must_exist`, if a value was read from it before, or if it was a mount and no longer is one."""

    def __init__(
        self, directory: Path, environ: Mapping[str, str], command: SecretCommand | None = None, *, must_exist: bool = False
    ) -> None:
        self._directory, self._command = directory, command
        self._must_exist, self._was_mount = must_exist, False
        variables = {name.removeprefix(PREFIX): value for name, value in environ.items() if name.startswith(PREFIX)}
        self._environ = {name: value for name, value in variables.items() if name not in SETTINGS}
        self._contents: dict[str, tuple[float, str]] = {}

    def get(self, name: str) -> str | None:
        """Return the value. One final newline of a file, or of what the program prints, is not part of it. Raises
        SecretUnavailable."""
        if not NAME.fullmatch(name):
            return None
        value = self._environ.get(name)
        value = self._content(name) if value is None else value
        return self._command.get(name) if value is None and self._command is not None else value

    def is_at_hand(self, name: str) -> bool:
        if self._command is None or not NAME.fullmatch(name) or name in self._environ or self._command.is_at_hand(name):
            return True
        try:
            return self._content(name) is not None
        except SecretUnavailable:
            return True

    def stored(self, name: str) -> str | None:
        return self._content(name) if NAME.fullmatch(name) else None

    def _content(self, name: str) -> str | None:
        """Return the value in the file of this name, None if there is none. Raises SecretUnavailable."""
        # Asked for with every webhook, so a file is read at most once a second. One that is not there is looked for each time:
        # people write it and post at once.
        now = time.monotonic()
        content = self._contents.get(name)
        if content is not None and now - content[0] <= _CACHE_S:
            return content[1]
        try:
            value = (self._directory / name).read_text(encoding="utf-8").removesuffix("\n")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, UnicodeDecodeError):
            self._contents.pop(name, None)
            if (problem := self._directory_problem()) is not None:
                raise SecretUnavailable(f"the secret `{name}` cannot be read: {problem}") from None
            return None
        except OSError as err:
            self._contents.pop(name, None)
            message = f"the secret `{name}` cannot be read: {self._directory / name}: {err.strerror}"
            raise SecretUnavailable(message) from err
        self._contents[name] = now, value
        self._must_exist, self._was_mount = True, os.path.ismount(self._directory)
        return value

    def _directory_problem(self) -> str | None:
        if self._must_exist and not self._directory.is_dir():
            return f"the directory {self._directory} is away"
        if self._was_mount and not os.path.ismount(self._directory):
            return f"the directory {self._directory} is no longer mounted"
        return None

    def put(self, name: str, value: str) -> None:
        if not NAME.fullmatch(name):
            raise Invalid(f"invalid secret name `{name}`: use letters, digits and `_`")
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        private_files.write(self._directory / name, value.encode())
        self._contents.pop(name, None)

    def where(self, name: str) -> str:
        command = "" if self._command is None else f", or let {self._command.program} (OPTIO_SECRET_COMMAND) print it"
        return f"set {PREFIX}{name}, or write the value to {self._directory / name}{command}"
