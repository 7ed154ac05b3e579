"""Check `environment`: the image reference, the hosts of `network.egress` and the quantities of `resources`. Mistakes that
would only show when the pod fails to start are errors here."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from optio.compiler.conversions.ecosystems import ECOSYSTEMS
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.prompt import PLACEHOLDER
from optio.model.route import Route
from optio.model.task import Amounts, Resources
from optio.model.trigger import WebhookTrigger

MAX_IMAGE_LENGTH = 512
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]{1,5})?/)?"
_IMAGE = rf"{_HOST}{_PART}(?:/{_PART})*(?::[\w][\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
_OPEN = "delete `environment.network`, which opens every public address, or name the hosts"
# Words for groups of hosts in other systems' lists. With a port, such a word may be a host's name.
_WORDS = {
    **{word: f"name the hosts: write `{hosts}`" for word, hosts in ECOSYSTEMS.items()},
    **dict.fromkeys(("defaults", "default"), "name the hosts that the agent needs, such as `api.anthropic.com`"),
    **dict.fromkeys(("all", "any", "internet", "public", "world"), _OPEN),
    **dict.fromkeys(("none", "deny", "nothing"), "write `egress: []`"),
}
# No process runs in less memory, and no node has more cores.
_MIN_MEMORY_BYTES, _MAX_CORES = 1 << 20, 256


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report values that no executor could use. Placeholders are left to `trust`, which reports them everywhere."""
    environment = task.spec.environment
    # Placeholders are reported by `trust`.
    if environment.image is not None and not PLACEHOLDER.search(environment.image) and not _is_image(environment.image):
        yield _bad_image(task, environment.image)
    hooks = [
        (index, trigger.config.events)
        for index, trigger in enumerate(task.spec.triggers)
        if isinstance(trigger, WebhookTrigger)
    ]
    lists: list[tuple[Route, list[str]]] = [(("environment", "secrets"), environment.secrets)]
    lists += [] if environment.network is None else [(("environment", "network", "egress"), environment.network.egress)]
    lists += [(("triggers", index, "config", "events"), events) for index, events in hooks if events]
    for route, entries in lists:
        yield from _twice(task, route, entries)
    if environment.network is not None:
        yield from _egress(task, environment.network.egress)
    if environment.resources is not None:
        yield from _resources(task, environment.resources)


def _twice(task: ResolvedTask, route: Route, entries: list[str]) -> Iterator[Diagnostic]:
    if len(set(entries)) < len(entries):
        index = next(index for index, entry in enumerate(entries) if entry in entries[:index])
        message = f"`{entries[index]}` appears twice in `{route[-1]}`"
        yield task.at("OPT225", message, (*route, index), hint="delete one of them")


def amounts(resources: Resources | None) -> Iterator[tuple[Route, str, str]]:
    """Yield the route, the key (`cpu` or `memory`) and the text of each amount that a task gives."""
    if resources is None:
        return
    for route, group in (((), resources), (("requests",), resources.requests), (("limits",), resources.limits)):
        for key in ("cpu", "memory") if group is not None else ():
            value = getattr(group, key)
            if value is not None:
                yield ("environment", "resources", *route, key), key, value


def _resources(task: ResolvedTask, resources: Resources) -> Iterator[Diagnostic]:
    wrong_amounts = set[tuple[str, str]]()
    for route, key, value in amounts(resources):
        wrong = None if PLACEHOLDER.search(value) else _bad_quantity(key, value)
        if wrong is not None:
            yield task.at("OPT513", wrong[0], route, hint=wrong[1])
            wrong_amounts.add((key, value))
    for key in ("cpu", "memory") if resources.requests or resources.limits else ():
        yield from _request_and_limit(task, resources, key, wrong_amounts)


def _request_and_limit(
    task: ResolvedTask, resources: Resources, key: str, wrong_amounts: set[tuple[str, str]]
) -> Iterator[Diagnostic]:
    """Report a limit that is given twice, and a request above it."""
    short, long = getattr(resources, key), getattr(resources.limits or Amounts(), key)
    request, limit = getattr(resources.requests or Amounts(), key), short or long
    if short is not None and long is not None:
        message = f"both `{key}` and `limits.{key}` are given, which mean the same"
        hint = "delete one of them, or write `null` for an inherited one"
        forms: list[Route] = [("environment", "resources", key), ("environment", "resources", "limits", key)]
        # Point at the key in the task's own file if the other one is inherited.
        form = next((form for form in forms if task.document.path_at(form) == task.path), forms[0])
        yield task.at("OPT513", message, form, key=True, hint=hint)
    if request is None or limit is None or not wrong_amounts.isdisjoint(((key, request), (key, limit))):
        return
    if _exceeds(request, limit):
        message = f"the request of {key} is {request}, more than its limit of {limit}"
        hint = f"write {limit} or less, or raise `{key if short else f'limits.{key}'}`"
        yield task.at("OPT513", message, ("environment", "resources", "requests", key), hint=hint)


def _exceeds(request: str, limit: str) -> bool:
    from optio.model.pool import parse_quantity

    request_amount, limit_amount = parse_quantity(request), parse_quantity(limit)
    return request_amount is not None and limit_amount is not None and request_amount > limit_amount


@lru_cache(maxsize=256)
def _bad_quantity(key: str, value: str) -> tuple[str, str] | None:
    """Return message and hint for a quantity that is not valid or not plausible, and None for a good one."""
    from optio.model.pool import parse_quantity  # few tasks set resources

    amount = parse_quantity(value)
    if amount is None:
        return f"`{value}` is not a valid amount of {key}", 'write "1" or 500m' if key == "cpu" else "write 2Gi or 512Mi"
    if key == "cpu" and amount > _MAX_CORES:
        return f"`{value}` is {amount:,.0f} cores", 'write "1" for a core, 500m for half of one'
    if key == "memory" and amount < _MIN_MEMORY_BYTES:
        return f"`{value}` of memory is {float(amount):g} bytes", "write 512Mi, or another amount with `Mi` or `Gi`"
    return None


def _is_image(image: str) -> bool:
    return len(image) <= MAX_IMAGE_LENGTH and re.fullmatch(_IMAGE, image) is not None


def _bad_image(task: ResolvedTask, image: str) -> Diagnostic:
    better = ":".join(image.partition("://")[2].split() or image.split()).lower()
    hint = "write `ghcr.io/acme/agent:1.4`, with your registry, name and tag, or a digest: `@sha256:` and 64 hexadecimal digits"
    if _is_image(better):
        hint = f"write `{better}`"
    return task.at("OPT502", f"`{image}` is not a valid image reference", ("environment", "image"), hint=hint)


def _host_bits(task: ResolvedTask, route: Route, entry: str, parsed: Any) -> Iterator[Diagnostic]:
    """Report `10.0.0.5/8`: it opens the whole network, whatever stands in the rest of the address."""
    match = re.fullmatch(r"(\[?)([0-9a-fA-F.:]+)/(\d{1,3})(\]?(?::\d+)?)", entry)
    network = getattr(parsed, "network", "")
    network_address = network.partition("/")[0]
    if match is None or not network_address or network_address.lower() == match[2].lower() or ":" in network_address:
        return
    port = match[4].removeprefix("]")
    message = f"`{entry}` opens the whole network `{network}`: the rest of the address has no effect"
    hint = f"write `{network}{port}`, or `{match[2]}{port}` for the one address"
    yield task.at("OPT615", message, route, hint=hint)


def _egress(task: ResolvedTask, entries: list[str]) -> Iterator[Diagnostic]:
    # Imported here: most tasks have no such list.
    from optio.compiler.yaml.emit import flow
    from optio.model import egress

    route: Route = ("environment", "network", "egress")
    good = []
    for index, entry in enumerate(entries):
        if "{{" in entry and PLACEHOLDER.search(entry):
            continue
        if (cure := _WORDS.get(entry.lower())) is not None:
            yield task.at("OPT511", f"`{entry}` is a word of another system, not a host", (*route, index), hint=cure)
            continue
        try:
            good.append(parsed := egress.parse(entry))
            if "/" in entry:
                yield from _host_bits(task, (*route, index), entry, parsed)
        except egress.BadEntry as err:
            if len(parts := re.split(r"[,;\s]+", entry.strip(" ,;"))) > 1:
                list_text = flow([*entries[:index], *parts, *entries[index + 1 :]])
                yield task.at(
                    "OPT511", f"`{entry}` is several entries in one", (*route, index), hint=f"write `egress: {list_text}`"
                )
                continue
            yield task.at("OPT511", str(err), (*route, index), hint=err.hint, value=err.meant, safe=False)
    size = len(egress.as_text(good))
    if size > egress.MAX_LIST_LENGTH:
        message = f"`egress` is a list of {size} characters, and at most {egress.MAX_LIST_LENGTH} can be enforced"
        yield task.at("OPT511", message, route, hint="write `*.example.com` for many names of one domain")
