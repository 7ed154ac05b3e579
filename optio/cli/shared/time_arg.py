"""Times on the command line: `24h` ago, or a time with its zone."""

import argparse
import re
from datetime import UTC, datetime, timedelta

from optio.errors import SettingsError
from optio.model.text import parse_duration

# A clock of the server that is ahead of this one.
CLOCK_TOLERANCE = timedelta(seconds=5)


def parse_time(option: str, text: str, now: datetime) -> datetime:
    """Return the time of `90m`, `24h` or `7d` before `now`, or of an ISO 8601 text with a zone; raises SettingsError."""
    days = re.fullmatch(r"(\d{1,5})d", text, re.ASCII)
    try:
        return now - (timedelta(days=int(days[1])) if days else parse_duration(text))
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError as err:
        raise SettingsError(f"{option}: invalid time `{text}`: write 24h, 7d or 2026-01-05T08:00:00Z") from err
    if at.tzinfo is None:
        raise SettingsError(f"{option}: time `{text}` has no zone: add Z for UTC, or an offset such as +01:00")
    return at.astimezone(UTC)


def parse_past_time(option: str, text: str, now: datetime) -> datetime:
    """Return such a time before `now`; raises SettingsError."""
    at = parse_time(option, text, now)
    if at >= now:
        raise SettingsError(f"{option}: `{text}` is not in the past")
    return at


def time_range(args: argparse.Namespace, now: datetime) -> tuple[str | None, str | None]:
    """Return `--since` and `--until` as ISO 8601 texts; raises SettingsError for an unusable or empty range."""
    since, until = (
        None if text is None else parse_time(f"--{name}", text, now)
        for name, text in (("since", args.since), ("until", args.until))
    )
    if since is not None and since > (until or now + CLOCK_TOLERANCE):
        raise SettingsError("--since is later than --until" if until else f"--since: `{args.since}` is not in the past")
    return None if since is None else since.isoformat(), None if until is None else until.isoformat()
