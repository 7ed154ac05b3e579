"""Trace context: what is taken from outside, and ids that follow from the run."""

import pytest

from optio.model import trace
from optio.model.trace import TraceContext

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"00-{TRACE}-{SPAN}-01", TraceContext(TRACE, SPAN, True)),
        (f"00-{TRACE}-{SPAN}-00", TraceContext(TRACE, SPAN, False)),
        (f"00-{TRACE}-{SPAN}-03", TraceContext(TRACE, SPAN, True)),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-holds", TraceContext(TRACE, SPAN, True)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"00-{TRACE}-{SPAN}-1", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        ("x" * 100_000, None),
        ("", None),
        (None, None),
    ],
)
def test_a_header_is_taken_as_the_standard_says_or_not_at_all(text: str | None, found: TraceContext | None) -> None:
    assert trace.parse(text) == found


def test_what_is_kept_of_a_header_is_in_our_words() -> None:
    assert trace.clean(f"cc-{TRACE}-{SPAN}-ff-more") == f"00-{TRACE}-{SPAN}-01"
    assert trace.clean("anything") is None


def test_ids_follow_from_the_run_and_differ_by_name() -> None:
    names = ["run", "attempt 1", "attempt 2", "agent 1"]
    ids = [trace.span_id("r1", name) for name in names]

    assert ids == [trace.span_id("r1", name) for name in names]
    assert len({*ids, trace.span_id("r2", "run")}) == 5
    assert trace.parse(TraceContext(trace.trace_id("r1"), ids[0], True).header)
