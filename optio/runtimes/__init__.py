"""Runtimes: one module per agent CLI. Each knows how to call its CLI, what the lines of its output mean, and whether it
succeeded. Pure.

Other packages bring more of them by the entry point group `optio.runtimes` (see `optio.plugins`).
"""

from collections.abc import Iterator, Mapping
from importlib import import_module

from optio import plugins
from optio.model.runtimes import is_known, known_names
from optio.runtimes.base import Runtime

# The class of each runtime. Its module is loaded when somebody asks for it, since most tasks need one of them.
_CLASSES = {
    "claude-code": ("optio.runtimes.claude_code", "ClaudeCode"),
    "codex": ("optio.runtimes.codex", "Codex"),
    "copilot": ("optio.runtimes.copilot", "Copilot"),
    "gemini": ("optio.runtimes.gemini", "Gemini"),
    "opencode": ("optio.runtimes.opencode", "OpenCode"),
    "command": ("optio.runtimes.command", "Command"),
}


class _Runtimes(Mapping[str, Runtime]):
    """The runtimes by their names, each loaded on first use."""

    def __init__(self) -> None:
        self._loaded: dict[str, Runtime] = {}

    def __getitem__(self, name: str) -> Runtime:
        """Return the runtime; raise KeyError for one that is unknown, and BrokenPlugin."""
        if name not in self._loaded:
            if name in _CLASSES:
                module, cls = _CLASSES[name]
                self._loaded[name] = getattr(import_module(module), cls)()
            elif is_known(name):
                self._loaded[name] = plugins.load(name)
            else:
                raise KeyError(name)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and is_known(name)

    def __iter__(self) -> Iterator[str]:
        return iter(known_names())

    def __len__(self) -> int:
        return len(known_names())


RUNTIMES: Mapping[str, Runtime] = _Runtimes()
