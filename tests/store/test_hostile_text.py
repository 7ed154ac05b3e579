"""NUL, halves of surrogate pairs and bytes that are no text, in everything that reaches a database: no run fails, no 500."""

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.errors import Invalid
from optio.model.run import LogKind, RunState
from tests.runs.support import accept, execution, log_of, opened
from tests.server.api import Api
from tests.servers import PostgresServer
from tests.support import command_task

TASK = """\
type: standalone
name: Job
agentRuntime: command
command: "true"
promptTemplate: "hello {{A}}"
triggers:
  - type: webhook
    config: {path: push, unsigned: true, when: "@.action != 'closed'"}
"""


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def environ(request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings of a database, of each kind."""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        return {"OPTIO_DATABASE_URL": server.schema()}
    return {}


@pytest.fixture(scope="module")
def api(environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that serves the task `job`."""
    made = Api(tmp_path_factory.mktemp("api"), environ=environ)
    made.serve_task(TASK)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_bug_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


# The server

ODD = ["%00", "a%00b", "%ED%A0%80", "%FF%FE", "%F0%9F%92%A9", "..%2F..", "%0d%0aX:1"]
GET = [
    "/api/tasks/{}", "/api/tasks/{}/runs", "/api/tasks/{}/triggers", "/api/workflow-runs/{}", "/api/workflow-runs/{}/logs",
    "/api/deliveries/{}",
]  # fmt: skip
POST = ["/api/tasks/{}/runs", "/api/workflow-runs/{}/cancel", "/api/workflow-runs/{}/retry", "/api/hooks/{}"]


@pytest.mark.parametrize("odd", ODD)
def test_an_address_of_odd_characters_is_not_found(api: Api, odd: str) -> None:
    for path in GET:
        assert api.get(path.format(odd)).status == 404, path
    for path in POST:
        assert api.request("POST", path.format(odd), {}, headers={"Idempotency-Key": "k"}).status == 404, path
    for query in ("runs?task={}", "deliveries?task={}"):
        answer = api.get("/api/" + query.format(odd))
        assert (answer.status, answer.json["items"]) == (200, []), query
    for query in ("runs?cursor={}", "deliveries?cursor={}"):
        assert api.get("/api/" + query.format(odd)).status == 422, query


# As JSON text: what `json.dumps` would not write.
PARAMS = [
    r'{"A": "\u0000"}',
    r'{"A": "\ud800"}',
    r'{"A": ["\udfff"]}',
    r'{"\u0000": 1}',
    r'{"\ud800": 1}',
    '{"A": {"\\u0000b": 1}}',
]


@pytest.mark.parametrize("params", PARAMS)
def test_a_parameter_that_no_agent_can_be_given_is_refused(api: Api, params: str) -> None:
    by_hand = api.request("POST", "/api/tasks/job/runs", raw=b'{"params": %s}' % params.encode())
    by_hook = api.request("POST", "/api/hooks/push", raw=params.encode(), headers={"Content-Type": "application/json"})

    for answer in (by_hand, by_hook):
        assert answer.status in (400, 422)
        assert answer.json["detail"]


@pytest.mark.parametrize("body", [b"\x00", b"\xff\xfe", b'{"a": "\xed\xa0\x80"}', b'{"a": \x00}', b'"\\ud800"', b""])
def test_a_body_that_is_no_json_object_is_refused_and_kept(api: Api, body: bytes) -> None:
    for path in ("/api/hooks/push", "/api/tasks/job/runs"):
        answer = api.request("POST", path, raw=body, headers={"Content-Type": "application/json"})
        assert answer.status in ((400, 422) if body or "hooks" in path else (202,)), (path, answer.body)


@pytest.mark.parametrize("value", ["\x80\x9f\xff", "ü" * 300, "'; DROP TABLE runs --"])
def test_headers_of_odd_bytes_are_kept_and_repeat(api: Api, value: str) -> None:
    raw = value.encode("latin-1")
    headers = [("Idempotency-Key", raw), ("X-Odd", raw), ("traceparent", raw), ("User-Agent", raw)]

    for path in ("/api/hooks/push", "/api/tasks/job/runs"):
        answers = [api.request("POST", path, {}, headers=headers) for _ in range(2)]
        assert {answer.status for answer in answers} <= {200, 202, 422}, answers
        if answers[0].status != 422:
            first, second = (answer.json["runId"] for answer in answers)
            assert first == second
            assert api.get(f"/api/workflow-runs/{first}").status == 200
    listed = api.get("/api/deliveries?limit=3")
    assert listed.status == 200
    assert api.get(f"/api/deliveries/{listed.json['items'][0]['id']}").status == 200


def test_a_filtered_delivery_of_odd_text_is_kept(api: Api) -> None:
    raw = rb'{"action": "closed", "a\u0000": "\u0000"}'

    answer = api.request("POST", "/api/hooks/push", raw=raw, headers={"Content-Type": "application/json", "X-Odd": "\xff"})

    assert (answer.status, answer.json["status"]) == (202, "filtered")
    kept = api.get("/api/deliveries?limit=1").json["items"][0]
    assert kept["verdict"] == "filtered"
    assert api.get(f"/api/deliveries/{kept['id']}").status == 200


def test_a_label_of_odd_text_is_refused_or_kept(api: Api) -> None:
    store = api.services.store
    for number, label in enumerate(("a\0b", "\udfff")):
        with suppress(Invalid):
            store.add_token(f"tok-{number}", f"sha-{number}", "viewer", label, None)
    assert api.get("/api/runs").status == 200
    assert len(store.tokens()) <= 2


@pytest.mark.parametrize("text", [r'"a\0b"', r'"a\x00b"', r'"\uD800"', r'"\uDFFF b"'])
@pytest.mark.parametrize("key", ["name", "promptTemplate", "description"])
def test_a_task_file_of_odd_text_is_refused_or_its_runs_are_accepted(
    environ: dict[str, str], tmp_path: Path, key: str, text: str
) -> None:
    lines = {
        "type": "standalone",
        "name": "Odd",
        "id": "odd",
        "agentRuntime": "command",
        "command": '"true"',
        "promptTemplate": "x",
    }
    source = "".join(f"{name}: {value}\n" for name, value in {**lines, key: text}.items())
    compilation = compile_tree(MemoryTree({"odd.yaml": source}))
    if not compilation.ok:
        return
    (task,) = compilation.registry.tasks.values()
    with opened(tmp_path, environ) as services:
        services.store.activate(compilation.registry, None)
        execution(services, accept(services, task))()


# Agents

REPORT = r"""
import os, sys
out = sys.stdout.buffer
out.write(b"before \x00 after\n\xff\xfe\xed\xa0\x80 no text\n\x00\x00\n"); out.flush()
sys.stderr.buffer.write(b"\x00\xff\n"); sys.stderr.flush()
with open(os.environ["OPTIO_RESULT_FILE"], "w") as file:
    file.write(@RESULT@)
sys.exit(@CODE@)
"""


def job(name: str, code: int) -> Any:
    source = REPORT.replace("@RESULT@", repr(RESULTS[name])).replace("@CODE@", str(code))
    return command_task(["python3", "-c", source], f"Job {name} {code}")


RESULTS = {
    "nothing": "",
    "text": r'{"type": "result", "status": "ok", "text": "a\u0000b\ud800c\udfff"}' + "\n",
    "output": r'{"type": "result", "status": "ok", "output": {"a\u0000": ["\ud800", {"\udfff": "\u0000"}], "b": 1e999}}' + "\n",
    "usage": r'{"type": "usage", "model": "m\u0000\ud800", "input": 99999999999, "output": 1, "costUsd": "0.01"}' + "\n",
    "reason": r'{"type": "result", "status": "error", "reason": "a\u0000b", "text": "\u0000\ud800", "message": "\u0000"}'
    + "\n",
    "bytes": "\x00\ufffd{\x00}\n\x00",
}


@pytest.mark.parametrize(("name", "code"), [*((name, 0) for name in RESULTS), ("nothing", 3), ("text", 3)])
def test_an_agent_may_say_anything(environ: dict[str, str], tmp_path: Path, name: str, code: int) -> None:
    with opened(tmp_path, environ) as services:
        run_id = accept(services, job(name, code))
        execution(services, run_id)()
        run = services.store.run(run_id)

        if code == 0 and name != "reason":
            assert (run.state, run.reason) == (RunState.COMPLETED, "ok")
        else:
            # Again, by the task's retries; never for what it said.
            assert run.state is RunState.QUEUED
            assert run.infrastructure_retries == 0
        said = log_of(services, run_id, LogKind.OUTPUT)
        assert said[:3] == [b"before \x00 after", b"\xff\xfe\xed\xa0\x80 no text", b"\x00\x00"]
        for text in (run.text, run.message, json.dumps(run.output)):
            assert "\0" not in (text or "")
            (text or "").encode()
        services.store.cancel(run_id, "end") if run.state is RunState.QUEUED else None
