"""A task from the form to its output in a real browser: written, run by hand, watched; a schedule by a preset; a webhook that a
sender uses; findings while somebody types."""

import gzip
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.support import ROOT, Dev

TASK = """\
# Ask Ada before you change this.
name: Echo
agentRuntime: command
command: [cat]
promptTemplate: "It is {{WHAT}}."
paramsSchema:
  type: object
  properties: {WHAT: {type: string, maxLength: 100}}
  required: [WHAT]
  additionalProperties: false
"""
# Tells of what the policy of a page forbids, also where nothing is printed.
WATCH = "document.addEventListener('securitypolicyviolation', (each) => console.error(each.violatedDirective, each.sample))"
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    process = Dev(tmp_path_factory.mktemp("editing"))
    process.write("echo.yaml", TASK)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def page(dev: Dev, browser: Browser) -> Iterator[Page]:
    """A page of an admin. What its browser complains of, or asks of another host, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.add_init_script(WATCH)
    made = context.new_page()
    complaints: list[str] = []
    made.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.on("request", lambda asked: complaints.append(asked.url) if dev.url not in asked.url.replace("ws:", "http:") else None)
    sign_in(made, dev)
    yield made
    context.close()
    # Chromium tells of each answer with an error's status, and two tests ask for one.
    assert [each for each in complaints if "status of 401" not in each and "status of 409" not in each] == []


def sign_in(page: Page, dev: Dev) -> None:
    page.goto(f"{dev.url}/?token={dev.credentials['Authorization'].removeprefix('Bearer ')}")


def typed(page: Page) -> str:
    """The text of the task, as the page would send it."""
    return page.locator("#text").input_value()


def test_a_task_is_made_by_the_form_run_by_hand_and_watched_to_its_output(dev: Dev, page: Page) -> None:
    page.goto(f"{dev.url}/tasks")
    page.get_by_role("link", name="New task").click()
    page.get_by_role("link", name="Command", exact=True).click()
    page.get_by_label("Name", exact=True).fill("Greeting")
    page.get_by_label("Command", exact=True).fill("sleep 1; cat; echo done")
    page.get_by_label("Prompt", exact=True).fill("Hello, {{WHO}}!")
    page.get_by_label("Parameters").fill("WHO = world")
    expect(page.locator("#text")).to_have_value(re.compile(r"name: Greeting\n(.|\n)*WHO"))
    page.get_by_role("button", name="Write").click()

    expect(page).to_have_url(f"{dev.url}/tasks/greeting")
    assert "WHO" in (dev.tasks / "greeting.yaml").read_text()
    page.get_by_role("link", name="Run…").click()
    page.locator("[name='p.WHO']").fill("you")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("h1")).to_contain_text("completed")
    expect(page.locator("pre.output").first).to_contain_text("Hello, you!")


def test_findings_and_effects_come_while_somebody_types(dev: Dev, page: Page) -> None:
    page.goto(f"{dev.url}/tasks/echo/edit")
    editor = page.locator("#editor .cm-content")
    editor.click()
    page.keyboard.press("Control+End")
    page.keyboard.type("maxTurn: 3\n")

    expect(page.locator("#findings .error")).to_contain_text("maxTurn")
    expect(page.locator("#editor .cm-lintRange-error")).to_have_text("maxTurn")
    expect(page.locator("#plan")).to_contain_text("Correct the errors first")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+End")
    page.keyboard.type('budgetUsd: "2.00"\n')
    expect(page.locator("#findings")).not_to_contain_text("maxTurn")
    expect(page.locator("#plan")).to_contain_text("$2.00")
    expect(page.get_by_label("Budget of a run")).to_have_value("2.00")
    # The keys of the pages are text here.
    page.keyboard.type("# /jkrx?")
    assert typed(page).endswith("# /jkrx?")
    assert page.locator("dialog[open]").count() == 0
    assert (dev.tasks / "echo.yaml").read_text() == TASK


def test_a_field_changes_the_text_in_the_editor_and_what_was_typed_there_stays(dev: Dev, page: Page) -> None:
    page.goto(f"{dev.url}/tasks/echo/edit")
    page.locator("#editor .cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type("# typed here\n")
    page.get_by_label("Most turns").fill("7")

    expect(page.locator("#text")).to_have_value(re.compile("^maxTurns: 7$", re.MULTILINE))
    assert "# typed here\n" in typed(page)
    expect(page.locator("#editor .cm-content")).to_contain_text("maxTurns: 7")
    expect(page.locator("#editor-state")).to_have_text("checked")


def test_a_field_that_is_filled_before_the_editor_is_loaded_changes_the_text_too(dev: Dev, page: Page) -> None:
    def fill_first(route: Route) -> None:
        page.get_by_label("Most turns").fill("7")
        route.continue_()

    page.route("**/editor.js", fill_first)
    page.goto(f"{dev.url}/tasks/echo/edit")

    expect(page.locator("#text")).to_have_value(re.compile("^maxTurns: 7$", re.MULTILINE))


@pytest.mark.parametrize(
    ("words", "cron"),
    [
        ("every hour", "0 * * * *"),
        ("daily at midnight", "0 0 * * *"),
        ("weekdays at 9 AM", "0 9 * * 1-5"),
        ("weekly on Monday", "0 9 * * 1"),
    ],
)
def test_a_schedule_is_added_by_each_preset_and_removed(dev: Dev, page: Page, words: str, cron: str) -> None:
    page.goto(f"{dev.url}/tasks/echo")
    page.get_by_role("link", name="Add a schedule…").click()
    page.get_by_label(words).check()
    page.get_by_label("Parameters").fill("WHAT = time")
    page.get_by_role("button", name="Add the schedule").click()

    expect(page.locator(".triggers")).to_contain_text("Next:")
    assert f"'{cron}'" in (dev.tasks / "echo.yaml").read_text() or f'"{cron}"' in (dev.tasks / "echo.yaml").read_text()
    page.locator(".triggers li", has_text="Schedule").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("link", name="Add a schedule…")).to_be_visible()
    assert (dev.tasks / "echo.yaml").read_text().startswith(TASK)


def test_a_webhook_is_added_tried_and_used_by_a_sender(dev: Dev, page: Page) -> None:
    secret = "a-long-random-text-of-the-sender"
    page.goto(f"{dev.url}/tasks/echo")
    page.get_by_role("link", name="Add a webhook…").click()
    page.get_by_label("The end of its address").fill("echo-hook")
    page.get_by_label("Secret", exact=True).fill(secret)
    page.get_by_label("Parameters").fill("WHAT = $.what")
    page.get_by_role("button", name="Add the webhook").click()
    address = page.locator(".address").inner_text()

    body = json.dumps({"what": "a real delivery"}).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    sent = dev.request("POST", address.removeprefix(dev.url), raw=body, headers={"X-Optio-Signature": signature})
    assert sent.status == 202
    page.goto(f"{dev.url}/runs/{sent.json['runId']}")
    expect(page.locator("pre.output").first).to_contain_text("It is a real delivery.")

    page.goto(f"{dev.url}/tasks/echo")
    page.get_by_role("link", name="Send a test delivery…").click()
    page.get_by_role("button", name="Sign and send").click()
    page.get_by_role("link", name="To its run").click()
    expect(page.locator("pre.output").first).to_contain_text("It is example.")
    assert secret not in (dev.tasks / "echo.yaml").read_text()


def test_a_login_that_ends_while_somebody_types_loses_nothing(dev: Dev, page: Page) -> None:
    page.goto(f"{dev.url}/tasks/echo/edit")
    page.locator("#editor .cm-content").click()
    page.keyboard.press("Control+End")
    page.context.clear_cookies()
    page.keyboard.type("# typed without a login\n")
    expect(page.locator("#editor-state")).to_contain_text("signed out")
    page.get_by_role("button", name="Write").click()

    expect(page.get_by_role("alert")).to_contain_text("What you typed is kept")
    page.get_by_label("API token").fill(dev.cli("token", "create", "--role", "admin").stdout.strip())
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Go on").click()

    expect(page.locator("#editor .cm-content")).to_contain_text("# typed without a login")
    assert typed(page).endswith("# typed without a login\n")


def test_two_people_who_edit_one_task_both_keep_their_text(dev: Dev, browser: Browser, page: Page) -> None:
    page.goto(f"{dev.url}/tasks/echo/edit")
    page.locator("#editor .cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type("# of the first person\n")
    before = (dev.tasks / "echo.yaml").read_text()
    (dev.tasks / "echo.yaml").write_text(before + "# of the second person\n")
    with page.expect_navigation():
        page.get_by_role("button", name="Write").click()

    expect(page.get_by_role("alert").first).to_contain_text("Somebody else changed this file")
    expect(page.locator("pre.diff").first).to_contain_text("-# of the second person")
    expect(page.locator("#editor .cm-content")).to_contain_text("# of the first person")
    assert (dev.tasks / "echo.yaml").read_text() == before + "# of the second person\n"


def test_the_editor_s_page_weighs_at_most_260_kb() -> None:
    static = ROOT / "optio" / "server" / "pages" / "static"
    names = ["optio.css", "editor.css", "editor.js", "live.js", "keys.js", "vendor/codemirror.js", "vendor/idiomorph.js"]

    assert sum(len(gzip.compress((static / name).read_bytes())) for name in names if Path(static / name).exists()) < 260_000


def test_without_scripts_a_task_is_made_too(dev: Dev, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, dev)
    page.goto(f"{dev.url}/tasks/new?preset=command")
    page.get_by_label("Name", exact=True).fill("Plain")
    page.get_by_role("button", name="Show YAML").click()
    expect(page.get_by_label("YAML")).to_have_value(re.compile("^name: Plain\n"))
    page.get_by_role("button", name="Write").click()
    expect(page).to_have_url(f"{dev.url}/tasks/plain")
    page.get_by_role("link", name="Delete…").click()
    page.get_by_role("button", name="Delete the task").click()
    expect(page).to_have_url(f"{dev.url}/tasks")
    assert not (dev.tasks / "plain.yaml").exists()
    context.close()
