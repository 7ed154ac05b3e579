"""Fan-out of live logs. All readers of a run share one poll of the store and one encoded copy of its newest lines. A reader
that falls behind reads from the store by itself, so a slow reader costs the others nothing."""

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import msgspec

from optio.broker.base import Topic
from optio.model.run import LogLine, Run
from optio.server import serializers
from optio.store.base import RunReader

BATCH_LINES = 500
PING_S = 15.0
# Seconds between two polls, beside those at notifications: they find what a lost notification would miss.
POLL_S = 1.0
_KEPT_BYTES = 1 << 20
_BATCH_BYTES = 1 << 18
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class EncodedLine:
    """A log line encoded as JSON, with its cursor."""

    seq: int
    data: bytes


@dataclass(frozen=True, slots=True)
class LineBatch:
    """Lines in order. The last batch of a log carries the run, which has ended; a batch with neither lines nor run is a
    keep-alive."""

    lines: Sequence[EncodedLine]
    ended: Run | None = None


def encode_lines(lines: Sequence[LogLine]) -> list[EncodedLine]:
    """Encode log lines in the form that all readers get."""
    return [EncodedLine(line.seq, _encode(serializers.line(line))) for line in lines]


class LogFanout:
    """The live logs of this server. The broker wakes it; all methods but `hint` belong to the server's loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tails: dict[str, _Tail] = {}
        # Set when the server stops.
        self.stopping = asyncio.Event()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the loop on which the readers live."""
        self._loop = loop

    def hint(self, topic: Topic, key: str) -> None:
        """Accept a notification of the broker; may be called from any thread."""
        if key in self._tails and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so there are no readers
                self._loop.call_soon_threadsafe(self._stir, key)

    def _stir(self, run_id: str) -> None:
        tail = self._tails.get(run_id)
        if tail is not None:
            tail.mark_stale()

    def close(self) -> None:
        """End all streams; clients come back with their cursors, to another server."""
        self.stopping.set()
        for tail in self._tails.values():
            tail.wake()

    async def follow(self, store: RunReader, run_id: str, after: int) -> AsyncGenerator[LineBatch, None]:
        """Yield every line after the cursor, once and in order, until the run has ended or the server stops. Raises NotFound,
        and StoreUnavailable if the store fails in between."""
        tail = self._tails.setdefault(run_id, _Tail(store, run_id, after))
        tail.readers += 1
        # The run may have been retried by hand since the last poll.
        tail.mark_stale()
        quiet = asyncio.get_running_loop().time()
        batch_size = BATCH_LINES
        try:
            while not self.stopping.is_set():
                # Read together, before the store is asked: lines that arrive after that set this event.
                bell, stale, final_run = tail.bell, tail.stale, tail.ended
                lines = tail.since(after)
                if lines is None:
                    lines = encode_lines(await asyncio.to_thread(store.log, run_id, after=after, limit=batch_size))
                    batch_size = _fitting_count(lines)
                if lines:
                    after = lines[-1].seq
                    yield LineBatch(lines)
                elif stale:
                    await tail.look()
                    continue
                elif final_run is not None:
                    yield LineBatch((), final_run)
                    return
                else:
                    now = asyncio.get_running_loop().time()
                    if now - quiet < PING_S:
                        # `wait_for` of Python 3.11 may swallow a cancellation that comes with the bell.
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(POLL_S):
                                await bell.wait()
                        tail.mark_stale_if_old()
                        continue
                    yield LineBatch(())
                quiet = asyncio.get_running_loop().time()
        finally:
            tail.readers -= 1
            if not tail.readers and self._tails.get(run_id) is tail:
                del self._tails[run_id]


class _Tail:
    """The newest lines of one run. `stale` means that the store may have more than `lines`."""

    def __init__(self, store: RunReader, run_id: str, after: int) -> None:
        self._store, self._run_id = store, run_id
        self._lines: list[EncodedLine] = []
        self._first = self._last = after  # `_lines` holds every line between these cursors
        self._bytes = 0
        self._looking: asyncio.Task[None] | None = None
        self._polled_at = 0.0
        self.readers = 0
        self.stale = True
        self.ended: Run | None = None
        self.bell = asyncio.Event()

    def mark_stale(self) -> None:
        """Note that the store may have more lines, and wake the readers."""
        self.stale = True
        self.wake()

    def mark_stale_if_old(self) -> None:
        """Call `mark_stale` if the last poll is long ago, because notifications may be lost."""
        if asyncio.get_running_loop().time() - self._polled_at >= POLL_S:
            self.mark_stale()

    def wake(self) -> None:
        """Set the event that all readers wait for, and replace it by a new one."""
        self.bell.set()
        self.bell = asyncio.Event()

    def since(self, after: int) -> Sequence[EncodedLine] | None:
        """Return the next lines after a cursor, or None if they are no longer in memory."""
        if after < self._first:
            return None
        at = bisect_right(self._lines, after, key=lambda line: line.seq)
        return self._lines[at : at + BATCH_LINES]

    async def look(self) -> None:
        """Poll the store, once for all readers that ask at the same time."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(_retrieve_error)
        # One reader that leaves must not cancel the poll of the others.
        await asyncio.shield(self._looking)

    async def _look(self) -> None:
        try:
            self.stale = False
            run, lines = await asyncio.to_thread(self._read)
            new = encode_lines(lines)
            self._lines += new
            self._bytes += sum(len(line.data) for line in new)
            if new:
                self._last = new[-1].seq
            self._trim()
            is_at_end = len(new) < BATCH_LINES
            self.ended = run if run.state.terminal and is_at_end else None
            self.stale = self.stale or not is_at_end
        except BaseException:
            self.stale = True
            raise
        finally:
            self._looking = None
            self._polled_at = asyncio.get_running_loop().time()
            self.wake()

    def _read(self) -> tuple[Run, list[LogLine]]:
        # The run is read before its lines, because a run that has ended gets no more lines.
        run = self._store.run(self._run_id)
        return run, self._store.log(self._run_id, after=self._last, limit=BATCH_LINES)

    def _trim(self) -> None:
        drop = 0
        while self._bytes > _KEPT_BYTES and drop < len(self._lines) - 1:
            self._bytes -= len(self._lines[drop].data)
            self._first = self._lines[drop].seq
            drop += 1
        del self._lines[:drop]


def _fitting_count(lines: Sequence[EncodedLine]) -> int:
    """Return how many lines of this size a reader gets at once, so that what it does not take stays small."""
    size = sum(len(line.data) for line in lines)
    return BATCH_LINES if size <= _BATCH_BYTES else max(1, len(lines) * _BATCH_BYTES // size)


def _retrieve_error(task: asyncio.Task[None]) -> None:
    """Retrieve the exception of a failed poll: if every reader is gone, nobody else would, and asyncio would log it."""
    if not task.cancelled():
        task.exception()
