"""What somebody meant who wrote a schedule as another system has it."""

import re
from typing import NamedTuple

_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_NAMES = {name: name[:3].upper() for name in (*_DAYS, *_MONTHS)}
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S+)\s+", re.IGNORECASE)
_WRAPPED = re.compile(r"cron\((.*)\)", re.IGNORECASE)
_RATE = re.compile(r"rate\((\d{1,3})\s+(minute|hour|day)s?\)", re.IGNORECASE)
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)")
# How many of them there are in the next larger one, and the schedule of every n-th.
_RATES = {"minute": (60, "{} * * * *"), "hour": (24, "0 {} * * *"), "day": (1, "0 0 * * *")}


class Meant(NamedTuple):
    """The five fields, and the zone that stood before them."""

    expression: str
    zone: str | None = None


def cron_meant(text: str) -> Meant | None:
    """Read as Quartz has it, seconds in front; as AWS has it, a year behind, `cron(...)` and `rate(...)`; as a crontab
    has it, with a zone; as a time of the day; with whole names of days. None when it is something else."""
    text = text.strip()
    zone = _ZONE.match(text)
    rest = text[zone.end() :] if zone else text
    wrapped, rate, clock = _WRAPPED.fullmatch(rest), _RATE.fullmatch(rest), _CLOCK.fullmatch(rest)
    if rate is not None:
        count, (whole, form) = int(rate[1]), _RATES[rate[2].lower()]
        tries = [form.format("*" if count == 1 else f"*/{count}")] if count and whole % count == 0 else []
    elif clock is not None:
        tries = [f"{int(clock[2])} {int(clock[1])} * * *"]
    else:
        words = (wrapped[1] if wrapped else rest).split()
        fields = [words]
        if wrapped:
            fields = [words[:5]]
        elif len(words) in (6, 7):
            fields = [words[1:6], words[:5]] if words[0].isdigit() else []
        from_one = wrapped is not None or "?" in words or len(words) == 7
        tries = [" ".join([*map(_field, each[:-1]), _weekday(each[-1], from_one)]) for each in fields if each]
    better = next((each for each in tries if each != text and _is_sound(each)), None)
    return None if better is None else Meant(better, zone[1] if zone else None)


def _field(word: str) -> str:
    word = re.sub(r"[A-Za-z]{4,}", lambda name: _NAMES.get(name[0].lower(), name[0]), word)
    return "*" if word == "?" else word


def _weekday(word: str, from_one: bool) -> str:
    """A system that knows `?` or years counts the days of the week from 1, which is Sunday."""
    named = re.sub(r"(?<![/#\d])[1-7](?!\d)", lambda day: _NAMES[_DAYS[int(day[0]) - 1]], word) if from_one else word
    return _field(named)


def _is_sound(expression: str) -> bool:
    from optio.model.cron import CronError, check_expression

    try:
        check_expression(expression)
    except CronError:
        return False
    return True
