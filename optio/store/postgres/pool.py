"""A pool of PostgreSQL connections, each lent to one call at a time. A call ends within its time limit, whatever the network
does.

A server that refuses connections is asked again by each call, which costs nothing. One that does not answer at all is asked by
one call only, and the others fail at once: threads that wait for it would block everything else.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from optio.errors import Invalid, StoreUnavailable
from optio.store import deadline
from optio.store.postgres import errors
from optio.store.postgres.url import CALL_TIMEOUT_S, PostgresTarget

T = TypeVar("T")
Connection = psycopg.Connection[dict[str, Any]]

MAX_CONNECTIONS = 8
_MAX_TRIES = 4
# A connection attempt that fails later than this was not refused: the server did not answer.
_SILENCE_S = 1.0
# The least time that a call gets, also if it had to wait for a connection.
_MIN_CALL_S = 0.5
_ROLLBACK_S = 1.0
# The pause before a server without free connections is asked again.
_FULL_PAUSE_S = 0.25


class _PooledConnection:
    """A connection, with a duplicate descriptor of its socket: the watchdog may shut that down without hitting a descriptor
    that was closed and reused."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.fresh = True
        self.lost = False
        self.cut = False
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))

    def shut(self) -> None:
        """Shut the socket down, so that a thread waiting for an answer fails at once."""
        self.cut = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self.connection.close()
        self._socket.close()


class _ConnectAttempt:
    """A connection that is being opened. `wanted` says that its caller still waits; `asks` that the server was silent before,
    and this one attempt asks for all callers."""

    def __init__(self, *, asks: bool) -> None:
        self.began = time.monotonic()
        self.asks = asks
        self.wanted = True
        self.held: _PooledConnection | None = None
        self.error: BaseException | None = None


class ConnectionPool:
    """Connections to one database, at most `most`. `call` may be used from any thread."""

    def __init__(self, target: PostgresTarget, *, patience: float = CALL_TIMEOUT_S, most: int = MAX_CONNECTIONS) -> None:
        self._target = target
        self._patience = patience
        self._most = most
        self._least = min(_MIN_CALL_S, patience / 4)
        self._changed = threading.Condition()
        self._idle: list[_PooledConnection] = []
        self._open = 0
        self._silent = self._asking = False
        self._closed = False
        self._watchdog = _Watchdog(min(0.25, patience / 4))

    def call(self, action: Callable[[Connection], T], *, limit: float | None = None) -> T:
        """Run an action on a connection that no other call uses, until `limit` by the monotonic clock, and raise the driver's
        errors as Optio's.

        The action is run again when that can help: after a deadlock, and when the connection had died before it was used.
        """
        limit = deadline.call_limit(self._patience) if limit is None else limit
        for attempt in range(_MAX_TRIES):
            held = self._take(limit)
            sound = False
            try:
                with self._watchdog.watching(held, max(limit, time.monotonic() + self._least)):
                    found = action(held.connection)
                sound = True
                return found
            except psycopg.Error as err:
                held.lost = errors.is_lost(held.connection, err) or errors.is_stale(err)
                over = attempt == _MAX_TRIES - 1 or time.monotonic() >= limit
                if over or not (errors.is_retryable(err) or (held.lost and not held.fresh)):
                    made = self._in_our_words(err, held)
                    if made is err:
                        raise
                    raise made from err
            except UnicodeEncodeError as err:
                raise Invalid("the text contains a lone surrogate, which is not a character") from err
            finally:
                self._give_back(held, sound, limit)
        raise AssertionError("not reached")

    def _in_our_words(self, err: psycopg.Error, held: _PooledConnection) -> Exception:
        if held.cut:
            return StoreUnavailable(f"the database {self._target.name} does not answer: the call was given up", temporary=True)
        return errors.to_store_error(self._target.name, err, self._most)

    # Lending

    def _take(self, limit: float) -> _PooledConnection:
        """Return an idle connection, or a new one. A thread opens it, so that the caller waits no longer than its time limit,
        whatever the network and the name service do; a connection that comes later serves the next caller."""
        attempt: _ConnectAttempt | None = None
        refused: StoreUnavailable | None = None
        with self._changed:
            try:
                while True:
                    if attempt is not None and attempt.held is not None:
                        return attempt.held
                    if self._closed:
                        raise StoreUnavailable("the store is closed")
                    if self._idle:
                        held = self._idle.pop()
                        held.fresh = False
                        return held
                    if attempt is not None and attempt.error is not None:
                        refused = self._refusal(attempt.error)
                        attempt = None
                        self._changed.wait(_FULL_PAUSE_S)
                        continue
                    left = limit - self._least - time.monotonic()
                    if attempt is None and self._silent and self._asking:
                        raise StoreUnavailable(f"the database {self._target.name} does not answer", temporary=True)
                    if left <= 0:
                        raise refused or self._too_late(attempt)
                    if attempt is None and self._open < self._most:
                        attempt = self._begin()
                    self._changed.wait(left)
            finally:
                if attempt is not None:
                    attempt.wanted = False

    def _refusal(self, error: BaseException) -> StoreUnavailable:
        """Return the error for the caller; raise it at once unless another connection of this pool will do."""
        if not isinstance(error, psycopg.Error):
            raise error
        refused = errors.connection_error(self._target.name, error, self._most)
        refused.__cause__ = error
        if not errors.is_full(error) or not self._open:
            raise refused
        return refused

    def _too_late(self, attempt: "_ConnectAttempt | None") -> StoreUnavailable:
        if attempt is not None and time.monotonic() - attempt.began > _SILENCE_S:
            self._silent = self._asking = attempt.asks = True
        state = "does not answer" if self._silent else f"is too slow: all {self._open} connections are in use"
        return StoreUnavailable(f"the database {self._target.name} {state}", temporary=True)

    def _begin(self) -> "_ConnectAttempt":
        attempt = _ConnectAttempt(asks=self._silent)
        thread = threading.Thread(target=self._connect, args=(attempt,), name="store-connect", daemon=True)
        thread.start()
        self._open += 1
        self._asking = self._asking or attempt.asks
        return attempt

    def _connect(self, attempt: "_ConnectAttempt") -> None:
        held: _PooledConnection | None = None
        error: BaseException | None = None
        try:
            connection: Connection = psycopg.connect(self._target.conninfo, autocommit=True, row_factory=dict_row)
            try:
                held = _PooledConnection(connection)
            except OSError as err:  # this process has no descriptor left
                connection.close()
                raise StoreUnavailable(f"the database {self._target.name} cannot be used: {err.strerror}") from err
        except BaseException as err:
            error = err
        with self._changed:
            if attempt.asks:
                self._asking = False
            self._silent = held is None and time.monotonic() - attempt.began > _SILENCE_S
            if held is None or self._closed:
                self._open -= 1
                attempt.error = error
            elif attempt.wanted:
                attempt.held = held
            else:
                self._idle.append(held)
            self._changed.notify_all()
            closed = self._closed
        if closed and held is not None:
            held.close()

    def _give_back(self, held: _PooledConnection, sound: bool, limit: float) -> None:
        if not sound and not held.lost and not held.cut and not held.connection.closed:
            # Roll back, since an operation that raised must change nothing.
            now = time.monotonic()
            end = min(max(limit, now + self._least), now + _ROLLBACK_S)
            with contextlib.suppress(psycopg.Error), self._watchdog.watching(held, end):
                if held.connection.info.transaction_status != TransactionStatus.IDLE:
                    held.connection.execute("ROLLBACK")
                sound = True
        gone: list[_PooledConnection] = []
        with self._changed:
            if sound and not held.cut and not held.connection.closed and not self._closed:
                self._idle.append(held)
                self._silent = False
                self._changed.notify()
            else:
                self._open -= 1
                gone.append(held)
                if held.cut:
                    self._silent = True
                if held.cut or held.lost:
                    # The cause has probably ended the idle connections too.
                    gone += self._forget_idle()
                self._changed.notify_all()
        for each in gone:
            each.close()

    def _forget_idle(self) -> list[_PooledConnection]:
        idle, self._idle = self._idle, []
        self._open -= len(idle)
        return idle

    def close(self) -> None:
        """Close idle connections now, and lent ones when they come back."""
        with self._changed:
            self._closed = True
            idle = self._forget_idle()
            self._changed.notify_all()
        for held in idle:
            held.close()
        self._watchdog.close()


class _Watchdog:
    """Shuts down connections whose calls take too long: on a silent network the client never learns that the server is gone."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._lock = threading.Lock()
        self._calls: dict[_PooledConnection, float] = {}
        self._closing = threading.Event()
        threading.Thread(target=self._loop, name="store-watchdog", daemon=True).start()

    @contextmanager
    def watching(self, held: _PooledConnection, limit: float) -> Iterator[None]:
        """Watch a connection until the block ends, or shut it down at `limit` (monotonic)."""
        with self._lock:
            self._calls[held] = limit
        try:
            yield
        finally:
            with self._lock:
                del self._calls[held]

    def _loop(self) -> None:
        while not self._closing.wait(self._pause):
            self._look()
        # Keep watching the calls that are still running.
        while self._look():
            time.sleep(self._pause)

    def _look(self) -> int:
        now = time.monotonic()
        # Under the lock, so that no connection is shut after it was given back.
        with self._lock:
            for held, limit in self._calls.items():
                if now > limit:
                    held.shut()
            return len(self._calls)

    def close(self) -> None:
        """Stop watching, after the last call has ended."""
        self._closing.set()
