"""Parameter mappings: JSONPath (RFC 9535) into a webhook payload, and the `when` filter.

Every query of the RFC is taken but for these bounds, so that no payload can make one run for long:
- a query is at most 2,000 characters long, has at most one `..` outside its filters, its brackets do not nest by the
  hundred, and its lists of selectors do not multiply to more than 10,000 values;
- `..` goes 100 levels deep, and a filter that searches the payload anew for each item does so in a small payload only;
- patterns run on RE2, in linear time. It knows all of I-Regexp (RFC 9485), and more.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError, JSONPathQuery
from jsonpath_rfc9535.filter_expressions import FilterQuery, RootFilterQuery
from jsonpath_rfc9535.function_extensions import ExpressionType, FilterFunction
from jsonpath_rfc9535.segments import JSONPathRecursiveDescentSegment
from jsonpath_rfc9535.selectors import FilterSelector, NameSelector

MAX_PATH_LENGTH = 2_000
MAX_SELECTED = 10_000
MAX_WORK = 1_000_000
_DEPTH = JSONPathEnvironment.max_recursion_depth
# A class or an escape as a whole, or the dot. What begins with `(?` or holds `\Q` is RE2's own and means what RE2 says.
_DOT = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(\.)", re.DOTALL)


class PathSyntax(ValueError):
    """Not an RFC 9535 query; `index` is the offending character's place in the text."""

    def __init__(self, message: str, index: int) -> None:
        self.index = index
        super().__init__(message)


class MappingFailed(ValueError):
    """The payload is too deep or too large for this query."""


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
    if "." in pattern and "(?" not in pattern and "\\Q" not in pattern:
        pattern = _DOT.sub(lambda found: r"[^\n\r]" if found[1] else found[0], pattern)
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


class _Burden(NamedTuple):
    """How often a query looks at everything: `anew` times the whole payload, `below` times all that is below a value."""

    anew: int = 0
    below: int = 0

    def allows(self, payload: Any) -> bool:
        """Whether a query with it ends soon on this payload."""
        if not any(self):
            return True
        work: int = _size(payload) ** (1 + self.anew) * _DEPTH**self.below
        return work <= MAX_WORK


def _burden(query: JSONPathQuery) -> _Burden:
    return max((_of_filter(selector.expression) for selector in _filters(query)), default=_Burden(), key=_weight)


def _weight(burden: _Burden) -> int:
    return 2 * burden.anew + burden.below


def _of_filter(expression: Any) -> _Burden:
    heaviest = _Burden()
    for each in _queries(expression):
        if not each.query.singular_query():
            inner = _burden(each.query)
            whole = isinstance(each, RootFilterQuery)
            below = not whole and any(isinstance(one, JSONPathRecursiveDescentSegment) for one in each.query.segments)
            heaviest = max(heaviest, _Burden(inner.anew + whole, inner.below + below), key=_weight)
    return heaviest


def _filters(query: JSONPathQuery) -> Iterator[FilterSelector]:
    for segment in query.segments:
        for selector in segment.selectors:
            if isinstance(selector, FilterSelector):
                yield selector


def _queries(expression: Any) -> Iterator[FilterQuery]:
    """The queries of an expression, without those inside them."""
    stack = [expression]
    while stack:
        part = stack.pop()
        if isinstance(part, FilterQuery):
            yield part
        stack += [each for name in ("expression", "left", "right") if (each := getattr(part, name, None)) is not None]
        stack += getattr(part, "args", ())


def _selected(query: JSONPathQuery) -> int:
    """How many values the query may give for one of each kind, its filters' queries included."""
    count = 1
    for segment in query.segments:
        count *= len(segment.selectors)
    for selector in _filters(query):
        for each in _queries(selector.expression):
            count *= _selected(each.query)
    return count


def _size(payload: Any) -> int:
    count, stack = 0, [payload]
    while stack:
        value = stack.pop()
        count += 1
        if isinstance(value, dict):
            stack += value.values()
        elif isinstance(value, list):
            stack += value
    return count


@dataclass(frozen=True, slots=True)
class Path:
    """A compiled query; `singular` if it can give at most one value."""

    text: str
    query: JSONPathQuery
    steps: tuple[str | int, ...] | None
    burden: _Burden

    @property
    def singular(self) -> bool:
        """Whether it is a chain of names and indices."""
        return self.steps is not None

    def values(self, payload: Any) -> list[Any]:
        """All values the query finds; raises MappingFailed when the payload is too large or nested too deeply."""
        if self.steps is not None:
            return _walk(payload, self.steps)
        if not self.burden.allows(payload):
            raise MappingFailed(f"`{self.text}` searches this payload for each item of it, and it is too large for that")
        try:
            return [node.value for node in self.query.find(payload)]
        except (JSONPathError, RecursionError) as err:
            raise MappingFailed(f"`{self.text}` cannot be followed in this payload: it is nested too deeply") from err


@lru_cache(maxsize=8192)
def compile_path(text: str) -> Path:
    """Raises PathSyntax for what is no RFC 9535 query, and for what is beyond the bounds."""
    if len(text) > MAX_PATH_LENGTH:
        raise PathSyntax(f"longer than {MAX_PATH_LENGTH} characters", MAX_PATH_LENGTH)
    query = _compile(text)
    descents = [segment for segment in query.segments if isinstance(segment, JSONPathRecursiveDescentSegment)]
    if len(descents) > 1:
        raise PathSyntax("more than one `..`", text.rfind(".."))
    return Path(text, query, _steps(query) if query.singular_query() else None, _burden(query))


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
    burden: _Burden

    def holds(self, payload: Any) -> bool:
        """Whether the payload passes."""
        if not self.burden.allows(payload):
            raise MappingFailed("the `when` filter searches this payload for each item of it, and it is too large for that")
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
    # The filter is asked once, about the one payload: its own queries cost what they cost by themselves.
    queries = (each.query for selector in _filters(query) for each in _queries(selector.expression))
    return When(text, query, max(map(_burden, queries), default=_Burden(), key=_weight))


def _compile(text: str) -> JSONPathQuery:
    try:
        query = _ENVIRONMENT.compile(text)
        if _selected(query) > MAX_SELECTED:
            raise PathSyntax(f"more than {MAX_SELECTED:,} combinations of selectors", 0)
        return query
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
