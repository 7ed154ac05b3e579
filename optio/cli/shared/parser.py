"""The argument parser of all commands: flags are never abbreviated, and error messages escape control characters."""

import argparse
from functools import partial
from typing import Any, NoReturn

# `add_argument` makes a formatter, too. One that asks for the terminal's width loads `shutil` and all its compression.
_WITHOUT_TERMINAL = partial(argparse.HelpFormatter, width=78)


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser with these rules. Its subparsers are of this class too."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how, allow_abbrev=False, formatter_class=_WITHOUT_TERMINAL)

    def format_usage(self) -> str:
        """Measure the terminal, and fill its lines."""
        self._measure()
        return super().format_usage()

    def format_help(self) -> str:
        """Measure the terminal, fill its lines, and add the examples."""
        from optio.cli.shared.examples import examples_of

        self._measure()
        examples = [f"  {line}" for line in examples_of(self.prog)]
        return super().format_help() + ("\n".join(["", "examples:", *examples, ""]) if examples else "")

    def _measure(self) -> None:
        if self.formatter_class is _WITHOUT_TERMINAL:
            self.formatter_class = argparse.HelpFormatter

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with 2."""
        from optio.cli.shared.render_run import safe

        words = message.removeprefix("unrecognized arguments: ")
        if words != message and "=" in words and not words.startswith("-") and "-p" in self._option_string_actions:
            message = f"{message}: write `-p` before a parameter, such as `-p {words.split()[0]}`"
        super().error(safe(message))
