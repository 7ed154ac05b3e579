"""Pages of the installation: its health, with what is wrong in the tree, its warm pools, and what was served."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from litestar import Response, get
from litestar.params import FromPath, FromQuery

from optio.compiler.diagnostics import Severity
from optio.server import serializers
from optio.server.answers.generations import read_generation, read_generations
from optio.server.answers.health import list_server_settings, read_installation
from optio.server.answers.pools import read_pools
from optio.server.auth import role
from optio.server.dependencies import Hub, Incoming, InjectedHub
from optio.server.pages.rendering import Pages, Word, page
from optio.server.read_models.generations import MAX_COUNTED

# Findings and pools on one page: a tree with more has one cause, or is read with `optio check`.
_MAX_FINDINGS = 200
_MAX_POOLS = 500
# Generations on one page.
_PAGE = 20
_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1}
Span = Literal["1h", "24h", "7d"]
_SPANS: dict[Span, timedelta] = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7)}


class HealthPages(Pages):
    """Routes of `/health`, `/pools` and `/changes`."""

    @get("/health", opt=role("viewer"))
    async def health_page(self, request: Incoming, hub: InjectedHub) -> Response[str]:
        """Show the parts of the installation, what is wrong with them and with the tree, and, for admins, the settings."""
        installation = await asyncio.to_thread(read_installation, hub)
        settings = list_server_settings(hub).items if request.state.who.role == "admin" else None
        return page(request, "health.html", health=installation, settings=settings, **_tree(hub))

    @get("/pools", opt=role("viewer"))
    async def pools_page(self, request: Incoming, hub: InjectedHub, span: FromQuery[Span] = "24h") -> Response[str]:
        """Show the warm pools, how often they were used, and what holds starts up."""
        pools = await asyncio.to_thread(read_pools, hub, datetime.now(UTC) - _SPANS[span])
        omitted = max(0, len(pools.items) - _MAX_POOLS)
        values: dict[str, Any] = {"items": pools.items[:_MAX_POOLS], "left": omitted, "span": span, "spans": list(_SPANS)}
        return page(request, "pools.html", pools=pools, **values)

    @get("/changes", opt=role("viewer"))
    async def changes_page(self, request: Incoming, hub: InjectedHub, cursor: Word = "") -> Response[str]:
        """Show the generations that were served, newest first."""
        found = await asyncio.to_thread(read_generations, hub, cursor or None, _PAGE)
        return page(request, "changes.html", found=found, most=MAX_COUNTED)

    @get("/changes/{number:str}", opt=role("viewer"))
    async def change_page(self, number: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[str]:
        """Show what one generation did."""
        return page(request, "change.html", made=await asyncio.to_thread(read_generation, hub, number), most=MAX_COUNTED)


def _tree(hub: Hub) -> dict[str, Any]:
    """Return what the page tells of the tree: errors first."""
    snapshot = hub.snapshot
    findings = sorted(snapshot.diagnostics, key=lambda finding: _ORDER.get(finding.severity, 2))
    counts = Counter(str(finding.severity) for finding in findings)
    return {
        "snapshot": snapshot,
        "drift": serializers.drift(snapshot.drift),
        "findings": [serializers.diagnostic(finding) for finding in findings[:_MAX_FINDINGS]],
        "counts": counts,
        "more": max(0, len(findings) - _MAX_FINDINGS),
        "stale": sorted(snapshot.kept)[:_MAX_FINDINGS],
    }
