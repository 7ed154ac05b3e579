"""Trial deliveries: a request to a task's webhook that this server signs itself, as the sender would. It takes the way of every
other delivery, through the same gates, and its run is a real one. Used by the API and the pages."""

import asyncio
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from litestar.types import Message, Scope

from optio.errors import Conflict, NotFound
from optio.model.mapping import compile_path
from optio.model.registry import CompiledTask
from optio.model.trigger import WebhookConfig
from optio.runs.signature import UnusableSecret, delivery_header, event_header, sign
from optio.server.bodies.drafts import TrialDeliveryBody
from optio.server.dependencies import Hub
from optio.server.webhooks import PREFIX, WebhookReceiver

# The first value of each type that a parameter may have.
_SAMPLES: Mapping[str, Any] = {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}
# Lists that are made for a query have no more items.
_MAX_ITEMS = 10


async def deliver(hub: Hub, task: CompiledTask, payload: bytes, event: str | None, host: str) -> TrialDeliveryBody:
    """Sign the payload, deliver it, and return the answer. Raises NotFound for a task without a webhook, Conflict where it
    cannot be signed, and SecretUnavailable."""
    config = _webhook(task)
    headers = {"Host": host, "Content-Type": "application/json", "User-Agent": "Optio trial delivery"}
    delivery = f"trial-{uuid.uuid4()}"
    if (numbered := delivery_header(config)) is not None:
        headers[numbered] = delivery
    event = event or (config.events[0] if config.events else None)
    if event is not None and (header_name := event_header(config)) is not None:
        headers[header_name] = event
    if config.secret is not None:
        headers |= _signed(config, await _secret(hub, config.secret.name), payload, delivery)
    status, answer = await _post(hub, config.path, headers, payload)
    return TrialDeliveryBody(
        status=status,
        run_id=answer.get("runId"),
        verdict="refused" if status >= 300 else answer.get("status", "challenge"),
        detail=answer.get("detail") or answer.get("reason"),
        errors=[f"{problem.get('pointer', '')} {problem.get('message', '')}".strip() for problem in answer.get("errors", [])],
    )


def sample_payload(task: CompiledTask) -> str:
    """Return a JSON text with a value at each place that the task's mapping reads, to begin with."""
    config = _webhook(task)
    properties = (task.spec.params_schema or {}).get("properties") or {}
    if config.param_mapping is None:
        payload: Any = {name: _sample(schema) for name, schema in properties.items()}
    else:
        payload = {}
        for name, place in config.param_mapping.items():
            steps = compile_path(place).steps if isinstance(place, str) else None
            if steps and all(isinstance(step, str) or 0 <= step < _MAX_ITEMS for step in steps):
                _put(payload, steps, _sample(properties.get(name)))
    return json.dumps(payload, indent=2, ensure_ascii=False)


def _webhook(task: CompiledTask) -> WebhookConfig:
    if task.spec.webhook is None:
        raise NotFound("trigger", "webhook")
    return task.spec.webhook.config


async def _secret(hub: Hub, name: str) -> str:
    secrets = hub.services.secrets
    value = await asyncio.to_thread(secrets.get, name)
    if value is None:
        raise Conflict(f"this server cannot sign: the secret `{name}` has no value here: {secrets.where(name)}")
    return value


def _signed(config: WebhookConfig, secret: str, payload: bytes, delivery: str) -> dict[str, str]:
    try:
        return sign(config, secret, payload, delivery=delivery, now=time.time())
    except UnusableSecret as err:
        name = config.secret.name if config.secret is not None else ""
        raise Conflict(f"this server cannot sign: the secret `{name}` cannot be used: {err}") from err


async def _post(hub: Hub, path: str, headers: Mapping[str, str], payload: bytes) -> tuple[int, dict[str, Any]]:
    """Hand the request to the receiver of webhooks, without a way over the network."""
    scope: Any = {
        "type": "http",
        "method": "POST",
        "path": PREFIX + path,
        "raw_path": (PREFIX + path).encode(),
        "query_string": b"",
        "client": ("127.0.0.1", 0),
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
    }
    status, data = 0, b""

    async def receive() -> Any:
        return {"type": "http.request", "body": payload, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, data
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            data += message["body"]

    typed: Scope = scope
    await WebhookReceiver(hub)(typed, receive, send)
    return status, msgspec.json.decode(data)


def _sample(schema: Any) -> Any:
    keywords = schema if isinstance(schema, dict) else {}
    if "default" in keywords:
        return keywords["default"]
    if keywords.get("enum"):
        return keywords["enum"][0]
    if keywords.get("type") == "integer" and "minimum" in keywords:
        return max(1, keywords["minimum"])
    return _SAMPLES.get(str(keywords.get("type")), "example")


def _put(container: Any, steps: Sequence[str | int], value: Any) -> None:
    """Put a value at a place, and make the objects and lists on the way to it. A place that is taken otherwise stays."""
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        new: Any = value if after is None else [] if isinstance(after, int) else {}
        if isinstance(step, int) and isinstance(container, list):
            container += [{} for _ in range(step + 1 - len(container))]
            if after is None or not isinstance(container[step], type(new)):
                container[step] = new
        elif isinstance(step, str) and isinstance(container, dict):
            container.setdefault(step, new)
        else:
            return
        container = container[step]
