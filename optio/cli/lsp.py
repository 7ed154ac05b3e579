"""Serve an editor on standard input and output: findings while you type, fixes, hover, completion.

Your editor starts this command. To set it up, see docs/guides/editors.md. To check files yourself, use `optio check`.
"""

import argparse
import os
import sys

from optio.cli import USAGE
from optio.version import how_to_install


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stdio", action="store_true", help="use standard input and output, the only transport there is")


def run(args: argparse.Namespace) -> int:
    """Serve until the editor leaves. Returns 0 if it shut down in order, 1 if it just went away, 2 without an editor."""
    if sys.stdin.isatty():
        print("optio lsp: only an editor can use this command; to check files yourself, run `optio check`", file=sys.stderr)
        return USAGE
    try:
        from optio.lsp.server import serve
    except ModuleNotFoundError as err:
        if err.name is not None and err.name.startswith("optio"):
            raise
        print(f"optio lsp: `{err.name}` is not installed: {how_to_install('lsp')}", file=sys.stderr)
        return USAGE
    code = serve()
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the library has closed it; nothing is to be flushed into it
    return code
