"""Plug-ins: agent runtimes of other packages, found by the entry point group `optio.runtimes`. One is loaded when somebody
names it, and one that cannot be loaded disables nothing else."""

from functools import cache
from typing import Any

GROUP = "optio.runtimes"
# Of the interface that `optio.runtimes.base` describes; a plug-in says for which one it was written.
SEAM_VERSION = 1


class BrokenPlugin(Exception):
    """A plug-in that cannot be used. The text names it, its package and the reason."""


@cache
def names() -> tuple[str, ...]:
    """Return the names of the runtimes that other packages bring. Takes about 40 ms the first time."""
    return tuple(sorted(_entry_points()))


@cache
def load(name: str) -> Any:
    """Return the runtime of this name, an object of the plug-in's class; raise BrokenPlugin."""
    entry = _entry_points()[name]
    try:
        runtime = entry.load()()
        problem = _problem(runtime, name)
    except Exception as err:
        problem = f"{type(err).__name__}: {err}"
    if problem is not None:
        raise BrokenPlugin(f"the runtime `{name}` of {package_of(name)} cannot be loaded: {problem}")
    return runtime


def package_of(name: str) -> str:
    """Return the package that brings this runtime, with its version, in words."""
    entry = _entry_points().get(name)
    if entry is None:
        return "Optio"
    return "its package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _problem(runtime: Any, name: str) -> str | None:
    seam = getattr(runtime, "seam_version", None)
    if seam != SEAM_VERSION:
        return f"it is written for version {seam} of the interface, and this Optio has version {SEAM_VERSION}"
    missing = [each for each in ("declaration", "side", "stall", "invoke", "reader") if not hasattr(runtime, each)]
    if missing:
        return f"it has no `{missing[0]}`"
    declared = getattr(runtime.declaration, "name", None)
    return None if declared == name else f"its declaration has the name `{declared}`"


def _entry_points() -> dict[str, Any]:
    # Loaded here: most commands never ask for a runtime that Optio does not bring.
    from importlib.metadata import entry_points

    return {each.name: each for each in entry_points(group=GROUP)}
