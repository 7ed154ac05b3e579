"""Forget the token of a server. The token itself stays valid until `optio token revoke` ends it."""

import argparse

from optio.cli import OK
from optio.cli.shared import contexts
from optio.errors import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--context", metavar="NAME", help="the context to forget (default: the one that commands use)")


def run(args: argparse.Namespace) -> int:
    """Forget it. Returns 0; raises SettingsError if there is no such login."""
    logins = contexts.read_logins()
    name = args.context or logins["default"]
    names = ", ".join(f"`{context_name}`" for context_name in logins["contexts"]) or "none"
    if name is None:
        raise SettingsError(f"no login is the default: name one with --context (there are {names})")
    if name not in logins["contexts"]:
        raise SettingsError(f"no login `{name}`: there are {names}")
    url = logins["contexts"].pop(name)["url"]
    if logins["default"] == name:
        logins["default"] = None
    contexts.write_logins(logins)
    print(f"logged out of {url}: the token stays valid until `optio token revoke` ends it")
    return OK
