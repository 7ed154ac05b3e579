"""Connections to Redis that give up soon, and what is wrong with them now."""

import ipaddress
import logging
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)
# Seconds for an answer: no hint is worth more.
REPLY_TIMEOUT_S = 1.0
# After a failure nothing is tried for this long.
RETRY_PAUSE_S = 0.5
_MAX_ERROR_LENGTH = 300


def client(url: str, patience: float = REPLY_TIMEOUT_S, *, again: int = 1) -> "redis.Redis":
    """A client that gives up soon: the library's own default is ten more tries, almost a minute. `again` is for a connection
    that had ended while nobody used it. Raises ValueError for a URL that is none."""
    retry = Retry(NoBackoff(), again, supported_errors=(redis.ConnectionError,))
    return redis.Redis.from_url(url, socket_timeout=patience, socket_connect_timeout=patience, retry=retry)


def database(url: str) -> str:
    """The number in the URL. Published messages, unlike keys, are heard in all databases."""
    return urlsplit(url).path.strip("/") or "0"


def is_open_to_others(url: str) -> str | None:
    """The host, if it is another machine's and no password is sent: whoever reaches it may write there too."""
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return None if parts.password or loopback else host


class Troubles:
    """What does not work now, by the part of the broker that sees it. Said when it begins, and when it is over."""

    def __init__(self, failed: Callable[[], None] = lambda: None) -> None:
        """`failed` is called each time."""
        self._lock = threading.Lock()
        self._found: dict[str, str] = {}
        self._failed = failed

    def begin(self, part: str, error: Exception) -> None:
        """This part cannot use Redis."""
        words = f"{type(error).__name__}: {error}"[:_MAX_ERROR_LENGTH]
        self._failed()
        with self._lock:
            if not self._found:
                log.warning("Redis cannot be used, workers find what waits by themselves: %s", words)
            self._found[part] = words

    def end(self, part: str) -> None:
        """This part can use it again."""
        if part not in self._found:
            return
        with self._lock:
            self._found.pop(part, None)
            if not self._found:
                log.warning("Redis is back")

    def has(self, part: str) -> bool:
        """Whether this part cannot use it now."""
        return part in self._found

    def words(self) -> str | None:
        """What is wrong, in the words of one part."""
        return next(iter(list(self._found.values())), None)
