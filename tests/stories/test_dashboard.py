"""The dashboard in a real browser: sign in, start a run by the form, watch it, cancel it, through a restart of the server."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support import Dev

# Each line tries to become a part of the page.
HOSTILE = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
COUNTER = f"""\
name: Counter
agentRuntime: command
command: |
  n=$(cat "$OPTIO_PARAMS_FILE" | tr -dc 0-9)
  for i in $(seq "$n"); do echo "line $i"; sleep 0.2; done
  printf '%s\\n' {HOSTILE!r}
promptTemplate: Count to {{{{N}}}}
paramsSchema:
  type: object
  properties: {{N: {{type: integer, minimum: 1}}}}
  required: [N]
  additionalProperties: false
maxRetries: 0
"""
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    process = Dev(tmp_path_factory.mktemp("dashboard"))
    process.write("counter.yaml", COUNTER)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def page(dev: Dev, browser: Browser) -> Iterator[Page]:
    """A page that is signed in. What its browser complains of, or asks of another host, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    made = context.new_page()
    complaints: list[str] = []
    made.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.on("request", lambda asked: complaints.append(asked.url) if dev.url not in asked.url.replace("ws:", "http:") else None)
    sign_in(made, dev)
    yield made
    context.close()
    # A server that restarts refuses connections meanwhile.
    assert [each for each in complaints if "ERR_CONNECTION" not in each and "WebSocket" not in each] == []


def sign_in(page: Page, dev: Dev) -> None:
    """By a token that outlives the process."""
    page.goto(f"{dev.url}/")
    page.get_by_label("API token").fill(dev.cli("token", "create", "--role", "operator").stdout.strip())
    page.get_by_role("button", name="Sign in").click()


def start(page: Page, dev: Dev, number: int) -> None:
    page.goto(f"{dev.url}/tasks/counter/run")
    page.locator("[name='p.N']").fill(str(number))
    page.get_by_role("button", name="Run", exact=True).click()


def test_the_link_of_optio_dev_opens_the_tasks(dev: Dev, page: Page) -> None:
    page.context.clear_cookies()
    page.goto(f"{dev.url}/?token={dev.credentials['Authorization'].removeprefix('Bearer ')}")

    expect(page).to_have_url(f"{dev.url}/tasks")
    expect(page.get_by_role("link", name="Counter")).to_be_visible()


def test_a_run_is_started_watched_live_and_shows_no_markup_of_its_agent(dev: Dev, page: Page) -> None:
    start(page, dev, 10)
    page.get_by_role("link", name="Log", exact=True).click()

    expect(page.locator("#viewer")).to_contain_text("line 3")
    expect(page.locator("#live-state")).to_have_text("live")
    expect(page.locator("h1")).to_contain_text("completed")
    texts = page.locator("#viewer .row.output code").all_inner_texts()

    assert texts == [*(f"line {number}" for number in range(1, 11)), HOSTILE]
    assert page.locator("#live img").count() == 0
    assert page.title() == "completed: Counter · Optio"


def test_a_run_is_cancelled_on_its_page(dev: Dev, page: Page) -> None:
    start(page, dev, 500)
    expect(page.locator("h1")).to_contain_text("running")
    page.get_by_role("button", name="Cancel").click()

    expect(page.locator("h1")).to_contain_text("cancelled")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


def test_a_page_that_is_open_while_the_server_restarts_has_each_line_once(dev: Dev, page: Page) -> None:
    start(page, dev, 60)
    page.get_by_role("link", name="Log", exact=True).click()
    # The page has lines before its script is there.
    expect(page.locator("#viewer .view")).to_contain_text("line 3")
    dev.kill()
    expect(page.locator("#live-state")).to_have_text("reconnecting")
    dev.start()

    expect(page.locator("#live-state")).to_have_text("live")
    expect(page.locator("h1")).to_contain_text("completed")
    expect(page.locator("#viewer")).to_contain_text(HOSTILE)
    page.locator("#viewer .view").press("Home")
    expect(page.locator("#viewer .row code", has_text="line 1").first).to_be_visible()
    lines = page.evaluate("[...document.getElementById('viewer').viewer.cache.values()].sort((a, b) => a.seq - b.seq)")
    texts = [each["text"] for each in lines if each["kind"] == "output"]

    assert texts == [*(f"line {number}" for number in range(1, 61)), HOSTILE]


def test_a_login_that_ends_is_said_on_the_page_of_a_run(dev: Dev, page: Page) -> None:
    start(page, dev, 300)
    expect(page.locator("#live-state")).to_have_text("live")
    dev.kill()
    page.context.clear_cookies()
    dev.start()

    expect(page.locator("#live-state")).to_have_text("signed out")


def test_without_scripts_a_run_is_started_read_and_cancelled(dev: Dev, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, dev)
    start(page, dev, 400)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("link", name="Events").click()
    expect(page.get_by_role("table")).to_contain_text("manual")
    context.close()
