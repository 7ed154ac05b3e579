"""What the gateway keeps of calls: whole requests and answers, without any secret of the run; and only where it is asked to."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx2
import pytest

from optio.errors import StoreUnavailable
from optio.gateway import passing_call
from optio.gateway.recording import mask_answer, mask_request
from optio.model.mask import Masker
from optio.model.model_call import CallRecording, ModelCall
from optio.wiring import Services
from tests.gateway.support import gateway
from tests.gateway.test_gateway import BODY, Agent, begin, error_of
from tests.runs.support import opened
from tests.runtimes.real_agents import KEY, Model, endpoints_of, model_server

SECRET = "hunter2-hunter2"
MASKER = Masker([SECRET])


def stream(*events: object) -> bytes:
    return b"".join(b"event: x\ndata: %b\n\n" % json.dumps(event).encode() for event in events)


def pieces_of(answer: bytes) -> list[object]:
    return [json.loads(line[5:]) for line in answer.split(b"\n") if line.startswith(b"data:")]


@pytest.mark.parametrize(
    "event",
    [
        lambda text: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        lambda text: {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": text}},
        lambda text: {"type": "response.output_text.delta", "item_id": "a", "output_index": 0, "delta": text},
        lambda text: {"choices": [{"index": 0, "delta": {"content": text}}]},
        lambda text: {"candidates": [{"content": {"parts": [{"text": text}]}}]},
    ],
    ids=["anthropic", "anthropic-tool", "responses", "chat", "gemini"],
)
def test_a_secret_that_a_model_says_in_pieces_is_masked(event: Callable[[str], object]) -> None:
    words = ["I say hun", "ter2-", "hunt", "er2, yes"]

    masked = mask_answer(stream(*map(event, words)), MASKER)

    assert pieces_of(masked) == [event("I say ***, yes"), event(""), event(""), event("")]
    assert pieces_of(mask_answer(stream(*map(event, ["no ", "secret"])), MASKER)) == [event("no "), event("secret")]


def test_texts_of_different_blocks_are_not_joined() -> None:
    events = [{"type": "delta", "index": index, "text": text} for index, text in ((0, "hunter2-"), (1, "hunter2"))]

    assert mask_answer(stream(*events), MASKER) == stream(*events)


@pytest.mark.parametrize("answer", [b"", b"<html>hunter2-hunter2</html>", b"data: {broken hunter2-hunter2\n\n", b"\xff\xfe"])
def test_an_answer_of_any_form_is_masked(answer: bytes) -> None:
    assert mask_answer(answer, MASKER) == answer.replace(SECRET.encode(), b"***")


def test_a_request_stays_json_and_has_no_passwords_of_urls() -> None:
    body = json.dumps({"a": [SECRET], SECRET: 1, "proxy": "http://agent:pass@proxy:3128/", "b": "see https://x.example/a@b"})

    masked = mask_request(body.encode(), MASKER)

    assert masked == {"a": ["***"], "***": 1, "proxy": "http://***@proxy:3128/", "b": "see https://x.example/a@b"}


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with model_server() as served:
        yield served


@pytest.fixture
def services(tmp_path: Path, model: Model) -> Iterator[Services]:
    environ = endpoints_of(model.url) | {"OPTIO_GATEWAY_RECORD": "runs", "OPTIO_SECRET_OTHER": SECRET}
    with opened(tmp_path, environ) as made, gateway(made) as led:
        yield led


@pytest.fixture
def agent(services: Services) -> Agent:
    return Agent(services, 'budgetUsd: "1.00"\n')


def calls_of(services: Services, agent: Agent) -> list[tuple[ModelCall, CallRecording | None]]:
    run_id = agent.key.run_id
    return [(call, services.store.recording(run_id, call.attempt, call.id)) for call in services.store.model_calls(run_id)]


def test_a_call_is_recorded_as_the_agent_saw_it(services: Services, agent: Agent) -> None:
    answer = agent.post()

    ((call, recording),) = calls_of(services, agent)
    assert recording == CallRecording(
        path="/v1/messages",
        status=200,
        content_type=answer.headers["content-type"],
        is_whole=True,
        request=BODY,
        answer=answer.content,
    )
    assert (call.outcome, call.protocol, call.status, call.is_recorded) == ("answered", "Anthropic Messages", 200, True)
    assert call.first_byte_s is not None
    assert call.duration_s is not None
    assert 0 < call.first_byte_s <= call.duration_s


def test_no_secret_of_the_run_is_recorded(services: Services) -> None:
    agent = Agent(services, 'budgetUsd: "1.00"\n', secrets=["ANTHROPIC_API_KEY", "OTHER"])
    text = f"{KEY} {agent.token} {SECRET}"

    agent.post(body=BODY | {"messages": [{"role": "user", "content": text}], "metadata": {SECRET: text}})

    ((_, recording),) = calls_of(services, agent)
    assert recording is not None
    assert recording.request["messages"] == [{"role": "user", "content": "*** *** ***"}]
    assert recording.request["metadata"] == {"***": "*** *** ***"}


def test_a_call_of_a_run_with_a_secret_that_the_gateway_does_not_know_is_omitted(services: Services) -> None:
    agent = Agent(services, 'budgetUsd: "1.00"\n', secrets=["ANTHROPIC_API_KEY", "UNKNOWN"])

    agent.post()

    ((call, recording),) = calls_of(services, agent)
    assert recording is not None
    assert (recording.omitted, recording.request, recording.answer) == ("secrets", None, b"")
    assert not call.is_recorded


def test_a_refused_call_is_recorded_with_its_refusal(services: Services) -> None:
    agent = Agent(services, 'budgetUsd: "0.0001"\n')

    answer = agent.post()

    ((call, recording),) = calls_of(services, agent)
    assert recording is not None
    assert (call.outcome, call.reason, recording.status) == ("refused", "budget", 402)
    assert error_of(answer)[1] in json.loads(recording.answer)["error"]["message"]
    assert recording.request == BODY


def test_an_answer_that_breaks_off_is_recorded_as_far_as_it_came(services: Services, broken: Any) -> None:
    def half(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, header=("Content-Length", "1000"))
        handler.wfile.write(b"data: {}\n\n")

    agent = Agent(services, 'budgetUsd: "1.00"\n', upstream=broken(half))
    with pytest.raises(httpx2.RemoteProtocolError):
        agent.post()

    ((call, recording),) = calls_of(services, agent)
    assert recording is not None
    assert (call.outcome, recording.is_whole, recording.answer) == ("broken", False, b"data: {}\n\n")


def test_an_answer_that_is_too_long_is_omitted(services: Services, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing_call, "MAX_RECORDED_BYTES", 10)
    monkeypatch.setattr("optio.gateway.call_recorder.MAX_RECORDED_BYTES", 10)

    agent.post()

    ((_, recording),) = calls_of(services, agent)
    assert recording is not None
    assert recording.omitted == "size"


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RecursionError("too deep")])
def test_a_call_passes_that_cannot_be_recorded(
    services: Services, agent: Agent, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(type(services.store), "record_call", fail)

    assert b"message_stop" in agent.post().content

    assert [recording for _, recording in calls_of(services, agent)] == [None]


def test_nothing_is_recorded_unless_the_operator_asks_for_it(tmp_path: Path, model: Model) -> None:
    with opened(tmp_path, endpoints_of(model.url)) as made, gateway(made) as services:
        agent = Agent(services, 'budgetUsd: "1.00"\n')
        agent.post()

        assert [recording for _, recording in calls_of(services, agent)] == [None]
