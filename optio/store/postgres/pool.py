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
        self.started_at = time.monotonic()
        self.asks = asks
        self.is_wanted = True
        self.pooled: _PooledConnection | None = None
        self.error: BaseException | None = None


class ConnectionPool:
    """Connections to one database, at most `most`. `call` may be used from any thread."""

    def __init__(
        self, target: PostgresTarget, *, patience: float = CALL_TIMEOUT_S, max_connections: int = MAX_CONNECTIONS
    ) -> None:
        self._target = target
        self._patience = patience
        self._max_connections = max_connections
        self._least = min(_MIN_CALL_S, patience / 4)
        self._condition = threading.Condition()
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
            pooled = self._take(limit)
            sound = False
            try:
                with self._watchdog.watching(pooled, max(limit, time.monotonic() + self._least)):
                    result = action(pooled.connection)
                sound = True
                return result
            except psycopg.Error as err:
                pooled.lost = errors.is_lost(pooled.connection, err) or errors.is_stale(err)
                over = attempt == _MAX_TRIES - 1 or time.monotonic() >= limit
                if over or not (errors.is_retryable(err) or (pooled.lost and not pooled.fresh)):
                    failure = self._in_our_words(err, pooled)
                    if failure is err:
                        raise
                    raise failure from err
            except UnicodeEncodeError as err:
                raise Invalid("the text contains a lone surrogate, which is not a character") from err
            finally:
                self._give_back(pooled, sound, limit)
        raise AssertionError("not reached")

    def _in_our_words(self, err: psycopg.Error, pooled: _PooledConnection) -> Exception:
        if pooled.cut:
            return StoreUnavailable(f"the database {self._target.name} does not answer: the call was given up", temporary=True)
        return errors.to_store_error(self._target.name, err, self._max_connections)

    # Lending

    def _take(self, limit: float) -> _PooledConnection:
        """Return an idle connection, or a new one. A thread opens it, so that the caller waits no longer than its time limit,
        whatever the network and the name service do; a connection that comes later serves the next caller."""
        attempt: _ConnectAttempt | None = None
        refusal: StoreUnavailable | None = None
        with self._condition:
            try:
                while True:
                    if attempt is not None and attempt.pooled is not None:
                        return attempt.pooled
                    if self._closed:
                        raise StoreUnavailable("the store is closed")
                    if self._idle:
                        pooled = self._idle.pop()
                        pooled.fresh = False
                        return pooled
                    if attempt is not None and attempt.error is not None:
                        refusal = self._refusal(attempt.error)
                        attempt = None
                        self._condition.wait(_FULL_PAUSE_S)
                        continue
                    time_left = limit - self._least - time.monotonic()
                    if attempt is None and self._silent and self._asking:
                        raise StoreUnavailable(f"the database {self._target.name} does not answer", temporary=True)
                    if time_left <= 0:
                        raise refusal or self._too_late(attempt)
                    if attempt is None and self._open < self._max_connections:
                        attempt = self._begin()
                    self._condition.wait(time_left)
            finally:
                if attempt is not None:
                    attempt.is_wanted = False

    def _refusal(self, error: BaseException) -> StoreUnavailable:
        """Return the error for the caller; raise it at once unless another connection of this pool will do."""
        if not isinstance(error, psycopg.Error):
            raise error
        refusal = errors.connection_error(self._target.name, error, self._max_connections)
        refusal.__cause__ = error
        if not errors.is_full(error) or not self._open:
            raise refusal
        return refusal

    def _too_late(self, attempt: "_ConnectAttempt | None") -> StoreUnavailable:
        if attempt is not None and time.monotonic() - attempt.started_at > _SILENCE_S:
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
        pooled: _PooledConnection | None = None
        error: BaseException | None = None
        try:
            connection: Connection = psycopg.connect(self._target.conninfo, autocommit=True, row_factory=dict_row)
            try:
                pooled = _PooledConnection(connection)
            except OSError as err:  # this process has no descriptor left
                connection.close()
                raise StoreUnavailable(f"the database {self._target.name} cannot be used: {err.strerror}") from err
        except BaseException as err:
            error = err
        with self._condition:
            if attempt.asks:
                self._asking = False
            self._silent = pooled is None and time.monotonic() - attempt.started_at > _SILENCE_S
            if pooled is None or self._closed:
                self._open -= 1
                attempt.error = error
            elif attempt.is_wanted:
                attempt.pooled = pooled
            else:
                self._idle.append(pooled)
            self._condition.notify_all()
            closed = self._closed
        if closed and pooled is not None:
            pooled.close()

    def _give_back(self, pooled: _PooledConnection, sound: bool, limit: float) -> None:
        if not sound and not pooled.lost and not pooled.cut and not pooled.connection.closed:
            # Roll back, since an operation that raised must change nothing.
            now = time.monotonic()
            end = min(max(limit, now + self._least), now + _ROLLBACK_S)
            with contextlib.suppress(psycopg.Error), self._watchdog.watching(pooled, end):
                if pooled.connection.info.transaction_status != TransactionStatus.IDLE:
                    pooled.connection.execute("ROLLBACK")
                sound = True
        closed_connections: list[_PooledConnection] = []
        with self._condition:
            if sound and not pooled.cut and not pooled.connection.closed and not self._closed:
                self._idle.append(pooled)
                self._silent = False
                self._condition.notify()
            else:
                self._open -= 1
                closed_connections.append(pooled)
                if pooled.cut:
                    self._silent = True
                if pooled.cut or pooled.lost:
                    # The cause has probably ended the idle connections too.
                    closed_connections += self._forget_idle()
                self._condition.notify_all()
        for connection in closed_connections:
            connection.close()

    def _forget_idle(self) -> list[_PooledConnection]:
        idle, self._idle = self._idle, []
        self._open -= len(idle)
        return idle

    def close(self) -> None:
        """Close idle connections now, and lent ones when they come back."""
        with self._condition:
            self._closed = True
            idle = self._forget_idle()
            self._condition.notify_all()
        for pooled in idle:
            pooled.close()
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
    def watching(self, pooled: _PooledConnection, limit: float) -> Iterator[None]:
        """Watch a connection until the block ends, or shut it down at `limit` (monotonic)."""
        with self._lock:
            self._calls[pooled] = limit
        try:
            yield
        finally:
            with self._lock:
                del self._calls[pooled]

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
            for pooled, limit in self._calls.items():
                if now > limit:
                    pooled.shut()
            return len(self._calls)

    def close(self) -> None:
        """Stop watching, after the last call has ended."""
        self._closing.set()
