"""How command lines are read: each flag by its whole name, and what was typed never drives the terminal."""

import argparse
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Subcommands get parsers of this class, too."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Ends with 2."""
        from optio.cli.show import safe

        super().error(safe(message))
