"""List the servers that commands can talk to by name, and choose the default one. Tokens are never shown."""

import argparse
import os

from optio.cli import OK
from optio.cli.shared import contexts, output
from optio.errors import SettingsError

_COLUMNS = ("", "CONTEXT", output.Column("URL", free=True), "TOKEN", output.Column("FROM", free=True, drop=1))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    output.add_arguments(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="use")
    use = verbs.add_parser("use", help="make a context the default")
    use.add_argument("context", metavar="NAME", help=f"the context, or `{contexts.LOCAL}` for the server of this machine")


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 0; raises SettingsError for an unknown context."""
    found = contexts.read_contexts()
    if args.verb == "use":
        return _use(found, args.context)
    default = os.environ.get("OPTIO_CONTEXT") or found.default or contexts.LOCAL
    items = [
        {
            "name": each.name,
            "url": each.url,
            "token": each.token_from,
            "origin": str(each.origin),
            "default": each.name == default,
        }
        for each in found.by_name.values()
    ]
    rows = [
        ["*" if each["default"] else "", str(each["name"]), str(each["url"]), str(each["token"] or "-"), str(each["origin"])]
        for each in items
    ]
    none = "no contexts: `optio login URL` makes one, or write `[contexts.NAME]` into optio.toml"
    text = output.table(_COLUMNS, rows, wide=args.output == output.WIDE) if rows else none
    output.show(args.output, {"items": items, "default": default}, lambda: text, (str(each["name"]) for each in items))
    return OK


def _use(found: contexts.Contexts, name: str) -> int:
    if name != contexts.LOCAL and name not in found.by_name:
        known = ", ".join(f"`{each}`" for each in (*found.by_name, contexts.LOCAL))
        raise SettingsError(f"unknown context `{name}`: there are {known}")
    logins = contexts.read_logins()
    logins["default"] = None if name == contexts.LOCAL else name
    contexts.write_logins(logins)
    print(f"commands talk to `{name}` from now on")
    if found.default is not None and found.default != name and found.default_origin != contexts.logins_file():
        print(f"but not here: {found.default_origin} sets default_context = `{found.default}`")
    return OK
