"""The pages of the dashboard over HTTP, as a browser without scripts uses them."""

import gzip
import re
from collections.abc import Callable
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode, urljoin

import pytest

from optio.model.agent_event import ToolCall, ToolKind, ToolResult, TurnEnd
from optio.model.retry import GiveUp
from optio.model.run import LogKind, LogLine, Outcome, Run
from optio.model.usage import Meter
from optio.server.read_models.transcript import turns
from optio.store.values import RunFilter
from tests.server.api import Api
from tests.support import Answer

HOST = "localhost:8000"
HOSTILE = '<img src=x onerror="alert(1)">'
TASK = f"""\
name: Report
description: {HOSTILE!r}
agentRuntime: command
command: "true"
promptTemplate: "Look at {{{{REPO}}}}, {{{{N}}}}"
paramsSchema:
  type: object
  properties:
    REPO: {{type: string, default: storefront, maxLength: 100}}
    N: {{type: integer, minimum: 1}}
    MODE: {{type: string, enum: [fast, slow]}}
    LABELS: {{type: array, items: {{type: string}}}}
  required: [N]
  additionalProperties: false
maxConcurrent: 1000
triggers:
  - {{type: schedule, config: {{cronExpression: "0 9 * * 1", timezone: Europe/Berlin, paramMapping: {{N: 1}}}}}}
"""


@pytest.fixture
def api(served: Callable[..., Api]) -> Api:
    made = served(dev_token=None)
    made.serve_task(TASK, "report")
    return made


class Browser:
    """A browser that is signed in with a role's token, by the form."""

    def __init__(self, api: Api, role: str) -> None:
        self.api = api
        self.cookie = ""
        self.token = api.token(role)
        answer = self.submit("/login", token=self.token, next="/tasks")
        assert (answer.status, answer.headers["location"]) == (303, "/tasks")
        self.cookie = answer.headers["set-cookie"].partition(";")[0]

    def get(self, path: str, **headers: str) -> Answer:
        return self._send("GET", path, b"", {"Sec-Fetch-Site": "same-origin", **headers})

    def submit(self, path: str, /, **form: str) -> Answer:
        headers = {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}
        return self._send("POST", path, urlencode(form).encode(), headers)

    def _send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        kind = {"Content-Type": "application/x-www-form-urlencoded"} if method == "POST" else {}
        sent = {"Host": HOST, "Cookie": self.cookie, **kind, **headers}
        return self.api.request(method, path, raw=body, headers=sent)


def html(answer: Answer) -> str:
    """The page with its references to characters replaced, in which addresses can be looked for."""
    return unescape(answer.body.decode())


def text_of(answer: Answer) -> str:
    """What a page shows, without its tags."""
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", answer.body.decode())))


class Tags(HTMLParser):
    """The tags of a page with their attributes, as a browser reads them."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(answer.body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def every_run(api: Api) -> list[Run]:
    return api.services.store.runs(RunFilter(), limit=200).items


# Login


def test_a_reader_without_a_login_is_led_to_it_and_back(api: Api) -> None:
    answer = api.get("/runs?task=report")

    assert (answer.status, answer.headers["location"]) == (303, "/login?next=/runs%3Ftask%3Dreport")
    assert 'value="/runs?task=report"' in html(api.get(answer.headers["location"]))


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "", "/login"])
def test_a_login_leads_to_no_other_place_than_this_server(api: Api, target: str) -> None:
    browser = Browser(api, "viewer")

    assert browser.submit("/login", token=browser.token, next=target).headers["location"] == "/"


@pytest.mark.parametrize("token", ["", "nothing", "x" * 600, "ünknown"])
def test_a_wrong_token_is_refused_in_the_form_and_sets_nothing(api: Api, token: str) -> None:
    answer = Browser(api, "viewer").submit("/login", token=token, next="/runs")

    assert answer.status == 401
    assert "set-cookie" not in answer.headers
    assert 'role="alert"' in answer.body.decode()


def test_a_stranger_s_form_of_many_fields_or_bytes_is_refused_at_once(api: Api) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}

    many = api.request("POST", "/login", raw=b"a&" * 500_000, headers=kind)
    large = api.request("POST", "/login", raw=b"token=" + b"x" * (1 << 20), headers=kind)

    assert (many.status, large.status) == (400, 413)
    assert "more than 1,000 fields" in text_of(many)


def test_a_form_that_breaks_off_harms_nothing(api: Api) -> None:
    head = b"POST /login HTTP/1.1\r\nHost: localhost:8000\r\nContent-Type: application/x-www-form-urlencoded\r\n"

    answer = api.talk(head + b"Content-Length: 99\r\n\r\ntoken=")

    assert b" 500 " not in answer
    assert api.get("/login").status == 200


def test_the_cookie_is_for_this_server_and_off_this_machine_for_https_alone(served: Callable[..., Api]) -> None:
    made = served(dev_token=None, environ={"OPTIO_ALLOWED_HOSTS": "optio.example"})
    form = urlencode({"token": made.token("viewer")}).encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}

    near = made.request("POST", "/login", raw=form, headers={"Host": "localhost:8000", **kind}).headers["set-cookie"]
    far = made.request("POST", "/login", raw=form, headers={"Host": "optio.example", **kind}).headers["set-cookie"]

    assert near.endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert far.endswith("; Path=/; HttpOnly; SameSite=Strict; Secure")


def test_signing_out_deletes_the_cookie_and_a_revoked_token_ends_the_login(api: Api) -> None:
    browser = Browser(api, "viewer")
    (token,) = api.services.store.tokens()

    gone = browser.submit("/logout")
    api.services.store.revoke_token(token.id)

    assert "Max-Age=0" in gone.headers["set-cookie"]
    assert browser.get("/tasks").headers["location"].startswith("/login")


# Pages


def test_every_page_has_a_strict_policy_and_shows_markup_as_text(api: Api) -> None:
    browser = Browser(api, "operator")
    started = browser.submit("/tasks/report/run", **{"p.N": "1", "p.REPO": HOSTILE, "act": "run"}).headers["location"]

    pages = ["/tasks", "/tasks/report", "/tasks/report/run", "/runs", started, "/login", "/runs/nothing"]
    pages += [f"{started}?tab={tab}" for tab in ("log", "prompt", "events", "attempts")]
    answers = [browser.get(path) for path in pages]

    for path, answer in zip(pages, answers, strict=True):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'"), path
        assert "unsafe" not in policy, path
        tags = Tags(answer).found
        assert not {"img", "style", "iframe", "object"} & {tag for tag, _ in tags}, path
        assert [name for _, attrs in tags for name in attrs if name == "style" or name.startswith("on")] == [], path
        scripts = [str(attrs["src"]).rpartition("/")[2] for tag, attrs in tags if tag == "script"]
        assert scripts == ["theme.js", *["live.js", "keys.js"] * (path != "/login"), *["log.js"] * path.endswith("=log")], path
    assert HOSTILE in text_of(answers[1])


def test_tasks_are_found_by_their_words_and_listed_by_pages(api: Api) -> None:
    for number in range(60):
        (api.tasks / f"more-{number:02}.yaml").write_text(TASK.replace("name: Report", f"name: More {number:02}"))
    api.serve_task(TASK, "report")
    browser = Browser(api, "viewer")

    first = browser.get("/tasks")
    (more,) = re.findall(r'rel="next" href="([^"]*)"', html(first))
    second = browser.get(more)

    assert [f"More {number}" in text_of(first) for number in (49, 50)] == [True, False]
    assert [f"More {number}" in text_of(second) for number in (49, 50)] == [False, True]
    assert "More 37" in text_of(browser.get("/tasks?q=more+37"))
    assert "Report" not in text_of(browser.get("/tasks?q=more+37"))
    assert "No task fits" in text_of(browser.get("/tasks?q=nothing"))


def test_a_run_is_started_by_the_form_and_cancelled_on_its_page(api: Api) -> None:
    browser = Browser(api, "operator")

    started = browser.submit("/tasks/report/run", **{"p.N": "3", "p.REPO": "a\r\nb", "p.LABELS": '["x"]', "act": "run"})
    run = api.services.store.run(started.headers["location"].rpartition("/")[2])
    queued = text_of(browser.get(started.headers["location"]))
    cancelled = browser.submit(f"/runs/{run.id}/cancel")

    assert run.params == {"REPO": "a\nb", "N": 3, "LABELS": ["x"]}
    assert "no worker is running" in queued
    assert "Nothing yet." in queued
    assert "This run produced no output." in text_of(browser.get(f"/runs/{run.id}"))
    assert cancelled.headers["location"] == f"/runs/{run.id}"
    assert api.services.store.run(run.id).state == "cancelled"
    assert "cancelled" in text_of(browser.get("/runs?state=cancelled"))
    assert browser.submit(f"/runs/{run.id}/cancel").status == 409


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"p.N": ""}, "N is required"),
        ({"p.N": "0"}, "N is less than 1"),
        ({"p.N": "three"}, "N must be JSON"),
        ({"p.N": "1", "p.LABELS": "[1]"}, "LABELS must be a string"),
    ],
)
def test_a_mistake_in_the_form_is_said_beside_its_field_and_nothing_typed_is_lost(
    api: Api, form: dict[str, str], said: str
) -> None:
    answer = Browser(api, "operator").submit("/tasks/report/run", **{"p.REPO": "kept words", **form, "act": "run"})

    assert answer.status == 422
    assert said in text_of(answer)
    assert "kept words" in answer.body.decode()
    assert every_run(api) == []


def test_the_preview_shows_the_prompt_and_the_command_and_starts_nothing(api: Api) -> None:
    answer = Browser(api, "operator").submit("/tasks/report/run", **{"p.N": "2", "p.REPO": "it's", "act": "preview"})

    assert "Look at it's, 2" in text_of(answer)
    assert "optio run report --wait -p" in text_of(answer)
    assert every_run(api) == []


def test_a_pause_is_set_and_ended_on_the_task_s_page(api: Api) -> None:
    browser = Browser(api, "operator")

    browser.submit("/tasks/report/pause", reason="the API is down")
    paused = text_of(browser.get("/tasks/report"))
    browser.submit("/tasks/report/resume")

    assert "the API is down" in paused
    assert "Paused by token:operator" in paused
    assert "Paused by" not in text_of(browser.get("/tasks/report"))


def test_a_failed_run_opens_with_its_reason_and_is_retried_by_a_button(api: Api) -> None:
    api.credentials = {"Authorization": f"Bearer {api.token('admin')}"}
    run = api.started("report", {"N": 1})
    run.log("first", HOSTILE)
    run.end(ok=False)
    browser = Browser(api, "operator")

    failed = browser.get(f"/runs/{run.id}")
    retried = browser.submit(f"/runs/{run.id}/retry")

    assert "agent-failed" in text_of(failed)
    assert ["/retry" in html(each) for each in (failed, Browser(api, "viewer").get(f"/runs/{run.id}"))] == [True, False]
    assert retried.status == 303
    assert api.services.store.run(run.id).state == "queued"


def test_a_failed_run_opens_on_why_with_its_cure_and_what_differs_from_the_last_good_one(api: Api) -> None:
    api.credentials = {"Authorization": f"Bearer {api.token('admin')}"}
    good = api.started("report", {"N": 1})
    good.end()
    api.serve_task(TASK.replace('command: "true"', 'command: "false"'), "report")
    bad = api.started("report", {"N": 2})
    bad.log("first", HOSTILE)
    call = ToolCall(id="a", name="Bash", kind=ToolKind.EXECUTE, input={"command": "make test"})
    result = ToolResult(id="a", ok=False, size=4, exit_code=2)
    lines = [line(0, "Bash", LogKind.TOOL, turn=1, event=call), line(0, "no", LogKind.RESULT, turn=1, event=result)]
    api.services.store.append_log(bad.claim.run.lease, lines, {}, Meter())
    outcome = Outcome(ok=False, reason="exit_code", message="exit code 2")
    api.services.store.finish(bad.claim.run.lease, outcome, Meter(), 2, None, lambda *_: GiveUp("the test ends it"))

    shown = text_of(Browser(api, "viewer").get(f"/runs/{bad.id}"))
    told = api.get(f"/api/workflow-runs/{bad.id}/failure").json

    assert "the program ended with another exit code than 0. What you do: look at its log" in shown
    assert "Last tool call: Bash make test ✕ failed, exit code 2" in shown
    assert HOSTILE in shown
    assert told["lastGood"] == good.id
    assert [(each["what"], each["before"], each["now"]) for each in told["differences"]] == [
        ("command", "true", "false"),
        ("parameter N", "1", "2"),
    ]
    assert (told["lastCall"]["event"]["name"], told["callResult"]["event"]["ok"]) == ("Bash", False)
    assert [each["text"] for each in told["lines"]] == ["first", HOSTILE, "Bash", "no"]
    assert api.get(f"/api/workflow-runs/{good.id}/failure").status == 409


def test_a_run_that_has_ended_is_run_again_by_a_button(api: Api) -> None:
    api.credentials = {"Authorization": f"Bearer {api.token('admin')}"}
    run = api.started("report", {"N": 7})
    browser = Browser(api, "operator")

    assert browser.submit(f"/runs/{run.id}/rerun").status == 409
    run.end()
    again = browser.submit(f"/runs/{run.id}/rerun").headers["location"].rpartition("/")[2]

    api.credentials = {}
    assert again != run.id
    assert api.services.store.run(again).params["N"] == 7


def test_what_is_meant_for_a_terminal_is_left_out_of_an_agent_s_text(api: Api) -> None:
    api.credentials = {"Authorization": f"Bearer {api.token('admin')}"}
    run = api.started("report", {"N": 1})
    said = "\x1b[31;1mred\x1b[0m \x1b]8;;a:b\x07link\x1b]8;;\x07 \x1b[2J\u202ebell\x07\r\n\x1bP1;2q\x1b\\next\x9b1m\tcut\x1b[3"
    run.log(said)
    outcome = Outcome(ok=False, reason="timeout", text=said)
    api.services.store.finish(run.claim.run.lease, outcome, Meter(turns=1), 0, None, lambda *_: GiveUp("the test ends it"))
    page = html(Browser(api, "viewer").get(f"/runs/{run.id}"))

    shown = "red link [U+202E]bell␇\nnext\tcut"
    assert page.count(shown) == 3  # the last lines, the output and the transcript
    assert "· 1 turn ·" in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", page)


def test_a_transcript_is_read_by_whole_turns(api: Api) -> None:
    api.credentials = {"Authorization": f"Bearer {api.token('admin')}"}
    run = api.started("report", {"N": 1})
    lines = [line(0, f"turn {turn} part {part}", turn=turn) for turn in range(1, 101) for part in range(9)]
    api.services.store.append_log(run.claim.run.lease, lines, {}, Meter())
    browser = Browser(api, "viewer")

    def turns_of(query: str) -> list[int]:
        return [int(each) for each in re.findall(r"<h3>Turn (\d+)", html(browser.get(f"/runs/{run.id}{query}")))]

    def link(query: str, rel: str) -> str:
        return re.findall(rf'rel="{rel}" href="/runs/{run.id}([^"]*)"', html(browser.get(f"/runs/{run.id}{query}")))[0]

    earlier = link("", "prev")
    assert turns_of("") == list(range(61, 101))
    assert turns_of(earlier) == list(range(21, 61))
    assert turns_of(link(earlier, "prev")) == list(range(1, 21))
    assert turns_of("?after=0") == list(range(1, 41))
    assert turns_of(link("?after=0", "next")) == list(range(41, 81))
    told = api.get(f"/api/workflow-runs/{run.id}/transcript?before=181").json
    assert [each["number"] for each in told["turns"]] == list(range(1, 21))
    assert (told["first"], told["last"], told["end"]) == (0, 180, 900)
    assert told["turns"][0]["blocks"][0]["text"].startswith("turn 1 part 0\nturn 1 part 1")


def test_a_long_log_is_read_from_its_end_and_by_pages_without_a_gap(api: Api) -> None:
    api.credentials = {"Authorization": f"Bearer {api.token('admin')}"}
    run = api.started("report", {"N": 1})
    run.log(*(f"line {number}" for number in range(1, 2501)))
    browser = Browser(api, "viewer")

    end = browser.get(f"/runs/{run.id}?tab=log")
    older = browser.get(f"/runs/{run.id}?tab=log&after=500")

    assert re.findall(r'<li value="(\d+)"', html(end)) == [str(number) for number in range(1501, 2501)]
    assert f"/runs/{run.id}?tab=log&after=500" in html(end)
    assert re.findall(r'<li value="(\d+)"', html(older)) == [str(number) for number in range(501, 1501)]


def test_a_log_of_huge_lines_makes_no_huge_page(api: Api) -> None:
    api.credentials = {"Authorization": f"Bearer {api.token('admin')}"}
    run = api.started("report", {"N": 1})
    for number in range(20):
        run.log(*(f"{number} {letter * 60_000}" for letter in "abcdefghij"))
    browser = Browser(api, "viewer")

    end, beginning = (browser.get(f"/runs/{run.id}?tab=log{more}") for more in ("", "&after=0"))
    shown = [re.findall(r'<li value="(\d+)"', html(each)) for each in (end, beginning)]

    assert max(len(each.body) for each in (end, beginning, browser.get(f"/runs/{run.id}"))) < 3 << 20
    assert [shown[0][-1], shown[1][0]] == ["200", "1"]
    assert f"after={shown[1][-1]}" in html(beginning)
    assert "bytes more: download the log" in text_of(end)


def test_an_unknown_page_and_a_misspelt_filter_are_said_as_a_page(api: Api) -> None:
    browser = Browser(api, "viewer")

    assert browser.get("/tasks/nothing").status == browser.get("/runs/nothing").status == 404
    assert "Not found" in text_of(browser.get("/tasks/nothing"))
    wrong = browser.get("/runs?stat=failed")
    assert (wrong.status, "stat is unknown" in text_of(wrong).replace("/", "")) == (422, True)


def test_the_documentation_is_linked_where_it_is_built(served: Callable[..., Api], tmp_path: Path) -> None:
    built = tmp_path / "built"
    built.mkdir()
    (built / "index.html").write_text("x")

    there, not_there = (served(dev_token=None, environ={"OPTIO_DOCS": str(path)}) for path in (built, tmp_path / "nothing"))

    assert ['href="/docs"' in html(each.get("/login")) for each in (there, not_there)] == [True, False]


@pytest.mark.parametrize("name", ["nothing.css", "..%2fapp.py", "optio.py", "vendor", "vendor/../live.js"])
def test_no_other_file_is_given_out(api: Api, name: str) -> None:
    assert api.get(f"/static/{name}").status == 404
    assert api.get("/static/optio.css").headers["content-type"].startswith("text/css")


def test_a_page_s_files_are_kept_until_one_of_them_changes(api: Api) -> None:
    (address,) = re.findall(r'href="(/static/[^"]*/optio.css)"', html(api.get("/login")))

    named, bare, older = (api.get(path) for path in (address, "/static/optio.css", "/static/0123456789abcdef/optio.css"))

    assert ["immutable" in each.headers["cache-control"] for each in (named, bare, older)] == [True, False, False]
    assert named.body == bare.body == older.body
    assert api.get(address.replace("optio.css", "vendor/idiomorph.js")).headers["content-type"].startswith("text/javascript")


def test_a_file_is_compressed_for_a_browser_that_takes_it(api: Api) -> None:
    plain = api.get("/static/vendor/codemirror.js")
    packed = api.request("GET", "/static/vendor/codemirror.js", headers={"Accept-Encoding": "gzip, br"})

    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < 140_000


# The conversation


def line(seq: int, text: str, kind: LogKind = LogKind.TEXT, **more: object) -> LogLine:
    return LogLine(kind=kind, data=text.encode(), at=datetime.now(UTC), seq=seq, **more)  # type: ignore[arg-type]


def test_results_of_parallel_calls_stand_with_their_calls() -> None:
    call = [ToolCall(id=each, name="Bash", kind=ToolKind.EXECUTE, input={"command": f"run {each}"}) for each in "ab"]
    found = turns(
        [
            line(1, "I look", attempt=1, turn=1),
            *(line(2, "call", LogKind.TOOL, attempt=1, turn=1, event=each) for each in call),
            line(4, "said b", LogKind.RESULT, attempt=1, turn=1, event=ToolResult(id="b", ok=False, size=6, exit_code=3)),
            line(5, "said a", LogKind.RESULT, attempt=1, turn=2, event=ToolResult(id="a", ok=True, size=6)),
            line(6, "done", attempt=1, turn=2),
        ]
    )

    assert [turn.number for turn in found] == [1, 2]
    first = [(each.gist, each.text, each.ok, each.exit_code) for each in found[0].blocks[1:]]
    assert first == [("run a", "said a", True, None), ("run b", "said b", False, 3)]
    assert [each.text for each in found[1].blocks] == ["done"]


def test_an_edit_is_shown_as_a_difference_and_a_turn_has_its_usage() -> None:
    edit = {"file_path": "a.py", "old_string": "one\ntwo", "new_string": "one\nthree"}
    used = TurnEnd(model="m", fresh=1, cached=2, cache_write=3, output=4, reasoning=0, cost_usd="0.1")
    (turn,) = turns(
        [
            line(
                1, "Edit", LogKind.TOOL, attempt=1, turn=1, event=ToolCall(id="a", name="Edit", kind=ToolKind.EDIT, input=edit)
            ),
            line(2, "turn 1", LogKind.TURN, attempt=1, turn=1, event=used),
        ]
    )

    assert turn.blocks[0].diff == [" one", "-two", "+three"]
    assert turn.end is used


def test_a_result_without_its_call_is_kept() -> None:
    (turn,) = turns([line(1, "late", LogKind.RESULT, attempt=1, turn=3, event=ToolResult(id="x", ok=True, size=4))])

    assert [(each.kind, each.text) for each in turn.blocks] == [("tool-result", "late")]


# Live parts


@pytest.mark.parametrize(
    ("path", "parts"),
    [("/tasks", {"tasks"}), ("/runs", {"runs"}), ("/tasks/report", {"runs"}), ("/queue", {"queue", "queue-size", "groups"})],
)
def test_a_list_has_parts_that_change_with_its_runs(api: Api, path: str, parts: set[str]) -> None:
    browser = Browser(api, "operator")
    browser.submit("/tasks/report/run", **{"p.N": "1", "act": "run"})

    tags = Tags(browser.get(path)).found

    live = [attrs for _, attrs in tags if "data-live" in attrs]
    assert {attrs["id"] for attrs in live} == parts
    assert [each.get("data-task") for each in live] == ["report" if path == "/tasks/report" else None] * len(live)
    # A row is found again by its id.
    assert any((attrs.get("id") or "").startswith(("run-", "task-", "wait-")) for tag, attrs in tags if tag == "tr")


# Weight


def weight(api: Api, answer: Answer) -> int:
    """The bytes of script and style that a page loads, as they are sent to a browser."""
    waiting = [
        str(attrs[key])
        for tag, attrs in Tags(answer).found
        for key in ("src", "href")
        if tag in ("script", "link") and key in attrs
    ]
    sizes: dict[str, int] = {}
    while waiting:
        address = waiting.pop()
        if address in sizes or not address.endswith((".js", ".css")):
            continue
        sent = api.request("GET", address, headers={"Accept-Encoding": "gzip"})
        assert (sent.status, sent.headers["content-encoding"]) == (200, "gzip"), address
        sizes[address] = len(sent.body)
        source = gzip.decompress(sent.body).decode()
        waiting += [urljoin(address, name) for name in re.findall(r'(?:from|import)\s*\(?"(\./[^"]+)"', source)]
    return sum(sizes.values())


def test_no_page_loads_more_script_and_style_than_it_may(api: Api) -> None:
    api.credentials = {"Authorization": f"Bearer {api.token('admin')}"}
    run = api.started("report", {"N": 1})
    run.log("a line")
    browser = Browser(api, "admin")
    pages = re.findall(r'<a href="(/[a-z]+)"', html(browser.get("/tasks")))
    pages += ["/tasks/report", "/tasks/report/run", f"/runs/{run.id}", f"/runs/{run.id}?tab=log", "/login"]

    weights = {path: weight(api, browser.get(path)) for path in dict.fromkeys(pages)}

    assert len(weights) > 9
    assert {path: size for path, size in weights.items() if size > (75_000 if "tab=log" in path else 60_000)} == {}
    # What a page weighs is more than its style alone.
    assert weights[f"/runs/{run.id}?tab=log"] > weights["/runs"] > weights["/login"] > 1000
