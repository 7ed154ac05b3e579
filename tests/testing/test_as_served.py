"""What comes of a test is what comes of the same delivery, time or parameters on a real server."""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import DirectoryTree
from optio.model.example import Example
from optio.model.senders import SENDERS
from optio.runs import signature
from optio.testing.trial import try_example
from tests.support import Dev, eventually
from tests.testing.support import OPENED, TRIAGE

KEY, WRONG = ("whsec_" + base64.b64encode(key * 16).decode() for key in (b"01", b"10"))
# With the event where those senders have it who name it in the body.
NAMED = {**OPENED, "type": "issues", "event": {"type": "issues", "event_type": "issues"}}
SCHEMES = {
    "github": "scheme: github",
    "optio": "scheme: optio",
    "standard": "scheme: standard-webhooks",
    "shop": "scheme: hmac\n      signatureHeader: X-Shop\n      signatureEncoding: base64\n      eventHeader: X-Shop-Event",
    "gitea": "scheme: gitea",
    "gitlab": "scheme: gitlab",
    "slack": "scheme: slack",
    "stripe": "scheme: stripe",
    "pagerduty": "scheme: pagerduty",
}
PAYLOADS: dict[str, bytes] = {
    name: data if isinstance(data, bytes) else json.dumps(data).encode()
    for name, data in {
        "opened": NAMED,
        "other": {**OPENED, "type": "push", "event": {"type": "push", "event_type": "push"}},
        "challenge": {"type": "url_verification", "challenge": "c"},
        "unlabelled": {**NAMED, "issue": {"number": 7, "title": "Slow"}},
        "closed": {**NAMED, "action": "closed"},
        "untitled": {**NAMED, "issue": {"number": 7}},
        "wrong type": {**NAMED, "issue": {"number": "7", "title": ["Slow"]}},
        "a half of a character": {**NAMED, "issue": {"number": 7, "title": "\ud800"}},
        "a NUL": {**NAMED, "issue": {"number": 7, "title": "a\0b"}},
        "a list": [],
        "torn": b'{"action": "opened"',
        "NaN": b'{"action": "opened", "issue": {"number": NaN, "title": "x"}}',
        "too deep": b"[" * 100 + b"]" * 100,
        "a mark": b"\xef\xbb\xbf{}",
        "nothing": b"",
    }.items()
}


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    made = Dev(tmp_path_factory.mktemp("served"), environ={"OPTIO_SECRET_HOOK": KEY, "OPTIO_WEBHOOK_RATE_PER_MINUTE": "1000"})
    for name, scheme in SCHEMES.items():
        text = TRIAGE.replace("name: Triage", f"name: {name}")
        text = text.replace("path: triage", f"path: {name}\n      replayWindow: none")
        # No delivery of GitLab has what this filter asks for.
        text = text.replace("      when: \"@.action == 'opened'\"\n", "") if name == "gitlab" else text
        made.write(f"{name}.yaml", text.replace("scheme: github", scheme))
    made.start()
    yield made
    made.stop()


def served(dev: Dev, path: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """Verdict and detail of a delivery, and its run's parameters and prompt."""

    def newest() -> dict[str, Any]:
        return next(iter(dev.get(f"/api/deliveries?path={path}&limit=1").json["items"]), {})

    before = newest().get("id")
    answer = dev.request("POST", f"/api/hooks/{path}", raw=body, headers=headers).json
    # Its sender does not wait until a refusal is kept.
    kept = eventually(lambda: found if (found := newest()).get("id") != before else None, what="the delivery being kept")
    assert kept is not None
    found = {"verdict": kept["verdict"], "detail": kept["detail"], "params": None, "prompt": None}
    if kept["verdict"] == "accepted":
        run = dev.get(f"/api/workflow-runs/{answer['runId']}").json
        found |= {"params": run["params"], "prompt": run["prompt"]}
    return found


@pytest.mark.parametrize("name", SCHEMES)
def test_a_delivery_is_judged_as_on_a_server(dev: Dev, name: str) -> None:
    task = compile_tree(DirectoryTree(dev.tasks)).registry.task(name)
    assert task.spec.webhook is not None
    config = task.spec.webhook.config
    event = signature.event_header(config) or "x-event"
    cases = [
        *((payload, "valid", {event: "issues"}) for payload in PAYLOADS),
        *(("opened", kind, {event: "issues"}) for kind in ("missing", "wrong")),
        *([("opened", "stale", {event: "issues"})] if SENDERS[config.scheme].can_be_stale else []),
        *(("opened", "valid", headers) for headers in ({}, {event: "push"}, {event: "issues", "content-type": "text/xml"})),
    ]
    differ, began = [], time.time()
    for number, (payload, kind, headers) in enumerate(cases):
        # Each has a second of its own: the same body with the same signed time would be a replay.
        body, now = PAYLOADS[payload], began - number - (600 if kind == "stale" else 0)
        secret = KEY if kind != "wrong" else WRONG
        signed = {} if kind == "missing" else signature.sign(config, secret, body, delivery=f"{name}-{number}", now=now)
        there = served(dev, name, body, signed | headers)
        example = Example.of({"webhook": "x", "headers": headers, "signature": kind, "expect": {}})
        got = try_example(task, example, body).judgement
        here = {"verdict": got.verdict, "detail": got.detail, "params": got.params, "prompt": got.prompt}
        if here != there:
            differ.append((payload, kind, headers, here, there))

    assert differ == []


def test_a_compressed_body_is_refused_as_on_a_server(dev: Dev) -> None:
    task = compile_tree(DirectoryTree(dev.tasks)).registry.task("github")
    headers = {"Content-Encoding": "gzip"}

    answer = dev.request("POST", "/api/hooks/github", raw=PAYLOADS["opened"], headers=headers)
    got = try_example(task, Example.of({"webhook": "x", "headers": headers, "expect": {}}), PAYLOADS["opened"]).judgement

    assert (answer.status, answer.json["detail"]) == (415, got.detail)
    assert got.verdict == "unsupported"


@pytest.mark.parametrize("params", [{}, {"NUMBER": 1, "TITLE": "a"}, {"NUMBER": "1", "TITLE": "a" * 31}, {"NUMBER": 1, "X": 2}])
def test_parameters_are_judged_as_on_a_server(dev: Dev, params: dict[str, Any]) -> None:
    task = compile_tree(DirectoryTree(dev.tasks)).registry.task("github")

    answer = dev.post("/api/tasks/github/runs", {"params": params})
    got = try_example(task, Example.of({"params": params, "expect": {}})).judgement

    if answer.status == 202:
        run = dev.get(f"/api/workflow-runs/{answer.json['runId']}").json
        assert (got.verdict, got.params, got.prompt) == ("accepted", run["params"], run["prompt"])
    else:
        reasons = "; ".join(
            f"{each['pointer']} {each['message']}" + (f": {each['hint']}" if "hint" in each else "")
            for each in answer.json["errors"]
        )
        assert (answer.status, got.verdict, got.detail) == (422, "invalid", reasons)
