"""Hints between machines. START is a Dramatiq message, so that one worker takes it; the other topics are published.

Whatever Redis does, `tell` only puts the hint into a queue in memory; a thread of its own sends it, or drops it. A forged or
broken message makes a worker look at the store, nothing more.
"""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker as DramatiqBroker
from redis.backoff import NoBackoff
from redis.retry import Retry

from optio.broker.base import Listener, Topic

log = logging.getLogger(__name__)
NAMESPACE = "optio"
QUEUE = "runs"
# Seconds for an answer: no hint is worth more.
_PATIENCE = 1.0
# After a failure nothing is tried for this long.
_PAUSE = 0.5
# Hints that wait to be sent. A START beyond the workers' number tells nobody anything new.
_MOST_STARTS = 64
_MOST_HINTS = 10_000
# An idle consumer asks so often (milliseconds): 11 ms until a run starts, for 3.7 % of a core.
_POLL_MS = 20
_PUBLISHED = tuple(topic for topic in Topic if topic is not Topic.START)
# Dramatiq's defaults bring a killed worker's message back after minutes: 5 s, and every look repairs.
_HEARTBEAT_MS = 5_000
_ALWAYS = 1_000_000
# Its consumer waits three seconds after an error, ours tells by itself what is wrong.
logging.getLogger("dramatiq").setLevel(logging.CRITICAL + 1)


def client(url: str, patience: float = _PATIENCE) -> "redis.Redis":
    """A client that gives up at once: the default retries for almost a minute. Raises ValueError for a URL that is none."""
    retry = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(url, socket_timeout=patience, socket_connect_timeout=patience, retry=retry)


class RedisBroker:
    """See the module. Every process has one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = client(url)
        self._channel = f"{NAMESPACE}:hints"
        self._dramatiq = DramatiqBroker(  # type: ignore[no-untyped-call]
            client=self._client,
            namespace=NAMESPACE,
            heartbeat_timeout=_HEARTBEAT_MS,
            maintenance_chance=_ALWAYS,
            middleware=[],
        )
        self._start = dramatiq.actor(broker=self._dramatiq, queue_name=QUEUE, actor_name="start")(self._started)
        self._listeners: tuple[tuple[Listener, frozenset[Topic]], ...] = ()
        self._lock = threading.Lock()
        self._starts: deque[str] = deque(maxlen=_MOST_STARTS)
        self._hints: deque[tuple[Topic, str]] = deque(maxlen=_MOST_HINTS)
        self._bell = threading.Event()
        self._closing = threading.Event()
        self._room = threading.Event()
        self._room.set()
        self._problem: str | None = None
        self._deaf: str | None = None
        self._taker: dramatiq.Worker | None = None
        self._ear: threading.Thread | None = None
        self._mouth = threading.Thread(target=self._send_loop, name="broker-send", daemon=True)
        self._mouth.start()

    # Telling

    def tell(self, topic: Topic, *keys: str) -> None:
        """See `Broker.tell`. Listeners of this process hear published topics at once."""
        if topic is Topic.START:
            self._starts.extend(keys)
        else:
            for key in keys or ("",):
                self._dispatch(topic, key)
                self._hints.append((topic, key))
        self._bell.set()

    def _send_loop(self) -> None:
        while not self._closing.is_set():
            self._bell.wait(1.0)
            self._bell.clear()
            try:
                self._send()
            except Exception as err:  # redis-py raises more kinds than it documents; a hint is not worth a thread
                self._failed(err)
                self._closing.wait(_PAUSE)
                self._starts.clear()
                self._hints.clear()
            else:
                if self._problem is not None:
                    log.warning("Redis is back")
                self._problem = None

    def _send(self) -> None:
        quiet = True
        while self._hints:
            quiet = False
            with self._client.pipeline(transaction=False) as pipe:
                for _ in range(min(len(self._hints), 500)):
                    topic, key = self._hints.popleft()
                    pipe.publish(self._channel, f"{topic.value} {key}")
                pipe.execute()
        while self._starts:
            quiet = False
            self._start.send(self._starts.popleft())
        if quiet:
            # A write: one that is full, or a read-only replica, answers a PING.
            self._client.set(f"{NAMESPACE}:alive", int(time.time()), ex=60)

    def _failed(self, err: Exception) -> None:
        words = f"{type(err).__name__}: {err}"
        if self._problem is None:
            log.warning("Redis cannot be used, workers find what waits by themselves: %s", words)
        self._problem = words

    # Listening

    def subscribe(self, listener: Listener, topics: Collection[Topic]) -> Callable[[], None]:
        """See `Broker.subscribe`."""
        entry = (listener, frozenset(topics))
        with self._lock:
            self._listeners = (*self._listeners, entry)
            if Topic.START in entry[1] and self._taker is None:
                self._taker = dramatiq.Worker(self._dramatiq, queues={QUEUE}, worker_threads=1, worker_timeout=_POLL_MS)
                self._taker.start()
            if entry[1] & set(_PUBLISHED) and self._ear is None:
                self._ear = threading.Thread(target=self._listen_loop, name="broker-listen", daemon=True)
                self._ear.start()

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = tuple(other for other in self._listeners if other is not entry)

        return unsubscribe

    def _dispatch(self, topic: Topic, key: str) -> None:
        for listener, topics in self._listeners:
            if topic in topics:
                try:
                    listener(topic, key)
                except Exception:
                    log.exception("a listener failed on %s %s", topic, key)

    def _started(self, run_id: object, *_: object, **__: object) -> None:
        """The actor. Anyone who can write to Redis can send: what is no text is nobody's run."""
        self._room.wait()
        if isinstance(run_id, str):
            self._dispatch(Topic.START, run_id[:100])

    def _listen_loop(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen()
            except Exception as err:
                self._deaf = f"{type(err).__name__}: {err}"
                self._closing.wait(_PAUSE)

    def _listen(self) -> None:
        own = redis.Redis.from_url(
            self._url, socket_timeout=5, socket_connect_timeout=_PATIENCE, health_check_interval=10, retry=Retry(NoBackoff(), 0)
        )
        with own, own.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
            pubsub.subscribe(self._channel)
            # What was said while nobody listened is lost: look at everything once.
            self._dispatch(Topic.QUEUE, "")
            self._dispatch(Topic.REGISTRY, "")
            self._deaf = None
            while not self._closing.is_set():
                message = pubsub.get_message(timeout=1.0)
                if message is not None and isinstance(message.get("data"), bytes):
                    self._heard(message["data"])

    def _heard(self, data: bytes) -> None:
        topic, _, key = data[:200].decode("utf-8", "replace").partition(" ")
        if topic in Topic._value2member_map_ and topic != Topic.START:
            self._dispatch(Topic(topic), key)

    def ready(self, room: bool) -> None:
        """See `Broker.ready`. The one message that waits here for room is a hint as good as any other, later."""
        if room:
            self._room.set()
        else:
            self._room.clear()

    # The end

    def problem(self) -> str | None:
        """See `Broker.problem`."""
        return self._problem or self._deaf

    def close(self) -> None:
        """Stop listening; what a Dramatiq consumer has fetched goes back."""
        self._closing.set()
        self._bell.set()
        self._room.set()
        if self._taker is not None:
            with contextlib.suppress(Exception):
                self._taker.stop(timeout=1_000)
        for thread in (self._mouth, self._ear):
            if thread is not None:
                thread.join(2)
        self._client.close()
