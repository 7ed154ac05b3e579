"""The broker of several machines, over Redis. START waits in a queue, so that one worker takes it; the other topics are
published.

Whatever Redis does, `tell` only puts the hint into a queue in memory; a thread of its own sends or drops it. A forged or broken
message makes a worker look at the store, and nothing more.
"""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection

import redis

from optio.broker.base import Listener, Topic
from optio.broker.connection import REPLY_TIMEOUT_S, RETRY_PAUSE_S, Troubles, client, database, is_open_to_others
from optio.broker.dramatiq import StartQueue
from optio.broker.listeners import Listeners

log = logging.getLogger(__name__)
# The bound of the hints that wait to be sent.
_MAX_HINTS = 10_000
_BATCH = 500
# The pause between two tests whether Redis can be written, and whether it still answers.
_CHECK_INTERVAL_S = 1.0
# Redis counts as silent after this time without an answer.
_SILENCE_S = 2.0
# New subscriptions take effect within this time.
_POLL_INTERVAL_S = 0.25
_MAX_KEY_LENGTH = 100


class RedisBroker:
    """Sends and receives hints over Redis, with one thread for each direction. Every process has one."""

    def __init__(self, url: str, *, failed: Callable[[], None] = lambda: None) -> None:
        """Start the sending thread; `failed` is called each time that Redis cannot be used."""
        self._url = url
        self._client = client(url)
        self._channel = f"optio:{database(url)}:"
        # Redis returns a process's own messages, which its listeners have had already: they are skipped by this name.
        self._name = uuid.uuid4().hex[:12].encode()
        self._troubles = Troubles(failed)
        self._listeners = Listeners()
        self._queue = StartQueue(url, lambda run_id: self._listeners.dispatch(Topic.START, run_id), self._troubles)
        self._lock = threading.Lock()
        self._starts: deque[str] = deque(maxlen=1)
        self._hints: deque[tuple[Topic, str]] = deque(maxlen=_MAX_HINTS)
        self._bell = threading.Event()
        self._closing = threading.Event()
        self._ear: threading.Thread | None = None
        self._heard_by: redis.Redis | None = None
        self._mouth = threading.Thread(target=self._speak, name="broker-speak", daemon=True)
        self._mouth.start()
        host = is_open_to_others(url)
        if host is not None:
            log.warning(
                "OPTIO_REDIS_URL has no password, and %s is not this machine: anyone who reaches that Redis can wake workers "
                "and use up the webhooks' rate windows",
                host,
            )

    # Sending

    def tell(self, topic: Topic, *keys: str) -> None:
        """Queue the hints for sending. Subscribers in this process hear published topics at once."""
        if topic is Topic.START:
            self._starts.extend(keys)
        else:
            for key in keys or ("",):
                self._listeners.dispatch(topic, key)
                self._hints.append((topic, key))
        self._bell.set()

    def _speak(self) -> None:
        checked = 0.0
        while True:
            self._bell.wait(_CHECK_INTERVAL_S)
            self._bell.clear()
            last = self._closing.is_set()
            if last and self._troubles.has("speak"):
                return  # do not wait for a Redis that does not answer
            try:
                self._publish()
                while self._starts:
                    self._queue.put(self._starts.popleft())
                if time.monotonic() - checked >= _CHECK_INTERVAL_S:
                    checked = time.monotonic()
                    # A write, because a full Redis or a read-only replica still answers a PING.
                    self._client.set("optio:alive", int(time.time()), ex=60)
                    self._troubles.end("speak")
            except Exception as err:  # redis-py raises more kinds than it documents, and the thread must survive
                self._troubles.begin("speak", err)
                if not isinstance(err, redis.ResponseError):
                    self._starts.clear()
                    self._hints.clear()
                    self._closing.wait(RETRY_PAUSE_S)
                    self._bell.set()
            if last:
                return

    def _publish(self) -> None:
        while self._hints:
            batch = dict.fromkeys(self._hints.popleft() for _ in range(min(len(self._hints), _BATCH)))
            with self._client.pipeline(transaction=False) as pipe:
                for topic, key in batch:
                    pipe.publish(self._channel + topic, self._name + b" " + key.encode("utf-8", "replace"))
                pipe.execute()

    # Listening

    def subscribe(self, listener: Listener, topics: Collection[Topic]) -> Callable[[], None]:
        remove = self._listeners.add(listener, topics)
        with self._lock:
            if Topic.START in topics:
                self._queue.open.set()
                self._queue.listen()
            if set(topics) - {Topic.START} and self._ear is None:
                self._ear = threading.Thread(target=self._listen, name="broker-listen", daemon=True)
                self._ear.start()

        def unsubscribe() -> None:
            remove()
            with self._lock:
                if Topic.START not in self._listeners.wanted():
                    self._queue.open.clear()

        return unsubscribe

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                self._hear()
            except Exception as err:
                if not self._closing.is_set():
                    self._troubles.begin("listen", err)
                    self._closing.wait(RETRY_PAUSE_S)

    def _hear(self) -> None:
        """Listen on one connection until it ends; `_listen` then opens the next."""
        # Without the client's own retries: messages sent in between are lost, and `_heard` must know that.
        with client(self._url, retries=0) as connection, connection.pubsub() as pubsub:
            self._heard_by = connection
            have: frozenset[Topic] = frozenset()
            heard_at = time.monotonic()
            asked_at: float | None = None
            while not self._closing.is_set():
                topics = self._listeners.wanted() - {Topic.START}
                if topics - have:
                    pubsub.subscribe(*(self._channel + topic for topic in topics - have))
                    have = topics
                message = pubsub.get_message(timeout=_POLL_INTERVAL_S)
                now = time.monotonic()
                if message is not None:
                    heard_at, asked_at = now, None
                    self._heard(message)
                elif asked_at is None and now - heard_at >= _CHECK_INTERVAL_S:
                    # Silence counts from here: until now this process itself may have stood still.
                    asked_at = now
                    pubsub.ping()
                elif asked_at is not None and now - asked_at > _SILENCE_S:
                    raise redis.TimeoutError(f"no answer for {_SILENCE_S:.0f} s")

    def _heard(self, message: dict[str, object]) -> None:
        channel, data = message.get("channel"), message.get("data")
        if message.get("type") == "subscribe" and self._troubles.has("listen"):
            # Messages sent while nobody listened are lost, so every listener looks once.
            self._troubles.end("listen")
            self._listeners.dispatch(Topic.QUEUE, "")
            self._listeners.dispatch(Topic.REGISTRY, "")
        if message.get("type") != "message" or not isinstance(channel, bytes) or not isinstance(data, bytes):
            return
        name, _, key = data[: _MAX_KEY_LENGTH + 16].partition(b" ")
        if name != self._name:
            topic = channel.decode("utf-8", "replace").removeprefix(self._channel)
            self._listeners.dispatch(Topic(topic), key.decode("utf-8", "replace")[:_MAX_KEY_LENGTH])

    def ready(self, room: bool) -> None:
        with self._lock:
            if room and Topic.START in self._listeners.wanted():
                self._queue.open.set()
            else:
                self._queue.open.clear()

    # State and end

    def problem(self) -> str | None:
        return self._troubles.words()

    def close(self) -> None:
        """Send the hints that still wait, unless Redis does not answer, and stop listening."""
        self._closing.set()
        self._bell.set()
        self._mouth.join(2 * REPLY_TIMEOUT_S)
        self._queue.close()
        if self._ear is not None:
            if self._heard_by is not None:
                self._heard_by.connection_pool.disconnect()
            self._ear.join(2 * REPLY_TIMEOUT_S)
        self._client.close()
