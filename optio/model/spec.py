"""Spec: a mapping of a file as a type. Keys in camelCase, none that is unknown, nothing converted.

All that a type asks of a value can be read from it, so that a reader of files finds everything that is wrong at once
(`compiler.validation`). Patterns end in `\\Z`: `$` lets a line break pass. What may be a text or a list has no pattern: msgspec
0.22 frees such a pattern as if it were a type, and the interpreter crashes at its end.
"""

import threading
from functools import lru_cache
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import NODEFAULT, Meta

S = TypeVar("S", bound="Spec")

INT32 = 2**31 - 1
NOT_BLANK = r"\S"
_NAME = r"^[A-Za-z_][A-Za-z0-9_]*\Z"

Text = Annotated[str, Meta(pattern=NOT_BLANK)]
# These patterns accept what `text.parse_duration` and `text.parse_money` can read.
Duration = Annotated[str, Meta(pattern=r"^(?=.*[1-9])([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?\Z")]
ReplayWindow = Annotated[str, Meta(pattern=r"^(none|(?=.*[1-9])([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?)\Z")]
Money = Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,4})?\Z")]
Namespace = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")]
EnvName = Annotated[str, Meta(pattern=_NAME)]
SecretName = Annotated[str, Meta(pattern=_NAME, max_length=128)]
HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]+\Z", max_length=64)]
Count = Annotated[int, Meta(ge=0, le=INT32)]
Positive = Annotated[int, Meta(ge=1, le=INT32)]
Mapping = dict[str, Any]
_building = threading.Lock()
_built: set[type] = set()


def portable(pattern: str) -> str:
    """Return the pattern in the syntax of other regular expression engines, for which `$` is the end of the text."""
    return pattern.replace(r"\Z", "$")


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A mapping in a file, as a type: camelCase keys, unknown keys refused, nothing converted. Subclasses document each key,
    and these texts become the JSON Schema and editor hovers."""

    @classmethod
    def of(cls: type[S], value: Any) -> S:
        """Build the type from a JSON value; raise ValueError, which names the first value that does not fit."""
        if cls not in _built:
            _build(cls)
        return msgspec.convert(value, cls)

    def replace(self: S, **changes: Any) -> S:
        """Return a copy with other values for some attributes; they are not validated."""
        return msgspec.structs.replace(self, **changes)


def _build(model: type[Spec]) -> None:
    """Prepare a type under a lock: msgspec inspects a type when it first meets it, and crashes where two threads do so at
    once."""
    with _building:
        msgspec.json.Decoder(model)
        _built.add(model)


class SpecKey(msgspec.Struct, frozen=True):
    """A key of a mapping: its spelling in files, its attribute, annotation and default. `default` is NODEFAULT where the key is
    required."""

    written: str
    name: str
    annotation: Any
    default: Any


@lru_cache(maxsize=64)
def keys_of(model: type[Spec]) -> tuple[SpecKey, ...]:
    """Return all keys of a mapping in their order, headed by the key that selects its kind (`type`) if it has one."""
    kind = model.__struct_config__.tag_field
    fields = msgspec.structs.fields(model)
    return (
        *([] if kind is None else [SpecKey(kind, kind, str, NODEFAULT)]),
        *(
            SpecKey(f.encode_name, f.name, f.type, f.default if f.default_factory is NODEFAULT else f.default_factory())
            for f in fields
        ),
    )


def names_of(model: type[Spec]) -> list[str]:
    """Return the keys of a mapping as files spell them."""
    return [key.written for key in keys_of(model)]


def to_json(spec: Spec, *, defaults: bool = True) -> dict[str, Any]:
    """Return the mapping that `of` reads, without values that are None, and with `defaults=False` without those that equal
    their default."""
    document: dict[str, Any] = {}
    for key in keys_of(type(spec)):
        value = getattr(spec, key.name)
        if value is not None and (defaults or value != key.default):
            document[key.written] = _to_json(value, defaults=defaults)
    return document


def _to_json(value: Any, *, defaults: bool) -> Any:
    if isinstance(value, Spec):
        return to_json(value, defaults=defaults)
    return [_to_json(item, defaults=defaults) for item in value] if isinstance(value, list) else value
