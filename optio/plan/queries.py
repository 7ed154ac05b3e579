"""A normal form for JSONPath: two spellings of one query become equal values. `$.a.b` equals `$['a']["b"]`, and a comparison is
the same from either side.

A filter becomes a formula: True, False, `("and", parts)`, `("or", parts)` or `("is", atom, sign)`, with negations at the atoms.
An atom is `("exists", query)`, `("eq", one, other)`, `("lt", less, more)` or `("call", name, arguments)`; `a <= b` is `lt` or
`eq`.
"""

import re
from functools import lru_cache
from typing import Any

from optio.model.mapping import PathSyntax, compile_path, compile_when

Normal = Any
PAYLOAD = "@"
_NEGATED = {"and": "or", "or": "and"}
# A pattern without operators, which matches only itself.
_LITERAL = re.compile(r"[\w /-]+", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@lru_cache(maxsize=4096)
def normal_path(text: str) -> Normal:
    """Return the normal form of a path into the payload, or the text itself if it is not valid JSONPath."""
    try:
        return _query(compile_path(text).query, "$", top=False)
    except (PathSyntax, RecursionError):
        return text


@lru_cache(maxsize=4096)
def normal_filter(text: str) -> Normal:
    """Return the formula of a `when` filter; raises PathSyntax."""
    selector: Any = compile_when(text).query.segments[0].selectors[0]
    return _formula(selector.expression, True, top=True)


def query_text(query: Normal) -> str:
    """Return a query of a formula as JSONPath text, for messages."""
    root, segments = query
    return f"{root}" + "".join(_segment_text(*segment) for segment in segments)


def _segment_text(kind: str, selectors: Normal) -> str:
    if len(selectors) == 1 and selectors[0][0] == "name":
        name = selectors[0][1]
        if _NAME.fullmatch(name):
            return f"{'..' if kind == 'below' else '.'}{name}"
        return f"{'..' if kind == 'below' else ''}[{name!r}]"
    words = {"all": "*", "filter": "?...", "slice": ":"}
    inner = ", ".join(words.get(selector[0]) or repr(selector[1]) for selector in selectors)
    return f"{'..' if kind == 'below' else ''}[{inner}]"


def _query(query: Any, root: str, *, top: bool) -> Normal:
    """Rebase the query: in a filter, `@` is the payload, which is also the first item of the list at its root."""
    segments = tuple(_segment(segment) for segment in query.segments)
    if top and root == "$" and segments and segments[0] in (("child", (("index", 0),)), ("child", (("index", -1),))):
        return PAYLOAD, segments[1:]
    return root, segments


def _segment(segment: Any) -> Normal:
    kind = "child" if type(segment).__name__ == "JSONPathChildSegment" else "below"
    return kind, tuple(_selector(selector) for selector in segment.selectors)


def _selector(selector: Any) -> Normal:
    match type(selector).__name__:
        case "NameSelector":
            return "name", selector.name
        case "IndexSelector":
            return "index", selector.index
        case "SliceSelector":
            part = selector.slice
            step = 1 if part.step is None else part.step
            return "slice", 0 if part.start is None and step > 0 else part.start, part.stop, step
        case "WildcardSelector":
            return ("all",)
    return "filter", _formula(selector.expression, True, top=False)


def _formula(part: Any, sign: bool, *, top: bool) -> Normal:
    match type(part).__name__:
        case "FilterExpression" | "_GroupExpression":
            return _formula(part.expression, sign, top=top)
        case "PrefixExpression":
            return _formula(part.right, not sign, top=top)
        case "LogicalExpression":
            word = "and" if part.operator == "&&" else "or"
            parts = [_formula(operand, sign, top=top) for operand in (part.left, part.right)]
            return join_formulas(word if sign else _NEGATED[word], parts)
        case "ComparisonExpression":
            return _comparison(part, sign, top=top)
        case "FunctionExtension":
            return _call(part, sign, top=top)
    query = _operand(part, top=top)[1]
    # The payload itself always exists.
    return sign if not query[1] else ("is", ("exists", query), sign)


def join_formulas(word: str, parts: list[Normal]) -> Normal:
    """Return the `and` or `or` of the parts: flat, without repeats, and in an order that does not depend on theirs."""
    idle = word == "and"
    flat: dict[str, Normal] = {}
    for part in parts:
        if part is (not idle):
            return part
        for inner in part[1] if not isinstance(part, bool) and part[0] == word else (part,):
            if inner is not idle:
                flat[repr(inner)] = inner
    parts_in_order = tuple(flat[key] for key in sorted(flat))
    return idle if not parts_in_order else parts_in_order[0] if len(parts_in_order) == 1 else (word, parts_in_order)


def _comparison(part: Any, sign: bool, *, top: bool) -> Normal:
    left, right = (_operand(operand, top=top) for operand in (part.left, part.right))
    match part.operator:
        case "==":
            return _equal(left, right, sign)
        case "!=":
            return _equal(left, right, not sign)
        case "<":
            return _less(left, right, sign)
        case ">":
            return _less(right, left, sign)
    less = _less(left, right, sign) if part.operator == "<=" else _less(right, left, sign)
    return join_formulas("or" if sign else "and", [less, _equal(left, right, sign)])


def _equal(first: Normal, second: Normal, sign: bool) -> Normal:
    if first == second:
        return sign
    if first[0] == second[0] == "value":
        return not sign
    return "is", ("eq", *sorted((first, second), key=repr)), sign


def _less(smaller: Normal, greater: Normal, sign: bool) -> Normal:
    if smaller == greater:
        return not sign
    if smaller[0] == greater[0] == "value":
        a, b = smaller[2], greater[2]
        known = type(a) is type(b) is str or all(type(each) in (int, float) for each in (a, b))
        return (known and a < b) is sign
    return "is", ("lt", smaller, greater), sign


def _call(part: Any, sign: bool, *, top: bool) -> Normal:
    arguments = tuple(_operand(argument, top=top) for argument in part.args)
    if part.name == "match" and arguments[1][:2] == ("value", "str") and _LITERAL.fullmatch(arguments[1][2]):
        return _equal(arguments[0], arguments[1], sign)
    return "is", ("call", part.name, arguments), sign


def _operand(part: Any, *, top: bool) -> Normal:
    match type(part).__name__:
        case "RootFilterQuery":
            return "query", _query(part.query, "$", top=top)
        case "RelativeFilterQuery" | "_RelativeQuery":
            return "query", _query(part.query, PAYLOAD, top=top)
        case "FunctionExtension":
            return "call", part.name, tuple(_operand(argument, top=top) for argument in part.args)
    value = getattr(part, "value", None)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # The type keeps 1 and True apart, which are equal in Python.
    return "value", type(value).__name__, value
