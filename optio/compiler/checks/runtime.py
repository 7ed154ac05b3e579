"""Runtime: the program of `agentRuntime: command`, and what is not supported yet."""

from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolve import ResolvedTask


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """`command` goes with its runtime and with no other; connections do not exist yet."""
    spec = task.spec
    if task.knows(("agentRuntime",)):
        if spec.agent_runtime == "command" and spec.command is None:
            yield task.at(
                "OPT118",
                "`agentRuntime: command` without `command`",
                ("agentRuntime",),
                hint="add `command: [program, argument]`",
            )
        elif spec.agent_runtime != "command" and spec.command is not None:
            yield task.at(
                "OPT118", f"`command` with `agentRuntime: {spec.agent_runtime}`", ("command",), key=True,
                hint="delete it, or write `agentRuntime: command`",
            )  # fmt: skip
    if spec.command == []:
        yield task.at("OPT106", "`command` is empty", ("command",), hint="write `[program, argument]`")
    if spec.connections:
        yield task.at(
            "OPT117",
            "connections are not supported yet",
            ("connections",),
            key=True,
            hint="delete `connections`, or leave it empty",
        )
