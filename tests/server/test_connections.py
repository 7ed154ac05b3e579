"""`GET /api/connections` and what the dashboard shows of connections: which services runs reach, by which secrets."""

from collections.abc import Callable

import pytest

from tests.server.api import JOB, Api
from tests.server.test_deliveries_page import Reader
from tests.server.test_pages import html, text_of

CANARY = "value-that-nobody-may-see"
TRACKER = """\
type: connection
kind: mcp
description: Issues
transport:
  type: streamable-http
  url: https://tracker.example.org/mcp
  headers: {Authorization: "Bearer {{secret:TRACKER_TOKEN}}", X-Other: "{{secret:UNSET}}"}
tools: {find_issue: read, create_issue: write}
"""
STATUS = """\
type: connection
kind: http
url: https://status.example.org:8443/api
allow: [GET /v1/health, POST /v1/notes]
"""
MODELS = "type: connection\nkind: model\nurl: https://models.example.org\nkey: MODELS_KEY\nmodels: [sonnet*]\n"
UNUSED = STATUS.replace("status", "unused")


@pytest.fixture
def api(served: Callable[..., Api]) -> Api:
    made = served()
    made.services.secrets.put("TRACKER_TOKEN", CANARY)
    (made.tasks / "connections").mkdir()
    for name, text in {"tracker": TRACKER, "status": STATUS, "models": MODELS, "unused": UNUSED}.items():
        (made.tasks / "connections" / f"{name}.yaml").write_text(text)
    return made


def serve(api: Api) -> None:
    agent = JOB.replace("agentRuntime: command\ncommand", "agentRuntime: claude-code\nmodel: sonnet\nbudget")
    agent = agent.replace('budget: "true"', 'budgetUsd: "1.00"')
    api.serve_task(agent.replace("name: Job", "name: Reader") + "connections: [tracker, status, models]\n", "reader")
    api.serve_task(
        agent.replace("name: Job", "name: Writer") + "connections: [{id: tracker, tools: [create_issue]}]\n", "writer"
    )


def test_the_api_lists_what_served_tasks_reach_with_the_names_of_secrets_alone(api: Api) -> None:
    serve(api)

    answer = api.get("/api/connections")

    models, status, tracker = answer.json["items"]
    assert tracker == {
        "id": "tracker", "kind": "mcp", "description": "Issues", "transport": "streamable-http",
        "address": "tracker.example.org", "read": ["find_issue"], "write": ["create_issue"], "pinned": False,
        "secrets": [{"name": "TRACKER_TOKEN", "hasValue": True}, {"name": "UNSET", "hasValue": False}],
        "tasks": [{"taskId": "reader", "tools": ["find_issue"]}, {"taskId": "writer", "tools": ["create_issue"]}],
    }  # fmt: skip
    assert (status["address"], status["read"], status["write"]) == (
        "status.example.org:8443",
        ["GET /v1/health"],
        ["POST /v1/notes"],
    )
    assert (models["read"], models["secrets"]) == (["sonnet*"], [{"name": "MODELS_KEY", "hasValue": False}])
    assert (status["pinned"], status["transport"], models["pinned"]) == (None, None, None)
    assert CANARY not in str(answer.json)


def test_the_page_shows_the_same(api: Api) -> None:
    serve(api)

    shown = text_of(Reader(api, "viewer").get("/connections"))

    assert "tracker Issues tracker.example.org streamable-http find_issue ! create_issue" in shown
    assert "TRACKER_TOKEN ✓ has a value UNSET ✕ no value here … not pinned reader , writer" in shown
    assert CANARY not in shown
    assert "unused" not in shown


def test_a_task_leads_to_its_connections_and_says_what_they_change(api: Api) -> None:
    serve(api)

    page = Reader(api, "viewer").get("/tasks/writer")

    assert "tracker ( tracker.example.org ): create_issue (writes)" in text_of(page)
    assert '<a href="/connections#connection-tracker">' in html(page)


def test_the_navigation_names_connections_once_a_task_has_one(api: Api) -> None:
    api.serve_task(JOB)
    before = text_of(Reader(api, "viewer").get("/tasks"))

    serve(api)

    assert "Connections" not in before
    assert "Connections" in text_of(Reader(api, "viewer").get("/tasks"))
    assert "No served task names a connection" not in text_of(Reader(api, "viewer").get("/connections"))
