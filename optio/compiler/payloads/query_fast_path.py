"""Recognise simple queries by a regular expression, to avoid loading the query engine (20 ms) for most files."""

import re

_NAME = r"\.[A-Za-z_][A-Za-z0-9_]{0,60}"
_TEXT = r"'[A-Za-z0-9_.:/@ -]{1,60}'|\"[A-Za-z0-9_.:/@ -]{1,60}\""
_STEP = r"(?a)\.(\w+)|\[(?:(-?[0-9]+)|'([^']*)'|\"([^\"]*)\")\]"
_NUMBER = r"0|-?[1-9][0-9]{0,8}"
# Names and indices only, so the path yields a single value.
PATH = rf"\$(?:{_NAME}|\[(?:{_NUMBER}|{_TEXT})\]){{0,20}}"
_TEST = rf"@(?:{_NAME}){{0,10}} (?:==|!=) (?:{_NUMBER}|{_TEXT}|true|false|null)"
# Comparisons of a path with a value, joined by `&&` or `||`.
FILTER = rf"{_TEST}(?: (?:&&|\|\|) {_TEST}){{0,10}}"


def is_path(text: str) -> bool:
    """Return True for a simple path, such as `$.repository.name` or `$.commits[0]['a-b']`."""
    return re.fullmatch(PATH, text) is not None


def is_filter(text: str) -> bool:
    """Return True for a simple filter, such as `@.action == 'opened' && @.repository.private == false`."""
    return re.fullmatch(FILTER, text) is not None


def steps(path: str) -> tuple[str, ...]:
    """Return the names and indices of a path that has nothing else, as texts."""
    if "[" not in path:
        return tuple(path.split(".")[1:])
    return tuple(next(filter(None, groups), "") for groups in re.findall(_STEP, path))
