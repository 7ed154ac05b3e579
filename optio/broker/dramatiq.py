"""The queue of START hints: a Dramatiq broker over one list in Redis, with one actor.

Dramatiq's own Redis broker delivers at least once, and pays for it: its consumer polls, what cannot be decoded stays for ever,
a worker that has no room fetches for later, and the queue grows while nobody takes from it. A hint needs none of that, since
the sweep finds every run: here a message is taken once, by a worker that waits for it, and does not outlive a minute.
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
# Seconds. What waits for longer was found by a sweep.
_STALE_S = 60
# Beyond the number of workers a hint tells nobody anything new.
_MAX_QUEUED = 1_000
# Longer ones are none of ours.
_MAX_MESSAGE_BYTES = 4_096
_MAX_ID_LENGTH = 100
# Seconds: a consumer looks so often whether it is wanted, and waits so long in Redis.
_POLL_INTERVAL_S = 0.2
_POP_TIMEOUT_S = 1
# Seconds between two lines in the log about messages that are none of ours.
_LOG_INTERVAL_S = 10.0


def read(data: bytes) -> str | None:
    """The run id in a message; None if no queue of ours has sent it."""
    if len(data) > _MAX_MESSAGE_BYTES:
        return None
    try:
        message = dramatiq.Message.decode(data)
    except DecodeError:  # whatever is wrong with it
        return None
    if message.actor_name != ACTOR or len(message.args) != 1 or message.kwargs:
        return None
    run_id = message.args[0]
    return run_id if isinstance(run_id, str) and 0 < len(run_id) <= _MAX_ID_LENGTH else None


class StartQueue(dramatiq.Broker):
    """See the module. `take` is called for each message that this process gets, `open` says whether it wants one: it is
    cleared by every message, so that what comes next goes to another worker until this one has looked."""

    def __init__(self, url: str, take: Callable[[str], None], troubles: Troubles) -> None:
        # None of Dramatiq's middleware: attempts, time limits and their retries are rows.
        super().__init__(middleware=[])
        # We tell by ourselves what is wrong.
        logging.getLogger("dramatiq").setLevel(logging.CRITICAL + 1)
        self.queues: set[str] = set()
        self.open = threading.Event()
        self.closing = threading.Event()
        self.troubles = troubles
        self.url = url
        self._client = client(url)
        self._strange = 0
        self._told = -_LOG_INTERVAL_S
        self.actor = dramatiq.actor(broker=self, queue_name=QUEUE, actor_name=ACTOR)(take)
        self._worker: dramatiq.Worker | None = None

    def put(self, run_id: str) -> None:
        """Send a message. Raises redis.RedisError."""
        self.actor.send(run_id)

    def listen(self) -> None:
        """Begin to take messages, on threads of its own."""
        if self._worker is None:
            self._worker = dramatiq.Worker(self, queues={QUEUE}, worker_threads=1, worker_timeout=100)
            self._worker.start()

    def close(self) -> None:
        """Take no more, at once: also out of a Redis that does not answer."""
        self.closing.set()
        self.open.set()
        worker, self._worker = self._worker, None
        if worker is not None:
            for thread in worker.consumers.values():
                thread.close()
            worker.stop(timeout=1_000)
        self._client.close()

    # What Dramatiq asks of a broker

    def declare_queue(self, queue_name: str) -> None:
        """See `dramatiq.Broker`. No delayed messages, hence no queue for them."""
        if queue_name not in self.queues:
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def get_declared_queues(self) -> set[str]:
        """See `dramatiq.Broker`."""
        return set(self.queues)

    def enqueue(self, message: "dramatiq.Message[None]", *, delay: int | None = None) -> "dramatiq.Message[None]":
        """See `dramatiq.Broker`."""
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
        """See `dramatiq.Broker`."""
        return _Consumer(self)

    # What is none of ours

    def cured(self, connection: "redis.Redis", error: redis.ResponseError) -> bool:
        """Somebody put something else in the list's place: it is removed."""
        if "WRONGTYPE" not in str(error):
            return False
        log.warning("%s in Redis is no list of ours and was removed", KEY)
        connection.delete(KEY)
        return True

    def drop(self, data: bytes) -> None:
        """Say that a message was dropped; many of them are said together."""
        self._strange += 1
        now = time.monotonic()
        if now - self._told < _LOG_INTERVAL_S:
            return
        self._told = now
        more = f", and {self._strange - 1} before it" if self._strange > 1 else ""
        self._strange = 0
        log.warning("dropped a message in Redis that is none of ours: %d bytes, %r%s", len(data), data[:60], more)


class _Consumer(Consumer):
    """Takes one message at a time, when this process wants one. Never raises: Dramatiq would rest for three seconds."""

    def __init__(self, queue: StartQueue) -> None:
        self._queue = queue
        self._client = client(queue.url, _POP_TIMEOUT_S + 1.0)

    def __next__(self) -> MessageProxy | None:
        queue = self._queue
        if not queue.open.wait(_POLL_INTERVAL_S) or queue.closing.is_set():
            return None
        try:
            found = self._pop()
            if found is None:
                return None
            run_id = read(found)
            if run_id is None:
                queue.drop(found)
            elif not queue.open.is_set():
                self._client.lpush(KEY, found)  # there is no room any more: others may have it
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
            found = self._client.blpop([KEY], timeout=_POP_TIMEOUT_S)
        except redis.ResponseError as err:
            if not self._queue.cured(self._client, err):
                raise
            found = None
        self._queue.troubles.end("take")
        data = None if found is None else found[1]
        return data if isinstance(data, bytes) else None

    def ack(self, message: MessageProxy) -> None:
        """What was taken is gone already."""

    def nack(self, message: MessageProxy) -> None:
        """The same: a hint that failed is no worse than one that was lost."""

    def close(self) -> None:
        """Ends a wait for a message, too."""
        self._client.connection_pool.disconnect()
