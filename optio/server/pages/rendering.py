"""Pages as HTML: the templates, the words for times and amounts, and what an error looks like. Everything that a template shows
is escaped."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from litestar import Controller, Response
from litestar.datastructures import Cookie
from litestar.exceptions import HTTPException
from litestar.params import QueryParameter
from minijinja import Environment, load_from_path

from optio.errors import OptioError, Unauthorized
from optio.model.money import dollars
from optio.server import problems
from optio.server.answers.health import warnings_of
from optio.server.built_docs import is_built
from optio.server.dependencies import Incoming
from optio.server.serializers import at

HERE = Path(__file__).parent
STATIC = HERE / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; trusted-types optio; require-trusted-types-for 'script'"
)
LOGIN = "/login"
# A word in the address of a page: a filter, or a cursor.
Word = Annotated[str, QueryParameter(max_length=200)]
# A state has a sign of its own, so that nobody depends on its colour.
_SIGNS = {"completed": "✓", "failed": "✕", "running": "▶", "queued": "…", "cancelled": "⊘"}
_VERDICTS = {"accepted": ("✓", "good"), "filtered": ("⊘", "wait"), "duplicate": ("=", "wait"), "absent": ("⊘", "wait")}
# What terminals take for an instruction, complete or cut (ECMA-48), and the signs of other control characters.
_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*(?:[ -/]*[@-~])?|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])?|\x9b[0-?]*[@-~]"
)
_SIGN_OF_CONTROL = {code: chr(0x2400 + code) for code in range(0x20) if code not in b"\t\n"}
_SIGN_OF_CONTROL |= dict.fromkeys(range(0x7F, 0xA0), "␡")
# They reorder what stands beside them, so that a text looks like another one.
_SIGN_OF_CONTROL |= {code: f"[U+{code:X}]" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_GATES = {
    "passed": ("✓", "good"),
    "stopped": ("✕", "bad"),
    "waiting": ("…", "wait"),
    "unreached": ("·", "none"),
    "unknown": ("?", "wait"),
}


def page(request: Incoming, template: str, *, status: int = 200, **values: Any) -> Response[str]:
    """Return a page. Templates know `who` (name and role of the reader, or None), `path`, the address of `static` files,
    whether there are `docs` and `connections`, `warnings` about the installation, and the host of the `provider` by which
    people sign in, in addition to `values`."""
    hub, reader = request.scope["state"]["hub"], request.scope["state"].get("who")
    docs = is_built(hub.services.settings)
    static = f"/static/{static_digest()}"
    warnings = () if reader is None else list(warnings_of(hub))
    common_values = {"who": reader, "path": request.url.path, "docs": docs, "static": static, "warnings": warnings}
    common_values["connections"] = hub.snapshot.registry.has_connections
    common_values["provider"] = None if hub.identity is None else hub.identity.host
    html = _environment.render_template(template, **common_values, **values)
    # Without a referrer a browser sends forms with the origin `null`, which is refused.
    headers = {"content-security-policy": POLICY, "referrer-policy": "same-origin"}
    return Response(html, status_code=status, media_type="text/html", headers=headers)


@cache
def static_digest() -> str:
    """Return the digest of all static files of this version, as it stands in their addresses."""
    digest = hashlib.sha256()
    for path in sorted(file for file in STATIC.rglob("*") if file.is_file()):
        digest.update(path.relative_to(STATIC).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def redirect(
    location: str, headers: Mapping[str, str] | None = None, cookies: Sequence[Cookie] | None = None
) -> Response[None]:
    """Return a redirection that is followed by GET."""
    return Response(None, status_code=303, headers={"location": location, **(headers or {})}, cookies=cookies)


def on_optio_error(request: Incoming, error: OptioError) -> Response[Any]:
    """Answer an error as a page; a reader who is not signed in is led to the login, and back, with the form that was sent."""
    if isinstance(error, Unauthorized):
        kept_form = request.scope["state"].get("kept_form")
        if kept_form is not None:
            notice = "Your login has ended. What you typed is kept: sign in to go on."
            return page(request, "login.html", status=401, next="/", problem=notice, kept=kept_form)
        address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return redirect(LOGIN if address == "/" or request.method != "GET" else f"{LOGIN}?next={quote(address)}")
    _, headers, document = problems.describe_error(error)
    return _error_page(request, document, headers)


def on_http_exception(request: Incoming, error: HTTPException) -> Response[Any]:
    """Answer a refusal of the framework as a page."""
    return _error_page(request, problems.on_http_exception(request, error).content, {})


def on_bug(request: Incoming, error: Exception) -> Response[Any]:
    """Answer an unexpected error as a page, without its details."""
    return _error_page(request, problems.on_bug(request, error).content, {})


_HANDLERS: dict[int | type[Exception], Any] = {
    OptioError: on_optio_error,
    HTTPException: on_http_exception,
    Exception: on_bug,
}


class Pages(Controller):
    """The base of the controllers of pages, which answer errors as pages."""

    include_in_schema = False
    exception_handlers = _HANDLERS


def _error_page(request: Incoming, document: Any, headers: Mapping[str, str]) -> Response[str]:
    answer = page(request, "error.html", status=document.status, problem=document)
    kept_headers = {name: value for name, value in headers.items() if name != "WWW-Authenticate"}
    answer.headers.update(kept_headers)
    return answer


def _plain(text: str) -> str:
    """Return a text of an agent without what is meant for a terminal, and with other control characters as signs."""
    return _SEQUENCE.sub("", text).replace("\r\n", "\n").translate(_SIGN_OF_CONTROL)


def _age(moment: str, now: str) -> str:
    """Return how long ago a time of the API was, or how far ahead it is."""
    seconds = (datetime.fromisoformat(now) - datetime.fromisoformat(moment)).total_seconds()
    return f"{_span(seconds)} ago" if seconds >= 0 else f"in {_span(-seconds)}"


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"


def _time_text(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _took(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _usd(amount: str | Decimal | None) -> str:
    return "" if amount is None else dollars(Decimal(amount))


def _about(milliseconds: int | None) -> str:
    """Return a duration without more digits than are known of it."""
    if milliseconds is None:
        return ""
    seconds = milliseconds / 1000
    unit, length = ("s", 1) if seconds < 100 else ("min", 60) if seconds < 6000 else ("h", 3600)
    number = seconds / length
    return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"


def _share(share: float | None) -> str:
    """Return a share in percent; only what is whole is 100 %."""
    if share is None:
        return ""
    return f"{min(share * 100, 99.9 if share < 1 else 100):.3g} %"


def _build() -> Environment:
    environment = Environment(loader=load_from_path([HERE / "templates"]), auto_escape_callback=lambda name: True)
    filters: dict[str, Any] = {
        "when": _time_text,
        "iso": at,
        "took": _took,
        "usd": _usd,
        "nonzero": lambda amount: Decimal(amount) != 0,
        "sign": _SIGNS.get,
        "count": "{:,}".format,
        "age": _age,
        "plain": _plain,
        "about": _about,
        "share": _share,
        "moment": datetime.fromisoformat,
    }
    for name, table in (("verdict", _VERDICTS), ("gate", _GATES)):
        filters[f"{name}_sign"] = lambda word, table=table: table.get(word, ("✕", "bad"))[0]
        filters[f"{name}_class"] = lambda word, table=table: table.get(word, ("✕", "bad"))[1]
    for name, function in filters.items():
        environment.add_filter(name, function)
    return environment


_environment = _build()
