"""Routes of the generations that were served: the list, and what one of them did."""

import asyncio
from typing import Annotated

from litestar import Controller, get
from litestar.params import FromPath, FromQuery, QueryParameter

from optio.server.answers.generations import read_generation, read_generations
from optio.server.auth import role
from optio.server.bodies.changes import GenerationDetailsBody, GenerationPageBody
from optio.server.dependencies import InjectedHub

Limit = Annotated[int, QueryParameter(ge=1, le=100, description="most generations in the answer")]


class GenerationController(Controller):
    """Routes of `/api/generations`."""

    tags = ("health",)

    @get("/api/generations", opt=role("viewer"))
    async def list_generations(
        self,
        hub: InjectedHub,
        task: FromQuery[str | None] = None,
        cursor: FromQuery[str | None] = None,
        limit: Limit = 20,
    ) -> GenerationPageBody:
        """List the generations that were served, newest first: how many tasks each added, changed and removed, and how many
        runs were accepted meanwhile. With `task`, only those that added, changed or removed it; a page may then hold fewer than
        `limit`. `drift` says how the files of the answering server differ from the newest."""
        return await asyncio.to_thread(read_generations, hub, cursor, limit, task)

    @get("/api/generations/{number:str}", opt=role("viewer"), problems=("not-found",))
    async def get_generation(
        self, number: FromPath[str], hub: InjectedHub, task: FromQuery[str | None] = None
    ) -> GenerationDetailsBody:
        """Show what a generation did, or with `task` what it did to that one, compared with the generation before it: times,
        money, secrets, hosts, prompts, as `optio plan` told it in the pull request."""
        return await asyncio.to_thread(read_generation, hub, number, task)
