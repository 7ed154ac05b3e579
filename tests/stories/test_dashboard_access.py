"""The dashboard for everybody: each page for readers of screens, by keyboard alone, enlarged twice, and on a phone."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from optio.model.agent_event import ToolCall, ToolKind, ToolResult, TurnEnd
from optio.model.namespace import ALL_TASKS
from optio.model.pool import Pool
from optio.model.retry import GiveUp
from optio.model.run import LogKind, LogLine, Outcome
from optio.model.usage import CostSource, Meter, Usage
from optio.store.values import Firing, ScheduleRow, SlotVerdict
from tests.server.api import JOB, Api
from tests.server.test_hooks import GOOD, SECRET, post
from tests.server.test_provider_login import CLIENT, Issuer
from tests.server.test_provider_login import SECRET as CLIENT_SECRET
from tests.support import eventually, tool

LONG = "Unbroken" + "0123456789" * 6
REPORT = f"""\
name: Report
description: Looks at each dependency of a repository, and says which of them are too old.
owner: team-{LONG}
agentRuntime: claude-code
model: sonnet
budgetUsd: "2.50"
startLimit: {{count: 50, per: 24h}}
promptTemplate: "Look at {{{{REPO}}}} {{{{N}}}}"
connections: [{{id: tracker, tools: [find_issue, create_issue]}}, status]
paramsSchema:
  type: object
  properties:
    REPO: {{type: string, maxLength: 100, description: The repository}}
    N: {{type: integer, minimum: 1, default: 1}}
    MODE: {{type: string, enum: [fast, slow]}}
    LABELS: {{type: array, items: {{type: string}}}}
  required: [REPO]
  additionalProperties: false
triggers:
  - {{type: schedule, config: {{cronExpression: "*/10 * * * *", timezone: Europe/Berlin, paramMapping: {{REPO: {LONG}}}}}}}
  - type: webhook
    config:
      path: push
      secret: {{name: PUSH}}
      when: "@.action != 'closed'"
      paramMapping: {{REPO: $.repository.name}}
tests:
  - {{name: good, webhook: good.json, expect: {{params: {{REPO: optio, N: 1}}}}}}
  - {{name: bad, params: {{REPO: x}}, expect: {{promptContains: nothing like it}}}}
"""
CONNECTIONS = {
    "tracker": f"""\
type: connection
kind: mcp
description: Issues of all teams, {LONG}
transport:
  type: streamable-http
  url: https://{LONG.lower()}.example.org/mcp
  headers: {{Authorization: "Bearer {{{{secret:TRACKER_TOKEN}}}}"}}
tools: {{find_issue: read, create_issue: write}}
""",
    "status": """\
type: connection
kind: http
url: https://status.example.org
allow: [GET /v1/health, POST /v1/incidents/*/notes]
""",
}
POLICY = """\
type: policy
fleet: {monthUsd: "50000.00"}
ceilings: {budgetUsd: "5.00", monthUsd: "20000.00"}
"""
SIZES = {"wide": (1280, 800), "enlarged twice": (640, 400), "narrow": (320, 640), "phone": (390, 844)}
# The rules of axe that it follows where a page is small and dark, which hides parts of it and shows no other: those on
# sizes and colours. Where it is wide and light, axe follows all.
SMALL_AND_DARK = ["color-contrast", "link-in-text-block", "scrollable-region-focusable"]
expect.set_options(timeout=30_000)


class Runs(NamedTuple):
    """Ids of runs, by what they show, and the address of the second server."""

    good: str
    failed: str
    running: str
    queued: str
    second: str


def said(text: str, kind: LogKind = LogKind.TEXT, **more: Any) -> LogLine:
    return LogLine(kind=kind, data=text.encode(), at=datetime.now(UTC), **more)


def conversation() -> list[LogLine]:
    """Two turns: text, a call that fails, an edit, and output of every kind."""
    command = ToolCall(id="a", name="Bash", kind=ToolKind.EXECUTE, input={"command": f"make {LONG}"})
    edit = ToolCall(
        id="b", name="Edit", kind=ToolKind.EDIT, input={"file_path": f"{LONG}.py", "old_string": "one", "new_string": LONG * 3}
    )
    end = TurnEnd(model="m", fresh=1000, cached=20, cache_write=3, output=4, reasoning=0, cost_usd="0.01")
    return [
        said("I look at the dependencies.", turn=1),
        said("They might be old.", LogKind.THOUGHT, turn=1),
        said("Bash", LogKind.TOOL, turn=1, event=command),
        said(f"no rule to make {LONG}", LogKind.RESULT, turn=1, event=ToolResult(id="a", ok=False, size=9, exit_code=2)),
        said("turn 1", LogKind.TURN, turn=1, event=end),
        said("Edit", LogKind.TOOL, turn=2, event=edit),
        said("ok", LogKind.RESULT, turn=2, event=ToolResult(id="b", ok=True, size=2, exit_code=None)),
        said("\x1b[31mred\x1b[0m \x1b[32mgreen\x1b[0m \x1b[36mcyan\x1b[0m \x1b[90mdim\x1b[0m " + LONG * 4, LogKind.OUTPUT),
        said("it does not work", LogKind.STDERR),
    ]


def run(api: Api, *, reason: str | None, task: str = "report") -> str:
    """A run that has ended, or that goes on without a reason."""
    made = api.started(task, {"REPO": LONG} if task == "report" else None)
    store, lease = api.services.store, made.claim.run.lease
    store.append_log(lease, conversation(), {}, Meter())
    if reason is not None:
        meter = Meter(usage=Usage(fresh=120_000, output=4_000), cost=Decimal("1234.5"), cost_source=CostSource.CLI, turns=2)
        outcome = Outcome(ok=reason == "ok", reason=reason, message="" if reason == "ok" else f"exit code 2 of {LONG}")
        store.finish(lease, outcome, meter, 2, None, lambda *_: GiveUp("the test ends it"))
    return made.id


@pytest.fixture(scope="session")
def axe() -> str:
    """The script that finds what readers of screens cannot use."""
    return tool("axe/node_modules/axe-core/axe.min.js").read_text()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with something on every page."""
    environ = {"OPTIO_WRITES": "files", "OPTIO_WEBHOOK_RATE_PER_MINUTE": "1000"}
    made = Api(tmp_path_factory.mktemp("access"), dev_token=None, environ=environ)
    made.services.secrets.put("PUSH", SECRET)
    (made.tasks / "good.json").write_bytes(GOOD)
    (made.tasks / "_policy.yaml").write_text(POLICY)
    (made.tasks / "connections").mkdir()
    for name, text in CONNECTIONS.items():
        (made.tasks / "connections" / f"{name}.yaml").write_text(text)
    made.serve_task(JOB.replace("maxConcurrent: 1000", "maxConcurrent: 1"))
    made.serve_task(REPORT, "report")
    made.serve_task(REPORT.replace("Look at", "Look twice at"), "report")
    yield made
    made.close()


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    made.claims["groups"] = ["chiefs"]
    yield made
    made.close()


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Api]:
    """A server that writes no task files, and where people of the issuer sign in."""
    environ = {
        "OPTIO_OIDC_ISSUER": issuer.url,
        "OPTIO_OIDC_CLIENT_ID": CLIENT,
        "OPTIO_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "OPTIO_OIDC_ROLES": "chiefs=admin",
    }
    made = Api(tmp_path_factory.mktemp("second"), dev_token=None, environ=environ)
    made.serve_task(JOB)
    yield made
    made.close()


@pytest.fixture(scope="module")
def runs(api: Api, second: Api) -> Runs:
    api.credentials = {"Authorization": f"Bearer {api.token('admin')}"}
    found = [run(api, reason=reason) for reason in ("ok", "exit_code", None)]
    run(api, reason="timeout")
    run(api, reason=None, task="job")
    queued = str(api.post("/api/tasks/job/runs", {}).json["runId"])
    cancelled = str(api.post("/api/tasks/job/runs", {}).json["runId"])
    api.post(f"/api/workflow-runs/{cancelled}/cancel")
    store, digest = api.services.store, api.live.current.registry.task("report").digest
    slot = store.now().replace(second=0, microsecond=0) - timedelta(hours=2)
    assert (post(api).status, post(api, b'{"action": "closed"}').status) == (202, 202)
    assert post(api, GOOD, X_Optio_Signature="0" * 64).status == 401
    eventually(lambda: len(api.get("/api/deliveries").json["items"]) > 1, what="the deliveries")
    store.change_schedules([ScheduleRow(task_id="report", fingerprint="x", next_fire=slot)], [])
    missed = [SlotVerdict(slot=slot, verdict="missed")]
    store.fire(Firing(task_id="report", digest=digest, verdicts=missed, runs=[], next_fire=None)).result(10)
    store.keep_pools("cluster/a", [Pool(key="p1", tasks=("job",), size=3, ready=1, starting=2, problem=f"no image {LONG}")])
    store.note_worker("worker-of-the-test", ALL_TASKS)
    store.pause("job", f"the API is down {LONG}", "test")
    (api.tasks / "bad.yaml").write_text(f"name: Bad\nnothing{LONG}: 1\n")
    asyncio.run(api._load())
    return Runs(*found, queued, f"http://localhost:{second.port}")


@pytest.fixture(scope="module")
def page(api: Api, second: Api, issuer: Issuer, runs: Runs, browser: Browser) -> Iterator[Page]:
    """A page that an admin has signed in to. The runs are there before the browser, which has a loop of its own."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, color_scheme="light", base_url=f"http://localhost:{api.port}"
    )

    def sign_in(route: Route) -> None:
        """Go to the issuer and back, and keep the page that leads on by itself."""
        address = context.request.get(route.request.url, max_redirects=0).headers["location"]
        asked = dict(parse_qsl(urlsplit(address).query))
        reply = urlencode({"code": issuer.code(address), "state": asked["state"]})
        answer = context.request.get(f"{asked['redirect_uri']}?{reply}")
        route.fulfill(response=answer, body=answer.text().replace('http-equiv="refresh"', ""))

    context.route("**/login/provider", sign_in, times=1)
    made = context.new_page()
    for server, address in ((second, f"{runs.second}/login"), (api, "/login")):
        made.goto(address)
        made.get_by_label("API token").fill(server.token("admin"))
        made.get_by_role("button", name="Sign in").click()
    yield made
    context.close()


def press(name: str) -> Callable[[Page], None]:
    return lambda page: page.get_by_role("button", name=name, exact=True).first.click()


def wrong_token(page: Page) -> None:
    page.get_by_label("API token").fill("nothing")
    press("Sign in")(page)


def first_delivery(rest: str = "") -> Callable[[Page], None]:
    def act(page: Page) -> None:
        address = page.locator("a[href^='/deliveries/']").last.get_attribute("href")
        page.goto(f"{address}{rest}")

    return act


def bulk(act: str) -> Callable[[Page], None]:
    def choose(page: Page) -> None:
        page.locator("tbody input[type=checkbox]").first.check()
        press(act)(page)

    return choose


def bulk_done(page: Page) -> None:
    bulk("Retry…")(page)
    press("Retry 1 run")(page)


def type_yaml(page: Page, text: str) -> None:
    page.locator("#editor .cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type(text)


def broken_draft(page: Page) -> None:
    type_yaml(page, "maxTurn: 3\nmaxRetries: many\n")
    expect(page.locator("#findings li").first).to_be_visible()


def conflict(page: Page) -> None:
    type_yaml(page, f"# {LONG * 3}\n")
    page.evaluate("document.querySelector('[name=digest]').value = 'of an older file'")
    press("Write")(page)
    expect(page.get_by_role("alert")).to_contain_text("Somebody else changed this file")


def commit(page: Page) -> None:
    type_yaml(page, f"# {LONG * 3}\n")
    press("Show what to commit")(page)
    expect(page.locator("#commit")).to_contain_text(f"# {LONG}")


def signed_in(page: Page) -> None:
    expect(page.get_by_role("heading", name="Signed in")).to_be_visible()


def signed_in_again(page: Page) -> None:
    """A form is sent after the login has ended."""
    name = f"optio_{urlsplit(page.url).port}"
    (token,) = [cookie["value"] for cookie in page.context.cookies() if cookie["name"] == name]
    page.context.clear_cookies(name=name)
    press("Preview the prompt")(page)
    page.get_by_label("API token").fill(token)
    press("Sign in")(page)
    expect(page.get_by_role("heading", name="You are signed in")).to_be_visible()


def long_line(page: Page) -> None:
    page.locator("#viewer .row code").last.click()
    expect(page.locator("#viewer aside pre").first).to_be_visible()


def palette(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("report")
    expect(page.locator("#palette li").first).to_contain_text("Report")


def nothing_found(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("nothing like it")
    expect(page.locator("#palette .none")).to_be_visible()


def help_of_keys(page: Page) -> None:
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


# Every page, as an address and what is done on it; names in braces are those of `Runs`.
PAGES: dict[str, tuple[str, Callable[[Page], None] | None]] = {
    # First: Chromium keeps no file as long as a route may answer for it.
    "signed in": ("{second}/login/provider", signed_in),
    "tasks": ("/tasks", None),
    "tasks, none fits": ("/tasks?q=nothing", None),
    **{
        f"task, {tab}": (f"/tasks/report?tab={tab}", unfold)
        for tab in ("overview", "runs", "definition", "triggers", "changes")
    },
    "task, paused": ("/tasks/job", None),
    "task, tests": ("/tasks/report?tab=tests", None),
    "task, tests that ran": ("/tasks/report?tab=tests&run=yes", None),
    "new task": ("/tasks/new", broken_draft),
    "edit": ("/tasks/report/edit", None),
    "delete": ("/tasks/report/delete", None),
    "add a schedule": ("/tasks/job/triggers/add?kind=schedule", press("Add the schedule")),
    "add a webhook": ("/tasks/job/triggers/add?kind=webhook", None),
    "trial": ("/tasks/report/trial", press("Sign and send")),
    "run form": ("/tasks/report/run", press("Run")),
    "preview": ("/tasks/job/run", press("Preview the prompt")),
    "runs": ("/runs", None),
    "runs with filters": ("/runs?task=report&state=failed&minCost=1", None),
    "bulk": ("/runs?state=queued", bulk("Cancel…")),
    "bulk, done": ("/runs?state=failed", bulk_done),
    "run, why": ("/runs/{failed}", unfold),
    "run, transcript": ("/runs/{running}?tab=transcript", unfold),
    **{f"run, {tab}": (f"/runs/{{good}}?tab={tab}", None) for tab in ("prompt", "events", "attempts")},
    "run, log": ("/runs/{running}?tab=log", long_line),
    "run, queued": ("/runs/{queued}", None),
    "queue": ("/queue", None),
    "calendar": ("/calendar", None),
    "calendar of a week": ("/calendar?view=week&zone=Europe/Berlin&on=2026-10-25", None),
    "calendar of a day": ("/calendar?view=day&zone=Europe/Berlin&on=2026-10-25", None),
    "costs": ("/costs?days=90", unfold),
    "deliveries": ("/deliveries", None),
    "delivery": ("/deliveries", first_delivery()),
    "replay": ("/deliveries", first_delivery("/replay")),
    "test of a delivery": ("/deliveries", first_delivery("/test")),
    "changes": ("/changes", None),
    "change": ("/changes/3", unfold),
    "connections": ("/connections", None),
    "pools": ("/pools", None),
    "health": ("/health", unfold),
    "login": ("/login", wrong_token),
    "login, done": ("/tasks/job/run", signed_in_again),
    "conflict": ("/tasks/report/edit", conflict),
    "commit": ("{second}/tasks/job/edit", commit),
    "error": ("/runs/nothing", None),
    "error with details": ("/runs?stat=failed", None),
    "palette": ("/tasks", palette),
    "palette, empty": ("/tasks", nothing_found),
    "keys": ("/runs", help_of_keys),
}

# What is wider than the page, or cut off by an element that does not scroll. A line of the log viewer is cut: a click shows all
# of it. The rest names words for readers of screens, and bars, which have a title.
CUT = """() => {
  const name = (each) => `${each.tagName.toLowerCase()}.${each.className} ${each.textContent.trim().slice(0, 40)}`;
  const found = [], root = document.scrollingElement;
  if (root.scrollWidth > root.clientWidth) found.push(`the page scrolls sideways: ${root.scrollWidth} in ${root.clientWidth}`);
  for (const each of document.querySelectorAll("body *")) {
    const isTold = each.matches(".hidden, .skip, #viewer .view *, svg, svg *, input, select, textarea");
    if (isTold || !each.checkVisibility({ visibilityProperty: true })) continue;
    const style = getComputedStyle(each);
    const hides = (value) => ["hidden", "clip"].includes(value);
    if (hides(style.overflowX) && each.scrollWidth > each.clientWidth + 1) found.push(`cut at the side: ${name(each)}`);
    if (hides(style.overflowY) && each.scrollHeight > each.clientHeight + 1) found.push(`cut below: ${name(each)}`);
    const box = each.getBoundingClientRect();
    const scroller = each.closest(".scroll, pre, dialog, #editor, #viewer");
    if (!scroller && box.width && (box.right > root.clientWidth + 1 || box.left < -1)) found.push(`outside: ${name(each)}`);
  }
  return found.slice(0, 5);
}"""
AUDIT = """async (rules) => {
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const { violations } = await axe.run(document, { resultTypes: ["violations"], ...(rules && { runOnly: rules }) });
  const words = (text) => text.replace(/\\s+/g, " ");
  return violations.flatMap(({ id, impact, nodes }) => nodes.slice(0, 5).map(
    ({ target, failureSummary }) => [impact, id, target.flat().join(" "), words(failureSummary)]));
}"""


def show(page: Page, name: str, runs: Runs) -> None:
    path, act = PAGES[name]
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(path.format(**runs._asdict()))
    if act is not None:
        act(page)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_for_readers_of_screens_and_nothing_of_it_is_cut_at_any_size(
    axe: str, page: Page, runs: Runs, name: str
) -> None:
    show(page, name, runs)
    page.evaluate(axe)
    found = []

    for size, (width, height) in SIZES.items():
        if size == "phone":
            page.emulate_media(color_scheme="dark")
        if size != "wide":
            page.set_viewport_size({"width": width, "height": height})
        found += [f"{size}: {each}" for each in page.evaluate(CUT)]
        if size in ("wide", "phone"):
            found += [
                f"{size}: {rule} ({impact}): {element}: {why}"
                for impact, rule, element, why in page.evaluate(AUDIT, SMALL_AND_DARK if size == "phone" else None)
                if impact in ("serious", "critical")
            ]

    assert not found, "\n".join(found)


# The next time that the page is told of a change, with what the server's page has.
REFRESHED = """() => {
  const live = document.querySelector("script[src$='/live.js']").src;
  return new Promise((done) => {
    document.addEventListener("morphed", () => done(document.querySelector("#last-lines > pre").tabIndex), { once: true });
    import(live).then(({ refreshSoon }) => refreshSoon());
  });
}"""


def test_a_text_that_scrolls_stays_in_the_way_of_the_tab_key_while_the_page_is_refreshed(page: Page, runs: Runs) -> None:
    show(page, "run, why", runs)
    page.set_viewport_size({"width": 390, "height": 844})
    lines = page.locator("#last-lines > pre")
    expect(lines).to_have_attribute("tabindex", "0")
    lines.focus()

    assert page.evaluate(REFRESHED) == 0
    expect(lines).to_be_focused()


# Where the Tab key leads: every control in the order of the page. A group of radio buttons is one stop, and so is the editor,
# whose tree is its own.
STOPS = """() => {
  const radios = new Set();
  const isFirst = (each) => each.type !== "radio" || (!radios.has(each.name) && radios.add(each.name));
  const all = document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex], #editor");
  window.stops = [...all].filter(
    (each) => (each.tabIndex >= 0 || each.id === "editor") && !each.disabled && each.type !== "hidden"
      && each.checkVisibility({ visibilityProperty: true }) && isFirst(each));
  return window.stops.length;
}"""
STOP = """async () => {
  const host = document.activeElement;
  if (host === document.body) return null;
  const style = getComputedStyle(host.shadowRoot?.querySelector(".cm-editor") ?? host);
  const isSeen = () => {
    const box = host.getBoundingClientRect();
    const isInView = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
    return isInView && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  };
  for (let frame = 0; frame < 60 && !isSeen(); frame += 1) await new Promise(requestAnimationFrame);
  return [window.stops.indexOf(host), isSeen(), `${host.tagName} ${host.id} ${host.textContent.slice(0, 30)}`];
}"""
WALKED = [
    "tasks",
    "task, overview",
    "task, definition",
    "new task",
    "add a schedule",
    "run form",
    "runs",
    "run, why",
    "run, log",
    "calendar",
    "health",
]


@pytest.mark.parametrize("name", WALKED)
def test_the_tab_key_leads_to_every_control_in_the_order_of_the_page_and_shows_where_it_is(
    page: Page, runs: Runs, name: str
) -> None:
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 640, "height": 400})
    page.goto(PAGES[name][0].format(**runs._asdict()))
    if name == "new task":
        expect(page.locator("#editor .cm-content")).to_be_visible()
    count = page.evaluate(STOPS)
    places, unseen = [], []

    for _ in range(3 * count):
        page.keyboard.press("Tab")
        stop = page.evaluate(STOP)
        if stop is None or (places and stop[0] == places[0]):  # behind the last one stands the browser, or the first one again
            break
        place, is_seen, text = stop
        if not places or places[-1] != place:  # a date has several stops of its own
            places.append(place)
        if not is_seen:
            unseen.append(text)

    assert unseen == []
    assert places == list(range(count))


def test_keys_walk_rows_open_them_choose_them_and_lead_to_the_form_of_a_run(api: Api, runs: Runs, page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto("/tasks")
    for key, task in (("j", "job"), ("j", "report"), ("k", "job")):
        page.keyboard.press(key)
        expect(page.locator(f"#task-{task} a").first).to_be_focused()
    page.keyboard.press("r")
    expect(page).to_have_url(f"http://localhost:{api.port}/tasks/job/run")
    for key in ("o", "Enter"):
        page.goto("/tasks")
        page.keyboard.press("j")
        page.keyboard.press(key)
        expect(page).to_have_url(f"http://localhost:{api.port}/tasks/job")

    page.goto("/runs")
    expect(page.locator("#live-state")).to_contain_text("live")  # rows that changed before that are put in first
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator("tbody input[type=checkbox]").first).to_be_checked()
    row = page.locator("tr.current a.id")
    for key, dialog in (("?", "#keys"), ("/", "#palette")):
        page.keyboard.press(key)
        expect(page.locator(dialog)).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator(dialog)).to_be_hidden()
        expect(row).to_be_focused()
    api.post(f"/api/workflow-{(row.get_attribute('href') or '').removeprefix('/')}/cancel")
    expect(page.locator("tr.current")).to_contain_text("cancelled")
    expect(row).to_be_focused()
    page.get_by_label("Reason").press_sequentially("jx?/")
    expect(page.get_by_label("Reason")).to_have_value("jx?/")


def test_a_line_of_a_log_is_chosen_and_shown_by_keys(runs: Runs, page: Page) -> None:
    page.goto(f"/runs/{runs.running}?tab=log")
    expect(page.locator("#viewer .row code").last).to_have_text("it does not work")
    tops = page.locator("#viewer .row").evaluate_all("(rows) => rows.map((each) => each.offsetTop)")
    assert tops == [20 * place for place in range(9)]  # the window is computed with this height
    page.locator("#viewer .view").focus()
    for key, line in (("j", "1"), ("j", "2"), ("j", "3"), ("k", "2")):
        page.keyboard.press(key)
        expect(page.locator("#viewer .row.current .seq")).to_have_text(line)
    page.keyboard.press("Enter")
    expect(page.locator("#viewer aside")).to_contain_text("They might be old.")
    page.keyboard.press("Escape")
    expect(page.locator("#viewer aside")).to_be_hidden()
    expect(page.locator("#viewer .view")).to_be_focused()


def test_the_palette_says_which_of_its_entries_enter_opens(api: Api, runs: Runs, page: Page) -> None:
    page.goto("/runs")
    page.keyboard.press("/")
    options, field = page.locator("#palette [role=option]"), page.locator("#palette input")
    expect(options.first).to_have_text("Tasks page")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("option", name="Runs page", selected=True)).to_be_visible()
    expect(field).to_have_attribute("aria-activedescendant", "found-1")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"http://localhost:{api.port}/tasks")
