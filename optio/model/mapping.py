"""Parameter mappings: JSONPath (RFC 9535) queries into a webhook payload, and the `when` filter.

All queries of the RFC are accepted within these bounds, so that no payload makes one run for long:
- a query is at most 2,000 characters long, has at most one `..` outside its filters, its brackets do not nest by the
  hundred, and its lists of selectors do not multiply to more than 10,000 values;
- `..` goes 100 levels deep, and a filter that searches the payload anew for each item does so in a small payload only;
- patterns run on RE2, in linear time. It knows all of I-Regexp (RFC 9485), and more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from optio.model.jsonpath import (
    MAX_WORK,
    FilterCost,
    FilterSelector,
    JSONPathError,
    JSONPathQuery,
    NameSelector,
    PathSyntax,
    descents,
    filter_cost,
    filters,
    highest_cost,
    parse,
    queries,
)

__all__ = ["MAX_PATH_LENGTH", "MAX_WORK", "MappingFailed", "PathSyntax", "compile_path", "compile_when", "from_payload"]

MAX_PATH_LENGTH = 2_000


class MappingFailed(ValueError):
    """A payload that is too large, or nested too deeply, for the query that was to be applied to it."""


@dataclass(frozen=True, slots=True)
class PayloadPath:
    """A compiled query of a parameter mapping. `steps` is set where it is a plain chain of names and indices, which is walked
    without the library."""

    text: str
    query: JSONPathQuery
    steps: tuple[str | int, ...] | None
    burden: FilterCost

    @property
    def singular(self) -> bool:
        """Return whether the query is a chain of names and indices, so that it gives at most one value."""
        return self.steps is not None

    def values(self, payload: Any) -> list[Any]:
        """Return all values that the query finds; raise MappingFailed when the payload is too large or nested too deeply."""
        if self.steps is not None:
            return _walk(payload, self.steps)
        if not self.burden.allows(payload):
            raise MappingFailed(
                f"`{self.text}` searches the whole payload for each of its items, and this payload is too large for that"
            )
        try:
            return [node.value for node in self.query.find(payload)]
        except (JSONPathError, RecursionError) as err:
            raise MappingFailed(f"`{self.text}` cannot be applied: the payload is nested too deeply") from err


@lru_cache(maxsize=8192)
def compile_path(text: str) -> PayloadPath:
    """Return the compiled query; raise PathSyntax where it is not an RFC 9535 query or exceeds the bounds of this module."""
    if len(text) > MAX_PATH_LENGTH:
        raise PathSyntax(f"longer than {MAX_PATH_LENGTH} characters", MAX_PATH_LENGTH)
    query = parse(text)
    if descents(query) > 1:
        raise PathSyntax("more than one `..`", text.rfind(".."))
    return PayloadPath(text, query, _steps(query) if query.singular_query() else None, filter_cost(query))


def _steps(query: JSONPathQuery) -> tuple[str | int, ...]:
    selectors: list[Any] = [segment.selectors[0] for segment in query.segments]
    return tuple(selector.name if isinstance(selector, NameSelector) else selector.index for selector in selectors)


def _walk(value: Any, steps: tuple[str | int, ...]) -> list[Any]:
    """Return what the library finds too, in a twentieth of its time."""
    for step in steps:
        if isinstance(step, str):
            if not isinstance(value, dict) or step not in value:
                return []
        elif not isinstance(value, list) or not -len(value) <= step < len(value):
            return []
        value = value[step]
    return [value]


@dataclass(frozen=True, slots=True)
class WhenFilter:
    """A compiled `when` filter. It may refer to the payload itself (`@.action`) and to `{"body": payload, "event": name}`."""

    text: str
    query: JSONPathQuery
    burden: FilterCost

    def holds(self, payload: Any) -> bool:
        """Return whether the payload passes the filter; raise MappingFailed for a payload that is too large for it."""
        if not self.burden.allows(payload):
            raise MappingFailed(
                "the `when` filter searches the whole payload for each of its items, and this payload is too large for that"
            )
        try:
            return bool(self.query.find([payload]))
        except (JSONPathError, RecursionError) as err:
            raise MappingFailed("the `when` filter cannot be applied: the payload is nested too deeply") from err


@lru_cache(maxsize=2048)
def compile_when(text: str) -> WhenFilter:
    """Compile a filter such as `@.action == 'opened'`; raise PathSyntax. RFC 9535 filters test the children of a value, hence
    the one-element list."""
    prefix = "$[?"
    try:
        query = parse(f"{prefix}{text}]")
    except PathSyntax as err:
        raise PathSyntax(str(err), max(0, min(err.index - len(prefix), len(text)))) from err
    # The author could close the bracket (`@.a][0`): accept only a single segment with one filter.
    if len(query.segments) != 1 or [type(s) for s in query.segments[0].selectors] != [FilterSelector]:
        raise PathSyntax("not one filter expression", 0)
    # The filter is evaluated once, for the one payload, so only the cost of its own queries counts.
    inner = (inner_query.query for selector in filters(query) for inner_query in queries(selector.expression))
    return WhenFilter(text, query, highest_cost(map(filter_cost, inner)))


def from_payload(mapping: Mapping[str, Any], payload: Any) -> dict[str, Any]:
    """Return the parameters that a mapping takes from a webhook body.

    A text is a JSONPath: a query that finds nothing leaves the parameter out (its default applies), one value is taken as it
    is, and a query that may find several gives a list. `{literal: X}` is X; any other value stands for itself.
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
