"""Flags that several commands share."""

import argparse
import os
import sys
from collections.abc import Mapping

from optio.cli.shared.parser import whole_number
from optio.settings import SETTINGS, Settings, unknown_variables


def add_setting_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add a flag for each of these settings; a flag overrides the environment variable."""
    for name in names:
        setting = SETTINGS[name]
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar=name.upper(), help=setting.help)


def read_settings(
    args: argparse.Namespace, defaults: Mapping[str, str] | None = None, *, with_context: bool = True
) -> Settings:
    """Return the settings with the command's flags, and the context of a command that has `--context`; raises SettingsError.
    Warns about variables that look misspelt."""
    for name, suggestion in unknown_variables(os.environ):
        if suggestion is not None:
            print(f"optio: unknown setting {name} is ignored: did you mean {suggestion}?", file=sys.stderr)
    flags = {name: value for name, value in vars(args).items() if name in SETTINGS}
    settings = Settings.load(flags=flags, defaults=defaults)
    if not with_context or not hasattr(args, "context"):
        return settings
    # Imported here: only commands that talk to a server have contexts.
    from optio.cli.shared.contexts import apply

    return apply(settings, args.context)


# Reads the number of items of one answer of the API, for `type` of an argument.
page_limit = whole_number(200)
