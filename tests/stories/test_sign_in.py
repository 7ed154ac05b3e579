"""Signing in at a real OpenID provider, in a real browser: away, back, and on with a cookie that is for our own pages only."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support import ROOT, Dev, free_port, tool

GROUPS = {"ada": ["staff", "ops"], "grace": ["readers"], "mallory": ["staff"]}
JOB = """\
name: Job
agentRuntime: command
command: "true"
promptTemplate: "{{WHY}}"
paramsSchema: {type: object, properties: {WHY: {type: string, maxLength: 100, default: x}}, additionalProperties: false}
"""
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module", params=["localhost", "127.0.0.1"], ids=["of another site", "of the same site"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """`optio server` without any API token, and a provider; for a browser their hosts are one site or two."""
    port = free_port()
    issuer = f"http://{request.param}:{port}"
    made = Dev(
        tmp_path_factory.mktemp("sign-in"),
        command="server",
        environ={
            "OPTIO_OIDC_ISSUER": issuer,
            "OPTIO_OIDC_CLIENT_ID": "optio",
            "OPTIO_OIDC_CLIENT_SECRET": "a secret of 32 characters or more",
            "OPTIO_OIDC_ROLES": "ops=operator,readers=viewer",
        },
    )
    (node,) = tool("gemini/node_modules").glob("node-linux-*/bin/node")
    modules = tool("identity/node_modules").resolve()
    words = [node, ROOT / "tests" / "identity_provider.mjs", modules, issuer, str(port), f"{made.url}/login/callback"]
    provider = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert provider.stdin is not None
    assert provider.stdout is not None
    provider.stdin.write(json.dumps(GROUPS).encode() + b"\n")
    provider.stdin.flush()
    assert provider.stdout.readline() == b"ready\n"
    made.write("job.yaml", JOB)
    made.start()
    yield made
    made.stop()
    provider.kill()
    provider.communicate()


@pytest.fixture
def page(server: Dev, browser: Browser) -> Iterator[Page]:
    """A page of a browser that knows nobody. What a page of ours complains of fails the test."""
    context = browser.new_context()
    made = context.new_page()
    complaints: list[str] = []
    context.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    yield made
    context.close()
    # The provider's page wants a font of another host.
    assert [each for each in complaints if "Failed to load resource" not in each] == []


def sign_in(page: Page, name: str) -> None:
    page.get_by_role("link", name="Sign in by").click()
    page.get_by_placeholder("Enter any login").fill(name)
    page.get_by_placeholder("and password").fill("x")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()


def test_a_person_signs_in_goes_on_where_he_wanted_and_stays_signed_in(server: Dev, page: Page, tmp_path: Path) -> None:
    page.goto(f"{server.url}/runs?state=failed")
    sign_in(page, "ada")

    expect(page).to_have_url(f"{server.url}/runs?state=failed")
    expect(page.locator(".who")).to_contain_text("user:ada@example.com (operator)")
    (cookie,) = [each for each in page.context.cookies(server.url) if each["name"].startswith("optio_")]
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (f"optio_{server.port}", True, "Strict")

    page.goto("about:blank")
    server.kill()
    server.start()
    page.goto(f"{server.url}/tasks/job/run")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("link", name="Events").click()
    expect(page.get_by_role("table")).to_contain_text("user:ada@example.com")

    rows = json.loads(server.cli("token", "list", "--json").stdout)
    assert [(row["kind"], row["role"], row["label"], row["state"]) for row in rows] == [
        ("session", "operator", "ada@example.com", "living")
    ]
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert json.loads(server.cli("token", "list", "--json").stdout)[0]["state"] == "revoked"


def test_a_form_that_is_sent_after_the_session_s_end_is_sent_again_after_another_sign_in(server: Dev, page: Page) -> None:
    page.goto(f"{server.url}/tasks/job/run")
    sign_in(page, "ada")
    page.get_by_label("WHY").fill("the disk is full")
    (session,) = [row for row in json.loads(server.cli("token", "list", "--json").stdout) if row["state"] == "living"]
    server.cli("token", "revoke", session["id"])
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("What you typed is kept")

    with page.expect_popup() as opened:
        page.get_by_role("link", name="Sign in by").click()
    expect(opened.value.locator(".who")).to_contain_text("user:ada@example.com")
    page.reload()

    page.get_by_role("link", name="Prompt").click()
    expect(page.locator("main")).to_contain_text("the disk is full")
    page.get_by_role("button", name="Sign out").click()


def test_a_person_without_a_role_is_told_so_and_one_who_turns_back_too(server: Dev, page: Page) -> None:
    page.goto(f"{server.url}/")
    sign_in(page, "mallory")

    expect(page.get_by_role("alert")).to_contain_text("mallory@example.com is in no group with a role here: ask for one")
    page.context.clear_cookies()
    page.get_by_role("link", name="Sign in by").click()
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("your provider refused (access_denied")
    assert [row["label"] for row in json.loads(server.cli("token", "list", "--json").stdout)].count("mallory@example.com") == 0


def test_without_scripts_and_with_other_roles_people_sign_in_too(server: Dev, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server.url}/tasks")
    sign_in(page, "grace")

    expect(page).to_have_url(f"{server.url}/tasks")
    expect(page.locator(".who")).to_contain_text("user:grace@example.com (viewer)")
    context.close()
