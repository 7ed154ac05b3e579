"""Connections in an editor: in the task that names them, and in their own files."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from optio.lsp.complete import CompletionKind, complete
from optio.lsp.hover import hover
from optio.lsp.links import definition
from tests.lsp.opened import HERE, opened

GITHUB = """\
type: connection
kind: mcp
description: Issues of our repositories
transport:
  type: streamable-http
  url: https://api.githubcopilot.com/mcp/
  headers: {Authorization: "Bearer {{secret:GITHUB_TOKEN}}"}
tools: {get_issue: read, create_issue: write}
"""
STATUS = "type: connection\nkind: http\nurl: https://status.example.com\nallow: [GET /v1/**, POST /v1/notes]\n"
ROUTER = "type: connection\nkind: model\nurl: https://openrouter.ai/api\nkey: OPENROUTER_API_KEY\n"
FILES = {
    "connections/github.yaml": GITHUB,
    "connections/status-page.yml": STATUS,
    "connections/router.yaml": ROUTER,
    "connections/broken.yaml": "type: connection\nkind: http\n",
    "connections/notes.md": "None\n",
    "other/slack.yaml": STATUS,
}
TASK = "name: A\nagentRuntime: codex\npromptTemplate: Say\n"


def labels(root: Path, text: str, path: str = "task.yaml") -> list[str]:
    page, offset = opened(root, text, path, FILES)
    return [item.label for item in complete(page, offset, snippets=True) if item.sort is not CompletionKind.SNIPPET]


def hovered(root: Path, text: str) -> str | None:
    page, offset = opened(root, text, files=FILES)
    found = hover(page, offset, datetime.now(UTC))
    return None if found is None else found.text


def led(root: Path, text: str) -> list[tuple[str, int]]:
    page, offset = opened(root, text, files=FILES)
    return [(target.path, target.span.start.line) for target in definition(page, offset)]


def test_a_task_is_offered_the_connections_of_its_tree(tmp_path: Path) -> None:
    assert labels(tmp_path, f"{TASK}connections: [{HERE}]\n") == ["broken", "github", "router", "status-page"]
    assert labels(tmp_path, f"{TASK}connections:\n  - github\n  - r{HERE}\n")[-3:] == ["broken", "router", "status-page"]
    assert "github" in labels(tmp_path, f"{TASK}connections: [{{id: {HERE}}}]\n")


def test_a_list_of_tools_is_offered_those_of_its_connection(tmp_path: Path) -> None:
    text = f"{TASK}connections:\n  - id: github\n    tools: [get_issue, {HERE}]\n"
    page, offset = opened(tmp_path, text, files=FILES)

    assert [(item.label, item.detail) for item in complete(page, offset, snippets=True)] == [("create_issue", "write")]
    assert labels(tmp_path, text.replace("github", "status-page")) == []


def test_a_connection_tells_what_it_opens_for_this_task(tmp_path: Path) -> None:
    text = hovered(tmp_path, f"{TASK}connections: [git{HERE}hub, status-page]\n")

    assert text is not None
    assert text.startswith("**`github`**: an MCP server, `api.githubcopilot.com`\n\nIssues of our repositories")
    assert "- tools of the run: `get_issue`\n" in text
    assert "create_issue" not in text
    assert text.endswith("- secrets, which only the gateway reads: `GITHUB_TOKEN`")


def test_a_connection_tells_what_changes_something(tmp_path: Path) -> None:
    named = f"{TASK}connections: [{{id: git{HERE}hub, tools: [create_issue]}}]\n"

    assert "- changes something by: `create_issue`" in (hovered(tmp_path, named) or "")
    status = hovered(tmp_path, f"{TASK}connections: [status{HERE}-page]\n") or ""
    assert (
        "- address in the run: `$STATUS_PAGE_URL`\n- requests: `GET /v1/**`\n- changes something by: `POST /v1/notes`" in status
    )
    assert "- models: any\n- secrets, which only the gateway reads: `OPENROUTER_API_KEY`" in (
        hovered(tmp_path, f"{TASK}model: gpt-5\nconnections: [rou{HERE}ter]\n") or ""
    )


@pytest.mark.parametrize("name", ["bro{}ken", "git{}", "../{}x"])
def test_a_connection_that_cannot_be_read_is_no_crash(tmp_path: Path, name: str) -> None:
    text = f"{TASK}connections: [{name.format(HERE)}]\n"

    assert "**`" not in (hovered(tmp_path, text) or "")
    assert led(tmp_path, text) == ([("connections/broken.yaml", 1)] if "ken" in name else [])


def test_a_name_leads_to_the_file_and_a_tool_to_its_line(tmp_path: Path) -> None:
    text = f"{TASK}connections: [{{id: github, tools: [create_issue, close]}}]\n"

    assert led(tmp_path, text.replace("github", f"git{HERE}hub")) == [("connections/github.yaml", 1)]
    assert led(tmp_path, text.replace("create", f"cre{HERE}ate")) == [("connections/github.yaml", 8)]
    assert led(tmp_path, text.replace("close", f"cl{HERE}ose")) == [("connections/github.yaml", 1)]


def test_a_file_of_a_connection_has_the_keys_of_its_kind(tmp_path: Path) -> None:
    http = labels(tmp_path, f"type: connection\nkind: http\n{HERE}", "connections/a.yaml")
    mcp = labels(tmp_path, f"type: connection\nkind: mcp\n{HERE}", "connections/a.yaml")

    assert {"url", "allow", "headers"} <= set(http)
    assert not {"transport", "key", "name"} & set(http)
    assert {"transport", "tools", "pin"} <= set(mcp)
    assert {"http", "mcp", "model"} == set(labels(tmp_path, f"type: connection\nkind: {HERE}", "connections/a.yaml"))
    in_transport = f"type: connection\nkind: mcp\ntransport:\n  type: stdio\n  {HERE}\n"
    assert labels(tmp_path, in_transport, "connections/a.yaml") == ["command", "env"]
    classes = f"type: connection\nkind: mcp\ntools:\n  search: {HERE}\n"
    assert labels(tmp_path, classes, "connections/a.yaml") == ["read", "write"]


def test_whole_connections_are_offered_in_an_empty_file(tmp_path: Path) -> None:
    page, offset = opened(tmp_path, HERE, "connections/a.yaml", FILES)

    snippets = [item.label for item in complete(page, offset, snippets=True) if item.sort is CompletionKind.SNIPPET]

    assert snippets == ["an MCP server", "a service over HTTP", "a model service"]
