"""Run the tests of task files: the outcome of a delivery, of a slot of the schedule, or of parameters.

The code that serves real deliveries judges them. You need no server, no secret and no agent.
"""

import argparse
import io
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from optio.cli import FAILED, OK, print_error
from optio.cli.shared import client, flags, render_run, terminal, write_file
from optio.cli.shared.render_tests import TreeResults, document, text
from optio.cli.shared.unknown_task import unknown_task
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.report import render_concise
from optio.compiler.source_tree import SUFFIXES, DirectoryTree
from optio.compiler.suggest import suggest
from optio.errors import SettingsError
from optio.model.example import Example
from optio.testing.coverage import Coverage, coverage, percentage
from optio.testing.run import SnapshotUpdate, TreeReport
from optio.testing.run import run_tests as run_tests

FORMATS = ("text", "json", "junit")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="*", metavar="PATH|TASK", help="files, directories or ids of tasks (default: all tasks)")
    parser.add_argument("-k", dest="name", metavar="TEXT", help="only tests with this text in their name")
    parser.add_argument("--update", action="store_true", help="write changed prompts to their snapshot files")
    parser.add_argument("--coverage", action="store_true", help="list the mappings, filters and defaults that no test covers")
    parser.add_argument("--min-coverage", type=_percent, metavar="PERCENT", help="fail if tests cover less; with --coverage")
    parser.add_argument(
        "--replay",
        metavar="RUN",
        help="repeat a run with its agent, whose model's answers come from the run's recording: its id, or @latest",
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="how results are printed (default: text)")
    flags.add_setting_flags(parser, "tasks")
    client.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 1 if a test failed, a file has errors, or coverage is too low, else 0; raises SettingsError for
    names that do not exist."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if args.replay is not None:
        return _replay(args)
    if args.format == "junit" and args.coverage:
        raise SettingsError("JUnit's XML has no place for coverage: leave out --coverage, or --format junit")
    selections = _selections(args.what, flags.read_settings(args).tasks)
    with terminal.progress("running the tests"):
        trees = [
            TreeResults(root, selection.names, *_run_tree(root, selection, args)) for root, selection in selections.items()
        ]
    errors = _print_errors(trees)
    is_counted = args.coverage or args.min_coverage is not None
    coverages = _coverages(trees) if is_counted else []
    # With errors, it is known why there are no tests.
    is_selection = bool(args.what or args.name or errors)
    _print(trees, coverages, args.format, is_selection=is_selection)
    results = [result for tree in trees for result in tree.report.results]
    if not results and is_selection and not errors:
        print_error("no test has a name like that" if args.name else "the task has no tests: write some under `tests:`")
        return FAILED
    is_covered = _is_covered(args, coverages)
    return FAILED if errors or not is_covered or not all(result.passed for result in results) else OK


def _replay(args: argparse.Namespace) -> int:
    has_tests = args.what or args.name is not None or args.update or args.coverage or args.min_coverage is not None
    if has_tests or args.format == "junit":
        raise SettingsError(
            "--replay repeats a run and runs no tests: it goes with --tasks, --format text or json, and a server"
        )
    # It needs the libraries of a worker, and tests need none.
    from optio.cli.shared.replay_run import replay

    return replay(args)


def _print_errors(trees: list[TreeResults]) -> list[Diagnostic]:
    errors = [error for tree in trees for error in tree.errors()]
    if errors:
        print_error("\n".join(render_concise(errors)))
    return errors


def _coverages(trees: list[TreeResults]) -> list[Coverage]:
    return [coverage(tested) for tree in trees for tested in tree.report.tested if not tested.broken]


def _is_covered(args: argparse.Namespace, coverages: list[Coverage]) -> bool:
    """Return whether as much is covered as was asked for; say it if not."""
    if args.min_coverage is None:
        return True
    share = percentage([item for task_coverage in coverages for item in task_coverage.items])
    if share < args.min_coverage:
        print_error(f"{share:.1f}% is covered, less than {args.min_coverage:g}%")
    return bool(share >= args.min_coverage)


@dataclass
class _Selection:
    """The part of a tree that was named on the command line."""

    paths: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    everything: bool = False
    only: bool = False

    def names(self, path: str) -> bool:
        return self.everything or path in self.paths

    def holds(self, task_id: str, path: str) -> bool:
        return task_id in self.ids or self.names(path)


def _selections(words: list[str], default: Path) -> dict[Path, _Selection]:
    """Return the trees with the part of each that was named. A file inside the task directory belongs to that tree."""
    selections: dict[Path, _Selection] = {}
    for word in words or [str(default)]:
        path = Path(word)
        if path.is_dir():
            selections.setdefault(path, _Selection()).everything = True
        elif path.exists():
            inside = default.is_dir() and path.absolute().is_relative_to(default.absolute())
            root = default if inside else path.parent
            tree = selections.setdefault(root, _Selection(only=not inside))
            tree.paths.append(path.absolute().relative_to(root.absolute()).as_posix())
        elif "/" in word or word.endswith(SUFFIXES) or not default.is_dir():
            hint = "" if words else ": create it with `optio init`, or name another with --tasks"
            raise SettingsError(f"`{word}` does not exist" if words else f"there is no task directory `{word}`{hint}")
        else:
            selections.setdefault(default, _Selection()).ids.append(word)
    return selections


def _run_tree(root: Path, selection: _Selection, args: argparse.Namespace) -> tuple[TreeReport, list[SnapshotUpdate]]:
    paths = selection.paths if selection.only and not selection.everything else None

    def is_selected(task_id: str, path: str, example: Example) -> bool:
        return args.name is None or args.name.lower() in f"{task_id}: {example.label}".lower()

    report = run_tests(DirectoryTree(root, only=paths), is_selected)
    task_ids = {tested.task.id for tested in report.tested}
    for task_id in selection.ids:
        if task_id not in task_ids:
            raise _unknown_task(task_id, task_ids, report)
    report = _select_tests(report, selection)
    updates = {result.update.path: result.update for result in report.results if result.update is not None}
    if not args.update or not updates:
        return report, []
    for update in updates.values():
        write_file.write_file(root, update.path, update.prompt.encode())
    return _select_tests(run_tests(DirectoryTree(root, only=paths), is_selected), selection), list(updates.values())


def _select_tests(report: TreeReport, selection: _Selection) -> TreeReport:
    return replace(
        report,
        tested=tuple(
            task_results for task_results in report.tested if selection.holds(task_results.task.id, task_results.task.path)
        ),
    )


def _unknown_task(task_id: str, task_ids: set[str], report: TreeReport) -> SettingsError:
    if report.compilation.broken and not suggest(task_id, task_ids):
        return SettingsError(f"no task `{task_id}`; a file with errors may define it: run `optio check`")
    return unknown_task(task_id, task_ids)


def _print(trees: list[TreeResults], coverages: list[Coverage], form: str, *, is_selection: bool) -> None:
    if form == "junit":
        from optio.testing.junit import SuiteInput, junit

        print(junit([SuiteInput(tree.report, tree.seen, tree.errors()) for tree in trees]))
    elif form == "json":
        print(render_run.as_json(document(trees, coverages)))
    else:
        print("\n".join(text(trees, coverages, is_selection=is_selection)))


def _percent(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = -1
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"invalid percentage `{word}`: give a number from 0 to 100")
    return number
