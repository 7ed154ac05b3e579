"""Redis checks of `optio doctor`: whether hints and rate windows can go through this Redis as it is configured. Nothing is
changed."""

from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import redis

from optio.broker.connection import client, is_open_to_others
from optio.model.probe_result import ERROR, OK, WARNING, ProbeResult

_REPLY_TIMEOUT_S = 2.0


def examine(url: str) -> Iterator[ProbeResult]:
    """Yield one result for each check; raise ValueError for a URL that cannot be read."""
    with closing(client(url, _REPLY_TIMEOUT_S)) as connection:
        address = "{host}:{port}".format(
            **{"host": "this machine", "port": "-", **connection.connection_pool.connection_kwargs}
        )
        try:
            info: dict[str, Any] = connection.info()
        except (redis.RedisError, OSError) as err:
            is_refused = isinstance(err, redis.AuthenticationError) or "authenticated" in str(err)
            reason = "it refused the password" if is_refused else str(err)
            hint = (
                "write the URL as redis://:PASSWORD@HOST:PORT/0" if is_refused else "start it; until then runs start by sweeps"
            )
            yield ProbeResult("redis", ERROR, f"{address}: {reason}", hint)
            return
        yield ProbeResult("redis", OK, f"Redis {info.get('redis_version')}, {address}, {info.get('used_memory_human')} used")
        yield from _safe(url)
        yield from _writable(info)
        yield from _memory(info)
        yield _persistence(connection, info)


def _safe(url: str) -> Iterator[ProbeResult]:
    host = is_open_to_others(url)
    if host is not None:
        hint = (
            "set `requirepass` and put it into the URL: redis://:PASSWORD@HOST:PORT/0, with rediss:// where others may listen"
        )
        yield ProbeResult(
            "redis",
            WARNING,
            f"Redis on {host} is used without a password: anyone who reaches it can write and delete there",
            hint,
        )


def _writable(info: dict[str, Any]) -> Iterator[ProbeResult]:
    if info.get("role") == "slave":
        yield ProbeResult("redis", ERROR, "it is a read-only replica", "use the address of the primary")
    if info.get("rdb_last_bgsave_status") == "err":
        hint = "free some space on its disk, or set `stop-writes-on-bgsave-error no`"
        yield ProbeResult("redis", WARNING, "its last snapshot failed: it may refuse writes", hint)


def _memory(info: dict[str, Any]) -> Iterator[ProbeResult]:
    """Warn where memory is bounded and eviction could delete hints or rate windows."""
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        detail = f"maxmemory-policy is {policy}: it may evict hints and rate windows"
        yield ProbeResult("redis", WARNING, detail, "CONFIG SET maxmemory-policy noeviction")


def _persistence(connection: "redis.Redis", info: dict[str, Any]) -> ProbeResult:
    saved = "its append-only file" if info.get("aof_enabled") else None
    with suppress(redis.RedisError):  # the user may lack the right to ask
        if saved is None and connection.config_get("save").get("save"):
            saved = "snapshots"
    unsaved = "not saved: a restart empties the rate windows, and no run is lost"
    return ProbeResult("redis", OK, f"saved by {saved}" if saved else unsaved)
