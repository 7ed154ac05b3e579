"""Time zones as Windows, Exchange and calendars name them, with the IANA name of each zone's main place (CLDR's
`windowsZones`, territory 001). Loaded only for a file with an unknown zone."""

import re

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
_TIME = re.compile(r"\s*(?:standard |daylight |summer )?time\b.*|\s*\([^()]*\)\s*", re.IGNORECASE)


def zone_called(name: str) -> str | None:
    """The IANA name for `W. Europe Standard Time` or `Eastern Time (US & Canada)`."""
    if len(name) > 100 or not re.search(r"\btime\b|\(", name, re.IGNORECASE):
        return None
    return _WINDOWS.get(_TIME.sub("", name).strip().lower())
