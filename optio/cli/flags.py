"""Flags that several commands share."""

import argparse
from collections.abc import Mapping

from optio.settings import SETTINGS, Settings


def add(parser: argparse.ArgumentParser, *names: str) -> None:
    """Flags for these settings; a flag overrides its variable."""
    for name in names:
        setting = SETTINGS[name]
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar=name.upper(), help=setting.help)


def settings(args: argparse.Namespace, defaults: Mapping[str, str] | None = None) -> Settings:
    """Settings with the command's flags; raises SettingsError."""
    flags = {name: value for name, value in vars(args).items() if name in SETTINGS}
    return Settings.load(flags=flags, defaults=defaults)
