"""Redis connections that give up soon, and a record of what is wrong with Redis now. The broker's threads share both."""

import ipaddress
import logging
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)
# The longest wait for an answer: a hint is not worth more.
REPLY_TIMEOUT_S = 1.0
# After a failure Redis is not tried for this long.
RETRY_PAUSE_S = 0.5
_MAX_ERROR_LENGTH = 300


def client(url: str, patience: float = REPLY_TIMEOUT_S, *, retries: int = 1) -> "redis.Redis":
    """Return a client that gives up soon: the library's default is ten more tries, almost a minute. `again` is the number of
    retries after a connection that ended while idle. Raise ValueError for a URL that cannot be read."""
    retry = Retry(NoBackoff(), retries, supported_errors=(redis.ConnectionError,))
    return redis.Redis.from_url(url, socket_timeout=patience, socket_connect_timeout=patience, retry=retry)


def database(url: str) -> str:
    """Return the number of the database in the URL. Published messages, unlike keys, are heard in all databases, so channels
    carry it."""
    return urlsplit(url).path.strip("/") or "0"


def is_open_to_others(url: str) -> str | None:
    """Return the host if it is another machine and the URL has no password, so that whoever reaches it may write there; None
    otherwise."""
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return None if parts.password or loopback else host


class Troubles:
    """The present failures of Redis, by the part of the broker that met them. It logs when the first begins and when the last
    is over."""

    def __init__(self, failed: Callable[[], None] = lambda: None) -> None:
        """Start without failures; `failed` is called for each one, repeated ones included, and telemetry counts them."""
        self._lock = threading.Lock()
        self._troubles: dict[str, str] = {}
        self._failed = failed

    def begin(self, part: str, error: Exception) -> None:
        """Record that this part cannot use Redis, and log it unless another part has."""
        words = f"{type(error).__name__}: {error}"[:_MAX_ERROR_LENGTH]
        self._failed()
        with self._lock:
            if not self._troubles:
                log.warning("Redis cannot be used, so workers find queued runs by polling the database: %s", words)
            self._troubles[part] = words

    def end(self, part: str) -> None:
        """Record that this part can use Redis again."""
        if part not in self._troubles:
            return
        with self._lock:
            self._troubles.pop(part, None)
            if not self._troubles:
                log.warning("Redis is back")

    def has(self, part: str) -> bool:
        """Return whether this part cannot use Redis at present."""
        return part in self._troubles

    def words(self) -> str | None:
        """Return the failure of one part as a sentence; None while all work."""
        return next(iter(list(self._troubles.values())), None)
