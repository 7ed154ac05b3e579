"""Secrets by name, from the environment or from files in a directory. A value reaches only the runs of tasks that name it, and
webhook signatures."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from optio import private_files
from optio.errors import Invalid
from optio.model.registry import CompiledTask

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
PREFIX = "OPTIO_SECRET_"
# Files are read again after this time, so a changed value takes effect then.
_CACHE_S = 1.0


def secret_names(task: CompiledTask) -> list[str]:
    """Return the names of the secrets that a task needs, for its runs and for its webhook's signatures, each once."""
    names = list(task.spec.environment.secrets)
    if task.spec.webhook is not None:
        config = task.spec.webhook.config
        names += [ref.name for ref in (config.secret, config.previous_secret) if ref is not None]
    return list(dict.fromkeys(names))


class Secrets(Protocol):
    """A source of secret values. `LocalSecrets` is the one implementation."""

    def get(self, name: str) -> str | None:
        """Return the value, or None when it is not set."""
        ...

    def put(self, name: str, value: str) -> None:
        """Store a value; raise Invalid when the name is malformed."""
        ...

    def where(self, name: str) -> str:
        """Return a sentence that tells a person how to set this secret."""
        ...


class LocalSecrets:
    """Reads `OPTIO_SECRET_<NAME>` first, then a file per secret in a directory, the form of a mounted Kubernetes Secret."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self._directory = directory
        self._environ = {k.removeprefix(PREFIX): v for k, v in environ.items() if k.startswith(PREFIX)}
        self._read: dict[str, tuple[float, str]] = {}

    def get(self, name: str) -> str | None:
        """Return the value. One final newline of a file is not part of it: editors add it."""
        if not NAME.fullmatch(name):
            return None
        if name in self._environ:
            return self._environ[name]
        # Asked for with every webhook, so a file is read at most once a second.
        now = time.monotonic()
        known = self._read.get(name)
        if known is None or now - known[0] > _CACHE_S:
            try:
                value = (self._directory / name).read_text(encoding="utf-8").removesuffix("\n")
            except (OSError, UnicodeDecodeError):
                self._read.pop(name, None)
                return None
            known = self._read[name] = now, value
        return known[1]

    def put(self, name: str, value: str) -> None:
        if not NAME.fullmatch(name):
            raise Invalid(f"invalid secret name `{name}`: use letters, digits and `_`")
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        private_files.write(self._directory / name, value.encode())
        self._read.pop(name, None)

    def where(self, name: str) -> str:
        return f"set {PREFIX}{name}, or write the value to {self._directory / name}"
