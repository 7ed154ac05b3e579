"""Times as people type them."""

from datetime import UTC, datetime, timedelta

import pytest

from optio.cli.shared.time_arg import parse_time
from optio.errors import SettingsError

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("90m", NOW - timedelta(minutes=90)),
        ("24h", NOW - timedelta(days=1)),
        ("7d", NOW - timedelta(days=7)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("2026-01-05T08:00:00Z", NOW - timedelta(hours=4)),
        ("2026-01-05T08:00+01:00", NOW - timedelta(hours=5)),
    ],
)
def test_a_span_or_a_moment(text: str, at: datetime) -> None:
    assert parse_time("--since", text, NOW) == at


@pytest.mark.parametrize(
    ("text", "said"), [("yesterday", "invalid time"), ("0h", "invalid time"), ("", "invalid time"), ("2026-01-05", "no zone")]
)
def test_what_is_neither_is_said_with_its_option(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=f"--since: .*{said}"):
        parse_time("--since", text, NOW)
