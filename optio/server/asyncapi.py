"""The AsyncAPI 3.0 document of live logs and live pages: what WebSockets and server-sent events carry. Its messages are the
types of `optio.server.bodies` that these are encoded from."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from optio.server import schemas
from optio.server.bodies.live import (
    DropMessage,
    FollowMessage,
    LinesMessage,
    LogEndMessage,
    PingMessage,
    PongMessage,
    RefusedMessage,
    RunsMessage,
    WatchMessage,
)
from optio.server.bodies.logs import EndMessage, LineMessage, LogEndBody, LogLineBody
from optio.version import __version__

Document = dict[str, Any]
_AFTER = {
    "type": "object",
    "properties": {"after": {"type": "integer", "minimum": 0, "default": 0, "description": "the last `seq` that you have"}},
}
_CLOSE_CODES = (
    "The close code says why the socket ended: 1000 the run has ended, 1003 you sent something, 1011 a bug, 1012 the server "
    "stops, 1013 the log could not be read now, 4401 the token has expired or was revoked. After 1012 and 1013, reconnect with "
    "your cursor."
)
_LIVE_CLOSE_CODES = (
    "The close code says why the socket ended: 1003 a message that does not fit, 1011 a bug, 1012 the server stops, 1013 the "
    "store could not be read now, 4401 the token has expired or was revoked. After 1012 and 1013, reconnect with your cursors."
)
_FROM_CLIENT = {"follow": FollowMessage, "watch": WatchMessage, "drop": DropMessage, "ping": PingMessage}
_TO_CLIENT = {
    "lines": LinesMessage,
    "end": LogEndMessage,
    "runs": RunsMessage,
    "refused": RefusedMessage,
    "pong": PongMessage,
}


@cache
def document() -> Document:
    """Return the document. Nothing in it depends on an installation."""
    return schemas.tidy(
        {
            "asyncapi": "3.0.0",
            "info": {
                "title": "Optio",
                "version": __version__,
                "description": "Live logs of runs, and changes of runs. Each line comes once and in order.",
            },
            "defaultContentType": "application/json",
            "channels": {
                "live": {
                    "address": "/ws/live",
                    "description": "Logs and changes of runs through one WebSocket. You send what you follow. "
                    + _LIVE_CLOSE_CODES,
                    "messages": _messages({**_FROM_CLIENT, **_TO_CLIENT}),
                },
                "socket": _channel(
                    "/ws/workflow-runs/{runId}/logs",
                    f"The log of a run as a WebSocket, which only sends. {_CLOSE_CODES}",
                    {"line": LineMessage, "end": EndMessage},
                )
                | {"bindings": {"ws": {"method": "GET", "query": _AFTER}}},
                "events": _channel(
                    "/api/workflow-runs/{runId}/logs",
                    "The log of a run as server-sent events, for `Accept: text/event-stream`. The `id` of an event "
                    "is the `seq` of its line. A stream that ends without `end` is continued with `Last-Event-ID`.",
                    {"line": LogLineBody, "end": LogEndBody},
                ),
            },
            "operations": {
                "receiveSubscriptions": _operation("live", "Receive what a client follows", "receive", _FROM_CLIENT),
                "sendLive": _operation("live", "Send what a client follows", "send", _TO_CLIENT),
                "sendLog": _operation("socket", "Send a log through a WebSocket"),
                "sendLogEvents": _operation("events", "Send a log as server-sent events")
                | {"bindings": {"http": {"method": "GET", "query": _AFTER}}},
            },
            "components": {
                "schemas": _named_by_property(schemas.components()),
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _channel(address: str, text: str, messages: dict[str, type]) -> Document:
    return {
        "address": address,
        "description": text,
        "parameters": {"runId": {"description": "The id of the run"}},
        "messages": _messages(messages),
    }


def _messages(messages: dict[str, type]) -> Document:
    return {name: {"name": name, "payload": schemas.of(kind)} for name, kind in messages.items()}


def _named_by_property(part: Any) -> Any:
    """Return a schema with the property alone where OpenAPI also maps its values: AsyncAPI knows `discriminator` as a name."""
    if isinstance(part, list):
        return [_named_by_property(element) for element in part]
    if not isinstance(part, dict):
        return part
    members = {key: _named_by_property(value) for key, value in part.items()}
    if isinstance(part.get("discriminator"), dict):
        members["discriminator"] = part["discriminator"]["propertyName"]
    return members


def _operation(channel: str, text: str, action: str = "send", messages: Iterable[str] | None = None) -> Document:
    references = (
        {} if messages is None else {"messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages]}
    )
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        **references,
        "summary": text,
        "security": [{"$ref": "#/components/securitySchemes/bearer"}],
    }
