"""A browser: a login or the link of `optio dev`, then a cookie that counts for this server's own pages only."""

import socket
from collections.abc import Callable

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.server.api import DEV_TOKEN, Api
from tests.support import Answer

HOST = "localhost:8000"
COOKIE = f"optio_8000={DEV_TOKEN}"
OWN = f"http://{HOST}"


def follow(api: Api, path: str, method: str = "GET", **headers: str) -> Answer:
    """A request as a browser makes it: without an Authorization header."""
    pairs = [("Host", HOST), *((name.replace("_", "-"), value) for name, value in headers.items())]
    credentials, api.credentials = api.credentials, {}
    try:
        return api.request(method, path, headers=pairs)
    finally:
        api.credentials = credentials


@pytest.mark.parametrize(
    ("link", "leads_to"),
    [
        (f"/api/tasks?token={DEV_TOKEN}", "/api/tasks"),
        (f"/schema?token={DEV_TOKEN}", "/schema"),
        (f"/api/runs?task=job&token={DEV_TOKEN}&limit=5", "/api/runs?task=job&limit=5"),
        (f"/api/tasks/a%20b?token={DEV_TOKEN}", "/api/tasks/a%20b"),
    ],
)
def test_a_link_sets_a_cookie_and_leads_to_the_same_address_without_the_token(api: Api, link: str, leads_to: str) -> None:
    answer = follow(api, link)

    assert (answer.status, answer.headers["location"]) == (303, leads_to)
    assert answer.headers["set-cookie"] == f"{COOKIE}; Path=/; HttpOnly; SameSite=Strict"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("query", ["token=", "token=optio_dev_other", f"token={DEV_TOKEN}&token={DEV_TOKEN}", "token=%ff"])
def test_a_link_of_another_start_is_refused_and_sets_nothing(api: Api, query: str) -> None:
    answer = follow(api, f"/api/tasks?{query}")

    assert answer.status == 401
    assert "set-cookie" not in answer.headers
    assert "the running one printed" in answer.json["detail"]


def test_a_link_on_the_address_of_another_host_is_refused(api: Api) -> None:
    link = f"/api/tasks?token={DEV_TOKEN}"

    assert api.request("GET", link, headers={"Host": "evil.example"}).status == 400
    assert follow(api, link, Origin="http://evil.example").status == 403
    assert follow(api, f"//evil.example/?token={DEV_TOKEN}").status == 404


PAGES = {
    "typed, or a link of a terminal": {"Sec_Fetch_Site": "none"},
    "a page of this server": {"Sec_Fetch_Site": "same-origin"},
    "an older browser": {},
    "beside other servers' cookies": {"Cookie": f"a=b=c; {{}}; =; {COOKIE}; optio_9000=x"},
}


@pytest.mark.parametrize("name", PAGES)
def test_with_the_cookie_a_page_is_read(api: Api, name: str) -> None:
    assert follow(api, "/api/tasks", **{"Cookie": COOKIE, **PAGES[name]}).status == 200


@pytest.mark.parametrize("cookie", ["optio_8000=x", f"optio_9000={DEV_TOKEN}", f"token={DEV_TOKEN}", "optio_8000", ""])
def test_another_cookie_counts_for_nothing(api: Api, cookie: str) -> None:
    answer = follow(api, "/api/tasks", Cookie=cookie)

    assert answer.status == 401
    assert "open the link that `optio dev` printed" in answer.json["detail"]


FOREIGN = {
    "a page of another port of this host": {"Sec_Fetch_Site": "same-site"},
    "a page of another site": {"Sec_Fetch_Site": "cross-site"},
    "what no browser sends": {"Sec_Fetch_Site": "anything"},
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_cookie_counts_for_no_page_of_another_site_or_port(api: Api, name: str, method: str) -> None:
    assert follow(api, "/api/tasks/job/runs", method, Cookie=COOKIE, **FOREIGN[name]).status == 403


def test_a_change_by_cookie_needs_to_come_from_this_server_s_own_page(api: Api) -> None:
    path = "/api/tasks/job/runs"

    refused = [
        follow(api, path, "POST", Cookie=COOKIE),
        follow(api, path, "POST", Cookie=COOKIE, Sec_Fetch_Site="none"),
        follow(api, path, "POST", Cookie=COOKIE, Origin="http://localhost:9000", Sec_Fetch_Site="same-site"),
        follow(api, path, "POST", Cookie=COOKIE, Origin="null"),
    ]
    started = len(api.get("/api/runs").json["items"])
    allowed = [
        follow(api, path, "POST", Cookie=COOKIE, Origin=OWN),
        follow(api, path, "POST", Cookie=COOKIE, Sec_Fetch_Site="same-origin"),
    ]

    assert [answer.status for answer in refused] == [403] * 4
    assert started == 0
    assert [answer.status for answer in allowed] == [202, 202]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Cookie": COOKIE}, 403),
        ({"Cookie": COOKIE, "Origin": OWN, "Sec-Fetch-Site": "same-site"}, 403),
        ({"Cookie": "optio_8000=x", "Origin": OWN}, 401),
        ({"Origin": OWN}, 401),
        ({"Cookie": COOKIE, "Origin": OWN}, 404),
    ],
)
def test_a_socket_opens_by_cookie_for_this_server_s_own_page_only(api: Api, headers: dict[str, str], status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(
            f"ws://{HOST}/ws/workflow-runs/x/logs",
            additional_headers=headers,
            sock=socket.create_connection(("127.0.0.1", api.port), 20),
        )

    # 404: it was let in, and there is no such run.
    assert refused.value.response.status_code == status


def test_without_a_dev_token_no_link_lets_anybody_in(served: Callable[..., Api]) -> None:
    closed = served(dev_token=None)
    token = closed.token("admin")

    link = follow(closed, f"/api/tasks?token={token}")
    cookie = follow(closed, "/api/tasks", Cookie="optio_8000=nothing", Sec_Fetch_Site="same-origin")

    assert (link.status, cookie.status) == (401, 401)
    assert "set-cookie" not in link.headers
    assert "optio dev" not in cookie.json["detail"]


def test_the_cookie_of_a_browser_does_not_hide_a_header(api: Api) -> None:
    wrong = follow(api, "/api/tasks", Cookie=COOKIE, Authorization="Bearer x")
    right = follow(api, "/api/tasks", Cookie="optio_8000=x", Authorization=f"Bearer {DEV_TOKEN}")

    assert (wrong.status, right.status) == (401, 200)
