"""The files that pages load. They need no token, because they say nothing about this installation."""

import asyncio

from litestar import Controller, Response, get
from litestar.params import FromPath

from optio.errors import NotFound
from optio.server.auth import PUBLIC, role
from optio.server.pages.rendering import STATIC

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class StaticController(Controller):
    """Routes of `/static`."""

    include_in_schema = False

    @get("/static/{name:str}", opt=role(PUBLIC))
    async def file(self, name: FromPath[str]) -> Response[bytes]:
        """Return a file."""
        path = STATIC / name
        if path.parent != STATIC or path.suffix not in _TYPES or not path.is_file():
            raise NotFound("page", name[:200])
        data = await asyncio.to_thread(path.read_bytes)
        return Response(data, media_type=_TYPES[path.suffix], headers={"cache-control": "max-age=300"})
