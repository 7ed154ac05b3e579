"""OpenAI's two protocols: Responses (`POST /v1/responses`) and Chat Completions (`POST /v1/chat/completions`). In both, tokens
read from the cache are part of the input, and reasoning is part of the output."""

from typing import Any

from optio.gateway.protocols.base import ModelRequest, PassingAnswer, count, member, read_object, write_object
from optio.model.usage import Usage

_TYPES = {"budget": "insufficient_quota", "auth": "invalid_request_error"}


class _OpenAi:
    def refusal(self, status: int, reason: str, message: str) -> bytes:
        kind = _TYPES.get(reason, "invalid_request_error")
        return write_object({"error": {"message": message, "type": kind, "param": None, "code": f"optio_{reason}"}})


class Responses(_OpenAi):
    """The protocol of Codex. The last event has the usage, also that of an answer that was cut or has failed."""

    name = "OpenAI Responses"

    def request(self, path: str, data: bytes) -> ModelRequest | None:
        body = read_object(data)
        if body is None or not isinstance(body.get("model"), str):
            return None
        most = count(body, "max_output_tokens") or None
        is_unseen = bool(body.get("background"))
        return ModelRequest(
            model=body["model"],
            max_output=most,
            is_stream=body.get("stream") is True,
            body=data,
            obstacle="a response in the background cannot be metered: leave out `background`" if is_unseen else None,
        )

    def limited(self, request: ModelRequest, max_output: int) -> bytes:
        return write_object({**(read_object(request.body) or {}), "max_output_tokens": max_output})

    def take(self, answer: PassingAnswer, event: dict[str, Any]) -> None:
        response = event if event.get("object") == "response" else event.get("response")
        usage = member(response, "usage")
        if isinstance(usage, dict):
            answer.model = member(response, "model")
            answer.usage = _usage(usage, "input_tokens", "output_tokens")
            answer.is_complete = True


class ChatCompletions(_OpenAi):
    """The protocol of Copilot, OpenCode and many services. A stream tells its usage only if it is asked to."""

    name = "OpenAI Chat Completions"

    def request(self, path: str, data: bytes) -> ModelRequest | None:
        body = read_object(data)
        if body is None or not isinstance(body.get("model"), str):
            return None
        is_stream = body.get("stream") is True
        if is_stream and member(body, "stream_options", "include_usage") is not True:
            options = body.get("stream_options")
            data = write_object(
                {**body, "stream_options": {**(options if isinstance(options, dict) else {}), "include_usage": True}}
            )
        most = count(body, "max_completion_tokens") or count(body, "max_tokens") or None
        return ModelRequest(
            model=body["model"], max_output=most, is_stream=is_stream, body=data, answers=max(1, count(body, "n"))
        )

    def limited(self, request: ModelRequest, max_output: int) -> bytes:
        body = read_object(request.body) or {}
        name = "max_tokens" if "max_tokens" in body else "max_completion_tokens"
        return write_object({**body, name: max_output})

    def take(self, answer: PassingAnswer, event: dict[str, Any]) -> None:
        usage = event.get("usage")
        if isinstance(usage, dict):
            answer.model = event.get("model")
            answer.usage = _usage(usage, "prompt_tokens", "completion_tokens")
            answer.is_complete = True


def _usage(usage: dict[str, Any], read: str, written: str) -> Usage:
    total, cached = count(usage, read), count(usage, f"{read}_details", "cached_tokens")
    return Usage(
        fresh=max(0, total - cached),
        cached=min(total, cached),
        output=count(usage, written),
        reasoning=count(usage, f"{written}_details", "reasoning_tokens"),
    )
