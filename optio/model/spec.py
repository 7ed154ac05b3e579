"""Spec: a mapping of a file as a type. Keys in camelCase, none that is unknown, nothing converted.

All that a type asks of a value can be read from it, so that a reader of files finds everything that is wrong at once
(`compiler.misfits`). Patterns end in `\\Z`: `$` lets a line break pass. What may be a text or a list has no pattern: msgspec
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
# Numbers within bounds of `text.duration` and `text.money`, which read what fits here.
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
    """The pattern as other readers of regular expressions write it, for whom `$` is the end."""
    return pattern.replace(r"\Z", "$")


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A mapping of a file."""

    @classmethod
    def of(cls: type[S], value: Any) -> S:
        """From what JSON can say; raises ValueError, which names the first thing that does not fit."""
        if cls not in _built:
            _build(cls)
        return msgspec.convert(value, cls)

    def replace(self: S, **changes: Any) -> S:
        """The same with other values for some attributes; they are not looked at."""
        return msgspec.structs.replace(self, **changes)


def _build(model: type[Spec]) -> None:
    """msgspec takes a type apart when it first meets it, and crashes where another thread meets it meanwhile."""
    with _building:
        msgspec.json.Decoder(model)
        _built.add(model)


class SpecKey(msgspec.Struct, frozen=True):
    """A key of a mapping: how it is written, and the attribute that it leads to. `default` is NODEFAULT where it must be
    given."""

    written: str
    name: str
    annotation: Any
    default: Any


@lru_cache(maxsize=64)
def keys_of(model: type[Spec]) -> tuple[SpecKey, ...]:
    """All of a mapping, in their order; first the one that tells of which kind it is, if it has one."""
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
    """The keys of a mapping as a file has them."""
    return [key.written for key in keys_of(model)]


def to_json(spec: Spec, *, defaults: bool = True) -> dict[str, Any]:
    """What `of` reads, without what is None, and if they are not wanted without values that are the default."""
    found: dict[str, Any] = {}
    for key in keys_of(type(spec)):
        value = getattr(spec, key.name)
        if value is not None and (defaults or value != key.default):
            found[key.written] = _to_json(value, defaults=defaults)
    return found


def _to_json(value: Any, *, defaults: bool) -> Any:
    if isinstance(value, Spec):
        return to_json(value, defaults=defaults)
    return [_to_json(item, defaults=defaults) for item in value] if isinstance(value, list) else value
