"""Map time zones in the names of Windows, Exchange and calendars to IANA names (CLDR's `windowsZones`, territory 001), and
large cities to their zone. Imported only for a file with an unknown zone."""

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
# Large cities whose zone is named after another city.
_CITIES = {
    "Europe/Berlin": "munich hamburg frankfurt cologne stuttgart dusseldorf leipzig dresden hanover nuremberg bonn munchen",
    "Europe/Zurich": "geneva bern basel lausanne",
    "Europe/Vienna": "graz salzburg linz innsbruck",
    "Europe/Rome": "milan naples turin florence venice bologna",
    "Europe/Madrid": "barcelona valencia seville bilbao malaga",
    "Europe/Paris": "lyon marseille toulouse lille nice bordeaux nantes strasbourg",
    "Europe/London": "manchester birmingham edinburgh glasgow cardiff leeds bristol liverpool cambridge oxford",
    "Europe/Amsterdam": "rotterdam the_hague utrecht eindhoven",
    "Europe/Brussels": "antwerp ghent",
    "Europe/Warsaw": "krakow gdansk wroclaw poznan lodz",
    "Europe/Stockholm": "gothenburg malmo",
    "Europe/Lisbon": "porto",
    "Europe/Istanbul": "ankara izmir",
    "America/New_York": "boston washington miami philadelphia atlanta orlando pittsburgh charlotte cleveland baltimore",
    "America/Chicago": "houston dallas austin san_antonio new_orleans minneapolis st_louis memphis nashville milwaukee",
    "America/Los_Angeles": "seattle san_francisco san_diego portland las_vegas san_jose sacramento oakland palo_alto",
    "America/Denver": "salt_lake_city albuquerque",
    "America/Toronto": "ottawa quebec",
    "America/Edmonton": "calgary",
    "America/Sao_Paulo": "rio_de_janeiro brasilia",
    "Asia/Kolkata": "mumbai delhi new_delhi bangalore bengaluru chennai hyderabad pune",
    "Asia/Shanghai": "beijing shenzhen guangzhou",
    "Asia/Tokyo": "osaka kyoto yokohama",
    "Asia/Dubai": "abu_dhabi",
    "Africa/Johannesburg": "cape_town durban pretoria",
}
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
# The place that is usually meant by an offset, which is its winter offset.
PLACES = {
    "-8:00": "America/Los_Angeles", "-7:00": "America/Denver", "-6:00": "America/Chicago", "-5:00": "America/New_York",
    "-4:00": "America/Halifax", "-3:00": "America/Sao_Paulo", "+2:00": "Europe/Berlin", "+3:00": "Europe/Istanbul",
    "+4:00": "Asia/Dubai", "+5:00": "Asia/Karachi", "+5:30": "Asia/Kolkata", "+7:00": "Asia/Bangkok", "+8:00": "Asia/Singapore",
    "+9:00": "Asia/Tokyo", "+10:00": "Australia/Sydney", "+12:00": "Pacific/Auckland",
}  # fmt: skip
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


def zone_of_city(name: str) -> str | None:
    """Return the zone of a large city that has no zone of its own name, such as `Europe/Munich` or `San Francisco`."""
    city = name.rpartition("/")[2].strip().lower().replace(" ", "_")
    return next((zone for zone, cities in _CITIES.items() if city in cities.split()), None)


def suggest_zone(name: str) -> tuple[str, str | None]:
    """Return the hint for an unknown zone, and the zone name if the hint proposes exactly one."""
    if name in ABBREVIATIONS:
        return f"did you mean `{ABBREVIATIONS[name]}`?", ABBREVIATIONS[name]
    zones = known_zones() - MACHINE_ZONES
    if (offset := re.fullmatch(_OFFSET, name.removeprefix("Etc/"))) is not None:
        return _zone_of_offset(offset, zones)
    windows = zone_of_windows_name(name)
    places = sorted(zone for zone in zones if zone.lower().startswith(f"{name.lower()}/"))
    if places and windows is None:
        return f"name a place in it, such as `{places[0]}`", None
    folded = {zone.lower(): zone for zone in zones}
    by_city = {_letters(zone): zone for zone in sorted(zones, reverse=True) if "/" in zone}
    zone = windows or folded.get(name.lower()) or by_city.get(_letters(name)) or zone_of_city(name) or suggest(name, zones)
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
    place = PLACES.get(f"{offset['sign']}{hours}:{minutes:02}", "Europe/Berlin")
    constant = f"; a zone that never changes is `{fixed}`" if not minutes and fixed in zones else ""
    return f"name a place, such as `{place}`{constant}", None
