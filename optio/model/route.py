"""Routes: the path of keys and indices to a value inside a document."""

from typing import Any

Route = tuple[str | int, ...]


def pointer(route: Route) -> str:
    """RFC 6901 JSON Pointer; the whole document is the empty string."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in route)


def show(route: Route) -> str:
    """For people: `triggers[1].config.path`."""
    text = ""
    for step in route:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "the document"


def value_at(value: Any, route: Route) -> Any:
    """What stands there; None where the route leads nowhere (a validator's leaves out empty names)."""
    for step in route:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
