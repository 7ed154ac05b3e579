"""Pages of changes: the generations that were served, and what one of them did."""

import asyncio
from typing import Annotated

from litestar import Response, get
from litestar.params import FromPath, QueryParameter

from optio.server.answers.generations import read_generation, read_generations
from optio.server.auth import role
from optio.server.dependencies import Incoming, InjectedHub
from optio.server.pages.rendering import Pages, page
from optio.server.read_models.generations import MAX_COUNTED

_PAGE = 20
Cursor = Annotated[str, QueryParameter(max_length=40)]


class ChangePages(Pages):
    """Routes of `/changes`."""

    @get("/changes", opt=role("viewer"))
    async def changes_page(self, request: Incoming, hub: InjectedHub, cursor: Cursor = "") -> Response[str]:
        """Show the generations that were served, newest first."""
        found = await asyncio.to_thread(read_generations, hub, cursor or None, _PAGE)
        return page(request, "changes.html", found=found, most=MAX_COUNTED)

    @get("/changes/{number:str}", opt=role("viewer"))
    async def change_page(self, number: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[str]:
        """Show what one generation did."""
        return page(request, "change.html", made=await asyncio.to_thread(read_generation, hub, number), most=MAX_COUNTED)
