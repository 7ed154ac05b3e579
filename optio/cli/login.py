"""Keep a token for a server, so that commands need no --url and --token.

The token is checked against the server, and written to ~/.config/optio, where only you can read it.
"""

import argparse
import sys
from dataclasses import replace
from getpass import getpass
from pathlib import Path
from urllib.parse import urlsplit

from optio.cli import FAILED, OK, print_error
from optio.cli.shared import client, contexts
from optio.errors import SettingsError
from optio.settings import LOOPBACK, SETTINGS, Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="the server, such as https://optio.example.org")
    parser.add_argument("--context", metavar="NAME", help="a name for it (default: the host)")
    parser.add_argument("--token-file", metavar="FILE", help="read the token from a file, or - for stdin, and do not ask")


def run(args: argparse.Namespace) -> int:
    """Ask for the token, check it and keep it. Returns 1 if the server refuses it; raises SettingsError for an unusable one."""
    try:
        url = SETTINGS["url"].read(args.url).rstrip("/")
    except ValueError as err:
        should = f"write https://{args.url}" if "://" not in args.url else f"it must be {err}"
        raise SettingsError(f"invalid URL `{args.url}`: {should}") from err
    parts = urlsplit(url)
    name = args.context or parts.hostname or ""
    if name == contexts.LOCAL:
        raise SettingsError(f"`{contexts.LOCAL}` stands for the server of this machine: choose another name with --context")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        print_error(f"optio login: {url} is not encrypted: everyone on the way can read the token")
    token = _read_token(args.token_file, url)
    args.url = None  # the settings of a command, not the argument
    server = client.Client(replace(Settings.load(), url=url, token=token))
    try:
        server.request("GET", "/api/registry")
    except client.ServerRefused as err:
        cure = {401: "create another with `optio token create`", 403: "it may not even read: use one of another role"}
        print_error(f"optio login: {err}" + (f": {cure[err.status]}" if err.status in cure else ""))
        return FAILED
    logins = contexts.read_logins()
    logins["contexts"][name] = {"url": url, "token": token}
    first = logins["default"] is None
    logins["default"] = logins["default"] or name
    contexts.write_logins(logins)
    print(f"logged in to {url} as the context `{name}`, in {contexts.logins_file()}")
    advice = f"`--context {name}` chooses it, `optio context use {name}` makes it the default"
    print(f"{'commands use it from now on' if first else advice}; `--context {contexts.LOCAL}` is the server of this machine")
    return OK


def _read_token(path: str | None, url: str) -> str:
    if path is None:
        if not sys.stdin.isatty():
            raise SettingsError("there is no terminal to ask for the token: give --token-file FILE, or - for standard input")

        try:
            text = getpass(f"Token for {url} (not shown): ")
        except EOFError as err:
            raise SettingsError("no token was given") from err
    else:
        try:
            text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as err:
            reason = err.strerror if isinstance(err, OSError) else "it is not text"
            raise SettingsError(f"--token-file: {path} cannot be read: {reason}") from err
    try:
        return str(SETTINGS["token"].read(text.strip()))
    except ValueError as err:
        raise SettingsError(f"this cannot be used as a token: it must be {err}") from err
