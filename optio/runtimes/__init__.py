"""Runtimes: one module per agent CLI. Each knows how to call its CLI, what the lines of its output mean, and whether it
succeeded. Pure.

This is the only place that knows runtimes by name.
"""

from optio.runtimes.base import Runtime
from optio.runtimes.claude_code import ClaudeCode
from optio.runtimes.command import Command

RUNTIMES: dict[str, Runtime] = {runtime.name: runtime for runtime in (ClaudeCode(), Command())}
