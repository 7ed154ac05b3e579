"""`optio schema`: the JSON Schema of task files, for editors."""

import argparse
import sys
from pathlib import Path

SUMMARY = "print or write the JSON Schema of task files"
NAME = "task.schema.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`optio schema [--write DIR | --check DIR]`."""
    parser.description = SUMMARY
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--write", metavar="DIR", nargs="?", const="schemas", help=f"write DIR/{NAME} (default: schemas)")
    where.add_argument("--check", metavar="DIR", nargs="?", const="schemas", help=f"fail unless DIR/{NAME} is current")


def run(args: argparse.Namespace) -> int:
    """0, or 1 when `--check` finds a file that is missing or out of date."""
    from optio.compiler.schema import task_schema

    text = task_schema()
    if args.write is not None:
        target = Path(args.write) / NAME
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        print(target)
        return 0
    if args.check is not None:
        target = Path(args.check) / NAME
        if target.is_file() and target.read_text(encoding="utf-8") == text:
            return 0
        state = "is out of date" if target.is_file() else "does not exist"
        print(f"optio schema: `{target}` {state} (run `optio schema --write {args.check}`)", file=sys.stderr)
        return 1
    sys.stdout.write(text)
    return 0
