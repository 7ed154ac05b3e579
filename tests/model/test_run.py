"""The table of what may follow what, and the small values of a run."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.model.run import TRANSITIONS, LogKind, LogLine, RunChange, RunState, next_state
from optio.model.usage import Usage

changes = st.lists(st.sampled_from(RunChange), max_size=40)


@given(changes)
def test_no_order_of_changes_leaves_the_table(wanted: list[RunChange]) -> None:
    state, path = RunState.QUEUED, [RunState.QUEUED]
    for change in wanted:
        new = next_state(state, change)
        if new is not None:
            state = new
            path.append(state)

    assert all(before is not now for before, now in pairwise(path))
    for before, now in pairwise(path):
        assert not before.terminal or (before, now) == (RunState.FAILED, RunState.QUEUED)
        # Nothing ends well, or fails, without having run.
        assert now not in (RunState.COMPLETED, RunState.FAILED) or before is RunState.RUNNING


@pytest.mark.parametrize("state", RunState)
def test_every_state_can_be_reached_and_the_table_knows_what_is_final(state: RunState) -> None:
    reached = {RunState.QUEUED, *TRANSITIONS.values()}
    ways_out = {change for (before, change) in TRANSITIONS if before is state}

    assert state in reached
    assert state.terminal is (ways_out <= {RunChange.RETRY_BY_HAND})


def test_only_a_failed_run_is_brought_back_and_only_by_hand() -> None:
    back = {key for key, new in TRANSITIONS.items() if key[0].terminal}

    assert back == {(RunState.FAILED, RunChange.RETRY_BY_HAND)}


tokens = st.builds(
    Usage,
    fresh=st.integers(0, 10**9),
    cached=st.integers(0, 10**9),
    cache_write=st.integers(0, 10**9),
    output=st.integers(0, 10**9),
    reasoning=st.integers(0, 10**9),
)


@given(tokens, tokens)
def test_usage_adds_up_and_survives_json(one: Usage, two: Usage) -> None:
    assert (one + two).total == one.total + two.total
    assert Usage.from_json(one.to_json()) == one
    assert Usage.from_json(None) + two == two


@given(st.binary())
def test_a_log_line_is_readable_whatever_its_bytes(data: bytes) -> None:
    text = LogLine(kind=LogKind.OUTPUT, data=data, at=datetime(2026, 1, 1, tzinfo=UTC)).text

    assert text.encode("utf-8").decode("utf-8") == text
