"""`optio connection import`: write the MCP servers of a client's configuration as files of connections."""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optio import wiring
from optio.cli import FAILED, OK, USAGE, print_error
from optio.cli.shared import output
from optio.cli.shared.connection_tree import ConnectionTree, pin_file, read_offer
from optio.cli.shared.render_run import safe
from optio.cli.shared.write_file import write_file
from optio.compiler.source_tree import MAX_FILE_BYTES
from optio.errors import OptioError, SettingsError
from optio.importing.mcp_servers import ImportedServer, read_servers
from optio.importing.source import SourceError, read_text
from optio.settings import Settings


@dataclass(frozen=True, kw_only=True)
class _ConnectionImport:
    """What became of one server; without a `problem` its file is written."""

    server: ImportedServer
    path: str
    problem: str | None
    unset: tuple[str, ...]  # how each secret without a value is set

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.server.id,
            "name": self.server.name,
            "path": None if self.problem is not None else self.path,
            "problem": self.problem,
            "notes": list(self.server.notes),
            "secrets": list(self.server.secrets),
        }


def import_connections(args: argparse.Namespace, settings: Settings) -> int:
    """Write what can be written. Returns 1 if a server could not be, or not be asked for its tools, and 2 if the file cannot be
    read."""
    name = "standard input" if args.file == "-" else args.file
    try:
        servers = read_servers(read_text(name, _read(args.file)))
    except SourceError as err:
        print_error(f"optio connection import: {name}:{err.line}: {err.message}: {err.cure}")
        return USAGE
    root, secrets = settings.tasks, wiring.secrets(settings)
    results = []
    for server in servers:
        problem = server.refused or _write(root, server, force=args.force)
        unset = tuple(f"{each}: {secrets.where(each)}" for each in server.secrets if secrets.get(each) is None)
        results.append(_ConnectionImport(server=server, path=str(root / server.path), problem=problem, unset=unset))
    output.show(args.output, [each.to_json() for each in results], lambda: "\n".join(map(safe, _lines(results))))
    for result in results:
        if result.problem is not None:
            print_error(f"optio connection import: {result.server.name}: {result.problem}")
    problems = [each for each in results if each.problem is not None]
    written = [each.server.id for each in results if each.problem is None]
    if args.list and not _list_tools(root, written, settings):
        return FAILED
    return FAILED if problems else OK


def _read(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    try:
        with open(path, "rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as err:
        raise SettingsError(f"{path} cannot be read: {err.strerror}") from err


def _write(root: Path, server: ImportedServer, *, force: bool) -> str | None:
    """Write the file of a connection. Returns why it was not written."""
    others = [server.path, f"{server.path.removesuffix('.yaml')}.yml"]
    existing = next((path for path in others if os.path.lexists(root / path)), None)
    if existing is not None and not (force and existing == server.path):
        return f"{root / existing} exists and was not changed: rename the server, or replace the file with --force"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise SettingsError(f"`{root}` cannot be written: {err.strerror}") from err
    write_file(root, server.path, (server.text or "").encode())
    return None


def _lines(results: list[_ConnectionImport]) -> list[str]:
    lines = []
    for result in results:
        if result.problem is None:
            lines += [f"wrote {result.path}", *(f"  {note}" for note in result.server.notes)]
            lines += [f"  set the secret {text}" for text in result.unset]
    return lines


def _list_tools(root: Path, ids: list[str], settings: Settings) -> bool:
    """Write and pin the tools of each connection. Returns whether all servers gave theirs."""
    is_complete, tree = True, ConnectionTree(root)
    for id in ids:
        connection, spec = tree.mcp_connection(id)
        try:
            report = pin_file(tree, connection, spec, read_offer(connection, settings))
        except OptioError as err:
            print_error(f"optio connection import: {id}: {err}: `optio connection pin {id} --tools` asks again")
            is_complete = False
            continue
        if report.missing:
            print_error(f"optio connection import: {id}: not offered by the server: {', '.join(report.missing)}")
            is_complete = False
        else:
            print("\n".join(map(safe, report.lines())), file=sys.stderr)
    return is_complete
