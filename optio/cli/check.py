"""`optio check`: report every mistake in the task files, with its place and its cure.

It imports the compiler and the standard library alone. What only a mistake, a fix or an output format needs is imported where
it is used: a check of one clean file takes about as long as starting Python and loading the YAML parser.
"""

import argparse
import contextlib
import functools
import io
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from optio.cli import print_error
from optio.cli.shared.display_path import display_path
from optio.cli.shared.parallel_compile import CheckOptions, CheckResult, check_in_parallel
from optio.cli.shared.terminal import progress, wants_colour
from optio.compiler import report
from optio.compiler.diagnostics import Diagnostic, apply_strict
from optio.compiler.layers import POLICY
from optio.compiler.pipeline import repeats_policy_error
from optio.compiler.report import Excerpt
from optio.compiler.source_tree import DirectoryTree, Unreadable
from optio.model.isolation import APPLIED

# Displayed path -> (directory that was checked, path in it).
Sources = dict[str, tuple[Path, str]]

FORMATS = ("full", "concise", "json", "sarif", "github", "junit")
CLEAN, FOUND, USAGE = 0, 1, 2
_MAX_SHOWN = 200
# One byte more than a task file may have, so that the compiler reports it as too large.
_MAX_INPUT_BYTES = (1 << 20) + 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags. Written by hand, not as settings, because reading settings would load more than the check itself."""
    parser.description = "Report every mistake in the task files, with its place and its cure."
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files or directories (default: $OPTIO_TASKS, or tasks.d)")
    parser.add_argument("--format", choices=FORMATS, default="full", help="how findings are printed (default: full)")
    parser.add_argument("--strict", action="store_true", help="ask what a pedantic reviewer would: some warnings become errors")
    parser.add_argument("-v", "--verbose", action="store_true", help="print information too")
    name = "check the task file on standard input as if it were this file; print only its own findings"
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--stdin-filename", metavar="PATH", help=name)
    change.add_argument("--fix", action="store_true", help="apply the safe fixes")
    parser.add_argument("--diff", action="store_true", help="print what --fix would change, without changing it")
    parser.add_argument(
        "--unsafe-fixes", action="store_true", help="with --fix or --diff: guesses too; review what they changed"
    )
    parser.add_argument(
        "--jobs", type=_positive_number, metavar="N", help="maximum number of processes (default: one per CPU, up to 16)"
    )


def _positive_number(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"invalid number of processes `{text}`: give 1 or more")


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 0 without errors, 1 with errors (with --diff: if there is anything to fix), 2 for a missing
    path."""
    # File names and contents may hold characters that the terminal's encoding lacks.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    default = os.environ.get("OPTIO_TASKS") or "tasks.d"
    paths = args.paths or [args.stdin_filename or default]
    if (wrong := _usage_error(args, paths)) is not None:
        print_error(f"optio check: {wrong}")
        return USAGE
    stdin_bytes = sys.stdin.buffer.read(_MAX_INPUT_BYTES) if args.stdin_filename else None
    diagnostics: list[Diagnostic] = []
    checked_paths: list[str] = []
    sources: Sources = {}
    files = tasks = unfixed = 0
    for root, selection in _roots(paths, default).items():
        with progress(f"checking {os.path.join(root, '')}"):
            checked, undone = _check_root(root, selection, stdin_bytes, args)
        files, tasks, unfixed = files + len(checked.paths), tasks + checked.tasks, unfixed + undone
        display = _displaying(root)
        diagnostics += _with_display_paths(_without_repeats(checked.diagnostics), display)
        sources |= {display(diagnostic.path): (root, diagnostic.path) for diagnostic in checked.diagnostics}
        if args.format == "junit":
            checked_paths += map(display, checked.paths)
    if args.diff:
        return FOUND if unfixed else CLEAN
    if args.strict:
        diagnostics = apply_strict(diagnostics)
    if not args.verbose:
        diagnostics = [diagnostic for diagnostic in diagnostics if diagnostic.severity != "info"]
    if args.format in ("full", "concise"):
        _print_text(diagnostics, files, tasks, paths, args.format, _excerpts(sources, stdin_bytes))
    else:
        _print_exchange(diagnostics, files, tasks, checked_paths, args.format)
    return FOUND if unfixed or any(d.severity == "error" for d in diagnostics) else CLEAN


def _usage_error(args: argparse.Namespace, paths: list[str]) -> str | None:
    if "-" in args.paths and not os.path.exists("-"):
        return "a file on standard input is checked with `--stdin-filename PATH`"
    if args.stdin_filename and args.paths:
        return "give a PATH or --stdin-filename, not both"
    missing = next((path for path in paths if not os.path.exists(path)), None)
    if missing is not None and not args.stdin_filename:
        return f"`{missing}` does not exist" + (_near_path(missing) if args.paths else " (give a PATH, or set OPTIO_TASKS)")
    inner = next((tree for path in paths if (tree := _inner_tree(path)) is not None), None)
    if inner is not None:
        return f"`{os.path.dirname(inner) or '.'}` is not the task directory, it holds one: write `optio check {inner}`"
    return _flag_conflict(args)


def _flag_conflict(args: argparse.Namespace) -> str | None:
    if args.unsafe_fixes and not (args.fix or args.diff):
        return "--unsafe-fixes does nothing by itself: add --fix or --diff"
    if args.diff and args.stdin_filename:
        return "give --stdin-filename or --diff, not both"
    if args.diff and args.format != "full":
        return f"--diff prints a patch: leave out --format {args.format}"
    return None


def _inner_tree(path: str) -> str | None:
    """Return the task directory in a directory that is none itself: the policy in it would be in the wrong place."""
    inner = os.path.normpath(os.path.join(path, "tasks.d"))
    has_policy = os.path.isfile(os.path.join(inner, "_policy.yaml")) and not os.path.exists(os.path.join(path, "_policy.yaml"))
    return inner if has_policy else None


def _near_path(missing: str) -> str:
    """Return the name beside a missing path that was probably meant, as the end of a sentence."""
    from difflib import get_close_matches

    parent, name = os.path.split(missing.rstrip("/"))
    with contextlib.suppress(OSError):
        near = get_close_matches(name, os.listdir(parent or "."), n=1)
        if near:
            return f": did you mean `{os.path.join(parent, near[0])}`?"
    return ""


def _roots(paths: list[str], default: str) -> dict[Path, list[str] | None]:
    """Return the directories to compile, each with the files of it that were named, or None for all.

    A file inside the task directory belongs to that tree, so that other files are found as the server finds them; any other
    file belongs to its own directory.
    """
    roots: dict[Path, list[str] | None] = {}
    for name in paths:
        path = Path(name)
        if path.is_dir():
            roots[path] = None
            continue
        root = Path(default)
        if not (root.is_dir() and path.absolute().is_relative_to(root.absolute())):
            root = path.parent
        selected = roots.setdefault(root, [])
        relative = path.absolute().relative_to(root.absolute()).as_posix()
        if selected is not None and relative not in selected:
            selected.append(relative)
    return roots


def _check_root(
    root: Path, selection: list[str] | None, stdin_bytes: bytes | None, args: argparse.Namespace
) -> tuple[CheckResult, int]:
    """Check one directory. Returns the findings, and how many fixes were not applied."""
    if args.fix or args.diff:
        return _fix_tree(root, selection, args)
    if stdin_bytes is not None:
        return _check_typed(root, selection, stdin_bytes, args), 0

    return check_in_parallel(root, selection, _check_options(args)), 0


def _check_typed(root: Path, selection: list[str] | None, stdin_bytes: bytes, args: argparse.Namespace) -> CheckResult:
    """Check the text on standard input as a file of its tree, and keep only its own findings."""
    (path,) = selection or ("",)
    tree_check = check_in_parallel(root, None, _check_options(args), typed={path: stdin_bytes})
    return CheckResult((path,), tree_check.tasks, tuple(d for d in tree_check.diagnostics if d.path == path))


def _check_options(args: argparse.Namespace) -> CheckOptions:
    executor = os.environ.get("OPTIO_EXECUTOR", "")
    executor = executor if executor in APPLIED else "process"
    return CheckOptions(pedantic=args.strict or args.verbose, jobs=args.jobs, executor=executor)


def _tree(root: Path, selection: list[str] | None) -> DirectoryTree:
    return DirectoryTree(root, only=selection)


def _fix_tree(root: Path, selection: list[str] | None, args: argparse.Namespace) -> tuple[CheckResult, int]:
    from optio.cli.shared import apply_fixes
    from optio.compiler.fixes import fix_tree

    tree = _tree(root, selection)
    fixes = fix_tree(tree, unsafe=args.unsafe_fixes, pedantic=args.strict or args.verbose)
    if args.diff:
        sys.stdout.writelines(apply_fixes.diff_fixes(root, fixes.before, fixes.files))
        undone = fixes.count
    else:
        unwritten = apply_fixes.write_fixes(root, fixes.files, fixes.before)
        for path in map(_displaying(root), unwritten):
            print_error(f"optio check: `{path}` changed during the check and was not fixed: try again")
        count, files = (
            sum(fixes.counts[path] for path in fixes.files if path not in unwritten),
            len(fixes.files) - len(unwritten),
        )
        if count and args.format == "full":
            print(f"fixed {count} finding{'s' * (count > 1)} in {files} file{'s' * (files > 1)}")
        if fixes.left_out and args.format == "full":
            them = "fixes" if fixes.left_out > 1 else "fix"
            print(f"skipped {fixes.left_out} {them}: a file would get an error, or could not be read")
        undone = sum(fixes.counts[path] for path in unwritten)
    compilation = fixes.compilation
    return CheckResult(tuple(tree.task_files()), len(compilation.registry.tasks), compilation.diagnostics), undone


def _without_repeats(diagnostics: tuple[Diagnostic, ...]) -> tuple[Diagnostic, ...]:
    """Leave out that each task repeats an unreadable policy, where the policy's own finding is there."""
    is_told = any(d.path == POLICY and d.severity == "error" for d in diagnostics)
    return tuple(d for d in diagnostics if not repeats_policy_error(d)) if is_told else diagnostics


def _with_display_paths(diagnostics: tuple[Diagnostic, ...], display: Callable[[str], str]) -> list[Diagnostic]:
    """Return the findings with paths relative to the working directory."""
    displayed = []
    for d in diagnostics:
        related_paths = {r.path: display(r.path) for r in d.related if r.path != d.path}
        message = d.message
        for path, related_path in related_paths.items():
            message = " ".join(related_path if word == path else word for word in message.split(" "))
        related = tuple(r._replace(path=display(r.path)) for r in d.related)
        displayed.append(replace(d, path=display(d.path), message=message, related=related))
    return displayed


def _displaying(root: Path) -> Callable[[str], str]:
    """Return a function that gives the path of a file of the tree as it is shown, once for each file."""
    return functools.cache(functools.partial(display_path, root))


def _print_exchange(diagnostics: list[Diagnostic], files: int, tasks: int, checked: list[str], form: str) -> None:
    from optio.compiler import exchange

    if form == "json":
        print(report.render_json(diagnostics, files=files, tasks=tasks))
    elif form == "sarif":
        print(exchange.sarif(diagnostics, manual=exchange.manual_url(os.environ)))
    elif form == "junit":
        print(exchange.junit(diagnostics, checked))
    else:
        sys.stdout.writelines(line + "\n" for line in exchange.github(diagnostics))


def _excerpts(sources: Sources, stdin_bytes: bytes | None) -> Excerpt:
    """Return a function that gives the text of a file for excerpts. Files that the tree may not read (pipes, files outside)
    have none."""

    def text_of(path: str) -> str | None:
        root, path_within = sources[path]
        try:
            data = _tree(root, None).read(path_within) if stdin_bytes is None else stdin_bytes
        except Unreadable:
            return None
        return data.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")

    return text_of


def _print_text(diagnostics: list[Diagnostic], files: int, tasks: int, paths: list[str], form: str, excerpt: Excerpt) -> None:
    displayed = diagnostics[:_MAX_SHOWN]
    lines = (
        report.render_full(displayed, excerpt, colour=wants_colour()) if form == "full" else report.render_concise(displayed)
    )
    sys.stdout.writelines(line + "\n" for line in lines)
    if len(diagnostics) > len(displayed):
        print(f"... and {sum(diagnostic.count for diagnostic in diagnostics[_MAX_SHOWN:]):,} more")
    if form == "full":
        if files:
            print(report.render_summary(diagnostics, files, tasks))
        else:
            from optio.cli.shared.render_run import safe

            print(safe(f"no task files in {', '.join(f'`{path}`' for path in paths)}"))
