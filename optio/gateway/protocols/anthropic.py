"""Anthropic Messages: `POST /v1/messages`. The first event has the usage of the input, `message_delta` that of the whole."""

from typing import Any

from optio.gateway.protocols.base import ModelRequest, PassingAnswer, count, member, read_object, write_object
from optio.model.usage import Usage


class Messages:
    """The protocol of Anthropic's service."""

    name = "Anthropic Messages"

    def request(self, path: str, data: bytes) -> ModelRequest | None:
        body = read_object(data)
        if body is None or not isinstance(body.get("model"), str):
            return None
        return ModelRequest(
            model=body["model"], max_output=count(body, "max_tokens") or None, is_stream=body.get("stream") is True, body=data
        )

    def limited(self, request: ModelRequest, max_output: int) -> bytes:
        body = read_object(request.body) or {}
        budget = count(body, "thinking", "budget_tokens")
        if budget >= max_output:
            # The service refuses a request whose thinking has more room than its answer.
            body = {name: value for name, value in body.items() if name != "thinking"}
        return write_object({**body, "max_tokens": max_output})

    def take(self, answer: PassingAnswer, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind in ("message_start", "message"):
            message = event.get("message") if kind == "message_start" else event
            answer.model = member(message, "model")
            told = member(message, "usage")
            answer.usage = _usage(told) if isinstance(told, dict) else None
        elif kind == "message_delta" and answer.usage is not None:
            # Its numbers are of the whole answer; those of the input may be left out.
            answer.usage = _usage({**_told(answer.usage), **_numbers(member(event, "usage"))})
            answer.is_complete = True

    def refusal(self, status: int, reason: str, message: str) -> bytes:
        kind = {"budget": "billing_error", "auth": "authentication_error"}.get(reason, "invalid_request_error")
        return write_object({"type": "error", "error": {"type": kind, "message": message}})


_NAMES = {
    "fresh": "input_tokens",
    "cached": "cache_read_input_tokens",
    "cache_write": "cache_creation_input_tokens",
    "output": "output_tokens",
}


def _usage(numbers: Any) -> Usage:
    return Usage(**{ours: count(numbers, theirs) for ours, theirs in _NAMES.items()})


def _told(usage: Usage) -> dict[str, int]:
    return {theirs: getattr(usage, ours) for ours, theirs in _NAMES.items()}


def _numbers(usage: Any) -> dict[str, Any]:
    return {name: usage[name] for name in _NAMES.values() if isinstance(usage, dict) and usage.get(name) is not None}
