"""`optio hook send`: signs as the sender of each scheme would."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.conftest import Command
from tests.support import Dev

TASK = """\
type: standalone
name: {name}
agentRuntime: command
command: "true"
promptTemplate: "go"
triggers:
  - type: webhook
    config: {{path: {name}, {how}}}
"""
KEY = base64.b64encode(b"0123456789abcdef").decode()
# Payloads of senders that name the event, and some also the delivery, in the body.
NAMED = {
    "slack": {"type": "event_callback", "event_id": "Ev1", "event": {"type": "app_mention"}},
    "stripe": {"id": "evt_1", "type": "invoice.paid"},
    "pagerduty": {"event": {"id": "01B", "event_type": "incident.triggered"}},
    "typed": {"type": "invoice.paid"},
}
HOW = {
    "plain": "secret: {name: KEY}",
    "github": "secret: {name: KEY}, scheme: github, events: [push]",
    "standard": "secret: {name: KEY}, scheme: standard-webhooks",
    "shop": "secret: {name: KEY}, scheme: hmac, signatureHeader: X-Shop, signatureEncoding: base64",
    "open": "unsigned: true",
    "gitlab": "secret: {name: KEY}, scheme: gitlab, events: [Push Hook]",
    "gitlab-signed": "secret: {name: SIGNING}, scheme: gitlab, events: [Push Hook]",
    "gitea": "secret: {name: KEY}, scheme: gitea, events: [push]",
    "hub": "secret: {name: KEY}, scheme: hmac, eventHeader: X-Event-Key, events: ['repo:push']",
    "slack": "secret: {name: KEY}, scheme: slack, events: [app_mention]",
    "stripe": "secret: {name: KEY}, scheme: stripe, events: [invoice.paid]",
    "pagerduty": "secret: {name: KEY}, scheme: pagerduty, events: [incident.triggered]",
    "typed": "secret: {name: KEY}, scheme: standard-webhooks, events: [invoice.paid]",
    "short": "secret: {name: SHORT}",
    "picky": "secret: {name: KEY}, when: \"@.action == 'opened'\"",
}


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    made = Dev(
        tmp_path_factory.mktemp("hook"),
        environ={"OPTIO_SECRET_KEY": KEY, "OPTIO_SECRET_SIGNING": f"whsec_{KEY}", "OPTIO_SECRET_SHORT": "s"},
    )
    for name, how in HOW.items():
        made.write(f"{name}.yaml", TASK.format(name=name, how=how))
    made.start()
    yield made
    made.stop()


def test_a_delivery_that_is_left_out_names_no_run(dev: Dev) -> None:
    done = dev.cli("hook", "send", "picky", "-", input=b'{"action": "closed"}')

    assert (done.returncode, done.stdout) == (
        0,
        "202 filtered: no run, the webhook's `events` or `when` filtered this delivery\n",
    )


@pytest.mark.parametrize("name", sorted(HOW.keys() - {"picky", "short"}))
def test_a_payload_is_signed_and_taken_once_by_every_scheme(dev: Dev, command: Command, tmp_path: Path, name: str) -> None:
    payload = tmp_path / "payload.json"
    payload.write_text(json.dumps(NAMED.get(name, {"a": 1})))
    numbered = [] if name in ("slack", "stripe", "pagerduty") else ["--delivery", f"d-{name}"]

    first = command(dev, "hook", "send", name, str(payload), *numbered, "--json")
    again = command(dev, "hook", "send", name, str(payload), *numbered, "--json")

    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["status"] == "accepted"
    assert json.loads(again.stdout) == {**json.loads(first.stdout), "duplicate": True}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nothing", "-"], 2, "no webhook `nothing` is served: gitea, github,"),
        (["plain", "/nothing/there.json"], 2, "cannot be read"),
        (["plain", "-", "--secret", "another secret"], 1, "signature is missing or wrong"),
        (["standard", "-", "--secret", "no base64!"], 2, "it is not Base64"),
        (["open", "-", "--secret", "x"], 2, "is unsigned"),
        (["short", "-"], 2, "the secret `SHORT` cannot be used: it has 1 byte, and `optio` needs 8 or more"),
        (["stripe", "-", "--event", "x"], 2, "names the event in the payload, at `$.type`"),
        (["stripe", "-", "--delivery", "x"], 2, "has the delivery's id in the payload"),
    ],
)
def test_what_cannot_be_sent_is_told(dev: Dev, command: Command, arguments: list[str], code: int, words: str) -> None:
    done = command(dev, "hook", "send", *arguments, input=b"{}")

    assert done.returncode == code
    assert words in done.stderr


def test_a_payload_of_scheme_optio_is_sent_with_a_time_stamp(dev: Dev, command: Command) -> None:
    done = command(dev, "hook", "send", "plain", "-", input=b"{}")

    (kept,) = dev.get("/api/deliveries?path=plain&limit=1").json["items"]
    assert done.returncode == 0, done.stderr
    assert abs(int(kept["headers"]["x-optio-timestamp"]) - time.time()) < 120


def test_the_challenge_of_slack_is_shown_as_answered(dev: Dev, command: Command) -> None:
    done = command(dev, "hook", "send", "slack", "-", input=b'{"type": "url_verification", "challenge": "c"}')

    assert (done.returncode, done.stdout) == (0, "200: no run, the challenge was answered\n")
