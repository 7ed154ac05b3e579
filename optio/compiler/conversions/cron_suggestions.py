"""Suggest a cron expression for one that does not parse: `@every 15m`, `rate(1 hour)`, `CRON_TZ=... 0 9 * * 1-5`, seven fields,
times of day and names of days. Words are left to `cron_words`."""

import re
from functools import partial
from typing import NamedTuple

from optio.compiler.conversions.cron_words import cron_from_words, each_nth
from optio.compiler.conversions.quantities import CURLY

_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_NAMES = {name: name[:3].upper() for name in (*_DAYS, *_MONTHS)}
# Schedule words of other cron implementations.
_WORDS = {"@midnight": "@daily", "@annually": "@yearly", "@every_minute": "* * * * *", "@workday": "0 9 * * 1-5"}
_EVERY = re.compile(r"@every\s+(\d{1,3})([smhd])", re.IGNORECASE)
# Neighbours that change places in other orders of the fields: hour and minute, month and day.
_NEIGHBOURS = (1, 3)
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S+)\s+", re.IGNORECASE)
_ZONE_BEHIND = re.compile(r"((?:\S+\s+){4}\S+)\s+(UTC|[A-Z][A-Za-z]+/[A-Za-z_/]+)")
# What a system's crontab has behind the fields.
_USER = re.compile(r"root|www-data|nobody|[a-z][a-z0-9_-]{2,15}")
_WRAPPED = re.compile(r"cron\((.*)\)", re.IGNORECASE)
_RATE = re.compile(r"rate\((\d{1,3})\s+(second|minute|hour|day)s?\)", re.IGNORECASE)
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)")
_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day"}


# Days in two letters, English and German.
_SHORT = re.compile(r"(?<![A-Za-z])[A-Za-z]{2}(?![A-Za-z])")
_TWO_LETTERS = {
    "MO": "MON", "TU": "TUE", "DI": "TUE", "WE": "WED", "MI": "WED", "TH": "THU", "DO": "THU", "FR": "FRI", "SA": "SAT",
    "SU": "SUN", "SO": "SUN",
}  # fmt: skip
_MAX_LENGTH = 200
_YEAR = re.compile(r"[*?]|(?:19|20)\d\d(?:[-,/]\d{1,4})*")
_LOOSE = re.compile(r"(\s*,\s*)|(?<=\w)\s+(?:to|through|-)\s+(?=\w)", re.IGNORECASE)
_RANGE = re.compile(r"(?<![\w/-])(\w+)-(\w+)(?![\w/-])")
# The bounds of each field, and its names.
_BOUNDS: tuple[tuple[int, int, tuple[str, ...]], ...] = (
    (0, 59, ()), (0, 23, ()), (1, 31, ()),
    (1, 12, tuple(name[:3].upper() for name in _MONTHS)), (0, 6, tuple(name[:3].upper() for name in _DAYS)),
)  # fmt: skip


class SuggestedCron(NamedTuple):
    """A suggested expression, and the time zone that was written inside the original one, if any."""

    expression: str
    zone: str | None = None


def suggest_cron(text: str) -> SuggestedCron | None:
    """Return the five fields that the text means: with a zone in front, as a time of day, with whole names of days, or in
    words. Returns None if it is something else."""
    if len(text) > _MAX_LENGTH:
        return None
    written, text = text, re.sub(r"\*(?=\*)", "* ", text.strip(f" \t\n'\"`{CURLY}"))
    if text.lower() in _WORDS:
        return SuggestedCron(_WORDS[text.lower()])
    zone = _ZONE.match(text)
    rest = text[zone.end() :] if zone else text
    if (behind := _ZONE_BEHIND.fullmatch(rest)) is not None and _is_sound(behind[1]):
        return SuggestedCron(behind[1], behind[2])
    if (chosen := _chosen(rest)) is not None:
        rest = chosen
    wrapped, rate, clock = _WRAPPED.fullmatch(rest), _RATE.fullmatch(rest), _CLOCK.fullmatch(rest)
    if (every := _EVERY.fullmatch(rest)) is not None:
        rate = _RATE.fullmatch(f"rate({every[1]} {_UNITS[every[2].lower()]})")
    if rate is not None:
        tries = [each for each in [each_nth(int(rate[1]), rate[2][0].lower())] if each is not None]
    elif clock is not None:
        tries = [f"{int(clock[2])} {int(clock[1])} * * *"]
    elif (said := cron_from_words(rest)) is not None:
        tries = [said]
    else:
        words = _LOOSE.sub(lambda found: "," if found[1] else "-", wrapped[1] if wrapped else rest).split()
        if len(words) == 5 and words[1] == "*" and _CLOCK.fullmatch(words[0]) is not None:
            del words[1]
        if len(words) == 4 and (clock := _CLOCK.fullmatch(words[0])) is not None:
            words = [str(int(clock[2])), str(int(clock[1])), *words[1:]]
        fields = [words]
        if wrapped:
            fields = [words[:5]]
        elif len(words) in (6, 7):
            # Only fields for seconds or years may be dropped.
            fields = [words[1:6]] if words[0].isdigit() and all(map(_YEAR.fullmatch, words[6:])) else []
            fields += [words[:5]] if len(words) == 6 and (_YEAR.fullmatch(words[5]) or _USER.fullmatch(words[5])) else []
            # `0 9 * * 1-5 *` read with seconds would be each hour in some months.
            if words[2:4] == ["*", "*"] and "*" not in words[4]:
                fields.reverse()
        from_one = wrapped is not None or "?" in words or len(words) == 7
        fields = [each for each in fields if "?" not in (*each[:2], *each[3:4])]
        tries = [" ".join([*map(_field, each[:-1]), _weekday(each[-1], from_one)]) for each in fields if each]
        tries += [_without_near_days(each) for each in tries]
        tries += [_repaired(each) for each in tries]
        tries += [_unwrapped(each) for each in tries]
        tries += [exchanged for each in tries for at in _NEIGHBOURS if (exchanged := _exchanged(each, at)) is not None]
    better = next((each for each in tries if each != written and _is_sound(each)), None)
    return None if better is None else SuggestedCron(better, zone[1] if zone else None)


def _chosen(text: str) -> str | None:
    """Five fields with a number for each `H` of Jenkins and each `~` of OpenBSD, which choose one themselves."""
    words = text.split()
    if len(words) != len(_BOUNDS) or not any("H" in re.findall(r"[A-Za-z]+", word) or "~" in word for word in words):
        return None
    numbers = ("17", "4", "1", "1", "1")
    made = []
    for word, number in zip(words, numbers, strict=True):
        word = re.sub(r"\bH\((\d{1,2})-\d{1,2}\)(?!/)|\bH\((\d{1,2}-\d{1,2})\)(?=/)", lambda found: found[1] or found[2], word)
        word = re.sub(r"\bH(?=/)", "*", re.sub(r"(\d{1,2})~\d{0,2}", r"\1", word))
        made.append(re.sub(r"\bH\b|~\d{0,2}", number, word))
    return " ".join(made)


def _exchanged(expression: str, at: int) -> str | None:
    """Return the expression with a field exchanged for the one before it, if it only fits there: `8 30 * * *`."""
    words = expression.split()
    low, high, _ = _BOUNDS[at]
    # An hour of 24 is midnight.
    if len(words) != len(_BOUNDS) or not words[at].isdigit() or int(words[at]) <= high + (at == 1):
        return None
    if not words[at - 1].isdigit() or not low <= int(words[at - 1]) <= high:
        return None
    return " ".join([*words[: at - 1], words[at], words[at - 1], *words[at + 1 :]])


def _repaired(expression: str) -> str:
    """Return the expression without signs at the end of a field, with `5L` for `5#L` and `FRIL`, and with ranges that end
    within the field: `0-59` for `0-60`."""
    words = [re.sub(r"(?<=.)[,;.]+\Z", "", word) for word in expression.split()]
    for at, (word, (first, last, _)) in enumerate(zip(words, _BOUNDS, strict=False)):
        if (found := re.fullmatch(r"(\d{1,2})-(\d{1,2})(/\d{1,2})?", word)) is not None and int(found[1]) <= last:
            begin, end, step = int(found[1]), int(found[2]), found[3] or ""
            if end == last + 1 + (at == len(_BOUNDS) - 1):
                words[at] = f"{begin}-{last}{step}"
            elif at == 1 and end > last and not step:
                words[at] = f"{begin}-{last},{first}-{end - last - 1}"
    nth = re.fullmatch(r"(?P<day>[0-7]|[A-Za-z]{3})#?L|L(?P<behind>[0-7])", words[-1], re.IGNORECASE)
    day = -1 if nth is None else _number(nth["day"] or nth["behind"], 0, _BOUNDS[-1][2])
    words[-1] = words[-1] if day < 0 else f"{day % 7}L"
    return " ".join(words)


def _without_near_days(expression: str) -> str:
    """Return the expression with the day itself for `15W`, the weekday nearest to it, and `L` for `L-2`."""
    return re.sub(r"(?i)(?<!\S)(?:(\d{1,2})W|(L)-\d{1,2})(?!\S)", lambda found: found[1] or "L", expression)


def _unwrapped(expression: str) -> str:
    """Split ranges that wrap around: `22-2` of hours becomes `22-23,0-2`."""
    return " ".join(
        _RANGE.sub(partial(_split_range, bounds), word) for bounds, word in zip(_BOUNDS, expression.split(), strict=False)
    )


def _split_range(bounds: tuple[int, int, tuple[str, ...]], found: re.Match[str]) -> str:
    first, last, names = bounds
    begin, end = (_number(word, first, names) for word in found.groups())
    if not first <= end < begin <= last:
        return found[0]
    shown = [
        [names[number - first] if not found[1].isdigit() else str(number) for number in dict.fromkeys(part)]
        for part in ((begin, last), (first, end))
    ]
    return ",".join("-".join(part) for part in shown)


def _number(word: str, first: int, names: tuple[str, ...]) -> int:
    return names.index(word.upper()) + first if word.upper() in names else int(word) if word.isdigit() else -1


def _field(word: str) -> str:
    word = re.sub(r"[A-Za-z]{4,}", lambda name: _NAMES.get(name[0].lower(), name[0]), word)
    return "*" if word == "?" else word


def _weekday(word: str, from_one: bool) -> str:
    """Convert a day of the week. A system that knows `?` or years counts from 1, which is Sunday; its `L` alone is Saturday."""
    if from_one:
        word = re.sub(r"\A([1-7]|[A-Za-z]{3})/", r"\1-7/", "7" if word.upper() == "L" else word)
    named = re.sub(r"(?<![/#\d])[1-7](?!\d)", lambda day: _NAMES[_DAYS[int(day[0]) - 1]], word) if from_one else word
    return _SHORT.sub(lambda day: _TWO_LETTERS.get(day[0].upper(), day[0]), _field(named))


def _is_sound(expression: str) -> bool:
    from optio.scheduling.cron import CronError, check_expression

    try:
        check_expression(expression)
    except CronError:
        return False
    return True
