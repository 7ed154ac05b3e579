"""What every store promises of recorded calls: they come back as they were, share what is equal, and go with their run."""

import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from optio.model.model_call import AttemptKey, CallRecording, PlannedCall
from optio.store.base import Store
from optio.store.sql import recordings
from optio.store.values import Claim, RetentionPolicy
from tests.contracts.test_store_model_calls import key_of
from tests.store.build import Clock, claimed, end, say, sql

SYSTEM = "You are an agent. " * 100


def call_of(*messages: str, answer: bytes = b"event: done\n\n") -> CallRecording:
    request: dict[str, Any] = {
        "model": "m",
        "system": SYSTEM,
        "messages": [{"role": "user", "content": message} for message in messages],
        "tools": [],
        "stream": True,
    }
    return CallRecording(
        path="/v1/messages", status=200, content_type="text/event-stream", is_whole=True, request=request, answer=answer
    )


def recorded(store: Store, *calls: CallRecording) -> tuple[Claim, AttemptKey]:
    claim = claimed(store)
    key = key_of(claim, claim.run.id)
    store.open_key(claim.run.lease, key)
    for number, call in enumerate(calls):
        store.admit_call(key, str(number), "m", 1, lambda account: PlannedCall(reserved=Decimal(0)))
        store.record_call(key, str(number), call)
    return claim, key


def test_a_recording_comes_back_as_it_was(store: Store) -> None:
    call = call_of("hello", "x" * 5000)
    _, key = recorded(store, call)

    assert store.recording(key.run_id, key.attempt, "0") == call
    assert list(store.recording(key.run_id, key.attempt, "0").request) == list(call.request)  # type: ignore[union-attr]
    assert store.recording(key.run_id, key.attempt, "1") is None
    assert [call.is_recorded for call in store.model_calls(key.run_id)] == [True]


def test_what_calls_have_in_common_is_stored_once(store: Store) -> None:
    message = random.Random(1).randbytes(20_000).hex()
    calls = [call_of(message, *(f"turn {n}" for n in range(number))) for number in range(10)]
    _, key = recorded(store, *calls)

    rows = sql(store, "SELECT bytes FROM recorded_calls ORDER BY bytes DESC")

    assert rows[0]["bytes"] > 20_000
    assert sum(row["bytes"] for row in rows[1:]) < 10_000
    assert [store.recording(key.run_id, key.attempt, str(n)) for n in range(10)] == calls


def test_a_run_is_recorded_up_to_a_size(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "MAX_RUN_BYTES", 15_000)
    large = [call_of(random.Random(n).randbytes(5000).hex()) for n in range(3)]
    _, key = recorded(store, *large, call_of("small"))

    kept = [store.recording(key.run_id, key.attempt, str(n)) for n in range(4)]

    assert [call.omitted for call in kept if call is not None] == [None, None, "size", None]
    assert kept[2] is not None
    assert (kept[2].request, kept[2].answer) == (None, b"")
    assert [call.is_recorded for call in store.model_calls(key.run_id)] == [True, True, False, True]


def test_a_call_is_recorded_once(store: Store) -> None:
    _, key = recorded(store, call_of("first"))

    store.record_call(key, "0", call_of("second"))

    assert store.recording(key.run_id, key.attempt, "0") == call_of("first")


@pytest.mark.parametrize("table", ["recorded_calls", "recorded_parts"])
def test_a_recording_goes_with_its_run(store: Store, table: str) -> None:
    claim, key = recorded(store, call_of("hello"))
    _, other = recorded(store, call_of("hello"))
    end(store, claim)

    store.delete_run(claim.run.id)
    store.record_call(key, "0", call_of("too late"))

    assert {row["run_id"] for row in sql(store, f"SELECT run_id FROM {table}")} == {other.run_id}


def test_a_recording_goes_with_the_log_where_that_goes_first(store: Store, clock: Clock) -> None:
    claim, key = recorded(store, call_of("hello"))
    say(store, claim, "a line")
    end(store, claim)
    clock.move(days=2)

    list(store.prune(RetentionPolicy(logs=timedelta(days=1))))

    assert store.recording(key.run_id, key.attempt, "0") is None
    assert sql(store, "SELECT 1 FROM recorded_parts") == []
    assert [call.is_recorded for call in store.model_calls(key.run_id)] == [False]


def test_a_call_that_the_store_does_not_know_is_not_recorded(store: Store) -> None:
    _, key = recorded(store)

    store.record_call(key, "unknown", call_of("hello"))

    assert sql(store, "SELECT 1 FROM recorded_calls") == []
