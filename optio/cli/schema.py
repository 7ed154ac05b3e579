"""`optio schema`: the JSON Schemas of task files, directory defaults and policies, for editors."""

import argparse
import sys
from pathlib import Path

from optio.cli import print_error
from optio.cli.shared.render_run import safe
from optio.compiler.json_schema import SCHEMAS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print the JSON Schema of task files, or write all schemas for your editor."
    kinds = ", ".join(f"`{kind}`" for kind in SCHEMAS)
    parser.add_argument("kind", nargs="?", choices=SCHEMAS, metavar="KIND", help=f"what is printed: {kinds} (default: task)")
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--write", metavar="DIR", nargs="?", const="schemas", help="write DIR/KIND.schema.json (default: schemas)"
    )
    target.add_argument("--check", metavar="DIR", nargs="?", const="schemas", help="fail unless those in DIR are current")


def run(args: argparse.Namespace) -> int:
    """Run the command. With `--check`, returns 1 if a file is missing or out of date."""
    kinds = [args.kind] if args.kind else list(SCHEMAS)
    if args.write is not None:
        for kind in kinds:
            target = Path(args.write) / f"{kind}.schema.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(SCHEMAS[kind](), encoding="utf-8")
            print(safe(str(target)))
        return 0
    if args.check is not None:
        wrong = 0
        for kind in kinds:
            target = Path(args.check) / f"{kind}.schema.json"
            if target.is_file() and target.read_text(encoding="utf-8") == SCHEMAS[kind]():
                continue
            state = "is out of date" if target.is_file() else "does not exist"
            print_error(f"optio schema: `{target}` {state} (run `optio schema --write {args.check}`)")
            wrong = 1
        return wrong
    sys.stdout.write(SCHEMAS[args.kind or "task"]())
    return 0
