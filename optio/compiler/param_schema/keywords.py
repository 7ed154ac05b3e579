"""Keywords of JSON Schema: where schemas nest inside a schema, and suggestions for misspelt or foreign keywords and formats."""

import re
from collections.abc import Iterator
from typing import Any

from optio.compiler.conversions.schema_words import BY_NAME, IN_LIST, ONE, WORDS, is_sound, translate_keyword
from optio.compiler.suggest import suggest
from optio.model.route import Route

_HOLDING = {word: how for how in (BY_NAME, IN_LIST, ONE) for word in how}
_HOLDING_WORDS = frozenset(_HOLDING)
# Formats under other names, including letter patterns such as `yyyy-MM-dd`.
_FOREIGN_FORMATS = {
    **dict.fromkeys(("datetime", "timestamp", "iso8601", "iso-8601", "date_time", "isodate"), "date-time"),
    **dict.fromkeys(("url", "link", "href"), "uri"),
    **dict.fromkeys(("mail", "e-mail", "emailaddress"), "email"),
    **dict.fromkeys(("guid", "uuid4"), "uuid"),
    **dict.fromkeys(("ip", "ipaddress", "ip-address"), "ipv4"),
    **dict.fromkeys(("domain", "host", "fqdn"), "hostname"),
}


def subschemas(schema: Any, route: Route) -> Iterator[tuple[Route, dict[str, Any]]]:
    """Yield every schema inside this one with its route, itself first."""
    stack: list[tuple[Route, Any]] = [(route, schema)]
    while stack:
        at, sub = stack.pop()
        if not isinstance(sub, dict):
            continue
        yield at, sub
        if _HOLDING_WORDS.isdisjoint(sub):
            continue
        for word, inner in sub.items():
            words = _HOLDING.get(word)
            if words is None:
                continue
            if words is BY_NAME and isinstance(inner, dict):
                stack.extend([((*at, word, name), part) for name, part in inner.items()])
            elif words is IN_LIST and isinstance(inner, list):
                stack.extend([((*at, word, index), part) for index, part in enumerate(inner)])
            elif words is ONE:
                stack.append(((*at, word), inner))


def suggest_keyword(word: str, sub: dict[str, Any]) -> str | None:
    """Return the keyword that was probably meant in this schema. Returns None for a valid keyword, and for a word far from
    all."""
    if word in WORDS or word.startswith("x-"):
        return None
    translation = translate_keyword(word, str(sub.get("type")))
    if translation is not None and word in ("max", "min"):
        return translation
    return (translation if translation not in sub else None) or suggest(word, WORDS)


def suggest_format(word: str) -> str | None:
    """Return the format that another system calls by this word, or that a common pattern describes."""
    name = word.lower()
    if (format_name := _FOREIGN_FORMATS.get(name)) is not None or name in ("date", "time", "uuid", "email", "uri"):
        return format_name or name
    letters = set(re.findall(r"[a-z]", name))
    if not re.fullmatch(r"(?:%?[ydmhs]{1,4}[-/.:t ']{0,3}){2,7}z{0,3}", name):
        return None
    return "date" if "h" not in letters else "date-time" if "y" in letters else "time"


def repair_keywords(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with misspelt keywords corrected, so that one mistake leads to one finding."""
    strange = ((sub, word) for _, sub in subschemas(schema, ()) for word in sub if word not in WORDS)
    wrong: dict[int, dict[str, str]] = {}
    for sub, word in strange:
        suggestion = suggest_keyword(word, sub)
        if suggestion is not None and suggestion not in sub:
            wrong.setdefault(id(sub), {})[word] = suggestion
    repair: dict[str, Any] = _repaired(schema, wrong) if wrong else schema
    return repair if repair is schema or is_sound(repair) else schema


def _repaired(value: Any, wrong: dict[int, dict[str, str]]) -> Any:
    if isinstance(value, list):
        return [_repaired(item, wrong) for item in value]
    if not isinstance(value, dict):
        return value
    repairs = wrong.get(id(value), {})
    return {repairs.get(word, word): _repaired(inner, wrong) for word, inner in value.items()}
