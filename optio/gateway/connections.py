"""The connections of a run as the gateway has them: those that its task was compiled with, with secrets filled in for a call.

Pinned to the digest of the run's task, they are read once for each; values of secrets are read for each call, and kept nowhere.
"""

import asyncio
from collections.abc import Mapping
from functools import partial

from optio.errors import NotFound
from optio.gateway.asgi import CallRefused
from optio.model.connection import Connection, fill_in, secret_names, templates
from optio.model.model_call import AttemptKey
from optio.secrets.base import Secrets
from optio.store.base import GatewayStore

_MAX_KEPT = 256


class ConnectionRefused(Exception):
    """Raised where a connection cannot be used. `reason` is that of a run: `unreachable`, `unauthorized` or `changed`."""

    def __init__(self, connection: str, reason: str, message: str) -> None:
        self.connection, self.reason, self.message = connection, reason, f"the connection `{connection}` {message}"
        super().__init__(self.message)


class Connections:
    """The connections of all runs whose agents call this gateway."""

    def __init__(self, store: GatewayStore, secrets: Secrets) -> None:
        self._store, self._secrets = store, secrets
        self._kept: dict[str, Mapping[str, Connection]] = {}

    async def of(self, key: AttemptKey) -> Mapping[str, Connection]:
        """Return the connections of the key's run by their ids. Raises StoreUnavailable."""
        kept = self._kept.get(key.definition)
        if kept is None:
            try:
                task = await asyncio.to_thread(self._store.definition, key.definition)
            except NotFound:
                return {}
            kept = {connection.id: connection for connection in task.connections}
            while len(self._kept) >= _MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key.definition] = kept
        return kept

    async def filled_in(self, connection: Connection) -> dict[str, str]:
        """Return the headers or variables of a connection with their secrets. Raises ConnectionRefused and
        SecretUnavailable."""
        return await filled_in(connection, self._secrets)

    async def count(self, key: AttemptKey, connection: Connection, most: int) -> None:
        """Count a call of an attempt. Raises CallRefused for one too many, and StoreUnavailable."""
        made = await asyncio.to_thread(partial(self._store.count_call, key, connection.id))
        if made > most:
            message = f"this attempt has made {most} calls of the connection `{connection.id}`, the most by its `maxCalls`"
            raise CallRefused(429, "calls", message)


async def filled_in(connection: Connection, secrets: Secrets) -> dict[str, str]:
    """Return the headers or variables of a connection with their secrets. Raises ConnectionRefused and SecretUnavailable."""
    values: dict[str, str] = {}
    for name in connection.secrets:
        value = await asyncio.to_thread(secrets.get, name)
        if value is None:
            message = f"needs the secret `{name}`, which has no value: {secrets.where(name)}"
            raise ConnectionRefused(connection.id, "unauthorized", message)
        values[name] = value
    return {
        name: fill_in(template, values) if any(secret_names(template)) else template
        for name, template in templates(connection.spec).items()
    }
