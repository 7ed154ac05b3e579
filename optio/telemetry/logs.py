"""The service's own log: one line per event on standard error, as text or JSON.

A thread of its own writes the lines. A reader that stops reading, or a full disk, costs lines, which are counted, and never
delays the caller. Control characters are escaped, so that no message can imitate another line, and credentials are masked.
"""

import contextlib
import io
import json
import logging
import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from optio.telemetry.base import current_log_context
from optio.telemetry.repeats import WINDOW_S, RepeatCounter

# The most bytes that wait to be written; further lines are dropped and counted.
MAX_WAITING_BYTES = 4 << 20
_MAX_LINE_LENGTH = 32_768
# The time for waiting lines when the process ends.
_FLUSH_TIMEOUT_S = 1.0
_FIELDS = ("event", "run_id", "task_id", "reason", "worker")
# Control and invisible characters, line ends of every kind, and lone surrogates.
_HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_SECRETS = (
    (re.compile(r"(?<=//)[^/@\s]*(?=@)"), "***"),
    (re.compile(r"(?i)(?<=bearer )\S+"), "***"),
    (re.compile(r"(?i)(?<=password=)\S+"), "***"),
    (re.compile(r"optio_[A-Za-z0-9_-]{20,}"), "optio_***"),
)


def escape_invisible(text: str) -> str:
    """Return the text on one line, with control, invisible and bidirectional characters as escapes, so that it cannot drive a
    terminal."""
    return _HIDDEN.sub(lambda m: f"\\x{ord(m[0]):02x}" if ord(m[0]) < 256 else f"\\u{ord(m[0]):04x}", text)


def mask_secrets(text: str) -> str:
    """Return the text with anything that looks like a credential masked. None should be there, but errors of libraries quote
    what they were given."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _message(record: logging.LogRecord) -> str:
    return mask_secrets(record.getMessage())[:_MAX_LINE_LENGTH]


def _fields(record: logging.LogRecord) -> Mapping[str, str]:
    """Return the fields of a record: its own, else those of `log_context`."""
    around = current_log_context()
    fields = {name: getattr(record, name, around.get(name)) for name in _FIELDS}
    return {name: str(value) for name, value in fields.items() if value}


class TextFormatter(logging.Formatter):
    """Formats lines as `12:30:01 INFO    words`, and appends the run where the words do not name it. Tracebacks are indented,
    so that none looks like a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and below it the traceback if there is one."""
        words = escape_invisible(_message(record))
        run_id = _fields(record).get("run_id")
        if run_id is not None and run_id not in words:
            words += f" (run {escape_invisible(run_id)})"
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{at} {record.levelname:<7} {words}"
        if record.exc_info:
            trace = mask_secrets(self.formatException(record.exc_info))[-_MAX_LINE_LENGTH:]
            line += "".join(f"\n    | {escape_invisible(part)}" for part in trace.split("\n"))
        return line


class JsonFormatter(logging.Formatter):
    """Formats each record as one JSON object on one line, for log collectors."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object as text, with the traceback as a list of lines."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry: dict[str, Any] = {
            "time": at,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": escape_invisible(_message(record)),
            **{name: escape_invisible(value) for name, value in _fields(record).items()},
        }
        if record.exc_info:
            trace = mask_secrets(self.formatException(record.exc_info))[-_MAX_LINE_LENGTH:]
            entry["exception"] = [escape_invisible(part) for part in trace.split("\n")]
        return json.dumps(entry, ensure_ascii=False)


FORMATS: Mapping[str, type[logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}


class Outlet:
    """Writes to a descriptor on its own thread, so that callers never wait. `lost` counts the pieces that could not be
    written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._lock = threading.Lock()
        self._has_more = threading.Event()
        self._empty = threading.Event()
        self._empty.set()
        self.lost = 0
        threading.Thread(target=self._loop, name=f"write-{descriptor}", daemon=True).start()

    def put(self, data: bytes, *, note: bool = False) -> bool:
        """Queue data for writing; return False, and count it as lost, when too much waits already. A `note` about losses is not
        counted."""
        with self._lock:
            if self._size + len(data) > MAX_WAITING_BYTES:
                self.lost += not note
                return False
            self._waiting.append(data)
            self._size += len(data)
            self._empty.clear()
        self._has_more.set()
        return True

    def flush(self, within: float = _FLUSH_TIMEOUT_S) -> None:
        """Wait until everything is written, at most `within` seconds."""
        self._empty.wait(within)

    def _loop(self) -> None:
        while True:
            self._has_more.wait()
            with self._lock:
                data = self._waiting.popleft() if self._waiting else b""
                if not data:
                    self._has_more.clear()
                    self._empty.set()
                    continue
            try:
                self._write(data)
            except OSError:  # the disk is full, or the reader is gone
                with self._lock:
                    self.lost += 1
            with self._lock:
                self._size -= len(data)

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # another program has set this terminal to non-blocking
                select.select([], [self._descriptor], [], 1.0)


class Unblocked(io.TextIOBase):
    """Standard output of a process that must go on when nobody reads it: a stopped terminal, a pager, a full pipe."""

    def __init__(self, descriptor: int, encoding: str = "utf-8") -> None:
        self._descriptor = descriptor
        self._encoding = encoding
        self._outlet = Outlet(descriptor)

    def write(self, text: str) -> int:
        """Queue the text; never wait."""
        self._outlet.put(text.encode(self._encoding, "backslashreplace"))
        return len(text)

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def finish(self) -> None:
        """Write what is queued, when the process ends."""
        self._outlet.flush()


class LogHandler(logging.Handler):
    """Formats records at once, on the calling thread, and leaves the writing to the outlet. Repetitions are counted instead."""

    def __init__(self, formatter: logging.Formatter, outlet: Outlet, window_s: float = WINDOW_S) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._outlet = outlet
        self._reported_losses = 0
        self._window_s = window_s
        self._repeats = RepeatCounter(window_s=window_s)
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; never raise and never wait. Lost lines are reported first, as soon as there is room again."""
        try:
            self._tell_losses()
            self._put(self._repeats.select(record))
            self._await_counts()
        except Exception:  # arguments that do not fit the format: logging must never stop the caller
            self._outlet.lost += 1

    def _await_counts(self) -> None:
        """Write the count of a flood also when no line comes after it."""
        if self._timer is None and self._repeats.is_counting():
            self._timer = threading.Timer(self._window_s, self._write_counts)
            self._timer.daemon = True
            self._timer.start()

    def _write_counts(self) -> None:
        self._timer = None
        self._put(self._repeats.drain())
        self._await_counts()

    def _put(self, records: Iterable[logging.LogRecord]) -> None:
        for record in records:
            self._outlet.put(self._bytes(record))

    def _bytes(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + "\n").encode("utf-8", "backslashreplace")

    def _tell_losses(self) -> None:
        losses = self._outlet.lost
        if losses > self._reported_losses:
            words = "%d lines of this log were lost: they could not be written"
            note = logging.LogRecord(__name__, logging.WARNING, __file__, 0, words, (losses - self._reported_losses,), None)
            if self._outlet.put(self._bytes(note), note=True):
                self._reported_losses = losses

    def flush(self) -> None:
        self._put(self._repeats.drain(all_windows=True))
        self._outlet.flush()


_quiet = ("uvicorn", "watchfiles")
_installed: Outlet | None = None


def configure(format_name: str, level: int = logging.INFO, descriptor: int = 2) -> None:
    """Send all logging of this process to a descriptor, standard error by default, in this format; a second call replaces the
    first."""
    global _installed
    _installed = _installed or Outlet(descriptor)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        with contextlib.suppress(Exception):
            old.close()
    root.addHandler(LogHandler(FORMATS[format_name](), _installed))
    root.setLevel(level)
    for name in _quiet:
        logging.getLogger(name).setLevel(logging.WARNING)


def lost_lines() -> int:
    """Return the number of log lines that could not be written so far."""
    return 0 if _installed is None else _installed.lost
