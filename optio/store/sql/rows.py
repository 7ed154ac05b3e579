"""Conversion of a database row into a value of `model` or `store.values`, by the types of the value's fields."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from optio.store.sql.transaction import Row, from_micros

T = TypeVar("T")
# What a column of another type than the field's becomes. All other fields take the column's value as it is.
_CONVERSIONS: Mapping[Any, Callable[[Any], Any]] = {
    datetime: from_micros,  # from microseconds
    bool: bool,  # from 0 and 1
    Decimal: Decimal,  # from text
    Mapping: json.loads,
}


def from_row(kind: Callable[..., T], row: Row, **values: Any) -> T:
    """Return a dataclass or named tuple with each field from the column of its name. `values` are for fields that have no such
    column. NULL becomes None, whatever the type."""
    for name, convert in _fields(kind):
        if name not in values:
            column = row[name]
            values[name] = column if convert is None or column is None else convert(column)
    return kind(**values)


@lru_cache(None)
def _fields(kind: Callable[..., Any]) -> tuple[tuple[str, Callable[[Any], Any] | None], ...]:
    return tuple((name, _conversion(hint)) for name, hint in get_type_hints(kind).items())


def _conversion(hint: Any) -> Callable[[Any], Any] | None:
    if get_origin(hint) in (Union, UnionType):
        hint = next(member for member in get_args(hint) if member is not NoneType)
    plain = get_origin(hint) or hint
    if isinstance(plain, type) and issubclass(plain, Enum):
        return plain
    return _CONVERSIONS.get(plain)
