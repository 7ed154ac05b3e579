"""MCP servers that are programs: they run beside the gateway, confined as agents are, with a JSON message on each line of their
standard streams.

A program is trusted with the secrets in its variables and with nothing else: its lines and errors have a bound, and lines that
hold no message are skipped. Used by `tool_servers`; `wiring` says how a program is started.
"""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Self

from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from optio.errors import LaunchFailed, SettingsError
from optio.gateway.connections import ConnectionRefused
from optio.model.connection import Connection, Stdio
from optio.model.mask import Masker

MAX_LINE_BYTES = 8 << 20
# A line costs time however short it is.
_LINE_COST_BYTES = 1024
# Of standard error the end is kept, and no more than a chunk is read before each pause: a program that floods it has to wait.
_CHUNK_BYTES, _KEPT_BYTES, _MAX_MESSAGE, _PAUSE_S = 1 << 16, 4096, 300, 0.05
# After its input has ended, and after SIGTERM; the supervisor kills by itself a moment before.
_END_S, _TERM_S = 1.0, 2.0

StartProgram = Callable[[Sequence[str], Mapping[str, str]], "subprocess.Popen[bytes]"]


class Programs:
    """The programs of a gateway, at most `limit` at once. `start` starts one, which SIGTERM ends with all that it has started;
    it raises LaunchFailed and SettingsError."""

    def __init__(self, start: StartProgram, limit: int) -> None:
        self._start, self._limit, self._running = start, limit, 0

    @contextlib.asynccontextmanager
    async def run(
        self,
        connection: Connection,
        transport: Stdio,
        values: Mapping[str, str],
        masker: Masker,
        spend: Callable[[int], None],
    ) -> AsyncIterator["ToolProgram"]:
        """Run a program for the block, with `values` as its variables. `spend` is called with the size of each line, and raises
        ConnectionRefused to end it. Raises ConnectionRefused."""
        if self._running >= self._limit:
            message = f"is a program, and {self._limit} run already, the most by OPTIO_GATEWAY_PROGRAMS"
            raise ConnectionRefused(connection.id, "unreachable", message)
        self._running += 1
        try:
            try:
                program = ToolProgram(self._start(transport.command, values), connection, masker, spend)
            except (LaunchFailed, SettingsError) as err:
                raise ConnectionRefused(connection.id, "unreachable", f"cannot be started: {masker.text(str(err))}") from err
            try:
                await program.open()
                yield program
            finally:
                await asyncio.shield(program.close())
        finally:
            self._running -= 1


class ToolProgram:
    """A running program, as the SDK's stream of messages from it and to it. Its end is a ConnectionRefused that explains it."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", connection: Connection, masker: Masker, spend: Callable[[int], None]
    ) -> None:
        self._process, self._connection, self._masker, self._spend = process, connection, masker, spend
        self._lines = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        self._errors = asyncio.StreamReader(limit=_CHUNK_BYTES)
        self._sending, self._gone, self._last_errors = asyncio.Lock(), asyncio.Event(), b""
        self._pidfd = os.pidfd_open(process.pid)
        self._transports: list[asyncio.BaseTransport] = []
        self._input: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect the pipes."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pidfd, self._note_end)
        for reader, pipe in ((self._lines, self._process.stdout), (self._errors, self._process.stderr)):
            transport, _ = await loop.connect_read_pipe(lambda reader=reader: asyncio.StreamReaderProtocol(reader), pipe)  # type: ignore[misc]
            self._transports.append(transport)
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
        output, _ = await loop.connect_write_pipe(lambda: protocol, self._process.stdin)
        self._transports.append(output)
        self._input = asyncio.StreamWriter(output, protocol, None, loop)
        self._reading = asyncio.create_task(self._read_errors())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        while True:
            try:
                line = await self._lines.readline()
            except ValueError:
                raise self._refused(f"answers with more than {MAX_LINE_BYTES >> 20} MiB") from None
            if not line.endswith(b"\n"):
                raise await self._end()
            self._spend(len(line) + _LINE_COST_BYTES)
            try:
                return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
            except ValueError:
                await asyncio.sleep(0)  # a banner, or a flood of them: others have their turn

    async def receive(self) -> SessionMessage | Exception:
        """Return the next message. Raises ConnectionRefused at the end."""
        return await anext(self)

    async def send(self, message: SessionMessage) -> None:
        """Send a message. It waits before it writes: a program that does not read fills no memory."""
        assert self._input is not None  # noqa: S101
        data = message.message.model_dump_json(by_alias=True, exclude_unset=True).encode()
        async with self._sending:
            with contextlib.suppress(ConnectionError):  # it has ended, which `line` says
                await self._input.drain()
                self._input.write(data + b"\n")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        return

    async def aclose(self) -> None:
        """Leave the program running, whose end is that of `Programs.run`."""

    def last_error(self) -> str:
        """Return the last line of the program's standard error, after a colon; nothing if there is none."""
        lines = self._masker.text(self._last_errors.decode("utf-8", "replace")).split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        text = "".join(character if character.isprintable() else " " for character in last).strip()[:_MAX_MESSAGE]
        return f": {text}" if text else ""

    async def _end(self) -> ConnectionRefused:
        """Return why the program has ended, once it has."""
        if await self._ended(_END_S) and self._reading is not None:
            await asyncio.wait({self._reading}, timeout=_END_S)
        code = self._process.poll()
        reason = self.last_error() or ("" if code is None else f" with status {code}")
        return self._refused(f"has ended{reason}")

    async def close(self) -> None:
        """End the program with all that it has started."""
        try:
            if self._input is not None:
                self._input.close()
            if not await self._ended(_END_S):
                self._process.terminate()
                if not await self._ended(_TERM_S):
                    self._process.kill()
                    await self._ended(_TERM_S)
        finally:
            if self._process.poll() is None:
                self._process.terminate()
            if self._reading is not None:
                self._reading.cancel()
            for transport in self._transports:
                transport.close()
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)

    async def _ended(self, within: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._gone.wait()
        return self._process.poll() is not None

    def _note_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self._gone.set()

    async def _read_errors(self) -> None:
        while chunk := await self._errors.read(_CHUNK_BYTES):
            self._last_errors = (self._last_errors + chunk)[-_KEPT_BYTES:]
            await asyncio.sleep(_PAUSE_S)

    def _refused(self, message: str) -> ConnectionRefused:
        return ConnectionRefused(self._connection.id, "unreachable", message)
