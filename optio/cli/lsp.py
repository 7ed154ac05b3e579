"""Serve an editor, on standard input and output: findings while you type, fixes, hover, completion.

Editors start it by themselves; README, "Editors", says what to write into their settings. To check files: `optio check`.
"""

import argparse
import os
import sys

from optio.cli import USAGE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`optio lsp [--stdio]`."""
    parser.add_argument("--stdio", action="store_true", help="on standard input and output, which is the only way there is")


def run(args: argparse.Namespace) -> int:
    """0 when the editor said goodbye, 1 when it just went away, 2 when there is no editor."""
    if sys.stdin.isatty():
        print("optio lsp: this is for an editor, which starts it; to check files yourself: `optio check`", file=sys.stderr)
        return USAGE
    try:
        from optio.lsp.server import serve
    except ModuleNotFoundError as err:
        if err.name is not None and err.name.startswith("optio"):
            raise
        print(f"optio lsp: `{err.name}` is not installed: install `optio[lsp]`", file=sys.stderr)
        return USAGE
    code = serve()
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the library has closed it; nothing is to be flushed into it
    return code
