"""Map time zones in the names of Windows, Exchange and calendars to IANA names (CLDR's `windowsZones`, territory 001).
Imported only for a file with an unknown zone."""

import re
from functools import cache
from zoneinfo import available_timezones

from optio.compiler.suggest import suggest

_WINDOWS = {
    "dateline": "Etc/GMT+12", "hawaiian": "Pacific/Honolulu", "alaskan": "America/Anchorage",
    "pacific": "America/Los_Angeles", "us mountain": "America/Phoenix", "mountain": "America/Denver",
    "central": "America/Chicago", "us eastern": "America/Indianapolis", "eastern": "America/New_York",
    "canada central": "America/Regina", "central america": "America/Guatemala", "sa pacific": "America/Bogota",
    "sa western": "America/La_Paz", "sa eastern": "America/Cayenne", "atlantic": "America/Halifax",
    "newfoundland": "America/St_Johns", "e. south america": "America/Sao_Paulo", "argentina": "America/Buenos_Aires",
    "pacific sa": "America/Santiago", "greenland": "America/Godthab", "azores": "Atlantic/Azores", "gmt": "Europe/London",
    "greenwich": "Atlantic/Reykjavik", "w. europe": "Europe/Berlin", "western european": "Europe/Lisbon",
    "central europe": "Europe/Budapest", "romance": "Europe/Paris", "central european": "Europe/Berlin",
    "eastern european": "Europe/Athens", "w. central africa": "Africa/Lagos", "gtb": "Europe/Bucharest",
    "middle east": "Asia/Beirut", "egypt": "Africa/Cairo", "e. europe": "Europe/Chisinau",
    "south africa": "Africa/Johannesburg", "fle": "Europe/Kiev", "turkey": "Europe/Istanbul", "israel": "Asia/Jerusalem",
    "russian": "Europe/Moscow", "arab": "Asia/Riyadh", "arabic": "Asia/Baghdad", "e. africa": "Africa/Nairobi",
    "iran": "Asia/Tehran", "arabian": "Asia/Dubai", "west asia": "Asia/Tashkent", "pakistan": "Asia/Karachi",
    "india": "Asia/Kolkata", "sri lanka": "Asia/Colombo", "nepal": "Asia/Kathmandu", "central asia": "Asia/Almaty",
    "bangladesh": "Asia/Dhaka", "myanmar": "Asia/Yangon", "se asia": "Asia/Bangkok", "china": "Asia/Shanghai",
    "singapore": "Asia/Singapore", "w. australia": "Australia/Perth", "taipei": "Asia/Taipei", "tokyo": "Asia/Tokyo",
    "japan": "Asia/Tokyo", "korea": "Asia/Seoul", "cen. australia": "Australia/Adelaide", "aus central": "Australia/Darwin",
    "e. australia": "Australia/Brisbane", "aus eastern": "Australia/Sydney", "tasmania": "Australia/Hobart",
    "new zealand": "Pacific/Auckland", "british": "Europe/London", "british summer": "Europe/London",
    "irish": "Europe/Dublin", "greenwich mean": "Europe/London", "coordinated universal": "UTC", "universal": "UTC",
    "indian": "Asia/Kolkata",
}  # fmt: skip
# Abbreviations from the zone database or from common use. None of them follows daylight saving time.
ABBREVIATIONS = {
    "PST": "America/Los_Angeles", "PDT": "America/Los_Angeles", "PST8PDT": "America/Los_Angeles", "PT": "America/Los_Angeles",
    "MST": "America/Denver", "MDT": "America/Denver", "MST7MDT": "America/Denver",
    "CST": "America/Chicago", "CDT": "America/Chicago", "CST6CDT": "America/Chicago",
    "EST": "America/New_York", "EDT": "America/New_York", "EST5EDT": "America/New_York", "ET": "America/New_York",
    "HST": "Pacific/Honolulu", "BST": "Europe/London", "IST": "Asia/Kolkata", "JST": "Asia/Tokyo", "AEST": "Australia/Sydney",
    "CET": "Europe/Berlin", "CEST": "Europe/Berlin", "MET": "Europe/Berlin", "MEZ": "Europe/Berlin", "EET": "Europe/Athens",
    "WET": "Europe/Lisbon", "WEST": "Europe/Lisbon", "EEST": "Europe/Athens", "MSK": "Europe/Moscow", "TRT": "Europe/Istanbul",
    "CT": "America/Chicago", "MT": "America/Denver", "AKST": "America/Anchorage", "BRT": "America/Sao_Paulo",
    "ART": "America/Buenos_Aires", "SAST": "Africa/Johannesburg", "EAT": "Africa/Nairobi", "WAT": "Africa/Lagos",
    "GST": "Asia/Dubai", "PKT": "Asia/Karachi", "NPT": "Asia/Kathmandu", "ICT": "Asia/Bangkok", "WIB": "Asia/Jakarta",
    "SGT": "Asia/Singapore", "HKT": "Asia/Hong_Kong", "PHT": "Asia/Manila", "KST": "Asia/Seoul", "AEDT": "Australia/Sydney",
    "AWST": "Australia/Perth", "ACST": "Australia/Adelaide", "NZST": "Pacific/Auckland", "NZDT": "Pacific/Auckland",
    "AoE": "Etc/GMT+12", "Z": "UTC", "utc": "UTC",
}  # fmt: skip

# Names whose zone depends on the machine.
MACHINE_ZONES = frozenset({"localtime", "posixrules", "Factory"})
_OFFSET = r"(?i:UTC|GMT)?(?P<sign>[+-])(?P<hours>[0-9]{1,2})(?::?(?P<minutes>[0-9]{2}))?"
_TIME = r"(?i)\s*(?:standard |daylight |summer )?time\b.*|\s*\([^()]*\)\s*"


@cache
def known_zones() -> frozenset[str]:
    """Return the names of all zones of this machine. To read them takes 5 ms."""
    return frozenset(available_timezones())


def zone_of_windows_name(name: str) -> str | None:
    """Return the IANA name for `W. Europe Standard Time` or `Eastern Time (US & Canada)`, or None."""
    if len(name) > 100 or not re.search(r"\btime\b|\(", name, re.IGNORECASE):
        return None
    return _WINDOWS.get(re.sub(_TIME, "", name).strip().lower())


def suggest_zone(name: str) -> tuple[str, str | None]:
    """Return the hint for an unknown zone, and the zone name if the hint proposes exactly one."""
    if name in ABBREVIATIONS:
        return f"did you mean `{ABBREVIATIONS[name]}`?", ABBREVIATIONS[name]
    zones = known_zones() - MACHINE_ZONES
    if (offset := re.fullmatch(_OFFSET, name.removeprefix("Etc/"))) is not None:
        return _zone_of_offset(offset, zones)
    zone = zone_of_windows_name(name)
    places = sorted(known_name for known_name in zones if known_name.lower().startswith(f"{name.lower()}/"))
    if places and zone is None:
        return f"name a place in it, such as `{places[0]}`", None
    zones_by_fold = {known_name.lower(): known_name for known_name in zones}
    by_city = {_letters(known_name): known_name for known_name in sorted(zones, reverse=True) if "/" in known_name}
    zone = zone or zones_by_fold.get(name.lower()) or by_city.get(_letters(name))
    # A slip keeps the first letter: `Europe/Munich` is not `Europe/Zurich`.
    zone = zone or suggest(name, [known_name for known_name in zones if _letters(known_name)[:1] == _letters(name)[:1]])
    return f"did you mean `{zone}`?" if zone else "use an IANA name such as `Europe/Berlin`, or `UTC`", zone


def _letters(zone: str) -> str:
    """Return the letters of a zone's city, by which spellings of it are compared."""
    return "".join(filter(str.isalnum, zone.rpartition("/")[2].lower()))


def _zone_of_offset(offset: re.Match[str], zones: frozenset[str]) -> tuple[str, str | None]:
    hours, minutes = int(offset["hours"]), int(offset["minutes"] or 0)
    if not (hours or minutes):
        return "write `UTC`", "UTC"
    # Etc/GMT zones have the opposite sign.
    fixed = f"Etc/GMT{'-' if offset['sign'] == '+' else '+'}{hours}"
    if minutes or fixed not in zones:
        return "name a place with these clocks, such as `Europe/Berlin`", None
    return f"write `{fixed}`, which never changes its clocks, or name a place, such as `Europe/Berlin`", None
