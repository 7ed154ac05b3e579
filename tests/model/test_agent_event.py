"""What the log keeps of an agent's events: masked, cut, and readable by older versions."""

from typing import Any

import pytest

from optio.model.agent_event import MAX_INPUT_BYTES, AgentEvent, ToolCall, ToolKind, ToolResult, decode, encode, masked
from optio.model.mask import Masker

SECRET = "s3cret-value-of-a-token"


def call(value: Any, name: str = "Bash") -> ToolCall:
    return ToolCall(id="1", name=name, kind=ToolKind.EXECUTE, input=value)


def test_secrets_are_masked_wherever_the_agent_writes_them() -> None:
    event = call({SECRET: [{"deep": f"curl -H {SECRET}"}]}, name=SECRET)

    assert SECRET.encode() not in encode(masked(event, Masker([SECRET])))
    assert masked(ToolResult(id=SECRET, ok=True, size=3), Masker([SECRET])) == ToolResult(id="***", ok=True, size=3)


def test_long_texts_of_an_input_are_cut_and_the_short_ones_stay() -> None:
    found = masked(call({"path": "a.py", "content": "x" * 100_000, "edits": ["y" * 100_000]}), Masker(()))

    assert isinstance(found, ToolCall)
    assert found.input["path"] == "a.py"
    assert found.input["content"].endswith("x... [95,904 characters cut]")
    assert found.input["edits"][0].endswith("y... [95,904 characters cut]")


@pytest.mark.parametrize("value", [list(range(100_000)), {str(number): number for number in range(20_000)}, None])
def test_an_input_that_stays_too_large_is_left_out(value: Any) -> None:
    found = masked(call(value), Masker(()))

    assert isinstance(found, ToolCall)
    assert found.input is None
    assert len(encode(found)) < MAX_INPUT_BYTES


@pytest.mark.parametrize(
    "event",
    [call(None, name="n" * 1_000_000), ToolResult(id="i" * 1_000_000, ok=True, size=1)],
)
def test_ids_and_names_of_any_length_take_little_room(event: AgentEvent) -> None:
    assert len(encode(masked(event, Masker(())))) < 1_000


@pytest.mark.parametrize("value", ["\ud800", {"a": float("inf")}, [[[]]] * 3, "\0", 10**30, -1.5])
def test_every_input_that_json_can_hold_is_kept(value: Any) -> None:
    found = masked(call(value), Masker(()))

    assert decode(encode(found)) == found


@pytest.mark.parametrize("data", [b'{"type": "of_tomorrow"}', b'{"type": "tool_call"}', b"", b"\xff"])
def test_an_event_that_a_newer_version_stored_is_no_event_here(data: bytes) -> None:
    assert decode(data) is None
