"""The connections of a task directory, for `optio connection`: read, asked what their servers offer, and pinned in place."""

import asyncio
import logging
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optio import wiring
from optio.cli.shared import terminal
from optio.cli.shared.write_file import write_file
from optio.compiler.edits.edit_yaml import CannotEdit, rewrite_file
from optio.compiler.layers import is_connection
from optio.compiler.pipeline import compile_tree
from optio.compiler.source import SourceFile
from optio.compiler.source_tree import DirectoryTree, SourceTree, Unreadable
from optio.compiler.suggest import suggest
from optio.compiler.yaml.document import parse
from optio.errors import OptioError, SettingsError
from optio.model.connection import DIRECTORY, ID, KINDS, Connection, ConnectionSpec, McpConnection
from optio.model.registry import CompiledTask
from optio.settings import Settings
from optio.version import how_to_install

if TYPE_CHECKING:
    from optio.gateway.examine import Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFile:
    """The file of a connection; `spec` is None where it cannot be read as one."""

    path: str
    spec: ConnectionSpec | None


class ConnectionTree:
    """The connections below a directory, read once. Raises SettingsError for one that does not exist."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise SettingsError(f"no directory `{root}`: create it with `optio init`, or name another one")
        self.root, self._tree = root, DirectoryTree(root)
        self._files = dict(_read_files(self._tree))

    def tasks(self) -> list[CompiledTask]:
        """Return the tasks that can be served."""
        return list(compile_tree(self._tree).registry.tasks.values())

    def specs(self) -> dict[str, ConnectionSpec]:
        """Return the connections that can be read."""
        return {id: file.spec for id, file in self._files.items() if file.spec is not None}

    def unreadable(self) -> list[str]:
        """Return the paths of the files that cannot be read as connections."""
        return [str(self.root / file.path) for file in self._files.values() if file.spec is None]

    def connection(self, id: str) -> Connection:
        """Return a connection with all its tools; raises SettingsError for one that is not there or cannot be read."""
        file = self._file(id)
        if file.spec is None:
            raise SettingsError(f"{self.root / file.path} cannot be read as a connection: `optio check` says why")
        tools = tuple(file.spec.tools) if isinstance(file.spec, McpConnection) else ()
        return Connection(id=id, spec=file.spec, tools=tools)

    def mcp_connection(self, id: str) -> tuple[Connection, McpConnection]:
        """Return a connection with tools; raises SettingsError for one of another kind, too."""
        connection = self.connection(id)
        if not isinstance(connection.spec, McpConnection):
            raise SettingsError(f"`{id}` is of the kind `{connection.spec.kind}`, which has no tools to compare or pin")
        return connection, connection.spec

    def path(self, id: str) -> str:
        """Return the path of a connection's file below the root."""
        return self._file(id).path

    def rewrite(self, id: str, changes: Mapping[str, Any]) -> bool:
        """Set keys of a connection's file and leave all else as it is. Returns whether that changed it; raises SettingsError
        for a layout that cannot be edited, and for a file that cannot be written."""
        path = self._file(id).path
        data = self._tree.read(path)
        document, _ = parse(SourceFile(path, data))
        try:
            edited = rewrite_file(path, data, {**({} if document is None else document.value), **changes})
        except CannotEdit as err:
            raise SettingsError(
                f"{self.root / path}:{err.line} cannot be edited: {err}: write its keys on lines of their own"
            ) from err
        if edited != data:
            write_file(self.root, path, edited)
        return edited != data

    def _file(self, id: str) -> ConnectionFile:
        if id not in self._files:
            near = suggest(id, self._files)
            known = f"connections: {', '.join(self._files)}" if self._files else f"{self.root} has none"
            raise SettingsError(f"no connection `{id}`: {f'did you mean `{near}`?' if near else known}")
        return self._files[id]


def _read_files(tree: SourceTree) -> Iterator[tuple[str, ConnectionFile]]:
    """Yield the connections by their ids, also those that no task names."""
    for path in tree.task_files():
        directory, name = posixpath.split(path)
        id = posixpath.splitext(name)[0]
        if directory == DIRECTORY and ID.fullmatch(id) is not None:
            yield id, ConnectionFile(path=path, spec=_read_spec(tree, path))


def _read_spec(tree: SourceTree, path: str) -> ConnectionSpec | None:
    try:
        document, _ = parse(SourceFile(path, tree.read(path)))
        if document is None or not is_connection(document):
            return None
        return KINDS[document.value["kind"]].of(document.value)
    except (Unreadable, KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True, kw_only=True)
class PinReport:
    """The outcome for a connection's file: tools with a first pin, with another one, and without one from now on; `tools` are
    those that were declared. With `missing` tools nothing was written."""

    path: str
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    tools: Mapping[str, str] | None = None
    missing: tuple[str, ...] = ()
    is_written: bool = False

    def lines(self) -> Iterator[str]:
        """Yield the report for people."""
        if not self.is_written:
            yield f"{self.path} has these pins already"
            return
        yield f"wrote {self.path}"
        for title, names in (("pinned", self.added), ("pinned anew", self.changed), ("no longer pinned", self.removed)):
            if names:
                yield f"  {title}: {', '.join(names)}"
        if self.tools is not None:
            yield "  classes are by the server's own hints: read them, and delete tools that no task needs"


def pin_file(tree: ConnectionTree, connection: Connection, spec: McpConnection, offered: "Offer") -> PinReport:
    """Write the pins of the declared tools, or of all tools if none is declared, which are declared then."""
    path, pin_of = tree.path(connection.id), import_module("optio.gateway.pins").pin_of
    missing = tuple(name for name in spec.tools if name not in offered)
    if missing:
        return PinReport(path=path, missing=missing)
    tools = None if spec.tools else {name: gateway().access_of(tool) for name, tool in offered.items()}
    old, new = spec.pin or {}, {name: pin_of(offered[name]) for name in tools or spec.tools}
    return PinReport(
        path=str(tree.root / path),
        added=tuple(name for name in new if name not in old),
        changed=tuple(name for name in new if name in old and new[name] != old[name]),
        removed=tuple(name for name in old if name not in new),
        tools=tools,
        is_written=tree.rewrite(connection.id, {**({} if tools is None else {"tools": tools}), "pin": new}),
    )


def gateway() -> Any:
    """Return the module that reaches services as the gateway does. Raises SettingsError where its libraries are missing."""
    # The library logs what a server sends, with tracebacks; what is wrong with one is said by the caller.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    try:
        return import_module("optio.gateway.examine")
    except ModuleNotFoundError as err:
        if err.name is not None and err.name.startswith("optio"):
            raise
        raise SettingsError(f"`{err.name}` is not installed: {how_to_install('gateway')}") from err


def read_offer(connection: Connection, settings: Settings) -> "Offer":
    """Return the tools that the server of a connection offers. Raises OptioError if it cannot be reached."""
    examine = gateway()
    secrets = wiring.secrets(settings)
    with terminal.progress(f"asking {connection.address}"):
        try:
            offered: Offer = asyncio.run(examine.read_offer(connection, secrets, wiring.start_program(settings)))
        except examine.ConnectionRefused as refused:
            raise OptioError(f"{refused.reason}: {refused.message}") from refused
    return offered
