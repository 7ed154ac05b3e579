"""Errors -> RFC 9457 problems: one table. What is not in it is a bug: it is logged and answered by an id only."""

import logging
import math
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.status_codes import HTTP_500_INTERNAL_SERVER_ERROR

from optio import errors
from optio.errors import OptioError, Problem

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[OptioError], tuple[int, str]] = {
    errors.NotFound: (404, "Not found"),
    errors.Conflict: (409, "Conflict"),
    errors.WritesDenied: (409, "Writes are denied here"),
    errors.Invalid: (422, "Invalid"),
    errors.Unauthorized: (401, "Not authenticated"),
    errors.Forbidden: (403, "Forbidden"),
    errors.TooMany: (429, "Too many requests"),
    errors.StoreUnavailable: (503, "The store is unavailable"),
}


class HttpProblem(OptioError):
    """A refusal that belongs to HTTP itself (400, 411, 413, 415)."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        self.status, self.title = status, title
        super().__init__(detail)


def body(status: int, title: str, detail: str, problems: tuple[Problem, ...] = (), **more: Any) -> dict[str, Any]:
    """A problem document; `errors` has one entry per fault."""
    document: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    if problems:
        document["errors"] = [
            {
                "pointer": problem.pointer,
                "message": problem.message,
                **({"code": problem.code} if problem.code else {}),
                **({"hint": problem.hint} if problem.hint else {}),
            }
            for problem in problems
        ]
    return document


def _response(status: int, document: dict[str, Any], headers: dict[str, str] | None = None) -> Response[dict[str, Any]]:
    return Response(document, status_code=status, media_type=MEDIA_TYPE, headers=headers or {})


def on_optio_error(request: Request[Any, Any, Any], error: OptioError) -> Response[dict[str, Any]]:
    """For everything that is raised on purpose."""
    headers: dict[str, str] = {}
    more: dict[str, Any] = {}
    if isinstance(error, HttpProblem):
        status, title = error.status, error.title
    else:
        status, title = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), (500, "Internal error"))
    if isinstance(error, errors.TooMany):
        headers["Retry-After"] = str(math.ceil(error.retry_after.total_seconds()))
    elif isinstance(error, errors.StoreUnavailable):
        headers["Retry-After"] = "1"
    elif isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, errors.WritesDenied):
        more = {"path": error.path, "document": error.document}
    problems = error.problems if isinstance(error, errors.Invalid) else ()
    return _response(status, body(status, title, str(error), problems, **more), headers)


def on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    """For the framework's own refusals."""
    detail = error.detail if error.status_code < HTTP_500_INTERNAL_SERVER_ERROR else "see the server's log"
    title = {404: "Not found", 405: "Method not allowed", 413: "Too large", 400: "Bad request"}.get(
        error.status_code, "Refused"
    )
    problems: tuple[Problem, ...] = ()
    if isinstance(error.extra, list):
        problems = tuple(
            Problem("/" + str(entry.get("key", "")), str(entry.get("message", "")))
            for entry in error.extra
            if isinstance(entry, dict)
        )
    return _response(error.status_code, body(error.status_code, title, detail, problems), dict(error.headers or {}))


def on_bug(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """For what nobody expected."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _response(500, body(500, "Internal error", "see the server's log"))
