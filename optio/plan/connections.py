"""Effects of connections: the hosts that the gateway reaches for a run, the secrets that it sends there, and the tools and
requests of each connection. A task is compiled with its connections, so a change of a connection's file is one of its tasks."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from optio.model.connection import Connection, HttpConnection, McpConnection, Stdio
from optio.model.effect import EffectKind, EffectWeight
from optio.model.route import Route
from optio.plan.effect import Effect
from optio.plan.words import brief, changed_entries

_ROUTE: Route = ("connections",)
_MAX_LENGTH = 200
# What other effects or the tools and requests say, and what means nothing to a run.
_SAID = frozenset({"type", "description", "tools", "allow", "models", "key", "pin"})


def effects(old: Sequence[Connection], new: Sequence[Connection]) -> Iterator[Effect]:
    """Yield the effects of a task's connections, those of hosts and secrets first."""
    yield from _hosts(old, new)
    yield from _secrets(old, new)
    before, after = ({connection.id: connection for connection in connections} for connections in (old, new))
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        if was is None and now is not None:
            yield _added(now)
        elif now is None and was is not None:
            text = f"no longer has the connection {name} ({was.spec.kind})"
            yield Effect(kind=EffectKind.CONNECTIONS_CHANGED, text=text, before=name, route=_ROUTE)
        elif was is not None and now is not None and (effect := _changed(was, now)) is not None:
            yield effect


def _hosts(old: Sequence[Connection], new: Sequence[Connection]) -> Iterator[Effect]:
    were, are = ({_host(connection): connection.id for connection in each if connection.url} for each in (old, new))
    for host in sorted(set(are) - set(were)):
        text = f"reaches {host} through the gateway, by the connection {are[host]}"
        yield Effect(kind=EffectKind.EGRESS_OPENED, text=text, weight=EffectWeight.DANGER, after=host, route=_ROUTE)
    for host in sorted(set(were) - set(are)):
        text = f"no longer reaches {host} through the gateway"
        yield Effect(kind=EffectKind.EGRESS_CLOSED, text=text, before=host, route=_ROUTE)


def _secrets(old: Sequence[Connection], new: Sequence[Connection]) -> Iterator[Effect]:
    """Yield each secret by the place that it goes to: another host for the same secret is another reader of it."""
    were, are = (
        {(secret, _destination(each)) for each in connections for secret in each.secrets} for connections in (old, new)
    )
    for secret, destination in sorted(are - were):
        text = f"the gateway sends the secret {secret} to {destination}"
        yield Effect(kind=EffectKind.SECRET_ADDED, text=text, weight=EffectWeight.DANGER, after=secret, route=_ROUTE)
    for secret, destination in sorted(were - are):
        text = f"the gateway no longer sends the secret {secret} to {destination}"
        yield Effect(kind=EffectKind.SECRET_REMOVED, text=text, before=secret, route=_ROUTE)


def _added(connection: Connection) -> Effect:
    program = _program(connection)
    parts = [*([] if program is None else [f"the program `{program}`"]), *_grouped(_access(connection))]
    is_danger = bool(connection.writes) or program is not None
    return _effect(f"has the connection {connection.id} ({connection.spec.kind})", parts, is_danger=is_danger)


def _changed(was: Connection, now: Connection) -> Effect | None:
    """Return the effect of a connection that is there before and after; None if it acts the same."""
    old, new = (list(_access(connection)) for connection in (was, now))
    parts = [f"further {group}" for group in _grouped(entry for entry in new if entry not in old)]
    parts += [f"no longer {group}" for group in _grouped(entry for entry in old if entry not in new)]
    parts += [f"{key}: {before} -> {after}" for key, before, after in changed_entries(_settings(was), _settings(now), "none")]
    if not parts:
        return None
    # A tool that counts as `read` now counted as one that changes something.
    is_reclassified = bool({*was.writes} & {*now.tools} - {*now.writes})
    is_other_program = _program(now) not in (None, _program(was))
    is_danger = bool({*now.writes} - {*was.writes}) or is_reclassified or is_other_program or _loses_tls(was, now)
    return _effect(f"the connection {now.id} differs", parts, is_danger=is_danger)


def _effect(head: str, parts: Sequence[str], *, is_danger: bool) -> Effect:
    """Return the effect in one line, and in one line for each part if that is too long."""
    text = f"{head}: {'; '.join(parts)}"
    return Effect(
        kind=EffectKind.CONNECTIONS_CHANGED,
        text=brief(text, _MAX_LENGTH),
        weight=EffectWeight.DANGER if is_danger else EffectWeight.NOTICE,
        lines=tuple(parts) if len(text) > _MAX_LENGTH else (),
        route=_ROUTE,
    )


def _grouped(entries: Iterable[str]) -> Iterator[str]:
    """Yield the entries of each verb together: `read get_issue, search`."""
    verbs: dict[str, list[str]] = {}
    for entry in entries:
        verb, _, rest = entry.partition(" ")
        verbs.setdefault(verb, []).append(rest)
    yield from (f"{verb} {', '.join(rest)}" for verb, rest in sorted(verbs.items()))


def _access(connection: Connection) -> Iterator[str]:
    """Yield each tool, request or model of a connection, behind a verb for what the run does by it."""
    spec = connection.spec
    if isinstance(spec, McpConnection):
        yield from (f"{spec.tools[tool]} {tool}" for tool in connection.tools)
    elif isinstance(spec, HttpConnection):
        yield from (f"{'write' if entry in connection.writes else 'read'} {entry}" for entry in spec.allow)
    else:
        yield from (f"call {pattern}" for pattern in spec.models or ["any model"])


def _settings(connection: Connection) -> dict[str, Any]:
    """Return the other keys of a connection, those of its transport by their own names, and its type as `transport`."""
    spec = connection.to_json()["spec"]
    transport = {"transport" if key == "type" else key: value for key, value in spec.get("transport", {}).items()}
    pins = {f"pin of {tool}": pin for tool, pin in spec.get("pin", {}).items()}
    return {key: value for key, value in {**spec, **transport, **pins}.items() if key not in _SAID}


def _program(connection: Connection) -> str | None:
    spec = connection.spec
    is_program = isinstance(spec, McpConnection) and isinstance(spec.transport, Stdio)
    return " ".join(spec.transport.command) if is_program else None  # type: ignore[union-attr]


def _loses_tls(was: Connection, now: Connection) -> bool:
    return (was.url or "").startswith("https://") and (now.url or "").startswith("http://")


def _host(connection: Connection) -> str:
    return connection.host or ""


def _destination(connection: Connection) -> str:
    return _host(connection) or f"the program of {connection.id}"
