"""Gemini: `POST /v1beta/models/MODEL:generateContent` and `:streamGenerateContent`. Each event of a stream has the usage so
far; thinking is counted apart and billed as output."""

import re
from typing import Any
from urllib.parse import unquote

from optio.gateway.protocols.base import ModelRequest, PassingAnswer, count, member, read_object, write_object
from optio.model.usage import Usage

_CALL = re.compile(r"/models/([^/:]+):(generateContent|streamGenerateContent)$")


class GenerateContent:
    """The protocol of Google's service."""

    name = "Gemini"

    def request(self, path: str, data: bytes) -> ModelRequest | None:
        call, body = _CALL.search(path), read_object(data)
        if call is None or body is None:
            return None
        most = count(body, "generationConfig", "maxOutputTokens") or None
        is_stream = call[2] == "streamGenerateContent"
        answers = max(1, count(body, "generationConfig", "candidateCount"))
        return ModelRequest(model=unquote(call[1]), max_output=most, is_stream=is_stream, body=data, answers=answers)

    def limited(self, request: ModelRequest, max_output: int) -> bytes:
        body = read_object(request.body) or {}
        config = body.get("generationConfig")
        return write_object(
            {**body, "generationConfig": {**(config if isinstance(config, dict) else {}), "maxOutputTokens": max_output}}
        )

    def take(self, answer: PassingAnswer, event: dict[str, Any]) -> None:
        usage = event.get("usageMetadata")
        if not isinstance(usage, dict):
            return
        total, cached = count(usage, "promptTokenCount"), count(usage, "cachedContentTokenCount")
        thoughts = count(usage, "thoughtsTokenCount")
        answer.model = event.get("modelVersion")
        answer.usage = Usage(
            fresh=max(0, total - cached) + count(usage, "toolUsePromptTokenCount"),
            cached=min(total, cached),
            output=count(usage, "candidatesTokenCount") + thoughts,
            reasoning=thoughts,
        )
        candidates = event.get("candidates")
        is_ended = isinstance(candidates, list) and any(member(candidate, "finishReason") for candidate in candidates)
        answer.is_complete = answer.is_complete or is_ended

    def refusal(self, status: int, reason: str, message: str) -> bytes:
        kind = {"budget": "RESOURCE_EXHAUSTED", "auth": "UNAUTHENTICATED"}.get(reason, "INVALID_ARGUMENT")
        return write_object({"error": {"code": status, "message": message, "status": kind}})
