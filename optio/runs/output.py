"""The output of an attempt as log lines: every stream from its first byte, bounded in memory and in the log.

After an adoption everything is read again, so that the runtime's reader reaches the state that the previous worker's reader
had. Lines that the previous worker has stored are not returned again.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from optio.executors.base import MAX_STREAM_BYTES, Handle
from optio.model import agent_event
from optio.model.mask import Masker
from optio.model.run import LogKind, LogLine
from optio.runs.lines import LineSplitter, cut
from optio.runtimes.base import OutputReader, log_line

# For one call of `take`: how much is read of each stream, and about how many lines are returned.
_CHUNK_BYTES = 64 * 1024
_MAX_BYTES = 1 << 20
MAX_LINES = 500
MAX_LOG_LINE_BYTES = 64 * 1024
# The size of the log that is kept of an attempt. Each line counts for more than its bytes, as it does in the database.
MAX_LOG_BYTES = 50_000_000
_LINE_COST_BYTES = 100
_UNLOGGED = frozenset({"result", "side", "telemetry"})


class Output:
    """A reader of a handle's streams that feeds the runtime's reader and returns log lines."""

    def __init__(self, handle: Handle, reader: OutputReader, stored: Mapping[str, int]) -> None:
        self._handle, self._reader = handle, reader
        # Telemetry first: limits are held to what it says, also where there is more to read than fits into one call of `take`.
        self._lines = {stream: LineSplitter() for stream in sorted(handle.streams, key=lambda stream: stream != "telemetry")}
        self._stored = {stream: stored[stream] for stream in self._lines if stream in stored}
        self._size = 0
        self._omitted_lines = self._omitted_bytes = 0
        self.has_data = False  # the last `take` found something
        self.has_words = False  # and it was not telemetry alone, which a program may write by the clock while it waits
        self.drained = False  # the last `take` reached the end of every stream

    @property
    def offsets(self) -> dict[str, int]:
        """Return, for each stream, the offset up to which whole lines were read; stored with the log and used after an
        adoption."""
        return {stream: max(lines.done, self._stored.get(stream, 0)) for stream, lines in self._lines.items()}

    @property
    def caught_up(self) -> bool:
        """Return whether everything that a previous worker has stored was read again."""
        return all(self._lines[stream].read >= offset for stream, offset in self._stored.items())

    def has_unread(self) -> bool:
        """Return whether `take` would find anything now."""
        return any(self._read(stream, lines.read, 1) for stream, lines in self._lines.items())

    def take(self) -> list[LogLine]:
        """Return the lines that came since the last call, up to a limit. No new line is returned before it has caught up."""
        log_lines: list[LogLine] = []
        self.has_data, self.has_words, self.drained = False, False, True
        now = datetime.now(UTC)
        behind = not self.caught_up
        for stream, lines in self._lines.items():
            limit = lines.read + _MAX_BYTES
            if behind:
                limit = min(limit, self._stored.get(stream, 0))
                self.drained = False
            while lines.read < limit and len(log_lines) < MAX_LINES:
                data = self._read(stream, lines.read, min(_CHUNK_BYTES, limit - lines.read))
                if not data:
                    break
                self.has_data = True
                self.has_words |= stream != "telemetry"
                self._feed(stream, data, now, log_lines)
            else:
                self.drained = False
        if behind and not self.has_data and self._handle.settled():
            # The file is shorter than it was, because somebody truncated it: there is nothing to catch up with.
            self._stored = {stream: lines.read for stream, lines in self._lines.items()}
        return log_lines

    def rest(self, sizes: Mapping[str, int]) -> list[LogLine]:
        """Return the last lines after the streams were drained: lines without a newline, the reader's closing lines, and a
        count of what was left out. `sizes` are the final sizes of the streams."""
        log_lines: list[LogLine] = []
        now = datetime.now(UTC)
        for stream, lines in self._lines.items():
            for line, end in lines.rest():
                self._line(stream, line, end, now, log_lines)
            if lines.read >= MAX_STREAM_BYTES[stream]:
                text = f"{stream} is read up to byte {lines.read:,}: what comes after it is left out"
                log_lines.append(log_line(LogKind.SYSTEM, text, now))
            if sizes.get(stream, lines.read) < lines.read:
                text = f"the program has cut its {stream}, which was read up to byte {lines.read:,}: later lines may be missing"
                log_lines.append(log_line(LogKind.SYSTEM, text, now))
        log_lines += self._reader.closing(now)
        if self._omitted_lines:
            text = f"{self._omitted_lines:,} lines ({self._omitted_bytes:,} bytes) of output were not kept"
            log_lines.append(log_line(LogKind.SYSTEM, text, now))
        return log_lines

    def _read(self, stream: str, offset: int, limit: int) -> bytes:
        limit = min(limit, MAX_STREAM_BYTES[stream] - offset)
        return self._handle.read(stream, offset, limit) if limit > 0 else b""

    def _feed(self, stream: str, data: bytes, now: datetime, log_lines: list[LogLine]) -> None:
        lines = self._lines[stream]
        if stream in _UNLOGGED and not data.strip(b"\n"):
            # Line breaks alone, which may be millions: they mean nothing here.
            for line, _ in lines.block(data):
                self._reader.line(stream, line, now)
        elif (self._size > MAX_LOG_BYTES or stream == "result") and stream in self._reader.plain:
            for line, _ in lines.block(data):
                self._reader.line(stream, line, now)
                if stream != "result":
                    self._omitted_lines += line.count(b"\n") + 1
                    self._omitted_bytes += len(line) + 1
        else:
            for line, end in lines.feed(data):
                self._line(stream, line, end, now, log_lines)

    def _line(self, stream: str, line: bytes, end: int, now: datetime, log_lines: list[LogLine]) -> None:
        for entry in self._reader.line(stream, line, now):
            if self._size > MAX_LOG_BYTES:
                self._omitted_lines += 1
                self._omitted_bytes += len(entry.data) + 1
                continue
            # The input of a tool stands in the text and in the event.
            copies = 2 if entry.kind is LogKind.TOOL else 1
            self._size += _LINE_COST_BYTES + copies * min(len(entry.data), MAX_LOG_LINE_BYTES)
            if end > self._stored.get(stream, 0):
                log_lines.append(entry)
                if self._size > MAX_LOG_BYTES:
                    log_lines.append(
                        log_line(LogKind.SYSTEM, "the log of this attempt is full: further output is not kept", now)
                    )


def masked_line(line: LogLine, mask: Masker) -> LogLine:
    """Return a line as the log keeps it: secrets are masked, then it is cut, with a note of how many bytes were."""
    event = None if line.event is None else agent_event.masked(line.event, mask)
    return replace(line, data=cut(mask(line.data), MAX_LOG_LINE_BYTES), event=event)
