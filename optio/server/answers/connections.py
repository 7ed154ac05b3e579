"""Answers about the connections that served tasks name."""

from optio.model.connection_summary import specs_of, summarize
from optio.secrets.base import Secrets, is_missing, value_at_hand
from optio.server.bodies.connections import ConnectionBody, ConnectionListBody
from optio.server.dependencies import Hub
from optio.server.serializers import to_body


def read_connections(hub: Hub) -> ConnectionListBody:
    """Return the connections by id, as the served tasks were compiled with them. Reads secrets, whose values are not in it."""
    tasks, secrets = hub.snapshot.registry.tasks.values(), hub.services.secrets
    summaries = summarize(specs_of(tasks), tasks, lambda name: _has_value(secrets, name))
    return ConnectionListBody(items=[to_body(ConnectionBody, summary) for summary in summaries])


def _has_value(secrets: Secrets, name: str) -> bool | None:
    if is_missing(secrets, name):
        return False
    return True if value_at_hand(secrets, name) is not None else None
