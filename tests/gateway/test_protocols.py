"""The protocols of model services as the gateway reads them, in pieces of any size and with whatever a service may send."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.gateway.protocols.anthropic import Messages
from optio.gateway.protocols.base import AnswerReader, Dialect
from optio.gateway.protocols.gemini import GenerateContent
from optio.gateway.protocols.openai import ChatCompletions, Responses
from optio.model.usage import Usage

GEMINI_PATH = "/v1beta/models/gemini-2.5-pro:streamGenerateContent"
DIALECTS: dict[str, tuple[Dialect, str]] = {
    "messages": (Messages(), "/v1/messages"),
    "responses": (Responses(), "/responses"),
    "chat": (ChatCompletions(), "/chat/completions"),
    "gemini": (GenerateContent(), GEMINI_PATH),
}
# What each service sends for the same answer: 1,500 tokens read, 300 of them from the cache, 64 written, 24 of them reasoning.
STREAMS: dict[str, list[dict[str, Any]]] = {
    "messages": [
        {
            "type": "message_start",
            "message": {"model": "m", "usage": {"input_tokens": 1200, "cache_read_input_tokens": 300, "output_tokens": 1}},
        },
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "usage"}},
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 64}},
        {"type": "message_stop"},
    ],
    "responses": [
        {"type": "response.created", "response": {"model": "m", "usage": None}},
        {
            "type": "response.completed",
            "response": {
                "model": "m",
                "usage": {
                    "input_tokens": 1500,
                    "input_tokens_details": {"cached_tokens": 300},
                    "output_tokens": 64,
                    "output_tokens_details": {"reasoning_tokens": 24},
                },
            },
        },
    ],
    "chat": [
        {"model": "m", "choices": [{"delta": {"content": "hi"}}], "usage": None},
        {
            "model": "m",
            "choices": [],
            "usage": {
                "prompt_tokens": 1500,
                "prompt_tokens_details": {"cached_tokens": 300},
                "completion_tokens": 64,
                "completion_tokens_details": {"reasoning_tokens": 24},
            },
        },
    ],
    "gemini": [
        {"modelVersion": "m", "usageMetadata": {"promptTokenCount": 1500}, "candidates": [{"content": {}}]},
        {
            "modelVersion": "m",
            "usageMetadata": {
                "promptTokenCount": 1500,
                "cachedContentTokenCount": 300,
                "candidatesTokenCount": 40,
                "thoughtsTokenCount": 24,
            },
            "candidates": [{"finishReason": "STOP"}],
        },
    ],
}


def served(events: list[dict[str, Any]]) -> bytes:
    return b"".join(b"event: x\r\ndata: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events)


@pytest.mark.parametrize("name", DIALECTS)
@given(data=st.data())
def test_a_stream_tells_its_usage_however_it_is_cut_into_pieces(name: str, data: st.DataObject) -> None:
    reader, text = AnswerReader(DIALECTS[name][0], is_stream=True), served(STREAMS[name])
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        reader.feed(text[begin:end])
    reader.close()

    reasoning = 0 if name == "messages" else 24
    assert reader.answer.usage == Usage(fresh=1200, cached=300, output=64, reasoning=reasoning)
    assert (reader.answer.model, reader.answer.is_complete) == ("m", True)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_stream_that_ends_early_is_not_complete(name: str) -> None:
    reader = AnswerReader(DIALECTS[name][0], is_stream=True)
    reader.feed(served(STREAMS[name][:1]))
    reader.close()

    assert not reader.answer.is_complete


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(
    "line",
    [b"data: null", b"data: [1]", b"data: {", b'data: {"usage": 5}', b"data: " + b"[" * 100_000, b"\xff\xfe", b"data:"],
)
def test_a_line_that_is_no_event_changes_nothing(name: str, line: bytes) -> None:
    reader = AnswerReader(DIALECTS[name][0], is_stream=True)
    reader.feed(line + b"\n" + served(STREAMS[name]))
    reader.close()

    assert reader.answer.is_complete


@pytest.mark.parametrize("number", [-1, True, 1 << 50, "7", 1.5, None, {}])
def test_a_number_that_cannot_be_believed_counts_as_nothing(number: Any) -> None:
    reader = AnswerReader(ChatCompletions(), is_stream=True)
    reader.feed(served([{"model": "m", "usage": {"prompt_tokens": number, "completion_tokens": 5}}]))

    assert reader.answer.usage == Usage(output=5)


def test_more_tokens_from_the_cache_than_there_are_do_not_pay_back() -> None:
    reader = AnswerReader(Responses(), is_stream=True)
    usage = {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 500}, "output_tokens": 1}
    reader.feed(served([{"type": "response.completed", "response": {"model": "m", "usage": usage}}]))

    assert reader.answer.usage == Usage(cached=10, output=1)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("messages", {"type": "message", "model": "m", "usage": {"input_tokens": 5, "output_tokens": 7}}),
        ("responses", {"object": "response", "model": "m", "usage": {"input_tokens": 5, "output_tokens": 7}}),
        ("chat", {"model": "m", "usage": {"prompt_tokens": 5, "completion_tokens": 7}}),
        ("gemini", {"modelVersion": "m", "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 7}}),
    ],
)
def test_an_answer_in_one_piece_tells_its_usage(name: str, body: dict[str, Any]) -> None:
    reader = AnswerReader(DIALECTS[name][0], is_stream=False)
    text = json.dumps(body).encode()
    reader.feed(text[:9])
    reader.feed(text[9:])
    reader.close()

    assert (reader.answer.usage, reader.answer.model) == (Usage(fresh=5, output=7), "m")
    assert reader.answer.is_complete


BODIES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "messages": ({"model": "m", "max_tokens": 9000, "stream": True}, ("max_tokens",)),
    "responses": ({"model": "m", "max_output_tokens": 9000, "stream": True}, ("max_output_tokens",)),
    "chat": ({"model": "m", "max_completion_tokens": 9000, "stream": True}, ("max_completion_tokens",)),
    "gemini": ({"generationConfig": {"maxOutputTokens": 9000, "temperature": 1}}, ("generationConfig", "maxOutputTokens")),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_the_limit_of_a_request_is_read_and_lowered_and_all_else_stays(name: str) -> None:
    (dialect, path), (body, place) = DIALECTS[name], BODIES[name]

    request = dialect.request(path, json.dumps(body | {"more": [1]}).encode())

    assert request is not None
    assert (request.model, request.max_output, request.is_stream) == ("gemini-2.5-pro" if name == "gemini" else "m", 9000, True)
    changed = json.loads(dialect.limited(request, 300))
    value = changed
    for key in place:
        value = value[key]
    assert value == 300
    assert changed["more"] == [1]


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("data", [b"", b"[]", b"nonsense", b"\xff", b'{"model": 5}', b'{"stream": true}'])
def test_what_is_no_request_is_none(name: str, data: bytes) -> None:
    dialect, path = DIALECTS[name]
    request = dialect.request(path if name != "gemini" else "/v1beta/models:generateContent", data)

    assert request is None


def test_a_stream_of_chat_completions_is_asked_for_its_usage() -> None:
    request = ChatCompletions().request("", b'{"model": "m", "stream": true, "stream_options": {"x": 1}}')
    kept = ChatCompletions().request("", b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}')

    assert request is not None
    assert kept is not None
    assert json.loads(request.body)["stream_options"] == {"x": 1, "include_usage": True}
    assert kept.body == b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'


def test_a_thought_that_is_longer_than_the_answer_may_be_is_not_asked_for() -> None:
    body = {"model": "m", "max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 4000}}
    request = Messages().request("", json.dumps(body).encode())

    assert request is not None
    assert "thinking" not in json.loads(Messages().limited(request, 1000))
    assert "thinking" in json.loads(Messages().limited(request, 5000))


@pytest.mark.parametrize("name", DIALECTS)
def test_a_refusal_has_the_shape_in_which_the_service_itself_refuses(name: str) -> None:
    body = json.loads(DIALECTS[name][0].refusal(402, "budget", "no money"))

    assert body["error"]["message"] == "no money"
