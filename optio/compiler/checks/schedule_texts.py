"""Compare a schedule with what the task says about it: its name, its description, and comments beside it. A time, interval, day
or offset that is named there and contradicts the expression by a usual slip is reported. `schedule_pedantic` calls it for
expressions that parse."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from optio.compiler.checks.schedule import field_span
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.route import Route, value_at
from optio.model.trigger import ScheduleConfig

# All patterns are texts, which `re` compiles where one is used first: most tasks say nothing that needs them.
_MONDAY_TO_FRIDAY = (
    r"(?i)\bmon(?:day)?s?\s*(?:-|\u2013|to|through|till|until)\s*fri|\bweekdays?\b|\b(?:working|business) days?\b"
)
_FORTNIGHT = r"(?i)\b(?:bi-?weekly|fortnight(?:ly)?|every (?:two|2|other|second) weeks?|every 14 days)\b"
# How often the three last fields let a schedule fire that has one minute and one hour.
_HOW_OFTEN = (
    r"(?i)(?<![\w-])(hourly|daily|nightly|weekly|monthly|quarterly|yearly|annual(?:ly)?|every|each|once|per|twice|bi-?\w+ly)\b"
)
_NAMED_BY_FREQUENCY = (
    r"(?i)(hourly|daily|nightly|weekly|monthly|quarterly)(?: [\w-]+)?|[\w -]+,? (hourly|daily|nightly|weekly|monthly|quarterly)"
)
_OFTEN = {"* * *": "daily", "* * N": "weekly", "N * *": "monthly"}
_OTHER_DAYS = (
    r"(?i)\b(?:previous|preceding|last (?:working|business|week)|yesterday|day before"
    r"|weekends?|sat(?:urday)?s?|sun(?:day)?s?)\b"
)
# Days that people write for Monday to Friday who count from another day.
_NEAR_WEEKDAYS = {
    "2-6": "from Tuesday to Saturday",
    "2,3,4,5,6": "from Tuesday to Saturday",
    "0-4": "from Sunday to Thursday",
    "0,1,2,3,4": "from Sunday to Thursday",
    "1-7": "on every day",
}
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_A_DAY = rf"(?i)\b({'|'.join(_DAYS)})s?\b"
_EACH_WEEK = rf"(?i)\b(?:every|each) ({'|'.join(_DAYS)})\b"
_EACH_MONTH = (
    r"(?i)\b(?:monthly|(?:every|each) month|(?:once|first|1st|last|day) (?:day )?(?:of|in|a|per) (?:the |each |every )?month)\b"
)
_EACH_DAY = r"(?i)\b(?:daily|nightly|(?:every|each) (?:day|morning|evening|night))\b"
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NUMBER = rf"(?P<number>\d{{1,2}}|{'|'.join(_NUMBERS)}|fifteen|twenty|thirty)"
_INTERVAL = rf"(?i)\b(?:every|each) (?:{_NUMBER} (?P<unit>min(?:ute)?|hour)s?|half[ -](?:an )?hour)\b|\bhalf-?hourly\b"
_CLOCK = r"(?i)(?<![\d:.])([01]?\d|2[0-3]):([0-5]\d)(?![\d:])(?: ?([ap])\.?m\b)?|(?<![\d:.])(1[0-2]|[1-9]) ?([ap])\.?m\b"
_LOCAL_TIME = r"(?<![\d:.])[\d:.]{1,8}(?: ?[ap]\.?m\.?)?,? (?:in |by )?(?P<place>[A-Z][a-z]+(?: [A-Z][a-z]+)?) time\b"
_ZONE = r"\b(?:UTC|GMT|[A-Z]{1,4}T)\b"
# Words for a schedule that fires once in each hour or day, of which the interval may tell something else.
_ONCE = (
    r"(?i)\b(?:hourly|daily|nightly|weekly|monthly|(?:once|one) (?:an?|per))\b"
    r"|\b(?:every|each) (?:hour|day|morning|evening|night|week)\b|\d:\d\d|\b\d{1,2} ?[ap]m\b"
)
_OFFSET = (
    rf"(?i)(?<!etc/)\b(?:UTC|GMT) ?(?P<sign>[+-]|\u2212) ?0?(?P<hours>\d{{1,2}})(?::00)?(?![:.]?\d)"
    rf"|\b{_NUMBER} hours? (?P<way>ahead|east|behind|west)\b"
)
_HALF_A_DAY = 12
_WINTER, _SUMMER = datetime(2024, 1, 15, tzinfo=UTC), datetime(2024, 7, 15, tzinfo=UTC)


def find_contradictions(task: ResolvedTask, route: Route, config: ScheduleConfig, fields: list[str]) -> Iterator[Diagnostic]:
    """Report one contradiction between the texts and the expression, and one between the texts and the zone."""
    expression, beside = config.cron_expression, comments_beside(task, route)
    about = f"{task.spec.name}\n{task.spec.description}\n{beside}"
    words = about.lower()
    found = None
    if fields[4] in _NEAR_WEEKDAYS:
        found = _weekdays(fields, beside, f"{task.spec.name}\n{task.spec.description}\n{task.prompt}")
    if found is None and fields[4] == "*" and ("1-5" in fields[2:4] or re.search(r"\*/1[45]\Z", fields[2])):
        found = _days_of_month(fields, f"{about}\n{task.prompt}")
    if found is None and ("every" in words or "each" in words or "half" in words):
        found = _interval(fields, about)
    if found is None and (":" in words or "am" in words or "pm" in words or ".m" in words):
        found = _time(fields, about)
    if found is None and "day" in words:
        found = _day(fields, about, beside)
    found = found or _month(fields, about) or _frequency(fields, task.spec.name, about)
    if found is not None:
        index, value, fires = found
        better = " ".join([*fields[:index], value, *fields[index + len(value.split()) :]])
        message = f"`{expression}` fires {fires}"
        span = field_span(task, route, expression, index)
        yield task.at("OPT319", message, route, hint=f"write `{better}`", span=span, value=better, safe=False)
    if " time" in words and "utc" not in words and config.timezone == "UTC":
        yield from _unset_zone(task, (*route[:-1], "timezone"), fields, about)
    if config.timezone.startswith("Etc/GMT"):
        yield from _other_sign(task, (*route[:-1], "timezone"), config.timezone)


# The first field to change, what to write there and behind it, and how the expression fires now.
_Found = tuple[int, str, str] | None


def _weekdays(fields: list[str], beside: str, texts: str) -> _Found:
    """Find weekdays counted as Quartz does beside a text on Monday to Friday that speaks of no day before and of no weekend."""
    others = re.sub(r"(?i)\b(?:never|not)(?: on| at)?(?: the)? weekends?", "", texts)
    said = re.search(_MONDAY_TO_FRIDAY, texts) is not None and re.search(_OTHER_DAYS, others) is None
    if not said and re.search(_MONDAY_TO_FRIDAY, beside) is None:
        return None
    return 4, "1-5", f"{_NEAR_WEEKDAYS[fields[4]]}, not from Monday to Friday: 0 and 7 are Sunday, 1 is Monday"


def _days_of_month(fields: list[str], texts: str) -> _Found:
    """Find `0 9 1-5 * *` and `0 9 * 1-5 *` beside a text on Monday to Friday, and `0 9 */14 * *` beside "biweekly"."""
    if fields[2].startswith("*/"):
        days = "days 1, 15 and 29" if fields[2] == "*/14" else "days 1, 16 and 31"
        fires = f"on {days} of each month: no schedule counts weeks, and 1 and 15 are the nearest"
        return (2, "1,15", fires) if re.search(_FORTNIGHT, texts) else None
    if not re.search(_MONDAY_TO_FRIDAY, texts) or re.search(_OTHER_DAYS, texts) or re.search(_EACH_MONTH, texts):
        return None
    if fields[2] == "1-5":
        return 2, "* * 1-5", "on days 1 to 5 of each month, not from Monday to Friday"
    return 3, "* 1-5", "on each day from January to May, not from Monday to Friday"


def _interval(fields: list[str], about: str) -> _Found:
    """Find `30 * * * *` beside "every 30 minutes": a number alone names one minute or hour."""
    if fields[2:] != ["*", "*", "*"] or not fields[0].isdigit() or not (fields[1] == "*" or fields[1].isdigit()):
        return None
    said = re.search(_INTERVAL, about)
    if said is None or re.search(_ONCE, about):
        return None
    number = _as_number(said["number"]) if said["number"] else 30
    index, size, name, around = (1, 24, "hour", "day") if (said["unit"] or "").lower() == "hour" else (0, 60, "minute", "hour")
    if not number or fields[index] != str(number) or size % number or (index == 0 and fields[1] != "*"):
        return None
    return index, f"*/{number}", f"once in each {around}, at {name} {number}, not {said[0].lower()}"


def _time(fields: list[str], about: str) -> _Found:
    """Find `0 6 * * *` beside "at 18:00", and `8 20 * * *` beside "at 8:20". A zone in the text may explain another hour."""
    if not (fields[0].isdigit() and fields[1].isdigit()) or re.search(r"\d", about) is None or re.search(_ZONE, about):
        return None
    times = {_hour_and_minute(found) for found in re.finditer(_CLOCK, about)}
    minute, hour = int(fields[0]), int(fields[1])
    if len(times) != 1 or (wanted := times.pop()) == (hour, minute):
        return None
    is_half = minute == wanted[1] and abs(hour - wanted[0]) == _HALF_A_DAY
    if not is_half and (minute, hour) != wanted:
        return None
    return 0, f"{wanted[1]} {wanted[0]}", f"at {hour:02}:{minute:02}, not at {wanted[0]:02}:{wanted[1]:02}"


def _hour_and_minute(found: re.Match[str]) -> tuple[int, int]:
    hour, half = int(found[1] or found[4]), (found[3] or found[5] or "").lower()
    return (hour % _HALF_A_DAY + (_HALF_A_DAY if half == "p" else 0) if half else hour), int(found[2] or 0)


def _day(fields: list[str], about: str, beside: str) -> _Found:
    """Find a weekday counted from 1 for Sunday, and a day of the month, beside one named weekday."""
    if fields[3] != "*" or "*" not in (fields[2], fields[4]) or fields[2] == fields[4]:
        return None
    named = {day.lower() for day in re.findall(_A_DAY, about)}
    if len(named) != 1:
        return None
    day = _DAYS.index(named.pop())
    each_week = re.search(_EACH_WEEK, about) is not None
    if fields[2] == "*" and fields[4] == str(day + 1) and (each_week or re.search(_A_DAY, beside)):
        return 4, str(day), f"on {_DAYS[(day + 1) % 7].capitalize()}: 0 and 7 are Sunday, 1 is Monday"
    if fields[2].isdigit() and fields[4] == "*" and each_week:
        return 2, f"* * {day}", f"on day {fields[2]} of each month, not each {_DAYS[day].capitalize()}"
    return None


def _month(fields: list[str], about: str) -> _Found:
    """Find `0 6 * 1 *` beside "monthly": the fourth field names a month, in which it fires on each day."""
    if fields[2] != "*" or fields[4] != "*" or not fields[3].isdigit():
        return None
    if re.search(_EACH_MONTH, about) is None or re.search(_EACH_DAY, about):
        return None
    return 2, f"{fields[3]} *", f"on every day of month {fields[3]}, and in no other month"


def _frequency(fields: list[str], name: str, about: str) -> _Found:
    """Find a name such as "Weekly report" beside `0 9 * * *`. In a longer name the word may belong to the next one, as in
    "Monthly invoice check"."""
    named = re.fullmatch(_NAMED_BY_FREQUENCY, name.strip())
    if named is None or not (fields[0].isdigit() and fields[1].isdigit()) or fields[2] in ("29", "30", "31"):
        return None  # a day that months lack is reported as such
    word = (named[1] or named[2]).lower().replace("nightly", "daily")
    if {each.lower().replace("nightly", "daily") for each in re.findall(_HOW_OFTEN, about)} != {word}:
        return None
    if word == "quarterly":
        return (3, "*/3", "three times a year, not four times") if fields[3] == "*/4" else None
    often = _OFTEN.get(" ".join("N" if field.isdigit() else field for field in fields[2:]))
    better = {"hourly": "* * * *", "daily": "* * *", "weekly": "* * 1", "monthly": "1 * *"}[word]
    return None if often in (None, word) else (1 if word == "hourly" else 2, better, f"{often}, not {word}")


def _other_sign(task: ResolvedTask, route: Route, zone: str) -> Iterator[Diagnostic]:
    """Report `Etc/GMT+2` beside "UTC+2": the names of these zones have the opposite sign."""
    named = re.fullmatch(r"Etc/GMT([+-])(\d{1,2})", zone)
    if named is None or not task.is_known(route):
        return
    about = f"{task.spec.name}\n{task.spec.description}\n{comments_beside(task, route)}"
    said = re.search(_OFFSET, about)
    if said is None and (there := _place_of_other_sign(zone, about)) is not None:
        place, better = there
        side, other = ("behind", "ahead of") if named[1] == "+" else ("ahead of", "behind")
        message = f"`{zone}` is {named[2]} h {side} UTC, and {place} is {other} it"
        yield task.at("OPT319", message, route, hint=f"write `{better}`", value=better, safe=False)
        return
    if said is None or _as_number(said["hours"] or said["number"]) != int(named[2]):
        return
    ahead = said["sign"] == "+" or (said["way"] or "").lower() in ("ahead", "east")
    if ahead != (named[1] == "+"):
        return
    better = f"Etc/GMT{'-' if ahead else '+'}{named[2]}"
    message = f"`{zone}` is {named[2]} h {'behind' if ahead else 'ahead of'} UTC: the sign in these names is reversed"
    hint = f"write `{better}`"
    city = None if re.search(r"(?i)\b(?:summer|daylight|dst|all year)\b", about) else _place_of_other_sign(zone, about)
    if city is not None:
        better, hint = city[1], f"write `{city[1]}`, or `{better}` for a clock without summer time"
    yield task.at("OPT319", message, route, hint=hint, value=better, safe=False)


def _unset_zone(task: ResolvedTask, route: Route, fields: list[str], about: str) -> Iterator[Diagnostic]:
    """Report a schedule without a zone beside "07:30 New York time"."""
    said = re.search(_LOCAL_TIME, about)
    if said is None or value_at(task.document.value, route) is not None or not task.is_known(route):
        return
    if not (fields[0].isdigit() and fields[1].isdigit()):
        return
    # Imported only for a text with such a time.
    from optio.compiler.checks.zone_names import find_zone, zone_of_windows_name

    clock = re.search(_CLOCK, said[0])
    place = find_zone(said["place"]) or zone_of_windows_name(f"{said['place']} Time")
    if clock is None or place is None or _hour_and_minute(clock) != (int(fields[1]), int(fields[0])):
        return
    message = f"without `timezone` this fires at {int(fields[1]):02}:{int(fields[0]):02} UTC, and not {said['place']} time"
    yield task.at("OPT319", message, route[:-1], hint=f"add `timezone: {place}`")


def _place_of_other_sign(zone: str, about: str) -> tuple[str, str] | None:
    """Return a city that the texts name, and its zone, if its clocks show in winter or summer what the zone of the opposite
    sign shows."""
    from zoneinfo import ZoneInfo

    from optio.compiler.checks.zone_names import find_zone

    offset = _WINTER.astimezone(ZoneInfo(zone)).utcoffset()
    for word in re.findall(r"\b[A-Z][a-z]+(?:[ _][A-Z][a-z]+)?", about):
        for name in (word, word.split(" ")[0]):
            there = find_zone(name)
            offsets = [at.astimezone(ZoneInfo(there)).utcoffset() for at in (_WINTER, _SUMMER)] if there else []
            if there and offset is not None and offset not in offsets and -offset in offsets:
                return name, there
    return None


def _as_number(word: str) -> int:
    more = {"fifteen": 15, "twenty": 20, "thirty": 30}
    return int(word) if word.isdigit() else more.get(word.lower()) or _NUMBERS.index(word.lower()) + 1


def comments_beside(task: ResolvedTask, route: Route) -> str:
    """Return the comments on the line of a value and right above it."""
    text = dict(task.document.texts).get(task.document.path_at(route), "")
    if "#" not in text:
        return ""
    head = 0
    while text.startswith("#", head):
        head = text.find("\n", head) + 1 or len(text)
    # Many files have comments at the top alone; the schedule is further down, unless the first line below
    first = text[head : text.find("\n", head)]
    if "#" not in text[head:] and "[" not in first and "&" not in first:
        return ""
    lines, at = text.split("\n"), task.span(route).start.line - 1
    comments = [lines[at].partition(" #")[2]] if at < len(lines) else []
    while at > 0 and lines[at - 1].lstrip().startswith("#"):
        at -= 1
        comments.append(lines[at])
    return "\n".join(comments)
