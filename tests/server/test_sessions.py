"""Sessions: the tokens of people who signed in at a provider. They are revocable, end, and name their person."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from optio.server.auth import token_hash
from tests.server.api import Api
from tests.support import Answer

HOST = "localhost:8000"


@pytest.fixture
def session(api: Api) -> str:
    """The secret of an operator's session."""
    expires = datetime.now(UTC) + timedelta(hours=1)
    api.services.store.add_token("ses_1", token_hash("optio_session"), "operator", "ada@example.com", expires)
    return "optio_session"


def submit(api: Api, path: str, cookie: str, **form: str) -> Answer:
    """A form as a browser sends it."""
    headers = {"Host": HOST, "Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}
    kind = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": f"optio_8000={cookie}"}
    api.credentials = {}
    return api.request("POST", path, raw=urlencode(form).encode(), headers={**headers, **kind})


def test_what_a_session_does_is_done_by_its_person(api: Api, session: str) -> None:
    run_id = api.post("/api/tasks/job/runs", Authorization=f"Bearer {session}").json["runId"]

    assert api.services.store.events(run_id)[0].actor == "user:ada@example.com"


def test_signing_out_ends_a_session_and_a_second_time_harms_nothing(api: Api, session: str) -> None:
    first, second = (submit(api, "/logout", session) for _ in range(2))

    (row,) = [each for each in api.services.store.tokens() if each.is_session]
    assert (first.status, second.status) == (303, 303)
    assert row.revoked_at is not None
    assert api.get("/api/tasks", Authorization=f"Bearer {session}").status == 401


def test_signing_out_leaves_an_api_token_as_it_is(api: Api) -> None:
    token = api.token("operator")

    submit(api, "/logout", token)

    assert api.get("/api/tasks", Authorization=f"Bearer {token}").status == 200


def test_a_session_that_is_over_opens_nothing(api: Api) -> None:
    api.services.store.add_token("ses_old", token_hash("old"), "admin", "ada", datetime.now(UTC) - timedelta(seconds=1))

    assert api.get("/api/tasks", Authorization="Bearer old").status == 401
