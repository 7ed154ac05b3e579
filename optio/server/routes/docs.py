"""The route `/docs`: the pages of the documentation, as `mkdocs build` wrote them. They need no token, because a browser cannot
send one and they say nothing about this installation."""

import asyncio
import base64
import hashlib
import re
from pathlib import Path

from litestar import Controller, Response, get
from litestar.params import FromPath

from optio.errors import NotFound
from optio.server.auth import PUBLIC, role
from optio.server.built_docs import site
from optio.server.dependencies import InjectedHub
from optio.server.problems import HttpProblem

HOW_TO_BUILD = (
    "the documentation is not built here: run `mkdocs build --strict` in a clone of the repository, after installing "
    "`optio-taskrunner[docs]`, or set OPTIO_DOCS to a directory with built pages"
)
# Litestar adds the character set to text.
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".xml": "application/xml",
}
_INLINE = re.compile(rb"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.S)
_CACHED = "max-age=300"


class DocsController(Controller):
    """Routes of the documentation, for everyone who reaches the server."""

    tags = ("docs",)
    include_in_schema = False

    @get("/docs", opt=role(PUBLIC))
    async def front(self, hub: InjectedHub) -> Response[None]:
        """Redirect to the first page."""
        await asyncio.to_thread(_read, site(hub.services.settings), "index.html")
        return Response(None, status_code=307, headers={"location": "/docs/index.html"})

    @get("/docs/{path:path}", opt=role(PUBLIC))
    async def file(self, path: FromPath[str], hub: InjectedHub) -> Response[bytes]:
        """Return a page, or a file that pages load."""
        data = await asyncio.to_thread(_read, site(hub.services.settings), path.lstrip("/"))
        suffix = Path(path).suffix
        headers = {"cache-control": _CACHED}
        if suffix == ".html":
            headers["content-security-policy"] = policy(data)
        return Response(data, media_type=_TYPES.get(suffix, "application/octet-stream"), headers=headers)


def policy(page: bytes) -> str:
    """Return the Content-Security-Policy of a page: scripts of this server, and those that stand in the page itself."""
    digests = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _INLINE.findall(page))
    scripts = " ".join(["'self'", *(f"'sha256-{digest}'" for digest in digests)])
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _read(root: Path, path: str) -> bytes:
    """Return the bytes of a file below `root`. Raises NotFound, and a problem that says how to build the pages if there are
    none."""
    base = root.resolve()
    if not (base / "index.html").is_file():
        raise HttpProblem("not-found", HOW_TO_BUILD)
    target = (base / path).resolve()
    if not target.is_relative_to(base) or not target.is_file():
        raise NotFound("page", path[:200])
    return target.read_bytes()
