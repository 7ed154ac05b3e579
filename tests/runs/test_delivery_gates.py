"""The gates of a delivery, from what is stored of it."""

from dataclasses import replace
from datetime import UTC, datetime

from optio.runs.delivery_gates import gates_of
from optio.store.values import Delivery

INVALID = Delivery(
    id="d",
    seq=1,
    path="push",
    task_id="push",
    key=None,
    received_at=datetime(2026, 1, 5, tzinfo=UTC),
    headers={},
    body=b"{}",
    body_sha256="",
    verdict="invalid",
    status=422,
    detail="/params/REPO must be a string",
    run_id=None,
)


def outcomes(delivery: Delivery) -> dict[str, str]:
    return {gate.name: gate.outcome for gate in gates_of(delivery, None, None, None)}


def test_an_invalid_delivery_ends_at_the_gate_that_is_stored_whatever_its_detail_says() -> None:
    stopped = outcomes(replace(INVALID, gate="mapping", detail="the `when` filter"))
    assert (stopped["filter"], stopped["mapping"], stopped["params"]) == ("passed", "stopped", "unreached")


def test_an_invalid_delivery_of_an_older_version_ended_at_an_unknown_gate() -> None:
    gates = outcomes(INVALID)
    assert (gates["body"], gates["dedupe"], gates["start"]) == ("passed", "unreached", "unreached")
    assert {gates["filter"], gates["mapping"], gates["params"]} == {"unknown"}
    assert gates_of(INVALID, None, None, None)[5].detail == "/params/REPO must be a string"
