"""Compare a value with its model and report every mismatch, in the order of the model. `Spec.of` stops at the first mismatch;
authors want all of them."""

import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from msgspec import NODEFAULT, Meta

from optio.model.route import Route
from optio.model.spec import NOT_BLANK, Spec, keys_of

IssueKind = Literal["unknown", "missing", "variant", "type", "word", "blank", "pattern", "least", "most", "longest"]

TEXT, WHOLE, SWITCH, LIST, MAPPING = "text", "a whole number", "true or false", "a list", "a mapping"
_NAMES: dict[Any, str] = {str: TEXT, int: WHOLE, bool: SWITCH, list: LIST, dict: MAPPING}


class ValidationIssue(NamedTuple):
    """A value that its model does not accept. `wanted` depends on `kind`: the name of the type (`type`), the allowed words
    (`word`), or the pattern or bound. It is None for `unknown` and `missing` keys, and for a mapping without a known `type`
    (`variant`)."""

    kind: IssueKind
    route: Route
    value: Any = None
    wanted: Any = None


def find_issues(value: Any, annotation: Any, route: Route = ()) -> Iterator[ValidationIssue]:
    """Yield every mismatch between a value and `wanted`, which is a model or the annotation of one of its keys."""
    origin: Any = get_origin(annotation)
    members = get_args(annotation)
    if annotation is Any:
        return
    if origin is Annotated:
        yield from _of_bounds(value, members[0], members[1], route)
    elif origin in (Union, UnionType):
        yield from _of_union(value, members, route)
    elif origin is Literal:
        if not any(type(value) is type(word) and value == word for word in members):
            yield ValidationIssue("word", route, value, members)
    elif type(value) is not _kind(annotation):
        yield ValidationIssue("type", route, value, _NAMES[_kind(annotation)])
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from find_issues(item, members[0], (*route, index))
    elif isinstance(value, dict) and origin is dict:
        for key, item in value.items():
            for part, member in zip((key, item), members, strict=True):
                yield from find_issues(part, member, (*route, key))
    elif isinstance(value, dict):
        yield from _of_mapping(value, annotation, route)


def required_keys(model: type[Spec]) -> list[str]:
    """Return the keys of a model that have no default, as they are written in YAML."""
    return [key.written for key in keys_of(model) if key.default is NODEFAULT]


def _of_mapping(value: dict[str, Any], model: type[Spec], route: Route) -> Iterator[ValidationIssue]:
    keys = keys_of(model)
    for key in keys:
        if key.written in value:
            yield from find_issues(value[key.written], key.annotation, (*route, key.written))
        elif key.default is NODEFAULT:
            yield ValidationIssue("missing", (*route, key.written))
    names = {key.written for key in keys}
    yield from (ValidationIssue("unknown", (*route, key), value[key]) for key in value if key not in names)


def _of_union(value: Any, members: tuple[Any, ...], route: Route) -> Iterator[ValidationIssue]:
    """Compare the value with the member that it is meant for: a mapping says which by its `type`, other values by their
    kind."""
    if value is None and NoneType in members:
        return
    options = [member for member in members if member is not NoneType]
    if len(options) == 1:
        yield from find_issues(value, options[0], route)
        return
    variants = all(_kind(member) is dict for member in options)
    if variants:
        type_name = value.get("type") if isinstance(value, dict) else None
        option = next((member for member in options if member.__struct_config__.tag == type_name), None)
    else:
        option = next((member for member in options if _kind(member) is type(value)), None)
    if option is not None:
        yield from find_issues(value, option, route)
    elif variants:
        yield ValidationIssue("variant", route, value)
    else:
        yield ValidationIssue(
            "type", route, value, " or ".join(sorted((_NAMES[_kind(member)] for member in options), reverse=True))
        )


def _of_bounds(value: Any, kind: Any, bounds: Meta, route: Route) -> Iterator[ValidationIssue]:
    if bounds.extra is not None:
        if not isinstance(value, str) or not bounds.extra["is_word"](value):  # to list all words loads the plug-ins
            yield ValidationIssue("word", route, value, bounds.extra["words"]())
    elif type(value) is not kind:
        yield ValidationIssue("type", route, value, _NAMES[kind])
    elif bounds.pattern is not None and not re.search(bounds.pattern, value):
        yield ValidationIssue("blank" if bounds.pattern == NOT_BLANK else "pattern", route, value, bounds.pattern)
    elif bounds.max_length is not None and len(value) > bounds.max_length:
        yield ValidationIssue("longest", route, value, bounds.max_length)
    elif bounds.ge is not None and value < bounds.ge:
        yield ValidationIssue("least", route, value, bounds.ge)
    elif bounds.le is not None and value > bounds.le:
        yield ValidationIssue("most", route, value, bounds.le)


def _kind(annotation: Any) -> type:
    """Return the Python type of a value that fits the annotation."""
    kind = get_origin(annotation) or annotation
    if kind is Annotated:
        kind = get_args(annotation)[0]
    return dict if issubclass(kind, Spec) else kind
