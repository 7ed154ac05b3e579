"""Decide what an unquoted YAML text means, and whether readers disagree about it.

Values follow the YAML 1.2 core schema, so `NO` is a text and `010` is ten. YAML 1.1 readers see `false` and 8. Such a text is
rejected, because nobody can tell which of the two its author meant.
"""

import re
from typing import Any

_INT = re.compile(r"[-+]?[0-9]+")
_OCT, _HEX = r"0o[0-7]+", r"0x[0-9a-fA-F]+"
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_MAX_NUMBER_LENGTH = 4_000
WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".inf": float("inf"), ".Inf": float("inf"), ".INF": float("inf"), "-.inf": float("-inf"), "-.Inf": float("-inf"),
    "-.INF": float("-inf"), "+.inf": float("inf"), "+.Inf": float("inf"), "+.INF": float("inf"),
    ".nan": float("nan"), ".NaN": float("nan"), ".NAN": float("nan"),
}  # fmt: skip
SWITCHES: dict[str, bool] = {
    spelled: meaning
    for word, meaning in {"yes": True, "on": True, "no": False, "off": False}.items()
    for spelled in (word, word.capitalize(), word.upper())
}
# YAML 1.1 and YAML 1.2 readers read each of these differently.
_YAML_1_1_READINGS = {
    r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?": "a number in base 60",
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}.*)?": "a date",
    r"[-+]?0[0-7_]+": "an octal number",
    r"[-+]?0[0-9]+": "a text",
    r"0o[0-7]+": "a text",
    r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]*_[0-9a-fA-F_]*|[1-9][0-9_]*_[0-9_]*)": "a number",
    r"[-+]?[0-9][0-9_]*_[0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?": "a number",
}
_ONE_TO_NINE, _SIGNS = frozenset("123456789"), frozenset(":-_")


def scalar(text: str) -> Any:
    """Return the YAML 1.2 core value of an unquoted scalar: None, a boolean, a number or the text itself."""
    if text in WORDS:
        return WORDS[text]
    first = text[0]
    if first in "0123456789+-.":
        if _INT.fullmatch(text):
            return int(text) if len(text) < _MAX_NUMBER_LENGTH else text
        if _FLOAT.fullmatch(text):
            return float(text)
        if first == "0" and re.fullmatch(_OCT, text):
            return int(text[2:], 8)
        if first == "0" and re.fullmatch(_HEX, text):
            return int(text[2:], 16) if len(text) < _MAX_NUMBER_LENGTH else text
    return text


def yaml_1_1_reading(text: str) -> str | None:
    """Return how a YAML 1.1 reader reads this unquoted text, if it differs from YAML 1.2, or None."""
    if text in SWITCHES:
        return "true" if SWITCHES[text] else "false"
    # Numbers and amounts such as `20m`: without one of these signs, only texts that begin with 0, + or - are read in two ways.
    if (text[:1] in _ONE_TO_NINE and _SIGNS.isdisjoint(text)) or text.lstrip("+-") in ("0", ""):
        return None
    return next((reading for pattern, reading in _YAML_1_1_READINGS.items() if re.fullmatch(pattern, text)), None)


def decimal(text: str) -> str | None:
    """Return the number that was probably meant by a text with leading zeros, or with `_` between digits."""
    return str(int(text.replace("_", ""))) if re.fullmatch(r"[-+]?[0-9][0-9_]{0,30}", text) else None


def single_quoted(text: str) -> str:
    """Return the text as a single-quoted YAML scalar."""
    return "'" + text.replace("'", "''") + "'"
