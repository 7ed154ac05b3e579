"""Runtimes: one module per agent CLI. Pure: how to call it, what each line of its output means, whether it succeeded.

This is the only place that knows runtimes by name.
"""

from optio.runtimes.base import Runtime
from optio.runtimes.claude_code import ClaudeCode
from optio.runtimes.command import Command

RUNTIMES: dict[str, Runtime] = {runtime.name: runtime for runtime in (ClaudeCode(), Command())}
