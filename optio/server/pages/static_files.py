"""The files that pages load. They need no token, because they say nothing about this installation.

Pages name them below a digest of all of them, so a browser keeps them until one of them changes. Files find each other by
relative addresses. Without the digest, or with that of another version, a file is served too, and kept for minutes.
"""

import asyncio
import gzip
import re
from functools import lru_cache

from litestar import Controller, Response, get
from litestar.params import FromPath

from optio.errors import NotFound
from optio.server.auth import PUBLIC, role
from optio.server.dependencies import Incoming
from optio.server.pages.rendering import STATIC, static_digest

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_DIRECTORIES = (STATIC, STATIC / "vendor")
_DIGEST = re.compile(r"[0-9a-f]{16}")
_FOREVER, _BRIEFLY = "public, max-age=31536000, immutable", "max-age=300"


class StaticController(Controller):
    """Routes of `/static`."""

    include_in_schema = False

    @get("/static/{name:path}", opt=role(PUBLIC))
    async def file(self, name: FromPath[str], request: Incoming) -> Response[bytes]:
        """Return a file, compressed if the browser takes that."""
        first, _, rest = name.removeprefix("/").partition("/")
        is_current = first == static_digest()
        path = STATIC / (rest if _DIGEST.fullmatch(first) else name.removeprefix("/"))
        if path.parent not in _DIRECTORIES or path.suffix not in _TYPES or not path.is_file():
            raise NotFound("page", name[:200])
        data = await asyncio.to_thread(path.read_bytes)
        headers = {"cache-control": _FOREVER if is_current else _BRIEFLY, "vary": "accept-encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            data = await asyncio.to_thread(_compress, data)
        return Response(data, media_type=_TYPES[path.suffix], headers=headers)


@lru_cache(maxsize=64)
def _compress(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)
