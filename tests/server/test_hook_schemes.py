"""Webhook senders, each as its documents describe it, at a running server: signature, event, delivery id, time stamp.

The requests are signed here by `hmac` and `base64` alone, so that a mistake of the code under test cannot hide itself.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.server.api import Api
from tests.support import Answer, eventually

SECRET = "a secret of some length"
RAW_KEY = bytes(range(32))
STANDARD = "whsec_" + base64.b64encode(RAW_KEY).decode()
HOOK = """\
type: standalone
name: {path}
agentRuntime: command
command: "true"
promptTemplate: "go"
triggers:
  - type: webhook
    config: {{path: {path}, secret: {{name: {secret}}}, {how}}}
"""


def mac(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), hashlib.sha256)


def in_base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def number_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def standard(body: bytes, at: int) -> dict[str, str]:
    number = number_of(body)
    return {
        "webhook-id": number,
        "webhook-timestamp": str(at),
        "webhook-signature": "v1," + in_base64(mac(RAW_KEY, f"{number}.{at}.".encode(), body)),
    }


@dataclass(frozen=True)
class Sender:
    """One sender: the task's configuration, and the headers of a delivery at a time with an id and an event."""

    how: str
    headers: Callable[[bytes, int, str], dict[str, str]]
    body: Callable[[str, str], Any] = lambda event, number: {"number": number, "event": event}
    event: str = "push"
    stamped: bool = False
    secret: str = SECRET


SENDERS: dict[str, Sender] = {
    "github": Sender(
        "scheme: github, events: [push]",
        lambda body, at, event: {
            "X-Hub-Signature-256": "sha256=" + mac(SECRET.encode(), body).hex(),
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": number_of(body),
        },
    ),
    "gitea": Sender(
        "scheme: gitea, events: [push]",
        lambda body, at, event: {
            "X-Gitea-Signature": mac(SECRET.encode(), body).hex(),
            "X-Gitea-Event": event,
            "X-Gitea-Delivery": number_of(body),
        },
    ),
    "gitlab": Sender(
        "scheme: gitlab, events: [Push Hook]",
        lambda body, at, event: {
            "X-Gitlab-Token": SECRET,
            "X-Gitlab-Event": event,
            "Idempotency-Key": number_of(body),
        },
        event="Push Hook",
    ),
    "gitlab-signed": Sender(
        "scheme: gitlab, events: [Push Hook]",
        lambda body, at, event: {**standard(body, at), "X-Gitlab-Event": event, "Idempotency-Key": number_of(body)},
        event="Push Hook",
        stamped=True,
        secret=STANDARD,
    ),
    "slack": Sender(
        "scheme: slack, events: [app_mention]",
        lambda body, at, event: {
            "X-Slack-Signature": "v0=" + mac(SECRET.encode(), b"v0:%d:" % at, body).hex(),
            "X-Slack-Request-Timestamp": str(at),
        },
        lambda event, number: {"type": "event_callback", "event_id": f"Ev{number}", "event": {"type": event}},
        event="app_mention",
        stamped=True,
    ),
    "stripe": Sender(
        "scheme: stripe, events: [invoice.payment_failed]",
        lambda body, at, event: {
            "Stripe-Signature": f"t={at},v1={mac(SECRET.encode(), b'%d.' % at, body).hex()},v0={'0' * 64}",
        },
        lambda event, number: {"id": f"evt_{number}", "object": "event", "type": event},
        event="invoice.payment_failed",
        stamped=True,
    ),
    "pagerduty": Sender(
        "scheme: pagerduty, events: [incident.triggered]",
        lambda body, at, event: {
            "X-PagerDuty-Signature": f"v1={'0' * 64},v1={mac(SECRET.encode(), body).hex()}",
        },
        lambda event, number: {"event": {"id": f"01{number}", "event_type": event}},
        event="incident.triggered",
    ),
    "standard-webhooks": Sender(
        "scheme: standard-webhooks, events: [invoice.paid]",
        lambda body, at, event: standard(body, at),
        lambda event, number: {"type": event, "data": {}},
        event="invoice.paid",
        stamped=True,
        secret=STANDARD,
    ),
    "hmac-header": Sender(
        "scheme: hmac, signatureHeader: Sentry-Hook-Signature, deliveryHeader: Request-ID, events: [issue], "
        "eventHeader: Sentry-Hook-Resource",
        lambda body, at, event: {
            "Sentry-Hook-Signature": mac(SECRET.encode(), body).hex(),
            "Sentry-Hook-Resource": event,
            "Request-ID": number_of(body),
        },
        event="issue",
    ),
    "hmac-body": Sender(
        "scheme: hmac, signatureHeader: Linear-Signature, deliveryHeader: Linear-Delivery, events: [Issue], eventPath: $.type",
        lambda body, at, event: {
            "Linear-Signature": mac(SECRET.encode(), body).hex(),
            "Linear-Delivery": number_of(body),
        },
        lambda event, number: {"type": event, "action": "create"},
        event="Issue",
    ),
    "optio": Sender(
        "events: [push]",
        lambda body, at, event: {
            "X-Optio-Timestamp": str(at),
            "X-Optio-Signature": mac(SECRET.encode(), b"%d." % at, body).hex(),
            "X-Optio-Event": event,
            "X-Optio-Delivery": number_of(body),
        },
        stamped=True,
    ),
}
STAMPED = [name for name, sender in SENDERS.items() if sender.stamped]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server with a webhook for each sender."""
    made = Api(tmp_path_factory.mktemp("schemes"), environ={"OPTIO_WEBHOOK_RATE_PER_MINUTE": "10000"})
    for name, sender in SENDERS.items():
        made.services.secrets.put(name.replace("-", "_"), sender.secret)
        made.serve_task(HOOK.format(path=name, secret=name.replace("-", "_"), how=sender.how), name)
    yield made
    made.close()


_numbers = iter(range(1, 100_000))


def delivery(name: str, *, event: str | None = None, at: int | None = None) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a new delivery, signed."""
    sender = SENDERS[name]
    named = event or sender.event
    body = json.dumps(sender.body(named, str(next(_numbers)))).encode()
    return body, sender.headers(body, int(time.time()) if at is None else at, named)


def post(api: Api, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    return api.request("POST", f"/api/hooks/{path}", raw=body, headers=headers)


def newest(api: Api, path: str) -> dict[str, Any]:
    return next(iter(api.get(f"/api/deliveries?path={path}&limit=1").json["items"]), {})


@pytest.mark.parametrize("name", SENDERS)
def test_a_delivery_as_its_sender_signs_it_starts_a_run_for_its_event(shared: Api, name: str) -> None:
    answer = post(shared, name, *delivery(name))

    assert (answer.status, answer.json.get("status")) == (202, "accepted"), (answer.body, newest(shared, name))


@pytest.mark.parametrize("name", SENDERS)
def test_a_repeated_delivery_is_recognised_wherever_its_sender_numbers_it(shared: Api, name: str) -> None:
    body, headers = delivery(name)

    first, again = post(shared, name, body, headers), post(shared, name, body, headers)

    assert (first.status, first.json["status"]) == (202, "accepted")
    assert again.json == {**first.json, "duplicate": True}


@pytest.mark.parametrize("name", SENDERS)
def test_another_event_starts_nothing_and_the_reason_names_it(shared: Api, name: str) -> None:
    answer = post(shared, name, *delivery(name, event="something.else"))

    assert (answer.status, answer.json.get("status")) == (202, "filtered"), answer.body
    assert "`something.else`" in newest(shared, name)["detail"]


@pytest.mark.parametrize("name", SENDERS)
def test_a_byte_more_in_the_body_or_another_secret_is_refused(shared: Api, name: str) -> None:
    sender = SENDERS[name]
    body, headers = delivery(name)
    wrong = {key: value.replace(SECRET, SECRET + "x") for key, value in headers.items()}
    if name == "gitlab":  # the token says nothing about the body
        assert post(shared, name, body, wrong).status == 401
        return

    assert post(shared, name, body + b" ", headers).status == 401
    other = {key: "" if "ignature" in key else value for key, value in headers.items()}
    assert post(shared, name, body, other).status == 401
    assert sender.secret not in str(headers)


@pytest.mark.parametrize("name", STAMPED)
@pytest.mark.parametrize("late", [-400, 400])
def test_a_signed_time_stamp_more_than_five_minutes_away_is_stale(shared: Api, name: str, late: int) -> None:
    answer = post(shared, name, *delivery(name, at=int(time.time()) + late))

    assert answer.status == 401
    eventually(lambda: newest(shared, name).get("verdict") == "stale", what="the refusal in the list of deliveries")


@pytest.mark.parametrize("name", STAMPED)
def test_a_changed_time_stamp_does_not_verify(shared: Api, name: str) -> None:
    body, headers = delivery(name)
    moved = {
        key: str(int(value) + 1) if value.isdigit() and "imestamp" in key else value.replace("t=1", "t=2", 1)
        for key, value in headers.items()
    }

    assert moved != headers
    assert post(shared, name, body, moved).status == 401


# Scheme optio, with and without a time stamp


def test_a_delivery_of_scheme_optio_without_a_time_stamp_is_signed_over_the_body_alone(shared: Api) -> None:
    for form in ("{}", "sha256={}"):
        body, headers = delivery("optio")
        del headers["X-Optio-Timestamp"]
        headers["X-Optio-Signature"] = form.format(mac(SECRET.encode(), body).hex())

        assert post(shared, "optio", body, headers).status == 202


def test_a_time_stamp_that_was_taken_off_does_not_verify_nor_one_that_was_put_on(shared: Api) -> None:
    body, headers = delivery("optio")
    stamp = headers.pop("X-Optio-Timestamp")

    assert post(shared, "optio", body, headers).status == 401
    assert post(shared, "optio", stamp.encode() + b"." + body, headers).status == 401
    bare = {**headers, "X-Optio-Signature": mac(SECRET.encode(), body).hex()}
    assert post(shared, "optio", body, {**bare, "X-Optio-Timestamp": stamp}).status == 401
    assert post(shared, "optio", body, {**bare, "X-Optio-Timestamp": ""}).status == 401


def test_a_time_stamp_before_a_body_that_is_a_number_cannot_become_part_of_it(shared: Api) -> None:
    # `1700000000.5` is JSON, and what a time stamp and the body `5` are signed as.
    stamp = str(int(time.time()))
    headers = {"X-Optio-Signature": mac(SECRET.encode(), stamp.encode(), b".5").hex(), "X-Optio-Event": "push"}

    assert post(shared, "optio", b"5", {**headers, "X-Optio-Timestamp": stamp}).status == 422
    assert post(shared, "optio", stamp.encode() + b".5", headers).status == 401


# Forms that only one sender has


@pytest.mark.parametrize("name", ["github", "gitea"])
def test_github_writes_its_prefix_and_gitea_none(shared: Api, name: str) -> None:
    body, headers = delivery(name)
    header = "X-Hub-Signature-256" if name == "github" else "X-Gitea-Signature"
    digest = headers[header].removeprefix("sha256=")
    other = digest if name == "github" else f"sha256={digest}"

    assert post(shared, name, body, {**headers, header: other}).status == 401
    assert post(shared, name, body, headers).status == 202


def test_a_secret_token_of_gitlab_is_no_signing_token(shared: Api) -> None:
    body, headers = delivery("gitlab-signed")
    token = {"X-Gitlab-Token": STANDARD, "X-Gitlab-Event": "Push Hook"}

    assert post(shared, "gitlab-signed", body, token).status == 401
    assert post(shared, "gitlab", body, headers).status == 401


def test_of_several_signatures_of_pagerduty_or_stripe_one_is_enough(shared: Api) -> None:
    body, headers = delivery("stripe")
    stamp, right, _ = headers["Stripe-Signature"].split(",")
    several = f"{stamp},v1={'0' * 64},{right}"

    assert post(shared, "stripe", body, {"Stripe-Signature": several}).status == 202
    body, headers = delivery("stripe")
    stamp, right, _ = headers["Stripe-Signature"].split(",")
    for wrong in (right, f"{stamp},{stamp},{right}", f"{stamp},v0={right[3:]}", stamp, "", ",", f"t=,{right}"):
        assert post(shared, "stripe", body, {"Stripe-Signature": wrong}).status == 401, wrong


def test_the_challenge_of_slack_is_answered_once_its_signature_is_verified(shared: Api) -> None:
    # The body is the example of Slack's page "url_verification".
    challenge = "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"
    body = json.dumps({"token": "Jhj5dZrVaK7ZwHHjRyZWjbDl", "challenge": challenge, "type": "url_verification"}).encode()
    headers = SENDERS["slack"].headers(body, int(time.time()), "")

    answer = post(shared, "slack", body, headers)
    kept = newest(shared, "slack")
    stranger = post(shared, "slack", body, {**headers, "X-Slack-Signature": "v0=" + "0" * 64})

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {"challenge": challenge}
    assert (kept["verdict"], kept["status"], kept["runId"]) == ("filtered", 200, None)
    assert "challenge" in kept["detail"]
    assert (stranger.status, challenge.encode() in stranger.body) == (401, False)


# Secrets that are too short


@pytest.mark.parametrize(
    ("scheme", "secret", "signed"),
    [
        ("standard-webhooks", "whsec_", b""),
        ("standard-webhooks", "whsec_" + in_base64(bytes(15)), bytes(15)),
        ("optio", "s", b"s"),
        ("optio", "1234567", b"1234567"),
        ("optio", " " * 20, b" " * 20),
        ("github", "\n", b"\n"),
    ],
)
def test_a_secret_that_anybody_could_guess_verifies_nothing_and_the_operator_learns_why(
    served: Callable[..., Api], caplog: pytest.LogCaptureFixture, scheme: str, secret: str, signed: bytes
) -> None:
    api = served()
    api.services.secrets.put("SHORT", secret)
    api.serve_task(HOOK.format(path="short", secret="SHORT", how=f"scheme: {scheme}"), "short")
    body, stamp = b"{}", str(int(time.time()))
    headers = {
        "optio": {"X-Optio-Signature": mac(signed, body).hex()},
        "github": {"X-Hub-Signature-256": "sha256=" + mac(signed, body).hex()},
        "standard-webhooks": {
            "webhook-id": "1",
            "webhook-timestamp": stamp,
            "webhook-signature": "v1," + in_base64(mac(signed, b"1.", stamp.encode(), b".", body)),
        },
    }[scheme]

    answer, plain = post(api, "short", body, headers), post(api, "short", body, {})

    assert (answer.status, answer.body) == (401, plain.body)
    (refused, _) = eventually(
        lambda: (found := api.get("/api/deliveries").json["items"]) and len(found) == 2 and found, what="the refusals"
    )
    assert refused["verdict"] == "unsigned"
    assert "`SHORT`" in refused["detail"]
    assert "SHORT" in caplog.text


def test_a_short_secret_beside_a_good_one_is_left_out(served: Callable[..., Api]) -> None:
    api = served()
    api.services.secrets.put("NEW", SECRET)
    api.services.secrets.put("OLD", "s")
    api.serve_task(HOOK.format(path="both", secret="NEW", how="previousSecret: {name: OLD}"), "both")

    assert post(api, "both", b"{}", {"X-Optio-Signature": mac(b"s", b"{}").hex()}).status == 401
    assert post(api, "both", b"{}", {"X-Optio-Signature": mac(SECRET.encode(), b"{}").hex()}).status == 202


def test_while_a_secret_is_replaced_each_scheme_takes_the_previous_one_too(served: Callable[..., Api]) -> None:
    api = served()
    api.services.secrets.put("PLAIN", "another secret")
    api.services.secrets.put("SIGNING", "whsec_" + in_base64(bytes(range(24))))
    for name, sender in SENDERS.items():
        api.services.secrets.put(name.replace("-", "_"), sender.secret)
        secret = "SIGNING" if sender.secret == STANDARD else "PLAIN"
        how = f"previousSecret: {{name: {name.replace('-', '_')}}}, {sender.how}"
        api.serve_task(HOOK.format(path=name, secret=secret, how=how), name)
        api.serve_task(HOOK.format(path=f"{name}-after", secret=secret, how=sender.how), f"{name}-after")

    found = {name: [post(api, f"{name}{after}", *delivery(name)).status for after in ("", "-after")] for name in SENDERS}

    assert found == {name: [202, 401] for name in SENDERS}


def test_a_file_with_nothing_but_a_newline_is_no_secret(served: Callable[..., Api], tmp_path: Path) -> None:
    api = served()
    api.services.secrets.put("BLANK", "")
    (api.services.settings.secrets / "BLANK").write_text("\n\n")
    api.serve_task(HOOK.format(path="blank", secret="BLANK", how="scheme: optio"), "blank")

    for key in (b"", b"\n", b"\n\n"):
        assert post(api, "blank", b"{}", {"X-Optio-Signature": mac(key, b"{}").hex()}).status == 401
