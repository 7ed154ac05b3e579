"""Secrets by name: what a source of values offers, and which names a task needs."""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from optio.errors import SecretUnavailable
from optio.model.credential import default_credential
from optio.model.registry import CompiledTask

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def run_secrets(task: CompiledTask, credentials: Sequence[str]) -> list[str]:
    """Return the names of the secrets that a run gets: those of its task, and one of the operator's `credentials` for an agent
    whose task names none."""
    default = default_credential(task, credentials)
    return [*task.spec.environment.secrets, *([] if default is None else [default])]


def secret_names(task: CompiledTask, credentials: Sequence[str] = ()) -> list[str]:
    """Return the names of the secrets that a task needs, for its runs and for its webhook's signatures, each once."""
    names = run_secrets(task, credentials)
    if task.spec.webhook is not None:
        config = task.spec.webhook.config
        names += [ref.name for ref in (config.secret, config.previous_secret) if ref is not None]
    return list(dict.fromkeys(names))


def value_at_hand(secrets: "Secrets", name: str) -> str | None:
    """Return the value, or None where there is none, it cannot be read, or a program would have to be asked for it."""
    with suppress(SecretUnavailable):
        return secrets.get(name) if secrets.is_at_hand(name) else None
    return None


def is_missing(secrets: "Secrets", name: str) -> bool:
    """Return whether there is no such secret, as far as is known without waiting for a program."""
    try:
        return secrets.is_at_hand(name) and secrets.get(name) is None
    except SecretUnavailable:
        return False


class Secrets(Protocol):
    """A source of secret values. `LocalSecrets` is the one implementation."""

    def get(self, name: str) -> str | None:
        """Return the value, or None when there is none. May wait for a program. Raises SecretUnavailable when that gives no
        answer, or the directory of secrets is away."""
        ...

    def is_at_hand(self, name: str) -> bool:
        """Return whether `get` answers without waiting for a program."""
        ...

    def put(self, name: str, value: str) -> None:
        """Store a value; raise Invalid when the name is malformed."""
        ...

    def stored(self, name: str) -> str | None:
        """Return the value as `put` stored it, whatever other sources say; None when none is stored. Raises
        SecretUnavailable."""
        ...

    def where(self, name: str) -> str:
        """Return a sentence that tells a person how to set this secret."""
        ...
