"""Effects on what a run has access to: secrets, network, image, set-up commands, environment variables, resources, and (by
`connections`) services behind the gateway."""

import ipaddress
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from optio.model.effect import EffectKind, EffectWeight
from optio.model.egress import Block, Host, parse
from optio.model.pool import parse_quantity
from optio.model.registry import CompiledTask
from optio.model.route import Route
from optio.model.task import Amounts, Environment, Resources
from optio.model.text import format_duration
from optio.plan.effect import Effect, value_change
from optio.plan.lines import line_diff
from optio.plan.words import MAX_LISTED, changed_entries, listed, pluralize, shorten_pair

if TYPE_CHECKING:
    from optio.model.egress import Entry

_EMPTY_ENVIRONMENT = Environment()
_PUBLIC = "every public address"
_NETWORK: Route = ("environment", "network")
_EGRESS: Route = (*_NETWORK, "egress")


def effects(before: CompiledTask | None, after: CompiledTask | None) -> Iterator[Effect]:
    """Yield effects for everything that comes into reach or goes out of it; nothing for a removed task, which reaches
    nothing."""
    if after is None:
        return
    old = _EMPTY_ENVIRONMENT if before is None else before.spec.environment
    new = after.spec.environment
    yield from _secrets(old.secrets, new.secrets)
    if before is None:
        yield from _new_egress(new)
    else:
        yield from _egress(old, new)
        yield from _image(old, new)
        yield from _setup(old, new)
        yield from _other_keys(old, new)
        yield from _namespace(before.namespace, after.namespace)
    if after.connections or (before is not None and before.connections):
        # Imported here: most tasks have no connection.
        from optio.plan import connections

        yield from connections.effects(() if before is None else before.connections, after.connections)


def _secrets(old: Sequence[str], new: Sequence[str]) -> Iterator[Effect]:
    for index, name in enumerate(new):
        if name not in old and name not in new[:index]:
            text = f"gets the secret {name}"
            place = ("environment", "secrets", index)
            yield Effect(kind=EffectKind.SECRET_ADDED, text=text, weight=EffectWeight.DANGER, after=name, route=place)
    for name in dict.fromkeys(old):
        if name not in new:
            yield Effect(
                kind=EffectKind.SECRET_REMOVED,
                text=f"no longer gets the secret {name}",
                before=name,
                route=("environment", "secrets"),
            )


def _new_egress(new: Environment) -> Iterator[Effect]:
    """Yield what a new task reaches, as one effect."""
    if new.network is None:
        text = f"reaches {_PUBLIC}: it has no egress list"
        yield Effect(kind=EffectKind.EGRESS_OPENED, text=text, weight=EffectWeight.DANGER, after=_PUBLIC, route=_NETWORK)
    elif hosts := sorted(set(new.network.egress)):
        text, lines = f"reaches {listed(hosts)}", _remaining_hosts(hosts)
        yield Effect(kind=EffectKind.EGRESS_OPENED, text=text, after=listed(hosts), lines=lines, route=_EGRESS)


def _egress(old: Environment, new: Environment) -> Iterator[Effect]:
    was, now = (None if environment.network is None else environment.network.egress for environment in (old, new))
    if was is None and now is None:
        return
    texts = [_PUBLIC if environment is None else listed(sorted(set(environment))) or "nothing" for environment in (was, now)]
    # Without a list a run reaches all public addresses, and no private ones.
    hosts = [] if now is None else _private_blocks(now) if was is None else _entries_outside(now, was)
    opening = f"{_PUBLIC} instead of {texts[0]}" if now is None else listed(hosts)
    closed = _PUBLIC if was is None else listed(_private_blocks(was) if now is None else _entries_outside(was, now))
    if opening:
        yield Effect(
            kind=EffectKind.EGRESS_OPENED,
            text=f"reaches {opening}" + (", which it did not" if now is not None else ""),
            weight=EffectWeight.DANGER,
            before=texts[0],
            after=texts[1],
            lines=_remaining_hosts(hosts),
            route=_EGRESS,
        )
    if closed:
        text = f"no longer reaches {closed}" + (f", only {texts[1]}" if was is None else "")
        yield Effect(kind=EffectKind.EGRESS_CLOSED, text=text, before=texts[0], after=texts[1], route=_EGRESS)


def _remaining_hosts(hosts: Sequence[str]) -> tuple[str, ...]:
    """Return the hosts that `listed` only counts: a reader must be able to see every opened host by name."""
    rest = hosts[MAX_LISTED:]
    return tuple(", ".join(rest[at : at + MAX_LISTED]) for at in range(0, len(rest), MAX_LISTED))


def _private_blocks(entries: Sequence[str]) -> list[str]:
    blocks = [entry for entry in map(parse, entries) if isinstance(entry, Block)]
    return sorted({str(block) for block in blocks if ipaddress.ip_network(block.network).is_private})


def _entries_outside(these: Sequence[str], those: Sequence[str]) -> list[str]:
    """Return the entries of `these` that no entry of `those` covers."""
    around = [parse(entry) for entry in those]
    return sorted({str(entry) for entry in map(parse, these) if not any(_is_within(entry, outer) for outer in around)})


def _is_within(inner: "Entry", outer: "Entry") -> bool:
    if inner.port != outer.port:
        return False
    if isinstance(inner, Host) and isinstance(outer, Host):
        if not outer.name.startswith("*."):
            return inner.name == outer.name
        return inner.name.removeprefix("*").endswith(outer.name[1:]) and inner.name != outer.name[2:]
    if isinstance(inner, Block) and isinstance(outer, Block):
        network, outer_network = ipaddress.ip_network(inner.network), ipaddress.ip_network(outer.network)
        return network.version == outer_network.version and network.subnet_of(outer_network)  # type: ignore[arg-type]
    return False


def _image(old: Environment, new: Environment) -> Iterator[Effect]:
    if old.image != new.image:
        was, now = shorten_pair(*(environment.image or "the server's default" for environment in (old, new)))
        is_other_repository = _image_repository(old.image) != _image_repository(new.image)
        yield Effect(
            kind=EffectKind.IMAGE_CHANGED,
            text=f"image: {was} -> {now}" + (": from elsewhere" if is_other_repository and new.image else ""),
            weight=EffectWeight.DANGER if is_other_repository and new.image else EffectWeight.NOTICE,
            before=was,
            after=now,
            route=("environment", "image"),
        )


def _setup(old: Environment, new: Environment) -> Iterator[Effect]:
    if old.setup_commands != new.setup_commands:
        was, now = (pluralize(len(environment.setup_commands), "command") for environment in (old, new))
        yield Effect(
            kind=EffectKind.SETUP_CHANGED,
            text=f"set-up: {was} -> {now}" if was != now else f"set-up: other commands ({now})",
            before=was,
            after=now,
            diff=line_diff(old.setup_commands, new.setup_commands, around=1),
            route=("environment", "setupCommands"),
        )
    if old.setup_ahead != new.setup_ahead:
        was, now = (
            "before a run has come" if environment.setup_ahead else "as a part of each run" for environment in (old, new)
        )
        yield value_change(EffectKind.SETUP_CHANGED, "set-up runs", was, now, ("environment", "setupAhead"))


def _other_keys(old: Environment, new: Environment) -> Iterator[Effect]:
    if old.keep_failed_span != new.keep_failed_span:
        was, now = (
            "no time" if environment.keep_failed_span is None else format_duration(environment.keep_failed_span)
            for environment in (old, new)
        )
        route: Route = ("environment", "keepFailed")
        yield value_change(EffectKind.KEPT_CHANGED, "pods of failed runs are kept", was, now, route)
    for name, was, now in changed_entries(old.env, new.env, "not set"):
        yield value_change(EffectKind.ENV_CHANGED, name, was, now, ("environment", "env", name))
    was, now = _resources_text(old.resources), _resources_text(new.resources)
    if _resource_numbers(old.resources) != _resource_numbers(new.resources):
        route = ("environment", "resources")
        yield value_change(EffectKind.RESOURCES_CHANGED, "a pod may use", was, now, route, EffectWeight.INFO)


def _namespace(old: str | None, new: str | None) -> Iterator[Effect]:
    if old != new:
        was, now = old or "that of tasks without one", new or "that of tasks without one"
        yield value_change(EffectKind.NAMESPACE_CHANGED, "namespace", was, now, (), EffectWeight.DANGER)


def _image_repository(image: str | None) -> str | None:
    """Return an image reference without its tag and digest."""
    if image is None:
        return None
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def _resource_numbers(resources: Resources | None) -> list[object]:
    """Return the resources as numbers for comparison: `1Gi` equals `1024Mi`."""
    limit, requests = (resources or Resources()).limit, (resources or Resources()).requests or Amounts()
    return [
        quantity and (parse_quantity(quantity) or quantity)
        for quantity in (limit.cpu, limit.memory, requests.cpu, requests.memory)
    ]


def _resources_text(resources: Resources | None) -> str:
    resources = resources or Resources()
    requests = resources.requests or Amounts()
    sizes = (("cpu", resources.limit.cpu, requests.cpu), ("memory", resources.limit.memory, requests.memory))
    return ", ".join(
        f"{key} {limit or 'by default'}" + (f" (requests {request})" if request else "") for key, limit, request in sizes
    )
