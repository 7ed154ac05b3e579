"""Triggers on pages and over HTTP: added by presets, turned off, removed, tried by a delivery of the server's own."""

import hashlib
import hmac
import json
from collections.abc import Callable

import pytest

from tests.server.api import Api
from tests.server.test_editing_pages import fields_of
from tests.server.test_pages import Browser, every_run, html, text_of

TEXT = """\
# Ask Ada before you change this.
name: Small   # really
agentRuntime: command
command: "true"
promptTemplate: Look at {{REPO}} for {{N}}
paramsSchema:
  type: object
  properties:
    REPO: {type: string, maxLength: 100}
    N: {type: integer, minimum: 2, default: 3}
  required: [REPO]
  additionalProperties: false
budgetUsd: "2.00"
"""
HOOKED = (
    TEXT
    + """\
triggers:
  - type: webhook
    config:
      path: small
      secret: {name: SMALL_SECRET}
      events: [push]
      paramMapping: {REPO: "$.repository.names[1].full"}
"""
)
PRESETS = {
    "0 * * * *": "every hour",
    "0 0 * * *": "daily at midnight",
    "0 9 * * 1-5": "weekdays at 9 AM",
    "0 9 * * 1": "weekly on Monday",
}


@pytest.fixture
def api(served: Callable[..., Api]) -> Api:
    """A server that writes files, and serves the task `small`."""
    made = served(dev_token=None, environ={"OPTIO_WRITES": "files"})
    made.serve_task(TEXT, "small")
    return made


def text(api: Api) -> str:
    return (api.tasks / "small.yaml").read_text()


def hook(api: Api) -> None:
    api.serve_task(HOOKED, "small")
    api.services.secrets.put("SMALL_SECRET", "a long random text")


@pytest.mark.parametrize("cron", PRESETS)
def test_each_preset_of_the_documentation_adds_a_schedule_to_the_file(api: Api, cron: str) -> None:
    browser = Browser(api, "admin")
    form = browser.get("/tasks/small/triggers/add?kind=schedule")

    answer = browser.submit(
        "/tasks/small/triggers/add",
        **{**fields_of(form), "schedule": cron, "timezone": "Europe/Berlin", "params": "REPO = optio\nN = 4"},
    )

    assert f"{PRESETS[cron]} {cron}" in text_of(form)
    assert fields_of(form)["params"] == "REPO = \n"
    assert answer.headers["location"] == "/tasks/small#triggers"
    assert text(api).startswith(TEXT)
    trigger = api.live.current.registry.task("small").spec.schedule
    assert trigger is not None
    assert (trigger.config.cron_expression, trigger.config.timezone) == (cron, "Europe/Berlin")
    assert trigger.config.param_mapping == {"REPO": "optio", "N": 4}


def test_a_webhook_is_added_with_a_secret_that_no_page_or_file_shows(api: Api) -> None:
    browser = Browser(api, "admin")
    secret = "a-long-random-text"
    form = {"kind": "webhook", "hookPath": "scan", "hookScheme": "optio", "secretValue": secret, "params": "REPO = $.repo"}

    added = browser.submit("/tasks/small/triggers/add", **form)
    body = json.dumps({"repo": "optio"}).encode()
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    sent = api.request("POST", "/api/hooks/scan", raw=body, headers={"X-Optio-Signature": signature})
    page = browser.get("/tasks/small")

    assert (added.status, sent.status) == (303, 202)
    assert [run.params for run in every_run(api)] == [{"REPO": "optio", "N": 3}]
    assert "http://localhost:8000/api/hooks/scan" in text_of(page)
    assert secret not in text(api) + html(page)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"kind": "schedule"}, "choose its times"),
        ({"kind": "schedule", "schedule": "other", "cron": "61 * * * *", "params": "REPO = x"}, "61"),
        ({"kind": "schedule", "schedule": "0 * * * *", "params": ""}, "REPO"),
        ({"kind": "schedule", "schedule": "0 * * * *", "params": "REPO"}, "write NAME = VALUE"),
        ({"kind": "webhook", "hookPath": ""}, "write the end of its address"),
        ({"kind": "webhook", "hookPath": "UP case", "secretValue": "a-long-random-text", "params": "REPO = $.a"}, "path"),
        ({"kind": "webhook", "hookPath": "scan", "params": "REPO = $.a"}, "secret"),
    ],
)
def test_a_mistake_is_said_in_the_form_and_writes_nothing(api: Api, form: dict[str, str], said: str) -> None:
    answer = Browser(api, "admin").submit("/tasks/small/triggers/add", **form)

    assert answer.status == 422
    assert said in text_of(answer)
    assert fields_of(answer)["params"].strip() == form.get("params", "").strip()
    assert text(api) == TEXT


def test_a_second_schedule_is_refused(api: Api) -> None:
    browser = Browser(api, "admin")
    form = {"kind": "schedule", "schedule": "0 * * * *", "params": "REPO = x"}
    browser.submit("/tasks/small/triggers/add", **form)

    assert browser.submit("/tasks/small/triggers/add", **form).status == 409


def test_a_trigger_is_disabled_enabled_and_removed_and_the_comments_stay(api: Api) -> None:
    browser = Browser(api, "admin")
    hook(api)

    browser.submit("/tasks/small/triggers/webhook/disable")
    off, shown = api.request("POST", "/api/hooks/small", raw=b"{}").status, text_of(browser.get("/tasks/small"))
    browser.submit("/tasks/small/triggers/webhook/enable")
    unknown = browser.submit("/tasks/small/triggers/webhook/explode").status
    on = text(api)
    removed = browser.submit("/tasks/small/triggers/webhook/remove")

    assert (off, unknown, on, removed.status) == (404, 404, HOOKED, 303)
    assert "Webhook, disabled" in shown
    assert text(api).startswith(TEXT)
    assert api.live.current.registry.task("small").spec.webhook is None
    assert browser.submit("/tasks/small/triggers/webhook/remove").status == 404


@pytest.mark.parametrize(("path", "typed"), [("/tasks/small/triggers/add", "params"), ("/tasks/small/trial", "payload")])
def test_a_login_that_has_ended_keeps_the_form_of_a_trigger(api: Api, path: str, typed: str) -> None:
    browser = Browser(api, "admin")
    browser.cookie = ""

    login = browser.submit(path, kind="schedule", **{typed: "typed <b>"})

    assert (login.status, fields_of(login)[f"kept.{typed}"]) == (401, "typed <b>")


def test_only_an_admin_sees_what_changes_the_file(api: Api) -> None:
    hook(api)
    operator = Browser(api, "operator")

    page = html(operator.get("/tasks/small"))

    assert "/trial" in page
    assert "/triggers/webhook/remove" not in page
    assert "/triggers/add" not in page


def test_where_writes_are_denied_the_page_shows_the_file_to_commit(served: Callable[..., Api]) -> None:
    api = served(dev_token=None)
    api.serve_task(TEXT, "small")
    browser = Browser(api, "admin")

    answer = browser.submit("/tasks/small/triggers/add", kind="schedule", schedule="0 0 * * *", params="REPO = x")

    assert answer.status == 200
    assert "This server writes no task files" in text_of(browser.get("/tasks/small"))
    assert "git add small.yaml" in text_of(answer)
    assert "cronExpression" in fields_of(answer)["text"]
    assert text(api) == TEXT


# Trial deliveries


def test_a_trial_is_signed_by_the_server_and_starts_a_real_run(api: Api) -> None:
    browser = Browser(api, "operator")
    hook(api)
    form = fields_of(browser.get("/tasks/small/trial"))

    answer = browser.submit("/tasks/small/trial", **form)

    (run,) = every_run(api)
    assert json.loads(form["payload"]) == {"repository": {"names": [{}, {"full": "example"}]}}
    assert "202 accepted" in text_of(answer)
    assert f"/runs/{run.id}" in html(answer)
    assert (run.trigger, run.params) == ("webhook", {"REPO": "example", "N": 3})
    assert "accepted" in text_of(browser.get("/deliveries"))


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"event": "ping"}, 200, "202 filtered"),
        ({"payload": "{"}, 200, "400 refused"),
        ({"payload": "{}"}, 200, "REPO"),
        ({"event": "a\nb"}, 422, "the event cannot be sent"),
    ],
)
def test_a_trial_that_starts_nothing_says_why(api: Api, change: dict[str, str], status: int, said: str) -> None:
    browser = Browser(api, "operator")
    hook(api)
    form = fields_of(browser.get("/tasks/small/trial"))

    answer = browser.submit("/tasks/small/trial", **{**form, **change})

    assert answer.status == status
    assert said in text_of(answer), text_of(answer)[-900:]
    assert every_run(api) == []


def test_a_server_without_the_secret_says_that_it_cannot_sign(api: Api) -> None:
    browser = Browser(api, "operator")
    api.serve_task(HOOKED, "small")
    form = fields_of(browser.get("/tasks/small/trial"))

    answer = browser.submit("/tasks/small/trial", **form)

    assert answer.status == 409
    assert "the secret `SMALL_SECRET` has no value here" in text_of(answer)
    assert browser.get("/tasks/small/trial").status == 200
    api.serve_task(TEXT, "small")
    assert browser.get("/tasks/small/trial").status == 404


def test_the_api_sends_a_trial_too(api: Api) -> None:
    hook(api)
    api.credentials = {"Authorization": f"Bearer {api.token('operator')}"}
    path = "/api/tasks/small/trial"

    good = api.post(path, {"payload": {"repository": {"names": [{}, {"full": "optio"}]}}})
    other = api.post(path, {"payload": {}, "event": "ping"})
    wrong = api.post(path, {"payload": [], "event": None})

    assert (good.json["status"], good.json["verdict"], good.json["runId"]) == (202, "accepted", every_run(api)[0].id)
    assert (other.json["status"], other.json["verdict"], other.json["runId"]) == (202, "filtered", None)
    assert wrong.status == 422


# What a run would meet


def test_the_form_of_a_run_says_what_it_may_cost_and_why_it_would_wait(api: Api) -> None:
    browser = Browser(api, "operator")
    api.credentials = {"Authorization": f"Bearer {browser.token}"}

    waits = text_of(browser.get("/tasks/small/run"))
    browser.submit("/tasks/small/pause", reason="the API is down")
    paused = text_of(browser.get("/tasks/small/run"))

    assert "It costs at most $2.00" in waits
    assert "It would wait: no worker is running" in waits
    assert "It would wait" in paused
    assert "the API is down" in paused
    assert api.get("/api/tasks/small/forecast").json["waiting"]["reason"] == "paused"
    assert api.get("/api/tasks/small/forecast").json["maxUsd"] == "2.00"


def test_the_preview_has_a_curl_command_that_starts_the_same_run(api: Api) -> None:
    answer = Browser(api, "operator").submit("/tasks/small/run", **{"p.REPO": "it's", "p.N": "4", "act": "preview"})

    assert "curl -sSf -X POST http://localhost:8000/api/tasks/small/runs" in text_of(answer)
    body = json.dumps({"params": {"REPO": "it's", "N": 4}}).replace("'", "'\"'\"'")
    assert f"-d '{body}'" in html(answer)
    assert every_run(api) == []
