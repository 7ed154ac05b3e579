"""Who may do what: every route for every role, malformed credentials, tokens that end."""

import asyncio
import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from litestar.routes import HTTPRoute
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from optio.server.app import rest
from optio.server.auth import AccessControl, token_hash
from tests.server.api import JOB, Api

# The documented table. What is not in it is for admins; a route that is new fails here until somebody has decided. Pages have
# theirs in test_page_access.py.
TABLE = {
    "GET /healthz": "public",
    "GET /readyz": "public",
    "GET /docs": "public",
    "GET /docs/{}": "public",
    "GET /metrics": "viewer",
    "GET /api/connections": "viewer",
    "GET /api/pools": "viewer",
    "GET /api/pools/plan": "viewer",
    "GET /api/registry": "viewer",
    "GET /api/diagnostics": "viewer",
    "GET /api/tasks": "viewer",
    "GET /api/overview": "viewer",
    "GET /api/queue": "viewer",
    "POST /api/runs/bulk": "operator",
    "GET /api/costs": "viewer",
    "GET /api/tasks/{}": "viewer",
    "GET /api/tasks/{}/file": "viewer",
    "GET /api/definitions/{}": "viewer",
    "POST /api/drafts": "operator",
    "GET /api/tasks/{}/forecast": "viewer",
    "POST /api/tasks/{}/trial": "operator",
    "POST /api/tasks/{}/pause": "operator",
    "POST /api/tasks/{}/resume": "operator",
    "GET /api/tasks/{}/triggers": "viewer",
    "GET /api/tasks/{}/triggers/{}": "viewer",
    "GET /api/tasks/{}/runs": "viewer",
    "POST /api/tasks/{}/runs": "operator",
    "GET /api/runs": "viewer",
    "GET /api/workflow-runs/{}": "viewer",
    "GET /api/workflow-runs/{}/logs": "viewer",
    "GET /api/workflow-runs/{}/calls": "viewer",
    "GET /api/workflow-runs/{}/calls/{}": "viewer",
    "POST /api/workflow-runs/{}/cancel": "operator",
    "POST /api/workflow-runs/{}/retry": "operator",
    "POST /api/workflow-runs/{}/rerun": "operator",
    "GET /api/deliveries": "viewer",
    "GET /api/deliveries/{}": "viewer",
    "POST /api/deliveries/{}/replay": "operator",
    "GET /api/tasks/{}/slots": "viewer",
    "GET /api/tasks/{}/origins": "viewer",
    "GET /api/tasks/{}/tests": "viewer",
    "GET /api/workflow-runs/{}/failure": "viewer",
    "GET /api/search": "viewer",
    "GET /api/workflow-runs/{}/logs/search": "viewer",
    "GET /api/workflow-runs/{}/transcript": "viewer",
    "GET /api/deliveries/{}/test": "operator",
    "GET /api/health": "viewer",
    "GET /api/calendar": "viewer",
    "GET /api/fires": "viewer",
    "GET /api/generations/{}": "viewer",
    "GET /api/generations": "viewer",
    **{
        f"{method} /schema{page}": "viewer"
        for method in ("GET", "OPTIONS")
        for page in ("", "/{}", "/openapi.json", "/openapi.yaml", "/openapi.yml", "/asyncapi.json")
    },
}
ROLES = ["viewer", "operator", "admin"]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that lets nobody in without a token."""
    made = Api(tmp_path_factory.mktemp("closed"), dev_token=None)
    made.serve_task(JOB)
    yield made
    made.close()


def routes() -> list[str]:
    """Every method and path of the application, from its own router."""

    return [
        f"{method} {route.path_format}"
        for route in rest().routes
        if isinstance(route, HTTPRoute)
        for method in sorted(route.route_handler_map)
    ]


def status(api: Api, route: str, token: str | None) -> int:
    method, _, path = route.partition(" ")
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    while "{" in path:
        begin, end = path.index("{"), path.index("}")
        path = path[:begin] + ("1" if path[begin:end] == "{number" else "nothing") + path[end + 1 :]
    answer = api.request(method, path, headers=headers)
    # OPTIONS of a page leads to the login instead of answering 401.
    return 401 if answer.headers.get("location", "").startswith("/login") else answer.status


def is_page(route: str) -> bool:
    """Whether a route is for people: what machines read is the API."""
    method, _, path = route.partition(" ")
    return method != "OPTIONS" and not path.startswith(("/api/", "/schema", "/docs", "/healthz", "/readyz", "/metrics"))


def shape(route: str) -> str:
    while "{" in route.replace("{}", ""):
        begin = route.index("{", route.rfind("{}") + 2 if "{}" in route else 0)
        route = route[:begin] + "{}" + route[route.index("}", begin) + 1 :]
    return route


def test_every_route_is_open_to_the_documented_roles_and_to_nobody_else(closed: Api) -> None:
    tokens = {name: closed.token(name) for name in ROLES}
    wrong = []

    for route in (each for each in routes() if not is_page(each)):
        needed = TABLE.get(shape(route), "admin")
        for role, token in {None: None, **tokens}.items():
            allowed = needed == "public" or (role is not None and ROLES.index(role) >= ROLES.index(needed))
            got = status(closed, route, token)
            refused = got == (401 if role is None else 403)
            if refused is allowed or got >= 500:
                wrong.append((route, role, got))

    assert wrong == []


def test_every_line_of_the_table_is_a_route(closed: Api) -> None:
    assert set(TABLE) - {shape(route) for route in routes()} == set()


@pytest.mark.parametrize("path", ["/ws/workflow-runs/x/logs", "/ws", "/api/nothing", "/metrics/nothing"])
def test_what_is_no_route_tells_strangers_nothing(closed: Api, path: str) -> None:
    assert closed.get(path).status in (401, 404)


CREDENTIALS: dict[str, list[tuple[str, str | bytes]]] = {
    "no header": [],
    "empty": [("Authorization", "")],
    "unknown": [("Authorization", "Bearer nothing")],
    "only the scheme": [("Authorization", "Bearer")],
    "blank": [("Authorization", "Bearer ")],
    "two blanks": [("Authorization", "Bearer  TOKEN")],
    "in two headers": [("Authorization", "Bearer TOKEN"), ("Authorization", "Bearer TOKEN")],
    "two in one": [("Authorization", "Bearer TOKEN, Bearer TOKEN")],
    "16 KB": [("Authorization", "Bearer " + "x" * 16_384)],
    "not ASCII": [("Authorization", b"Bearer \xff\xfe")],
    "Basic": [("Authorization", "Basic YWRtaW46YWRtaW4=")],
    "Basic with the token": [("Authorization", "Basic TOKEN")],
    "no scheme": [("Authorization", "TOKEN")],
    "in another header": [("X-Auth-Token", "TOKEN")],
    "as a cookie": [("Cookie", "token=TOKEN")],
    "part of it": [("Authorization", "Bearer PART")],
    "its hash": [("Authorization", "Bearer HASH")],
    "SQL": [("Authorization", "Bearer ' OR 1=1 --")],
}


@pytest.mark.parametrize("case", sorted(CREDENTIALS))
def test_what_is_no_token_of_ours_is_answered_by_401(closed: Api, case: str) -> None:
    token = closed.token("admin")
    digest = token_hash(token)
    headers = [
        (
            name,
            value.replace("TOKEN", token).replace("PART", token[:-1]).replace("HASH", digest)
            if isinstance(value, str)
            else value,
        )
        for name, value in CREDENTIALS[case]
    ]

    answer = closed.request("GET", "/api/tasks", headers=headers)

    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("length", "said"), [(0, "send `"), (1, "this token is not known"), (512, "this token is not known"), (513, "send `")]
)
def test_a_token_of_no_possible_length_is_not_looked_up(closed: Api, length: int, said: str) -> None:
    answer = closed.get("/api/tasks", Authorization="Bearer " + "x" * length)

    assert (answer.status, answer.json["detail"][: len(said)]) == (401, said)


@pytest.mark.parametrize(
    ("query", "problems"),
    [
        ("task=job&limit=2", []),
        ("taks=job", [("/taks", "is unknown")]),
        ("limit=2&limit=3", [("/limit", "occurs more than once")]),
        ("limit=null", [("/limit", "must be given with a value, or be left out")]),
        ("task=null", []),
        ("since=2026-01-05T08:00:00Z", []),
        ("since=5", [("/since", "must be a time, such as `2026-01-05T08:00:00Z`")]),
        ("limit=2&limit=3&taks=job", [("/limit", "occurs more than once"), ("/taks", "is unknown")]),
    ],
)
def test_a_query_that_the_route_does_not_know_is_refused(closed: Api, query: str, problems: list[tuple[str, str]]) -> None:
    answer = closed.get(f"/api/runs?{query}", Authorization=f"Bearer {closed.token('viewer')}")

    assert answer.status == (422 if problems else 200)
    errors = answer.json.get("errors", [])
    assert sorted((each["pointer"], each["message"]) for each in errors) == problems
    hints = [each["hint"] for each in errors if each["message"] == "is unknown"]
    assert all(re.match("known are cursor, .*, until$", hint) for hint in hints), hints


def test_an_actor_is_named_by_the_label_of_its_token_or_else_by_its_id(closed: Api) -> None:
    store = closed.services.store
    store.add_token("tok_bare", token_hash("bare"), "operator", "", None)

    for secret, name in ((closed.token("operator"), "token:operator"), ("bare", "token:tok_bare")):
        run_id = closed.request("POST", "/api/tasks/job/runs", headers={"Authorization": f"Bearer {secret}"}).json["runId"]
        assert store.events(run_id)[0].actor == name


def test_a_token_in_the_query_is_refused(closed: Api) -> None:
    assert closed.get(f"/api/tasks?token={closed.token('admin')}").status == 401


def test_the_scheme_may_be_written_in_any_case(closed: Api) -> None:
    assert closed.get("/api/tasks", Authorization=f"bEARER {closed.token('viewer')}").status == 200


def test_a_revoked_token_is_refused_at_once(closed: Api) -> None:
    secret = closed.token("admin")
    assert closed.get("/api/tasks", Authorization=f"Bearer {secret}").status == 200

    closed.services.store.revoke_token(closed.services.store.tokens()[0].id)

    assert closed.get("/api/tasks", Authorization=f"Bearer {secret}").status == 401


def test_an_expired_token_is_refused(closed: Api) -> None:
    secret = closed.token("admin", expires_at=datetime.now(UTC) - timedelta(seconds=1))

    assert closed.get("/api/tasks", Authorization=f"Bearer {secret}").status == 401


def test_a_token_s_use_is_noted_once_a_minute(closed: Api) -> None:
    headers = [(b"authorization", f"Bearer {closed.token('viewer')}".encode())]
    times = iter([0, 59.9, 60, 119.9, 120])
    access = AccessControl(closed.services.store, clock=lambda: next(times))
    noted = []

    for _ in range(5):
        asyncio.run(access.admit(headers, "viewer"))  # waits for its threads, too
        noted.append(closed.services.store.tokens()[0].last_used_at)

    assert None not in noted
    assert [noted.index(each) for each in noted] == [0, 0, 2, 2, 4]


def test_the_database_holds_no_token(closed: Api) -> None:
    secret = closed.token("admin")
    closed.get("/api/tasks", Authorization=f"Bearer {secret}")

    with sqlite3.connect(closed.services.settings.database) as connection:
        dump = "\n".join(connection.iterdump())

    assert "tokens" in dump
    assert secret not in dump
    assert secret.removeprefix("optio_") not in dump


def test_a_socket_needs_a_token_too(closed: Api) -> None:
    for headers, status in [({}, 401), ({"Authorization": "Bearer nothing"}, 401)]:
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{closed.port}/ws/workflow-runs/x/logs", additional_headers=headers)
        assert refused.value.response.status_code == status


@pytest.mark.parametrize("dev", [True, False])
def test_a_stream_goes_on_while_its_token_is_valid(
    served: Callable[..., Api], monkeypatch: pytest.MonkeyPatch, dev: bool
) -> None:
    monkeypatch.setattr("optio.server.routes.logs.CHECK_S", 0.0)
    api = served() if dev else served(dev_token=None)
    api.serve_task(JOB)
    if not dev:
        api.credentials = {"Authorization": f"Bearer {api.token('operator')}"}
    writer = api.started()

    with api.connect(f"/ws/workflow-runs/{writer.id}/logs") as live:
        for text in ("first", "second", "third"):
            writer.log(text)
            assert json.loads(live.recv(timeout=20))["text"] == text


def test_streams_end_when_their_token_is_revoked(served: Callable[..., Api], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.server.routes.logs.CHECK_S", 0.1)
    monkeypatch.setattr("optio.server.log_fanout.PING_S", 0.2)
    monkeypatch.setattr("optio.server.log_fanout.POLL_S", 0.05)
    api = served(dev_token=None)
    api.serve_task(JOB)
    secret = api.token("admin")
    headers = {"Authorization": f"Bearer {secret}"}
    run_id = api.request("POST", "/api/tasks/job/runs", headers=headers).json["runId"]
    sse: list[bytes] = []
    reading = threading.Thread(
        target=lambda: sse.append(
            api.request("GET", f"/api/workflow-runs/{run_id}/logs", headers={**headers, "Accept": "text/event-stream"}).body
        )
    )
    reading.start()

    with connect(f"ws://127.0.0.1:{api.port}/ws/workflow-runs/{run_id}/logs", additional_headers=headers) as live:
        api.services.store.revoke_token(api.services.store.tokens()[0].id)
        with pytest.raises(ConnectionClosed) as closed:
            live.recv(timeout=10)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401
    reading.join(10)
    assert b"event: end" not in sse[0]
