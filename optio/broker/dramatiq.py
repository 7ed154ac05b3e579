"""The queue of START hints: a Dramatiq broker over one list in Redis, with one actor.

Dramatiq's own Redis broker delivers at least once, and pays for it: its consumer polls, undecodable messages stay for ever, a
worker without room prefetches, and the queue grows while no worker takes from it. A hint needs none of that, since the sweep
finds every run. Here a message is taken once, by a worker that waits for it, and lives at most a minute.
"""

import logging
import threading
import time
from collections.abc import Callable

import dramatiq
import redis
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.errors import DecodeError

from optio.broker.connection import RETRY_PAUSE_S, Troubles, client

log = logging.getLogger(__name__)
KEY = "optio:runs"
QUEUE = "runs"
ACTOR = "start"
# Hints older than this are worthless: a sweep has found the run.
_STALE_S = 60
# More hints than workers tell no worker anything new.
_MAX_QUEUED = 1_000
# Optio sends no longer messages.
_MAX_MESSAGE_BYTES = 4_096
_MAX_ID_LENGTH = 100
# The pause between two looks at `open`, and the timeout of a wait in Redis.
_POLL_INTERVAL_S = 0.2
_POP_TIMEOUT_S = 1
# The least time between two log lines about unknown messages.
_LOG_INTERVAL_S = 10.0


def read(data: bytes) -> str | None:
    """Return the run id in a message; None for messages that no StartQueue has sent."""
    if len(data) > _MAX_MESSAGE_BYTES:
        return None
    try:
        message = dramatiq.Message.decode(data)
    except DecodeError:  # for any reason
        return None
    if message.actor_name != ACTOR or len(message.args) != 1 or message.kwargs:
        return None
    run_id = message.args[0]
    return run_id if isinstance(run_id, str) and 0 < len(run_id) <= _MAX_ID_LENGTH else None


class StartQueue(dramatiq.Broker):
    """The queue as a Dramatiq broker. `take` is called for each message that this process gets, and `open` says whether it
    wants one. Every message clears `open`, so that the next goes to another worker until this one has looked at the store."""

    def __init__(self, url: str, take: Callable[[str], None], troubles: Troubles) -> None:
        # Without Dramatiq's middleware: the store keeps attempts, time limits and retries.
        super().__init__(middleware=[])
        # `Troubles` logs failures instead.
        logging.getLogger("dramatiq").setLevel(logging.CRITICAL + 1)
        self.queues: set[str] = set()
        self.open = threading.Event()
        self.closing = threading.Event()
        self.troubles = troubles
        self.url = url
        self._client = client(url)
        self._strange = 0
        self._logged_at = -_LOG_INTERVAL_S
        self.actor = dramatiq.actor(broker=self, queue_name=QUEUE, actor_name=ACTOR)(take)
        self._worker: dramatiq.Worker | None = None

    def put(self, run_id: str) -> None:
        """Send a message for this run; raise redis.RedisError when Redis cannot be written."""
        self.actor.send(run_id)

    def listen(self) -> None:
        """Start taking messages, on the threads of a Dramatiq worker; a second call does nothing."""
        if self._worker is None:
            self._worker = dramatiq.Worker(self, queues={QUEUE}, worker_threads=1, worker_timeout=100)
            self._worker.start()

    def close(self) -> None:
        """Stop taking messages at once, even while waiting for a Redis that does not answer."""
        self.closing.set()
        self.open.set()
        worker, self._worker = self._worker, None
        if worker is not None:
            for thread in worker.consumers.values():
                thread.close()
            worker.stop(timeout=1_000)
        self._client.close()

    # The interface of a Dramatiq broker

    def declare_queue(self, queue_name: str) -> None:
        """Register a queue, as Dramatiq asks. There are no delayed messages, hence no queue for them."""
        if queue_name not in self.queues:
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def get_declared_queues(self) -> set[str]:
        return set(self.queues)

    def enqueue(self, message: "dramatiq.Message[None]", *, delay: int | None = None) -> "dramatiq.Message[None]":
        """Push a message; where the key of the list holds another type, delete it first."""
        try:
            self._push(message.encode())
        except redis.ResponseError as err:
            if not self.cured(self._client, err):
                raise
            self._push(message.encode())
        return message

    def _push(self, data: bytes) -> None:
        with self._client.pipeline(transaction=False) as pipe:
            pipe.rpush(KEY, data)
            pipe.ltrim(KEY, -_MAX_QUEUED, -1)
            pipe.expire(KEY, _STALE_S)
            pipe.execute()

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> Consumer:
        return _Consumer(self)

    # Foreign data in Redis

    def cured(self, connection: "redis.Redis", error: redis.ResponseError) -> bool:
        """Delete the list's key if it holds another type, which only a foreign program can have put there; return whether it
        did."""
        if "WRONGTYPE" not in str(error):
            return False
        log.warning("the key %s in Redis held another type than Optio's list, and was deleted", KEY)
        connection.delete(KEY)
        return True

    def drop(self, data: bytes) -> None:
        """Log that a message was dropped, at most one line in ten seconds, with the number of the others."""
        self._strange += 1
        now = time.monotonic()
        if now - self._logged_at < _LOG_INTERVAL_S:
            return
        self._logged_at = now
        count_text = f", and {self._strange - 1} before it" if self._strange > 1 else ""
        self._strange = 0
        log.warning("dropped an unknown message from Redis: %d bytes, %r%s", len(data), data[:60], count_text)


class _Consumer(Consumer):
    """Takes one message at a time, while this process wants one. It never raises: Dramatiq would rest for three seconds."""

    def __init__(self, queue: StartQueue) -> None:
        self._queue = queue
        self._client = client(queue.url, _POP_TIMEOUT_S + 1.0)

    def __next__(self) -> MessageProxy | None:
        queue = self._queue
        if not queue.open.wait(_POLL_INTERVAL_S) or queue.closing.is_set():
            return None
        try:
            message = self._pop()
            if message is None:
                return None
            run_id = read(message)
            if run_id is None:
                queue.drop(message)
            elif not queue.open.is_set():
                self._client.lpush(KEY, message)  # room has run out meanwhile: give it to another worker
            else:
                queue.open.clear()
                return MessageProxy(queue.actor.message(run_id))
        except Exception as err:  # redis-py raises more kinds than it documents
            if not queue.closing.is_set():
                queue.troubles.begin("take", err)
                queue.closing.wait(RETRY_PAUSE_S)
        return None

    def _pop(self) -> bytes | None:
        try:
            reply = self._client.blpop([KEY], timeout=_POP_TIMEOUT_S)
        except redis.ResponseError as err:
            if not self._queue.cured(self._client, err):
                raise
            reply = None
        self._queue.troubles.end("take")
        data = None if reply is None else reply[1]
        return data if isinstance(data, bytes) else None

    def ack(self, message: MessageProxy) -> None:
        """Do nothing: `BLPOP` has removed the message already."""

    def nack(self, message: MessageProxy) -> None:
        """Do nothing: a hint that failed is no worse than one that was lost."""

    def close(self) -> None:
        """Disconnect, which also ends a wait for a message."""
        self._client.connection_pool.disconnect()
