"""The AsyncAPI 3.0 document of live logs: what WebSockets and server-sent events carry. Its messages are the types of
`optio.server.bodies` that these are encoded from."""

from functools import cache
from typing import Any

from optio.server import schemas
from optio.server.bodies import EndMessage, LineMessage, LogEndBody, LogLineBody
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


@cache
def document() -> Document:
    """Return the document. Nothing in it depends on an installation."""
    return schemas.tidy(
        {
            "asyncapi": "3.0.0",
            "info": {
                "title": "Optio",
                "version": __version__,
                "description": "Live logs of runs. Each line comes once and in order.",
            },
            "defaultContentType": "application/json",
            "channels": {
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
        "messages": {name: {"name": name, "payload": schemas.of(kind)} for name, kind in messages.items()},
    }


def _named_by_property(part: Any) -> Any:
    """Return a schema with the property alone where OpenAPI also maps its values: AsyncAPI knows `discriminator` as a name."""
    if isinstance(part, list):
        return [_named_by_property(each) for each in part]
    if not isinstance(part, dict):
        return part
    found = {key: _named_by_property(value) for key, value in part.items()}
    if isinstance(part.get("discriminator"), dict):
        found["discriminator"] = part["discriminator"]["propertyName"]
    return found


def _operation(channel: str, text: str) -> Document:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": text,
        "security": [{"$ref": "#/components/securitySchemes/bearer"}],
    }
