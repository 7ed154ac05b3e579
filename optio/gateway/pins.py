"""Pins: digests of a tool as its server offered it when somebody read it.

A pin has two parts. `schema` covers the schemas of input and output, and a run whose tool has another one is refused. `text`
covers title and description, in which a server may better its words; `optio connection diff` reports it.
"""

from collections.abc import Mapping, Sequence

from mcp.types import Tool

from optio.model.registry import digest_of

_MAX_LISTED = 5


def pin_of(tool: Tool) -> str:
    """Return the pin of a tool as its server offers it now."""
    schema = digest_of({"input": tool.input_schema, "output": tool.output_schema})
    text = digest_of({"title": tool.title, "description": tool.description})
    return f"schema={_half(schema)} text={_half(text)}"


def changed_parts(pin: str, tool: Tool) -> tuple[str, ...]:
    """Return the parts of a pinned tool that its server offers differently: `schema`, `text`."""
    return tuple(old.partition("=")[0] for old, new in zip(pin.split(), pin_of(tool).split(), strict=True) if old != new)


def is_changed(pins: Mapping[str, str], tool: Tool) -> bool:
    """Return whether a run must not use this tool: it has no pin, or another schema than pinned."""
    pin = pins.get(tool.name)
    return pin is None or "schema" in changed_parts(pin, tool)


def listed(names: Sequence[str]) -> str:
    """Return the first names of tools for a message."""
    return ", ".join(f"`{name}`" for name in names[:_MAX_LISTED])


def _half(digest: str) -> str:
    """Return 128 bits of a digest, which no two schemas share either."""
    return digest.removeprefix("sha256:")[:32]
