"""Model calls of a run over HTTP and on the command line: each with its outcome, and with its recording where there is one."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

import optio.cli
from optio.model.model_call import AttemptKey, CallRecording, PlannedCall, RefusedCall, SettledCall, key_digest
from optio.model.usage import Usage
from tests.server.api import DEV_TOKEN, JOB, Api, Writer

Optio = Callable[..., tuple[int, str, str]]
REQUEST = {"model": "asked", "messages": [{"role": "user", "content": "hello \x1b[2J"}]}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    made = Api(tmp_path_factory.mktemp("calls"))
    made.serve_task(JOB)
    yield made
    made.close()


@pytest.fixture(scope="module")
def run(api: Api) -> Writer:
    """A run with three calls: one answered and recorded, one refused, one open."""
    writer = api.started()
    store, run = api.services.store, writer.claim.run
    key = AttemptKey(
        digest=key_digest("key"),
        run_id=run.id,
        attempt=run.attempt,
        definition=run.digest,
        upstream="https://models.example",
        credential="ANTHROPIC_API_KEY",
        limit=None,
        spent=Decimal(0),
        is_priced=False,
    )
    store.open_key(run.lease, key)
    store.admit_call(key, "1", "asked", 9, lambda account: PlannedCall(reserved=Decimal(1)), protocol="Anthropic Messages")
    usage = Usage(fresh=1200, cached=300, output=40)
    settled = SettledCall(
        model="answered",
        usage=usage,
        cost=Decimal("0.00429"),
        is_estimate=False,
        status=200,
        first_byte_s=0.25,
        duration_s=1.5,
    )
    store.settle_call(key, "1", settled)
    recording = CallRecording(
        path="/v1/messages",
        status=200,
        content_type="text/event-stream",
        is_whole=True,
        request=REQUEST,
        answer=b"data: {}\n\n",
    )
    store.record_call(key, "1", recording)
    store.admit_call(key, "2", "asked", 9, lambda account: RefusedCall(reason="budget", message="nothing is left"))
    store.admit_call(key, "3", "asked", 9, lambda account: PlannedCall(reserved=Decimal(1)))
    return writer


def path_of(run: Writer) -> str:
    return f"/api/workflow-runs/{run.id}"


@pytest.fixture
def command(api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Optio:
    monkeypatch.setenv("OPTIO_URL", f"http://127.0.0.1:{api.port}")
    monkeypatch.setenv("OPTIO_TOKEN", DEV_TOKEN)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))

    def optio_of(*arguments: str) -> tuple[int, str, str]:
        return optio.cli.invoke(list(arguments)), *capsys.readouterr()

    return optio_of


def test_calls_of_a_run_are_listed_in_order(api: Api, run: Writer) -> None:
    page = api.get(f"{path_of(run)}/calls").json

    assert [(call["number"], call["outcome"]) for call in page["items"]] == [(1, "answered"), (2, "refused"), (3, "open")]
    assert page["next"] is None
    first = page["items"][0]
    assert (first["requestedModel"], first["model"], first["protocol"]) == ("asked", "answered", "Anthropic Messages")
    assert (first["tokens"], first["usage"]["cached"], first["costUsd"]) == (1540, 300, "0.00429")
    assert (first["status"], first["firstByteMs"], first["durationMs"], first["isRecorded"]) == (200, 250, 1500, True)
    assert page["items"][1]["message"] == "nothing is left"
    run_body = api.get(path_of(run)).json
    assert run_body["attempts"][0]["modelCalls"] == 3
    assert run_body["links"]["calls"] == f"{path_of(run)}/calls"


def test_a_list_of_calls_comes_in_pages(api: Api, run: Writer) -> None:
    first = api.get(f"{path_of(run)}/calls?limit=2").json
    second = api.get(f"{path_of(run)}/calls?limit=2&after={first['next']}").json

    assert [call["number"] for call in first["items"] + second["items"]] == [1, 2, 3]
    assert second["next"] is None
    assert api.get(f"{path_of(run)}/calls?attempt=2").json["items"] == []


def test_one_call_has_its_request_and_its_answer_where_they_are_kept(api: Api, run: Writer) -> None:
    call = api.get(f"{path_of(run)}/calls/1").json

    assert call["recording"]["request"] == REQUEST
    assert call["recording"]["answer"] == "data: {}\n\n"
    assert api.get(f"{path_of(run)}/calls/2").json["recording"] is None


@pytest.mark.parametrize("place", ["4", "0", "99999999999999999999", "x"])
def test_a_call_that_there_is_not_is_answered_by_404(api: Api, run: Writer, place: str) -> None:
    answer = api.get(f"{path_of(run)}/calls/{place}")

    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert api.get("/api/workflow-runs/nothing/calls").status == 404


def test_who_may_read_the_log_may_read_calls(api: Api, run: Writer) -> None:
    viewer = {"Authorization": f"Bearer {api.token('viewer')}"}

    assert api.get(f"{path_of(run)}/calls/1", **viewer).status == 200
    assert api.get(f"{path_of(run)}/calls/1", Authorization="").status == 401


def test_calls_are_a_table_and_a_document(run: Writer, command: Optio) -> None:
    code, table, _ = command("runs", "calls", run.id)
    _, document, _ = command("runs", "calls", run.id, "--json")

    assert code == 0
    assert "1,500" in table
    assert "$0.00429" in table
    assert "nothing is left" in table
    assert [call["number"] for call in json.loads(document)] == [1, 2, 3]
    assert "model calls  3, see `optio runs calls`" in command("runs", "show", run.id)[1]


def test_one_call_is_printed_with_what_was_recorded_of_it(run: Writer, command: Optio) -> None:
    _, recorded, _ = command("runs", "calls", run.id, "1")
    code, unrecorded, _ = command("runs", "calls", run.id, "2")

    assert "request to /v1/messages" in recorded
    assert "hello \\u001b[2J" in recorded
    assert "answer 200\ndata: {}" in recorded
    assert code == 0
    assert "it was not recorded: set OPTIO_GATEWAY_RECORD=runs for the gateway" in unrecorded


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["calls", "1", "--attempt", "1"], "leave out --attempt"), (["calls", "9"], "no call")],
)
def test_a_call_that_cannot_be_shown_is_refused(run: Writer, command: Optio, arguments: list[str], words: str) -> None:
    verb, *rest = arguments

    code, _, error = command("runs", verb, run.id, *rest)

    assert code != 0
    assert words in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["job"], "--replay repeats a run and runs no tests"),
        (["--update"], "--replay repeats a run and runs no tests"),
        (["--format", "junit"], "--replay repeats a run and runs no tests"),
        ([], "has no attempt that has ended"),
    ],
)
def test_a_replay_that_cannot_be_made_is_refused(run: Writer, command: Optio, arguments: list[str], words: str) -> None:
    code, _, error = command("test", "--replay", run.id, *arguments)

    assert code != 0
    assert words in error


def test_a_run_without_a_recording_cannot_be_replayed(api: Api, command: Optio, tmp_path: Path) -> None:
    writer = api.started()
    writer.end()

    code, _, error = command("test", "--replay", writer.id)

    assert code != 0
    assert "has no model calls through the gateway: set OPTIO_GATEWAY=required" in error
