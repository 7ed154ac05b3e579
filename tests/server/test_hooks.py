"""Webhooks: each step of the way of a delivery, and the order of the steps."""

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from optio.broker.base import Topic
from optio.errors import StoreUnavailable
from optio.limits.strangers import MAX_PER_ADDRESS
from optio.model.trigger import SecretRef, WebhookConfig
from optio.runs import signature
from optio.store.sqlite.sqlite_store import open_store
from optio.store.values import RunFilter
from tests.server.api import Api
from tests.support import Answer, eventually

SECRET = "key of the hook"
HOOK = """\
type: standalone
name: Push
agentRuntime: command
command: "true"
promptTemplate: "Look at {{REPO}} {{SIZE}}"
paramsSchema:
  type: object
  properties:
    REPO: {type: string, maxLength: 20}
    SIZE: {type: integer, default: 1}
  required: [REPO]
triggers:
  - type: webhook
    config:
      path: push
      secret: {name: PUSH}
      previousSecret: {name: PUSH_BEFORE}
      when: "@.action != 'closed'"
      paramMapping: {REPO: $.repository.name, SIZE: $.size}
"""
GOOD = b'{"repository": {"name": "optio"}, "action": "opened"}'


def prepared(api: Api) -> Api:
    """The hook `push`, with its secret."""
    api.services.secrets.put("PUSH", SECRET)
    api.serve_task(HOOK)
    return api


@pytest.fixture
def api(served: Callable[..., Api]) -> Api:
    """Its own server, with room for many requests."""
    return prepared(served(environ={"OPTIO_WEBHOOK_RATE_PER_MINUTE": "1000"}))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all cases that leave nothing behind which another case could see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optio.limits.strangers.MAX_PER_ADDRESS", 10_000)
        made = Api(tmp_path_factory.mktemp("shared"), environ={"OPTIO_WEBHOOK_RATE_PER_MINUTE": "10000"})
    yield prepared(made)
    made.close()


def signed(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def post(api: Api, body: bytes = GOOD, path: str = "push", **headers: str) -> Answer:
    """A delivery that is signed unless the headers say otherwise."""
    given = {"X-Optio-Signature": signed(body), **{name.replace("_", "-"): value for name, value in headers.items()}}
    return api.request("POST", f"/api/hooks/{path}", raw=body, headers=given)


def verdicts(api: Api) -> list[str]:
    return [item["verdict"] for item in api.get("/api/deliveries").json["items"]]


def run_count(api: Api) -> int:
    return len(api.services.store.runs(RunFilter(), limit=200).items)


def newest_run(api: Api) -> str | None:
    return next((run.id for run in api.services.store.runs(RunFilter(), limit=1).items), None)


def test_a_signed_delivery_starts_a_run_with_the_mapped_parameters(api: Api) -> None:
    answer = post(api, b'{"repository": {"name": "optio"}, "size": 7}')

    assert answer.status == 202
    assert answer.json["status"] == "accepted"
    run = api.get(f"/api/workflow-runs/{answer.json['runId']}").json
    assert run["params"] == {"REPO": "optio", "SIZE": 7}
    assert run["prompt"] == "Look at optio 7"
    assert run["trigger"] == "webhook"
    (delivery,) = api.get("/api/deliveries").json["items"]
    assert (delivery["runId"], delivery["verdict"], delivery["status"]) == (run["id"], "accepted", 202)


# The order of the steps: a request that fails at several of them is answered by the first.

STEPS: list[tuple[str, int, dict[str, Any]]] = [
    ("path", 404, {"path": "nowhere"}),
    ("size", 413, {"body": b" " * 5_000}),
    ("signature", 401, {"X_Optio_Signature": "0" * 64}),
    ("rate", 429, {"rate": True}),
    ("known delivery", 202, {"X_Optio_Delivery": "known"}),
    ("content type", 415, {"Content_Type": "text/plain"}),
    ("parse", 400, {"body": b"{"}),
    ("filter", 202, {"body": b'{"action": "closed"}'}),
    ("mapping", 422, {"body": b'{"action": "opened"}'}),
]


@pytest.mark.parametrize("first", range(len(STEPS)))
def test_a_request_that_fails_at_several_steps_is_answered_by_the_first(served: Callable[..., Api], first: int) -> None:
    api = served(environ={"OPTIO_MAX_BODY_BYTES": "4000", "OPTIO_WEBHOOK_RATE_PER_MINUTE": "3"})
    api.services.secrets.put("PUSH", SECRET)
    api.serve_task(HOOK)
    faults: dict[str, Any] = {}
    for _, _, fault in reversed(STEPS[first:]):
        faults |= fault
    if first <= 4:
        # The delivery that the fifth step finds: the same body, sent when it was good.
        known = faults.get("body", GOOD) if first == 4 else GOOD
        api.services.store.record_delivery(_delivery(api, known)).result()
    else:
        faults.pop("X_Optio_Delivery", None)
    for _ in range(3 if faults.pop("rate", False) else 0):
        post(api)

    answer = post(api, **faults)

    name, status, _ = STEPS[first]
    assert answer.status == status, (name, answer.body)
    if name == "known delivery":
        assert answer.json == {"runId": None, "status": "filtered", "duplicate": True}
    if name == "filter":
        assert answer.json == {"runId": None, "status": "filtered"}


def _delivery(api: Api, body: bytes) -> Any:
    from optio.store.values import NewDelivery

    return NewDelivery(
        id="first",
        path="push",
        task_id="push",
        key="known",
        headers={},
        body=body,
        body_sha256=hashlib.sha256(body).hexdigest(),
        verdict="filtered",
        status=202,
    )


# Path


@pytest.mark.parametrize("switch", ["enabled: false\n", "trigger"])
def test_a_hook_that_is_disabled_looks_like_one_that_does_not_exist(api: Api, switch: str) -> None:
    text = (
        HOOK.replace("  - type: webhook\n", "  - type: webhook\n    enabled: false\n") if switch == "trigger" else HOOK + switch
    )
    api.serve_task(text)

    answer, unknown = post(api), post(api, path="nowhere")

    assert answer.status == unknown.status == 404
    assert answer.body.replace(b"push", b"") == unknown.body.replace(b"nowhere", b"")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_post_reaches_a_hook(shared: Api, method: str) -> None:
    answer = shared.request(method, "/api/hooks/push")

    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    assert answer.headers["content-type"] == "application/problem+json"


# Rate


def test_the_sixty_first_request_of_a_minute_is_refused_whoever_it_says_it_is(served: Callable[..., Api]) -> None:
    api = served()
    api.services.secrets.put("PUSH", SECRET)
    api.serve_task(HOOK)
    other = HOOK.replace("name: Push\n", "name: Other\n").replace("path: push", "path: other")
    api.serve_task(other, "other")

    answers = [
        post(api, X_Forwarded_For=f"10.0.0.{number}", Forwarded=f"for=10.0.0.{number}", X_Real_IP=f"10.0.0.{number}")
        for number in range(70)
    ]

    assert [answer.status for answer in answers] == [202] * 60 + [429] * 10
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert post(api, path="other").status == 202


def test_strangers_who_flood_a_path_refuse_no_signed_delivery(served: Callable[..., Api]) -> None:
    api = served()
    api.services.secrets.put("PUSH", SECRET)
    api.serve_task(HOOK)
    strangers, senders = [], []
    for number in range(40):
        strangers += [post(api, X_Optio_Signature="00" * 32).status for _ in range(10)]
        senders.append(post(api, b'{"repository": {"name": "optio"}, "number": %d}' % number).status)

    assert senders == [202] * 40
    assert strangers == [401] * MAX_PER_ADDRESS + [429] * (400 - MAX_PER_ADDRESS)


def test_a_stranger_over_his_limit_is_told_when_to_come_back(served: Callable[..., Api]) -> None:
    api = served()
    api.services.secrets.put("PUSH", SECRET)
    api.serve_task(HOOK)
    for _ in range(MAX_PER_ADDRESS):
        assert post(api, X_Optio_Signature="00" * 32).status == 401

    answer = post(api, X_Optio_Signature="00" * 32)

    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert post(api).status == 202


def test_a_stranger_over_his_limit_who_sends_no_signature_is_refused_before_his_body_is_read(
    served: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = served()
    api.services.secrets.put("PUSH", SECRET)
    api.serve_task(HOOK)
    for _ in range(MAX_PER_ADDRESS):
        assert api.request("POST", "/api/hooks/push", raw=GOOD).status == 401
    monkeypatch.setattr("optio.server.request_body.read_body", None)

    assert api.request("POST", "/api/hooks/push", raw=GOOD).status == 429


def test_anyone_uses_up_the_rate_of_a_hook_that_takes_unsigned_deliveries(served: Callable[..., Api]) -> None:
    api = served(environ={"OPTIO_WEBHOOK_RATE_PER_MINUTE": "3"})
    api.serve_task(PLAIN, "any")

    assert [api.post("/api/hooks/any", {"v": 1}).status for _ in range(5)] == [202] * 3 + [429] * 2


# Size and slowness


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_by_its_length_or_as_soon_as_it_is_too_long(shared: Api, chunked: bool) -> None:
    most = shared.services.settings.max_body_bytes
    body = b" " * (most + 1)
    headers: dict[str, str] = {"X-Optio-Signature": signed(body)}
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    answer = shared.request("POST", "/api/hooks/push", raw=body, headers=headers)

    assert answer.status == 413


def test_a_body_of_exactly_the_limit_is_taken(shared: Api) -> None:
    body = GOOD + b" " * (shared.services.settings.max_body_bytes - len(GOOD))

    assert post(shared, body).status == 202


def test_a_body_that_does_not_come_is_not_waited_for_for_ever(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.server.request_body.BODY_TIMEOUT_S", 0.2)
    with socket.create_connection(("127.0.0.1", api.port), 10) as sock:
        sock.sendall(b"POST /api/hooks/push HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")

        answer = sock.recv(65536)

    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_leaves_in_the_middle_of_its_body_starts_nothing(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", api.port), 10) as sock:
            sock.sendall(b"POST /api/hooks/push HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")

    assert post(api).status == 202
    assert run_count(api) == 1
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_client_that_does_not_wait_for_the_answer_has_its_run_accepted_once(api: Api) -> None:
    head = (
        f"POST /api/hooks/push HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nX-Optio-Delivery: gone\r\n"
        f"X-Optio-Signature: {signed(GOOD)}\r\nContent-Length: {len(GOOD)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", api.port), 10) as sock:
        sock.sendall(head + GOOD)

    eventually(lambda: run_count(api) == 1, what="the run")
    again = post(api, X_Optio_Delivery="gone")

    assert again.json["duplicate"] is True
    assert run_count(api) == 1


# Signature (the schemes have a file of their own)

WRONG: dict[str, list[tuple[str, str | bytes]]] = {
    "none": [],
    "empty": [("X-Optio-Signature", "")],
    "only the prefix": [("X-Optio-Signature", "sha256=")],
    "short": [("X-Optio-Signature", signed(GOOD)[:-1])],
    "short by a byte": [("X-Optio-Signature", signed(GOOD)[:-2])],
    "long": [("X-Optio-Signature", signed(GOOD) + "00")],
    "not hex": [("X-Optio-Signature", "z" * 64)],
    "not ASCII": [("X-Optio-Signature", b"\xff" * 64)],
    "not ASCII, in UTF-8": [("X-Optio-Signature", "é".encode() * 32)],
    "with blanks": [("X-Optio-Signature", signed(GOOD)[:32] + " " + signed(GOOD)[33:])],
    "SHA-1": [("X-Optio-Signature", "sha1=" + hmac.new(SECRET.encode(), GOOD, hashlib.sha1).hexdigest())],
    "named SHA-1": [("X-Optio-Signature", "sha1=" + signed(GOOD))],
    "upper-case prefix": [("X-Optio-Signature", "SHA256=" + signed(GOOD))],
    "prefix twice": [("X-Optio-Signature", "sha256=sha256=" + signed(GOOD))],
    "base64": [("X-Optio-Signature", base64.b64encode(bytes.fromhex(signed(GOOD))).decode())],
    "wrong key": [("X-Optio-Signature", signed(GOOD, "another"))],
    "empty key": [("X-Optio-Signature", signed(GOOD, ""))],
    "a list": [("X-Optio-Signature", f"{signed(GOOD)}, {signed(GOOD)}")],
    "twice": [("X-Optio-Signature", signed(GOOD)), ("X-Optio-Signature", signed(GOOD))],
    "another scheme's header": [("X-Hub-Signature-256", "sha256=" + signed(GOOD))],
    "a plain hash": [("X-Optio-Signature", hashlib.sha256(GOOD).hexdigest())],
    "of other bytes": [("X-Optio-Signature", signed(GOOD + b" "))],
    "as a bearer token": [("Authorization", "Bearer " + signed(GOOD))],
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_a_wrong_signature_is_refused_and_all_look_alike(shared: Api, case: str) -> None:
    before = newest_run(shared)

    answer = shared.request("POST", "/api/hooks/push", raw=GOOD, headers=WRONG[case])
    plain = shared.request("POST", "/api/hooks/push", raw=GOOD)

    assert answer.status == 401
    assert answer.body == plain.body
    assert newest_run(shared) == before


@pytest.mark.parametrize("form", ["{}", "sha256={}"])
@pytest.mark.parametrize("upper", [False, True])
def test_the_signature_is_hex_with_or_without_its_name(shared: Api, form: str, upper: bool) -> None:
    digest = signed(GOOD).upper() if upper else signed(GOOD)

    assert post(shared, X_Optio_Signature=form.format(digest)).status == 202


@pytest.mark.parametrize(
    "body",
    [
        b'{\n  "repository" : {"name":"optio"}\n}\n',
        b'{"repository":{"name":"\\u006fptio"}}',
        b'{"repository":{"name":"optio"},"n":1e2,"n":1.0}',
        json.dumps({"repository": {"name": "öptio"}}, ensure_ascii=False).encode(),
    ],
)
def test_what_is_signed_are_the_bytes_as_they_came(shared: Api, body: bytes) -> None:
    assert post(shared, body).status == 202
    assert post(shared, body + b" ", X_Optio_Signature=signed(body)).status == 401


def test_after_a_rotation_both_secrets_hold_until_the_old_one_is_removed(api: Api) -> None:
    api.services.secrets.put("PUSH_BEFORE", SECRET)
    api.services.secrets.put("PUSH", "a new secret")

    assert post(api, X_Optio_Signature=signed(GOOD, "a new secret")).status == 202
    assert post(api, X_Optio_Signature=signed(GOOD, SECRET)).status == 202

    api.serve_task(HOOK.replace("      previousSecret: {name: PUSH_BEFORE}\n", ""))
    assert post(api, X_Optio_Signature=signed(GOOD, "a new secret")).status == 202
    assert post(api, X_Optio_Signature=signed(GOOD, SECRET)).status == 401


@pytest.mark.parametrize("value", [None, ""])
def test_a_secret_without_a_value_lets_nobody_in(served: Callable[..., Api], value: str | None) -> None:
    api = served()
    if value is not None:
        api.services.secrets.put("PUSH", value)
    api.serve_task(HOOK)

    assert post(api, X_Optio_Signature=signed(GOOD, "")).status == 401


# Known deliveries


def test_a_delivery_that_comes_again_gets_the_first_answer(api: Api) -> None:
    first = post(api, X_Optio_Delivery="d1")

    again = post(api, X_Optio_Delivery="d1")

    assert again.status == 202
    assert again.json == {**first.json, "duplicate": True}
    assert run_count(api) == 1


def test_a_filtered_delivery_that_comes_again_stays_filtered(api: Api) -> None:
    body = b'{"action": "closed"}'
    first = post(api, body, X_Optio_Delivery="d1")

    again = post(api, body, X_Optio_Delivery="d1")

    assert first.json == {"runId": None, "status": "filtered"}
    assert again.json == {"runId": None, "status": "filtered", "duplicate": True}


@pytest.mark.parametrize("other", [b'{"repository": {"name": "other"}}', b'{"action": "closed"}', b"{", b"{}"])
def test_the_same_id_with_another_body_is_a_conflict(api: Api, other: bytes) -> None:
    post(api, X_Optio_Delivery="d1")

    answer = post(api, other, X_Optio_Delivery="d1")

    assert answer.status == 409
    assert run_count(api) == 1
    eventually(lambda: verdicts(api) == ["conflict", "accepted"], what="the conflict being kept")


@pytest.mark.parametrize("now", ["closed to all", "other parameters", "other filter"])
def test_a_known_delivery_keeps_its_answer_when_the_task_has_changed(api: Api, now: str) -> None:
    first = post(api, X_Optio_Delivery="d1")
    changed = {
        "closed to all": HOOK.replace("'closed'", "'opened'"),
        "other parameters": HOOK.replace("maxLength: 20", "maxLength: 2"),
        "other filter": HOOK.replace("@.action", "@.other"),
    }[now]
    api.serve_task(changed)

    again = post(api, X_Optio_Delivery="d1")

    assert again.status == 202
    assert again.json == {**first.json, "duplicate": True}


def test_fifty_at_once_with_one_id_make_one_run(api: Api) -> None:
    barrier = threading.Barrier(50)

    def send() -> Answer:
        barrier.wait()
        return post(api, X_Optio_Delivery="same")

    with ThreadPoolExecutor(50) as pool:
        answers = [future.result() for future in [pool.submit(send) for _ in range(50)]]

    assert {answer.status for answer in answers} == {202}
    assert len({answer.json["runId"] for answer in answers}) == 1
    assert sum("duplicate" not in answer.json for answer in answers) == 1
    assert run_count(api) == 1


def test_two_tasks_may_receive_the_same_id(api: Api) -> None:
    other = HOOK.replace("name: Push\n", "name: Other\n").replace("path: push", "path: other")
    api.serve_task(other, "other")

    answers = [post(api, path=path, X_Optio_Delivery="d1") for path in ("push", "other")]

    assert [answer.status for answer in answers] == [202, 202]
    assert run_count(api) == 2


@pytest.mark.parametrize("headers", [{}, {"X_Optio_Delivery": ""}])
def test_without_an_id_every_body_starts_a_run(api: Api, headers: dict[str, str]) -> None:
    answers = [post(api, body, **headers) for body in numbered(2)]

    assert all("duplicate" not in answer.json for answer in answers)
    assert run_count(api) == 2


def test_an_idempotency_key_names_a_delivery_too(api: Api) -> None:
    first = post(api, Idempotency_Key="k")

    assert post(api, Idempotency_Key="k").json == {**first.json, "duplicate": True}


def test_ids_that_are_very_long_are_told_apart(api: Api) -> None:
    ids = ["x" * 5_000 + end for end in "ab"]

    one, other = numbered(2)
    answers = [post(api, body, X_Optio_Delivery=each) for body, each in ((one, ids[0]), (other, ids[1]), (one, ids[0]))]

    assert len({answer.json["runId"] for answer in answers}) == 2


def test_two_ids_in_one_request_are_refused(shared: Api) -> None:
    headers = [("X-Optio-Signature", signed(GOOD)), ("X-Optio-Delivery", "a"), ("X-Optio-Delivery", "b")]

    answer = shared.request("POST", "/api/hooks/push", raw=GOOD, headers=headers)

    assert answer.status == 400


# Content type and encoding


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/xml",
        "text/plain",
        "application/yaml",
        "application/msgpack",
        "application/jsonx",
        "",
    ],
)
def test_what_says_that_it_is_no_json_is_not_read(shared: Api, kind: str) -> None:
    assert post(shared, Content_Type=kind).status == 415


@pytest.mark.parametrize(
    "kind",
    ["application/json", "Application/JSON; charset=utf-8", "application/vnd.github+json", "application/cloudevents+json"],
)
def test_json_may_have_any_of_its_names(shared: Api, kind: str) -> None:
    assert post(shared, Content_Type=kind).status == 202


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip", "identity, gzip", "zstd"])
def test_an_encoded_body_is_refused_without_being_unpacked(shared: Api, encoding: str) -> None:
    assert post(shared, Content_Encoding=encoding).status == 415


# JSON

TRAPS: dict[str, bytes] = {
    "empty": b"",
    "blank": b"  ",
    "cut off": GOOD[:-1],
    "two documents": GOOD + GOOD,
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "65 levels": b'{"repository": {"name": "optio"}, "x":' + b"[" * 70 + b"]" * 70 + b"}",
    "NaN": b'{"repository": {"name": "optio"}, "x": NaN}',
    "Infinity": b'{"repository": {"name": "optio"}, "x": -Infinity}',
    "1e999": b'{"repository": {"name": "optio"}, "x": 1e999}',
    "a number of a million digits": b'{"x": ' + b"1" * 1_000_000 + b"}",
    "lone surrogate": b'{"repository": {"name": "\\ud800"}}',
    "bad UTF-8": b'{"repository": {"name": "\xff"}}',
    "BOM": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "raw control character": b'{"repository": {"name": "a\nb"}}',
    "trailing comma": b'{"repository": {"name": "optio"},}',
    "comment": b'{"repository": {"name": "optio"} /* no */}',
    "single quotes": b"{'a': 1}",
}


@pytest.mark.parametrize("trap", sorted(TRAPS))
def test_what_is_no_strict_json_is_answered_by_400(shared: Api, trap: str) -> None:
    answer = post(shared, TRAPS[trap])

    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == 400


def test_of_a_doubled_key_the_last_value_counts(shared: Api) -> None:
    answer = post(shared, b'{"repository": {"name": "first"}, "repository": {"name": "last"}}')

    assert shared.get(f"/api/workflow-runs/{answer.json['runId']}").json["params"]["REPO"] == "last"


def test_a_large_integer_keeps_every_digit(shared: Api) -> None:
    answer = post(shared, b'{"repository": {"name": "optio"}, "size": 123456789012345678901234567890}')

    assert shared.get(f"/api/workflow-runs/{answer.json['runId']}").json["params"]["SIZE"] == 123456789012345678901234567890


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"text"', b"[[[]]]"])
def test_json_that_is_no_object_has_none_of_the_parameters(shared: Api, body: bytes) -> None:
    answer = post(shared, body)

    assert answer.status == 422
    assert [error["pointer"] for error in answer.json["errors"]] == ["/params/REPO"]


# Mapping and schema


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        (b"{}", ["/params/REPO"]),
        (b'{"repository": {"name": 1}, "size": "x"}', ["/params/REPO", "/params/SIZE"]),
        (b'{"repository": {"name": null}}', ["/params/REPO"]),
        (b'{"repository": {"name": {"a": 1}}}', ["/params/REPO"]),
        (b'{"repository": {"name": ["a"]}}', ["/params/REPO"]),
        (b'{"repository": {"name": "' + b"x" * 900_000 + b'"}}', ["/params/REPO"]),
        (b'{"repository": {"name": "a\\u0000b"}}', ["/params/REPO"]),
    ],
)
def test_each_parameter_that_does_not_fit_has_an_entry_with_its_pointer(api: Api, body: bytes, pointers: list[str]) -> None:
    answer = post(api, body)

    assert answer.status == 422
    assert sorted(error["pointer"] for error in answer.json["errors"]) == pointers
    assert run_count(api) == 0
    eventually(lambda: verdicts(api) == ["invalid"], what="the rejection being kept")


PLAIN = """\
type: standalone
name: Any
agentRuntime: command
command: "true"
promptTemplate: "<{{V}}>"
triggers:
  - type: webhook
    config: {path: any, unsigned: true, paramMapping: {V: $.v}}
"""


@pytest.mark.parametrize(
    ("body", "prompt"),
    [
        ({"v": "text"}, "<text>"),
        ({"v": ""}, "<>"),
        ({"v": 3}, "<3>"),
        ({"v": 1.5}, "<1.5>"),
        ({"v": True}, "<true>"),
        ({"v": None}, "<null>"),
        ({"v": {"a": [1, "ü"]}}, '<{"a":[1,"ü"]}>'),
        ({"v": ["a", None]}, '<["a",null]>'),
        ({}, "<{{V}}>"),
        ({"v": "$(id) `id` ; id\n'\"--flag ${X} {{V}} %s {{OTHER}}"}, "<$(id) `id` ; id\n'\"--flag ${X} {{V}} %s {{OTHER}}>"),
    ],
)
def test_a_mapped_value_stands_in_the_prompt_as_itself_or_as_its_json(shared: Api, body: Any, prompt: str) -> None:
    shared.serve_task(PLAIN, "any")

    answer = shared.post("/api/hooks/any", body)

    assert (
        shared.get(f"/api/workflow-runs/{answer.json['runId']}").json["prompt"].replace(": ", ":").replace(", ", ",") == prompt
    )


UNIQUE = PLAIN + "paramsSchema: {type: object, properties: {V: {type: array, uniqueItems: true}}}\n"
PATTERN = PLAIN + 'paramsSchema: {type: object, properties: {V: {type: string, pattern: "^(a+)+$"}}}\n'


@pytest.mark.parametrize(
    ("task", "value"),
    [(UNIQUE, [{"a": n, "b": [n]} for n in range(5_000)]), (PATTERN, "a" * 900_000 + "!")],
    ids=["unique", "re"],
)
def test_a_payload_that_is_made_to_be_slow_keeps_nobody_waiting(api: Api, task: str, value: Any) -> None:
    api.serve_task(task, "any")
    slowest = [0.0]
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            begun = time.monotonic()
            api.get("/healthz")
            slowest[0] = max(slowest[0], time.monotonic() - begun)

    looking = threading.Thread(target=look)
    looking.start()
    answer = api.post("/api/hooks/any", {"v": value})
    done.set()
    looking.join()

    assert answer.status in (202, 422)
    # A stall would last many seconds; this is no measure of speed.
    assert slowest[0] < 5


# Replays: what was captured on the way is sent again under another delivery id


def numbered(count: int) -> list[bytes]:
    """Bodies that a sender makes, each with something of its own."""
    return [b'{"repository": {"name": "optio"}, "number": %d}' % number for number in range(count)]


SIGNED_BY = {
    "optio": ("X-Optio-Signature", "X-Optio-Delivery", "scheme: optio"),
    "github": ("X-Hub-Signature-256", "X-GitHub-Delivery", "scheme: github"),
    "hmac": ("X-Signature", "X-Number", "scheme: hmac, deliveryHeader: X-Number"),
}


@pytest.mark.parametrize("scheme", SIGNED_BY)
def test_captured_deliveries_that_are_sent_again_under_new_ids_start_no_run(api: Api, scheme: str) -> None:
    signature, number, config = SIGNED_BY[scheme]
    hook = "{path: any, secret: {name: PUSH}, paramMapping: {V: $.number}, " + config + "}"
    api.serve_task(PLAIN.replace("{path: any, unsigned: true, paramMapping: {V: $.v}}", hook), "any")

    def send(body: bytes, **more: str) -> Answer:
        headers = {signature: "sha256=" + signed(body), **{name.replace("_", "-"): value for name, value in more.items()}}
        return api.request("POST", "/api/hooks/any", raw=body, headers=headers)

    first = [send(body, **{number: f"d-{place}"}).json["runId"] for place, body in enumerate(numbered(20))]
    captured = [send(body, **{number: f"forged-{place}"}) for place, body in enumerate(numbered(20))]
    unnumbered = [send(body) for body in numbered(20)]
    prefix = "sha256=" if scheme == "github" else ""
    spelled = [send(body, **{signature: prefix + signed(body).upper()}) for body in numbered(20)]

    assert len(set(first)) == 20
    for answers in (captured, unnumbered, spelled):
        assert [(answer.status, answer.json["runId"], answer.json["duplicate"]) for answer in answers] == [
            (202, run_id, True) for run_id in first
        ]
        assert "replayWindow" in answers[0].json["reason"]
    assert run_count(api) == 20
    assert len(api.get("/api/deliveries?limit=200").json["items"]) == 20


def test_a_signed_time_does_not_let_a_captured_delivery_start_a_run_under_another_id(api: Api) -> None:
    hook = "{path: any, secret: {name: PUSH}, paramMapping: {}, replayWindow: none}"
    api.serve_task(PLAIN.replace("{path: any, unsigned: true, paramMapping: {V: $.v}}", hook), "any")
    now = int(time.time())

    def send(stamp: int, number: str) -> Answer:
        headers = {
            "X-Optio-Signature": signed(f"{stamp}.".encode() + b"{}"),
            "X-Optio-Timestamp": str(stamp),
            "X-Optio-Delivery": number,
        }
        return api.request("POST", "/api/hooks/any", raw=b"{}", headers=headers)

    first, captured, later = send(now, "a"), send(now, "b"), send(now + 1, "c")

    assert [answer.status for answer in (first, captured, later)] == [202, 202, 202]
    assert (captured.json["runId"], captured.json["duplicate"]) == (first.json["runId"], True)
    assert "sign each delivery with its own time" in captured.json["reason"]
    assert later.json["runId"] != first.json["runId"]
    assert run_count(api) == 2


def test_a_sender_with_two_ways_of_signing_is_verified_also_while_strangers_flood_from_its_address(api: Api) -> None:
    secret = "whsec_" + base64.b64encode(b"k" * 24).decode()
    api.services.secrets.put("PUSH", secret)
    hook = "{path: any, secret: {name: PUSH}, scheme: gitlab, paramMapping: {}}"
    api.serve_task(PLAIN.replace("{path: any, unsigned: true, paramMapping: {V: $.v}}", hook), "any")
    for _ in range(70):
        flooded = api.request("POST", "/api/hooks/any", raw=b"{}")
    config = WebhookConfig(path="any", secret=SecretRef(name="PUSH"), scheme="gitlab")
    headers = signature.sign(config, secret, b"{}", delivery="d", now=time.time())

    answer = api.request("POST", "/api/hooks/any", raw=b"{}", headers=headers)

    assert flooded.status == 429
    assert answer.status == 202, answer.body


def test_a_captured_delivery_whose_event_header_is_another_starts_no_run(api: Api) -> None:
    hook = "{path: any, secret: {name: PUSH}, scheme: github, events: [push], paramMapping: {V: $.repository.name}}"
    api.serve_task(PLAIN.replace("{path: any, unsigned: true, paramMapping: {V: $.v}}", hook), "any")
    (body,) = numbered(1)
    ping, forged = (
        api.request(
            "POST",
            "/api/hooks/any",
            raw=body,
            headers={"X-Hub-Signature-256": "sha256=" + signed(body), "X-GitHub-Delivery": event, "X-GitHub-Event": event},
        )
        for event in ("ping", "push")
    )

    assert ping.json == {"runId": None, "status": "filtered"}
    assert (forged.json["runId"], forged.json["status"], forged.json["duplicate"]) == (None, "filtered", True)
    assert run_count(api) == 0


def test_with_replay_window_none_a_sender_with_a_constant_body_starts_a_run_each_time(api: Api) -> None:
    api.serve_task(HOOK.replace("      path: push\n", "      path: push\n      replayWindow: none\n"))

    answers = [post(api) for _ in range(3)] + [post(api, X_Optio_Delivery=each) for each in "ab"]

    assert [answer.json["status"] for answer in answers] == ["accepted"] * 5
    assert run_count(api) == 5


def test_after_its_window_a_constant_body_starts_a_run_again(api: Api) -> None:
    api.serve_task(HOOK.replace("      path: push\n", "      path: push\n      replayWindow: 1s\n"))
    first, again = post(api), post(api)
    time.sleep(1.1)

    later = post(api)

    assert "less than 1s ago" in again.json["reason"]
    assert again.json["runId"] == first.json["runId"]
    assert later.json["status"] == "accepted"
    assert later.json["runId"] != first.json["runId"]


@pytest.mark.parametrize("scheme", ["standard-webhooks", "unsigned"])
def test_where_the_signature_covers_the_id_or_there_is_none_the_same_body_starts_a_run_each_time(api: Api, scheme: str) -> None:
    secret = base64.b64encode(b"k" * 32).decode()
    api.services.secrets.put("STANDARD", secret)
    config = {"standard-webhooks": "secret: {name: STANDARD}, scheme: standard-webhooks", "unsigned": "unsigned: true"}
    hook = "{path: any, paramMapping: {V: $.number}, " + config[scheme] + "}"
    api.serve_task(PLAIN.replace("{path: any, unsigned: true, paramMapping: {V: $.v}}", hook), "any")

    def send(name: str) -> Answer:
        stamp = str(int(time.time()))
        mac = hmac.new(b"k" * 32, f"{name}.{stamp}.{{}}".encode(), hashlib.sha256).digest()
        headers = {
            "webhook-id": name,
            "webhook-timestamp": stamp,
            "webhook-signature": "v1," + base64.b64encode(mac).decode(),
            "idempotency-key": name,
        }
        return api.request("POST", "/api/hooks/any", raw=b"{}", headers=headers)

    assert [send(name).json["status"] for name in "abc"] == ["accepted"] * 3
    assert run_count(api) == 3


# What is kept


def test_no_credential_of_a_sender_is_kept(api: Api) -> None:
    tell_tale = "tell-tale-value"
    names = ["Authorization", "Cookie", "Proxy-Authorization", "X-Gitlab-Token", "X-Api-Key", "X-Auth", "X-Client-Secret"]

    post(api, X_Optio_Delivery="d1", User_Agent="sender/1", **{name.replace("-", "_"): tell_tale for name in names})

    (listed,) = api.get("/api/deliveries").json["items"]
    whole = api.get(f"/api/deliveries/{listed['id']}")
    assert listed["headers"]["user-agent"] == "sender/1"
    assert listed["headers"]["x-optio-signature"] == "***"
    assert tell_tale not in whole.body.decode()
    assert signed(GOOD) not in whole.body.decode()
    assert tell_tale.encode() not in (api.services.settings.data_dir / "optio.db-wal").read_bytes()


def test_the_header_that_a_task_names_for_its_signature_is_not_kept(api: Api) -> None:
    config = "{path: any, secret: {name: PUSH}, scheme: hmac, signatureHeader: X-Odd}"
    api.serve_task(PLAIN.replace("{path: any, unsigned: true, paramMapping: {V: $.v}}", config), "any")

    api.request("POST", "/api/hooks/any", raw=GOOD, headers={"X-Odd": signed(GOOD)})

    (listed,) = api.get("/api/deliveries").json["items"]
    assert listed["headers"]["x-odd"] == "***"


def test_rejections_are_kept_with_their_verdict_and_the_body_only_of_who_proved_himself(api: Api) -> None:
    post(api, X_Optio_Signature="0" * 64)
    post(api, b"{")
    post(api, Content_Type="text/plain")
    post(api, b"{}")

    items = eventually(lambda: (found := api.get("/api/deliveries").json["items"]) and len(found) == 4 and found)
    kept = {item["verdict"]: (item["status"], api.get(f"/api/deliveries/{item['id']}").json["body"]) for item in items}

    assert kept == {
        "unsigned": (401, None),
        "unreadable": (400, "{"),
        "unsupported": (415, GOOD.decode()),
        "invalid": (422, "{}"),
    }


def test_what_a_stranger_sends_to_an_unsigned_hook_is_kept_only_when_it_starts_a_run(api: Api) -> None:
    api.serve_task(PLAIN + "paramsSchema: {type: object, properties: {V: {type: integer}}, required: [V]}\n", "any")
    api.post("/api/hooks/any", {"v": 1})
    api.post("/api/hooks/any", {"w": 1})

    items = eventually(lambda: (found := api.get("/api/deliveries").json["items"]) and len(found) == 2 and found)
    kept = {item["verdict"]: api.get(f"/api/deliveries/{item['id']}").json["body"] for item in items}

    assert kept == {"accepted": '{"v": 1}', "invalid": None}


def test_repeats_and_replays_are_counted_at_the_delivery_that_came_first(api: Api) -> None:
    for name in ("d1", "d1", "d1", "forged"):
        post(api, X_Optio_Delivery=name)
    post(api, b"{", X_Optio_Delivery="d2")
    other = numbered(1)[0]
    post(api, other, X_Optio_Delivery="d3")

    items = eventually(lambda: (found := api.get("/api/deliveries").json["items"]) and len(found) == 3 and found)

    counted = {item["key"]: (item["repeats"], item["replays"]) for item in items}
    assert counted == {"d1": (2, 1), "d2": (0, 0), "d3": (0, 0)}
    assert api.get(f"/api/deliveries/{items[-1]['id']}").json["repeats"] == 2


def test_a_repeat_that_the_task_would_refuse_by_now_is_counted_too(api: Api) -> None:
    post(api, X_Optio_Delivery="d1")
    api.serve_task(HOOK.replace("    REPO: {type: string, maxLength: 20}", "    REPO: {type: integer}"))

    assert post(api, X_Optio_Delivery="d1").json["duplicate"] is True

    eventually(lambda: api.get("/api/deliveries").json["items"][0]["repeats"] == 1, what="the count")


def test_requests_beyond_the_rate_are_counted_by_path_and_not_one_by_one(
    served: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio.server.refusals.FLUSH_S", 0.1)
    api = prepared(served(environ={"OPTIO_WEBHOOK_RATE_PER_MINUTE": "5"}))
    for body in numbered(20):
        post(api, body)
    for _ in range(MAX_PER_ADDRESS + 30):
        post(api, X_Optio_Signature="00" * 32)

    def refused() -> dict[str, int]:
        page = api.get("/api/deliveries?limit=200").json
        assert len(page["items"]) <= 5 + 10
        return {each["verdict"]: each["requests"] for each in page["refused"] if each["path"] == each["taskId"] == "push"}

    # Ten of a stranger's requests have a row of their own.
    eventually(lambda: refused() == {"rate": 15, "unsigned": MAX_PER_ADDRESS - 10, "unsigned_rate": 30}, what="the counts")
    assert api.get("/api/deliveries?verdict=rate").json["refused"][0]["requests"] == 15
    assert api.get("/api/deliveries?path=other").json["refused"] == []
    assert api.get("/api/deliveries?until=2020-01-01T00:00:00Z").json["refused"] == []


def test_refusals_are_counted_when_the_server_stops(tmp_path: Path) -> None:
    api = prepared(Api(tmp_path, environ={"OPTIO_WEBHOOK_RATE_PER_MINUTE": "1"}))
    for body in numbered(4):
        post(api, body)

    api.close()

    with closing(open_store(tmp_path / "data" / "optio.db")) as store:
        (counted,) = store.refusals(since=datetime(2020, 1, 1, tzinfo=UTC))
    assert (counted.verdict, counted.requests) == ("rate", 3)


def test_refusals_are_counted_later_when_the_store_is_away(served: Callable[..., Api], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.server.refusals.FLUSH_S", 0.1)
    api = prepared(served(environ={"OPTIO_WEBHOOK_RATE_PER_MINUTE": "1"}))
    store, tries = api.services.store, []
    count = store.count_refusals

    def away(counts: Any) -> Any:
        tries.append(counts)
        if len(tries) > 2:
            return count(counts)
        failed: Future[None] = Future()
        failed.set_exception(StoreUnavailable("away"))
        return failed

    monkeypatch.setattr(store, "count_refusals", away)
    for body in numbered(4):
        post(api, body)

    eventually(lambda: [each["requests"] for each in api.get("/api/deliveries").json["refused"]] == [3], what="the count")


def test_the_workers_are_told_of_new_runs_and_of_nothing_else(api: Api) -> None:
    told: list[Topic] = []
    unsubscribe = api.services.broker.subscribe(lambda topic, key: told.append(topic), Topic)

    post(api, b'{"action": "closed"}')
    post(api, b"{")
    assert told == []
    post(api, X_Optio_Delivery="d1")
    eventually(lambda: told == [Topic.START], what="the hint")
    post(api, X_Optio_Delivery="d1")
    unsubscribe()

    assert told == [Topic.START]


def test_a_flood_of_strangers_does_not_fill_the_disk(api: Api) -> None:
    for _ in range(100):
        assert post(api, X_Optio_Signature="0" * 64).status in (401, 429)

    time.sleep(0.1)

    # The flood may stand across the turn of a minute.
    assert len(verdicts(api)) <= 20


# Faults


def test_when_the_store_is_away_nothing_is_accepted(api: Api) -> None:
    api.services.store.close()

    answer = post(api)

    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"] == "application/problem+json"
