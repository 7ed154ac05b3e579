"""Print the prompt of a task with its parameters filled in, byte for byte as a run would get it. Needs no server."""

import argparse
import json
import sys

from optio.cli import FAILED, OK, print_error
from optio.cli.shared import flags, render_run, run_params
from optio.cli.shared.unknown_task import unknown_task
from optio.compiler.diagnostics import Severity
from optio.compiler.layers import Bases, value_origins
from optio.compiler.pipeline import Compilation, TreePolicy, compile_file, compile_tree
from optio.compiler.report import render_concise
from optio.compiler.source_tree import DirectoryTree, SourceTree
from optio.errors import Invalid, SettingsError
from optio.model.prompt import placeholders
from optio.model.registry import CompiledTask
from optio.model.result import with_instructions
from optio.model.route import show as name_of
from optio.model.route import value_at
from optio.runs.submit import prepare_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="the task's id, or its file in the task directory")
    run_params.add_arguments(parser)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--json", action="store_true", help="task, effective parameters and prompt as JSON")
    mode.add_argument(
        "--explain", action="store_true", help="print every value of the task and the file that sets it, instead of the prompt"
    )
    flags.add_setting_flags(parser, "tasks")


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 1 if the task's file or the parameters have errors, else 0; raises SettingsError for an unknown
    task."""
    root = flags.read_settings(args).tasks
    if not root.is_dir():
        raise SettingsError(f"there is no task directory `{root}`: create it with `optio init`, or name another with --tasks")
    parameters = run_params.read_parameters(args)
    if args.explain and parameters:
        raise SettingsError("--explain shows the task, not a run of it: leave out -p")
    compilation = compile_tree(DirectoryTree(root))
    task = _find(compilation, args.task, str(root))
    if task is None:
        errors = [d for d in compilation.diagnostics if d.severity is Severity.ERROR]
        print_error("\n".join(f"{root}/{line}" for line in render_concise(errors)))
        print_error(f"optio render: `{args.task}` is not among the tasks without errors")
        return FAILED
    if args.explain:
        _explain(task, DirectoryTree(root))
        return OK
    try:
        prepared = prepare_run(task, parameters, new_id="", trigger="manual", actor="")
    except Invalid as err:
        lines = [
            str(err),
            *(f"  {p.pointer.removeprefix('/params/')}: {p.message}{f' ({p.hint})' if p.hint else ''}" for p in err.problems),
        ]
        print_error("optio render: " + "\n".join(lines))
        return FAILED
    prompt = with_instructions(prepared.prompt, task.spec)
    if args.json:
        print(render_run.as_json({"taskId": task.id, "digest": task.digest, "params": prepared.params, "prompt": prompt}))
        return OK
    sys.stdout.flush()
    sys.stdout.buffer.write(prompt.encode("utf-8", "surrogatepass"))
    sys.stdout.buffer.flush()
    if sys.stdout.isatty() and not prompt.endswith("\n"):
        print()
    unfilled = [name for name in placeholders(task.prompt) if name not in prepared.params]
    if unfilled:
        print_error(f"\nnot filled in: {', '.join('{{' + name + '}}' for name in unfilled)}")
    return OK


def _explain(task: CompiledTask, tree: SourceTree) -> None:
    """Print a line for each value of the task: the file and line that set it, and the value."""
    resolved = compile_file(task.origin.path, tree, Bases(tree), TreePolicy(tree)).task
    if resolved is None:
        return
    rows = [(f"{path}:{line}", route) for route, path, line in value_origins(resolved.document)]
    width = max((len(place) for place, _ in rows), default=0)
    for place, route in rows:
        value = json.dumps(value_at(resolved.document.value, route), ensure_ascii=False)
        print(render_run.safe(f"{place:<{width}}  {name_of(route)}: {value if len(value) <= 80 else value[:77] + '...'}"))


def _find(compilation: Compilation, name: str, root: str) -> CompiledTask | None:
    """Return the task by id or path; None if a file with errors may hold it. Raises SettingsError if none can."""
    tasks = compilation.registry.tasks
    if name in tasks:
        return tasks[name]
    path = name.removeprefix("./").removeprefix(root.rstrip("/") + "/")
    for task in tasks.values():
        if task.origin.path == path:
            return task
    if compilation.broken:
        return None
    raise unknown_task(name, tasks)
