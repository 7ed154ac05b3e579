"""Login of browsers by an API token: the page, the cookie, and its end. `server.browser` turns the cookie into the header that
the rest of the server knows."""

from typing import Any
from urllib.parse import parse_qsl

from litestar import Response, get, post
from litestar.params import FromQuery

from optio.errors import Malformed, Unauthorized
from optio.server import browser
from optio.server.auth import PUBLIC, role
from optio.server.dependencies import Incoming, InjectedHub
from optio.server.pages.rendering import LOGIN, Pages, page, redirect
from optio.server.request_body import ClientGone, read_body

_MAX_FORM_BYTES = 1 << 20
_MAX_FIELDS = 1000
# The fields of a form that was sent after its login had ended, as they stand in the form of the login.
_KEPT, _KEPT_PATH = "kept.", "kept_path"


class LoginController(Pages):
    """Routes of `/login` and `/logout`."""

    @get(LOGIN, opt=role(PUBLIC))
    async def show_login(self, request: Incoming, next: FromQuery[str] = "/") -> Response[str]:
        """Show the form."""
        return page(request, "login.html", next=local_path(next), problem=None, kept={})

    @post(LOGIN, status_code=303, opt=role(PUBLIC))
    async def login(self, request: Incoming, hub: InjectedHub) -> Response[Any]:
        """Keep a valid token in the cookie, and lead back to where the reader wanted to go; or, with a form that was sent after
        the login had ended, back into that form."""
        form = await read_form(request)
        target, token = local_path(form.get("next", "/")), form.get("token", "").strip()
        try:
            await hub.access_control.admit([(b"authorization", b"Bearer " + token.encode("ascii", "replace"))], "viewer")
        except Unauthorized as err:
            kept_fields = {name: value for name, value in form.items() if name.startswith(_KEPT) or name == _KEPT_PATH}
            problem = str(err) if token else "enter a token"
            return page(request, "login.html", status=401, next=target, problem=problem, kept=kept_fields)
        setting = {"set-cookie": browser.cookie(request.scope, token)}
        if _KEPT_PATH not in form:
            return redirect(target, setting)
        fields = {name.removeprefix(_KEPT): value for name, value in form.items() if name.startswith(_KEPT)}
        answer = page(request, "login_done.html", status=200, action=local_path(form[_KEPT_PATH]), fields=fields)
        answer.headers.update(setting)
        return answer

    @post("/logout", status_code=303, opt=role(PUBLIC))
    async def logout(self, request: Incoming, hub: InjectedHub) -> Response[None]:
        """Delete the cookie, and end a session of a provider. An API token stays valid."""
        await hub.access_control.end_session(request.scope["headers"])
        return redirect(LOGIN, {"set-cookie": browser.cookie(request.scope, None)})


async def keep_form(request: Incoming) -> dict[str, str]:
    """Return the fields of a form whose sender is not signed in, for the page of the login: nothing that was typed is lost.
    `HttpGuard` has refused forms of other sites. Raises what `read_form` raises."""
    form = await read_form(request)
    return {_KEPT_PATH: request.url.path, **{_KEPT + name: value for name, value in form.items()}}


async def read_form(request: Incoming, limit: int = _MAX_FORM_BYTES) -> dict[str, str]:
    """Return the fields of a form. Raises HttpProblem 413 for a body that is too large, and Malformed for one that breaks off
    or has too many fields: strangers may send one, and each field takes time."""
    try:
        data = await read_body(request.scope["headers"], request.receive, limit)
    except ClientGone as err:
        raise Malformed("the form ended too early") from err
    try:
        return dict(parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError as err:
        raise Malformed(f"the form has more than {_MAX_FIELDS:,} fields") from err


def local_path(target: str) -> str:
    """Return the target if it is a path of this server, else the first page."""
    is_path = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_path and not target.startswith(LOGIN) else "/"
