"""List, examine, pin, compare and import the connections of a task directory: services that runs reach through the gateway."""

import argparse
import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from optio import wiring
from optio.cli import FAILED, OK, print_error
from optio.cli.shared import flags, output, render_probe, terminal
from optio.cli.shared.connection_tree import ConnectionTree, gateway, pin_file, read_offer
from optio.cli.shared.render_run import safe
from optio.errors import SecretUnavailable, SettingsError
from optio.model.connection_summary import summarize
from optio.secrets.base import Secrets
from optio.server.bodies.connections import ConnectionBody
from optio.server.serializers import to_body, to_json
from optio.settings import Settings

if TYPE_CHECKING:
    from optio.gateway.examine import ToolChange

_COLUMNS = (
    output.Column("ID", "id"),
    output.Column("KIND", lambda item: item["transport"] or item["kind"], drop=3),
    output.Column("ADDRESS", "address", free=True),
    output.Column("READ", lambda item: _entries(item["read"]), free=True),
    output.Column("WRITE", lambda item: _entries(item["write"]), free=True),
    output.Column("SECRETS", lambda item: ", ".join(map(_secret_cell, item["secrets"])), free=True),
    output.Column("PINNED", lambda item: {None: "-", True: "yes", False: "no"}[item["pinned"]], drop=1),
    output.Column("TASKS", lambda item: ", ".join(user["taskId"] for user in item["tasks"]) or "-", free=True, drop=2),
    output.Column("DESCRIPTION", "description", free=True, wide=True),
)
_WORDS = {
    "missing": "is declared, and not offered",
    "unpinned": "is not pinned",
    "schema": "has other schemas than pinned",
    "text": "has another description than pinned, which agents read",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    list_parser = verbs.add_parser("list", help="list every connection: tools, secrets, and tasks that name it")
    list_parser.add_argument("tasks", nargs="?", metavar="DIR", help="the task directory (default: tasks.d)")
    test = verbs.add_parser("test", help="reach connections as the gateway does, with the secrets of this machine")
    test.add_argument("ids", nargs="*", metavar="ID", help="connections; by default all")
    diff = verbs.add_parser("diff", help="show what a server offers otherwise than its connection says")
    pin = verbs.add_parser("pin", help="write into the file of a connection what its server offers now")
    pin.add_argument(
        "--tools", action="store_true", help="also write `tools:`, if it has none, with classes by the server's hints"
    )
    imports = verbs.add_parser("import", help="write connections of the configuration of an MCP client, or of a server.json")
    imports.add_argument("file", metavar="FILE", help="the file to import; `-` is standard input")
    imports.add_argument("--list", action="store_true", help="ask each server for its tools, and write and pin them")
    imports.add_argument("--force", action="store_true", help="replace files that exist")
    for sub in (diff, pin):
        sub.add_argument("id", metavar="ID", help="the connection: the name of its file without the ending")
    for sub in verbs.choices.values():
        flags.add_setting_flags(sub, *(["secrets_dir"] if sub is list_parser else ["tasks", "secrets_dir"]))
        output.add_arguments(sub, output.FORMATS if sub is list_parser else (output.TABLE, output.JSON, output.YAML))
    terminal.add_arguments(list_parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code: 1 if a connection fails its test, differs, or cannot be pinned or imported."""
    settings = flags.read_settings(args)
    if args.verb == "import":
        from optio.cli.shared.import_connections import import_connections

        return import_connections(args, settings)
    tree = ConnectionTree(settings.tasks)
    if args.verb == "list":
        return _list(tree, wiring.secrets(settings), args.output)
    if args.verb == "test":
        return _test(tree, settings, args)
    return (_pin if args.verb == "pin" else _diff)(tree, settings, args)


def _list(tree: ConnectionTree, secrets: Secrets, format: str) -> int:
    summaries = summarize(tree.specs(), tree.tasks(), lambda name: _has_value(secrets, name))
    items = [to_json(to_body(ConnectionBody, summary)) for summary in summaries]
    as_text = lambda: output.listing(_COLUMNS, {"items": items}, "no connections", wide=format == output.WIDE)  # noqa: E731
    output.show(format, items, as_text, (item["id"] for item in items))
    for path in tree.unreadable():
        print_error(f"optio connection list: {path} cannot be read as a connection: `optio check` says why")
    return FAILED if tree.unreadable() else OK


def _has_value(secrets: Secrets, name: str) -> bool | None:
    try:
        return secrets.get(name) is not None
    except SecretUnavailable:
        return None


def _entries(names: Sequence[str]) -> str:
    return ", ".join(names) or "-"


def _secret_cell(secret: Mapping[str, Any]) -> str:
    note = {True: "", False: " (no value)", None: " (unknown)"}[secret["hasValue"]]
    return f"{secret['name']}{note}"


def _test(tree: ConnectionTree, settings: Settings, args: argparse.Namespace) -> int:
    examine = gateway().examine
    connections = [tree.connection(id) for id in args.ids or tree.specs()]
    secrets, start = wiring.secrets(settings), wiring.start_program(settings)

    async def examine_all() -> list[Any]:
        return await asyncio.gather(*(examine(connection, secrets, start) for connection in connections))

    with terminal.progress("asking services"):
        results = [result for each in asyncio.run(examine_all()) for result in each]
    output.show(
        args.output,
        render_probe.as_json(results),
        lambda: "\n".join(render_probe.lines(results)) or f"no connections in {tree.root}",
    )
    return FAILED if any(result.status == "error" for result in results) or (not args.ids and tree.unreadable()) else OK


def _diff(tree: ConnectionTree, settings: Settings, args: argparse.Namespace) -> int:
    connection, spec = tree.mcp_connection(args.id)
    offered = read_offer(connection, settings)
    changes = gateway().compare(spec, offered)
    lines = [line for change in changes for line in _change_lines(change)]
    is_same = all(change.is_undeclared for change in changes)
    if is_same:
        lines.append(f"all {len(spec.tools)} declared tools of {connection.id} are offered as pinned")
    output.show(
        args.output,
        [_change_document(change) for change in changes],
        lambda: "\n".join(lines),
    )
    return OK if is_same else FAILED


def _change_lines(change: "ToolChange") -> Iterator[str]:
    tool = change.offered
    if change.is_undeclared and tool is not None:
        yield safe(f"+ not declared: {gateway().describe(tool)}")
        return
    sign = "-" if tool is None else "!"
    yield safe(f"{sign} {change.name} {', and '.join(_WORDS[each] for each in change.changes)}")
    if tool is not None:
        # The pin has no former text: the reader sees what is offered now.
        yield from (safe(f"    {line}") for line in (tool.description or "").strip().splitlines())
        yield f"    input {_json(tool.input_schema)}"
        if tool.output_schema is not None:
            yield f"    output {_json(tool.output_schema)}"


def _json(value: Any) -> str:
    return str(safe(json.dumps(value, ensure_ascii=False)))


def _change_document(change: "ToolChange") -> dict[str, Any]:
    tool = change.offered
    return {
        "tool": change.name,
        "changes": list(change.changes),
        "offered": None if tool is None else tool.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def _pin(tree: ConnectionTree, settings: Settings, args: argparse.Namespace) -> int:
    connection, spec = tree.mcp_connection(args.id)
    if args.tools and spec.tools:
        raise SettingsError(f"`{connection.id}` declares its tools already: leave out --tools, or delete them first")
    if not spec.tools and not args.tools:
        cure = f"write those that tasks may use, or `optio connection pin {connection.id} --tools` for all"
        raise SettingsError(f"`{connection.id}` declares no tools: {cure}")
    written = pin_file(tree, connection, spec, read_offer(connection, settings))
    if written.missing:
        cure = f"delete them from {written.path}, or see `optio connection diff {connection.id}`"
        print_error(f"optio connection pin: not offered by the server: {', '.join(written.missing)}: {cure}")
        return FAILED
    output.show(args.output, asdict(written), lambda: "\n".join(map(safe, written.lines())))
    return OK
