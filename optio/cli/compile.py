"""Compile task files and print what would be served: every task with its digest, and the digest of the whole generation."""

import argparse
from pathlib import Path

from optio.cli import FAILED, OK, print_error
from optio.cli.shared import flags, output
from optio.cli.shared.parallel_compile import compile_in_parallel
from optio.compiler.report import render_concise, render_summary
from optio.compiler.source_tree import DirectoryTree
from optio.errors import SettingsError
from optio.model.registry import CompiledTask, Registry, canonical


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", metavar="PATH", help="the task directory (default: $OPTIO_TASKS, or tasks.d)")
    parser.add_argument("--json", action="store_true", help="the whole registry as canonical JSON: equal trees, equal bytes")


def run(args: argparse.Namespace) -> int:
    """Run the command. If a file has errors, returns 1 and prints the findings to standard error, nothing to standard
    output."""
    root = Path(args.path) if args.path else flags.read_settings(args).tasks
    if not root.is_dir():
        raise SettingsError(f"there is no task directory `{root}`: give a PATH, or create it with `optio init`")
    compilation = compile_in_parallel(DirectoryTree(root))
    if compilation.diagnostics:
        print_error("\n".join(f"{root}/{line}" for line in render_concise(compilation.diagnostics)))
    if not compilation.ok:
        print_error(render_summary(compilation.diagnostics, compilation.files, len(compilation.registry.tasks)))
        return FAILED
    print(canonical(document(compilation.registry)) if args.json else _table(compilation.registry))
    return OK


def document(registry: Registry) -> dict[str, object]:
    """Return the registry as a JSON object. Origins are left out: moving a file does not change what is served."""
    return {
        "digest": registry.digest,
        "tasks": {task.id: {**task.document, "digest": task.digest} for task in registry.tasks.values()},
        "hooks": {path: task.id for path, task in registry.hooks.items()},
    }


def _table(registry: Registry) -> str:
    rows = [[t.id, t.digest[:19], f"{t.origin.path}:{t.origin.line}", _triggers(t)] for t in registry.tasks.values()]
    count = "1 task" if len(rows) == 1 else f"{len(rows)} tasks"
    return output.table(["TASK", "DIGEST", "FILE", "TRIGGERS"], rows) + f"\n\n{count}, generation {registry.digest}"


def _triggers(task: CompiledTask) -> str:
    return ", ".join(t.type if t.enabled else f"{t.type} (off)" for t in task.spec.triggers) or "-"
