"""Errors as RFC 9457 problems, by the tables in `optio.errors` and here. An error that is in neither is a bug: it is logged,
and answered without details."""

import logging
import math
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.status_codes import HTTP_500_INTERNAL_SERVER_ERROR
from msgspec import UNSET

from optio import errors
from optio.errors import OptioError, Problem, ProblemType
from optio.server.bodies.problems import FaultBody, ProblemBody

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
URN = "urn:optio:problem:"

# The problems of HTTP itself, which no domain error describes.
_OF_HTTP: dict[ProblemType, tuple[int, str]] = {
    "bad-host": (400, "Bad request"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "Method not allowed"),
    "too-slow": (408, "Too slow"),
    "stale-task": (412, "Precondition failed"),
    "too-large": (413, "Too large"),
}
STATUSES: dict[ProblemType, int] = {
    **errors.problem_statuses(),
    **{name: status for name, (status, _) in _OF_HTTP.items()},
}
# The framework's own refusals.
_TITLES: dict[int, tuple[str, ProblemType]] = {
    400: ("Bad request", "malformed"),
    404: ("Not found", "not-found"),
    405: ("Method not allowed", "method-not-allowed"),
    413: ("Too large", "too-large"),
    415: ("Unsupported", "unsupported"),
}
# Space comes back when somebody frees it.
_DISK_RETRY_S = "10"
# As long as a failure of the program that reads secrets is remembered.
_UNREADABLE_RETRY_S = "5"
_WHOLE = "internal error: see the server's log"


class HttpProblem(OptioError):
    """A refusal that belongs to HTTP itself (405, 408, 413) and that no domain error describes."""

    def __init__(self, type: ProblemType, detail: str, headers: dict[str, str] | None = None) -> None:
        self.type, self.headers = type, headers or {}
        self.status, self.title = _OF_HTTP[type]
        super().__init__(detail)


def problem_body(
    type: ProblemType, status: int, title: str, detail: str, problems: tuple[Problem, ...] = (), **members: str
) -> ProblemBody:
    """Return a problem document; `errors` has one entry per fault."""
    faults = [
        FaultBody(pointer=problem.pointer, message=problem.message, code=problem.code or UNSET, hint=problem.hint or UNSET)
        for problem in problems
    ]
    return ProblemBody(type=URN + type, title=title, status=status, detail=detail, errors=faults or UNSET, **members)


def internal() -> ProblemBody:
    """Return the document of an error that nobody expected."""
    return problem_body("internal", 500, "Internal error", _WHOLE)


def describe_error(error: OptioError) -> tuple[int, dict[str, str], ProblemBody]:
    """Return status, headers and problem document for an error that is raised on purpose."""
    headers: dict[str, str] = {}
    members: dict[str, str] = {}
    type: ProblemType
    if isinstance(error, HttpProblem):
        status, title, type = error.status, error.title, error.type
        headers = dict(error.headers)
    else:
        status, title, type, *_ = errors.answer_to(error)
    detail = str(error)
    if isinstance(error, errors.TooManyRequests):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after.total_seconds())))
    elif isinstance(error, errors.StoreUnavailable):
        headers["Retry-After"] = "1"
        log.error("the store is unavailable: %s", error)
        detail = "nothing was changed: try again"
        if isinstance(error, errors.CommitUnknown):
            detail = "it is unknown whether this was stored: send it again with the same key"
        elif isinstance(error, errors.StoreFull):
            headers["Retry-After"] = _DISK_RETRY_S
            detail = "the disk is full, so no new runs are accepted: nothing was changed, try again later"
    elif isinstance(error, errors.SecretUnavailable):
        headers["Retry-After"] = _UNREADABLE_RETRY_S
        log.error("%s", error)
        detail = "a secret cannot be read now: nothing was changed, try again later"
    elif isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, errors.Duplicate):
        members = {"run_id": error.run_id}
    elif isinstance(error, errors.WritesDenied):
        members = {"path": error.path, "document": error.document}
    elif status >= HTTP_500_INTERNAL_SERVER_ERROR:
        log.error("an error without an HTTP status: %s", error, exc_info=error)
        detail = _WHOLE
    problems = error.problems if isinstance(error, errors.Invalid) else ()
    return status, headers, problem_body(type, status, title, detail, problems, **members)


def raw(error: OptioError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return status, headers and body of the same answer, for an ASGI application without a framework."""
    status, headers, document = describe_error(error)
    data = msgspec.json.encode(document)
    raw_headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return status, [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(data)), *raw_headers], data


def _response(document: ProblemBody, headers: dict[str, str] | None = None) -> Response[ProblemBody]:
    return Response(document, status_code=document.status, media_type=MEDIA_TYPE, headers=headers or {})


def on_optio_error(request: Request[Any, Any, Any], error: OptioError) -> Response[ProblemBody]:
    """Answer an error that is raised on purpose."""
    _, headers, document = describe_error(error)
    return _response(document, headers)


def on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[ProblemBody]:
    """Answer the framework's own refusals. A query or path parameter that does not fit becomes `Invalid`, like a member of a
    body."""
    status = error.status_code
    if isinstance(error, ValidationException):
        handler = request.scope.get("route_handler")
        names = handler.opt.get("query", {}) if handler is not None else {}
        problems = tuple(
            Problem("/" + str(names.get(entry.get("key"), entry.get("key", ""))), str(entry.get("message", "")))
            for entry in (error.extra if isinstance(error.extra, list) else ())
            if isinstance(entry, dict)
        )
        return _response(problem_body("invalid", 422, "Invalid", "invalid request parameters", problems))
    if status >= HTTP_500_INTERNAL_SERVER_ERROR:
        return on_bug(request, error)
    title, type = _TITLES.get(status, ("Refused", "malformed"))
    detail = title.lower() if status in (404, 405) else error.detail
    return _response(problem_body(type, status, title, detail), dict(error.headers or {}))


def on_bug(request: Request[Any, Any, Any], error: Exception) -> Response[ProblemBody]:
    """Log an unexpected error and answer 500 without details."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _response(internal())
