"""Routes: the path of keys and indices to a value inside a document, such as `("triggers", 1, "config")`. Diagnostics and API
problems locate values by them."""

from typing import Any

Route = tuple[str | int, ...]


def pointer(route: Route) -> str:
    """Return the RFC 6901 JSON Pointer of a route; the whole document is the empty string."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in route)


def show(route: Route) -> str:
    """Return a route for people: `triggers[1].config.path`."""
    text = ""
    for step in route:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "the document"


def value_at(value: Any, route: Route) -> Any:
    """Return the value at a route; None where the route leads nowhere (routes of the validator omit empty names)."""
    for step in route:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
