"""Checks of `optio doctor` whether agents reach the gateway, and their connections through it."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence

from optio.model.probe_result import ProbeResult
from optio.model.registry import CompiledTask
from optio.plan.words import pluralize
from optio.settings import Settings
from optio.wiring import gateway_route

_TIMEOUT_S, _MAX_IDS = 3.0, 5


def examine_gateway(settings: Settings) -> Iterator[ProbeResult]:
    """Check that a gateway answers where agents are sent; nothing where it is off."""
    route = gateway_route(settings)
    if route is None:
        return
    if _answers(route.url):
        yield ProbeResult("gateway", "ok", f"a gateway answers at {route.url}")
        return
    detail = f"no gateway answers at {route.url}, so agents cannot call their models"
    hint = "start one, or `optio dev`, which brings its own; OPTIO_GATEWAY_URL says where it is"
    yield ProbeResult("gateway", "warning", detail, hint, "optio gateway")


def examine_connections(settings: Settings, tasks: Sequence[CompiledTask]) -> Iterator[ProbeResult]:
    """Check that there is a gateway for the connections of tasks."""
    ids = [task.id for task in tasks if task.connections]
    if not ids:
        return
    if gateway_route(settings) is None:
        listed = ", ".join(ids[:_MAX_IDS]) + (f" and {len(ids) - _MAX_IDS} more" if len(ids) > _MAX_IDS else "")
        detail = f"OPTIO_GATEWAY is off, and no run with connections starts without a gateway: {listed}"
        yield ProbeResult("connection", "warning", detail, "set OPTIO_GATEWAY=preferred or required for the workers")
        return
    count = len({connection.id for task in tasks for connection in task.connections})
    hint = "`optio connection test` reaches them"
    yield ProbeResult("connection", "ok", f"{pluralize(count, 'connection')} of {pluralize(len(ids), 'task')}", hint)


def _answers(url: str) -> bool:
    # No proxy: the address is for agents beside this process.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url.rstrip('/')}/healthz", timeout=_TIMEOUT_S) as answer:
            return isinstance(json.load(answer).get("gateway"), str)
    except (urllib.error.URLError, OSError, ValueError, AttributeError):
        return False
