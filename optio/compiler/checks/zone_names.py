"""Map time zones in the names of Windows, Exchange and calendars to IANA names (CLDR's `windowsZones`, territory 001), and
large cities to their zone. Imported only for a file with an unknown zone."""

import re
from functools import cache
from zoneinfo import available_timezones

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
_TIME = re.compile(r"\s*(?:standard |daylight |summer )?time\b.*|\s*\([^()]*\)\s*", re.IGNORECASE)


@cache
def known_zones() -> frozenset[str]:
    """Return the names of all zones of this machine. To read them takes 5 ms."""
    return frozenset(available_timezones())


def zone_of_windows_name(name: str) -> str | None:
    """Return the IANA name for `W. Europe Standard Time` or `Eastern Time (US & Canada)`, or None."""
    if len(name) > 100 or not re.search(r"\btime\b|\(", name, re.IGNORECASE):
        return None
    return _WINDOWS.get(_TIME.sub("", name).strip().lower())


def zone_of_city(name: str) -> str | None:
    """Return the zone of a large city that has no zone of its own name, such as `Europe/Munich` or `San Francisco`."""
    city = name.rpartition("/")[2].strip().lower().replace(" ", "_")
    return next((zone for zone, cities in _CITIES.items() if city in cities.split()), None)
