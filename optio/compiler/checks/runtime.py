"""Check `agentRuntime`: `command` belongs to its own runtime."""

from collections.abc import Iterator

from optio import plugins
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.runtimes import DECLARED


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report combinations of `agentRuntime`, `command` and `model` that cannot run."""
    spec = task.spec
    if task.is_known(("agentRuntime",)):
        if spec.agent_runtime not in DECLARED:
            yield from _check_plugin(task)
        if spec.agent_runtime == "command" and spec.command is None and task.is_known(("command",)):
            yield task.at(
                "OPT118",
                "`agentRuntime: command` without `command`",
                ("agentRuntime",),
                hint="add `command: [program, argument]`",
            )
        elif spec.agent_runtime != "command" and spec.command is not None:
            yield task.at(
                "OPT118", f"`command` with `agentRuntime: {spec.agent_runtime}`", ("command",), key=True,
                hint="delete it, as Optio starts the agent itself, or write `agentRuntime: command`",
            )  # fmt: skip
        elif spec.agent_runtime == "command" and spec.model is not None and task.document.path_at(("model",)) == task.path:
            hint = "delete it, and pass the model to the program by an argument or a variable"
            yield task.at("OPT118", "`model` has no effect with `agentRuntime: command`", ("model",), key=True, hint=hint)
    yield from _check_budget(task)
    if isinstance(spec.command, str) and not spec.command.strip():
        yield task.at("OPT106", "`command` is blank", ("command",), hint="write `[program, argument]`")
    elif spec.command == []:
        yield task.at("OPT106", "`command` is empty", ("command",), hint="write `[program, argument]`")


def _check_plugin(task: ResolvedTask) -> Iterator[Diagnostic]:
    try:
        plugins.load(task.spec.agent_runtime)
    except plugins.BrokenPlugin as err:
        hint = f"install another version of it, or use one of {', '.join(DECLARED)}"
        yield task.at("OPT104", str(err), ("agentRuntime",), hint=hint)


def _check_budget(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a budget of 0, and one of runs whose cost nobody could know."""
    spec = task.spec
    if spec.budget_limit == 0 and spec.agent_runtime != "command" and task.is_known(("budgetUsd",)):
        message = "a budget of 0 is spent by the first call of the model, and is not one without a limit"
        hint = 'write what one run may cost, such as `budgetUsd: "0.50"`, or delete it for no limit'
        yield task.at("OPT620", message, ("budgetUsd",), hint=hint)
        return
    if spec.budget_limit is None or not all(task.is_known((key,)) for key in ("agentRuntime", "model", "budgetUsd", "budget")):
        return
    from optio.model.money import why_unpriced  # imported only for a budget, with the prices

    unpriced = why_unpriced(spec)
    if unpriced is not None:
        yield task.at("OPT616", unpriced[0], ("budgetUsd",), key=True, hint=unpriced[1])
