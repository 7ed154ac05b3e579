"""List the servers that commands can talk to by name, and choose the default one. Tokens are never shown."""

import argparse
import os

from optio.cli import OK
from optio.cli.shared import contexts, output
from optio.errors import SettingsError

_COLUMNS = (
    output.Column("", lambda context: "*" if context["default"] else ""),
    output.Column("CONTEXT", "name"),
    output.Column("URL", "url", free=True),
    output.Column("TOKEN", lambda context: context["token"] or "-"),
    output.Column("FROM", "origin", free=True, drop=1),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    output.add_arguments(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="use")
    use = verbs.add_parser("use", help="make a context the default")
    use.add_argument("context", metavar="NAME", help=f"the context, or `{contexts.LOCAL}` for the server of this machine")


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 0; raises SettingsError for an unknown context."""
    configured = contexts.read_contexts()
    if args.verb == "use":
        return _use(configured, args.context)
    default = os.environ.get("OPTIO_CONTEXT") or configured.default or contexts.LOCAL
    items = [
        {
            "name": context.name,
            "url": context.url,
            "token": context.token_from,
            "origin": str(context.origin),
            "default": context.name == default,
        }
        for context in configured.by_name.values()
    ]
    hint = "no contexts: `optio login URL` makes one, or write `[contexts.NAME]` into optio.toml"
    answer = {"items": items, "default": default}
    as_text = lambda: output.listing(_COLUMNS, answer, hint, wide=args.output == output.WIDE)  # noqa: E731
    output.show(args.output, answer, as_text, (str(context["name"]) for context in items))
    return OK


def _use(configured: contexts.Contexts, name: str) -> int:
    if name != contexts.LOCAL and name not in configured.by_name:
        names = ", ".join(f"`{context_name}`" for context_name in (*configured.by_name, contexts.LOCAL))
        raise SettingsError(f"unknown context `{name}`: there are {names}")
    logins = contexts.read_logins()
    logins["default"] = None if name == contexts.LOCAL else name
    contexts.write_logins(logins)
    print(f"commands talk to `{name}` from now on")
    if configured.default is not None and configured.default != name and configured.default_origin != contexts.logins_file():
        print(f"but not here: {configured.default_origin} sets default_context = `{configured.default}`")
    return OK
