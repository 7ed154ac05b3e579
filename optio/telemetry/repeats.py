"""Repeated lines of the service's own log: the first of a minute is written, further ones are counted, and one line has the
count. Strangers choose how many requests fail, and must not choose how long the log is. Used by `telemetry.logs`."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

# Loggers whose warnings and errors are caused by requests. Others write what they do, each run once.
_REQUEST_DRIVEN = ("optio.server.", "optio.processes.health")
WINDOW_S = 60.0
# Different lines of one template that are written in a window, and templates that are followed at a time.
MAX_VARIANTS = 8
MAX_TEMPLATES = 256
_MAX_VARIANT_LENGTH = 500


@dataclass(slots=True)
class _Window:
    """The lines of one template since the first: the repetitions of each, and of those beyond `MAX_VARIANTS`."""

    began: float
    counts: dict[str, int] = field(default_factory=dict)
    others: int = 0


class RepeatCounter:
    """Decides which records are written. Any thread may call it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, window_s: float = WINDOW_S) -> None:
        self._clock, self._window_s = clock, window_s
        self._lock = threading.Lock()
        self._windows: dict[tuple[str, int, str], _Window] = {}

    def select(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """Return what to write now: the counts of windows that have ended, and the record unless it is a repetition."""
        if record.levelno < logging.WARNING or not record.name.startswith(_REQUEST_DRIVEN):
            return [record]
        with self._lock:
            records = list(self._ended(self._clock() - self._window_s))
            key = (record.name, record.levelno, str(record.msg))
            if key not in self._windows and len(self._windows) >= MAX_TEMPLATES:
                records += self._close(next(iter(self._windows)))
            window = self._windows.setdefault(key, _Window(self._clock()))
            variant = _variant(record)
            if variant in window.counts:
                window.counts[variant] += 1
            elif len(window.counts) < MAX_VARIANTS:
                window.counts[variant] = 0
                records.append(record)
            else:
                window.others += 1
            return records

    def drain(self, *, all_windows: bool = False) -> list[logging.LogRecord]:
        """Return the counts of the windows that have ended, or of all of them."""
        with self._lock:
            return list(self._ended(float("inf") if all_windows else self._clock() - self._window_s))

    def is_counting(self) -> bool:
        """Return whether a window is open, whose count may have to be written."""
        return bool(self._windows)

    def _ended(self, until: float) -> Iterator[logging.LogRecord]:
        for key in [key for key, window in self._windows.items() if window.began <= until]:
            yield from self._close(key)

    def _close(self, key: tuple[str, int, str]) -> Iterator[logging.LogRecord]:
        (name, level, template), window = key, self._windows.pop(key)
        passed = self._clock() - window.began
        for words, count in (*window.counts.items(), (f"`{template}` with other values", window.others)):
            if count:
                arguments = (words, count, passed)
                yield logging.LogRecord(name, level, __file__, 0, "%s (%d more in %.0f s)", arguments, None)


def _variant(record: logging.LogRecord) -> str:
    """Return the words of a record, and for a bug its place: another bug in the same request is another line."""
    words = record.getMessage()[:_MAX_VARIANT_LENGTH]
    if not record.exc_info or record.exc_info[1] is None:
        return words
    place = record.exc_info[2]
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    position = "" if place is None else f" at {place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
    return f"{words}: {type(record.exc_info[1]).__name__}{position}"
