"""Live pages in a real browser: a log of a million lines, many tabs, lists that change in place, keys, and hostile text."""

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from optio.broker.base import Topic
from optio.model.agent_event import ToolCall, ToolKind, ToolResult, TurnEnd
from optio.model.mask import Masker
from optio.model.run import LogKind, LogLine
from optio.model.usage import Meter
from optio.runs.output import masked_line
from tests.server.api import JOB, Api, Writer

MILLION = 1_000_000
HOSTILE = [
    "<img src=x onerror=document.title='owned'>",
    "<script>document.title='owned'</script>",
    "</pre></code></main><svg onload=document.title='owned'>",
    "<a href=javascript:document.title='owned'>click</a><style>body{display:none}</style>",
    '"><iframe srcdoc="<script>parent.document.title=1</script>">',
    "{{ 7 * 7 }} {% raw %} ${document.title='owned'} `",
    "<div id=live data-live><input autofocus onfocus=document.title='owned'>",
    "\x1b]8;;javascript:document.title='owned'\x07a link\x1b]8;;\x07 \x1b[31;1mred\x1b[0m \x1b[2J\x1b[1;1H gone?",
    "user\u202egpj.exe \u2066isolated\u2069 \u200bzero",
    "null \x00 bell \x07 separator \u2028 \ufeff",
    "<b>\x1b[31mred\x1b[0m \u202egpj.exe \x1b]8;;javascript:0\x07link\x1b]8;;\x07 " * 180_000,  # 10 MB
]
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    made = Api(tmp_path_factory.mktemp("live"), dev_token=None)
    made.serve_task(JOB)
    made.credentials = {"Authorization": f"Bearer {made.token('admin')}"}
    yield made
    made.close()


@pytest.fixture
def context(api: Api, browser: Browser) -> Iterator[BrowserContext]:
    """A browser that is signed in. What its pages complain of fails the test: a breach of the policy is such a thing."""
    made = browser.new_context(viewport={"width": 1280, "height": 800})
    complaints: list[str] = []
    made.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    made.on("weberror", lambda error: complaints.append(str(error.error)))
    entry = made.new_page()
    entry.goto(f"http://localhost:{api.port}/login")
    entry.get_by_label("API token").fill(api.token("admin"))
    entry.get_by_role("button", name="Sign in").click()
    expect(entry).to_have_url(f"http://localhost:{api.port}/tasks")
    yield made
    made.close()
    assert complaints == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.pages[0]


def at(api: Api, path: str) -> str:
    return f"http://localhost:{api.port}{path}"


def append(api: Api, run: Writer, *lines: LogLine) -> None:
    """Store lines, each as a worker keeps it."""
    api.services.store.append_log(run.claim.run.lease, [masked_line(each, Masker(())) for each in lines], {}, Meter())
    api.services.broker.tell(Topic.RUN, run.id)


def said(text: str | bytes, kind: LogKind = LogKind.TEXT, **more: object) -> LogLine:
    data = text if isinstance(text, bytes) else text.encode()
    return LogLine(kind=kind, data=data, at=datetime.now(UTC), **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def long_run(api: Api) -> Writer:
    """A running run with a million lines; every hundred-thousandth is an error."""
    run = api.started()
    database: Path = api.services.settings.data_dir / "optio.db"
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        connection.execute(
            "WITH RECURSIVE number(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM number WHERE seq < ?)"
            " INSERT INTO log_lines (run_id, seq, attempt, kind, at, data)"
            " SELECT ?, seq, 1, iif(seq % 100000, 'output', 'stderr'), 0,"
            " CAST('line ' || seq || ' of the log, at place ' || (seq * 7919 % 100003) AS BLOB) FROM number",
            (MILLION, run.id),
        )
        connection.execute("UPDATE runs SET last_line = ? WHERE id = ?", (MILLION, run.id))
    return run


def test_a_log_of_a_million_lines_is_jumped_in_searched_and_followed(api: Api, page: Page, long_run: Writer) -> None:
    page.goto(at(api, f"/runs/{long_run.id}?tab=log"))
    rows, view = page.locator("#viewer .row code"), page.locator("#viewer .view")
    expect(rows.last).to_contain_text("line 1000000 ")

    view.press("Home")
    expect(rows.first).to_contain_text("line 1 ")
    view.press("PageDown")
    expect(rows.first).not_to_contain_text("line 1 ")
    page.evaluate("document.querySelector('#viewer .view').scrollTop = 6e6")
    expect(rows.first).to_contain_text("line 500")
    view.press("e")
    expect(page.locator("#viewer .row.current code")).to_contain_text("line 600000 ")
    view.press("Control+f")
    page.keyboard.type("PLACE 77777")
    expect(page.locator("#viewer .hits")).to_contain_text("of 10")
    expect(page.locator("#viewer mark").first).to_have_text("place 77777")
    page.get_by_label("Errors only").check()
    # A page that took long has one more, of the worker that is missed.
    expect(page.locator("#viewer .bar")).to_contain_text(re.compile("999,99[01] lines are hidden"))
    expect(rows).to_have_count(10)
    page.get_by_label("Errors only").uncheck()

    view.press("End")
    expect(page.get_by_label("Follow")).to_be_checked()
    append(api, long_run, *(said(f"new {number}", LogKind.OUTPUT) for number in range(1, 51)))
    expect(rows.last).to_have_text("new 50")
    assert page.locator("#viewer .row").count() < 100
    assert page.evaluate("document.getElementById('viewer').viewer.last") == MILLION + 50


def test_eleven_tabs_of_live_runs_all_stay_live(api: Api, context: BrowserContext) -> None:
    runs = [api.started() for _ in range(11)]
    tabs = []
    for run in runs:
        run.log("first")
        tabs.append(context.new_page())
        tabs[-1].goto(at(api, f"/runs/{run.id}?tab=log"))

    for number, run in enumerate(runs):
        run.log(f"to tab {number}")
    for number, tab in enumerate(tabs):
        tab.bring_to_front()
        expect(tab.locator("#live-state")).to_have_text("live")
        expect(tab.locator("#viewer .row code").last).to_have_text(f"to tab {number}")


def test_a_list_of_runs_changes_in_place_and_new_runs_wait_behind_a_button(api: Api, page: Page) -> None:
    run = api.started()
    page.goto(at(api, "/runs"))
    expect(page.locator("#live-state")).to_have_text("live")
    row = page.locator(f"#run-{run.id}")
    expect(row).to_contain_text("running")
    first = page.locator("#runs tbody tr").first.get_attribute("id")
    run.end()
    expect(row).to_contain_text("completed")
    new = [api.started() for _ in range(3)]

    expect(page.locator("#pill")).to_have_text("3 new runs")
    assert page.locator("#runs tbody tr").first.get_attribute("id") == first
    page.locator("#pill").click()
    expect(page.locator("#runs tbody tr").first).to_have_attribute("id", f"run-{new[-1].id}")


def test_a_transcript_is_walked_by_keys_and_gets_new_turns(api: Api, page: Page) -> None:
    run = api.started()

    def turn(number: int, *, ok: bool = True) -> None:
        calls = [
            ToolCall(id=f"{number}{each}", name="Bash", kind=ToolKind.EXECUTE, input={"command": f"try {number}{each}"})
            for each in "ab"
        ]
        results = [ToolResult(id=call.id, ok=ok, size=2, exit_code=0 if ok else 1) for call in reversed(calls)]
        end = TurnEnd(model="m", fresh=10, cached=0, cache_write=0, output=5, reasoning=0, cost_usd="0.01")
        append(
            api,
            run,
            said(f"I begin turn {number}", turn=number),
            *(said("Bash", LogKind.TOOL, turn=number, event=call) for call in calls),
            *(said("ok", LogKind.RESULT, turn=number, event=result) for result in results),
            said("turn", LogKind.TURN, turn=number, event=end),
        )

    turn(1)
    turn(2, ok=False)
    page.goto(at(api, f"/runs/{run.id}"))
    expect(page.locator("#live-state")).to_have_text("live")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("#turn-1-2")).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("x")
    expect(page.locator("#turn-1-1 details[open]")).to_have_count(2)
    page.keyboard.press("e")
    expect(page.locator("#turn-1-2 details summary").first).to_be_focused()
    turn(3)

    expect(page.locator("#turn-1-3")).to_contain_text("15 tokens · $0.01")
    # What was unfolded by hand stays so.
    expect(page.locator("#turn-1-1 details[open]")).to_have_count(2)


def test_the_palette_finds_a_run_and_the_colours_stay_as_chosen(api: Api, page: Page) -> None:
    run = api.started()
    page.goto(at(api, "/tasks"))
    page.keyboard.press("/")
    page.keyboard.type(run.id[:18])
    expect(page.locator("#palette li.current")).to_contain_text(run.id)
    page.keyboard.press("Enter")
    expect(page).to_have_url(at(api, f"/runs/{run.id}"))
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("#theme").click()
    page.locator("#theme").click()
    page.reload()

    assert page.evaluate("[document.documentElement.dataset.theme, getComputedStyle(document.body).colorScheme]") == [
        "dark",
        "dark",
    ]


def test_hostile_output_executes_nothing_in_log_and_transcript(api: Api, page: Page) -> None:
    run = api.started()
    lines = [said(text) for text in HOSTILE] + [said(b"\xff\xfe\x80 no text", LogKind.STDERR)]
    call = ToolCall(id=HOSTILE[0], name=HOSTILE[1], kind=ToolKind.EXECUTE, input={"command": HOSTILE[2]})
    lines += [
        said(HOSTILE[3], LogKind.TOOL, event=call),
        said(HOSTILE[6], LogKind.RESULT, event=ToolResult(id=HOSTILE[0], ok=False, size=1, exit_code=None)),
    ]
    append(api, run, *lines)
    page.goto(at(api, f"/runs/{run.id}?tab=log"))
    expect(page.locator("#viewer .row code").last).to_have_text(HOSTILE[6])
    texts = page.locator("#viewer .row code").all_inner_texts()
    panel = page.locator("#viewer aside pre").first
    page.locator("#viewer .row").nth(1).click()
    expect(panel).to_have_text(HOSTILE[1])
    page.locator("#viewer .row").nth(10).click()
    expect(panel).to_contain_text(f"... [{len(HOSTILE[10].encode()) - 65_536:,} bytes cut]")
    page.goto(at(api, f"/runs/{run.id}"))
    expect(page.locator("#live-state")).to_have_text("live")
    append(api, run, *(said(text) for text in HOSTILE))
    expect(page.locator("#live pre.said").last).to_contain_text("bytes more")

    assert texts[:7] == HOSTILE[:7]
    assert texts[7].startswith("a link red ")
    assert texts[8] == "user[U+202E]gpj.exe [U+2066]isolated[U+2069] \u200bzero"
    assert texts[10].startswith("<b>red [U+202E]gpj.exe link <b>")
    assert re.search(r" … \d\d,\d{3} more characters$", texts[10])
    assert page.locator("#main :is(img, script, style, svg, iframe, a[href^=javascript])").count() == 0
    assert "owned" not in page.title()


def test_an_agent_s_line_is_on_the_screen_at_once(api: Api, page: Page) -> None:
    run = api.started()
    page.goto(at(api, f"/runs/{run.id}?tab=log"))
    expect(page.locator("#live-state")).to_have_text("live")
    page.evaluate(
        """() => {
             window.seen = {};
             const look = (code) => requestAnimationFrame(() => { window.seen[code.textContent] ??= Date.now(); });
             new MutationObserver(() => document.querySelectorAll('#viewer .row code').forEach(look))
               .observe(document.getElementById('viewer'), { childList: true, subtree: true });
           }"""
    )
    for _ in range(20):
        run.log(json.dumps(time.time() * 1000))
        time.sleep(0.03)
    expect(page.locator("#viewer .row.output")).to_have_count(20)
    delays = sorted(seen - float(text) for text, seen in page.evaluate("window.seen").items() if text)

    # A hint takes milliseconds; without hints, the poll would come after a second.
    assert delays[len(delays) // 2] < 500
