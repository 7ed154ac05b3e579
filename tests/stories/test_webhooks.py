"""Webhooks."""

import hashlib
import hmac
import json
from pathlib import Path

import pytest

from tests.stories.conftest import SECRET, SIGNED, waiting_task
from tests.support import SEED, Answer, Dev, eventually

PAYLOAD = json.dumps({"repository": {"name": "storefront", "id": 7}}).encode()


def signature(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def send(optio: Dev, path: str, body: bytes = PAYLOAD, **headers: str) -> Answer:
    return optio.request("POST", f"/api/hooks/{path}", raw=body, headers=headers)


def test_a_webhook_trigger_is_created_by_the_documents_body_and_called(optio: Dev) -> None:
    optio.post("/api/tasks", {**SEED, "name": "Security Scan"})
    config = {"path": "security-scan", "secret": "whsec_from-the-body", "paramMapping": {"REPO_NAME": "$.repository.name"}}

    created = optio.post("/api/tasks/security-scan/triggers", {"type": "webhook", "config": config})
    answer = send(optio, "security-scan", **{"X-Optio-Signature": signature(PAYLOAD, "whsec_from-the-body")})

    assert created.status == 201, created.body
    assert answer.status == 202, answer.body
    run = optio.get(f"/api/workflow-runs/{answer.json['runId']}").json
    optio.post(f"/api/workflow-runs/{run['id']}/cancel")
    assert run["params"]["REPO_NAME"] == "storefront"
    assert "whsec_from-the-body" not in "".join(path.read_text() for path in optio.tasks.rglob("*.yaml"))
    assert "whsec_from-the-body" not in optio.get("/api/tasks/security-scan/triggers").body.decode()


def test_a_webhook_path_belongs_to_one_task(optio: Dev) -> None:
    optio.write("z-rival.yaml", SIGNED.format(name="Rival", path="signed"))

    def look() -> list[str]:
        return [d["code"] for d in optio.get("/api/diagnostics").json["diagnostics"] if d["path"] == "z-rival.yaml"]

    assert eventually(look, what="a diagnostic")
    assert optio.get("/api/tasks/rival").status == 404
    (optio.tasks / "z-rival.yaml").unlink()
    eventually(lambda: not look(), what="the tree being mended")
    optio.until_served("signed")


@pytest.mark.parametrize("form", ["{}", "sha256={}"])
def test_the_signature_is_hmac_sha256_over_the_body(optio: Dev, form: str) -> None:
    answer = send(optio, "signed", **{"X-Optio-Signature": form.format(signature(PAYLOAD))})

    assert answer.status == 202
    assert optio.until_ended(answer.json["runId"])["output"] == "storefront"


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Optio-Signature": ""}, {"X-Optio-Signature": signature(PAYLOAD, "another")}, {"X-Optio-Signature": "\u00e9"}],
    ids=["none", "empty", "wrong", "no hex"],
)
def test_a_request_without_the_right_signature_is_refused(optio: Dev, headers: dict[str, str]) -> None:
    before = len(optio.get("/api/tasks/signed/runs?limit=200").json["items"])

    answer = send(optio, "signed", **headers)

    assert answer.status == 401
    assert len(optio.get("/api/tasks/signed/runs?limit=200").json["items"]) == before


def test_the_mapping_takes_values_out_of_the_payload(optio: Dev) -> None:
    body = json.dumps({"repository": {"name": "caf\u00e9 \U0001f680"}}, ensure_ascii=False).encode()

    answer = send(optio, "signed", body, **{"X-Optio-Signature": signature(body)})

    run = optio.until_ended(answer.json["runId"])
    assert (run["trigger"], run["params"]) == ("webhook", {"REPO_NAME": "caf\u00e9 \U0001f680"})


def test_a_payload_that_does_not_fit_is_refused_by_parameter(optio: Dev) -> None:
    body = b'{"repository": {"name": 7}}'

    answer = send(optio, "signed", body, **{"X-Optio-Signature": signature(body)})

    assert answer.status == 422
    assert [error["pointer"] for error in answer.json["errors"]] == ["/params/REPO_NAME"]


def test_a_webhook_answers_202_with_the_run_id_before_the_run_ends(optio: Dev, gate: Path) -> None:
    waiting_task(
        optio, "Held Hook", gate, "triggers:\n  - type: webhook\n    config: {path: held, unsigned: true, paramMapping: {}}\n"
    )

    answer = send(optio, "held")

    state = optio.get(f"/api/workflow-runs/{answer.json['runId']}").json["state"]
    gate.touch()
    assert (answer.status, state in ("queued", "running")) == (202, True)
    assert optio.until_ended(answer.json["runId"])["state"] == "completed"


def test_a_webhook_takes_60_requests_a_minute(optio: Dev) -> None:
    answers = [send(optio, "flooded") for _ in range(61)]

    other = send(optio, "signed", **{"X-Optio-Signature": signature(PAYLOAD)})
    assert [answer.status for answer in answers] == [401] * 60 + [429]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 60
    assert other.status == 202
