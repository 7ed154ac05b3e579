"""`optio import FILE...`: write tasks of whole files of other systems, and say what became of every key."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from optio.cli import FAILED, OK, USAGE, print_error
from optio.cli.shared.render_run import safe
from optio.cli.shared.write_file import write_file
from optio.compiler.source_tree import MAX_FILE_BYTES, DirectoryTree
from optio.errors import SettingsError
from optio.importing.draft import TaskDraft
from optio.importing.formats import Format, read_drafts
from optio.importing.outcome import ImportedFile, compile_drafts
from optio.importing.report import render_report, report_document
from optio.importing.source import SourceError, read_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write tasks of whole files of other systems, and report what became of every key."
    parser.add_argument("files", nargs="+", metavar="FILE", help="a file to import; `-` is standard input")
    parser.add_argument("-o", "--output", metavar="DIR", help="write the tasks into this task directory; else they are printed")
    parser.add_argument("--force", action="store_true", help="with -o: replace files that exist")
    parser.add_argument(
        "--from", dest="source", choices=[*Format], metavar="FORMAT", help=f"the format of the files: {', '.join(Format)}"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how the report is printed")


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 1 if a file gave no task, or one that does not compile; 2 if a file cannot be read, or must not
    be replaced."""
    if args.force and args.output is None:
        raise SettingsError("--force does nothing by itself: add -o DIR")
    source_format = None if args.source is None else Format(args.source)
    sources: list[tuple[str, Format, list[TaskDraft]]] = []
    problems: list[dict[str, Any]] = []
    for path in args.files:
        try:
            name = "standard input" if path == "-" else path
            sources.append((name, *read_drafts(name, read_text(name, _read(path)), source_format)))
        except SourceError as err:
            problems.append({"path": path, "line": err.line, "message": err.message, "cure": err.cure})
    tree = DirectoryTree(Path(args.output)) if args.output is not None and os.path.isdir(args.output) else None
    files = compile_drafts(sources, tree)
    new_paths, existing_paths = ([], []) if args.output is None else _write(files, Path(args.output), force=args.force)
    if args.format == "json":
        document = {
            "files": list(map(report_document, files)),
            "problems": problems,
            "written": new_paths,
            "existing": existing_paths,
        }
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _print(files, is_printed=args.output is None)
        for path in new_paths:
            print(safe(f"wrote {path}"))
    for problem in problems:
        print_error("optio import: {path}:{line}: {message}: {cure}".format(**problem))
    for path in existing_paths:
        print_error(f"optio import: `{path}` exists and was not changed: give another -o DIR, or --force to replace it")
    if problems or existing_paths:
        return USAGE
    return OK if all(file.is_complete for file in files) else FAILED


def _read(path: str) -> bytes:
    """Return the bytes of a file, at most one more than a file may have. Raises SourceError if there is none to read."""
    if path == "-":
        return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    try:
        if not os.path.isfile(path) and os.path.exists(path):
            kind = "a directory" if os.path.isdir(path) else "not a regular file"
            raise SourceError(f"this is {kind}", "name the files to import")
        with open(path, "rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as err:
        raise SourceError(f"it cannot be read: {err.strerror}", "check the path and its permissions") from err


def _write(files: list[ImportedFile], root: Path, *, force: bool) -> tuple[list[str], list[str]]:
    """Write the tasks. Returns the paths that were written, and those that exist and were left alone."""
    new_paths, existing_paths = [], []
    for task in (task for file in files for task in file.tasks if task.text is not None):
        place = os.path.join(root, task.path)
        if not force and os.path.lexists(place):
            existing_paths.append(place)
            continue
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise SettingsError(f"`{root}` cannot be written: {err.strerror}") from err
        write_file(root, task.path, (task.text or "").encode())
        new_paths.append(place)
    return new_paths, existing_paths


def _print(files: list[ImportedFile], *, is_printed: bool) -> None:
    """Print the tasks to standard output and the reports to standard error, or without tasks the reports to standard output."""
    texts = [(task.path, task.text) for file in files for task in file.tasks if task.text is not None]
    if is_printed:
        sys.stdout.write("---\n".join(f"# {path}\n{text}" for path, text in texts))
        sys.stdout.flush()
    reports = "\n\n".join("\n".join(map(safe, render_report(file))) for file in files)
    print(reports + "\n" if reports else "", file=sys.stderr if is_printed else sys.stdout, end="")
