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

    def __init__(self, handle: Handle, reader: OutputReader, kept: Mapping[str, int]) -> None:
        self._handle, self._reader = handle, reader
        # Telemetry first: limits are held to what it says, also where there is more to read than fits into one call of `take`.
        self._lines = {stream: LineSplitter() for stream in sorted(handle.streams, key=lambda each: each != "telemetry")}
        self._kept = {stream: kept[stream] for stream in self._lines if stream in kept}
        self._size = 0
        self._dropped_lines = self._dropped_bytes = 0
        self.moved = False  # the last `take` found something
        self.heard = False  # and it was not telemetry alone, which a program may write by the clock while it waits
        self.drained = False  # the last `take` reached the end of every stream

    @property
    def offsets(self) -> dict[str, int]:
        """Return, for each stream, the offset up to which whole lines were read; stored with the log and used after an
        adoption."""
        return {stream: max(lines.done, self._kept.get(stream, 0)) for stream, lines in self._lines.items()}

    @property
    def caught_up(self) -> bool:
        """Return whether everything that a previous worker has stored was read again."""
        return all(self._lines[stream].read >= offset for stream, offset in self._kept.items())

    def has_unread(self) -> bool:
        """Return whether `take` would find anything now."""
        return any(self._read(stream, lines.read, 1) for stream, lines in self._lines.items())

    def take(self) -> list[LogLine]:
        """Return the lines that came since the last call, up to a limit. No new line is returned before it has caught up."""
        found: list[LogLine] = []
        self.moved, self.heard, self.drained = False, False, True
        now = datetime.now(UTC)
        behind = not self.caught_up
        for stream, lines in self._lines.items():
            limit = lines.read + _MAX_BYTES
            if behind:
                limit = min(limit, self._kept.get(stream, 0))
                self.drained = False
            while lines.read < limit and len(found) < MAX_LINES:
                data = self._read(stream, lines.read, min(_CHUNK_BYTES, limit - lines.read))
                if not data:
                    break
                self.moved = True
                self.heard |= stream != "telemetry"
                self._feed(stream, data, now, found)
            else:
                self.drained = False
        if behind and not self.moved and self._handle.settled():
            # The file is shorter than it was, because somebody truncated it: there is nothing to catch up with.
            self._kept = {stream: lines.read for stream, lines in self._lines.items()}
        return found

    def rest(self, sizes: Mapping[str, int]) -> list[LogLine]:
        """Return the last lines after the streams were drained: lines without a newline, the reader's closing lines, and a
        count of what was left out. `sizes` are the final sizes of the streams."""
        found: list[LogLine] = []
        now = datetime.now(UTC)
        for stream, lines in self._lines.items():
            for line, end in lines.rest():
                self._line(stream, line, end, now, found)
            if lines.read >= MAX_STREAM_BYTES[stream]:
                text = f"{stream} is read up to byte {lines.read:,}: what comes after it is left out"
                found.append(log_line(LogKind.SYSTEM, text, now))
            if sizes.get(stream, lines.read) < lines.read:
                text = f"the program has cut its {stream}, which was read up to byte {lines.read:,}: later lines may be missing"
                found.append(log_line(LogKind.SYSTEM, text, now))
        found += self._reader.closing(now)
        if self._dropped_lines:
            text = f"{self._dropped_lines:,} lines ({self._dropped_bytes:,} bytes) of output were not kept"
            found.append(log_line(LogKind.SYSTEM, text, now))
        return found

    def _read(self, stream: str, offset: int, limit: int) -> bytes:
        limit = min(limit, MAX_STREAM_BYTES[stream] - offset)
        return self._handle.read(stream, offset, limit) if limit > 0 else b""

    def _feed(self, stream: str, data: bytes, now: datetime, found: list[LogLine]) -> None:
        lines = self._lines[stream]
        if stream in _UNLOGGED and not data.strip(b"\n"):
            # Line breaks alone, which may be millions: they mean nothing here.
            for line, _ in lines.block(data):
                self._reader.line(stream, line, now)
        elif (self._size > MAX_LOG_BYTES or stream == "result") and stream in self._reader.plain:
            for line, _ in lines.block(data):
                self._reader.line(stream, line, now)
                if stream != "result":
                    self._dropped_lines += line.count(b"\n") + 1
                    self._dropped_bytes += len(line) + 1
        else:
            for line, end in lines.feed(data):
                self._line(stream, line, end, now, found)

    def _line(self, stream: str, line: bytes, end: int, now: datetime, found: list[LogLine]) -> None:
        for each in self._reader.line(stream, line, now):
            if self._size > MAX_LOG_BYTES:
                self._dropped_lines += 1
                self._dropped_bytes += len(each.data) + 1
                continue
            # The input of a tool stands in the text and in the event.
            copies = 2 if each.kind is LogKind.TOOL else 1
            self._size += _LINE_COST_BYTES + copies * min(len(each.data), MAX_LOG_LINE_BYTES)
            if end > self._kept.get(stream, 0):
                found.append(each)
                if self._size > MAX_LOG_BYTES:
                    found.append(log_line(LogKind.SYSTEM, "the log of this attempt is full: further output is not kept", now))


def kept(line: LogLine, mask: Masker) -> LogLine:
    """Return a line as the log keeps it: secrets are masked, then it is cut, with a note of how many bytes were."""
    event = None if line.event is None else agent_event.masked(line.event, mask)
    return replace(line, data=cut(mask(line.data), MAX_LOG_LINE_BYTES), event=event)
