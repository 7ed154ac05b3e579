"""JSONPath queries as RFC 9535 defines them, and the cost of each query.

The library accepts some filters outside the RFC's grammar, and loses the root of the payload inside a filter within a filter;
both are corrected here. Its functions `match` and `search` run on RE2, so that no payload makes them take exponential time.
`optio.model.mapping` is the entrance for other packages.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError, JSONPathNode, JSONPathNodeList, JSONPathQuery
from jsonpath_rfc9535.filter_expressions import (
    ComparisonExpression,
    Expression,
    FilterContext,
    FilterExpressionLiteral,
    FilterQuery,
    FunctionExtension,
    LogicalExpression,
    PrefixExpression,
    RelativeFilterQuery,
    RootFilterQuery,
)
from jsonpath_rfc9535.function_extensions import ExpressionType, FilterFunction
from jsonpath_rfc9535.parse import Parser
from jsonpath_rfc9535.segments import JSONPathRecursiveDescentSegment
from jsonpath_rfc9535.selectors import FilterSelector, NameSelector
from jsonpath_rfc9535.tokens import TokenStream

__all__ = ["FilterSelector", "JSONPathError", "JSONPathQuery", "NameSelector"]

MAX_SELECTED = 10_000
MAX_WORK = 1_000_000
_DEPTH = JSONPathEnvironment.max_recursion_depth
# A class or an escape as a whole, or a dot. Patterns with `(?` or `\Q` are RE2's own syntax, and are left to RE2.
_DOT = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(\.)", re.DOTALL)


class PathSyntax(ValueError):
    """A text that is not an RFC 9535 query, or exceeds the bounds; `index` is the position of the offending character."""

    def __init__(self, message: str, index: int) -> None:
        self.index = index
        super().__init__(message)


class _GroupExpression(Expression):
    """An expression in parentheses, kept as a node because it is not a value that could be compared."""

    def __init__(self, expression: Expression) -> None:
        super().__init__(expression.token)
        self.expression = expression

    def evaluate(self, context: FilterContext) -> object:
        return self.expression.evaluate(context)

    def __str__(self) -> str:
        return f"({self.expression})"


class _RelativeQuery(RelativeFilterQuery):
    """A query from the current item, with the payload as its root. `@` alone gives the item as its one node."""

    __slots__ = ()

    def evaluate(self, context: FilterContext) -> object:
        nodes: Iterable[JSONPathNode] = [JSONPathNode(value=context.current, location=(), parent=None, root=context.root)]
        for segment in self.query.segments:
            nodes = segment.resolve(nodes)
        return JSONPathNodeList(nodes)


class _PathParser(Parser):
    def parse_grouped_expression(self, stream: TokenStream) -> Expression:
        return _GroupExpression(super().parse_grouped_expression(stream))

    def parse_relative_query(self, stream: TokenStream) -> Expression:
        parsed = super().parse_relative_query(stream)
        return _RelativeQuery(parsed.token, parsed.query) if isinstance(parsed, FilterQuery) else parsed


class _Regex(FilterFunction):
    arg_types: ClassVar = [ExpressionType.VALUE, ExpressionType.VALUE]
    return_type = ExpressionType.LOGICAL

    def __init__(self, is_whole: bool) -> None:
        self.is_whole = is_whole

    def __call__(self, string: object, pattern: object) -> bool:
        if not isinstance(string, str) or not isinstance(pattern, str):
            return False
        compiled = _pattern(pattern)
        if compiled is None:
            return False
        try:
            return bool(compiled.fullmatch(string) if self.is_whole else compiled.search(string))
        except UnicodeEncodeError:  # a lone surrogate, which no pattern matches
            return False


@lru_cache(maxsize=1024)
def _pattern(pattern: str) -> Any:
    import re2  # costs 2 ms, and few queries match patterns

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    if "." in pattern and "(?" not in pattern and "\\Q" not in pattern:
        pattern = _DOT.sub(lambda match: r"[^\n\r]" if match[1] else match[0], pattern)
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError):
        return None


class _PathEnvironment(JSONPathEnvironment):
    parser_class = _PathParser

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        self.function_extensions["match"] = _Regex(is_whole=True)
        self.function_extensions["search"] = _Regex(is_whole=False)


_ENVIRONMENT = _PathEnvironment()


def parse(text: str) -> JSONPathQuery:
    """Return the compiled query; raise PathSyntax with the position for text outside RFC 9535 or beyond the bounds."""
    try:
        text.encode()
        query = _ENVIRONMENT.compile(text)
        _refuse_malformed(query)
        if _max_selected(query) > MAX_SELECTED:
            raise PathSyntax(f"more than {MAX_SELECTED:,} combinations of selectors", 0)
    except UnicodeEncodeError as err:
        raise PathSyntax("half a character (a lone surrogate)", err.start) from err
    except JSONPathError as err:
        index = err.token.index if err.token is not None else 0
        message = (err.args[0] if err.args else str(err)).split(", line ")[0]
        raise PathSyntax(str(message), max(0, index)) from err
    except RecursionError as err:
        raise PathSyntax("nested too deeply", 0) from err
    except OverflowError as err:
        raise PathSyntax("a number that is too large", max(0, text.find("e"))) from err
    return query


def _refuse_malformed(query: JSONPathQuery) -> None:
    for selector in filters(query):
        _refuse_no_test(selector.expression.expression)
        for each in queries(selector.expression):
            _refuse_malformed(each.query)


def _refuse_no_test(expression: Expression) -> None:
    """Raise PathSyntax unless a filter, and each side of `&&` and `||`, is a comparison, a query or a function that gives yes
    or no."""
    if isinstance(expression, LogicalExpression):
        _refuse_no_test(expression.left)
        _refuse_no_test(expression.right)
    elif isinstance(expression, PrefixExpression):
        if isinstance(expression.right, (ComparisonExpression, LogicalExpression, PrefixExpression)):
            raise PathSyntax("`!` stands before a query, a function or parentheses", expression.token.index)
        _refuse_no_test(expression.right)
    elif isinstance(expression, _GroupExpression):
        _refuse_no_test(expression.expression)
    elif isinstance(expression, ComparisonExpression):
        for side in (expression.left, expression.right):
            if isinstance(side, (_GroupExpression, PrefixExpression, ComparisonExpression, LogicalExpression)):
                raise PathSyntax("only a value, a query for one or a function can be compared", side.token.index)
    elif isinstance(expression, FilterExpressionLiteral):
        raise PathSyntax("a value alone is not a condition", expression.token.index)
    elif isinstance(expression, FunctionExtension) and _ENVIRONMENT.function_extensions[expression.name].return_type == _VALUE:
        raise PathSyntax(f"the result of {expression.name}() must be compared", expression.token.index)


_VALUE = ExpressionType.VALUE


class FilterCost(NamedTuple):
    """The number of times that a query may search everything: `anew` counts searches of the whole payload, `below` searches of
    all below a value."""

    anew: int = 0
    below: int = 0

    def allows(self, payload: Any) -> bool:
        """Return whether a query of this cost ends soon on this payload: its estimated steps stay within `MAX_WORK`."""
        if not any(self):
            return True
        work: int = _size(payload) ** (1 + self.anew) * _DEPTH**self.below
        return work <= MAX_WORK

    @property
    def weight(self) -> int:
        """Return the number by which two costs are compared: a search of the whole payload counts twice."""
        return 2 * self.anew + self.below


def filter_cost(query: JSONPathQuery) -> FilterCost:
    """Return the cost of the most expensive filter of a query, zero where it has none."""
    return highest_cost(_expression_cost(selector.expression) for selector in filters(query))


def highest_cost(burdens: Iterable[FilterCost]) -> FilterCost:
    """Return the highest of these costs, or a cost of zero where there are none."""
    return max(burdens, default=FilterCost(), key=lambda cost: cost.weight)


def _expression_cost(expression: Any) -> FilterCost:
    costs = []
    for query in queries(expression):
        if not query.query.singular_query():
            inner = filter_cost(query.query)
            is_rooted = isinstance(query, RootFilterQuery)
            is_descending = not is_rooted and any(
                isinstance(segment, JSONPathRecursiveDescentSegment) for segment in query.query.segments
            )
            costs.append(FilterCost(inner.anew + is_rooted, inner.below + is_descending))
    return highest_cost(costs)


def descents(query: JSONPathQuery) -> int:
    """Return the number of `..` segments of a query, without those inside its filters."""
    return sum(isinstance(segment, JSONPathRecursiveDescentSegment) for segment in query.segments)


def filters(query: JSONPathQuery) -> Iterator[FilterSelector]:
    """Yield the filters of a query, without those inside other filters."""
    for segment in query.segments:
        for selector in segment.selectors:
            if isinstance(selector, FilterSelector):
                yield selector


def queries(expression: Any) -> Iterator[FilterQuery]:
    """Yield the queries in a filter expression, without those inside their own filters."""
    stack = [expression]
    while stack:
        part = stack.pop()
        if isinstance(part, FilterQuery):
            yield part
        stack += [operand for name in ("expression", "left", "right") if (operand := getattr(part, name, None)) is not None]
        stack += getattr(part, "args", ())


def _max_selected(query: JSONPathQuery) -> int:
    """Return how many values a query may give for one value of each kind, the queries of its filters included."""
    count = 1
    for segment in query.segments:
        count *= len(segment.selectors)
    for selector in filters(query):
        for each in queries(selector.expression):
            count *= _max_selected(each.query)
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
