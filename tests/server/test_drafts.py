"""Task files as text over HTTP: read, checked with what they would do, written, and every refusal."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.server.api import Api
from tests.support import Answer

TEXT = """\
# Ask Ada before you change this.
name: Small   # really
agentRuntime: codex
promptTemplate: Say hello
budgetUsd: "1.00"
triggers:
  - {type: webhook, config: {path: small, secret: {name: SMALL_SECRET}}}
"""
OTHER = TEXT.replace("Small", "Other").replace("path: small", "path: other")


@pytest.fixture
def api(served: Callable[..., Api]) -> Api:
    """A server that writes files, and serves the task `small`."""
    made = served(environ={"OPTIO_WRITES": "files"})
    made.serve_task(TEXT, "small")
    return made


def put(api: Api, task_id: str, text: Any, seen: str | None = None) -> Answer:
    headers = {} if seen is None else {"If-Match": seen}
    return api.request("PUT", f"/api/tasks/{task_id}/file", {"text": text}, headers=headers)


def draft(api: Api, text: str, task: str | None = None) -> Any:
    return api.post("/api/drafts", {"text": text, "task": task}).json


def findings(answer: Any) -> list[tuple[str, int]]:
    return [(each["code"], each["line"]) for each in answer["diagnostics"]]


def test_a_file_is_read_and_written_back_byte_for_byte_with_a_comment_alone(api: Api) -> None:
    read = api.get("/api/tasks/small/file")
    changed = read.json["text"].replace("before you", "or Bob before you")

    written = put(api, "small", changed, read.headers["etag"])

    assert (read.json["path"], read.json["text"]) == ("small.yaml", TEXT)
    assert read.json["digest"] == f"sha256:{hashlib.sha256(TEXT.encode()).hexdigest()}"
    assert (written.status, written.headers["etag"]) == (200, f'"sha256:{hashlib.sha256(changed.encode()).hexdigest()}"')
    assert (api.tasks / "small.yaml").read_text() == changed


def test_a_file_that_somebody_else_has_changed_is_not_overwritten(api: Api) -> None:
    seen = api.get("/api/tasks/small/file").headers["etag"]
    (api.tasks / "small.yaml").write_text(TEXT + "# their comment\n")

    answer = put(api, "small", TEXT + "# mine\n", seen)

    assert (answer.status, answer.json["type"]) == (412, "urn:optio:problem:stale-task")
    assert (api.tasks / "small.yaml").read_text() == TEXT + "# their comment\n"


def test_a_new_task_is_written_as_text_and_served_at_once(api: Api) -> None:
    answer = put(api, "other", OTHER)

    assert answer.status == 201
    assert (api.tasks / "other.yaml").read_text() == OTHER
    assert api.get("/api/tasks/other").json["name"] == "Other"


@pytest.mark.parametrize(
    ("task_id", "text", "pointer", "said"),
    [
        ("small", TEXT.replace("codex", "codx"), "/agentRuntime", "line 3"),
        ("small", TEXT.replace("Small", "Large"), "/id", "would be `large`"),
        ("z", TEXT.replace("Small", "Z"), "/triggers/0/config/path", "line 7"),
        ("Other", OTHER, "/id", "cannot be an id"),
        ("other", None, "/text", "Expected `str`"),
    ],
)
def test_a_wrong_text_is_refused_with_its_places_and_nothing_is_written(
    api: Api, task_id: str, text: Any, pointer: str, said: str
) -> None:
    answer = put(api, task_id, text)

    assert answer.status == 422
    assert pointer in [each["pointer"] for each in answer.json["errors"]]
    assert said in " ".join(each["message"] for each in answer.json["errors"])
    assert [path.name for path in api.tasks.iterdir()] == ["small.yaml"]
    assert (api.tasks / "small.yaml").read_text() == TEXT


def test_where_writes_are_denied_the_answer_has_the_text_and_the_file_to_commit(served: Callable[..., Api]) -> None:
    api = served()
    api.serve_task(TEXT, "small")

    new, old = put(api, "other", OTHER), put(api, "small", TEXT + "# more\n")

    assert [each.json["type"] for each in (new, old)] == ["urn:optio:problem:writes-denied"] * 2
    assert [(each.json["path"], each.json["document"]) for each in (new, old)] == [
        ("other.yaml", OTHER),
        ("small.yaml", TEXT + "# more\n"),
    ]


def test_a_draft_of_a_new_task_says_what_it_would_do(api: Api) -> None:
    text = OTHER.replace(
        "triggers:\n", "triggers:\n  - {type: schedule, config: {cronExpression: '0 9 * * 1', timezone: Europe/Berlin}}\n"
    )

    found = draft(api, text + "environment: {secrets: [OPENAI_API_KEY]}\n")

    assert (found["path"], found["task"], found["ok"]) == ("other.yaml", "other", True)
    assert found["summary"].startswith("1 task added; worst case")
    kinds = {each["kind"] for each in found["effects"]}
    assert {"task-added"} <= kinds
    said = " ".join(line for each in found["effects"] for line in (each["text"], *each["lines"]))
    assert "OPENAI_API_KEY" in said
    assert "/api/hooks/other" in said
    assert list(api.tasks.glob("other*")) == []


def test_a_draft_of_a_change_says_what_differs_from_what_is_served(api: Api) -> None:
    found = draft(api, TEXT.replace("1.00", "5.00").replace("hello", "bye"), "small")

    assert {"prompt-changed"} < {each["kind"] for each in found["effects"]}
    assert "+$4.00" in found["summary"] or "$5.00" in str(found["effects"])
    assert any("+Say bye" in line for each in found["effects"] for line in each["diff"])
    assert draft(api, TEXT + "# a comment\n", "small")["summary"] == "no effect"


@pytest.mark.parametrize(
    ("text", "task", "found"),
    [
        (TEXT.replace("codex", "codx"), "small", ("OPT", 3)),
        (TEXT, None, ("OPT701", 1)),
        (TEXT.replace("Small", "Z"), None, ("OPT", 7)),
        (TEXT.replace("Small", "Large"), "small", ("OPT701", 1)),
        ("name: [", None, ("OPT", 1)),
        ("", None, ("OPT", 1)),
        ("- 1\n", None, ("OPT", 1)),
    ],
)
def test_a_draft_with_errors_says_where_they_are(api: Api, text: str, task: str | None, found: tuple[str, int]) -> None:
    answer = draft(api, text, task)

    assert (answer["ok"], answer["summary"], answer["effects"]) == (False, None, [])
    assert any(code.startswith(found[0]) and line == found[1] for code, line in findings(answer)), findings(answer)


def test_a_draft_is_made_with_the_defaults_and_the_policy_of_its_tree(api: Api) -> None:
    (api.tasks / "_defaults.yaml").write_text("model: gpt-5-codex\n")
    (api.tasks / "_policy.yaml").write_text("type: policy\nceilings: {budgetUsd: '2.00'}\nfailOn: [task-added]\n")

    dear, cheap = draft(api, OTHER.replace("1.00", "3.00")), draft(api, OTHER)

    assert not dear["ok"]
    assert ["2.00" in each["message"] for each in dear["diagnostics"] if each["severity"] == "error"] == [True]
    assert [each["kind"] for each in cheap["effects"] if each["failing"]] == ["task-added"]


def test_a_trigger_is_turned_off_and_on_in_its_file(api: Api) -> None:
    off = api.request("PATCH", "/api/tasks/small/triggers/webhook", {"enabled": False})
    text = (api.tasks / "small.yaml").read_text()
    on = api.request("PATCH", "/api/tasks/small/triggers/webhook", {"enabled": True})

    assert (off.status, off.json["enabled"], on.json["enabled"]) == (200, False, True)
    assert "# Ask Ada" in text
    assert "enabled: false" in text
    assert (api.tasks / "small.yaml").read_text() == TEXT
    assert api.request("PATCH", "/api/tasks/small/triggers/schedule", {"enabled": True}).status == 404
    assert api.request("PATCH", "/api/tasks/small/triggers/webhook", {"enabled": 1}).status == 422
