"""Check of `optio doctor` whether agents reach the gateway."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

from optio.model.probe_result import ProbeResult
from optio.settings import Settings
from optio.wiring import gateway_route

_TIMEOUT_S = 3.0


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


def _answers(url: str) -> bool:
    # No proxy: the address is for agents beside this process.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url.rstrip('/')}/healthz", timeout=_TIMEOUT_S) as answer:
            return isinstance(json.load(answer).get("gateway"), str)
    except (urllib.error.URLError, OSError, ValueError, AttributeError):
        return False
