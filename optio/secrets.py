"""Secrets by name. Values come from the environment or from a directory, and reach only the run that names them."""

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
# A value that was changed in its file counts after this long.
_CACHE_S = 1.0


def secret_names(task: CompiledTask) -> list[str]:
    """Names of the secrets that a task needs: for its runs, and to check its webhook's signatures."""
    names = list(task.spec.environment.secrets)
    if task.spec.webhook is not None:
        config = task.spec.webhook.config
        names += [ref.name for ref in (config.secret, config.previous_secret) if ref is not None]
    return list(dict.fromkeys(names))


class Secrets(Protocol):
    """Where values come from."""

    def get(self, name: str) -> str | None:
        """The value, or None when nobody has set it."""
        ...

    def put(self, name: str, value: str) -> None:
        """Keep a value; raises Invalid when this place cannot."""
        ...

    def where(self, name: str) -> str:
        """How a person sets it."""
        ...


class LocalSecrets:
    """`OPTIO_SECRET_<NAME>` first, then a file per secret in a directory (what a mounted Kubernetes Secret looks like)."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self._directory = directory
        self._environ = {k.removeprefix(PREFIX): v for k, v in environ.items() if k.startswith(PREFIX)}
        self._read: dict[str, tuple[float, str]] = {}

    def get(self, name: str) -> str | None:
        """See `Secrets.get`. One final newline of a file is an editor's and not part of the value."""
        if not NAME.fullmatch(name):
            return None
        if name in self._environ:
            return self._environ[name]
        # Asked for with every webhook: a file is read once a second, however many come.
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
        """See `Secrets.put`."""
        if not NAME.fullmatch(name):
            raise Invalid(f"`{name}` is no secret name: letters, digits and _")
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        private_files.write(self._directory / name, value.encode())
        self._read.pop(name, None)

    def where(self, name: str) -> str:
        """See `Secrets.where`."""
        return f"set {PREFIX}{name}, or write the value to {self._directory / name}"
