"""Tasks and triggers written over HTTP: the seed's own bodies, the files that come of them, and every refusal."""

import hashlib
import hmac
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.api import Api
from tests.support import SEED, Answer

SCHEDULE = {"type": "schedule", "config": {"cronExpression": "0 9 * * 1", "paramMapping": {"REPO_NAME": "optio"}}}
WEBHOOK = {
    "type": "webhook",
    "config": {"path": "security-scan", "secret": "whsec_...", "paramMapping": {"REPO_NAME": "$.repository.name"}},
}
TASK = "/api/tasks/weekly-security-report"
SMALL = {"name": "Small", "agentRuntime": "codex", "promptTemplate": "Say hello"}
WRITTEN_BY_HAND = """\
# Ask Ada before you change this.
name: Small   # really
agentRuntime: codex

promptTemplate: |
  Say hello.

maxTurns: 3 # enough
"""


@pytest.fixture
def files(served: Callable[..., Api]) -> Api:
    """A server that writes task files."""
    return served(environ={"OPTIO_WRITES": "files"})


@pytest.fixture
def denied(served: Callable[..., Api]) -> Api:
    """A server as in production: it writes nothing, and serves the task `small`."""
    api = served()
    api.serve_task(WRITTEN_BY_HAND, "small")
    return api


def put(api: Api, text: str, name: str = "small") -> None:
    """A file that somebody wrote by hand, as it is served."""
    (api.tasks / name).parent.mkdir(exist_ok=True)
    api.serve_task(text, name)


def tree(api: Api) -> dict[str, str]:
    return {str(p.relative_to(api.tasks)): p.read_text() for p in sorted(api.tasks.rglob("*")) if p.is_file()}


def pointers(answer: Answer) -> list[str]:
    return [error["pointer"] for error in answer.json.get("errors", [])]


def test_the_documented_task_becomes_a_file_and_is_served_at_once(files: Api) -> None:
    made = files.post("/api/tasks", SEED)

    served = files.get(TASK)
    assert (made.status, made.headers["location"]) == (201, TASK)
    assert made.headers["etag"] == served.headers["etag"] == f'"{served.json["digest"]}"'
    assert {k: v for k, v in made.json.items() if k != "warnings"} == served.json
    assert {key: served.json[key] for key in SEED} == SEED
    assert made.json["warnings"] == []
    assert list(tree(files)) == ["weekly-security-report.yaml"]


def test_a_written_task_is_answered_with_the_warnings_of_its_file(files: Api) -> None:
    made = files.post("/api/tasks", SEED | {"timeout": "1m", "stallTimeout": "2m"})

    assert [warning["code"] for warning in made.json["warnings"]] == ["OPT614"]


def test_the_documented_triggers_are_added_each_once(files: Api) -> None:
    files.post("/api/tasks", SEED)

    answers = [files.post(f"{TASK}/triggers", body) for body in (SCHEDULE, WEBHOOK, {"type": "manual"})]
    again = [files.post(f"{TASK}/triggers", body) for body in (SCHEDULE, WEBHOOK, {"type": "manual"})]

    kinds = ["schedule", "webhook", "manual"]
    assert [(a.status, a.headers["location"]) for a in answers] == [(201, f"{TASK}/triggers/{kind}") for kind in kinds]
    assert [files.get(a.headers["location"]).json["type"] for a in answers] == kinds
    assert [t["type"] for t in files.get(f"{TASK}/triggers").json["items"]] == kinds
    assert [a.status for a in again] == [409] * 3
    assert all(f"DELETE {TASK}/triggers/{kind}" in a.json["detail"] for a, kind in zip(again, kinds, strict=True))


def test_a_secret_sent_as_text_signs_deliveries_and_is_never_seen_again(files: Api) -> None:
    files.post("/api/tasks", SEED)
    secret = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0"
    body = {**WEBHOOK, "config": {**WEBHOOK["config"], "secret": secret}}  # type: ignore[dict-item]

    made = files.post(f"{TASK}/triggers", body)

    payload = json.dumps({"repository": {"name": "optio"}}).encode()
    signature = hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()
    signed = files.request("POST", "/api/hooks/security-scan", raw=payload, headers={"X-Optio-Signature": signature})
    unsigned = files.request("POST", "/api/hooks/security-scan", raw=payload)
    assert (made.status, signed.status, unsigned.status) == (201, 202, 401)
    assert made.json["config"]["secret"] == {"name": "WEEKLY_SECURITY_REPORT__SECURITY_SCAN"}
    assert made.json["warnings"] == []
    everywhere = [files.get(p).body for p in (TASK, f"{TASK}/triggers", "/api/registry", "/api/diagnostics", "/api/deliveries")]
    assert not any(secret.encode() in body for body in [made.body, *everywhere])
    assert secret not in "".join(tree(files).values())


def test_the_placeholder_of_the_documentation_is_taken_with_a_warning(files: Api) -> None:
    files.post("/api/tasks", SEED)

    made = files.post(f"{TASK}/triggers", WEBHOOK)

    assert [(w["pointer"], w["message"]) for w in made.json["warnings"]] == [("/config/secret", "the secret is a placeholder")]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({**SMALL, "maxTurns": 0}, ["/maxTurns"]),
        ({**SMALL, "maxTurn": 3}, ["/maxTurn"]),
        ({"name": "Small", "agentRuntime": "codex"}, ["/promptTemplate"]),
        ({**SMALL, "name": "!!!"}, ["/name"]),
        ({**SMALL, "id": "../escape"}, ["/id"]),
        ({**SMALL, "id": "A"}, ["/id"]),
        ({**SMALL, "name": 3}, ["/name"]),
        ({**SMALL, "promptFile": "/etc/passwd", "promptTemplate": None}, ["/promptFile"]),
        ({**SMALL, "triggers": [{"type": "manual"}, {"type": "schedule", "config": {"cronExpression": "x"}}]},
         ["/triggers/1/config/cronExpression"]),
        ({**SMALL, "triggers": [{"type": "webhook", "config": {"path": "x", "secret": " "}}]}, ["/triggers/0/config/secret"]),
        ({**SMALL, "triggers": [{"type": "webhook", "config": {"path": "x", "secret": "1234567"}}]},
         ["/triggers/0/config/secret"]),
        ({**SMALL, "description": "a\0b"}, ["/description"]),
        ({}, ["/name", "/agentRuntime", "/promptTemplate"]),
    ],
)  # fmt: skip
def test_what_does_not_compile_is_refused_at_its_place_and_leaves_nothing(
    files: Api, body: dict[str, Any], where: list[str]
) -> None:
    refused = files.post("/api/tasks", {k: v for k, v in body.items() if v is not None})

    assert refused.status == 422, refused.json
    assert set(where) <= set(pointers(refused))
    assert tree(files) == {}
    assert not list((files.services.settings.secrets).glob("*"))


def test_what_is_no_json_object_is_refused(files: Api) -> None:
    assert [
        files.request("POST", "/api/tasks", raw=raw, headers={"Content-Type": kind}).status
        for raw, kind in [
            (b"{", "application/json"),
            (b"[]", "application/json"),
            (b"{}", "text/yaml"),
            (b"\xff", "application/json"),
        ]
    ] == [400, 422, 415, 400]


def test_a_second_task_with_the_same_id_is_a_conflict(files: Api) -> None:
    files.post("/api/tasks", SMALL)
    before = tree(files)

    answers = [
        files.post("/api/tasks", body) for body in (SMALL, {**SMALL, "name": "small"}, {**SMALL, "id": "small", "name": "X"})
    ]

    assert [a.status for a in answers] == [409] * 3
    assert tree(files) == before


@pytest.mark.parametrize("there", ["file", "link", "directory", "broken"])
def test_nothing_that_lies_where_the_new_file_would_is_overwritten(files: Api, there: str) -> None:
    path = files.tasks / "small.yaml"
    {
        "file": lambda: path.write_text("# mine\n"),
        "link": lambda: path.symlink_to("/tmp/elsewhere"),
        "directory": path.mkdir,
        "broken": lambda: path.write_text("name: [\n"),
    }[there]()
    before = path.lstat()

    refused = files.post("/api/tasks", SMALL)

    assert refused.status == 409
    assert path.lstat() == before


def test_a_webhook_path_that_another_task_has_is_refused(files: Api) -> None:
    hook = {"type": "webhook", "config": {"path": "hit", "unsigned": True}}
    files.post("/api/tasks", {**SMALL, "name": "Z", "triggers": [hook]})

    refused = files.post("/api/tasks", {**SMALL, "name": "A", "triggers": [hook]})
    files.post("/api/tasks", {**SMALL, "name": "Zz"})
    also = files.post("/api/tasks/zz/triggers", hook)

    assert (refused.status, also.status) == (422, 422)
    assert pointers(also) == ["/config/path"]
    assert sorted(tree(files)) == ["z.yaml", "zz.yaml"]


def test_a_patch_changes_its_lines_and_no_others(files: Api) -> None:
    put(files, WRITTEN_BY_HAND, "team/small")
    os.chmod(files.tasks / "team/small.yaml", 0o640)

    changed = files.request(
        "PATCH",
        "/api/tasks/small",
        {"maxTurns": 5, "budgetUsd": "2.50"},
        headers={"Content-Type": "application/merge-patch+json"},
    )

    assert (changed.status, changed.json["maxTurns"], changed.json["budgetUsd"]) == (200, 5, "2.50")
    assert tree(files) == {
        "team/small.yaml": WRITTEN_BY_HAND.replace("maxTurns: 3 # enough", "maxTurns: 5 # enough") + "budgetUsd: '2.50'\n"
    }
    assert stat.S_IMODE((files.tasks / "team/small.yaml").stat().st_mode) == 0o640


def test_tests_are_written_and_change_no_definition(files: Api) -> None:
    put(files, WRITTEN_BY_HAND)
    before = files.get("/api/tasks/small").json

    changed = files.request("PATCH", "/api/tasks/small", {"tests": [{"params": {}, "expect": {}}]})

    assert (changed.status, changed.json["digest"]) == (200, before["digest"])
    assert "tests" not in changed.json
    assert tree(files)["small.yaml"] == WRITTEN_BY_HAND + "tests:\n  - params: {}\n    expect: {}\n"


def test_null_in_a_patch_brings_the_default_back(files: Api) -> None:
    put(files, WRITTEN_BY_HAND + "maxConcurrent: 7\n")

    changed = files.request("PATCH", "/api/tasks/small", {"maxConcurrent": None})

    assert (changed.status, changed.json["maxConcurrent"]) == (200, 2)
    assert tree(files) == {"small.yaml": WRITTEN_BY_HAND}


@pytest.mark.parametrize(
    ("patch", "where"),
    [
        ({"maxTurns": 0}, "/maxTurns"),
        ({"name": "Other"}, "/name"),
        ({"id": "other"}, "/id"),
        ({"promptTemplate": None}, "/promptTemplate"),
        ({"environment": {"env": {"A": 1}}}, "/environment/env/A"),
        ({"nonsense": {"a": 1}}, "/nonsense"),
    ],
)
def test_a_patch_that_would_break_the_task_is_refused(files: Api, patch: dict[str, Any], where: str) -> None:
    put(files, WRITTEN_BY_HAND)

    refused = files.request("PATCH", "/api/tasks/small", patch)

    assert (refused.status, pointers(refused)) == (422, [where])
    assert tree(files) == {"small.yaml": WRITTEN_BY_HAND}


def test_a_name_may_change_when_the_id_is_kept(files: Api) -> None:
    put(files, WRITTEN_BY_HAND)

    changed = files.request("PATCH", "/api/tasks/small", {"name": "Tiny", "id": "small"})

    assert (changed.status, changed.json["name"], changed.json["id"]) == (200, "Tiny", "small")


def test_a_prompt_in_a_file_of_its_own_is_not_replaced_by_accident(files: Api) -> None:
    (files.tasks / "p.md").write_text("From a file")
    put(files, "name: Small\nagentRuntime: codex\npromptFile: p.md\n")

    refused = files.request("PATCH", "/api/tasks/small", {"promptTemplate": "New"})
    changed = files.request("PATCH", "/api/tasks/small", {"promptTemplate": "New", "promptFile": None})

    assert (refused.status, pointers(refused)) == (422, ["/promptTemplate"])
    assert (changed.status, changed.json["promptTemplate"]) == (200, "New")


@pytest.mark.parametrize(
    "text",
    [
        "name: Small\nagentRuntime: codex\npromptTemplate: x\nenvironment: {env: &e {A: b}}\n"
        "paramsSchema: {type: object, default: *e}\n",
        "? name\n: Small\n? agentRuntime\n: codex\n? promptTemplate\n: x\n? environment\n: {env: {A: b}}\n",
    ],
)
def test_a_file_that_cannot_be_edited_well_is_left_alone(files: Api, text: str) -> None:
    put(files, text)

    refused = files.request("PATCH", "/api/tasks/small", {"environment": {"env": {"A": "c"}}})

    assert refused.status == 409
    assert refused.json["detail"].startswith("small.yaml:")
    assert (files.tasks / "small.yaml").read_text() == text


def test_a_file_that_is_a_link_is_not_changed(files: Api, tmp_path: Path) -> None:
    (files.tasks / "real.txt").write_text(WRITTEN_BY_HAND)
    (files.tasks / "small.yaml").symlink_to("real.txt")
    files.post("/api/tasks", {**SMALL, "name": "Other"})

    refused = [files.request("PATCH", "/api/tasks/small", {"maxTurns": 5}), files.request("DELETE", "/api/tasks/small")]

    assert [r.status for r in refused] == [409, 409]
    assert (files.tasks / "real.txt").read_text() == WRITTEN_BY_HAND
    assert (files.tasks / "small.yaml").is_symlink()


def test_a_change_meant_for_another_version_is_refused(files: Api) -> None:
    files.post("/api/tasks", SMALL)
    seen = files.get("/api/tasks/small").headers["etag"]

    first = files.request("PATCH", "/api/tasks/small", {"maxTurns": 5}, headers={"If-Match": seen})
    second = files.request("PATCH", "/api/tasks/small", {"maxTurns": 6}, headers={"If-Match": seen})
    third = files.request("DELETE", "/api/tasks/small", headers={"If-Match": seen})
    bare = files.request("DELETE", "/api/tasks/small", headers={"If-Match": first.json["digest"]})
    fourth = files.request("DELETE", "/api/tasks/small", headers={"If-Match": f'"x", {first.headers["etag"]}'})

    assert [a.status for a in (first, second, third, bare, fourth)] == [200, 412, 412, 422, 204]


def test_a_deleted_task_is_gone_with_its_file_and_its_hook(files: Api) -> None:
    files.post("/api/tasks", {**SMALL, "triggers": [{"type": "webhook", "config": {"path": "hit", "unsigned": True}}]})
    before = files.post("/api/hooks/hit", {}).status

    deleted = files.request("DELETE", "/api/tasks/small")

    assert (before, deleted.status, deleted.body) == (202, 204, b"")
    assert [files.get("/api/tasks/small").status, files.post("/api/hooks/hit", {}).status] == [404, 404]
    assert files.get("/api/tasks/small/runs").json["items"][0]["state"] == "queued"
    assert tree(files) == {}
    assert files.request("DELETE", "/api/tasks/small").status == 404


def test_a_trigger_can_be_taken_away(files: Api) -> None:
    put(
        files,
        WRITTEN_BY_HAND
        + "triggers:\n  # by hand\n  - type: manual\n  - type: schedule\n    config: {cronExpression: '@daily'}\n",
    )

    gone = [files.request("DELETE", f"/api/tasks/small/triggers/{kind}").status for kind in ("schedule", "schedule", "webhook")]

    assert gone == [204, 404, 404]
    assert tree(files) == {"small.yaml": WRITTEN_BY_HAND + "triggers:\n  # by hand\n  - type: manual\n"}


def test_the_same_key_gives_the_first_answer(files: Api) -> None:
    key = {"Idempotency-Key": "k1"}

    first, second = (files.request("POST", "/api/tasks", SMALL, headers=key) for _ in range(2))
    other = files.request("POST", "/api/tasks", {**SMALL, "name": "Other"}, headers=key)

    assert (first.status, second.status, other.status) == (201, 200, 409)
    assert (first.json, first.headers["location"]) == (second.json, second.headers["location"])
    assert list(tree(files)) == ["small.yaml"]


def test_writers_at_one_time_lose_no_change(files: Api) -> None:
    files.post("/api/tasks", SMALL)
    changes = [("PATCH", "/api/tasks/small", {"environment": {"env": {f"V{n}": str(n)}}}) for n in range(8)]
    changes += [("POST", "/api/tasks", {**SMALL, "name": f"T{n}"}) for n in range(8)]
    answers: list[int] = []

    threads = [threading.Thread(target=lambda c=c: answers.append(files.request(*c).status)) for c in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [200] * 8 + [201] * 8
    assert files.get("/api/tasks/small").json["environment"]["env"] == {f"V{n}": str(n) for n in range(8)}
    assert len(files.get("/api/tasks").json["items"]) == 9


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/tasks", SEED),
        ("PATCH", "/api/tasks/small", {"maxTurns": 5}),
        ("POST", "/api/tasks/small/triggers", {"type": "manual"}),
        ("DELETE", "/api/tasks/small", None),
    ],
)
def test_where_writes_are_denied_the_answer_holds_what_to_commit(
    denied: Api, method: str, path: str, body: dict[str, Any] | None
) -> None:
    refused = denied.request(method, path, body)

    assert refused.status == 409
    assert refused.json["path"] == ("weekly-security-report.yaml" if path == "/api/tasks" else "small.yaml")
    document = refused.json["document"]
    assert {"POST": "type: ", "PATCH": "maxTurns: 5 # enough", "DELETE": ""}[method] in document
    assert tree(denied) == {"small.yaml": WRITTEN_BY_HAND}


def test_a_denied_secret_is_named_but_neither_kept_nor_shown(denied: Api) -> None:
    body = {"type": "webhook", "config": {"path": "hit", "secret": "a-secret-value"}}

    refused = denied.post("/api/tasks/small/triggers", body)

    assert refused.status == 409
    assert "OPTIO_SECRET_SMALL__HIT" in refused.json["detail"]
    assert b"a-secret-value" not in refused.body
    assert not list(denied.services.settings.secrets.glob("*"))


def test_a_wrong_change_is_a_fault_also_where_writes_are_denied(denied: Api) -> None:
    assert denied.request("PATCH", "/api/tasks/small", {"maxTurns": 0}).status == 422


def test_a_secret_that_the_environment_overrides_is_refused(
    served: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIO_SECRET_SMALL__HIT", "other")
    api = served(environ={"OPTIO_WRITES": "files"})
    api.post("/api/tasks", SMALL)
    before = tree(api)

    refused = api.post("/api/tasks/small/triggers", {"type": "webhook", "config": {"path": "hit", "secret": "a-secret-value"}})

    assert (refused.status, pointers(refused)) == (422, ["/config/secret"])
    assert tree(api) == before


def test_a_broken_file_must_be_mended_by_hand(files: Api) -> None:
    files.post("/api/tasks", SMALL)
    (files.tasks / "small.yaml").write_text("name: [\n")

    refused = files.request("PATCH", "/api/tasks/small", {"maxTurns": 5})

    assert refused.status == 409
    assert "small.yaml:" in refused.json["detail"]
    assert tree(files) == {"small.yaml": "name: [\n"}


def test_new_files_name_the_schema_that_lies_beside_the_tree(files: Api) -> None:
    schema = files.tasks.parent / "schemas" / "task.schema.json"
    schema.parent.mkdir()
    schema.write_text("{}")

    files.post("/api/tasks", SMALL)

    first = tree(files)["small.yaml"].split("\n")[0]
    assert first == "# yaml-language-server: $schema=../schemas/task.schema.json"
