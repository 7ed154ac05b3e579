"""Who opens which page and who does what on it: each page and each act of the dashboard, asked for in six ways."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import quote

import pytest

from tests.server.api import JOB, Api
from tests.server.test_auth import is_page, routes, shape
from tests.server.test_editing_pages import fields_of, tree
from tests.server.test_hooks import post, prepared
from tests.support import Answer

HOST = "localhost:8000"
OWN = {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}
# The last two have the cookie of an admin. One has the Origin of another site. The other lacks what proves that it comes from a
# page of this server, for which other servers put a token into each form.
WAYS = ["viewer", "operator", "admin", "nobody", "foreign", "unproved"]
# An answer is its status, with `!` if the database or a file changes. `login` leads to the login, and `kept` is the login that
# keeps the form. A name in braces is made anew for each request, see `_Made`. A new route fails until it has a row.
MATRIX = """
route                           address                             viewer operator admin nobody foreign unproved  form
GET /                           /                                   303 303 303 login 403 303
GET /login                      /login                              200 200 200 200 403 200
POST /login                     /login                              303 303 303 303 403 403  token={token}
POST /logout                    /logout                             login login login login 403 403
GET /login/provider             /login/provider                     404 404 404 404 403 404
GET /login/callback             /login/callback                     404 404 404 404 403 404
GET /static/{}                  /static/optio.css                   200 200 200 200 403 200
GET /tasks                      /tasks?q=job                        200 200 200 login 403 200
GET /tasks/{}                   /tasks/job                          200 200 200 login 403 200
GET /tasks/{}                   /tasks/job?tab=tests&run=yes        200 200 200 login 403 200
GET /tasks/{}/run               /tasks/job/run                      403 200 200 login 403 200
POST /tasks/{}/run              /tasks/job/run                      403 303! 303! kept 403 403  act=run
POST /tasks/{}/run              /tasks/job/run                      403 200 200 kept 403 403  act=preview
POST /tasks/{}/pause            /tasks/{task}/pause                 403 303! 303! login 403 403  reason=x
POST /tasks/{}/resume           /tasks/{paused}/resume              403 303! 303! login 403 403
GET /tasks/new                  /tasks/new                          403 200 200 login 403 200
POST /tasks/new                 /tasks/new                          403 200 200 kept 403 403  act=check&text={text}
POST /tasks/new                 /tasks/new                          403 403 303! kept 403 403  act=write&text={text}
GET /tasks/{}/edit              /tasks/job/edit                     403 200 200 login 403 200
POST /tasks/{}/edit             /tasks/{task}/edit                  403 200 200 kept 403 403  act=check&{file}
POST /tasks/{}/edit             /tasks/{task}/edit                  403 403 303! kept 403 403  act=write&{file}
GET /tasks/{}/delete            /tasks/job/delete                   403 403 200 login 403 200
POST /tasks/{}/delete           /tasks/{task}/delete                403 403 303! login 403 403  digest={digest}
GET /tasks/{}/triggers/add      /tasks/job/triggers/add             403 403 200 login 403 200
POST /tasks/{}/triggers/add     /tasks/{task}/triggers/add          403 403 303! kept 403 403  kind=schedule&schedule=0+*+*+*+*
POST /tasks/{}/triggers/{}/{}   /tasks/{timed}/triggers/schedule/disable  403 403 303! login 403 403
POST /tasks/{}/triggers/{}/{}   /tasks/{timed}/triggers/schedule/remove   403 403 303! login 403 403
GET /tasks/{}/trial             /tasks/push/trial                   403 200 200 login 403 200
POST /tasks/{}/trial            /tasks/push/trial                   403 200! 200! kept 403 403  payload={payload}
GET /runs                       /runs?task=job                      200 200 200 login 403 200
POST /runs/bulk                 /runs/bulk                          403 200 200 login 403 403  act=cancel&run.{queued}=on
POST /runs/bulk/confirm         /runs/bulk/confirm                  403 200! 200! login 403 403  act=cancel&runs={queued}
GET /runs/{}                    /runs/{failed}                      200 200 200 login 403 200
GET /runs/{}                    /runs/{failed}?tab=log              200 200 200 login 403 200
POST /runs/{}/cancel            /runs/{queued}/cancel               403 303! 303! login 403 403
POST /runs/{}/retry             /runs/{failed}/retry                403 303! 303! login 403 403
POST /runs/{}/rerun             /runs/{failed}/rerun                403 303! 303! login 403 403
GET /queue                      /queue                              200 200 200 login 403 200
GET /costs                      /costs?days=7                       200 200 200 login 403 200
GET /costs.csv                  /costs.csv                          200 200 200 login 403 200
GET /deliveries                 /deliveries                         200 200 200 login 403 200
GET /deliveries/{}              /deliveries/{delivery}              200 200 200 login 403 200
GET /deliveries/{}/replay       /deliveries/{delivery}/replay       403 200 200 login 403 200
POST /deliveries/{}/replay      /deliveries/{delivery}/replay       403 303! 303! login 403 403  again=yes
GET /deliveries/{}/test         /deliveries/{delivery}/test         403 200 200 login 403 200
GET /changes                    /changes                            200 200 200 login 403 200
GET /changes/{}                 /changes/1                          200 200 200 login 403 200
GET /calendar                   /calendar                           200 200 200 login 403 200
GET /connections                /connections                        200 200 200 login 403 200
GET /pools                      /pools                              200 200 200 login 403 200
GET /health                     /health                             200 200 200 login 403 200
"""


class Row(NamedTuple):
    method: str
    route: str
    address: str
    answers: tuple[str, ...]
    form: str


def _row(line: str) -> Row:
    method, path, address, *answers = line.split()
    return Row(method, f"{method} {path}", address, tuple(answers[:6]), "".join(answers[6:]))


ROWS = [_row(line) for line in MATRIX.strip().splitlines()[1:]]


class _Made:
    """What a row asks for: each name makes a new thing, so that an act which one way does is there to be done by the next."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.count = 0
        self.task = ""
        self.tokens = {role: api.token(role) for role in ("viewer", "operator", "admin")}

    def __getitem__(self, name: str) -> str:
        self.api.credentials = {"Authorization": f"Bearer {self.tokens['admin']}"}
        try:
            found: Callable[[], str] = getattr(self, f"_{name}")
            return found()
        finally:
            self.api.credentials = {}

    def _new_text(self) -> str:
        self.count += 1
        return JOB.replace("name: Job", f"name: Made {self.count}")

    def _served(self, more: str = "") -> str:
        text = self._new_text()
        self.task = f"made-{self.count}"
        self.api.serve_task(text + more, self.task)
        return self.task

    def _task(self) -> str:
        return self._served()

    def _timed(self) -> str:
        return self._served('triggers:\n  - {type: schedule, config: {cronExpression: "0 9 * * 1", timezone: UTC}}\n')

    def _paused(self) -> str:
        self.api.services.store.pause(self._served(), "x", "test")
        return self.task

    def _text(self) -> str:
        return quote(self._new_text())

    def _file(self) -> str:
        """The fields of the form of the task that was made last."""
        fields = fields_of(self.api.get(f"/tasks/{self.task}/edit"))
        return "&".join(f"{name}={quote(value)}" for name, value in fields.items() if not name.startswith("f."))

    def _digest(self) -> str:
        return self.api.live.current.registry.task(self.task).digest

    def _token(self) -> str:
        return self.tokens["viewer"]

    def _queued(self) -> str:
        return str(self.api.post("/api/tasks/job/runs", {}).json["runId"])

    def _failed(self) -> str:
        run = self.api.started()
        run.log("a line")
        run.end(ok=False)
        return run.id

    def _payload(self) -> str:
        return quote('{"repository": {"name": "optio"}}')

    def _delivery(self) -> str:
        self.count += 1
        assert post(self.api, b'{"repository": {"name": "optio"}, "size": %d}' % self.count).status == 202
        return str(self.api.get("/api/deliveries?limit=1").json["items"][0]["id"])


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that writes files."""
    environ = {"OPTIO_WRITES": "files", "OPTIO_WEBHOOK_RATE_PER_MINUTE": "1000"}
    made = prepared(Api(tmp_path_factory.mktemp("pages"), dev_token=None, environ=environ))
    (made.tasks / "job.yaml").rename(made.tasks / "push.yaml")
    made.serve_task(JOB)
    yield made
    made.close()


@pytest.fixture(scope="module")
def made(api: Api) -> _Made:
    return _Made(api)


def ask(made: _Made, way: str, method: str, address: str, form: str) -> Answer:
    headers = {"foreign": {"Origin": "http://evil.example"}, "unproved": {}}.get(way, OWN)
    if way != "nobody":
        headers = {**headers, "Cookie": f"optio_8000={made.tokens.get(way, made.tokens['admin'])}"}
    if method == "GET":
        return made.api.request(method, address, headers={"Host": HOST, **headers})
    headers = {"Host": HOST, **headers, "Content-Type": "application/x-www-form-urlencoded"}
    return made.api.request(method, address, raw=form.encode(), headers=headers)


def said(answer: Answer) -> str:
    if answer.status == 303 and answer.headers["location"].startswith("/login"):
        return "login"
    return "kept" if answer.status == 401 and b"What you typed is kept" in answer.body else str(answer.status)


def everything(api: Api) -> object:
    """All that a request could change: the files, and the database without its tokens, whose use is noted later."""
    with contextlib.closing(sqlite3.connect(api.services.settings.database)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'tokens'").fetchall()
        return tree(api), [connection.execute(f'SELECT * FROM "{name}"').fetchall() for (name,) in names]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.address} {row.form}".strip())
def test_a_page_and_an_act_answer_as_declared_and_a_refusal_changes_nothing(api: Api, made: _Made, row: Row) -> None:
    found = []

    for way in WAYS:
        address, form = row.address.format_map(made), row.form.format_map(made)  # type: ignore[arg-type]
        before = everything(api)
        answer = said(ask(made, way, row.method, address, form))
        found.append(answer if everything(api) == before else f"{answer}!")

    assert dict(zip(WAYS, found, strict=True)) == dict(zip(WAYS, row.answers, strict=True))


def test_every_page_and_act_has_a_row() -> None:
    known = {shape(route) for route in routes() if is_page(route)}

    assert {row.route for row in ROWS} == known
