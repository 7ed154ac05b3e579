"""Suggest a cron expression for one that does not parse: `@every 15m`, `rate(1 hour)`, `CRON_TZ=... 0 9 * * 1-5`, fields for
seconds and years, whole names of days, and a few plain words. Each suggestion fires at the very times that are written; where a
number could mean two things, there is none. Imported only for a file with such a schedule."""

import re
from datetime import timedelta
from typing import NamedTuple

from optio.compiler.conversions.quantities import CURLY, suggest_duration
from optio.model.text import parse_duration

_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_NAMES = {name: name[:3].upper() for name in (*_DAYS, *_MONTHS)}
_TWO_LETTERS = {name[:2].upper(): name[:3].upper() for name in _DAYS}
_SAME = {
    "@midnight": "@daily", "@annually": "@yearly", "@every_minute": "* * * * *",
    **{word: f"@{word}" for word in ("hourly", "daily", "weekly", "monthly", "yearly")},
}  # fmt: skip
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S+)\s+(.+)", re.IGNORECASE)
_ZONE_BEHIND = re.compile(r"((?:\S+\s+){4}\S+)\s+(UTC|[A-Z][A-Za-z]+/[A-Za-z_/]+)")
_INTERVAL = re.compile(r"@every\s+(\S+)|rate\((\d{1,3} (?:minute|hour|day)s?)\)|every (\d{0,3} ?[a-z]+)|(PT?\d+[MHD])", re.I)
_ONCE = re.compile(r"(?:every|each) (?:1 ?)?(minute|min|hour|day)|(?:rate\()?1 (minute|hour|day)\)?")
_DAY = rf"(?:{'|'.join(_DAYS)})s?"
_WEEKDAYS = rf"{_DAY}(?:(?:, | and |, and ){_DAY})*"
_SPOKEN = re.compile(
    rf"(?:(?:every|each|on) )?(?P<days>day|daily|weekdays?|{_WEEKDAYS}) at "
    r"(?P<hour>[01]?\d|2[0-3])(?::(?P<minute>[0-5]\d))? ?(?P<half>am|pm)?"
)
_MAX_LENGTH = 200
_YEAR = re.compile(r"[*?]|(?:19|20)\d\d(?:[-,/]\d{1,4})*")
_FIELDS = 5
# Values of fields in which a range may go round the end, by the place of the field.
_CIRCLES: dict[int, tuple[str, ...]] = {
    1: tuple(map(str, range(24))),
    3: tuple(name[:3].upper() for name in _MONTHS),
    4: tuple(name[:3].upper() for name in _DAYS),
}


class SuggestedCron(NamedTuple):
    """A suggested expression, and the time zone that was written inside the original one, if any."""

    expression: str
    zone: str | None = None


def suggest_cron(text: str) -> SuggestedCron | None:
    """Return the five fields that the text means, or None if that is not certain."""
    bare = " ".join(text.strip(f" \t\n'\"`{CURLY}").split()) if len(text) <= _MAX_LENGTH else ""
    zone = None
    if (match := _ZONE.fullmatch(bare)) is not None:
        zone, bare = match.groups()
    elif (match := _ZONE_BEHIND.fullmatch(bare)) is not None:
        bare, zone = match.groups()
    expression = _SAME.get(bare.lower()) or _of_interval(bare) or _spoken(bare.lower()) or _of_fields(bare)
    from optio.scheduling.cron import is_sound  # the library of schedules is loaded for a file with a mistake alone

    if expression is None or expression == text or not is_sound(expression):
        return None
    return SuggestedCron(expression, zone)


def _of_interval(text: str) -> str | None:
    """Return the expression for an interval that divides an hour or a day evenly."""
    if (unit := _ONCE.fullmatch(text.lower())) is not None:
        return {"m": "* * * * *", "h": "0 * * * *", "d": "0 0 * * *"}[(unit[1] or unit[2])[0]]
    match = _INTERVAL.fullmatch(text)
    duration = None if match is None else suggest_duration(next(filter(None, match.groups())))
    if duration is None:
        return None
    minutes, rest = divmod(parse_duration(duration), timedelta(minutes=1))
    if rest or not minutes:
        return None
    if minutes < 60:
        return f"*/{minutes} * * * *" if 60 % minutes == 0 else None
    hours, rest_minutes = divmod(minutes, 60)
    if rest_minutes or 24 % hours:
        return None
    return "0 0 * * *" if hours == 24 else "0 * * * *" if hours == 1 else f"0 */{hours} * * *"


def _spoken(text: str) -> str | None:
    """Return the expression for days and a time of day in words: `every weekday at 7:30am`."""
    match = _SPOKEN.fullmatch(text)
    if match is None:
        return None
    hour = int(match["hour"])
    if match["half"] is not None:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match["half"] == "pm" else 0)
    elif match["minute"] is None:
        return None  # `at 7` may be in the evening
    if match["days"].startswith(("day", "daily")):
        days = "*"
    elif match["days"].startswith("weekday"):
        days = "1-5"
    else:
        days = ",".join(str(_DAYS.index(day)) for day in re.findall("|".join(_DAYS), match["days"]))
    return f"{int(match['minute'] or 0)} {hour} * * {days}"


def _of_fields(text: str) -> str | None:
    """Return five fields without those for seconds and years, and with the days of systems that count them from 1."""
    wrapped = re.fullmatch(r"cron\((.*)\)", text, re.IGNORECASE)
    words = re.sub(r"\s*,\s*", ",", wrapped[1] if wrapped else text).split()
    fields = _five_of(words)
    # Spring counts the days of the week from 0, and Quartz and Amazon, which have `?`, from 1.
    from_one = "?" in words
    if fields is None or "?" in (*fields[:2], fields[3]):
        return None
    if len(words) > _FIELDS and not from_one and re.search(r"[1-7]", fields[-1]):
        return None
    days = _from_zero(fields[-1]) if from_one else fields[-1]
    return None if days is None else " ".join(_field(word, at) for at, word in enumerate((*fields[:-1], days)))


def _five_of(words: list[str]) -> list[str] | None:
    """Return the five fields of cron among six or seven: the first counts seconds, or the last is a year, which only systems
    with a `?` have."""
    if len(words) == _FIELDS:
        return words
    if len(words) == _FIELDS + 2 and words[0] == "0" and _YEAR.fullmatch(words[-1]):
        return words[1:-1]
    if len(words) != _FIELDS + 1:
        return None
    if "?" in (words[2], words[4]):
        return words[:-1] if _YEAR.fullmatch(words[-1]) else None
    # `0 9 * * 1-5 *` has more likely a field too many at its end.
    has_seconds = words[0] == "0" and (words[2:4] != ["*", "*"] or words[4] == "*")
    return words[1:] if has_seconds else None


def _from_zero(word: str) -> str | None:
    """Return days of the week that are counted from 1, which is Sunday, as days from 0. `L` alone is Saturday."""
    if "/" in word:
        return None
    return "6" if word.upper() == "L" else re.sub(r"(?<!#)[1-7]", lambda day: str(int(day[0]) - 1), word)


def _field(word: str, at: int) -> str:
    word = re.sub(r"[A-Za-z]{4,}", lambda name: _NAMES.get(name[0].lower(), name[0]), word)
    if at == _FIELDS - 1:
        word = re.sub(r"(?<![A-Za-z])[A-Za-z]{2}(?![A-Za-z])", lambda day: _TWO_LETTERS.get(day[0].upper(), day[0]), word)
    word = ",".join(_without_wrap(part, at) for part in word.split(","))
    return "*" if word == "?" else word


def _without_wrap(part: str, at: int) -> str:
    """Return a range that goes round the end of its field in two: `22-2` of hours is `22-23,0-2`."""
    first, _, last = part.upper().partition("-")
    circle = _CIRCLES.get(at, ())
    if first not in circle or last not in circle or circle.index(first) <= circle.index(last):
        return part
    return f"{first}-{circle[-1]},{circle[0]}-{last}"
