"""Convert schedules in words and in calendar formats to cron: `every weekday at 7:30am`, `FREQ=DAILY;BYHOUR=2`, `PT15M`,
`Mon..Fri *-*-* 09:00`. Imported only for a schedule that does not parse."""

import re

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY = r"(?:sun|mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?)(?:days?)?s?"
_SETS = (
    (r"(?:every |each |on )?(?:week|work|working |business )days?\b", "1-5"),
    (r"(?:every |each |on )?week-?ends?\b", "0,6"),
    (r"(?:every|each) ?day\b|\bdaily\b|\beveryday\b", "*"),
)
_CLOCK = re.compile(
    r"(?:\bat )?\b(?P<hour>[01]?\d|2[0-3])(?:[:.h](?P<minute>[0-5]\d))(?::00)? ?(?P<half>am|pm)?\b"
    r"|(?:\bat )?\b(?P<full>1?\d) ?(?P<of>am|pm)\b|\bat (?P<alone>[01]?\d|2[0-3])\b|\b(?:at )?(?P<word>noon|midnight)\b"
)
_OF_MONTH = re.compile(
    r"\b(?:on )?(?:the )?(?P<day>[12]?\d|3[01]|first)(?:st|nd|rd|th|)(?: day)? of (?:every|each|the) month\b"
)
_INTERVAL = re.compile(r"(?:every|each|once an?|once per|per)? ?(\d{1,3})? ?(sec(?:ond)?|min(?:ute)?|hour|hr|h|m|s|day|d)s?")
_TIMEDELTA = re.compile(r"(?:datetime\.)?timedelta\((minutes|hours|days)=(\d{1,3})\)")
_ISO = re.compile(r"(?:R\d*/)?(?:[^/]*/)?P(?:(\d{1,3})D|T(\d{1,3})([HM]))", re.IGNORECASE)
_SYSTEMD = re.compile(
    rf"(?:(?P<days>{_DAY}(?:(?:\.\.|-|,){_DAY})*) )?(?:\*-\*-(?P<day>\*|\d{{1,2}}) )?"
    r"(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?::00)?"
)
_HOURS = {"morning": 8, "afternoon": 15, "evening": 18, "night": 22}
_PARTS_OF_DAY = rf"\b(?:in the |at )?({'|'.join(_HOURS)})s?\b"
# Number of units in the next larger one, and the five fields for every n-th of them.
_EVERY = {"m": (60, "{} * * * *"), "h": (24, "0 {} * * *"), "d": (1, "0 0 * * *")}
_MAX_LENGTH = 100
_NTHS = {"1s": 1, "fi": 1, "2n": 2, "se": 2, "3r": 3, "th": 3, "4t": 4, "fo": 4}
_NTH = re.compile(
    rf"(?:every |on )?(?:the )?(?P<nth>1st|2nd|3rd|4th|first|second|third|fourth|last) (?P<day>{_DAY}) (?:of|in) "
    rf"(?:the |each |every |a )?month(?:,? (?:at )?(?P<time>\S+(?: ?[ap]m)?))?"
)
_BETWEEN = re.compile(r"every (?:(\d{1,2}) )?(minute|min|hour)s? (?:from|between) (\d{1,2}):00 (?:to|and|until) (\d{1,2}):00")
_ROUGHLY = re.compile(r"\b(before|after) (\d{1,2}) ?(am|pm)\b")
_FILLERS = re.compile(r"\b(?:every|each|weekly|on|at|and|the|runs?|of)\b|[,.]")


def cron_from_words(text: str) -> str | None:
    """Return the five fields for the text if every part of it is understood, and None otherwise."""
    if len(text) > _MAX_LENGTH:
        return None
    said = " ".join(text.lower().split())
    if said in ("hourly", "daily", "weekly", "monthly", "yearly"):
        return f"@{said}"
    if (found := _INTERVAL.fullmatch(said)) and (found[1] or said[0] in "eop"):
        return each_nth(int(found[1] or 1), found[2][0])
    if found := _TIMEDELTA.fullmatch(said):
        return each_nth(int(found[2]), found[1][0])
    if found := _ISO.fullmatch(said):
        return each_nth(int(found[1] or found[2]), (found[3] or "d").lower())
    if said.startswith(("freq=", "rrule:freq=")):
        return _of_rule(said.removeprefix("rrule:"))
    if found := _SYSTEMD.fullmatch(said):
        days = _weekdays(found["days"] or "")
        return (
            None
            if days is None
            else f"{int(found['minute'])} {int(found['hour'])} {(found['day'] or '*').lstrip('0')} * {days}"
        )
    if found := _NTH.fullmatch(said):
        clock = _CLOCK.search(f" {found['time']}") if found["time"] else None
        day = _weekdays(found["day"])
        nth = "L" if found["nth"] == "last" else f"#{_NTHS[found['nth'][:2]]}"
        return None if day is None else f"{_time(clock) if clock else '0 0'} * * {day}{nth}"
    if found := _BETWEEN.fullmatch(said):
        count, unit, first, last = int(found[1] or 1), found[2][0], int(found[3]), int(found[4])
        steps = "*" if unit == "m" and count == 1 else f"*/{count}"
        hours = f"{first}-{last}"
        return f"{steps} {hours} * * *" if unit == "m" else f"0 {hours}{'' if count == 1 else f'/{count}'} * * *"
    return _in_words(_ROUGHLY.sub(_at, said))


def _at(found: re.Match[str]) -> str:
    """An hour before or after another one, where only that much is said."""
    hour = int(found[2]) % 12 + (12 if found[3] == "pm" else 0)
    return f"at {(hour - 1) % 24 if found[1] == 'before' else hour}:00"


def each_nth(count: int, unit: str) -> str | None:
    """Return the expression for every n-th minute or hour, or every day, if five fields can say it without an uneven gap. For
    seconds it is every minute, the most that a schedule can fire."""
    if unit == "s":
        return "* * * * *" if count <= _EVERY["m"][0] else None
    whole, form = _EVERY[unit]
    if unit in ("m", "h") and count == whole:
        return "0 * * * *" if unit == "m" else "0 0 * * *"
    return form.format("*" if count == 1 else f"*/{count}") if count and whole % count == 0 else None


def _in_words(said: str) -> str | None:
    day, weekday = "*", None
    if not _CLOCK.search(said):
        # The hour is a guess, which the author sees in the proposed text.
        said = re.sub(_PARTS_OF_DAY, lambda part: f"at {_HOURS[part[1]]}:00", said, count=1)
    if found := _OF_MONTH.search(said):
        day, said = found["day"].replace("first", "1"), said.replace(found[0], " ")
    clock = _CLOCK.search(said)
    if clock is None:
        return None
    said = said.replace(clock[0], " ", 1)
    for pattern, days in _SETS:
        if re.search(pattern, said):
            weekday, said = days, re.sub(pattern, " ", said)
            break
    rest = _FILLERS.sub(" ", re.sub(r"\bto\b|\bthrough\b", "-", said))
    named = re.sub(r"\s*-\s*", "-", " ".join(rest.split()))
    if named and weekday is None and (weekday := _weekdays(named.replace(" ", ","))) is not None:
        named = ""
    if named or (weekday is None and day == "*" and rest.strip()):
        return None
    return f"{_time(clock)} {day} * {weekday or '*'}"


def _time(found: re.Match[str]) -> str:
    if found["word"]:
        return "0 12" if found["word"] == "noon" else "0 0"
    hour, half = int(found["hour"] or found["full"] or found["alone"]), found["half"] or found["of"]
    if half is not None:
        hour = hour % 12 + (12 if half == "pm" else 0)
    return f"{int(found['minute'] or 0)} {hour}"


def _weekdays(text: str) -> str | None:
    """Return `mon..fri` or `mondays,thursdays` as a cron field, `*` for an empty text, and None for other words."""
    if not text:
        return "*"
    if not re.fullmatch(rf"{_DAY}(?:(?:\.\.|-|,){_DAY})*", text):
        return None
    numbers = re.sub(r"[a-z]+", lambda word: str(_DAYS.index(word[0][:3])), text).replace("..", "-")
    return numbers.replace("-0", "-7")


def _of_rule(text: str) -> str | None:
    """Convert a recurrence rule of iCalendar (RFC 5545) that names its time."""
    parts = dict(part.partition("=")[::2] for part in text.strip(";").split(";"))
    kind, count = parts.pop("freq"), parts.pop("interval", "1")
    units = {"minutely": "m", "hourly": "h", "daily": "d"}
    if kind in ("minutely", "hourly") and not parts and count.isdigit():
        return each_nth(int(count), units[kind])
    hour, minute, second = parts.pop("byhour", ""), parts.pop("byminute", "0"), parts.pop("bysecond", "0")
    day, weekdays = parts.pop("bymonthday", "*"), parts.pop("byday", "")
    if parts or count != "1" or second != "0" or kind not in ("daily", "weekly", "monthly"):
        return None
    named = [name for name in weekdays.split(",") if name]
    short = {name[:2]: str(number) for number, name in enumerate(_DAYS)}
    if any(name not in short for name in named) or (kind == "weekly" and not named) or (kind == "monthly" and day == "*"):
        return None
    return f"{minute} {hour} {day} * {','.join(short[name] for name in named) or '*'}" if hour else None
