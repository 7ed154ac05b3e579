"""Parameter mappings: JSONPath (RFC 9535) into a webhook payload, and the `when` filter.

Regular expressions inside a query run on RE2, so that no payload can make a query take exponential time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError, JSONPathQuery
from jsonpath_rfc9535.function_extensions import ExpressionType, FilterFunction
from jsonpath_rfc9535.segments import JSONPathRecursiveDescentSegment
from jsonpath_rfc9535.selectors import FilterSelector, NameSelector

MAX_PATH_LENGTH = 2_000


class PathSyntax(ValueError):
    """Not an RFC 9535 query; `index` is the offending character's place in the text."""

    def __init__(self, message: str, index: int) -> None:
        self.index = index
        super().__init__(message)


class MappingFailed(ValueError):
    """The payload is too deep for this query."""


class _Regex(FilterFunction):
    arg_types: ClassVar = [ExpressionType.VALUE, ExpressionType.VALUE]
    return_type = ExpressionType.LOGICAL

    def __init__(self, whole: bool) -> None:
        self.whole = whole

    def __call__(self, string: object, pattern: object) -> bool:
        if not isinstance(string, str) or not isinstance(pattern, str):
            return False
        compiled = _pattern(pattern)
        if compiled is None:
            return False
        return bool(compiled.fullmatch(string) if self.whole else compiled.search(string))


@lru_cache(maxsize=1024)
def _pattern(pattern: str) -> Any:
    import re2  # few queries match patterns, and to check one none is matched: 2 ms

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error:
        return None


def _environment() -> JSONPathEnvironment:
    environment = JSONPathEnvironment()
    environment.function_extensions["match"] = _Regex(whole=True)
    environment.function_extensions["search"] = _Regex(whole=False)
    return environment


_ENVIRONMENT = _environment()


@dataclass(frozen=True, slots=True)
class Path:
    """A compiled query; `singular` if it can give at most one value."""

    text: str
    query: JSONPathQuery
    steps: tuple[str | int, ...] | None

    @property
    def singular(self) -> bool:
        """Whether it is a chain of names and indices."""
        return self.steps is not None

    def values(self, payload: Any) -> list[Any]:
        """All values the query finds; raises MappingFailed when the payload is nested too deeply."""
        if self.steps is not None:
            return _walk(payload, self.steps)
        try:
            return [node.value for node in self.query.find(payload)]
        except (JSONPathError, RecursionError) as err:
            raise MappingFailed(f"`{self.text}` cannot be followed in this payload: it is nested too deeply") from err


@lru_cache(maxsize=8192)
def compile_path(text: str) -> Path:
    """Raises PathSyntax for what is no RFC 9535 query, and for more than one `..`."""
    if len(text) > MAX_PATH_LENGTH:
        raise PathSyntax(f"longer than {MAX_PATH_LENGTH} characters", MAX_PATH_LENGTH)
    query = _compile(text)
    descents = [segment for segment in query.segments if isinstance(segment, JSONPathRecursiveDescentSegment)]
    if len(descents) > 1:
        raise PathSyntax("more than one `..`", text.rfind(".."))
    return Path(text, query, _steps(query) if query.singular_query() else None)


def _steps(query: JSONPathQuery) -> tuple[str | int, ...]:
    selectors: list[Any] = [segment.selectors[0] for segment in query.segments]
    return tuple(each.name if isinstance(each, NameSelector) else each.index for each in selectors)


def _walk(value: Any, steps: tuple[str | int, ...]) -> list[Any]:
    """What the library finds too, in a twentieth of its time."""
    for step in steps:
        if isinstance(step, str):
            if not isinstance(value, dict) or step not in value:
                return []
        elif not isinstance(value, list) or not -len(value) <= step < len(value):
            return []
        value = value[step]
    return [value]


@dataclass(frozen=True, slots=True)
class When:
    """A compiled `when` filter over `{"body": payload, "event": name}`, and over the payload itself."""

    text: str
    query: JSONPathQuery

    def holds(self, payload: Any) -> bool:
        """Whether the payload passes."""
        try:
            return bool(self.query.find([payload]))
        except (JSONPathError, RecursionError) as err:
            raise MappingFailed("the `when` filter cannot be followed in this payload: it is nested too deeply") from err


@lru_cache(maxsize=2048)
def compile_when(text: str) -> When:
    """`@.action == 'opened'`; raises PathSyntax. RFC 9535 filters test children, hence the one-element list."""
    prefix = "$[?"
    try:
        query = _compile(f"{prefix}{text}]")
    except PathSyntax as err:
        raise PathSyntax(str(err), max(0, min(err.index - len(prefix), len(text)))) from err
    # The author could close our bracket (`@.a][0`): only one segment with one filter is what was asked for.
    if len(query.segments) != 1 or [type(s) for s in query.segments[0].selectors] != [FilterSelector]:
        raise PathSyntax("not one filter expression", 0)
    return When(text, query)


def _compile(text: str) -> JSONPathQuery:
    try:
        return _ENVIRONMENT.compile(text)
    except JSONPathError as err:
        index = err.token.index if err.token is not None else 0
        message = (err.args[0] if err.args else str(err)).split(", line ")[0]
        raise PathSyntax(str(message), max(0, index)) from err
    except RecursionError as err:
        raise PathSyntax("nested too deeply", 0) from err


def from_payload(mapping: Mapping[str, Any], payload: Any) -> dict[str, Any]:
    """Parameters from a webhook body.

    A text is a JSONPath: nothing found leaves the parameter out (its default applies), one value is taken as it is, and
    a query that may give several gives a list. `{literal: X}` is X; any other value is itself.
    """
    params: dict[str, Any] = {}
    for name, source in mapping.items():
        if isinstance(source, Mapping) and set(source) == {"literal"}:
            params[name] = source["literal"]
        elif isinstance(source, str):
            path = compile_path(source)
            values = path.values(payload)
            if not path.singular:
                params[name] = values
            elif values:
                params[name] = values[0]
        else:
            params[name] = source
    return params
