"""Print the version of this installation."""

import argparse
import platform

from optio.cli import OK
from optio.cli.shared import output
from optio.version import __version__


def add_arguments(parser: argparse.ArgumentParser) -> None:
    output.add_arguments(parser, (output.TABLE, output.JSON, output.YAML))


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 0."""
    versions = {"version": __version__, "python": platform.python_version(), "platform": platform.platform()}
    output.show(args.output, versions, lambda: f"optio {__version__}")
    return OK
