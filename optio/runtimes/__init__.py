"""Runtimes: one module per agent CLI. Each knows how to call its CLI, what the lines of its output mean, and whether it
succeeded. Pure.

This is the only place that knows runtimes by name.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module

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
        if name not in self._loaded:
            module, cls = _CLASSES[name]
            self._loaded[name] = getattr(import_module(module), cls)()
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in _CLASSES

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


RUNTIMES: Mapping[str, Runtime] = _Runtimes()
